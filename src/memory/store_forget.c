/* Forgetting: conversations go, with every message that only they have reached.
 *
 * In one transaction, however many they are: whoever asked is told that the text is gone, and half of it
 * gone is not that.  It may take seconds; chats go on meanwhile without memory.  The search index, the log and
 * the copies of migrations follow (keep_scrub) before the answer. */
#include "memory/store_impl.h"

#include "memory/tree.h"

enum { FORGET_SLICE = 1000000 };

struct forget_job {
	struct store_job job;
	store_forget_cb *cb;
	char *conversation; /* owned, or NULL */
	int64_t before_ms;
	bool all, pinned_too;
	struct store_forgotten forgotten;
	uint64_t bytes_before;
};

static int check_ask(const struct forget_job *j, struct err *e)
{
	int n = (j->conversation != NULL) + (j->before_ms > 0) + j->all;

	if (n == 1 && j->before_ms >= 0)
		return 0;
	return err_set(
		e, ERR_INVALID,
		"say what to forget: one conversation, those before a time, or all");
}

/* A pinned one is not forgotten by mistake. */
static int check_named(struct sql *q, const struct forget_job *j,
		       char id[CONVERSATION_ID_BYTES], struct err *e)
{
	int64_t pinned = 0;
	int rc;

	if (tree_resolve_old(q, j->conversation, id, e) < 0)
		return -1;
	rc = sql_run_int(q, sql_bind(q, SQL_KEEP_PINNED, "s", id), &pinned, e);
	if (rc <= 0)
		return rc < 0 ? -1 : tree_no_conversation(e, id);
	if (pinned && !j->pinned_too)
		return err_set(e, ERR_CONFLICT,
			       "conversation '%s' is pinned: unpin it, or ask for pinned "
			       "ones too",
			       id);
	return 0;
}

/* 1 and a conversation that is to go, 0 = there is none any more. */
static int next_one(struct sql *q, const struct forget_job *j, const char *named,
		    char id[CONVERSATION_ID_BYTES], struct err *e)
{
	sqlite3_stmt *st = sql_bind(q, SQL_KEEP_FORGET_NEXT, "sii", named, j->before_ms,
				    (int64_t)(j->pinned_too || named));
	int rc = sql_step(q, st, e);

	if (rc != 1)
		return rc;
	snprintf(id, CONVERSATION_ID_BYTES, "%s",
		 (const char *)sqlite3_column_text(st, 0));
	sqlite3_reset(st);
	return 1;
}

static int forget_each(struct sql *q, struct forget_job *j, const char *named,
		       struct err *e)
{
	struct garbage g = {0};
	char id[CONVERSATION_ID_BYTES];
	int rc;

	while ((rc = next_one(q, j, named, id, e)) == 1) {
		rc = garbage_add_session(q, id, &g, e);
		if (rc == 0)
			rc = sql_run(q, sql_bind(q, SQL_SESSION_DELETE, "s", id), e);
		if (rc < 0)
			break;
		j->forgotten.conversations++;
	}
	while (rc == 0 && g.n > 0)
		rc = garbage_collect(q, &g, FORGET_SLICE, true, &j->forgotten.messages,
				     e);
	garbage_free(&g);
	return rc;
}

static int run_forget(struct sql *q, struct store_job *job)
{
	struct forget_job *j = (struct forget_job *)job;
	char named[CONVERSATION_ID_BYTES] = "";
	struct store_measure before;

	if (check_ask(j, &job->err) < 0)
		return -1;
	if (j->conversation && check_named(q, j, named, &job->err) < 0)
		return -1;
	keep_measure(q, &before);
	j->bytes_before = before.figures.bytes;
	if (forget_each(q, j, j->conversation ? named : NULL, &job->err) < 0)
		return -1;
	if (j->all &&
	    j->pinned_too) /* notes are what the user pinned to every conversation */
		return sql_run(q, sql_bind(q, SQL_KEEP_FORGET_NOTES, ""), &job->err);
	return 0;
}

static void tell_forget(struct store_job *job)
{
	struct forget_job *j = (struct forget_job *)job;
	uint64_t now = job->measure.figures.bytes;

	if (job->measure.taken && now < j->bytes_before)
		j->forgotten.bytes = (int64_t)(j->bytes_before - now);
	j->cb(job->arg, &job->err, job->err.code == ERR_NONE ? &j->forgotten : NULL);
}

static void free_forget(struct store_job *job)
{
	free(((struct forget_job *)job)->conversation);
}

static const struct store_op forget_op = {"forget", STORE_WRITES | STORE_FORGETS,
					  run_forget, tell_forget, free_forget};

void store_forget(struct store *s, const struct store_forget_ask *ask,
		  store_forget_cb *cb, void *arg)
{
	struct forget_job *j = store_job_new(sizeof(*j), &forget_op, arg);

	j->cb = cb;
	j->conversation = store_copy_or_null(&j->job, ask->conversation);
	j->before_ms = ask->before_ms;
	j->all = ask->all;
	j->pinned_too = ask->pinned_too;
	store_submit(s, &j->job);
}
