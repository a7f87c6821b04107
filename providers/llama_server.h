/* Models that the engine does not speak, each in a managed llama-server process.
 *
 * Loop thread only.  One process a model, on a Unix socket in a folder of mode 0700, with a
 * random key, without keys of ours in its environment; it dies with us.  Requests go to it
 * through the OpenAI provider's code.  No function calls back before it returns.
 *
 * A process that ends by itself is a crash: the next load of that model waits 100 ms, then
 * 1 s; after LLAMA_MAX_CRASHES in a row loads fail at once with ERR_UNAVAILABLE, which says
 * when it is tried again (30 s, doubling to 10 min).  An answer that it finished, or
 * LLAMA_HEALTHY_MS alive, ends the row. */
#ifndef HOB_LLAMA_SERVER_H
#define HOB_LLAMA_SERVER_H

#include <uv.h>
#include "config.h"
#include "net/fetch.h"
#include "providers/provider.h"

enum {
	LLAMA_LOAD_MS = 600000, /* spawn to ready, unless configured */
	LLAMA_STOP_MS = 3000,   /* SIGTERM to SIGKILL */
	LLAMA_CANCEL_MS = 500,  /* the same while it loads: nothing there is worth more */
	LLAMA_POLL_MIN_MS = 10, /* between two looks at /health */
	LLAMA_POLL_MAX_MS = 100,
	LLAMA_POLL_PUSH_MS = 1000, /* once it was seen to tell its state by itself */
	LLAMA_MAX_CRASHES = 3,
	LLAMA_BACKOFF_MIN_MS = 100,
	LLAMA_BACKOFF_MAX_MS = 1000,
	LLAMA_BREAK_MIN_MS = 30000,
	LLAMA_BREAK_MAX_MS = 600000,
	LLAMA_HEALTHY_MS = 30000,
};

struct llama_servers;

struct llama_servers_config {
	const char *program; /* a path, or a name on PATH; NULL: "llama-server" */
	const char *dir;     /* of the sockets; NULL: paths_children_dir() */
	const char *hob;     /* for `hob --child`; NULL: /proc/self/exe */
	int threads;         /* 0 = its own choice */
	uint64_t load_ms;    /* 0: LLAMA_LOAD_MS */
};

/* All strings are copied.  f must outlive the servers. */
struct llama_servers *llama_servers_new(uv_loop_t *loop, struct fetch *f,
					const struct llama_servers_config *c);
/* Program, threads and deadline from now on; what runs goes on as it is, and crashes are
 * forgotten, as they are for a file that was replaced. */
void llama_servers_set(struct llama_servers *l, const struct llama_servers_config *c);
/* Its models are the ids of llama_servers_load() in decimal.  Closing it (ops->close) ends
 * the processes, awaits them, and frees the whole. */
struct provider *llama_servers_provider(struct llama_servers *l);
/* 0 when the program is there; else ERR_UNSUPPORTED, which says what to do. */
int llama_servers_find(const struct llama_servers *l, struct err *e);

struct llama_load { /* borrowed for the call */
	const char *name, *path;
	const struct model_settings *settings; /* args and nargs count; NULL: none */
	int ctx, slots;                        /* tokens per slot */
};
struct llama_loaded {
	/* Measured of the process and all in its group, once it was ready: PSS, or where that
	 * is not readable RSS, and swap.  weights_bytes is what of it the file explains. */
	uint64_t weights_bytes, kv_bytes;
	int ctx, ctx_train, slots; /* ctx_train 0: it did not say */
	bool chat;
	double load_ms;
	int pid;
};
/* Exactly one of m and e is non-NULL. */
typedef void llama_load_cb(void *arg, uint64_t id, const struct llama_loaded *m,
			   const struct err *e);
/* Of the file's bytes, as far as the process tells. */
typedef void llama_progress_cb(void *arg, uint64_t id, uint64_t done_bytes,
			       uint64_t total_bytes);
typedef void llama_unload_cb(void *arg, uint64_t id);
struct llama_load_events {
	llama_load_cb *loaded;
	llama_progress_cb *progress; /* or NULL */
	void *arg;
};
/* ids are the caller's and never used twice. */
void llama_servers_load(struct llama_servers *l, uint64_t id, const struct llama_load *m,
			const struct llama_load_events *ev);
/* From any state: a load is cancelled, and its callback never comes.  Answers when the
 * process is gone (an unknown id: in a later turn). */
void llama_servers_unload(struct llama_servers *l, uint64_t id, llama_unload_cb *cb,
			  void *arg);
/* A process that was ready ended by itself.  Called before its jobs fail. */
void llama_servers_on_gone(struct llama_servers *l,
			   void (*gone)(void *arg, uint64_t id, const char *why),
			   void *arg);
bool llama_servers_has(const struct llama_servers *l, uint64_t id); /* and it is ready */
bool llama_servers_can_park(const struct llama_servers *l);         /* else: unload */
int llama_servers_pid(const struct llama_servers *l, uint64_t id);  /* 0: none */
unsigned llama_servers_crashes(const struct llama_servers *l);      /* since the start */

/* What a model will need, before anybody measured it. */
void llama_server_guess(uint64_t file_bytes, int ctx, int slots, uint64_t *weights_bytes,
			uint64_t *kv_bytes);

#endif
