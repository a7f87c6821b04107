/* The statement table of the store, and how its errors read.
 *
 * A store thread.  Preparing all of them takes longer than all else at the start (2 ms, and as much for the
 * reader's connection), so each waits for its first use; a test prepares them all against the schema.
 * What ends a transaction is there from the start: it must not fail when memory is short. */
#include <errno.h>
#include <stdarg.h>
#include "memory/sql.h"
#include "memory/ulid.h"

/* A path is walked from the head by parent; child ids are greater than their parent's, so
 * ordering by id is root first. */
#define PATH_FROM(start)                                                 \
	"WITH RECURSIVE path(id) AS (SELECT " start " UNION ALL "        \
	"SELECT m.parent_id FROM path JOIN message m ON m.id = path.id " \
	"WHERE m.parent_id IS NOT NULL) "

/* Behind all that were used before: an order of its own, because clocks jump. */
#define NEXT_SEQ "(SELECT coalesce(max(used_seq), 0) + 1 FROM session)"

#define CONVERSATION                                                              \
	"SELECT s.id, s.title, s.model, s.created_at, s.updated_at, "             \
	"coalesce(h.depth, 0), coalesce(t.status, ''), "                          \
	"CASE WHEN t.status IN ('interrupted', 'cancelled') THEN t.partial END, " \
	"h.hash, s.forked_from, s.metadata, s.pinned, s.is_private "              \
	"FROM session s LEFT JOIN message h ON h.id = s.head_id "                 \
	"LEFT JOIN turn t ON "                                                    \
	"t.id = (SELECT max(id) FROM turn WHERE session_id = s.id) "

#define TURN                                                                      \
	"SELECT t.id, t.session_id, coalesce(t.request, ''), t.status, t.model, " \
	"t.backend, t.error, b.hash, p.hash, r.hash, coalesce(t.tokens_in, -1), " \
	"coalesce(t.tokens_cached, -1), coalesce(t.tokens_out, -1), "             \
	"coalesce(t.ttft_ms, -1), coalesce(t.total_ms, -1), "                     \
	"coalesce(t.cost_nanousd, -1), t.created_at, t.params FROM turn t "       \
	"LEFT JOIN message b ON b.id = t.base_id "                                \
	"LEFT JOIN message p ON p.id = t.prompt_id "                              \
	"LEFT JOIN message r ON r.id = t.reply_id "

/* No conversation needs it any more.  What a note names as its source is another question. */
#define UNREACHED(id)                                                      \
	"NOT EXISTS (SELECT 1 FROM message c WHERE c.parent_id = " id ") " \
	"AND NOT EXISTS (SELECT 1 FROM session WHERE head_id = " id ") "   \
	"AND NOT EXISTS (SELECT 1 FROM turn WHERE prompt_id = " id ") "    \
	"AND NOT EXISTS (SELECT 1 FROM turn WHERE reply_id = " id ") "     \
	"AND NOT EXISTS (SELECT 1 FROM turn WHERE base_id = " id ") "      \
	"AND NOT EXISTS (SELECT 1 FROM tip WHERE message_id = " id ")"

/* Neither pinned, nor the last that was used, nor one in which an answer is being written. */
#define EVICTABLE                                                              \
	"SELECT s.id FROM session s WHERE s.pinned = 0 AND s.used_seq > 0 "    \
	"AND s.used_seq < (SELECT max(used_seq) FROM session) AND NOT EXISTS " \
	"(SELECT 1 FROM turn WHERE status = 'running' AND session_id = s.id) "

/* ?1 and up to ?2 messages behind it, those with the greatest ids first: the newest. */
#define BEHIND                                                           \
	"WITH RECURSIVE down(id) AS (SELECT ?1 UNION ALL "               \
	"SELECT c.id FROM down JOIN message c ON c.parent_id = down.id " \
	"ORDER BY 1 DESC LIMIT ?2)"

