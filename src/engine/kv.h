/* Key/value caches of one model: a slot for each sequence that may run at once.
 *
 * A slot's memory is reserved at once but touched only as far as it is used, so idle slots cost nothing.
 * A slot that was given back keeps its tokens: the next prompt takes the free slot with the longest
 * common beginning, if that is worth what it destroys, else the one used longest ago, and computes only
 * the rest.  Main thread. */
#ifndef HOB_KV_H
#define HOB_KV_H

#include "engine/arch.h"

struct kv_slot {
	struct kkv *layers; /* owned: one for each layer, over memory */
	int32_t *tokens;    /* owned: what is stored at positions 0..n-1 */
	int n;
	bool taken;
	uint64_t used; /* when it was given back, in the cache's own count */
	void *memory;  /* owned; NULL until first taken */
};

struct kv_cache {
	int layers, nslots;
	int ctx; /* tokens a sequence may have */
	struct kkv shape;
	size_t slot_bytes;     /* memory of one slot when full */
	struct kv_slot *slots; /* owned */
	uint64_t clock;
};

enum { KV_MAX_SLOTS = 256 };

/* ctx: at least 1 and at most ARCH_MAX_CTX; slots: 1..KV_MAX_SLOTS. */
struct kv_cache *kv_new(const struct hparams *hp, int ctx, int slots);
void kv_free(struct kv_cache *c);              /* NULL is fine */
size_t kv_bytes_max(const struct kv_cache *c); /* with all slots full */

/* The best free slot for a prompt, cut back to the *common tokens that it shares with it (at most
 * n - 1: the last one must be computed for its logits).  NULL when all are taken. */
struct kv_slot *kv_take(struct kv_cache *c, const int32_t *prompt, int n, int *common);
void kv_give(struct kv_cache *c, struct kv_slot *s);
/* Notes n tokens that the graph is about to store at the end. */
void kv_append(struct kv_slot *s, const struct kv_cache *c, const int32_t *tokens, int n);

#endif
