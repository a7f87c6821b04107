/* Pack files: a model's weights in the order the kernels read them, kept beside the model.
 *
 * Converting a model costs reading and writing all of it; a pack file is mapped or read instead.  A folder
 * (0700) holds one file (0600) for each source file: a head with the identity of the source, the hash of the
 * layout and a checksum for each chunk, then the payload as it lies in memory.  The name is a hash of the
 * source's size, time, head and samples, not of its path, so a moved model keeps its pack file.
 *
 * Whatever does not fit (another format, layout, machine, source; truncated; a wrong checksum) is removed
 * with a line in the log and built again.  Mapped chunks are checked once in a process.  Several engines may
 * use one folder: a file gets its name when it is complete (rename), and whoever has one open holds a lock on it
 * (flock), which keeps it from being removed as the oldest.
 *
 * struct pack_dir may be used from any thread.  A struct pack belongs to one thread at a time; its chunks may be
 * read, checked and written from several. */
#ifndef HOB_PACK_FILE_H
#define HOB_PACK_FILE_H

#include "base/err.h"

enum {
	PACK_FORMAT_VERSION = 1,
	PACK_CHUNK_BYTES = 4 << 20,
	PACK_MAX_CHUNKS = 1 << 18 /* 1 TiB; the head fits the first chunk */
};

struct pack_key {
	uint64_t source_bytes;
	int64_t source_mtime_ns;
	uint64_t source_hash; /* head and samples */
	uint64_t plan_hash;   /* layout: not part of the name */
	uint64_t payload_bytes;
};

struct pack_dir;
struct pack;

size_t pack_page_up(size_t bytes);
/* From the beginning of a file to its payload, whole pages. */
size_t pack_head_bytes(size_t payload_bytes);

/* Makes the folder, removes what crashed writers left.  max_bytes: of all files together.  NULL: cannot be
 * made or written, or others may write to it. */
struct pack_dir *pack_dir_new(const char *path, uint64_t max_bytes, struct err *e);
void pack_dir_free(struct pack_dir *d); /* NULL is fine; no pack may be open */

/* Are mappings of files in this folder in huge pages?  Tried when it was opened.  If not, weights are better
 * read than mapped: 4 KiB pages cost a tenth of the decode speed. */
bool pack_dir_maps_huge(const struct pack_dir *d);

/* NULL: ERR_NOT_FOUND (there is none, or it was of no use and is removed), or ERR_IO. */
struct pack *pack_open(struct pack_dir *d, const struct pack_key *key, struct err *e);
/* A new file, its space taken on the disk; older ones go when the budget asks for it.  NULL: ERR_DISK_FULL,
 * ERR_TOO_LARGE (more than the budget) or ERR_IO. */
struct pack *pack_create(struct pack_dir *d, const struct pack_key *key, struct err *e);

int pack_chunks(const struct pack *p);
size_t pack_chunk_at(const struct pack *p, int i, size_t *bytes); /* in the payload */
size_t pack_bytes(const struct pack *p);                          /* of the file */
int pack_fd(const struct pack *p); /* to map it whole; stays the pack's */

/* Of an opened file.  False: cannot be read, or a wrong checksum. */
bool pack_read(const struct pack *p, int i, void *out); /* the chunk */
bool pack_check(const struct pack *p, int i,
		const void *data);          /* data: the chunk, mapped */
bool pack_is_checked(const struct pack *p); /* by this process, since it was written */
void pack_set_checked(struct pack *p);
/* It is of no use: removed, with a line in the log.  Then pack_close(). */
void pack_reject(struct pack *p, const char *why);

/* Of a created file: all chunks, then its head and its name.  On failure it goes when it is closed. */
int pack_write(struct pack *p, int i, const void *data, struct err *e);
int pack_publish(struct pack *p, struct err *e);

/* Closes the file and removes an unpublished one.  What is mapped stays mapped.  NULL is fine. */
void pack_close(struct pack *p);

#endif
