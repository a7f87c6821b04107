/* Client connections: bytes in, one request at a time, bytes out.  Loop thread only.
 *
 * A set (`struct conns`) owns all connections of a server.  It calls the handler with each whole
 * request; the handler answers by exactly one of
 *   http_reply()                                        at once or later, or
 *   http_stream_begin() … http_stream_write() … http_stream_end()
 * A handler that answers later embeds a struct exchange and hands it over with exchange_begin():
 * that is how it learns that the client has left.  After the reply's end, or after abort(), the
 * connection forgets the exchange, and nothing may be called on the connection any more.
 *
 * A client that shuts down its sending side while an answer is being computed counts as gone. */
#ifndef HOB_CONN_H
#define HOB_CONN_H

#include <sys/types.h>
#include <uv.h>
#include "net/http.h"

enum {
	CONN_MAX = 2048,                    /* beyond: accepted and closed */
	CONN_MAX_AHEAD_BYTES = 64 << 10,    /* pipelined bytes kept while a reply runs */
	CONN_PAUSE_ABOVE_BYTES = 256 << 10, /* backlog at which the job is paused */
	CONN_RESUME_BELOW_BYTES = 64 << 10, /* … and goes on */
	CONN_MAX_BACKLOG_BYTES = 16 << 20,  /* a stream whose job ignores pause is cut */
	CONN_BODY_IDLE_MS = 30000,          /* no byte of an announced body → 408 */
	CONN_KEEP_ALIVE_MS = 60000,         /* between requests */
	CONN_STALL_MS = 60000,              /* the client takes no byte of our reply */
	CONN_LINGER_MS = 2000, /* reading what nobody wants, so that the client
					       * sees our error and not a reset (RFC 9112 9.6) */
	CONN_LINGER_BYTES = 64 << 20,
};

struct conn;
struct conns;

struct conn_peer {
	bool is_tcp;
	uid_t uid; /* unix socket only */
	uint64_t
		client; /* the process (Unix socket), or this connection (TCP): who is to be
			  * served fairly; never 0 */
};

struct conn_handler {
	/* The head is there and a body follows.  False: it has replied already, the body is not
	 * read and the connection closes after the reply.  Also called for requests without body. */
	bool (*head)(void *arg, struct conn *c, const struct http_request *r);
	/* A whole request; r and all it points to live until the reply's end or a stream's
	 * begin. */
	void (*request)(void *arg, struct conn *c, const struct http_request *r);
	/* The bytes are no request: must call http_reply() with status. */
	void (*bad)(void *arg, struct conn *c, int status, const struct err *why);
};

struct conns *conns_new(uv_loop_t *loop, const struct conn_handler *h, void *arg,
			int header_timeout_ms);
/* Takes one waiting connection from a listener (uv_tcp_t or uv_pipe_t). */
void conns_accept(struct conns *s, uv_stream_t *listener);
int conns_count(const struct conns *s);
uint64_t conns_requests(const struct conns *s); /* answered, since start */
uint64_t conns_refused(const struct conns *s);  /* over CONN_MAX, or a foreign uid */
/* From now on each connection closes after its reply, idle ones at once; done(arg) when none is
 * left, in a later turn of the loop. */
void conns_drain(struct conns *s, void (*done)(void *arg), void *arg);
/* Closes all and frees s; done(arg) in a later turn.  Replaces a drain's done. */
void conns_close(struct conns *s, void (*done)(void *arg), void *arg);

struct exchange {
	/* The client has gone or stalled: cancel.  Called at most once, never from inside a
	 * http_* call. */
	void (*abort)(struct exchange *x);
	/* Backpressure while a stream runs; may be NULL. */
	void (*pause)(struct exchange *x, bool paused);
	/* The server stops: an answer that would not end by itself ends now.  May be NULL. */
	void (*drain)(struct exchange *x);
};
void exchange_begin(struct conn *c, struct exchange *x);
/* Before anything was answered: forgets it, so that another one can begin. */
void exchange_end(struct conn *c);

uv_loop_t *conn_loop(const struct conn *c);
struct conn_peer conn_peer(const struct conn *c);
const struct http_request *conn_request(const struct conn *c);

/* extra: whole header lines, each ended by CRLF, or NULL.  The bytes are copied. */
void http_reply(struct conn *c, int status, const char *content_type, const char *extra,
		struct str body);
/* A body of unknown length: chunked (HTTP/1.0: until close).  Writes of one turn of the loop leave
 * together. */
void http_stream_begin(struct conn *c, int status, const char *content_type,
		       const char *extra);
void http_stream_write(struct conn *c, struct str data);
/* The same without a copy: append to what begin returns, and to nothing else of c before end.  Nothing
 * appended: nothing is sent. */
struct buf *http_chunk_begin(struct conn *c);
void http_chunk_end(struct conn *c);
void http_stream_end(struct conn *c);

#endif
