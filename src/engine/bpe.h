/* Byte-pair merging of one word: the part of a vocabulary that knows ids only, no text.
 *
 * struct bpe is filled once, then read by any thread; struct bpe_merger is the scratch
 * memory of one call. */
#ifndef HOB_BPE_H
#define HOB_BPE_H

#include "engine/merge_heap.h"
#include "engine/vocab.h"

struct bpe_merge {
	int32_t left, right; /* left < 0: a free slot */
	int32_t rank, result;
};

struct bpe {
	int32_t byte_ids[256];    /* VOCAB_NO_TOKEN: none */
	struct bpe_merge *merges; /* owned; open addressing, at most half full */
	size_t mask;
};

void bpe_init(struct bpe *b, size_t nmerges); /* room for so many; no bytes known yet */
void bpe_fini(struct bpe *b);
/* The first rank a pair is given counts. */
void bpe_add(struct bpe *b, int32_t left, int32_t right, int32_t rank, int32_t result);

struct bpe_symbol;

struct bpe_merger {
	const struct bpe *bpe;      /* borrowed */
	struct tokens *out;         /* borrowed */
	struct bpe_symbol *symbols; /* owned; room for cap */
	size_t cap;
	struct merge_heap heap;
};

/* Appends the word's tokens to m->out; at most VOCAB_MAX_WORD_BYTES. */
void bpe_merge_word(struct bpe_merger *m, struct str word);
void bpe_merger_fini(struct bpe_merger *m);

#endif
