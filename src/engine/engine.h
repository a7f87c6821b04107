/* The engine process: models, their jobs, and the line protocol of wire.h on two descriptors.
 *
 * One main thread reads commands between steps; the pool computes; loads run on threads of their own
 * (loader.h).  All state hangs off one struct, so
 * that tests run it on a socketpair in a thread of their own. */
#ifndef HOB_ENGINE_H
#define HOB_ENGINE_H

#include <stdint.h>

struct engine_options {
	const char *kernels; /* "auto" or a table's name */
	int threads;         /* 0: engine_default_threads() */

	/* Pack files (pack_file.h): without a folder or with 0 bytes, none. */
	const char *pack_dir;
	uint64_t pack_bytes; /* of the folder */

	/* Saved KV state: without a folder in RAM only; 0 bytes, none there. */
	const char *kv_dir;
	uint64_t kv_ram_bytes, kv_disk_bytes;
};

enum {
	ENGINE_EXIT_OK = 0,              /* quit, or the router is gone */
	ENGINE_EXIT_FAIL = 1,            /* could not start, or a system call failed */
	ENGINE_EXIT_PROTOCOL = 2,        /* the router sent what wire.h does not allow */
	ENGINE_OUT_PAUSE_BYTES = 1 << 20 /* unread output above this stops computing */
};

/* Runs until quit or end of input; the descriptors stay the caller's (they are made non-blocking and
 * set back). Returns an ENGINE_EXIT_*. in_fd may be out_fd. */
int engine_main(int in_fd, int out_fd, const struct engine_options *o);

/* Physical cores within our CPU affinity mask; at least 1, at most POOL_MAX_THREADS. */
int engine_default_threads(void);

#endif
