/* The place of a model's weights: addresses reserved once, and what is mapped there now.
 *
 * The range keeps its addresses for as long as the model is known, whatever comes and goes in it, so
 * pointers into it are made once.  It begins on a huge page with room for the head of a pack file, so that
 * such a file is mapped whole, from its beginning, as file systems with large pages want it.
 * One thread at a time changes what is mapped (loader.h says which); reading is for all. */
#ifndef HOB_WEIGHTS_H
#define HOB_WEIGHTS_H

#include "engine/pack_file.h"

enum weights_kind {
	WEIGHTS_NONE,      /* reserved; a touch is a fault */
	WEIGHTS_ANONYMOUS, /* huge pages where there are some */
	WEIGHTS_PACK       /* a pack file, shared with whoever maps it */
};

struct weights {
	enum weights_kind kind;
	uint8_t *base; /* of the range; NULL before weights_reserve() */
	size_t head_bytes, bytes;
	struct pack *pack; /* owned; WEIGHTS_PACK */
};

/* bytes: of the payload.  -1: ERR_MEMORY (no address space). */
int weights_reserve(struct weights *w, size_t bytes, struct err *e);
uint8_t *weights_data(const struct weights *w); /* of the payload, 64-byte aligned */
void weights_fini(struct weights *w);           /* zeroed is fine */

/* From NONE; writable and zero. */
int weights_anonymous(struct weights *w, struct err *e);
/* From NONE, or over ANONYMOUS with the same bytes: who reads meanwhile sees the one or the other.  Takes the pack
 * over if it succeeds. */
int weights_map(struct weights *w, struct pack *pack, struct err *e);
void weights_drop(struct weights *w); /* back to NONE */

/* Nobody will read them soon; they stay readable, and the kernel may take the pages first. */
void weights_cold(struct weights *w);
/* Brings [at, at + n) of the payload into memory and into our page tables.  False: it cannot be read. */
bool weights_populate(struct weights *w, size_t at, size_t n);

#endif
