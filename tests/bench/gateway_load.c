/* The load client of tests/bench/gateway: one thread, one epoll, HTTP/1.1 kept alive.
 * usage: gateway_load --to HOST:PORT|unix:PATH --model NAME [--path P] [--header 'N: V'] [--body JSON]
 *        [--rate R] [--connections N] [--seconds S] [--warm N] [--stream] [--prompt BYTES] [--hold]
 *
 * --rate R     open loop: requests at fixed times, R a second, each counted from the moment at which
 *              it should have left, whether or not a connection was free then (no coordinated
 *              omission).  Without it every connection asks again at once: closed loop.
 * --warm N     requests on each connection before the clock starts, not counted
 * --hold       one stream on each connection; prints "held" when each had its first event, and goes
 *              when stdin ends
 * Prints one JSON object, times in microseconds: `whole` from the intended moment to the reply's
 * last byte, `first` to its first event, `event` from the upstream's stamp ("@ns@" in a chunk's
 * text, see gateway_upstream.c) to its arrival here, `gap` between two events of a stream. */
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
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { MAX_EVENTS = 256, IN_BYTES = 64 << 10, MAX_SAMPLES = 4 << 20, MAX_CONNS = 8192 };
#define NS_PER_S 1000000000LL

struct samples {
	float *us; /* owned */
	size_t n;
};

enum framing { BY_HEAD, BY_LENGTH, BY_CHUNKS, BY_CLOSE };

struct conn {
	int fd; /* -1: to be opened when it is needed */
	bool busy, counted, fresh;
	int warm_left;
	int64_t intended_ns, last_event_ns; /* last_event_ns 0: none yet */
	enum framing framing;
	int status;
	size_t left; /* bytes of the body or of the chunk */
	bool close, in_chunk;
	char part[4096]; /* head or chunk size line, then the end of what was scanned */
	size_t npart;
	char stamp[24]; /* digits since an '@' */
	int nstamp;     /* -1: outside */
};

struct load {
	int epoll;
	union {
		struct sockaddr any;
		struct sockaddr_in in;
		struct sockaddr_un un;
	} to;
	socklen_t to_len;
	char *request; /* owned, the same for all */
	size_t request_len;
	double rate, seconds;
	int nconns, warm;
	bool hold;
	struct conn *conns;
	int *idle, first_idle, nidle; /* a ring: each in turn */
	int64_t start_ns, end_ns, sent, done, errors, reconnects;
	int held, warming;
	int status; /* of the first reply that was not 200 */
	struct samples whole, first, event, gap;
};

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * NS_PER_S + t.tv_nsec;
}

static void sample(struct samples *s, int64_t ns)
{
	if (!s->us)
		s->us = malloc(MAX_SAMPLES * sizeof(*s->us));
	if (!s->us)
		die("memory");
	if (s->n < MAX_SAMPLES)
		s->us[s->n++] = (float)((double)ns / 1000);
}

/* -- connections -- */

static void conn_open(struct load *l, struct conn *c)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
	int one = 1;

	c->fd = socket(l->to.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0 || connect(c->fd, &l->to.any, l->to_len) < 0)
		die("connect");
	if (l->to.any.sa_family == AF_INET)
		setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, c->fd, &ev) < 0)
		die("epoll");
	c->fresh = true;
}

static void conn_close(struct conn *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
}

static void conn_send(struct load *l, struct conn *c)
{
	c->framing = BY_HEAD;
	c->npart = 0;
	c->nstamp = -1;
	c->last_event_ns = 0;
	c->status = 0;
	c->close = c->in_chunk = false;
	for (;;) {
		if (c->fd < 0)
			conn_open(l, c);
		if (send(c->fd, l->request, l->request_len, MSG_NOSIGNAL) ==
		    (ssize_t)l->request_len)
			return;
		if (c->fresh)
			die("send");
		conn_close(c); /* closed while it was idle */
		l->reconnects++;
	}
}

static void begin(struct load *l, struct conn *c, int64_t intended_ns, bool counted)
{
	c->busy = true;
	c->counted = counted;
	c->intended_ns = intended_ns;
	l->sent += counted;
	conn_send(l, c);
}

