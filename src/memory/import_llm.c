/* logs.db of Simon Willison's llm: what its older versions kept (conversations, responses) and what
 * newer ones keep (threads, turns and messages by hash), both where a file holds both.
 *
 * A command's thread.  The file is a stranger's: opened read-only, its schema not trusted, no views or
 * triggers of its own are used, every text is checked for UTF-8 and size.  An attachment that is only
 * a path on the other machine is named and not read. */
#include <sqlite3.h>
#include <time.h>
#include "base/json.h"
#include "memory/import_formats.h"
#include "memory/import_llm.h"

bool import_llm_sniff(struct str text)
{
	return text.len >= 16 && !memcmp(text.ptr, "SQLite format 3", 16);
}

/* ---- statements ---- */

sqlite3_stmt *llm_query(struct llm *x, const char *sql, const char *bind, struct err *e)
{
	sqlite3_stmt *st = NULL;

	if (sqlite3_prepare_v2(x->db, sql, -1, &st, NULL) != SQLITE_OK) {
		err_set(e, ERR_INVALID, "%s", sqlite3_errmsg(x->db));
		return NULL;
	}
	if (bind)
		sqlite3_bind_text(st, 1, bind, -1, SQLITE_TRANSIENT);
	return st;
}

bool llm_step(struct llm *x, sqlite3_stmt *st, struct err *e)
{
	int rc = st ? sqlite3_step(st) : SQLITE_DONE;

	if (rc != SQLITE_ROW && rc != SQLITE_DONE)
		err_set(e, ERR_CORRUPT, "%s", sqlite3_errmsg(x->db));
	return rc == SQLITE_ROW;
}

char *llm_text(sqlite3_stmt *st, int col)
{
	const char *text = (const char *)sqlite3_column_text(st, col);
	struct str s = {text ? text : "",
			text ? (size_t)sqlite3_column_bytes(st, col) : 0};
	struct buf out = {0};
	size_t n;

	buf_reserve(&out, s.len);
	for (; s.len; s.ptr += n, s.len -= n) {
		n = *s.ptr ? str_utf8_len(s) : 0;
		if (n)
			buf_add(&out, s.ptr, n);
		else
			buf_adds(&out, "\xef\xbf\xbd");
		n = n ? n : 1;
	}
	buf_adds(&out, "");
	return buf_take(&out, NULL);
}

int llm_number(sqlite3_stmt *st, int col)
{
	int64_t v = sqlite3_column_int64(st, col);

	return sqlite3_column_type(st, col) == SQLITE_INTEGER && v >= 0 && v <= INT32_MAX
		       ? (int)v
		       : -1;
}

/* "2026-11-21T23:07:57.123456+00:00", as Python's isoformat writes it; 0 when it is none. */
int64_t llm_time(sqlite3_stmt *st, int col)
{
	const char *text = (const char *)sqlite3_column_text(st, col), *at;
	struct tm tm = {0};
	double fraction = 0;

	at = text ? strptime(text, "%Y-%m-%dT%H:%M:%S", &tm) : NULL;
	if (text && !at)
		at = strptime(text, "%Y-%m-%d %H:%M:%S", &tm);
	if (!at)
		return 0;
	if (*at == '.')
		fraction = strtod(at, NULL);
	return draft_ms((double)timegm(&tm) + fraction);
}

/* ---- attachments ---- */

static void add_base64(struct buf *out, const unsigned char *p, size_t n)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (size_t i = 0; i < n; i += 3) {
		unsigned v = (unsigned)p[i] << 16;

		v |= i + 1 < n ? (unsigned)p[i + 1] << 8 : 0;
		v |= i + 2 < n ? p[i + 2] : 0;
		buf_addc(out, digits[v >> 18]);
		buf_addc(out, digits[v >> 12 & 63]);
		buf_addc(out, i + 1 < n ? digits[v >> 6 & 63] : '=');
		buf_addc(out, i + 2 < n ? digits[v & 63] : '=');
	}
}

/* "image/png": nothing else may stand in a data: URL. */
static bool is_type(const char *type)
{
	return *type && strlen(type) < 100 &&
	       strspn(type, "abcdefghijklmnopqrstuvwxyz0123456789/+.-") == strlen(type);
}

static cJSON *image_part(const char *type, const void *data, size_t n)
{
	cJSON *part = cJSON_CreateObject(), *image;
	struct buf url = {0};

	buf_addf(&url, "data:%s;base64,", type);
	add_base64(&url, data, n);
	cJSON_AddStringToObject(part, "type", "image_url");
	image = cJSON_AddObjectToObject(part, "image_url");
	cJSON_AddStringToObject(image, "url", url.data);
	buf_free(&url);
	return part;
}

static void note_attachment(struct llm *x, struct buf *text, const char *type,
			    const char *where, size_t bytes)
{
	if (text->len)
		buf_addc(text, '\n');
	buf_addf(text, "[attachment %.100s", type);
	if (*where)
		buf_addf(text, ", %.1000s", where);
	else
		buf_addf(text, ", %zu bytes", bytes);
	buf_addc(text, ']');
	x->counts->notes++;
}

