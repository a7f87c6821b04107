/* A child process that talks over a pipe pair on its standard input and output.
 *
 * Loop thread only.  Every descriptor of ours but the three is closed in the child
 * (O_CLOEXEC everywhere).  The embedding object gets its callbacks never before the spawn
 * returned; exit comes exactly once, after the last data and the last log line.  In a
 * callback child_write(), child_stop() and child_kill() are legal. */
#ifndef HOB_CHILD_H
#define HOB_CHILD_H

#include <uv.h>
#include "base/buf.h"
#include "base/err.h"

struct child;

struct child_events {
	void (*data)(void *arg, const char *p, size_t n);
	/* The process has ended and its pipes are closed; the child is freed when this
	 * returns. */
	void (*exit)(void *arg, int64_t status, int signal);
	/* A line of its standard error, at most CHILD_MAX_LINE_BYTES of it.  NULL: standard
	 * error is ours.  It is always read, however fast it comes. */
	void (*log)(void *arg, struct str line);
};

enum {
	CHILD_MAX_QUEUED_BYTES = 128 << 20, /* unsent input; beyond it the write fails */
	CHILD_MAX_LINE_BYTES = 1024,
};

struct child_options {
	char *const *argv; /* argv[0] is the path; ends with NULL; copied by the system */
	char *const *env;  /* "NAME=value", ends with NULL; NULL: ours */
	/* A foreign program that we manage: it leads a session and process group of its own
	 * (stop and kill go to the whole group, and what is left of the group when its leader
	 * ends is killed), gains no privileges, and dies with us by PR_SET_PDEATHSIG: it is
	 * started as `hob --child PID -- argv...` (cli/child_cmd.c), which execs it. */
	bool managed;
	const char *hob; /* the program for that; NULL: /proc/self/exe */
};

struct child *child_spawn(uv_loop_t *loop, const struct child_options *o,
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
