/* The statements of the store: one table of {id, text}, each prepared once, bound by position.
 *
 * Store thread only (store_open uses it before that thread exists).  There is no other SQL that
 * reads or writes conversations, and none is built from strings. */
#ifndef HOB_MEMORY_SQL_H
#define HOB_MEMORY_SQL_H

#include <sqlite3.h>
#include "base/err.h"
#include "memory/tally.h"

enum sql_id {
	SQL_BEGIN,
	SQL_BEGIN_READ,
	SQL_COMMIT,
	SQL_ROLLBACK,
	SQL_SAVEPOINT,
	SQL_RELEASE,
	SQL_UNDO,
	SQL_MESSAGE_FIND,
	SQL_MESSAGE_ADD,
	SQL_MESSAGE_HASH,
	SQL_MESSAGE_ANSWERS,
	SQL_MESSAGE_FORGET,
	SQL_BLOB_ADD,
	SQL_BLOB_USE,
	SQL_BLOB_GET,
	SQL_PATH,
	SQL_PATH_HAS_SYSTEM,
	SQL_PATH_SESSION,
	SQL_SESSION_ADD,
	SQL_SESSION_LAST,
	SQL_SESSION_HEAD,
	SQL_SESSION_BEGIN,
	SQL_SESSION_MOVE,
	SQL_SESSION_TITLE,
	SQL_SESSION_FORKED,
	SQL_SESSION_REACHES,
	SQL_SESSION_MEMBERS,
	SQL_SESSION_DELETE,
	SQL_SESSION_SWEEP,
	SQL_LIST,
	SQL_GET,
	SQL_TURN_ADD,
	SQL_TURN_GET,
	SQL_TURN_PARTIAL,
	SQL_TURN_END,
	SQL_TURN_REBASE,
	SQL_TURN_RUNNING,
	SQL_TURN_RETRIED,
	SQL_TURN_OF_REPLY,
	SQL_LAST_IDS,
	SQL_FTS_OPTIMIZE,
	SQL_FTS_MERGE,

	/* store_heads.c: rows, heads, turns */
	SQL_LIST_PINNED,
	SQL_SESSION_SEQ,
	SQL_SESSION_CREATE,
	SQL_SESSION_CHANGE,
	SQL_SESSION_FORK,
	SQL_SESSION_HEAD_TO,
	SQL_SESSION_APPEND,
	SQL_SESSION_RUNS,
	SQL_TIP_ADD,
	SQL_PATH_UNDO,
	SQL_TURNS,
	SQL_TURN_NAMED,
	SQL_TURN_UNNAME,

	/* store_notes.c: notes, summaries, token counts */
	SQL_PATH_SUMMARIES,
	SQL_NOTES,
	SQL_NOTE_ADD,
	SQL_NOTE_COUNT,
	SQL_NOTE_DELETE,
	SQL_SUMMARY_PUT,
	SQL_COUNT_PUT,

	/* store_search.c */
	SQL_SEARCH_NEWEST,
	SQL_SEARCH,
	SQL_SEARCH_IN,
	SQL_SEARCH_TURN,
	SQL_SEARCH_HEAD,
	SQL_SEARCH_NAMED,
	SQL_SEARCH_SNIPPET,

	/* store_keep.c: limits, forgetting, figures */
	SQL_KEEP_COUNT,
	SQL_KEEP_MEASURE,
	SQL_KEEP_WITNESS,
	SQL_KEEP_TOO_OLD,
	SQL_KEEP_LEAST_USED,
	SQL_KEEP_FAILED,
	SQL_KEEP_FAILED_DELETE,
	SQL_KEEP_FAILED_CLEAR,
	SQL_KEEP_EMPTY,
	SQL_KEEP_SWEEP,
	SQL_KEEP_SWEEP_END,
	SQL_KEEP_ENDS,
	SQL_KEEP_NODE,
	SQL_KEEP_FTS_MERGE,
	SQL_KEEP_FORGET_NEXT,
	SQL_KEEP_PINNED,
	SQL_KEEP_FORGET_NOTES,

	/* store_move.c: export, import */
	SQL_MOVE_SESSION,
	SQL_MOVE_NODES,
	SQL_MOVE_NODE,
	SQL_MOVE_TURNS,
	SQL_MOVE_SESSION_ADD,
	SQL_MOVE_FORKED,
	SQL_MOVE_TURN_SESSION,
	SQL_MOVE_TURN_LIKE,
	SQL_MOVE_TURN_ADD,

	SQL_NR
};

struct sql {
	sqlite3 *db; /* owned */
	sqlite3_stmt *st[SQL_NR];
	int prepare_rc; /* of the last one that was prepared */
	bool read_only; /* a newer hob's file: statements that do not fit it stay NULL */
	bool in_memory; /* no file: its conversations are incognito */
	/* The greatest ever given out: what was deleted gives no id back, so that a late answer
	 * about it meets nothing instead of something else. */
	int64_t last_message, last_turn, last_note;
	int64_t max_bytes;                                /* of the file; 0 = no limit */
	uint64_t max_message_bytes, max_attachment_bytes; /* the user's; 0 = no limit */
	struct tally tally;
	int64_t last_id_ms; /* of a conversation's id: they sort when the clock steps back too */
};

/* Takes the connection.  When it fails the connection is closed. */
int sql_open(struct sql *q, sqlite3 *db, bool read_only, struct err *e);
void sql_close(struct sql *q);

/* Prepared, as it was left; NULL when it cannot be. */
sqlite3_stmt *sql_statement(struct sql *q, enum sql_id id);
/* Binds and returns a statement ready to be stepped.  One letter for each parameter:
 * i int64_t · I int64_t, NULL when <= 0 (row ids) · n int, NULL when < 0 (unknown) ·
 * s const char * (or NULL) · S const char *, size_t · b const void *, int.
 * Bytes are borrowed until the statement is done. */
sqlite3_stmt *sql_bind(struct sql *q, enum sql_id id, const char *fmt, ...);
/* 1 = a row, 0 = done, -1 = failed; after 0 and -1 the statement is reset. */
int sql_step(struct sql *q, sqlite3_stmt *st, struct err *e);
/* Steps to the end. */
int sql_run(struct sql *q, sqlite3_stmt *st, struct err *e);
/* First column of the only row: 1, or 0 when there is none, or -1. */
int sql_run_int(struct sql *q, sqlite3_stmt *st, int64_t *out, struct err *e);
/* What a result code of SQLite means to hob, with the file's path.  Returns -1. */
int sql_err(sqlite3 *db, int rc, const char *what, struct err *e);

#endif
