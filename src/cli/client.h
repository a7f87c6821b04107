/* HTTP to the daemon over its Unix socket, one request at a time.
 *
 * Blocking, for the main thread of a command; a wait ends at a deadline or at Ctrl-C
 * (cli/interrupt.h), whichever comes first, and the connection is closed then: to the
 * daemon that is the sign to stop computing. */
#ifndef HOB_CLIENT_H
#define HOB_CLIENT_H

#include <sys/types.h>
#include "base/buf.h"
#include "base/err.h"

struct client;

enum {
	CLIENT_MAX_REPLY_BYTES = 32 << 20, /* of a reply that is kept whole */
	CLIENT_CALL_TIMEOUT_MS = 10000,    /* listings and the like: all of the reply */
	/* Between two bytes of a stream. The daemon says something at least every few
	 * seconds while a model loads, so silence of this length means that it hangs. */
	CLIENT_SILENCE_TIMEOUT_MS = 130000,
};

struct client *client_new(const char *socket_path); /* connects at the first request */
void client_free(struct client *c);                 /* NULL is fine */
const char *client_socket(const struct client *c);

/* Can a connection be made?  0; -1 with ERR_UNAVAILABLE when nobody listens there, and
 * others when the path is unusable or the socket belongs to another user.  pid: of the
 * listener, may be NULL.  Returns at once. */
int client_probe(const char *socket_path, pid_t *pid, struct err *e);

struct client_request {
	const char *method, *path; /* "GET", "/v1/models" */
	struct str body;           /* JSON; empty: none */
	const char *conversation;  /* header x-hob-conversation, or NULL */
	const char *parent; /* header x-hob-parent: a message's hash or "root", or NULL */
	const char *persona;  /* header x-hob-persona, or NULL */
	const char *client;   /* header x-hob-client: "hob chat", or NULL */
	bool is_private;      /* header x-hob-private */
	bool progress;        /* header x-hob-progress: `progress` events in a stream */
	int total_timeout_ms; /* for all of it; 0: only silence is limited */
	/* Bytes of a reply with status 200 as they come; return -1 to stop (not an error
	 * of the transport: client_do() returns -1 and leaves *e as data() set it). NULL:
	 * all of the body goes to reply->body.  Bodies with another status always go
	 * there. */
	int (*data)(void *arg, const char *p, size_t n, struct err *e);
	void *arg;
};

struct client_reply {
	int status; /* HTTP */
	struct buf body;
	char conversation[64]; /* header x-hob-conversation, or "" */
	char context[160];     /* header x-hob-context, or "" */
};

/* 0 when a whole reply came, whatever its status.  Errors: ERR_CANCELLED (Ctrl-C; the
 * flag is left set), ERR_TIMEOUT, ERR_UNAVAILABLE (nobody listens), ERR_IO (cut off). */
int client_do(struct client *c, const struct client_request *r, struct client_reply *out,
	      struct err *e);
void client_reply_fini(struct client_reply *r);

/* Sets *e from a reply whose status is not 200: {"error":{"message","type","code"}}. */
int client_error(const struct client_reply *r, struct err *e);

#endif
