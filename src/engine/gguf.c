/* Reading GGUF: maps the file and walks its head once.  Runs on the thread that loads a
 * model.
 *
 * Every number in the file is taken through `struct cursor`, which knows the end; nothing
 * is allocated by a count before the count was compared with the bytes that are left, so
 * a forged file costs at most a few times its own size in memory. */
#include "engine/gguf.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/gguf_file.h"

#define KEY_ALIGNMENT "general.alignment"

enum { DEFAULT_ALIGNMENT = 32 /* GGUF specification, general.alignment */ };
/* The least a pair and a tensor take in the file: an empty name, the smallest value, one
 * dimension. */
enum { PAIR_MIN_BYTES = 8 + 4 + 1, TENSOR_MIN_BYTES = 8 + 4 + 8 + 4 + 8 };

struct cursor {
	const uint8_t *base;
	size_t pos, end;
	const char *path;
	struct err *err;
};

/* Names of the tensor types we cannot read, for the message (ggml_type in the
 * specification). */
static const char *const foreign_types[] = {
	[4] = "Q4_2",    [5] = "Q4_3",     [7] = "Q5_1",    [9] = "Q8_1",
	[10] = "Q2_K",   [11] = "Q3_K",    [15] = "Q8_K",   [16] = "IQ2_XXS",
	[17] = "IQ2_XS", [18] = "IQ3_XXS", [19] = "IQ1_S",  [20] = "IQ4_NL",
	[21] = "IQ3_S",  [22] = "IQ2_S",   [23] = "IQ4_XS", [24] = "I8",
	[25] = "I16",    [26] = "I32",     [27] = "I64",    [28] = "F64",
	[29] = "IQ1_M",  [34] = "TQ1_0",   [35] = "TQ2_0",  [39] = "MXFP4",
};

static int corrupt(struct cursor *c, const char *fmt, ...) PRINTF(2, 3);

static int corrupt(struct cursor *c, const char *fmt, ...)
{
	char text[320];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return err_set(c->err, ERR_CORRUPT, "%s: at offset %zu: %s", c->path, c->pos,
		       text);
}

static int take(struct cursor *c, size_t bytes, const char *what, const uint8_t **p)
{
	if (bytes > c->end - c->pos)
		return corrupt(c, "the file ends inside %s (%zu bytes needed, %zu left)",
			       what, bytes, c->end - c->pos);
	*p = c->base + c->pos;
	c->pos += bytes;
	return 0;
}

static int take_u32(struct cursor *c, const char *what, uint32_t *v)
{
	const uint8_t *p = NULL;

	if (take(c, 4, what, &p))
		return -1;
	*v = (uint32_t)gguf_load(p, 4);
	return 0;
}

static int take_u64(struct cursor *c, const char *what, uint64_t *v)
{
	const uint8_t *p = NULL;

	if (take(c, 8, what, &p))
		return -1;
	*v = gguf_load(p, 8);
	return 0;
}

static int take_string(struct cursor *c, const char *what, uint64_t cap, struct str *s)
{
	const uint8_t *p = NULL;
	uint64_t len = 0;

	if (take_u64(c, what, &len))
		return -1;
	if (len > cap)
		return corrupt(c, "%s is %" PRIu64 " bytes long, the limit is %" PRIu64,
			       what, len, cap);
	if (take(c, (size_t)len, what, &p))
		return -1;
	*s = (struct str){(const char *)p, (size_t)len};
	return 0;
}

/* Names go into messages and onto terminals: printable ASCII only. */
static bool printable(struct str s)
{
	for (size_t i = 0; i < s.len; i++)
		if (s.ptr[i] < 0x20 || s.ptr[i] > 0x7e)
			return false;
	return true;
}

static int take_name(struct cursor *c, const char *what, uint64_t cap, struct str *s)
{
	if (take_string(c, what, cap, s))
		return -1;
	if (s->len == 0 || !printable(*s))
		return corrupt(c, "%s is empty or holds unprintable bytes", what);
	return 0;
}

static int take_type(struct cursor *c, struct str key, enum gguf_type *type)
{
	uint32_t v;

	if (take_u32(c, "a type", &v))
		return -1;
	if (v >= GGUF_TYPE_NR)
		return corrupt(c, "key '%.*s' has type %" PRIu32 ", which does not exist",
			       (int)key.len, key.ptr, v);
	*type = (enum gguf_type)v;
	return 0;
}

static int check_bools(struct cursor *c, const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] > 1)
			return corrupt(c, "a bool has value %d", p[i]);
	return 0;
}

