/* What the files of the dispatcher share; nobody else includes it.
 *
 *   dispatch.c            the states: start, time, cancel, end
 *   dispatch_candidate.c  the plan, which candidate is next, what a failure leads to
 *   dispatch_run.c        lease and run, the provider's events
 *   dispatch_account.c    money, health and the log of routes
 *   dispatch_memory.c     the conversation
 *   dispatch_bridge.c     loads behind an answer that comes from elsewhere
 *   dispatch_open.c       the dispatcher as an object */
#ifndef HOB_DISPATCH_IMPL_H
#define HOB_DISPATCH_IMPL_H

#include <sys/queue.h>
#include "base/sm.h"
#include "memory/window.h"
#include "route/dispatch_open.h"
#include "route/health.h"
#include "route/loaders.h"
#include "route/retry.h"
#include "route/sticky.h"

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

	/* memory */
	char *conversation;      /* owned; NULL: not remembered */
	char *note;              /* owned or NULL: why not, for `reason` */
	struct message *history; /* owned, with its texts */
	int nhistory;
	struct message *
		joined; /* owned array of borrowed texts: history and new ones, all of it */
	int njoined;
	struct message *messages; /* owned array: what of it fits the candidate */
	int nmessages;
	int first_new; /* of r->messages: those before it are in the history already */
	int kept, dropped;
	bool begun;     /* store_turn_begin() was called; never twice */
	bool begin_due; /* and has not answered */
	int64_t turn;   /* 0 = none open */
	struct buf answer;
	size_t saved_bytes;
	uint64_t saved_ms;

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
	struct provider **providers; /* owned array */
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
bool memory_wanted(struct dispatch_job *j); /* false: note says why, if anybody asked */
void memory_history(struct dispatch_job *j);
void memory_count(struct dispatch_job *j); /* fits the messages, then opens the turn */
void memory_begin(struct dispatch_job *j);
void memory_off(struct dispatch_job *j, const char *why); /* goes on without */
void memory_partial(struct dispatch_job *j, bool due);
bool memory_end(struct dispatch_job *j); /* false: there is nothing to commit */
void memory_free(struct dispatch_job *j);

#endif
