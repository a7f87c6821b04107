/* Outgoing calls against a small server on the same loop that does as it is told: keeps
 * connections, closes them at the wrong moment, keeps a request waiting, says nothing. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <unistd.h>
#include "base/log.h"
#include "net/fetch_impl.h"

enum manners {
	ANSWERS,
	ANSWERS_AND_LEAVES, /* closes after the answer without having said so */
	HOLDS,              /* until release() */
	LEAVES_AT_SECOND,   /* reads a connection's second request and closes */
	LEAVES_AT_FIRST,
	IS_SILENT, /* never reads */
};

struct server {
	uv_tcp_t listener;
	int port, connections, requests;
	enum manners manners;
	char order[64]; /* first letter of each body, as the requests came */
	TAILQ_HEAD(, peer) peers;
};

struct peer {
	uv_tcp_t tcp;
	struct server *s;
	struct buf in;
	int requests;
	bool held, closing;
	TAILQ_ENTRY(peer) link;
};

struct world {
	uv_loop_t loop;
	uv_timer_t pulse; /* so that UV_RUN_ONCE never waits long */
	int pulses;
	struct server server;
	struct fetch *fetch;
	bool closed;
};

struct answer {
	struct fetch_sink sink;
	struct fetch_call *call;
	struct buf text;
	int ends, status;
	bool ok, got_bytes;
	struct err error;
};

/* ---- the server */

static void on_peer_closed(uv_handle_t *h)
{
	struct peer *p = h->data;

	TAILQ_REMOVE(&p->s->peers, p, link);
	buf_free(&p->in);
	free(p);
}

static void peer_close(struct peer *p)
{
	if (!p->closing)
		uv_close((uv_handle_t *)&p->tcp, on_peer_closed);
	p->closing = true;
}

static void peer_answer(struct peer *p)
{
	static char text[] = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
	uv_buf_t b = uv_buf_init(text, sizeof text - 1);

	p->held = false;
	assert_int_equal(uv_try_write((uv_stream_t *)&p->tcp, &b, 1), sizeof text - 1);
	if (p->s->manners == ANSWERS_AND_LEAVES)
		peer_close(p);
}

static void peer_request(struct peer *p, const char *body)
{
	struct server *s = p->s;

	if ((size_t)s->requests < sizeof s->order - 1)
		s->order[s->requests] = body[0];
	s->requests++;
	p->requests++;
	if (s->manners == HOLDS)
		p->held = true;
	else if (s->manners == LEAVES_AT_FIRST ||
		 (s->manners == LEAVES_AT_SECOND && p->requests == 2))
		peer_close(p);
	else
		peer_answer(p);
}

static void on_alloc(uv_handle_t *h, size_t hint, uv_buf_t *b)
{
	UNUSED(h);
	*b = uv_buf_init(xmalloc(hint), (unsigned)hint);
}

/* One request at a time, as clients do that do not pipeline. */
static void on_bytes(uv_stream_t *stream, ssize_t n, const uv_buf_t *b)
{
	struct peer *p = stream->data;
	const char *end, *length;
	size_t want;

	if (n > 0)
		buf_add(&p->in, b->base, (size_t)n);
	free(b->base);
	if (n < 0) {
		peer_close(p);
		return;
	}
	if (!p->in.data || !(end = strstr(p->in.data, "\r\n\r\n")))
		return;
	length = strstr(p->in.data, "Content-Length: ");
	want = (size_t)(end + 4 - p->in.data) +
	       (length ? strtoul(length + 16, NULL, 10) : 0);
	if (p->in.len < want)
		return;
	buf_addc(&p->in, 0);
	peer_request(p, end + 4);
	buf_clear(&p->in);
}

static void on_connection(uv_stream_t *listener, int status)
{
	struct server *s = listener->data;
	struct peer *p = xcalloc(1, sizeof *p);

	assert_int_equal(status, 0);
	p->s = s;
	p->tcp.data = p;
	uv_tcp_init(listener->loop, &p->tcp);
	assert_int_equal(uv_accept(listener, (uv_stream_t *)&p->tcp), 0);
	TAILQ_INSERT_TAIL(&s->peers, p, link);
	s->connections++;
	if (s->manners != IS_SILENT)
		uv_read_start((uv_stream_t *)&p->tcp, on_alloc, on_bytes);
}

