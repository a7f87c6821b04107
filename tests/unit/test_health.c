/* Breakers and times to first token: by cases, then random histories against a plain model. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include "route/health.h"

static const char *const P = "openrouter", *const M = "vendor/x";

static struct err failure(enum err_code code, uint32_t retry_after_ms)
{
	struct err e = {.code = code, .retry_after_ms = retry_after_ms};

	snprintf(e.text, sizeof e.text, "failed with %s", err_info(code)->name);
	return e;
}

static bool call(struct health *h, uint64_t now, enum err_code code)
{
	struct err e = failure(code, 0);
	uint64_t wait;

	if (!health_admit(h, P, M, now, &wait))
		return false;
	if (code == ERR_NONE)
		health_success(h, P, M, now, 100);
	else
		health_failure(h, P, M, now, &e);
	return true;
}

static enum breaker_state state_of(const struct health *h, uint64_t now)
{
	uint64_t wait;

	return health_state(h, P, M, now, &wait);
}

static uint64_t wait_of(const struct health *h, uint64_t now)
{
	uint64_t wait;

	health_state(h, P, M, now, &wait);
	return wait;
}

static void five_failures_in_a_row_open_it(void **state)
{
	struct health *h = health_new();

	(void)state;
	for (int i = 0; i < 4; i++)
		assert_true(call(h, 1000, ERR_UNAVAILABLE));
	assert_int_equal(state_of(h, 1000), BREAKER_CLOSED);
	assert_true(call(h, 1000, ERR_UNAVAILABLE));
	assert_int_equal(state_of(h, 1000), BREAKER_OPEN);
	assert_int_equal(wait_of(h, 1000), HEALTH_OPEN_MIN_MS);
	assert_false(call(h, 1000 + HEALTH_OPEN_MIN_MS - 1, ERR_NONE));
	assert_string_equal(health_error(h, P, M), "failed with unavailable");
	health_free(h);
}

static void more_than_half_of_a_minute_opens_it(void **state)
{
	struct health *h = health_new();
	static const enum err_code history[] = {ERR_NONE, ERR_TIMEOUT, ERR_TIMEOUT,
						ERR_NONE};

	(void)state;
	for (int i = 0; i < 4; i++)
		call(h, (uint64_t)i * 1000, history[i]);
	assert_int_equal(state_of(h, 4000), BREAKER_CLOSED); /* half of 4 */
	call(h, 4000, ERR_TIMEOUT);                          /* 3 of 5 */
	assert_int_equal(state_of(h, 4000), BREAKER_OPEN);
	health_free(h);
}

static void failures_older_than_a_minute_are_forgotten(void **state)
{
	struct health *h = health_new();

	(void)state;
	call(h, 0, ERR_TIMEOUT);
	call(h, 0, ERR_TIMEOUT);
	call(h, 0, ERR_NONE);
	call(h, 61000, ERR_NONE);
	call(h, 61000, ERR_TIMEOUT);
	call(h, 61000, ERR_TIMEOUT);
	assert_int_equal(state_of(h, 61000),
			 BREAKER_CLOSED); /* 4 of 6 with the old ones */
	health_free(h);
}

static void what_the_request_did_wrong_is_no_failure(void **state)
{
	static const enum err_code codes[] = {
		ERR_INVALID,     ERR_MODEL,     ERR_CONTEXT, ERR_POLICY,  ERR_TOO_LARGE,
		ERR_UNSUPPORTED, ERR_CANCELLED, ERR_MEMORY,  ERR_INTERNAL};
	struct health *h = health_new();

	(void)state;
	for (int i = 0; i < 40; i++)
		assert_true(call(h, 1000, codes[i % 9]));
	assert_int_equal(state_of(h, 1000), BREAKER_CLOSED);
	health_free(h);
}

static void an_answer_that_faults_the_request_ends_a_row_of_failures(void **state)
{
	struct health *h = health_new();

	(void)state;
	for (int i = 0; i < 8; i++)
		call(h, 1000, ERR_NONE); /* so that the share does not open it */
	for (int i = 0; i < 4; i++)
		call(h, 1000, ERR_TRANSPORT);
	call(h, 1000, ERR_INVALID);
	call(h, 1000, ERR_TRANSPORT);
	assert_int_equal(state_of(h, 1000), BREAKER_CLOSED);
	health_free(h);
}

static void one_probe_is_let_through_and_closes_it(void **state)
{
	struct health *h = health_new();
	uint64_t wait, now = 1000;

	(void)state;
	for (int i = 0; i < 5; i++)
		call(h, now, ERR_TRANSPORT);
	now += HEALTH_OPEN_MIN_MS;
	assert_int_equal(state_of(h, now), BREAKER_HALF_OPEN);
	assert_true(health_admit(h, P, M, now, &wait));
	assert_false(health_admit(h, P, M, now, &wait));
	assert_true(wait > 0);
	health_success(h, P, M, now, 50);
	assert_int_equal(state_of(h, now), BREAKER_CLOSED);
	assert_string_equal(health_error(h, P, M), "");
	assert_true(call(h, now, ERR_TRANSPORT)); /* one failure after it opens nothing */
	assert_int_equal(state_of(h, now), BREAKER_CLOSED);
	health_free(h);
}

