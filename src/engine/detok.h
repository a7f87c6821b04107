/* Tokens of one answer to UTF-8 text, one at a time.
 *
 * A token may end inside a character; those bytes are held back until the rest arrives.
 * What can never become a character is replaced by U+FFFD, so that everything handed out
 * is valid UTF-8.  One per answer; no lock. */
#ifndef HOB_DETOK_H
#define HOB_DETOK_H

#include "base/buf.h"
#include "engine/vocab.h"

struct detok {
	uint8_t held[4]; /* the start of a character */
	int nheld;
};

void detok_init(struct detok *d); /* zeroes; nothing to free */
void detok_push(struct detok *d, const struct vocab *v, int32_t id, struct buf *out);
void detok_push_bytes(struct detok *d, struct str bytes, struct buf *out);
void detok_flush(struct detok *d,
		 struct buf *out); /* an unfinished character becomes U+FFFD */

#endif
