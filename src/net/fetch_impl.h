/* What the files of fetch share; nobody else includes this.  All of it belongs to the loop's
 * thread.
 *
 *      fetch.c         the multi, its clock, and delivery to the sinks
 *      fetch_socket.c  descriptors that curl opens and waits for
 *      fetch_call.c    a call: queue, replay, delivery, its end
 *      fetch_deadline.c  when it has waited too long; the texts of its errors
 *      upstream.c      URLs and their options, origins, warming
 *      trust.c         authorities beside the system's */
#ifndef HOB_FETCH_IMPL_H
#define HOB_FETCH_IMPL_H

#include "net/fetch.h"

#include <curl/curl.h>
#include <netinet/in.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include "base/sm.h"

TAILQ_HEAD(call_queue, fetch_call);
TAILQ_HEAD(origin_list, origin);
TAILQ_HEAD(upstream_list, upstream);
SLIST_HEAD(trust_list, trust);

struct fetch {
	uv_loop_t *loop;
	CURLM *multi;
	uv_timer_t timer;    /* curl's clock */
	uv_timer_t kick;     /* delivers what came while nobody was delivering */
	struct sock **socks; /* owned; by descriptor; NULL where there is none */
	size_t nsocks;
	struct call_queue ready; /* calls that owe a data() or an end() */
	struct upstream_list upstreams;
	struct origin_list origins;
	struct trust_list trusts; /* until the end: curl caches what it read by path */
	struct fetch_call
		*delivering; /* the sink being called; NULL once it was cancelled */
	bool in_curl, closing, local_only;
	bool curl_7; /* see fetch_new() */
	int open_handles;
	void (*done)(void *arg);
	void *done_arg;
};

/* ---- fetch_socket.c */

struct sock {
	uv_poll_t poll;
	struct fetch *f;
	struct origin *origin; /* referenced; NULL: not ours */
	curl_socket_t fd;
	ino_t inode;     /* tells our socket from another with its number */
	int want, armed; /* curl's interest; libuv's */
	bool ours, remote;
	bool stale; /* while nobody used it the peer spoke or left */
	uint64_t open_ms, idle_ms;
};

/* curl's callbacks.  on_open's arg is the call, the others' the fetch: a connection outlives
 * the call that made it. */
curl_socket_t socket_on_open(void *arg, curlsocktype purpose, struct curl_sockaddr *a);
int socket_on_close(void *arg, curl_socket_t fd);
int socket_on_interest(CURL *easy, curl_socket_t fd, int what, void *arg, void *unused);
/* A reset that curl keeps to itself goes out: connections of the origin without calls end. */
void sockets_shut_idle(const struct origin *o);
/* Forgets those that curl closed without a word. */
void sockets_reap(struct fetch *f);
void sockets_close_all(struct fetch *f);
int sockets_open(const struct origin *o);
/* Connections of the origin that a call may still use in some seconds. */
int sockets_fresh(const struct origin *o);
/* Idle connections that the peer left, or on which it spoke out of turn, end here. */
void sockets_drop_dead(const struct origin *o);
void sockets_shut_remote(struct fetch *f);

/* ---- fetch.c */

void fetch_unref(struct fetch *f); /* one libuv handle less */
/* For what becomes ready outside fetch_run(): delivered in the next turn. */
void fetch_kick(struct fetch *f);
void fetch_run(struct fetch *f, curl_socket_t fd, int events);

/* ---- fetch_call.c */

enum call_state {
	CALL_SPARE,   /* a warm handle that waits for its next call */
	CALL_WAITING, /* in the origin's queue */
	CALL_RUNNING, /* curl has it */
	CALL_ENDED,   /* curl has it no more; its sink does not know yet */
	CALL_STATES
};

