/* How the database file is found, locked, checked and opened.
 *
 * Runs on the loop thread at start, before anything is served.  The lock is a file of its own
 * and not the database: SQLite uses POSIX locks, which a process loses as soon as it closes any
 * descriptor of the same file.  For the same reason the modes are set before SQLite opens it. */
#include "memory/dbfile.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/buf.h"
#include "base/log.h"
#include "base/paths.h"
#include "base/sqlfile.h"
#include "memory/schema.h"
#include "memory/sql.h"

static int make_folder(const char *path, struct err *e)
{
	const char *slash = strrchr(path, '/');
	char *dir;
	int rc;

	if (!slash || slash == path)
		return 0;
	dir = xstrndup(path, (size_t)(slash - path));
	rc = paths_make_private(dir, e);
	free(dir);
	return rc;
}

/* Opens or makes a file of mode 0600; the umask is not relied on. */
static int open_private(const char *path, int flags, struct err *e)
{
	struct stat sb;
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | flags, 0600);

	if (fd < 0) {
		err_sys(e, errno, "open '%s'", path);
		return -1;
	}
	if (fstat(fd, &sb) == 0 && S_ISREG(sb.st_mode) && fchmod(fd, 0600) == 0)
		return fd;
	err_set(e, ERR_IO, "'%s' must be a plain file of ours", path);
	close(fd);
	return -1;
}

static int take_lock(struct dbfile *f, struct err *e)
{
	char *name = xasprintf("%s.lock", f->path);

	f->lock_fd = open_private(name, O_NOFOLLOW, e);
	if (f->lock_fd >= 0 && flock(f->lock_fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno == EWOULDBLOCK)
			err_set(e, ERR_CONFLICT,
				"another hob has the conversations in '%s' open: stop it first",
				f->path);
		else
			err_sys(e, errno, "lock '%s'", name);
		close(f->lock_fd);
		f->lock_fd = -1;
	}
	free(name);
	return f->lock_fd < 0 ? -1 : 0;
}

static bool side_file(const char *path, const char *suffix, struct stat *sb)
{
	char *name = xasprintf("%s%s", path, suffix);
	bool there = lstat(name, sb) == 0;

	free(name);
	return there;
}

/* A WAL with content means that nobody closed this database: it is checked before it is used. */
static bool was_unclean(const char *path)
{
	struct stat sb;

	return (side_file(path, "-wal", &sb) && sb.st_size > 0) ||
	       side_file(path, ".suspect", &sb);
}

static bool means_memory(const char *path)
{
	return !strcmp(path, ":memory:");
}

void dbfile_suspect(const char *path)
{
	char *name;
	int fd;

	if (means_memory(path))
		return;
	name = xasprintf("%s.suspect", path);
	fd = open_private(name, O_NOFOLLOW, NULL);
	if (fd >= 0)
		close(fd);
	free(name);
}

static int set_aside(struct dbfile *f, const struct err *why, struct err *e)
{
	char *aside = sqlfile_set_aside(f->path, "corrupt", e);

	if (!aside)
		return -1;
	sqlfile_remove_side(f->path, ".suspect");
	f->notice = xasprintf(
		"the conversations in '%s' were damaged (%.200s); they were set aside as "
		"'%s' and hob starts with none",
		f->path, why->text, aside);
	log_error("%s", f->notice);
	free(aside);
	return 0;
}

static int connect_db(struct dbfile *f, int flags, struct err *e)
{
	int rc = sqlite3_open_v2(f->path, &f->db,
				 flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE,
				 NULL);

	if (rc == SQLITE_OK)
		return 0;
	sql_err(f->db, rc, "open the conversation store", e);
	sqlite3_close(f->db);
	f->db = NULL;
	return -1;
}

static void disconnect(struct dbfile *f)
{
	sqlite3_close(f->db);
	f->db = NULL;
}

/* Never written to: an older hob cannot know what a newer one's tables mean. */
static int open_newer(struct dbfile *f, int version, struct err *e)
{
	disconnect(f);
	if (connect_db(f, SQLITE_OPEN_READONLY, e) < 0 ||
	    schema_pragmas(f->db, false, e) < 0)
		return -1;
	f->read_only = true;
	f->notice = xasprintf(
		"the conversations in '%s' were written by a newer hob (version %d, this "
		"one knows %d): they can be read, and nothing new is kept",
		f->path, version, SCHEMA_VERSION);
	log_warn("%s", f->notice);
	return 0;
}

