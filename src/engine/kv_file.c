/* Saved sequences as files: writing, checking, reading.
 *
 * Any thread; the store's disk thread in practice.  A reader may question the check of sizes before that of the
 * checksum: the checksum needs memory of the size that the header claims, so the claim is bounded
 * first and must agree with the size of the file. */
#include "engine/kv_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/clock.h"
#include "base/paths.h"
#include "engine/arch.h"

enum {
	BLOCK_BYTES_IO =
		1 << 20, /* between looks at the stop flag: about a millisecond */
	ID_DIGITS = 32,
	STALE_S = 600 /* a temporary file this old has lost its writer */
};

void kv_file_info_fini(struct kv_file_info *i)
{
	free(i->tokens);
	i->tokens = NULL;
}

int kv_dir_open(const char *path, struct err *e)
{
	struct stat st;
	int fd;

	if (paths_make_private(path, e) < 0)
		return -1;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_sys(e, errno, "%s", path);
	if (fstat(fd, &st) < 0)
		err_set(e, ERR_IO, "%s: %s", path, strerror(errno));
	else if (st.st_uid != geteuid() || (st.st_mode & 077))
		err_set(e, ERR_FORBIDDEN,
			"%s: saved KV state holds what was said, but others may enter this "
			"folder: chmod 700 it, or name another",
			path);
	else
		return fd;
	close(fd);
	return -1;
}

void kv_file_name(struct kv_key id, char name[KV_FILE_NAME_BYTES])
{
	snprintf(name, KV_FILE_NAME_BYTES, "%016" PRIx64 "%016" PRIx64 ".kv", id.hi,
		 id.lo);
}

static bool hex64(const char *s, uint64_t *out)
{
	*out = 0;
	for (int i = 0; i < ID_DIGITS / 2; i++) {
		char c = s[i];
		int v = c >= '0' && c <= '9'   ? c - '0'
			: c >= 'a' && c <= 'f' ? c - 'a' + 10
					       : -1;

		if (v < 0)
			return false;
		*out = *out << 4 | (uint64_t)v;
	}
	return true;
}

static bool starts_with_id(const char *name, struct kv_key *id)
{
	return strlen(name) > ID_DIGITS && hex64(name, &id->hi) &&
	       hex64(name + ID_DIGITS / 2, &id->lo);
}

bool kv_file_id(const char *name, struct kv_key *id)
{
	return starts_with_id(name, id) && strcmp(name + ID_DIGITS, ".kv") == 0;
}

bool kv_file_sweep(int dir, const char *name)
{
	size_t n = strlen(name);
	struct kv_key id;
	struct stat st;

	if (!starts_with_id(name, &id) || name[ID_DIGITS] != '.' || n < 4 ||
	    strcmp(name + n - 4, ".tmp") != 0)
		return false;
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    clock_unix_ms() / 1000 - st.st_mtime > STALE_S)
		unlinkat(dir, name, 0);
	return true;
}

/* --- checksums ------------------------------------------------------------------------------- */

static struct kv_key sum_of(const void *p, size_t n)
{
	XXH128_hash_t h = XXH3_128bits(p, n);

	return (struct kv_key){h.low64, h.high64};
}

/* meta: header, shapes and tokens in one piece. */
static struct kv_key head_sum(const uint8_t *meta, size_t n)
{
	struct kv_file_head h;
	XXH64_hash_t rest;
	XXH128_hash_t sum;

	memcpy(&h, meta, sizeof(h));
	h.head_sum = (struct kv_key){0, 0};
	rest = XXH3_64bits(meta + sizeof(h), n - sizeof(h));
	sum = XXH3_128bits_withSeed(&h, sizeof(h), rest);
	return (struct kv_key){sum.low64, sum.high64};
}

/* --- writing --------------------------------------------------------------------------------- */

static int write_all(int fd, const uint8_t *p, size_t n, const atomic_bool *stop,
		     struct err *e)
{
	while (n) {
		ssize_t k = write(fd, p, n < BLOCK_BYTES_IO ? n : BLOCK_BYTES_IO);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return err_sys(e, errno, "write");
		p += k;
		n -= (size_t)k;
		if (n && stop && atomic_load(stop))
			return err_set(e, ERR_CANCELLED, "the engine ends");
	}
	return 0;
}

