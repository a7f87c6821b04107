/* hob's JSON lines, read and written.
 *
 * Any thread; no state.  The decision to question: `parts` is not read as a tree but cut out of the
 * line, since the message's hash is over those very bytes; what a tree would print again might
 * differ.  Each piece is then read on its own, so that a message's own JSON may be as deep here as
 * it was in the request that brought it. */
#include "memory/move_json.h"

#include "memory/json_slice.h"
#include "memory/tree.h"

/* 9999-12-31 */
#define MAX_MS INT64_C(253402300799999)

bool move_next(struct str *rest, struct str *line)
{
	const char *end = rest->len ? memchr(rest->ptr, '\n', rest->len) : NULL;
	size_t n = end ? (size_t)(end - rest->ptr) : rest->len;

	if (!rest->len)
		return false;
	*line = (struct str){rest->ptr, n};
	rest->ptr += n + (end != NULL);
	rest->len -= n + (end != NULL);
	if (n && line->ptr[n - 1] == '\r')
		line->len--;
	return true;
}

/* ---- reading members ---- */

/* A text that must be there, at most `max` bytes. */
static int want_text(const cJSON *obj, const char *key, size_t max, const char **out,
		     struct err *e)
{
	int rc = json_string(obj, key, out, e);

	if (rc < 0)
		return -1;
	if (rc == 0)
		return err_set(e, ERR_INVALID, "'%s' is missing", key);
	if (strlen(*out) > max)
		return err_set(e, ERR_TOO_LARGE, "'%s' is over %zu bytes", key, max);
	return 0;
}

/* The same; "" when it is absent. */
static int may_text(const cJSON *obj, const char *key, size_t max, const char **out,
		    struct err *e)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(obj, key);

	*out = "";
	return !item || cJSON_IsNull(item) ? 0 : want_text(obj, key, max, out, e);
}

static int want_time(const cJSON *obj, const char *key, int64_t *out, struct err *e)
{
	int rc = json_int(obj, key, 0, MAX_MS, out, e);

	return rc < 0 ? -1 : rc ? 0 : err_set(e, ERR_INVALID, "'%s' is missing", key);
}

/* A hash, or "" for none. */
static int may_hash(const cJSON *obj, const char *key, const char **out, struct err *e)
{
	uint8_t ignored[MOVE_HASH_BYTES];

	if (may_text(obj, key, MOVE_MAX_NAME_BYTES, out, e) < 0)
		return -1;
	if (**out && !move_hash_parse(*out, ignored))
		return err_set(e, ERR_INVALID, "'%s' is not 32 hex digits", key);
	return 0;
}

static int want_hash(const cJSON *obj, const char *key, uint8_t out[MOVE_HASH_BYTES],
		     struct err *e)
{
	const char *text;

	if (want_text(obj, key, MOVE_MAX_NAME_BYTES, &text, e) < 0)
		return -1;
	if (!move_hash_parse(text, out))
		return err_set(e, ERR_INVALID, "'%s' is not 32 hex digits", key);
	return 0;
}

static cJSON *tree_of(struct str text, struct err *e)
{
	cJSON *tree = json_read(text, JSON_UTF8 | JSON_NO_NUL, e);

	if (tree && !cJSON_IsObject(tree)) {
		err_set(e, ERR_INVALID, "not a JSON object");
		cJSON_Delete(tree);
		tree = NULL;
	}
	return tree;
}

/* ---- a conversation ---- */

static bool id_valid(const char *id)
{
	if (strlen(id) != CONVERSATION_ID_BYTES - 1)
		return false;
	for (; *id; id++)
		if (!strchr("0123456789ABCDEFGHJKMNPQRSTVWXYZ", *id))
			return false;
	return true;
}

static int read_id(const cJSON *obj, const char *key, const char **out, struct err *e)
{
	if (may_text(obj, key, MOVE_MAX_NAME_BYTES, out, e) < 0)
		return -1;
	if (**out && !id_valid(*out))
		return err_set(e, ERR_INVALID, "'%s' is not a conversation's id", key);
	return 0;
}

