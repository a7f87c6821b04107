/* A binary heap of merges.  Any thread. */
#include "engine/merge_heap.h"

void merge_heap_reset(struct merge_heap *h, size_t most)
{
	size_t bytes;

	h->n = 0;
	if (most <= h->cap)
		return;
	h->cap = most;
	ASSERT(size_mul(h->cap, sizeof(*h->items), &bytes));
	h->items = xrealloc(h->items, bytes);
}

void merge_heap_fini(struct merge_heap *h)
{
	free(h->items);
	*h = (struct merge_heap){0};
}

static bool sooner(const struct merge *a, const struct merge *b)
{
	return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

void merge_heap_push(struct merge_heap *h, struct merge m)
{
	size_t i = h->n++;

	ASSERT(h->n <= h->cap);
	while (i > 0 && sooner(&m, &h->items[(i - 1) / 2])) {
		h->items[i] = h->items[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	h->items[i] = m;
}

struct merge merge_heap_pop(struct merge_heap *h)
{
	struct merge top, last;
	size_t i = 0;

	ASSERT(h->n > 0);
	top = h->items[0];
	last = h->items[--h->n];
	for (;;) {
		size_t child = 2 * i + 1;

		if (child >= h->n)
			break;
		if (child + 1 < h->n && sooner(&h->items[child + 1], &h->items[child]))
			child++;
		if (!sooner(&h->items[child], &last))
			break;
		h->items[i] = h->items[child];
		i = child;
	}
	h->items[i] = last;
	return top;
}
