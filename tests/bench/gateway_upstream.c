/* A model server without a model, for tests/bench/gateway: one thread, one epoll.
 * usage: gateway_upstream [--port N]      prints the port that it listens on
 *
 * The name of the model that a request asks for says how it is answered: "d60c20g5" waits 60 ms,
 * then sends 20 chunks 5 ms apart (a request without "stream": true gets one JSON object).  Each
 * chunk's text is "@" NANOSECONDS "@", CLOCK_MONOTONIC at the moment of its write, so that the load
 * client sees what lies between.  A reply that needs no waiting (one chunk) leaves in one write;
 * 20 chunks 0 ms apart are 20 writes.  GET is answered with a list of no models.
 *
 * Trusts its clients: a bench tool, bound to loopback. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_FDS = 1 << 16, MAX_REQUEST = 4 << 20, MAX_EVENTS = 256, NS_PER_MS = 1000000 };

struct plan {
	long delay_ms, chunks, gap_ms;
	bool stream;
};

struct conn {
	int fd;
	char *in; /* owned, grows to the largest request */
	size_t len, cap;
	struct plan plan;
	long sent;     /* chunks of the running reply */
	bool busy;     /* a reply is running */
	uint64_t turn; /* counts replies: a timer of an older one is stale */
};

struct due {
	int64_t at_ns;
	int fd;
	uint64_t turn;
};

struct upstream {
	int epoll, listener;
	struct conn *conns[MAX_FDS];
	struct due *heap; /* least at_ns first */
	size_t n, cap;
	uint64_t turns;
};

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

/* -- timers -- */

static void swap(struct due *a, struct due *b)
{
	struct due t = *a;

	*a = *b;
	*b = t;
}

static void timer_add(struct upstream *u, struct conn *c, int64_t at_ns)
{
	size_t i = u->n++;

	if (u->n > u->cap) {
		u->cap = u->cap ? u->cap * 2 : 256;
		u->heap = realloc(u->heap, u->cap * sizeof(*u->heap));
		if (!u->heap)
			die("memory");
	}
	u->heap[i] = (struct due){at_ns, c->fd, c->turn};
	for (; i && u->heap[i].at_ns < u->heap[(i - 1) / 2].at_ns; i = (i - 1) / 2)
		swap(&u->heap[i], &u->heap[(i - 1) / 2]);
}

static struct due timer_take(struct upstream *u)
{
	struct due first = u->heap[0];
	size_t i = 0, least;

	u->heap[0] = u->heap[--u->n];
	for (;; i = least) {
		least = i;
		for (size_t k = 2 * i + 1; k <= 2 * i + 2 && k < u->n; k++)
			if (u->heap[k].at_ns < u->heap[least].at_ns)
				least = k;
		if (least == i)
			return first;
		swap(&u->heap[i], &u->heap[least]);
	}
}

/* -- replies -- */

static void conn_drop(struct upstream *u, struct conn *c)
{
	u->conns[c->fd] = NULL;
	close(c->fd);
	free(c->in);
	free(c);
}

/* False: the connection is gone.  A peer that does not read is no case here. */
static bool put(struct upstream *u, struct conn *c, const char *bytes, size_t n)
{
	if (send(c->fd, bytes, n, MSG_NOSIGNAL) == (ssize_t)n)
		return true;
	conn_drop(u, c);
	return false;
}

static size_t add_chunk(char *out, size_t room, const char *payload)
{
	return (size_t)snprintf(out, room, "%zx\r\ndata: %s\n\n\r\n", strlen(payload) + 8,
				payload);
}

#define CHUNK_HEAD                                                                   \
	"{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1," \
	"\"model\":\"bench\",\"choices\":"
#define USAGE \
	"\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":%ld,\"total_tokens\":%ld}"

static size_t add_text(char *out, size_t room, bool first)
{
	char payload[400];

	snprintf(payload, sizeof(payload),
		 CHUNK_HEAD "[{\"index\":0,\"delta\":{%s\"content\":\"@%lld@\"},"
			    "\"finish_reason\":null}]}",
		 first ? "\"role\":\"assistant\"," : "", (long long)now_ns());
	return add_chunk(out, room, payload);
}

