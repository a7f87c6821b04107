/* The reader of server-sent events.  Owns three buffers; no thread of its own.
 *
 * A reader may question the copy into `line`: a line that lies whole in one piece is parsed in
 * place, only the halves at the borders of pieces are copied. */
#include "net/sse.h"

enum { BOM_BYTES = 3, BOM_DONE = 255 };

static const char bom[BOM_BYTES] = "\xef\xbb\xbf";

void sse_init(struct sse *s)
{
	*s = (struct sse){0};
}

void sse_fini(struct sse *s)
{
	buf_free(&s->line);
	buf_free(&s->data);
	buf_free(&s->type);
}

/* A blank line: 0 go on, 1 the reader was told to stop. */
static int dispatch(struct sse *s, sse_event_fn *fn, void *arg)
{
	struct buf data = s->data, type = s->type;
	bool go_on, has_data = s->has_data;

	/* fn may free s, so the event's bytes leave it first; an event without data is none. */
	s->data = s->type = (struct buf){0};
	s->has_data = false;
	go_on = !has_data || fn(arg, buf_str(&type), buf_str(&data));
	if (go_on) { /* the memory serves the next event */
		s->data = data;
		s->type = type;
		buf_clear(&s->data);
		buf_clear(&s->type);
		return 0;
	}
	buf_free(&data);
	buf_free(&type);
	return 1;
}

static int add_data(struct sse *s, struct str value, struct err *e)
{
	if (value.len + s->data.len + 1 > SSE_MAX_EVENT_BYTES)
		return err_set(e, ERR_UPSTREAM, "event stream: an event over %d bytes",
			       SSE_MAX_EVENT_BYTES);
	if (s->has_data)
		buf_addc(&s->data, '\n');
	buf_add(&s->data, value.ptr, value.len);
	s->has_data = true;
	return 0;
}

static int take_line(struct sse *s, struct str line, sse_event_fn *fn, void *arg,
		     struct err *e)
{
	struct str field = line, value = {"", 0};
	const char *colon = line.len ? memchr(line.ptr, ':', line.len) : NULL;

	if (line.len == 0)
		return dispatch(s, fn, arg);
	if (colon == line.ptr) {
		s->comments++;
		return 0;
	}
	if (colon) {
		field.len = (size_t)(colon - line.ptr);
		value = (struct str){colon + 1, line.len - field.len - 1};
		if (value.len && value.ptr[0] == ' ') /* one space, not more */
			value.ptr++, value.len--;
	}
	if (str_eq(field, "data"))
		return add_data(s, value, e);
	if (str_eq(field, "event")) {
		buf_clear(&s->type);
		buf_add(&s->type, value.ptr, value.len);
	}
	return 0; /* id, retry and unknown fields */
}

static size_t skip_bom(struct sse *s, const char *bytes, size_t n)
{
	size_t i = 0;

	while (s->bom != BOM_DONE && i < n) {
		if (bytes[i] != bom[s->bom]) { /* it was text after all */
			buf_add(&s->line, bom, s->bom);
			s->bom = BOM_DONE;
			break;
		}
		i++;
		if (++s->bom == BOM_BYTES)
			s->bom = BOM_DONE;
	}
	return i;
}

/* Bytes up to the first line end, which may be n: none here. */
static size_t line_len(const char *bytes, size_t n)
{
	const char *lf = memchr(bytes, '\n', n), *cr;

	n = lf ? (size_t)(lf - bytes) : n;
	cr = n ? memchr(bytes, '\r', n) : NULL;
	return cr ? (size_t)(cr - bytes) : n;
}

/* Ends a line whose last piece is given; the rest of it may wait in s->line. */
static int end_line(struct sse *s, struct str piece, sse_event_fn *fn, void *arg,
		    struct err *e)
{
	struct buf whole = s->line;
	int rc;

	if (whole.len == 0)
		return take_line(s, piece, fn, arg, e);
	buf_add(&whole, piece.ptr, piece.len);
	s->line = (struct buf){0}; /* fn may free s */
	rc = take_line(s, buf_str(&whole), fn, arg, e);
	if (rc == 0) {
		s->line = whole;
		buf_clear(&s->line);
	} else {
		buf_free(&whole);
	}
	return rc;
}

int sse_feed(struct sse *s, const char *bytes, size_t n, sse_event_fn *fn, void *arg,
	     struct err *e)
{
	size_t i = skip_bom(s, bytes, n), len;
	int rc;

	for (; i < n; i += len + 1) {
		if (s->after_cr && bytes[i] == '\n')
			i++;
		s->after_cr = false;
		if (i == n)
			break;
		len = line_len(bytes + i, n - i);
		if (s->line.len + len > SSE_MAX_LINE_BYTES)
			return err_set(e, ERR_UPSTREAM,
				       "event stream: a line over %d bytes",
				       SSE_MAX_LINE_BYTES);
		if (i + len == n) {
			buf_add(&s->line, bytes + i, len);
			break;
		}
		s->after_cr = bytes[i + len] == '\r';
		rc = end_line(s, (struct str){bytes + i, len}, fn, arg, e);
		if (rc)
			return rc;
	}
	return 0;
}

int sse_finish(struct sse *s, sse_event_fn *fn, void *arg, struct err *e)
{
	int rc = 0;

	if (s->line.len)
		rc = end_line(s, (struct str){"", 0}, fn, arg, e);
	return rc ? rc : dispatch(s, fn, arg);
}
