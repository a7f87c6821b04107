/* The compact form of a sequence's keys and values, as it is kept outside of a slot, and the identity of
 * what may be put back where.
 *
 * Of each layer and key/value head only the positions in use are copied, in groups of KV_ROWS_STEP (the
 * layout interleaves that many keys, kernels/layout.h); the rest of the last group is zeros, so that equal
 * sequences give equal bytes.  A form is immutable and may be read by any thread. */
#ifndef HOB_KV_ROWS_H
#define HOB_KV_ROWS_H

#include "engine/gguf.h"
#include "kernels/kernels.h"
#include "kernels/pool.h"

enum {
	/* Goes up whenever the order of bytes in the cache or the arithmetic that fills it changes: then what
	 * was stored before is not what would be computed now. */
	KV_LAYOUT_VERSION = 1,
	KV_TYPE_F16 = 1,
	KV_ROWS_STEP = 16, /* positions */
	KV_BACKEND_BYTES = 16
};

struct kv_key { /* 128 bits of a digest */
	uint64_t lo, hi;
};

static inline bool kv_key_eq(struct kv_key a, struct kv_key b)
{
	return a.lo == b.lo && a.hi == b.hi;
}

struct kv_layer_form {
	uint32_t kv_heads, head_dim;
};

struct kv_form {
	struct kv_key model;
	uint32_t layout, type;
	char backend[KV_BACKEND_BYTES]; /* two backends round differently */
	int nlayers;
	struct kv_layer_form *layers; /* owned */
	struct kv_key kind; /* digest of all above: rows go only where it is the same */
};

/* Layers may differ in heads, but each must hold every position: a layer that keeps a window only cannot be
 * cut back to a prefix, and needs another form. */
void kv_form_init(struct kv_form *f, struct kv_key model, const char *backend,
		  const struct kkv *layers, int nlayers);
void kv_form_fini(struct kv_form *f);
struct kv_key kv_form_kind(const struct kv_form *f);

/* Identity of a model file: everything before the data, the size, and the beginning of each tensor, since
 * a fine-tuned model may have the very header and size of its parent. */
struct kv_key kv_model_key(const struct gguf *g);
/* Identity of a sequence. */
struct kv_key kv_sequence_key(struct kv_key kind, const int32_t *tokens, int n);

size_t kv_rows_bytes(const struct kv_form *f, int n);
/* Positions 0..n-1 of the layers to rows, and the first n of `stored` positions back.  The pool's threads
 * share the layers; NULL: the caller copies alone. */
void kv_rows_save(const struct kv_form *f, const struct kkv *layers, int n, uint8_t *rows,
		  struct pool *pool);
void kv_rows_load(const struct kv_form *f, const struct kkv *layers, const uint8_t *rows,
		  int stored, int n, struct pool *pool);

#endif
