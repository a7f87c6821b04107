/* The life of one answer, whatever dialect it is written in: OpenAI's chat, completions, responses.
 *
 * Loop thread.  A dialect is a table of functions over an encoder; the answer owns the encoder.
 * Whole SSE events and whole JSON objects only. */
#ifndef HOB_REPLY_H
#define HOB_REPLY_H

#include "net/conn.h"
#include "route/event.h"
#include "route/request.h"

struct dispatch;

struct reply_dialect {
	void (*started)(void *enc, const struct event *ev);
	/* Whole lines for the reply's head; called before and after started(). */
	void (*add_fields)(const void *enc, struct buf *head);
	/* A stream's text, reasoning or tool call.  -1: the answer cannot go on; the job is cancelled. */
	int (*delta)(void *enc, const struct event *ev, struct buf *out, struct err *e);
	void (*finish)(void *enc, const struct event *ev, struct buf *out);
	void (*fail)(void *enc, const struct err *why, struct buf *out);
	/* A whole reply: gathered, then finished() before the head, then the object. */
	int (*gather)(void *enc, const struct event *ev, struct err *e);
	void (*finished)(void *enc, const struct event *ev);
	void (*whole)(void *enc, const struct event *ev, struct buf *out);
	void (*free)(void *enc);
};

/* Names it, in r->id and for fairness by its client. */
void reply_identify(const struct conn *c, struct request *r);
/* Takes r and enc.  The connection has no exchange yet. */
void reply_start(struct conn *c, struct dispatch *d, struct request *r, bool is_stream,
		 const struct reply_dialect *dialect, void *enc);

#endif
