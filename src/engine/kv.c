/* Key/value caches: slots, their memory, and which one a prompt gets.
 *
 * Main thread.  A full scan over the slots picks the longest common beginning: there are at most a
 * few hundred, and a comparison of tokens is nothing beside a forward pass. */
#include "engine/kv.h"

#include <sys/mman.h>

#include "base/clock.h"

enum { CTX_STEP = 32, KV_ALIGN = 64, LOSS_SHARE = 4 };

struct kv_cache *kv_new(const struct hparams *hp, int ctx, int slots)
{
	struct kv_cache *c = xcalloc(1, sizeof(*c));
	size_t one;

	ASSERT(ctx >= 1 && ctx <= ARCH_MAX_CTX && slots >= 1 && slots <= KV_MAX_SLOTS);
	c->layers = hp->layers;
	c->nslots = slots;
	c->ctx = ctx;
	c->shape.capacity = (ctx + CTX_STEP - 1) / CTX_STEP * CTX_STEP;
	c->shape.kv_heads = hp->kv_heads;
	c->shape.head_dim = hp->head_dim;
	one = kkv_bytes(c->shape.capacity, hp->kv_heads, hp->head_dim);
	one = (one + KV_ALIGN - 1) / KV_ALIGN * KV_ALIGN;
	ASSERT(size_mul(one, 2 * (size_t)hp->layers, &c->slot_bytes));
	c->slots = xcalloc((size_t)slots, sizeof(*c->slots));
	return c;
}

void kv_free(struct kv_cache *c)
{
	if (!c)
		return;
	for (int i = 0; i < c->nslots; i++) {
		struct kv_slot *s = &c->slots[i];

		if (s->memory)
			munmap(s->memory, c->slot_bytes);
		free(s->layers);
		free(s->tokens);
	}
	free(c->slots);
	free(c);
}

struct kkv kv_layer_shape(const struct kv_cache *c, int layer)
{
	ASSERT(layer >= 0 && layer < c->layers);
	return c->shape;
}

size_t kv_bytes_max(const struct kv_cache *c)
{
	return c->slot_bytes * (size_t)c->nslots;
}

static void slot_reserve(const struct kv_cache *c, struct kv_slot *s)
{
	size_t each = c->slot_bytes / (2 * (size_t)c->layers);
	uint8_t *p;

	if (s->memory)
		return;
	p = mmap(NULL, c->slot_bytes, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ASSERT(p != MAP_FAILED);
	s->memory = p;
	s->tokens = xcalloc((size_t)c->shape.capacity, sizeof(*s->tokens));
	s->layers = xcalloc((size_t)c->layers, sizeof(*s->layers));
	for (int i = 0; i < c->layers; i++) {
		s->layers[i] = c->shape;
		s->layers[i].k = (uint16_t *)(p + each * 2 * (size_t)i);
		s->layers[i].v = (uint16_t *)(p + each * (2 * (size_t)i + 1));
	}
}

int kv_common(const struct kv_slot *s, const int32_t *prompt, int n)
{
	int max = s->n < n - 1 ? s->n : n - 1, i = 0;

	while (i < max && s->tokens[i] == prompt[i])
		i++;
	return i;
}

/* Is what this slot shares with the prompt worth more than what taking it would destroy?  Without
 * this, a system prompt that all conversations begin with would send each new one onto the slot of a
 * long one.  Lost tokens weigh a quarter: most conversations do not go on. */
static bool worth(const struct kv_slot *s, int common)
{
	return common > 0 && common > (s->n - common) / LOSS_SHARE;
}

struct kv_slot *kv_oldest(struct kv_cache *c)
{
	struct kv_slot *oldest = NULL;

	for (int i = 0; i < c->nslots; i++) {
		struct kv_slot *s = &c->slots[i];

		if (!s->taken && (!oldest || s->used < oldest->used))
			oldest = s;
	}
	return oldest;
}

struct kv_slot *kv_choose(struct kv_cache *c, const int32_t *prompt, int n, int *common)
{
	struct kv_slot *best = NULL;
	int best_common = 0;

	ASSERT(n >= 1 && n <= c->ctx);
	for (int i = 0; i < c->nslots; i++) {
		struct kv_slot *s = &c->slots[i];
		int k;

		if (s->taken)
			continue;
		k = kv_common(s, prompt, n);
		if (k > best_common && worth(s, k)) {
			best = s;
			best_common = k;
		}
	}
	if (!best)
		best = kv_oldest(c);
	*common = best ? kv_common(best, prompt, n) : 0;
	return best;
}

void kv_claim(struct kv_cache *c, struct kv_slot *s, int keep)
{
	ASSERT(!s->taken && keep <= s->n);
	slot_reserve(c, s);
	s->taken = true;
	s->n = keep;
	if (s->kept > keep)
		s->kept = keep;
}

struct kv_slot *kv_take(struct kv_cache *c, const int32_t *prompt, int n, int *common)
{
	struct kv_slot *s = kv_choose(c, prompt, n, common);

	if (s)
		kv_claim(c, s, *common);
	return s;
}

void kv_restored(struct kv_slot *s, const struct kv_cache *c, const int32_t *tokens,
		 int n)
{
	ASSERT(s->taken && n <= c->ctx);
	memcpy(s->tokens, tokens, (size_t)n * sizeof(*tokens));
	s->n = n;
}

void kv_give(struct kv_cache *c, struct kv_slot *s)
{
	ASSERT(s->taken);
	s->taken = false;
	s->used = ++c->clock;
	s->idle_ms = clock_mono_ms();
}

void kv_append(struct kv_slot *s, const struct kv_cache *c, const int32_t *tokens, int n)
{
	ASSERT(s->taken && n >= 0 && s->n + n <= c->ctx);
	memcpy(s->tokens + s->n, tokens, (size_t)n * sizeof(*tokens));
	s->n += n;
}
