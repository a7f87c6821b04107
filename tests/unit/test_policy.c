/* The eviction policy: a table of ledgers, then random ones against a brute-force check.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "cache/policy.h"

static struct policy_entry idle(uint64_t bytes, uint64_t last_used_ms)
{
	return (struct policy_entry){
		.bytes = bytes, .movable = true, .last_used_ms = last_used_ms};
}

static void nobody_leaves_when_there_is_room(void **state)
{
	struct policy_entry e[] = {idle(10, 1), idle(20, 2)};
	struct policy_plan p;

	(void)state;
	policy_plan(e, 2, 100, 70, &p);
	assert_true(p.fits);
	assert_int_equal(p.nvictims, 0);
	assert_int_equal(p.free_bytes, 70);
}

static void the_least_recently_used_leaves_first(void **state)
{
	struct policy_entry e[] = {idle(30, 9), idle(30, 3), idle(30, 5)};
	struct policy_plan p;

	(void)state;
	policy_plan(e, 3, 100, 40, &p);
	assert_true(p.fits);
	assert_int_equal(p.nvictims, 1);
	assert_int_equal(p.victims[0], 1);
	policy_plan(e, 3, 100, 41, &p);
	assert_int_equal(p.nvictims, 2);
	assert_int_equal(p.victims[0], 1);
	assert_int_equal(p.victims[1], 2);
}

static void a_victim_that_is_not_needed_stays(void **state)
{
	/* by age: the small one, then the large one, which alone is enough */
	struct policy_entry e[] = {idle(5, 1), idle(80, 2)};
	struct policy_plan p;

	(void)state;
	policy_plan(e, 2, 90, 60, &p);
	assert_true(p.fits);
	assert_int_equal(p.nvictims, 1);
	assert_int_equal(p.victims[0], 1);
}

static void leased_pinned_and_loading_models_never_leave(void **state)
{
	struct policy_entry e[] = {idle(30, 1), idle(30, 2), idle(30, 3)};
	struct policy_plan p;

	(void)state;
	e[0].leases = 1;
	e[1].pinned = true;
	e[2].movable = false;
	policy_plan(e, 3, 100, 20, &p);
	assert_false(p.fits);
	assert_int_equal(p.nvictims, 0);
	assert_true(p.fits_when_idle);
}

static void what_pinned_models_hold_is_never_waited_for(void **state)
{
	struct policy_entry e[] = {idle(60, 1)};
	struct policy_plan p;

	(void)state;
	e[0].pinned = true;
	policy_plan(e, 1, 100, 41, &p);
	assert_false(p.fits);
	assert_false(p.fits_when_idle);
	policy_plan(e, 1, 100, 40, &p);
	assert_true(p.fits);
}

static void a_shrunk_budget_makes_room_before_it_gives_any(void **state)
{
	struct policy_entry e[] = {idle(60, 1), idle(60, 2)};
	struct policy_plan p;

	(void)state;
	policy_plan(e, 2, 80, 0, &p);
	assert_true(p.fits);
	assert_int_equal(p.nvictims, 1);
	assert_int_equal(p.free_bytes, 0);
}

static void forged_sizes_do_not_wrap_around(void **state)
{
	struct policy_entry e[] = {idle(UINT64_MAX, 1), idle(UINT64_MAX, 2)};
	struct policy_plan p;

	(void)state;
	e[0].leases = 1;
	policy_plan(e, 2, 100, UINT64_MAX, &p);
	assert_false(p.fits);
	assert_false(p.fits_when_idle);
}

static void the_refusal_names_three_sizes(void **state)
{
	struct policy_entry e[] = {idle(UINT64_C(1) << 30, 1),
				   idle(UINT64_C(2) << 30, 2)};
	struct policy_plan p;
	char text[160];

	(void)state;
	e[1].leases = 1;
	policy_plan(e, 2, UINT64_C(4) << 30, UINT64_C(3) << 30, &p);
	policy_text(&p, text, sizeof text);
	assert_string_equal(text, "needs 3.00 GiB, free 1.00 GiB, would evict 1.00 GiB");
}

static unsigned next_random(unsigned *seed)
{
	return *seed = *seed * 1664525u + 1013904223u;
}

static void random_plans_are_sufficient_minimal_and_lawful(void **state)
{
	unsigned seed = 7;

	(void)state;
	for (int round = 0; round < 20000; round++) {
		struct policy_entry e[8];
		struct policy_plan p;
		uint64_t used = 0, gain = 0, lawful = 0, budget, needs;
		int n = (int)(next_random(&seed) >> 16) % 9;

		for (int i = 0; i < n; i++) {
			e[i] = idle((next_random(&seed) >> 16) % 50,
				    (next_random(&seed) >> 16) % 9);
			e[i].leases = (next_random(&seed) >> 20) % 4 == 0;
			e[i].pinned = (next_random(&seed) >> 20) % 5 == 0;
			e[i].movable = (next_random(&seed) >> 20) % 6 != 0;
			used += e[i].bytes;
			if (e[i].movable && !e[i].leases && !e[i].pinned)
				lawful += e[i].bytes;
		}
		budget = (next_random(&seed) >> 16) % 200;
		needs = (next_random(&seed) >> 16) % 100;
		policy_plan(e, n, budget, needs, &p);
		/* it fits exactly when all who may go are enough */
		assert_int_equal(p.fits, used - lawful + needs <= budget);
		for (int i = 0; i < p.nvictims; i++) {
			const struct policy_entry *v = &e[p.victims[i]];

			assert_true(v->movable && !v->leases && !v->pinned);
			gain += v->bytes;
		}
		if (!p.fits)
			continue;
		assert_true(used - gain + needs <= budget);
		for (int i = 0; i < p.nvictims; i++)
			assert_true(used - gain + e[p.victims[i]].bytes + needs > budget);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nobody_leaves_when_there_is_room),
		cmocka_unit_test(the_least_recently_used_leaves_first),
		cmocka_unit_test(a_victim_that_is_not_needed_stays),
		cmocka_unit_test(leased_pinned_and_loading_models_never_leave),
		cmocka_unit_test(what_pinned_models_hold_is_never_waited_for),
		cmocka_unit_test(a_shrunk_budget_makes_room_before_it_gives_any),
		cmocka_unit_test(forged_sizes_do_not_wrap_around),
		cmocka_unit_test(the_refusal_names_three_sizes),
		cmocka_unit_test(random_plans_are_sufficient_minimal_and_lawful),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
