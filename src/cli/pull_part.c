/* Part files.  Client side, blocking.
 *
 * The lock is on the part itself.  A reader may question the loop in part_open(): between open and
 * lock another pull may have finished and renamed the file, and then we would hold the lock of
 * the finished one. */
#include "cli/pull_part.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/json.h"

enum { COPY_BYTES = 1 << 20, META_MAX_BYTES = 4096, ETAG_MAX = 255 };

static bool same_file(int fd, const char *path)
{
	struct stat a, b;

	return fstat(fd, &a) == 0 && stat(path, &b) == 0 && a.st_ino == b.st_ino &&
	       a.st_dev == b.st_dev;
}

static int open_locked(struct part *t, struct err *e)
{
	for (int tries = 0; tries < 10; tries++) {
		t->fd = open(t->part, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (t->fd < 0)
			return err_sys(e, errno, "open '%s'", t->part);
		if (flock(t->fd, LOCK_EX | LOCK_NB) < 0)
			return err_set(e, ERR_CONFLICT, "another pull of '%s' is running",
				       t->path);
		if (same_file(t->fd, t->part))
			return 0;
		close(t->fd);
		t->fd = -1;
	}
	return err_set(e, ERR_CONFLICT, "another pull of '%s' is running", t->path);
}

int part_open(struct part *t, const struct pull *p, const char *filename, struct err *e)
{
	struct stat st;

	*t = (struct part){.dir = p->dir, .fd = -1, .progress = p->progress};
	t->path = xasprintf("%s/%s", p->dir, filename);
	t->part = xasprintf("%s.part", t->path);
	t->meta = xasprintf("%s.meta", t->part);
	SHA256Init(&t->sum);
	if (open_locked(t, e) < 0)
		return -1;
	if (fstat(t->fd, &st) < 0 || !S_ISREG(st.st_mode))
		return err_set(e, ERR_IO, "'%s' is no regular file", t->part);
	t->bytes = (uint64_t)st.st_size;
	return 0;
}

void part_close(struct part *t)
{
	if (t->fd >= 0)
		close(t->fd);
	free(t->path);
	free(t->part);
	free(t->meta);
}

int part_restart(struct part *t, struct err *e)
{
	SHA256Init(&t->sum);
	t->bytes = 0;
	if (ftruncate(t->fd, 0) < 0 || lseek(t->fd, 0, SEEK_SET) < 0)
		return err_sys(e, errno, "truncate '%s'", t->part);
	return 0;
}

/* ---- what it is a part of ---- */

static bool meta_fits(const struct part *t, const char *source, const char *sha256,
		      char *etag)
{
	const char *was_source = "", *was_sha = "", *was_etag = "";
	char text[META_MAX_BYTES];
	int fd = open(t->meta, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text);
	bool fits = false;
	cJSON *tree;

	etag[0] = 0;
	if (fd >= 0)
		close(fd);
	tree = n > 0 ? json_parse((struct str){text, (size_t)n}, NULL) : NULL;
	json_string(tree, "source", &was_source, NULL);
	json_string(tree, "sha256", &was_sha, NULL);
	json_string(tree, "etag", &was_etag, NULL);
	/* A sum that is known on one side only says nothing; without a sum and an etag nothing
	 * would show a change in between. */
	if (tree && !strcmp(was_source, source) && (sha256[0] || was_etag[0]) &&
	    (!sha256[0] || !was_sha[0] || !strcmp(was_sha, sha256))) {
		snprintf(etag, ETAG_MAX + 1, "%s", was_etag);
		fits = true;
	}
	cJSON_Delete(tree);
	return fits;
}

void part_remember(struct part *t, const char *source, const char *sha256,
		   const char *etag)
{
	struct buf text = {0};
	int fd = open(t->meta, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
		      0600);
	ssize_t n;

	buf_adds(&text, "{\"source\":");
	buf_add_json(&text, source, strlen(source));
	buf_adds(&text, ",\"sha256\":");
	buf_add_json(&text, sha256, strlen(sha256));
	buf_adds(&text, ",\"etag\":");
	buf_add_json(&text, etag, strlen(etag));
	buf_adds(&text, "}\n");
	/* A meta that could not be written means no resuming, which is no reason to fail. */
	n = fd < 0 ? -1 : write(fd, text.data, text.len);
	UNUSED(n);
	if (fd >= 0)
		close(fd);
	buf_free(&text);
}

static bool step(struct pull_progress *p, uint64_t done, uint64_t total)
{
	return !p || p->step(p, done, total, total);
}

/* Reads fd from its start into the sum. */
static int sum_file(int fd, const char *name, SHA2_CTX *sum,
		    struct pull_progress *progress, uint64_t *bytes, struct err *e)
{
	unsigned char *block = xmalloc(COPY_BYTES);
	uint64_t done = 0;
	struct stat st;
	ssize_t n = 0;
	int rc = 0;

	SHA256Init(sum);
	if (lseek(fd, 0, SEEK_SET) < 0 || fstat(fd, &st) < 0)
		rc = err_sys(e, errno, "read '%s'", name);
	while (rc == 0 && (n = read(fd, block, COPY_BYTES)) > 0) {
		SHA256Update(sum, block, (size_t)n);
		done += (uint64_t)n;
		if (!step(progress, done, (uint64_t)st.st_size))
			rc = err_set(e, ERR_CANCELLED, "interrupted");
	}
	if (n < 0)
		rc = err_sys(e, errno, "read '%s'", name);
	*bytes = done;
	free(block);
	return rc;
}

int part_resume(struct part *t, const char *source, const char *sha256, char *etag,
		struct err *e)
{
	if (t->bytes == 0 || !meta_fits(t, source, sha256, etag)) {
		etag[0] = 0;
		return part_restart(t, e);
	}
	return sum_file(t->fd, t->part, &t->sum, t->progress, &t->bytes, e);
}

/* ---- growing ---- */

static uint64_t missing(const struct part *t)
{
	return t->expect > t->bytes ? t->expect - t->bytes : 0;
}

static int disk_full(const struct part *t, uint64_t free_bytes, struct err *e)
{
	return err_set(e, ERR_DISK_FULL,
		       "disk full: '%s' needs %llu more bytes (%.2f GiB), free in "
		       "'%s': %llu (%.2f GiB); what is there already is kept",
		       t->path, (unsigned long long)missing(t),
		       (double)missing(t) / (1 << 30), t->dir,
		       (unsigned long long)free_bytes, (double)free_bytes / (1 << 30));
}

static uint64_t free_bytes_in(const char *dir)
{
	struct statvfs v;

	return statvfs(dir, &v) < 0 ? UINT64_MAX : (uint64_t)v.f_bavail * v.f_frsize;
}

int part_room(const struct part *t, struct err *e)
{
	uint64_t room = free_bytes_in(t->dir); /* unknown: the write will tell */

	return missing(t) <= room ? 0 : disk_full(t, room, e);
}

int part_write(struct part *t, const void *bytes, size_t n, struct err *e)
{
	const unsigned char *p = bytes;

	while (n) {
		ssize_t w = write(t->fd, p, n);

		if (w < 0 && errno == EINTR)
			continue;
		if (w < 0 && (errno == ENOSPC || errno == EDQUOT))
			return disk_full(t, free_bytes_in(t->dir), e);
		if (w < 0)
			return err_sys(e, errno, "write '%s'", t->part);
		SHA256Update(&t->sum, p, (size_t)w);
		t->bytes += (uint64_t)w;
		p += w;
		n -= (size_t)w;
	}
	return 0;
}

/* ---- the end ---- */

static int sync_dir(const char *dir, struct err *e)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int rc = 0;

	if (fd < 0 || fsync(fd) < 0)
		rc = err_sys(e, errno, "sync '%s'", dir);
	if (fd >= 0)
		close(fd);
	return rc;
}

int part_finish(struct part *t, const char *want, char *sha256, struct err *e)
{
	SHA2_CTX sum = t->sum;

	SHA256End(&sum, sha256);
	if (want[0] && strcmp(want, sha256)) {
		unlink(t->part);
		unlink(t->meta);
		return err_set(e, ERR_CORRUPT,
			       "'%s': the SHA-256 is %s, expected %s; it was removed",
			       t->part, sha256, want);
	}
	if (fsync(t->fd) < 0)
		return err_sys(e, errno, "sync '%s'", t->part);
	if (rename(t->part, t->path) < 0)
		return err_sys(e, errno, "rename '%s'", t->part);
	unlink(t->meta);
	return sync_dir(t->dir, e);
}

int part_sum(const char *path, struct pull_progress *progress, char *sha256,
	     uint64_t *bytes, struct err *e)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	SHA2_CTX sum;
	int rc;

	if (fd < 0)
		return err_sys(e, errno, "open '%s'", path);
	rc = sum_file(fd, path, &sum, progress, bytes, e);
	SHA256End(&sum, sha256);
	close(fd);
	return rc;
}
