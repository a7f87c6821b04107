/* The dispatcher as an object: made, wired to engine and cache, watched, ended.  Loop
 * thread.  The prompts themselves are in dispatch.c. */
#include "route/dispatch_impl.h"

#include "base/log.h"

/* ---- the cache's loader is the engine, or a child for what it does not speak */

static void on_child_loaded(void *arg, uint64_t id, const struct llama_loaded *m,
			    const struct err *e)
{
	struct dispatch *d = arg;
	struct cache_info info;

	if (!m) {
		cache_loader_failed(d->parts.cache, id, e);
		return;
	}
	info = (struct cache_info){
		.bytes = m->weights_bytes + m->kv_bytes,
		.ctx = m->ctx,
		.ctx_train = m->ctx_train,
		.slots = m->slots,
		.chat = m->chat,
		.load_ms = m->load_ms,
	};
	cache_loader_loaded(d->parts.cache, id, &info);
}

static const struct model *model_of(const struct dispatch *d, const char *path)
{
	for (int i = 0; i < models_count(d->parts.models); i++) {
		const struct model *m = models_at(d->parts.models, i);

		if (m->path && !strcmp(m->path, path))
			return m;
	}
	return NULL;
}

static void load_child(struct dispatch *d, uint64_t id, const struct model *m, int ctx,
		       int slots)
{
	struct llama_load_events ev = {.loaded = on_child_loaded, .arg = d};
	struct llama_load load = {.name = m->name,
				  .path = m->path,
				  .settings = &m->settings,
				  .ctx = ctx,
				  .slots = slots};

	llama_servers_load(d->parts.llama, id, &load, &ev);
}

/* What the engine does not speak, when a child may. */
static bool try_child(struct dispatch *d, uint64_t id, const struct err *e)
{
	const struct model *m = d->trying ? model_of(d, d->trying) : NULL;

	if (e->code != ERR_UNSUPPORTED || d->trying_id != id || !m || !d->parts.llama ||
	    m->settings.backend != BACKEND_AUTO ||
	    llama_servers_find(d->parts.llama, NULL) < 0)
		return false;
	log_info("model '%s': %s; trying llama-server", m->name, e->text);
	load_child(d, id, m, d->trying_ctx, d->trying_slots);
	return true;
}

static void on_loaded(void *arg, uint64_t id, const struct engine_loaded *m,
		      const struct err *e)
{
	struct dispatch *d = arg;
	struct cache *cache = d->parts.cache;
	struct cache_info info;

	if (!m) {
		if (!try_child(d, id, e))
			cache_loader_failed(cache, id, e);
		return;
	}
	info = (struct cache_info){
		.bytes = m->bytes,
		.ctx = m->ctx,
		.ctx_train = m->ctx_train,
		.slots = m->slots,
		.chat = m->chat,
		.load_ms = m->load_ms,
	};
	cache_loader_loaded(cache, id, &info);
}

static void on_unloaded(void *arg, uint64_t id)
{
	cache_loader_unloaded(arg, id);
}

static void on_child_gone(void *arg, uint64_t id, const char *why)
{
	struct dispatch *d = arg;

	UNUSED(why); /* its jobs say it */
	cache_loader_gone(d->parts.cache, id);
}

static void load(void *arg, uint64_t id, const char *path, int ctx, int slots)
{
	struct dispatch *d = arg;
	const struct model *m = model_of(d, path);

	if (m && m->settings.backend == BACKEND_LLAMA_SERVER && d->parts.llama) {
		load_child(d, id, m, ctx, slots);
		return;
	}
	free(d->trying);
	d->trying = xstrdup(path);
	d->trying_id = id;
	d->trying_ctx = ctx;
	d->trying_slots = slots;
	engine_load(d->parts.engine, id, path, ctx, slots, on_loaded, d);
}

static void unload(void *arg, uint64_t id)
{
	struct dispatch *d = arg;

	if (d->parts.llama && llama_servers_has(d->parts.llama, id)) {
		llama_servers_unload(d->parts.llama, id, on_unloaded, d->parts.cache);
		return;
	}
	engine_unload(d->parts.engine, id, on_unloaded, d->parts.cache);
}