static uint8_t *make_meta(const struct kv_form *f, const int32_t *tokens, int n,
			  const uint8_t *rows, uint32_t hits, size_t *bytes)
{
	struct kv_file_head h = {.endian = KV_FILE_ENDIAN,
				 .version = KV_FILE_VERSION,
				 .layout = f->layout,
				 .type = f->type,
				 .layers = (uint32_t)f->nlayers,
				 .tokens = (uint32_t)n,
				 .rows_bytes = kv_rows_bytes(f, n),
				 .created_ms = clock_unix_ms(),
				 .hits = hits,
				 .model = f->model};
	size_t shapes = (size_t)f->nlayers * sizeof(*f->layers);
	size_t ids = (size_t)n * sizeof(*tokens);
	uint8_t *meta = xmalloc(sizeof(h) + shapes + ids);

	memcpy(h.magic, KV_FILE_MAGIC, sizeof(h.magic));
	memcpy(h.backend, f->backend, sizeof(h.backend));
	h.rows_sum = sum_of(rows, h.rows_bytes);
	*bytes = sizeof(h) + shapes + ids;
	memcpy(meta, &h, sizeof(h));
	memcpy(meta + sizeof(h), f->layers, shapes);
	memcpy(meta + sizeof(h) + shapes, tokens, ids);
	h.head_sum = head_sum(meta, *bytes);
	memcpy(meta, &h, sizeof(h));
	return meta;
}

int kv_file_write(int dir, const struct kv_form *f, const int32_t *tokens, int n,
		  const uint8_t *rows, uint32_t hits, const atomic_bool *stop,
		  uint64_t *file_bytes, struct err *e)
{
	char name[KV_FILE_NAME_BYTES], tmp[KV_FILE_NAME_BYTES + 24];
	size_t meta_bytes, rows_bytes = kv_rows_bytes(f, n);
	uint8_t *meta = make_meta(f, tokens, n, rows, hits, &meta_bytes);
	uint64_t salt;
	int rc = -1, fd;

	kv_file_name(kv_sequence_key(f->kind, tokens, n), name);
	if (getrandom(&salt, sizeof(salt), 0) != sizeof(salt))
		salt = (uint64_t)getpid();
	/* Not the pid alone: engines in two containers may share both pid and folder. */
	snprintf(tmp, sizeof(tmp), "%.*s.%016" PRIx64 ".tmp", ID_DIGITS, name, salt);
	fd = openat(dir, tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0) {
		err_sys(e, errno, "create");
		goto out;
	}
	if (write_all(fd, meta, meta_bytes, stop, e) < 0 ||
	    write_all(fd, rows, rows_bytes, stop, e) < 0)
		goto out;
	if (renameat(dir, tmp, dir, name) < 0) {
		err_sys(e, errno, "rename");
		goto out;
	}
	*file_bytes = meta_bytes + rows_bytes;
	rc = 0;
out:
	if (fd >= 0)
		close(fd);
	if (rc < 0 && fd >= 0)
		unlinkat(dir, tmp, 0);
	free(meta);
	return rc;
}

/* --- reading --------------------------------------------------------------------------------- */

static int read_all(int fd, uint8_t *p, size_t n, const atomic_bool *stop, struct err *e)
{
	while (n) {
		ssize_t k = read(fd, p, n < BLOCK_BYTES_IO ? n : BLOCK_BYTES_IO);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return err_sys(e, errno, "read");
		if (k == 0)
			return err_set(e, ERR_CORRUPT, "the file is truncated");
		p += k;
		n -= (size_t)k;
		if (n && stop && atomic_load(stop))
			return err_set(e, ERR_CANCELLED, "the engine ends");
	}
	return 0;
}

/* What can be said of a header alone. */
static int check_head(const struct kv_file_head *h, struct err *e)
{
	if (memcmp(h->magic, KV_FILE_MAGIC, sizeof(h->magic)) != 0)
		return err_set(e, ERR_CORRUPT, "no saved KV state");
	if (h->endian != KV_FILE_ENDIAN)
		return err_set(e, ERR_UNSUPPORTED, "another byte order");
	if (h->version != KV_FILE_VERSION || h->layout != KV_LAYOUT_VERSION ||
	    h->type != KV_TYPE_F16)
		return err_set(e, ERR_UNSUPPORTED, "version %u, layout %u, type %u",
			       h->version, h->layout, h->type);
	if (h->layers < 1 || h->layers > ARCH_MAX_LAYERS || h->tokens < 1 ||
	    h->tokens > ARCH_MAX_CTX)
		return err_set(e, ERR_CORRUPT, "%u layers, %u tokens", h->layers,
			       h->tokens);
	if (h->zero || h->backend[KV_BACKEND_BYTES - 1])
		return err_set(e, ERR_CORRUPT, "padding");
	return 0;
}

static int check_shapes(const struct kv_file_head *h, const struct kv_layer_form *l,
			struct err *e)
{
	for (uint32_t i = 0; i < h->layers; i++)
		if (l[i].kv_heads < 1 || l[i].kv_heads > ARCH_MAX_HEADS ||
		    l[i].head_dim < 1 || l[i].head_dim > ARCH_MAX_HEAD_DIM)
			return err_set(e, ERR_CORRUPT, "layer %u: %u heads of %u", i,
				       l[i].kv_heads, l[i].head_dim);
	return 0;
}

/* The header and all before the rows, in *meta for the caller to free; the file's place is behind it. */
static int read_meta(int fd, struct kv_file_head *h, uint8_t **meta, uint64_t file_bytes,
		     struct err *e)
{
	size_t bytes = sizeof(*h);

