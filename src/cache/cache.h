/* Which local models are where: tiers, leases, queues, and who leaves for whom.
 *
 * Loop thread only.  No function here calls back before it returns: all decisions are
 * made in one place, a later turn of the loop (cache_run()).  Each waiter gets exactly
 * one answer, by its deadline at the latest, unless it is cancelled.  A model that was
 * loaded for a waiter is leased to it in the same step.  The policy never evicts a leased
 * or pinned model; one that is wanted out because somebody has waited settings.age_ms
 * drains: no new leases, then it goes.
 *
 * An *instance* is one file (device, inode, size, mtime) with one context size on one
 * backend; names lead to instances.  Two names of one file are one instance, two context
 * sizes of one file are two that share the weights.  A request whose context fits an
 * instance that is there (or on its way, or parked) uses it; a larger one makes a new
 * instance, and the old one leaves as soon as it is idle and no name leads to it.
 *
 *   DISK       -> PROBING     somebody wants it, and its sizes are not known
 *              -> LOADING     room is there
 *              -> UNLOADING   it was probed, and nobody wants it any more
 *   PROBING    -> DISK        sizes known, or the backend died, or another backend's turn
 *              -> FAILED      unsupported or corrupt: nobody was evicted for it
 *   LOADING    -> READY       from disk, or from the parked copy
 *              -> FAILED
 *              -> CANCELLING  `unload`, or its file was replaced, or its waiters have gone
 *                             and others need the room
 *              -> DISK        backend died, or another backend's turn
 *   CANCELLING -> DISK        the loader answered; its bytes count until then
 *   READY      -> DRAINING    leased, and to leave
 *              -> PARKING     evicted or expired
 *              -> UNLOADING   the same, where it cannot be parked
 *              -> DISK        backend died
 *   DRAINING   -> READY       whoever wanted the room has gone
 *              -> PARKING | UNLOADING   its last lease ended
 *              -> DISK        backend died
 *   PARKING    -> PARKED
 *              -> DISK        backend died
 *   PARKED     -> LOADING     somebody wants it
 *              -> UNLOADING   over the budget of parked ones, or `unload`
 *              -> DISK        backend died
 *   UNLOADING  -> DISK
 *   FAILED     -> DISK        back-off over (never, when the file is at fault: a changed
 *                             file is another instance), or `unload` */
#ifndef HOB_CACHE_H
#define HOB_CACHE_H

#include <sys/queue.h>
#include <uv.h>
#include "base/err.h"
#include "cache/policy.h"
#include "route/models.h"
#include "route/request.h"

enum cache_backend { CACHE_ENGINE, CACHE_CHILD, CACHE_BACKENDS }; /* who runs it */
const char *cache_backend_name(enum cache_backend b); /* "engine", "llama-server" */

enum cache_state {
	CACHE_DISK,
	CACHE_PROBING,
	CACHE_LOADING,
	CACHE_CANCELLING,
	CACHE_READY,
	CACHE_DRAINING,
	CACHE_PARKING,
	CACHE_PARKED,
	CACHE_UNLOADING,
	CACHE_FAILED,
	CACHE_STATES
};
const char *cache_state_name(enum cache_state s); /* "disk", "probing", ... */
const char *cache_tier_name(enum cache_state s);  /* "ram", "parked" or "disk" */

enum {
	CACHE_AGE_MS = 5000,         /* default of settings.age_ms */
	CACHE_BACKOFF_MIN_MS = 1000, /* after a failed load, doubling */
	CACHE_BACKOFF_MAX_MS = 60000,
	CACHE_MAX_LOADS = 4,      /* probes and loads under way at once */
	CACHE_MAX_WAITERS = 1024, /* of all models together */
	CACHE_MAX_NAMES = 1024,
	CACHE_DECISIONS = 256, /* that are remembered */
	CACHE_STAY_FLOOR_MS =
		50, /* what loads faster is not protected: no thrash to speak of */
};
#define CACHE_KEEP_DEFAULT KEEP_ALIVE_DEFAULT

/* Bytes of an instance.  All instances of one file on one backend share the weights:
 * they count once. */
struct cache_sizes {
	uint64_t weights_bytes; /* in the budget while resident */
	uint64_t kv_bytes;      /* its own: KV of all slots when full, buffers */
	uint64_t parked_bytes;  /* in the parked budget while parked; shared as well */
};

