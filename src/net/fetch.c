/* Outgoing HTTP calls: one libcurl multi on the loop, on the loop's thread.
 *
 * What a reader may question, measured in the research on proxies that the design rests on:
 *  - A socket keeps its uv_poll_t for as long as it lives.  curl takes its interest back after
 *    each transfer, but arming again costs six epoll_ctl a call.  Only sockets we opened
 *    ourselves are kept: of their close we hear too.  The resolver's wake-up pair is closed
 *    behind our back, so it is polled the plain way.
 *  - A timeout of zero from curl stays zero: rounded up to 1 ms it would add 1 ms to each call.
 *  - Easy handles belong to an upstream and keep their options; a call sets its body.
 *  - libcurl must not be re-entered, so its write callback only gathers bytes.  They are
 *    delivered after curl returned (deliver()), with one data() for all that one socket held. */
#include "net/fetch.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	MAX_DESCRIPTORS = 1 << 16,
	MAX_SPARE = 16, /* warm handles kept for each upstream */
	KEEPALIVE_IDLE_S = 30,
	KEEPALIVE_INTERVAL_S = 15,
};

TAILQ_HEAD(call_queue, fetch_call);

struct fetch {
	uv_loop_t *loop;
	CURLM *multi;
	uv_timer_t timer;    /* curl's clock */
	uv_timer_t kick;     /* delivers what came while nobody was delivering */
	struct sock **socks; /* owned; by descriptor; NULL where there is none */
	size_t nsocks;
	struct call_queue ready; /* calls that owe a data() or an end() */
	struct fetch_call
		*delivering; /* the sink being called; NULL once it was cancelled */
	bool in_curl, closing;
	int open_handles, upstreams;
	void (*done)(void *arg);
	void *done_arg;
};

struct upstream {
	struct fetch *fetch; /* borrowed: outlives us */
	char *url, *host;    /* owned */
	char *socket_path;   /* owned; NULL: the URL's host by TCP */
	struct curl_slist *headers;
	bool loopback;
	struct call_queue spare, running;
	int nspare, ncalls; /* ncalls: also those whose timer is closing */
	bool freed;         /* goes with its last call */
};

struct fetch_call {
	CURL *easy;
	struct upstream *up;
	struct fetch_sink *sink; /* borrowed; NULL: the call is spare */
	struct buf body;         /* owned; curl reads it */
	struct buf gathered;     /* response bytes not delivered yet */
	uv_timer_t timer;        /* the nearest deadline */
	struct fetch_deadlines limits;
	uint64_t start_ms, last_ms,
		end_by_ms; /* of the loop's clock; end_by_ms 0 = none */
	bool progressed, paused, curl_paused, queued, ended;
	CURLcode result; /* when ended */
	char detail[CURL_ERROR_SIZE];
	TAILQ_ENTRY(fetch_call) link;       /* spare or running */
	TAILQ_ENTRY(fetch_call) ready_link; /* when queued */
};

/* ---- handles ---- */

static void fetch_unref(struct fetch *f)
{
	void (*done)(void *arg) = f->done;
	void *arg = f->done_arg;

	if (--f->open_handles > 0 || !f->closing)
		return;
	free(f->socks);
	free(f);
	done(arg);
}

/* ---- sockets ---- */

struct sock {
	uv_poll_t poll;
	struct fetch *f;
	curl_socket_t fd;
	int want, armed; /* curl's interest; libuv's */
	bool ours;
};

static void on_socket_ready(uv_poll_t *p, int status, int events);

static void on_sock_closed(uv_handle_t *h)
{
	struct sock *s = h->data;
	struct fetch *f = s->f;

	free(s);
	fetch_unref(f);
}

static void sock_close(struct sock *s)
{
	s->f->socks[s->fd] = NULL;
	uv_poll_stop(&s->poll);
	uv_close((uv_handle_t *)&s->poll, on_sock_closed);
}

static void sock_arm(struct sock *s, int events)
{
	if (s->armed == events) /* uv_poll_start always pays for DEL + ADD */
		return;
	s->armed = events;
	if (!events || uv_poll_start(&s->poll, events, on_socket_ready) < 0)
		uv_poll_stop(&s->poll);
}

static struct sock *sock_get(struct fetch *f, curl_socket_t fd)
{
	return fd >= 0 && (size_t)fd < f->nsocks ? f->socks[fd] : NULL;
}

