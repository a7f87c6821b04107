/* Outgoing HTTP: calls to remote servers over one pool of kept-alive connections.
 *
 * One libcurl multi on one libuv loop; everything on the loop's thread.  Sink functions run
 * outside libcurl and never before fetch_start() returns, so in them every function below is
 * legal, fetch_cancel() of any call included.  Response bytes are delivered once per readable
 * socket, not once per chunk.  Redirects are not followed.  Loopback hosts are reached directly;
 * for others the proxy variables of the environment apply.
 * Request headers may hold keys: they are never logged and no error text repeats them. */
#ifndef HOB_FETCH_H
#define HOB_FETCH_H

#include <uv.h>
#include "base/buf.h"
#include "base/err.h"

enum {
	FETCH_MAX_CONNECTIONS = 64, /* idle ones kept, over all hosts */
	/* A pooled connection older than this is not used again.  Short, because libcurl silently
	 * sends a POST once more when a reused connection died before its first byte. */
	FETCH_MAX_IDLE_S = 30,
	/* On Unix sockets, where a new one costs nothing: cpp-httplib, which llama-server is made
	 * with, closes idle connections after 5 s, and a request must not meet that. */
	FETCH_MAX_IDLE_UNIX_S = 3,
	FETCH_MAX_AGE_S = 900,
	FETCH_MAX_GATHER_BYTES =
		256 << 10, /* undelivered bytes of a call; then curl pauses */
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
	 * fetch_status() and fetch_header(). */
	void (*end)(struct fetch_sink *s, const struct err *e);
};

/* All in ms, 0 = none.  A paused call is exempt from all but total. */
struct fetch_deadlines {
	int connect;    /* name, connection, TLS */
	int first_byte; /* start until data() first returned true */
	int idle;       /* between two deliveries */
	int total;
};

struct fetch *fetch_new(uv_loop_t *loop, struct err *e);
/* All upstreams must be freed.  done(arg) comes once, in a later turn; f is gone by then. */
void fetch_close(struct fetch *f, void (*done)(void *arg), void *arg);

/* headers: NULL-terminated "Name: value" lines, copied; or NULL.  url: http or https. */
struct upstream *upstream_new(struct fetch *f, const char *url,
			      const char *const *headers, struct err *e);
/* Before its first call: connects to this Unix socket, whatever the URL's host is. Copied. */
void upstream_set_socket(struct upstream *u, const char *path);
void upstream_free(struct upstream *u); /* cancels its calls; NULL is fine */
bool upstream_is_loopback(const struct upstream *u);
const char *upstream_host(const struct upstream *u); /* for messages */

/* POSTs the body, whose memory is taken; NULL body: GET.  Failures come by end(). */
struct fetch_call *fetch_start(struct upstream *u, struct buf *body,
			       const struct fetch_deadlines *d, struct fetch_sink *sink);
void fetch_cancel(
	struct fetch_call *c); /* legal everywhere; the connection closes at once */
void fetch_pause(struct fetch_call *c, bool paused);
/* The caller has all it needs: end() must come within ms. */
void fetch_expect_end(struct fetch_call *c, int ms);

/* "localhost", 127.0.0.0/8 or ::1 in any spelling; a name that only starts so is not. */
bool fetch_host_is_loopback(const char *host);

bool fetch_url_is_loopback(const char *url); /* of its host; false when it is no URL */

/* In data() and end(). */
int fetch_status(struct fetch_call *c); /* 0: no response */
/* First header of that name or the empty slice; borrowed until the sink function returns. */
struct str fetch_header(struct fetch_call *c, const char *name);

#endif