/* What the loader says of a model that it loaded. */
struct cache_info {
	struct cache_sizes sizes; /* measured */
	int ctx, ctx_train, slots;
	bool chat; /* has a chat template that its backend knows */
	double load_ms;
	const char *
		source; /* "pack file", "converted", "parked", "child": a literal, or NULL */
	const char *kv_type; /* "bf16", "f16": a literal, or NULL */
};

/* ---- those who load: one for each backend */

/* Each op is answered in a later turn by one of the cache_loader_*() calls below, with
 * the same id.  An id names one instance from its first probe or load until it is
 * unloaded or failed, and is never used twice.  One op is under way for an id at a time,
 * but unload may come while it loads, which cancels that: only `unloaded` is answered. */
struct cache_loader {
	/* Could it take a model that another backend does not speak?  NULL: yes. */
	bool (*offers)(void *arg);
	/* probed | failed.  Reads the header only.  NULL: sizes are guessed instead. */
	void (*probe)(void *arg, uint64_t id, const char *path, int ctx, int slots);
	/* loaded | failed; of a new, probed or parked id.  m is borrowed for the call. */
	void (*load)(void *arg, uint64_t id, const struct model *m, const char *path,
		     int ctx, int slots);
	/* parked.  NULL: cannot; it is unloaded instead. */
	void (*park)(void *arg, uint64_t id);
	/* unloaded; of one that was probed, loads, is loaded or parked. */
	void (*unload)(void *arg, uint64_t id);
	void *arg;
};

/* The loader's answers.  Unknown and stale ids are ignored. */
struct cache;
void cache_loader_probed(struct cache *c, uint64_t id, const struct cache_sizes *s);
void cache_loader_progress(struct cache *c, uint64_t id, uint64_t done_bytes,
			   uint64_t total_bytes); /* any number of times while it loads */
void cache_loader_loaded(struct cache *c, uint64_t id, const struct cache_info *info);
/* Of a probe or a load; the id is over.  ERR_UNSUPPORTED by CACHE_ENGINE: CACHE_CHILD
 * tries, where there is one and the model's settings allow it. */
void cache_loader_failed(struct cache *c, uint64_t id, const struct err *e);
void cache_loader_parked(struct cache *c, uint64_t id, uint64_t parked_bytes);
void cache_loader_unloaded(struct cache *c, uint64_t id);
/* One child died: leases on it are void.  Died while loading: retried once, then its
 * waiters get ERR_UNAVAILABLE with `why`. */
void cache_loader_gone(struct cache *c, uint64_t id, const char *why);
/* The whole backend died: the same for each of its instances.  Those that were loading
 * are tried again one by one, so that the one at fault is found. */
void cache_loader_died(struct cache *c, enum cache_backend b, const char *why);

/* ---- the cache */

/* All may change while running: cache_set(). */
struct cache_settings {
	uint64_t budget_bytes;        /* of device memory, or RAM where there is no GPU */
	uint64_t parked_budget_bytes; /* 0: nothing is parked */
	uint64_t reserve_completion_bytes; /* of the budget: only for role completion */
	enum policy_kind policy;
	int64_t keep_alive_ms; /* of an idle model; < 0: for ever; 0: leaves at once */
	uint64_t min_stay_ms;  /* the most that a fresh model is protected; the stay is
				* twice its own last load, nothing below CACHE_STAY_FLOOR_MS */
	uint64_t
		age_ms; /* then a waiter may make leased models drain; 0 = CACHE_AGE_MS */
	int max_queue;  /* waiters for one instance, then ERR_BUSY with retry_after_ms;
			  * 0 = CACHE_MAX_WAITERS */
};

struct ledger;
struct cache_parts {
	uv_loop_t *loop;               /* NULL: the owner calls cache_run() (tests) */
	uint64_t (*now_ms)(void *arg); /* NULL: clock_mono_ms() */
	void *now_arg;
	/* What the system could give right now, others use it too; read before each
	 * admission.  NULL: unknown, only the budget counts. */
	uint64_t (*free_bytes)(void *arg);
	void *free_arg;
	int ctx, slots; /* defaults for a model: config cache.ctx and cache.slots */
	struct ledger *ledger; /* borrowed; NULL: nothing is remembered */
	struct cache_settings settings;
};

struct cache_waiter; /* valid until its callback was called or it was cancelled */
struct cache_lease;  /* owned by its holder until cache_release() */

struct cache *cache_new(const struct cache_parts *parts);
/* At any time; loader is copied.  NULL: that backend is not there (ops under way are
 * never answered then; what waits for it is refused). */