static void conn_idle(struct load *l, struct conn *c)
{
	int64_t now = now_ns();

	c->busy = false;
	if (c->close)
		conn_close(c);
	if (c->warm_left) {
		if (--c->warm_left == 0)
			l->warming--;
		if (c->warm_left) {
			begin(l, c, now, false);
			return;
		}
	}
	if (l->start_ns && !l->rate && now < l->end_ns) {
		begin(l, c, now, true);
		return;
	}
	l->idle[(l->first_idle + l->nidle++) % l->nconns] = (int)(c - l->conns);
}

static void conn_done(struct load *l, struct conn *c, bool ok)
{
	if (c->counted) {
		l->done++;
		if (ok)
			sample(&l->whole, now_ns() - c->intended_ns);
	}
	if (!ok) {
		l->errors++;
		if (!l->status)
			l->status = c->status ? c->status : -1;
	}
	c->fresh = false;
	conn_idle(l, c);
}

/* -- replies -- */

static void on_stamp(struct load *l, struct conn *c)
{
	int64_t now = now_ns(), stamp;

	c->stamp[c->nstamp] = 0;
	stamp = strtoll(c->stamp, NULL, 10);
	if (l->hold && !c->last_event_ns)
		l->held++;
	if (c->counted) {
		sample(&l->event, now - stamp);
		if (c->last_event_ns)
			sample(&l->gap, now - c->last_event_ns);
		else
			sample(&l->first, now - c->intended_ns);
	}
	c->last_event_ns = now;
}

static void scan(struct load *l, struct conn *c, const char *p, size_t n)
{
	while (n) {
		const char *at;

		if (c->nstamp < 0) {
			at = memchr(p, '@', n);
			if (!at)
				return;
			n -= (size_t)(at - p) + 1;
			p = at + 1;
			c->nstamp = 0;
			continue;
		}
		if (*p >= '0' && *p <= '9' && c->nstamp < (int)sizeof(c->stamp) - 1) {
			c->stamp[c->nstamp++] = *p;
		} else {
			if (*p == '@' && c->nstamp)
				on_stamp(l, c);
			c->nstamp = -1;
		}
		p++;
		n--;
	}
}

static void read_head(struct conn *c)
{
	char *length = strcasestr(c->part, "\r\ncontent-length:");

	c->status = atoi(c->part + 9);
	c->close = strcasestr(c->part, "\r\nconnection: close") != NULL;
	c->npart = 0;
	if (strcasestr(c->part, "\r\ntransfer-encoding: chunked")) {
		c->framing = BY_CHUNKS;
		c->left = 0;
	} else if (length) {
		c->framing = BY_LENGTH;
		c->left = strtoul(length + 17, NULL, 10);
	} else {
		c->framing = BY_CLOSE;
		c->close = true;
	}
}

/* Takes bytes up to the end of `mark` into c->part; true when it is there. */
static bool take_until(struct conn *c, const char **p, size_t *n, const char *mark)
{
	size_t m = strlen(mark);

	while (*n) {
		if (c->npart == sizeof(c->part) - 1) {
			fprintf(stderr,
				"gateway_load: a head or chunk size over 4 KiB\n");
			exit(1);
		}
		c->part[c->npart++] = *(*p)++;
		--*n;
		if (c->npart >= m && !memcmp(c->part + c->npart - m, mark, m)) {
			c->part[c->npart] = 0;
			return true;
		}
	}
	return false;
}

/* True when the reply is complete. */
static bool feed(struct load *l, struct conn *c, const char *p, size_t n)
{
	while (n || (c->framing == BY_LENGTH && !c->left)) {
		size_t take = n < c->left ? n : c->left;

		switch (c->framing) {
		case BY_HEAD:
			if (take_until(c, &p, &n, "\r\n\r\n"))
				read_head(c);
			break;
		case BY_CLOSE:
			scan(l, c, p, n);
			return false;
		case BY_LENGTH:
			scan(l, c, p, take);
			p += take, n -= take, c->left -= take;
			if (!c->left)
				return true;
			break;
		case BY_CHUNKS:
			if (c->left > 2) { /* the CRLF behind a chunk counts as its end */
				take = n < c->left - 2 ? n : c->left - 2;
				scan(l, c, p, take);
			} else if (!c->left) {
				if (!take_until(c, &p, &n, "\r\n"))
					break;
				c->left = strtoul(c->part, NULL, 16) + 2;
				c->in_chunk = c->left > 2;
				c->npart = 0;
				break;
			}
			p += take, n -= take, c->left -= take;
			if (!c->left && !c->in_chunk)
				return true;
			break;
		}
	}
	return false;
}

