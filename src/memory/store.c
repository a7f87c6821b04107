/* The writer's thread, the jobs it is sent, and the way their answers come back.
 *
 * One thread and one connection, not uv_queue_work: the pool's four threads also serve files and
 * DNS, would reorder jobs and queue up behind one connection.  Jobs that wait together are run
 * in one transaction, each in a savepoint of its own, and all of them are answered after its
 * COMMIT; when the COMMIT fails all of them fail, reads too, because they saw what is now gone.
 * uv_async_send coalesces, so it is only a wake-up: the list of results is the message. */
#include "memory/store_aside.h"

#include <signal.h>
#include "base/clock.h"
#include "base/log.h"
#include "memory/dbfile.h"
#include "memory/schema.h"
#include "memory/tree.h"

enum {
	STORE_MAX_JOBS = 1024,           /* accepted and not yet answered */
	STORE_END_RESERVE = 256,         /* more, for the end of turns that have begun */
	STORE_MAX_JOB_BYTES = 128 << 20, /* that all of them together may copy */
	STORE_MAX_GROUP = 256,           /* jobs in one transaction */
	STORE_IDLE_MS = 30000,
	STORE_QUIET_MS =
		30 * 60 * 1000, /* while nothing is asked things grow old all the same */
	STORE_LOG_PAGES = 4000, /* 16 MiB: a longer log is written into the file */
};

struct store {
	/* loop thread */
	uv_loop_t *loop;
	uv_async_t wake;
	uv_timer_t idle;
	uv_thread_t thread;
	int pending;
	size_t pending_bytes;
	int open_handles;
	bool closing, handles_closing;
	void (*done)(void *arg);
	void *done_arg;
	struct keep keep;

	/* between the threads */
	struct queue jobs, results;
	struct aside aside; /* unless the file is in memory */

	/* store thread; file.path and file.notice are constant and read by both */
	struct dbfile file;
	struct sql sql;
	bool suspected;
	int log_pages;
	struct store_job last; /* the store thread's farewell */
};

/* ---- store thread: groups ---- */

static int control(struct store *s, enum sql_id id, struct err *e)
{
	return sql_run(&s->sql, sql_bind(&s->sql, id, ""), e);
}

static struct store_job *job_next(struct store_job *j)
{
	return j->item.next ? CONTAINER_OF(j->item.next, struct store_job, item) : NULL;
}

/* All of [from, end) that had succeeded did so in a transaction that is gone. */
static void fail_group(struct store_job *from, struct store_job *end,
		       const struct err *why)
{
	for (; from != end; from = job_next(from))
		if (from->err.code == ERR_NONE)
			from->err = *why;
}

static int run_job(struct store *s, struct store_job *j)
{
	if (j->flags & STORE_FORGETS &&
	    schema_limit(s->sql.db, s->sql.max_bytes + STORE_FORGET_BYTES, &j->err) < 0)
		return -1;
	return j->op->run(&s->sql, j);
}

/* Runs a writing job inside a savepoint; false when SQLite gave up the whole transaction. */
static bool run_saved(struct store *s, struct store_job *j)
{
	struct err ignored;

	if (control(s, SQL_SAVEPOINT, &j->err) == 0 && run_job(s, j) == 0 &&
	    control(s, SQL_RELEASE, &j->err) == 0)
		return true;
	if (sqlite3_get_autocommit(s->sql.db))
		return false;
	control(s, SQL_UNDO, &ignored);
	control(s, SQL_RELEASE, &ignored);
	return true;
}

/* Runs jobs up to `end` in one transaction, opened by the first that writes. */
static void run_group(struct store *s, struct store_job *first, struct store_job *end)
{
	struct store_job *from = first;
	struct err e = {0};
	bool open = false;

	for (struct store_job *j = first; j != end; j = job_next(j)) {
		if (!(j->flags & STORE_WRITES)) {
			run_job(s, j);
			continue;
		}
		if (s->sql.read_only) {
			err_set(&j->err, ERR_UNSUPPORTED, "memory is read-only: %.400s",
				s->file.notice);
			continue;
		}
		if (!open && control(s, SQL_BEGIN, &j->err) < 0)
			continue;
		if (!open)
			from = j;
		open = run_saved(s, j);
		if (!open)
			fail_group(from, j, &j->err);
	}
	if (!open || control(s, SQL_COMMIT, &e) == 0)
		return;
	fail_group(from, end, &e);
	if (!sqlite3_get_autocommit(s->sql.db))
		control(s, SQL_ROLLBACK, &e);
}

