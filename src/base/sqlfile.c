/* How an SQLite file of ours is opened, recognised and set aside.
 *
 * Any thread, one at a time for each file.  The question a reader will ask: why the file is made
 * before SQLite opens it.  SQLite would make it with the umask's mode, and would follow a link. */
#include "base/sqlfile.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

bool sqlfile_is_damage(int rc)
{
	return (rc & 0xff) == SQLITE_CORRUPT || (rc & 0xff) == SQLITE_NOTADB;
}

int sqlfile_connect(const char *path, sqlite3 **db)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	int rc;

	*db = NULL;
	if (fd < 0)
		return errno == ENOSPC ? SQLITE_FULL : SQLITE_CANTOPEN;
	close(fd); /* it is ours alone from its first byte on */
	rc = sqlite3_open_v2(path, db,
			     SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX |
				     SQLITE_OPEN_EXRESCODE,
			     NULL);
	if (rc != SQLITE_OK) {
		sqlite3_close(*db);
		*db = NULL;
	}
	return rc;
}

static int query_int(sqlite3 *db, const char *sql, int64_t *out)
{
	sqlite3_stmt *st = NULL;
	int rc = sqlite3_prepare_v2(db, sql, -1, &st, NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_step(st);
	if (rc == SQLITE_ROW) {
		*out = sqlite3_column_int64(st, 0);
		rc = SQLITE_OK;
	}
	sqlite3_finalize(st);
	return rc;
}

static int check(sqlite3 *db)
{
	sqlite3_stmt *st = NULL;
	int rc = sqlite3_prepare_v2(db, "PRAGMA quick_check(1)", -1, &st, NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_step(st);
	if (rc == SQLITE_ROW) {
		const char *text = (const char *)sqlite3_column_text(st, 0);

		rc = text && !strcmp(text, "ok") ? SQLITE_OK : SQLITE_CORRUPT;
	}
	sqlite3_finalize(st);
	return rc;
}

static int stamp(sqlite3 *db, int application_id, int version)
{
	char sql[80];

	snprintf(sql, sizeof sql, "PRAGMA application_id=%d; PRAGMA user_version=%d",
		 application_id, version);
	return sqlite3_exec(db, sql, NULL, NULL, NULL);
}

int sqlfile_identify(sqlite3 *db, int application_id, int version, bool *newer)
{
	int64_t app = 0, v = 0, tables = 0;
	int rc = query_int(db, "PRAGMA application_id", &app);

	*newer = false;
	if (rc == SQLITE_OK)
		rc = query_int(db, "PRAGMA user_version", &v);
	if (rc == SQLITE_OK)
		rc = query_int(db, "SELECT count(*) FROM sqlite_master", &tables);
	if (rc != SQLITE_OK)
		return rc;
	if (tables == 0)
		return stamp(db, application_id, version);
	*newer = app == application_id && v > version;
	if (*newer)
		return SQLITE_OK;
	return app == application_id && v == version ? check(db) : SQLITE_NOTADB;
}

int sqlfile_exec(sqlite3 *db, int rc, const char *sql)
{
	return rc == SQLITE_OK ? sqlite3_exec(db, sql, NULL, NULL, NULL) : rc;
}

static int rename_side(const char *path, const char *aside, const char *suffix,
		       struct err *e)
{
	char *from = xasprintf("%s%s", path, suffix),
	     *to = xasprintf("%s%s", aside, suffix);
	int rc = 0;

	if (rename(from, to) < 0 && errno != ENOENT)
		rc = err_sys(e, errno, "set '%s' aside", from);
	free(from);
	free(to);
	return rc;
}

static char *free_name(const char *path, const char *word)
{
	struct stat sb;
	struct tm tm;
	time_t now = time(NULL);
	char when[32], *name;

	gmtime_r(&now, &tm);
	strftime(when, sizeof when, "%Y%m%dT%H%M%SZ", &tm);
	name = xasprintf("%s.%s-%s", path, word, when);
	for (int i = 2; lstat(name, &sb) == 0; i++) {
		free(name);
		name = xasprintf("%s.%s-%s-%d", path, word, when, i);
	}
	return name;
}

/* The logs go first: a database without its log is only older, a log beside a new database is
 * poison. */
char *sqlfile_set_aside(const char *path, const char *word, struct err *e)
{
	char *aside = free_name(path, word);

	if (rename_side(path, aside, "-wal", e) == 0 &&
	    rename_side(path, aside, "-shm", e) == 0 &&
	    rename_side(path, aside, "-journal", e) == 0 &&
	    rename_side(path, aside, "", e) == 0)
		return aside;
	free(aside);
	return NULL;
}

void sqlfile_remove_side(const char *path, const char *suffix)
{
	char *name = xasprintf("%s%s", path, suffix);

	unlink(name);
	free(name);
}
