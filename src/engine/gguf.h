/* A GGUF file, mapped and checked: its metadata pairs and where its tensors lie.
 *
 * Everything in the file is hostile until checked: gguf_open() walks the whole head and
 * checks each offset, count and size against the file and the caps below, so that the
 * getters and the tensor pointers can be trusted afterwards.  Versions 2 and 3, little
 * endian.
 *
 * The file is mapped read-only and private.  If somebody truncates it while it is mapped,
 * a touch beyond the new end is a SIGBUS that ends the engine process; the supervisor
 * restarts it.  Immutable once open, so any thread may read.  What the getters return
 * borrows from it. */
#ifndef HOB_GGUF_H
#define HOB_GGUF_H

#include "base/buf.h"
#include "base/err.h"
#include "kernels/kernels.h"

enum gguf_type {
	GGUF_U8,
	GGUF_I8,
	GGUF_U16,
	GGUF_I16,
	GGUF_U32,
	GGUF_I32,
	GGUF_F32,
	GGUF_BOOL,
	GGUF_STRING,
	GGUF_ARRAY,
	GGUF_U64,
	GGUF_I64,
	GGUF_F64,
	GGUF_TYPE_NR
};

/* Caps: several times what the largest public models hold. */
enum {
	GGUF_MAX_TENSORS = 65536,
	GGUF_MAX_PAIRS = 65536,
	GGUF_MAX_ARRAY =
		4 << 20, /* elements of one array; merges of large vocabularies */
	GGUF_MAX_KEY_BYTES = 1024,
	GGUF_MAX_NAME_BYTES = 256,        /* of a tensor */
	GGUF_MAX_STRING_BYTES = 16 << 20, /* chat templates, tokens */
	GGUF_MAX_EXTENT = 1 << 30,        /* of one dimension: fits an int */
	GGUF_MAX_ALIGNMENT = 1 << 20,
	GGUF_MAX_DIMS = 4
};

struct gguf_tensor {
	struct str name;
	enum quant_type type;
	int n_dims;
	int64_t dims[GGUF_MAX_DIMS]; /* dims[0] = columns, contiguous; 1 where not used;
					each 1..GGUF_MAX_EXTENT */
	const uint8_t *data; /* in the mapping; aligned to the file's alignment (>= 8) */
	size_t bytes;        /* lies whole in the file */
};

struct gguf_array {
	enum gguf_type type; /* of the elements: never GGUF_ARRAY */
	size_t n;
	const void *data; /* numbers: little endian, NOT aligned: use the gguf_array_*
			     readers */
	const struct str *strings; /* GGUF_STRING only, else NULL */
};

enum gguf_found { GGUF_FOUND, GGUF_ABSENT, GGUF_WRONG_TYPE };

struct gguf;

/* NULL: ERR_NOT_FOUND/ERR_IO (cannot be opened, no regular file), ERR_CORRUPT (truncated
 * or forged; says what and at which offset), ERR_UNSUPPORTED (version, byte order, tensor
 * type; names the tensor and the type). A file without tensors (vocabulary only) is fine.
 */
struct gguf *gguf_open(const char *path, struct err *e);
/* The same over memory that outlives the gguf (tests, fuzzing); bytes need no alignment.
 */
struct gguf *gguf_from_memory(const void *data, size_t bytes, const char *name,
			      struct err *e);
void gguf_close(struct gguf *g); /* NULL is fine */

const char *gguf_path(const struct gguf *g);
size_t gguf_file_bytes(const struct gguf *g);

/* Which file: two paths with equal ids are one file that was not changed in between. */
struct gguf_id {
	uint64_t dev, ino, bytes;
	int64_t mtime_ns;
};
/* Of the descriptor that was mapped; zeros for gguf_from_memory(). */
struct gguf_id gguf_id(const struct gguf *g);
/* Of what lies at path now.  -1: as gguf_open() for a file that cannot be opened. */
int gguf_id_of(const char *path, struct gguf_id *out, struct err *e);
bool gguf_id_equal(const struct gguf_id *a, const struct gguf_id *b);

/* *out is untouched unless GGUF_FOUND.  u32 and u64 take any integer type whose value
 * fits; f32 takes f32 and f64; the others take their own type. */
enum gguf_found gguf_u32(const struct gguf *g, const char *key, uint32_t *out);
enum gguf_found gguf_u64(const struct gguf *g, const char *key, uint64_t *out);
enum gguf_found gguf_f32(const struct gguf *g, const char *key, float *out);
enum gguf_found gguf_bool(const struct gguf *g, const char *key, bool *out);
enum gguf_found gguf_str(const struct gguf *g, const char *key, struct str *out);
enum gguf_found gguf_array(const struct gguf *g, const char *key, struct gguf_array *out);
/* Element i < n of a number array; 0 for arrays of the other kind. */
int64_t gguf_array_int(const struct gguf_array *a, size_t i);
float gguf_array_f32(const struct gguf_array *a, size_t i);

/* For a key that must be there: -1 and ERR_CORRUPT that names the file and the key, and
 * says whether it is missing or of another type. */
int gguf_need_u32(const struct gguf *g, const char *key, uint32_t *out, struct err *e);
int gguf_need_f32(const struct gguf *g, const char *key, float *out, struct err *e);
int gguf_need_str(const struct gguf *g, const char *key, struct str *out, struct err *e);

const struct gguf_tensor *gguf_tensor(const struct gguf *g,
				      const char *name); /* NULL: none */
int gguf_tensor_count(const struct gguf *g);
const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, int i); /* in file order */
size_t gguf_tensor_bytes(const struct gguf *g); /* of all tensors */
/* Start of the data section in the file, and the mapping itself (madvise after packing).
 */
size_t gguf_data_offset(const struct gguf *g);
const uint8_t *gguf_mapping(const struct gguf *g);

#endif
