/* A call: its place in the queue, its sending, what it delivers and its end.  Loop thread.
 *
 *      SPARE ─▶ RUNNING ─▶ ENDED ─▶ SPARE       ENDED: by curl, or forbidden; the sink hears
 *         └──▶ WAITING ──┘                      of it when what had come is delivered
 *
 * What a reader may question:
 *  - Easy handles belong to an upstream and keep their options; a call sets its body.
 *  - libcurl sends a request again, up to five times and without asking, when a connection that
 *    had been used before died before a byte of the answer came: POSTs, too, and a generation
 *    would be paid for twice.  It does ask before each sending (CURLOPT_PREREQFUNCTION), and
 *    there the second one is refused.  That costs no copy of the body, which a read callback
 *    that cannot be rewound would.
 *  - curl's own connect timeout does not run while a call waits for a connection that another
 *    one makes (PIPEWAIT); ours does. */
#include "net/fetch_impl.h"

enum {
	MAX_SPARE = 16, /* warm handles kept for each upstream */
	MAX_RESTARTS = 3,
};

static const struct sm_state call_states[CALL_STATES] = {
	[CALL_SPARE] = {"spare",
			SM_TO(CALL_WAITING) | SM_TO(CALL_RUNNING) | SM_TO(CALL_ENDED)},
	[CALL_WAITING] = {"waiting",
			  SM_TO(CALL_RUNNING) | SM_TO(CALL_ENDED) | SM_TO(CALL_SPARE)},
	[CALL_RUNNING] = {"running", SM_TO(CALL_ENDED) | SM_TO(CALL_SPARE)},
	[CALL_ENDED] = {"ended", SM_TO(CALL_SPARE)},
};

static void call_move(struct fetch_call *c, enum call_state next)
{
	sm_move(call_states, "call", &c->state, next);
}

#define SET(option, value) curl_easy_setopt(c->easy, CURLOPT_##option, value)

/* ---- what it owes its sink */

void call_enqueue(struct fetch_call *c)
{
	if (c->queued)
		return;
	c->queued = true;
	TAILQ_INSERT_TAIL(&c->up->fetch->ready, c, ready_link);
}

void call_dequeue(struct fetch_call *c)
{
	if (c->queued)
		TAILQ_REMOVE(&c->up->fetch->ready, c, ready_link);
	c->queued = false;
}

/* ---- beginning */

static void call_begin(struct fetch_call *c)
{
	struct upstream *u = c->up;
	struct origin *o = u->origin;
	bool no_proxy = upstream_is_local(u) || u->fetch->local_only;

	call_move(c, CALL_RUNNING);
	if (c->is_warm)
		o->warming++;
	else
		o->running++;
	c->begin_ms = uv_now(u->fetch->loop);
	if (no_proxy != c->no_proxy)
		SET(NOPROXY, no_proxy ? "*" : NULL);
	c->no_proxy = no_proxy;
	SET(CONNECTTIMEOUT_MS,
	    (long)c->limits.connect); /* 0 is curl's own default, 300 s */
	SET(LOW_SPEED_TIME, call_backstop_s(c));
	/* Wait for a connection that is being made, since it will carry us too.  On a server that
	 * has shown to speak 1.1 alone we would wait for nothing. */
	SET(PIPEWAIT, o->tls && !u->http_1 && o->http_version != 11 ? 1L : 0L);
	sockets_drop_dead(o);
	curl_multi_add_handle(u->fetch->multi,
			      c->easy); /* asks for a timeout of zero, no more */
	call_watch(c);
}

/* In order of coming; a later one never overtakes. */
static void origin_pump(struct origin *o)
{
	struct fetch_call *c;

	while ((c = TAILQ_FIRST(&o->waiting)) && origin_has_room(o, c->up)) {
		TAILQ_REMOVE(&o->waiting, c, wait_link);
		c->up->stats->queued--;
		call_begin(c);
	}
}

