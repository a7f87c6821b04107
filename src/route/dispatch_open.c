/* The dispatcher as an object: made, wired to engine and cache, watched, ended.  Loop
 * thread.  The prompts themselves are in dispatch.c. */
#include "route/dispatch_impl.h"

/* ---- the cache's loader is the engine */

static void on_loaded(void *arg, uint64_t id, const struct engine_loaded *m,
		      const struct err *e)
{
	struct cache *cache = arg;
	struct cache_info info;
	uint64_t weights;

	if (!m) {
		cache_loader_failed(cache, id, e);
		return;
	}
	weights = m->file_bytes < m->bytes ? m->file_bytes : m->bytes;
	info = (struct cache_info){
		.sizes = {weights, m->bytes - weights, m->file_bytes},
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

static void load(void *arg, uint64_t id, const struct model *m, const char *path, int ctx,
		 int slots)
{
	struct dispatch *d = arg;

	UNUSED(m);
	engine_load(d->parts.engine, id, path, ctx, slots, on_loaded, d->parts.cache);
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
		struct cache_loader loader = {.load = load, .unload = unload, .arg = d};

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
		if (r.state == CACHE_DISK && r.waiters == 0)
			continue;
		add_row(out, &r, first);
		first = false;
	}
	buf_adds(out, "]}");
}
