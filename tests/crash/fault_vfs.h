/* A layer under SQLite that fails, fills up, damages, exits, writes half, or loses its power at the n-th
 * write, sync or truncate.  For the crash tests: a child installs it before it opens anything.
 *
 * Files may be used by several threads, each by one at a time, as SQLite does without its own mutexes.
 *
 * Power: what a process wrote outlives it, since the page cache does, so no kill can tell what a
 * cut of the power loses.  Here each file remembers the bytes it had at its last sync and what was written since.
 * At the cut it leaves behind `<name>.cut`: those bytes, and of the later writes a part that is drawn by lot, or
 * none; fault_power_off() then puts these in the files' place.  Names of files are taken to be durable. */
#ifndef HOB_TEST_FAULT_VFS_H
#define HOB_TEST_FAULT_VFS_H

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/base.h"
#include "base/buf.h"

enum fault {
	FAULT_NONE,
	FAULT_FAIL,
	FAULT_FAIL_ON, /* from there on */
	FAULT_FULL,
	FAULT_FULL_ON,
	FAULT_EXIT,
	FAULT_HALF, /* half a write, and exit */
	FAULT_DAMAGE,
	FAULT_POWER,      /* nothing of what was not synced is left */
	FAULT_POWER_SOME, /* some of it is */
	FAULT_NR
};

static const char *const fault_names[FAULT_NR] = {
	"none",
	"fail once",
	"fail from there on",
	"full once",
	"full from there on",
	"exit",
	"half a write and exit",
	"damage",
	"power cut",
	"power cut, some writes survive",
};

enum { FAULT_FILES = 32, FAULT_SECTOR = 512 };

struct fault_write {
	sqlite3_int64 at;
	char *data; /* NULL: the file was cut to `at` bytes */
	int n;
};

/* What the power-cut model knows of one file; it outlives the handle, not the name. */
struct fault_disk {
	char *name;
	struct buf durable;
	struct fault_write *writes;
	int nwrites, cap;
};

/* SQLite hands back no context with a file, so the plan is a static; set before anything is opened. */
static struct fault_plan {
	sqlite3_vfs vfs, *real;
	enum fault fault;
	int at;
	unsigned seed;
	pthread_mutex_t lock;

	/* under lock */
	int seen;
	struct fault_disk disks[FAULT_FILES];
	int ndisks;
} fault_plan = {.lock = PTHREAD_MUTEX_INITIALIZER};

struct fault_file {
	sqlite3_file base;
	sqlite3_file *real;      /* the bytes behind this struct */
	struct fault_disk *disk; /* or NULL */
};

static sqlite3_file *fault_real(sqlite3_file *f)
{
	return ((struct fault_file *)f)->real;
}

static bool fault_has_disks(void)
{
	return fault_plan.fault == FAULT_POWER || fault_plan.fault == FAULT_POWER_SOME;
}

/* ---- the disk that forgets ---- */

