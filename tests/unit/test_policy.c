/* The eviction policy: a table of cases, then random ones against brute force over every
 * set of victims. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "cache/policy.h"

#define MIB UINT64_C(1048576)

static struct policy_entry idle(uint64_t bytes, uint64_t last_used_ms)
{
	return (struct policy_entry){.own_bytes = bytes,
				     .group = -1,
				     .movable = true,
				     .last_used_ms = last_used_ms};
}

static struct policy_ask asks(uint64_t budget, uint64_t needs)
{
	return (struct policy_ask){.budget_bytes = budget,
				   .own_bytes = needs,
				   .free_bytes = UINT64_MAX,
				   .group = -1};
}

static struct policy_plan plan(const struct policy_entry *e, int n, uint64_t budget,
			       uint64_t needs)
{
	struct policy_ask a = asks(budget, needs);
	struct policy_plan p;

	policy_plan(e, n, &a, &p);
	return p;
}

static void nobody_leaves_when_there_is_room(void **state)
{
	struct policy_entry e[] = {idle(10, 1), idle(20, 2)};
	struct policy_plan p = plan(e, 2, 100, 70);

	(void)state;
	assert_true(p.fits);
	assert_int_equal(p.nvictims, 0);
	assert_int_equal(p.free_bytes, 70);
}

static void the_least_recently_used_leaves_first(void **state)
{
	struct policy_entry e[] = {idle(30, 9), idle(30, 3), idle(30, 5)};
	struct policy_plan p = plan(e, 3, 100, 40);

	(void)state;
	assert_true(p.fits);
	assert_int_equal(p.nvictims, 1);
	assert_int_equal(p.victims[0], 1);
	p = plan(e, 3, 100, 41);
	assert_int_equal(p.nvictims, 2);
	assert_int_equal(p.victims[0], 1);
	assert_int_equal(p.victims[1], 2);
}

static void a_victim_that_is_not_needed_stays(void **state)
{
	/* by age: the small one, then the large one, which alone is enough */
	struct policy_entry e[] = {idle(5, 1), idle(80, 2)};
	struct policy_plan p = plan(e, 2, 90, 60);

	(void)state;
	assert_true(p.fits);
	assert_int_equal(p.nvictims, 1);
	assert_int_equal(p.victims[0], 1);
}

static void of_equal_age_the_larger_goes_so_that_fewer_do(void **state)
{
	struct policy_entry e[] = {idle(10, 1), idle(40, 1), idle(10, 1)};
	struct policy_plan p = plan(e, 3, 60, 20);

	(void)state;
	assert_int_equal(p.nvictims, 1);
	assert_int_equal(p.victims[0], 1);
}

static void leased_pinned_fresh_and_loading_models_never_leave(void **state)
{
	struct policy_entry e[] = {idle(25, 1), idle(25, 2), idle(25, 3), idle(25, 4)};
	struct policy_plan p;

	(void)state;
	e[0].leases = 1;
	e[1].pinned = true;
	e[2].movable = false;
	e[3].fresh = true;
	p = plan(e, 4, 100, 20);
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
	p = plan(e, 1, 100, 41);
	assert_false(p.fits);
	assert_false(p.fits_when_idle);
	assert_int_equal(p.limit, LIMIT_PINS);
	assert_int_equal(p.limit_bytes, 60);
	assert_true(plan(e, 1, 100, 40).fits);
}

static void a_shrunk_budget_makes_room_before_it_gives_any(void **state)
{
	struct policy_entry e[] = {idle(60, 1), idle(60, 2)};
	struct policy_plan p = plan(e, 2, 80, 0);

	(void)state;
	assert_true(p.fits);
	assert_int_equal(p.nvictims, 1);
	assert_int_equal(p.free_bytes, 0);
}

static void with_best_effort_those_leave_who_can(void **state)
{
	struct policy_entry e[] = {idle(60, 1), idle(60, 2)};
	struct policy_ask a = asks(50, 0);
	struct policy_plan p;

	(void)state;
	e[0].leases = 1;
	policy_plan(e, 2, &a, &p);
	assert_int_equal(p.nvictims, 0);
	a.best_effort = true;
	policy_plan(e, 2, &a, &p);
	assert_false(p.fits);
	assert_int_equal(p.nvictims, 1);
	assert_int_equal(p.victims[0], 1);
}

