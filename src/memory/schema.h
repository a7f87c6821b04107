/* Tables of the conversation store and the way from each released version to the next.
 *
 * Store thread, or store_open before that thread exists. */
#ifndef HOB_MEMORY_SCHEMA_H
#define HOB_MEMORY_SCHEMA_H

#include <sqlite3.h>
#include "base/err.h"

enum {
	SCHEMA_APPLICATION_ID = 0x686f6230, /* "hob0": never touch a stranger's file */
	SCHEMA_VERSION = 2,
};

/* schema_migrations[i] leads from version i to i + 1.  A released entry is never changed. */
extern const char *const schema_migrations[SCHEMA_VERSION];

/* What a connection needs each time; `fresh` adds what only an empty file can take. */
int schema_pragmas(sqlite3 *db, bool fresh, struct err *e);
/* Those of ANALYZE, by a foreign shell or a former version.  *any: there were some, and this
 * connection still goes by them. */
int schema_forget_statistics(sqlite3 *db, bool *any, struct err *e);
/* Reads both header fields.  A file that is not SQLite, or broken, gives ERR_CORRUPT. */
int schema_identify(sqlite3 *db, int *application_id, int *version, bool *empty,
		    struct err *e);
/* Runs migrations[from .. n), each in its own transaction.  A file that held data is first
 * copied to `<path>.v<from>.bak`. */
int schema_migrate(sqlite3 *db, const char *path, const char *const *migrations, int from,
		   int n, struct err *e);
/* After an unclean stop: 0 = sound (a bad search index is rebuilt), -1 with ERR_CORRUPT = not. */
int schema_check(sqlite3 *db, struct err *e);
/* A hard cap of the file's size, so that an error comes instead of a full disk. */
int schema_limit(sqlite3 *db, int64_t max_bytes, struct err *e);

/* Runs SQL text without parameters; the error names `what`. */
int schema_exec(sqlite3 *db, const char *sql, const char *what, struct err *e);

#endif
