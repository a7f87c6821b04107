/* The history and its file.  Main thread.
 *
 * The file has libedit's format (a line for each entry, vis(3)-encoded), so files of older versions go
 * on.  A reader may ask why libedit does not write it: H_SAVE writes all that one program knows over
 * what another one added meanwhile. */
#include "cli/lines_history.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"

#define COOKIE "_HiStOrY_V2_\n"

struct lines_history {
	History *list; /* owned */
	char *path;    /* owned, or NULL */
};

/* The file, locked, and still the one with this name; -1 when that cannot be had.  The lock goes with
 * the descriptor.  Somebody who holds it only writes a few bytes, but a stopped program must not stop
 * us: without the lock there is no history. */
static int open_locked(const char *path)
{
	for (int i = 0; i < 50; i++) {
		struct stat mine, there;
		int fd = open(path,
			      O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW |
				      O_NONBLOCK,
			      0600);

		if (fd < 0)
			return -1;
		if (!flock(fd, LOCK_EX | LOCK_NB)) {
			if (!fstat(fd, &mine) && S_ISREG(mine.st_mode) &&
			    !stat(path, &there) && mine.st_ino == there.st_ino &&
			    mine.st_dev == there.st_dev)
				return fd;
		} else if (errno == EWOULDBLOCK) {
			usleep(2000);
		}
		close(fd);
	}
	return -1;
}

static void encode(struct buf *out, const char *text)
{
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c <= ' ' || c == '\\' || c == 0x7F)
			buf_addf(out, "\\%03o", c);
		else
			buf_addc(out, (char)c);
	}
	buf_addc(out, '\n');
}

static bool write_all(int fd, const struct buf *b)
{
	return write(fd, b->data, b->len) == (ssize_t)b->len;
}

/* All entries into a new file that takes the place of the old one, whose lock we hold. */
static void rewrite(struct lines_history *h)
{
	char *fresh = xasprintf("%s.new", h->path);
	int fd, n = 0;
	struct buf b = {0};

	buf_adds(&b, COOKIE);
	while (lines_history_at(h, n))
		n++;
	while (n--) {
		const char *text = lines_history_at(h, n);

		if (strlen(text) <= LINES_HISTORY_ENTRY_MAX_BYTES &&
		    b.len < LINES_HISTORY_FILE_MAX_BYTES / 2)
			encode(&b, text);
	}
	unlink(fresh);
	fd = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd >= 0 && write_all(fd, &b))
		rename(fresh, h->path);
	else
		unlink(fresh);
	if (fd >= 0)
		close(fd);
	buf_free(&b);
	free(fresh);
}

static void load(struct lines_history *h)
{
	struct stat st;
	HistEvent ev;
	int fd = open_locked(h->path);

	if (fd < 0 || fstat(fd, &st) || st.st_size > 16 * LINES_HISTORY_FILE_MAX_BYTES) {
		free(h->path);
		h->path = NULL;
	} else {
		int n = history(h->list, &ev, H_LOAD, h->path);

		if (st.st_size > LINES_HISTORY_FILE_MAX_BYTES ||
		    n > 2 * LINES_HISTORY_MAX)
			rewrite(h);
	}
	if (fd >= 0)
		close(fd);
}

struct lines_history *lines_history_open(const char *path)
{
	struct lines_history *h = xcalloc(1, sizeof *h);
	HistEvent ev;

	h->list = history_init();
	ASSERT(h->list);
	history(h->list, &ev, H_SETSIZE, LINES_HISTORY_MAX);
	history(h->list, &ev, H_SETUNIQUE, 1);
	h->path = path ? xstrdup(path) : NULL;
	if (h->path)
		load(h);
	return h;
}

void lines_history_close(struct lines_history *h)
{
	if (!h)
		return;
	history_end(h->list);
	free(h->path);
	free(h);
}

static void append(const char *path, const char *text)
{
	struct buf b = {0};
	struct stat st;
	int fd = open_locked(path);

	if (fd < 0)
		return;
	if (!fstat(fd, &st) && !st.st_size)
		buf_adds(&b, COOKIE);
	encode(&b, text);
	write_all(fd, &b); /* a full disk costs the entry, not the chat */
	close(fd);
	buf_free(&b);
}

void lines_history_add(struct lines_history *h, const char *text, bool keep)
{
	const char *newest = lines_history_at(h, 0);
	HistEvent ev;

	if (!text[strspn(text, " \t\n")] || (newest && !strcmp(newest, text)))
		return;
	history(h->list, &ev, H_ENTER, text);
	if (keep && h->path && strlen(text) <= LINES_HISTORY_ENTRY_MAX_BYTES)
		append(h->path, text);
}

const char *lines_history_at(struct lines_history *h, int i)
{
	HistEvent ev;
	int rc = history(h->list, &ev, H_FIRST);

	while (rc >= 0 && i-- > 0)
		rc = history(h->list, &ev, H_NEXT);
	return rc >= 0 ? ev.str : NULL;
}

History *lines_history_list(struct lines_history *h)
{
	return h->list;
}
