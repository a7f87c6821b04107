/* Bounded history as a pure function: rules one by one, then properties over random paths. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/base.h"
#include "memory/context.h"

enum { MAX_ITEMS = 1200, MAX_SUMMARIES = 64 };

static const struct context_item chat[] = {
	{ROLE_SYSTEM, 10, 40, false},    {ROLE_USER, 20, 80, false},
	{ROLE_ASSISTANT, 30, 90, false}, {ROLE_USER, 20, 80, false},
	{ROLE_TOOL, 40, 150, true},      {ROLE_ASSISTANT, 30, 90, false},
	{ROLE_USER, 20, 80, false},
};

static struct context_plan fit(const struct context_item *items, int n, int budget)
{
	struct context_ask a = {.items = items,
				.n = n,
				.nhistory = n ? n - 1 : 0,
				.ctx = (int)((int64_t)budget * 3 / 2 & INT32_MAX),
				.budget = budget};
	struct context_plan p;

	context_fit(&a, &p);
	return p;
}

static void a_path_within_the_budget_goes_whole(void **state)
{
	struct context_plan p = fit(chat, ARRAY_LEN(chat), 170);

	UNUSED(state);
	assert_int_equal(p.nsystem, 1);
	assert_int_equal(p.first, 1);
	assert_int_equal(p.summary, -1);
	assert_int_equal(p.kept, 6);
	assert_int_equal(p.dropped, 0);
	assert_int_equal(p.tokens, 170);
	assert_true(p.fits);
	assert_int_equal(p.hard_upto, -1);
}

static void one_token_over_drops_whole_turns_down_to_the_low_mark(void **state)
{
	struct context_plan p = fit(chat, ARRAY_LEN(chat), 169);

	UNUSED(state);
	assert_int_equal(p.first, 6); /* 10 + 90 + 20 would be over 84 */
	assert_int_equal(p.dropped, 5);
	assert_int_equal(p.kept, 1);
	assert_int_equal(p.tokens, 30);
	assert_true(p.fits);
	assert_int_equal(p.hard_upto, 5); /* what was dropped */
}

static void the_last_turn_stays_even_if_it_does_not_fit(void **state)
{
	struct context_plan p = fit(chat, ARRAY_LEN(chat), 5);

	UNUSED(state);
	assert_int_equal(p.nsystem, 1);
	assert_int_equal(p.first, 6);
	assert_false(p.fits);
}

static void an_empty_path_and_one_of_system_messages_only_fit(void **state)
{
	struct context_plan p = fit(NULL, 0, 0);

	UNUSED(state);
	assert_true(p.fits);
	assert_int_equal(p.kept, 0);
	p = fit(chat, 1, 10);
	assert_true(p.fits);
	assert_int_equal(p.first, 1);
	assert_int_equal(p.soft_upto, -1);
	p = fit(chat, 1, 9);
	assert_false(p.fits);
}

static void sums_beyond_an_int_do_not_wrap(void **state)
{
	static const struct context_item big[] = {{ROLE_SYSTEM, INT32_MAX, 0, false},
						  {ROLE_USER, INT32_MAX, 0, false},
						  {ROLE_ASSISTANT, -5, 0, false}};
	struct context_plan p = fit(big, 3, INT32_MAX);

	UNUSED(state);
	assert_false(p.fits);
	assert_int_equal(p.tokens, INT32_MAX);
}

static void the_budget_leaves_room_for_the_answer_and_a_margin(void **state)
{
	UNUSED(state);
	assert_int_equal(context_budget(4096, 0, 10), 4096 - 1024 - 256 - 10);
	assert_int_equal(context_budget(4096, 100, 0), 4096 - 100 - 256);
	assert_int_equal(context_budget(4096, 4000, 0), 4096 - 2048 - 256);
	assert_int_equal(context_budget(100000, 0, 0), 100000 - 1024 - 5000);
	assert_int_equal(context_budget(200, 0, 0), 1);
	assert_int_equal(context_budget(INT32_MAX, INT32_MAX, 0),
			 INT32_MAX - INT32_MAX / 2 - INT32_MAX / 20);
	assert_int_equal(context_summary_tokens(4096), 512);
	assert_int_equal(context_summary_tokens(1 << 20), 2048);
}

