/* The numbers of the daemon as Prometheus text (exposition format 0.0.4). */
#ifndef HOB_METRICS_H
#define HOB_METRICS_H

#include "base/buf.h"
#include "cache/cache.h"
#include "memory/store_keep.h"
#include "route/dispatch_open.h"

struct metrics_view {
	const struct dispatch_stats *dispatch;
	const struct cache *cache;
	const struct store *store; /* NULL: memory is off */
	unsigned engine_restarts;
	int connections;
	uint64_t requests; /* HTTP, all paths */
	uint64_t uptime_ms;
};

void metrics_text(const struct metrics_view *v, struct buf *out);

#endif