struct fetch_call {
	CURL *easy;
	struct upstream *up;
	struct fetch_sink *sink; /* borrowed; NULL when spare */
	struct buf body;         /* owned; curl reads it */
	struct buf gathered;     /* response bytes not delivered yet */
	uv_timer_t timer;        /* the nearest deadline */
	struct fetch_deadlines limits;
	/* Of the loop's clock; begin: handed to curl; last: delivery, 0 = none yet; end_by 0 = none */
	uint64_t start_ms, begin_ms, last_ms, end_by_ms;
	unsigned state; /* enum call_state */
	int sends;      /* times that the request went out, or was about to */
	bool in_doubt;  /* the last of them may have been served */
	int restarts;   /* times that curl got it once more, see call_done() */
	bool is_post, is_warm;
	bool no_proxy; /* the handle's option, to be set only when it changes */
	bool is_http2; /* the answer */
	bool progressed, got_bytes, paused, curl_paused, queued;
	bool refused_replay,
		forbidden; /* why it ended, where curl's code does not tell */
	CURLcode result;   /* when ended */
	char detail[CURL_ERROR_SIZE];
	TAILQ_ENTRY(fetch_call) link;       /* spare, or of its upstream's others */
	TAILQ_ENTRY(fetch_call) wait_link;  /* when waiting */
	TAILQ_ENTRY(fetch_call) ready_link; /* when queued for delivery */
};

struct fetch_call *call_start(struct upstream *u, struct buf *body,
			      const struct fetch_deadlines *d, struct fetch_sink *sink,
			      bool is_warm);
void call_done(struct fetch_call *c, CURLcode why); /* curl says so; enqueues */
void call_forbid(struct fetch_call *c);  /* ends it; its sink hears in the next turn */
void call_enqueue(struct fetch_call *c); /* it owes its sink something */
void call_dequeue(struct fetch_call *c);
void call_deliver(struct fetch_call *c);  /* pays what it owes */
void call_free(struct fetch_call *c);     /* a spare one, for good */
bool call_may_send(struct fetch_call *c); /* false, and noted: that would be a replay */

/* Off the queue or the multi before curl was done with it; next: ENDED or SPARE. */
void call_give_up(struct fetch_call *c, enum call_state next);
void call_tell(struct fetch_call *c, const struct err *e); /* its end() */

/* ---- fetch_deadline.c */

void call_watch(struct fetch_call *c);
long call_backstop_s(const struct fetch_call *c);
int call_error(struct fetch_call *c, struct err *e); /* of one that ended */

/* ---- upstream.c */

struct origin {
	struct fetch *fetch; /* borrowed */
	char *key;           /* owned; see upstream_new() */
	int refs;            /* upstreams and sockets */
	int running;         /* calls that curl has, without warming ones */
	int warming;
	bool tls;
	int http_version;  /* of its last answer: 11, 20; 0 = none yet */
	double connect_ms; /* moving average; 0 = none yet */
	struct call_queue waiting;
	TAILQ_ENTRY(origin) link;
};

struct warmer {
	struct fetch_sink sink;
	struct fetch_call *call; /* NULL: not now */
	size_t bytes;
};

struct upstream {
	struct fetch *fetch;   /* borrowed: outlives us */
	struct origin *origin; /* referenced */
	char *url, *host;      /* owned */
	CURLU *parsed;         /* owned: the URL, taken apart once and not for each call */
	char *socket_path;     /* owned; NULL: the URL's host by TCP */
	const char *ca_path;   /* of a trust; NULL: the system's authorities alone */
	struct curl_slist *headers;
	bool loopback; /* the host is; a Unix socket is local, too */
	bool http_1;
	int max_connections;
	struct call_queue spare, active;
	int nspare, ncalls; /* ncalls: also those whose timer is closing */
	struct warmer warmer;
	struct upstream_stats *stats; /* owned */
	bool freeing;
	bool freed; /* goes with its last call */
	TAILQ_ENTRY(upstream) link;
};

static inline bool upstream_is_local(const struct upstream *u)
{
	return u->loopback || u->socket_path;
}

void upstream_get(struct upstream *u);   /* a small GET whose answer nobody needs */
void upstream_unref(struct upstream *u); /* one call less */
void upstream_options_set(const struct upstream *u, CURL *easy); /* of a new handle */
void origin_ref(struct origin *o);
void origin_unref(struct origin *o);
bool origin_has_paused(const struct origin *o); /* calls */
bool origin_has_room(const struct origin *o, const struct upstream *u);

/* ---- trust.c */

/* Path of a PEM file with the system's authorities and those of ca_file, for CURLOPT_CAINFO;
 * good until fetch_close().  NULL and ERR_INVALID: ca_file is not readable or not PEM. */
const char *trust_get(struct fetch *f, const char *ca_file, struct err *e);
void trusts_free(struct trust_list *l);

#endif
