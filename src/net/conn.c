/* One client connection; the set of all of them is conns.c.
 *
 *      READ ─▶ HANDLE ─▶ REPLY ──▶ READ (keep-alive) | LINGER | CLOSING
 *                 └────▶ STREAM ─▶ REPLY (its end is being written)
 * A request with a body passes HANDLE twice: for its head, so that a refusal need not wait for
 * 32 MiB, and when it is whole.
 *
 * Loop thread.  The decision a reader would question: nothing is written at once.  Output gathers
 * in `out` and leaves before the loop sleeps (conns.c), so that twenty events that arrived in one
 * packet leave in one.  At most one uv_write is in flight; what comes meanwhile gathers behind
 * it. */
#include "net/conn_impl.h"

#include <sys/socket.h>
#include "base/sm.h"

enum conn_state { ST_READ, ST_HANDLE, ST_STREAM, ST_REPLY, ST_LINGER, ST_CLOSING, ST_NR };

static const struct sm_state conn_states[ST_NR] = {
	[ST_READ] = {"read", SM_TO(ST_HANDLE) | SM_TO(ST_CLOSING)},
	[ST_HANDLE] = {"handle", SM_TO(ST_REPLY) | SM_TO(ST_STREAM) | SM_TO(ST_READ) |
					 SM_TO(ST_CLOSING)},
	[ST_STREAM] = {"stream", SM_TO(ST_REPLY) | SM_TO(ST_CLOSING)},
	[ST_REPLY] = {"reply", SM_TO(ST_READ) | SM_TO(ST_LINGER) | SM_TO(ST_CLOSING)},
	[ST_LINGER] = {"linger", SM_TO(ST_CLOSING)},
	[ST_CLOSING] = {"closing", 0},
};

enum conn_event {
	EV_REQUEST, /* whole, or refused by its head, or malformed */
	EV_STREAM,  /* the handler began a stream */
	EV_REPLY,   /* all of the reply is in the buffer */
	EV_SENT,    /* … and the kernel has it */
	EV_EOF,     /* the peer sends no more */
	EV_GONE,    /* an error of the socket, or a deadline */
};

static void conn_event(struct conn *c, enum conn_event ev);
static void conn_parse(struct conn *c, struct str in);

/* -- small things -- */

static struct conn *conn_of(void *handle)
{
	return CONTAINER_OF((uv_handle_t *)handle, struct conn, sock.handle);
}

static void conn_deadline(struct conn *c, int ms)
{
	c->deadline_ms = ms ? uv_now(c->set->loop) + (uint64_t)ms : 0;
}

static size_t conn_backlog(const struct conn *c)
{
	return c->out.len + uv_stream_get_write_queue_size(&c->sock.stream);
}

static void conn_dirty(struct conn *c)
{
	if (c->dirty)
		return;
	c->dirty = true;
	TAILQ_INSERT_TAIL(&c->set->dirty, c, dirty_link);
}

/* -- output -- */

static struct buf *conn_out(struct conn *c)
{
	struct conns *s = c->set;

	if (!c->out.data && s->nspare)
		c->out = s->spare[--s->nspare];
	return &c->out;
}

/* All of it has left. */
static void conn_out_clear(struct conn *c)
{
	struct conns *s = c->set;

	buf_clear(&c->out);
	if (c->out.cap > CONN_SPARE_BYTES || s->nspare == CONN_SPARE_MAX)
		buf_free(&c->out);
	else if (c->out.data)
		s->spare[s->nspare++] = c->out;
	c->out = (struct buf){0};
}

/* -- closing a connection -- */

static void on_conn_closed(uv_handle_t *h)
{
	struct conn *c = conn_of(h);
	struct conns *s = c->set;

	http_parser_fini(&c->parser);
	buf_free(&c->ahead);
	buf_free(&c->out);
	ASSERT(!c->flying); /* its write callback has run: libuv cancels before it closes */
	TAILQ_REMOVE(&s->all, c, link);
	free(c);
	conns_one_less(s);
}

