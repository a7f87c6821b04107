/* Looking things up in an open GGUF file.  Any thread: nothing here changes anything.
 *
 * All was checked when the file was opened; numbers are loaded byte by byte, as the file
 * aligns nothing but tensors. */
#include "engine/gguf_file.h"

static const uint8_t type_bytes[GGUF_TYPE_NR] = {
	[GGUF_U8] = 1,     [GGUF_I8] = 1,    [GGUF_U16] = 2, [GGUF_I16] = 2,
	[GGUF_U32] = 4,    [GGUF_I32] = 4,   [GGUF_F32] = 4, [GGUF_BOOL] = 1,
	[GGUF_STRING] = 0, [GGUF_ARRAY] = 0, [GGUF_U64] = 8, [GGUF_I64] = 8,
	[GGUF_F64] = 8,
};

size_t gguf_type_bytes(enum gguf_type type)
{
	return type_bytes[type];
}

uint64_t gguf_load(const uint8_t *p, size_t bytes)
{
	uint64_t v = 0;

	for (size_t i = bytes; i-- > 0;)
		v = v << 8 | p[i];
	return v;
}

const char *gguf_path(const struct gguf *g)
{
	return g->path;
}

size_t gguf_file_bytes(const struct gguf *g)
{
	return g->bytes;
}

static const struct pair *find_pair(const struct gguf *g, const char *key)
{
	int32_t i = strmap_get(&g->by_key, str_of(key));

	return i < 0 ? NULL : &g->pairs[i];
}

/* A number of any integer type; false for negative ones and other types. */
static bool as_u64(enum gguf_type type, const uint8_t *p, uint64_t *out)
{
	size_t bytes = gguf_type_bytes(type);
	uint64_t v;

	switch (type) {
	case GGUF_I8:
	case GGUF_I16:
	case GGUF_I32:
	case GGUF_I64:
		v = gguf_load(p, bytes);
		if (v >> (8 * bytes - 1))
			return false;
		*out = v;
		return true;
	case GGUF_U8:
	case GGUF_U16:
	case GGUF_U32:
	case GGUF_U64:
		*out = gguf_load(p, bytes);
		return true;
	default:
		return false;
	}
}

static float load_f32(const uint8_t *p)
{
	uint32_t bits = (uint32_t)gguf_load(p, 4);
	float f;

	memcpy(&f, &bits, 4);
	return f;
}

static float load_f64(const uint8_t *p)
{
	uint64_t bits = gguf_load(p, 8);
	double d;

	memcpy(&d, &bits, 8);
	if (d > 3.4028234e38 || d < -3.4028234e38) /* the conversion would be undefined */
		return d > 0 ? __builtin_inff() : -__builtin_inff();
	return (float)d;
}

enum gguf_found gguf_u64(const struct gguf *g, const char *key, uint64_t *out)
{
	const struct pair *p = find_pair(g, key);

	if (!p)
		return GGUF_ABSENT;
	return as_u64(p->type, p->value, out) ? GGUF_FOUND : GGUF_WRONG_TYPE;
}

enum gguf_found gguf_u32(const struct gguf *g, const char *key, uint32_t *out)
{
	uint64_t v;
	enum gguf_found found = gguf_u64(g, key, &v);

	if (found != GGUF_FOUND)
		return found;
	if (v > UINT32_MAX)
		return GGUF_WRONG_TYPE;
	*out = (uint32_t)v;
	return GGUF_FOUND;
}

enum gguf_found gguf_f32(const struct gguf *g, const char *key, float *out)
{
	const struct pair *p = find_pair(g, key);

	if (!p)
		return GGUF_ABSENT;
	if (p->type != GGUF_F32 && p->type != GGUF_F64)
		return GGUF_WRONG_TYPE;
	*out = p->type == GGUF_F32 ? load_f32(p->value) : load_f64(p->value);
	return GGUF_FOUND;
}

enum gguf_found gguf_bool(const struct gguf *g, const char *key, bool *out)
{
	const struct pair *p = find_pair(g, key);

	if (!p)
		return GGUF_ABSENT;
	if (p->type != GGUF_BOOL)
		return GGUF_WRONG_TYPE;
	*out = p->value[0] == 1;
	return GGUF_FOUND;
}

enum gguf_found gguf_str(const struct gguf *g, const char *key, struct str *out)
{
	const struct pair *p = find_pair(g, key);

	if (!p)
		return GGUF_ABSENT;
	if (p->type != GGUF_STRING)
		return GGUF_WRONG_TYPE;
	*out = p->string;
	return GGUF_FOUND;
}

enum gguf_found gguf_array(const struct gguf *g, const char *key, struct gguf_array *out)
{
	const struct pair *p = find_pair(g, key);

	if (!p)
		return GGUF_ABSENT;
	if (p->type != GGUF_ARRAY)
		return GGUF_WRONG_TYPE;
	*out = p->array;
	return GGUF_FOUND;
}

int64_t gguf_array_int(const struct gguf_array *a, size_t i)
{
	size_t bytes = gguf_type_bytes(a->type);
	uint64_t v;

	if (!a->data || i >= a->n || a->type == GGUF_F32 || a->type == GGUF_F64)
		return 0;
	v = gguf_load((const uint8_t *)a->data + i * bytes, bytes);
	switch (a->type) {
	case GGUF_I8:
		return (int8_t)v;
	case GGUF_I16:
		return (int16_t)v;
	case GGUF_I32:
		return (int32_t)v;
	default:
		return (int64_t)v;
	}
}

float gguf_array_f32(const struct gguf_array *a, size_t i)
{
	const uint8_t *p = a->data;

	if (!p || i >= a->n)
		return 0;
	if (a->type == GGUF_F32)
		return load_f32(p + 4 * i);
	return a->type == GGUF_F64 ? load_f64(p + 8 * i) : 0;
}

static int needed(const struct gguf *g, const char *key, enum gguf_found found,
		  struct err *e)
{
	if (found == GGUF_FOUND)
		return 0;
	return err_set(e, ERR_CORRUPT, "%s: key '%s' %s", g->path, key,
		       found == GGUF_ABSENT ? "is missing"
					    : "is of another type than expected");
}

int gguf_need_u32(const struct gguf *g, const char *key, uint32_t *out, struct err *e)
{
	return needed(g, key, gguf_u32(g, key, out), e);
}

int gguf_need_f32(const struct gguf *g, const char *key, float *out, struct err *e)
{
	return needed(g, key, gguf_f32(g, key, out), e);
}

int gguf_need_str(const struct gguf *g, const char *key, struct str *out, struct err *e)
{
	return needed(g, key, gguf_str(g, key, out), e);
}

const struct gguf_tensor *gguf_tensor(const struct gguf *g, const char *name)
{
	int32_t i = strmap_get(&g->by_name, str_of(name));

	return i < 0 ? NULL : &g->tensors[i];
}

int gguf_tensor_count(const struct gguf *g)
{
	return g->ntensors;
}

const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, int i)
{
	ASSERT(i >= 0 && i < g->ntensors);
	return &g->tensors[i];
}

size_t gguf_tensor_bytes(const struct gguf *g)
{
	return g->tensor_bytes;
}

size_t gguf_data_offset(const struct gguf *g)
{
	return g->data_offset;
}

const uint8_t *gguf_mapping(const struct gguf *g)
{
	return g->base;
}
