/* Messages as immutable nodes, conversations as movable heads.
 *
 * Store thread, inside transactions that store.c opens.  The decision to question: a node is
 * found by the hash of its parent, role and content, so sending the same thing again after the
 * same history finds the old row, and a retry or a second client never doubles it.  A cut
 * SHA-256 and not XXH3, since a crafted collision would splice one history into another. */
#include "memory/tree.h"

#include <math.h>
#include <sha2.h>
#include "base/json.h"
#include "memory/ulid.h"

static char *column_dup(sqlite3_stmt *st, int col)
{
	const char *text = (const char *)sqlite3_column_text(st, col);

	return text ? xstrdup(text) : NULL;
}

static int no_conversation(struct err *e, const char *id)
{
	return err_set(e, ERR_NOT_FOUND, "no conversation '%.40s'", id);
}

/* ---- ids and heads ---- */

int tree_resolve(struct sql *q, const char *name, const char *model, int64_t now_ms,
		 char id[CONVERSATION_ID_BYTES], struct err *e)
{
	sqlite3_stmt *st;
	int rc;

	if (!strcmp(name, "new")) {
		if (q->read_only)
			return err_set(e, ERR_UNSUPPORTED, "memory is read-only");
		ulid_make(now_ms, id);
		return sql_run(q,
			       sql_bind(q, SQL_SESSION_ADD, "ssi", id, model ? model : "",
					now_ms),
			       e);
	}
	if (strcmp(name, "last")) {
		if (strlen(name) >= CONVERSATION_ID_BYTES)
			return no_conversation(e, name);
		snprintf(id, CONVERSATION_ID_BYTES, "%s", name);
		return 0;
	}
	st = sql_bind(q, SQL_SESSION_LAST, "");
	rc = sql_step(q, st, e);
	if (rc == 0)
		return err_set(e, ERR_NOT_FOUND, "there is no conversation yet");
	if (rc < 0)
		return -1;
	snprintf(id, CONVERSATION_ID_BYTES, "%s",
		 (const char *)sqlite3_column_text(st, 0));
	return sql_run(q, st, e);
}

static int session_head(struct sql *q, const char *id, int64_t *head, struct err *e)
{
	int rc = sql_run_int(q, sql_bind(q, SQL_SESSION_HEAD, "s", id), head, e);

	return rc == 0 ? no_conversation(e, id) : rc < 0 ? -1 : 0;
}

/* ---- nodes ---- */

static void hash_field(SHA2_CTX *ctx, const void *p, size_t n)
{
	uint8_t len[8];

	for (int i = 0; i < 8; i++)
		len[i] = (uint8_t)(n >> (56 - 8 * i));
	SHA256Update(ctx, len, sizeof(len));
	SHA256Update(ctx, (const uint8_t *)p, n);
}

void tree_hash(const uint8_t *parent, const char *role, struct str parts,
	       uint8_t out[TREE_HASH_BYTES])
{
	static const char tag[] = "hob message 1";
	uint8_t full[SHA256_DIGEST_LENGTH];
	SHA2_CTX ctx;

	SHA256Init(&ctx);
	hash_field(&ctx, tag, sizeof(tag) - 1);
	hash_field(&ctx, parent ? parent : (const uint8_t *)"",
		   parent ? TREE_HASH_BYTES : 0);
	hash_field(&ctx, role, strlen(role));
	hash_field(&ctx, parts.ptr, parts.len);
	SHA256Final(full, &ctx);
	memcpy(out, full, TREE_HASH_BYTES);
}

/* [{"type":"text","text":…}] and, for what is more than text, {"type":"openai","message":…}. */
static int parts_of(struct str text, const char *raw_json, struct buf *out, struct err *e)
{
	size_t raw_len = raw_json ? strlen(raw_json) : 0;
	cJSON *tree;

	if (text.len > TREE_MAX_MESSAGE_BYTES || raw_len > TREE_MAX_MESSAGE_BYTES)
		return err_set(e, ERR_TOO_LARGE,
			       "a message of %zu bytes is not kept: at most %d",
			       text.len + raw_len, TREE_MAX_MESSAGE_BYTES);
	buf_adds(out, "[{\"type\":\"text\",\"text\":");
	buf_add_json(out, text.ptr, text.len);
	buf_adds(out, "}");
	if (raw_json) {
		tree = json_parse((struct str){raw_json, raw_len}, e);
		if (!tree)
			return err_wrap(e, "a message's own JSON");
		cJSON_Delete(tree);
		buf_adds(out, ",{\"type\":\"openai\",\"message\":");
		buf_add(out, raw_json, raw_len);
		buf_adds(out, "}");
	}
	buf_adds(out, "]");
	return 0;
}