static int take_strings(struct cursor *c, struct pair *p, size_t n)
{
	if (n > (c->end - c->pos) / 8) /* each has its length in front */
		return corrupt(
			c, "key '%.*s' claims %zu strings, more than the file can hold",
			(int)p->key.len, p->key.ptr, n);
	p->strings = xcalloc(n ? n : 1, sizeof(*p->strings));
	p->array.strings = p->strings;
	for (size_t i = 0; i < n; i++)
		if (take_string(c, "a string of an array", GGUF_MAX_STRING_BYTES,
				&p->strings[i]))
			return -1;
	return 0;
}

static int take_array(struct cursor *c, struct pair *p)
{
	const uint8_t *data = NULL;
	size_t bytes;
	uint64_t n;

	if (take_type(c, p->key, &p->array.type) || take_u64(c, "an array's length", &n))
		return -1;
	if (p->array.type == GGUF_ARRAY)
		return corrupt(c, "key '%.*s' is an array of arrays", (int)p->key.len,
			       p->key.ptr);
	if (n > GGUF_MAX_ARRAY)
		return corrupt(c,
			       "key '%.*s' claims %" PRIu64 " elements, the limit is %d",
			       (int)p->key.len, p->key.ptr, n, GGUF_MAX_ARRAY);
	p->array.n = (size_t)n;
	if (p->array.type == GGUF_STRING)
		return take_strings(c, p, (size_t)n);
	if (!size_mul((size_t)n, gguf_type_bytes(p->array.type), &bytes))
		return corrupt(c, "an array's size overflows");
	if (take(c, bytes, "an array", &data))
		return -1;
	p->array.data = data;
	return p->array.type == GGUF_BOOL ? check_bools(c, data, (size_t)n) : 0;
}

static int take_pair(struct cursor *c, struct pair *p)
{
	if (take_name(c, "a key", GGUF_MAX_KEY_BYTES, &p->key) ||
	    take_type(c, p->key, &p->type))
		return -1;
	if (p->type == GGUF_STRING)
		return take_string(c, "a string", GGUF_MAX_STRING_BYTES, &p->string);
	if (p->type == GGUF_ARRAY)
		return take_array(c, p);
	if (take(c, gguf_type_bytes(p->type), "a value", &p->value))
		return -1;
	return p->type == GGUF_BOOL ? check_bools(c, p->value, 1) : 0;
}

static int take_pairs(struct gguf *g, struct cursor *c, uint64_t n)
{
	if (n > GGUF_MAX_PAIRS || n > (c->end - c->pos) / PAIR_MIN_BYTES)
		return corrupt(
			c,
			"%" PRIu64
			" metadata pairs: over the limit of %d or longer than the file",
			n, GGUF_MAX_PAIRS);
	g->pairs = xcalloc(n ? n : 1, sizeof(*g->pairs));
	strmap_init(&g->by_key, (size_t)n);
	for (int i = 0; i < (int)n; i++) {
		struct pair *p = &g->pairs[g->npairs++];

		if (take_pair(c, p))
			return -1;
		if (strmap_set(&g->by_key, p->key, i) >= 0)
			return corrupt(c, "key '%.*s' is there twice", (int)p->key.len,
				       p->key.ptr);
	}
	return 0;
}

static int unknown_type(struct cursor *c, const struct gguf_tensor *t)
{
	size_t n = (size_t)t->type;
	const char *name = n < ARRAY_LEN(foreign_types) ? foreign_types[n] : NULL;

	return err_set(
		c->err, ERR_UNSUPPORTED,
		"%s: tensor '%.*s' has type %s (%zu), which this build cannot read; "
		"use a file in Q4_0, Q4_1, Q5_0, Q8_0, Q4_K, Q5_K, Q6_K, F16, BF16 or "
		"F32",
		c->path, (int)t->name.len, t->name.ptr, name ? name : "unknown", n);
}

static int take_dims(struct cursor *c, struct gguf_tensor *t)
{
	uint32_t n;

	if (take_u32(c, "a tensor's dimensions", &n))
		return -1;
	if (n < 1 || n > GGUF_MAX_DIMS)
		return corrupt(c,
			       "tensor '%.*s' has %" PRIu32
			       " dimensions (1 to %d are possible)",
			       (int)t->name.len, t->name.ptr, n, GGUF_MAX_DIMS);
	t->n_dims = (int)n;
	for (int i = 0; i < GGUF_MAX_DIMS; i++) {
		uint64_t d = 1;

		if (i < t->n_dims && take_u64(c, "a tensor's dimensions", &d))
			return -1;
		if (d < 1 || d > GGUF_MAX_EXTENT)
			return corrupt(c, "tensor '%.*s': dimension %d is %" PRIu64,
				       (int)t->name.len, t->name.ptr, i, d);
		t->dims[i] = (int64_t)d;
	}
	return 0;
}

