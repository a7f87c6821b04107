/* SentencePiece merging.  Any thread.
 *
 * There is no table of merges: whether two pieces make a token is looked up by their joint text, so a
 * piece need not be a token itself.  Pieces are a linked list over the text and merges a heap, which
 * makes O(n log n) look-ups.  A merge whose pieces have grown since is passed over when it comes up.
 * Characters are taken by their first byte alone, valid or not, as llama.cpp does: what is no
 * character falls to bytes in the end. */
#include "engine/spm.h"

#define SPACE_BYTES (sizeof(SPM_SPACE) - 1)

void spm_init(struct spm *s, const struct strmap *by_text, int ntokens)
{
	*s = (struct spm){.by_text = by_text, .unknown = VOCAB_NO_TOKEN};
	s->ranks = xcalloc((size_t)ntokens, sizeof(*s->ranks));
	for (int i = 0; i < ntokens; i++)
		s->ranks[i] = SPM_NEVER;
	for (int i = 0; i < 256; i++)
		s->byte_ids[i] = VOCAB_NO_TOKEN;
}

void spm_fini(struct spm *s)
{
	free(s->ranks);
	*s = (struct spm){0};
}

/* A float's bits, the sign's meaning turned round for negative ones, are in the order of floats; the
 * complement puts the highest score first. */
static int32_t rank_of(float score)
{
	int32_t bits;

	score += 0.0f; /* -0 is 0 */
	memcpy(&bits, &score, sizeof(bits));
	return ~(bits < 0 ? bits ^ INT32_MAX : bits);
}

void spm_allow(struct spm *s, int32_t id, size_t bytes, float score)
{
	s->ranks[id] = rank_of(score);
	if (bytes > s->longest)
		s->longest = bytes;
}

struct spm_symbol {
	int at, bytes;  /* in the text; 0 bytes: merged into the one before it */
	int prev, next; /* -1: none */
};

static int character_bytes(uint8_t first)
{
	return first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : first >= 0xc0 ? 2 : 1;
}

static int32_t token_of(const struct spm *s, const char *p, size_t n)
{
	int32_t id = n <= s->longest ? strmap_get(s->by_text, (struct str){p, n}) : -1;

	return id >= 0 && s->ranks[id] != SPM_NEVER ? id : VOCAB_NO_TOKEN;
}

/* Pushes the merge of symbol `at` with the next one, if there is such a merge. */
static void consider(struct spm_merger *m, const char *text, int at)
{
	const struct spm_symbol *s = &m->symbols[at];
	int right;
	int32_t id;

	if (s->next < 0)
		return;
	right = m->symbols[s->next].bytes;
	id = token_of(m->spm, text + s->at, (size_t)(s->bytes + right));
	if (id >= 0)
		merge_heap_push(&m->heap, (struct merge){m->spm->ranks[id], at, s->bytes,
							 right, id});
}

static void apply(struct spm_merger *m, const char *text, const struct merge *c)
{
	struct spm_symbol *s = &m->symbols[c->at], *next;

	if (s->bytes != c->left || s->next < 0 || m->symbols[s->next].bytes != c->right)
		return;
	next = &m->symbols[s->next];
	s->bytes += next->bytes;
	next->bytes = 0;
	s->next = next->next;
	if (s->next >= 0)
		m->symbols[s->next].prev = c->at;
	if (s->prev >= 0)
		consider(m, text, s->prev);
	consider(m, text, c->at);
}

static void emit(struct spm_merger *m, const char *p, int n)
{
	const struct spm *s = m->spm;
	int32_t id = token_of(s, p, (size_t)n);

	if (id >= 0) {
		tokens_add(m->out, id);
		return;
	}
	for (int i = 0; i < n; i++) {
		id = s->byte_ids[(uint8_t)p[i]];
		if (id < 0)
			id = s->unknown;
		if (id >= 0)
			tokens_add(m->out, id);
	}
}

static void reserve(struct spm_merger *m, size_t n)
{
	size_t bytes;

	if (n > m->cap) {
		m->cap = n < 256 ? 256 : n;
		ASSERT(size_mul(m->cap, sizeof(*m->symbols), &bytes));
		m->symbols = xrealloc(m->symbols, bytes);
	}
	/* n - 1 merges at the start, and each one done brings two at most. */
	merge_heap_reset(&m->heap, 3 * m->cap);
}

static int split(struct spm_merger *m, struct str text)
{
	int n = 0;

	for (size_t at = 0; at < text.len; n++) {
		int bytes = character_bytes((uint8_t)text.ptr[at]);

		if ((size_t)bytes > text.len - at)
			bytes = (int)(text.len - at);
		m->symbols[n] = (struct spm_symbol){(int)at, bytes, n - 1, n + 1};
		at += (size_t)bytes;
	}
	m->symbols[n - 1].next = -1;
	return n;
}

static void merge_part(struct spm_merger *m, struct str text)
{
	int n;

	reserve(m, text.len);
	n = split(m, text);
	for (int i = 0; i < n; i++)
		consider(m, text.ptr, i);
	while (m->heap.n) {
		struct merge c = merge_heap_pop(&m->heap);

		apply(m, text.ptr, &c);
	}
	for (int i = 0; i >= 0; i = m->symbols[i].next)
		emit(m, text.ptr + m->symbols[i].at, m->symbols[i].bytes);
}

/* Where to cut a text that is too long: in front of its last single space, where hardly a token
 * goes across, or else between two characters. */
static size_t cut_at(struct str text)
{
	size_t at = SPM_MAX_TEXT_BYTES;

	if (text.len <= at)
		return text.len;
	for (size_t i = at; i > at / 2; i--)
		if (!memcmp(text.ptr + i - SPACE_BYTES, SPM_SPACE, SPACE_BYTES) &&
		    memcmp(text.ptr + i - 2 * SPACE_BYTES, SPM_SPACE, SPACE_BYTES) != 0)
			return i - SPACE_BYTES;
	while (at > SPM_MAX_TEXT_BYTES - 4 && ((uint8_t)text.ptr[at] & 0xc0) == 0x80)
		at--;
	return at;
}

void spm_merge_text(struct spm_merger *m, struct str text)
{
	while (text.len) {
		size_t n = cut_at(text);

		merge_part(m, (struct str){text.ptr, n});
		text.ptr += n;
		text.len -= n;
	}
}

void spm_merger_fini(struct spm_merger *m)
{
	free(m->symbols);
	merge_heap_fini(&m->heap);
	*m = (struct spm_merger){0};
}
