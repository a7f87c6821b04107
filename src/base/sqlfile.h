/* An SQLite file of ours as a thing on disk: made private, told from a stranger's, checked, set aside.
 *
 * Any thread, one at a time for each file.  Results are SQLite's codes unless a struct err says more:
 * whether damage ends the program, or costs nothing but a measurement, is the owner's to know. */
#ifndef HOB_SQLFILE_H
#define HOB_SQLFILE_H

#include <sqlite3.h>
#include "base/err.h"

/* Broken, or no database at all. */
bool sqlfile_is_damage(int rc);

/* Opens path, made with mode 0600 where there is none and never through a link; extended codes are
 * on, SQLite's own mutexes off.  The caller closes *db, which is NULL when this fails. */
int sqlfile_connect(const char *path, sqlite3 **db);
/* An empty file gets both numbers.  Else they must be these and the file sound: SQLITE_NOTADB for a
 * stranger's or an older one, SQLITE_CORRUPT for a broken one.  *newer: ours, of a later version, and
 * then nothing was looked at or written. */
int sqlfile_identify(sqlite3 *db, int application_id, int version, bool *newer);
/* Runs SQL text if rc is SQLITE_OK; else returns rc. */
int sqlfile_exec(sqlite3 *db, int rc, const char *sql);

/* Renames the file to `<path>.<word>-<UTC time>`, its -wal, -shm and -journal with it; the caller owns
 * the new name.  NULL and an error when that fails: the file may then be used no more. */
char *sqlfile_set_aside(const char *path, const char *word, struct err *e);
/* Removes `<path><suffix>`, if it is there. */
void sqlfile_remove_side(const char *path, const char *suffix);

#endif