static int tensor_size(struct cursor *c, struct gguf_tensor *t)
{
	size_t bytes;

	if (!quant_name(t->type))
		return unknown_type(c, t);
	bytes = quant_row_bytes(t->type, (int)t->dims[0]);
	if (bytes == 0)
		return corrupt(c,
			       "tensor '%.*s': %" PRId64
			       " columns do not divide into blocks of %s",
			       (int)t->name.len, t->name.ptr, t->dims[0],
			       quant_name(t->type));
	for (int i = 1; i < GGUF_MAX_DIMS; i++)
		if (!size_mul(bytes, (size_t)t->dims[i], &bytes))
			return corrupt(c, "tensor '%.*s': its size overflows",
				       (int)t->name.len, t->name.ptr);
	t->bytes = bytes;
	return 0;
}

/* Leaves the offset from the data section's start, not known yet, in *offset. */
static int take_tensor(struct cursor *c, struct gguf_tensor *t, uint64_t *offset)
{
	uint32_t type;

	if (take_name(c, "a tensor's name", GGUF_MAX_NAME_BYTES, &t->name) ||
	    take_dims(c, t) || take_u32(c, "a tensor's type", &type) ||
	    take_u64(c, "a tensor's offset", offset))
		return -1;
	if (type > 1000) /* far beyond any: keeps the enum in range */
		return corrupt(c,
			       "tensor '%.*s' has type %" PRIu32 ", which does not exist",
			       (int)t->name.len, t->name.ptr, type);
	t->type = (enum quant_type)type;
	return tensor_size(c, t);
}

/* t->bytes bytes at offset of the data section must lie in the file. */
static int place(struct gguf *g, struct cursor *c, struct gguf_tensor *t, uint64_t offset,
		 uint32_t alignment)
{
	size_t space = g->bytes - g->data_offset;

	if (offset % alignment)
		return corrupt(c,
			       "tensor '%.*s': offset %" PRIu64
			       " is not a multiple of %" PRIu32,
			       (int)t->name.len, t->name.ptr, offset, alignment);
	if (offset > space || t->bytes > space - offset)
		return corrupt(c,
			       "tensor '%.*s' (%zu bytes at %" PRIu64
			       " of the data) reaches beyond "
			       "the file's end; is the file complete?",
			       (int)t->name.len, t->name.ptr, t->bytes, offset);
	t->data = g->base + g->data_offset + offset;
	if (!size_add(g->tensor_bytes, t->bytes, &g->tensor_bytes))
		return corrupt(c, "the tensors' sizes overflow");
	return 0;
}

static int read_alignment(struct gguf *g, struct cursor *c, uint32_t *alignment)
{
	*alignment = DEFAULT_ALIGNMENT;
	if (gguf_u32(g, KEY_ALIGNMENT, alignment) == GGUF_WRONG_TYPE)
		return corrupt(c, KEY_ALIGNMENT " is no number");
	if (*alignment < 8 || *alignment > GGUF_MAX_ALIGNMENT ||
	    (*alignment & (*alignment - 1)))
		return corrupt(
			c, KEY_ALIGNMENT " is %" PRIu32 ", no power of two from 8 to %d",
			*alignment, GGUF_MAX_ALIGNMENT);
	return 0;
}

static int take_tensors(struct gguf *g, struct cursor *c, uint64_t n)
{
	uint64_t *offsets = NULL;
	uint32_t alignment;
	int rc = -1;

	if (n > GGUF_MAX_TENSORS || n > (c->end - c->pos) / TENSOR_MIN_BYTES)
		return corrupt(c,
			       "%" PRIu64
			       " tensors: over the limit of %d or longer than the file",
			       n, GGUF_MAX_TENSORS);
	if (read_alignment(g, c, &alignment))
		return -1;
	offsets = xcalloc(n ? n : 1, sizeof(*offsets));
	g->tensors = xcalloc(n ? n : 1, sizeof(*g->tensors));
	strmap_init(&g->by_name, (size_t)n);
	for (int i = 0; i < (int)n; i++) {
		struct gguf_tensor *t = &g->tensors[g->ntensors++];

		if (take_tensor(c, t, &offsets[i]))
			goto out;
		if (strmap_set(&g->by_name, t->name, i) >= 0) {
			corrupt(c, "tensor '%.*s' is there twice", (int)t->name.len,
				t->name.ptr);
			goto out;
		}
	}
	/* The padding itself may be missing when there are no tensors. */
	g->data_offset = c->pos + (alignment - c->pos % alignment) % alignment;
	if (g->data_offset > g->bytes)
		g->data_offset = g->bytes;
	for (int i = 0; i < g->ntensors; i++)
		if (place(g, c, &g->tensors[i], offsets[i], alignment))
			goto out;
	rc = 0;
out:
	free(offsets);
	return rc;
}

