/* Turns: before, during and after a model call, and what a crash left of one.
 *
 * Store thread.  A turn remembers where the head stood before it (base), because a failed one goes
 * back there.  When two run at once in one conversation, the one that was begun on the other's
 * prompt gets what became of that prompt as its base: otherwise it would step back onto a question
 * that failed. */
#include "memory/tree.h"

#include <math.h>

/* ---- before ---- */

static int append_all(struct sql *q, const struct store_turn_begin *ask,
		      const struct tree_known *known, int64_t *head, int64_t now_ms,
		      struct err *e)
{
	if (known)
		*head = known->at;
	for (int i = known ? known->n : 0; i < ask->n; i++)
		if (tree_append(q, head, &ask->messages[i], known != NULL, now_ms, e) < 0)
			return -1;
	return 0;
}

/* A name that is taken stays with the first: better a turn without one than none. */
static int free_name(struct sql *q, const char **request, struct err *e)
{
	int64_t ignored;
	int rc = *request ? sql_run_int(q, sql_bind(q, SQL_TURN_NAMED, "s", *request),
					&ignored, e)
			  : 0;

	if (rc == 1)
		*request = NULL;
	return rc < 0 ? -1 : 0;
}

int tree_turn_begin(struct sql *q, const char *id, const struct store_turn_begin *ask,
		    const struct tree_known *known, int64_t now_ms, int64_t *turn,
		    struct err *e)
{
	const char *request = ask->request;
	struct tree_head base;
	int64_t head = 0;

	if (tree_head(q, id, &base, e) < 0 || free_name(q, &request, e) < 0)
		return -1;
	if (!known && tree_find(q, id, ask->parent, &head, e) < 0)
		return -1;
	if (append_all(q, ask, known, &head, now_ms, e) < 0)
		return -1;
	if (!head)
		return err_set(e, ERR_INVALID,
			       "conversation '%s': a turn needs a message", id);
	if (tree_entitle(q, id, ask->messages, ask->n, e) < 0 ||
	    sql_run(q,
		    sql_bind(q, SQL_SESSION_BEGIN, "sisi", id, head, ask->model, now_ms),
		    e) < 0)
		return -1;
	*turn = ++q->last_turn;
	return sql_run(q,
		       sql_bind(q, SQL_TURN_ADD, "isIississ", *turn, id, base.id, head,
				ask->model, ask->provider, now_ms, request, ask->params),
		       e);
}

/* A text column of a statement's only row as an id: 1, or 0 when there is no row. */
static int step_id(struct sql *q, sqlite3_stmt *st, char id[CONVERSATION_ID_BYTES],
		   struct err *e)
{
	int rc = sql_step(q, st, e);

	if (rc != 1)
		return rc;
	snprintf(id, CONVERSATION_ID_BYTES, "%s",
		 (const char *)sqlite3_column_text(st, 0));
	return sql_run(q, st, e) == 0 ? 1 : -1;
}

/* The head that the history goes on from lies on the known part of it, at or behind the first
 * answer: a system message that many clients send makes no conversation out of theirs. */
static int find_continued(struct sql *q, const struct tree_known *k, int n,
			  char id[CONVERSATION_ID_BYTES], struct err *e)
{
	int rc = 0;

	if (k->n == n && k->n > 0)
		rc = step_id(q, sql_bind(q, SQL_TURN_RETRIED, "i", k->at), id, e);
	if (rc == 0 && k->first_reply)
		rc = step_id(q,
			     sql_bind(q, SQL_PATH_SESSION, "ii", k->at, k->first_reply),
			     id, e);
	return rc;
}

int tree_turn_where(struct sql *q, const struct store_turn_begin *ask, int64_t now_ms,
		    char id[CONVERSATION_ID_BYTES], struct tree_known *known,
		    struct err *e)
{
	char from[CONVERSATION_ID_BYTES];
	int rc;

	if (tree_known(q, ask->messages, ask->n, known, e) < 0)
		return -1;
	rc = find_continued(q, known, ask->n, id, e);
	if (rc != 0)
		return rc < 0 ? -1 : 0;
	if (tree_resolve(q, "new", ask->model, now_ms, id, e) < 0)
		return -1;
	if (known->last_reply)
		rc = step_id(q, sql_bind(q, SQL_TURN_OF_REPLY, "i", known->last_reply),
			     from, e);
	return rc == 1 ? sql_run(q, sql_bind(q, SQL_SESSION_FORKED, "ss", id, from), e)
		       : rc;
}

/* ---- while it runs ---- */

int tree_turn_partial(struct sql *q, int64_t turn, const char *text, size_t len,
		      struct err *e)
{
	if (len > TREE_MAX_MESSAGE_BYTES)
		return err_set(e, ERR_TOO_LARGE, "an answer of %zu bytes is not kept",
			       len);
	return sql_run(q, sql_bind(q, SQL_TURN_PARTIAL, "iS", turn, text, len), e);
}

/* ---- after ---- */

struct turn_row {
	int64_t id;
	char session[CONVERSATION_ID_BYTES];
	int64_t base, prompt;
};