static size_t add_end(char *out, size_t room, long chunks)
{
	char payload[400];
	size_t n = add_chunk(out, room,
			     CHUNK_HEAD
			     "[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}");

	snprintf(payload, sizeof(payload), CHUNK_HEAD "[]," USAGE "}", chunks,
		 chunks + 9);
	n += add_chunk(out + n, room - n, payload);
	n += add_chunk(out + n, room - n, "[DONE]");
	return n + (size_t)snprintf(out + n, room - n, "0\r\n\r\n");
}

static bool reply_whole(struct upstream *u, struct conn *c)
{
	char body[512], out[700];
	int n = snprintf(
		body, sizeof(body),
		"{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"created\":1,"
		"\"model\":\"bench\",\"choices\":[{\"index\":0,\"message\":{"
		"\"role\":\"assistant\",\"content\":\"@%lld@\"},\"logprobs\":null,"
		"\"finish_reason\":\"stop\"}]," USAGE "}",
		(long long)now_ns(), 1L, 10L);

	c->busy = false;
	n = snprintf(out, sizeof(out),
		     "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
		     "Content-Length: %d\r\n\r\n%s",
		     n, body);
	return put(u, c, out, (size_t)n);
}

/* What is due now of a stream; false: the connection is gone. */
static bool reply_more(struct upstream *u, struct conn *c)
{
	char out[4096];
	size_t n = 0;

	do {
		if (!c->sent)
			n = (size_t)snprintf(out, sizeof(out),
					     "HTTP/1.1 200 OK\r\n"
					     "Content-Type: text/event-stream\r\n"
					     "Cache-Control: no-cache\r\n"
					     "Transfer-Encoding: chunked\r\n\r\n");
		n += add_text(out + n, sizeof(out) - n, !c->sent);
		if (++c->sent == c->plan.chunks) {
			n += add_end(out + n, sizeof(out) - n, c->sent);
			c->busy = false;
		}
		if (!put(u, c, out, n))
			return false;
		n = 0;
	} while (c->busy && !c->plan.gap_ms);
	if (c->busy)
		timer_add(u, c, now_ns() + c->plan.gap_ms * NS_PER_MS);
	return true;
}

static bool reply(struct upstream *u, struct conn *c)
{
	return c->plan.stream ? reply_more(u, c) : reply_whole(u, c);
}

/* -- requests -- */

/* "model": "…d60c20g5" anywhere; what is not said is 0 ms, one chunk, 0 ms. */
static struct plan plan_of(const char *body)
{
	struct plan p = {.chunks = 1};
	const char *s = strstr(body, "\"model\""), *stream = strstr(body, "\"stream\"");
	const char *end = s ? strchr(s + 8, '"') : NULL;

	end = end ? strchr(end + 1, '"') : NULL;
	for (s = end; s && s > body && s[-1] != '"' && s[-1] != '/';)
		s--;
	if (s && sscanf(s, "d%ldc%ldg%ld", &p.delay_ms, &p.chunks, &p.gap_ms) < 1)
		p = (struct plan){.chunks = 1};
	if (p.chunks < 1)
		p.chunks = 1;
	if (stream) {
		stream += 8;
		stream += strspn(stream, " :");
		p.stream = !strncmp(stream, "true", 4);
	}
	return p;
}

