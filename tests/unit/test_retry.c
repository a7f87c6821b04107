/* What is done about each failure, and the budget of retries. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "route/retry.h"

struct given {
	enum err_code code;
	uint32_t retry_after_ms;
	bool is_local, more;
	int tries;
};

static enum retry_step step(const struct given *g, uint64_t *delay)
{
	struct err e = {.code = g->code, .retry_after_ms = g->retry_after_ms};
	struct retry_ask a = {.e = &e,
			      .is_local = g->is_local,
			      .tries = g->tries ? g->tries : 1,
			      .more = g->more,
			      .left_ms = 60000,
			      .random = 0.5};

	return retry_decide(&a, NULL, delay);
}

static void the_table_says_what_each_failure_leads_to(void **state)
{
	static const struct {
		struct given given;
		enum retry_step step;
		uint64_t delay_ms;
	} cases[] = {
		/* a lost connection: once at once, then elsewhere */
		{{ERR_TRANSPORT, 0, false, true, 1}, RETRY_SAME, 0},
		{{ERR_TRANSPORT, 0, false, true, 2}, RETRY_OTHER, 0},
		{{ERR_TRANSPORT, 0, false, false, 2}, RETRY_NO, 0},
		/* too slow: the same one would be as slow */
		{{ERR_TIMEOUT, 0, false, true, 1}, RETRY_OTHER, 0},
		{{ERR_TIMEOUT, 0, false, false, 1}, RETRY_NO, 0},
		/* rate limit: elsewhere, else when it says, else a random time */
		{{ERR_BUSY, 2000, false, true, 1}, RETRY_OTHER, 0},
		{{ERR_BUSY, 2000, false, false, 1}, RETRY_SAME, 2000},
		{{ERR_BUSY, 0, false, false, 1}, RETRY_SAME, 250},
		{{ERR_BUSY, 0, false, false, 2}, RETRY_SAME, 500},
		{{ERR_BUSY, 0, false, false, 3}, RETRY_NO, 0},
		{{ERR_BUSY, 70000, false, false, 1},
		 RETRY_NO,
		 0}, /* after the deadline */
		/* ill: elsewhere, else again with jitter */
		{{ERR_UNAVAILABLE, 0, false, true, 1}, RETRY_OTHER, 0},
		{{ERR_UNAVAILABLE, 0, false, false, 2}, RETRY_SAME, 500},
		{{ERR_UPSTREAM, 0, false, false, 1}, RETRY_SAME, 250},
		{{ERR_UPSTREAM, 0, false, false, 2}, RETRY_NO, 0},
		/* money and keys */
		{{ERR_PAYMENT, 0, false, true, 1}, RETRY_OTHER, 0},
		{{ERR_PAYMENT, 0, false, false, 1}, RETRY_NO, 0},
		{{ERR_PAYMENT, 1500, false, false, 1}, RETRY_SAME, 1500},
		{{ERR_KEY, 0, false, true, 1}, RETRY_OTHER, 0},
		{{ERR_KEY, 0, false, false, 1}, RETRY_NO, 0},
		/* the request */
		{{ERR_INVALID, 0, false, true, 1}, RETRY_NO, 0},
		{{ERR_TOO_LARGE, 0, false, true, 1}, RETRY_NO, 0},
		{{ERR_POLICY, 0, false, true, 1}, RETRY_NO, 0},
		{{ERR_CANCELLED, 0, false, true, 1}, RETRY_NO, 0},
		{{ERR_FORBIDDEN, 0, false, true, 1}, RETRY_NO, 0},
		{{ERR_CONTEXT, 0, false, true, 1}, RETRY_OTHER, 0},
		{{ERR_MODEL, 0, false, true, 1}, RETRY_OTHER, 0},
		/* local ones */
		{{ERR_UNAVAILABLE, 0, true, false, 1}, RETRY_SAME, 0}, /* it crashed */
		{{ERR_UNAVAILABLE, 0, true, false, 2}, RETRY_NO, 0},
		{{ERR_UNAVAILABLE, 0, true, true, 1}, RETRY_OTHER, 0},
		{{ERR_MEMORY, 0, true, true, 1}, RETRY_OTHER, 0},
		{{ERR_BUSY, 100, true, false, 1}, RETRY_NO, 0}, /* its queue is full */
		{{ERR_UNSUPPORTED, 0, true, true, 1}, RETRY_OTHER, 0},
	};
	uint64_t delay;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		enum retry_step s = step(&cases[i].given, &delay);

		if (s != cases[i].step || delay != cases[i].delay_ms)
			fail_msg("case %zu (%s): step %d, delay %d", i,
				 err_info(cases[i].given.code)->name, (int)s, (int)delay);
	}
}