static int turn_get(struct sql *q, int64_t turn, struct turn_row *row, struct err *e)
{
	sqlite3_stmt *st = sql_bind(q, SQL_TURN_GET, "i", turn);
	int rc = sql_step(q, st, e);
	bool running;

	if (rc <= 0)
		return rc < 0 ? -1
			      : err_set(e, ERR_NOT_FOUND,
					"turn %lld is gone: its conversation was "
					"deleted",
					(long long)turn);
	row->id = turn;
	snprintf(row->session, sizeof(row->session), "%s",
		 (const char *)sqlite3_column_text(st, 0));
	row->base = sqlite3_column_int64(st, 1);
	row->prompt = sqlite3_column_int64(st, 2);
	running = !strcmp((const char *)sqlite3_column_text(st, 3), "running");
	if (sql_run(q, st, e) < 0)
		return -1;
	return running ? 0
		       : err_set(e, ERR_CONFLICT, "turn %lld has ended before",
				 (long long)turn);
}

/* Keeps the text as the reply (*reply), or steps back to before the turn.  Only a head that still
 * stands on this turn's prompt moves: another turn may have gone on from there. */
static int turn_settle(struct sql *q, const struct turn_row *row, bool keep,
		       const struct store_turn_end *end, int64_t now_ms, int64_t *reply,
		       struct err *e)
{
	int64_t to = row->base;

	*reply = 0;
	if (keep) {
		to = row->prompt;
		if (tree_append_reply(q, &to, end, now_ms, e) < 0)
			return -1;
		*reply = to;
	}
	if (sql_run(q,
		    sql_bind(q, SQL_SESSION_MOVE, "siIi", row->session, row->prompt, to,
			     now_ms),
		    e) < 0)
		return -1;
	return sql_run(q,
		       sql_bind(q, SQL_TURN_REBASE, "siIi", row->session, row->prompt, to,
				row->id),
		       e);
}

static int64_t nanousd(double usd)
{
	return usd >= 0 && usd < 9e9 ? (int64_t)llround(usd * 1e9) : -1;
}

static int turn_write(struct sql *q, int64_t turn, const struct store_turn_end *end,
		      int64_t reply, struct err *e)
{
	sqlite3_stmt *st = sql_bind(
		q, SQL_TURN_END, "isISsnnnnnIsss", turn, end->status, reply,
		end->len ? end->text : NULL, end->len, end->error, end->tokens_in,
		end->tokens_cached, end->tokens_out, end->ttft_ms, end->total_ms,
		nanousd(end->cost_usd), end->model, end->provider, end->finish);

	/* 'I' makes 0 NULL, and a turn that cost nothing is not a turn of unknown cost */
	if (st && end->cost_usd >= 0 && nanousd(end->cost_usd) == 0)
		sqlite3_bind_int64(st, 11, 0);
	return sql_run(q, st, e);
}

int tree_turn_end(struct sql *q, int64_t turn, const struct store_turn_end *end,
		  int64_t now_ms, struct tree_ended *out, struct err *e)
{
	bool done = !strcmp(end->status, "done"),
	     cancelled = !strcmp(end->status, "cancelled");
	struct turn_row row;
	int64_t reply;

	if (!done && !cancelled && strcmp(end->status, "error"))
		return err_set(e, ERR_INVALID, "a turn cannot end as '%.40s'",
			       end->status);
	if (turn_get(q, turn, &row, e) < 0 ||
	    turn_settle(q, &row, done || (cancelled && end->len > 0), end, now_ms, &reply,
			e) < 0 ||
	    turn_write(q, turn, end, reply, e) < 0 ||
	    tree_hash_of(q, row.prompt, out->prompt, e) < 0)
		return -1;
	return tree_hash_of(q, reply, out->reply, e);
}

/* ---- what a crash left ---- */

static int interrupt_one(struct sql *q, int64_t turn, const char *partial, int64_t now_ms,
			 struct err *e)
{
	struct store_turn_end end = {.status = "interrupted",
				     .text = partial,
				     .len = strlen(partial),
				     .tokens_in = -1,
				     .tokens_cached = -1,
				     .tokens_out = -1,
				     .ttft_ms = -1,
				     .total_ms = -1,
				     .cost_usd = -1};
	struct turn_row row;
	int64_t reply;

	if (turn_get(q, turn, &row, e) < 0 ||
	    turn_settle(q, &row, end.len > 0, &end, now_ms, &reply, e) < 0)
		return -1;
	return turn_write(q, turn, &end, reply, e);
}

/* Newest first, so that heads step back over several turns of one conversation. */
int tree_settle(struct sql *q, int64_t now_ms, struct err *e)
{
	for (;;) {
		sqlite3_stmt *st = sql_bind(q, SQL_TURN_RUNNING, "");
		int rc = sql_step(q, st, e);
		int64_t turn;
		char *partial;

		if (rc <= 0)
			return rc < 0 ? -1
				      : sql_run(q, sql_bind(q, SQL_SESSION_SWEEP, ""), e);
		turn = sqlite3_column_int64(st, 0);
		partial = tree_dup(st, 1);
		sqlite3_reset(st);
		rc = interrupt_one(q, turn, partial ? partial : "", now_ms, e);
		free(partial);
		if (rc < 0)
			return -1;
	}
}

int tree_turn_unname(struct sql *q, const char *request, struct err *e)
{
	int64_t ignored;
	int rc = sql_run_int(q, sql_bind(q, SQL_TURN_NAMED, "s", request), &ignored, e);

	if (rc == 0)
		return err_set(e, ERR_NOT_FOUND, "no turn is called '%.40s'", request);
	return rc < 0 ? -1 : sql_run(q, sql_bind(q, SQL_TURN_UNNAME, "s", request), e);
}