static void server_start(struct server *s, uv_loop_t *loop)
{
	struct sockaddr_in a;
	int n = sizeof a;

	TAILQ_INIT(&s->peers);
	s->listener.data = s;
	uv_tcp_init(loop, &s->listener);
	uv_ip4_addr("127.0.0.1", 0, &a);
	assert_int_equal(uv_tcp_bind(&s->listener, (void *)&a, 0), 0);
	assert_int_equal(uv_listen((uv_stream_t *)&s->listener, 64, on_connection), 0);
	uv_tcp_getsockname(&s->listener, (void *)&a, &n);
	s->port = ntohs(a.sin_port);
}

/* Answers what it held; the n first of them. */
static void release(struct server *s, int n)
{
	struct peer *p;

	TAILQ_FOREACH(p, &s->peers, link)
	if (p->held && n-- > 0)
		peer_answer(p);
}

static void hang_up(struct server *s)
{
	struct peer *p;

	TAILQ_FOREACH(p, &s->peers, link)
	peer_close(p);
}

/* ---- the world */

static void on_pulse(uv_timer_t *t)
{
	struct world *w = t->data;

	if (++w->pulses > 6000)
		fail_msg("the test waited 30 s for something that never came");
}

static void world_init(struct world *w)
{
	struct err e;

	memset(w, 0, sizeof *w);
	log_set_level(LOG_LV_ERROR);
	uv_loop_init(&w->loop);
	uv_timer_init(&w->loop, &w->pulse);
	w->pulse.data = w;
	uv_timer_start(&w->pulse, on_pulse, 5, 5);
	server_start(&w->server, &w->loop);
	w->fetch = fetch_new(&w->loop, &e);
	assert_non_null(w->fetch);
}

static void on_done(void *arg)
{
	((struct world *)arg)->closed = true;
}

static void world_fini(struct world *w)
{
	fetch_close(w->fetch, on_done, w);
	while (!w->closed)
		uv_run(&w->loop, UV_RUN_ONCE);
	hang_up(&w->server);
	uv_close((uv_handle_t *)&w->server.listener, NULL);
	uv_close((uv_handle_t *)&w->pulse, NULL);
	uv_run(&w->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&w->loop), 0);
}

#define RUN_UNTIL(w, condition)              \
	for ((w)->pulses = 0; !(condition);) \
	uv_run(&(w)->loop, UV_RUN_ONCE)

static void run_some(struct world *w)
{
	RUN_UNTIL(w, w->pulses >= 8);
}

static struct upstream *upstream_to(struct world *w, const char *scheme, const char *host,
				    const struct upstream_options *o)
{
	char *url = xasprintf("%s://%s:%d/v1/x", scheme, host, w->server.port);
	struct upstream *u;
	struct err e = {0};

	u = upstream_new(w->fetch, url, o, &e);
	if (!u)
		fail_msg("%s", e.text);
	free(url);
	return u;
}

static struct upstream *upstream_local(struct world *w, int max_connections)
{
	const struct upstream_options o = {.max_connections = max_connections};

	return upstream_to(w, "http", "127.0.0.1", &o);
}

/* ---- calls */

static bool on_data(struct fetch_sink *sink, const char *bytes, size_t n)
{
	struct answer *a = CONTAINER_OF(sink, struct answer, sink);

	buf_add(&a->text, bytes, n);
	return true;
}

static void on_end(struct fetch_sink *sink, const struct err *e)
{
	struct answer *a = CONTAINER_OF(sink, struct answer, sink);

	a->ends++;
	a->ok = !e;
	if (e)
		a->error = *e;
	a->status = fetch_status(a->call);
	a->got_bytes = fetch_got_bytes(a->call);
	a->call = NULL;
}

static void answer_free(struct answer *a)
{
	buf_free(&a->text);
	memset(a, 0, sizeof *a);
}

static void start(struct answer *a, struct upstream *u, const char *body,
		  const struct fetch_deadlines *d)
{
	static const struct fetch_deadlines patient = {.connect = 20000, .total = 20000};
	struct buf b = {0};

	answer_free(a);
	a->sink = (struct fetch_sink){.data = on_data, .end = on_end};
	if (body)
		buf_adds(&b, body);
	a->call = fetch_start(u, body ? &b : NULL, d ? d : &patient, &a->sink);
	assert_null(b.data);
}

