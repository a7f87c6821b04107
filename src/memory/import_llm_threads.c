/* llm's newer schema: messages by hash of parent and content, threads that point at one, a turn for each
 * model call.
 *
 * A command's thread.  A message is read once however many turns reach it.  Its hash is llm's and is
 * not checked: hob makes its own.  Text that borrows from fragments is put together again. */
#include <uthash.h>
#include "base/json.h"
#include "memory/import_llm.h"

struct entry {
	char *hash; /* owned */
	int out;    /* the draft's message; -1: none, it was empty and a root */
	UT_hash_handle hh;
};

struct gathered {
	struct llm_message m;
	struct buf text, reasoning;
};

static const cJSON *member(const cJSON *obj, const char *key)
{
	return cJSON_IsObject(obj) ? cJSON_GetObjectItemCaseSensitive(obj, key) : NULL;
}

static const char *text_of(const cJSON *obj, const char *key)
{
	const cJSON *v = member(obj, key);

	return cJSON_IsString(v) ? v->valuestring : "";
}

/* ---- parts ---- */

static void add_fragment(struct llm *x, const cJSON *id, struct buf *out)
{
	sqlite3_stmt *st =
		llm_query(x, "SELECT content FROM fragments WHERE id = ?1", NULL, NULL);

	if (st)
		sqlite3_bind_int64(st, 1, (int64_t)id->valuedouble);
	if (llm_step(x, st, NULL)) {
		char *text = llm_text(st, 0);

		buf_adds(out, text);
		free(text);
	}
	sqlite3_finalize(st);
}

static void add_text(struct llm *x, const char *text, const cJSON *payload,
		     struct buf *out)
{
	const cJSON *piece, *fragment;

	buf_adds(out, text);
	if (!*text)
		buf_adds(out, text_of(payload, "text"));
	cJSON_ArrayForEach(piece, member(payload, "text_ref"))
	{
		fragment = member(piece, "fragment");
		buf_adds(out, text_of(piece, "literal"));
		if (cJSON_IsNumber(fragment))
			add_fragment(x, fragment, out);
	}
}

static void add_attachment(struct llm *x, const cJSON *ref, struct gathered *out)
{
	sqlite3_stmt *st = llm_query(
		x, "SELECT type, path, url, content FROM attachments WHERE id = ?1",
		text_of(ref, "id"), NULL);

	if (llm_step(x, st, NULL)) {
		llm_attachment(x, st, 0, &out->text, &out->m.images);
	} else {
		buf_adds(&out->text, "[attachment]");
		x->counts->notes++;
	}
	sqlite3_finalize(st);
}

static void add_call(const cJSON *payload, const char *name, int64_t part,
		     struct gathered *out)
{
	const cJSON *arguments = member(payload, "arguments");
	const char *id = text_of(payload, "tool_call_id");
	char own_id[40];
	struct buf text = {0};

	snprintf(own_id, sizeof(own_id), "call_%lld", (long long)part);
	if (arguments)
		json_print(&text, arguments);
	else
		buf_adds(&text, "{}");
	llm_add_call(&out->m.calls, *id ? id : own_id, name, text.data);
	buf_free(&text);
}

/* A tool message may hold several results: each is a message of ours. */
static int add_result(struct llm *x, const cJSON *payload, int at, int64_t created_ms)
{
	const char *id = text_of(payload, "tool_call_id");
	struct gathered out = {0};
	const cJSON *ref;

	buf_adds(&out.text, text_of(payload, "output"));
	cJSON_ArrayForEach(ref, member(payload, "attachments"))
		add_attachment(x, ref, &out);
	out.m.role = ROLE_TOOL;
	out.m.text = out.text.data;
	out.m.call_id = *id ? id : "call";
	out.m.created_ms = created_ms;
	at = llm_add(x, at, &out.m);
	buf_free(&out.text);
	return at;
}

enum { PART_ID, PART_TYPE, PART_NAME, PART_TEXT, PART_PAYLOAD };

static int add_part(struct llm *x, sqlite3_stmt *st, struct gathered *out, int at,
		    int64_t created_ms)
{
	char *type = llm_text(st, PART_TYPE), *name = llm_text(st, PART_NAME),
	     *text = llm_text(st, PART_TEXT), *payload_text = llm_text(st, PART_PAYLOAD);
	cJSON *payload = *payload_text ? json_parse(str_of(payload_text), NULL) : NULL;

	if (!strcmp(type, "text")) {
		add_text(x, text, payload, &out->text);
	} else if (!strcmp(type, "reasoning")) {
		add_text(x, text, payload, &out->reasoning);
	} else if (!strcmp(type, "attachment")) {
		add_attachment(x, member(payload, "attachment"), out);
	} else if (!strcmp(type, "tool_call")) {
		add_call(payload, name, sqlite3_column_int64(st, PART_ID), out);
	} else if (!strcmp(type, "tool_result")) {
		at = add_result(x, payload, at, created_ms);
	} else {
		buf_addf(&out->text, "[%.100s]", type);
		x->counts->notes++;
	}
	free(type);
	free(name);
	free(text);
	free(payload_text);
	cJSON_Delete(payload);
	return at;
}

/* ---- messages ---- */

