/* Orders of the cache to the engine and to llama-server children, and their answers back.  Loop thread.
 *
 * Callbacks here translate and decide nothing.  One thing a reader may ask: why the sizes of a child's
 * model come from a guess and not from a probe.  The engine reads its file's head exactly because it
 * speaks it; a child takes the files that the engine does not. */
#include "route/loaders.h"

struct loaders {
	struct cache *cache; /* borrowed, as all here */
	struct engine *engine;
	struct llama_servers *llama; /* or NULL */
};

/* ---- the engine */

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

static void engine_probes(void *arg, uint64_t id, const char *path, int ctx, int slots)
{
	struct loaders *l = arg;

	engine_probe(l->engine, id, path, ctx, slots, on_probed, l->cache);
}

static void engine_loads(void *arg, uint64_t id, const struct model *m, const char *path,
			 int ctx, int slots)
{
	struct loaders *l = arg;

	UNUSED(m);
	engine_load(l->engine, id, path, ctx, slots, on_progress, on_loaded, l->cache);
}

static void engine_parks(void *arg, uint64_t id)
{
	struct loaders *l = arg;

	engine_park(l->engine, id, on_parked, l->cache);
}

static void engine_unloads(void *arg, uint64_t id)
{
	struct loaders *l = arg;

	engine_unload(l->engine, id, on_unloaded, l->cache);
}

static void on_died(void *arg, const char *why)
{
	struct loaders *l = arg;

	cache_loader_died(l->cache, CACHE_ENGINE, why);
}

/* ---- children */

static void on_child_loaded(void *arg, uint64_t id, const struct llama_loaded *m,
			    const struct err *e)
{
	struct cache_info info;

	if (!m) {
		cache_loader_failed(arg, id, e);
		return;
	}
	info = (struct cache_info){
		.sizes = {m->weights_bytes, m->kv_bytes, 0},
		.ctx = m->ctx,
		.ctx_train = m->ctx_train,
		.slots = m->slots,
		.chat = m->chat,
		.load_ms = m->load_ms,
		.source = "child",
	};
	cache_loader_loaded(arg, id, &info);
}

static bool child_offers(void *arg)
{
	const struct loaders *l = arg;

	return llama_servers_find(l->llama, NULL) == 0;
}

static void child_loads(void *arg, uint64_t id, const struct model *m, const char *path,
			int ctx, int slots)
{
	struct loaders *l = arg;
	struct llama_load_events ev = {on_child_loaded, on_progress, l->cache};
	struct llama_load load = {.name = m->name,
				  .path = path,
				  .settings = &m->settings,
				  .ctx = ctx,
				  .slots = slots};

	llama_servers_load(l->llama, id, &load, &ev);
}

static void child_unloads(void *arg, uint64_t id)
{
	struct loaders *l = arg;

	llama_servers_unload(l->llama, id, on_unloaded, l->cache);
}

static void on_gone(void *arg, uint64_t id, const char *why)
{
	struct loaders *l = arg;

	cache_loader_gone(l->cache, id, why);
}

/* ---- both */

struct loaders *loaders_new(struct cache *c, struct engine *e,
			    struct llama_servers *llama)
{
	struct loaders *l = xcalloc(1, sizeof(*l));
	struct cache_loader native = {.probe = engine_probes,
				      .load = engine_loads,
				      .park = engine_parks,
				      .unload = engine_unloads,
				      .arg = l};
	struct cache_loader child = {.offers = child_offers,
				     .load = child_loads,
				     .unload = child_unloads,
				     .arg = l};

	*l = (struct loaders){c, e, llama};
	cache_set_loader(c, CACHE_ENGINE, &native);
	engine_on_death(e, on_died, l);
	if (llama) {
		cache_set_loader(c, CACHE_CHILD, &child);
		llama_servers_on_gone(llama, on_gone, l);
	}
	return l;
}

void loaders_free(struct loaders *l)
{
	if (!l)
		return;
	cache_set_loader(l->cache, CACHE_ENGINE, NULL);
	engine_on_death(l->engine, NULL, NULL);
	if (l->llama) {
		cache_set_loader(l->cache, CACHE_CHILD, NULL);
		llama_servers_on_gone(l->llama, NULL, NULL);
	}
	free(l);
}