static void call(struct world *w, struct answer *a, struct upstream *u, const char *body,
		 const struct fetch_deadlines *d)
{
	start(a, u, body, d);
	RUN_UNTIL(w, a->ends);
}

static void assert_good(const struct answer *a)
{
	if (!a->ok)
		fail_msg("%s", a->error.text);
	assert_int_equal(a->ends, 1);
	assert_int_equal(a->status, 200);
	assert_true(a->got_bytes);
	assert_string_equal(a->text.data, "hello");
}

static void assert_failed_with(const struct answer *a, enum err_code code,
			       const char *text)
{
	assert_int_equal(a->ends, 1);
	assert_false(a->ok);
	assert_int_equal(a->error.code, code);
	if (!strstr(a->error.text, text))
		fail_msg("'%s' is not in: %s", text, a->error.text);
}

/* ---- connections */

static void a_second_call_reuses_the_connection(void **state)
{
	struct answer a = {0};
	struct upstream *u;
	struct world w;

	UNUSED(state);
	world_init(&w);
	u = upstream_local(&w, 0);
	for (int i = 0; i < 3; i++) {
		call(&w, &a, u, "{}", NULL);
		assert_good(&a);
	}
	assert_int_equal(w.server.connections, 1);
	assert_int_equal(upstream_stats(u)->calls, 3);
	assert_int_equal(upstream_stats(u)->new_connections, 1);
	assert_int_equal(upstream_stats(u)->reused, 2);
	assert_int_equal(upstream_stats(u)->http_version, 11);
	assert_true(upstream_stats(u)->connect_ms > 0);
	upstream_free(u);
	answer_free(&a);
	world_fini(&w);
}

static void a_connection_closed_while_idle_costs_no_failure(void **state)
{
	struct answer a = {0};
	struct upstream *u;
	struct world w;

	UNUSED(state);
	world_init(&w);
	w.server.manners = ANSWERS_AND_LEAVES;
	u = upstream_local(&w, 0);
	for (int i = 0; i < 4; i++) {
		call(&w, &a, u, "{}", NULL);
		assert_good(&a);
		run_some(&w);
	}
	assert_int_equal(w.server.connections, 4);
	assert_int_equal(w.server.requests, 4);
	assert_int_equal(upstream_stats(u)->replays_refused, 0);
	upstream_free(u);
	answer_free(&a);
	world_fini(&w);
}

static void a_post_whose_connection_died_after_it_was_sent_is_not_sent_again(void **state)
{
	char big[200001] = {0};
	struct answer a = {0};
	struct upstream *u;
	struct world w;

	UNUSED(state);
	memset(big, 'b',
	       sizeof big - 1); /* curl sends bodies of that size by another way */
	world_init(&w);
	u = upstream_local(&w, 0);
	for (int i = 0; i < 2; i++) {
		w.server.manners = LEAVES_AT_SECOND;
		w.server.requests = 0;
		call(&w, &a, u, "first", NULL);
		assert_good(&a);
		call(&w, &a, u, i ? big : "second", NULL);
		assert_failed_with(&a, ERR_TRANSPORT, "not sent again");
		assert_false(a.got_bytes);
		run_some(&w);
		assert_int_equal(w.server.requests, 2);
		assert_int_equal(upstream_stats(u)->replays_refused, i + 1);
	}
	w.server.manners = ANSWERS; /* and it has done no harm */
	call(&w, &a, u, "third", NULL);
	assert_good(&a);
	upstream_free(u);
	answer_free(&a);
	world_fini(&w);
}

static void a_get_may_be_sent_again(void **state)
{
	struct answer a = {0};
	struct upstream *u;
	struct world w;

	UNUSED(state);
	world_init(&w);
	w.server.manners = LEAVES_AT_SECOND;
	u = upstream_local(&w, 0);
	call(&w, &a, u, NULL, NULL);
	assert_good(&a);
	call(&w, &a, u, NULL, NULL);
	assert_good(&a);
	assert_int_equal(w.server.requests, 3);
	upstream_free(u);
	answer_free(&a);
	world_fini(&w);
}

