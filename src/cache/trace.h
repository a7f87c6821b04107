/* A trace of requests, one line of JSON each, for `hob cache simulate`.
 *
 * A line says when a request came, for which instance, what that weighs and costs, how
 * long the request waited and held its lease, and how it ended; nothing of its content and
 * nobody's name but the model's.  Format: simulate.h reads it.
 * Lines are appended from memory by uv_fs_write, one write at a time; what does not fit
 * TRACE_BUFFER_BYTES meanwhile is dropped and counted.  The file stops growing at
 * TRACE_MAX_BYTES, with one line in the log.  Loop thread only. */
#ifndef HOB_TRACE_H
#define HOB_TRACE_H

#include "cache/cache.h"

enum { TRACE_MAX_BYTES = 64 << 20, TRACE_BUFFER_BYTES = 1 << 20 };

struct trace; /* opaque */

/* Appends to the file (mode 0600) what c hears of from now on.  NULL: it cannot be opened. */
struct trace *trace_open(uv_loop_t *loop, struct cache *c, const char *path,
			 struct err *e);
/* Before cache_close().  All is written when done(arg) is called, in a later turn.
 * t may be NULL (then at once). */
void trace_close(struct trace *t, void (*done)(void *arg), void *arg);
uint64_t trace_dropped(const struct trace *t); /* lines */

/* The line of one request, with its newline. */
struct buf;
void trace_line(struct buf *out, const struct cache_use *u);

#endif
