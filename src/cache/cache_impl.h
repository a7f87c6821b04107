/* What the files of the cache share; nobody else includes it. */
#ifndef HOB_CACHE_IMPL_H
#define HOB_CACHE_IMPL_H

#include <sys/queue.h>
#include "base/sm.h"
#include "cache/cache.h"
#include "cache/policy.h"

/* Which file this is; another mtime or size is another model. */
struct identity {
	char *path; /* owned */
	uint64_t bytes;
	int64_t mtime_ms;
	int ctx;
};

struct entry {
	char *name;           /* owned */
	struct identity want; /* as of the latest acquire */
	struct identity have; /* as of the latest load, or its attempt */
	unsigned state;
	uint64_t id;             /* in the engine, of the latest load */
	uint64_t bytes;          /* promised or measured; 0 when not resident */
	uint64_t measured_bytes; /* of `have`, 0 before its first load */
	struct cache_info info;
	uint64_t last_used_ms;
	bool pinned, retire; /* retire: to be unloaded as soon as it is ready */
	int leases, waiters;
	TAILQ_HEAD(, cache_lease) lease_list;

	struct err error; /* FAILED */
	uint64_t retry_ms, backoff_ms;
	int load_deaths; /* of the engine, in a row, while this was being loaded */
};

struct cache_waiter {
	TAILQ_ENTRY(cache_waiter) link; /* in waiting, or in answered */
	struct cache *cache;
	struct entry *entry;
	uint64_t since_ms, deadline_ms;
	cache_cb *cb;
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
	uint64_t id;
	struct cache_info info;
};

TAILQ_HEAD(waiter_list, cache_waiter);

struct cache {
	struct cache_parts parts;
	struct cache_loader loader;
	uv_timer_t timer;
	struct entry *entries[POLICY_MAX_ENTRIES];
	int nentries;
	struct waiter_list waiting, answered;
	int nwaiters;
	struct entry *loading;   /* at most one at a time, or NULL */
	struct entry *drain_for; /* the one that others drain for, or NULL */
	uint64_t next_id;
	uint64_t loads, load_failures, evictions, hits;
	bool kicked, closing;
	void (*done)(void *arg);
	void *done_arg;
};

/* cache_entry.c */
uint64_t cache_now(const struct cache *c);
void entry_move(struct entry *e, enum cache_state next);
void identity_set(struct identity *id, const char *path, uint64_t bytes, int64_t mtime_ms,
		  int ctx); /* copies the path */
bool identity_same(const struct identity *a,
		   const struct identity *b); /* the same file */
bool entry_stale(const struct entry *e);    /* what is loaded is not what is asked for */
bool entry_resident(const struct entry *e); /* its bytes count */
void entry_free(struct entry *e);
struct entry *entry_find(const struct cache *c, const char *name);
struct entry *entry_get(struct cache *c, const char *name); /* NULL: the table is full */
struct entry *entry_by_id(const struct cache *c, uint64_t id); /* resident ones only */
uint64_t entry_needs(const struct cache *c, const struct entry *e);
uint64_t cache_used(const struct cache *c);
struct cache_lease *lease_new(struct cache *c, struct entry *e);
void leases_void(struct entry *e);

/* cache.c */
void waiter_answer(struct cache_waiter *w); /* from waiting to answered */
void waiter_refuse(struct cache_waiter *w, const struct err *e);
void waiter_free(struct cache_waiter *w);

/* cache_decide.c */
void cache_kick(struct cache *c); /* asks for a turn */
void cache_plan(const struct cache *c, const struct entry *self, uint64_t needs_bytes,
		bool ignore_leases, struct policy_plan *p);
void entry_unload(struct cache *c, struct entry *e);
void cache_deliver(struct cache *c);

#endif
