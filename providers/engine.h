/* The local engine: one supervised worker process, reached by the protocol in
 * engine/wire.h.
 *
 * Loop thread only.  The process starts with the first load, so an idle daemon is small;
 * when it dies every job fails with ERR_UNAVAILABLE, the death callback is called once
 * (before the jobs' sinks), and the next load starts it again after a back-off (100 ms
 * doubling to 10 s, forgotten after 30 s of health or a finished answer).  No function
 * calls back before it returns. */
#ifndef HOB_PROVIDER_ENGINE_H
#define HOB_PROVIDER_ENGINE_H

#include <uv.h>
#include "base/err.h"
#include "providers/provider.h"

enum engine_state {
	ENGINE_STOPPED,
	ENGINE_STARTING, /* spawned, hello not seen yet */
	ENGINE_READY,
	ENGINE_ENDING, /* told to go, or killed; its exit is awaited */
	ENGINE_BACKOFF,
	ENGINE_STATES
};

enum {
	ENGINE_BACKOFF_MIN_MS = 100,
	ENGINE_BACKOFF_MAX_MS = 10000,
	ENGINE_HEALTHY_MS = 30000, /* alive so long: the back-off starts anew */
	ENGINE_HELLO_MS = 10000,   /* spawn to hello */
	ENGINE_PING_MS = 5000,
	ENGINE_PONG_MS =
		20000, /* silence so long after a ping: killed.  Loads do not block
				 * the engine's reader, but one step does, and 256 tokens of
				 * a prompt take some 10 s with a large model on two cores. */
	ENGINE_QUIT_MS =
		4000, /* saved KV state is written meanwhile: KV_CLOSE_MS and copies */
};

struct engine;

struct engine_config {
	const char *exe;      /* NULL: /proc/self/exe */
	const char *kernels;  /* "auto", ...; NULL = auto */
	int threads;          /* 0 = the engine's own choice */
	const char *pack_dir; /* NULL: weights are converted at each load */
	uint64_t pack_bytes;
	const char *kv_dir; /* NULL: KV state is saved in RAM only */
	uint64_t kv_ram_bytes, kv_disk_bytes;
	const char *const
		*argv; /* tests: the whole command, NULL-terminated; else NULL */
};

struct engine *engine_new(uv_loop_t *loop, const struct engine_config *c);
/* Saved KV state goes: the worker's, and the files. */
void engine_forget(struct engine *e);
/* Named "local".  Its models are the ids of engine_load in decimal.  Closing it
 * (ops->close) closes the engine: there is no engine_free(). */
struct provider *engine_provider(struct engine *e);
void engine_on_death(struct engine *e, void (*died)(void *arg, const char *why),
		     void *arg);

struct engine_loaded {
	uint64_t bytes, file_bytes; /* loads only */
	uint64_t weights_bytes;     /* shared by the models of one file */
	uint64_t kv_bytes;          /* caches when full, and buffers */
	uint64_t parked_bytes;      /* what stays when it is parked, at most */
	int ctx, ctx_train, slots;
	bool chat;
	double load_ms;     /* loads only */
	const char *source; /* "pack file", "converted", "parked", "shared"; loads only */
	const char *arch, *name; /* borrowed until the callback returns */
};
/* Exactly one of m and e is non-NULL. Not called when the engine dies (the death callback
 * says it for all). */
typedef void engine_load_cb(void *arg, uint64_t id, const struct engine_loaded *m,
			    const struct err *e);
typedef void engine_progress_cb(void *arg, uint64_t id, uint64_t done_bytes,
				uint64_t total_bytes);
typedef void engine_park_cb(void *arg, uint64_t id, uint64_t bytes);
typedef void engine_unload_cb(void *arg, uint64_t id);
/* ids are the caller's, unique, below 2^53; each names one file with one ctx and number of slots from its first
 * probe or load until it is unloaded or failed. */
/* Reads the head of the file: exact sizes, before anything is loaded. */
void engine_probe(struct engine *e, uint64_t id, const char *path, int ctx, int slots,
		  engine_load_cb *cb, void *arg);
/* Also of a probed or parked id.  progress (may be NULL) comes some times a second until cb. */
void engine_load(struct engine *e, uint64_t id, const char *path, int ctx, int slots,
		 engine_progress_cb *progress, engine_load_cb *cb, void *arg);
/* Of a loaded id: its weights stay in memory, to be loaded again at once. */
void engine_park(struct engine *e, uint64_t id, engine_park_cb *cb, void *arg);
/* Of any id.  A probe or load that has not answered is cancelled, and its callback is not called any more. */
void engine_unload(struct engine *e, uint64_t id, engine_unload_cb *cb, void *arg);

/* Tokens of each message of a chat, its template overhead included, and what the template
 * adds around them all.  The handle is valid until the callback. */
struct engine_count;
typedef void engine_count_cb(void *arg, const int *tokens, int n, int extra,
			     const struct err *e);
struct engine_count *engine_count(struct engine *e, uint64_t id,
				  const struct message *messages, int n,
				  engine_count_cb *cb, void *arg);
void engine_count_cancel(struct engine_count *c);

enum engine_state engine_state(const struct engine *e);
const char *engine_state_name(enum engine_state s);
int engine_pid(const struct engine *e);           /* 0 when there is none */
unsigned engine_restarts(const struct engine *e); /* deaths that were not asked for */
/* Saved KV state of conversations, as of the latest ping. */
void engine_saved_kv(const struct engine *e, uint64_t *ram_bytes, uint64_t *disk_bytes);
const char *engine_kernels(const struct engine *e); /* from hello; "" before */

#endif
