/* Handlers for OpenAI's paths and the life of one answer.
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
#include "api/openai.h"

#include <time.h>
#include "api/persona.h"
#include "base/log.h"
#include "route/dispatch.h"

enum {
	HEAD_AFTER_MS = 2000,
	HEAD_PROGRESS_MS = 200,
	COMMENT_EVERY_MS = 5000,
	CLIENT_NAME_BYTES = 64,
	FIELDS_BYTES = 256, /* of x-hob-…: most are shorter, so one allocation */
	WHOLE_BYTES = 1000, /* of a whole reply without its text, alike */
};

struct answer {
	struct exchange exchange;
	struct event_sink sink;
	uv_timer_t timer; /* streams: head, then comments */
	struct conn *conn;
	struct dispatch_job *job; /* NULL after its end */
	struct openai_encoder enc;
	bool is_stream, head_sent, text_seen;
	bool wants_progress; /* named events beside the comments */
	enum progress_stage stage;
	int64_t done, total; /* as struct event's */
};

/* -- the end -- */

static void on_timer_closed(uv_handle_t *h)
{
	struct answer *a = h->data;

	openai_encoder_fini(&a->enc);
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

	log_debug("%s: the client has left", a->enc.id);
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
	openai_add_fields(&a->enc, &fields);
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

static void stream_delta(struct answer *a, const struct event *ev)
{
	if (!a->text_seen)
		uv_timer_stop(&a->timer);
	a->text_seen = true;
	send_head(a);
	openai_add_delta(&a->enc, ev, http_chunk_begin(a->conn));
	http_chunk_end(a->conn);
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
		openai_add_stream_error(why, http_chunk_begin(a->conn));
		http_chunk_end(a->conn);
		http_stream_end(a->conn);
	} else {
		openai_add_fields(&a->enc, &fields);
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
		openai_add_finish(&a->enc, ev, http_chunk_begin(a->conn));
		http_chunk_end(a->conn);
		http_stream_end(a->conn);
	} else {
		openai_finished(&a->enc, ev);
		openai_add_fields(&a->enc, &fields);
		buf_reserve(&out, WHOLE_BYTES + a->enc.text.len);
		openai_add_whole(&a->enc, ev, &out);
		http_reply(a->conn, 200, "application/json", fields.data, buf_str(&out));
		buf_free(&fields);
		buf_free(&out);
	}
	answer_close(a);
}

static void whole_delta(struct answer *a, const struct event *ev)
{
	struct err e = {0};

	if (openai_gather(&a->enc, ev, &e) == 0)
		return;
	dispatch_cancel(a->job);
	a->job = NULL;
	fail(a, &e);
}