/* The node under `parent` (0 = a root) with this content: found, or made. */
static int node_put(struct sql *q, int64_t parent, const char *role, struct str parts,
		    int64_t now_ms, int64_t *id, struct err *e)
{
	uint8_t hash[TREE_HASH_BYTES], above[TREE_HASH_BYTES];
	sqlite3_stmt *st;
	int rc;

	if (parent) {
		st = sql_bind(q, SQL_MESSAGE_HASH, "i", parent);
		rc = sql_step(q, st, e);
		if (rc != 1 || sqlite3_column_bytes(st, 0) != TREE_HASH_BYTES)
			return rc < 0 ? -1
				      : err_set(e, ERR_CORRUPT, "message %lld is missing",
						(long long)parent);
		memcpy(above, sqlite3_column_blob(st, 0), TREE_HASH_BYTES);
		sqlite3_reset(st);
	}
	tree_hash(parent ? above : NULL, role, parts, hash);
	rc = sql_run_int(
		q, sql_bind(q, SQL_MESSAGE_FIND, "b", (void *)hash, TREE_HASH_BYTES), id,
		e);
	if (rc != 0)
		return rc < 0 ? -1 : 0;
	st = sql_bind(q, SQL_MESSAGE_ADD, "bIsSii", (void *)hash, TREE_HASH_BYTES, parent,
		      role, parts.ptr, parts.len, (int64_t)parts.len, now_ms);
	return sql_run_int(q, st, id, e) == 1 ? 0 : -1;
}

static int node_put_text(struct sql *q, int64_t parent, const char *role, struct str text,
			 int64_t now_ms, int64_t *id, struct err *e)
{
	struct buf parts = {0};
	int rc = parts_of(text, NULL, &parts, e);

	if (rc == 0)
		rc = node_put(q, parent, role, buf_str(&parts), now_ms, id, e);
	buf_free(&parts);
	return rc;
}

/* 1 when the path to head holds this very system message. */
static int repeats_system(struct sql *q, int64_t head, struct str parts, struct err *e)
{
	int64_t ignored;

	if (!head)
		return 0;
	return sql_run_int(
		q, sql_bind(q, SQL_PATH_HAS_SYSTEM, "IS", head, parts.ptr, parts.len),
		&ignored, e);
}

static int append(struct sql *q, int64_t *head, const struct message *m, int64_t now_ms,
		  struct err *e)
{
	struct buf parts = {0};
	int rc = parts_of(str_of(m->text), m->raw_json, &parts, e);

	if (rc == 0 && m->role == ROLE_SYSTEM)
		rc = repeats_system(q, *head, buf_str(&parts), e);
	if (rc == 0)
		rc = node_put(q, *head, role_name(m->role), buf_str(&parts), now_ms, head,
			      e);
	buf_free(&parts);
	return rc < 0 ? -1 : 0;
}

/* ---- reading a path ---- */

void tree_path_free(struct tree_path *p)
{
	for (int i = 0; i < p->n; i++) {
		free((char *)p->messages[i].text);
		free((char *)p->messages[i].raw_json);
	}
	free(p->messages);
	*p = (struct tree_path){0};
}

static int path_add(struct tree_path *p, int *cap, sqlite3_stmt *st, struct err *e)
{
	struct store_message m = {.id = sqlite3_column_int64(st, 0)};
	const char *role = (const char *)sqlite3_column_text(st, 1);

	if (!role || !role_by_name(role, &m.role) ||
	    sqlite3_column_type(st, 2) != SQLITE_TEXT)
		return err_set(e, ERR_CORRUPT, "message %lld cannot be read",
			       (long long)m.id);
	m.text = column_dup(st, 2);
	m.raw_json = column_dup(st, 3);
	m.created_ms = sqlite3_column_int64(st, 4);
	if (p->n == *cap) {
		*cap = *cap ? *cap * 2 : 32;
		p->messages = xrealloc(p->messages, (size_t)*cap * sizeof(*p->messages));
	}
	p->messages[p->n++] = m;
	return 0;
}

