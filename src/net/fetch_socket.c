/* Descriptors that curl opens and waits for.  Loop thread.
 *
 * A reader may question that a socket keeps its uv_poll_t for as long as it lives.  curl takes
 * its interest back after each transfer, but arming again costs six epoll_ctl a call.  Only
 * sockets we opened ourselves are kept: of their close we hear too.  The resolver's wake-up
 * pair is closed behind our back, so it is polled the plain way.
 * curl 7.88 closes a socket that is still connecting behind our back, too, and takes its
 * interest back afterwards: there the inode tells whether the number is still our socket.  A
 * poll left on a closed one makes libuv abort, or starves whoever gets the number next. */
#include "net/fetch_impl.h"

#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	MAX_DESCRIPTORS = 1 << 16,
	/* A connection this close to its age limit is not worth much to a call that is to come. */
	FRESH_MARGIN_MS = 5000,
};

static void on_ready(uv_poll_t *p, int status, int events);

static void on_poll_closed(uv_handle_t *h)
{
	struct sock *s = h->data;
	struct fetch *f = s->f;

	free(s);
	fetch_unref(f);
}

static void sock_close(struct sock *s)
{
	s->f->socks[s->fd] = NULL;
	if (s->origin)
		origin_unref(s->origin);
	s->origin = NULL;
	uv_poll_stop(&s->poll);
	uv_close((uv_handle_t *)&s->poll, on_poll_closed);
}

static void sock_arm(struct sock *s, int events)
{
	if (s->armed == events) /* uv_poll_start always pays for DEL + ADD */
		return;
	s->armed = events;
	if (!events || uv_poll_start(&s->poll, events, on_ready) < 0)
		uv_poll_stop(&s->poll);
}

static struct sock *sock_get(struct fetch *f, curl_socket_t fd)
{
	return fd >= 0 && (size_t)fd < f->nsocks ? f->socks[fd] : NULL;
}

static ino_t inode_of(int fd)
{
	struct stat st;

	return fstat(fd, &st) < 0 ? 0 : st.st_ino;
}

static struct sock *sock_new(struct fetch *f, curl_socket_t fd)
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
	s->f = f;
	s->fd = fd;
	s->open_ms = s->idle_ms = uv_now(f->loop);
	if (uv_poll_init_socket(f->loop, &s->poll, fd) < 0) {
		free(s);
		return NULL;
	}
	f->open_handles++;
	s->poll.data = s;
	return f->socks[fd] = s;
}

static bool is_loopback(const struct sockaddr *a)
{
	const struct sockaddr_in *v4 = (const void *)a;
	const struct sockaddr_in6 *v6 = (const void *)a;

	switch (a->sa_family) {
	case AF_UNIX:
		return true;
	case AF_INET:
		return ntohl(v4->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
	case AF_INET6:
		return IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr) ||
		       (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr) &&
			v6->sin6_addr.s6_addr[12] == IN_LOOPBACKNET);
	default:
		return false;
	}
}

curl_socket_t socket_on_open(void *arg, curlsocktype purpose, struct curl_sockaddr *a)
{
	struct fetch_call *c = arg;
	struct fetch *f = c->up->fetch;
	bool remote = !is_loopback(&a->addr);
	struct sock *s;
	int fd;

	UNUSED(purpose);
	if (f->local_only && remote) {
		c->forbidden = true;
		return CURL_SOCKET_BAD;
	}
	if (!call_may_send(
		    c)) /* earlier than on_request() would say it, by a round trip or more */
		return CURL_SOCKET_BAD;
	fd = socket(a->family, a->socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, a->protocol);
	if (fd < 0 || !(s = sock_new(f, fd))) {
		if (fd >= 0)
			close(fd);
		return CURL_SOCKET_BAD;
	}
	s->ours = true;
	s->inode = inode_of(fd);
	s->remote = remote;
	s->origin = c->up->origin;
	origin_ref(s->origin);
	return fd;
}

int socket_on_close(void *arg, curl_socket_t fd)
{
	struct sock *s = sock_get(arg, fd);

	if (s) /* libuv lets go of it before it is closed */
		sock_close(s);
	return close(fd);
}

