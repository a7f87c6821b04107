/* A small HTTP server on the test's own loop, and a remote provider that asks it.
 *
 * It answers each request by the first route whose path begins the target; what it was asked is kept
 * as lines "GET /path".  One answer a connection, then it closes: nothing to keep in step. */
#ifndef HOB_TEST_REMOTE_WORLD_H
#define HOB_TEST_REMOTE_WORLD_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <strings.h>
#include <sys/queue.h>
#include "base/log.h"
#include "net/fetch.h"
#include "providers/remote.h"

struct route_to {
	const char *target;  /* begins so */
	int status;          /* 0: the connection is closed without an answer */
	const char *headers; /* each line with \r\n behind it; or "" */
	const char *body;
	bool hangs; /* the connection stays open after the body, whose length is not said */
};

struct world {
	uv_loop_t loop;
	uv_tcp_t listener;
	uv_timer_t pulse; /* so that UV_RUN_ONCE never waits for long */
	int port;
	struct route_to routes[8];
	struct buf asked, last_body; /* lines; the last POST's body */
	TAILQ_HEAD(, world_peer) peers;
	struct fetch *fetch;
	struct provider *provider;
	char *url;
	bool provider_closed, fetch_closed;
};

struct world_peer {
	TAILQ_ENTRY(world_peer) link;
	uv_tcp_t tcp;
	struct world *w;
	struct buf in;
	bool answered, closing;
	uv_write_t write;
	char *out;
};

static inline void peer_closed(uv_handle_t *h)
{
	struct world_peer *p = h->data;

	TAILQ_REMOVE(&p->w->peers, p, link);
	buf_free(&p->in);
	free(p->out);
	free(p);
}

static inline void peer_close(struct world_peer *p)
{
	if (!p->closing)
		uv_close((uv_handle_t *)&p->tcp, peer_closed);
	p->closing = true;
}

static inline void peer_wrote(uv_write_t *req, int status)
{
	struct world_peer *p = req->data;

	if (status < 0 || !strstr(p->out, "X-Hangs"))
		peer_close(p);
}

static inline void peer_answer(struct world_peer *p, const struct route_to *to)
{
	uv_buf_t buf;
	char length[64] = "";

	if (!to || !to->status) {
		peer_close(p);
		return;
	}
	if (!to->hangs)
		snprintf(length, sizeof length, "Content-Length: %zu\r\n",
			 strlen(to->body));
	p->out = xasprintf("HTTP/1.1 %d X\r\nConnection: close\r\n%s%s%s\r\n%s",
			   to->status, length, to->hangs ? "X-Hangs: 1\r\n" : "",
			   to->headers ? to->headers : "", to->body);
	buf = uv_buf_init(p->out, (unsigned)strlen(p->out));
	p->write.data = p;
	uv_write(&p->write, (uv_stream_t *)&p->tcp, &buf, 1, peer_wrote);
}

/* False: more is to come. */
static inline bool peer_request(struct world_peer *p)
{
	struct world *w = p->w;
	const char *end = p->in.data ? strstr(p->in.data, "\r\n\r\n") : NULL;
	const char *length = end ? strcasestr(p->in.data, "content-length:") : NULL;
	size_t body = length ? (size_t)strtoul(length + 15, NULL, 10) : 0;
	const struct route_to *to = NULL;
	char *target;

	if (!end || p->in.len < (size_t)(end + 4 - p->in.data) + body)
		return false;
	if (body) {
		buf_clear(&w->last_body);
		buf_add(&w->last_body, end + 4, body);
	}
	target = strchr(p->in.data, ' ') + 1;
	*strchr(target, ' ') = 0;
	buf_addf(&w->asked, "%.*s %s\n", (int)(target - 1 - p->in.data), p->in.data,
		 target);
	for (size_t i = 0; i < ARRAY_LEN(w->routes) && !to; i++)
		if (w->routes[i].target &&
		    !strncmp(target, w->routes[i].target, strlen(w->routes[i].target)))
			to = &w->routes[i];
	p->answered = true;
	peer_answer(p, to);
	return true;
}

static inline void peer_alloc(uv_handle_t *h, size_t size, uv_buf_t *buf)
{
	struct world_peer *p = h->data;

	UNUSED(size);
	buf_reserve(&p->in, 65536);
	*buf = uv_buf_init(p->in.data + p->in.len, 65535);
}