static void set_body(struct fetch_call *c, struct buf *body)
{
	c->is_post = body != NULL;
	if (!body) {
		SET(HTTPGET, 1L);
		return;
	}
	c->body = *body;
	*body = (struct buf){0};
	SET(POST, 1L);
	SET(POSTFIELDSIZE_LARGE, (curl_off_t)c->body.len);
	SET(POSTFIELDS, c->body.data ? c->body.data : "");
}

static int on_request(void *arg, char *remote_ip, char *local_ip, int remote_port,
		      int local_port);
static size_t on_body(char *bytes, size_t size, size_t n, void *arg);

static struct fetch_call *call_new(struct upstream *u)
{
	struct fetch_call *c = xcalloc(1, sizeof *c);

	c->up = u;
	c->easy = curl_easy_init();
	ASSERT(c->easy);
	uv_timer_init(u->fetch->loop, &c->timer);
	c->timer.data = c;
	u->fetch->open_handles++;
	u->ncalls++;
	SET(PRIVATE, c);
	SET(ERRORBUFFER, c->detail);
	SET(WRITEFUNCTION, on_body);
	SET(WRITEDATA, c);
	SET(PREREQFUNCTION, on_request);
	SET(PREREQDATA, c);
	SET(OPENSOCKETFUNCTION, socket_on_open);
	SET(OPENSOCKETDATA, c);
	SET(CLOSESOCKETFUNCTION, socket_on_close);
	SET(CLOSESOCKETDATA, u->fetch);
	upstream_options_set(u, c->easy);
	return c;
}

static struct fetch_call *call_get(struct upstream *u)
{
	struct fetch_call *c = TAILQ_FIRST(&u->spare);

	if (!c)
		return call_new(u);
	TAILQ_REMOVE(&u->spare, c, link);
	u->nspare--;
	return c;
}

struct fetch_call *call_start(struct upstream *u, struct buf *body,
			      const struct fetch_deadlines *d, struct fetch_sink *sink,
			      bool is_warm)
{
	struct fetch *f = u->fetch;
	struct fetch_call *c = call_get(u);

	ASSERT(!f->in_curl && !f->closing && !u->freed);
	TAILQ_INSERT_TAIL(&u->active, c, link);
	uv_update_time(f->loop);
	c->sink = sink;
	c->is_warm = is_warm;
	c->limits = *d;
	c->start_ms = uv_now(f->loop);
	c->begin_ms = c->last_ms = c->end_by_ms = 0;
	c->sends = c->restarts = 0;
	c->in_doubt = false;
	c->progressed = c->got_bytes = c->paused = c->curl_paused = false;
	c->refused_replay = c->forbidden = c->is_http2 = false;
	c->result = CURLE_OK;
	c->detail[0] = 0;
	set_body(c, body);
	if (f->local_only && !upstream_is_local(u)) {
		call_forbid(c);
		fetch_kick(f);
	} else if (is_warm ||
		   (TAILQ_EMPTY(&u->origin->waiting) && origin_has_room(u->origin, u))) {
		call_begin(c);
	} else {
		call_move(c, CALL_WAITING);
		TAILQ_INSERT_TAIL(&u->origin->waiting, c, wait_link);
		u->stats->queued++;
		call_watch(c);
	}
	return c;
}

/* ---- sending, and not sending again */

/* Or might be, as long as the origin has not answered; and it is curl 7. */
static bool may_be_http2(const struct fetch_call *c)
{
	const struct origin *o = c->up->origin;

	return o->tls && !c->up->http_1 && o->http_version != 11 && c->up->fetch->curl_7;
}

/* The first sending came to nothing for certain: no byte had left, or the server said that it
 * has not begun with it.  Of a refused stream, and of one above a GOAWAY's last, curl leaves no
 * word at all, and of any other loss of HTTP/2 an error text; of the third it leaves the code's
 * name.  A version not known yet is 2 here: to use a 1.1 connection again takes an answer. */
