/* A conversation leaves the store as JSON lines.
 *
 * Reads beside the writer.  The order of the lines follows from what they say and not from row ids, so
 * that two stores that hold the same conversation give the same bytes. */
#include "memory/store_impl.h"

#include "memory/blobs.h"
#include "memory/move_json.h"
#include "memory/tree.h"

struct export_job {
	struct store_job job;
	store_export_cb *cb;
	char *conversation; /* owned */
	struct buf lines;
};

static int check_size(const struct export_job *j, struct err *e)
{
	return j->lines.len <= STORE_MAX_EXPORT_BYTES
		       ? 0
		       : err_set(e, ERR_TOO_LARGE, "the conversation is over %d MiB",
				 STORE_MAX_EXPORT_BYTES >> 20);
}

static const char *text_at(sqlite3_stmt *st, int col)
{
	const char *text = (const char *)sqlite3_column_text(st, col);

	return text ? text : "";
}

static const char *text_or_null(sqlite3_stmt *st, int col)
{
	return (const char *)sqlite3_column_text(st, col);
}

static int add_conversation(struct sql *q, struct export_job *j, const char *id,
			    struct err *e)
{
	sqlite3_stmt *st = sql_bind(q, SQL_MOVE_SESSION, "s", id);
	struct move_conversation c = {.id = id};
	char head[STORE_HASH_TEXT_BYTES];
	int rc = sql_step(q, st, e);

	if (rc <= 0)
		return rc < 0 ? -1 : tree_no_conversation(e, id);
	tree_hex(st, 3, head);
	c.title = text_at(st, 0);
	c.title_by = text_at(st, 1);
	c.model = text_at(st, 2);
	c.head = head;
	c.forked_from = text_or_null(st, 4);
	c.pinned = sqlite3_column_int(st, 5) != 0;
	c.is_private = sqlite3_column_int(st, 6) != 0;
	c.created_ms = sqlite3_column_int64(st, 7);
	c.updated_ms = sqlite3_column_int64(st, 8);
	c.metadata = text_at(st, 9);
	move_write_conversation(&j->lines, &c);
	return sql_run(q, st, e);
}

static int add_message(struct sql *q, struct export_job *j, int64_t id, struct err *e)
{
	sqlite3_stmt *st = sql_bind(q, SQL_MOVE_NODE, "i", id);
	struct move_message m = {0};
	struct buf parts = {0};
	int rc = sql_step(q, st, e);

	if (rc <= 0)
		return rc < 0 ? -1
			      : err_set(e, ERR_CORRUPT, "message %lld is missing",
					(long long)id);
	m.is_root = sqlite3_column_type(st, 1) == SQLITE_NULL;
	if (sqlite3_column_bytes(st, 0) != MOVE_HASH_BYTES ||
	    (!m.is_root && sqlite3_column_bytes(st, 1) != MOVE_HASH_BYTES) ||
	    !role_by_name(text_at(st, 2), &m.role)) {
		sqlite3_reset(st);
		return err_set(e, ERR_CORRUPT, "message %lld cannot be read",
			       (long long)id);
	}
	memcpy(m.hash, sqlite3_column_blob(st, 0), MOVE_HASH_BYTES);
	if (!m.is_root)
		memcpy(m.parent, sqlite3_column_blob(st, 1), MOVE_HASH_BYTES);
	if (blobs_join(q, id,
		       (struct str){text_at(st, 3), (size_t)sqlite3_column_bytes(st, 3)},
		       &parts, e) < 0) {
		sqlite3_reset(st);
		buf_free(&parts);
		return -1;
	}
	m.parts = buf_str(&parts);
	m.created_ms = sqlite3_column_int64(st, 4);
	m.reasoning = text_or_null(st, 5);
	move_write_message(&j->lines, &m);
	buf_free(&parts);
	return sql_run(q, st, e) < 0 ? -1 : check_size(j, e);
}

static int add_messages(struct sql *q, struct export_job *j, const char *id,
			struct err *e)
{
	sqlite3_stmt *st = sql_bind(q, SQL_MOVE_NODES, "s", id);
	int64_t *ids = NULL;
	size_t n = 0, cap = 0;
	int rc;

	while ((rc = sql_step(q, st, e)) == 1) {
		if (n == cap) {
			cap = cap ? cap * 2 : 64;
			ids = xrealloc(ids, cap * sizeof(*ids));
		}
		ids[n++] = sqlite3_column_int64(st, 0);
	}
	for (size_t i = 0; rc == 0 && i < n; i++)
		rc = add_message(q, j, ids[i], e);
	free(ids);
	return rc;
}

static int add_turns(struct sql *q, struct export_job *j, const char *id, struct err *e)
{
	sqlite3_stmt *st = sql_bind(q, SQL_MOVE_TURNS, "s", id);
	char base[STORE_HASH_TEXT_BYTES], prompt[STORE_HASH_TEXT_BYTES],
		reply[STORE_HASH_TEXT_BYTES];
	int rc;

	while ((rc = sql_step(q, st, e)) == 1) {
		int64_t nanousd = sqlite3_column_int64(st, 13);
		struct move_turn t = {
			.row = {.request = text_at(st, 0),
				.status = text_at(st, 1),
				.model = text_at(st, 2),
				.provider = text_at(st, 3),
				.error = text_or_null(st, 4),
				.base = base,
				.prompt = prompt,
				.reply = reply,
				.tokens_in = sqlite3_column_int(st, 8),
				.tokens_cached = sqlite3_column_int(st, 9),
				.tokens_out = sqlite3_column_int(st, 10),
				.ttft_ms = sqlite3_column_int(st, 11),
				.total_ms = sqlite3_column_int(st, 12),
				.cost_usd = nanousd < 0 ? -1 : (double)nanousd / 1e9,
				.created_ms = sqlite3_column_int64(st, 14)},
			.partial = text_or_null(st, 15)};

		tree_hex(st, 5, base);
		tree_hex(st, 6, prompt);
		tree_hex(st, 7, reply);
		move_write_turn(&j->lines, &t);
		if (check_size(j, e) < 0) {
			sqlite3_reset(st);
			return -1;
		}
	}
	return rc;
}

static int run_export(struct sql *q, struct store_job *job)
{
	struct export_job *j = (struct export_job *)job;
	char id[CONVERSATION_ID_BYTES];

	if (tree_resolve_old(q, j->conversation, id, &job->err) < 0 ||
	    add_conversation(q, j, id, &job->err) < 0 ||
	    add_messages(q, j, id, &job->err) < 0)
		return -1;
	return add_turns(q, j, id, &job->err);
}

static void tell_export(struct store_job *job)
{
	struct export_job *j = (struct export_job *)job;
	bool ok = job->err.code == ERR_NONE;

	j->cb(job->arg, &job->err, ok ? buf_str(&j->lines) : (struct str){"", 0});
}

static void free_export(struct store_job *job)
{
	struct export_job *j = (struct export_job *)job;

	free(j->conversation);
	buf_free(&j->lines);
}

static const struct store_op export_op = {"export a conversation", STORE_ASIDE,
					  run_export, tell_export, free_export};

void store_export(struct store *s, const char *conversation, store_export_cb *cb,
		  void *arg)
{
	struct export_job *j = store_job_new(sizeof(*j), &export_op, arg);

	j->cb = cb;
	j->conversation = store_copy_str(&j->job, conversation);
	store_submit(s, &j->job);
}
