/* DDL, pragmas, migrations and checks of the conversation store.
 *
 * Runs inside store_open, before the store thread exists.  The order of the pragmas of a new
 * file matters: auto_vacuum must be the first thing ever written, even before WAL, or it is
 * silently ignored.  Nothing here uses what SQLite 3.40 lacks (jsonb, FTS5 contentless_delete,
 * FTS5 secure-delete). */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "memory/schema.h"
#include "memory/sql.h"

/* Version 1.  base_id is where the head stood before the turn: a failed turn goes back there. */
static const char schema_v1[] =
	"CREATE TABLE message ("
	" id INTEGER PRIMARY KEY,"
	" hash BLOB NOT NULL UNIQUE CHECK (length(hash) = 16),"
	" parent_id INTEGER REFERENCES message(id),"
	" role TEXT NOT NULL CHECK (role IN ('system','user','assistant','tool')),"
	" parts TEXT NOT NULL CHECK (json_valid(parts)),"
	" text TEXT NOT NULL DEFAULT '',"
	" bytes INTEGER NOT NULL,"
	" created_at INTEGER NOT NULL) STRICT;"
	"CREATE INDEX message_parent ON message(parent_id);"
	"CREATE TABLE session ("
	" id TEXT PRIMARY KEY,"
	" title TEXT NOT NULL DEFAULT '',"
	" head_id INTEGER REFERENCES message(id),"
	" forked_from TEXT REFERENCES session(id) ON DELETE SET NULL,"
	" model TEXT NOT NULL,"
	" policy TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(policy)),"
	" pinned INTEGER NOT NULL DEFAULT 0 CHECK (pinned IN (0,1)),"
	" created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL,"
	" expires_at INTEGER) STRICT;"
	"CREATE INDEX session_head ON session(head_id);"
	"CREATE INDEX session_forked ON session(forked_from);"
	"CREATE INDEX session_updated ON session(pinned, updated_at);"
	"CREATE INDEX session_expires ON session(expires_at) WHERE expires_at IS NOT NULL;"
	"CREATE TABLE turn ("
	" id INTEGER PRIMARY KEY,"
	" session_id TEXT NOT NULL REFERENCES session(id) ON DELETE CASCADE,"
	" base_id INTEGER REFERENCES message(id),"
	" prompt_id INTEGER NOT NULL REFERENCES message(id),"
	" reply_id INTEGER REFERENCES message(id),"
	" status TEXT NOT NULL CHECK"
	" (status IN ('running','done','cancelled','error','interrupted')),"
	" model TEXT NOT NULL,"
	" backend TEXT NOT NULL DEFAULT '',"
	" params TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(params)),"
	" partial TEXT, error TEXT,"
	" tokens_in INTEGER, tokens_cached INTEGER, tokens_out INTEGER,"
	" ttft_ms INTEGER, total_ms INTEGER, cost_nanousd INTEGER,"
	" created_at INTEGER NOT NULL) STRICT;"
	"CREATE INDEX turn_session ON turn(session_id, id);"
	"CREATE INDEX turn_base ON turn(base_id);"
	"CREATE INDEX turn_prompt ON turn(prompt_id);"
	"CREATE INDEX turn_reply ON turn(reply_id);"
	"CREATE INDEX turn_running ON turn(status) WHERE status = 'running';"
	"CREATE TABLE summary ("
	" upto_id INTEGER NOT NULL REFERENCES message(id) ON DELETE CASCADE,"
	" model TEXT NOT NULL, text TEXT NOT NULL, tokens INTEGER NOT NULL,"
	" created_at INTEGER NOT NULL,"
	" PRIMARY KEY (upto_id, model)) STRICT, WITHOUT ROWID;"
	"CREATE TABLE blob ("
	" hash BLOB PRIMARY KEY CHECK (length(hash) = 32), mime TEXT NOT NULL,"
	" bytes INTEGER NOT NULL, data BLOB NOT NULL) STRICT, WITHOUT ROWID;"
	"CREATE TABLE message_blob ("
	" message_id INTEGER NOT NULL REFERENCES message(id) ON DELETE CASCADE,"
	" blob_hash BLOB NOT NULL REFERENCES blob(hash),"
	" PRIMARY KEY (message_id, blob_hash)) STRICT, WITHOUT ROWID;"
	"CREATE INDEX message_blob_hash ON message_blob(blob_hash);"
	"CREATE TABLE note ("
	" id INTEGER PRIMARY KEY, scope TEXT NOT NULL DEFAULT '', text TEXT NOT NULL,"
	" source_id INTEGER REFERENCES message(id) ON DELETE SET NULL,"
	" created_at INTEGER NOT NULL) STRICT;"
	"CREATE INDEX note_source ON note(source_id);"
	"CREATE TABLE token_count ("
	" message_id INTEGER NOT NULL REFERENCES message(id) ON DELETE CASCADE,"
	" tokenizer TEXT NOT NULL, tokens INTEGER NOT NULL,"
	" PRIMARY KEY (message_id, tokenizer)) STRICT, WITHOUT ROWID;"
	"CREATE VIRTUAL TABLE message_fts USING fts5(text, content='message',"
	" content_rowid='id', tokenize='unicode61 remove_diacritics 2');"
	"CREATE TRIGGER message_ai AFTER INSERT ON message WHEN new.text <> '' BEGIN"
	" INSERT INTO message_fts(rowid, text) VALUES (new.id, new.text); END;"
	"CREATE TRIGGER message_ad AFTER DELETE ON message WHEN old.text <> '' BEGIN"
	" INSERT INTO message_fts(message_fts, rowid, text)"
	" VALUES ('delete', old.id, old.text); END;"
	"CREATE TRIGGER message_ro BEFORE UPDATE ON message BEGIN"
	" SELECT RAISE(ABORT, 'messages are immutable'); END;";