static void on_readable(struct load *l, struct conn *c)
{
	static char in[IN_BYTES];
	ssize_t n = recv(c->fd, in, sizeof(in), MSG_DONTWAIT);

	if (n < 0 && errno == EAGAIN)
		return;
	if (n > 0) {
		if (c->busy && feed(l, c, in, (size_t)n))
			conn_done(l, c, c->status == 200);
		return;
	}
	conn_close(c);
	if (!c->busy)
		return;
	if (c->framing == BY_CLOSE) {
		conn_done(l, c, c->status == 200);
	} else if (c->framing == BY_HEAD && !c->npart && !c->fresh) {
		l->reconnects++; /* it went as we asked: once more, the clock runs on */
		conn_send(l, c);
	} else {
		conn_done(l, c, false);
	}
}

/* -- the run -- */

static void wait_for(struct load *l, int64_t until_ns)
{
	struct epoll_event events[MAX_EVENTS];
	int64_t in = until_ns - now_ns();
	struct timespec t = {in > 0 ? in / NS_PER_S : 0, in > 0 ? in % NS_PER_S : 0};
	int n = epoll_pwait2(l->epoll, events, MAX_EVENTS, &t, NULL);

	for (int i = 0; i < n; i++)
		on_readable(l, events[i].data.ptr);
}

static void warm_up(struct load *l)
{
	int64_t deadline = now_ns() + 60 * NS_PER_S;

	l->idle = calloc((size_t)l->nconns, sizeof(*l->idle));
	l->conns = calloc((size_t)l->nconns, sizeof(*l->conns));
	if (!l->idle || !l->conns)
		die("memory");
	for (int i = 0; i < l->nconns; i++) {
		struct conn *c = &l->conns[i];

		c->fd = -1;
		c->nstamp = -1;
		conn_open(l, c);
		c->warm_left = l->hold ? 0 : l->warm;
		if (l->hold || c->warm_left) {
			l->warming += !l->hold;
			begin(l, c, now_ns(), false);
		} else {
			conn_idle(l, c);
		}
	}
	while (l->warming && now_ns() < deadline)
		wait_for(l, deadline);
	if (l->warming)
		fprintf(stderr, "gateway_load: no warm reply within 60 s\n"), exit(1);
}

static void hold(struct load *l)
{
	int64_t deadline = now_ns() + 60 * NS_PER_S;
	char byte;

	while (l->held < l->nconns && now_ns() < deadline)
		wait_for(l, deadline);
	if (l->held < l->nconns) {
		fprintf(stderr, "gateway_load: only %d of %d streams began\n", l->held,
			l->nconns);
		exit(1);
	}
	printf("held\n");
	fflush(stdout);
	while (read(0, &byte, 1) > 0)
		;
}

static struct conn *take_idle(struct load *l)
{
	struct conn *c = &l->conns[l->idle[l->first_idle]];

	l->first_idle = (l->first_idle + 1) % l->nconns;
	l->nidle--;
	return c;
}

static void run(struct load *l)
{
	const int64_t grace = 10 * NS_PER_S;
	int64_t asked = 0;

	l->start_ns = now_ns();
	l->end_ns = l->start_ns + (int64_t)(l->seconds * 1e9);
	while (!l->rate && l->nidle)
		begin(l, take_idle(l), now_ns(), true);
	for (;;) {
		int64_t due = l->end_ns, now = now_ns();

		if (l->rate) {
			due = l->start_ns + (int64_t)((double)asked / l->rate * 1e9);
			while (due <= now && due < l->end_ns && l->nidle) {
				begin(l, take_idle(l), due, true);
				asked++;
				due = l->start_ns +
				      (int64_t)((double)asked / l->rate * 1e9);
			}
		}
		if (due >= l->end_ns && l->done == l->sent && now >= l->end_ns)
			return;
		if (now > l->end_ns + grace) {
			l->errors += l->sent - l->done;
			return;
		}
		if (due <= now) /* all are busy, or the last replies are awaited */
			due = now + NS_PER_S;
		wait_for(l, due);
	}
}

/* -- in and out -- */

