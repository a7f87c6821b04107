/* Which local models are resident: leases, waiters, eviction within a budget of bytes.
 *
 * Loop thread only.  No function here calls back before it returns: all decisions are
 * made in one place, a later turn of the loop (cache_run()).  Each waiter gets exactly
 * one answer, by its deadline at the latest, unless it is cancelled.  A model that was
 * loaded for a waiter is leased to it in the same step.  A leased or pinned model is
 * never evicted; one that is wanted out because somebody has waited CACHE_AGE_MS drains:
 * no new leases, then it goes. */
#ifndef HOB_CACHE_H
#define HOB_CACHE_H

#include <uv.h>
#include "base/err.h"
#include "route/models.h"

enum cache_state {
	CACHE_ABSENT,
	CACHE_LOADING,
	CACHE_READY,
	CACHE_DRAINING,  /* leased still, but leaves as soon as it is not */
	CACHE_UNLOADING, /* the engine was told; its bytes count until it answered */
	CACHE_FAILED, /* corrupt: until the file changes; else: until the back-off is over
		       */
	CACHE_STATES
};
const char *cache_state_name(enum cache_state s);

enum {
	CACHE_AGE_MS = 5000,         /* then a waiter may make leased models drain */
	CACHE_BACKOFF_MIN_MS = 1000, /* after a failed load, doubling */
	CACHE_BACKOFF_MAX_MS = 60000,
	CACHE_MAX_WAITERS = 1024,
};

/* What the engine says of a model that it loaded. */
struct cache_info {
	uint64_t bytes; /* measured, resident, KV included */
	int ctx, ctx_train, slots;
	bool chat; /* has a chat template that the engine knows */
	double load_ms;
};

/* Who loads.  Both must answer in a later turn by one of the cache_loader_*() calls
 * below, with the same id; an id is never used twice. */
struct cache_loader {
	void (*load)(void *arg, uint64_t id, const char *path, int ctx, int slots);
	void (*unload)(void *arg, uint64_t id);
	void *arg;
};

struct cache_parts {
	uv_loop_t *loop;               /* NULL: the owner calls cache_run() (tests) */
	uint64_t (*now_ms)(void *arg); /* NULL: clock_mono_ms() */
	void *now_arg;
	uint64_t budget_bytes;
	int ctx, slots; /* defaults for a model: config cache.ctx and cache.slots */
};

struct cache;
struct cache_waiter; /* valid until its callback was called or it was cancelled */
struct cache_lease;  /* owned by its holder until cache_release() */

struct cache *cache_new(const struct cache_parts *parts);
/* Before the first acquire; dispatch_new() does it when there is an engine. */
void cache_set_loader(struct cache *c, const struct cache_loader *loader);
/* Waiters are answered ERR_UNAVAILABLE in this call.  The memory is gone when done(arg)
 * is called, in a later turn (at once without a loop).  No lease may be out. */
void cache_close(struct cache *c, void (*done)(void *arg), void *arg);
void cache_set_budget(struct cache *c, uint64_t budget_bytes);

/* Exactly one of lease and e is non-NULL; the callee owns the lease. */
typedef void cache_cb(void *arg, struct cache_lease *lease, const struct err *e);
/* m is copied as far as it is needed.  deadline_ms on the cache's clock. */
struct cache_waiter *cache_acquire(struct cache *c, const struct model *m,
				   uint64_t deadline_ms, cache_cb *cb, void *arg);
void cache_cancel(struct cache_waiter *w);
/* ABSENT: waits for room or for its turn; LOADING: it is being loaded. */
enum cache_state cache_waiter_state(const struct cache_waiter *w);

void cache_release(struct cache_lease *l); /* NULL is fine; a void lease just goes */
bool cache_lease_valid(const struct cache_lease *l);  /* false after the engine died */
uint64_t cache_lease_id(const struct cache_lease *l); /* the model's id in the engine */
const struct cache_info *cache_lease_info(const struct cache_lease *l);

/* The loader's answers. Unknown or stale ids are ignored. */
void cache_loader_loaded(struct cache *c, uint64_t id, const struct cache_info *info);
void cache_loader_failed(struct cache *c, uint64_t id, const struct err *e);
void cache_loader_unloaded(struct cache *c, uint64_t id);
/* One model that was resident is not any more: the process that held it died. */
void cache_loader_gone(struct cache *c, uint64_t id);
/* The process is gone: all models with it.  Waiters of a model that was being loaded are
 * retried once, then get ERR_UNAVAILABLE with `why`. */
void cache_loader_died(struct cache *c, const char *why);

/* Decides everything that can be decided now; returns the time of the next deadline or
 * UINT64_MAX.  Runs by itself when there is a loop. */
uint64_t cache_run(struct cache *c);

/* Asks that an idle model leaves now (false: unknown, not ready, or leased). */
bool cache_evict(struct cache *c, const char *name);

/* For `hob ps` and metrics; strings are borrowed until the next call. */
struct cache_row {
	const char *name, *error; /* error: of a failed one, else NULL */
	enum cache_state state;
	uint64_t bytes; /* 0 when not resident */
	int leases, waiters, ctx, slots;
	bool pinned;
	uint64_t idle_ms; /* since the last use */
};
int cache_count(const struct cache *c);
void cache_row(const struct cache *c, int i, struct cache_row *out);
struct cache_totals {
	uint64_t budget_bytes, used_bytes;
	uint64_t loads, load_failures, evictions, hits; /* since the start */
	int waiters, leases;
};
void cache_totals(const struct cache *c, struct cache_totals *out);

#endif