void conn_close(struct conn *c)
{
	struct exchange *x = c->exchange;

	sm_move(conn_states, "conn", &c->state, ST_CLOSING);
	if (c->dirty)
		TAILQ_REMOVE(&c->set->dirty, c, dirty_link);
	c->dirty = false;
	c->exchange = NULL;
	uv_close(&c->sock.handle, on_conn_closed);
	if (x)
		x->abort(x);
}

/* -- reading -- */

static void on_alloc(uv_handle_t *h, size_t hint, uv_buf_t *buf)
{
	struct conns *s = conn_of(h)->set;

	UNUSED(hint);
	*buf = uv_buf_init(s->in, sizeof(s->in));
}

static void conn_discard(struct conn *c, size_t n)
{
	c->discarded += n;
	if (c->discarded > CONN_LINGER_BYTES)
		conn_event(c, EV_GONE);
}

static void conn_received(struct conn *c, size_t n)
{
	switch (c->state) {
	case ST_READ:
		if (c->ahead.len) {
			buf_add(&c->ahead, c->set->in, n);
			conn_parse(c, buf_str(&c->ahead));
		} else { /* where it lies: nobody reads another socket meanwhile */
			conn_parse(c, (struct str){c->set->in, n});
		}
		break;
	case ST_LINGER:
		conn_discard(c, n);
		break;
	case ST_CLOSING:
		break;
	default:
		if (c->unread_body) {
			conn_discard(c, n);
			break;
		}
		buf_add(&c->ahead, c->set->in, n);
		if (c->ahead.len >= CONN_MAX_AHEAD_BYTES) {
			uv_read_stop(&c->sock.stream);
			c->reading = false;
		}
	}
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
	struct conn *c = conn_of(stream);

	UNUSED(buf);
	if (c->state == ST_CLOSING || n == 0)
		return;
	if (n > 0)
		conn_received(c, (size_t)n);
	else
		conn_event(c, n == UV_EOF ? EV_EOF : EV_GONE);
}

static void conn_read_start(struct conn *c)
{
	if (c->reading)
		return;
	c->reading = uv_read_start(&c->sock.stream, on_alloc, on_read) == 0;
	if (!c->reading)
		conn_event(c, EV_GONE);
}

/* -- from bytes to a request -- */

static void conn_refuse(struct conn *c, int status, const struct err *why)
{
	c->unread_body = true;
	c->keep_alive = false;
	conn_event(c, EV_REQUEST);
	c->set->handler->bad(c->set->arg, c, status, why);
}

/* False: the head was answered, or the connection is gone. */
static bool conn_head(struct conn *c)
{
	const struct http_request *r = &c->parser.req;

	c->keep_alive = r->keep_alive && !c->set->draining;
	c->no_body = str_eq(r->method, "HEAD");
	sm_move(conn_states, "conn", &c->state, ST_HANDLE); /* head() may reply */
	if (!c->set->handler->head(c->set->arg, c, r))
		return false;
	if (r->has_body)
		sm_move(conn_states, "conn", &c->state, ST_READ); /* its body */
	if (r->expects_continue) {
		buf_adds(conn_out(c), "HTTP/1.1 100 Continue\r\n\r\n");
		conn_dirty(c);
	}
	return true;
}

static void conn_step(struct conn *c, enum parse_event ev, const struct err *e)
{
	const struct http_request *r = &c->parser.req;

	switch (ev) {
	case PARSE_MORE:
		break;
	case PARSE_HEAD:
		c->unread_body = true;
		if (conn_head(c))
			c->unread_body = false;
		else
			c->keep_alive = false;
		break;
	case PARSE_DONE:
		conn_deadline(c, 0);
		if (r->has_body)
			conn_event(c, EV_REQUEST);
		else if (!conn_head(c))
			break;
		if (c->state == ST_HANDLE)
			c->set->handler->request(c->set->arg, c, r);
		break;
	case PARSE_BAD:
		conn_refuse(c, c->parser.status, e);
		break;
	}
}