/* Turns of 100 tokens, 60 of them a tool's result. */
static int with_results(struct context_item *items, int turns)
{
	int n = 0;

	for (int i = 0; i < turns; i++) {
		items[n++] = (struct context_item){ROLE_USER, 100, 400, false};
		items[n++] = (struct context_item){ROLE_ASSISTANT, 100, 400, false};
		items[n++] = (struct context_item){ROLE_TOOL, 800, 8192, true};
		items[n++] = (struct context_item){ROLE_ASSISTANT, 100, 400, false};
	}
	return n;
}

static void old_tool_results_shrink_before_anything_is_dropped(void **state)
{
	struct context_item items[40];
	struct context_ask a = {.items = items, .ctx = 15000, .budget = 10000};
	struct context_plan p;

	UNUSED(state);
	a.n = with_results(items, 8); /* 8800 of 10000: over the soft limit */
	a.nhistory = a.n;
	context_fit(&a, &p);
	assert_int_equal(p.dropped, 0);
	assert_int_equal(p.first, 0);
	assert_int_equal(p.elided,
			 6); /* down to 50 % would take 6, and 2 turns are spared */
	assert_true(context_elides(&a, &p, 2));
	assert_false(context_elides(&a, &p, 26));
	assert_false(context_elides(&a, &p, 30));
	assert_int_equal(p.tokens, 8800 - 6 * (800 - CONTEXT_ELIDED_TOKENS));
	assert_int_equal(p.soft_upto, -1);
}

static void a_short_result_is_not_elided(void **state)
{
	struct context_item items[40];
	int n = with_results(items, 8);
	struct context_plan p;

	UNUSED(state);
	for (int i = 2; i < n; i += 4)
		items[i].bytes = CONTEXT_ELIDE_MIN_BYTES - 1;
	p = fit(items, n, 8000);
	assert_int_equal(p.elided, 0);
	assert_true(p.dropped > 0);
}

static int plain_turns(struct context_item *items, int turns)
{
	for (int i = 0; i < 2 * turns; i++)
		items[i] = (struct context_item){i % 2 ? ROLE_ASSISTANT : ROLE_USER, 100,
						 400, false};
	return 2 * turns;
}

static void over_the_soft_limit_a_summary_is_asked_for(void **state)
{
	struct context_item items[40];
	struct context_plan p;
	int n = plain_turns(items, 8);

	UNUSED(state);
	p = fit(items, n, 2001); /* 1600: not over 80 % */
	assert_int_equal(p.soft_upto, -1);
	p = fit(items, n, 1990);
	assert_true(p.soft_upto > 0);
	assert_int_equal(items[p.soft_upto + 1].role, ROLE_USER);
	/* the rest, with a summary of ctx / 8, is at most half of the budget, and a quarter of ctx */
	assert_true((n - p.soft_upto - 1) * 100 <= 2985 / 4);
	assert_true(p.soft_upto + 1 <= n - 4); /* two turns stay */
	assert_int_equal(p.hard_upto, -1);
}

static void two_turns_stay_however_long_they_are(void **state)
{
	struct context_item items[40];
	int n = plain_turns(items, 3);
	struct context_plan p;

	UNUSED(state);
	items[0].tokens = items[3].tokens = items[5].tokens = 600;
	p = fit(items, n, 2200);
	assert_int_equal(p.soft_upto, 1);
	p = fit(items + 2, n - 2, 1450); /* only two are there */
	assert_int_equal(p.soft_upto, -1);
}

static void a_summary_is_used_once_it_is_needed_and_the_newest_wins(void **state)
{
	struct context_item items[40];
	struct context_summary s[] = {{3, 50}, {7, 60}};
	struct context_ask a = {.items = items,
				.summaries = s,
				.nsummaries = 2,
				.ctx = 3000,
				.budget = 2001};
	struct context_plan p;

	UNUSED(state);
	a.n = plain_turns(items, 8);
	a.nhistory = a.n - 1;
	context_fit(&a, &p);
	assert_int_equal(p.summary, -1); /* it all fits */
	a.budget = 1990;
	context_fit(&a, &p);
	assert_int_equal(p.summary, 1);
	assert_int_equal(p.first, 8);
	assert_int_equal(p.summarised, 8);
	assert_int_equal(p.kept, 7);
	assert_int_equal(p.dropped, 0);
	assert_int_equal(p.tokens, 860);
	assert_int_equal(p.soft_upto, -1);
}

