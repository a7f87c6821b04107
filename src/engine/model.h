/* A model in memory: packed weights, vocabulary and chat format.
 *
 * Made on the engine's main thread with the help of the pool; immutable afterwards.  The packed
 * weights are one allocation in huge pages; of the file only the embedding table stays in use, whose
 * rows are opened one at a time. */
#ifndef HOB_MODEL_H
#define HOB_MODEL_H

#include "engine/arch.h"
#include "engine/chat_format.h"
#include "engine/vocab.h"
#include "kernels/pool.h"

enum { MODEL_STACK = 3 };

/* Matrices over the same input whose outputs lie behind each other: one when their packed forms
 * agree, else one for each. */
struct mats {
	int n;
	struct kmat m[MODEL_STACK];
	int at[MODEL_STACK]; /* where in the output each begins */
	int rows;            /* of all */
};

struct layer {
	const float *attn_norm, *ffn_norm;           /* [embd] */
	const float *attn_post_norm, *ffn_post_norm; /* [embd], or NULL */
	const float *q_norm, *k_norm;                /* [head_dim], or NULL */
	struct mats qkv;                             /* [q | k | v] */
	struct mats o;
	struct mats gateup; /* [gate | up] */
	struct mats down;
};

struct model {
	struct hparams hp;
	struct gguf *gguf;              /* owned */
	const struct gguf_tensor *embd; /* in the mapping: [vocab][embd] */
	struct vocab *vocab;            /* owned */
	struct chat_format chat;
	struct layer *layers;      /* owned */
	const float *output_norm;  /* [embd] */
	const float *rope_factors; /* [rot/2] divisors, or NULL */
	struct mats head;          /* [vocab] */

	uint8_t *memory; /* owned: everything packed */
	size_t memory_bytes;
	size_t mapped_bytes; /* the embedding table, that stays in use */
};

/* NULL and an error; says which file. */
struct model *model_open(const char *path, struct pool *pool, struct err *e);
void model_free(struct model *m); /* NULL is fine */
/* What the model keeps resident at most, without graph and caches. */
size_t model_bytes(const struct model *m);

/* Zeroed memory in huge pages where there are some, given back by big_free; aborts when there is none. */
void *big_alloc(size_t bytes);
void big_free(void *p, size_t bytes);

#endif
