/* Limits, figures, and the steps in which old conversations go.
 *
 * The loop thread decides when, the store thread does it.  A step is a job like any other, short, and
 * submitted only when no other waits; so whoever asks meanwhile waits for one step at most and nobody has to be
 * told to stop.  Between two steps the loop thread holds what is left to do (struct keep_progress).  When
 * a step fails, or the process dies, that is lost: messages that nothing reaches are then found by
 * looking at all, some at a time, which is done once after every start. */
#include "memory/store_impl.h"

#include <sys/stat.h>
#include "base/clock.h"
#include "base/log.h"
#include "memory/dbfile.h"
#include "memory/retention.h"
#include "memory/schema.h"

enum {
	KEEP_STEP_SESSIONS = 20,
	KEEP_STEP_MESSAGES = 500,
	KEEP_STEP_FAILED = 100,
	KEEP_STEP_LOOKED = 2000, /* at, when all are looked at */
	KEEP_STEP_PAGES = 500,
	KEEP_STEP_US = 20000, /* then it is enough, whatever was done */
};

/* Of pages of 4 KiB, half of what SQLite can count. */
static const int64_t KEEP_NO_LIMIT = (int64_t)1 << 43;

/* ---- store thread: figures ---- */

static uint64_t file_bytes(const char *path, const char *suffix)
{
	char *name = xasprintf("%s%s", path, suffix);
	struct stat sb;
	bool there = stat(name, &sb) == 0;

	free(name);
	return there ? (uint64_t)sb.st_size : 0;
}

/* Counts again only after something was undone. */
static int tally(struct sql *q, struct err *e)
{
	sqlite3_stmt *st;
	int rc;

	if (q->tally.known)
		return 0;
	st = sql_bind(q, SQL_KEEP_COUNT, "");
	rc = sql_step(q, st, e);
	if (rc != 1)
		return -1;
	q->tally.messages = sqlite3_column_int64(st, 0);
	q->tally.conversations = sqlite3_column_int64(st, 1);
	q->tally.known = true;
	return sql_run(q, st, e);
}

static int measure(struct sql *q, struct store_measure *m, struct err *e)
{
	sqlite3_stmt *st;
	uint64_t page;

	if (tally(q, e) < 0)
		return -1;
	st = sql_bind(q, SQL_KEEP_MEASURE, "");
	if (sql_step(q, st, e) != 1)
		return -1;
	page = (uint64_t)sqlite3_column_int64(st, 2);
	m->figures.bytes = (uint64_t)sqlite3_column_int64(st, 0) * page;
	m->live_bytes = m->figures.bytes - (uint64_t)sqlite3_column_int64(st, 1) * page;
	m->figures.oldest_ms = sqlite3_column_int64(st, 3);
	m->figures.messages = q->tally.messages;
	m->figures.conversations = q->tally.conversations;
	return sql_run(q, st, e);
}

void keep_measure(struct sql *q, struct store_measure *m)
{
	const char *path = sqlite3_db_filename(q->db, "main");
	struct err ignored;

	*m = (struct store_measure){0};
	if (measure(q, m, &ignored) < 0)
		return;
	m->taken = true;
	if (path && path[0])
		m->figures.bytes = file_bytes(path, "") + file_bytes(path, "-wal");
}

/* ---- store thread: a step ---- */

struct step_job {
	struct store_job job;
	struct store *store;
	struct store_limits limits;
	struct keep_progress progress;
	int64_t evicted;
	bool ages, more, stuck;
};

static int state_of(struct sql *q, struct retention_state *s, struct err *e)
{
	struct store_measure m = {0};

	*s = (struct retention_state){.now_ms = clock_unix_ms()};
	if (measure(q, &m, e) < 0 ||
	    sql_run_int(q,
			sql_bind(q, SQL_KEEP_WITNESS, "i", (int64_t)RETENTION_WITNESSES),
			&s->witness_ms, e) < 0)
		return -1;
	s->live_bytes = m.live_bytes;
	s->messages = m.figures.messages;
	s->conversations = m.figures.conversations;
	return 0;
}

static int pick(struct sql *q, sqlite3_stmt *st, char id[CONVERSATION_ID_BYTES],
		struct err *e)
{
	int rc = sql_step(q, st, e);

	if (rc != 1)
		return rc;
	snprintf(id, CONVERSATION_ID_BYTES, "%s",
		 (const char *)sqlite3_column_text(st, 0));
	sqlite3_reset(st);
	return 1;
}

