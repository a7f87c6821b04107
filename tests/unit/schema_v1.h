/* The tables of a file that version 1 made, letter by letter, and a few rows in it.  Never changed: it
 * stands for the files that people have. */
#ifndef HOB_TEST_SCHEMA_V1_H
#define HOB_TEST_SCHEMA_V1_H

#include <sqlite3.h>
#include "memory/tree.h"

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

/* Two conversations on one beginning (system, question, answer), then one question more in each; the
 * second one's was being answered.  Ids as version 1 gave them: in the order of making. */
static const char *const v1_texts[] = {"be brief", "hello",     "hi",
				       "in one",   "one it is", "in two"};
static const char *const v1_roles[] = {"system", "user",      "assistant",
				       "user",   "assistant", "user"};
static const int v1_parents[] = {0, 1, 2, 3, 4, 3};

#define V1_ONE "01J0000000000000000000000A"
#define V1_TWO "01J0000000000000000000000B"

static inline int v1_messages(sqlite3 *db)
{
	uint8_t hashes[7][TREE_HASH_BYTES];
	sqlite3_stmt *st = NULL;
	int rc = SQLITE_OK;

	for (int i = 0; i < 6 && rc == SQLITE_OK; i++) {
		char parts[200];

		snprintf(parts, sizeof(parts), "[{\"type\":\"text\",\"text\":\"%s\"}]",
			 v1_texts[i]);
		tree_hash(v1_parents[i] ? hashes[v1_parents[i]] : NULL, v1_roles[i],
			  str_of(parts), hashes[i + 1]);
		rc = sqlite3_prepare_v2(
			db,
			"INSERT INTO message (id, hash, parent_id, role, parts, "
			"text, bytes, created_at) VALUES (?, ?, nullif(?, 0), ?, "
			"?, ?, 1, 1700000000000)",
			-1, &st, NULL);
		sqlite3_bind_int(st, 1, i + 1);
		sqlite3_bind_blob(st, 2, hashes[i + 1], TREE_HASH_BYTES, SQLITE_STATIC);
		sqlite3_bind_int(st, 3, v1_parents[i]);
		sqlite3_bind_text(st, 4, v1_roles[i], -1, SQLITE_STATIC);
		sqlite3_bind_text(st, 5, parts, -1, SQLITE_STATIC);
		sqlite3_bind_text(st, 6, v1_texts[i], -1, SQLITE_STATIC);
		rc = sqlite3_step(st) == SQLITE_DONE ? SQLITE_OK : SQLITE_ERROR;
		sqlite3_finalize(st);
	}
	return rc;
}

static const char v1_rows[] =
	"INSERT INTO session (id, title, head_id, model, pinned, created_at, updated_at) VALUES"
	" ('" V1_ONE "', 'hello', 5, 'm', 1, 1700000000000, 1700000000001),"
	" ('" V1_TWO "', 'hello', 6, 'm', 0, 1700000000000, 1600000000000);"
	"INSERT INTO turn (id, session_id, base_id, prompt_id, reply_id, status, model, backend,"
	" partial, tokens_in, cost_nanousd, created_at) VALUES"
	" (1, '" V1_ONE "', NULL, 2, 3, 'done', 'm', 'engine', NULL, 5, 250000000, 1),"
	" (2, '" V1_ONE "', 3, 4, 5, 'done', 'm', 'engine', NULL, 5, NULL, 2),"
	" (3, '" V1_TWO "', 3, 6, NULL, 'running', 'm', 'engine', 'two, I', 5, NULL, 3);"
	"INSERT INTO note (scope, text, created_at) VALUES ('', 'a note', 1);"
	"INSERT INTO token_count VALUES (3, 'bpe-1', 9);"
	"INSERT INTO summary VALUES (3, 'm', 'they met', 2, 1);";

/* 0, or a code of SQLite. */
static inline int v1_make(const char *path)
{
	sqlite3 *db = NULL;
	int rc = sqlite3_open(path, &db);

	if (rc == SQLITE_OK)
		rc = sqlite3_exec(
			db,
			"PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL;"
			"PRAGMA application_id = 0x686f6230;",
			NULL, NULL, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(db, schema_v1, NULL, NULL, NULL);
	if (rc == SQLITE_OK)
		rc = v1_messages(db);
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(db, v1_rows, NULL, NULL, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(db, "PRAGMA user_version = 1", NULL, NULL, NULL);
	sqlite3_close(db);
	return rc;
}

#endif
