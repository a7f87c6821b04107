/* What the files of the cache share; nobody else includes it.
 *
 * cache.c        who asks, who gives back, commands, lifecycle
 * cache_loader.c what the loaders answer
 * cache_entry.c  instances, names, leases: the tables
 * cache_room.c   room: plans, who leaves, where to
 * cache_decide.c the turn: all decisions in one order
 * cache_forecast.c what a request would meet, without making it
 * cache_view.c   what can be seen: rows, totals, decisions, listeners */
#ifndef HOB_CACHE_IMPL_H
#define HOB_CACHE_IMPL_H

#include "base/sm.h"
#include "cache/cache.h"
#include "cache/ledger.h"

/* How much is known of an instance's sizes, least first. */
enum known { KNOWN_NOT, KNOWN_PROBED, KNOWN_LEDGER, KNOWN_MEASURED };

/* That an idle one is to go by itself, whatever the room. */
enum leave { LEAVE_NO, LEAVE_PARK, LEAVE_DISK };

struct identity {
	uint64_t dev, ino, bytes;
	int64_t mtime_ms;
};

struct entry {
	/* who it is */
	uint64_t no, file_no; /* file_no: the same for all instances of a file */
	struct identity file;
	int ctx;
	enum cache_backend backend;
	bool fixed_backend; /* by the configuration: no fall-over */
	struct model model; /* owned copy of the one asked for last */
	int nnames;         /* that lead here */

	/* where it is */
	unsigned state, told_state;
	uint64_t id;           /* in its backend; 0: it knows nothing of us */
	bool resident, parked; /* its bytes count in that tier */
	enum leave leave;
	bool weigh; /* READY: it has just come, and may be larger than promised */
	struct cache_info info;
	uint64_t done_bytes, total_bytes;

	/* what it costs */
	enum known known;
	struct cache_sizes sizes, predicted, measured;
	double load_ms, promote_ms;     /* the latest of each; 0: not known */
	double lease_ms[CACHE_CLASSES]; /* moving average of how long a lease is held */
	uint64_t loads;

	/* who uses it */
	uint64_t last_used_ms, ready_ms, uses;
	double score; /* GDSF */
	int64_t keep_alive_ms;
	int leases, waiters;
	int leases_by_class[CACHE_CLASSES];
	TAILQ_HEAD(, cache_lease) lease_list;

	/* what went wrong */
	struct err error; /* FAILED */
	uint64_t retry_ms, backoff_ms;
	int load_deaths; /* of its backend, in a row, while this was being loaded */
	char why[200];   /* whom it made leave; for the decision when it loads */

	/* during a turn: its waiters, taken together */
	uint64_t since_ms;
	int rank;
};

struct name {
	char *name;          /* owned */
	struct entry *entry; /* or NULL */
	bool pinned, completion;
	int pin_order; /* by command: 1 pin, -1 unpin, 0 nobody said */
};

struct cache_waiter {
	TAILQ_ENTRY(cache_waiter) link; /* in waiting, or in answered */
	struct cache *cache;
	struct entry *entry; /* NULL once it was refused without one */
	enum request_class class;
	uint64_t client, since_ms, deadline_ms;
	int64_t since_unix_ms;
	cache_cb *cb;
	cache_done_cb *done; /* of a preload: no lease; else NULL */
	void *arg;
	bool hit; /* it was there when asked for */
	bool answered;
	struct cache_lease *lease; /* the answer, or error */
	struct err error;
};

struct cache_lease {
	TAILQ_ENTRY(cache_lease) link;
	struct cache *cache;
	struct entry *entry; /* NULL: void */
	uint64_t id, client, start_ms;
	enum request_class class;
	enum cache_backend backend;
	struct cache_info info;
	int64_t asked_unix_ms;
	double waited_ms;
	bool hit;
};

TAILQ_HEAD(waiter_list, cache_waiter);
TAILQ_HEAD(listener_list, cache_listener);
TAILQ_HEAD(use_list, use);

struct use { /* told to the listeners in the next turn */
	TAILQ_ENTRY(use) link;
	char *model; /* owned */
	struct cache_use u;
};

struct decided {
	struct decision d;
	char model[96], text[320];
};

struct client {
	uint64_t client, served_n;
};

enum { CACHE_CLIENTS = 256 };

struct cache {
	struct cache_parts parts; /* .settings: as of now */
	struct cache_loader loaders[CACHE_BACKENDS];
	bool has_loader[CACHE_BACKENDS];
	uv_timer_t timer;