static void an_abandoned_probe_leaves_the_place_to_another(void **state)
{
	struct health *h = health_new();
	uint64_t wait, now = 1000 + HEALTH_OPEN_MIN_MS;

	(void)state;
	for (int i = 0; i < 5; i++)
		call(h, 1000, ERR_TRANSPORT);
	assert_true(health_admit(h, P, M, now, &wait));
	health_abandon(h, P, M, now);
	assert_int_equal(state_of(h, now), BREAKER_HALF_OPEN);
	assert_true(health_admit(h, P, M, now, &wait));
	health_free(h);
}

static void each_failed_probe_doubles_the_time_up_to_a_minute(void **state)
{
	static const uint64_t expected[] = {10000, 20000, 40000, 60000, 60000};
	struct health *h = health_new();
	uint64_t now = 1000;

	(void)state;
	for (int i = 0; i < 5; i++)
		call(h, now, ERR_TRANSPORT);
	for (int i = 0; i < 5; i++) {
		now += wait_of(h, now);
		assert_true(call(h, now, ERR_TRANSPORT));
		assert_int_equal(wait_of(h, now), expected[i]);
	}
	now += 60000;
	call(h, now, ERR_NONE);
	for (int i = 0; i < 5; i++)
		call(h, now, ERR_TRANSPORT);
	assert_int_equal(wait_of(h, now), HEALTH_OPEN_MIN_MS); /* it starts anew */
	health_free(h);
}

static void a_rate_limit_that_says_when_opens_at_once_until_then(void **state)
{
	struct err e = failure(ERR_BUSY, 7000), far = failure(ERR_BUSY, 86400000);
	struct health *h = health_new();
	uint64_t wait;

	(void)state;
	assert_true(health_admit(h, P, M, 0, &wait));
	health_failure(h, P, M, 0, &e);
	assert_int_equal(wait_of(h, 0), 7000);
	assert_true(health_admit(h, P, M, 7000, &wait));
	health_failure(h, P, M, 7000, &far);
	assert_int_equal(wait_of(h, 7000), HEALTH_RETRY_AFTER_MAX_MS);
	health_free(h);
}

static void a_late_answer_does_not_close_an_open_one(void **state)
{
	struct health *h = health_new();
	uint64_t wait;

	(void)state;
	assert_true(health_admit(h, P, M, 0, &wait)); /* answers after it has opened */
	for (int i = 0; i < 5; i++)
		call(h, 1000, ERR_TRANSPORT);
	health_success(h, P, M, 2000, 2000);
	assert_int_equal(state_of(h, 2000), BREAKER_OPEN);
	health_free(h);
}

static void breakers_are_for_each_model_alone(void **state)
{
	struct health *h = health_new();
	uint64_t wait;

	(void)state;
	for (int i = 0; i < 5; i++)
		call(h, 1000, ERR_TRANSPORT);
	assert_int_equal(health_state(h, P, "vendor/y", 1000, &wait), BREAKER_CLOSED);
	assert_int_equal(health_state(h, "other", M, 1000, &wait), BREAKER_CLOSED);
	health_free(h);
}

static void local_models_have_no_breaker(void **state)
{
	struct err e = failure(ERR_UNAVAILABLE, 0);
	struct health *h = health_new();
	uint64_t wait;

	(void)state;
	for (int i = 0; i < 20; i++) {
		assert_true(health_admit(h, "local", "a", 1000, &wait));
		health_failure(h, "local", "a", 1000, &e);
	}
	health_free(h);
}

static void a_slower_sample_is_believed_at_once_a_faster_one_by_age(void **state)
{
	struct health *h = health_new();
	double before;

	(void)state;
	assert_true(fabs(health_ttft_ms(h, P, M, 0) - HEALTH_SEED_MS) < 1e-9);
	health_success(h, P, M, 1000, 400);
	assert_true(fabs(health_ttft_ms(h, P, M, 1000) - 400) < 1e-9);
	health_success(h, P, M, 2000, 900);
	assert_true(fabs(health_ttft_ms(h, P, M, 2000) - 900) < 1e-9);
	health_success(h, P, M, 2000, 100); /* of the same moment: weighs nothing */
	assert_true(fabs(health_ttft_ms(h, P, M, 2000) - 900) < 1e-9);
	health_success(h, P, M, 2000 + HEALTH_TAU_MS, 100); /* one tau later */
	before = health_ttft_ms(h, P, M, 2000 + HEALTH_TAU_MS);
	assert_true(fabs(before - (100 + 800 * exp(-1))) < 1e-6);
	health_free(h);
}

