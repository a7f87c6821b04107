/* Reads server-sent events from bytes that come in any pieces (WHATWG HTML §9.2).
 *
 * Pure: no I/O, no clock.  Lines end with LF, CRLF or CR, also across pieces; a byte order mark
 * at the start is skipped; comments are counted and dropped; several data lines join with LF.
 * Bytes are not decoded: an event is whole when it is delivered, so a character that was split
 * on the way is whole again. */
#ifndef HOB_SSE_H
#define HOB_SSE_H

#include "base/buf.h"
#include "base/err.h"

enum { SSE_MAX_LINE_BYTES = 1 << 20, SSE_MAX_EVENT_BYTES = 4 << 20 };

struct sse {
	struct buf line; /* owned: the unfinished line */
	struct buf data; /* owned: data lines of the unfinished event */
	struct buf type; /* owned: its event field */
	bool has_data;
	bool after_cr; /* a LF now belongs to the CR before */
	uint8_t bom;   /* bytes of the mark seen; BOM_DONE afterwards */
	unsigned comments;
};

/* type is empty when the event has none.  Both borrowed until it returns.  False stops the
 * reader: the struct sse may be gone by then and is not touched again. */
typedef bool sse_event_fn(void *arg, struct str type, struct str data);

void sse_init(struct sse *s);
void sse_fini(struct sse *s);
/* 0: all bytes were used; 1: fn said stop; -1 ERR_UPSTREAM: a line or event over its limit. */
int sse_feed(struct sse *s, const char *bytes, size_t n, sse_event_fn *fn, void *arg,
	     struct err *e);
/* The stream is over: delivers a last event that lacks its blank line. */
int sse_finish(struct sse *s, sse_event_fn *fn, void *arg, struct err *e);

#endif