/* 1 and the conversation that goes first, 0 = all may stay or none may go. */
static int victim(struct sql *q, struct step_job *j, char id[CONVERSATION_ID_BYTES],
		  struct err *e)
{
	struct retention_state s;
	int64_t too_old;
	int rc = 0;

	if (state_of(q, &s, e) < 0)
		return -1;
	too_old = retention_too_old(&j->limits, &s);
	if (too_old)
		rc = pick(q, sql_bind(q, SQL_KEEP_TOO_OLD, "i", too_old), id, e);
	if (rc == 0 && retention_too_much(&j->limits, &s)) {
		rc = pick(q, sql_bind(q, SQL_KEEP_LEAST_USED, ""), id, e);
		j->stuck = rc == 0;
	}
	return rc;
}

static int evict(struct sql *q, struct step_job *j, const char *id, struct err *e)
{
	if (garbage_add_session(q, id, &j->progress.garbage, e) < 0 ||
	    sql_run(q, sql_bind(q, SQL_SESSION_DELETE, "s", id), e) < 0)
		return -1;
	j->evicted++;
	j->progress.shrink = true;
	return 0;
}

/* One conversation after the other, each with what only it has reached, until it is enough. */
static int evict_some(struct sql *q, struct step_job *j, struct err *e)
{
	uint64_t begun = clock_mono_us();
	char id[CONVERSATION_ID_BYTES];
	int64_t deleted = 0;
	int rc = 1;

	for (int n = 0; rc == 1 && n < KEEP_STEP_SESSIONS; n++) {
		if (garbage_collect(q, &j->progress.garbage,
				    KEEP_STEP_MESSAGES - (size_t)deleted, false, &deleted,
				    e) < 0)
			return -1;
		j->more |= deleted > 0;
		if (j->progress.garbage.n > 0 || deleted >= KEEP_STEP_MESSAGES ||
		    clock_mono_us() - begun > KEEP_STEP_US) {
			j->more = true;
			return 0;
		}
		rc = victim(q, j, id, e);
		if (rc == 1) {
			j->more = true;
			rc = evict(q, j, id, e) < 0 ? -1 : 1;
		}
	}
	return rc < 0 ? -1 : 0;
}

struct failed_turn {
	int64_t turn, prompt, base;
	bool bare; /* nothing of it was kept as a reply */
	char conversation[CONVERSATION_ID_BYTES];
};

static int next_failed(struct sql *q, int64_t before, struct failed_turn *f,
		       struct err *e)
{
	sqlite3_stmt *st = sql_bind(q, SQL_KEEP_FAILED, "i", before);
	int rc = sql_step(q, st, e);

	if (rc != 1)
		return rc;
	f->turn = sqlite3_column_int64(st, 0);
	snprintf(f->conversation, sizeof(f->conversation), "%s",
		 (const char *)sqlite3_column_text(st, 1));
	f->prompt = sqlite3_column_int64(st, 2);
	f->base = sqlite3_column_int64(st, 3);
	f->bare = sqlite3_column_int(st, 4);
	sqlite3_reset(st);
	return 1;
}

/* The turn goes, with a question that led nowhere; where a part of the answer was kept, only what the
 * turn says beside it. */
static int expire(struct sql *q, struct step_job *j, const struct failed_turn *f,
		  struct err *e)
{
	if (!f->bare)
		return sql_run(q, sql_bind(q, SQL_KEEP_FAILED_CLEAR, "i", f->turn), e);
	garbage_add(&j->progress.garbage, f->prompt);
	garbage_add(&j->progress.garbage, f->base);
	if (sql_run(q, sql_bind(q, SQL_KEEP_FAILED_DELETE, "i", f->turn), e) < 0)
		return -1;
	return sql_run(q, sql_bind(q, SQL_KEEP_EMPTY, "s", f->conversation), e);
}

static int expire_some(struct sql *q, struct step_job *j, struct err *e)
{
	struct retention_state s;
	struct failed_turn f;
	int64_t before;
	int rc = 1;

	if (!j->ages || state_of(q, &s, e) < 0)
		return j->ages ? -1 : 0;
	before = retention_failed_before(&j->limits, &s);
	for (int n = 0; before && rc == 1 && n < KEEP_STEP_FAILED; n++) {
		rc = next_failed(q, before, &f, e);
		if (rc == 1) {
			j->more = true;
			rc = expire(q, j, &f, e) < 0 ? -1 : 1;
		}
	}
	return rc < 0 ? -1 : 0;
}