static bool was_not_begun(const struct fetch_call *c)
{
	long bytes = 0;

	if (curl_easy_getinfo(c->easy, CURLINFO_REQUEST_SIZE, &bytes) == CURLE_OK &&
	    !bytes)
		return true;
	if (!may_be_http2(c))
		return false;
	return !c->detail[0] || strstr(c->detail, "HTTP_1_1_REQUIRED");
}

bool call_may_send(struct fetch_call *c)
{
	if (!c->in_doubt || !c->is_post || c->refused_replay)
		return !c->refused_replay;
	if (was_not_begun(c)) {
		c->in_doubt = false;
		return true;
	}
	c->refused_replay = true;
	c->up->stats->replays_refused++;
	return false;
}

static void note_connection(struct fetch_call *c)
{
	struct upstream_stats *s = c->up->stats;
	struct origin *o = c->up->origin;
	curl_off_t tcp_us = 0, tls_us = 0;
	long connections = 0;
	double ms;

	curl_easy_getinfo(c->easy, CURLINFO_NUM_CONNECTS, &connections);
	if (!connections) {
		s->reused++;
		return;
	}
	s->new_connections++;
	curl_easy_getinfo(c->easy, CURLINFO_CONNECT_TIME_T, &tcp_us);
	curl_easy_getinfo(c->easy, CURLINFO_APPCONNECT_TIME_T, &tls_us);
	ms = (double)(tls_us > tcp_us ? tls_us : tcp_us) / 1000;
	o->connect_ms = o->connect_ms > 0 ? 0.7 * o->connect_ms + 0.3 * ms : ms;
}

/* Connected, and the request is about to go out.  Inside curl. */
static int on_request(void *arg, char *remote_ip, char *local_ip, int remote_port,
		      int local_port)
{
	struct fetch_call *c = arg;

	UNUSED(remote_ip), UNUSED(local_ip), UNUSED(remote_port), UNUSED(local_port);
	if (!call_may_send(c))
		return CURL_PREREQFUNC_ABORT;
	c->sends++;
	c->in_doubt = true;
	note_connection(c);
	return CURL_PREREQFUNC_OK;
}

static void note_version(struct fetch_call *c)
{
	long version = 0;

	curl_easy_getinfo(c->easy, CURLINFO_HTTP_VERSION, &version);
	c->is_http2 = version == CURL_HTTP_VERSION_2_0;
	if (c->is_http2)
		c->up->origin->http_version = 20;
	else if (version != CURL_HTTP_VERSION_NONE)
		c->up->origin->http_version = 11;
}

static size_t on_body(char *bytes, size_t size, size_t n, void *arg)
{
	struct fetch_call *c = arg;

	if (!c->got_bytes)
		note_version(c);
	c->got_bytes = true;
	if (c->gathered.len + n * size > FETCH_MAX_GATHER_HTTP2_BYTES ||
	    (!c->is_http2 &&
	     (c->paused || c->gathered.len + n * size > FETCH_MAX_GATHER_BYTES))) {
		c->curl_paused = true;
		return CURL_WRITEFUNC_PAUSE; /* curl keeps this one piece */
	}
	buf_add(&c->gathered, bytes, n * size);
	call_enqueue(c);
	return n * size;
}

/* ---- its end */

/* A pause that ends at once makes curl write what it holds back for the connection. */
static bool nudge_siblings(struct origin *o)
{
	struct fetch *f = o->fetch;
	struct fetch_call *c;
	struct upstream *u;
	bool any = false;

	f->in_curl = true;
	TAILQ_FOREACH(u, &f->upstreams, link)
	{
		if (u->origin != o)
			continue;
		TAILQ_FOREACH(c, &u->active, link)
		{
			if (c->state != CALL_RUNNING || !c->sends || c->curl_paused)
				continue;
			curl_easy_pause(c->easy, CURLPAUSE_RECV);
			curl_easy_pause(c->easy, CURLPAUSE_CONT);
			any = true;
		}
	}
	f->in_curl = false;
	return any;
}