static struct sock *sock_new(struct fetch *f, curl_socket_t fd, bool ours)
{
	size_t n = f->nsocks ? f->nsocks : 64;
	struct sock *s;

	if (fd < 0 || fd >= MAX_DESCRIPTORS)
		return NULL;
	while (n <= (size_t)fd)
		n *= 2;
	if (n > f->nsocks) {
		f->socks = xrealloc(f->socks, n * sizeof *f->socks);
		memset(f->socks + f->nsocks, 0, (n - f->nsocks) * sizeof *f->socks);
		f->nsocks = n;
	}
	if (f->socks[fd]) /* closed behind our back, and the number came again */
		sock_close(f->socks[fd]);
	s = xcalloc(1, sizeof *s);
	*s = (struct sock){.f = f, .fd = fd, .ours = ours};
	if (uv_poll_init_socket(f->loop, &s->poll, fd) < 0) {
		free(s);
		return NULL;
	}
	f->open_handles++;
	s->poll.data = s;
	return f->socks[fd] = s;
}

static curl_socket_t on_open(void *arg, curlsocktype purpose, struct curl_sockaddr *a)
{
	int fd = socket(a->family, a->socktype | SOCK_CLOEXEC | SOCK_NONBLOCK,
			a->protocol);

	UNUSED(purpose);
	if (fd < 0 || sock_new(arg, fd, true))
		return fd; /* CURL_SOCKET_BAD is -1 */
	close(fd);
	return CURL_SOCKET_BAD;
}

static int on_close(void *arg, curl_socket_t fd)
{
	struct sock *s = sock_get(arg, fd);

	if (s) /* libuv lets go of it before it is closed */
		sock_close(s);
	return close(fd);
}

static int on_interest(CURL *easy, curl_socket_t fd, int what, void *arg, void *unused)
{
	struct fetch *f = arg;
	struct sock *s = sock_get(f, fd);

	UNUSED(easy);
	UNUSED(unused);
	if (what == CURL_POLL_REMOVE) {
		if (s && !s->ours)
			sock_close(s);
		else if (s)
			s->want = 0; /* stays armed: the next call finds it ready to go */
		return 0;
	}
	if (!s && !(s = sock_new(f, fd, false)))
		return 0; /* -1 would fail every transfer */
	s->want = (what & CURL_POLL_IN ? UV_READABLE : 0) |
		  (what & CURL_POLL_OUT ? UV_WRITABLE : 0);
	sock_arm(s, s->want);
	return 0;
}

/* ---- calls: their end ---- */

static void call_enqueue(struct fetch_call *c)
{
	struct fetch *f = c->up->fetch;

	if (c->queued)
		return;
	c->queued = true;
	TAILQ_INSERT_TAIL(&f->ready, c, ready_link);
}

static void on_kick(uv_timer_t *t);

/* For what becomes ready outside run_curl(): delivered in the next turn. */
static void fetch_kick(struct fetch *f)
{
	if (!f->closing && !TAILQ_EMPTY(&f->ready))
		uv_timer_start(&f->kick, on_kick, 0, 0);
}

static void call_dequeue(struct fetch_call *c)
{
	if (c->queued)
		TAILQ_REMOVE(&c->up->fetch->ready, c, ready_link);
	c->queued = false;
}

static void upstream_unref(struct upstream *u)
{
	if (u->ncalls > 0 || !u->freed)
		return;
	curl_slist_free_all(u->headers);
	free(u->host);
	free(u->socket_path);
	free(u->url);
	free(u);
}

static void on_call_closed(uv_handle_t *h)
{
	struct fetch_call *c = h->data;
	struct upstream *u = c->up;
	struct fetch *f = u->fetch;

	free(c);
	u->ncalls--;
	upstream_unref(u);
	fetch_unref(f);
}

/* A spare one for good. */
static void call_free(struct fetch_call *c)
{
	TAILQ_REMOVE(&c->up->spare, c, link);
	c->up->nspare--;
	curl_easy_cleanup(c->easy);
	buf_free(&c->gathered);
	uv_close((uv_handle_t *)&c->timer, on_call_closed);
}

/* Off the multi: after this curl knows nothing of the call, and its connection is closed unless
 * the response was complete. */