static void fault_slurp(const char *name, struct buf *out)
{
	char part[65536];
	int fd = open(name, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	buf_clear(out);
	while (fd >= 0 && (n = read(fd, part, sizeof(part))) > 0)
		buf_add(out, part, (size_t)n);
	if (fd >= 0)
		close(fd);
}

/* Lock held. */
static struct fault_disk *fault_disk_of(const char *name)
{
	struct fault_disk *d;

	for (int i = 0; i < fault_plan.ndisks; i++)
		if (!strcmp(fault_plan.disks[i].name, name))
			return &fault_plan.disks[i];
	ASSERT(fault_plan.ndisks < FAULT_FILES);
	d = &fault_plan.disks[fault_plan.ndisks++];
	d->name = xstrdup(name);
	fault_slurp(name, &d->durable); /* what was there before is old enough */
	return d;
}

static void fault_disk_note(struct fault_disk *d, sqlite3_int64 at, const void *p, int n)
{
	if (d->nwrites == d->cap) {
		d->cap = d->cap ? d->cap * 2 : 64;
		d->writes = xrealloc(d->writes, (size_t)d->cap * sizeof(*d->writes));
	}
	d->writes[d->nwrites++] =
		(struct fault_write){at, p ? xmalloc((size_t)n + 1) : NULL, n};
	if (p)
		memcpy(d->writes[d->nwrites - 1].data, p, (size_t)n);
}

static void fault_put(struct buf *b, size_t at, const char *p, size_t n)
{
	static const char zeros[4096];

	while (b->len < at)
		buf_add(b, zeros,
			at - b->len < sizeof(zeros) ? at - b->len : sizeof(zeros));
	while (b->len < at + n)
		buf_addc(b, 0);
	memcpy(b->data + at, p, n);
}

/* A write of several sectors may be on the disk in part. */
static void fault_apply(struct buf *b, const struct fault_write *w, bool by_lot)
{
	if (!w->data) {
		if ((size_t)w->at < b->len && (!by_lot || rand_r(&fault_plan.seed) % 2))
			b->len = (size_t)w->at;
		return;
	}
	for (int i = 0; i < w->n; i += FAULT_SECTOR) {
		int n = w->n - i < FAULT_SECTOR ? w->n - i : FAULT_SECTOR;

		if (!by_lot || rand_r(&fault_plan.seed) % 2)
			fault_put(b, (size_t)w->at + (size_t)i, w->data + i, (size_t)n);
	}
}

static void fault_disk_clear(struct fault_disk *d)
{
	for (int i = 0; i < d->nwrites; i++)
		free(d->writes[i].data);
	d->nwrites = 0;
}

static void fault_disk_sync(struct fault_disk *d)
{
	for (int i = 0; i < d->nwrites; i++)
		fault_apply(&d->durable, &d->writes[i], false);
	fault_disk_clear(d);
}

/* Lock held; the process ends here. */
static void fault_cut(void)
{
	for (int i = 0; i < fault_plan.ndisks; i++) {
		struct fault_disk *d = &fault_plan.disks[i];
		char *cut = xasprintf("%s.cut", d->name);
		int fd = open(cut, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);

		for (int k = 0; fault_plan.fault == FAULT_POWER_SOME && k < d->nwrites;
		     k++)
			fault_apply(&d->durable, &d->writes[k], true);
		ASSERT(fd >= 0 && write(fd, d->durable.data ? d->durable.data : "",
					d->durable.len) == (ssize_t)d->durable.len);
		close(fd);
		free(cut);
	}
	_exit(0);
}

/* The parent's: `<name>.cut` become the files; shared memory is memory, so it is gone. */
static inline void fault_power_off(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *ent;

	while (d && (ent = readdir(d)) != NULL) {
		size_t len = strlen(ent->d_name);
		char *name = xasprintf("%s/%s", dir, ent->d_name);

		if (len > 4 && !strcmp(ent->d_name + len - 4, ".cut")) {
			char *real = xstrndup(name, strlen(name) - 4);

			if (access(real, F_OK) == 0)
				ASSERT(rename(name, real) == 0);
			else
				unlink(name); /* removed before: names are durable */
			free(real);
		} else if (len > 4 && !strcmp(ent->d_name + len - 4, "-shm")) {
			unlink(name);
		}
		free(name);
	}
	if (d)
		closedir(d);
}

/* ---- striking ---- */

/* Lock held: SQLITE_OK to go on, else what to do. */
static int fault_strike(void)
{
	enum fault f = fault_plan.fault;
	bool on = f == FAULT_FAIL_ON || f == FAULT_FULL_ON;

	if (f == FAULT_NONE)
		return SQLITE_OK;
	fault_plan.seen++;
	if (on ? fault_plan.seen < fault_plan.at : fault_plan.seen != fault_plan.at)
		return SQLITE_OK;
	switch (f) {
	case FAULT_FAIL:
	case FAULT_FAIL_ON:
		return SQLITE_IOERR;
	case FAULT_FULL:
	case FAULT_FULL_ON:
		return SQLITE_FULL;
	case FAULT_DAMAGE:
		return SQLITE_CORRUPT;
	case FAULT_HALF:
		return SQLITE_ABORT; /* fault_write knows how */
	case FAULT_EXIT:
		_exit(0);
	default:
		fault_cut();
		return SQLITE_OK;
	}
}

static int fault_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at)
{
	struct fault_disk *disk = ((struct fault_file *)f)->disk;
	int rc;

	pthread_mutex_lock(&fault_plan.lock);
	rc = fault_strike();
	if (rc == SQLITE_ABORT) {
		fault_real(f)->pMethods->xWrite(fault_real(f), p, n / 2, at);
		_exit(0);
	}
	if (rc == SQLITE_OK && disk)
		fault_disk_note(disk, at, p, n);
	pthread_mutex_unlock(&fault_plan.lock);
	return rc == SQLITE_IOERR ? SQLITE_IOERR_WRITE
	       : rc               ? rc
		    : fault_real(f)->pMethods->xWrite(fault_real(f), p, n, at);
}

/* A file that is synced by the thread that wrote it; nothing real has to be synced for a model. */
static int fault_sync(sqlite3_file *f, int flags)
{
	struct fault_disk *disk = ((struct fault_file *)f)->disk;
	int rc;

	pthread_mutex_lock(&fault_plan.lock);
	rc = fault_strike();
	if (rc == SQLITE_ABORT)
		_exit(0);
	if (rc == SQLITE_OK && disk)
		fault_disk_sync(disk);
	pthread_mutex_unlock(&fault_plan.lock);
	if (rc)
		return SQLITE_IOERR_FSYNC;
	return disk ? SQLITE_OK : fault_real(f)->pMethods->xSync(fault_real(f), flags);
}

static int fault_truncate(sqlite3_file *f, sqlite3_int64 size)
{
	struct fault_disk *disk = ((struct fault_file *)f)->disk;
	int rc;

	pthread_mutex_lock(&fault_plan.lock);
	rc = fault_strike();
	if (rc == SQLITE_ABORT)
		_exit(0);
	if (rc == SQLITE_OK && disk)
		fault_disk_note(disk, size, NULL, 0);
	pthread_mutex_unlock(&fault_plan.lock);
	return rc ? SQLITE_IOERR_TRUNCATE
		  : fault_real(f)->pMethods->xTruncate(fault_real(f), size);
}

