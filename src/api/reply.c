/* One answer: from the dispatcher's events to a client's stream or whole reply.
 *
 * Loop thread.  An answer is owner of its dispatch job and holder of the client's exchange; it goes
 * when the reply is complete or the client has left, whichever is first.
 *
 *      waiting ─▶ (2 s or first text) head sent ─▶ text … ─▶ finished | failed
 *
 * The head of a stream waits for the first text, at most 2 s: a failure before that gets its
 * real HTTP status, and the head names what really answers, also after a fallback.  A client that
 * shows progress gets its head after 200 ms.  From then until the first text comment lines keep
 * the client from giving up. */
#include "api/reply.h"

#include <time.h>
#include "api/routes.h"
#include "base/log.h"
#include "route/dispatch.h"

enum {
	HEAD_AFTER_MS = 2000,
	HEAD_PROGRESS_MS = 200,
	COMMENT_EVERY_MS = 5000,
	FIELDS_BYTES = 256, /* of x-hob-…: most are shorter, so one allocation */
};

struct answer {
	struct exchange exchange;
	struct event_sink sink;
	uv_timer_t timer; /* streams: head, then comments */
	struct conn *conn;
	struct dispatch_job *job; /* NULL after its end */
	const struct reply_dialect *dialect;
	void *enc; /* owned, by the dialect */
	char id[REQUEST_ID_BYTES];
	bool is_stream, head_sent, text_seen;
	bool wants_progress; /* named events beside the comments */
	enum progress_stage stage;
	int64_t done, total; /* as struct event's */
};

/* -- the end -- */

static void on_timer_closed(uv_handle_t *h)
{
	struct answer *a = h->data;

	a->dialect->free(a->enc);
	free(a);
}

static void answer_close(struct answer *a)
{
	a->conn = NULL;
	uv_close((uv_handle_t *)&a->timer, on_timer_closed);
}

static void on_abort(struct exchange *x)
{
	struct answer *a = CONTAINER_OF(x, struct answer, exchange);

	log_debug("%s: the client has left", a->id);
	if (a->job)
		dispatch_cancel(a->job);
	a->job = NULL;
	answer_close(a);
}

static void on_pause(struct exchange *x, bool paused)
{
	struct answer *a = CONTAINER_OF(x, struct answer, exchange);

	if (a->job)
		dispatch_pause(a->job, paused);
}

/* -- streams -- */

static void send_head(struct answer *a)
{
	struct buf fields = {0};

	if (a->head_sent)
		return;
	a->head_sent = true;
	buf_reserve(&fields, FIELDS_BYTES);
	buf_adds(&fields, "Cache-Control: no-cache\r\n");
	a->dialect->add_fields(a->enc, &fields);
	http_stream_begin(a->conn, 200, "text/event-stream", fields.data);
	buf_free(&fields);
}

static void send_comment(struct answer *a)
{
	struct buf *out = http_chunk_begin(a->conn);

	buf_addf(out, ": hob %s", progress_stage_name(a->stage));
	if (a->total > 0)
		buf_addf(out, " %lld/%lld", (long long)a->done, (long long)a->total);
	if (a->wants_progress)
		buf_addf(out,
			 "\nevent: progress\ndata: {\"stage\":\"%s\",\"done\":%lld,"
			 "\"total\":%lld}",
			 progress_stage_name(a->stage), (long long)a->done,
			 (long long)a->total);
	buf_adds(out, "\n\n");
	http_chunk_end(a->conn);
}

static void on_timer(uv_timer_t *t)
{
	struct answer *a = t->data;

	if (a->text_seen || !a->conn)
		return;
	send_head(a);
	send_comment(a);
}

static void stream_progress(struct answer *a, const struct event *ev)
{
	bool news = a->wants_progress || ev->progress.stage != a->stage;

	a->stage = ev->progress.stage;
	a->done = ev->progress.done;
	a->total = ev->progress.total;
	if (news && a->head_sent && !a->text_seen)
		send_comment(a);
}

/* -- events -- */

static void fail(struct answer *a, const struct err *why)
{
	struct buf fields = {0};

	if (a->head_sent) {
		a->dialect->fail(a->enc, why, http_chunk_begin(a->conn));
		http_chunk_end(a->conn);
		http_stream_end(a->conn);
	} else {
		a->dialect->add_fields(a->enc, &fields);
		api_reply_error_status(a->conn, err_info(why->code)->http_status, why,
				       fields.data);
		buf_free(&fields);
	}
	answer_close(a);
}

