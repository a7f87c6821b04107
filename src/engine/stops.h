/* Stop strings across token borders.
 *
 * Text is fed as it comes; what could still be the beginning of a stop string is held
 * back. When one is complete, the text before it is out, itself and all behind it is
 * dropped.  The one that starts first wins.  One per answer; no lock. */
#ifndef HOB_STOPS_H
#define HOB_STOPS_H

#include "base/buf.h"

enum { STOPS_MAX = 16, STOPS_MAX_BYTES = 1024 /* longer ones are refused */ };

struct stops {
	struct buf *strings; /* owned, n of them, none empty */
	int n;
	size_t longest;
	struct buf held; /* at most longest - 1 bytes between calls */
	bool hit;
};

/* Copies; empty strings are skipped; false (and empty) when there are more or longer ones
 * than the caps allow. */
bool stops_init(struct stops *s, const struct str *strings, int n);
void stops_free(struct stops *s);
/* Appends to *out what is safe; true once a stop string was hit (further text is
 * dropped). */
bool stops_feed(struct stops *s, struct str text, struct buf *out);
void stops_flush(struct stops *s,
		 struct buf *out); /* the end: what was held, unless one was hit */

#endif