/* What was not used of `in`, which is all of c->ahead or no part of it. */
static void conn_keep(struct conn *c, struct str in, size_t used)
{
	if (c->unread_body || used == in.len) {
		if (c->ahead.data)
			buf_free(&c->ahead);
	} else if (in.ptr == c->ahead.data) {
		buf_drop(&c->ahead, used);
	} else {
		buf_add(&c->ahead, in.ptr + used, in.len - used);
	}
}

/* Feeds what has arrived until a request is being handled or the bytes are used up. */
static void conn_parse(struct conn *c, struct str in)
{
	size_t pos = 0, used;
	struct err e = {0};

	while (c->state == ST_READ && pos < in.len) {
		bool was_started = http_parser_started(&c->parser);
		enum parse_event ev;

		ev = http_feed(&c->parser, in.ptr + pos, in.len - pos, &used, &e);
		pos += used;
		if (c->parser.head_done)
			conn_deadline(c, CONN_BODY_IDLE_MS);
		else if (!was_started && http_parser_started(&c->parser))
			conn_deadline(c, c->set->header_timeout_ms);
		conn_step(c, ev, &e);
	}
	if (c->state != ST_CLOSING)
		conn_keep(c, in, pos);
}

/* -- writing -- */

static void conn_sent_some(struct conn *c)
{
	if (c->paused && conn_backlog(c) < CONN_RESUME_BELOW_BYTES) {
		c->paused = false;
		if (c->exchange && c->exchange->pause)
			c->exchange->pause(c->exchange, false);
	}
}

static void flight_free(struct flight *f)
{
	f->conn->flying = NULL;
	free(f->bytes);
	free(f);
}

static void on_written(uv_write_t *req, int status)
{
	struct flight *f = CONTAINER_OF(req, struct flight, req);
	struct conn *c = f->conn;

	flight_free(f);
	if (c->state == ST_CLOSING)
		return;
	if (status < 0) {
		conn_event(c, EV_GONE);
		return;
	}
	conn_sent_some(c);
	conn_flush(c);
}

static void conn_write_rest(struct conn *c, size_t from)
{
	struct flight *f = xcalloc(1, sizeof(*f));
	uv_buf_t b;
	size_t len;

	f->conn = c;
	f->bytes = buf_take(&c->out, &len);
	c->flying = f;
	b = uv_buf_init(f->bytes + from, (unsigned)(len - from));
	c->backlog_seen = 0;
	if (uv_write(&f->req, &c->sock.stream, &b, 1, on_written) < 0) {
		flight_free(f);
		conn_event(c, EV_GONE);
	}
}

/* Hands the gathered output to the kernel; what it does not take waits in one uv_write. */
void conn_flush(struct conn *c)
{
	uv_buf_t b;
	int n;

	if (c->state == ST_CLOSING || c->flying)
		return;
	if (c->out.len) {
		b = uv_buf_init(c->out.data, (unsigned)c->out.len);
		n = uv_try_write(&c->sock.stream, &b, 1);
		if (n < 0 && n != UV_EAGAIN) {
			conn_event(c, EV_GONE);
			return;
		}
		if (n < 0)
			n = 0;
		if ((size_t)n < c->out.len) {
			conn_write_rest(c, (size_t)n);
			return;
		}
		conn_out_clear(c);
		conn_sent_some(c);
	}
	if (c->state == ST_REPLY)
		conn_event(c, EV_SENT);
}

static void conn_wrote(struct conn *c)
{
	size_t backlog = conn_backlog(c);

	conn_dirty(c);
	if (!c->paused && backlog > CONN_PAUSE_ABOVE_BYTES) {
		c->paused = true;
		if (c->exchange && c->exchange->pause)
			c->exchange->pause(c->exchange, true);
	}
	if (c->state == ST_STREAM && backlog > CONN_MAX_BACKLOG_BYTES)
		c->deadline_ms =
			1; /* the sweep closes it: not from inside a http_* call */
}

/* -- the only place that decides -- */

static void conn_next(struct conn *c)
{
	http_parser_reset(&c->parser);
	c->no_body = c->paused = false;
	conn_deadline(c, CONN_KEEP_ALIVE_MS);
	conn_read_start(c);
	if (c->state == ST_READ && c->ahead.len)
		conn_parse(c, buf_str(&c->ahead));
}