static int read_metadata(struct move_line *l, const cJSON *obj, struct err *e)
{
	const cJSON *m = NULL;
	int rc = json_object(obj, "metadata", &m, e);

	if (rc < 0)
		return -1;
	if (m)
		json_print(&l->texts[0], m);
	else
		buf_adds(&l->texts[0], "{}");
	l->conversation.metadata = l->texts[0].data;
	return l->texts[0].len <= STORE_MAX_METADATA_BYTES
		       ? 0
		       : err_set(e, ERR_TOO_LARGE, "'metadata' is over %d bytes",
				 STORE_MAX_METADATA_BYTES);
}

static int read_conversation(struct move_line *l, const cJSON *obj, struct err *e)
{
	struct move_conversation *c = &l->conversation;
	int64_t version = 0;

	if (json_int(l->tree, "hob", 0, INT32_MAX, &version, e) < 0)
		return -1;
	if (version != 1)
		return err_set(e, ERR_UNSUPPORTED,
			       "'hob' is %lld: this hob reads lines of version 1",
			       (long long)version);
	if (read_id(obj, "id", &c->id, e) < 0 ||
	    read_id(obj, "forked_from", &c->forked_from, e) < 0 ||
	    may_text(obj, "title", STORE_MAX_TITLE_BYTES, &c->title, e) < 0 ||
	    may_text(obj, "model", MOVE_MAX_NAME_BYTES, &c->model, e) < 0 ||
	    may_hash(obj, "head", &c->head, e) < 0 ||
	    want_time(obj, "created_ms", &c->created_ms, e) < 0 ||
	    want_time(obj, "updated_ms", &c->updated_ms, e) < 0 ||
	    json_bool(obj, "pinned", &c->pinned, e) < 0 ||
	    json_bool(obj, "private", &c->is_private, e) < 0 ||
	    may_text(obj, "title_by", MOVE_MAX_NAME_BYTES, &c->title_by, e) < 0)
		return -1;
	if (!*c->id)
		return err_set(e, ERR_INVALID, "'id' is missing");
	if (*c->title_by && strcmp(c->title_by, "user") && strcmp(c->title_by, "model"))
		return err_set(e, ERR_INVALID, "'title_by' is neither user nor model");
	if (!*c->forked_from)
		c->forked_from = NULL;
	return read_metadata(l, obj, e);
}

/* ---- a message ---- */

/* What the message is to providers: an object, of the same role. */
static int read_raw(struct move_line *l, struct str raw, struct err *e)
{
	cJSON *tree = tree_of(raw, e);
	const char *name = NULL;
	enum role role;
	int rc = -1;

	if (!tree)
		return err_wrap(e, "the message's own JSON");
	if (json_string(tree, "role", &name, e) < 0)
		goto out;
	if (name && (!role_by_name(name, &role) || role != l->message.role)) {
		err_set(e, ERR_INVALID, "role '%.40s' within a message of role '%s'",
			name, role_name(l->message.role));
		goto out;
	}
	buf_add(&l->texts[1], raw.ptr, raw.len);
	l->message.raw_json = l->texts[1].data;
	rc = 0;
out:
	cJSON_Delete(tree);
	return rc;
}

/* One part: its type, and the text or the message in it. */
static int read_part(struct move_line *l, struct str part, int at, struct err *e)
{
	struct buf rest = {0};
	struct str raw = {0};
	bool has_raw = json_slice_cut(part, "message", &raw, &rest);
	cJSON *tree = tree_of(has_raw ? buf_str(&rest) : part, e);
	const char *type = "", *text = NULL;
	int rc = -1;

	buf_free(&rest);
	if (!tree || want_text(tree, "type", MOVE_MAX_NAME_BYTES, &type, e) < 0)
		goto out;
	if (at == 0 && !strcmp(type, "text")) {
		if (want_text(tree, "text", TREE_MAX_MESSAGE_BYTES, &text, e) < 0)
			goto out;
		buf_adds(&l->texts[0], text);
		l->message.text = l->texts[0].data;
		rc = 0;
	} else if (at > 0 && !strcmp(type, "openai") && has_raw && !l->message.raw_json) {
		rc = read_raw(l, raw, e);
	} else {
		err_set(e, ERR_INVALID, "part %d of type '%.40s' has no place there", at,
			type);
	}
out:
	cJSON_Delete(tree);
	return rc;
}

