/* The engine process: models, their jobs, and the line protocol of wire.h on two descriptors.
 *
 * One main thread reads commands between steps; the pool computes.  All state hangs off one struct, so
 * that tests run it on a socketpair in a thread of their own. */
#ifndef HOB_ENGINE_H
#define HOB_ENGINE_H

#include <stdint.h>

struct engine_options {
	const char *kernels; /* "auto" or a table's name */
	int threads;         /* 0: engine_default_threads() */
	const char *kv_dir;  /* saved KV state (kv_store.h); NULL: memory only */
	uint64_t kv_ram_bytes, kv_disk_bytes; /* no memory: nothing is saved */
};

enum {
	ENGINE_EXIT_OK = 0,       /* quit, or the router is gone */
	ENGINE_EXIT_FAIL = 1,     /* could not start, or a system call failed */
	ENGINE_EXIT_PROTOCOL = 2, /* the router sent what wire.h does not allow */
	ENGINE_MAX_MODELS = 64,
	ENGINE_OUT_PAUSE_BYTES = 1 << 20 /* unread output above this stops computing */
};

/* Runs until quit or end of input; the descriptors stay the caller's (they are made non-blocking and
 * set back). Returns an ENGINE_EXIT_*. in_fd may be out_fd. */
int engine_main(int in_fd, int out_fd, const struct engine_options *o);

/* Physical cores within our CPU affinity mask; at least 1, at most POOL_MAX_THREADS. */
int engine_default_threads(void);

#endif
