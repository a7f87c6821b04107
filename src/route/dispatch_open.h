/* Making and watching the dispatcher: for the daemon only.  Clients of it need
 * dispatch.h. */
#ifndef HOB_DISPATCH_OPEN_H
#define HOB_DISPATCH_OPEN_H

#include <uv.h>
#include "base/buf.h"
#include "cache/cache.h"
#include "config.h"
#include "memory/store.h"
#include "providers/engine.h"
#include "providers/llama_server.h"
#include "route/dispatch.h"
#include "route/models.h"
#include "route/money.h"
#include "route/plan.h"
#include "route/route_log.h"

/* All borrowed, and must outlive the dispatcher; the array of providers is copied. */
struct dispatch_parts {
	uv_loop_t *loop;
	const struct config *config;
	struct models *models;
	struct cache *cache;
	struct engine
		*engine; /* NULL (tests): `local` runs local models, tokens are guessed */
	struct llama_servers *llama; /* NULL: what the engine refuses is refused */
	struct provider *local;      /* NULL: engine_provider(engine) */
	struct store *store;         /* NULL: no memory */
	struct money *money;         /* NULL: nothing is counted, no cap holds */
	struct provider **providers; /* remote ones; their listener becomes ours */
	int nproviders;
	double (*random)(void *arg); /* 0 <= r < 1, of delays; NULL: the system's */
	void *arg;
};

/* When there is an engine: sets the cache's loader and the engine's death callback, so
 * that the caller has nothing to wire. */
struct dispatch *dispatch_new(const struct dispatch_parts *p);
/* After SIGHUP.  Jobs that run keep their plan; c is borrowed until the next call. */
void dispatch_set_config(struct dispatch *d, const struct config *c);
/* After a reload; the array is copied.  Those that are in it no more must live until the jobs that
 * run now have ended: dispatch_oldest_ms() tells. */
void dispatch_set_providers(struct dispatch *d, struct provider *const *list, int n);
/* When the oldest job that runs was started (clock_mono_ms()); UINT64_MAX: none runs. */
uint64_t dispatch_oldest_ms(const struct dispatch *d);
/* Cancels what still runs, without events (ends of turns are sent to the store first),
 * then releases all.  Stop order: dispatch_free, then cache_close, engine's provider
 * close, store_close; money_close and the remote providers' close anywhere behind the first. */
void dispatch_free(struct dispatch *d);

/* What a plan asks of the moment; valid until the loop goes on. */
void dispatch_world(struct dispatch *d, struct plan_world *out);
struct route_log *dispatch_log(struct dispatch *d);
/* The store of incognito conversations (store_is_incognito()), in memory only: made by the first call, gone
 * with the dispatcher, bounded.  Borrowed; NULL with an error when there is none. */
struct store *dispatch_incognito(struct dispatch *d, struct err *e);

enum { DISPATCH_TTFT_BUCKETS = 12 };
extern const double
	dispatch_ttft_bounds_s[DISPATCH_TTFT_BUCKETS]; /* upper, the last is +Inf */

struct dispatch_stats {
	int running; /* jobs that have not ended */
	uint64_t started, finished, failed, cancelled;
	uint64_t retried;   /* the same candidate again */
	uint64_t fallbacks; /* to the next candidate */
	uint64_t retried_by_code[ERR_NR], fallbacks_by_code[ERR_NR]; /* what had failed */
	uint64_t failed_by_code[ERR_NR];
	uint64_t local, remote; /* of those that got as far as a provider */
	uint64_t tokens_in, tokens_cached, tokens_out; /* as far as providers said */
	uint64_t summaries_done, summaries_failed,
		context_dropped;              /* context_dropped: messages */
	uint64_t ttft[DISPATCH_TTFT_BUCKETS]; /* requests per bucket, not cumulative */
	double ttft_sum_s;
	uint64_t ttft_count;
};
const struct dispatch_stats *dispatch_stats(const struct dispatch *d);

#endif