static void conn_linger(struct conn *c)
{
	int fd;

	sm_move(conn_states, "conn", &c->state, ST_LINGER);
	if (uv_fileno(&c->sock.handle, &fd) == 0)
		shutdown(fd, SHUT_WR); /* nothing is queued: the kernel has it all */
	conn_deadline(c, CONN_LINGER_MS);
	conn_read_start(c);
}

static void conn_event(struct conn *c, enum conn_event ev)
{
	if (c->state == ST_CLOSING) /* results may still arrive; nobody wants them */
		return;
	switch (ev) {
	case EV_REQUEST:
		sm_move(conn_states, "conn", &c->state, ST_HANDLE);
		conn_deadline(c, 0);
		break;
	case EV_STREAM:
		sm_move(conn_states, "conn", &c->state, ST_STREAM);
		break;
	case EV_REPLY:
		sm_move(conn_states, "conn", &c->state, ST_REPLY);
		c->exchange = NULL;
		c->set->requests++;
		conn_dirty(c);
		break;
	case EV_SENT:
		if (c->unread_body) {
			conn_linger(c);
		} else if (c->keep_alive && !c->set->draining) {
			sm_move(conn_states, "conn", &c->state, ST_READ);
			conn_next(c);
		} else {
			conn_close(c);
		}
		break;
	case EV_EOF:
		if (c->state != ST_REPLY) {
			conn_close(c);
			break;
		}
		/* Half-closed behind its last request: it may still read. */
		c->keep_alive = c->unread_body = false;
		uv_read_stop(&c->sock.stream);
		break;
	case EV_GONE:
		conn_close(c);
		break;
	}
}

/* -- deadlines -- */

static void conn_expired(struct conn *c)
{
	struct err e = {0};

	if (c->state != ST_READ || !http_parser_started(&c->parser)) {
		conn_event(c, EV_GONE);
		return;
	}
	err_set(&e, ERR_TIMEOUT, "the request's %s did not arrive in time",
		c->parser.head_done ? "body" : "head");
	conn_refuse(c, 408, &e);
}

/* A reply that makes no progress gets a deadline, one that does loses it. */
static void conn_watch_stall(struct conn *c, uint64_t now)
{
	size_t backlog = conn_backlog(c);

	if (c->state == ST_READ || c->state == ST_LINGER || c->deadline_ms == 1)
		return;
	if (!c->flying || !c->backlog_seen ||
	    uv_stream_get_write_queue_size(&c->sock.stream) < c->backlog_seen) {
		c->deadline_ms = c->flying ? now + CONN_STALL_MS : 0;
		c->backlog_seen =
			c->flying && backlog
				? uv_stream_get_write_queue_size(&c->sock.stream)
				: 0;
	}
}

void conn_check(struct conn *c, uint64_t now)
{
	if (c->state == ST_CLOSING)
		return;
	conn_watch_stall(c, now);
	if (c->deadline_ms && now >= c->deadline_ms)
		conn_expired(c);
}

bool conn_is_closing(const struct conn *c)
{
	return c->state == ST_CLOSING;
}

bool conn_is_idle(const struct conn *c)
{
	return c->state == ST_READ && !http_parser_started(&c->parser);
}

/* -- the start -- */

struct conn *conn_new(struct conns *s, bool is_tcp)
{
	struct conn *c = xcalloc(1, sizeof(*c));

	c->set = s;
	c->peer.is_tcp = is_tcp;
	c->state = ST_READ;
	http_parser_init(&c->parser);
	if (is_tcp)
		uv_tcp_init(s->loop, &c->sock.tcp);
	else
		uv_pipe_init(s->loop, &c->sock.pipe, 0);
	TAILQ_INSERT_TAIL(&s->all, c, link);
	return c;
}

void conn_start(struct conn *c)
{
	if (c->peer.is_tcp)
		uv_tcp_nodelay(&c->sock.tcp, 1); /* else events sit up to 40 ms (Nagle) */
	conn_deadline(c, CONN_KEEP_ALIVE_MS);
	conn_read_start(c);
}

/* -- what handlers call -- */