static int by_value(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

static void print_samples(const char *name, struct samples *s)
{
	static const double at[] = {0.5, 0.9, 0.99};
	static const char *const names[] = {"p50", "p90", "p99"};

	if (!s->n)
		return;
	qsort(s->us, s->n, sizeof(*s->us), by_value);
	printf(", \"%s\": {\"n\": %zu", name, s->n);
	for (int i = 0; i < 3; i++)
		printf(", \"%s\": %.2f", names[i],
		       s->us[(size_t)(at[i] * (double)(s->n - 1) + 0.5)]);
	printf("}");
}

static void set_target(struct load *l, const char *to)
{
	const char *colon = strrchr(to, ':');

	if (!strncmp(to, "unix:", 5)) {
		l->to.un.sun_family = AF_UNIX;
		snprintf(l->to.un.sun_path, sizeof(l->to.un.sun_path), "%s", to + 5);
		l->to_len = sizeof(l->to.un);
		return;
	}
	l->to.in.sin_family = AF_INET;
	l->to.in.sin_port = htons((uint16_t)atoi(colon ? colon + 1 : to));
	l->to.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	l->to_len = sizeof(l->to.in);
}

static char *make_body(const char *model, size_t prompt_bytes, bool stream)
{
	char *text = malloc(prompt_bytes + 1), *body;

	if (!text)
		die("memory");
	for (size_t i = 0; i < prompt_bytes; i++)
		text[i] = "time people way water "[i % 22];
	text[prompt_bytes] = 0;
	if (asprintf(&body,
		     "{\"model\":\"%s\",\"messages\":[{\"role\":\"system\",\"content\":"
		     "\"You are a helpful assistant.\"},{\"role\":\"user\",\"content\":"
		     "\"%s\"}],\"temperature\":0.7,\"max_tokens\":64%s}",
		     model, text, stream ? ",\"stream\":true" : "") < 0)
		die("memory");
	free(text);
	return body;
}

static void usage(void)
{
	fprintf(stderr, "usage: see the head of tests/bench/gateway_load.c\n");
	exit(2);
}

int main(int argc, char **argv)
{
	static struct load l = {.nconns = 1, .seconds = 1, .warm = 2};
	const char *model = "d0c1g0", *path = "/v1/chat/completions", *header = NULL;
	char *body = NULL;
	size_t prompt = 150;
	bool stream = false;

	for (int i = 1; i < argc; i++) {
		const char *a = argv[i], *v = i + 1 < argc ? argv[i + 1] : NULL;

		if (!strcmp(a, "--stream") || !strcmp(a, "--hold")) {
			stream = true;
			l.hold |= a[2] == 'h';
			continue;
		}
		i++;
		if (!v)
			usage();
		else if (!strcmp(a, "--to"))
			set_target(&l, v);
		else if (!strcmp(a, "--model"))
			model = v;
		else if (!strcmp(a, "--path"))
			path = v;
		else if (!strcmp(a, "--header"))
			header = v;
		else if (!strcmp(a, "--body"))
			body = strdup(v);
		else if (!strcmp(a, "--rate"))
			l.rate = atof(v);
		else if (!strcmp(a, "--connections"))
			l.nconns = atoi(v);
		else if (!strcmp(a, "--seconds"))
			l.seconds = atof(v);
		else if (!strcmp(a, "--warm"))
			l.warm = atoi(v);
		else if (!strcmp(a, "--prompt"))
			prompt = strtoul(v, NULL, 10);
		else
			usage();
	}
	if (!l.to_len || l.nconns < 1 || l.nconns > MAX_CONNS)
		usage();
	prctl(PR_SET_TIMERSLACK, 1);
	l.epoll = epoll_create1(EPOLL_CLOEXEC);
	if (!body)
		body = make_body(model, prompt, stream);
	l.request_len = (size_t)asprintf(
		&l.request,
		"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
		"User-Agent: gateway_load\r\nAccept: */*\r\n%s%sContent-Length: %zu\r\n\r\n%s",
		path, header ? header : "", header ? "\r\n" : "", strlen(body), body);
	warm_up(&l);
	if (l.hold) {
		hold(&l);
		return 0;
	}
	run(&l);
	printf("{\"sent\": %lld, \"done\": %lld, \"errors\": %lld, \"status\": %d, "
	       "\"reconnects\": %lld, \"seconds\": %.3f",
	       (long long)l.sent, (long long)l.done, (long long)l.errors, l.status,
	       (long long)l.reconnects, (double)(now_ns() - l.start_ns) / 1e9);
	print_samples("whole", &l.whole);
	print_samples("first", &l.first);
	print_samples("event", &l.event);
	print_samples("gap", &l.gap);
	printf("}\n");
	return 0;
}
