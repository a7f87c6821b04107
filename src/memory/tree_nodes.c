/* Messages as immutable nodes.
 *
 * Store thread, inside transactions that store.c opens.  The decision to question: a node is
 * found by the hash of its parent, role and content, so sending the same thing again after the
 * same history finds the old row, and a retry or a second client never doubles it.  A cut
 * SHA-256 and not XXH3, since a crafted collision would splice one history into another.
 * What the model thought aloud is beside the content and not hashed: clients send it back or not. */
#include "memory/tree.h"

#include <sha2.h>
#include "base/json.h"
#include "memory/blobs.h"

/* ---- hashes ---- */

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

void tree_hex(sqlite3_stmt *st, int col, char out[STORE_HASH_TEXT_BYTES])
{
	const uint8_t *hash = sqlite3_column_blob(st, col);

	out[0] = 0;
	if (sqlite3_column_bytes(st, col) != TREE_HASH_BYTES)
		return;
	for (int i = 0; i < TREE_HASH_BYTES; i++) {
		out[2 * i] = "0123456789abcdef"[hash[i] >> 4];
		out[2 * i + 1] = "0123456789abcdef"[hash[i] & 15];
	}
	out[2 * TREE_HASH_BYTES] = 0;
}

/* The hash of a message; of none (0): *known false. */
static int hash_get(struct sql *q, int64_t id, uint8_t out[TREE_HASH_BYTES],
		    struct err *e)
{
	sqlite3_stmt *st = sql_bind(q, SQL_MESSAGE_HASH, "i", id);
	int rc = sql_step(q, st, e);

	if (rc != 1 || sqlite3_column_bytes(st, 0) != TREE_HASH_BYTES)
		return rc < 0 ? -1
			      : err_set(e, ERR_CORRUPT, "message %lld is missing",
					(long long)id);
	memcpy(out, sqlite3_column_blob(st, 0), TREE_HASH_BYTES);
	return sql_run(q, st, e);
}

int tree_hash_of(struct sql *q, int64_t id, char out[STORE_HASH_TEXT_BYTES],
		 struct err *e)
{
	sqlite3_stmt *st;
	int rc;

	out[0] = 0;
	if (!id)
		return 0;
	st = sql_bind(q, SQL_MESSAGE_HASH, "i", id);
	rc = sql_step(q, st, e);
	if (rc <= 0)
		return rc;
	tree_hex(st, 0, out);
	return sql_run(q, st, e);
}

/* ---- content ---- */

/* Attachments travel in the message's own JSON. */
static int within_limits(const struct sql *q, size_t text, size_t raw, struct err *e)
{
	uint64_t max = q->max_message_bytes, more = q->max_attachment_bytes;

	if (max && text > max)
		return err_set(e, ERR_TOO_LARGE,
			       "a message of %zu bytes is not kept: max_message is %llu",
			       text, (unsigned long long)max);
	if (max && more && raw > max + more)
		return err_set(e, ERR_TOO_LARGE,
			       "a message with %zu bytes of attachments is not kept: "
			       "max_message and max_attachment are %llu together",
			       raw, (unsigned long long)(max + more));
	return 0;
}

/* [{"type":"text","text":…}] and, for what is more than text, {"type":"openai","message":…}. */
static int parts_of(struct sql *q, struct str text, const char *raw_json, struct buf *out,
		    struct err *e)
{
	size_t raw_len = raw_json ? strlen(raw_json) : 0;
	cJSON *tree;

	if (within_limits(q, text.len, raw_len, e) < 0)
		return -1;
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

/* ---- finding and making ---- */

int tree_insert(struct sql *q, const uint8_t *hash, int64_t parent,
		const struct tree_node *n, int64_t created_ms, int64_t *id, struct err *e)
{
	struct blobs blobs;
	struct str parts;
	int rc;

	blobs_cut(n->parts, &blobs);
	parts = blobs.n ? buf_str(&blobs.parts) : n->parts;
	*id = ++q->last_message;
	rc = sql_run(q,
		     sql_bind(q, SQL_MESSAGE_ADD, "bIsSiiis", (void *)hash,
			      TREE_HASH_BYTES, parent, n->role, parts.ptr, parts.len,
			      (int64_t)parts.len, created_ms, *id, n->reasoning),
		     e);
	if (rc == 0)
		rc = blobs_put(q, *id, &blobs, e);
	blobs_free(&blobs);
	return rc;
}

/* The node under `parent` (0 = a root) with this content: found, or made. */
static int node_put(struct sql *q, int64_t parent, const struct tree_node *n,
		    int64_t now_ms, int64_t *id, struct err *e)
{
	uint8_t hash[TREE_HASH_BYTES], above[TREE_HASH_BYTES];
	int rc;

	if (parent && hash_get(q, parent, above, e) < 0)
		return -1;
	tree_hash(parent ? above : NULL, n->role, n->parts, hash);
	rc = sql_run_int(
		q, sql_bind(q, SQL_MESSAGE_FIND, "b", (void *)hash, TREE_HASH_BYTES), id,
		e);
	if (rc != 0)
		return rc < 0 ? -1 : 0;
	return tree_insert(q, hash, parent, n, now_ms, id, e);
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

int tree_append(struct sql *q, int64_t *head, const struct message *m, bool whole,
		int64_t now_ms, struct err *e)
{
	struct buf parts = {0};
	struct tree_node n = {.role = role_name(m->role)};
	int rc = parts_of(q, str_of(m->text), m->raw_json, &parts, e);

	n.parts = buf_str(&parts);
	if (rc == 0 && m->role == ROLE_SYSTEM && !whole)
		rc = repeats_system(q, *head, n.parts, e);
	if (rc == 0)
		rc = node_put(q, *head, &n, now_ms, head, e);
	buf_free(&parts);
	return rc < 0 ? -1 : 0;
}

int tree_append_reply(struct sql *q, int64_t *head, const struct store_turn_end *end,
		      int64_t now_ms, struct err *e)
{
	struct buf parts = {0};
	struct tree_node n = {.role = role_name(ROLE_ASSISTANT),
			      .reasoning = end->reasoning};
	int rc = parts_of(q, (struct str){end->text, end->len}, end->raw_json, &parts, e);

	n.parts = buf_str(&parts);
	if (rc == 0)
		rc = node_put(q, *head, &n, now_ms, head, e);
	buf_free(&parts);
	return rc;
}

int tree_lookup(struct sql *q, const uint8_t *above, const struct message *m,
		uint8_t hash[TREE_HASH_BYTES], int64_t *id, struct err *e)
{
	struct buf parts = {0};
	int rc = parts_of(q, str_of(m->text), m->raw_json, &parts, e);

	if (rc == 0) {
		tree_hash(above, role_name(m->role), buf_str(&parts), hash);
		rc = sql_run_int(
			q,
			sql_bind(q, SQL_MESSAGE_FIND, "b", (void *)hash, TREE_HASH_BYTES),
			id, e);
	}
	buf_free(&parts);
	return rc;
}
