/* Conversations: their ids, where their heads stand and may go, what is said about them.
 *
 * Store thread.  A conversation owns no messages: it has reached some, by its head, its turns and
 * its tips, and what nothing reaches any more goes with the last conversation that did. */
#include "memory/tree.h"

#include "base/json.h"
#include "memory/ulid.h"

char *tree_dup(sqlite3_stmt *st, int col)
{
	const char *text = (const char *)sqlite3_column_text(st, col);

	return text ? xstrdup(text) : NULL;
}

int tree_no_conversation(struct err *e, const char *id)
{
	return err_set(e, ERR_NOT_FOUND, "no conversation '%.40s'", id);
}

/* ---- ids ---- */

/* Later than every id so far, whatever the clock says. */
static void new_id(struct sql *q, int64_t now_ms, char id[CONVERSATION_ID_BYTES])
{
	q->last_id_ms = now_ms > q->last_id_ms ? now_ms : q->last_id_ms + 1;
	ulid_make(q->last_id_ms, id);
	if (q->in_memory)
		id[0] = 'Z';
}

static int last_id(struct sql *q, char id[CONVERSATION_ID_BYTES], struct err *e)
{
	sqlite3_stmt *st = sql_bind(q, SQL_SESSION_LAST, "");
	int rc = sql_step(q, st, e);

	if (rc == 0)
		return err_set(e, ERR_NOT_FOUND, "there is no conversation yet");
	if (rc < 0)
		return -1;
	snprintf(id, CONVERSATION_ID_BYTES, "%s",
		 (const char *)sqlite3_column_text(st, 0));
	return sql_run(q, st, e);
}

int tree_resolve(struct sql *q, const char *name, const char *model, int64_t now_ms,
		 char id[CONVERSATION_ID_BYTES], struct err *e)
{
	if (!strcmp(name, "new")) {
		if (q->read_only)
			return err_set(e, ERR_UNSUPPORTED, "memory is read-only");
		new_id(q, now_ms, id);
		return sql_run(q,
			       sql_bind(q, SQL_SESSION_ADD, "ssi", id, model ? model : "",
					now_ms),
			       e);
	}
	if (!strcmp(name, "last"))
		return last_id(q, id, e);
	if (strlen(name) >= CONVERSATION_ID_BYTES)
		return tree_no_conversation(e, name);
	snprintf(id, CONVERSATION_ID_BYTES, "%s", name);
	return 0;
}

int tree_resolve_old(struct sql *q, const char *name, char id[CONVERSATION_ID_BYTES],
		     struct err *e)
{
	if (!strcmp(name, "new"))
		return err_set(e, ERR_INVALID, "'new' is not a conversation yet");
	return tree_resolve(q, name, NULL, 0, id, e);
}

/* ---- heads ---- */

int tree_head(struct sql *q, const char *id, struct tree_head *out, struct err *e)
{
	sqlite3_stmt *st = sql_bind(q, SQL_SESSION_HEAD, "s", id);
	int rc = sql_step(q, st, e);

	if (rc <= 0)
		return rc < 0 ? -1 : tree_no_conversation(e, id);
	out->id = sqlite3_column_int64(st, 0);
	out->is_private = sqlite3_column_int(st, 1);
	return sql_run(q, st, e);
}

