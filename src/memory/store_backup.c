/* A compact copy of the whole store in one file.
 *
 * A store thread.  VACUUM INTO and not SQLite's backup interface: what comes out has no free pages and no log,
 * and holds nothing that was deleted.  It is written under another name in the same folder and gets
 * its own when every byte is on the disk, so that a name that is there is a backup that is whole. */
#include "memory/store_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

struct backup_job {
	struct store_job job;
	store_done_cb *cb;
	char *path; /* owned */
};

static int must_be_free(const char *path, struct err *e)
{
	struct stat sb;

	if (lstat(path, &sb) == 0)
		return err_set(e, ERR_CONFLICT,
			       "'%s' is there already: a backup overwrites nothing",
			       path);
	return errno == ENOENT ? 0 : err_sys(e, errno, "back up to '%s'", path);
}

/* Some file systems cannot refuse while renaming; there the look before has to do. */
static int take_name(const char *tmp, const char *path, struct err *e)
{
	if (renameat2(AT_FDCWD, tmp, AT_FDCWD, path, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno == EEXIST || (errno != EINVAL && errno != ENOSYS))
		return errno == EEXIST ? must_be_free(path, e)
				       : err_sys(e, errno, "back up to '%s'", path);
	if (must_be_free(path, e) < 0)
		return -1;
	return rename(tmp, path) < 0 ? err_sys(e, errno, "back up to '%s'", path) : 0;
}

/* The new name is in the folder, and that is on the disk only when the folder is. */
static int sync_folder(const char *path, struct err *e)
{
	const char *slash = strrchr(path, '/');
	char *dir = slash ? xstrndup(path, (size_t)(slash - path) + 1) : xstrdup(".");
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int rc = fd < 0 || fsync(fd) < 0 ? -1 : 0;

	if (rc < 0 && errno == EINVAL) /* a file system without that */
		rc = 0;
	else if (rc < 0)
		rc = err_sys(e, errno, "back up into '%s'", dir);
	if (fd >= 0)
		close(fd);
	free(dir);
	return rc;
}

static int vacuum_into(sqlite3 *db, const char *tmp, struct err *e)
{
	sqlite3_stmt *st = NULL;
	int rc = sqlite3_prepare_v2(db, "VACUUM INTO ?1", -1, &st, NULL);

	errno = 0;
	if (rc == SQLITE_OK) {
		sqlite3_bind_text(st, 1, tmp, -1, SQLITE_STATIC);
		rc = sqlite3_step(st);
	}
	if (rc != SQLITE_DONE)
		sql_err(db, rc, "copy the conversations", e);
	sqlite3_finalize(st);
	return rc == SQLITE_DONE ? 0 : -1;
}

/* Empty first, for its mode: SQLite writes into an empty file that is there. */
static int make_private(const char *tmp, struct err *e)
{
	int fd = open(tmp, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd >= 0 && fchmod(fd, 0600) == 0)
		return fd;
	err_sys(e, errno, "back up to '%s'", tmp);
	if (fd >= 0) {
		close(fd);
		unlink(tmp);
	}
	return -1;
}

static int copy_to(struct sql *q, const char *tmp, const char *path, struct err *e)
{
	int fd = make_private(tmp, e), rc;

	if (fd < 0)
		return -1;
	rc = vacuum_into(q->db, tmp, e);
	if (rc == 0 && fsync(fd) < 0)
		rc = err_sys(e, errno, "back up to '%s'", tmp);
	close(fd);
	if (rc == 0)
		rc = take_name(tmp, path, e);
	if (rc < 0)
		unlink(tmp);
	else if (sync_folder(path, e) < 0) {
		unlink(path);
		rc = -1;
	}
	return rc;
}

static int run_backup(struct sql *q, struct store_job *job)
{
	struct backup_job *j = (struct backup_job *)job;
	char *tmp;
	int rc;

	if (j->path[0] != '/')
		return err_set(&job->err, ERR_INVALID,
			       "back up to '%s': name the file by its whole path",
			       j->path);
	if (must_be_free(j->path, &job->err) < 0)
		return -1;
	tmp = xasprintf("%s.%d.part", j->path, (int)getpid());
	rc = copy_to(q, tmp, j->path, &job->err);
	free(tmp);
	return rc;
}

static void tell_backup(struct store_job *job)
{
	((struct backup_job *)job)->cb(job->arg, &job->err);
}

static void free_backup(struct store_job *job)
{
	free(((struct backup_job *)job)->path);
}

/* VACUUM cannot run inside a transaction.  Beside the writer, since a large store takes seconds. */
static const struct store_op backup_op = {"back up", STORE_ASIDE | STORE_NO_UNDO,
					  run_backup, tell_backup, free_backup};

void store_backup(struct store *s, const char *path, store_done_cb *cb, void *arg)
{
	struct backup_job *j = store_job_new(sizeof(*j), &backup_op, arg);

	j->cb = cb;
	j->path = store_copy_str(&j->job, path);
	store_submit(s, &j->job);
}
