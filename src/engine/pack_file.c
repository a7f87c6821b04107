/* One pack file: its head, its chunks, how it is opened and how it comes to be.
 *
 * Runs on loader threads.  Two decisions a reader may question.  Chunks are written by pwrite() and not through
 * a mapping: a full disk is an error then and not a signal, and file systems that have large pages use them, so
 * that the file can be mapped in huge pages at once.  And there is an fsync before the rename, although checksums
 * find a torn file anyway: without it each power cut would cost the conversion again and a warning about
 * corruption, and it happens when the model already answers.  The folder is in pack_dir.c. */
#include "engine/pack_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/log.h"
#include "engine/pack_impl.h"

enum { ENDIAN_MARK = 0x01020304, HEAD_ALIGN = 4096 };

static const char magic[8] = {'H', 'O', 'B', 'P', 'A', 'C', 'K', '\n'};

/* In the byte order of the machine; the mark refuses the others. */
struct head {
	char magic[8];
	uint32_t format_version, endian_mark;
	struct pack_key key;
	uint32_t chunk_bytes, nchunks;
	uint64_t hash;   /* of the head with this 0, and the sums */
	uint64_t sums[]; /* nchunks */
};

struct pack {
	struct pack_dir *dir; /* borrowed */
	int fd;               /* locked: shared when complete, exclusive while written */
	struct head *head;    /* owned: a copy, with its sums */
	size_t bytes;         /* of the file */
	struct pack_key key;
	char name[PACK_NAME_BYTES];
	char temp[PACK_NAME_BYTES]; /* "" once it has its name */
};

size_t pack_page_up(size_t bytes)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	return (bytes + page - 1) / page * page;
}

size_t pack_head_bytes(size_t payload_bytes)
{
	/* The head itself may make it one chunk more. */
	size_t sums = payload_bytes / PACK_CHUNK_BYTES + 2;
	size_t n = sizeof(struct head) + sums * sizeof(uint64_t);

	return (n + HEAD_ALIGN - 1) / HEAD_ALIGN * HEAD_ALIGN;
}

/* Chunks begin at multiples of their size in the file, not in the payload: whole huge pages are written at once,
 * and come to be huge pages in the page cache. */
static size_t chunks_of(size_t payload_bytes)
{
	size_t bytes = pack_head_bytes(payload_bytes) + payload_bytes;

	return (bytes + PACK_CHUNK_BYTES - 1) / PACK_CHUNK_BYTES;
}

static void name_of(const struct pack_key *key, char out[PACK_NAME_BYTES])
{
	const uint64_t id[] = {key->source_bytes, (uint64_t)key->source_mtime_ns,
			       key->source_hash};
	XXH128_hash_t h = XXH3_128bits(id, sizeof(id));

	snprintf(out, PACK_NAME_BYTES, "%016llx%016llx" PACK_SUFFIX,
		 (unsigned long long)h.high64, (unsigned long long)h.low64);
}

static uint64_t head_hash(const struct head *h)
{
	XXH3_state_t *x = XXH3_createState();
	struct head zero = *h;
	uint64_t out;

	zero.hash = 0;
	XXH3_64bits_reset(x);
	XXH3_64bits_update(x, &zero, sizeof(zero));
	XXH3_64bits_update(x, h->sums, h->nchunks * sizeof(uint64_t));
	out = XXH3_64bits_digest(x);
	XXH3_freeState(x);
	return out;
}

/* --- chunks ------------------------------------------------------------------------------ */

int pack_chunks(const struct pack *p)
{
	return (int)chunks_of(p->key.payload_bytes);
}

size_t pack_chunk_at(const struct pack *p, int i, size_t *bytes)
{
	size_t head = pack_head_bytes(p->key.payload_bytes);
	size_t from = (size_t)i * PACK_CHUNK_BYTES, to = from + PACK_CHUNK_BYTES;

	from = from < head ? head : from;
	to = to < p->bytes ? to : p->bytes;
	*bytes = to - from;
	return from - head;
}

