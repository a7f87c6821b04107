/* What conn.c and conns.c share; nobody else includes it. */
#ifndef HOB_CONN_IMPL_H
#define HOB_CONN_IMPL_H

#include <sys/queue.h>
#include "net/conn.h"

enum { CONN_SPARE_MAX = 64, CONN_SPARE_BYTES = 16 << 10 };

TAILQ_HEAD(conn_list, conn);

struct conns {
	uv_loop_t *loop;                    /* borrowed */
	const struct conn_handler *handler; /* borrowed, static */
	void *arg;
	uv_prepare_t prepare;
	uv_check_t check;
	uv_timer_t sweep;
	unsigned open_handles;
	struct conn_list all, dirty;
	int count, peak; /* peak: the most since memory was last given back */
	uint64_t requests, refused;
	uint64_t next_client;
	int header_timeout_ms;
	bool draining, closing;
	void (*done)(void *arg); /* drain's or close's */
	void *done_arg;
	/* Empty buffers for output: a stream that waits for its next event holds none. */
	struct buf spare[CONN_SPARE_MAX]; /* owned, capacity at most CONN_SPARE_BYTES */
	int nspare;
	char in[64 << 10]; /* one for all: callbacks use it up at once */
};

struct flight {
	uv_write_t req;
	struct conn *conn;
	char *bytes; /* owned */
};

struct conn {
	union {
		uv_handle_t handle;
		uv_stream_t stream;
		uv_tcp_t tcp;
		uv_pipe_t pipe;
	} sock;
	struct conns *set;
	TAILQ_ENTRY(conn) link, dirty_link;
	unsigned state;
	struct conn_peer peer;
	struct http_parser parser;
	struct exchange *exchange; /* borrowed: whoever computes the answer, or NULL */
	uint64_t deadline_ms;      /* uv_now() clock; 0 = none */
	uint64_t discarded;        /* bytes read while lingering */

	struct buf ahead;      /* received while a reply runs */
	struct buf out;        /* to be written; from the set's spare ones */
	size_t chunk_at;       /* where in out the chunk that is being made begins */
	struct flight *flying; /* owned; what the kernel did not take at once, or NULL */
	size_t backlog_seen;
	bool reading, dirty, keep_alive, chunked;
	bool unread_body; /* refused before its body: linger */
	bool no_body;     /* HEAD */
	bool paused;
};

/* conn.c */
struct conn *conn_new(struct conns *s, bool is_tcp); /* not accepted yet */
void conn_start(struct conn *c);                     /* accepted: reads */
void conn_close(struct conn *c);                     /* must not be closing */
void conn_flush(struct conn *c); /* hands the gathered output to the kernel */
void conn_check(struct conn *c, uint64_t now); /* deadlines, on uv_now()'s clock */
bool conn_is_closing(const struct conn *c);
bool conn_is_idle(const struct conn *c); /* between requests */

/* conns.c */
void conns_one_less(struct conns *s); /* a connection's memory has gone */

#endif
