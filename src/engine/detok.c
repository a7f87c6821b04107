/* Bytes of tokens to whole UTF-8 characters.  One per answer, on the engine's thread. */
#include "engine/detok.h"

#include "engine/utf8.h"

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

void detok_init(struct detok *d)
{
	*d = (struct detok){.nheld = 0};
}

/* Decides about the held bytes as far as they can be decided. */
static void settle(struct detok *d, struct buf *out)
{
	while (d->nheld) {
		size_t len;
		enum utf8_kind kind = utf8_next(d->held, (size_t)d->nheld, &len);

		if (kind == UTF8_PARTIAL)
			return;
		if (kind == UTF8_WHOLE)
			buf_add(out, d->held, len);
		else
			buf_adds(out, REPLACEMENT);
		d->nheld -= (int)len;
		memmove(d->held, d->held + len, (size_t)d->nheld);
	}
}

void detok_push_bytes(struct detok *d, struct str bytes, struct buf *out)
{
	/* A byte at a time: held never holds more than one character, and pieces are
	 * short. */
	for (size_t i = 0; i < bytes.len; i++) {
		d->held[d->nheld++] = (uint8_t)bytes.ptr[i];
		settle(d, out);
	}
}

void detok_push(struct detok *d, const struct vocab *v, int32_t id, struct buf *out)
{
	detok_push_bytes(d, vocab_piece(v, id, false), out);
}

void detok_flush(struct detok *d, struct buf *out)
{
	if (d->nheld)
		buf_adds(out, REPLACEMENT);
	d->nheld = 0;
}