static void forged_sizes_do_not_wrap_around(void **state)
{
	struct policy_entry e[] = {idle(UINT64_MAX, 1), idle(UINT64_MAX, 2)};
	struct policy_plan p;

	(void)state;
	e[0].leases = 1;
	p = plan(e, 2, 100, UINT64_MAX);
	assert_false(p.fits);
	assert_false(p.fits_when_idle);
}

static void shared_weights_count_once_and_leave_with_the_last(void **state)
{
	struct policy_entry e[] = {idle(5, 1), idle(5, 2), idle(20, 9)};
	struct policy_ask a = asks(100, 50);
	struct policy_plan p;

	(void)state;
	e[0].group = e[1].group = 0;
	e[0].shared_bytes = e[1].shared_bytes = 40;
	assert_int_equal(policy_used(e, 3), 70);
	policy_plan(e, 3, &a, &p); /* 20 too many: the group's KV alone is not enough */
	assert_int_equal(p.nvictims, 2);
	assert_int_equal(p.victims[0], 0);
	assert_int_equal(p.victims[1], 1);
	a = asks(100, 10); /* one more of the group needs its KV only */
	a.group = 0;
	a.shared_bytes = 40;
	policy_plan(e, 3, &a, &p);
	assert_int_equal(p.needs_bytes, 10);
	assert_int_equal(p.nvictims, 0);
}

static void the_systems_free_memory_binds_when_it_is_less(void **state)
{
	struct policy_entry e[] = {idle(30, 1)};
	struct policy_ask a = asks(100, 40);
	struct policy_plan p;

	(void)state;
	a.free_bytes = 20;
	policy_plan(e, 1, &a, &p);
	assert_int_equal(p.free_bytes, 20);
	assert_int_equal(p.nvictims, 1); /* what the victim gives back counts */
	e[0].leases = 1;
	policy_plan(e, 1, &a, &p);
	assert_false(p.fits);
	assert_true(p.fits_when_idle);
	assert_int_equal(p.limit, LIMIT_SYSTEM);
	a.own_bytes = 51;
	policy_plan(e, 1, &a, &p);
	assert_false(p.fits_when_idle);
	assert_int_equal(p.limit, LIMIT_SYSTEM);
	assert_int_equal(p.limit_bytes, 50);
}

static void the_reserve_is_for_completion_models_only(void **state)
{
	struct policy_entry e[] = {idle(60, 1)};
	struct policy_ask a = asks(100, 30);
	struct policy_plan p;

	(void)state;
	a.reserve_bytes = 30;
	e[0].leases = 1;
	policy_plan(e, 1, &a, &p);
	assert_false(p.fits);
	assert_int_equal(p.limit, LIMIT_RESERVE);
	assert_int_equal(p.free_bytes, 10);
	a.completion = true;
	policy_plan(e, 1, &a, &p);
	assert_true(p.fits);
	assert_int_equal(p.nvictims, 0);
}

static void a_completion_model_within_the_reserve_leaves_for_no_other(void **state)
{
	struct policy_entry e[] = {idle(30, 1), idle(60, 2)};
	struct policy_ask a = asks(100, 70);
	struct policy_plan p;

	(void)state;
	e[0].completion = true;
	a.reserve_bytes = 30;
	policy_plan(e, 2, &a, &p);
	assert_true(p.fits);
	assert_int_equal(p.nvictims, 1);
	assert_int_equal(p.victims[0], 1);
	a.free_bytes = 0; /* not even when the system is short of memory */
	a.own_bytes = 61;
	policy_plan(e, 2, &a, &p);
	assert_false(p.fits);
	a.completion = true; /* another completion model may */
	a.own_bytes = 30;
	policy_plan(e, 2, &a, &p);
	assert_int_equal(p.victims[0], 0);
}