static const char *const sql_text[SQL_NR] = {
	[SQL_BEGIN] = "BEGIN IMMEDIATE",
	[SQL_BEGIN_READ] = "BEGIN",
	[SQL_COMMIT] = "COMMIT",
	[SQL_ROLLBACK] = "ROLLBACK",
	[SQL_SAVEPOINT] = "SAVEPOINT job",
	[SQL_RELEASE] = "RELEASE job",
	[SQL_UNDO] = "ROLLBACK TO job",
	[SQL_MESSAGE_FIND] = "SELECT id FROM message WHERE hash = ?1",
	[SQL_MESSAGE_ADD] =
		/* parts that are no JSON become NULL, which the column refuses */
	"INSERT INTO message (hash, parent_id, role, parts, text, bytes, created_at, id, "
	"reasoning, depth) "
	"VALUES (?1, ?2, ?3, CASE WHEN json_valid(?4) THEN ?4 END, CASE ?3 WHEN 'tool' THEN '' "
	"ELSE json_extract(?4, '$[0].text') END, ?5, ?6, ?7, ?8, "
	"coalesce((SELECT depth FROM message WHERE id = ?2), 0) + 1)",
	[SQL_MESSAGE_HASH] = "SELECT hash FROM message WHERE id = ?1",
	[SQL_MESSAGE_ANSWERS] =
		"SELECT id, hash, json_extract(parts, '$[0].text'), "
		"json_extract(parts, '$[1].message') FROM message "
		"WHERE parent_id = ?1 AND role = 'assistant' ORDER BY id DESC LIMIT ?2",
	[SQL_MESSAGE_FORGET] =
		"DELETE FROM message WHERE id = ?1 "
		"AND NOT EXISTS (SELECT 1 FROM message c WHERE c.parent_id = ?1) "
		"AND NOT EXISTS (SELECT 1 FROM session WHERE head_id = ?1) "
		"AND NOT EXISTS (SELECT 1 FROM turn WHERE prompt_id = ?1) "
		"AND NOT EXISTS (SELECT 1 FROM turn WHERE reply_id = ?1) "
		"AND NOT EXISTS (SELECT 1 FROM turn WHERE base_id = ?1) "
		"AND NOT EXISTS (SELECT 1 FROM tip WHERE message_id = ?1) "
		"AND NOT EXISTS (SELECT 1 FROM note WHERE source_id = ?1)",
	[SQL_BLOB_ADD] =
		"INSERT OR IGNORE INTO blob (hash, mime, bytes, data) VALUES (?1, ?2, ?3, ?4)",
	[SQL_BLOB_USE] =
		"INSERT OR IGNORE INTO message_blob (message_id, blob_hash) VALUES (?1, ?2)",
	[SQL_BLOB_GET] =
		"SELECT b.data FROM message_blob u LEFT JOIN blob b ON b.hash = u.blob_hash "
		"WHERE u.message_id = ?1 AND u.blob_hash = ?2",
	[SQL_PATH] = PATH_FROM(
		"?1") "SELECT m.id, m.role, json_extract(m.parts, '$[0].text'), "
		      "json_extract(m.parts, '$[1].message'), m.created_at, m.hash, m.reasoning, "
		      "coalesce((SELECT tokens FROM token_count "
		      "WHERE message_id = m.id AND tokenizer = ?2), -1), "
		      "EXISTS (SELECT 1 FROM message_blob WHERE message_id = m.id) "
		      "FROM message m WHERE m.id IN (SELECT id FROM path) ORDER BY m.id",
	[SQL_PATH_HAS_SYSTEM] =
		PATH_FROM("?1") "SELECT 1 FROM path JOIN message m ON m.id = path.id "
				"WHERE m.role = 'system' AND m.parts = ?2 LIMIT 1",
	[SQL_PATH_SESSION] = PATH_FROM(
		"?1") "SELECT s.id FROM path JOIN session s ON s.head_id = path.id "
		      "WHERE s.head_id >= ?2 AND s.is_private = 0 AND NOT EXISTS "
		      "(SELECT 1 FROM turn t WHERE t.session_id = s.id "
		      "AND t.status = 'running') "
		      "ORDER BY s.head_id DESC, s.used_seq DESC LIMIT 1",
	[SQL_SESSION_ADD] =
		"INSERT INTO session (id, model, created_at, updated_at) VALUES (?1, ?2, ?3, ?3)",
	[SQL_SESSION_LAST] =
		"SELECT s.id FROM session s WHERE s.used_seq > 0 AND (s.head_id IS NOT NULL "
		"OR EXISTS (SELECT 1 FROM turn WHERE session_id = s.id)) "
		"ORDER BY s.used_seq DESC LIMIT 1",
	[SQL_SESSION_HEAD] =
		"SELECT coalesce(head_id, 0), is_private FROM session WHERE id = ?1",
	[SQL_SESSION_BEGIN] =
		"UPDATE session SET head_id = ?2, model = ?3, updated_at = ?4, "
		"used_seq = " NEXT_SEQ " WHERE id = ?1",
	[SQL_SESSION_MOVE] =
		"UPDATE session SET head_id = ?3, updated_at = ?4 WHERE id = ?1 AND head_id = ?2",
	[SQL_SESSION_TITLE] =
		"UPDATE session SET title = ?2 WHERE id = ?1 AND title = ''",
	[SQL_SESSION_FORKED] = "UPDATE session SET forked_from = ?2 WHERE id = ?1",
	/* ids below that of the message cannot be below it in the tree: the walk ends there */
	[SQL_SESSION_REACHES] =
		"WITH RECURSIVE kin(id) AS (SELECT ?1 UNION "
		"SELECT p.id FROM kin JOIN session s ON s.id = kin.id "
		"JOIN session p ON p.id = s.forked_from "
		"WHERE p.is_private <= (SELECT is_private FROM session WHERE id = ?1)), "
		"seen(id) AS (SELECT s.head_id FROM kin JOIN session s ON s.id = kin.id "
		"WHERE s.head_id >= ?2 "
		"UNION SELECT t.prompt_id FROM kin JOIN turn t ON t.session_id = kin.id "
		"WHERE t.prompt_id >= ?2 "
		"UNION SELECT t.reply_id FROM kin JOIN turn t ON t.session_id = kin.id "
		"WHERE t.reply_id >= ?2 "
		"UNION SELECT t.message_id FROM kin JOIN tip t ON t.session_id = kin.id "
		"WHERE t.message_id >= ?2 "
		"UNION SELECT m.parent_id FROM seen JOIN message m ON m.id = seen.id "
		"WHERE m.parent_id >= ?2) SELECT 1 FROM seen WHERE id = ?2 LIMIT 1",
	[SQL_SESSION_MEMBERS] =
		"WITH RECURSIVE seen(id) AS ("
		"SELECT head_id FROM session WHERE id = ?1 AND head_id IS NOT NULL "
		"UNION SELECT prompt_id FROM turn WHERE session_id = ?1 "
		"UNION SELECT reply_id FROM turn WHERE session_id = ?1 AND reply_id IS NOT NULL "
		"UNION SELECT base_id FROM turn WHERE session_id = ?1 AND base_id IS NOT NULL "
		"UNION SELECT message_id FROM tip WHERE session_id = ?1 "
		"UNION SELECT m.parent_id FROM seen JOIN message m ON m.id = seen.id "
		"WHERE m.parent_id IS NOT NULL) SELECT id FROM seen ORDER BY id DESC",
	[SQL_SESSION_DELETE] = "DELETE FROM session WHERE id = ?1",
	[SQL_SESSION_SWEEP] =
		"DELETE FROM session WHERE used_seq = 0 AND head_id IS NULL "
		"AND NOT EXISTS (SELECT 1 FROM turn WHERE session_id = session.id)",
	[SQL_LIST] = CONVERSATION "WHERE s.used_seq > 0 AND s.used_seq < ?2 "
				  "ORDER BY s.used_seq DESC LIMIT ?1",
	[SQL_GET] = CONVERSATION "WHERE s.id = ?1",
	[SQL_TURN_ADD] =
		"INSERT INTO turn (id, session_id, base_id, prompt_id, status, model, backend, "
		"created_at, request, params) "
		"VALUES (?1, ?2, ?3, ?4, 'running', ?5, ?6, ?7, ?8, coalesce(?9, '{}'))",
	[SQL_TURN_GET] =
		"SELECT session_id, coalesce(base_id, 0), prompt_id, status FROM turn WHERE id = ?1",
	[SQL_TURN_PARTIAL] =
		"UPDATE turn SET partial = ?2 WHERE id = ?1 AND status = 'running'",
	[SQL_TURN_END] =
		"UPDATE turn SET status = ?2, reply_id = ?3, "
		"partial = CASE ?2 WHEN 'done' THEN NULL ELSE coalesce(?4, partial) END, error = ?5, "
		"tokens_in = ?6, tokens_cached = ?7, tokens_out = ?8, ttft_ms = ?9, total_ms = ?10, "
		"cost_nanousd = ?11, model = coalesce(?12, model), "
		"backend = coalesce(?13, backend), params = CASE WHEN ?14 IS NULL THEN params "
		"ELSE json_set(params, '$.finish_reason', ?14) END WHERE id = ?1",
	[SQL_TURN_REBASE] =
		"UPDATE turn SET base_id = ?3 WHERE status = 'running' AND session_id = ?1 "
		"AND base_id = ?2 AND id <> ?4",
	[SQL_TURN_RUNNING] =
		"SELECT id, coalesce(partial, '') FROM turn WHERE status = 'running' "
		"ORDER BY id DESC LIMIT 1",
	[SQL_TURN_RETRIED] =
		"SELECT t.session_id FROM turn t JOIN session s ON s.id = t.session_id "
		"WHERE t.prompt_id = ?1 AND t.status IN ('error', 'cancelled', 'interrupted') "
		"AND t.reply_id IS NULL AND s.head_id IS t.base_id AND s.is_private = 0 "
		"AND NOT EXISTS (SELECT 1 FROM turn r WHERE r.session_id = s.id "
		"AND r.status = 'running') ORDER BY t.id DESC LIMIT 1",
	[SQL_TURN_OF_REPLY] =
		"SELECT session_id FROM turn WHERE reply_id = ?1 ORDER BY id DESC LIMIT 1",
	[SQL_LAST_IDS] =
		"SELECT (SELECT coalesce(max(id), 0) FROM message), "
		"(SELECT coalesce(max(id), 0) FROM turn), (SELECT coalesce(max(id), 0) FROM note), "
		"(SELECT coalesce(max(id), '') FROM session)",
	[SQL_FTS_OPTIMIZE] = "INSERT INTO message_fts (message_fts) VALUES ('optimize')",
	[SQL_FTS_MERGE] =
		"INSERT INTO message_fts (message_fts, rank) VALUES ('merge', 200)",

	/* store_heads.c: rows, heads, turns */
	[SQL_LIST_PINNED] =
		CONVERSATION "WHERE s.pinned = 1 AND s.used_seq > 0 AND s.used_seq < ?2 "
			     "ORDER BY s.used_seq DESC LIMIT ?1",
	[SQL_SESSION_SEQ] = "SELECT used_seq FROM session WHERE id = ?1",
	[SQL_SESSION_CREATE] =
		"INSERT INTO session (id, model, created_at, updated_at, used_seq) "
		"VALUES (?1, '', ?2, ?2, " NEXT_SEQ ")",
	[SQL_SESSION_CHANGE] =
		"UPDATE session SET "
		"title = CASE WHEN ?2 IS NULL OR (?3 = 'model' AND title_by = 'user') THEN title "
		"ELSE ?2 END, "
		"title_by = CASE WHEN ?2 IS NULL OR (?3 = 'model' AND title_by = 'user') "
		"THEN title_by ELSE ?3 END, "
		"model = coalesce(?4, model), metadata = coalesce(?5, metadata), "
		"pinned = coalesce(?6, pinned), is_private = coalesce(?7, is_private) "
		"WHERE id = ?1",
	[SQL_SESSION_FORK] =
		"INSERT INTO session (id, title, title_by, head_id, forked_from, model, policy, "
		"is_private, metadata, created_at, updated_at, used_seq) "
		"SELECT ?1, title, title_by, ?3, id, model, policy, is_private, metadata, ?4, ?4, " NEXT_SEQ
		" FROM session WHERE id = ?2",
	[SQL_SESSION_HEAD_TO] =
		"UPDATE session SET head_id = ?2, updated_at = ?3 WHERE id = ?1",
	[SQL_SESSION_APPEND] =
		"UPDATE session SET head_id = ?2, updated_at = ?3, used_seq = " NEXT_SEQ
		" WHERE id = ?1",
	[SQL_SESSION_RUNS] =
		"SELECT 1 FROM turn WHERE status = 'running' AND session_id = ?1 LIMIT 1",
	[SQL_TIP_ADD] =
		"INSERT OR IGNORE INTO tip (session_id, message_id) VALUES (?1, ?2)",
	[SQL_PATH_UNDO] =
		PATH_FROM("?1") "SELECT coalesce(m.parent_id, 0) FROM path "
				"JOIN message m ON m.id = path.id WHERE m.role = 'user' "
				"ORDER BY m.id DESC LIMIT 1",
	[SQL_TURNS] = TURN "WHERE t.session_id = ?1 ORDER BY t.id DESC LIMIT ?2",
	[SQL_TURN_NAMED] = TURN "WHERE t.request = ?1",
	[SQL_TURN_UNNAME] = "UPDATE turn SET request = NULL WHERE request = ?1",

	/* store_notes.c: notes, summaries, token counts */
	[SQL_PATH_SUMMARIES] =
		PATH_FROM("?1") "SELECT u.upto_id, u.model, u.text, u.tokens FROM path "
				"CROSS JOIN summary u ON u.upto_id = path.id "
				"ORDER BY u.upto_id, u.created_at, u.model",
	[SQL_NOTES] = "SELECT id, scope, text, created_at FROM note "
		      "WHERE scope IN ('', ?1) ORDER BY id",
	[SQL_NOTE_ADD] =
		"INSERT INTO note (id, scope, text, created_at) VALUES (?1, ?2, ?3, ?4)",
	[SQL_NOTE_COUNT] = "SELECT count(*) FROM note WHERE scope = ?1",
	[SQL_NOTE_DELETE] = "DELETE FROM note WHERE id = ?1",
	[SQL_SUMMARY_PUT] =
		"INSERT INTO summary (upto_id, model, text, tokens, created_at) "
		"SELECT id, ?2, ?3, ?4, ?5 FROM message WHERE id = ?1 "
		"ON CONFLICT (upto_id, model) DO UPDATE SET text = excluded.text, "
		"tokens = excluded.tokens, created_at = excluded.created_at",
	[SQL_COUNT_PUT] =
		"INSERT INTO token_count (message_id, tokenizer, tokens) "
		"SELECT id, ?2, ?3 FROM message WHERE id = ?1 "
		"ON CONFLICT (message_id, tokenizer) DO UPDATE SET tokens = excluded.tokens",

	/* store_search.c */
	[SQL_SEARCH_NEWEST] =
		"SELECT rowid, 0.0 FROM message_fts WHERE message_fts MATCH ?1 "
		"ORDER BY rowid DESC LIMIT ?2",
	[SQL_SEARCH] = "SELECT rowid, bm25(message_fts) FROM message_fts "
		       "WHERE message_fts MATCH ?1",
	/* the plus keeps SQLite from asking the index once for each member */
	[SQL_SEARCH_IN] =
		"WITH RECURSIVE seen(id) AS ("
		"SELECT head_id FROM session WHERE id = ?2 AND head_id IS NOT NULL "
		"UNION SELECT prompt_id FROM turn WHERE session_id = ?2 "
		"UNION SELECT reply_id FROM turn WHERE session_id = ?2 AND reply_id IS NOT NULL "
		"UNION SELECT message_id FROM tip WHERE session_id = ?2 "
		"UNION SELECT m.parent_id FROM seen JOIN message m ON m.id = seen.id "
		"WHERE m.parent_id IS NOT NULL) "
		"SELECT rowid, bm25(message_fts) FROM message_fts "
		"WHERE message_fts MATCH ?1 AND +rowid IN (SELECT id FROM seen)",
	[SQL_SEARCH_TURN] = BEHIND
	" SELECT s.id, s.title FROM turn JOIN session s ON s.id = turn.session_id "
	"WHERE turn.id = (SELECT max(id) FROM ("
	"SELECT max(t.id) AS id FROM down JOIN turn t ON t.prompt_id = down.id "
	"UNION ALL "
	"SELECT max(t.id) FROM down JOIN turn t ON t.reply_id = down.id))",
	[SQL_SEARCH_HEAD] = BEHIND
	", found(id) AS ("
	"SELECT s.id FROM down JOIN session s ON s.head_id = down.id "
	"UNION SELECT t.session_id FROM down JOIN tip t ON t.message_id = down.id) "
	"SELECT s.id, s.title FROM found JOIN session s ON s.id = found.id "
	"ORDER BY s.used_seq DESC, s.updated_at DESC LIMIT 1",
	[SQL_SEARCH_NAMED] = "SELECT title FROM session WHERE id = ?1",
	[SQL_SEARCH_SNIPPET] =
		"SELECT m.hash, m.role, m.created_at, "
		"snippet(message_fts, 0, ?3, ?4, '…', 24) "
		"FROM message_fts JOIN message m ON m.id = message_fts.rowid "
		"WHERE message_fts MATCH ?1 AND message_fts.rowid = ?2",

	/* store_keep.c: limits, forgetting, figures */
	[SQL_KEEP_COUNT] =
		"SELECT (SELECT count(*) FROM message), (SELECT count(*) FROM session)",
	[SQL_KEEP_MEASURE] =
		"SELECT (SELECT page_count FROM pragma_page_count), "
		"(SELECT freelist_count FROM pragma_freelist_count), "
		"(SELECT page_size FROM pragma_page_size), (SELECT coalesce(min(t), 0) FROM ("
		"SELECT min(updated_at) AS t FROM session WHERE pinned = 0 "
		"UNION ALL SELECT min(updated_at) FROM session WHERE pinned = 1))",
	[SQL_KEEP_WITNESS] = "SELECT CASE count(*) WHEN ?1 THEN min(t) ELSE 0 END FROM ("
			     "SELECT updated_at AS t FROM session WHERE used_seq > 0 "
			     "ORDER BY updated_at DESC LIMIT ?1)",
	[SQL_KEEP_TOO_OLD] = EVICTABLE
	"AND s.updated_at < ?1 "
	/* what was imported counts as used then: else an old history would go at once */
	"AND coalesce(json_extract(s.policy, '$.imported_ms'), 0) < ?1 "
	"ORDER BY s.updated_at LIMIT 1",
	[SQL_KEEP_LEAST_USED] = EVICTABLE "ORDER BY s.used_seq LIMIT 1",
	[SQL_KEEP_FAILED] =
		"SELECT id, session_id, prompt_id, coalesce(base_id, 0), reply_id IS NULL "
		"FROM turn WHERE status IN ('error', 'cancelled', 'interrupted') "
		"AND (reply_id IS NULL OR partial IS NOT NULL OR error IS NOT NULL) "
		"AND created_at < ?1 LIMIT 1",
	[SQL_KEEP_FAILED_DELETE] = "DELETE FROM turn WHERE id = ?1",
	[SQL_KEEP_FAILED_CLEAR] =
		"UPDATE turn SET partial = NULL, error = NULL WHERE id = ?1",
	[SQL_KEEP_EMPTY] =
		"DELETE FROM session WHERE id = ?1 AND head_id IS NULL AND pinned = 0 "
		"AND NOT EXISTS (SELECT 1 FROM turn WHERE session_id = ?1) "
		"AND NOT EXISTS (SELECT 1 FROM tip WHERE session_id = ?1)",
	[SQL_KEEP_SWEEP] = "SELECT m.id FROM (SELECT id FROM message WHERE id < ?1 "
			   "ORDER BY id DESC LIMIT ?2) m WHERE " UNREACHED("m.id"),
	[SQL_KEEP_SWEEP_END] = "SELECT coalesce(min(id), 0) FROM (SELECT id FROM message "
			       "WHERE id < ?1 ORDER BY id DESC LIMIT ?2)",
	[SQL_KEEP_ENDS] =
		"SELECT head_id FROM session WHERE id = ?1 AND head_id IS NOT NULL "
		"UNION SELECT prompt_id FROM turn WHERE session_id = ?1 "
		"UNION SELECT reply_id FROM turn WHERE session_id = ?1 AND reply_id IS NOT NULL "
		"UNION SELECT base_id FROM turn WHERE session_id = ?1 AND base_id IS NOT NULL "
		"UNION SELECT message_id FROM tip WHERE session_id = ?1",
	[SQL_KEEP_NODE] = "DELETE FROM message WHERE id = ?1 AND " UNREACHED(
		"?1") " AND (?2 OR NOT EXISTS "
		      "(SELECT 1 FROM note WHERE source_id = ?1)) RETURNING coalesce(parent_id, 0)",
	[SQL_KEEP_FTS_MERGE] =
		"INSERT INTO message_fts (message_fts, rank) VALUES ('merge', ?1)",
	[SQL_KEEP_FORGET_NEXT] =
		"SELECT id FROM session WHERE (?1 IS NULL OR id = ?1) "
		"AND (?2 = 0 OR updated_at < ?2) AND (?3 OR pinned = 0) LIMIT 1",
	[SQL_KEEP_PINNED] = "SELECT pinned FROM session WHERE id = ?1",
	[SQL_KEEP_FORGET_NOTES] = "DELETE FROM note",

	/* store_move.c: export, import */
	[SQL_MOVE_SESSION] =
		"SELECT s.title, s.title_by, s.model, h.hash, s.forked_from, s.pinned, "
		"s.is_private, s.created_at, s.updated_at, s.metadata FROM session s "
		"LEFT JOIN message h ON h.id = s.head_id WHERE s.id = ?1",
	/* an order that does not depend on where the rows came from */
	[SQL_MOVE_NODES] =
		"WITH RECURSIVE seen(id) AS ("
		"SELECT head_id FROM session WHERE id = ?1 AND head_id IS NOT NULL "
		"UNION SELECT prompt_id FROM turn WHERE session_id = ?1 "
		"UNION SELECT reply_id FROM turn WHERE session_id = ?1 AND reply_id IS NOT NULL "
		"UNION SELECT base_id FROM turn WHERE session_id = ?1 AND base_id IS NOT NULL "
		"UNION SELECT message_id FROM tip WHERE session_id = ?1 "
		"UNION SELECT m.parent_id FROM seen JOIN message m ON m.id = seen.id "
		"WHERE m.parent_id IS NOT NULL) SELECT m.id FROM seen "
		"JOIN message m ON m.id = seen.id ORDER BY m.depth, m.created_at, m.hash",
	[SQL_MOVE_NODE] =
		"SELECT m.hash, p.hash, m.role, m.parts, m.created_at, m.reasoning "
		"FROM message m LEFT JOIN message p ON p.id = m.parent_id WHERE m.id = ?1",
	[SQL_MOVE_TURNS] =
		"SELECT coalesce(t.request, ''), "
		"CASE t.status WHEN 'running' THEN 'interrupted' ELSE t.status END, t.model, "
		"t.backend, t.error, b.hash, p.hash, r.hash, coalesce(t.tokens_in, -1), "
		"coalesce(t.tokens_cached, -1), coalesce(t.tokens_out, -1), "
		"coalesce(t.ttft_ms, -1), coalesce(t.total_ms, -1), "
		"coalesce(t.cost_nanousd, -1), t.created_at, t.partial FROM turn t "
		"LEFT JOIN message b ON b.id = t.base_id "
		"LEFT JOIN message p ON p.id = t.prompt_id "
		"LEFT JOIN message r ON r.id = t.reply_id "
		"WHERE t.session_id = ?1 ORDER BY t.id",
	[SQL_MOVE_SESSION_ADD] =
		"INSERT INTO session (id, title, title_by, model, head_id, pinned, is_private, "
		"created_at, updated_at, metadata, policy, used_seq) VALUES (?1, ?2, ?3, ?4, ?5, "
		"?6, ?7, ?8, ?9, ?10, json_object('imported_ms', ?11), " NEXT_SEQ ")",
	[SQL_MOVE_FORKED] = "UPDATE session SET forked_from = ?2 WHERE id = ?1 "
			    "AND EXISTS (SELECT 1 FROM session WHERE id = ?2)",
	[SQL_MOVE_TURN_SESSION] = "SELECT session_id = ?2 FROM turn WHERE request = ?1",
	[SQL_MOVE_TURN_LIKE] =
		"SELECT 1 FROM turn WHERE session_id = ?1 AND prompt_id = ?2 AND reply_id IS ?3 "
		"AND created_at = ?4 AND status = ?5 LIMIT 1",
	[SQL_MOVE_TURN_ADD] =
		"INSERT INTO turn (id, session_id, base_id, prompt_id, reply_id, status, model, "
		"backend, partial, error, tokens_in, tokens_cached, tokens_out, ttft_ms, total_ms, "
		"cost_nanousd, created_at, request) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, "
		"?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)",
};

