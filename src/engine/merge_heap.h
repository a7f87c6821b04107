/* Possible merges of neighbouring pieces, best first: what both tokenizers work off.
 *
 * The scratch memory of one call; no lock.  Merges are never taken out when a piece of theirs has
 * changed: whoever pops one compares left and right with what stands there now. */
#ifndef HOB_MERGE_HEAP_H
#define HOB_MERGE_HEAP_H

#include "base/base.h"

struct merge {
	int32_t rank;        /* lowest first, and of equals the leftmost */
	int at;              /* the left piece */
	int32_t left, right; /* what the pieces were: ids (bpe.c) or bytes (spm.c) */
	int32_t result;      /* the token that they make */
};

struct merge_heap {
	struct merge *items; /* owned */
	size_t n, cap;
};

/* Empties it; room for `most` merges. */
void merge_heap_reset(struct merge_heap *h, size_t most);
void merge_heap_fini(struct merge_heap *h);
void merge_heap_push(struct merge_heap *h, struct merge m);
struct merge merge_heap_pop(struct merge_heap *h); /* h->n > 0 */

#endif
