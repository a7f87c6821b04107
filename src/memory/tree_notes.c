/* Notes, summaries and token counts.
 *
 * Store thread.  Summaries and counts are caches about a message: about one that is gone nothing is
 * written. */
#include "memory/tree.h"

/* ---- notes ---- */

void tree_notes_free(struct tree_notes *l)
{
	for (int i = 0; i < l->n; i++) {
		free((char *)l->items[i].scope);
		free((char *)l->items[i].text);
	}
	free(l->items);
	*l = (struct tree_notes){0};
}

int tree_notes(struct sql *q, const char *conversation, struct tree_notes *out,
	       struct err *e)
{
	sqlite3_stmt *st = sql_bind(q, SQL_NOTES, "s", conversation);
	int rc, cap = 0;

	*out = (struct tree_notes){0};
	while ((rc = sql_step(q, st, e)) == 1) {
		if (out->n == cap) {
			cap = cap ? cap * 2 : 8;
			out->items =
				xrealloc(out->items, (size_t)cap * sizeof(*out->items));
		}
		out->items[out->n++] = (struct store_note){
			.id = sqlite3_column_int64(st, 0),
			.scope = tree_dup(st, 1),
			.text = tree_dup(st, 2),
			.created_ms = sqlite3_column_int64(st, 3),
		};
	}
	if (rc < 0)
		tree_notes_free(out);
	return rc;
}

static int check_note(struct sql *q, const char *scope, const char *text, struct err *e)
{
	struct tree_head head;
	int64_t n = 0;

	if (!str_trim(str_of(text)).len)
		return err_set(e, ERR_INVALID, "a note needs a text");
	if (strlen(text) > STORE_MAX_NOTE_BYTES)
		return err_set(e, ERR_TOO_LARGE, "a note of %zu bytes: at most %d",
			       strlen(text), STORE_MAX_NOTE_BYTES);
	if (scope[0] && tree_head(q, scope, &head, e) < 0)
		return -1;
	if (sql_run_int(q, sql_bind(q, SQL_NOTE_COUNT, "s", scope), &n, e) < 0)
		return -1;
	return n < STORE_MAX_NOTES
		       ? 0
		       : err_set(e, ERR_TOO_LARGE,
				 "there are %d notes already: delete one first",
				 STORE_MAX_NOTES);
}

int tree_note_add(struct sql *q, const char *scope, const char *text, int64_t now_ms,
		  struct tree_notes *out, struct err *e)
{
	if (check_note(q, scope, text, e) < 0)
		return -1;
	if (sql_run(q,
		    sql_bind(q, SQL_NOTE_ADD, "issi", ++q->last_note, scope, text,
			     now_ms),
		    e) < 0)
		return -1;
	*out = (struct tree_notes){.items = xcalloc(1, sizeof(*out->items)), .n = 1};
	out->items[0] = (struct store_note){.id = q->last_note,
					    .scope = xstrdup(scope),
					    .text = xstrdup(text),
					    .created_ms = now_ms};
	return 0;
}

int tree_note_delete(struct sql *q, int64_t id, struct err *e)
{
	if (sql_run(q, sql_bind(q, SQL_NOTE_DELETE, "i", id), e) < 0)
		return -1;
	return sqlite3_changes(q->db)
		       ? 0
		       : err_set(e, ERR_NOT_FOUND, "no note %lld", (long long)id);
}

/* ---- what is known about a message ---- */

int tree_summary_put(struct sql *q, int64_t upto, const char *model, const char *text,
		     int tokens, int64_t now_ms, struct err *e)
{
	if (strlen(text) > TREE_MAX_MESSAGE_BYTES)
		return err_set(e, ERR_TOO_LARGE, "a summary of %zu bytes is not kept",
			       strlen(text));
	if (sql_run(q,
		    sql_bind(q, SQL_SUMMARY_PUT, "issii", upto, model, text,
			     (int64_t)tokens, now_ms),
		    e) < 0)
		return -1;
	return sqlite3_changes(q->db)
		       ? 0
		       : err_set(e, ERR_NOT_FOUND, "message %lld was deleted",
				 (long long)upto);
}

int tree_count_put(struct sql *q, const char *tokenizer, int64_t message, int tokens,
		   struct err *e)
{
	return sql_run(
		q, sql_bind(q, SQL_COUNT_PUT, "isi", message, tokenizer, (int64_t)tokens),
		e);
}
