/* What the HTTP side needs from the rest of the daemon, handed over in one struct.
 *
 * The daemon owns it and keeps it alive until server_close() is done.  Fields are read at each
 * request, so a reload may replace `config` (the old one must live until the call that replaced
 * it returns).  All callbacks run on the loop thread and may not block. */
#ifndef HOB_API_H
#define HOB_API_H

#include "base/buf.h"
#include "config.h"

struct cache;
struct dispatch;
struct models;
struct money;
struct personas;
struct store;

struct api {
	struct dispatch *dispatch; /* borrowed */
	struct models *models;     /* borrowed */
	struct cache *cache;       /* borrowed */
	struct store *store;       /* borrowed, or NULL: no memory */
	struct personas *personas; /* borrowed; NULL: system files are read each time */
	struct money *money;       /* borrowed; NULL: nothing is counted */
	const struct config *config;

	/* Each appends to out; NULL is allowed: "null" and nothing. */
	void (*engine_json)(void *arg, struct buf *out); /* one JSON object */
	void (*metrics_text)(void *arg,
			     struct buf *out); /* Prometheus text, whole lines */
	void (*forget_computed)(
		void *arg); /* what models have computed of what was said */
	const char *(*engine_status)(void *arg); /* "ready", "starting", "down" */
	const char *(*memory_status)(void *arg); /* NULL: "ok" with a store, else "off" */
	void *arg;

	uint64_t started_ms; /* clock_mono_ms() at start */
	const char *version;
};

#endif