static inline void peer_read(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
	struct world_peer *p = s->data;

	UNUSED(buf);
	if (n < 0) {
		peer_close(p);
		return;
	}
	p->in.len += (size_t)n;
	p->in.data[p->in.len] = 0;
	if (!p->answered)
		peer_request(p);
}

static inline void world_accept(uv_stream_t *s, int status)
{
	struct world *w = s->data;
	struct world_peer *p = xcalloc(1, sizeof *p);

	UNUSED(status);
	p->w = w;
	uv_tcp_init(&w->loop, &p->tcp);
	p->tcp.data = p;
	TAILQ_INSERT_TAIL(&w->peers, p, link);
	uv_accept(s, (uv_stream_t *)&p->tcp);
	uv_read_start((uv_stream_t *)&p->tcp, peer_alloc, peer_read);
}

static inline void world_pulse(uv_timer_t *t)
{
	UNUSED(t);
}

static inline void world_init(struct world *w)
{
	struct sockaddr_in a;
	int n = sizeof a;

	*w = (struct world){0};
	log_set_level(LOG_LV_ERROR);
	TAILQ_INIT(&w->peers);
	uv_loop_init(&w->loop);
	uv_timer_init(&w->loop, &w->pulse);
	uv_timer_start(&w->pulse, world_pulse, 5, 5);
	uv_tcp_init(&w->loop, &w->listener);
	w->listener.data = w;
	uv_ip4_addr("127.0.0.1", 0, &a);
	uv_tcp_bind(&w->listener, (struct sockaddr *)&a, 0);
	assert_int_equal(uv_listen((uv_stream_t *)&w->listener, 64, world_accept), 0);
	uv_tcp_getsockname(&w->listener, (struct sockaddr *)&a, &n);
	w->port = ntohs(a.sin_port);
	w->url = xasprintf("http://127.0.0.1:%d/v1", w->port);
	w->fetch = fetch_new(&w->loop, NULL);
	assert_non_null(w->fetch);
}

/* The configuration of a provider that asks this server; no key. */
static inline struct config_provider world_section(struct world *w)
{
	struct config_provider c = {.name = "fake",
				    .zdr = UNSAID,
				    .warm = true,
				    .urls = {&w->url, 1},
				    .connect_timeout_ms = 2000,
				    .first_byte_timeout_ms = 5000,
				    .idle_timeout_ms = 5000,
				    .max_connections = -1};
	return c;
}

/* Turns until the text was asked for n times; fails after some seconds. */
static inline int world_count(const struct world *w, const char *text)
{
	int n = 0;

	for (const char *s = w->asked.data; s && (s = strstr(s, text)); s++)
		n++;
	return n;
}

static inline void world_run_ms(struct world *w, int ms)
{
	uint64_t until = uv_hrtime() + (uint64_t)ms * 1000000;

	while (uv_hrtime() < until)
		uv_run(&w->loop, UV_RUN_ONCE);
}

#define world_until(w, condition)                                    \
	do {                                                         \
		uint64_t end_ = uv_hrtime() + UINT64_C(20000000000); \
		while (!(condition) && uv_hrtime() < end_)           \
			uv_run(&(w)->loop, UV_RUN_ONCE);             \
		assert_true(condition);                              \
	} while (0)

static inline void world_set(void *arg)
{
	*(bool *)arg = true;
}

static inline void world_fini(struct world *w)
{
	struct world_peer *p;

	world_run_ms(w, 30); /* connections that are being made are test_fetch's matter */
	if (w->provider) {
		w->provider->ops->close(w->provider, world_set, &w->provider_closed);
		world_until(w, w->provider_closed);
	}
	fetch_close(w->fetch, world_set, &w->fetch_closed);
	world_until(w, w->fetch_closed);
	TAILQ_FOREACH(p, &w->peers, link)
	peer_close(p);
	uv_close((uv_handle_t *)&w->listener, NULL);
	uv_close((uv_handle_t *)&w->pulse, NULL);
	uv_run(&w->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&w->loop), 0);
	buf_free(&w->asked);
	buf_free(&w->last_body);
	free(w->url);
}

#endif
