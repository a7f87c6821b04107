/* A child process that talks over a pipe pair on its standard input and output.
 *
 * Loop thread only.  Standard error is inherited; every other descriptor of ours is
 * closed in the child (O_CLOEXEC everywhere).  The embedding object gets three kinds of
 * callbacks, never before child_spawn() returned; exit comes exactly once, after the last
 * data. */
#ifndef HOB_CHILD_H
#define HOB_CHILD_H

#include <uv.h>
#include "base/buf.h"
#include "base/err.h"

struct child;

struct child_events {
	void (*data)(void *arg, const char *p, size_t n);
	/* The process has ended and the pipe is closed; the child is freed when this
	 * returns. */
	void (*exit)(void *arg, int64_t status, int signal);
};

enum { CHILD_MAX_QUEUED_BYTES = 128 << 20 }; /* unsent input; beyond it the write fails */

/* argv[0] is the path; argv ends with NULL and is copied by the system. */
struct child *child_spawn(uv_loop_t *loop, char *const *argv,
			  const struct child_events *ev, void *arg, struct err *e);
/* Queues the bytes (taken from b, which is left empty).  -1: too much is queued, or the
 * child is ending. */
int child_write(struct child *c, struct buf *b);
/* SIGTERM now (nothing when `gently`: the owner has asked it to end), SIGKILL after
 * grace_ms; exit is called as usual. */
void child_stop(struct child *c, bool gently, unsigned grace_ms);
void child_kill(struct child *c); /* SIGKILL */
int child_pid(const struct child *c);

#endif
