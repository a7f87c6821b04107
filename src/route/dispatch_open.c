/* The dispatcher as an object: made, wired to engine and cache, watched, ended.  Loop
 * thread.  The prompts themselves are in dispatch.c. */
#include "route/dispatch_impl.h"

/* ---- the cache's loader is the engine */

static struct cache_sizes sizes_of(const struct engine_loaded *m)
{
	return (struct cache_sizes){m->weights_bytes, m->kv_bytes, m->parked_bytes};
}

static void on_probed(void *arg, uint64_t id, const struct engine_loaded *m,
		      const struct err *e)
{
	struct cache_sizes sizes;

	if (!m) {
		cache_loader_failed(arg, id, e);
		return;
	}
	sizes = sizes_of(m);
	cache_loader_probed(arg, id, &sizes);
}

static void on_progress(void *arg, uint64_t id, uint64_t done_bytes, uint64_t total_bytes)
{
	cache_loader_progress(arg, id, done_bytes, total_bytes);
}

/* The cache keeps the pointer: one of the literals that engine.h names. */
static const char *source_literal(const char *source)
{
	static const char *const known[] = {"pack file", "converted", "parked", "shared"};

	for (size_t i = 0; source && i < ARRAY_LEN(known); i++)
		if (!strcmp(source, known[i]))
			return known[i];
	return NULL;
}

static void on_loaded(void *arg, uint64_t id, const struct engine_loaded *m,
		      const struct err *e)
{
	struct cache_info info;

	if (!m) {
		cache_loader_failed(arg, id, e);
		return;
	}
	info = (struct cache_info){
		.sizes = sizes_of(m),
		.ctx = m->ctx,
		.ctx_train = m->ctx_train,
		.slots = m->slots,
		.chat = m->chat,
		.load_ms = m->load_ms,
		.source = source_literal(m->source),
	};
	cache_loader_loaded(arg, id, &info);
}

static void on_parked(void *arg, uint64_t id, uint64_t bytes)
{
	cache_loader_parked(arg, id, bytes);
}

static void on_unloaded(void *arg, uint64_t id)
{
	cache_loader_unloaded(arg, id);
}

static void probe(void *arg, uint64_t id, const char *path, int ctx, int slots)
{
	struct dispatch *d = arg;

	engine_probe(d->parts.engine, id, path, ctx, slots, on_probed, d->parts.cache);
}

static void load(void *arg, uint64_t id, const struct model *m, const char *path, int ctx,
		 int slots)
{
	struct dispatch *d = arg;

	UNUSED(m);
	engine_load(d->parts.engine, id, path, ctx, slots, on_progress, on_loaded,
		    d->parts.cache);
}

static void park(void *arg, uint64_t id)
{
	struct dispatch *d = arg;

	engine_park(d->parts.engine, id, on_parked, d->parts.cache);
}

static void unload(void *arg, uint64_t id)
{
	struct dispatch *d = arg;

	engine_unload(d->parts.engine, id, on_unloaded, d->parts.cache);
}

static void on_died(void *arg, const char *why)
{
	struct dispatch *d = arg;

	cache_loader_died(d->parts.cache, CACHE_ENGINE, why);
}

struct dispatch *dispatch_new(const struct dispatch_parts *p)
{
	struct dispatch *d = xcalloc(1, sizeof *d);

	d->parts = *p;
	d->providers = xcalloc((size_t)p->nproviders + 1, sizeof *d->providers);
	for (int i = 0; i < p->nproviders; i++)
		d->providers[i] = p->providers[i];
	TAILQ_INIT(&d->jobs);
	if (p->engine) {
		struct cache_loader loader = {probe, load, park, unload, d};

		if (!d->parts.local)
			d->parts.local = engine_provider(p->engine);
		cache_set_loader(p->cache, CACHE_ENGINE, &loader);
		engine_on_death(p->engine, on_died, d);
	}
	ASSERT(d->parts.local);
	return d;
}

void dispatch_set_config(struct dispatch *d, const struct config *c)
{
	d->parts.config = c;
}

void dispatch_free(struct dispatch *d)
{
	struct dispatch_job *j;

	if (!d)
		return;
	while ((j = TAILQ_FIRST(&d->jobs)))
		dispatch_cancel(j); /* its memory goes later, see job_unref() */
	if (d->parts.engine) {
		cache_set_loader(d->parts.cache, CACHE_ENGINE, NULL);
		engine_on_death(d->parts.engine, NULL, NULL);
	}
	free(d->providers);
	free(d);
}

/* ---- views */

const struct dispatch_stats *dispatch_stats(const struct dispatch *d)
{
	return &d->stats;
}