static void a_connection_lost_on_first_use_is_an_error_of_transport(void **state)
{
	struct answer a = {0};
	struct upstream *u;
	struct world w;

	UNUSED(state);
	world_init(&w);
	w.server.manners = LEAVES_AT_FIRST;
	u = upstream_local(&w, 0);
	call(&w, &a, u, "{}", NULL);
	assert_failed_with(&a, ERR_TRANSPORT, "connection was lost");
	assert_int_equal(w.server.requests, 1);
	assert_int_equal(upstream_stats(u)->replays_refused, 0);
	upstream_free(u);
	answer_free(&a);
	world_fini(&w);
}

static void a_body_of_megabytes_arrives_whole(void **state)
{
	size_t n = 8 << 20;
	char *big = xmalloc(n + 1);
	struct answer a = {0};
	struct upstream *u;
	struct world w;

	UNUSED(state);
	memset(big, 'x', n);
	big[n] = 0;
	world_init(&w);
	u = upstream_local(&w, 0);
	call(&w, &a, u, big, NULL);
	assert_good(&a);
	assert_int_equal(w.server.requests, 1);
	upstream_free(u);
	answer_free(&a);
	world_fini(&w);
	free(big);
}

/* ---- warming */

static void a_warmed_connection_serves_the_next_call(void **state)
{
	struct answer a = {0};
	struct upstream *u, *other;
	struct world w;

	UNUSED(state);
	world_init(&w);
	u = upstream_local(&w, 0);
	other = upstream_local(&w, 0); /* of the same origin */
	upstream_warm(u);
	upstream_warm(u);
	upstream_warm(other);
	RUN_UNTIL(&w, w.server.requests == 1);
	run_some(&w);
	upstream_warm(other);
	run_some(&w);
	assert_int_equal(w.server.connections, 1);
	assert_int_equal(w.server.requests, 1);
	assert_int_equal(upstream_stats(u)->calls, 0);
	call(&w, &a, other, "{}", NULL);
	assert_good(&a);
	assert_int_equal(w.server.connections, 1);
	assert_int_equal(upstream_stats(other)->new_connections, 0);
	assert_int_equal(upstream_stats(other)->reused, 1);
	upstream_free(u);
	upstream_free(other);
	answer_free(&a);
	world_fini(&w);
}

static void a_connection_that_the_server_closed_is_warmed_anew(void **state)
{
	struct upstream *u;
	struct world w;

	UNUSED(state);
	world_init(&w);
	u = upstream_local(&w, 0);
	upstream_warm(u);
	RUN_UNTIL(&w, w.server.requests == 1);
	run_some(&w);
	hang_up(&w.server);
	run_some(&w);
	upstream_warm(u);
	RUN_UNTIL(&w, w.server.requests == 2);
	assert_int_equal(w.server.connections, 2);
	upstream_free(u); /* cancels it */
	world_fini(&w);
}

/* ---- the queue */

static void calls_beyond_the_limit_wait_in_order_of_coming(void **state)
{
	static const char *const bodies[] = {"a", "b", "c", "d", "e", "f"};
	struct answer a[6] = {0};
	struct upstream *u, *other;
	struct world w;

	UNUSED(state);
	world_init(&w);
	w.server.manners = HOLDS;
	u = upstream_local(&w, 2);
	other = upstream_local(&w, 2);
	for (int i = 0; i < 6; i++)
		start(&a[i], i % 2 ? other : u, bodies[i], NULL);
	RUN_UNTIL(&w, w.server.requests == 2);
	run_some(&w);
	assert_int_equal(w.server.requests, 2);
	assert_int_equal(upstream_stats(u)->running, 1);
	assert_int_equal(upstream_stats(u)->queued, 2);
	for (int done = 1; done <= 6; done++) {
		int want = done + 2 < 6 ? done + 2 : 6;

		release(&w.server, 1);
		RUN_UNTIL(&w, w.server.requests == want);
		run_some(&w);
		assert_int_equal(w.server.requests, want);
	}
	for (int i = 0; i < 6; i++) {
		assert_good(&a[i]);
		answer_free(&a[i]);
	}
	assert_int_equal(w.server.connections, 2);
	assert_memory_equal(w.server.order + 2, "cdef", 4);
	upstream_free(u);
	upstream_free(other);
	world_fini(&w);
}