/* SQLite 3.40 forgets the system's errno on some ways out of a write, so this thread's own, cleared
 * before each step, is asked too. */
static enum err_code code_of(sqlite3 *db, int rc)
{
	int own = errno, kept = db ? sqlite3_system_errno(db) : 0,
	    sys = kept ? kept : own;

	switch (rc & 0xff) {
	case SQLITE_FULL:
		return ERR_DISK_FULL;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return ERR_CORRUPT;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return ERR_BUSY;
	case SQLITE_CONSTRAINT:
	case SQLITE_MISMATCH:
		return ERR_INVALID;
	case SQLITE_INTERRUPT:
		return ERR_CANCELLED;
	case SQLITE_TOOBIG:
		return ERR_TOO_LARGE;
	case SQLITE_NOMEM:
		return ERR_MEMORY;
	case SQLITE_READONLY:
		return ERR_IO;
	case SQLITE_IOERR:
	case SQLITE_CANTOPEN:
		break;
	default:
		return ERR_INTERNAL;
	}
	/* EFBIG is ulimit -f, which is a disk that is full for us alone. */
	return sys == ENOSPC || sys == EDQUOT || sys == EFBIG ? ERR_DISK_FULL : ERR_IO;
}

int sql_err(sqlite3 *db, int rc, const char *what, struct err *e)
{
	enum err_code code = code_of(db, rc);
	const char *path = db ? sqlite3_db_filename(db, "main") : NULL;

	if (!path)
		path = "(closed)";
	if (code == ERR_DISK_FULL)
		return err_set(
			e, code,
			"%s: the disk (or hob's own limit) is full at '%s': free some space, "
			"or delete conversations",
			what, path);
	return err_set(e, code, "%s: '%s': %s", what, path,
		       db ? sqlite3_errmsg(db) : sqlite3_errstr(rc));
}