static void call_detach(struct fetch_call *c)
{
	struct fetch *f = c->up->fetch;
	bool nested = f->in_curl;

	f->in_curl = true;
	curl_multi_remove_handle(f->multi, c->easy);
	f->in_curl = nested;
}

/* Back among the spare ones; its owner's pointer is dead now. */
static void call_retire(struct fetch_call *c)
{
	struct upstream *u = c->up;

	ASSERT(!u->fetch->in_curl);
	if (!c->ended)
		call_detach(c);
	call_dequeue(c);
	uv_timer_stop(&c->timer);
	if (u->fetch->delivering == c)
		u->fetch->delivering = NULL;
	c->sink = NULL;
	buf_free(&c->body);
	buf_clear(&c->gathered);
	TAILQ_REMOVE(&u->running, c, link);
	TAILQ_INSERT_HEAD(&u->spare, c, link);
	if (++u->nspare > MAX_SPARE)
		call_free(c);
}

/* ---- errors ---- */

static int call_error(struct fetch_call *c, struct err *e)
{
	const char *host = c->up->host, *why = c->detail[0] ? c->detail : NULL;

	if (!why)
		why = curl_easy_strerror(c->result);
	switch (c->result) {
	case CURLE_COULDNT_RESOLVE_HOST:
		return err_set(e, ERR_UPSTREAM,
			       "%s: name not found; is this machine offline?", host);
	case CURLE_COULDNT_RESOLVE_PROXY:
		return err_set(e, ERR_UPSTREAM,
			       "%s: the proxy's name was not found (%.200s)", host, why);
	case CURLE_COULDNT_CONNECT:
		return err_set(e, ERR_UPSTREAM, "%s: cannot connect (%.200s)", host, why);
	case CURLE_OPERATION_TIMEDOUT: /* CONNECTTIMEOUT_MS is the only one we give curl */
		return err_set(e, ERR_TIMEOUT, "%s: no connection within %d ms", host,
			       c->limits.connect);
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CACERT_BADFILE:
		return err_set(e, ERR_UPSTREAM, "%s: TLS failed (%.300s)", host, why);
	case CURLE_GOT_NOTHING:
	case CURLE_PARTIAL_FILE:
	case CURLE_RECV_ERROR:
	case CURLE_SEND_ERROR:
	case CURLE_HTTP2:
	case CURLE_HTTP2_STREAM:
		return err_set(e, ERR_UPSTREAM, "%s: the connection was lost (%.200s)",
			       host, why);
	default:
		return err_set(e, ERR_UPSTREAM, "%s: %.300s", host, why);
	}
}

/* ---- delivery ---- */

static void call_watch(struct fetch_call *c);

static void call_end(struct fetch_call *c, const struct err *e)
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

static void call_deliver(struct fetch_call *c)
{
	struct fetch *f = c->up->fetch;
	struct buf bytes = c->gathered;
	struct err e = {0};
	bool progress;

	if (c->paused)
		return; /* fetch_pause() puts it back */
	if (bytes.len) {
		c->gathered = (struct buf){0};
		c->last_ms = uv_now(f->loop);
		f->delivering = c;
		progress = c->sink->data(c->sink, bytes.data, bytes.len);
		if (f->delivering != c) {
			buf_free(&bytes);
			return;
		}
		c->progressed |= progress;
		if (c->gathered.data) { /* the sink resumed, and curl had more at once */
			buf_free(&bytes);
		} else {
			c->gathered = bytes; /* its memory serves the next bytes */
			buf_clear(&c->gathered);
		}
		call_watch(c);
	}
	if (c->ended && !c->paused) {
		if (c->result != CURLE_OK)
			call_error(c, &e);
		call_end(c, c->result == CURLE_OK ? NULL : &e);
	} else if (c->curl_paused && !c->paused && !c->ended) {
		unpause_curl(
			c); /* more may be ready at once: the queue is not done yet */
	}
}

static void deliver(struct fetch *f)
{
	struct fetch_call *c;

	while ((c = TAILQ_FIRST(&f->ready))) {
		call_dequeue(c);
		call_deliver(c);
	}
	f->delivering = NULL;
}