static void a_call_that_waits_too_long_in_the_queue_is_told_busy(void **state)
{
	const struct fetch_deadlines hurried = {.queue = 30, .connect = 20000};
	struct answer a = {0}, b = {0};
	struct upstream *u;
	struct world w;

	UNUSED(state);
	world_init(&w);
	w.server.manners = HOLDS;
	u = upstream_local(&w, 1);
	start(&a, u, "a", &hurried); /* running: the queue's deadline is not its own */
	call(&w, &b, u, "b", &hurried);
	assert_failed_with(&b, ERR_BUSY, "30 ms");
	assert_false(b.got_bytes);
	assert_int_equal(upstream_stats(u)->queued, 0);
	run_some(&w);
	assert_int_equal(a.ends, 0);
	assert_int_equal(w.server.requests, 1);
	release(&w.server, 1);
	RUN_UNTIL(&w, a.ends);
	assert_good(&a);
	upstream_free(u);
	answer_free(&a);
	answer_free(&b);
	world_fini(&w);
}

static void
the_total_deadline_counts_the_queue_and_the_first_byte_s_does_not(void **state)
{
	const struct fetch_deadlines total = {.total = 30};
	const struct fetch_deadlines first = {.first_byte = 60};
	struct answer a = {0}, b = {0}, c = {0};
	struct upstream *u;
	struct world w;

	UNUSED(state);
	world_init(&w);
	w.server.manners = HOLDS;
	u = upstream_local(&w, 1);
	start(&a, u, "a", NULL);
	start(&b, u, "b", &total);
	start(&c, u, "c", &first);
	RUN_UNTIL(&w, b.ends);
	assert_failed_with(&b, ERR_TIMEOUT, "not done");
	RUN_UNTIL(&w, w.pulses > 20);
	assert_int_equal(c.ends, 0);
	release(&w.server, 1);
	RUN_UNTIL(&w, a.ends);
	RUN_UNTIL(&w, c.ends);
	assert_failed_with(&c, ERR_TIMEOUT, "no answer");
	assert_memory_equal(w.server.order, "ac", 2);
	upstream_free(u);
	answer_free(&a);
	answer_free(&b);
	answer_free(&c);
	world_fini(&w);
}

static void a_cancelled_call_gives_its_place_to_the_next(void **state)
{
	struct answer a = {0}, b = {0}, c = {0};
	struct upstream *u;
	struct world w;

	UNUSED(state);
	world_init(&w);
	w.server.manners = HOLDS;
	u = upstream_local(&w, 1);
	start(&a, u, "a", NULL);
	start(&b, u, "b", NULL);
	start(&c, u, "c", NULL);
	RUN_UNTIL(&w, w.server.requests == 1);
	fetch_cancel(b.call); /* one that waits */
	fetch_cancel(a.call); /* one that runs */
	RUN_UNTIL(&w, w.server.requests == 2);
	assert_memory_equal(w.server.order, "ac", 2);
	release(&w.server, 9);
	RUN_UNTIL(&w, c.ends);
	assert_good(&c);
	assert_int_equal(a.ends + b.ends, 0);
	assert_int_equal(w.server.connections, 2); /* a's was closed */
	upstream_free(u);
	answer_free(&c);
	world_fini(&w);
}

static void freeing_an_upstream_cancels_what_waits(void **state)
{
	struct answer a = {0}, b = {0};
	struct upstream *u;
	struct world w;

	UNUSED(state);
	world_init(&w);
	w.server.manners = HOLDS;
	u = upstream_local(&w, 1);
	start(&a, u, "a", NULL);
	start(&b, u, "b", NULL);
	upstream_free(u);
	run_some(&w);
	assert_int_equal(a.ends + b.ends, 0);
	world_fini(&w);
}

/* ---- deadlines */

static void a_server_that_never_shakes_hands_ends_the_connect_deadline(void **state)
{
	const struct fetch_deadlines hurried = {.connect = 40, .first_byte = 20000};
	struct answer a = {0}, b = {0};
	struct upstream *u;
	struct world w;

	UNUSED(state);
	world_init(&w);
	w.server.manners = IS_SILENT;
	u = upstream_to(&w, "https", "127.0.0.1", NULL);
	start(&a, u, "{}", &hurried);
	start(&b, u, "{}",
	      &hurried); /* waits for the other's connection, and no longer */
	RUN_UNTIL(&w, a.ends && b.ends);
	assert_failed_with(&a, ERR_TIMEOUT, "no connection");
	assert_failed_with(&b, ERR_TIMEOUT, "no connection");
	assert_int_equal(w.server.requests, 0);
	upstream_free(u);
	answer_free(&a);
	answer_free(&b);
	world_fini(&w);
}

