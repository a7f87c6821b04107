/* The dispatcher as an object: made, wired to engine and cache, watched, ended.  Loop
 * thread.  The prompts themselves are in dispatch.c. */
#include "route/dispatch_impl.h"

/* ---- the cache's loader is the engine */

static void on_loaded(void *arg, uint64_t id, const struct engine_loaded *m,
		      const struct err *e)
{
	struct cache *cache = arg;
	struct cache_info info;

	if (!m) {
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

static void load(void *arg, uint64_t id, const char *path, int ctx, int slots)
{
	struct dispatch *d = arg;

	engine_load(d->parts.engine, id, path, ctx, slots, NULL, on_loaded,
		    d->parts.cache);
}

static void unload(void *arg, uint64_t id)
{
	struct dispatch *d = arg;

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
	}
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