/* parts, which must be what hob would write for the same content. */
static int read_parts(struct move_line *l, struct str parts, struct err *e)
{
	struct str at_part = parts;
	struct buf again = {0};
	struct str part;
	bool same;

	for (int at = 0; json_slice_next(&at_part, &part); at++)
		if (read_part(l, part, at, e) < 0)
			return err_wrap(e, "'parts'");
	if (!l->message.text)
		return err_set(e, ERR_INVALID, "'parts' has no text");
	move_write_parts(&again, l->message.text, l->message.raw_json);
	same = again.len == parts.len && !memcmp(again.data, parts.ptr, parts.len);
	buf_free(&again);
	return same ? 0
		    : err_set(e, ERR_INVALID, "'parts' is not written as hob writes it");
}

/* Where a message's own JSON has line breaks, parts stand as a string that holds them. */
static int parts_text(struct move_line *l, struct str *parts, struct err *e)
{
	struct buf wrapped = {0};
	const char *text = NULL;
	cJSON *tree;
	int rc = -1;

	if (!parts->len || *parts->ptr != '"')
		return 0;
	buf_addc(&wrapped, '[');
	buf_add(&wrapped, parts->ptr, parts->len);
	buf_addc(&wrapped, ']');
	tree = json_read(buf_str(&wrapped), JSON_UTF8 | JSON_NO_NUL, e);
	text = tree && cJSON_IsString(tree->child) ? tree->child->valuestring : NULL;
	if (text) {
		buf_adds(&l->texts[2], text);
		*parts = buf_str(&l->texts[2]);
		rc = 0;
	} else if (tree) {
		err_set(e, ERR_INVALID, "'parts' is no text");
	}
	cJSON_Delete(tree);
	buf_free(&wrapped);
	return rc;
}

static int read_message(struct move_line *l, struct str parts, struct err *e)
{
	struct move_message *m = &l->message;
	const cJSON *parent = cJSON_GetObjectItemCaseSensitive(l->tree, "parent");
	uint8_t hash[MOVE_HASH_BYTES];
	const char *role;

	m->is_root = cJSON_IsNull(parent);
	if (want_hash(l->tree, "hash", m->hash, e) < 0 ||
	    (!m->is_root && want_hash(l->tree, "parent", m->parent, e) < 0) ||
	    want_text(l->tree, "role", MOVE_MAX_NAME_BYTES, &role, e) < 0 ||
	    want_time(l->tree, "created_ms", &m->created_ms, e) < 0)
		return -1;
	if (json_string(l->tree, "reasoning", &m->reasoning, e) < 0)
		return -1;
	if (m->reasoning && strlen(m->reasoning) > TREE_MAX_MESSAGE_BYTES)
		return err_set(e, ERR_TOO_LARGE, "'reasoning' is over %d bytes",
			       TREE_MAX_MESSAGE_BYTES);
	if (!role_by_name(role, &m->role) || strcmp(role, role_name(m->role)))
		return err_set(e, ERR_INVALID, "no role '%.40s'", role);
	if (parts_text(l, &parts, e) < 0 || read_parts(l, parts, e) < 0)
		return -1;
	m->parts = parts;
	tree_hash(m->is_root ? NULL : m->parent, role, parts, hash);
	if (memcmp(hash, m->hash, sizeof(hash)))
		return err_set(e, ERR_CORRUPT,
			       "the hash is not that of parent, role and parts");
	return 0;
}

/* ---- a turn ---- */

static int read_counts(struct store_turn *t, const cJSON *obj, struct err *e)
{
	const struct {
		const char *key;
		int *out;
	} counts[] = {{"tokens_in", &t->tokens_in},
		      {"tokens_cached", &t->tokens_cached},
		      {"tokens_out", &t->tokens_out},
		      {"ttft_ms", &t->ttft_ms},
		      {"total_ms", &t->total_ms}};

	for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
		int64_t v = -1;

		if (json_int(obj, counts[i].key, 0, INT32_MAX, &v, e) < 0)
			return -1;
		*counts[i].out = (int)v;
	}
	t->cost_usd = -1;
	return json_double(obj, "cost_usd", 0, 9e9, &t->cost_usd, e) < 0 ? -1 : 0;
}

