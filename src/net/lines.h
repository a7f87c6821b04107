/* Bytes from a process into lines, each of bounded length.
 *
 * Any thread, one owner.  A line longer than the limit is delivered once, cut, and its rest
 * is dropped: a process that never ends a line cannot fill our memory. */
#ifndef HOB_LINES_H
#define HOB_LINES_H

#include "base/buf.h"

struct lines {
	struct buf part; /* of a line that has not ended */
	bool skipping;   /* its head was delivered already */
};

/* Without the newline (and without a carriage return before it); empty lines are left out.
 * The line is borrowed until the function returns.  It must not free what holds `l`. */
typedef void lines_cb(void *arg, struct str line);
void lines_feed(struct lines *l, const char *p, size_t n, size_t max_bytes, lines_cb *cb,
		void *arg);
void lines_finish(struct lines *l, lines_cb *cb, void *arg); /* a last one without end */
void lines_fini(struct lines *l);

#endif