static void a_summary_that_saves_nothing_is_not_used(void **state)
{
	struct context_item items[40];
	struct context_summary s[] = {{1, 300}};
	struct context_ask a = {.items = items,
				.summaries = s,
				.nsummaries = 1,
				.ctx = 3000,
				.budget = 1990};
	struct context_plan p;

	UNUSED(state);
	a.n = a.nhistory = plain_turns(items, 8);
	context_fit(&a, &p);
	assert_int_equal(p.summary, -1);
}

static void a_summary_of_what_was_dropped_is_better_than_nothing(void **state)
{
	struct context_item items[40];
	struct context_summary s[] = {{1, 50}};
	struct context_ask a = {.items = items, .summaries = s, .ctx = 1500};
	struct context_plan before, after;

	UNUSED(state);
	a.budget = 1000;
	a.n = plain_turns(items, 8);
	a.nhistory = a.n - 1;
	context_fit(&a, &before);
	assert_int_equal(before.summarised, 0);
	assert_true(before.dropped > 2);
	a.nsummaries = 1;
	context_fit(&a, &after);
	assert_int_equal(after.summarised, 2);
	assert_int_equal(after.summarised + after.dropped + after.kept, a.nhistory);
	assert_true(after.hard_upto > 1);
}

/* ---- properties */

/* A small generator: tests give the same paths on every machine. */
static uint32_t next_random(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 16;
}

static struct context_item one(enum role role, uint32_t *seed, uint32_t most)
{
	int tokens = 5 + (int)(next_random(seed) % most);

	return (struct context_item){role, tokens, (size_t)tokens * 4, role == ROLE_TOOL};
}

/* A user message, now and then a call of a tool with its result, and a reply. */
static int add_turn(struct context_item *items, int n, uint32_t *seed)
{
	items[n++] = one(ROLE_USER, seed, 60);
	while (next_random(seed) % 3 == 0 && n < MAX_ITEMS - 8) {
		items[n++] = one(ROLE_ASSISTANT, seed, 40);
		items[n++] = one(ROLE_TOOL, seed, 500);
	}
	items[n++] = one(ROLE_ASSISTANT, seed, 120);
	return n;
}

static void check(const struct context_ask *a, const struct context_plan *p)
{
	int64_t sum = a->notes_tokens;
	int last = a->n;

	assert_int_equal(p->kept + p->summarised + p->dropped, a->nhistory);
	assert_true(p->kept >= 0 && p->summarised >= 0 && p->dropped >= 0);
	assert_true(p->first >= p->nsystem && p->first <= a->n);
	/* whole turns: neither a call and its result nor the last turn are torn */
	if (p->first > p->nsystem && p->first < a->n)
		assert_int_equal(a->items[p->first].role, ROLE_USER);
	while (last > p->nsystem && a->items[last - 1].role != ROLE_USER)
		last--;
	assert_true(p->first < last || last == p->nsystem);
	/* what it says it sends */
	for (int i = 0; i < p->nsystem; i++)
		sum += a->items[i].tokens;
	for (int i = p->first; i < a->n; i++)
		sum += context_elides(a, p, i) ? CONTEXT_ELIDED_TOKENS
					       : a->items[i].tokens;
	if (p->summary >= 0)
		sum += a->summaries[p->summary].tokens;
	assert_int_equal(p->tokens, sum);
	assert_int_equal(p->fits, sum <= a->budget);
	if (!p->fits) /* nothing is left that could go: no summary, one turn */
		assert_true(p->summary < 0 && p->first == last - 1);
	if (p->soft_upto >= 0)
		assert_int_equal(a->items[p->soft_upto + 1].role, ROLE_USER);
	if (p->hard_upto >= 0)
		assert_int_equal(a->items[p->hard_upto + 1].role, ROLE_USER);
}

static bool same_prefix(const struct context_ask *a, const struct context_plan *p,
			const struct context_plan *q, int n)
{
	if (p->nsystem != q->nsystem || p->first != q->first || p->summary != q->summary)
		return false;
	for (int i = p->first; i < n; i++)
		if (context_elides(a, p, i) != context_elides(a, q, i))
			return false;
	return true;
}

