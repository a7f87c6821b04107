/* Key/value caches of one model: a slot for each sequence that may run at once.
 *
 * A slot's memory is reserved at once but touched only as far as it is used, so idle slots cost nothing.
 * A slot that was given back keeps its tokens: the next prompt takes the free slot with the longest
 * common beginning, if that is worth what it destroys, else the one used longest ago, and computes only
 * the rest.  What a slot held is saved by who takes it (kv_store.h).  Main thread. */
#ifndef HOB_KV_H
#define HOB_KV_H

#include "engine/arch.h"

struct kv_slot {
	struct kkv *layers; /* owned: one for each layer, over memory */
	int32_t *tokens;    /* owned: what is stored at positions 0..n-1 */
	int n;
	bool taken;
	bool is_volatile; /* holds what may not be saved; until somebody else takes it */
	uint64_t used;    /* when it was given back, in the cache's own count */
	uint64_t idle_ms; /* the same, clock_mono_ms() */
	int kept;     /* of tokens: how many the disk has, as far as this slot knows */
	void *memory; /* owned; NULL until first taken */
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
void kv_free(struct kv_cache *c); /* NULL is fine */
/* Of a layer's cache in any slot; k and v are NULL. */
struct kkv kv_layer_shape(const struct kv_cache *c, int layer);
size_t kv_bytes_max(const struct kv_cache *c); /* with all slots full */

/* The best free slot for a prompt, cut back to the *common tokens that it shares with it (at most
 * n - 1: the last one must be computed for its logits).  NULL when all are taken. */
struct kv_slot *kv_take(struct kv_cache *c, const int32_t *prompt, int n, int *common);
/* kv_take() in two steps, so that what is lost can be saved between them: the slot it would take, without a
 * change (*common as above); the one used longest ago; and taking one with its first `keep` tokens. */
struct kv_slot *kv_choose(struct kv_cache *c, const int32_t *prompt, int n, int *common);
struct kv_slot *kv_oldest(struct kv_cache *c);
void kv_claim(struct kv_cache *c, struct kv_slot *s, int keep);
/* How many tokens a slot shares with a prompt of n, at most n - 1. */
int kv_common(const struct kv_slot *s, const int32_t *prompt, int n);
void kv_give(struct kv_cache *c, struct kv_slot *s);
/* Notes that n tokens are stored from the beginning on. */
void kv_restored(struct kv_slot *s, const struct kv_cache *c, const int32_t *tokens,
		 int n);
/* Notes n tokens that the graph is about to store at the end. */
void kv_append(struct kv_slot *s, const struct kv_cache *c, const int32_t *tokens, int n);

#endif