static void calls_under_way_make_it_slower_and_old_samples_are_forgotten(void **state)
{
	struct health *h = health_new();
	uint64_t wait;

	(void)state;
	health_success(h, P, M, 0, 20000);
	health_admit(h, P, M, 0, &wait);
	health_admit(h, P, M, 0, &wait);
	assert_true(fabs(health_ttft_ms(h, P, M, 0) - 60000) < 1e-6);
	health_abandon(h, P, M, 0);
	health_abandon(h, P, M, 0);
	assert_true(health_ttft_ms(h, P, M, UINT64_C(86400000)) < HEALTH_SEED_MS + 1);
	health_free(h);
}

static void the_speed_of_local_models_is_an_average(void **state)
{
	struct health *h = health_new();

	(void)state;
	assert_true(health_prefill_ms_per_token(h, "a") == 0);
	health_local_speed(h, "a", 100, 200);
	assert_true(fabs(health_prefill_ms_per_token(h, "a") - 2) < 1e-9);
	health_local_speed(h, "a", 100, 600);
	assert_true(fabs(health_prefill_ms_per_token(h, "a") - 3) < 1e-9);
	health_local_speed(h, "a", 3, 900); /* too few to say anything */
	assert_true(fabs(health_prefill_ms_per_token(h, "a") - 3) < 1e-9);
	health_free(h);
}

static void the_row_used_longest_ago_goes_but_not_one_in_flight(void **state)
{
	struct health *h = health_new();
	struct health_row row;
	char name[32];
	uint64_t wait;
	bool busy = false;

	(void)state;
	health_admit(h, P, M, 0, &wait); /* the oldest, and under way */
	for (int i = 0; i < 3 * HEALTH_MAX; i++) {
		snprintf(name, sizeof name, "m%d", i);
		health_success(h, P, name, (uint64_t)i + 1, 10);
		assert_true(health_count(h) <= HEALTH_MAX);
	}
	for (int i = 0; i < health_count(h); i++) {
		health_row(h, i, 10000, &row);
		busy |= !strcmp(row.model, M) && row.in_flight == 1;
	}
	assert_true(busy);
	health_free(h);
}

/* ---- random */

static uint64_t next_random(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

/* One call after the other, as the contract says it in words. */
struct simple {
	bool open;
	int in_a_row;
	uint64_t until, length;
};

static void random_histories_keep_the_promises(void **state)
{
	static const enum err_code codes[] = {ERR_NONE,        ERR_NONE,
					      ERR_TIMEOUT,     ERR_TRANSPORT,
					      ERR_UNAVAILABLE, ERR_INVALID};

	(void)state;
	for (uint64_t seed = 1; seed <= 200; seed++) {
		struct health *h = health_new();
		uint64_t x = seed * UINT64_C(0x9E3779B97F4A7C15), now = 0;
		struct simple s = {0};

		for (int i = 0; i < 300; i++) {
			bool may, bad;
			enum err_code code = codes[next_random(&x) % 6];

			now += next_random(&x) % 4000;
			may = !s.open || now >= s.until;
			assert_int_equal(wait_of(h, now), may ? 0 : s.until - now);
			assert_int_equal(call(h, now, code), may);
			if (!may)
				continue;
			bad = code != ERR_NONE && code != ERR_INVALID;
			s.in_a_row = bad ? s.in_a_row + 1 : 0;
			if (s.open) { /* it was the probe */
				s.open = bad;
				s.length = s.length * 2 > HEALTH_OPEN_MAX_MS
						   ? HEALTH_OPEN_MAX_MS
						   : s.length * 2;
				s.until = now + s.length;
				continue;
			}
			if (state_of(h, now) == BREAKER_OPEN) {
				assert_true(bad);
				s.open = true;
				s.length = HEALTH_OPEN_MIN_MS;
				s.until = now + s.length;
			} else {
				assert_true(s.in_a_row < HEALTH_IN_A_ROW);
			}
		}
		health_free(h);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(five_failures_in_a_row_open_it),
		cmocka_unit_test(more_than_half_of_a_minute_opens_it),
		cmocka_unit_test(failures_older_than_a_minute_are_forgotten),
		cmocka_unit_test(what_the_request_did_wrong_is_no_failure),
		cmocka_unit_test(
			an_answer_that_faults_the_request_ends_a_row_of_failures),
		cmocka_unit_test(one_probe_is_let_through_and_closes_it),
		cmocka_unit_test(an_abandoned_probe_leaves_the_place_to_another),
		cmocka_unit_test(each_failed_probe_doubles_the_time_up_to_a_minute),
		cmocka_unit_test(a_rate_limit_that_says_when_opens_at_once_until_then),
		cmocka_unit_test(a_late_answer_does_not_close_an_open_one),
		cmocka_unit_test(breakers_are_for_each_model_alone),
		cmocka_unit_test(local_models_have_no_breaker),
		cmocka_unit_test(a_slower_sample_is_believed_at_once_a_faster_one_by_age),
		cmocka_unit_test(
			calls_under_way_make_it_slower_and_old_samples_are_forgotten),
		cmocka_unit_test(the_speed_of_local_models_is_an_average),
		cmocka_unit_test(the_row_used_longest_ago_goes_but_not_one_in_flight),
		cmocka_unit_test(random_histories_keep_the_promises),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