/* Handles the request at the front of c->in if it is whole; false: connection gone. */
static bool conn_request(struct upstream *u, struct conn *c)
{
	char *end = strstr(c->in, "\r\n\r\n"), *length;
	size_t head, body = 0;
	bool ok;

	if (!end)
		return true;
	head = (size_t)(end - c->in) + 4;
	length = strcasestr(c->in, "\r\ncontent-length:");
	if (length && length < end)
		body = strtoul(length + 17, NULL, 10);
	if (c->len < head + body)
		return true;
	c->busy = true;
	c->turn = ++u->turns;
	c->sent = 0;
	if (c->in[0] == 'G') {
		static const char list[] =
			"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
			"Content-Length: 27\r\n\r\n{\"object\":\"list\",\"data\":[]}";

		c->busy = false;
		ok = put(u, c, list, sizeof(list) - 1);
	} else {
		char kept = c->in[head + body];

		c->in[head + body] = 0;
		c->plan = plan_of(c->in + head);
		c->in[head + body] = kept;
		if (c->plan.delay_ms) {
			timer_add(u, c, now_ns() + c->plan.delay_ms * NS_PER_MS);
			ok = true;
		} else {
			ok = reply(u, c);
		}
	}
	if (!ok)
		return false;
	c->len -= head + body;
	memmove(c->in, c->in + head + body, c->len + 1);
	return true;
}

static void on_readable(struct upstream *u, struct conn *c)
{
	ssize_t n;

	if (c->cap - c->len < 65536) {
		c->cap += 65536;
		c->in = c->cap <= MAX_REQUEST ? realloc(c->in, c->cap) : NULL;
		if (!c->in)
			die("memory");
	}
	n = recv(c->fd, c->in + c->len, c->cap - c->len - 1, 0);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		conn_drop(u, c);
		return;
	}
	c->len += (size_t)n;
	c->in[c->len] = 0;
	if (!c->busy)
		conn_request(u, c);
}

static void on_accept(struct upstream *u)
{
	int fd = accept4(u->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), one = 1;
	struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};
	struct conn *c;

	if (fd < 0 || fd >= MAX_FDS)
		return;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	c = calloc(1, sizeof(*c));
	if (!c || epoll_ctl(u->epoll, EPOLL_CTL_ADD, fd, &ev) < 0)
		die("accept");
	c->fd = fd;
	u->conns[fd] = c;
}

static void run_timers(struct upstream *u)
{
	while (u->n && u->heap[0].at_ns <= now_ns()) {
		struct due d = timer_take(u);
		struct conn *c = u->conns[d.fd];

		if (c && c->busy && c->turn == d.turn)
			reply(u, c);
	}
}

static void run(struct upstream *u)
{
	struct epoll_event events[MAX_EVENTS];

	for (;;) {
		int64_t in = u->n ? u->heap[0].at_ns - now_ns() : 0;
		struct timespec wait = {in > 0 ? in / 1000000000 : 0,
					in > 0 ? in % 1000000000 : 0};
		int n = epoll_pwait2(u->epoll, events, MAX_EVENTS, u->n ? &wait : NULL,
				     NULL);

		for (int i = 0; i < n; i++)
			if (events[i].data.fd == u->listener)
				on_accept(u);
			else if (u->conns[events[i].data.fd])
				on_readable(u, u->conns[events[i].data.fd]);
		run_timers(u);
	}
}

int main(int argc, char **argv)
{
	static struct upstream u;
	struct sockaddr_in a = {.sin_family = AF_INET,
				.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	struct epoll_event ev = {.events = EPOLLIN};
	int one = 1;

	if (argc == 3 && !strcmp(argv[1], "--port"))
		a.sin_port = htons((uint16_t)atoi(argv[2]));
	else if (argc != 1) {
		fprintf(stderr, "usage: %s [--port N]\n", argv[0]);
		return 2;
	}
	prctl(PR_SET_TIMERSLACK, 1);
	prctl(PR_SET_PDEATHSIG, 15);
	u.epoll = epoll_create1(EPOLL_CLOEXEC);
	u.listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	setsockopt(u.listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(u.listener, (struct sockaddr *)&a, sizeof(a)) < 0 ||
	    listen(u.listener, 4096) < 0 ||
	    getsockname(u.listener, (struct sockaddr *)&a, &len) < 0)
		die("listen");
	ev.data.fd = u.listener;
	epoll_ctl(u.epoll, EPOLL_CTL_ADD, u.listener, &ev);
	printf("%d\n", ntohs(a.sin_port));
	fflush(stdout);
	run(&u);
}