int tree_path(struct sql *q, const char *id, struct tree_path *out, struct err *e)
{
	sqlite3_stmt *st;
	int64_t head = 0, bytes = 0;
	int rc, cap = 0;

	*out = (struct tree_path){0};
	if (session_head(q, id, &head, e) < 0)
		return -1;
	st = sql_bind(q, SQL_PATH, "s", id);
	while ((rc = sql_step(q, st, e)) == 1) {
		bytes += sqlite3_column_bytes(st, 2) + sqlite3_column_bytes(st, 3);
		if (bytes > TREE_MAX_PATH_BYTES)
			rc = err_set(e, ERR_TOO_LARGE,
				     "conversation '%s' is over %d MiB: start a new one",
				     id, TREE_MAX_PATH_BYTES >> 20);
		else
			rc = path_add(out, &cap, st, e);
		if (rc < 0) {
			sqlite3_reset(st);
			break;
		}
	}
	if (rc < 0)
		tree_path_free(out);
	return rc;
}

/* ---- turns ---- */

/* Bytes of the first line, cut to TREE_TITLE_CHARS characters between two of them. */
static struct str title_of(const char *text)
{
	struct str t = {text + strspn(text, " \t\r\n"), 0};
	int chars = 0;

	for (; t.ptr[t.len] && t.ptr[t.len] != '\n' && t.ptr[t.len] != '\r'; t.len++)
		if (((unsigned char)t.ptr[t.len] & 0xc0) != 0x80 &&
		    ++chars > TREE_TITLE_CHARS)
			break;
	return str_trim(t);
}

static int set_title(struct sql *q, const char *id, const struct message *messages, int n,
		     struct err *e)
{
	for (int i = 0; i < n; i++) {
		struct str t = title_of(messages[i].text);

		if (messages[i].role == ROLE_USER && t.len > 0)
			return sql_run(
				q, sql_bind(q, SQL_SESSION_TITLE, "sS", id, t.ptr, t.len),
				e);
	}
	return 0;
}

int tree_turn_begin(struct sql *q, const char *id, const char *model,
		    const char *provider, const struct message *messages, int n,
		    int64_t now_ms, int64_t *turn, struct err *e)
{
	int64_t base = 0, head;

	if (session_head(q, id, &base, e) < 0)
		return -1;
	head = base;
	for (int i = 0; i < n; i++)
		if (append(q, &head, &messages[i], now_ms, e) < 0)
			return -1;
	if (!head)
		return err_set(e, ERR_INVALID,
			       "conversation '%s': a turn needs a message", id);
	if (set_title(q, id, messages, n, e) < 0 ||
	    sql_run(q, sql_bind(q, SQL_SESSION_BEGIN, "sisi", id, head, model, now_ms),
		    e) < 0)
		return -1;
	return sql_run_int(q,
			   sql_bind(q, SQL_TURN_ADD, "sIissi", id, base, head, model,
				    provider, now_ms),
			   turn, e) == 1
		       ? 0
		       : -1;
}

int tree_turn_partial(struct sql *q, int64_t turn, const char *text, size_t len,
		      struct err *e)
{
	if (len > TREE_MAX_MESSAGE_BYTES)
		return err_set(e, ERR_TOO_LARGE, "an answer of %zu bytes is not kept",
			       len);
	return sql_run(q, sql_bind(q, SQL_TURN_PARTIAL, "iS", turn, text, len), e);
}

struct turn_row {
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

/* Keeps the text as the reply, or steps back to before the turn.  Only a head that still stands
 * on this turn's prompt moves: another turn may have gone on from there. */
static int turn_settle(struct sql *q, const struct turn_row *row, bool keep,
		       struct str text, int64_t now_ms, int64_t *reply, struct err *e)
{
	sqlite3_stmt *st;

