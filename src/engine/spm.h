/* Merging of characters into SentencePiece tokens: the part of a vocabulary of GGUF's kind "llama".
 *
 * Two neighbours may merge when their joint text is a token; the one with the highest score goes
 * first, the leftmost among equals.  A character that ends up in no token becomes the tokens of its
 * bytes.  struct spm is filled once, then read by any thread; struct spm_merger is the scratch memory
 * of one call. */
#ifndef HOB_SPM_H
#define HOB_SPM_H

#include "engine/merge_heap.h"
#include "engine/strmap.h"
#include "engine/vocab.h"

/* U+2581, which stands for a space in the spelling of tokens. */
#define SPM_SPACE "\xe2\x96\x81"

enum {
	SPM_NEVER = INT32_MAX, /* a rank: no merge makes this token */
	/* A text longer than this is cut before merging, at a space if there is one: bounds the
	   memory of one call. */
	SPM_MAX_TEXT_BYTES = 1 << 18,
};

struct spm {
	const struct strmap *by_text; /* borrowed: tokens as the file spells them */
	int32_t *ranks;        /* owned: of each token, lowest first, or SPM_NEVER */
	int32_t byte_ids[256]; /* VOCAB_NO_TOKEN: none */
	int32_t unknown; /* for bytes without a token; VOCAB_NO_TOKEN: they are dropped */
	size_t longest;  /* bytes of the longest token: nothing longer is looked up */
	bool space_prefix; /* does a text that follows no other begin with a space */
};

void spm_init(struct spm *s, const struct strmap *by_text, int ntokens);
void spm_fini(struct spm *s);
/* Lets merges make this token of so many bytes. */
void spm_allow(struct spm *s, int32_t id, size_t bytes, float score);

struct spm_symbol;

struct spm_merger {
	const struct spm *spm;      /* borrowed */
	struct tokens *out;         /* borrowed */
	struct spm_symbol *symbols; /* owned; room for cap */
	size_t cap;
	struct merge_heap heap;
};

/* Appends the tokens of a text that has SPM_SPACE for its spaces to m->out. */
void spm_merge_text(struct spm_merger *m, struct str text);
void spm_merger_fini(struct spm_merger *m);

#endif
