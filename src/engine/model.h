/* A model: what its file says (vocabulary, chat format, where each weight will lie), and its weights.
 *
 * model_parse() reads the head of the file only, and plans: sizes and addresses are exact and final from
 * then on, the weights are not there.  They come into the reserved addresses by packing (model_pack_item) or
 * by mapping a pack file (pack_file.h), may go and come back.  The parsed part is immutable, so any thread
 * may read it.  Who may touch the weights: loader.h.  Of the file only the embedding table stays in use, whose
 * rows are opened one at a time. */
#ifndef HOB_MODEL_H
#define HOB_MODEL_H

#include "engine/arch.h"
#include "engine/chat_format.h"
#include "engine/vocab.h"
#include "engine/weights.h"
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

struct plan; /* in model.c */

struct model {
	struct hparams hp;
	struct gguf *gguf;              /* owned */
	const struct gguf_tensor *embd; /* in the mapping: [vocab][embd] */
	struct vocab *vocab;            /* owned */
	struct chat_format chat;
	struct layer *layers;     /* owned */
	const float *output_norm; /* [embd] */
	float *rope_factors; /* owned: [rot/2] divisors, or NULL; not among the weights */
	struct mats head;    /* [vocab] */

	struct plan *plan;   /* owned */
	struct pack_key key; /* source_hash also names the model in other caches */

	struct weights weights; /* the addresses, and what is mapped there */
	uint8_t *memory;        /* weights_data(): everything packed */
	size_t memory_bytes;
	size_t mapped_bytes; /* the embedding table, that stays in use */
};

/* Without weights.  NULL and an error; says which file. */
struct model *model_parse(const char *path, struct err *e);
/* The work that fills writable weights: item 0 first and alone, then 1..model_items()-1 in any order on any
 * threads, each once; the lower ones belong to the first layers.  item_bytes: of the file. */
int model_items(const struct model *m);
size_t model_item_bytes(const struct model *m, int i);
void model_pack_item(struct model *m, int i);
/* The weights are there: pages of the file that nobody will read again need not stay mapped. */
void model_drop_source(const struct model *m);

/* Parsed and packed into anonymous memory at once, with the help of the pool, whose owner calls: tests. */
struct model *model_open(const char *path, struct pool *pool, struct err *e);
void model_free(struct model *m); /* NULL is fine */
/* What the weights keep resident at most, without graph and caches. */
size_t model_bytes(const struct model *m);

/* Zeroed memory in huge pages where there are some, given back by big_free; aborts when there is none. */
void *big_alloc(size_t bytes);
void big_free(void *p, size_t bytes);

#endif
