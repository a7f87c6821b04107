/* SQLite's memory runs out at the n-th allocation: an error, never an abort, and what was acknowledged stays.
 *
 * hob's own allocations end the process when they fail; SQLite's come back as errors, and a hob that reads models
 * of many gigabytes may well meet them.  The allocator is exchanged before SQLite is first used, once for the
 * process; a child sets the countdown.
 *
 * HOB_CRASH_POINTS (25) for each of the two ways: once, and fifty in a row. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdatomic.h>
#include "store_work.h"

static struct {
	sqlite3_mem_methods real; /* constant after main() began */
	atomic_int until;         /* allocations that still succeed; < 0 after that */
	atomic_int fails;         /* how many do not; 0 = all succeed */
} heap;

static bool refuses(void)
{
	int fails = atomic_load(&heap.fails), n;

	if (fails == 0)
		return false;
	n = atomic_fetch_sub(&heap.until, 1);
	return n <= 0 && n > -fails;
}

static void *heap_alloc(int n)
{
	return refuses() ? NULL : heap.real.xMalloc(n);
}

static void *heap_realloc(void *p, int n)
{
	return refuses() ? NULL : heap.real.xRealloc(p, n);
}

static void fail_once(int at)
{
	atomic_store(&heap.until, at - 1);
	atomic_store(&heap.fails, 1);
}

static void fail_fifty(int at)
{
	atomic_store(&heap.until, at - 1);
	atomic_store(&heap.fails, 50);
}

static bool has_failed(void)
{
	return atomic_load(&heap.until) < 0;
}

/* The exit status of the child. */
static int run(const struct work_plan *plan, int *lines)
{
	char dir[512], path[600];
	struct work_found found;
	struct buf said = {0};
	int fd, status;
	pid_t pid;

	work_make_dir(dir);
	snprintf(path, sizeof(path), "%s/memory.db", dir);
	pid = work_start(path, plan, &fd);
	work_read(fd, &said);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (!WIFEXITED(status))
		fail_msg("allocation %d: the child crashed, status %d", plan->at, status);
	found = work_check(path, &said, false);
	if (found.lost)
		fail_msg("allocation %d: %d acknowledgements lost", plan->at, found.lost);
	*lines += found.lines;
	buf_free(&said);
	work_remove_dir(dir);
	return WEXITSTATUS(status);
}

/* Points grow like a geometric series: most of the code is met early. */
static void run_all(void (*prepare)(int at))
{
	int points = work_effort("HOB_CRASH_POINTS", 25), runs = 0, lines = 0,
	    refused = 0;
	double at = 1;

	for (int i = 0; i < points; i++, runs++) {
		struct work_plan plan = {.at = (int)at,
					 .turns = 2,
					 .whole = true,
					 .prepare = prepare,
					 .struck = has_failed};
		int rc = run(&plan, &lines);

		refused += rc == 1;
		if (rc == WORK_UNSTRUCK)
			break;
		/* over some hundred thousand allocations */
		at = at * (1 + 12.0 / points) + 1;
	}
	print_message("%d runs, the last at %d; %d were refused something, "
		      "%d acknowledgements\n",
		      runs, (int)at, refused, lines);
	assert_true(refused > 0 && lines > 0);
}

static void an_allocation_that_fails_is_an_error(void **state)
{
	UNUSED(state);
	run_all(fail_once);
}

static void many_allocations_that_fail_are_errors(void **state)
{
	UNUSED(state);
	run_all(fail_fifty);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_allocation_that_fails_is_an_error),
		cmocka_unit_test(many_allocations_that_fail_are_errors),
	};
	sqlite3_mem_methods ours;

	ASSERT(sqlite3_config(SQLITE_CONFIG_GETMALLOC, &heap.real) == SQLITE_OK);
	ours = heap.real;
	ours.xMalloc = heap_alloc;
	ours.xRealloc = heap_realloc;
	ASSERT(sqlite3_config(SQLITE_CONFIG_MALLOC, &ours) == SQLITE_OK);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
