/* Continuous batching: the jobs of one model, and what the next step computes.
 *
 * A step takes one row from each sequence that generates and fills up to GRAPH_MAX_ROWS with prompts
 * in turn, so that a long prompt delays nobody by more than one chunk.  Sequences join and
 * leave between steps.
 *
 * Classes: waiting jobs get slots by class, then in order of arrival; only prompts of the highest class among
 * them get chunks; batch jobs take no part in a step while a completion is under way.  One step in
 * BATCH_OPEN_STEP is open to those that were passed over, so that nobody starves.  When all slots are taken and a
 * higher class waits, the youngest of the lowest class is preempted: it waits again, in front of its class, and goes on
 * later; its client sees a pause, and the text is token for token what it would have been.
 *
 * With a store (kv_store.h), what a slot loses is saved and what a prompt shares with a saved sequence is
 * restored instead of computed; a job whose KV comes from disk waits without holding up others.
 *  Events come out of batch_start(), batch_cancel() and batch_step() by callback, on
 * the caller's thread (the engine's main thread); the callback must not call back in. */
#ifndef HOB_BATCH_H
#define HOB_BATCH_H

#include "engine/graph.h"
#include "engine/kv_store.h"
#include "engine/sampler.h"

/* Same meaning and order as the router's enum request_class. */
enum batch_class { BATCH_COMPLETION, BATCH_INTERACTIVE, BATCH_BATCH };

enum {
	/* 1 in 8 steps costs a completion 12 % at worst, and gives the rest of the machine an eighth. */
	BATCH_OPEN_STEP = 8,
	/* A conversation this long without a next turn goes to disk; long enough that a quick exchange is written
	 * once, short enough that a crash loses little. */
	BATCH_IDLE_MS = 10000
};

enum batch_event_kind {
	BATCH_STARTED,  /* prompt_tokens, cached_tokens */
	BATCH_PROGRESS, /* done, prompt_tokens */
	BATCH_TEXT,     /* text */
	BATCH_FINISHED, /* all but text; the job is gone */
	BATCH_FAILED    /* err; the job is gone */
};

struct batch_event {
	enum batch_event_kind kind;
	int64_t job;
	struct str text;    /* whole UTF-8 characters; borrowed for the call */
	const char *reason; /* "stop", "length" */
	int prompt_tokens, cached_tokens, completion_tokens, done;
	uint64_t prefill_us, decode_us; /* slot to first token; first to last token */
	const struct err *err;
};

typedef void batch_event_fn(void *arg, const struct batch_event *ev);

struct batch_job {
	int64_t id;
	enum batch_class class;
	struct tokens prompt; /* taken over */
	struct sampler_params sampling;
	int max_tokens;         /* 0: as many as the context holds */
	bool ignore_eos;        /* the model's end of the answer does not end it */
	bool is_volatile;       /* its KV state is never saved, in memory or on disk */
	const struct str *stop; /* copied */
	int nstop;
};

struct batch;

/* Borrows model, kernels and pool.  ctx and slots as kv_new(). */
struct batch *batch_new(const struct model *m, const struct kernels *k, struct pool *pool,
			int ctx, int slots, batch_event_fn *fn, void *arg);
/* Before the first job.  The store outlives the batch; model: kv_model_key(). */
void batch_use_store(struct batch *b, struct kv_store *store, struct kv_key model);
void batch_free(struct batch *b); /* jobs go without an event; NULL is fine */
/* Takes the job's prompt in any case.  What cannot run (too long a prompt, an empty one, too many stop
 * strings) fails by event. */
void batch_start(struct batch *b, struct batch_job *job);
bool batch_cancel(struct batch *b,
		  int64_t job); /* no event follows; false: no such job */
bool batch_has(const struct batch *b, int64_t job);
void batch_fail_all(struct batch *b, const struct err *e);
bool batch_busy(const struct batch *b); /* there are jobs */
/* A step would do something; jobs that wait for the disk alone are not ready until kv_store_poll() took what
 * they wait for. */
bool batch_ready(const struct batch *b);
/* Saves all slots, as before unloading, parking and the end; running jobs may go on. */
void batch_save_all(struct batch *b);
/* What the slots hold now, jobs under way among it, is never saved. */
void batch_forget(struct batch *b);
/* Sends conversations to disk that have been idle for BATCH_IDLE_MS.  Milliseconds until the next is due,
 * -1: none. */
int batch_idle(struct batch *b);
void batch_step(struct batch *b);          /* nothing to do: does nothing */
int batch_ctx(const struct batch *b);      /* tokens a sequence may have */
size_t batch_bytes(const struct batch *b); /* caches when full, and buffers */

#endif