static int hex_digit(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

static bool hash_read(const char *name, uint8_t out[TREE_HASH_BYTES])
{
	if (strlen(name) != 2 * TREE_HASH_BYTES)
		return false;
	for (int i = 0; i < TREE_HASH_BYTES; i++) {
		int hi = hex_digit(name[2 * i]), lo = hex_digit(name[2 * i + 1]);

		if (hi < 0 || lo < 0)
			return false;
		out[i] = (uint8_t)(hi << 4 | lo);
	}
	return true;
}

int tree_find(struct sql *q, const char *id, const char *name, int64_t *message,
	      struct err *e)
{
	uint8_t hash[TREE_HASH_BYTES];
	struct tree_head head;
	int64_t ignored;
	int rc = 0;

	if (tree_head(q, id, &head, e) < 0)
		return -1;
	*message = name ? 0 : head.id;
	if (!name || !strcmp(name, "root"))
		return 0;
	if (hash_read(name, hash))
		rc = sql_run_int(
			q,
			sql_bind(q, SQL_MESSAGE_FIND, "b", (void *)hash, TREE_HASH_BYTES),
			message, e);
	if (rc == 1)
		rc = sql_run_int(q, sql_bind(q, SQL_SESSION_REACHES, "si", id, *message),
				 &ignored, e);
	return rc == 0  ? err_set(e, ERR_NOT_FOUND,
				  "conversation '%s' has no message '%.40s'", id, name)
	       : rc < 0 ? -1
			: 0;
}

static int none_runs(struct sql *q, const char *id, struct err *e)
{
	int64_t ignored;
	int rc = sql_run_int(q, sql_bind(q, SQL_SESSION_RUNS, "s", id), &ignored, e);

	return rc == 1 ? err_set(e, ERR_CONFLICT,
				 "conversation '%s': an answer is being written", id)
		       : rc;
}

static int keep_tip(struct sql *q, const char *id, int64_t message, struct err *e)
{
	return message ? sql_run(q, sql_bind(q, SQL_TIP_ADD, "si", id, message), e) : 0;
}

/* In front of the last question. */
static int undo_target(struct sql *q, int64_t head, int64_t *to, struct err *e)
{
	int rc = head ? sql_run_int(q, sql_bind(q, SQL_PATH_UNDO, "i", head), to, e) : 0;

	return rc == 0  ? err_set(e, ERR_INVALID, "there is nothing to take back")
	       : rc < 0 ? -1
			: 0;
}

/* What the head leaves stays reached: nothing else may know of it. */
int tree_move_head(struct sql *q, const char *id, const char *to, int64_t now_ms,
		   struct err *e)
{
	struct tree_head old;
	int64_t target = 0;

	if (tree_head(q, id, &old, e) < 0 || none_runs(q, id, e) < 0)
		return -1;
	if (!strcmp(to, "undo") ? undo_target(q, old.id, &target, e) < 0
				: tree_find(q, id, to, &target, e) < 0)
		return -1;
	if (keep_tip(q, id, old.id, e) < 0)
		return -1;
	return sql_run(q, sql_bind(q, SQL_SESSION_HEAD_TO, "sIi", id, target, now_ms), e);
}

int tree_fork(struct sql *q, const char *id, const char *at, int64_t now_ms,
	      char made[CONVERSATION_ID_BYTES], struct err *e)
{
	int64_t head = 0;

	if (tree_find(q, id, at, &head, e) < 0)
		return -1;
	new_id(q, now_ms, made);
	if (sql_run(q, sql_bind(q, SQL_SESSION_FORK, "ssIi", made, id, head, now_ms), e) <
	    0)
		return -1;
	return keep_tip(q, made, head, e);
}

int tree_add(struct sql *q, const char *id, const struct message *messages, int n,
	     int64_t now_ms, struct err *e)
{
	struct tree_head head;

	if (n < 1)
		return err_set(e, ERR_INVALID, "there is no message to add");
	if (tree_head(q, id, &head, e) < 0 || none_runs(q, id, e) < 0)
		return -1;
	for (int i = 0; i < n; i++)
		if (tree_append(q, &head.id, &messages[i], false, now_ms, e) < 0)
			return -1;
	if (tree_entitle(q, id, messages, n, e) < 0 || keep_tip(q, id, head.id, e) < 0)
		return -1;
	return sql_run(q, sql_bind(q, SQL_SESSION_APPEND, "sii", id, head.id, now_ms), e);
}

/* ---- what is said about them ---- */

/* A line that a terminal may be given: control characters (C0, DEL, C1) and what is no UTF-8 become
 * one space each run; cut between characters, to `max_chars` and STORE_MAX_TITLE_BYTES. */
static void clean_title(struct str in, int max_chars, struct buf *out)
{
	bool gap = false;

	for (size_t i = 0, n; i < in.len && max_chars > 0; i += n) {
		unsigned char c = (unsigned char)in.ptr[i];
		struct str rest = {in.ptr + i, in.len - i};

		n = str_utf8_len(rest);
		if (n == 0 || c <= ' ' || c == 0x7f ||
		    (c == 0xc2 && (unsigned char)in.ptr[i + 1] < 0xa0)) {
			n = n ? n : 1;
			gap = out->len > 0;
			continue;
		}
		if (out->len + n + gap > STORE_MAX_TITLE_BYTES)
			return;
		if (gap && --max_chars > 0)
			buf_addc(out, ' ');
		if (max_chars-- > 0)
			buf_add(out, in.ptr + i, n);
		gap = false;
	}
}

static struct str first_line(const char *text)
{
	const char *at = text + strspn(text, " \t\r\n");

	return (struct str){at, strcspn(at, "\r\n")};
}

int tree_entitle(struct sql *q, const char *id, const struct message *messages, int n,
		 struct err *e)
{
	struct buf title = {0};
	int rc = 0;

	for (int i = 0; i < n && title.len == 0; i++)
		if (messages[i].role == ROLE_USER)
			clean_title(first_line(messages[i].text), TREE_TITLE_CHARS,
				    &title);
	if (title.len > 0)
		rc = sql_run(
			q,
			sql_bind(q, SQL_SESSION_TITLE, "sS", id, title.data, title.len),
			e);
	buf_free(&title);
	return rc;
}

int tree_create(struct sql *q, int64_t now_ms, char id[CONVERSATION_ID_BYTES],
		struct err *e)
{
	new_id(q, now_ms, id);
	return sql_run(q, sql_bind(q, SQL_SESSION_CREATE, "si", id, now_ms), e);
}

static int check_metadata(const char *text, struct err *e)
{
	cJSON *tree;
	bool object;

	if (!text)
		return 0;
	if (strlen(text) > STORE_MAX_METADATA_BYTES)
		return err_set(e, ERR_TOO_LARGE, "metadata of %zu bytes: at most %d",
			       strlen(text), STORE_MAX_METADATA_BYTES);
	tree = json_parse(str_of(text), e);
	object = cJSON_IsObject(tree);
	cJSON_Delete(tree);
	return object ? 0 : err_set(e, ERR_INVALID, "metadata must be a JSON object");
}

int tree_change(struct sql *q, const char *id, const struct store_change *c,
		struct err *e)
{
	struct buf title = {0};
	const char *by = c->title_by_model ? "model" : "user", *text = NULL;
	struct tree_head ignored;
	int rc;

	if (tree_head(q, id, &ignored, e) < 0 || check_metadata(c->metadata, e) < 0)
		return -1;
	if (c->title) {
		clean_title(str_of(c->title), STORE_MAX_TITLE_BYTES, &title);
		if (title.len > 0 || !c->title_by_model)
			text = title.len ? title.data : "";
		if (title.len == 0)
			by = ""; /* taken away: the next question gives one again */
	}
	rc = sql_run(q,
		     sql_bind(q, SQL_SESSION_CHANGE, "sssssnn", id, text, by, c->model,
			      c->metadata, (int)c->pinned, (int)c->is_private),
		     e);
	buf_free(&title);
	return rc;
}

/* ---- the end of one ---- */

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
	int64_t *ids = NULL;
	struct tree_head head;
	size_t n = 0;
	int rc = tree_head(q, id, &head, e);

	if (rc == 0)
		rc = members(q, id, &ids, &n, e);
	if (rc == 0)
		rc = sql_run(q, sql_bind(q, SQL_SESSION_DELETE, "s", id), e);
	for (size_t i = 0; rc == 0 && i < n; i++)
		rc = sql_run(q, sql_bind(q, SQL_MESSAGE_FORGET, "i", ids[i]), e);
	free(ids);
	return rc;
}