static void on_died(void *arg, const char *why)
{
	struct dispatch *d = arg;

	cache_loader_died(d->parts.cache, why);
}

/* After dispatch_free() the cache may still look for room until it is closed. */
static void no_load(void *arg, uint64_t id, const char *path, int ctx, int slots)
{
	UNUSED(arg), UNUSED(id), UNUSED(path), UNUSED(ctx), UNUSED(slots);
}

static void no_unload(void *arg, uint64_t id)
{
	UNUSED(arg), UNUSED(id);
}

struct provider *dispatch_runner(const struct dispatch *d, const struct cache_lease *l)
{
	if (d->parts.llama && llama_servers_has(d->parts.llama, cache_lease_id(l)))
		return llama_servers_provider(d->parts.llama);
	return d->parts.local;
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
		struct cache_loader loader = {load, unload, d};

		if (!d->parts.local)
			d->parts.local = engine_provider(p->engine);
		cache_set_loader(p->cache, &loader);
		engine_on_death(p->engine, on_died, d);
		if (p->llama)
			llama_servers_on_gone(p->llama, on_child_gone, d);
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
	struct cache_loader nobody = {no_load, no_unload, NULL};
	struct dispatch_job *j;

	if (!d)
		return;
	while ((j = TAILQ_FIRST(&d->jobs)))
		dispatch_cancel(j); /* its memory goes later, see job_unref() */
	if (d->parts.engine) {
		cache_set_loader(d->parts.cache, &nobody);
		engine_on_death(d->parts.engine, NULL, NULL);
		if (d->parts.llama)
			llama_servers_on_gone(d->parts.llama, NULL, NULL);
	}
	free(d->trying);
	free(d->providers);
	free(d);
}

/* ---- views */

const struct dispatch_stats *dispatch_stats(const struct dispatch *d)
{
	return &d->stats;
}

static void add_row(struct buf *out, const struct cache_row *r, bool first)
{
	buf_adds(out, first ? "{\"name\":" : ",{\"name\":");
	buf_add_json(out, r->name, strlen(r->name));
	buf_addf(out,
		 ",\"state\":\"%s\",\"bytes\":%llu,\"leases\":%d,\"waiters\":%d,\"ctx\":%"
		 "d,"
		 "\"slots\":%d,\"pinned\":%s,\"idle_ms\":%llu",
		 cache_state_name(r->state), (unsigned long long)r->bytes, r->leases,
		 r->waiters, r->ctx, r->slots, r->pinned ? "true" : "false",
		 (unsigned long long)r->idle_ms);
	if (r->error) {
		buf_adds(out, ",\"error\":");
		buf_add_json(out, r->error, strlen(r->error));
	}
	buf_addc(out, '}');
}

static void add_engine(struct buf *out, const struct engine *e)
{
	if (!e) {
		buf_adds(out, "null");
		return;
	}
	buf_addf(out, "{\"state\":\"%s\",\"pid\":%d,\"restarts\":%u,\"kernels\":",
		 engine_state_name(engine_state(e)), engine_pid(e), engine_restarts(e));
	buf_add_json(out, engine_kernels(e), strlen(engine_kernels(e)));
	buf_addc(out, '}');
}

void dispatch_ps_json(const struct dispatch *d, struct buf *out)
{
	struct cache_totals t;
	struct cache_row r;
	bool first = true;

	cache_totals(d->parts.cache, &t);
	buf_addf(out, "{\"budget_bytes\":%llu,\"used_bytes\":%llu,\"engine\":",
		 (unsigned long long)t.budget_bytes, (unsigned long long)t.used_bytes);
	add_engine(out, d->parts.engine);
	buf_adds(out, ",\"models\":[");
	for (int i = 0; i < cache_count(d->parts.cache); i++) {
		cache_row(d->parts.cache, i, &r);
		if (r.state == CACHE_ABSENT && r.waiters == 0)
			continue;
		add_row(out, &r, first);
		first = false;
	}
	buf_adds(out, "]}");
}
