/* The store thread, the jobs it is sent, and the way their answers come back.
 *
 * One thread and one connection, not uv_queue_work: the pool's four threads also serve files and
 * DNS, would reorder jobs and queue up behind one connection.  Jobs that wait together are run
 * in one transaction, each in a savepoint of its own, and all of them are answered after its
 * COMMIT; when the COMMIT fails all of them fail, reads too, because they saw what is now gone.
 * uv_async_send coalesces, so it is only a wake-up: the list of results is the message. */
#include "memory/store.h"

#include <signal.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/queue.h"
#include "memory/dbfile.h"
#include "memory/schema.h"
#include "memory/tree.h"

enum {
	STORE_MAX_JOBS = 1024,           /* accepted and not yet answered */
	STORE_END_RESERVE = 256,         /* more, for the end of turns that have begun */
	STORE_MAX_JOB_BYTES = 128 << 20, /* that all of them together may copy */
	STORE_MAX_GROUP = 256,           /* jobs in one transaction */
	STORE_FORGET_BYTES =
		4 << 20, /* deleting needs pages too: room beyond the limit */
	STORE_IDLE_MS = 30000,
};

enum job_kind {
	JOB_PATH,
	JOB_BEGIN,
	JOB_PARTIAL,
	JOB_END,
	JOB_LIST,
	JOB_GET,
	JOB_DELETE,
	JOB_IDLE,
	JOB_LAST
};

union job_cb {
	store_path_cb *path;
	store_list_cb *list;
	store_turn_cb *turn;
	store_done_cb *done;
};

/* Belongs to the loop thread, then to the store thread, then to the loop thread again. */
struct job {
	struct queue_item item;
	enum job_kind kind;
	union job_cb cb;
	void *arg;
	size_t bytes; /* what it counts for in pending_bytes */

	/* the question; all owned */
	char *conversation, *model, *provider, *text, *status, *error;
	struct message *messages;
	int n, limit;
	int64_t turn;
	struct store_turn_end end;

	/* the answer */
	struct err err;
	char id[CONVERSATION_ID_BYTES];
	struct tree_path path;
	struct tree_list list;
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

	/* between the threads */
	struct queue jobs, results;

	/* store thread; file.path and file.notice are constant and read by both */
	struct dbfile file;
	struct sql sql;
	bool suspected;
	struct job last; /* the store thread's farewell */
};

/* ---- store thread: one job ---- */

static int run_path(struct store *s, struct job *j)
{
	if (tree_resolve(&s->sql, j->conversation, j->model, clock_unix_ms(), j->id,
			 &j->err) < 0)
		return -1;
	return tree_path(&s->sql, j->id, &j->path, &j->err);
}

static int run_begin(struct store *s, struct job *j)
{
	int64_t now = clock_unix_ms();

	if (tree_resolve(&s->sql, j->conversation, j->model, now, j->id, &j->err) < 0)
		return -1;
	return tree_turn_begin(&s->sql, j->id, j->model, j->provider, j->messages, j->n,
			       now, &j->turn, &j->err);
}

static int run_partial(struct store *s, struct job *j)
{
	return tree_turn_partial(&s->sql, j->turn, j->text, j->end.len, &j->err);
}

static int run_end(struct store *s, struct job *j)
{
	return tree_turn_end(&s->sql, j->turn, &j->end, clock_unix_ms(), &j->err);
}

static int run_list(struct store *s, struct job *j)
{
	return tree_list(&s->sql, NULL, j->limit, &j->list, &j->err);
}

/* An existing conversation by id or "last"; "new" is none. */
static int resolve_old(struct store *s, struct job *j)
{
	if (!strcmp(j->conversation, "new"))
		return err_set(&j->err, ERR_INVALID, "'new' is not a conversation yet");
	return tree_resolve(&s->sql, j->conversation, NULL, 0, j->id, &j->err);
}

static int run_get(struct store *s, struct job *j)
{
	if (resolve_old(s, j) < 0)
		return -1;
	return tree_list(&s->sql, j->id, 1, &j->list, &j->err);
}

static int run_delete(struct store *s, struct job *j)
{
	if (resolve_old(s, j) < 0 ||
	    schema_limit(s->sql.db, (int64_t)DBFILE_MAX_BYTES + STORE_FORGET_BYTES,
			 &j->err) < 0)
		return -1;
	return tree_delete(&s->sql, j->id, &j->err);
}