/* Version 2.  A turn's name from outside; what conversations are besides heads.
 * message.depth: messages on the path up to and including this one, so that lists count nothing.
 * message.reasoning: not hashed, since no client sends it back; the first one stays.
 * session.used_seq: the order of use, free of clocks; 0 = never used.
 * tip: what a conversation has reached otherwise than by a turn (appended, forked, left by undo);
 * head, turns and tips together reach all that belongs to it.
 * What a trigger removes nobody can forget to remove. */
static const char schema_v2[] =
	"DROP TRIGGER message_ro;"
	"ALTER TABLE message ADD COLUMN depth INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE message ADD COLUMN reasoning TEXT;"
	"WITH RECURSIVE d(id, depth) AS (SELECT id, 1 FROM message WHERE parent_id IS NULL"
	" UNION ALL SELECT m.id, d.depth + 1 FROM d JOIN message m ON m.parent_id = d.id)"
	" UPDATE message SET depth = d.depth FROM d WHERE d.id = message.id;"
	"CREATE TRIGGER message_ro BEFORE UPDATE ON message BEGIN"
	" SELECT RAISE(ABORT, 'messages are immutable'); END;"
	"ALTER TABLE turn ADD COLUMN request TEXT;"
	"CREATE UNIQUE INDEX turn_request ON turn(request) WHERE request IS NOT NULL;"
	"ALTER TABLE session ADD COLUMN title_by TEXT NOT NULL DEFAULT ''"
	" CHECK (title_by IN ('','user','model'));"
	"ALTER TABLE session ADD COLUMN is_private INTEGER NOT NULL DEFAULT 0"
	" CHECK (is_private IN (0,1));"
	"ALTER TABLE session ADD COLUMN metadata TEXT NOT NULL DEFAULT '{}'"
	" CHECK (json_valid(metadata));"
	"ALTER TABLE session ADD COLUMN used_seq INTEGER NOT NULL DEFAULT 0;"
	"UPDATE session SET used_seq = coalesce((SELECT max(id) FROM turn"
	" WHERE session_id = session.id), head_id IS NOT NULL);"
	"CREATE INDEX session_used ON session(used_seq);"
	"CREATE INDEX session_pinned ON session(used_seq) WHERE pinned = 1;"
	"CREATE TABLE tip ("
	" session_id TEXT NOT NULL REFERENCES session(id) ON DELETE CASCADE,"
	" message_id INTEGER NOT NULL REFERENCES message(id),"
	" PRIMARY KEY (session_id, message_id)) STRICT, WITHOUT ROWID;"
	"CREATE INDEX tip_message ON tip(message_id);"
	"CREATE INDEX note_scope ON note(scope);"
	"CREATE TRIGGER session_ad AFTER DELETE ON session BEGIN"
	" DELETE FROM note WHERE scope = old.id; END;"
	"CREATE TRIGGER message_blob_ad AFTER DELETE ON message_blob BEGIN"
	" DELETE FROM blob WHERE hash = old.blob_hash AND NOT EXISTS"
	" (SELECT 1 FROM message_blob WHERE blob_hash = old.blob_hash); END;";