static int sweep_some(struct sql *q, struct step_job *j, struct err *e)
{
	int64_t below = j->progress.sweep_below, *next = &j->progress.sweep_below;
	sqlite3_stmt *st =
		sql_bind(q, SQL_KEEP_SWEEP, "ii", below, (int64_t)KEEP_STEP_LOOKED);
	int rc;

	while ((rc = sql_step(q, st, e)) == 1)
		garbage_add(&j->progress.garbage, sqlite3_column_int64(st, 0));
	if (rc < 0)
		return -1;
	j->more = true;
	return sql_run_int(q,
			   sql_bind(q, SQL_KEEP_SWEEP_END, "ii", below,
				    (int64_t)KEEP_STEP_LOOKED),
			   next, e) < 0
		       ? -1
		       : 0;
}

/* What was deleted still fills pages of the search index, and free ones fill the file. */
static int shrink_some(struct sql *q, struct step_job *j, struct err *e)
{
	struct store_measure before = {0}, after = {0};
	char sql[64];

	snprintf(sql, sizeof(sql), "PRAGMA incremental_vacuum(%d)", KEEP_STEP_PAGES);
	if (sql_run(q, sql_bind(q, SQL_KEEP_FTS_MERGE, "i", (int64_t)KEEP_STEP_PAGES),
		    e) < 0 ||
	    measure(q, &before, e) < 0 || schema_exec(q->db, sql, "shrink", e) < 0 ||
	    measure(q, &after, e) < 0)
		return -1;
	j->progress.shrink = after.figures.bytes < before.figures.bytes;
	j->more |= j->progress.shrink;
	return 0;
}

static int step(struct sql *q, struct step_job *j, struct err *e)
{
	if (evict_some(q, j, e) < 0)
		return -1;
	if (!j->more && expire_some(q, j, e) < 0)
		return -1;
	if (!j->more && j->progress.sweep_below > 0 && sweep_some(q, j, e) < 0)
		return -1;
	if (!j->more && j->progress.shrink && shrink_some(q, j, e) < 0)
		return -1;
	return 0;
}

/* Deleting needs pages too, so the limit is higher as long as it lasts. */
static int run_step(struct sql *q, struct store_job *job)
{
	struct step_job *j = (struct step_job *)job;
	struct err ignored;
	int rc;

	if (schema_limit(q->db, q->max_bytes + STORE_FORGET_BYTES, &job->err) < 0)
		return -1;
	rc = step(q, j, &job->err);
	schema_limit(q->db, q->max_bytes, &ignored);
	return rc;
}

/* ---- loop thread: steps ---- */

static void tell_step(struct store_job *job)
{
	struct step_job *j = (struct step_job *)job;
	struct keep *k = store_keep_of(j->store);

	k->stepping = false;
	if (job->err.code != ERR_NONE) {
		if (job->err.code != ERR_CANCELLED)
			log_warn("memory: %s", job->err.text);
		k->failed = true;
		k->progress.sweep_below = INT64_MAX;
		return;
	}
	k->figures.evicted += (uint64_t)j->evicted;
	k->stuck = j->stuck;
	k->due &= j->more;
	k->progress = j->progress;
	j->progress.garbage = (struct garbage){0};
}

static void free_step(struct store_job *job)
{
	garbage_free(&((struct step_job *)job)->progress.garbage);
}

static const struct store_op step_op = {"let old conversations go",
					STORE_WRITES | STORE_OWN, run_step, tell_step,
					free_step};

static bool is_wanted(const struct keep *k)
{
	struct retention_state s = {.live_bytes = k->live_bytes,
				    .messages = k->figures.messages,
				    .conversations = k->figures.conversations};

	if (k->failed)
		return false;
	return k->due || k->progress.garbage.n > 0 || k->progress.shrink ||
	       k->progress.sweep_below > 0 ||
	       (!k->stuck && retention_too_much(&k->limits, &s));
}

void keep_work(struct store *s)
{
	struct keep *k = store_keep_of(s);
	struct step_job *j;

	if (!k->limited || k->read_only || k->stepping || !store_is_idle(s) ||
	    !is_wanted(k))
		return;
	j = store_job_new(sizeof(*j), &step_op, NULL);
	j->store = s;
	j->limits = k->limits;
	j->ages = k->due;
	j->progress = k->progress;
	k->progress.garbage = (struct garbage){0};
	k->stepping = true;
	store_submit(s, &j->job);
}