static int read_turn(struct move_line *l, const cJSON *obj, struct err *e)
{
	static const char *const statuses[] = {"done", "cancelled", "error",
					       "interrupted"};
	struct store_turn *t = &l->turn.row;
	const size_t max = MOVE_MAX_NAME_BYTES;

	if (may_text(obj, "request", REQUEST_ID_BYTES, &t->request, e) < 0 ||
	    want_text(obj, "status", max, &t->status, e) < 0 ||
	    may_text(obj, "model", max, &t->model, e) < 0 ||
	    may_text(obj, "provider", max, &t->provider, e) < 0 ||
	    may_text(obj, "error", MOVE_MAX_ERROR_BYTES, &t->error, e) < 0 ||
	    may_text(obj, "partial", TREE_MAX_MESSAGE_BYTES, &l->turn.partial, e) < 0 ||
	    may_hash(obj, "base", &t->base, e) < 0 ||
	    may_hash(obj, "prompt", &t->prompt, e) < 0 ||
	    may_hash(obj, "reply", &t->reply, e) < 0 ||
	    want_time(obj, "created_ms", &t->created_ms, e) < 0 ||
	    read_counts(t, obj, e) < 0)
		return -1;
	if (!*t->prompt)
		return err_set(e, ERR_INVALID, "'prompt' is missing");
	if (!cJSON_IsString(cJSON_GetObjectItemCaseSensitive(obj, "error")))
		t->error = NULL;
	if (!cJSON_IsString(cJSON_GetObjectItemCaseSensitive(obj, "partial")))
		l->turn.partial = NULL;
	for (size_t i = 0; i < ARRAY_LEN(statuses); i++)
		if (!strcmp(t->status, statuses[i]))
			return 0;
	return err_set(e, ERR_INVALID, "no turn ends as '%.40s'", t->status);
}

int move_read(struct str line, struct move_line *out, struct err *e)
{
	struct buf rest = {0};
	struct str parts = {0};
	const cJSON *obj = NULL;
	bool has_parts;
	int rc = -1;

	*out = (struct move_line){0};
	if (line.len > MOVE_MAX_LINE_BYTES)
		return err_set(e, ERR_TOO_LARGE, "a line of %zu MiB: at most %d MiB",
			       line.len >> 20, MOVE_MAX_LINE_BYTES >> 20);
	has_parts = json_slice_cut(line, "parts", &parts, &rest);
	out->tree = tree_of(has_parts ? buf_str(&rest) : line, e);
	buf_free(&rest);
	if (!out->tree)
		return -1;
	if (has_parts) {
		out->kind = MOVE_MESSAGE;
		rc = read_message(out, str_trim(parts), e);
	} else if (json_object(out->tree, "conversation", &obj, e) == 1) {
		out->kind = MOVE_CONVERSATION;
		rc = read_conversation(out, obj, e);
	} else if (json_object(out->tree, "turn", &obj, e) == 1) {
		out->kind = MOVE_TURN;
		rc = read_turn(out, obj, e);
	} else {
		err_set(e, ERR_INVALID, "neither a conversation, a message nor a turn");
	}
	if (rc < 0)
		move_line_free(out);
	return rc;
}

void move_line_free(struct move_line *l)
{
	cJSON_Delete(l->tree);
	for (size_t i = 0; i < ARRAY_LEN(l->texts); i++)
		buf_free(&l->texts[i]);
	l->tree = NULL;
}

/* ---- writing ---- */