	*reply = 0;
	if (keep &&
	    node_put_text(q, row->prompt, "assistant", text, now_ms, reply, e) < 0)
		return -1;
	st = keep ? sql_bind(q, SQL_SESSION_MOVE, "siIi", row->session, row->prompt,
			     *reply, now_ms)
		  : sql_bind(q, SQL_SESSION_MOVE, "siIi", row->session, row->prompt,
			     row->base, now_ms);
	return sql_run(q, st, e);
}

static int64_t nanousd(double usd)
{
	return usd >= 0 && usd < 9e9 ? (int64_t)llround(usd * 1e9) : -1;
}

static int turn_write(struct sql *q, int64_t turn, const struct store_turn_end *end,
		      int64_t reply, struct err *e)
{
	sqlite3_stmt *st =
		sql_bind(q, SQL_TURN_END, "isISsnnnnnIss", turn, end->status, reply,
			 end->len ? end->text : NULL, end->len, end->error,
			 end->tokens_in, end->tokens_cached, end->tokens_out,
			 end->ttft_ms, end->total_ms, nanousd(end->cost_usd), end->model,
			 end->provider);

	/* 'I' makes 0 NULL, and a turn that cost nothing is not a turn of unknown cost */
	if (st && end->cost_usd >= 0 && nanousd(end->cost_usd) == 0)
		sqlite3_bind_int64(st, 11, 0);
	return sql_run(q, st, e);
}

int tree_turn_end(struct sql *q, int64_t turn, const struct store_turn_end *end,
		  int64_t now_ms, struct err *e)
{
	bool done = !strcmp(end->status, "done"),
	     cancelled = !strcmp(end->status, "cancelled");
	struct turn_row row;
	int64_t reply;

	if (!done && !cancelled && strcmp(end->status, "error"))
		return err_set(e, ERR_INVALID, "a turn cannot end as '%.40s'",
			       end->status);
	if (turn_get(q, turn, &row, e) < 0 ||
	    turn_settle(q, &row, done || (cancelled && end->len > 0),
			(struct str){end->text, end->len}, now_ms, &reply, e) < 0)
		return -1;
	return turn_write(q, turn, end, reply, e);
}

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
	    turn_settle(q, &row, end.len > 0, str_of(partial), now_ms, &reply, e) < 0)
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
		partial = column_dup(st, 1);
		sqlite3_reset(st);
		rc = interrupt_one(q, turn, partial ? partial : "", now_ms, e);
		free(partial);
		if (rc < 0)
			return -1;
	}
}

/* ---- lists and forgetting ---- */

void tree_list_free(struct tree_list *l)
{
	for (int i = 0; i < l->n; i++) {
		free((char *)l->items[i].id);
		free((char *)l->items[i].title);
		free((char *)l->items[i].model);
		free((char *)l->items[i].status);
		free((char *)l->items[i].partial);
	}
	free(l->items);
	*l = (struct tree_list){0};
}

int tree_list(struct sql *q, const char *id, int limit, struct tree_list *out,
	      struct err *e)
{
	sqlite3_stmt *st;
	int rc;

	if (id || limit < 1)
		limit = 1;
	if (limit > TREE_MAX_LIST)
		limit = TREE_MAX_LIST;
	*out = (struct tree_list){.items = xcalloc((size_t)limit, sizeof(*out->items))};
	st = id ? sql_bind(q, SQL_GET, "s", id)
		: sql_bind(q, SQL_LIST, "i", (int64_t)limit);
	while ((rc = sql_step(q, st, e)) == 1 && out->n < limit) {
		out->items[out->n++] = (struct store_conversation){
			.id = column_dup(st, 0),
			.title = column_dup(st, 1),
			.model = column_dup(st, 2),
			.created_ms = sqlite3_column_int64(st, 3),
			.updated_ms = sqlite3_column_int64(st, 4),
			.messages = sqlite3_column_int(st, 5),
			.status = column_dup(st, 6),
			.partial = column_dup(st, 7),
		};
	}
	if (rc == 0 && id && out->n == 0)
		rc = no_conversation(e, id);
	if (rc < 0)
		tree_list_free(out);
	return rc < 0 ? -1 : 0;
}

static int members(struct sql *q, const char *id, int64_t **ids, size_t *n, struct err *e)
{
	sqlite3_stmt *st = sql_bind(q, SQL_SESSION_MEMBERS, "s", id);
	size_t cap = 0;
	int rc;

	while ((rc = sql_step(q, st, e)) == 1) {
		if (*n == cap) {
			cap = cap ? cap * 2 : 64;
			*ids = xrealloc(*ids, cap * sizeof(**ids));
		}
		(*ids)[(*n)++] = sqlite3_column_int64(st, 0);
	}
	return rc;
}

/* Children have greater ids than their parents, so from the greatest down a message is looked at
 * only after all that hangs on it; what another conversation reaches stays. */
int tree_delete(struct sql *q, const char *id, struct err *e)
{
	int64_t *ids = NULL, head;
	size_t n = 0;
	int rc = session_head(q, id, &head, e);

	if (rc == 0)
		rc = members(q, id, &ids, &n, e);
	if (rc == 0)
		rc = sql_run(q, sql_bind(q, SQL_SESSION_DELETE, "s", id), e);
	for (size_t i = 0; rc == 0 && i < n; i++)
		rc = sql_run(q, sql_bind(q, SQL_MESSAGE_FORGET, "i", ids[i]), e);
	free(ids);
	return rc;
}