int socket_on_interest(CURL *easy, curl_socket_t fd, int what, void *arg, void *unused)
{
	struct fetch *f = arg;
	struct sock *s = sock_get(f, fd);

	UNUSED(easy);
	UNUSED(unused);
	if (what == CURL_POLL_REMOVE) {
		if (s && (!s->ours || inode_of(fd) != s->inode)) {
			sock_close(s);
		} else if (s) { /* stays armed: the next call finds it ready to go */
			s->want = 0;
			s->idle_ms = uv_now(f->loop);
		}
		return 0;
	}
	if (!s && !(s = sock_new(f, fd)))
		return 0; /* -1 would fail every transfer */
	s->stale = false;
	s->want = (what & CURL_POLL_IN ? UV_READABLE : 0) |
		  (what & CURL_POLL_OUT ? UV_WRITABLE : 0);
	sock_arm(s, s->want);
	return 0;
}

static void on_ready(uv_poll_t *p, int status, int events)
{
	struct sock *s = p->data;

	if (!s->want) { /* pooled or paused: curl looks at it when it uses the socket again */
		s->stale |= status < 0 || events & UV_READABLE;
		sock_arm(s, 0);
	} else if (status < 0) {
		fetch_run(s->f, s->fd, CURL_CSELECT_ERR);
	} else {
		fetch_run(s->f, s->fd,
			  (events & UV_READABLE ? CURL_CSELECT_IN : 0) |
				  (events & UV_WRITABLE ? CURL_CSELECT_OUT : 0));
	}
}

void sockets_reap(struct fetch *f)
{
	for (size_t i = 0; i < f->nsocks; i++)
		if (f->socks[i] && f->socks[i]->ours &&
		    inode_of(f->socks[i]->fd) != f->socks[i]->inode)
			sock_close(f->socks[i]);
}

void sockets_close_all(struct fetch *f)
{
	for (size_t i = 0; i < f->nsocks; i++)
		if (f->socks[i])
			sock_close(f->socks[i]);
}

int sockets_open(const struct origin *o)
{
	int n = 0;

	for (size_t i = 0; i < o->fetch->nsocks; i++)
		n += o->fetch->socks[i] && o->fetch->socks[i]->origin == o;
	return n;
}

static bool is_fresh(const struct sock *s, uint64_t now)
{
	if (now - s->open_ms > FETCH_MAX_AGE_S * 1000 - FRESH_MARGIN_MS)
		return false;
	if (s->want)
		return true;
	return !s->stale && now - s->idle_ms < FETCH_MAX_IDLE_S * 1000 - FRESH_MARGIN_MS;
}

int sockets_fresh(const struct origin *o)
{
	const struct fetch *f = o->fetch;
	int n = 0;

	for (size_t i = 0; i < f->nsocks; i++)
		if (f->socks[i] && f->socks[i]->origin == o)
			n += is_fresh(f->socks[i], uv_now(f->loop));
	return n;
}

/* Drained, too: where bytes are left curl takes a TLS connection for alive. */
static void sock_shut(struct sock *s)
{
	char bytes[4096];

	s->stale = true;
	shutdown(s->fd, SHUT_RDWR); /* curl finds it dead and closes it */
	while (recv(s->fd, bytes, sizeof bytes, MSG_DONTWAIT) > 0)
		;
}

/* HTTP/2 may say this and that on an idle connection; 1.1 only goodbye. */
static bool is_dead(const struct sock *s)
{
	struct pollfd p = {.fd = s->fd, .events = POLLRDHUP};

	if (s->origin->http_version != 20)
		p.events |= POLLIN;
	return poll(&p, 1, 0) > 0;
}

/* curl 7.88 takes a TLS connection for alive on which only the close_notify has come, sends its
 * request there and has lost it. */
void sockets_drop_dead(const struct origin *o)
{
	const struct fetch *f = o->fetch;

	for (size_t i = 0; i < f->nsocks; i++) {
		struct sock *s = f->socks[i];

		if (!s || s->origin != o || s->want || !s->stale)
			continue;
		if (origin_has_paused(o)) /* curl wants nothing of its socket either */
			return;
		if (is_dead(s))
			sock_shut(s);
	}
}

void sockets_shut_idle(const struct origin *o)
{
	const struct fetch *f = o->fetch;

	for (size_t i = 0; i < f->nsocks; i++)
		if (f->socks[i] && f->socks[i]->origin == o && !f->socks[i]->want)
			sock_shut(f->socks[i]);
}

void sockets_shut_remote(struct fetch *f)
{
	for (size_t i = 0; i < f->nsocks; i++) {
		struct sock *s = f->socks[i];

		if (s && s->remote)
			sock_shut(s);
	}
}
