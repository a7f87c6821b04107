/* Outgoing HTTP: calls to servers over one pool of kept-alive connections.
 *
 * One libcurl multi on one libuv loop; everything on the loop's thread.  Sink functions run
 * outside libcurl and never before fetch_start() returns, so in them every function below is
 * legal, fetch_cancel() of any call included.  Response bytes are delivered once per readable
 * socket, not once per chunk.  Redirects are not followed.  Loopback hosts are reached directly;
 * for others the proxy variables of the environment apply.
 * Request headers may hold keys: they are never logged and no error text repeats them.
 *
 * What may share a connection is an origin: scheme, host and port (or Unix socket), trusted
 * authorities and HTTP version.  Upstreams of one origin share connections, queue and what is
 * known of the server.  Limits are the origin's and not the multi's, so remote ones never touch
 * local children, and one multi is enough.
 *
 * A POST is never sent twice, unless the server's own word says that it did not begin with the
 * first one (HTTP/2: REFUSED_STREAM, a GOAWAY below the stream, HTTP_1_1_REQUIRED). */
#ifndef HOB_FETCH_H
#define HOB_FETCH_H

#include <uv.h>
#include "base/buf.h"
#include "base/err.h"

enum {
	FETCH_MAX_CONNECTIONS = 128, /* idle ones kept, over all hosts */
	/* A pooled connection older than this is not used again: gateways close theirs after 60 s
	 * and more, and a request must not meet that. */
	FETCH_MAX_IDLE_S = 30,
	/* On Unix sockets, where a new one costs nothing: cpp-httplib, which llama-server is made
	 * with, closes idle connections after 5 s. */
	FETCH_MAX_IDLE_UNIX_S = 3,
	FETCH_MAX_AGE_S = 900,
	FETCH_MAX_GATHER_BYTES =
		256 << 10, /* undelivered bytes of a call; then curl pauses */
	/* On HTTP/2 a call that is paused is read on up to here: in curl 7 a paused stream may stop
	 * the whole connection, its siblings too.  No answer of a model is that long. */
	FETCH_MAX_GATHER_HTTP2_BYTES = 4 << 20,
	FETCH_STREAMS_PER_CONNECTION = 100, /* HTTP/2; what servers commonly allow */
	FETCH_MAX_CA_BYTES = 4 << 20,       /* of a ca_file; the system's has 0.2 MiB */
};

struct fetch;
struct upstream;   /* one URL with its headers, and warm handles for it */
struct fetch_call; /* valid until its end() was called or fetch_cancel() */

/* Embedded by the receiver. Exactly one end() per call, nothing after it or after a cancel. */
struct fetch_sink {
	/* True when the bytes were worth something: that ends the first-byte deadline.  Comments
	 * of a server that is still thinking are not; they only restart the idle clock. */
	bool (*data)(struct fetch_sink *s, const char *bytes, size_t n);
	/* e NULL: the response is complete, whatever its status.  The call is still valid here for
	 * fetch_status(), fetch_header() and fetch_got_bytes().
	 * ERR_TRANSPORT: no name, no connection, no TLS, or the connection was lost.  ERR_TIMEOUT: a
	 * deadline; ERR_BUSY: that of the queue.  ERR_FORBIDDEN: fetch_set_local_only(). */
	void (*end)(struct fetch_sink *s, const struct err *e);
};

/* All in ms, 0 = none.  A paused call is exempt from first_byte and idle. */
struct fetch_deadlines {
	int queue;      /* for a connection slot, see upstream_options */
	int connect;    /* name, connection, TLS; after the queue */
	int first_byte; /* from the end of the queue until data() first returned true */
	int idle;       /* between two deliveries */
	int total;      /* from fetch_start() */
};

enum upstream_http {
	UPSTREAM_HTTP_AUTO, /* TLS: HTTP/2 where offered; else 1.1 */
	UPSTREAM_HTTP_1,
};

struct upstream_options {
	const char *const *headers; /* NULL-terminated "Name: value" lines, or NULL */
	const char *
		socket_path; /* connect to this Unix socket, whatever the URL's host is */
	const char *
		ca_file; /* PEM: authorities trusted beside the system's; NULL: those alone */
	/* Open calls of the origin; those beyond it wait in one FIFO queue.  Once a server was
	 * heard to speak HTTP/2, FETCH_STREAMS_PER_CONNECTION times as many.  0 = no limit. */
	int max_connections;
	enum upstream_http http;
};

struct upstream_stats {
	uint64_t calls; /* started by fetch_start() */
	uint64_t new_connections,
		reused; /* how requests went out, pre-warming included */
	uint64_t
		replays_refused; /* the connection died after the request; not sent again */
	int http_version;        /* of the origin's last answer: 11, 20; 0 = none yet */
	double connect_ms; /* origin's new connections, name and TLS included: moving average */
	int running, queued; /* calls of this upstream */
};

struct fetch *fetch_new(uv_loop_t *loop, struct err *e);
/* All upstreams must be freed.  done(arg) comes once, in a later turn; f is gone by then. */
void fetch_close(struct fetch *f, void (*done)(void *arg), void *arg);

/* On: from now on nothing leaves this machine.  Only Unix sockets, "localhost" and literal
 * loopback addresses are called, no other name is looked up, no proxy is used, and whatever
 * address a name gave, no socket but to a loopback address is opened.  Running calls to
 * others end with ERR_FORBIDDEN in a later turn; their connections are shut down at once. */
void fetch_set_local_only(struct fetch *f, bool on);
bool fetch_is_local_only(const struct fetch *f);

/* url: http or https.  Everything is copied; o NULL: no options.  ERR_INVALID: the URL or the
 * ca_file is not good. */
struct upstream *upstream_new(struct fetch *f, const char *url,
			      const struct upstream_options *o, struct err *e);
void upstream_free(struct upstream *u);              /* cancels its calls; NULL is fine */
const char *upstream_host(const struct upstream *u); /* for messages */

/* Makes the next call's connection ready: GETs the URL, whatever the answer, if the origin has no
 * idle and fresh connection.  Its body is dropped, its deadlines are its own, and it does not
 * wait in the queue nor count there. */
void upstream_warm(struct upstream *u);
/* Borrowed; true until the next turn of the loop. */
const struct upstream_stats *upstream_stats(const struct upstream *u);

/* POSTs the body, whose memory is taken; NULL body: GET.  Failures come by end(). */
struct fetch_call *fetch_start(struct upstream *u, struct buf *body,
			       const struct fetch_deadlines *d, struct fetch_sink *sink);
/* Legal everywhere.  At once an HTTP/1.1 connection closes and an HTTP/2 stream is reset, whose
 * siblings go on. */
void fetch_cancel(struct fetch_call *c);
void fetch_pause(struct fetch_call *c, bool paused);
/* The caller has all it needs: end() must come within ms. */
void fetch_expect_end(struct fetch_call *c, int ms);

/* "localhost", 127.0.0.0/8 or ::1 in any spelling; a name that only starts so is not. */
bool fetch_host_is_loopback(const char *host);

bool fetch_url_is_loopback(const char *url); /* of its host; false when it is no URL */

/* In data() and end(). */
int fetch_status(struct fetch_call *c);     /* 0: no response */
bool fetch_got_bytes(struct fetch_call *c); /* a byte of the response had come */
/* The request went out, or was about to: the server may have begun with it. */
bool fetch_was_sent(struct fetch_call *c);
/* First header of that name or the empty slice; borrowed until the sink function returns. */
struct str fetch_header(struct fetch_call *c, const char *name);

#endif