static int open_known(struct dbfile *f, struct err *e)
{
	bool unclean = was_unclean(f->path), empty;
	int app = 0, version = 0, fd;

	fd = open_private(f->path, 0, e);
	if (fd < 0)
		return -1;
	close(fd);
	if (connect_db(f, SQLITE_OPEN_READWRITE, e) < 0 ||
	    sqlite3_busy_timeout(f->db, 5000) != SQLITE_OK ||
	    schema_identify(f->db, &app, &version, &empty, e) < 0)
		return -1;
	if (app != SCHEMA_APPLICATION_ID && !empty)
		return err_set(
			e, ERR_UNSUPPORTED,
			"'%s' is the database of another program: name another file",
			f->path);
	if (version > SCHEMA_VERSION)
		return open_newer(f, version, e);
	if (schema_pragmas(f->db, empty, e) < 0)
		return -1;
	if (unclean && !empty && schema_check(f->db, e) < 0)
		return -1;
	sqlfile_remove_side(f->path, ".suspect");
	return schema_migrate(f->db, f->path, schema_migrations, version, SCHEMA_VERSION,
			      e);
}

static int open_memory(struct dbfile *f, struct err *e)
{
	if (connect_db(f, SQLITE_OPEN_READWRITE | SQLITE_OPEN_MEMORY, e) == 0 &&
	    schema_pragmas(f->db, true, e) == 0 &&
	    schema_migrate(f->db, f->path, schema_migrations, 0, SCHEMA_VERSION, e) ==
		    0 &&
	    schema_limit(f->db, f->max_bytes, e) == 0)
		return 0;
	dbfile_close(f);
	return -1;
}

int dbfile_open(struct dbfile *f, const char *path, struct err *e)
{
	struct err why = {0};
	int rc;

	*f = (struct dbfile){
		.path = xstrdup(path),
		.lock_fd = -1,
		.in_memory = means_memory(path),
		.max_bytes =
			means_memory(path) ? DBFILE_MAX_MEMORY_BYTES : DBFILE_MAX_BYTES,
	};
	if (f->in_memory)
		return open_memory(f, e);
	rc = make_folder(path, e);
	if (rc == 0)
		rc = take_lock(f, e);
	if (rc == 0 && open_known(f, &why) < 0) {
		disconnect(f);
		if (why.code == ERR_CORRUPT) {
			rc = set_aside(f, &why, e);
			if (rc == 0)
				rc = open_known(f, e);
		} else {
			*e = why;
			rc = -1;
		}
	}
	if (rc == 0 && !f->read_only)
		rc = schema_limit(f->db, f->max_bytes, e);
	if (rc < 0)
		dbfile_close(f);
	return rc;
}

void dbfile_close(struct dbfile *f)
{
	disconnect(f);
	if (f->lock_fd >= 0)
		close(f->lock_fd);
	free(f->path);
	free(f->notice);
	*f = (struct dbfile){.lock_fd = -1};
}

/* ---- copies ---- */

/* "<name>.v<digits>.bak", also one that was not finished. */
static bool is_copy(const char *name, struct str of)
{
	size_t digits;

	if (strncmp(name, of.ptr, of.len) || strncmp(name + of.len, ".v", 2))
		return false;
	name += of.len + 2;
	digits = strspn(name, "0123456789");
	name += digits;
	return digits > 0 && (!strcmp(name, ".bak") || !strcmp(name, ".bak.tmp"));
}

static int remove_copy(const char *dir, const char *name, struct err *e)
{
	char *copy = xasprintf("%s/%s", dir, name);
	int rc = 0;

	if (unlink(copy) < 0 && errno != ENOENT)
		rc = err_sys(e, errno, "remove '%s', which holds deleted text", copy);
	else
		log_info(
			"removed '%s', the copy that a migration had made: it held deleted "
			"text",
			copy);
	free(copy);
	return rc;
}

int dbfile_remove_copies(const char *path, struct err *e)
{
	const char *slash = strrchr(path, '/');
	struct str base = str_of(slash ? slash + 1 : path);
	char *dir = slash ? xstrndup(path, (size_t)(slash - path)) : xstrdup(".");
	struct dirent *ent;
	DIR *d = opendir(dir[0] ? dir : "/");
	int rc = 0;

	if (!d)
		rc = err_sys(e, errno, "look for copies in '%s'", dir);
	while (d && rc == 0 && (ent = readdir(d)) != NULL)
		if (is_copy(ent->d_name, base))
			rc = remove_copy(dir, ent->d_name, e);
	if (d)
		closedir(d);
	free(dir);
	return rc;
}
