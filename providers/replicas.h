/* Several servers that hold the same models, as one provider: who takes the next call, and how each
 * of them does.
 *
 * Loop thread.  Each is asked for {origin}/metrics every REPLICA_POLL_MS while calls run and for
 * REPLICAS_LINGER_MS after the last; never otherwise.  The choice is replica_choice.h's.  One that
 * cannot be reached, or says that it is ill, leaves the choice and comes back by a poll or a call that
 * works; the failed call goes up, and the dispatcher's next try meets another one. */
#ifndef HOB_REPLICAS_H
#define HOB_REPLICAS_H

#include "base/err.h"
#include "providers/replica_choice.h"
#include "route/request.h"

enum {
	REPLICAS_LINGER_MS = 10000,
	REPLICAS_CONNECT_MS = 1000, /* of a poll */
	REPLICAS_TOTAL_MS = 1500,   /* less than REPLICA_POLL_MS: polls never overlap */
	REPLICAS_SLOW_POLLS = 3,    /* in a row: then it is taken for dead */
	REPLICAS_MAX_BYTES = 1 << 20,
	REPLICAS_MAX = 64,
};

struct replicas;

struct remote;
/* urls: bases, n of them, at least one; copied. */
struct replicas *replicas_new(struct remote *r, char *const *urls, int n);
/* Before the remote is gone.  Its memory goes a turn later.  NULL is fine. */
void replicas_close(struct replicas *s);

/* By what a conversation is known again: its id, and how it begins.  0: is not known. */
struct replica_keys {
	uint64_t id, beginning;
};
struct replica_keys replica_keys_of(const struct request *r);

/* Embedded by a call.  Zero it. */
struct replica_call {
	bool counted;
	int at; /* of which replica; 0 while there is only one */
	struct replica_ticket ticket;
};

/* Chooses, and counts the call until replicas_ended(). */
void replicas_began(struct replicas *s, struct replica_keys keys, struct replica_call *c);
/* code: ERR_NONE when it finished well or was cancelled; status: of the response, 0 when there was
 * none.  Once counts; NULL is fine. */
void replicas_ended(struct replicas *s, struct replica_call *c, enum err_code code,
		    int status);
/* A call is likely soon: polls begin, and with them a connection to each is made. */
void replicas_warm(struct replicas *s);
/* For a small question that may go to any; nothing is counted. */
int replicas_any(struct replicas *s);
const char *replicas_url(const struct replicas *s, int at);

void replicas_count(const struct replicas *s, int *all, int *up); /* s NULL: zeros */
/* An array of {"url","load","healthy","in_flight",…}, or null when s is NULL. */
void replicas_json(const struct replicas *s, struct buf *out);

#endif
