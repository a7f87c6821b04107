/* How much of a history that a client keeps itself is known.
 *
 * Store thread.  Clients send their own words back letter by letter, so the chain of hashes finds
 * those.  What a model said with tool calls comes back as the client's library prints it: with nulls
 * for what there was not, without the index that a stream had.  Such a message is looked for among the
 * answers to the same question, by what it says. */
#include "memory/tree.h"

#include "base/json.h"

enum { MAX_SIBLINGS = 64 }; /* answers to one question that are looked at */

/* ---- whether two say the same ---- */

static bool says_nothing(const cJSON *v)
{
	return cJSON_IsNull(v) ||
	       ((cJSON_IsArray(v) || cJSON_IsObject(v)) && !v->child) ||
	       (v->string && (!strcmp(v->string, "index") || !strcmp(v->string, "type")));
}

static bool same(const cJSON *a, const cJSON *b);

static bool covers(const cJSON *a, const cJSON *b)
{
	const cJSON *m, *other;

	cJSON_ArrayForEach(m, a)
	{
		if (says_nothing(m))
			continue;
		other = cJSON_GetObjectItemCaseSensitive(b, m->string);
		if (!other || !same(m, other))
			return false;
	}
	return true;
}

static bool same_array(const cJSON *a, const cJSON *b)
{
	for (a = a->child, b = b->child; a && b; a = a->next, b = b->next)
		if (!same(a, b))
			return false;
	return !a && !b;
}

/* The parser bounds the depth. */
static bool same(const cJSON *a, const cJSON *b)
{
	if ((a->type & 0xff) != (b->type & 0xff))
		return false;
	if (cJSON_IsObject(a))
		return covers(a, b) && covers(b, a);
	if (cJSON_IsArray(a))
		return same_array(a, b);
	if (cJSON_IsString(a))
		return !strcmp(a->valuestring, b->valuestring);
	return !cJSON_IsNumber(a) ||
	       (a->valuedouble >= b->valuedouble && a->valuedouble <= b->valuedouble);
}

static bool same_member(const cJSON *a, const cJSON *b, const char *key)
{
	const cJSON *x = cJSON_GetObjectItemCaseSensitive(a, key),
		    *y = cJSON_GetObjectItemCaseSensitive(b, key);
	bool no_x = !x || says_nothing(x), no_y = !y || says_nothing(y);

	return no_x || no_y ? no_x && no_y : same(x, y);
}

static bool same_calls(const cJSON *a, const cJSON *b)
{
	return a && b && same_member(a, b, "tool_calls") &&
	       same_member(a, b, "function_call") && same_member(a, b, "audio");
}

/* ---- among the answers to the same question ---- */

/* 1: this row says it. */
static int row_says(sqlite3_stmt *st, const struct message *m, const cJSON *own)
{
	const char *text = (const char *)sqlite3_column_text(st, 2),
		   *raw = (const char *)sqlite3_column_text(st, 3);
	cJSON *tree;
	int rc;

	if (!text || !raw || strcmp(text, m->text) != 0)
		return 0;
	tree = json_parse(str_of(raw), NULL);
	rc = same_calls(tree, own);
	cJSON_Delete(tree);
	return rc;
}

static int find_sibling(struct sql *q, int64_t parent, const struct message *m,
			uint8_t hash[TREE_HASH_BYTES], int64_t *id, struct err *e)
{
	sqlite3_stmt *st =
		sql_bind(q, SQL_MESSAGE_ANSWERS, "ii", parent, (int64_t)MAX_SIBLINGS);
	cJSON *own = json_parse(str_of(m->raw_json), e);
	int rc = own ? 0 : -1;

	while (own && (rc = sql_step(q, st, e)) == 1)
		if (sqlite3_column_bytes(st, 1) == TREE_HASH_BYTES &&
		    row_says(st, m, own)) {
			*id = sqlite3_column_int64(st, 0);
			memcpy(hash, sqlite3_column_blob(st, 1), TREE_HASH_BYTES);
			break;
		}
	cJSON_Delete(own);
	if (rc == 1)
		sqlite3_reset(st);
	return rc;
}

int tree_known(struct sql *q, const struct message *messages, int n,
	       struct tree_known *out, struct err *e)
{
	uint8_t above[TREE_HASH_BYTES], hash[TREE_HASH_BYTES];

	*out = (struct tree_known){0};
	for (int i = 0; i < n; i++) {
		const struct message *m = &messages[i];
		int64_t id = 0;
		int rc = tree_lookup(q, i ? above : NULL, m, hash, &id, e);

		if (rc == 0 && i > 0 && m->role == ROLE_ASSISTANT && m->raw_json)
			rc = find_sibling(q, out->at, m, hash, &id, e);
		if (rc <= 0)
			return rc;
		memcpy(above, hash, sizeof(above));
		out->n = i + 1;
		out->at = id;
		if (m->role != ROLE_ASSISTANT)
			continue;
		out->last_reply = id;
		if (!out->first_reply)
			out->first_reply = id;
	}
	return 0;
}
