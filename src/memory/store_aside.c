/* Reads that may take long, on a thread and a connection of their own, so that no writer waits.
 *
 * The decision to question: SQLite up to 3.51.2 can lose data when two connections write or
 * checkpoint at once, so this one is opened read-only and told not to checkpoint when it closes.
 * A reader keeps the log from being emptied, which a deletion needs: hence the hold. */
#include "memory/store_aside.h"

#include <errno.h>
#include <signal.h>
#include <time.h>
#include "memory/schema.h"

/* ---- the reader's thread ---- */

static int on_progress(void *arg)
{
	struct aside *a = arg;

	return atomic_load(&a->given_up) != ASIDE_GOES_ON;
}

static int connect_reader(struct aside *a, struct err *e)
{
	sqlite3 *db = NULL;
	int rc = sqlite3_open_v2(
		a->path, &db,
		SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL);

	if (rc != SQLITE_OK) {
		sql_err(db, rc, "open the conversation store to read", e);
		sqlite3_close(db);
		return -1;
	}
	sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, (int *)NULL);
	if (schema_pragmas(db, false, e) < 0) {
		sqlite3_close(db);
		return -1;
	}
	sqlite3_wal_autocheckpoint(db, 0);
	sqlite3_progress_handler(db, ASIDE_LOOK_OPS, on_progress, a);
	return sql_open(&a->sql, db, true, e);
}

/* Nothing of an operation may stay open: it would keep its view of the file, and the log. */
static void let_go(struct sql *q)
{
	struct err ignored;
	sqlite3_stmt *st = NULL;

	while ((st = sqlite3_next_stmt(q->db, st)) != NULL)
		if (sqlite3_stmt_busy(st))
			sqlite3_reset(st);
	if (!sqlite3_get_autocommit(q->db))
		sql_run(q, sql_bind(q, SQL_ROLLBACK, ""), &ignored);
}

static void read_one(struct aside *a, struct store_job *j)
{
	struct sql *q = &a->sql;

	if (!q->db && connect_reader(a, &j->err) < 0)
		return;
	if (j->flags & STORE_NO_UNDO ||
	    sql_run(q, sql_bind(q, SQL_BEGIN_READ, ""), &j->err) == 0)
		j->op->run(q, j);
	let_go(q);
}

/* Waits until it may begin; false: it is stopped. */
static bool enter(struct aside *a)
{
	bool go;

	pthread_mutex_lock(&a->lock);
	while (a->held && atomic_load(&a->given_up) != ASIDE_STOPPED)
		pthread_cond_wait(&a->changed, &a->lock);
	go = atomic_load(&a->given_up) != ASIDE_STOPPED;
	a->busy = go;
	pthread_mutex_unlock(&a->lock);
	return go;
}

/* How far the operation was let go. */
static enum aside_given_up leave(struct aside *a)
{
	enum aside_given_up how;

	pthread_mutex_lock(&a->lock);
	how = (enum aside_given_up)atomic_load(&a->given_up);
	a->busy = false;
	pthread_cond_broadcast(&a->changed);
	pthread_mutex_unlock(&a->lock);
	return how;
}

static void run_aside(struct aside *a, struct store_job *j)
{
	if (!enter(a)) {
		err_set(&j->err, ERR_CANCELLED, "memory is closing");
	} else {
		read_one(a, j);
		if (leave(a) == ASIDE_HELD && j->err.code == ERR_CANCELLED)
			err_set(&j->err, ERR_BUSY,
				"given up for a deletion: ask again in a moment");
	}
	store_ran(j, a->path, &a->suspected);
	ASSERT(queue_push(a->results, &j->item));
	uv_async_send(a->wake);
}

static void aside_thread(void *arg)
{
	struct aside *a = arg;
	struct queue_item *it, *next;

	while ((it = queue_wait_all(&a->jobs)) != NULL)
		for (; it; it = next) {
			next = it->next; /* answering hands the job over */
			run_aside(a, CONTAINER_OF(it, struct store_job, item));
		}
	if (a->sql.db) {
		sqlite3_progress_handler(a->sql.db, 0, NULL, NULL);
		sql_close(&a->sql);
	}
}

/* ---- the writer's ---- */

static void deadline_in(struct timespec *ts, int ms)
{
	clock_gettime(CLOCK_MONOTONIC, ts);
	ts->tv_sec += ms / 1000;
	ts->tv_nsec += ms % 1000 * 1000000L;
	if (ts->tv_nsec >= 1000000000L) {
		ts->tv_sec++;
		ts->tv_nsec -= 1000000000L;
	}
}

/* Stopped stays stopped. */
static void give_up(struct aside *a, enum aside_given_up from, enum aside_given_up to)
{
	int was = (int)from;

	atomic_compare_exchange_strong(&a->given_up, &was, (int)to);
}

void aside_hold(struct aside *a)
{
	struct timespec deadline;

	deadline_in(&deadline, ASIDE_HOLD_MS);
	pthread_mutex_lock(&a->lock);
	a->held = true;
	while (a->busy)
		if (pthread_cond_timedwait(&a->changed, &a->lock, &deadline) ==
		    ETIMEDOUT) {
			give_up(a, ASIDE_GOES_ON, ASIDE_HELD);
			break;
		}
	while (a->busy)
		pthread_cond_wait(&a->changed, &a->lock);
	pthread_mutex_unlock(&a->lock);
}

void aside_release(struct aside *a)
{
	pthread_mutex_lock(&a->lock);
	a->held = false;
	give_up(a, ASIDE_HELD, ASIDE_GOES_ON);
	pthread_cond_broadcast(&a->changed);
	pthread_mutex_unlock(&a->lock);
}

void aside_join(struct aside *a)
{
	uv_thread_join(&a->thread);
}

/* ---- the loop thread's ---- */

bool aside_submit(struct aside *a, struct store_job *j)
{
	return queue_push(&a->jobs, &j->item);
}

void aside_stop(struct aside *a)
{
	pthread_mutex_lock(&a->lock);
	atomic_store(&a->given_up, ASIDE_STOPPED);
	pthread_cond_broadcast(&a->changed);
	pthread_mutex_unlock(&a->lock);
	queue_close(&a->jobs);
}

/* The clock of the deadline does not jump; signals are the loop's, none may pick this thread. */
void aside_start(struct aside *a, const char *path, struct queue *results,
		 uv_async_t *wake)
{
	pthread_condattr_t monotonic;
	sigset_t all, old;

	a->path = path;
	a->results = results;
	a->wake = wake;
	queue_init(&a->jobs, 0); /* bounded by store_submit() */
	atomic_init(&a->given_up, ASIDE_GOES_ON);
	pthread_mutex_init(&a->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&a->changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ASSERT(uv_thread_create(&a->thread, aside_thread, a) == 0);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

void aside_fini(struct aside *a)
{
	queue_fini(&a->jobs);
	pthread_cond_destroy(&a->changed);
	pthread_mutex_destroy(&a->lock);
}