static void grow_and_check(uint32_t seed, bool summaries)
{
	static struct context_item items[MAX_ITEMS];
	struct context_summary s[MAX_SUMMARIES];
	struct context_ask a = {.items = items, .summaries = s, .ctx = 3000};
	struct context_plan p, again, next;
	int changes = 0, made = 0;

	a.budget = context_budget(a.ctx, 0, 0);
	if (seed % 2)
		items[a.n++] = one(ROLE_SYSTEM, &seed, 100);
	a.n = add_turn(items, a.n, &seed);
	context_fit(&a, &p);
	for (int turn = 0; turn < 150 && a.n < MAX_ITEMS - 40; turn++) {
		int n = a.n;

		if (summaries && p.soft_upto >= 0 && a.nsummaries < MAX_SUMMARIES) {
			s[a.nsummaries++] = (struct context_summary){p.soft_upto, 120};
			made++;
			context_fit(&a, &next);
			check(&a, &next);
			changes += !same_prefix(&a, &p, &next, n);
			context_fit(&a, &again); /* and only once */
			assert_memory_equal(&next, &again, sizeof next);
			p = next;
		}
		a.n = add_turn(items, a.n, &seed);
		a.nhistory = n;
		context_fit(&a, &next);
		context_fit(&a, &again);
		assert_memory_equal(&next, &again, sizeof next);
		check(&a, &next);
		/* what fits below the soft limit moves nothing in front of it */
		if (next.fits && !summaries) {
			int64_t sum = p.tokens;

			for (int i = n; i < a.n; i++)
				sum += items[i].tokens;
			if (sum <= (int64_t)a.budget * CONTEXT_SOFT_PERCENT / 100)
				assert_true(same_prefix(&a, &p, &next, n));
		}
		if (summaries)
			assert_true(next.first >= p.first);
		p = next;
	}
	if (summaries) {
		assert_true(made > 5);
		assert_int_equal(changes, made);
	}
}

static void any_path_keeps_the_rules(void **state)
{
	UNUSED(state);
	for (uint32_t seed = 1; seed <= 60; seed++)
		grow_and_check(seed, false);
}

static void a_new_summary_changes_the_prefix_exactly_once(void **state)
{
	UNUSED(state);
	for (uint32_t seed = 1; seed <= 60; seed++)
		grow_and_check(seed, true);
}

/* Turns cost some 110 tokens, from 50 % to the budget are 37 of them. */
static void appending_turns_keeps_the_cut_for_many_turns(void **state)
{
	static struct context_item items[MAX_ITEMS];
	uint32_t seed = 7;
	int n = 0, last = 1, moves = 0, shortest = 1000, since = 0;

	UNUSED(state);
	items[n++] = (struct context_item){ROLE_SYSTEM, 30, 100, false};
	for (int turn = 0; turn < 590; turn++) {
		struct context_plan p;

		items[n++] = one(ROLE_USER, &seed, 60);
		items[n++] = one(ROLE_ASSISTANT, &seed, 160);
		p = fit(items, n, 8192);
		assert_true(p.fits);
		assert_true(p.first >= last); /* what was dropped never comes back */
		since++;
		if (p.first == last)
			continue;
		assert_true(p.tokens <= 8192 / 2 + 220);
		if (moves++ > 0 && since < shortest)
			shortest = since;
		since = 0;
		last = p.first;
	}
	assert_in_range(moves, 10, 25);
	assert_true(shortest >= 25);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_path_within_the_budget_goes_whole),
		cmocka_unit_test(one_token_over_drops_whole_turns_down_to_the_low_mark),
		cmocka_unit_test(the_last_turn_stays_even_if_it_does_not_fit),
		cmocka_unit_test(an_empty_path_and_one_of_system_messages_only_fit),
		cmocka_unit_test(sums_beyond_an_int_do_not_wrap),
		cmocka_unit_test(the_budget_leaves_room_for_the_answer_and_a_margin),
		cmocka_unit_test(old_tool_results_shrink_before_anything_is_dropped),
		cmocka_unit_test(a_short_result_is_not_elided),
		cmocka_unit_test(over_the_soft_limit_a_summary_is_asked_for),
		cmocka_unit_test(two_turns_stay_however_long_they_are),
		cmocka_unit_test(a_summary_is_used_once_it_is_needed_and_the_newest_wins),
		cmocka_unit_test(a_summary_that_saves_nothing_is_not_used),
		cmocka_unit_test(a_summary_of_what_was_dropped_is_better_than_nothing),
		cmocka_unit_test(any_path_keeps_the_rules),
		cmocka_unit_test(a_new_summary_changes_the_prefix_exactly_once),
		cmocka_unit_test(appending_turns_keeps_the_cut_for_many_turns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
