/* The way from the root to a message, with what a context is put together from besides.
 *
 * Store thread.  Ids grow along a path, so it is read in the order of the table and an index into
 * it is found by bisection. */
#include "memory/tree.h"

#include "memory/blobs.h"

void tree_path_free(struct tree_path *p)
{
	struct tree_notes notes = {p->notes, p->nnotes};

	for (int i = 0; i < p->n; i++) {
		free((char *)p->messages[i].text);
		free((char *)p->messages[i].raw_json);
		free((char *)p->messages[i].reasoning);
	}
	for (int i = 0; i < p->nsummaries; i++) {
		free((char *)p->summaries[i].model);
		free((char *)p->summaries[i].text);
	}
	free(p->messages);
	free(p->summaries);
	tree_notes_free(&notes);
	*p = (struct tree_path){0};
}

/* Attachments are put back where they were. */
static int whole_json(struct sql *q, sqlite3_stmt *st, struct store_message *m,
		      struct err *e)
{
	struct buf whole = {0};
	struct str stored = {(const char *)sqlite3_column_text(st, 3),
			     (size_t)sqlite3_column_bytes(st, 3)};

	if (!sqlite3_column_int(st, 8) || !stored.ptr) {
		m->raw_json = tree_dup(st, 3);
		return 0;
	}
	if (blobs_join(q, m->id, stored, &whole, e) < 0) {
		buf_free(&whole);
		return -1;
	}
	m->raw_json = buf_take(&whole, NULL);
	return 0;
}

static int add_message(struct sql *q, struct tree_path *p, int *cap, sqlite3_stmt *st,
		       struct err *e)
{
	struct store_message m = {.id = sqlite3_column_int64(st, 0)};
	const char *role = (const char *)sqlite3_column_text(st, 1);

	if (!role || !role_by_name(role, &m.role) ||
	    sqlite3_column_type(st, 2) != SQLITE_TEXT)
		return err_set(e, ERR_CORRUPT, "message %lld cannot be read",
			       (long long)m.id);
	if (whole_json(q, st, &m, e) < 0)
		return -1;
	tree_hex(st, 5, m.hash);
	m.text = tree_dup(st, 2);
	m.created_ms = sqlite3_column_int64(st, 4);
	m.reasoning = tree_dup(st, 6);
	m.tokens = sqlite3_column_int(st, 7);
	if (p->n == *cap) {
		*cap = *cap ? *cap * 2 : 32;
		p->messages = xrealloc(p->messages, (size_t)*cap * sizeof(*p->messages));
	}
	p->messages[p->n++] = m;
	return 0;
}

static int64_t bytes_of(const struct store_message *m)
{
	return (int64_t)(strlen(m->text) + (m->raw_json ? strlen(m->raw_json) : 0) +
			 (m->reasoning ? strlen(m->reasoning) : 0));
}

static int read_messages(struct sql *q, const char *id, int64_t at, const char *tokenizer,
			 struct tree_path *out, struct err *e)
{
	sqlite3_stmt *st = sql_bind(q, SQL_PATH, "is", at, tokenizer);
	int64_t bytes = 0;
	int rc, cap = 0;

	while ((rc = sql_step(q, st, e)) == 1) {
		rc = add_message(q, out, &cap, st, e);
		if (rc == 0)
			bytes += bytes_of(&out->messages[out->n - 1]);
		if (bytes > TREE_MAX_PATH_BYTES)
			rc = err_set(e, ERR_TOO_LARGE,
				     "conversation '%s' is over %d MiB: start a new one",
				     id, TREE_MAX_PATH_BYTES >> 20);
		if (rc < 0) {
			sqlite3_reset(st);
			return -1;
		}
	}
	return rc;
}

static int index_of(const struct tree_path *p, int64_t id)
{
	int from = 0, to = p->n;

	while (from < to) {
		int mid = (from + to) / 2;

		if (p->messages[mid].id < id)
			from = mid + 1;
		else
			to = mid;
	}
	return from;
}

static int read_summaries(struct sql *q, int64_t at, struct tree_path *out, struct err *e)
{
	sqlite3_stmt *st = sql_bind(q, SQL_PATH_SUMMARIES, "i", at);
	int rc, cap = 0;

	while ((rc = sql_step(q, st, e)) == 1) {
		if (out->nsummaries == cap) {
			cap = cap ? cap * 2 : 4;
			out->summaries = xrealloc(out->summaries,
						  (size_t)cap * sizeof(*out->summaries));
		}
		out->summaries[out->nsummaries++] = (struct store_summary){
			.upto = index_of(out, sqlite3_column_int64(st, 0)),
			.model = tree_dup(st, 1),
			.text = tree_dup(st, 2),
			.tokens = sqlite3_column_int(st, 3),
		};
	}
	return rc;
}

int tree_path(struct sql *q, const char *id, const char *parent, const char *tokenizer,
	      struct tree_path *out, struct err *e)
{
	struct tree_notes notes = {0};
	struct tree_head head;
	int64_t at = 0;
	int rc;

	*out = (struct tree_path){0};
	if (tree_head(q, id, &head, e) < 0 || tree_find(q, id, parent, &at, e) < 0)
		return -1;
	out->is_private = head.is_private;
	rc = at ? read_messages(q, id, at, tokenizer, out, e) : 0;
	if (rc == 0 && at)
		rc = read_summaries(q, at, out, e);
	if (rc == 0)
		rc = tree_notes(q, id, &notes, e);
	out->notes = notes.items;
	out->nnotes = notes.n;
	if (rc < 0)
		tree_path_free(out);
	return rc;
}