	struct entry *entries[POLICY_MAX_ENTRIES]; /* owned */
	int nentries;
	struct name *names[CACHE_MAX_NAMES]; /* owned */
	int nnames;
	uint64_t next_id, next_no, next_file_no;

	struct waiter_list waiting, answered;
	int nwaiters;
	struct client clients[CACHE_CLIENTS]; /* who was served when */
	int nclients;
	uint64_t served_n;

	struct entry *drain_for; /* the one that others drain for, or NULL */
	double inflation;        /* GDSF's L */
	uint64_t free_bytes;     /* when last asked */

	struct cache_totals n; /* the counters */
	struct decided decisions[CACHE_DECISIONS];
	uint64_t ndecisions, told_decisions;
	struct listener_list listeners;
	struct use_list uses;

	bool kicked, closing;
	void (*done)(void *arg);
	void *done_arg;
};

/* cache_entry.c */
uint64_t cache_now(const struct cache *c);
void entry_move(struct entry *e, enum cache_state next);
void entry_to_disk(struct entry *e); /* nothing of it is left anywhere */
struct entry *entry_by_id(const struct cache *c, uint64_t id);
struct entry *entry_of_name(const struct cache *c, const char *name);
/* The instance for this want, found or made; its names are kept.  NULL: the table is full. */
struct entry *entry_for(struct cache *c, const struct cache_want *w);
/* The one that would be used for this context, or NULL: nothing is made or kept. */
struct entry *entry_fitting(const struct cache *c, const struct model *m, int ctx,
			    const struct entry *current);
enum cache_backend entry_first_backend(const struct cache *c, const struct model *m);
struct name *name_get(struct cache *c, const char *name); /* NULL: too many */
void entries_forget(struct cache *c); /* those of which nothing is left and no name */
void entry_free(struct entry *e);
void entry_learn(const struct cache *c, struct entry *e); /* what the ledger knows */
void entry_remember(const struct cache *c, const struct entry *e);
bool entry_pinned(const struct cache *c, const struct entry *e);
bool entry_completion(const struct cache *c, const struct entry *e);
bool entry_resident(const struct entry *e);
int64_t entry_keep_alive(const struct cache *c, const struct entry *e);
struct cache_sizes entry_predict(const struct cache *c, const struct entry *e);
struct cache_lease *lease_new(struct cache *c, const struct cache_waiter *w);
void leases_void(struct entry *e);
int class_rank(enum request_class k); /* 2 completion, 1 interactive, 0 batch */

/* cache_room.c */
enum plan_mode {
	PLAN_IDLE,  /* who is idle may go; who is on the way out counts as gone */
	PLAN_DRAIN, /* the same, and leases and stays end */
	PLAN_NOW    /* nobody goes, and who is on the way out is there still */
};
void room_plan(struct cache *c, const struct entry *self, enum plan_mode mode,
	       uint64_t reserved_bytes, struct policy_plan *p);
uint64_t room_used(const struct cache *c);
uint64_t room_parked(const struct cache *c);
bool entry_fresh(const struct cache *c, const struct entry *e, uint64_t now);
uint64_t entry_stay_until(const struct cache *c, const struct entry *e);
/* Idle ones leave the budget: parked if wanted and possible.  `kind` and `why` for the
 * decision. */
void entry_leave(struct cache *c, struct entry *e, bool park, enum decision_kind kind,
		 const char *why);
void entry_drop(struct cache *c, struct entry *e, const char *why); /* a parked one */
void entry_cancel(struct cache *c, struct entry *e, const char *why);
/* The victims of a plan for `forr` leave, drain, or are cancelled; their names go to its
 * why. */
void room_make(struct cache *c, struct entry *forr, const struct policy_plan *p);
void room_shrink(struct cache *c); /* both tiers, to their budgets */

/* cache.c */
void waiter_answer(struct cache_waiter *w); /* from waiting to answered */
void waiter_refuse(struct cache_waiter *w, const struct err *e);
void waiter_free(struct cache_waiter *w);
void waiters_refuse(struct cache *c, const struct entry *e, const struct err *err);
unsigned cache_retry_after_s(const struct cache *c, const struct entry *e,
			     enum request_class class);

/* cache_loader.c */
void entry_fail(struct cache *c, struct entry *e, const struct err *err);

/* cache_decide.c */
void cache_kick(struct cache *c); /* asks for a turn */
void cache_deliver(struct cache *c);

/* cache_view.c */
struct decision *decide(struct cache *c, enum decision_kind kind, const struct entry *e,
			const char *fmt, ...) PRINTF(4, 5);
void use_over(struct cache *c, const struct entry *e, const struct cache_use *u);
void views_tell(struct cache *c);
void views_free(struct cache *c);

#endif