static int scrub(struct store *s, struct err *e)
{
	int rc;

	if (s->file.in_memory)
		return keep_scrub(&s->sql, e);
	aside_hold(&s->aside); /* a reader would keep the log from being emptied */
	rc = keep_scrub(&s->sql, e);
	aside_release(&s->aside);
	return rc;
}

static void scrub_group(struct store *s, struct store_job *first, struct store_job *end)
{
	bool any = false, deleted = false;
	struct err e = {0};

	for (struct store_job *j = first; j != end; j = job_next(j)) {
		any |= j->flags & STORE_FORGETS;
		deleted |= j->flags & STORE_FORGETS && j->err.code == ERR_NONE;
	}
	if (deleted && scrub(s, &e) < 0) {
		err_wrap(&e, "deleted, but traces of the text remain in the file");
		for (struct store_job *j = first; j != end; j = job_next(j))
			if (j->flags & STORE_FORGETS && j->err.code == ERR_NONE)
				j->err = e;
	}
	if (any && !s->sql.read_only)
		schema_limit(s->sql.db, s->sql.max_bytes, &e);
}

/* Once for a group, in each of its jobs: the loop thread's figures are messages like any other. */
static void measure_group(struct store *s, struct store_job *first, struct store_job *end)
{
	struct store_measure m = {0};
	unsigned flags = 0;

	for (struct store_job *j = first; j != end; j = job_next(j))
		flags |= j->flags;
	if (flags & (STORE_WRITES | STORE_NO_UNDO))
		keep_measure(&s->sql, &m);
	for (struct store_job *j = first; j != end; j = job_next(j))
		j->measure = m;
}

void store_ran(struct store_job *j, const char *path, bool *suspected)
{
	if (j->err.code != ERR_NONE)
		err_wrap(&j->err, "%s", j->op->what);
	if (j->err.code == ERR_CORRUPT && !*suspected) {
		*suspected = true;
		dbfile_suspect(path);
	}
}

static void answer(struct store *s, struct store_job *j)
{
	store_ran(j, s->file.path, &s->suspected);
	ASSERT(queue_push(&s->results, &j->item));
}

/* Up to STORE_MAX_GROUP jobs; one that manages transactions itself stands alone. */
static struct store_job *group_end(struct store_job *first)
{
	struct store_job *end = job_next(first);

	if (first->flags & STORE_NO_UNDO)
		return end;
	for (int n = 1; end && n < STORE_MAX_GROUP && !(end->flags & STORE_NO_UNDO); n++)
		end = job_next(end);
	return end;
}

static int on_commit(void *arg, sqlite3 *db, const char *name, int pages)
{
	UNUSED(db);
	UNUSED(name);
	((struct store *)arg)->log_pages = pages;
	return SQLITE_OK;
}

