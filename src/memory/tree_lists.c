/* Rows of conversations and of turns, as lists that own their strings.
 *
 * Store thread. */
#include "memory/tree.h"

static int clamp(int limit)
{
	return limit < 1 ? 1 : limit > TREE_MAX_LIST ? TREE_MAX_LIST : limit;
}

/* ---- conversations ---- */

void tree_list_free(struct tree_list *l)
{
	for (int i = 0; i < l->n; i++) {
		struct store_conversation *c = &l->items[i];

		free((char *)c->id);
		free((char *)c->title);
		free((char *)c->model);
		free((char *)c->status);
		free((char *)c->partial);
		free((char *)c->head);
		free((char *)c->forked_from);
		free((char *)c->metadata);
	}
	free(l->items);
	*l = (struct tree_list){0};
}

static struct store_conversation row_of(sqlite3_stmt *st)
{
	char head[STORE_HASH_TEXT_BYTES];

	tree_hex(st, 8, head);
	return (struct store_conversation){
		.id = tree_dup(st, 0),
		.title = tree_dup(st, 1),
		.model = tree_dup(st, 2),
		.created_ms = sqlite3_column_int64(st, 3),
		.updated_ms = sqlite3_column_int64(st, 4),
		.messages = sqlite3_column_int(st, 5),
		.status = tree_dup(st, 6),
		.partial = tree_dup(st, 7),
		.head = xstrdup(head),
		.forked_from = tree_dup(st, 9),
		.metadata = tree_dup(st, 10),
		.pinned = sqlite3_column_int(st, 11),
		.is_private = sqlite3_column_int(st, 12),
	};
}

static int read_rows(struct sql *q, sqlite3_stmt *st, int limit, struct tree_list *out,
		     struct err *e)
{
	int rc;

	*out = (struct tree_list){.items = xcalloc((size_t)limit, sizeof(*out->items))};
	while ((rc = sql_step(q, st, e)) == 1) {
		ASSERT(out->n < limit);
		out->items[out->n++] = row_of(st);
	}
	if (rc < 0)
		tree_list_free(out);
	return rc;
}

int tree_list(struct sql *q, const struct store_list_ask *ask, struct tree_list *out,
	      struct err *e)
{
	int limit = clamp(ask->limit), rc;
	int64_t before = INT64_MAX;

	if (ask->before) {
		rc = sql_run_int(q, sql_bind(q, SQL_SESSION_SEQ, "s", ask->before),
				 &before, e);
		if (rc <= 0)
			return rc < 0 ? -1 : tree_no_conversation(e, ask->before);
	}
	return read_rows(q,
			 sql_bind(q, ask->pinned_only ? SQL_LIST_PINNED : SQL_LIST, "ii",
				  (int64_t)limit, before),
			 limit, out, e);
}

int tree_get(struct sql *q, const char *id, struct tree_list *out, struct err *e)
{
	int rc = read_rows(q, sql_bind(q, SQL_GET, "s", id), 1, out, e);

	if (rc == 0 && out->n == 0) {
		tree_list_free(out);
		return tree_no_conversation(e, id);
	}
	return rc;
}

/* ---- turns ---- */

void tree_turns_free(struct tree_turns *l)
{
	for (int i = 0; i < l->n; i++) {
		struct store_turn *t = &l->items[i];

		free((char *)t->conversation);
		free((char *)t->request);
		free((char *)t->status);
		free((char *)t->model);
		free((char *)t->provider);
		free((char *)t->error);
		free((char *)t->base);
		free((char *)t->prompt);
		free((char *)t->reply);
		free((char *)t->params);
	}
	free(l->items);
	*l = (struct tree_turns){0};
}

static char *hex_dup(sqlite3_stmt *st, int col)
{
	char hex[STORE_HASH_TEXT_BYTES];

	tree_hex(st, col, hex);
	return xstrdup(hex);
}

static struct store_turn turn_of(sqlite3_stmt *st)
{
	int64_t nanousd = sqlite3_column_int64(st, 15);

	return (struct store_turn){
		.id = sqlite3_column_int64(st, 0),
		.conversation = tree_dup(st, 1),
		.request = tree_dup(st, 2),
		.status = tree_dup(st, 3),
		.model = tree_dup(st, 4),
		.provider = tree_dup(st, 5),
		.error = tree_dup(st, 6),
		.base = hex_dup(st, 7),
		.prompt = hex_dup(st, 8),
		.reply = hex_dup(st, 9),
		.tokens_in = sqlite3_column_int(st, 10),
		.tokens_cached = sqlite3_column_int(st, 11),
		.tokens_out = sqlite3_column_int(st, 12),
		.ttft_ms = sqlite3_column_int(st, 13),
		.total_ms = sqlite3_column_int(st, 14),
		.cost_usd = nanousd < 0 ? -1 : (double)nanousd / 1e9,
		.created_ms = sqlite3_column_int64(st, 16),
		.params = tree_dup(st, 17),
	};
}

/* The statement gives the newest first, since those are the ones that `limit` keeps. */
static void reverse(struct tree_turns *l)
{
	for (int i = 0, k = l->n - 1; i < k; i++, k--) {
		struct store_turn t = l->items[i];

		l->items[i] = l->items[k];
		l->items[k] = t;
	}
}

int tree_turns(struct sql *q, const char *id, const char *request, int limit,
	       struct tree_turns *out, struct err *e)
{
	struct tree_head head;
	sqlite3_stmt *st;
	int rc;

	limit = id ? clamp(limit) : 1;
	if (id && tree_head(q, id, &head, e) < 0)
		return -1;
	*out = (struct tree_turns){.items = xcalloc((size_t)limit, sizeof(*out->items))};
	st = id ? sql_bind(q, SQL_TURNS, "si", id, (int64_t)limit)
		: sql_bind(q, SQL_TURN_NAMED, "s", request);
	while ((rc = sql_step(q, st, e)) == 1) {
		ASSERT(out->n < limit);
		out->items[out->n++] = turn_of(st);
	}
	if (rc == 0 && !id && out->n == 0)
		rc = err_set(e, ERR_NOT_FOUND, "no turn of request '%.60s'", request);
	if (rc < 0)
		tree_turns_free(out);
	reverse(out);
	return rc;
}