/* ---- what goes through ---- */

static int fault_close(sqlite3_file *f)
{
	return fault_real(f)->pMethods->xClose(fault_real(f));
}

static int fault_read(sqlite3_file *f, void *p, int n, sqlite3_int64 at)
{
	return fault_real(f)->pMethods->xRead(fault_real(f), p, n, at);
}

static int fault_size(sqlite3_file *f, sqlite3_int64 *size)
{
	return fault_real(f)->pMethods->xFileSize(fault_real(f), size);
}

static int fault_lock(sqlite3_file *f, int level)
{
	return fault_real(f)->pMethods->xLock(fault_real(f), level);
}

static int fault_unlock(sqlite3_file *f, int level)
{
	return fault_real(f)->pMethods->xUnlock(fault_real(f), level);
}

static int fault_reserved(sqlite3_file *f, int *out)
{
	return fault_real(f)->pMethods->xCheckReservedLock(fault_real(f), out);
}

static int fault_control(sqlite3_file *f, int op, void *arg)
{
	return fault_real(f)->pMethods->xFileControl(fault_real(f), op, arg);
}

static int fault_sector(sqlite3_file *f)
{
	return fault_real(f)->pMethods->xSectorSize(fault_real(f));
}

static int fault_device(sqlite3_file *f)
{
	return fault_real(f)->pMethods->xDeviceCharacteristics(fault_real(f));
}

static int fault_shm_map(sqlite3_file *f, int page, int bytes, int extend,
			 void volatile **out)
{
	return fault_real(f)->pMethods->xShmMap(fault_real(f), page, bytes, extend, out);
}

static int fault_shm_lock(sqlite3_file *f, int at, int n, int flags)
{
	return fault_real(f)->pMethods->xShmLock(fault_real(f), at, n, flags);
}

static void fault_shm_barrier(sqlite3_file *f)
{
	fault_real(f)->pMethods->xShmBarrier(fault_real(f));
}

static int fault_shm_unmap(sqlite3_file *f, int drop)
{
	return fault_real(f)->pMethods->xShmUnmap(fault_real(f), drop);
}

/* Version 2: shared memory for the WAL, no memory-mapped reads. */
static const sqlite3_io_methods fault_methods = {
	.iVersion = 2,
	.xClose = fault_close,
	.xRead = fault_read,
	.xWrite = fault_write,
	.xTruncate = fault_truncate,
	.xSync = fault_sync,
	.xFileSize = fault_size,
	.xLock = fault_lock,
	.xUnlock = fault_unlock,
	.xCheckReservedLock = fault_reserved,
	.xFileControl = fault_control,
	.xSectorSize = fault_sector,
	.xDeviceCharacteristics = fault_device,
	.xShmMap = fault_shm_map,
	.xShmLock = fault_shm_lock,
	.xShmBarrier = fault_shm_barrier,
	.xShmUnmap = fault_shm_unmap,
};

static int fault_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags,
		      int *out)
{
	struct fault_file *f = (struct fault_file *)file;
	int rc;

	UNUSED(vfs);
	f->real = (sqlite3_file *)(f + 1);
	f->disk = NULL;
	if (fault_has_disks() && name) {
		pthread_mutex_lock(&fault_plan.lock);
		f->disk = fault_disk_of(name);
		pthread_mutex_unlock(&fault_plan.lock);
	}
	rc = fault_plan.real->xOpen(fault_plan.real, name, f->real, flags, out);
	f->base.pMethods = f->real->pMethods ? &fault_methods : NULL;
	return rc;
}

/* The name is gone and so are the bytes; a file of that name is a new one. */
static int fault_delete(sqlite3_vfs *vfs, const char *name, int sync)
{
	UNUSED(vfs);
	pthread_mutex_lock(&fault_plan.lock);
	for (int i = 0; fault_has_disks() && i < fault_plan.ndisks; i++)
		if (!strcmp(fault_plan.disks[i].name, name)) {
			fault_disk_clear(&fault_plan.disks[i]);
			buf_clear(&fault_plan.disks[i].durable);
		}
	pthread_mutex_unlock(&fault_plan.lock);
	return fault_plan.real->xDelete(fault_plan.real, name, sync);
}

/* Becomes the file system of every connection that is opened from now on. */
static inline void fault_install(enum fault fault, int at)
{
	fault_plan.real = sqlite3_vfs_find(NULL);
	fault_plan.vfs = *fault_plan.real;
	fault_plan.vfs.zName = "fault";
	fault_plan.vfs.szOsFile =
		(int)sizeof(struct fault_file) + fault_plan.real->szOsFile;
	fault_plan.vfs.xOpen = fault_open;
	fault_plan.vfs.xDelete = fault_delete;
	fault_plan.fault = fault;
	fault_plan.at = at;
	fault_plan.seed = (unsigned)at;
	ASSERT(sqlite3_vfs_register(&fault_plan.vfs, 1) == SQLITE_OK);
}

/* After the threads that use files have ended. */
static inline bool fault_has_struck(void)
{
	return fault_plan.seen >= fault_plan.at;
}

#endif
