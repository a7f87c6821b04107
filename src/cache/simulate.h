/* Replays a recorded trace under other settings: what would have been a hit, how much
 * would have moved, how long people would have waited.
 *
 * sim_run() is pure.  It uses the same policy as the cache (policy.h) on a simplified
 * machine: requests come when they came and hold their lease as long as they did; loads
 * take as long as the trace says that they take for this model, and run beside each other;
 * a request that must wait for room waits until leases or stays end, in the order of
 * arrival; evicted models are parked while that budget lasts, the oldest parked one out.
 * Where the trace does not know: a load reads SIM_BYTES_PER_MS, a promotion costs a load.
 *
 * The file: one JSON object a line, as trace.c writes it.  {"event":"start","t":ms} is a
 * start of the daemon: nothing is resident then.  {"event":"request",...} needs t, model,
 * instance, file, weights_bytes, kv_bytes; parked_bytes, load_ms, promote_ms, held_ms,
 * pinned and completion are optional.  Other events are skipped. */
#ifndef HOB_SIMULATE_H
#define HOB_SIMULATE_H

#include "base/err.h"
#include "cache/policy.h"

enum {
	SIM_MAX_REQUESTS = 4 << 20,
	SIM_MAX_MODELS = 65536,
	SIM_BYTES_PER_MS = 1000000, /* 1 GB/s: a plain SATA or network disk */
};

struct sim_trace; /* opaque */

/* The error names file and line. */
struct sim_trace *sim_read(const char *path, struct err *e);
void sim_free(struct sim_trace *t); /* NULL is fine */
int sim_requests(const struct sim_trace *t);
int sim_models(const struct sim_trace *t); /* different ones, each start anew */
/* The most bytes that would be resident if nobody ever left: a budget beyond it is idle. */
uint64_t sim_working_set(const struct sim_trace *t);

struct sim_settings {
	enum policy_kind policy;
	uint64_t budget_bytes, parked_budget_bytes, reserve_completion_bytes;
	uint64_t min_stay_ms;
	int64_t keep_alive_ms; /* < 0: for ever */
};

struct sim_result {
	uint64_t requests, hits, promotions, loads, evictions, parks, expired, refused;
	uint64_t bytes_loaded, bytes_promoted; /* weights */
	double hit_ratio;                      /* hits / requests; 0 without any */
	double waited_ms,
		waited_max_ms; /* for room and loads; refused ones not counted */
};
void sim_run(const struct sim_trace *t, const struct sim_settings *s,
	     struct sim_result *out);

#endif