/* Behind `at`; the index of what it became, `at` when it is nothing. */
static int add_message(struct llm *x, const char *hash, int at, int64_t created_ms)
{
	sqlite3_stmt *st =
		llm_query(x, "SELECT role FROM messages WHERE hash = ?1", hash, NULL);
	struct gathered out = {.m = {.created_ms = created_ms}};
	char *role = llm_step(x, st, NULL) ? llm_text(st, 0) : xstrdup("");
	bool known = role_by_name(role, &out.m.role);

	sqlite3_finalize(st);
	if (!known)
		draft_skip(x->counts, "a message of role", role);
	free(role);
	if (!known)
		return at;
	st = llm_query(x,
		       "SELECT id, type, tool_name, text, payload FROM parts WHERE "
		       "message_hash = ?1 ORDER BY position",
		       hash, NULL);
	while (llm_step(x, st, NULL))
		at = add_part(x, st, &out, at, created_ms);
	sqlite3_finalize(st);
	if (out.m.role ==
	    ROLE_TOOL) /* its results are messages already; its rest is prose */
		out.m.role = ROLE_USER;
	out.m.text = out.text.data;
	out.m.reasoning = out.reasoning.data;
	if (out.text.len || out.m.images || out.m.calls)
		at = llm_add(x, at, &out.m);
	buf_free(&out.text);
	buf_free(&out.reasoning);
	return at;
}

static char *parent_of(struct llm *x, const char *hash, bool *found)
{
	sqlite3_stmt *st = llm_query(
		x, "SELECT parent_hash FROM messages WHERE hash = ?1", hash, NULL);
	char *parent = NULL;

	*found = llm_step(x, st, NULL);
	if (*found)
		parent = llm_text(st, 0);
	sqlite3_finalize(st);
	return parent;
}

static struct entry *remember(struct entry **known, char *hash)
{
	struct entry *n = xcalloc(1, sizeof(*n));

	n->hash = hash;
	n->out = -1;
	HASH_ADD_KEYPTR(hh, *known, n->hash, strlen(n->hash), n);
	return n;
}

/* Messages from the first unknown one to `tip`; the draft's index of tip, -1 when it is none.  What is
 * remembered before it is added ends a walk in a circle. */
static int add_chain(struct llm *x, struct entry **known, const char *tip,
		     int64_t created_ms)
{
	struct entry **chain = NULL, *above = NULL;
	char *hash = xstrdup(tip);
	int n = 0, cap = 0, at;

	while (hash && *hash) {
		bool found;
		char *parent;

		HASH_FIND_STR(*known, hash, above);
		if (above)
			break;
		parent = parent_of(x, hash, &found);
		if (!found) {
			draft_skip(x->counts, "a message", "it is not in the file");
			break;
		}
		if (n == cap) {
			cap = cap ? cap * 2 : 64;
			chain = xrealloc(chain, (size_t)cap * sizeof(struct entry *));
		}
		chain[n++] = remember(known, hash);
		hash = parent;
	}
	at = above ? above->out : -1;
	for (int i = n; i-- > 0;)
		at = chain[i]->out = add_message(x, chain[i]->hash, at, created_ms);
	free(hash);
	free(chain);
	return at;
}

/* ---- threads ---- */

enum { TURN_BEFORE, TURN_TIP, TURN_MODEL, TURN_IN, TURN_OUT, TURN_MS, TURN_TIME };

static void add_turn(struct llm *x, struct entry **known, sqlite3_stmt *st)
{
	char *before = llm_text(st, TURN_BEFORE), *tip = llm_text(st, TURN_TIP),
	     *model = llm_text(st, TURN_MODEL);
	struct draft_turn t = {.base = -1,
			       .model = model,
			       .provider = "llm",
			       .tokens_in = llm_number(st, TURN_IN),
			       .tokens_out = llm_number(st, TURN_OUT),
			       .total_ms = llm_number(st, TURN_MS),
			       .created_ms = llm_time(st, TURN_TIME)};

	t.prompt = *before ? add_chain(x, known, before, t.created_ms) : -1;
	t.reply = *tip ? add_chain(x, known, tip, t.created_ms) : -1;
	t.reply = t.reply == t.prompt ? -1 : t.reply;
	draft_turn(x->draft, &t);
	free(before);
	free(tip);
	free(model);
}

static int one_thread(struct llm *x, const char *id, const char *name, const char *tip,
		      int64_t created_ms, struct err *e)
{
	sqlite3_stmt *st = llm_query(
		x,
		"SELECT parent_message_hash, tip_message_hash, model, input_tokens, "
		"output_tokens, duration_ms, datetime_utc FROM turns WHERE thread_id = ?1 "
		"ORDER BY datetime_utc, id",
		id, e);
	struct entry *known = NULL, *entry, *next;
	int64_t last_ms = created_ms;
	char *model = NULL;
	int head, rc = -1;

	x->draft = draft_new(x->in, "llm", id, created_ms, x->counts);
	while (st && llm_step(x, st, e)) {
		last_ms = llm_time(st, TURN_TIME);
		free(model);
		model = llm_text(st, TURN_MODEL);
		add_turn(x, &known, st);
	}
	head = add_chain(x, &known, tip, last_ms);
	if (st && e->code == ERR_NONE)
		rc = draft_end(x->draft, head, name, model, last_ms, x->sink, x->arg, e);
	HASH_ITER(hh, known, entry, next)
	{
		HASH_DEL(known, entry);
		free(entry->hash);
		free(entry);
	}
	sqlite3_finalize(st);
	free(model);
	draft_free(x->draft);
	x->draft = NULL;
	return rc;
}

int llm_threads(struct llm *x, struct err *e)
{
	sqlite3_stmt *st = llm_query(x,
				     "SELECT id, name, tip_message_hash, datetime_utc "
				     "FROM threads ORDER BY datetime_utc, id",
				     NULL, e);
	int rc = st ? 0 : -1;

	while (rc == 0 && llm_step(x, st, e)) {
		char *id = llm_text(st, 0), *name = llm_text(st, 1),
		     *tip = llm_text(st, 2);

		rc = one_thread(x, id, name, tip, llm_time(st, 3), e);
		free(id);
		free(name);
		free(tip);
	}
	sqlite3_finalize(st);
	return e->code == ERR_NONE ? rc : -1;
}