/* curl 7 writes the RST_STREAM of a stream that was given up into a buffer, where it stays until
 * the connection is used again; meanwhile the server goes on, and is paid for it.  So: use it. */
static void flush_reset(struct fetch_call *c)
{
	struct upstream *u = c->up;
	struct origin *o = u->origin;

	if (!may_be_http2(c) || nudge_siblings(o))
		return;
	if (!u->freeing && !u->warmer.call && !u->fetch->local_only &&
	    sockets_open(o) == 1)
		upstream_get(u);
	else
		sockets_shut_idle(o);
}

/* Out of the queue or off the multi.  After this curl knows nothing of the call; its connection
 * is closed unless the response was complete or others have streams on it. */
static void call_leave(struct fetch_call *c, enum call_state next)
{
	struct origin *o = c->up->origin;
	struct fetch *f = o->fetch;
	bool nested = f->in_curl;

	if (c->state == CALL_WAITING) {
		TAILQ_REMOVE(&o->waiting, c, wait_link);
		c->up->stats->queued--;
	} else if (c->state == CALL_RUNNING) {
		note_version(c);
		f->in_curl = true;
		curl_multi_remove_handle(f->multi, c->easy);
		f->in_curl = nested;
		if (!c->sends)
			sockets_reap(f);
		if (c->is_warm)
			o->warming--;
		else
			o->running--;
	}
	call_move(c, next);
	origin_pump(o);
}

/* Before curl was done with it. */
void call_give_up(struct fetch_call *c, enum call_state next)
{
	bool on_the_wire = c->state == CALL_RUNNING && c->sends;

	call_leave(c, next);
	if (on_the_wire)
		flush_reset(c);
}

/* curl gives up, without a word, on a connection whose last open stream was above a GOAWAY. */
static bool may_restart(struct fetch_call *c, CURLcode why)
{
	return why == CURLE_HTTP2 && may_be_http2(c) && !c->detail[0] &&
	       !fetch_got_bytes(c) && c->restarts < MAX_RESTARTS;
}

void call_done(struct fetch_call *c, CURLcode why)
{
	struct fetch *f = c->up->fetch;

	if (may_restart(c, why)) { /* keeps its place and its deadlines */
		c->restarts++;
		c->in_doubt = false;
		curl_multi_remove_handle(f->multi, c->easy);
		curl_multi_add_handle(f->multi, c->easy);
		call_watch(c);
		return;
	}
	c->result = why;
	call_leave(c, CALL_ENDED);
	call_enqueue(c);
}

void call_forbid(struct fetch_call *c)
{
	if (c->state != CALL_ENDED)
		call_give_up(c, CALL_ENDED);
	c->forbidden = true;
	call_enqueue(c);
}

static void on_call_closed(uv_handle_t *h)
{
	struct fetch_call *c = h->data;
	struct upstream *u = c->up;
	struct fetch *f = u->fetch;

	free(c);
	upstream_unref(u);
	fetch_unref(f);
}

void call_free(struct fetch_call *c)
{
	TAILQ_REMOVE(&c->up->spare, c, link);
	c->up->nspare--;
	curl_easy_cleanup(c->easy);
	buf_free(&c->gathered);
	uv_close((uv_handle_t *)&c->timer, on_call_closed);
}

/* Back among the spare ones; its owner's pointer is dead now. */
static void call_retire(struct fetch_call *c)
{
	struct upstream *u = c->up;

	ASSERT(!u->fetch->in_curl);
	call_give_up(c, CALL_SPARE);
	call_dequeue(c);
	uv_timer_stop(&c->timer);
	if (u->fetch->delivering == c)
		u->fetch->delivering = NULL;
	c->sink = NULL;
	buf_free(&c->body);
	buf_clear(&c->gathered);
	TAILQ_REMOVE(&u->active, c, link);
	TAILQ_INSERT_HEAD(&u->spare, c, link);
	if (++u->nspare > MAX_SPARE)
		call_free(c);
}

