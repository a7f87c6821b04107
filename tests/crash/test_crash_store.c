/* What the store acknowledged must be there afterwards, whatever happened to its process.
 *
 * A child works on a real store and writes a line to a pipe in each callback; the parent lets it
 * die, opens the same file as the next hob would, and looks for every line.  Two ways to die:
 * kill -9 at a random moment, and a layer under SQLite that fails, fills up, exits or writes half
 * and exits at the n-th write, sync or truncate, for each n until the work gets through.
 * Neither can tell what a power cut loses: the page cache outlives a process.
 *
 * HOB_CRASH_KILLS (50) and HOB_CRASH_STRIDE (7: every seventh n; 1 = all) change the effort. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "base/base.h"
#include "base/buf.h"
#include "base/log.h"
#include "memory/store_heads.h"

enum { WRITERS = 4, REPLY_BYTES = 700 };

/* ---- the layer under SQLite ---- */

enum fault {
	FAULT_NONE,
	FAULT_FAIL,
	FAULT_FAIL_ON,
	FAULT_FULL,
	FAULT_FULL_ON,
	FAULT_EXIT,
	FAULT_HALF,
	FAULT_NR
};

static const char *const fault_names[] = {"none",
					  "fail once",
					  "fail from there on",
					  "full once",
					  "full from there on",
					  "exit",
					  "half a write and exit"};

/* SQLite hands back no context with a file, so the plan is the one static of this program; it is
 * set before a store exists and then belongs to the store thread. */
static struct {
	sqlite3_vfs vfs, *real;
	enum fault fault;
	int at, seen;
} plan;

struct fault_file {
	sqlite3_file base;
	sqlite3_file *real; /* the bytes behind this struct */
};

static sqlite3_file *real_of(sqlite3_file *f)
{
	return ((struct fault_file *)f)->real;
}

/* SQLITE_OK to go on, else the error to give. */
static int strike(void)
{
	bool on = plan.fault == FAULT_FAIL_ON || plan.fault == FAULT_FULL_ON;

	if (plan.fault == FAULT_NONE)
		return SQLITE_OK;
	plan.seen++;
	if (on ? plan.seen < plan.at : plan.seen != plan.at)
		return SQLITE_OK;
	switch (plan.fault) {
	case FAULT_FAIL:
	case FAULT_FAIL_ON:
		return SQLITE_IOERR_WRITE;
	case FAULT_FULL:
	case FAULT_FULL_ON:
		return SQLITE_FULL;
	case FAULT_EXIT:
		_exit(0);
	default:
		return SQLITE_ABORT; /* half a write: f_write knows how */
	}
}

static int f_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at)
{
	int rc = strike();

	if (rc == SQLITE_ABORT) {
		real_of(f)->pMethods->xWrite(real_of(f), p, n / 2, at);
		_exit(0);
	}
	return rc ? rc : real_of(f)->pMethods->xWrite(real_of(f), p, n, at);
}

static int f_sync(sqlite3_file *f, int flags)
{
	int rc = strike();

	if (rc == SQLITE_ABORT)
		_exit(0);
	return rc ? SQLITE_IOERR_FSYNC : real_of(f)->pMethods->xSync(real_of(f), flags);
}

static int f_truncate(sqlite3_file *f, sqlite3_int64 size)
{
	int rc = strike();

	if (rc == SQLITE_ABORT)
		_exit(0);
	return rc ? SQLITE_IOERR_TRUNCATE
		  : real_of(f)->pMethods->xTruncate(real_of(f), size);
}

static int f_close(sqlite3_file *f)
{
	return real_of(f)->pMethods->xClose(real_of(f));
}

static int f_read(sqlite3_file *f, void *p, int n, sqlite3_int64 at)
{
	return real_of(f)->pMethods->xRead(real_of(f), p, n, at);
}

static int f_size(sqlite3_file *f, sqlite3_int64 *size)
{
	return real_of(f)->pMethods->xFileSize(real_of(f), size);
}

static int f_lock(sqlite3_file *f, int level)
{
	return real_of(f)->pMethods->xLock(real_of(f), level);
}

static int f_unlock(sqlite3_file *f, int level)
{
	return real_of(f)->pMethods->xUnlock(real_of(f), level);
}

static int f_reserved(sqlite3_file *f, int *out)
{
	return real_of(f)->pMethods->xCheckReservedLock(real_of(f), out);
}

static int f_control(sqlite3_file *f, int op, void *arg)
{
	return real_of(f)->pMethods->xFileControl(real_of(f), op, arg);
}

static int f_sector(sqlite3_file *f)
{
	return real_of(f)->pMethods->xSectorSize(real_of(f));
}

static int f_device(sqlite3_file *f)
{
	return real_of(f)->pMethods->xDeviceCharacteristics(real_of(f));
}

