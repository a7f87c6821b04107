/* Lines of bounded length.  Pure, any thread.
 *
 * A reader may ask why the engine's protocol does not use this: there a line that is too
 * long is a broken peer and ends it; here it is a log, and the next line is as good as any. */
#include "net/lines.h"

static void deliver(struct lines *l, lines_cb *cb, void *arg)
{
	struct str line = buf_str(&l->part);

	if (line.len && line.ptr[line.len - 1] == '\r')
		line.len--;
	if (line.len && !l->skipping)
		cb(arg, line);
	buf_clear(&l->part);
}

void lines_feed(struct lines *l, const char *p, size_t n, size_t max_bytes, lines_cb *cb,
		void *arg)
{
	while (n > 0) {
		const char *end = memchr(p, '\n', n);
		size_t take = end ? (size_t)(end - p) : n, room = max_bytes - l->part.len;

		if (!l->skipping)
			buf_add(&l->part, p, take < room ? take : room);
		if (end || (!l->skipping && l->part.len >= max_bytes)) {
			deliver(l, cb, arg);
			l->skipping = !end;
		}
		p += end ? take + 1 : take;
		n -= end ? take + 1 : take;
	}
}

void lines_finish(struct lines *l, lines_cb *cb, void *arg)
{
	deliver(l, cb, arg);
	l->skipping = false;
}

void lines_fini(struct lines *l)
{
	buf_free(&l->part);
}