static void run_curl(struct fetch *f, curl_socket_t fd, int events)
{
	struct fetch_call *c;
	int running, left;
	CURLMsg *m;

	f->in_curl = true;
	curl_multi_socket_action(f->multi, fd, events, &running);
	f->in_curl = false;
	while ((m = curl_multi_info_read(f->multi, &left))) {
		CURLcode why = m->data.result; /* m goes with the handle */

		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&c);
		call_detach(c);
		c->ended = true;
		c->result = why;
		call_enqueue(c);
	}
	deliver(f);
}

static void on_socket_ready(uv_poll_t *p, int status, int events)
{
	struct sock *s = p->data;

	if (!s->want) /* pooled or paused, and the peer spoke or left: curl looks at it when it */
		sock_arm(s, 0); /* uses the socket again */
	else if (status < 0)
		run_curl(s->f, s->fd, CURL_CSELECT_ERR);
	else
		run_curl(s->f, s->fd,
			 (events & UV_READABLE ? CURL_CSELECT_IN : 0) |
				 (events & UV_WRITABLE ? CURL_CSELECT_OUT : 0));
}

static void on_timer(uv_timer_t *t)
{
	run_curl(t->data, CURL_SOCKET_TIMEOUT, 0);
}

static void on_kick(uv_timer_t *t)
{
	deliver(t->data);
}

static int on_timeout(CURLM *multi, long ms, void *arg)
{
	struct fetch *f = arg;

	UNUSED(multi);
	if (ms < 0 || f->closing)
		uv_timer_stop(&f->timer);
	else /* 0 runs in the next turn, before the loop sleeps */
		uv_timer_start(&f->timer, on_timer, (uint64_t)ms, 0);
	return 0;
}

static size_t on_body(char *bytes, size_t size, size_t n, void *arg)
{
	struct fetch_call *c = arg;

	if (c->paused || c->gathered.len + n * size > FETCH_MAX_GATHER_BYTES) {
		c->curl_paused = true;
		return CURL_WRITEFUNC_PAUSE; /* curl keeps this one piece */
	}
	buf_add(&c->gathered, bytes, n * size);
	call_enqueue(c);
	return n * size;
}

/* ---- deadlines ---- */

static void nearest(uint64_t *due, const char **what, int *limit, uint64_t start, int ms,
		    const char *name)
{
	if (ms <= 0 || (*due && start + (uint64_t)ms >= *due))
		return;
	*due = start + (uint64_t)ms;
	*what = name;
	*limit = ms;
}

/* The nearest deadline on the loop's clock, 0 = none. */
static uint64_t call_due(const struct fetch_call *c, const char **what, int *limit)
{
	uint64_t due = 0;

	nearest(&due, what, limit, c->start_ms, c->limits.total, "not done");
	if (!c->paused && !c->progressed)
		nearest(&due, what, limit, c->start_ms, c->limits.first_byte,
			"no answer");
	if (!c->paused && c->last_ms)
		nearest(&due, what, limit, c->last_ms, c->limits.idle, "silent");
	if (c->end_by_ms && (!due || c->end_by_ms < due)) {
		due = c->end_by_ms;
		*what = "did not end in time";
		*limit = 0;
	}
	return due;
}

static void on_deadline(uv_timer_t *t);

/* After anything that may bring the nearest deadline closer.  One that moved away is found to
 * have moved when the timer fires: that is cheaper than to set it anew for every piece. */
static void call_watch(struct fetch_call *c)
{
	uv_handle_t *h = (uv_handle_t *)&c->timer;
	const char *what = "";
	int limit = 0;
	uint64_t due = call_due(c, &what, &limit), now = uv_now(c->up->fetch->loop);
	uint64_t in = due > now ? due - now : 0;

	if (due && (!uv_is_active(h) || in < uv_timer_get_due_in(&c->timer)))
		uv_timer_start(&c->timer, on_deadline, in, 0);
}

static void on_deadline(uv_timer_t *t)
{
	struct fetch_call *c = t->data;
	struct fetch *f = c->up->fetch;
	const char *what = "";
	struct err e = {0};
	int limit = 0;
	uint64_t due = call_due(c, &what, &limit), now = uv_now(f->loop);

	if (!due || now < due) {
		call_watch(c);
		return;
	}
	if (limit)
		err_set(&e, ERR_TIMEOUT, "%s: %s for %d ms", c->up->host, what, limit);
	else
		err_set(&e, ERR_TIMEOUT, "%s: %s", c->up->host, what);
	if (!c->ended)
		call_detach(c);
	c->ended = true;
	call_dequeue(c);
	call_end(c, &e);
	f->delivering = NULL;
}