static void on_event(struct event_sink *sink, const struct event *ev)
{
	struct answer *a = CONTAINER_OF(sink, struct answer, sink);

	switch (ev->type) {
	case EVENT_STARTED:
		openai_started(&a->enc, ev);
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

/* -- requests -- */

/* Who asks, for rules: what it says, else the product of its User-Agent ("zed/0.1 (…)" is zed). */
static int read_client(const struct http_request *h, struct request *r, struct err *e)
{
	struct str name = http_header(h, "x-hob-client");
	struct str agent = http_header(h, "user-agent");
	size_t n = 0;

	if (name.len > CLIENT_NAME_BYTES)
		return err_set(e, ERR_INVALID, "x-hob-client has at most %d bytes",
			       CLIENT_NAME_BYTES);
	if (name.len) {
		r->client_name = str_dup(name);
		return 0;
	}
	while (n < agent.len && n < CLIENT_NAME_BYTES && agent.ptr[n] > ' ' &&
	       agent.ptr[n] != '/' && agent.ptr[n] != 0x7F)
		n++;
	if (n)
		r->client_name = xstrndup(agent.ptr, n);
	return 0;
}

static int read_budget(const struct http_request *h, struct request *r, struct err *e)
{
	struct str budget = http_header(h, "x-hob-budget");
	char text[32], *end;
	double usd;

	if (!budget.ptr)
		return 0;
	snprintf(text, sizeof text, "%.*s", budget.len < 32 ? (int)budget.len : 31,
		 budget.ptr);
	usd = strtod(text, &end);
	if (!budget.len || budget.len >= sizeof text || *end || end == text ||
	    !(usd >= 0 && usd <= 1e6))
		return err_set(e, ERR_INVALID,
			       "x-hob-budget must be an amount in USD, such as 0.05");
	r->budget_usd = usd;
	return 0;
}

static int read_fields(const struct http_request *h, struct request *r, struct err *e)
{
	static const struct {
		const char *name;
		enum request_class class;
	} classes[] = {
		{"interactive", CLASS_INTERACTIVE},
		{"completion", CLASS_COMPLETION},
		{"batch", CLASS_BATCH},
	};
	struct str conversation = http_header(h, "x-hob-conversation");
	struct str is_private = http_header(h, "x-hob-private");
	struct str class = http_header(h, "x-hob-class");
	struct str supersede = http_header(h, "x-hob-supersede");
	struct str persona = http_header(h, "x-hob-persona");
	size_t i = 0;

	if (conversation.ptr && openai_set_conversation(r, conversation, e) != 0)
		return -1;
	if (persona.ptr && persona_set(r, persona, e) != 0)
		return -1;
	if (read_client(h, r, e) < 0 || read_budget(h, r, e) < 0)
		return -1;
	if (is_private.ptr && !str_eq(is_private, "0") && !str_eq(is_private, "1"))
		return err_set(e, ERR_INVALID, "x-hob-private must be 0 or 1");
	r->is_private = is_private.ptr && str_eq(is_private, "1");
	if (supersede.len > REQUEST_MAX_SUPERSEDE_BYTES)
		return err_set(e, ERR_INVALID, "x-hob-supersede has at most %d bytes",
			       REQUEST_MAX_SUPERSEDE_BYTES);
	if (supersede.len)
		r->supersede = str_dup(supersede);
	if (!class.ptr)
		return 0;
	while (i < ARRAY_LEN(classes) && !str_eq_nocase(class, classes[i].name))
		i++;
	if (i == ARRAY_LEN(classes))
		return err_set(e, ERR_INVALID,
			       "x-hob-class must be interactive, completion or batch");
	r->class = classes[i].class;
	return 0;
}

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

static void start(const struct call *call, struct request *r,
		  const struct openai_params *p)
{
	struct answer *a = xcalloc(1, sizeof(*a));

	a->exchange.abort = on_abort;
	a->exchange.pause = on_pause;
	a->sink.event = on_event;
	a->conn = call->conn;
	a->is_stream = p->stream;
	a->wants_progress = str_eq(http_header(call->http, "x-hob-progress"), "1");
	set_id(r);
	r->client = conn_peer(a->conn).client;
	openai_encoder_init(&a->enc, r, p);
	uv_timer_init(conn_loop(a->conn), &a->timer);
	a->timer.data = a;
	if (a->is_stream)
		uv_timer_start(&a->timer, on_timer,
			       a->wants_progress ? HEAD_PROGRESS_MS : HEAD_AFTER_MS,
			       COMMENT_EVERY_MS);
	exchange_begin(a->conn, &a->exchange);
	a->job = dispatch_start(call->api->dispatch, r, &a->sink);
}

struct request *openai_read(const struct call *call, bool is_chat,
			    struct openai_params *p, struct err *e)
{
	struct request *r = openai_decode(call->http->body, is_chat, p, e);

	if (r && read_fields(call->http, r, e) == 0 &&
	    persona_apply(call->api->personas, call->api->config, r, e) == 0)
		return r;
	request_free(r);
	return NULL;
}

static void complete(const struct call *call, bool is_chat)
{
	struct openai_params p;
	struct err e = {0};
	struct request *r = openai_read(call, is_chat, &p, &e);

	if (r)
		start(call, r, &p);
	else
		api_reply_error(call->conn, &e);
}

void openai_chat(const struct call *call)
{
	complete(call, true);
}

void openai_completion(const struct call *call)
{
	complete(call, false);
}
