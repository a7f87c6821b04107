/* Pasted text: made fit for a line editor, and large ones stood for by a placeholder.
 *
 * Main thread, no input or output of its own. */
#ifndef HOB_LINES_PASTE_H
#define HOB_LINES_PASTE_H

#include "base/buf.h"

enum {
	PASTE_INLINE_MAX_LINES = 10, /* more: a placeholder */
	PASTE_INLINE_MAX_BYTES = 2000,
	PASTE_MAX_BYTES = 4 << 20,
	PASTE_MAX = 64, /* placeholders in one line */
};

struct paste {
	char *mark, *text; /* owned: "[pasted 200 lines]" and what it stands for */
};

struct pastes {
	struct paste all[PASTE_MAX];
	int n;
};

/* Where ESC[201~ begins in b, looking from byte `from` on; -1: not there yet. */
long paste_end(const struct buf *b, size_t from);
/* What is shown for a paste: the text itself when it is small, else a placeholder that is remembered.
 * The text first gets newlines for CR and CR LF, loses NUL and U+FFFD stands for broken UTF-8. Owned. */
char *pastes_take(struct pastes *p, struct str raw);
/* Placeholders become what they stand for. */
void pastes_expand(const struct pastes *p, struct str line, struct buf *out);
/* Bytes of the placeholder that ends where `before` does; 0: none. */
size_t pastes_ending(const struct pastes *p, struct str before);
void pastes_clear(struct pastes *p);

#endif
