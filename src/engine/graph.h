/* The forward pass of a model over a batch of rows, on all threads of a pool.
 *
 * Layers with a sliding window (arch.h) see it as a mask: keys and values before it are still in their
 * cache, but never read.  A row is one token at one position of one sequence.  A row's result is the same to the bit whatever
 * else is in the batch and however its prompt was cut into chunks.  One graph a model; main thread. */
#ifndef HOB_GRAPH_H
#define HOB_GRAPH_H

#include "engine/kv.h"
#include "engine/model.h"

enum { GRAPH_MAX_ROWS = 256 };

struct graph_row {
	int32_t token; /* within the vocabulary */
	int pos;
	const struct kv_slot *
		slot; /* has positions 0..pos-1 stored or in this batch before this row */
	bool wants_logits;
};

struct graph;

/* Borrows all; max_logits: how many rows of a batch may want logits. */
struct graph *graph_new(const struct model *m, const struct kernels *k, struct pool *pool,
			int max_capacity, int max_logits);
void graph_free(struct graph *g);
size_t graph_bytes(const struct graph *g);

/* 1..GRAPH_MAX_ROWS rows; those of one sequence lie together with rising positions. Stores keys and values.
 * The logits of the i-th row that wanted some: graph_logits(g, i), vocab floats, until the next call. */
void graph_forward(struct graph *g, const struct graph_row *rows, int n);
const float *graph_logits(const struct graph *g, int i);

#endif
