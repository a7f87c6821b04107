/* The compute team: everybody runs, barriers hold, sleepers wake.  Run it under TSan too:
 * the plain (not atomic) counters below are ordered by the pool alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <time.h>

#include "kernels/pool.h"

enum { ROUNDS = 400 };

struct shared {
	struct pool *pool;
	int slot[POOL_MAX_THREADS];
	int wrong;
};

static void count_once(void *arg, int ith, int nth)
{
	struct shared *s = arg;

	s->slot[ith]++;
	if (nth != pool_threads(s->pool))
		s->slot[ith] += 1000;
}

/* Every thread writes its slot, all read all slots after the barrier: one late thread is
 * seen. */
static void step_together(void *arg, int ith, int nth)
{
	struct shared *s = arg;

	for (int round = 1; round <= ROUNDS; round++) {
		s->slot[ith] = round;
		pool_barrier(s->pool, ith);
		for (int i = 0; i < nth; i++)
			if (s->slot[i] != round && ith == 0)
				s->wrong++;
		pool_barrier(s->pool, ith);
	}
}

static void every_thread_runs_exactly_once(void **state)
{
	(void)state;
	for (int n = 1; n <= 5; n++) {
		struct shared s = {.pool = pool_new(n)};

		assert_int_equal(pool_threads(s.pool), n);
		for (int i = 0; i < 200; i++)
			pool_run(s.pool, count_once, &s);
		for (int i = 0; i < n; i++)
			assert_int_equal(s.slot[i], 200);
		pool_free(s.pool);
	}
}

static void nobody_passes_a_barrier_before_the_last_arrives(void **state)
{
	(void)state;
	for (int n = 1; n <= 4; n++) {
		struct shared s = {.pool = pool_new(n)};

		for (int i = 0; i < 4; i++)
			pool_run(s.pool, step_together, &s);
		assert_int_equal(s.wrong, 0);
		for (int i = 0; i < n; i++)
			assert_int_equal(s.slot[i], ROUNDS);
		pool_free(s.pool);
	}
}

/* Pauses on both sides of the 50 us after which threads sleep. */
static void sleeping_threads_wake_for_the_next_run(void **state)
{
	struct shared s = {.pool = pool_new(3)};

	(void)state;
	for (int i = 0; i < 60; i++) {
		struct timespec pause = {0, (i % 12) * 10000};

		pool_run(s.pool, count_once, &s);
		nanosleep(&pause, NULL);
	}
	for (int i = 0; i < 3; i++)
		assert_int_equal(s.slot[i], 60);
	pool_free(s.pool);
}

static void a_pool_that_never_ran_can_be_freed(void **state)
{
	(void)state;
	pool_free(pool_new(4));
	pool_free(NULL);
}

static void an_absurd_number_of_threads_is_capped(void **state)
{
	struct pool *p = pool_new(100000);

	(void)state;
	assert_in_range(pool_threads(p), 1, POOL_MAX_THREADS);
	pool_free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_thread_runs_exactly_once),
		cmocka_unit_test(nobody_passes_a_barrier_before_the_last_arrives),
		cmocka_unit_test(sleeping_threads_wake_for_the_next_run),
		cmocka_unit_test(a_pool_that_never_ran_can_be_freed),
		cmocka_unit_test(an_absurd_number_of_threads_is_capped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