static int f_shm_map(sqlite3_file *f, int page, int bytes, int extend,
		     void volatile **out)
{
	return real_of(f)->pMethods->xShmMap(real_of(f), page, bytes, extend, out);
}

static int f_shm_lock(sqlite3_file *f, int at, int n, int flags)
{
	return real_of(f)->pMethods->xShmLock(real_of(f), at, n, flags);
}

static void f_shm_barrier(sqlite3_file *f)
{
	real_of(f)->pMethods->xShmBarrier(real_of(f));
}

static int f_shm_unmap(sqlite3_file *f, int drop)
{
	return real_of(f)->pMethods->xShmUnmap(real_of(f), drop);
}

/* Version 2: shared memory for the WAL, no memory-mapped reads. */
static const sqlite3_io_methods fault_methods = {
	.iVersion = 2,
	.xClose = f_close,
	.xRead = f_read,
	.xWrite = f_write,
	.xTruncate = f_truncate,
	.xSync = f_sync,
	.xFileSize = f_size,
	.xLock = f_lock,
	.xUnlock = f_unlock,
	.xCheckReservedLock = f_reserved,
	.xFileControl = f_control,
	.xSectorSize = f_sector,
	.xDeviceCharacteristics = f_device,
	.xShmMap = f_shm_map,
	.xShmLock = f_shm_lock,
	.xShmBarrier = f_shm_barrier,
	.xShmUnmap = f_shm_unmap,
};

static int fault_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags,
		      int *out)
{
	struct fault_file *f = (struct fault_file *)file;
	int rc;

	UNUSED(vfs);
	f->real = (sqlite3_file *)(f + 1);
	rc = plan.real->xOpen(plan.real, name, f->real, flags, out);
	f->base.pMethods = f->real->pMethods ? &fault_methods : NULL;
	return rc;
}

static void fault_install(enum fault fault, int at)
{
	plan.real = sqlite3_vfs_find(NULL);
	plan.vfs = *plan.real;
	plan.vfs.zName = "fault";
	plan.vfs.szOsFile = (int)sizeof(struct fault_file) + plan.real->szOsFile;
	plan.vfs.xOpen = fault_open;
	plan.fault = fault;
	plan.at = at;
	sqlite3_vfs_register(&plan.vfs, 1);
}

/* ---- the child: works, and says what was acknowledged ---- */

struct writer {
	struct work *work;
	int number, turns_left;
	char id[64];
	int64_t turn;
	char text[REPLY_BYTES];
};

struct work {
	uv_loop_t loop;
	struct store *store;
	int fd;       /* the pipe */
	int failures; /* answers with an error */
	struct writer writers[WRITERS];
};

static void say(struct work *w, const char *kind, const char *id, int64_t turn)
{
	char line[128];
	int n = snprintf(line, sizeof(line), "%s %s %lld\n", kind, id, (long long)turn);

	ASSERT(write(w->fd, line, (size_t)n) == n);
}

static void next_turn(struct writer *w);

static void on_deleted(void *arg, const struct err *e)
{
	struct writer *w = arg;

	if (e->code == ERR_NONE)
		say(w->work, "deleted", w->id, w->turn);
	w->work->failures += e->code != ERR_NONE;
}

static void on_ended(void *arg, const struct err *e, const char *prompt,
		     const char *reply)
{
	struct writer *w = arg;

	UNUSED(prompt);
	UNUSED(reply);
	if (e->code == ERR_NONE)
		say(w->work, "ended", w->id, w->turn);
	w->work->failures += e->code != ERR_NONE;
	next_turn(w);
}

static void on_begun(void *arg, const struct err *e, const char *id, int64_t turn)
{
	struct writer *w = arg;
	struct store_turn_end end = {.status = "done", .tokens_out = 3, .cost_usd = -1};

	if (e->code != ERR_NONE) {
		w->work->failures++;
		next_turn(w);
		return;
	}
	snprintf(w->id, sizeof(w->id), "%s", id);
	w->turn = turn;
	say(w->work, "begun", w->id, w->turn);
	memset(w->text, 'a' + w->number, sizeof(w->text));
	end.len = (size_t)snprintf(w->text, sizeof(w->text), "reply to %lld",
				   (long long)turn);
	w->text[end.len] = ' ';
	end.len = sizeof(w->text);
	end.text = w->text;
	store_turn_partial(w->work->store, turn, w->text, sizeof(w->text) / 2);
	store_turn_end(w->work->store, turn, &end, on_ended, w);
}

static void next_turn(struct writer *w)
{
	char text[64];
	struct message m = {ROLE_USER, text, NULL};

	if (w->turns_left-- == 0) {
		if (w->number == 0 && w->id[0]) /* one writer forgets in the end */
			store_delete(w->work->store, w->id, on_deleted, w);
		return;
	}
	snprintf(text, sizeof(text), "writer %d, %d to go", w->number, w->turns_left);
	store_turn_begin(
		w->work->store,
		&(struct store_turn_begin){.conversation = w->id[0] ? w->id : "new",
					   .model = "m",
					   .provider = "p",
					   .messages = &m,
					   .n = 1},
		on_begun, w);
}