/* One row: type, path, url, content from column `col` on. */
void llm_attachment(struct llm *x, sqlite3_stmt *st, int col, struct buf *text,
		    cJSON **images)
{
	char *type = llm_text(st, col), *path = llm_text(st, col + 1),
	     *url = llm_text(st, col + 2);
	const void *data = sqlite3_column_blob(st, col + 3);
	size_t n = (size_t)sqlite3_column_bytes(st, col + 3);

	if (data && n && n <= LLM_MAX_ATTACHMENT_BYTES && is_type(type) &&
	    !strncmp(type, "image/", 6)) {
		*images = *images ? *images : cJSON_CreateArray();
		cJSON_AddItemToArray(*images, image_part(type, data, n));
	} else {
		note_attachment(x, text, type, *path ? path : url, n);
	}
	free(type);
	free(path);
	free(url);
}

/* ---- messages ---- */

/* role and content; with images: parts.  Owned by the caller. */
static cJSON *own_new(enum role role, const char *text, cJSON *images)
{
	cJSON *own = cJSON_CreateObject(), *part;

	cJSON_AddStringToObject(own, "role", role_name(role));
	if (!images) {
		cJSON_AddStringToObject(own, "content", text);
		return own;
	}
	if (*text) {
		part = cJSON_CreateObject();
		cJSON_AddStringToObject(part, "type", "text");
		cJSON_AddStringToObject(part, "text", text);
		cJSON_InsertItemInArray(images, 0, part);
	}
	cJSON_AddItemToObject(own, "content", images);
	return own;
}

void llm_add_call(cJSON **calls, const char *id, const char *name, const char *arguments)
{
	cJSON *call = cJSON_CreateObject(), *function;

	*calls = *calls ? *calls : cJSON_CreateArray();
	cJSON_AddItemToArray(*calls, call);
	cJSON_AddStringToObject(call, "id", id);
	cJSON_AddStringToObject(call, "type", "function");
	function = cJSON_AddObjectToObject(call, "function");
	cJSON_AddStringToObject(function, "name", name);
	cJSON_AddStringToObject(function, "arguments", arguments);
}

int llm_add(struct llm *x, int parent, const struct llm_message *m)
{
	const char *text = m->text ? m->text : "";
	struct draft_message out = {
		.role = m->role,
		.text = text,
		.reasoning = m->reasoning && *m->reasoning ? m->reasoning : NULL,
		.created_ms = m->created_ms};
	cJSON *own = NULL;
	int at;

	if (m->images || m->calls || m->role == ROLE_TOOL)
		own = own_new(m->role, text, m->images);
	if (m->calls)
		cJSON_AddItemToObject(own, "tool_calls", m->calls);
	if (m->role == ROLE_TOOL)
		cJSON_AddStringToObject(own, "tool_call_id", m->call_id);
	out.own = own;
	at = draft_add(x->draft, parent, &out);
	cJSON_Delete(own);
	return at;
}

/* ---- the file ---- */

static bool has_table(struct llm *x, const char *name, struct err *e)
{
	sqlite3_stmt *st = llm_query(
		x, "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?1", name,
		e);
	bool found = llm_step(x, st, e);

	sqlite3_finalize(st);
	return found;
}

bool llm_has_column(struct llm *x, const char *table, const char *column)
{
	sqlite3_stmt *st = llm_query(
		x, "SELECT 1 FROM pragma_table_info(?1) WHERE name = ?2", table, NULL);
	bool found = false;

	if (st) {
		sqlite3_bind_text(st, 2, column, -1, SQLITE_STATIC);
		found = llm_step(x, st, NULL);
	}
	sqlite3_finalize(st);
	return found;
}

/* A file that its program still writes to may have a log beside it: it is read with it, where that can
 * be done without writing. */
static int open_file(struct llm *x, const char *path, struct err *e)
{
	int rc = sqlite3_open_v2(path, &x->db, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX,
				 NULL);

	if (rc != SQLITE_OK)
		return err_set(e, ERR_IO, "'%s': %s", path,
			       x->db ? sqlite3_errmsg(x->db) : sqlite3_errstr(rc));
	sqlite3_db_config(x->db, SQLITE_DBCONFIG_DEFENSIVE, 1, (int *)NULL);
	sqlite3_db_config(x->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, (int *)NULL);
	sqlite3_db_config(x->db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, (int *)NULL);
	sqlite3_db_config(x->db, SQLITE_DBCONFIG_ENABLE_VIEW, 0, (int *)NULL);
	sqlite3_busy_timeout(x->db, 5000);
	sqlite3_limit(x->db, SQLITE_LIMIT_LENGTH, LLM_MAX_VALUE_BYTES);
	sqlite3_exec(x->db, "PRAGMA cell_size_check = ON; PRAGMA query_only = ON; BEGIN",
		     NULL, NULL, NULL);
	return 0;
}

int import_llm(const struct import_in *in, import_sink *sink, void *arg,
	       struct import_counts *counts, struct err *e)
{
	struct llm x = {.in = in, .sink = sink, .arg = arg, .counts = counts};
	bool older, newer;
	int rc = -1;

	if (!in->path)
		return err_set(e, ERR_INVALID,
			       "a database is read from a file, not from a pipe");
	if (open_file(&x, in->path, e) < 0)
		goto out;
	older = has_table(&x, "responses", e);
	newer = has_table(&x, "threads", e) && has_table(&x, "turns", e);
	if (e->code != ERR_NONE)
		goto out;
	if (!older && !newer) {
		err_set(e, ERR_INVALID,
			"'%s' is no logs.db of llm: it has neither the table "
			"responses nor threads and turns",
			in->path);
		goto out;
	}
	rc = older ? llm_responses(&x, newer, e) : 0;
	if (rc == 0 && newer)
		rc = llm_threads(&x, e);
out:
	sqlite3_close(x.db);
	return rc;
}