const char *const schema_migrations[SCHEMA_VERSION] = {schema_v1, schema_v2};

/* secure_delete is explicit because only some distributions compile it on; mmap stays off since
 * an I/O error would become SIGBUS; temporary files would leak text into a shared folder. */
static const char pragmas[] = "PRAGMA busy_timeout = 5000;"
			      "PRAGMA foreign_keys = ON;"
			      "PRAGMA recursive_triggers = ON;"
			      "PRAGMA cell_size_check = ON;"
			      "PRAGMA secure_delete = ON;"
			      "PRAGMA mmap_size = 0;"
			      "PRAGMA cache_size = -16000;"
			      "PRAGMA temp_store = MEMORY;"
			      "PRAGMA journal_size_limit = 67108864;"
			      "PRAGMA wal_autocheckpoint = 1000;"
			      "PRAGMA synchronous = FULL;";

int schema_exec(sqlite3 *db, const char *sql, const char *what, struct err *e)
{
	int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);

	return rc == SQLITE_OK ? 0 : sql_err(db, rc, what, e);
}

static int pragma_int(sqlite3 *db, const char *sql, int64_t *out, struct err *e)
{
	sqlite3_stmt *st = NULL;
	int rc = sqlite3_prepare_v2(db, sql, -1, &st, NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_step(st);
	if (rc == SQLITE_ROW)
		*out = sqlite3_column_int64(st, 0);
	else
		sql_err(db, rc, "read the conversation store", e);
	sqlite3_finalize(st);
	return rc == SQLITE_ROW ? 0 : -1;
}

/* trusted_schema stays on: with it off SQLite 3.40 calls json_valid() in a CHECK and FTS5 in a
 * trigger unsafe.  It guards functions with side effects that the program itself registers, and
 * this one registers none. */
int schema_pragmas(sqlite3 *db, bool fresh, struct err *e)
{
	sqlite3_extended_result_codes(db, 1);
	sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, (int *)NULL);
	sqlite3_db_config(db, SQLITE_DBCONFIG_DQS_DML, 0, (int *)NULL);
	sqlite3_db_config(db, SQLITE_DBCONFIG_DQS_DDL, 0, (int *)NULL);
	sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0, (int *)NULL);
	if (fresh &&
	    schema_exec(db,
			"PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL;",
			"make the conversation store", e) < 0)
		return -1;
	return schema_exec(db, pragmas, "open the conversation store", e);
}

/* With statistics SQLite 3.38 and later puts a Bloom filter before a recursion's join: it takes the
 * recursion for a million rows, and reads the whole table of messages for the filter, at each path.
 * Without, every statement takes its index. */
int schema_forget_statistics(sqlite3 *db, bool *any, struct err *e)
{
	int64_t n = 0;

	if (pragma_int(db,
		       "SELECT count(*) FROM sqlite_schema "
		       "WHERE name IN ('sqlite_stat1', 'sqlite_stat4')",
		       &n, e) < 0)
		return -1;
	*any = n > 0;
	return n == 0 ? 0
		      : schema_exec(db,
				    "DROP TABLE IF EXISTS sqlite_stat1;"
				    "DROP TABLE IF EXISTS sqlite_stat4",
				    "prepare the conversation store", e);
}

int schema_identify(sqlite3 *db, int *application_id, int *version, bool *empty,
		    struct err *e)
{
	int64_t id = 0, v = 0, tables = 0;