/* ---- the caller's side ---- */

#define SET(option, value) curl_easy_setopt(c->easy, CURLOPT_##option, value)

static void call_options(struct fetch_call *c)
{
	struct upstream *u = c->up;
	bool tls = !strncmp(u->url, "https:", 6);

	SET(URL, u->url);
	SET(HTTPHEADER, u->headers);
	SET(PRIVATE, c);
	SET(ERRORBUFFER, c->detail);
	SET(HTTP_VERSION,
	    tls ? (long)CURL_HTTP_VERSION_2TLS : (long)CURL_HTTP_VERSION_1_1);
	SET(PROTOCOLS_STR, "http,https");
	SET(FOLLOWLOCATION, 0L); /* a redirect would carry prompt and key elsewhere */
	SET(NOSIGNAL, 1L);
	SET(QUICK_EXIT, 1L); /* a cancel does not wait for the resolver's thread */
	if (u->loopback)
		SET(NOPROXY, "*");
	if (u->socket_path)
		SET(UNIX_SOCKET_PATH, u->socket_path);
	SET(TCP_KEEPALIVE, 1L);
	SET(TCP_KEEPIDLE, (long)KEEPALIVE_IDLE_S);
	SET(TCP_KEEPINTVL, (long)KEEPALIVE_INTERVAL_S);
	SET(MAXAGE_CONN,
	    u->socket_path ? (long)FETCH_MAX_IDLE_UNIX_S : (long)FETCH_MAX_IDLE_S);
	SET(MAXLIFETIME_CONN, (long)FETCH_MAX_AGE_S);
	SET(WRITEFUNCTION, on_body);
	SET(WRITEDATA, c);
	SET(OPENSOCKETFUNCTION, on_open);
	SET(OPENSOCKETDATA, u->fetch);
	SET(CLOSESOCKETFUNCTION, on_close);
	SET(CLOSESOCKETDATA, u->fetch);
}

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
	call_options(c);
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

struct fetch_call *fetch_start(struct upstream *u, struct buf *body,
			       const struct fetch_deadlines *d, struct fetch_sink *sink)
{
	struct fetch *f = u->fetch;
	struct fetch_call *c = call_get(u);

	ASSERT(!f->in_curl && !f->closing && !u->freed);
	TAILQ_INSERT_TAIL(&u->running, c, link);
	uv_update_time(f->loop);
	c->sink = sink;
	c->limits = *d;
	c->start_ms = uv_now(f->loop);
	c->last_ms = c->end_by_ms = 0;
	c->progressed = c->paused = c->curl_paused = c->ended = false;
	c->detail[0] = 0;
	if (body) {
		c->body = *body;
		*body = (struct buf){0};
		SET(POST, 1L);
		SET(POSTFIELDSIZE_LARGE, (curl_off_t)c->body.len);
		SET(POSTFIELDS, c->body.data ? c->body.data : "");
	} else {
		SET(HTTPGET, 1L);
	}
	SET(CONNECTTIMEOUT_MS, (long)d->connect); /* 0 is curl's own default, 300 s */
	curl_multi_add_handle(f->multi,
			      c->easy); /* asks for a timeout of zero, no more */
	call_watch(c);
	return c;
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
	if (c->gathered.len || c->ended)
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

struct str fetch_header(struct fetch_call *c, const char *name)
{
	struct curl_header *h;

	if (curl_easy_header(c->easy, name, 0, CURLH_HEADER, -1, &h) != CURLHE_OK)
		return (struct str){"", 0};
	return str_of(h->value);
}

/* ---- upstreams ---- */

bool fetch_host_is_loopback(const char *host)
{
	unsigned char v4[4];

	if (!strcmp(host, "localhost") || !strcmp(host, "[::1]") || !strcmp(host, "::1"))
		return true;
	return inet_pton(AF_INET, host, v4) == 1 && v4[0] == 127;
}

bool fetch_url_is_loopback(const char *text)
{
	char *host = NULL;
	CURLU *url = curl_url();
	bool is = !curl_url_set(url, CURLUPART_URL, text, 0) &&
		  !curl_url_get(url, CURLUPART_HOST, &host, 0) &&
		  fetch_host_is_loopback(host);

	curl_free(host);
	curl_url_cleanup(url);
	return is;
}

static int parse_url(struct upstream *u, struct err *e)
{
	char *host = NULL, *scheme = NULL;
	CURLU *url = curl_url();
	int rc = -1;

	if (curl_url_set(url, CURLUPART_URL, u->url, 0) ||
	    curl_url_get(url, CURLUPART_HOST, &host, 0) ||
	    curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) ||
	    (strcmp(scheme, "http") && strcmp(scheme, "https"))) {
		err_set(e, ERR_INVALID, "'%.200s' is no http or https URL", u->url);
	} else {
		u->host = xstrdup(host);
		u->loopback = fetch_host_is_loopback(host);
		rc = 0;
	}
	curl_free(host);
	curl_free(scheme);
	curl_url_cleanup(url);
	return rc;
}

