/* What was reserved must be counted afterwards, whatever happened to the process.
 *
 * A child reserves and settles on real accounts with a loop, and writes a line to a pipe when it is told that a
 * reservation is safe, and another before it settles or releases it; the parent lets it die, opens the
 * file as the next hob would, and compares.  A call that was safe and not yet ended must count in full;
 * one that ended may count as it ended or as it was reserved, nothing else.  Two ways to die: kill -9
 * at a random moment, and a file system that exits, writes half and exits, fails, is full or damaged at the n-th
 * write, sync or truncate.  Neither can tell what a power cut loses.
 *
 * HOB_CRASH_KILLS (50) and HOB_CRASH_STRIDE (3: every third n; 1 = all) change the effort. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <sqlite3.h>
#include <sys/wait.h>
#include "../unit/money_world.h"
#include "fault_vfs.h"
#include "route/money_books.h"

enum { CALLS = 60, PARALLEL = 4 };

static const enum fault faults[] = {FAULT_EXIT, FAULT_HALF, FAULT_FAIL, FAULT_FULL_ON,
				    FAULT_DAMAGE};

/* ---- the child ---- */

struct line {
	int call;
	enum what { SAFE, ENDS } what;
	int64_t cost; /* what it will count as; SAFE: what was reserved */
};

struct child {
	struct world w;
	uv_loop_t loop;
	int pipe, begun, running;
};

struct one {
	struct child *child;
	struct money_hold *hold;
	int call;
};

static int64_t most_of(int call)
{
	return 1000000 + 1000 * call;
}

static void tell(const struct child *c, int call, enum what what, int64_t cost)
{
	struct line l = {call, what, cost};

	if (write(c->pipe, &l, sizeof l) != (ssize_t)sizeof l)
		_exit(1);
}

static void begin(struct child *c);

static void end(struct one *o)
{
	struct usage u = usage_of(10, 10, amount_usd(most_of(o->call) / 2));
	bool release = o->call % 5 == 4;

	tell(o->child, o->call, ENDS, release ? 0 : most_of(o->call) / 2);
	if (release)
		money_release(o->hold);
	else
		money_settle(o->hold, &u, NULL, "finished");
	o->child->running--;
	free(o);
}

/* Every third call stays open until the child dies. */
static void on_safe(void *arg, const struct err *e)
{
	struct one *o = arg;
	struct child *c = o->child;

	if (e) { /* the caller must not begin: nothing was promised */
		money_release(o->hold);
		c->running--;
		free(o);
		return;
	}
	tell(c, o->call, SAFE, most_of(o->call));
	if (o->call % 3)
		end(o);
	begin(c);
}

static void begin(struct child *c)
{
	struct one *o;
	struct err e;

	if (c->begun == CALLS)
		return;
	o = xcalloc(1, sizeof *o);
	o->child = c;
	o->call = c->begun++;
	o->hold = reserve(&c->w, NULL, amount_usd(most_of(o->call)), &e);
	if (!o->hold) {
		free(o);
		return;
	}
	c->running++;
	money_when_safe(o->hold, on_safe, o);
}

/* Ends without closing anything, as a crash does. */
static void child_main(struct world *w, int fd, enum fault fault, int at)
{
	struct child c = {.w = *w, .pipe = fd};

	if (fault != FAULT_NONE)
		fault_install(fault, at);
	uv_loop_init(&c.loop);
	world_open(&c.w, &c.loop);
	for (int i = 0; i < PARALLEL; i++)
		begin(&c);
	/* Over once the open ones are all that is left, and a second of writing has passed. */
	uv_run(&c.loop, UV_RUN_DEFAULT);
	_exit(fault != FAULT_NONE && !fault_has_struck() ? 7 : 0);
}

/* ---- the parent ---- */

struct seen {
	int64_t reserved[CALLS], ended[CALLS];
	bool safe[CALLS], ends[CALLS];
	int nsafe;
};

static void read_lines(int fd, struct seen *s)
{
	struct line l;

	memset(s, 0, sizeof *s);
	while (read(fd, &l, sizeof l) == (ssize_t)sizeof l) {
		assert_in_range(l.call, 0, CALLS - 1);
		if (l.what == SAFE) {
			s->safe[l.call] = true;
			s->reserved[l.call] = l.cost;
			s->nsafe++;
		} else {
			s->ends[l.call] = true;
			s->ended[l.call] = l.cost;
		}
	}
}

/* Between what surely counts and what may: calls that were not yet said to be safe may be in the file. */
/* How often it was written anew. */
static int check(struct world *w, const struct seen *s, const char *how, int n)
{
	int renewed;
	int64_t least = 0, most = 0, spent;

	for (int i = 0; i < CALLS; i++) {
		if (s->safe[i] && !s->ends[i])
			least += s->reserved[i];
		else if (s->safe[i])
			least += s->ended[i];
		most += most_of(i);
	}
	world_open(w, NULL);
	spent = llround(money_spent_today(w->money, NULL) * 1e9);
	if (spent < least || spent > most)
		fail_msg("%s at %d: %lld counted, at least %lld was safe", how, n,
			 (long long)spent, (long long)least);
	/* No hold is left behind, and none counts twice. */
	world_restart(w);
	assert_int_equal(llround(money_spent_today(w->money, NULL) * 1e9), spent);
	assert_int_equal(world_files(w, ".corrupt-", false), 0);
	renewed = world_files(w, ".damaged-", false);
	world_close(w);
	world_files(w, "", true);
	return renewed;
}

static int number(const char *name, int otherwise)
{
	const char *s = getenv(name);

	return s ? (int)strtol(s, NULL, 10) : otherwise;
}

/* Exit status of the child, or -1 when it was killed. */
static int run_child(struct world *w, enum fault fault, int at, int kill_after_us,
		     struct seen *s)
{
	int fds[2], status;
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		close(fds[0]);
		child_main(w, fds[1], fault, at);
	}
	close(fds[1]);
	if (kill_after_us >= 0) {
		usleep((useconds_t)kill_after_us);
		kill(pid, SIGKILL);
	}
	read_lines(fds[0], s);
	close(fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void what_was_safe_counts_after_a_kill(void **state)
{
	int kills = number("HOB_CRASH_KILLS", 50), in_the_middle = 0;
	struct world w;
	struct seen s;

	(void)state;
	world_init(&w);
	w.config.budget.daily = 100;
	for (int i = 0; i < kills; i++) {
		run_child(&w, FAULT_NONE, 0, 500 + 1500 * (i % 40), &s);
		in_the_middle += s.nsafe > 0 && s.nsafe < CALLS;
		check(&w, &s, "kill", i);
	}
	/* Else the kills hit nothing, and this test says nothing. */
	assert_true(in_the_middle > 0);
	world_fini(&w);
}

static void what_was_safe_counts_whatever_write_is_the_last(void **state)
{
	int stride = number("HOB_CRASH_STRIDE", 3), struck = 0, renewed = 0;
	struct world w;
	struct seen s;

	(void)state;
	world_init(&w);
	w.config.budget.daily = 100;
	for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
		enum fault fault = faults[i];
		int rc = 0;

		for (int at = 1; rc != 7; at += stride) {
			rc = run_child(&w, fault, at, -1, &s);
			assert_true(rc == 0 || rc == 7);
			struck += rc == 0;
			renewed += check(&w, &s, fault_names[fault], at);
		}
	}
	assert_true(struck > 20 && renewed > 0);
	world_fini(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_safe_counts_after_a_kill),
		cmocka_unit_test(what_was_safe_counts_whatever_write_is_the_last),
	};

	setenv("TZ", "UTC0", 1);
	tzset();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