	if (pragma_int(db, "PRAGMA application_id", &id, e) < 0 ||
	    pragma_int(db, "PRAGMA user_version", &v, e) < 0 ||
	    pragma_int(db, "SELECT count(*) FROM sqlite_schema", &tables, e) < 0)
		return -1;
	*application_id = (int)id;
	*version = (int)v;
	*empty = tables == 0;
	return 0;
}

/* The copy gets its final name only when complete; made empty first, for its mode. */
static int backup(sqlite3 *db, const char *path, int version, struct err *e)
{
	char *name = xasprintf("%s.v%d.bak", path, version),
	     *tmp = xasprintf("%s.tmp", name);
	sqlite3_stmt *st = NULL;
	int rc = -1, fd;

	unlink(tmp);
	fd = open(tmp, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || fchmod(fd, 0600) < 0) {
		err_sys(e, errno, "back up to '%s'", tmp);
		goto out;
	}
	rc = sqlite3_prepare_v2(db, "VACUUM INTO ?1", -1, &st, NULL);
	if (rc == SQLITE_OK) {
		sqlite3_bind_text(st, 1, tmp, -1, SQLITE_STATIC);
		rc = sqlite3_step(st);
	}
	if (rc != SQLITE_DONE)
		rc = sql_err(db, rc, "back up before a migration", e);
	else if (fsync(fd) < 0 || rename(tmp, name) < 0)
		rc = err_sys(e, errno, "back up to '%s'", name);
	else
		rc = 0;
out:
	sqlite3_finalize(st);
	if (fd >= 0)
		close(fd);
	if (rc)
		unlink(tmp);
	free(tmp);
	free(name);
	return rc ? -1 : 0;
}

static int migrate_one(sqlite3 *db, const char *ddl, int to, struct err *e)
{
	char stamp[96];

	snprintf(stamp, sizeof(stamp),
		 "PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT;",
		 SCHEMA_APPLICATION_ID, to);
	if (schema_exec(db, "BEGIN IMMEDIATE", "migrate", e) == 0 &&
	    schema_exec(db, ddl, "migrate", e) == 0 &&
	    schema_exec(db, stamp, "migrate", e) == 0)
		return 0;
	sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
	return err_wrap(e, "conversation store, version %d", to);
}

int schema_migrate(sqlite3 *db, const char *path, const char *const *migrations, int from,
		   int n, struct err *e)
{
	if (from > 0 && from < n && backup(db, path, from, e) < 0)
		return -1;
	for (int i = from; i < n; i++)
		if (migrate_one(db, migrations[i], i + 1, e) < 0)
			return -1;
	return 0;
}

int schema_check(sqlite3 *db, struct err *e)
{
	sqlite3_stmt *st = NULL;
	bool sound = false;
	int rc = sqlite3_prepare_v2(db, "PRAGMA quick_check(1)", -1, &st, NULL);

	if (rc == SQLITE_OK && (rc = sqlite3_step(st)) == SQLITE_ROW)
		sound = !strcmp((const char *)sqlite3_column_text(st, 0), "ok");
	sqlite3_finalize(st);
	if (rc != SQLITE_ROW && rc != SQLITE_DONE)
		return sql_err(db, rc, "check the conversation store", e);
	if (!sound)
		return err_set(e, ERR_CORRUPT, "the conversation store fails its check");
	rc = sqlite3_exec(
		db,
		"INSERT INTO message_fts (message_fts, rank) VALUES ('integrity-check', 1)",
		NULL, NULL, NULL);
	if ((rc & 0xff) != SQLITE_CORRUPT)
		return rc == SQLITE_OK ? 0 : sql_err(db, rc, "check the search index", e);
	return schema_exec(db, "INSERT INTO message_fts (message_fts) VALUES ('rebuild')",
			   "rebuild the search index", e);
}

int schema_limit(sqlite3 *db, int64_t max_bytes, struct err *e)
{
	int64_t page_bytes = 4096;
	char sql[64];

	if (pragma_int(db, "PRAGMA page_size", &page_bytes, e) < 0)
		return -1;
	snprintf(sql, sizeof(sql), "PRAGMA max_page_count = %lld",
		 (long long)(max_bytes / page_bytes));
	return schema_exec(db, sql, "limit the conversation store", e);
}