/* The exit status: 0 = all went well, 1 = something was refused. */
static int work(const char *path, int fd, int turns)
{
	struct work *w = xcalloc(1, sizeof(*w));
	struct err e = {0};

	uv_loop_init(&w->loop);
	w->fd = fd;
	w->store = store_open(&w->loop, path, &e);
	if (!w->store)
		return 1;
	for (int i = 0; i < WRITERS; i++) {
		w->writers[i] =
			(struct writer){.work = w, .number = i, .turns_left = turns};
		next_turn(&w->writers[i]);
	}
	uv_run(&w->loop, UV_RUN_DEFAULT);
	store_close(w->store, NULL, NULL);
	uv_run(&w->loop, UV_RUN_DEFAULT);
	return w->failures > 0;
}

/* ---- the parent: looks at what is left ---- */

/* _exit, or the leak checker would look at what the child never meant to free. */
static pid_t start(const char *path, int turns, enum fault fault, int at, int *out)
{
	int fds[2];
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		close(fds[0]);
		log_set_level(LOG_LV_ERROR);
		if (fault != FAULT_NONE)
			fault_install(fault, at);
		_exit(work(path, fds[1], turns));
	}
	close(fds[1]);
	*out = fds[0];
	return pid;
}

static void read_all(int fd, struct buf *b)
{
	char part[4096];
	ssize_t n;

	while ((n = read(fd, part, sizeof(part))) > 0)
		buf_add(b, part, (size_t)n);
	close(fd);
}

/* As the next hob does: unclean files are checked, running turns are settled. */
static void recover(const char *path)
{
	struct store *s;
	struct err e = {0};
	uv_loop_t loop;

	uv_loop_init(&loop);
	s = store_open(&loop, path, &e);
	if (!s)
		fail_msg("open again: %s", e.text);
	if (store_notice(s))
		fail_msg("open again: %s", store_notice(s));
	store_close(s, NULL, NULL);
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&loop), 0);
}

static int64_t ask(sqlite3 *db, const char *sql, int64_t turn, const char *id)
{
	sqlite3_stmt *st = NULL;
	int64_t v;

	assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &st, NULL), SQLITE_OK);
	sqlite3_bind_int64(st, 1, turn);
	if (id)
		sqlite3_bind_text(st, 2, id, -1, SQLITE_STATIC);
	v = sqlite3_step(st) == SQLITE_ROW ? sqlite3_column_int64(st, 0) : -1;
	sqlite3_finalize(st);
	return v;
}

static void check_sound(sqlite3 *db)
{
	assert_int_equal(ask(db,
			     "SELECT integrity_check = 'ok' FROM pragma_integrity_check",
			     0, NULL),
			 1);
	assert_int_equal(
		ask(db, "SELECT count(*) FROM pragma_foreign_key_check", 0, NULL), 0);
	assert_int_equal(sqlite3_exec(db,
				      "INSERT INTO message_fts (message_fts, rank) "
				      "VALUES ('integrity-check', 1)",
				      NULL, NULL, NULL),
			 SQLITE_OK);
	assert_int_equal(
		ask(db, "SELECT count(*) FROM turn WHERE status = 'running'", 0, NULL),
		0);
	/* no half turn: what is done has its reply, whole, under its prompt */
	assert_int_equal(
		ask(db,
		    "SELECT count(*) FROM turn t LEFT JOIN message m ON m.id = t.reply_id "
		    "WHERE t.status = 'done' AND (m.id IS NULL OR length(m.text) <> 700 OR "
		    "m.parent_id IS NOT t.prompt_id)",
		    0, NULL),
		0);
	/* a head stands on the newest whole reply or after it; an interrupted one, found at start
	 * after later turns went on without it, is a branch */
	assert_int_equal(
		ask(db,
		    "SELECT count(*) FROM session s WHERE head_id < (SELECT max(reply_id) "
		    "FROM turn WHERE session_id = s.id AND status = 'done')",
		    0, NULL),
		0);
}

