/* Compact rows: where a layer's heads lie in them, and copying both ways.
 *
 * Main thread and the pool for copies, any thread for sizes and keys.  A reader may question that the
 * pool copies: one core moves 5 to 10 GB/s, a long conversation is a gigabyte, and the main thread answers
 * nobody meanwhile. */
#include "engine/kv_rows.h"

#include <xxhash.h>

#include "kernels/layout.h"

enum { TENSOR_SAMPLE_BYTES = 4096 };

static struct kv_key key_of(XXH128_hash_t h)
{
	return (struct kv_key){h.low64, h.high64};
}

struct kv_key kv_form_kind(const struct kv_form *f)
{
	struct {
		struct kv_key model;
		uint32_t layout, type, nlayers, pad;
		char backend[KV_BACKEND_BYTES];
	} head = {f->model, f->layout, f->type, (uint32_t)f->nlayers, 0, {0}};
	XXH64_hash_t seed;

	memcpy(head.backend, f->backend, sizeof(head.backend));
	seed = XXH3_64bits(f->layers, (size_t)f->nlayers * sizeof(*f->layers));
	return key_of(XXH3_128bits_withSeed(&head, sizeof(head), seed));
}

void kv_form_init(struct kv_form *f, struct kv_key model, const char *backend,
		  const struct kkv *layers, int nlayers)
{
	*f = (struct kv_form){.model = model,
			      .layout = KV_LAYOUT_VERSION,
			      .type = KV_TYPE_F16,
			      .nlayers = nlayers};
	snprintf(f->backend, sizeof(f->backend), "%s", backend);
	f->layers = xcalloc((size_t)nlayers, sizeof(*f->layers));
	for (int i = 0; i < nlayers; i++)
		f->layers[i] = (struct kv_layer_form){(uint32_t)layers[i].kv_heads,
						      (uint32_t)layers[i].head_dim};
	f->kind = kv_form_kind(f);
}

void kv_form_fini(struct kv_form *f)
{
	free(f->layers);
	f->layers = NULL;
}

struct kv_key kv_model_key(const struct gguf *g)
{
	XXH3_state_t *st = XXH3_createState();
	uint64_t bytes = gguf_file_bytes(g);
	struct kv_key key;

	ASSERT(st);
	XXH3_128bits_reset(st);
	XXH3_128bits_update(st, &bytes, sizeof(bytes));
	XXH3_128bits_update(st, gguf_mapping(g), gguf_data_offset(g));
	for (int i = 0; i < gguf_tensor_count(g); i++) {
		const struct gguf_tensor *t = gguf_tensor_at(g, i);

		XXH3_128bits_update(st, t->data,
				    t->bytes < TENSOR_SAMPLE_BYTES ? t->bytes
								   : TENSOR_SAMPLE_BYTES);
	}
	key = key_of(XXH3_128bits_digest(st));
	XXH3_freeState(st);
	return key;
}

struct kv_key kv_sequence_key(struct kv_key kind, const int32_t *tokens, int n)
{
	return key_of(XXH3_128bits_withSeed(tokens, (size_t)n * sizeof(*tokens),
					    kind.lo ^ (kind.hi << 1)));
}

/* --- sizes ----------------------------------------------------------------------------------- */

static size_t positions(int n)
{
	return round_up((size_t)n, KV_ROWS_STEP);
}

static size_t head_keys(const struct kv_layer_form *l, int n)
{
	return positions(n) * l->head_dim * sizeof(uint16_t);
}

static size_t head_values(const struct kv_layer_form *l, int n)
{
	return positions(n) * kkv_dims((int)l->head_dim) * sizeof(uint16_t);
}

static size_t layer_bytes(const struct kv_layer_form *l, int n)
{
	return l->kv_heads * (head_keys(l, n) + head_values(l, n));
}

size_t kv_rows_bytes(const struct kv_form *f, int n)
{
	size_t sum = 0;

	for (int i = 0; i < f->nlayers; i++)
		sum += layer_bytes(&f->layers[i], n);
	return sum;
}

/* --- copies ---------------------------------------------------------------------------------- */

struct copy {
	const struct kv_form *f;
	const struct kkv *layers;
	uint8_t *rows;
	int stored, n; /* positions that rows hold; that are copied */
	bool load;
};

/* The part of the last group that no token has: keys [dim][16], values [16][dims]. */
static void clear_tail(const struct kv_layer_form *l, int n, uint8_t *keys,
		       uint8_t *values)
{
	size_t used = (size_t)n % KV_ROWS_STEP, dims = kkv_dims((int)l->head_dim);
	size_t group = positions(n) - KV_ROWS_STEP;
	uint16_t *k = (uint16_t *)keys + group * l->head_dim;

	if (used == 0)
		return;
	for (size_t d = 0; d < l->head_dim; d++)
		memset(k + d * KV_ROWS_STEP + used, 0,
		       (KV_ROWS_STEP - used) * sizeof(*k));
	memset((uint16_t *)values + (group + used) * dims, 0,
	       (KV_ROWS_STEP - used) * dims * sizeof(*k));
}

static void copy_layer(const struct copy *c, int i, uint8_t *rows)
{
	const struct kv_layer_form *l = &c->f->layers[i];
	const struct kkv *kv = &c->layers[i];
	size_t nk = head_keys(l, c->n), nv = head_values(l, c->n);

	ASSERT((uint32_t)kv->kv_heads == l->kv_heads &&
	       (uint32_t)kv->head_dim == l->head_dim && c->n <= kv->capacity);
	for (int h = 0; h < kv->kv_heads; h++) {
		uint8_t *k = rows, *v = rows + head_keys(l, c->stored);

		rows = v + head_values(l, c->stored);
		if (c->load) {
			memcpy(kkv_keys(kv, h, 0), k, nk);
			memcpy(kkv_values(kv, h, 0), v, nv);
		} else {
			memcpy(k, kkv_keys(kv, h, 0), nk);
			memcpy(v, kkv_values(kv, h, 0), nv);
			clear_tail(l, c->n, k, v);
		}
	}
}

static void copy_fn(void *arg, int ith, int nth)
{
	const struct copy *c = arg;
	uint8_t *rows = c->rows;

	for (int i = 0; i < c->f->nlayers; i++) {
		if (i % nth == ith)
			copy_layer(c, i, rows);
		rows += layer_bytes(&c->f->layers[i], c->stored);
	}
}

static void copy(struct copy *c, struct pool *pool)
{
	if (pool)
		pool_run(pool, copy_fn, c);
	else
		copy_fn(c, 0, 1);
}

void kv_rows_save(const struct kv_form *f, const struct kkv *layers, int n, uint8_t *rows,
		  struct pool *pool)
{
	copy(&(struct copy){f, layers, rows, n, n, false}, pool);
}

void kv_rows_load(const struct kv_form *f, const struct kkv *layers, const uint8_t *rows,
		  int stored, int n, struct pool *pool)
{
	ASSERT(n <= stored);
	copy(&(struct copy){f, layers, (uint8_t *)rows, stored, n, true}, pool);
}