size_t pack_bytes(const struct pack *p)
{
	return p->bytes;
}

int pack_fd(const struct pack *p)
{
	return p->fd;
}

static off_t place_of(const struct pack *p, int i, size_t *bytes)
{
	return (off_t)(pack_head_bytes(p->key.payload_bytes) +
		       pack_chunk_at(p, i, bytes));
}

static bool read_all(int fd, void *out, size_t bytes, off_t at)
{
	for (size_t done = 0; done < bytes;) {
		ssize_t n = pread(fd, (char *)out + done, bytes - done, at + (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		done += (size_t)n;
	}
	return true;
}

static bool write_all(int fd, const void *data, size_t bytes, off_t at)
{
	for (size_t done = 0; done < bytes;) {
		ssize_t n = pwrite(fd, (const char *)data + done, bytes - done,
				   at + (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		done += (size_t)n;
	}
	return true;
}

bool pack_check(const struct pack *p, int i, const void *data)
{
	size_t n;

	pack_chunk_at(p, i, &n);
	return p->head->sums[i] == XXH3_64bits(data, n);
}

bool pack_read(const struct pack *p, int i, void *out)
{
	size_t n;
	off_t at = place_of(p, i, &n);

	return read_all(p->fd, out, n, at) && pack_check(p, i, out);
}

int pack_write(struct pack *p, int i, const void *data, struct err *e)
{
	size_t n;
	off_t at = place_of(p, i, &n);

	p->head->sums[i] = XXH3_64bits(data, n);
	return write_all(p->fd, data, n, at) ? 0
					     : err_sys(e, errno, "write pack file %s/%s",
						       pack_dir_path(p->dir), p->name);
}

bool pack_is_checked(const struct pack *p)
{
	return pack_dir_knows(p->dir, p->head->hash);
}

void pack_set_checked(struct pack *p)
{
	pack_dir_learn(p->dir, p->head->hash);
}

/* --- opening ----------------------------------------------------------------------------- */

/* NULL: all is as it must be; else what is not.  The file is as long as the key says. */
static const char *head_fault(const struct head *h, const struct pack_key *key)
{
	if (memcmp(h->magic, magic, sizeof(magic)) != 0)
		return "no pack file";
	if (h->endian_mark != ENDIAN_MARK)
		return "of another byte order";
	if (h->format_version != PACK_FORMAT_VERSION)
		return "of another format version";
	if (h->chunk_bytes != PACK_CHUNK_BYTES ||
	    h->nchunks != chunks_of(key->payload_bytes))
		return "other chunks";
	if (h->hash != head_hash(h))
		return "a wrong checksum of its head";
	if (h->key.plan_hash != key->plan_hash ||
	    h->key.payload_bytes != key->payload_bytes)
		return "of another layout";
	if (memcmp(&h->key, key, sizeof(*key)) != 0)
		return "of another model";
	return NULL;
}

void pack_reject(struct pack *p, const char *why)
{
	log_warn("engine: pack file %s/%s: %s: removed, the model is converted again",
		 pack_dir_path(p->dir), p->name, why);
	unlinkat(pack_dir_fd(p->dir), p->name, 0);
}

/* Of the right length, or a touch beyond its end would kill us once it is mapped. */
static const char *file_fault(const struct pack *p)
{
	struct stat st;

	if (fstat(p->fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_uid != geteuid() ||
	    st.st_mode & 022)
		return "not a file of ours alone";
	return (uint64_t)st.st_size == p->bytes ? NULL : "of the wrong length";
}

static size_t sums_end(const struct pack *p)
{
	return sizeof(struct head) + (size_t)pack_chunks(p) * sizeof(uint64_t);
}

static const char *read_head(struct pack *p)
{
	const char *fault = file_fault(p);

	if (fault)
		return fault;
	if (!read_all(p->fd, p->head, sums_end(p), 0))
		return "unreadable";
	return head_fault(p->head, &p->key);
}

static struct pack *pack_new(struct pack_dir *d, const struct pack_key *key)
{
	struct pack *p = xcalloc(1, sizeof(*p));

	p->dir = d;
	p->fd = -1;
	p->key = *key;
	p->bytes = pack_head_bytes(key->payload_bytes) + key->payload_bytes;
	p->head = xcalloc(1, sums_end(p));
	name_of(key, p->name);
	return p;
}

struct pack *pack_open(struct pack_dir *d, const struct pack_key *key, struct err *e)
{
	struct pack *p = pack_new(d, key);
	const char *fault;

	p->fd = openat(pack_dir_fd(d), p->name,
		       O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (p->fd < 0) {
		if (errno == ENOENT)
			err_set(e, ERR_NOT_FOUND, "there is no pack file yet");
		else
			err_sys(e, errno, "open %s/%s", pack_dir_path(d), p->name);
		pack_close(p);
		return NULL;
	}
	/* Nobody holds a complete file exclusively but for a moment, to look whether it may go. */
	flock(p->fd, LOCK_SH);
	fault = read_head(p);
	if (fault) {
		pack_reject(p, fault);
		pack_close(p);
		err_set(e, ERR_NOT_FOUND, "the pack file was %s", fault);
		return NULL;
	}
	/* Its time says when it was used last; the budget goes by it. */
	futimens(p->fd, NULL);
	return p;
}

/* --- making ------------------------------------------------------------------------------ */

static int take_space(struct pack *p, struct err *e)
{
	int rc;

	do
		rc = posix_fallocate(p->fd, 0, (off_t)p->bytes);
	while (rc == EINTR);
	if (rc == EFBIG)
		rc = ENOSPC; /* a limit of the process: the same to who reads the log */
	return rc ? err_sys(e, rc, "take %zu bytes in %s", p->bytes,
			    pack_dir_path(p->dir))
		  : 0;
}

struct pack *pack_create(struct pack_dir *d, const struct pack_key *key, struct err *e)
{
	struct pack *p = pack_new(d, key);

	if (chunks_of(key->payload_bytes) > PACK_MAX_CHUNKS) {
		err_set(e, ERR_TOO_LARGE, "%zu bytes of weights", p->bytes);
		goto fail;
	}
	if (pack_dir_make_room(d, p->bytes, p->name, e) < 0)
		goto fail;
	p->fd = pack_dir_temp(d, p->temp, e);
	if (p->fd < 0 || take_space(p, e) < 0)
		goto fail;
	return p;
fail:
	pack_close(p);
	return NULL;
}

static void fill_head(struct pack *p)
{
	struct head *h = p->head;

	h->format_version = PACK_FORMAT_VERSION;
	h->endian_mark = ENDIAN_MARK;
	h->key = p->key;
	h->chunk_bytes = PACK_CHUNK_BYTES;
	h->nchunks = (uint32_t)pack_chunks(p);
	memcpy(h->magic, magic, sizeof(magic));
	h->hash = head_hash(h);
}

int pack_publish(struct pack *p, struct err *e)
{
	fill_head(p);
	if (!write_all(p->fd, p->head, sums_end(p), 0) || fsync(p->fd) < 0 ||
	    renameat(pack_dir_fd(p->dir), p->temp, pack_dir_fd(p->dir), p->name) < 0)
		return err_sys(e, errno, "write pack file %s/%s", pack_dir_path(p->dir),
			       p->name);
	p->temp[0] = 0;
	flock(p->fd, LOCK_SH);
	pack_set_checked(p);
	return 0;
}

void pack_close(struct pack *p)
{
	if (!p)
		return;
	if (p->temp[0])
		unlinkat(pack_dir_fd(p->dir), p->temp, 0);
	if (p->fd >= 0)
		close(p->fd);
	free(p->head);
	free(p);
}