static void a_refusal_moves_on_where_the_route_says_so(void **state)
{
	struct err e = {.code = ERR_POLICY};
	struct retry_ask a = {.e = &e, .tries = 1, .more = true, .after_refusal = true};
	uint64_t delay;

	(void)state;
	assert_int_equal(retry_decide(&a, NULL, &delay), RETRY_OTHER);
}

static void what_may_have_been_sent_twice_is_not_sent_again(void **state)
{
	struct err e = {.code = ERR_TRANSPORT};
	struct retry_ask a = {.e = &e, .tries = 1, .sent_twice = true, .left_ms = 1000};
	uint64_t delay;

	(void)state;
	assert_int_equal(retry_decide(&a, NULL, &delay), RETRY_NO);
	a.more = true;
	assert_int_equal(retry_decide(&a, NULL, &delay), RETRY_OTHER);
}

static void retries_are_a_fifth_of_the_traffic(void **state)
{
	struct err e = {.code = ERR_UNAVAILABLE};
	struct retry_ask a = {.e = &e, .tries = 1, .left_ms = 60000, .random = 0};
	struct retry_budget b;
	uint64_t delay;
	int retried = 0;

	(void)state;
	retry_budget_init(&b);
	for (int i = 0; i < 1000; i++) {
		retry_budget_request(&b);
		retried += retry_decide(&a, &b, &delay) == RETRY_SAME;
	}
	assert_in_range(retried, 200, 210); /* and the ten saved ones */
	for (int i = 0; i < 1000; i++)
		retry_budget_request(&b);
	for (retried = 0; retry_decide(&a, &b, &delay) == RETRY_SAME; retried++)
		;
	assert_int_equal(retried, 10); /* no more are saved */
}

static void going_elsewhere_costs_no_budget(void **state)
{
	struct err e = {.code = ERR_UNAVAILABLE};
	struct retry_ask a = {.e = &e, .tries = 1, .more = true, .left_ms = 60000};
	struct retry_budget b = {.tokens = 0};
	uint64_t delay;

	(void)state;
	assert_int_equal(retry_decide(&a, &b, &delay), RETRY_OTHER);
	a.more = false;
	assert_int_equal(retry_decide(&a, &b, &delay), RETRY_NO);
}

static void every_code_has_an_end(void **state)
{
	uint64_t delay;

	(void)state;
	for (int code = 0; code < ERR_NR; code++)
		for (int local = 0; local < 2; local++) {
			struct given g = {(enum err_code)code, 0, local, false, 10};

			assert_int_equal(step(&g, &delay), RETRY_NO);
			assert_int_equal(delay, 0);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_table_says_what_each_failure_leads_to),
		cmocka_unit_test(a_refusal_moves_on_where_the_route_says_so),
		cmocka_unit_test(what_may_have_been_sent_twice_is_not_sent_again),
		cmocka_unit_test(retries_are_a_fifth_of_the_traffic),
		cmocka_unit_test(going_elsewhere_costs_no_budget),
		cmocka_unit_test(every_code_has_an_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