static int parse(struct gguf *g, struct err *e)
{
	struct cursor c = {g->base, 0, g->bytes, g->path, e};
	uint64_t ntensors, npairs;
	const uint8_t *magic = NULL;
	uint32_t version;

	if (take(&c, 4, "the magic number", &magic))
		return -1;
	if (memcmp(magic, "GGUF", 4)) {
		c.pos = 0;
		return corrupt(&c,
			       "this is no GGUF file (it does not begin with \"GGUF\")");
	}
	if (take_u32(&c, "the version", &version))
		return -1;
	if (version != 2 && version != 3)
		return err_set(
			e, ERR_UNSUPPORTED,
			"%s: GGUF %s; versions 2 and 3, little endian, can be read",
			g->path,
			version && !(version & 0xffff) ? "in big-endian byte order"
						       : "of an unknown version");
	if (take_u64(&c, "the tensor count", &ntensors) ||
	    take_u64(&c, "the pair count", &npairs))
		return -1;
	return take_pairs(g, &c, npairs) || take_tensors(g, &c, ntensors) ? -1 : 0;
}

static struct gguf *parse_or_close(struct gguf *g, struct err *e)
{
	if (!parse(g, e))
		return g;
	gguf_close(g);
	return NULL;
}

struct gguf *gguf_from_memory(const void *data, size_t bytes, const char *name,
			      struct err *e)
{
	struct gguf *g = xcalloc(1, sizeof(*g));

	g->path = xstrdup(name);
	g->base = data;
	g->bytes = bytes;
	return parse_or_close(g, e);
}

static int cannot_open(const char *path, int errnum, struct err *e)
{
	if (errnum == ENOENT)
		return err_set(e, ERR_NOT_FOUND, "%s: there is no such file", path);
	return err_sys(e, errnum, "open %s", path);
}

static struct gguf_id id_of(const struct stat *st)
{
	return (struct gguf_id){
		.dev = st->st_dev,
		.ino = st->st_ino,
		.bytes = (uint64_t)st->st_size,
		.mtime_ns = (int64_t)st->st_mtim.tv_sec * 1000000000 +
			    st->st_mtim.tv_nsec,
	};
}

int gguf_id_of(const char *path, struct gguf_id *out, struct err *e)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return cannot_open(path, errno, e);
	*out = id_of(&st);
	return 0;
}

bool gguf_id_equal(const struct gguf_id *a, const struct gguf_id *b)
{
	return a->dev == b->dev && a->ino == b->ino && a->bytes == b->bytes &&
	       a->mtime_ns == b->mtime_ns;
}

struct gguf_id gguf_id(const struct gguf *g)
{
	return g->id;
}

struct gguf *gguf_open(const char *path, struct err *e)
{
	struct gguf *g = NULL;
	struct stat st;
	void *p;
	/* O_NONBLOCK: opening a fifo must not wait for a writer. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0) {
		cannot_open(path, errno, e);
		return NULL;
	}
	if (fstat(fd, &st)) {
		err_sys(e, errno, "fstat %s", path);
	} else if (!S_ISREG(st.st_mode)) {
		err_set(e, ERR_IO, "%s: not a regular file", path);
	} else if (st.st_size == 0) {
		err_set(e, ERR_CORRUPT, "%s: the file is empty", path);
	} else {
		p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
		if (p == MAP_FAILED) {
			err_sys(e, errno, "mmap %s", path);
		} else {
			g = xcalloc(1, sizeof(*g));
			*g = (struct gguf){.path = xstrdup(path),
					   .base = p,
					   .bytes = (size_t)st.st_size,
					   .id = id_of(&st),
					   .mapped = true};
		}
	}
	close(fd);
	return g ? parse_or_close(g, e) : NULL;
}

void gguf_close(struct gguf *g)
{
	if (!g)
		return;
	for (int i = 0; i < g->npairs; i++)
		free(g->pairs[i].strings);
	free(g->pairs);
	free(g->tensors);
	strmap_fini(&g->by_key);
	strmap_fini(&g->by_name);
	if (g->mapped)
		munmap((void *)g->base, g->bytes);
	free(g->path);
	free(g);
}
