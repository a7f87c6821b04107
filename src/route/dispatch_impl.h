/* What the files of the dispatcher share; nobody else includes it. */
#ifndef HOB_DISPATCH_IMPL_H
#define HOB_DISPATCH_IMPL_H

#include <sys/queue.h>
#include "base/sm.h"
#include "memory/window.h"
#include "route/dispatch_open.h"
#include "route/loaders.h"

enum {
	DISPATCH_MAX_JOBS = 1024,
	STORE_WAIT_MS = 5000,    /* then the answer goes on without memory */
	STORE_END_MS = 10000,    /* then the client is told without the commit */
	COUNT_WAIT_MS = 10000,   /* then tokens are guessed */
	PROGRESS_FIRST_MS = 100, /* a resident model is leased long before */
	PROGRESS_MS = 1000,
	PARTIAL_MS = 2000,
	PARTIAL_BYTES = 4096,
	MAX_ANSWER_BYTES = 32 << 20,
	REMOTE_CTX = 32768, /* tokens; remote windows are not known, most are larger */
};

enum job_state {
	JOB_START,   /* dispatch_start() has yet to return */
	JOB_HISTORY, /* store_path() */
	JOB_LEASE,   /* cache_acquire() */
	JOB_COUNT,   /* engine_count() */
	JOB_BEGIN,   /* store_turn_begin() */
	JOB_RUN,     /* the provider has it */
	JOB_END,     /* store_turn_end() */
	JOB_DONE,    /* told or cancelled; the memory goes with the last reference */
	JOB_STATES
};

struct dispatch_job {
	TAILQ_ENTRY(dispatch_job) link;
	struct dispatch *d; /* NULL in DONE */
	struct store *store;
	struct request *r; /* owned */
	struct event_sink *out;
	unsigned state;
	int refs; /* the timer, and each answer that the store owes us */
	uv_timer_t timer;
	bool paused;
	uint64_t start_ms, deadline_ms,
		first_ms; /* first_ms: of the first text, 0 = none */

	/* where it runs */
	char *model;               /* owned: its name for people and the store */
	struct provider *provider; /* borrowed */
	const char *upstream; /* in r->model: the provider's own name, or NULL = local */
	struct cache_waiter *waiter;
	struct cache_lease *lease; /* owned */
	struct engine_count *count;
	struct job *run;
	struct event_sink in; /* the provider's events come here */
	struct request
		sent; /* what the provider borrows: r with other messages; not owned */
	bool prepared, told_started, committed;
	int retries;

	/* memory */
	char *conversation;      /* owned; NULL: not remembered */
	char note[200];          /* why not, for `reason` */
	struct message *history; /* owned, with its texts */
	int nhistory;
	struct message
		*messages; /* owned array of borrowed texts: history and new ones */
	int nmessages;
	int first_new; /* of r->messages: those before it are in the history already */
	int kept, dropped;
	bool begin_due; /* store_turn_begin() was called and has not answered */
	int64_t turn;   /* 0 = none open */
	struct buf answer;
	size_t saved_bytes;
	uint64_t saved_ms;

	struct event end; /* the terminal event, while the store commits */
	bool was_cancelled;
};

TAILQ_HEAD(dispatch_list, dispatch_job);

struct dispatch {
	struct dispatch_parts parts;
	struct provider **providers; /* owned array */
	struct dispatch_list jobs;
	struct dispatch_stats stats;
	struct loaders *loaders; /* owned; NULL without an engine */
};

/* dispatch_open.c: who runs the models of this lease */
struct provider *dispatch_runner(const struct dispatch *d, const struct cache_lease *l);

/* dispatch.c */
void job_move(struct dispatch_job *j, enum job_state next);
void job_wait(struct dispatch_job *j,
	      uint64_t ms); /* the timer; what it means is the state's */
void job_unref(struct dispatch_job *j);
void job_lease(struct dispatch_job *j);
void job_run(struct dispatch_job *j);
void job_deliver(struct dispatch_job *j);

/* dispatch_memory.c: the steps of a turn.  Each ends in one of those above. */
bool memory_wanted(struct dispatch_job *j); /* false: note says why, if anybody asked */
void memory_history(struct dispatch_job *j);
void memory_count(struct dispatch_job *j);
void memory_begin(struct dispatch_job *j);
void memory_off(struct dispatch_job *j, const char *why); /* goes on without */
void memory_partial(struct dispatch_job *j, bool due);
bool memory_end(struct dispatch_job *j); /* false: there is nothing to commit */
void memory_free(struct dispatch_job *j);

#endif