static void what_is_promised_to_others_is_not_given_away(void **state)
{
	struct policy_entry e[] = {idle(40, 1), idle(40, 2)};
	struct policy_ask a = asks(100, 30);
	struct policy_plan p;

	(void)state;
	a.reserved_bytes = 20;
	policy_plan(e, 2, &a, &p);
	assert_int_equal(p.nvictims, 1);
	a.reserved_bytes = 71;
	policy_plan(e, 2, &a, &p);
	assert_false(p.fits);
	assert_true(p.fits_when_idle); /* the others will have had theirs by then */
}

static void gdsf_evicts_what_is_cheap_large_and_rarely_used(void **state)
{
	struct policy_entry e[] = {idle(50, 1), idle(50, 2)};
	struct policy_ask a = asks(100, 10);
	struct policy_plan p;

	(void)state;
	a.kind = POLICY_GDSF;
	e[0].score = policy_score(0, 9, 500, 50);
	e[1].score = policy_score(0, 1, 500, 50);
	policy_plan(e, 2, &a, &p);
	assert_int_equal(p.victims[0], 1); /* though it was used later */
	e[1].score = policy_score(0, 1, 5000, 50);
	policy_plan(e, 2, &a, &p);
	assert_int_equal(p.victims[0], 0); /* the other is costlier to bring back */
	e[0].score = policy_score(e[1].score, 1, 1, 50);
	policy_plan(e, 2, &a, &p);
	assert_int_equal(p.victims[0],
			 1); /* what is used after an eviction outlives it */
}

static void the_refusal_names_three_sizes_and_what_binds(void **state)
{
	struct policy_entry e[] = {idle(MIB << 10, 1), idle(MIB << 11, 2)};
	struct policy_plan p;
	char text[256];

	(void)state;
	e[1].leases = 1;
	p = plan(e, 2, 4096 * MIB, 3072 * MIB);
	policy_text(&p, text, sizeof text);
	assert_string_equal(text, "needs 3.00 GiB, free 1.00 GiB, would evict 1.00 GiB; "
				  "limit: the budget of 4.00 GiB");
	e[0] = idle(300 * MIB, 1);
	p = plan(e, 1, 1000 * MIB, 800 * MIB);
	policy_text(&p, text, sizeof text);
	assert_string_equal(text,
			    "needs 800.0 MiB, free 700.0 MiB, would evict 300.0 MiB");
}

/* ---- random tables against brute force */

static unsigned next_random(unsigned *seed, unsigned n)
{
	*seed = *seed * 1664525u + 1013904223u;
	return (*seed >> 8) % n;
}

enum { MOST = 8 };

/* The sums again, by another way: who is in, group by group. */
static void sums(const struct policy_entry *e, int n, unsigned out,
		 const struct policy_ask *a, uint64_t *all, uint64_t *others)
{
	*all = *others = 0;
	for (int g = -1; g < MOST; g++) {
		uint64_t most = 0, most_others = 0;

		for (int i = 0; i <= n; i++) {
			bool ask = i == n, completion;
			uint64_t own, shared;

			if ((!ask && (out >> i & 1)) ||
			    (ask ? a->group : e[i].group) != g)
				continue;
			own = ask ? a->own_bytes : e[i].own_bytes;
			shared = ask ? a->shared_bytes : e[i].shared_bytes;
			completion = ask ? a->completion : e[i].completion;
			if (g < 0)
				own += shared, shared = 0;
			*all += own;
			*others += completion ? 0 : own;
			if (shared > most)
				most = shared;
			if (!completion && shared > most_others)
				most_others = shared;
		}
		*all += most;
		*others += most_others;
	}
}

static bool enough(const struct policy_entry *e, int n, unsigned out,
		   const struct policy_ask *a, uint64_t limit)
{
	uint64_t all, others;

	sums(e, n, out, a, &all, &others);
	return all + a->reserved_bytes <= limit &&
	       (a->completion ||
		others + a->reserved_bytes <= a->budget_bytes - a->reserve_bytes);
}

