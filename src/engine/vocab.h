/* Text to token ids and back, for vocabularies of byte-pair encoding ("gpt2" in GGUF) and of
 * SentencePiece with scores and byte fallback ("llama").
 *
 * Immutable after vocab_new(); each call has its own scratch memory: any thread may use
 * one. Owns copies of all it needs, so the gguf may be closed.
 *
 * Tokens of three kinds: normal ones are merged from bytes; user-defined ones are taken
 * whole wherever their text stands, in a user's text too, as the models were trained;
 * control tokens are never made from a user's text.  Whatever ends a generation or looks
 * like <|this|> is a control token, even in files that say otherwise. */
#ifndef HOB_VOCAB_H
#define HOB_VOCAB_H

#include "engine/gguf.h"

enum {
	VOCAB_MAX_TOKENS = 1 << 20,
	VOCAB_MAX_TOKEN_BYTES = 65535,
	/* A pre-token longer than this is cut before merging: bounds time and memory of
	   one merge. */
	VOCAB_MAX_WORD_BYTES = 1 << 16,
	VOCAB_NO_TOKEN = -1
};

struct tokens {
	int32_t *ids; /* owned */
	size_t n, cap;
};

void tokens_add(struct tokens *t, int32_t id);
void tokens_free(struct tokens *t); /* leaves an empty, usable one */

struct vocab;

/* NULL: ERR_UNSUPPORTED (another kind of tokenizer, unknown pre-tokeniser: named in the
 * text), ERR_CORRUPT (keys missing or contradicting each other). */
struct vocab *vocab_new(const struct gguf *g, struct err *e);
void vocab_free(struct vocab *v);

int vocab_size(const struct vocab *v);
int32_t vocab_bos(const struct vocab *v); /* VOCAB_NO_TOKEN when there is none */
int32_t vocab_eos(const struct vocab *v);
bool vocab_add_bos(
	const struct vocab *v); /* does the file ask for BOS in front of a prompt */
bool vocab_is_eog(const struct vocab *v, int32_t id);     /* ends a generation */
bool vocab_is_control(const struct vocab *v, int32_t id); /* special: shows nothing */

/* Appends to *out.  Text of special tokens is recognised only with parse_special, which
 * is for the project's own markers: what a user wrote is always encoded without.  add_bos
 * puts BOS first if the vocabulary has one.  Bytes that are not UTF-8 are encoded byte by
 * byte.  A byte that the vocabulary has no token for is dropped first, as transformers
 * does (SmolLM2 lacks 21: six control characters, and bytes of characters that it never
 * saw). */
void vocab_encode(const struct vocab *v, struct str text, bool parse_special,
		  bool add_bos, struct tokens *out);

/* The bytes of a token; maybe part of a character.  Empty for control tokens (unless
 * with_control) and for ids outside the vocabulary.  Borrows from the vocabulary. */
struct str vocab_piece(const struct vocab *v, int32_t id, bool with_control);

/* The token whose literal text this is (special ones by their spelling, and all those of
 * SentencePiece: "\u2581the", "<0x0A>"); VOCAB_NO_TOKEN when none. */
int32_t vocab_find(const struct vocab *v, struct str text);

#endif
