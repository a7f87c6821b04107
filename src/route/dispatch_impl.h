/* What the files of the dispatcher share; nobody else includes it.
 *
 *   dispatch.c            the states: start, time, cancel, end
 *   dispatch_candidate.c  the plan, which candidate is next, what a failure leads to
 *   dispatch_run.c        lease and run, the provider's events
 *   dispatch_account.c    money, health and the log of routes
 *   dispatch_memory.c     the conversation: its path, the turn that is opened and closed
 *   dispatch_context.c    what of the path goes to the candidate
 *   dispatch_summary.c    summaries and titles: when, of what, by whom
 *   dispatch_task.c       the requests of our own that write them
 *   dispatch_background.c  those that nobody waits for
 *   dispatch_bridge.c     loads behind an answer that comes from elsewhere
 *   dispatch_open.c       the dispatcher as an object */
#ifndef HOB_DISPATCH_IMPL_H
#define HOB_DISPATCH_IMPL_H

#include <sys/queue.h>
#include "base/sm.h"
#include "memory/context.h"
#include "route/dispatch_open.h"
#include "route/health.h"
#include "route/loaders.h"
#include "route/retry.h"
#include "route/sticky.h"
#include "route/tool_calls.h"

enum {
	DISPATCH_MAX_JOBS = 2048,
	MAX_NAME_BYTES = 160,    /* of what an upstream calls its model */
	STORE_WAIT_MS = 5000,    /* then the answer goes on without memory */
	STORE_END_MS = 10000,    /* then the client is told without the commit */
	COUNT_WAIT_MS = 10000,   /* then tokens are guessed */
	MONEY_WAIT_MS = 5000,    /* then the candidate counts as over its cap */
	PROGRESS_FIRST_MS = 100, /* a resident model is leased long before */
	PROGRESS_MS = 1000,
	PATIENCE_MIN_MS = 50, /* what a resident model with a free slot needs, and more */
	PARTIAL_MS = 2000,
	PARTIAL_BYTES = 4096,
	MAX_ANSWER_BYTES = 32 << 20,
	MAX_REASONING_BYTES = 1 << 20, /* that are kept; the rest is cut off */
	SUMMARY_WAIT_MS = 60000, /* of a call that does not fit; then turns are dropped */
	SUMMARY_SOON_MS = 120000,  /* after a failure, for the same conversation */
	SUMMARY_LATER_MS = 600000, /* and up to the same message */
	BACKGROUND_IDLE_MS = 200,  /* nobody asks anything for so long */
	BACKGROUND_MAX = 32,       /* summaries and titles that wait */
	INCOGNITO_MAX_CONVERSATIONS = 100,
	INCOGNITO_MAX_BYTES = 256 << 20,
	REMOTE_CTX = 32768,        /* tokens, when it is not known; most are larger */
	DISPATCH_MAX_BRIDGES = 16, /* models loaded behind answers at once */
};

enum job_state {
	JOB_START,
	JOB_HISTORY,
	JOB_PLAN,
	JOB_WAIT,
	JOB_LEASE,
	JOB_MONEY,
	JOB_COUNT,
	JOB_SUMMARISE,
	JOB_BEGIN,
	JOB_RUN,
	JOB_END,
	JOB_DONE,
	JOB_STATES
};

/* What the current try has open; account_*() closes it exactly once. */
struct account {
	bool admitted;           /* by health: owes it an outcome */
	struct money_hold *hold; /* or NULL */
	double most_usd;         /* of this try; 0 = local, < 0 = unknown */
	uint64_t start_ms, first_ms;
};

enum memory_use {
	MEMORY_NONE,
	MEMORY_PATH,  /* a conversation: its history goes along */
	MEMORY_RECORD /* the request goes as it is, and is written down */
};

struct history_mark { /* of a message of the history */
	int64_t id;
	char hash[STORE_HASH_TEXT_BYTES];
	int tokens; /* by `tokenizer`; -1 = not known */
};

struct history_summary {
	int upto, tokens;
	char *model, *text; /* owned */
};

/* What the path brought, and what is made of it for the current candidate. */
struct job_context {
	char *tokenizer;            /* owned; NULL: nobody's counts were asked for */
	struct history_mark *marks; /* owned */
	struct history_summary *summaries; /* owned */
	int nsummaries;
	char **notes; /* owned, oldest first */
	int nnotes;

	int *tokens;          /* owned: of joined, as the candidate counts */
	int *asked, nasked;   /* owned: those of joined that the engine counts */
	int ctx, plan_budget; /* tokens */
	struct context_plan plan;
	struct message
		*messages; /* owned array, texts borrowed or in `made`: what is sent */
	int nmessages;
	char **made; /* owned */
	int nmade;
	struct message
		*plain; /* owned, with texts; NULL: nobody needed them.  Of joined, as a
				* model reads them that knows text alone; text NULL: as it is */
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