/* curl closes a socket that is still connecting without telling anybody. */
static void a_cancel_while_connecting_leaves_no_poll_behind(void **state)
{
	struct answer a = {0};
	struct upstream *u;
	struct world w;

	UNUSED(state);
	world_init(&w);
	for (int turns = 0; turns < 6; turns++) {
		u = upstream_to(&w, turns % 2 ? "https" : "http", "127.0.0.1", NULL);
		w.server.manners = IS_SILENT;
		start(&a, u, "{}", NULL);
		for (int i = 0; i < turns;
		     i++) /* not a turn of the loop: that connects */
			fetch_run(w.fetch, CURL_SOCKET_TIMEOUT, 0);
		fetch_cancel(a.call);
		for (size_t i = 0; i < w.fetch->nsocks; i++)
			assert_null(w.fetch->socks[i]);
		run_some(&w);
		upstream_free(u);
		u = upstream_local(&w, 0); /* its two ends get the numbers */
		w.server.manners = ANSWERS;
		call(&w, &a, u, "{}", NULL);
		assert_good(&a);
		hang_up(&w.server);
		run_some(&w);
		upstream_free(u);
		u = upstream_local(&w, 0); /* lets curl see that the other was closed */
		call(&w, &a, u, "{}", NULL);
		assert_good(&a);
		w.server.manners = LEAVES_AT_SECOND;
		call(&w, &a, u, "{}", NULL);
		assert_int_equal(a.ends, 1);
		upstream_free(u);
	}
	answer_free(&a);
	world_fini(&w);
}

static void a_port_where_nobody_listens_is_an_error_of_transport(void **state)
{
	struct answer a = {0};
	struct upstream *u;
	struct err e = {0};
	struct world w;

	UNUSED(state);
	world_init(&w);
	u = upstream_new(w.fetch, "http://127.0.0.1:1/", NULL, &e);
	call(&w, &a, u, "{}", NULL);
	assert_failed_with(&a, ERR_TRANSPORT, "cannot connect");
	assert_false(a.got_bytes);
	upstream_free(u);
	answer_free(&a);
	world_fini(&w);
}

/* ---- local only */

static void local_only_refuses_what_is_not_this_machine(void **state)
{
	static const char *const hosts[] = {
		"192.0.2.1", "hob-test.invalid", "localhost.hob-test.invalid",
		"127.0.0.1.hob-test.invalid", "[2001:db8::1]"};
	struct answer a = {0};
	struct upstream *u;
	struct world w;

	UNUSED(state);
	world_init(&w);
	fetch_set_local_only(w.fetch, true);
	for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
		u = upstream_to(&w, "http", hosts[i], NULL);
		upstream_warm(u);
		call(&w, &a, u, "{}", NULL);
		assert_failed_with(&a, ERR_FORBIDDEN, "local");
		assert_int_equal(upstream_stats(u)->new_connections, 0);
		upstream_free(u);
	}
	assert_int_equal(w.fetch->nsocks, 0); /* curl was not even asked */
	answer_free(&a);
	world_fini(&w);
}

static void local_only_allows_localhost_and_loopback_addresses(void **state)
{
	static const char *const hosts[] = {"127.0.0.1", "localhost", "LocalHost"};
	struct answer a = {0};
	struct upstream *u;
	struct world w;

	UNUSED(state);
	world_init(&w);
	setenv("http_proxy", "http://192.0.2.1:9", 1);
	fetch_set_local_only(w.fetch, true);
	for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
		u = upstream_to(&w, "http", hosts[i], NULL);
		call(&w, &a, u, "{}", NULL);
		assert_good(&a);
		upstream_free(u);
	}
	unsetenv("http_proxy");
	answer_free(&a);
	world_fini(&w);
}

