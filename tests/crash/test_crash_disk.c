/* The world around the file: a disk that is full or read-only, a file that somebody removes, two
 * daemons, a clock that jumps.
 *
 * The clock is this program's own: it defines what base/clock.h declares, so that the library's is not
 * linked.  The disk is a tmpfs of our own in a user and a mount namespace, where the system lets us have those;
 * the test says so and is left out where not. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mount.h>
#include "base/clock.h"
#include "store_work.h"

static atomic_llong wall_ahead_ms;

static uint64_t now_us(clockid_t which)
{
	struct timespec ts;

	clock_gettime(which, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

uint64_t clock_mono_ms(void)
{
	return now_us(CLOCK_MONOTONIC) / 1000;
}

uint64_t clock_mono_us(void)
{
	return now_us(CLOCK_MONOTONIC);
}

int64_t clock_unix_ms(void)
{
	return (int64_t)(now_us(CLOCK_REALTIME) / 1000) + atomic_load(&wall_ahead_ms);
}

/* Works in a child until it ends, and looks for what it said. */
static void work_once(const char *path, int turns, struct buf *said, int *status)
{
	struct work_plan plan = {.turns = turns, .whole = true};
	int fd;
	pid_t pid = work_start(path, &plan, &fd);

	work_read(fd, said);
	assert_int_equal(waitpid(pid, status, 0), pid);
	assert_true(WIFEXITED(*status));
}

static void assert_nothing_lost(const char *path, struct buf *said)
{
	struct work_found found = work_check(path, said, false);

	assert_true(found.lines > 0);
	assert_int_equal(found.lost, 0);
	buf_free(said);
}

/* ---- two daemons ---- */

static void of_two_daemons_on_one_file_one_gets_it(void **state)
{
	char dir[512], path[600];
	struct store *s;
	struct buf said = {0};
	struct err e = {0};
	uv_loop_t loop;
	int status;

	UNUSED(state);
	work_make_dir(dir);
	snprintf(path, sizeof(path), "%s/memory.db", dir);
	uv_loop_init(&loop);
	s = store_open(&loop, path, &e);
	assert_non_null(s);
	work_once(path, 1, &said, &status);
	assert_int_equal(WEXITSTATUS(status), 1);
	assert_int_equal(said.len, 0); /* it got nowhere */
	store_close(s, NULL, NULL);
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&loop), 0);
	work_once(path, 1, &said, &status);
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_nothing_lost(path, &said);
	work_remove_dir(dir);
}

/* ---- the clock ---- */

static void a_clock_that_jumps_loses_nothing_and_mixes_nothing_up(void **state)
{
	static const long long hour = 3600000, year = 365 * 24 * hour;
	static const long long jumps[] = {0,         -10 * year, 100 * year, -hour,
					  50 * year, -40 * year, 0};
	char dir[512], path[600];
	struct buf all = {0};
	int status;

	UNUSED(state);
	work_make_dir(dir);
	snprintf(path, sizeof(path), "%s/memory.db", dir);
	for (size_t i = 0; i < ARRAY_LEN(jumps); i++) {
		struct buf said = {0};

		atomic_store(&wall_ahead_ms, jumps[i]);
		work_once(path, 2, &said, &status);
		assert_int_equal(WEXITSTATUS(status), 0);
		buf_add(&all, said.data, said.len);
		assert_nothing_lost(path, &said);
	}
	atomic_store(&wall_ahead_ms, 0);
	assert_nothing_lost(path, &all); /* those of all times together */
	work_remove_dir(dir);
}

/* ---- the file goes ---- */

struct gone {
	bool answered;
	struct err err;
	int64_t turn;
};

static void on_gone(void *arg, const struct err *e, const char *id, int64_t turn)
{
	struct gone *g = arg;

	UNUSED(id);
	g->err = *e;
	g->turn = turn;
	g->answered = true;
}

/* What was written since is lost with the file, which nobody can help; hob itself must live on, and the next start
 * begins with an empty store. */
static void a_file_that_is_removed_takes_nothing_else_along(void **state)
{
	char dir[512], path[600], wal[640];
	struct message m = {ROLE_USER, (char *)"are you there?", NULL};
	struct store_turn_begin ask = {.conversation = "new",
				       .model = "m",
				       .provider = "p",
				       .messages = &m,
				       .n = 1};
	struct buf said = {0};
	struct store *s;
	struct err e = {0};
	uv_loop_t loop;
	int status;

	UNUSED(state);
	work_make_dir(dir);
	snprintf(path, sizeof(path), "%s/memory.db", dir);
	snprintf(wal, sizeof(wal), "%s-wal", path);
	uv_loop_init(&loop);
	s = store_open(&loop, path, &e);
	assert_non_null(s);
	for (int i = 0; i < 5; i++) {
		struct gone g = {0};

		store_turn_begin(s, &ask, on_gone, &g);
		while (!g.answered)
			uv_run(&loop, UV_RUN_ONCE);
		if (i == 2) {
			assert_int_equal(unlink(path), 0);
			unlink(wal);
		}
	}
	store_close(s, NULL, NULL);
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&loop), 0);
	work_once(path, 1, &said, &status);
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_nothing_lost(path, &said);
	work_remove_dir(dir);
}

/* ---- a disk of our own ---- */

static bool put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return ok;
}

/* In namespaces of this process' own; there is no way back, so this is the last test. */
static bool own_disk(const char *dir)
{
	char map[64];
	unsigned uid = geteuid(), gid = getegid();

	if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
		return false;
	put("/proc/self/setgroups", "deny");
	snprintf(map, sizeof(map), "0 %u 1", uid);
	if (!put("/proc/self/uid_map", map))
		return false;
	snprintf(map, sizeof(map), "0 %u 1", gid);
	return put("/proc/self/gid_map", map) &&
	       mount("tmpfs", dir, "tmpfs", 0, "size=640k") == 0;
}

static void a_full_or_read_only_disk_loses_nothing(void **state)
{
	char dir[512], path[600];
	struct buf said = {0};
	struct store *s;
	struct err e = {0};
	uv_loop_t loop;
	int status;

	UNUSED(state);
	work_make_dir(dir);
	if (!own_disk(dir)) {
		print_message("no namespaces here: %s\n", strerror(errno));
		rmdir(dir);
		skip();
	}
	snprintf(path, sizeof(path), "%s/memory.db", dir);
	work_once(path, 60, &said, &status);
	assert_int_equal(WEXITSTATUS(status), 1); /* it did become full */
	/* nothing can be written, and nothing is damaged by trying to */
	assert_int_equal(mount(NULL, dir, NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
	uv_loop_init(&loop);
	s = store_open(&loop, path, &e);
	assert_null(s);
	assert_int_not_equal(e.code, ERR_CORRUPT);
	assert_int_not_equal(e.code, ERR_NONE);
	assert_int_equal(uv_loop_close(&loop), 0);
	assert_int_equal(mount(NULL, dir, NULL, MS_REMOUNT, "size=8m"), 0);
	assert_nothing_lost(path, &said);
	umount(dir);
	rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(of_two_daemons_on_one_file_one_gets_it),
		cmocka_unit_test(a_clock_that_jumps_loses_nothing_and_mixes_nothing_up),
		cmocka_unit_test(a_file_that_is_removed_takes_nothing_else_along),
		cmocka_unit_test(a_full_or_read_only_disk_loses_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