	/* the plan: what outlives the configuration that it was made with */
	struct candidate only; /* room for the usual plan */
	struct candidate *c;   /* owned unless &only; NULL: none yet */
	int nc, at;            /* `use` of those behind `at` may still be withdrawn */
	int tries;             /* of c[at] */
	char *route;           /* owned or NULL */
	int patience_ms;
	bool is_plain, after_refusal, pin;
	char *reason; /* owned; NULL: none yet, or told */

	/* what was tried in vain; owned array, models are c[]'s */
	struct route_attempt *failed;
	int nfailed;

	/* the current try */
	struct provider *runner; /* borrowed */
	struct cache_waiter *waiter;
	struct cache_lease *lease; /* owned */
	struct engine_count *count;
	struct job *run;
	struct event_sink in; /* the provider's events come here */
	struct request
		*sent; /* owned, its parts are not: r with other messages or another id,
				   * for the provider; NULL: r itself */
	struct account account;
	bool accepted;          /* the provider said EVENT_STARTED */
	bool refused;           /* by the breaker: there was no call */
	char *upstream_model;   /* owned: as it calls what answers; NULL: not said */
	uint64_t wait_until_ms; /* WAIT */
	char *answered_by; /* owned: the provider's name once committed; it may close before us */
	bool told_started, committed, ran; /* ran: stats counted it */

	uint64_t log; /* number in the log of routes; 0 = none */

	/* memory: dispatch_memory.c */
	enum memory_use use;
	bool is_incognito, is_background; /* is_background: nobody waits for it */
	char *conversation;               /* owned; NULL: no path was read */
	char *recorded; /* owned: where a turn without a path is kept, once that is known */
	bool was_private; /* the conversation is marked so in the store */
	char *note;     /* owned or NULL: why it is not remembered, for `reason` */
	struct message *history; /* owned, with its texts */
	int nhistory;
	struct message *
		joined; /* owned array of borrowed texts: r's first `lead`, history, new ones */
	int njoined, lead;
	bool begun;     /* store_turn_begin() was called; never twice */
	bool begin_due; /* and has not answered */
	int64_t turn;   /* 0 = none open */
	struct buf answer, reasoning;
	struct tool_calls *calls; /* owned; NULL: none */
	size_t saved_bytes;
	uint64_t saved_ms;

	/* memory: dispatch_context.c */
	struct job_context context;

	/* memory: dispatch_summary.c */
	struct summary_task *summary; /* that the call waits for, or NULL */
	bool summary_tried;
	uint64_t summary_until_ms;

	struct event end; /* the terminal event, while the store commits */
	bool was_cancelled;
};

TAILQ_HEAD(dispatch_list, dispatch_job);

/* A load that nobody waits for; see dispatch_bridge.c. */
struct bridge {
	struct dispatch *d; /* NULL: free */
	struct cache_waiter *waiter;
	char *model; /* owned */
};

struct dispatch {
	struct dispatch_parts parts;
	struct store *incognito;       /* owned; NULL: nobody has asked for it */
	struct background *background; /* owned */
	struct provider **providers;   /* owned array */
	struct dispatch_list jobs;
	struct dispatch_stats stats;
	struct loaders *loaders; /* owned; NULL without an engine */
	struct health *health;   /* owned, as the next three */
	struct sticky *sticky;
	struct route_log *log;
	struct retry_budget budget;
	struct provider_listener listener; /* of all remote ones */
	struct bridge bridges[DISPATCH_MAX_BRIDGES];
};

static inline struct candidate *job_candidate(const struct dispatch_job *j)
{
	return &j->c[j->at];
}
static inline bool job_is_remote(const struct dispatch_job *j)
{
	return j->c && j->c[j->at].provider;
}

/* dispatch_open.c: who runs the models of this lease */
struct provider *dispatch_runner(const struct dispatch *d, const struct cache_lease *l);
double dispatch_random(struct dispatch *d); /* 0 <= r < 1 */

/* dispatch.c */
void job_move(struct dispatch_job *j, enum job_state next);
void job_wait(struct dispatch_job *j,
	      uint64_t ms); /* the timer; what it means is the state's */
void job_unref(struct dispatch_job *j);
void job_deliver(struct dispatch_job *j);
void job_end(struct dispatch_job *j, const struct event *ev); /* terminal */
void job_fail(struct dispatch_job *j, const struct err *e);   /* the same */