	if (read_all(fd, (uint8_t *)h, sizeof(*h), NULL, e) < 0 || check_head(h, e) < 0)
		return -1;
	bytes += h->layers * sizeof(struct kv_layer_form) + h->tokens * sizeof(int32_t);
	if (bytes > file_bytes || file_bytes - bytes != h->rows_bytes)
		return err_set(e, ERR_CORRUPT, "%" PRIu64 " bytes", file_bytes);
	*meta = xmalloc(bytes);
	memcpy(*meta, h, sizeof(*h));
	if (read_all(fd, *meta + sizeof(*h), bytes - sizeof(*h), NULL, e) < 0)
		return -1;
	if (!kv_key_eq(head_sum(*meta, bytes), h->head_sum))
		return err_set(e, ERR_CORRUPT, "checksum of the header");
	return check_shapes(h, (struct kv_layer_form *)(*meta + sizeof(*h)), e);
}

static int info_of(const struct kv_file_head *h, uint8_t *meta, struct kv_file_info *out,
		   struct err *e)
{
	struct kv_form f = {.model = h->model,
			    .layout = h->layout,
			    .type = h->type,
			    .nlayers = (int)h->layers,
			    .layers = (struct kv_layer_form *)(meta + sizeof(*h))};
	size_t ids = h->tokens * sizeof(int32_t);

	memcpy(f.backend, h->backend, sizeof(f.backend));
	if (kv_rows_bytes(&f, (int)h->tokens) != h->rows_bytes)
		return err_set(e, ERR_CORRUPT, "%" PRIu64 " bytes of rows",
			       h->rows_bytes);
	out->n = (int)h->tokens;
	out->kind = kv_form_kind(&f);
	out->hits = h->hits;
	out->rows_bytes = h->rows_bytes;
	out->tokens = xmalloc(ids);
	memcpy(out->tokens, meta + sizeof(*h) + h->layers * sizeof(*f.layers), ids);
	return 0;
}

/* Opens, checks all but the rows, and leaves the descriptor at the rows. */
static int open_checked(int dir, struct kv_key id, struct kv_file_head *h,
			struct kv_file_info *out, struct err *e)
{
	char name[KV_FILE_NAME_BYTES];
	uint8_t *meta = NULL;
	struct stat st;
	int fd, ok = -1;

	*out = (struct kv_file_info){.id = id};
	kv_file_name(id, name);
	/* Not blocking: a FIFO of this name would hold the thread for ever. */
	fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return errno == ELOOP ? err_set(e, ERR_CORRUPT, "a symbolic link")
				      : err_sys(e, errno, "open");
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		err_set(e, ERR_CORRUPT, "not a file");
		goto out;
	}
	out->file_bytes = (uint64_t)st.st_size;
	out->used_ms = (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000;
	if (read_meta(fd, h, &meta, out->file_bytes, e) < 0 ||
	    info_of(h, meta, out, e) < 0)
		goto out;
	if (!kv_key_eq(kv_sequence_key(out->kind, out->tokens, out->n), id)) {
		err_set(e, ERR_CORRUPT, "the name of another sequence");
		goto out;
	}
	ok = 0;
out:
	free(meta);
	if (ok == 0)
		return fd;
	kv_file_info_fini(out);
	close(fd);
	return -1;
}

int kv_file_peek(int dir, struct kv_key id, struct kv_file_info *out, struct err *e)
{
	struct kv_file_head h;
	int fd = open_checked(dir, id, &h, out, e);

	if (fd < 0)
		return -1;
	close(fd);
	return 0;
}

int kv_file_read(int dir, struct kv_key id, uint8_t *rows, size_t bytes,
		 const atomic_bool *stop, struct err *e)
{
	struct kv_file_info info;
	struct kv_file_head h;
	int rc = -1, fd = open_checked(dir, id, &h, &info, e);

	if (fd < 0)
		return -1;
	if (info.rows_bytes != bytes)
		err_set(e, ERR_CORRUPT, "%" PRIu64 " bytes of rows, not %zu",
			info.rows_bytes, bytes);
	else if (read_all(fd, rows, bytes, stop, e) < 0)
		;
	else if (!kv_key_eq(sum_of(rows, bytes), h.rows_sum))
		err_set(e, ERR_CORRUPT, "checksum of the rows");
	else
		rc = 0;
	if (rc == 0)
		futimens(fd, NULL); /* used now */
	kv_file_info_fini(&info);
	close(fd);
	return rc;
}

void kv_dir_clear(const char *path)
{
	DIR *dir = opendir(path);
	const struct dirent *d;
	struct kv_key id;

	while (dir && (d = readdir(dir)))
		if (starts_with_id(d->d_name, &id))
			unlinkat(dirfd(dir), d->d_name, 0);
	if (dir)
		closedir(dir);
}

void kv_file_remove(int dir, struct kv_key id)
{
	char name[KV_FILE_NAME_BYTES];

	kv_file_name(id, name);
	unlinkat(dir, name, 0);
}
