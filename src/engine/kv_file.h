/* One saved sequence on disk: header, shapes, tokens, rows (kv_rows.h).
 *
 * A file is trusted only as far as its checksums and its own limits agree; anything else is ERR_CORRUPT, or
 * ERR_UNSUPPORTED when another version, byte order or layout wrote it.  Files are named by what they hold
 * (kind and tokens), so that two engines writing the same sequence write the same name.  They come into
 * being under another name and are renamed, so that nobody sees a half.  No fsync: what a power cut leaves
 * fails its checksum and is removed, which costs a prefill.  Any thread; no state. */
#ifndef HOB_KV_FILE_H
#define HOB_KV_FILE_H

#include <stdatomic.h>

#include "base/err.h"
#include "engine/kv_rows.h"

enum {
	KV_FILE_VERSION = 1,
	KV_FILE_NAME_BYTES = 48, /* 32 digits and ".kv" */
	KV_FILE_ENDIAN = 0x01020304
};

#define KV_FILE_MAGIC "hob-kv\r\n"

/* The beginning of a file, in the writer's byte order; behind it layers x struct kv_layer_form, tokens x
 * int32_t, rows. */
struct kv_file_head {
	char magic[8];
	uint32_t endian;
	uint32_t version;
	uint32_t layout, type; /* as struct kv_form */
	uint32_t layers;
	uint32_t tokens;
	uint64_t rows_bytes;
	int64_t created_ms; /* since 1970 */
	uint32_t hits;      /* when it was written */
	uint32_t zero;
	struct kv_key model;
	char backend[KV_BACKEND_BYTES];
	struct kv_key rows_sum; /* XXH3, 128 bits, of the rows */
	struct kv_key head_sum; /* of this header with zeros here, shapes and tokens */
};

struct kv_file_info { /* what a header says */
	struct kv_key id, kind;
	int n;
	int32_t *tokens; /* owned */
	uint32_t hits;
	int64_t used_ms; /* since 1970: time of modification, set when it is read */
	uint64_t rows_bytes, file_bytes;
};
void kv_file_info_fini(struct kv_file_info *i);

/* Opens the folder, making it if need be (0700).  -1: refused, also when others may enter it or when its
 * last part is a symbolic link. */
int kv_dir_open(const char *path, struct err *e);

/* Removes the files of ours in it, half written ones too; a folder that is not there has none. */
void kv_dir_clear(const char *path);

void kv_file_name(struct kv_key id, char name[KV_FILE_NAME_BYTES]);
bool kv_file_id(const char *name, struct kv_key *id); /* false: not a name of ours */
/* Removes what a crashed writer left; false: not one of those names. */
bool kv_file_sweep(int dir, const char *name);

/* stop (may be NULL): set by another thread, ends it with ERR_CANCELLED. */
int kv_file_write(int dir, const struct kv_form *f, const int32_t *tokens, int n,
		  const uint8_t *rows, uint32_t hits, const atomic_bool *stop,
		  uint64_t *file_bytes, struct err *e);
/* Header, shapes and tokens. */
int kv_file_peek(int dir, struct kv_key id, struct kv_file_info *out, struct err *e);
/* All of it: the rows of a sequence that must have this kind and these n tokens (the name says so). */
int kv_file_read(int dir, struct kv_key id, uint8_t *rows, size_t bytes,
		 const atomic_bool *stop, struct err *e);
void kv_file_remove(int dir, struct kv_key id);

#endif