void keep_tick(struct store *s)
{
	struct keep *k = store_keep_of(s);

	k->due = true;
	k->stuck = k->failed = false;
	keep_work(s);
}

void keep_measured(struct store *s, const struct store_job *j)
{
	struct keep *k = store_keep_of(s);
	uint64_t evicted = k->figures.evicted;

	if (!j->measure.taken)
		return;
	k->figures = j->measure.figures;
	k->figures.evicted = evicted;
	k->live_bytes = j->measure.live_bytes;
	if (!(j->flags & STORE_OWN))
		k->stuck = k->failed = false;
}

void keep_open(struct store *s, struct sql *q)
{
	struct store_job first = {0};

	if (q->read_only) {
		store_keep_of(s)->read_only = true;
		return;
	}
	keep_measure(q, &first.measure);
	keep_measured(s, &first);
}

void keep_free(struct keep *k)
{
	garbage_free(&k->progress.garbage);
}

void store_figures(const struct store *s, struct store_figures *out)
{
	*out = store_keep_of((struct store *)s)->figures;
}

/* ---- limits ---- */

struct limits_job {
	struct store_job job;
	struct store_limits limits;
};

static int run_limits(struct sql *q, struct store_job *job)
{
	struct limits_job *j = (struct limits_job *)job;
	uint64_t max = j->limits.max_bytes;

	if (q->read_only)
		return 0;
	q->max_message_bytes = j->limits.max_message_bytes;
	q->max_attachment_bytes = j->limits.max_attachment_bytes;
	if (max == 0 || max > (uint64_t)INT64_MAX / 2)
		max = (uint64_t)KEEP_NO_LIMIT;
	if (!q->in_memory || max < (uint64_t)q->max_bytes)
		q->max_bytes = (int64_t)max;
	return schema_limit(q->db, q->max_bytes, &job->err);
}

static const struct store_op limits_op = {"set limits", STORE_NO_UNDO | STORE_OWN,
					  run_limits, NULL, NULL};

void store_set_limits(struct store *s, const struct store_limits *limits)
{
	struct keep *k = store_keep_of(s);
	struct limits_job *j = store_job_new(sizeof(*j), &limits_op, NULL);

	if (!k->limited)
		k->progress.sweep_below = INT64_MAX;
	k->limits = *limits;
	k->limited = k->due = true;
	k->stuck = k->failed = false;
	j->limits = *limits;
	store_submit(s, &j->job);
}

struct durable_job {
	struct store_job job;
	bool durable;
};

static int run_durable(struct sql *q, struct store_job *job)
{
	bool durable = ((struct durable_job *)job)->durable;

	return schema_exec(q->db,
			   durable ? "PRAGMA synchronous = FULL"
				   : "PRAGMA synchronous = NORMAL",
			   "set durability", &job->err);
}

static const struct store_op durable_op = {"set durability", STORE_NO_UNDO | STORE_OWN,
					   run_durable, NULL, NULL};

void store_set_durable(struct store *s, bool durable)
{
	struct durable_job *j = store_job_new(sizeof(*j), &durable_op, NULL);

	j->durable = durable;
	store_submit(s, &j->job);
}

/* ---- store thread: no traces ---- */

enum { SCRUB_PAGES = 1000, SCRUB_ROUNDS = 1000000 };

/* As 'optimize', which needs room for a second index while it runs; a merge in small parts gives
 * each part back that it has read. */
static int merge_all(struct sql *q, struct err *e)
{
	for (int i = 0; i < SCRUB_ROUNDS; i++) {
		int before = sqlite3_total_changes(q->db);

		if (sql_run(q,
			    sql_bind(q, SQL_KEEP_FTS_MERGE, "i", (int64_t)-SCRUB_PAGES),
			    e) < 0)
			return -1;
		if (sqlite3_total_changes(q->db) - before < 2)
			break;
	}
	return sql_run(q, sql_bind(q, SQL_FTS_OPTIMIZE, ""), e);
}

int keep_scrub(struct sql *q, struct err *e)
{
	const char *path = sqlite3_db_filename(q->db, "main");
	int rc;

	if (merge_all(q, e) < 0 ||
	    schema_exec(q->db, "PRAGMA incremental_vacuum", "shrink", e) < 0)
		return -1;
	rc = sqlite3_wal_checkpoint_v2(q->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL,
				       NULL);
	if (rc != SQLITE_OK)
		return sql_err(q->db, rc, "empty the log", e);
	return path && path[0] ? dbfile_remove_copies(path, e) : 0;
}