/* SQLite would do this inside a COMMIT that somebody waits for; here they have their answers. */
static void shorten_log(struct store *s)
{
	if (s->log_pages < STORE_LOG_PAGES)
		return;
	s->log_pages =
		0; /* a reader may keep it long: not again before more is written */
	sqlite3_wal_checkpoint_v2(s->sql.db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
}

static void run_chain(struct store *s, struct store_job *first)
{
	while (first) {
		struct store_job *end = group_end(first), *next;

		if (first->flags & STORE_NO_UNDO)
			run_job(s, first);
		else
			run_group(s, first, end);
		scrub_group(s, first, end);
		measure_group(s, first, end);
		for (; first != end; first = next) {
			next = job_next(first); /* answering hands the job over */
			answer(s, first);
		}
		uv_async_send(&s->wake);
		shorten_log(s);
	}
}

static void store_thread(void *arg)
{
	struct store *s = arg;
	struct queue_item *chain;

	sqlite3_wal_hook(s->sql.db, on_commit, s); /* in place of wal_autocheckpoint */
	while ((chain = queue_wait_all(&s->jobs)) != NULL)
		run_chain(s, CONTAINER_OF(chain, struct store_job, item));
	if (!s->file.in_memory)
		aside_join(&s->aside);
	if (!s->sql.read_only) {
		sqlite3_wal_checkpoint_v2(s->sql.db, NULL, SQLITE_CHECKPOINT_TRUNCATE,
					  NULL, NULL);
	}
	sql_close(&s->sql);
	ASSERT(queue_push(&s->results, &s->last.item));
	uv_async_send(&s->wake);
}

/* ---- loop thread: answers ---- */

static void job_free(struct store_job *j)
{
	if (j->op->free)
		j->op->free(j);
	free(j);
}

static void finish(struct store *s, struct store_job *j)
{
	s->pending_bytes -= j->bytes;
	if (--s->pending == 0 && !s->closing) /* an idle store keeps no loop alive */
		uv_unref((uv_handle_t *)&s->wake);
	keep_measured(s, j);
	if (j->op->tell)
		j->op->tell(j);
	else if (j->err.code != ERR_NONE)
		log_warn("memory: %s", j->err.text);
	job_free(j);
	keep_work(s);
}

/* True once the store thread has said its last word. */
static bool deliver(struct store *s)
{
	struct queue_item *it = queue_take_all(&s->results), *next;
	bool ended = false;

	for (; it; it = next) {
		struct store_job *j = CONTAINER_OF(it, struct store_job, item);

		next = it->next;
		if (j == &s->last)
			ended = true;
		else
			finish(s, j);
	}
	return ended;
}

static void on_closed(uv_handle_t *h)
{
	struct store *s = h->data;
	void (*done)(void *arg) = s->done;
	void *arg = s->done_arg;

	if (--s->open_handles > 0)
		return;
	while (s->pending >
	       0) /* what was asked after store_close, and refused; and again */
		deliver(s);
	if (!s->file.in_memory)
		aside_fini(&s->aside);
	queue_fini(&s->jobs);
	queue_fini(&s->results);
	dbfile_close(&s->file);
	keep_free(&s->keep);
	free(s);
	if (done)
		done(arg);
}

static void on_wake(uv_async_t *wake)
{
	struct store *s = wake->data;

	if (s->handles_closing || !deliver(s))
		return;
	s->handles_closing = true;
	uv_thread_join(&s->thread);
	uv_close((uv_handle_t *)&s->wake, on_closed);
	uv_close((uv_handle_t *)&s->idle, on_closed);
}

/* ---- loop thread: questions ---- */

char *store_copy(struct store_job *j, const char *text, size_t len)
{
	j->bytes += len;
	return xstrndup(text ? text : "", text ? len : 0);
}

char *store_copy_str(struct store_job *j, const char *text)
{
	return store_copy(j, text, text ? strlen(text) : 0);
}

char *store_copy_or_null(struct store_job *j, const char *text)
{
	return text ? store_copy_str(j, text) : NULL;
}

struct message *store_copy_messages(struct store_job *j, const struct message *m, int n)
{
	struct message *out = xcalloc((size_t)n + 1, sizeof(*out));

	for (int i = 0; i < n; i++) {
		out[i].role = m[i].role;
		out[i].text = store_copy_str(j, m[i].text);
		out[i].raw_json = store_copy_or_null(j, m[i].raw_json);
	}
	return out;
}

void store_free_messages(struct message *m, int n)
{
	for (int i = 0; i < n; i++) {
		free(m[i].text);
		free(m[i].raw_json);
	}
	free(m);
}

void *store_job_new(size_t bytes, const struct store_op *op, void *arg)
{
	struct store_job *j = xcalloc(1, bytes);

	j->op = op;
	j->flags = op->flags;
	j->arg = arg;
	j->bytes = bytes;
	return j;
}

/* What was begun should be ended; what nobody waits for is the first to go. */
static int admit(const struct store *s, const struct store_job *j, struct err *e)
{
	int max = j->flags & STORE_RESERVED   ? STORE_MAX_JOBS + STORE_END_RESERVE
		  : j->flags & STORE_OPTIONAL ? STORE_MAX_JOBS / 2
					      : STORE_MAX_JOBS;

	if (s->closing)
		return err_set(e, ERR_CANCELLED, "memory is closing");
	if (s->pending >= max)
		return err_set(e, ERR_BUSY, "memory is behind: %d jobs wait", s->pending);
	if (s->pending > 0 && s->pending_bytes + j->bytes > STORE_MAX_JOB_BYTES)
		return err_set(e, ERR_BUSY, "memory is behind: %zu bytes wait",
			       s->pending_bytes);
	return 0;
}

bool store_is_idle(const struct store *s)
{
	return s->pending == 0 && !s->closing;
}

struct keep *store_keep_of(struct store *s)
{
	return &s->keep;
}

void store_submit(struct store *s, struct store_job *j)
{
	bool ok = admit(s, j, &j->err) == 0;

	if (!ok && j->flags & STORE_OPTIONAL) {
		job_free(j);
		return;
	}
	s->pending_bytes += j->bytes;
	if (s->pending++ == 0 && !s->handles_closing)
		uv_ref((uv_handle_t *)&s->wake);
	if (ok && !(j->flags & STORE_OWN))
		uv_timer_again(&s->idle);
	if (!ok)
		ASSERT(queue_push(&s->results, &j->item));
	else if (j->flags & STORE_ASIDE && !s->file.in_memory)
		ASSERT(aside_submit(&s->aside, j));
	else
		ASSERT(queue_push(&s->jobs, &j->item));
	if (!ok && !s->handles_closing)
		uv_async_send(&s->wake);
}

/* ---- when nothing is asked ---- */

static int run_idle(struct sql *q, struct store_job *j)
{
	if (q->read_only || !sqlite3_get_autocommit(q->db))
		return 0;
	sql_run(q, sql_bind(q, SQL_FTS_MERGE, ""), &j->err);
	schema_exec(q->db, "PRAGMA incremental_vacuum(256)", "shrink", &j->err);
	sqlite3_wal_checkpoint_v2(q->db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
	return 0;
}

static const struct store_op idle_op = {
	.what = "tidy up",
	.flags = STORE_OPTIONAL | STORE_NO_UNDO | STORE_OWN,
	.run = run_idle,
};

static void on_idle(uv_timer_t *timer)
{
	struct store *s = timer->data;

	uv_timer_start(timer, on_idle, STORE_QUIET_MS, STORE_IDLE_MS);
	keep_tick(s);
	if (!s->closing)
		store_submit(s, store_job_new(sizeof(struct store_job), &idle_op, NULL));
}

/* ---- opening and closing ---- */

/* Signals are the loop's; none may pick this thread. */
static int start_thread(struct store *s)
{
	sigset_t all, old;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = uv_thread_create(&s->thread, store_thread, s);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return rc;
}

static int settle(struct store *s, struct err *e)
{
	struct err ignored;

	if (s->sql.read_only)
		return 0;
	if (control(s, SQL_BEGIN, e) == 0 &&
	    tree_settle(&s->sql, clock_unix_ms(), e) == 0 &&
	    control(s, SQL_COMMIT, e) == 0)
		return 0;
	if (!sqlite3_get_autocommit(s->sql.db))
		control(s, SQL_ROLLBACK, &ignored);
	return err_wrap(e, "settle interrupted turns");
}

static int open_once(struct store *s, const char *path, struct err *e)
{
	sqlite3 *db;

	if (dbfile_open(&s->file, path, e) < 0)
		return -1;
	db = s->file.db;
	s->file.db = NULL;
	if (sql_open(&s->sql, db, s->file.read_only, e) == 0 && settle(s, e) == 0) {
		s->sql.max_bytes = s->file.max_bytes;
		return 0;
	}
	if (e->code == ERR_CORRUPT)
		dbfile_suspect(path);
	sql_close(&s->sql);
	dbfile_close(&s->file);
	return -1;
}

/* Damage that only the first writes met: the second try finds the mark, checks the whole file and
 * sets it aside. */
static int open_file(struct store *s, const char *path, struct err *e)
{
	if (open_once(s, path, e) == 0)
		return 0;
	if (e->code != ERR_CORRUPT)
		return -1;
	*e = (struct err){0};
	return open_once(s, path, e);
}

/* libuv's handles cannot be given back without the loop running, so what may fail for reasons of
 * the outside comes first; out of descriptors or threads at start is fatal. */
struct store *store_open(uv_loop_t *loop, const char *path, struct err *e)
{
	struct store *s = xcalloc(1, sizeof(*s));

	s->loop = loop;
	if (open_file(s, path, e) < 0) {
		free(s);
		return NULL;
	}
	keep_open(s, &s->sql);
	queue_init(&s->jobs, 0); /* bounded by admit() */
	queue_init(&s->results, 0);
	ASSERT(uv_async_init(loop, &s->wake, on_wake) == 0);
	ASSERT(uv_timer_init(loop, &s->idle) == 0);
	s->wake.data = s->idle.data = s;
	s->open_handles = 2;
	uv_unref((uv_handle_t *)&s->wake);
	uv_timer_start(&s->idle, on_idle, STORE_IDLE_MS, STORE_IDLE_MS);
	uv_unref((uv_handle_t *)&s->idle);
	if (!s->file.in_memory)
		aside_start(&s->aside, s->file.path, &s->results, &s->wake);
	ASSERT(start_thread(s) == 0);
	return s;
}

const char *store_notice(const struct store *s)
{
	return s->file.notice;
}

void store_close(struct store *s, void (*done)(void *arg), void *arg)
{
	ASSERT(!s->closing);
	s->closing = true;
	s->done = done;
	s->done_arg = arg;
	uv_timer_stop(&s->idle);
	uv_ref((uv_handle_t *)&s->wake);
	if (!s->file.in_memory)
		aside_stop(&s->aside);
	queue_close(&s->jobs);
}