static int random_table(unsigned *seed, struct policy_entry *e, struct policy_ask *a)
{
	int n = (int)next_random(seed, MOST + 1);

	for (int i = 0; i < n; i++) {
		e[i] = idle(next_random(seed, 50), next_random(seed, 9));
		e[i].shared_bytes = next_random(seed, 30);
		e[i].group = (int)next_random(seed, 6) - 1;
		e[i].leases = next_random(seed, 4) == 0;
		e[i].pinned = next_random(seed, 6) == 0;
		e[i].fresh = next_random(seed, 6) == 0;
		e[i].movable = next_random(seed, 6) != 0;
		e[i].completion = next_random(seed, 4) == 0;
		e[i].score = next_random(seed, 9);
	}
	*a = asks(next_random(seed, 250) + 40, next_random(seed, 100));
	a->kind = next_random(seed, 2) ? POLICY_GDSF : POLICY_LRU;
	a->group = (int)next_random(seed, 6) - 1;
	a->shared_bytes = next_random(seed, 30);
	a->completion = next_random(seed, 3) == 0;
	a->reserve_bytes = next_random(seed, 3) ? 0 : next_random(seed, 40);
	a->reserved_bytes = next_random(seed, 3) ? 0 : next_random(seed, 30);
	if (next_random(seed, 3) == 0)
		a->free_bytes = next_random(seed, 100);
	return n;
}

static void random_plans_are_sufficient_minimal_and_lawful(void **state)
{
	unsigned seed = 7;
	int fitted = 0, refused = 0;

	(void)state;
	for (int round = 0; round < 20000; round++) {
		struct policy_entry e[MOST];
		struct policy_ask a, nobody = {.group = -1, .completion = true};
		struct policy_plan p;
		uint64_t used, others, limit;
		unsigned lawful = 0, out = 0;
		int n = random_table(&seed, e, &a);
		bool guarded, possible = false;

		sums(e, n, 0, &nobody, &used, &others);
		limit = a.budget_bytes;
		if (a.free_bytes != UINT64_MAX && used + a.free_bytes < limit)
			limit = used + a.free_bytes;
		guarded = !a.completion && used - others <= a.reserve_bytes;
		for (int i = 0; i < n; i++)
			if (e[i].movable && !e[i].leases && !e[i].pinned && !e[i].fresh &&
			    !(e[i].completion && guarded))
				lawful |= 1u << i;
		for (unsigned set = 0; set < 1u << n; set++)
			if ((set & ~lawful) == 0)
				possible |= enough(e, n, set, &a, limit);
		policy_plan(e, n, &a, &p);
		if (p.fits != possible)
			fail_msg("round %d: fits %d, by brute force %d", round, p.fits,
				 possible);
		for (int i = 0; i < p.nvictims; i++)
			out |= 1u << p.victims[i];
		assert_int_equal(out & ~lawful, 0);
		fitted += p.fits;
		refused += !p.fits;
		if (!p.fits)
			continue;
		assert_true(enough(e, n, out, &a, limit));
		for (int i = 0; i < n; i++)
			if (out >> i & 1)
				assert_false(enough(e, n, out & ~(1u << i), &a, limit));
	}
	assert_true(fitted > 1000 && refused > 1000); /* both did happen */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nobody_leaves_when_there_is_room),
		cmocka_unit_test(the_least_recently_used_leaves_first),
		cmocka_unit_test(a_victim_that_is_not_needed_stays),
		cmocka_unit_test(of_equal_age_the_larger_goes_so_that_fewer_do),
		cmocka_unit_test(leased_pinned_fresh_and_loading_models_never_leave),
		cmocka_unit_test(what_pinned_models_hold_is_never_waited_for),
		cmocka_unit_test(a_shrunk_budget_makes_room_before_it_gives_any),
		cmocka_unit_test(with_best_effort_those_leave_who_can),
		cmocka_unit_test(forged_sizes_do_not_wrap_around),
		cmocka_unit_test(shared_weights_count_once_and_leave_with_the_last),
		cmocka_unit_test(the_systems_free_memory_binds_when_it_is_less),
		cmocka_unit_test(the_reserve_is_for_completion_models_only),
		cmocka_unit_test(
			a_completion_model_within_the_reserve_leaves_for_no_other),
		cmocka_unit_test(what_is_promised_to_others_is_not_given_away),
		cmocka_unit_test(gdsf_evicts_what_is_cheap_large_and_rarely_used),
		cmocka_unit_test(the_refusal_names_three_sizes_and_what_binds),
		cmocka_unit_test(random_plans_are_sufficient_minimal_and_lawful),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