void move_hash_text(const uint8_t hash[MOVE_HASH_BYTES], char out[STORE_HASH_TEXT_BYTES])
{
	for (int i = 0; i < MOVE_HASH_BYTES; i++)
		snprintf(out + 2 * i, 3, "%02x", hash[i]);
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool move_hash_parse(const char *text, uint8_t out[MOVE_HASH_BYTES])
{
	if (strlen(text) != 2 * MOVE_HASH_BYTES)
		return false;
	for (int i = 0; i < MOVE_HASH_BYTES; i++) {
		int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		out[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

static const char *or_null(const char *text)
{
	return text && *text ? text : NULL;
}

static void add_flag(struct buf *out, const char *key, bool value)
{
	if (value)
		buf_addf(out, ",\"%s\":true", key);
}

static void add_time(struct buf *out, const char *key, int64_t ms)
{
	buf_addf(out, ",\"%s\":", key);
	buf_addi(out, ms);
}

void move_write_conversation(struct buf *out, const struct move_conversation *c)
{
	cJSON *metadata = json_parse(str_of(c->metadata), NULL);

	buf_adds(out, "{\"hob\":1,\"conversation\":{");
	buf_add_json_text(out, "id", c->id);
	buf_add_json_text(out, "title", c->title);
	buf_add_json_text(out, "model", c->model);
	buf_add_json_text(out, "head", or_null(c->head));
	if (c->forked_from)
		buf_add_json_text(out, "forked_from", c->forked_from);
	buf_addf(out, ",\"pinned\":%s", c->pinned ? "true" : "false");
	add_flag(out, "private", c->is_private);
	if (*c->title_by)
		buf_add_json_text(out, "title_by", c->title_by);
	add_time(out, "created_ms", c->created_ms);
	add_time(out, "updated_ms", c->updated_ms);
	buf_adds(out, ",\"metadata\":");
	if (cJSON_IsObject(metadata))
		json_print(out, metadata);
	else
		buf_adds(out, "{}");
	buf_adds(out, "}}\n");
	cJSON_Delete(metadata);
}

void move_write_parts(struct buf *out, const char *text, const char *raw_json)
{
	buf_adds(out, "[{\"type\":\"text\",\"text\":");
	buf_add_json(out, text, strlen(text));
	buf_adds(out, "}");
	if (raw_json) {
		buf_adds(out, ",{\"type\":\"openai\",\"message\":");
		buf_adds(out, raw_json);
		buf_adds(out, "}");
	}
	buf_adds(out, "]");
}

void move_write_message(struct buf *out, const struct move_message *m)
{
	char text[STORE_HASH_TEXT_BYTES];

	buf_addc(out, '{');
	move_hash_text(m->hash, text);
	buf_add_json_text(out, "hash", text);
	if (!m->is_root)
		move_hash_text(m->parent, text);
	buf_add_json_text(out, "parent", m->is_root ? NULL : text);
	buf_add_json_text(out, "role", role_name(m->role));
	buf_adds(out, ",\"parts\":");
	if (memchr(m->parts.ptr, '\n', m->parts.len) ||
	    memchr(m->parts.ptr, '\r', m->parts.len))
		buf_add_json(out, m->parts.ptr, m->parts.len);
	else
		buf_add(out, m->parts.ptr, m->parts.len);
	add_time(out, "created_ms", m->created_ms);
	if (m->reasoning)
		buf_add_json_text(out, "reasoning", m->reasoning);
	buf_adds(out, "}\n");
}

static void add_count(struct buf *out, const char *key, int n)
{
	if (n < 0)
		buf_addf(out, ",\"%s\":null", key);
	else
		buf_addf(out, ",\"%s\":%d", key, n);
}

void move_write_row(struct buf *out, const struct store_turn *r)
{
	buf_add_json_text(out, "request", or_null(r->request));
	buf_add_json_text(out, "status", r->status);
	buf_add_json_text(out, "model", r->model);
	buf_add_json_text(out, "provider", or_null(r->provider));
	buf_add_json_text(out, "error", r->error);
	buf_add_json_text(out, "base", or_null(r->base));
	buf_add_json_text(out, "prompt", or_null(r->prompt));
	buf_add_json_text(out, "reply", or_null(r->reply));
	add_count(out, "tokens_in", r->tokens_in);
	add_count(out, "tokens_cached", r->tokens_cached);
	add_count(out, "tokens_out", r->tokens_out);
	add_count(out, "ttft_ms", r->ttft_ms);
	add_count(out, "total_ms", r->total_ms);
	buf_add_json_number(out, "cost_usd", r->cost_usd >= 0, r->cost_usd, 9);
	add_time(out, "created_ms", r->created_ms);
}

void move_write_turn(struct buf *out, const struct move_turn *t)
{
	buf_adds(out, "{\"turn\":{");
	move_write_row(out, &t->row);
	if (t->partial)
		buf_add_json_text(out, "partial", t->partial);
	buf_adds(out, "}}\n");
}