/* The greatest ids so far; a conversation's id begins with its time. */
static int last_ids(struct sql *q, struct err *e)
{
	sqlite3_stmt *st = sql_bind(q, SQL_LAST_IDS, "");
	int rc = st ? sql_step(q, st, e) : 0;

	if (rc <= 0)
		return rc;
	q->last_message = sqlite3_column_int64(st, 0);
	q->last_turn = sqlite3_column_int64(st, 1);
	q->last_note = sqlite3_column_int64(st, 2);
	q->last_id_ms = ulid_ms((const char *)sqlite3_column_text(st, 3));
	return sql_run(q, st, e);
}

sqlite3_stmt *sql_statement(struct sql *q, enum sql_id id)
{
	if (!q->st[id])
		q->prepare_rc =
			sqlite3_prepare_v3(q->db, sql_text[id], -1,
					   SQLITE_PREPARE_PERSISTENT, &q->st[id], NULL);
	return q->st[id];
}

int sql_open(struct sql *q, sqlite3 *db, bool read_only, struct err *e)
{
	const char *name = sqlite3_db_filename(db, "main");

	*q = (struct sql){
		.db = db, .read_only = read_only, .in_memory = !name || !name[0]};
	tally_watch(&q->tally, db);
	for (int i = 0; i <= SQL_UNDO; i++) {
		if (sql_statement(q, (enum sql_id)i) || read_only)
			continue;
		sql_err(db, q->prepare_rc, "prepare the conversation store", e);
		sql_close(q);
		return -1;
	}
	if (last_ids(q, e) == 0)
		return 0;
	sql_close(q);
	return -1;
}