/* Whatever address a name gave. */
static void local_only_opens_no_socket_to_a_foreign_address(void **state)
{
	static const struct {
		const char *address;
		bool loopback;
	} cases[] = {{"192.0.2.1", false},
		     {"127.0.0.1", true},
		     {"127.9.9.9", true},
		     {"128.0.0.1", false},
		     {"0.0.0.0", false},
		     {"::1", true},
		     {"::", false},
		     {"2001:db8::1", false},
		     {"::ffff:127.0.0.1", true},
		     {"::ffff:192.0.2.1", false}};
	struct answer a = {0};
	struct upstream *u;
	struct world w;

	UNUSED(state);
	world_init(&w);
	w.server.manners = HOLDS;
	u = upstream_local(&w, 0);
	for (int on = 0; on < 2; on++) {
		fetch_set_local_only(w.fetch, on);
		for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
			struct curl_sockaddr s = {.socktype = SOCK_STREAM};
			struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
			struct sockaddr_in v4 = {.sin_family = AF_INET};
			bool is_v6 = strchr(cases[i].address, ':');
			/* curl hands over room for any address behind the struct */
			struct {
				struct curl_sockaddr a;
				char more[64];
			} box = {.a = s};
			curl_socket_t fd;

			start(&a, u, "{}", NULL);
			box.a.family = is_v6 ? AF_INET6 : AF_INET;
			inet_pton(box.a.family, cases[i].address,
				  is_v6 ? (void *)&v6.sin6_addr : (void *)&v4.sin_addr);
			memcpy((char *)&box + offsetof(struct curl_sockaddr, addr),
			       is_v6 ? (void *)&v6 : (void *)&v4,
			       is_v6 ? sizeof v6 : sizeof v4);
			fd = socket_on_open(a.call, CURLSOCKTYPE_IPCXN, &box.a);
			assert_int_equal(fd != CURL_SOCKET_BAD, !on || cases[i].loopback);
			assert_int_equal(a.call->forbidden, on && !cases[i].loopback);
			if (fd != CURL_SOCKET_BAD)
				socket_on_close(w.fetch, fd);
			fetch_cancel(a.call);
			run_some(&w);
		}
	}
	upstream_free(u);
	answer_free(&a);
	world_fini(&w);
}

static void local_only_ends_a_running_call_to_another_machine(void **state)
{
	char proxy[64];
	struct answer far = {0}, waits = {0}, near = {0};
	struct upstream_options one = {.max_connections = 1};
	struct upstream *u, *n;
	struct world w;

	UNUSED(state);
	world_init(&w);
	w.server.manners = HOLDS;
	snprintf(proxy, sizeof proxy, "http://127.0.0.1:%d", w.server.port);
	setenv("http_proxy", proxy, 1); /* so that it runs without leaving this machine */
	u = upstream_to(&w, "http", "hob-test.invalid", &one);
	n = upstream_local(&w, 0);
	start(&far, u, "f", NULL);
	start(&waits, u, "w", NULL);
	start(&near, n, "n", NULL);
	RUN_UNTIL(&w, w.server.requests == 2);
	fetch_set_local_only(w.fetch, true);
	fetch_set_local_only(w.fetch, true);
	assert_int_equal(far.ends, 0); /* in a later turn */
	RUN_UNTIL(&w, far.ends && waits.ends);
	assert_failed_with(&far, ERR_FORBIDDEN, "hob-test.invalid");
	assert_failed_with(&waits, ERR_FORBIDDEN, "hob-test.invalid");
	release(&w.server, 9);
	RUN_UNTIL(&w, near.ends);
	assert_good(&near);
	call(&w, &far, u, "f", NULL);
	assert_failed_with(&far, ERR_FORBIDDEN, "hob-test.invalid");
	fetch_set_local_only(w.fetch, false);
	w.server.manners = ANSWERS;
	call(&w, &far, u, "f", NULL);
	assert_good(&far);
	unsetenv("http_proxy");
	upstream_free(u);
	upstream_free(n);
	answer_free(&far);
	answer_free(&waits);
	answer_free(&near);
	world_fini(&w);
}

/* ---- authorities */

static void assert_ca_refused(struct world *w, const char *text, const char *why)
{
	char path[] = "/tmp/hob-ca-XXXXXX";
	struct upstream_options o = {.ca_file = path};
	struct err e = {0};
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
	assert_null(upstream_new(w->fetch, "https://127.0.0.1/", &o, &e));
	unlink(path);
	assert_int_equal(e.code, ERR_INVALID);
	if (!strstr(e.text, why) || !strstr(e.text, path))
		fail_msg("'%s' is not in: %s", why, e.text);
}

