/* Byte-pair merging.  Any thread.
 *
 * The pieces of a word are a linked list, the possible merges a heap, lowest rank first
 * and leftmost among equals: O(n log n).  A merge whose pieces have changed since it was
 * pushed stays in the heap and is passed over when it comes up. */
#include "engine/bpe.h"

void bpe_init(struct bpe *b, size_t nmerges)
{
	size_t slots = 16;

	while (slots < 2 * nmerges)
		slots *= 2;
	b->merges = xmalloc(slots * sizeof(*b->merges));
	memset(b->merges, 0xff, slots * sizeof(*b->merges));
	b->mask = slots - 1;
	for (int i = 0; i < 256; i++)
		b->byte_ids[i] = VOCAB_NO_TOKEN;
}

void bpe_fini(struct bpe *b)
{
	free(b->merges);
	*b = (struct bpe){0};
}

static struct bpe_merge *find_merge(const struct bpe *b, int32_t left, int32_t right)
{
	uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
	/* The high half of a product with 2^64 / golden ratio: Fibonacci hashing. */
	size_t i = (size_t)((key * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & b->mask;

	while (b->merges[i].left >= 0 &&
	       (b->merges[i].left != left || b->merges[i].right != right))
		i = (i + 1) & b->mask;
	return &b->merges[i];
}

void bpe_add(struct bpe *b, int32_t left, int32_t right, int32_t rank, int32_t result)
{
	struct bpe_merge *m = find_merge(b, left, right);

	if (m->left < 0)
		*m = (struct bpe_merge){left, right, rank, result};
}

struct bpe_symbol {
	int32_t id;
	int prev, next; /* -1: none */
	bool dead;      /* merged into the one before it */
};

/* Pushes the merge of symbol `at` with the next one, if there is such a merge. */
static void consider(struct bpe_merger *m, int at)
{
	const struct bpe_symbol *s = &m->symbols[at];
	const struct bpe_merge *found;
	int32_t right;

	if (s->next < 0)
		return;
	right = m->symbols[s->next].id;
	found = find_merge(m->bpe, s->id, right);
	if (found->left >= 0)
		merge_heap_push(&m->heap, (struct merge){found->rank, at, s->id, right,
							 found->result});
}

static void apply(struct bpe_merger *m, const struct merge *c)
{
	struct bpe_symbol *s = &m->symbols[c->at], *next;

	if (s->dead || s->id != c->left || s->next < 0 ||
	    m->symbols[s->next].id != c->right)
		return;
	next = &m->symbols[s->next];
	next->dead = true;
	s->id = c->result;
	s->next = next->next;
	if (s->next >= 0)
		m->symbols[s->next].prev = c->at;
	consider(m, c->at);
	if (s->prev >= 0)
		consider(m, s->prev);
}

/* Of n symbols there are n - 1 merges at the start, and each merge brings two at most. */
static void reserve(struct bpe_merger *m, size_t n)
{
	if (n > m->cap) {
		m->cap = n < 256 ? 256 : 2 * n;
		m->symbols = xrealloc(m->symbols, m->cap * sizeof(*m->symbols));
	}
	merge_heap_reset(&m->heap, 3 * m->cap);
}

void bpe_merge_word(struct bpe_merger *m, struct str word)
{
	int n = 0;

	ASSERT(word.len <= VOCAB_MAX_WORD_BYTES);
	reserve(m, word.len);
	for (size_t i = 0; i < word.len; i++) {
		int32_t id = m->bpe->byte_ids[(uint8_t)word.ptr[i]];

		if (id >= 0) { /* else its neighbours meet, as in transformers */
			m->symbols[n] = (struct bpe_symbol){id, n - 1, n + 1, false};
			n++;
		}
	}
	if (n == 0)
		return;
	m->symbols[n - 1].next = -1;
	for (int i = 0; i < n; i++)
		consider(m, i);
	while (m->heap.n) {
		struct merge c = merge_heap_pop(&m->heap);

		apply(m, &c);
	}
	for (int i = 0; i >= 0; i = m->symbols[i].next)
		tokens_add(m->out, m->symbols[i].id);
}

void bpe_merger_fini(struct bpe_merger *m)
{
	free(m->symbols);
	merge_heap_fini(&m->heap);
	*m = (struct bpe_merger){0};
}
