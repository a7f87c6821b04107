/* The set of a server's connections: accepting, flushing, deadlines, the end.
 *
 * Loop thread.  Two decisions a reader would question.  All output leaves from here, once per turn
 * of the loop: a check handle runs right behind the callbacks that read sockets, a prepare handle
 * right before the loop sleeps, so that nothing ever waits for the next turn.  And deadlines are a
 * field and one sweeping timer for the whole set, not a timer per connection: a connection embeds
 * one handle, a request costs no timer operation, and no connections means no wake-ups. */
#include "net/conn_impl.h"

#include <malloc.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/log.h"

/* -- the end of the set -- */

static void free_set(struct conns *s)
{
	void (*done)(void *) = s->done;
	void *arg = s->done_arg;

	while (s->nspare)
		buf_free(&s->spare[--s->nspare]);
	free(s);
	if (done)
		done(arg);
}

static void on_set_handle_closed(uv_handle_t *h)
{
	struct conns *s = h->data;

	if (--s->open_handles == 0)
		free_set(s);
}

static void set_maybe_done(struct conns *s)
{
	if (s->count || (!s->draining && !s->closing))
		return;
	if (s->closing) {
		uv_close((uv_handle_t *)&s->prepare, on_set_handle_closed);
		uv_close((uv_handle_t *)&s->check, on_set_handle_closed);
		uv_close((uv_handle_t *)&s->sweep, on_set_handle_closed);
	} else if (s->done) {
		void (*done)(void *) = s->done;

		s->done = NULL;
		done(s->done_arg);
	}
}

/* -- memory -- */

enum { CROWD = 128 };

static bool crowd_has_left(const struct conns *s)
{
	return s->peak >= CROWD && s->count < s->peak / 4;
}

/* What a thousand streams took lies about the heap in pieces, and malloc would keep it for good. */
static void give_memory_back(struct conns *s)
{
#ifdef __GLIBC__
	malloc_trim(0);
#endif
	s->peak = s->count;
	if (s->count == 0)
		uv_timer_stop(&s->sweep);
}

void conns_one_less(struct conns *s)
{
	if (--s->count == 0 && !crowd_has_left(s))
		uv_timer_stop(&s->sweep);
	set_maybe_done(s);
}

/* -- turns of the loop -- */

static void set_flush(struct conns *s)
{
	struct conn *c;

	/* A flushed reply may start the next pipelined request, which dirties again; bounded by
	 * CONN_MAX_AHEAD_BYTES. */
	while ((c = TAILQ_FIRST(&s->dirty))) {
		TAILQ_REMOVE(&s->dirty, c, dirty_link);
		c->dirty = false;
		conn_flush(c);
	}
}

static void on_prepare(uv_prepare_t *h)
{
	set_flush(h->data);
}

static void on_check(uv_check_t *h)
{
	set_flush(h->data);
}

static void on_sweep(uv_timer_t *t)
{
	struct conns *s = t->data;
	uint64_t now = uv_now(s->loop);
	struct conn *c, *next;

	if (crowd_has_left(s))
		give_memory_back(s);
	for (c = TAILQ_FIRST(&s->all); c; c = next) {
		next = TAILQ_NEXT(c,
				  link); /* memory goes in close callbacks, never here */
		conn_check(c, now);
	}
}

static void sweep_start(struct conns *s)
{
	int every = s->header_timeout_ms / 4;

	every = every > 1000 ? 1000 : every < 20 ? 20 : every;
	uv_timer_start(&s->sweep, on_sweep, (uint64_t)every, (uint64_t)every);
}

/* -- accepting -- */

#define CLIENT_PROCESS (UINT64_C(1) << 62) /* apart from the numbers of connections */

static bool peer_is_ours(struct conn *c)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);
	int fd;

	c->peer.client = ++c->set->next_client;
	if (c->peer.is_tcp)
		return true;
	if (uv_fileno(&c->sock.handle, &fd) != 0 ||
	    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) != 0)
		return false;
	c->peer.uid = cred.uid;
	c->peer.client = CLIENT_PROCESS | (uint64_t)(uint32_t)cred.pid;
	return cred.uid == getuid();
}

void conns_accept(struct conns *s, uv_stream_t *listener)
{
	struct conn *c = conn_new(s, listener->type == UV_TCP);

	if (s->count++ == 0)
		sweep_start(s);
	if (s->count > s->peak)
		s->peak = s->count;
	if (uv_accept(listener, &c->sock.stream) != 0 || s->closing || s->draining) {
		conn_close(c);
		return;
	}
	if (s->count > CONN_MAX || !peer_is_ours(c)) {
		s->refused++;
		log_debug("connection refused: %s",
			  s->count > CONN_MAX ? "too many" : "another user's");
		conn_close(c);
		return;
	}
	conn_start(c);
}

/* -- the set -- */

struct conns *conns_new(uv_loop_t *loop, const struct conn_handler *h, void *arg,
			int header_timeout_ms)
{
	struct conns *s = xcalloc(1, sizeof(*s));

	s->loop = loop;
	s->handler = h;
	s->arg = arg;
	s->header_timeout_ms = header_timeout_ms > 0 ? header_timeout_ms : 10000;
	TAILQ_INIT(&s->all);
	TAILQ_INIT(&s->dirty);
	uv_prepare_init(loop, &s->prepare);
	uv_check_init(loop, &s->check);
	uv_timer_init(loop, &s->sweep);
	s->prepare.data = s->check.data = s->sweep.data = s;
	s->open_handles = 3;
	/* Always active, as an empty list costs nothing; they do not keep the loop alive. */
	uv_prepare_start(&s->prepare, on_prepare);
	uv_check_start(&s->check, on_check);
	uv_unref((uv_handle_t *)&s->prepare);
	uv_unref((uv_handle_t *)&s->check);
	uv_unref((uv_handle_t *)&s->sweep);
	return s;
}

int conns_count(const struct conns *s)
{
	return s->count;
}

uint64_t conns_requests(const struct conns *s)
{
	return s->requests;
}

uint64_t conns_refused(const struct conns *s)
{
	return s->refused;
}

static void close_idle(struct conns *s, bool all)
{
	struct conn *c, *next;

	for (c = TAILQ_FIRST(&s->all); c; c = next) {
		next = TAILQ_NEXT(c, link);
		if (!conn_is_closing(c) && (all || conn_is_idle(c)))
			conn_close(c);
	}
}

static void on_nothing_left(uv_timer_t *t)
{
	set_maybe_done(t->data);
}

void conns_drain(struct conns *s, void (*done)(void *arg), void *arg)
{
	struct conn *c, *next;

	s->draining = true;
	s->done = done;
	s->done_arg = arg;
	for (c = TAILQ_FIRST(&s->all); c; c = next) {
		next = TAILQ_NEXT(c, link);
		if (c->exchange && c->exchange->drain)
			c->exchange->drain(c->exchange);
	}
	close_idle(s, false);
	if (!s->count) { /* "in a later turn" also when there was nobody */
		uv_timer_start(&s->sweep, on_nothing_left, 0, 0);
		uv_ref((uv_handle_t *)&s->sweep);
	}
}

void conns_close(struct conns *s, void (*done)(void *arg), void *arg)
{
	s->closing = true;
	s->done = done;
	s->done_arg = arg;
	uv_timer_stop(&s->sweep);
	close_idle(s, true);
	set_maybe_done(s);
}