/* dispatch_candidate.c */
void job_plan(struct dispatch_job *j); /* makes it and tries its first candidate */
void job_try(struct dispatch_job *j);  /* c[at] */
/* The current try failed before the commit boundary: again, the next one, or the end. */
void job_failed(struct dispatch_job *j, const struct err *e);
void job_tell_wait(struct dispatch_job *j);      /* WAIT's timer */
bool job_has_more(const struct dispatch_job *j); /* a candidate behind c[at] */
int candidate_ctx(const struct dispatch_job *j, const struct candidate *c);
void candidates_free(struct dispatch_job *j);
void candidates_forget(struct dispatch_job *j); /* there is no plan then */

/* dispatch_run.c */
/* The file as it is at this moment: one that was replaced since the folder was read is another
 * model to the cache.  One that was removed stays what it was: it may be loaded still. */
struct model dispatch_model_now(const struct model *m);
void job_lease(struct dispatch_job *j);
void job_tell_lease(struct dispatch_job *j);    /* LEASE's timer */
void job_prepare(struct dispatch_job *j);       /* leased or paid for: messages, turn */
void job_run(struct dispatch_job *j);           /* all is there */
void job_check_running(struct dispatch_job *j); /* RUN's timer */

/* dispatch_account.c.  Each end closes what account_open() opened, exactly once. */
int account_open(struct dispatch_job *j, struct err *e); /* of a remote candidate */
/* Not called when it is closed before. */
void account_when_safe(struct dispatch_job *j,
		       void (*cb)(void *arg, const struct err *e));
/* Another one for each attempt, so that a late bill finds the right one. */
void account_id(const struct dispatch_job *j, char id[REQUEST_ID_BYTES]);
bool account_must_wait(const struct dispatch_job *j); /* a cap is set */
void account_finished(struct dispatch_job *j,
		      struct usage *u); /* fills in what it cost */
/* How it does; of a cluster, how many of its servers are up. */
struct provider_status account_cluster(struct provider *p);
void account_failed(struct dispatch_job *j, const struct err *e);
void account_stopped(struct dispatch_job *j, bool ran); /* by us */
void account_first(struct dispatch_job *j);             /* the first output */
void account_late(struct provider_listener *l, struct provider *p,
		  const struct late_cost *c);

/* dispatch_bridge.c */
void bridge_load(struct dispatch *d, const char *model);
void bridges_free(struct dispatch *d);

/* dispatch_memory.c: the steps of a turn.  Each ends in one of those above. */
bool memory_wanted(
	struct dispatch_job *j); /* by path; false: note says why, if anybody asked */
void memory_history(struct dispatch_job *j);
void memory_begin(struct dispatch_job *j);
void memory_off(struct dispatch_job *j, const char *why); /* goes on without */
/* Of an answer, what a turn keeps; false: it ended, because there is too much. */
bool memory_keep(struct dispatch_job *j, const struct event *ev);
void memory_partial(struct dispatch_job *j, bool due);
bool memory_end(struct dispatch_job *j); /* false: there is nothing to commit */
void memory_free(struct dispatch_job *j);

/* dispatch_context.c */
/* Which counts of tokens the path should bring; owned by the caller, or NULL. */
char *context_tokenizer(const struct dispatch_job *j);
void context_take(struct dispatch_job *j, const struct store_path *p);
void context_count(struct dispatch_job *j); /* fits the messages, then summary or turn */
void context_counted_late(struct dispatch_job *j); /* COUNT's timer */
/* The same with the answer behind it: what a summary is wanted of from now on. */
void context_plan_next(const struct dispatch_job *j, int answer_tokens,
		       struct context_plan *out);
/* The same as now, if there were a summary of full length up to this item. */
void context_plan_with(const struct dispatch_job *j, int upto, struct context_plan *out);
/* What stands in front of items [from, to) of joined and these, plain: as text alone.  Owned by the
 * caller, free with context_free_messages(). */
struct message *context_copy(struct dispatch_job *j, const struct context_plan *p,
			     int from, int to, bool plain, int *n);
/* Does the candidate that is tried, with its lease, read text alone? */
bool context_is_plain(const struct dispatch_job *j);
void context_free_messages(struct message *m, int n);
void context_free(struct dispatch_job *j);

/* dispatch_background.c */
struct background *background_new(struct dispatch *d);
void background_close(struct dispatch *d);    /* what runs is cancelled */
void background_forget(struct dispatch *d);   /* the same, and go on */
void background_job_done(struct dispatch *d); /* a job has ended: is it quiet now? */
void background_yield(struct dispatch *d);    /* somebody waits */

/* dispatch_summary.c */
bool summary_before(struct dispatch_job *j); /* true: SUMMARISE */
void summary_tell(struct dispatch_job *j);   /* SUMMARISE's timer */
void summary_cancel(struct dispatch_job *j);
void summary_after(struct dispatch_job *j); /* the turn was kept */

#endif
