/* The folder of pack files: its budget, its temporary files, and what this process has checked.
 *
 * Any thread; the one lock guards the list of what was checked and the making of room, which loaders of several
 * models may want at once.  A reader may question flock() where a list would do: other engines use the
 * folder too, and a lock goes with its process. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/paths.h"
#include "engine/pack_impl.h"

enum {
	MAX_FILES = 4096 /* looked at when room is made; far more than models on a disk */
};

#define HUGE_BYTES ((size_t)2 << 20)

struct pack_dir {
	char *path; /* owned */
	int fd;
	uint64_t max_bytes;
	bool maps_huge;
	atomic_uint temps; /* made by this process */
	pthread_mutex_t lock;
	uint64_t *known; /* under lock; owned */
	size_t nknown;   /* under lock */
};

struct found {
	char name[PACK_NAME_BYTES];
	uint64_t bytes;
	struct timespec used;
};

int pack_dir_fd(const struct pack_dir *d)
{
	return d->fd;
}

const char *pack_dir_path(const struct pack_dir *d)
{
	return d->path;
}

static bool ends_in(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);

	return n >= m && strcmp(s + n - m, end) == 0;
}

static DIR *list_of(const struct pack_dir *d)
{
	int fd = openat(d->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *list = fd < 0 ? NULL : fdopendir(fd);

	if (!list && fd >= 0)
		close(fd);
	return list;
}

/* Removes the file unless somebody holds a lock on it. */
static bool remove_unused(const struct pack_dir *d, const char *name)
{
	int fd = openat(d->fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	bool gone;

	if (fd < 0)
		return errno == ENOENT;
	gone = flock(fd, LOCK_EX | LOCK_NB) == 0 && unlinkat(d->fd, name, 0) == 0;
	close(fd);
	return gone;
}

/* A writer holds the lock on its file for as long as it writes; without one it has died. */
static void remove_stale_temps(const struct pack_dir *d)
{
	DIR *list = list_of(d);
	struct dirent *de;

	while (list && (de = readdir(list)))
		if (strncmp(de->d_name, PACK_TEMP, strlen(PACK_TEMP)) == 0 &&
		    remove_unused(d, de->d_name))
			log_info("engine: removed %s/%s, which a crash left", d->path,
				 de->d_name);
	if (list)
		closedir(list);
}

static int check_folder(const struct pack_dir *d, struct err *e)
{
	struct stat st;

	if (fstat(d->fd, &st) < 0)
		return err_sys(e, errno, "fstat %s", d->path);
	if (st.st_uid != geteuid() || st.st_mode & 022)
		return err_set(e, ERR_FORBIDDEN,
			       "%s: must belong to us and be writable by nobody else: "
			       "chmod 700, or name another folder",
			       d->path);
	if (faccessat(d->fd, ".", W_OK, AT_EACCESS) < 0)
		return err_sys(e, errno, "write to %s", d->path);
	return 0;
}

/* --- does it map in huge pages? ------------------------------------------------------------- */

/* Of the mapping at that address. */
static bool is_huge(const void *at)
{
	char line[256], *end;
	bool here = false, huge = false;
	FILE *f = fopen("/proc/self/smaps", "re");
	unsigned long kib;

	while (f && !huge && fgets(line, sizeof(line), f)) {
		unsigned long from = strtoul(line, &end, 16);

		if (*end == '-')
			here = from == (unsigned long)at;
		else if (here && sscanf(line, "FilePmdMapped: %lu", &kib) == 1)
			huge = kib > 0;
	}
	if (f)
		fclose(f);
	return huge;
}

static bool try_map(int fd, uint8_t *at)
{
	if (mmap(at, HUGE_BYTES, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED)
		return false;
	madvise(at, HUGE_BYTES, MADV_HUGEPAGE);
	(void)*(volatile uint8_t *)at;
	return is_huge(at);
}

/* By a small file written as pack files are: neither the kernel's version nor the file system's name says it. */
static bool try_huge(struct pack_dir *d)
{
	size_t room = 2 * HUGE_BYTES;
	uint8_t *data = xcalloc(1, HUGE_BYTES), *p;
	char name[PACK_NAME_BYTES];
	int fd = pack_dir_temp(d, name, NULL);
	bool huge = false;

	p = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
		 0);
	if (fd >= 0 && p != MAP_FAILED &&
	    pwrite(fd, data, HUGE_BYTES, 0) == (ssize_t)HUGE_BYTES)
		huge = try_map(fd,
			       p + (HUGE_BYTES - (uintptr_t)p % HUGE_BYTES) % HUGE_BYTES);
	if (p != MAP_FAILED)
		munmap(p, room);
	if (fd >= 0) {
		unlinkat(d->fd, name, 0);
		close(fd);
	}
	free(data);
	return huge;
}

bool pack_dir_maps_huge(const struct pack_dir *d)
{
	return d->maps_huge;
}

struct pack_dir *pack_dir_new(const char *path, uint64_t max_bytes, struct err *e)
{
	struct pack_dir *d = xcalloc(1, sizeof(*d));

	d->path = xstrdup(path);
	d->max_bytes = max_bytes;
	d->fd = -1;
	pthread_mutex_init(&d->lock, NULL);
	if (paths_make_private(path, e) < 0)
		goto fail;
	d->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (d->fd < 0) {
		err_sys(e, errno, "open %s", path);
		goto fail;
	}
	if (check_folder(d, e) < 0)
		goto fail;
	remove_stale_temps(d);
	d->maps_huge = try_huge(d);
	return d;
fail:
	pack_dir_free(d);
	return NULL;
}

void pack_dir_free(struct pack_dir *d)
{
	if (!d)
		return;
	if (d->fd >= 0)
		close(d->fd);
	pthread_mutex_destroy(&d->lock);
	free(d->known);
	free(d->path);
	free(d);
}

/* --- budget ------------------------------------------------------------------------------ */

static bool look_at(const struct pack_dir *d, const char *name, struct found *out)
{
	struct stat st;

	if (!ends_in(name, PACK_SUFFIX) || strlen(name) >= PACK_NAME_BYTES ||
	    fstatat(d->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
		return false;
	snprintf(out->name, sizeof(out->name), "%s", name);
	out->bytes = (uint64_t)st.st_size;
	out->used = st.st_mtim;
	return true;
}

static int by_use(const void *a, const void *b)
{
	const struct timespec *x = &((const struct found *)a)->used;
	const struct timespec *y = &((const struct found *)b)->used;

	if (x->tv_sec != y->tv_sec)
		return x->tv_sec < y->tv_sec ? -1 : 1;
	return (x->tv_nsec > y->tv_nsec) - (x->tv_nsec < y->tv_nsec);
}

/* All files but `except`, those used longest ago first. */
static int find_files(const struct pack_dir *d, const char *except, struct found *out)
{
	DIR *list = list_of(d);
	struct dirent *de;
	int n = 0;

	while (list && n < MAX_FILES && (de = readdir(list)))
		if (strcmp(de->d_name, except) != 0 && look_at(d, de->d_name, &out[n]))
			n++;
	if (list)
		closedir(list);
	qsort(out, (size_t)n, sizeof(*out), by_use);
	return n;
}

static uint64_t remove_oldest(const struct pack_dir *d, const struct found *f, int n,
			      uint64_t used, uint64_t goal)
{
	for (int i = 0; i < n && used > goal; i++)
		if (remove_unused(d, f[i].name)) {
			log_info("engine: removed pack file %s/%s: the folder may hold "
				 "%llu bytes",
				 d->path, f[i].name, (unsigned long long)d->max_bytes);
			used -= f[i].bytes;
		}
	return used;
}

int pack_dir_make_room(struct pack_dir *d, uint64_t bytes, const char *name,
		       struct err *e)
{
	struct found *files;
	uint64_t used = 0;
	int n;

	if (bytes > d->max_bytes)
		return err_set(e, ERR_TOO_LARGE,
			       "a pack file of %llu bytes is larger than the budget of "
			       "%s, %llu bytes",
			       (unsigned long long)bytes, d->path,
			       (unsigned long long)d->max_bytes);
	files = xcalloc(MAX_FILES, sizeof(*files));
	pthread_mutex_lock(&d->lock);
	n = find_files(d, name, files);
	for (int i = 0; i < n; i++)
		used += files[i].bytes;
	used = remove_oldest(d, files, n, used, d->max_bytes - bytes);
	pthread_mutex_unlock(&d->lock);
	free(files);
	if (used <= d->max_bytes - bytes)
		return 0;
	return err_set(e, ERR_TOO_LARGE,
		       "%s holds %llu bytes in use, %llu more are over its budget of "
		       "%llu",
		       d->path, (unsigned long long)used, (unsigned long long)bytes,
		       (unsigned long long)d->max_bytes);
}

/* Another engine of this process, or a dead one with our process id, may have used a number. */
static int make_temp(struct pack_dir *d, char name[PACK_NAME_BYTES])
{
	int fd;

	do {
		snprintf(name, PACK_NAME_BYTES, PACK_TEMP "%d-%u", (int)getpid(),
			 atomic_fetch_add(&d->temps, 1));
		fd = openat(d->fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	} while (fd < 0 && errno == EEXIST);
	return fd;
}

int pack_dir_temp(struct pack_dir *d, char name[PACK_NAME_BYTES], struct err *e)
{
	int fd = make_temp(d, name);

	if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
		return fd;
	err_sys(e, errno, "make a file in %s", d->path);
	if (fd >= 0) {
		unlinkat(d->fd, name, 0);
		close(fd);
	}
	name[0] = 0;
	return -1;
}

/* --- what was checked --------------------------------------------------------------------- */

bool pack_dir_knows(struct pack_dir *d, uint64_t head_hash)
{
	bool known = false;

	pthread_mutex_lock(&d->lock);
	for (size_t i = 0; i < d->nknown && !known; i++)
		known = d->known[i] == head_hash;
	pthread_mutex_unlock(&d->lock);
	return known;
}

void pack_dir_learn(struct pack_dir *d, uint64_t head_hash)
{
	if (pack_dir_knows(d, head_hash))
		return;
	pthread_mutex_lock(&d->lock);
	d->known = xrealloc(d->known, (d->nknown + 1) * sizeof(*d->known));
	d->known[d->nknown++] = head_hash;
	pthread_mutex_unlock(&d->lock);
}