static void finish(struct answer *a, const struct event *ev)
{
	struct buf fields = {0}, out = {0};

	if (a->is_stream) {
		send_head(a);
		a->dialect->finish(a->enc, ev, http_chunk_begin(a->conn));
		http_chunk_end(a->conn);
		http_stream_end(a->conn);
	} else {
		a->dialect->finished(a->enc, ev);
		a->dialect->add_fields(a->enc, &fields);
		a->dialect->whole(a->enc, ev, &out);
		http_reply(a->conn, 200, "application/json", fields.data, buf_str(&out));
		buf_free(&fields);
		buf_free(&out);
	}
	answer_close(a);
}

/* The answer grew over what it may have. */
static void give_up(struct answer *a, const struct err *e)
{
	dispatch_cancel(a->job);
	a->job = NULL;
	fail(a, e);
}

static void stream_delta(struct answer *a, const struct event *ev)
{
	struct err e = {0};
	int rc;

	if (!a->text_seen)
		uv_timer_stop(&a->timer);
	a->text_seen = true;
	send_head(a);
	rc = a->dialect->delta(a->enc, ev, http_chunk_begin(a->conn), &e);
	http_chunk_end(a->conn);
	if (rc < 0)
		give_up(a, &e);
}

static void whole_delta(struct answer *a, const struct event *ev)
{
	struct err e = {0};

	if (a->dialect->gather(a->enc, ev, &e) < 0)
		give_up(a, &e);
}

static void on_event(struct event_sink *sink, const struct event *ev)
{
	struct answer *a = CONTAINER_OF(sink, struct answer, sink);

	switch (ev->type) {
	case EVENT_STARTED:
		a->dialect->started(a->enc, ev);
		break;
	case EVENT_TEXT:
	case EVENT_REASONING:
	case EVENT_TOOL_CALL:
		(a->is_stream ? stream_delta : whole_delta)(a, ev);
		break;
	case EVENT_PROGRESS:
		stream_progress(a, ev);
		break;
	case EVENT_FINISHED:
		a->job = NULL;
		finish(a, ev);
		break;
	case EVENT_FAILED:
		a->job = NULL;
		fail(a, &ev->failed);
		break;
	}
}

/* -- the beginning -- */

/* The time in nanoseconds, shuffled: ids never meet in a log or in the store, and cost no system call. */
static void set_id(struct request *r)
{
	static const char hex[] = "0123456789abcdef";
	struct timespec now;
	uint64_t bits;
	char *p = r->id;

	clock_gettime(CLOCK_REALTIME, &now);
	bits = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
	bits *= UINT64_C(0x9E3779B97F4A7C15); /* odd: two times never give one id */
	memcpy(p, "hob-", 4);
	p += 4;
	for (int shift = 60; shift >= 0; shift -= 4)
		*p++ = hex[bits >> shift & 15];
	*p = 0;
}

void reply_identify(const struct conn *c, struct request *r)
{
	set_id(r);
	r->client = conn_peer(c).client;
}

void reply_start(struct conn *c, struct dispatch *d, struct request *r, bool is_stream,
		 const struct reply_dialect *dialect, void *enc)
{
	struct answer *a = xcalloc(1, sizeof(*a));

	a->exchange.abort = on_abort;
	a->exchange.pause = on_pause;
	a->sink.event = on_event;
	a->conn = c;
	a->dialect = dialect;
	a->enc = enc;
	a->is_stream = is_stream;
	a->wants_progress = str_eq(http_header(conn_request(c), "x-hob-progress"), "1");
	snprintf(a->id, sizeof a->id, "%s", r->id);
	uv_timer_init(conn_loop(c), &a->timer);
	a->timer.data = a;
	if (is_stream)
		uv_timer_start(&a->timer, on_timer,
			       a->wants_progress ? HEAD_PROGRESS_MS : HEAD_AFTER_MS,
			       COMMENT_EVERY_MS);
	exchange_begin(c, &a->exchange);
	a->job = dispatch_start(d, r, &a->sink);
}