enum { REPLY_HEAD_BYTES = 512 }; /* most are shorter: one allocation */

void exchange_begin(struct conn *c, struct exchange *x)
{
	ASSERT(c->state == ST_HANDLE && !c->exchange);
	c->exchange = x;
}

void exchange_end(struct conn *c)
{
	ASSERT(c->state == ST_HANDLE && c->exchange);
	c->exchange = NULL;
}

uv_loop_t *conn_loop(const struct conn *c)
{
	return c->set->loop;
}

struct conn_peer conn_peer(const struct conn *c)
{
	return c->peer;
}

const struct http_request *conn_request(const struct conn *c)
{
	return &c->parser.req;
}

void http_reply(struct conn *c, int status, const char *content_type, const char *extra,
		struct str body)
{
	struct http_reply_head h = {
		.status = status,
		.content_type = content_type,
		.extra = extra,
		.content_length = (int64_t)body.len,
		.is_http10 = c->parser.req.is_http10,
	};

	c->keep_alive = c->keep_alive && !c->set->draining && !c->unread_body;
	h.close = !c->keep_alive;
	buf_reserve(conn_out(c), REPLY_HEAD_BYTES + (c->no_body ? 0 : body.len));
	http_add_head(&c->out, &h);
	if (!c->no_body)
		buf_add(&c->out, body.ptr, body.len);
	conn_event(c, EV_REPLY);
}

void http_stream_begin(struct conn *c, int status, const char *content_type,
		       const char *extra)
{
	struct http_reply_head h = {
		.status = status,
		.content_type = content_type,
		.extra = extra,
		.content_length = -1,
	};

	c->chunked = !c->parser.req.is_http10;
	c->keep_alive = c->keep_alive && c->chunked && !c->set->draining;
	h.chunked = c->chunked;
	h.close = !c->keep_alive;
	http_parser_release(&c->parser);
	buf_reserve(conn_out(c), REPLY_HEAD_BYTES);
	http_add_head(&c->out, &h);
	conn_event(c, EV_STREAM);
	conn_wrote(c);
}

/* "fff CR LF": three digits do for all but long texts; others move the bytes once. */
enum { SIZE_BYTES = 5 };

struct buf *http_chunk_begin(struct conn *c)
{
	struct buf *out = conn_out(c);

	ASSERT(c->state == ST_STREAM);
	c->chunk_at = out->len;
	if (c->chunked)
		buf_add(out, "fff\r\n", SIZE_BYTES);
	return out;
}

static void chunk_size(struct conn *c, size_t n)
{
	char size[2 * sizeof(n) + 3];
	size_t k = (size_t)snprintf(size, sizeof(size), "%zx\r\n", n), had = SIZE_BYTES;
	char *at;

	buf_reserve(&c->out, sizeof(size));
	at = c->out.data + c->chunk_at;
	memmove(at + k, at + had, n + 1);
	memcpy(at, size, k);
	c->out.len = c->out.len - had + k;
}

void http_chunk_end(struct conn *c)
{
	static const char digits[] = "0123456789abcdef";
	size_t frame = c->chunked ? SIZE_BYTES : 0, n = c->out.len - c->chunk_at - frame;
	char *at = c->out.data + c->chunk_at;

	if (!n || c->no_body) { /* an empty chunk would end the body */
		c->out.len = c->chunk_at;
		return;
	}
	if (c->chunked) {
		if (n >> 8 && n >> 12 == 0) {
			at[0] = digits[n >> 8];
			at[1] = digits[n >> 4 & 15];
			at[2] = digits[n & 15];
		} else {
			chunk_size(c, n);
		}
		buf_adds(&c->out, "\r\n");
	}
	conn_wrote(c);
}

void http_stream_write(struct conn *c, struct str data)
{
	buf_add(http_chunk_begin(c), data.ptr, data.len);
	http_chunk_end(c);
}

void http_stream_end(struct conn *c)
{
	ASSERT(c->state == ST_STREAM);
	if (c->chunked && !c->no_body)
		buf_adds(conn_out(c), "0\r\n\r\n");
	conn_event(c, EV_REPLY);
}