/* ---- delivery */

void call_tell(struct fetch_call *c, const struct err *e)
{
	struct fetch *f = c->up->fetch;
	struct fetch_sink *sink = c->sink;

	f->delivering = c;
	sink->end(sink, e);
	if (f->delivering == c) /* not cancelled inside end() */
		call_retire(c);
}

static void unpause_curl(struct fetch_call *c)
{
	struct fetch *f = c->up->fetch;

	c->curl_paused = false;
	f->in_curl = true; /* it may hand over the bytes it kept before it returns */
	curl_easy_pause(c->easy, CURLPAUSE_CONT);
	f->in_curl = false;
}

/* False: the sink cancelled the call. */
static bool deliver_bytes(struct fetch_call *c)
{
	struct fetch *f = c->up->fetch;
	struct buf bytes = c->gathered;
	bool progress;

	c->gathered = (struct buf){0};
	c->last_ms = uv_now(f->loop);
	f->delivering = c;
	progress = c->sink->data(c->sink, bytes.data, bytes.len);
	if (f->delivering != c) {
		buf_free(&bytes);
		return false;
	}
	c->progressed |= progress;
	if (c->gathered.data) { /* the sink resumed, and curl had more at once */
		buf_free(&bytes);
	} else {
		c->gathered = bytes; /* its memory serves the next bytes */
		buf_clear(&c->gathered);
	}
	call_watch(c);
	return true;
}

void call_deliver(struct fetch_call *c)
{
	bool failed = c->result != CURLE_OK || c->forbidden;
	struct err e = {0};

	if (c->forbidden &&
	    c->state == CALL_ENDED) { /* what had come is worth nothing now */
		call_error(c, &e);
		call_tell(c, &e);
		return;
	}
	if (c->paused)
		return; /* fetch_pause() puts it back */
	if (c->gathered.len && !deliver_bytes(c))
		return;
	if (c->paused)
		return;
	if (c->state == CALL_ENDED) {
		if (failed)
			call_error(c, &e);
		call_tell(c, failed ? &e : NULL);
	} else if (c->curl_paused) {
		unpause_curl(
			c); /* more may be ready at once: the queue is not done yet */
	}
}

/* ---- the caller's side */

struct fetch_call *fetch_start(struct upstream *u, struct buf *body,
			       const struct fetch_deadlines *d, struct fetch_sink *sink)
{
	u->stats->calls++;
	return call_start(u, body, d, sink, false);
}

void fetch_cancel(struct fetch_call *c)
{
	ASSERT(c->sink);
	call_retire(c);
}

void fetch_pause(struct fetch_call *c, bool paused)
{
	struct fetch *f = c->up->fetch;

	if (c->paused == paused)
		return;
	c->paused = paused;
	if (paused)
		return;
	if (c->last_ms)
		c->last_ms = uv_now(f->loop);
	if (c->gathered.len || c->state == CALL_ENDED)
		call_enqueue(c);
	else if (c->curl_paused)
		unpause_curl(c);
	call_watch(c);
	fetch_kick(f);
}

void fetch_expect_end(struct fetch_call *c, int ms)
{
	c->end_by_ms = uv_now(c->up->fetch->loop) + (uint64_t)ms;
	call_watch(c);
}

int fetch_status(struct fetch_call *c)
{
	long status = 0;

	curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
	return (int)status;
}

bool fetch_got_bytes(struct fetch_call *c)
{
	long bytes = 0;

	curl_easy_getinfo(c->easy, CURLINFO_HEADER_SIZE, &bytes);
	return c->got_bytes || bytes > 0;
}

bool fetch_was_sent(struct fetch_call *c)
{
	return c->sends > 0;
}

struct str fetch_header(struct fetch_call *c, const char *name)
{
	struct curl_header *h;

	if (curl_easy_header(c->easy, name, 0, CURLH_HEADER, -1, &h) != CURLHE_OK)
		return (struct str){"", 0};
	return str_of(h->value);
}
