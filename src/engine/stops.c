/* Stop strings over a stream.  One per answer, on the engine's thread.
 *
 * Held bytes plus new text are searched by plain comparison at each position: stop
 * strings are few and short, text comes a word at a time. */
#include "engine/stops.h"

bool stops_init(struct stops *s, const struct str *strings, int n)
{
	*s = (struct stops){0};
	if (n > STOPS_MAX)
		return false;
	s->strings = xcalloc(STOPS_MAX, sizeof(*s->strings));
	for (int i = 0; i < n; i++) {
		if (strings[i].len > STOPS_MAX_BYTES) {
			stops_free(s);
			return false;
		}
		if (strings[i].len == 0)
			continue;
		buf_add(&s->strings[s->n++], strings[i].ptr, strings[i].len);
		if (strings[i].len > s->longest)
			s->longest = strings[i].len;
	}
	return true;
}

void stops_free(struct stops *s)
{
	for (int i = 0; i < s->n; i++)
		buf_free(&s->strings[i]);
	free(s->strings);
	buf_free(&s->held);
	*s = (struct stops){0};
}

enum fit { NO, PERHAPS, YES };

/* Does a stop string begin at the front of text, which may be cut short? */
static enum fit begins(const struct stops *s, struct str text)
{
	enum fit best = NO;

	for (int i = 0; i < s->n; i++) {
		struct str stop = buf_str(&s->strings[i]);
		size_t n = stop.len < text.len ? stop.len : text.len;

		if (memcmp(stop.ptr, text.ptr, n))
			continue;
		if (n == stop.len)
			return YES;
		best = PERHAPS;
	}
	return best;
}

bool stops_feed(struct stops *s, struct str text, struct buf *out)
{
	size_t at = 0;
	enum fit fit = NO;

	if (s->hit)
		return true;
	if (s->n == 0) {
		buf_add(out, text.ptr, text.len);
		return false;
	}
	buf_add(&s->held, text.ptr, text.len);
	for (; at < s->held.len; at++) {
		fit = begins(s, (struct str){s->held.data + at, s->held.len - at});
		if (fit != NO)
			break; /* later text waits even if it cannot stop: order is kept
				*/
	}
	buf_add(out, s->held.data, at);
	buf_drop(&s->held, at);
	if (fit == YES) {
		s->hit = true;
		buf_clear(&s->held);
	}
	return s->hit;
}

void stops_flush(struct stops *s, struct buf *out)
{
	if (!s->hit)
		buf_add(out, s->held.data, s->held.len);
	buf_clear(&s->held);
}