struct upstream *upstream_new(struct fetch *f, const char *url,
			      const char *const *headers, struct err *e)
{
	struct upstream *u = xcalloc(1, sizeof *u);

	u->fetch = f;
	u->url = xstrdup(url);
	TAILQ_INIT(&u->spare);
	TAILQ_INIT(&u->running);
	if (parse_url(u, e) < 0) {
		free(u->url);
		free(u);
		return NULL;
	}
	/* Else a body over 1 MiB waits for a "100 Continue". */
	u->headers = curl_slist_append(NULL, "Expect:");
	for (; headers && *headers; headers++)
		u->headers = curl_slist_append(u->headers, *headers);
	f->upstreams++;
	return u;
}

void upstream_free(struct upstream *u)
{
	struct fetch_call *c;

	if (!u)
		return;
	while ((c = TAILQ_FIRST(&u->running)))
		fetch_cancel(c);
	while ((c = TAILQ_FIRST(&u->spare)))
		call_free(c);
	u->fetch->upstreams--;
	u->freed = true;
	upstream_unref(u);
}

void upstream_set_socket(struct upstream *u, const char *path)
{
	ASSERT(u->ncalls == 0 && !u->socket_path);
	u->socket_path = xstrdup(path);
}

bool upstream_is_loopback(const struct upstream *u)
{
	return u->loopback;
}

const char *upstream_host(const struct upstream *u)
{
	return u->host;
}

/* ---- the pool ---- */

struct fetch *fetch_new(uv_loop_t *loop, struct err *e)
{
	const curl_version_info_data *v = curl_version_info(CURLVERSION_NOW);
	struct fetch *f;

	if (curl_global_init(CURL_GLOBAL_DEFAULT) ||
	    !(v->features & CURL_VERSION_ASYNCHDNS)) {
		err_set(e, ERR_UNSUPPORTED,
			"libcurl %s cannot look up names without blocking", v->version);
		return NULL;
	}
	f = xcalloc(1, sizeof *f);
	f->loop = loop;
	f->multi = curl_multi_init();
	ASSERT(f->multi);
	TAILQ_INIT(&f->ready);
	uv_timer_init(loop, &f->timer);
	uv_timer_init(loop, &f->kick);
	f->timer.data = f->kick.data = f;
	f->open_handles = 2;
	curl_multi_setopt(f->multi, CURLMOPT_SOCKETFUNCTION, on_interest);
	curl_multi_setopt(f->multi, CURLMOPT_SOCKETDATA, f);
	curl_multi_setopt(f->multi, CURLMOPT_TIMERFUNCTION, on_timeout);
	curl_multi_setopt(f->multi, CURLMOPT_TIMERDATA, f);
	curl_multi_setopt(f->multi, CURLMOPT_MAXCONNECTS, (long)FETCH_MAX_CONNECTIONS);
	return f;
}

static void on_timer_closed(uv_handle_t *h)
{
	fetch_unref(h->data);
}

void fetch_close(struct fetch *f, void (*done)(void *arg), void *arg)
{
	ASSERT(f->upstreams == 0 && !f->closing);
	f->closing = true;
	f->done = done;
	f->done_arg = arg;
	curl_multi_cleanup(f->multi); /* closes the pool, by on_close() */
	uv_close((uv_handle_t *)&f->timer, on_timer_closed);
	uv_close((uv_handle_t *)&f->kick, on_timer_closed);
}