void sql_close(struct sql *q)
{
	for (int i = 0; i < SQL_NR; i++)
		sqlite3_finalize(q->st[i]);
	sqlite3_close(q->db);
	*q = (struct sql){0};
}

static void bind_one(sqlite3_stmt *st, int at, char type, va_list *ap)
{
	int64_t i = 0;
	const char *p = NULL;
	size_t len = 0;

	switch (type) {
	case 'i':
		sqlite3_bind_int64(st, at, va_arg(*ap, int64_t));
		break;
	case 'I':
		i = va_arg(*ap, int64_t);
		if (i > 0)
			sqlite3_bind_int64(st, at, i);
		break;
	case 'n':
		i = va_arg(*ap, int);
		if (i >= 0)
			sqlite3_bind_int64(st, at, i);
		break;
	case 's':
		sqlite3_bind_text(st, at, va_arg(*ap, const char *), -1, SQLITE_STATIC);
		break;
	case 'S':
		p = va_arg(*ap, const char *);
		len = va_arg(*ap, size_t);
		sqlite3_bind_text64(st, at, p, len, SQLITE_STATIC, SQLITE_UTF8);
		break;
	case 'b':
		p = va_arg(*ap, const char *);
		sqlite3_bind_blob(st, at, p, va_arg(*ap, int), SQLITE_STATIC);
		break;
	default:
		ASSERT(!"letter of sql_bind");
	}
}