static void a_ca_file_that_is_not_good_is_an_error_at_once(void **state)
{
	struct upstream_options o = {.ca_file = "/nonexistent/ca.pem"};
	struct err e = {0};
	struct world w;

	UNUSED(state);
	world_init(&w);
	assert_null(upstream_new(w.fetch, "https://127.0.0.1/", &o, &e));
	assert_int_equal(e.code, ERR_INVALID);
	o.ca_file = "/";
	assert_null(upstream_new(w.fetch, "https://127.0.0.1/", &o, &e));
	assert_ca_refused(&w, "", "no certificate");
	assert_ca_refused(&w, "hello\n", "no certificate");
	assert_ca_refused(&w, "-----BEGIN CERTIFICATE-----\nMIIB\n", "damaged");
	assert_ca_refused(&w, "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
			  "damaged");
	assert_ca_refused(
		&w, "-----BEGIN CERTIFICATE-----\nMIIB!zCC\n-----END CERTIFICATE-----\n",
		"damaged");
	assert_ca_refused(
		&w, "-----BEGIN CERTIFICATE-----\nMIIBAAAA\n-----END CERTIFICATE-----\n",
		"damaged"); /* shorter than it says */
	assert_ca_refused(
		&w,
		"-----BEGIN RSA PRIVATE KEY-----\nMIIB\n-----END RSA PRIVATE KEY-----\n",
		"no certificate");
	world_fini(&w);
}

static void the_system_s_own_bundle_is_a_good_ca_file(void **state)
{
	const char *bundle = curl_version_info(CURLVERSION_NOW)->cainfo;
	struct upstream_options o = {.ca_file = bundle};
	struct upstream *u, *again;
	struct err e = {0};
	struct world w;

	UNUSED(state);
	if (!bundle || access(bundle, R_OK))
		skip();
	world_init(&w);
	u = upstream_new(w.fetch, "https://127.0.0.1/", &o, &e);
	if (!u)
		fail_msg("%s", e.text);
	again = upstream_new(w.fetch, "https://127.0.0.1/x", &o, &e);
	assert_ptr_equal(u->origin, again->origin);
	upstream_free(u);
	upstream_free(again);
	world_fini(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_second_call_reuses_the_connection),
		cmocka_unit_test(a_connection_closed_while_idle_costs_no_failure),
		cmocka_unit_test(
			a_post_whose_connection_died_after_it_was_sent_is_not_sent_again),
		cmocka_unit_test(a_get_may_be_sent_again),
		cmocka_unit_test(a_connection_lost_on_first_use_is_an_error_of_transport),
		cmocka_unit_test(a_body_of_megabytes_arrives_whole),
		cmocka_unit_test(a_warmed_connection_serves_the_next_call),
		cmocka_unit_test(a_connection_that_the_server_closed_is_warmed_anew),
		cmocka_unit_test(calls_beyond_the_limit_wait_in_order_of_coming),
		cmocka_unit_test(a_call_that_waits_too_long_in_the_queue_is_told_busy),
		cmocka_unit_test(
			the_total_deadline_counts_the_queue_and_the_first_byte_s_does_not),
		cmocka_unit_test(a_cancelled_call_gives_its_place_to_the_next),
		cmocka_unit_test(freeing_an_upstream_cancels_what_waits),
		cmocka_unit_test(
			a_server_that_never_shakes_hands_ends_the_connect_deadline),
		cmocka_unit_test(a_cancel_while_connecting_leaves_no_poll_behind),
		cmocka_unit_test(a_port_where_nobody_listens_is_an_error_of_transport),
		cmocka_unit_test(local_only_refuses_what_is_not_this_machine),
		cmocka_unit_test(local_only_allows_localhost_and_loopback_addresses),
		cmocka_unit_test(local_only_opens_no_socket_to_a_foreign_address),
		cmocka_unit_test(local_only_ends_a_running_call_to_another_machine),
		cmocka_unit_test(a_ca_file_that_is_not_good_is_an_error_at_once),
		cmocka_unit_test(the_system_s_own_bundle_is_a_good_ca_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