static int run_idle(struct store *s, struct job *j)
{
	if (s->sql.read_only || !sqlite3_get_autocommit(s->sql.db))
		return 0;
	sql_run(&s->sql, sql_bind(&s->sql, SQL_FTS_MERGE, ""), &j->err);
	schema_exec(s->sql.db, "PRAGMA incremental_vacuum(256)", "shrink", &j->err);
	sqlite3_wal_checkpoint_v2(s->sql.db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
	return 0;
}

static const struct job_type {
	const char *what;
	int (*run)(struct store *s, struct job *j);
	bool writes;
} job_types[] = {
	[JOB_PATH] = {"read a conversation", run_path, false},
	[JOB_BEGIN] = {"begin a turn", run_begin, true},
	[JOB_PARTIAL] = {"keep a partial answer", run_partial, true},
	[JOB_END] = {"end a turn", run_end, true},
	[JOB_LIST] = {"list conversations", run_list, false},
	[JOB_GET] = {"read a conversation's row", run_get, false},
	[JOB_DELETE] = {"delete a conversation", run_delete, true},
	[JOB_IDLE] = {"tidy up", run_idle, false},
};

static bool job_writes(const struct job *j)
{
	return job_types[j->kind].writes ||
	       (j->kind == JOB_PATH && !strcmp(j->conversation, "new"));
}

/* ---- store thread: groups ---- */

static int control(struct store *s, enum sql_id id, struct err *e)
{
	return sql_run(&s->sql, sql_bind(&s->sql, id, ""), e);
}

static struct job *job_next(struct job *j)
{
	return j->item.next ? CONTAINER_OF(j->item.next, struct job, item) : NULL;
}

/* All of [from, end) that had succeeded did so in a transaction that is gone. */
static void fail_group(struct job *from, struct job *end, const struct err *why)
{
	for (; from != end; from = job_next(from))
		if (from->err.code == ERR_NONE)
			from->err = *why;
}

/* Runs a writing job inside a savepoint; false when SQLite gave up the whole transaction. */
static bool run_saved(struct store *s, struct job *j)
{
	struct err ignored;

	if (control(s, SQL_SAVEPOINT, &j->err) == 0 &&
	    job_types[j->kind].run(s, j) == 0 && control(s, SQL_RELEASE, &j->err) == 0)
		return true;
	if (sqlite3_get_autocommit(s->sql.db))
		return false;
	control(s, SQL_UNDO, &ignored);
	control(s, SQL_RELEASE, &ignored);
	return true;
}

/* Runs jobs up to `end` in one transaction, opened by the first that writes. */
static void run_group(struct store *s, struct job *first, struct job *end)
{
	struct job *from = first;
	struct err e = {0};
	bool open = false;

	for (struct job *j = first; j != end; j = job_next(j)) {
		if (!job_writes(j)) {
			job_types[j->kind].run(s, j);
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

/* Deleted text lives on in the search index until it is merged and in the WAL until that is
 * emptied: a deletion counts only after both. */
static int scrub(struct store *s, struct err *e)
{
	int rc;

	if (control(s, SQL_FTS_OPTIMIZE, e) < 0)
		return -1;
	if (schema_exec(s->sql.db, "PRAGMA incremental_vacuum", "shrink", e) < 0)
		return -1;
	rc = sqlite3_wal_checkpoint_v2(s->sql.db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL,
				       NULL);
	return rc == SQLITE_OK ? 0 : sql_err(s->sql.db, rc, "empty the log", e);
}

static void scrub_group(struct store *s, struct job *first, struct job *end)
{
	bool any = false, deleted = false;
	struct err e = {0};

	for (struct job *j = first; j != end; j = job_next(j)) {
		any |= j->kind == JOB_DELETE;
		deleted |= j->kind == JOB_DELETE && j->err.code == ERR_NONE;
	}
	if (deleted && scrub(s, &e) < 0) {
		err_wrap(&e, "deleted, but traces of the text remain in the file");
		for (struct job *j = first; j != end; j = job_next(j))
			if (j->kind == JOB_DELETE && j->err.code == ERR_NONE)
				j->err = e;
	}
	if (any && !s->sql.read_only)
		schema_limit(s->sql.db, DBFILE_MAX_BYTES, &e);
}

static void answer(struct store *s, struct job *j)
{
	if (j->err.code != ERR_NONE)
		err_wrap(&j->err, "%s", job_types[j->kind].what);
	if (j->err.code == ERR_CORRUPT && !s->suspected) {
		s->suspected = true;
		dbfile_suspect(s->file.path);
	}
	ASSERT(queue_push(&s->results, &j->item));
}

static void run_chain(struct store *s, struct job *first)
{
	while (first) {
		struct job *end = first, *next;

		for (int n = 0; end && n < STORE_MAX_GROUP; n++)
			end = job_next(end);
		run_group(s, first, end);
		scrub_group(s, first, end);
		for (; first != end; first = next) {
			next = job_next(first); /* answering hands the job over */
			answer(s, first);
		}
		uv_async_send(&s->wake);
	}
}

static void store_thread(void *arg)
{
	struct store *s = arg;
	struct queue_item *chain;

	while ((chain = queue_wait_all(&s->jobs)) != NULL)
		run_chain(s, CONTAINER_OF(chain, struct job, item));
	if (!s->sql.read_only) {
		sqlite3_exec(s->sql.db, "PRAGMA optimize", NULL, NULL, NULL);
		sqlite3_wal_checkpoint_v2(s->sql.db, NULL, SQLITE_CHECKPOINT_TRUNCATE,
					  NULL, NULL);
	}
	sql_close(&s->sql);
	ASSERT(queue_push(&s->results, &s->last.item));
	uv_async_send(&s->wake);
}

/* ---- loop thread: answers ---- */

static void job_free(struct job *j)
{
	for (int i = 0; i < j->n; i++) {
		free(j->messages[i].text);
		free(j->messages[i].raw_json);
	}
	free(j->messages);
	free(j->conversation);
	free(j->model);
	free(j->provider);
	free(j->text);
	free(j->status);
	free(j->error);
	tree_path_free(&j->path);
	tree_list_free(&j->list);
	free(j);
}

/* Failed jobs may hold results of a transaction that was rolled back: not shown. */
static void call_back(struct job *j)
{
	bool ok = j->err.code == ERR_NONE;
	const char *id = ok ? j->id : NULL;

	switch (j->kind) {
	case JOB_PATH:
		j->cb.path(j->arg, &j->err, id, ok ? j->path.messages : NULL,
			   ok ? j->path.n : 0);
		break;
	case JOB_BEGIN:
		j->cb.turn(j->arg, &j->err, id, ok ? j->turn : 0);
		break;
	case JOB_LIST:
	case JOB_GET:
		j->cb.list(j->arg, &j->err, ok ? j->list.items : NULL,
			   ok ? j->list.n : 0);
		break;
	case JOB_END:
	case JOB_DELETE:
		j->cb.done(j->arg, &j->err);
		break;
	case JOB_PARTIAL:
	case JOB_IDLE:
		if (!ok)
			log_warn("memory: %s", j->err.text);
		break;
	case JOB_LAST:
		ASSERT(!"the last job has no answer");
	}
}

static void finish(struct store *s, struct job *j)
{
	s->pending_bytes -= j->bytes;
	if (--s->pending == 0 && !s->closing) /* an idle store keeps no loop alive */
		uv_unref((uv_handle_t *)&s->wake);
	call_back(j);
	job_free(j);
}

/* True once the store thread has said its last word. */
static bool deliver(struct store *s)
{
	struct queue_item *it = queue_take_all(&s->results), *next;
	bool ended = false;

	for (; it; it = next) {
		struct job *j = CONTAINER_OF(it, struct job, item);

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
	deliver(s); /* what was asked after store_close, and refused */
	ASSERT(s->pending == 0);
	queue_fini(&s->jobs);
	queue_fini(&s->results);
	dbfile_close(&s->file);
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

static char *copy(struct job *j, const char *text, size_t len)
{
	j->bytes += len;
	return xstrndup(text ? text : "", text ? len : 0);
}

static char *copy_str(struct job *j, const char *text)
{
	return copy(j, text, text ? strlen(text) : 0);
}

static struct job *job_new(enum job_kind kind, union job_cb cb, void *arg)
{
	struct job *j = xcalloc(1, sizeof(*j));

	*j = (struct job){.kind = kind, .cb = cb, .arg = arg, .bytes = sizeof(*j)};
	return j;
}

/* Ends of turns may use a reserve: what was begun should be ended.  Partial texts are the first
 * to go. */
static int admit(const struct store *s, const struct job *j, struct err *e)
{
	int max = j->kind == JOB_END       ? STORE_MAX_JOBS + STORE_END_RESERVE
		  : j->kind == JOB_PARTIAL ? STORE_MAX_JOBS / 2
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

static void submit(struct store *s, struct job *j)
{
	bool ok = admit(s, j, &j->err) == 0;

	if (!ok && (j->kind == JOB_PARTIAL || j->kind == JOB_IDLE)) {
		job_free(j); /* nobody waits for it */
		return;
	}
	s->pending_bytes += j->bytes;
	if (s->pending++ == 0 && !s->handles_closing)
		uv_ref((uv_handle_t *)&s->wake);
	if (ok && j->kind != JOB_IDLE)
		uv_timer_again(&s->idle);
	ASSERT(queue_push(ok ? &s->jobs : &s->results, &j->item));
	if (!ok && !s->handles_closing)
		uv_async_send(&s->wake);
}

void store_path(struct store *s, const char *conversation, const char *model,
		store_path_cb *cb, void *arg)
{
	struct job *j = job_new(JOB_PATH, (union job_cb){.path = cb}, arg);

	j->conversation = copy_str(j, conversation);
	j->model = copy_str(j, model);
	submit(s, j);
}

void store_turn_begin(struct store *s, const char *conversation, const char *model,
		      const char *provider, const struct message *messages, int n,
		      store_turn_cb *cb, void *arg)
{
	struct job *j = job_new(JOB_BEGIN, (union job_cb){.turn = cb}, arg);

	j->conversation = copy_str(j, conversation);
	j->model = copy_str(j, model);
	j->provider = copy_str(j, provider);
	j->messages = xcalloc((size_t)n + 1, sizeof(*j->messages));
	for (; j->n < n; j->n++) {
		const struct message *m = &messages[j->n];

		j->messages[j->n].role = m->role;
		j->messages[j->n].text = copy_str(j, m->text);
		j->messages[j->n].raw_json =
			m->raw_json ? copy_str(j, m->raw_json) : NULL;
	}
	submit(s, j);
}

void store_turn_partial(struct store *s, int64_t turn, const char *text, size_t len)
{
	struct job *j = job_new(JOB_PARTIAL, (union job_cb){0}, NULL);

	j->turn = turn;
	j->text = copy(j, text, len);
	j->end.len = strlen(j->text);
	submit(s, j);
}

void store_turn_end(struct store *s, int64_t turn, const struct store_turn_end *end,
		    store_done_cb *cb, void *arg)
{
	struct job *j = job_new(JOB_END, (union job_cb){.done = cb}, arg);

	j->turn = turn;
	j->end = *end;
	j->end.text = j->text = copy(j, end->text, end->len);
	j->end.len = strlen(j->text);
	j->end.status = j->status = copy_str(j, end->status);
	j->error = end->error ? copy_str(j, end->error) : NULL;
	j->end.error = j->error;
	j->end.model = j->model = end->model ? copy_str(j, end->model) : NULL;
	j->end.provider = j->provider = end->provider ? copy_str(j, end->provider) : NULL;
	submit(s, j);
}

void store_list(struct store *s, int limit, store_list_cb *cb, void *arg)
{
	struct job *j = job_new(JOB_LIST, (union job_cb){.list = cb}, arg);

	j->limit = limit;
	submit(s, j);
}

void store_get(struct store *s, const char *conversation, store_list_cb *cb, void *arg)
{
	struct job *j = job_new(JOB_GET, (union job_cb){.list = cb}, arg);

	j->conversation = copy_str(j, conversation);
	submit(s, j);
}

void store_delete(struct store *s, const char *conversation, store_done_cb *cb, void *arg)
{
	struct job *j = job_new(JOB_DELETE, (union job_cb){.done = cb}, arg);

	j->conversation = copy_str(j, conversation);
	submit(s, j);
}

bool store_repeats_system(const struct store_message *path, int n,
			  const struct message *m)
{
	for (int i = 0; m->role == ROLE_SYSTEM && i < n; i++)
		if (path[i].role == ROLE_SYSTEM && !strcmp(path[i].text, m->text))
			return true;
	return false;
}

/* ---- opening and closing ---- */

static void on_idle(uv_timer_t *timer)
{
	struct store *s = timer->data;

	uv_timer_stop(timer);
	if (!s->closing)
		submit(s, job_new(JOB_IDLE, (union job_cb){0}, NULL));
}

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
	if (sql_open(&s->sql, db, s->file.read_only, e) == 0 && settle(s, e) == 0)
		return 0;
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
	s->last.kind = JOB_LAST;
	if (open_file(s, path, e) < 0) {
		free(s);
		return NULL;
	}
	queue_init(&s->jobs, 0); /* bounded by admit() */
	queue_init(&s->results, 0);
	ASSERT(uv_async_init(loop, &s->wake, on_wake) == 0);
	ASSERT(uv_timer_init(loop, &s->idle) == 0);
	s->wake.data = s->idle.data = s;
	s->open_handles = 2;
	uv_unref((uv_handle_t *)&s->wake);
	uv_timer_start(&s->idle, on_idle, STORE_IDLE_MS, STORE_IDLE_MS);
	uv_unref((uv_handle_t *)&s->idle);
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
	queue_close(&s->jobs);
}