/* A conversation may have gone because its deletion was committed and never acknowledged. */
static void check_line(sqlite3 *db, char *line)
{
	char *id = strchr(line, ' '), *number = id ? strchr(id + 1, ' ') : NULL;
	int64_t turn, there;

	assert_non_null(number);
	*id++ = *number++ = 0;
	turn = strtoll(number, NULL, 10);
	there = ask(db, "SELECT count(*) FROM session WHERE ?1 AND id = ?2", turn, id);
	if (!strcmp(line, "deleted")) {
		assert_int_equal(there, 0);
		return;
	}
	if (!there) /* writer 0 deletes */
		return;
	if (!strcmp(line, "ended"))
		there = ask(
			db,
			"SELECT instr(m.text, 'reply to ' || ?1 || ' ') FROM turn t JOIN message m "
			"ON m.id = t.reply_id WHERE t.id = ?1 AND t.session_id = ?2 AND "
			"t.status = 'done'",
			turn, id);
	else
		there = ask(db,
			    "SELECT count(*) FROM turn WHERE id = ?1 AND session_id = ?2",
			    turn, id);
	if (there != 1)
		fail_msg("%s turn %lld of %s was acknowledged and is lost", line,
			 (long long)turn, id);
}

/* Returns the number of acknowledgements found. */
static int check(const char *path, struct buf *said)
{
	sqlite3 *db = NULL;
	char *line, *rest = said->data, *newline;
	int lines = 0;

	recover(path);
	assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL),
			 SQLITE_OK);
	check_sound(db);
	for (; rest && (newline = strchr(rest, '\n')) != NULL; lines++) {
		line = rest;
		*newline = 0;
		rest = newline + 1;
		check_line(db, line);
	}
	sqlite3_close(db);
	return lines;
}

/* ---- folders and effort ---- */

static void make_dir(char dir[512])
{
	const char *tmp = getenv("TMPDIR");

	snprintf(dir, 512, "%s/hob-crash-XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(dir));
}

static void remove_dir(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *ent;
	char name[1024];

	while (d && (ent = readdir(d)) != NULL) {
		snprintf(name, sizeof(name), "%s/%s", dir, ent->d_name);
		unlink(name);
	}
	if (d)
		closedir(d);
	rmdir(dir);
}

static int effort(const char *variable, int otherwise)
{
	const char *text = getenv(variable);
	int64_t n;

	return text && str_to_i64(str_of(text), 1, 100000, &n) ? (int)n : otherwise;
}

/* ---- the tests ---- */

static void no_acknowledged_turn_is_lost_by_kill_9(void **state)
{
	int kills = effort("HOB_CRASH_KILLS", 50), lines = 0, early = 0;
	unsigned seed = (unsigned)time(NULL);
	char dir[512], path[600];

	UNUSED(state);
	make_dir(dir);
	snprintf(path, sizeof(path), "%s/memory.db", dir);
	print_message("seed %u\n", seed);
	for (int i = 0; i < kills; i++) {
		struct buf said = {0};
		int fd, found, status;
		pid_t pid = start(path, 1000000, FAULT_NONE, 0, &fd);

		usleep((useconds_t)(rand_r(&seed) %
				    60000)); /* the pipe holds what it says */
		kill(pid, SIGKILL);
		read_all(fd, &said);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status)); /* and did not end by itself */
		found = check(path, &said);
		early += found == 0;
		lines += found;
		buf_free(&said);
	}
	print_message("%d kills, %d acknowledgements, %d kills before the first\n", kills,
		      lines, early);
	assert_true(early < kills); /* else nothing was tested */
	remove_dir(dir);
}

/* One run: true when the work got through without meeting its fault. */
static bool run_fault(enum fault fault, int at, int *lines)
{
	char dir[512], path[600];
	struct buf said = {0};
	int fd, status, found;
	pid_t pid;

	make_dir(dir);
	snprintf(path, sizeof(path), "%s/memory.db", dir);
	pid = start(path, 3, fault, at, &fd);
	read_all(fd, &said);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (!WIFEXITED(status))
		fail_msg("%s at %d: the child crashed, status %d", fault_names[fault], at,
			 status);
	found = check(path, &said);
	*lines += found;
	buf_free(&said);
	remove_dir(dir);
	return found == WRITERS * 3 * 2 + 1 && WEXITSTATUS(status) == 0;
}

/* The end is where several points in a row change nothing: the fault is beyond the last write.
 * (A checkpoint that fails is tried again later, so single points may pass before.) */
static void no_acknowledged_turn_is_lost_by_a_failing_disk(void **state)
{
	enum { ENOUGH = 8, LIMIT = 5000 };
	int stride = effort("HOB_CRASH_STRIDE", 7), runs = 0, lines = 0;

	UNUSED(state);
	for (enum fault f = FAULT_FAIL; f < FAULT_NR; f++) {
		int passed = 0, at = 1;

		for (; passed < ENOUGH && at < LIMIT; at += stride) {
			passed = run_fault(f, at, &lines) ? passed + 1 : 0;
			runs++;
		}
		assert_true(at > ENOUGH * stride + 1); /* it did strike */
		assert_true(at < LIMIT);
	}
	print_message("%d runs, %d acknowledgements\n", runs, lines);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_acknowledged_turn_is_lost_by_kill_9),
		cmocka_unit_test(no_acknowledged_turn_is_lost_by_a_failing_disk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
