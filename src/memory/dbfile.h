/* The database file as a thing on disk: its lock, its modes, and what happens when it is new,
 * broken, a stranger's, or from the future.
 *
 * store_open's, before the store thread exists; dbfile_close runs after that thread ended. */
#ifndef HOB_MEMORY_DBFILE_H
#define HOB_MEMORY_DBFILE_H

#include <sqlite3.h>
#include "base/err.h"

struct dbfile {
	char *path;   /* owned */
	char *notice; /* owned or NULL: what the user should be told about this file */
	int lock_fd;  /* -1 = none; flock on `<path>.lock`, which is never removed */
	sqlite3 *db;  /* the caller may take it and set NULL */
	bool read_only;
	bool in_memory; /* path ":memory:": no file, no lock, nothing on disk */
	int64_t max_bytes;
};

enum {
	DBFILE_MAX_BYTES = 2147483647,       /* default limit of memory.md §8, 2 GiB */
	DBFILE_MAX_MEMORY_BYTES = 256 << 20, /* of one without a file */
};

/* Locks, makes or checks, migrates; ":memory:" is only made.  A corrupt file is renamed to `<path>.corrupt-<UTC time>`,
 * with its -wal and -shm, and never deleted.  ERR_CONFLICT: another process holds it.
 * On failure f is as after dbfile_close. */
int dbfile_open(struct dbfile *f, const char *path, struct err *e);
/* Closes db if it is still here, gives the lock back. */
void dbfile_close(struct dbfile *f);
/* SQLite found damage while running: the next open checks the file, however clean the stop. */
void dbfile_suspect(const char *path);

/* Removes the copies that migrations made of `path`: they hold text that was deleted since. */
int dbfile_remove_copies(const char *path, struct err *e);

#endif