sqlite3_stmt *sql_bind(struct sql *q, enum sql_id id, const char *fmt, ...)
{
	sqlite3_stmt *st = sql_statement(q, id);
	va_list ap;

	if (!st)
		return NULL;
	if (id == SQL_UNDO || id == SQL_ROLLBACK)
		tally_undone(&q->tally);
	ASSERT((int)strlen(fmt) == sqlite3_bind_parameter_count(st));
	sqlite3_reset(st);
	sqlite3_clear_bindings(st);
	va_start(ap, fmt);
	for (int i = 0; fmt[i]; i++)
		bind_one(st, i + 1, fmt[i], &ap);
	va_end(ap);
	return st;
}

int sql_step(struct sql *q, sqlite3_stmt *st, struct err *e)
{
	int rc;

	if (!st && q->read_only)
		return err_set(e, ERR_UNSUPPORTED,
			       "the conversation store was written by a newer hob");
	if (!st)
		return sql_err(q->db, q->prepare_rc, "prepare the conversation store", e);
	errno = 0;
	rc = sqlite3_step(st);
	if (rc == SQLITE_ROW)
		return 1;
	if (rc != SQLITE_DONE)
		sql_err(q->db, rc, "conversation store", e);
	sqlite3_reset(st);
	return rc == SQLITE_DONE ? 0 : -1;
}

int sql_run(struct sql *q, sqlite3_stmt *st, struct err *e)
{
	int rc;

	while ((rc = sql_step(q, st, e)) == 1)
		;
	return rc;
}

int sql_run_int(struct sql *q, sqlite3_stmt *st, int64_t *out, struct err *e)
{
	int rc = sql_step(q, st, e);

	if (rc != 1)
		return rc;
	*out = sqlite3_column_int64(st, 0);
	return sql_run(q, st, e) == 0 ? 1 : -1;
}