void cache_set_loader(struct cache *c, enum cache_backend b,
		      const struct cache_loader *loader);
void cache_set(struct cache *c, const struct cache_settings *s); /* e.g. after SIGHUP */
const struct cache_settings *cache_settings(const struct cache *c);
/* Waiters are answered ERR_UNAVAILABLE in this call.  The memory is gone when done(arg)
 * is called, in a later turn (at once without a loop).  No lease may be out. */
void cache_close(struct cache *c, void (*done)(void *arg), void *arg);

/* Decides everything that can be decided now; returns the time of the next deadline or
 * UINT64_MAX.  Runs by itself when there is a loop. */
uint64_t cache_run(struct cache *c);

/* ---- leases */

/* A lease is the right to run one sequence.  An instance with n slots gives n leases,
 * higher classes first (completion > interactive > batch); a waiter gets one as soon as
 * fewer than n leases of its class or above are out, so that one of a higher class does
 * not wait for lower ones (the engine then pauses one of those).  Within a class: the
 * client with the fewest leases on the instance, then the one served longest ago, then
 * first come. */
struct cache_want {
	const struct model *model; /* has a path; copied as far as needed */
	enum request_class class;
	uint64_t client;       /* who asks, for fairness; 0: nobody in particular */
	uint64_t deadline_ms;  /* on the cache's clock */
	int64_t keep_alive_ms; /* CACHE_KEEP_DEFAULT: the model's, else the settings'.  The
				* latest request decides, as in Ollama */
};

/* Exactly one of lease and e is non-NULL; the callee owns the lease. */
typedef void cache_cb(void *arg, struct cache_lease *lease, const struct err *e);
struct cache_waiter *cache_acquire(struct cache *c, const struct cache_want *w,
				   cache_cb *cb, void *arg);
void cache_cancel(struct cache_waiter *w); /* of cache_load() too */

struct cache_progress {
	enum cache_state state; /* DISK: waits for room or its turn; READY: for a slot */
	uint64_t done_bytes, total_bytes; /* while it loads; total 0: not known */
	int ahead;                        /* waiters for the same instance before it */
};
void cache_waiter_progress(const struct cache_waiter *w, struct cache_progress *out);

void cache_release(struct cache_lease *l); /* NULL is fine; a void lease just goes */
bool cache_lease_valid(const struct cache_lease *l);  /* false after the backend died */
uint64_t cache_lease_id(const struct cache_lease *l); /* the model's id in its backend */
enum cache_backend cache_lease_backend(const struct cache_lease *l);
const struct cache_info *cache_lease_info(const struct cache_lease *l);

/* What a request for m would meet now: for routing, a guess that costs no I/O. */
struct cache_forecast {
	bool resident; /* ready: no load is needed */
	double wait_ms; /* for its turn, by the leases before it and how long leases took */
	double load_ms; /* measured by the ledger; < 0 = not known; 0 when resident */
	int ctx;        /* it is or would be loaded with */
	uint64_t bytes; /* it needs */
	bool fits;      /* in the budget at all */
};
void cache_forecast(const struct cache *c, const struct model *m,
		    enum request_class class, struct cache_forecast *out);

/* ---- commands: `hob load | unload | pin | unpin` */

/* Brings it up and takes no lease.  e NULL: it is ready.  Otherwise as cache_acquire(). */
typedef void cache_done_cb(void *arg, const struct err *e);
struct cache_waiter *cache_load(struct cache *c, const struct cache_want *w,
				cache_done_cb *cb, void *arg);
/* Leaves now if idle, else as soon as it is (drains; those who wait for it are served by
 * another load afterwards).  Cancels a load: its waiters get ERR_CANCELLED.  Also what is
 * pinned: an order is not the policy.  ERR_NOT_FOUND: it is not there. */
int cache_unload(struct cache *c, const char *name, bool park, struct err *e);
/* Hard, by name; wins over the configuration until the daemon ends.  ERR_BUSY: too many
 * names.  Of one that is not loaded: counts from its next load. */
int cache_pin(struct cache *c, const struct model *m, bool pinned, struct err *e);
/* Until the next request says otherwise.  ERR_NOT_FOUND. */
int cache_keep_alive(struct cache *c, const char *name, int64_t ms, struct err *e);

/* ---- views; strings are borrowed until the next call that is not a view */

enum { CACHE_ROW_NAMES = 8, CACHE_CLASSES = 3 };

