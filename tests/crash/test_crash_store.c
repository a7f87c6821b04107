/* What the store acknowledged must be there afterwards, whatever happened to its process or its power.
 *
 * A child works on a real store (store_work.h) and writes a line to a pipe in each callback; the
 * parent lets it die, opens the same file as the next hob would, and looks for every line.  Three ways to die:
 * kill -9 at a random moment; a layer under SQLite (fault_vfs.h) that fails, fills up, exits or
 * writes half and exits at the n-th write, sync or truncate; and the same layer losing its power there, so that what was
 * not synced is gone.  The last is tried with durability = "normal" as well, where it must lose something:
 * else the model would show nothing.
 *
 * HOB_CRASH_KILLS (25), HOB_CRASH_STRIDE (every 29th n, 61st under a sanitizer; 1 = all) change
 * the effort. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <poll.h>

#include "tests/unit/sanitized.h"
#include "store_work.h"

static void no_acknowledged_turn_is_lost_by_kill_9(void **state)
{
	int kills = work_effort("HOB_CRASH_KILLS", 25), lines = 0, early = 0;
	unsigned seed = (unsigned)time(NULL);
	char dir[512], path[600];

	UNUSED(state);
	work_make_dir(dir);
	snprintf(path, sizeof(path), "%s/memory.db", dir);
	print_message("seed %u\n", seed);
	for (int i = 0; i < kills; i++) {
		struct work_plan plan = {.turns = 1000000, .whole = i % 2};
		struct work_found found;
		struct buf said = {0};
		int fd, status;
		pid_t pid = work_start(path, &plan, &fd);

		if (i % 4 == 3) /* however slow the machine, some have begun */
			poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, -1);
		usleep((useconds_t)(rand_r(&seed) %
				    60000)); /* the pipe holds what it says */
		kill(pid, SIGKILL);
		work_read(fd, &said);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status)); /* and did not end by itself */
		found = work_check(path, &said, false);
		assert_int_equal(found.lost, 0);
		early += found.lines == 0;
		lines += found.lines;
		buf_free(&said);
	}
	print_message("%d kills, %d acknowledgements, %d kills before the first\n", kills,
		      lines, early);
	assert_true(early < kills); /* else nothing was tested */
	work_remove_dir(dir);
}

/* One run; true when the work got through without meeting its fault. */
static bool run_fault(const struct work_plan *plan, struct work_found *all)
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
		fail_msg("%s at %d: the child crashed, status %d",
			 fault_names[plan->fault], plan->at, status);
	fault_power_off(dir);
	found = work_check(path, &said, plan->lossy);
	if (found.lost && !plan->lossy)
		fail_msg("%s at %d: %d acknowledgements lost", fault_names[plan->fault],
			 plan->at, found.lost);
	all->lines += found.lines;
	all->lost += found.lost;
	buf_free(&said);
	work_remove_dir(dir);
	return WEXITSTATUS(status) == WORK_UNSTRUCK;
}

static void run_faults(enum fault from, enum fault to, struct work_plan plan,
		       struct work_found *all)
{
	enum { LIMIT = 20000 };
	int stride = work_effort("HOB_CRASH_STRIDE", SANITIZED ? 61 : 29), runs = 0;

	for (enum fault f = from; f <= to; f = (enum fault)(f + 1)) {
		plan.fault = f;
		for (plan.at = 1; plan.at < LIMIT; plan.at += stride, runs++)
			if (run_fault(&plan, all))
				break;
		assert_true(plan.at > stride + 1); /* it did strike */
		assert_true(plan.at < LIMIT);
		print_message("%s: up to %d\n", fault_names[f], plan.at);
	}
	print_message("%d runs, %d acknowledgements, %d lost\n", runs, all->lines,
		      all->lost);
}

static void no_acknowledged_turn_is_lost_by_a_failing_disk(void **state)
{
	struct work_found all = {0};

	UNUSED(state);
	run_faults(FAULT_FAIL, FAULT_HALF, (struct work_plan){.turns = 2, .whole = true},
		   &all);
	assert_true(all.lines > 0);
}

static void no_acknowledged_turn_is_lost_by_a_power_cut(void **state)
{
	struct work_found all = {0};

	UNUSED(state);
	run_faults(FAULT_POWER, FAULT_POWER_SOME,
		   (struct work_plan){.turns = 2, .whole = true}, &all);
	assert_true(all.lines > 0 && all.lost == 0);
}

/* The same cut without the syncs that durability = "full" pays for: sound, and not complete. */
static void with_normal_durability_a_power_cut_loses_the_last_moments(void **state)
{
	struct work_found all = {0};

	UNUSED(state);
	run_faults(FAULT_POWER, FAULT_POWER,
		   (struct work_plan){.turns = 3, .lossy = true}, &all);
	assert_true(all.lost > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_acknowledged_turn_is_lost_by_kill_9),
		cmocka_unit_test(no_acknowledged_turn_is_lost_by_a_failing_disk),
		cmocka_unit_test(no_acknowledged_turn_is_lost_by_a_power_cut),
		cmocka_unit_test(
			with_normal_durability_a_power_cut_loses_the_last_moments),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
