/* The key of a provider: where it comes from, whom it may be shown to.
 *
 * Loop thread.  It is looked up when it is first needed (environment, file of mode 0600, or the
 * standard output of a command), and again when it was missing or refused.  It leaves this file in
 * two ways only: as a header line for a URL of the very scheme, host and port that it was configured
 * for, and as the thing that key_redact() removes from a text.  Nothing prints it. */
#ifndef HOB_KEY_H
#define HOB_KEY_H

#include <sys/queue.h>
#include <uv.h>
#include "base/buf.h"
#include "base/err.h"
#include "config.h"

enum {
	KEY_MAX_BYTES = 4096,
	KEY_COMMAND_MS = 30000, /* somebody may have to type a passphrase */
	KEY_AGAIN_MS = 5000, /* a command that failed, or whose key was refused, rests */
};

struct key;

/* Where it comes from: the first that is given and there.  All borrowed. */
struct key_from {
	const char *env, *file, *command; /* each may be NULL; none: no key is needed */
	const char *fixed;        /* the key itself, of a server of ours; or NULL */
	const struct names *urls; /* whom it may be shown to; fixed: anybody */
	const char *who;          /* for messages */
};

/* Embedded by who waits for the command. */
struct key_wait {
	TAILQ_ENTRY(key_wait) link;
	struct key *key; /* NULL: does not wait */
	/* e NULL: it is there.  Called from the loop, after the wait is over. */
	void (*ready)(struct key_wait *w, const struct err *e);
};

struct key *key_new(uv_loop_t *loop, const struct key_from *from, struct err *e);
/* Nobody waits any more.  done(arg) in a later turn; the key is gone by then. */
void key_close(struct key *k, void (*done)(void *arg), void *arg);

/* 0: it is there, or none is needed; 1: w->ready() will come; -1 ERR_UNAUTHORIZED: it is missing, and
 * e says what to set. */
int key_want(struct key *k, struct key_wait *w, struct err *e);
void key_unwait(struct key_wait *w); /* fine when it does not wait */
/* The server did not take the key of that generation: it is looked up again when next wanted. */
void key_refused(struct key *k, unsigned generation);

unsigned key_generation(const struct key *k); /* another one with each other key */
bool key_is_there(struct key *k); /* as far as it can be told without the command */
const char *key_source(const struct key *k); /* "$X_KEY", "file '…'", "command"; NULL: needs none */

/* Appends prefix and key, or nothing when there is none.  The caller wipes `out`
 * (key_wipe).  -1 ERR_FORBIDDEN: the url is not of an origin it belongs to. */
int key_header(const struct key *k, const char *url, const char *prefix, struct buf *out,
	       struct err *e);
void key_wipe(struct buf *b);
/* Overwrites the key, and the beginning of one at the end of the text. */
void key_redact(const struct key *k, char *text);

#endif