struct cache_row {
	uint64_t instance; /* its number since the start; never used twice */
	const char *name;  /* the one it was asked for last */
	const char *names[CACHE_ROW_NAMES]; /* all that lead to it, as far as they fit */
	int nnames;                         /* may be more than CACHE_ROW_NAMES */
	const char *path, *error;           /* error: of a failed one, else NULL */
	enum cache_state state;
	enum cache_backend backend;
	uint64_t bytes;        /* its weights and KV in the budget; 0 when not resident */
	uint64_t parked_bytes; /* in the parked budget; 0 when not parked */
	struct cache_sizes
		predicted; /* by ledger, probe or guess, as of its latest load */
	struct cache_sizes measured;        /* zeros before its first load */
	double load_ms, promote_ms;         /* the latest; 0: not known */
	int leases_by_class[CACHE_CLASSES]; /* by enum request_class */
	int leases, waiters, ctx, slots;
	bool pinned, shared;   /* shared: another instance here has the same weights */
	uint64_t idle_ms;      /* since the last use; 0 while leased */
	int64_t keep_alive_ms; /* as it counts now; < 0: for ever */
	int64_t expires_ms;    /* from now; < 0: never, or not before its leases end */
	uint64_t done_bytes, total_bytes; /* while it loads */
	const char *source;               /* of the latest load, or NULL */
};
int cache_count(const struct cache *c);
void cache_row(const struct cache *c, int i, struct cache_row *out);
/* The instance that a name leads to: false when there is none. */
bool cache_find(const struct cache *c, const char *name, struct cache_row *out);

struct cache_totals {
	uint64_t budget_bytes, used_bytes, parked_budget_bytes, parked_bytes;
	uint64_t free_bytes; /* of the system when last asked; UINT64_MAX: unknown */
	/* since the start */
	uint64_t loads, promotions, load_failures, cancelled, evictions, parks, expired;
	uint64_t hits, misses, refused, timeouts; /* of requests */
	uint64_t bytes_loaded, bytes_promoted;
	int waiters, leases;
};
void cache_totals(const struct cache *c, struct cache_totals *out);

enum decision_kind {
	DECIDE_LOAD,
	DECIDE_PROMOTE,
	DECIDE_READY,
	DECIDE_PARK,
	DECIDE_UNLOAD,
	DECIDE_REFUSE,
	DECIDE_FAIL,
	DECIDE_CANCEL,
	DECIDE_EXPIRE,
	DECIDE_KINDS
};
const char *decision_name(enum decision_kind k); /* "load", "promote", ... */

struct decision {
	uint64_t n; /* 1, 2, ... since the start */
	int64_t at_unix_ms;
	enum decision_kind kind;
	uint64_t instance; /* its number since the start */
	const char *model; /* name as asked for last */
	const char
		*text; /* why: "needs 1.2 GiB, free 0.4 GiB, evicts 'a' (idle 3.1 s)" */
	uint64_t predicted_bytes, actual_bytes; /* 0: not known */
	double predicted_ms, actual_ms;         /* 0: not known */
};
/* Newest first; at most max.  model NULL: of all. */
int cache_decisions(const struct cache *c, const char *model, struct decision *out,
		    int max);

/* One request, when it is over: what a trace is made of. */
struct cache_use {
	int64_t at_unix_ms; /* when it was asked for */
	const char *model;
	uint64_t instance; /* number of the instance since the start of the daemon */
	uint64_t file;     /* number of its file: the same for those that share weights */
	enum request_class class;
	uint64_t client;
	struct cache_sizes sizes;
	double load_ms, promote_ms; /* 0: not known */
	double waited_ms, held_ms;  /* held 0: it got no lease */
	bool hit;                   /* was ready when asked for */
	bool pinned, completion;
	enum err_code outcome; /* ERR_NONE: it had its lease */
};

/* Called in the cache's turn; must not call back in.  Any function may be NULL. */
struct cache_listener {
	TAILQ_ENTRY(cache_listener) link; /* ours */
	void (*decided)(struct cache_listener *l, const struct decision *d);
	void (*moved)(struct cache_listener *l, const struct cache_row *row,
		      enum cache_state from);
	void (*used)(struct cache_listener *l, const struct cache_use *u);
};
void cache_listen(struct cache *c, struct cache_listener *l); /* borrowed */
void cache_unlisten(struct cache *c, struct cache_listener *l);

#endif
