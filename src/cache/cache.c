/* The cache from outside: who asks for a model, who gives it back, what the loader says,
 * and what can be seen.  Loop thread.  Nothing is decided here, see cache_decide.c. */
#include "cache/cache_impl.h"

#include "base/log.h"

static struct cache_waiter *waiter_new(struct cache *c, struct entry *e,
				       uint64_t deadline_ms, cache_cb *cb, void *arg)
{
	struct cache_waiter *w = xcalloc(1, sizeof *w);

	w->cache = c;
	w->entry = e;
	w->since_ms = cache_now(c);
	w->deadline_ms = deadline_ms;
	w->cb = cb;
	w->arg = arg;
	if (e)
		e->waiters++;
	c->nwaiters++;
	TAILQ_INSERT_TAIL(&c->waiting, w, link);
	cache_kick(c);
	return w;
}

/* From waiting to answered; the callback comes at the end of the run. */
void waiter_answer(struct cache_waiter *w)
{
	TAILQ_REMOVE(&w->cache->waiting, w, link);
	TAILQ_INSERT_TAIL(&w->cache->answered, w, link);
	w->answered = true;
	if (w->entry)
		w->entry->waiters--;
}

void waiter_refuse(struct cache_waiter *w, const struct err *e)
{
	w->error = *e;
	waiter_answer(w);
}

struct cache_waiter *cache_acquire(struct cache *c, const struct model *m,
				   uint64_t deadline_ms, cache_cb *cb, void *arg)
{
	struct cache_waiter *w;
	struct entry *e = NULL;

	ASSERT(m->path);
	if (c->nwaiters < CACHE_MAX_WAITERS && !c->closing)
		e = entry_get(c, m->name);
	if (!e) {
		struct err err;

		if (c->closing)
			err_set(&err, ERR_UNAVAILABLE, "the daemon is stopping");
		else
			err_set(&err, ERR_BUSY,
				"model '%s': %d requests wait already; try again"
				" later",
				m->name, c->nwaiters);
		w = waiter_new(c, NULL, deadline_ms, cb, arg);
		waiter_refuse(w, &err);
		return w;
	}
	identity_set(&e->want, m->path, m->bytes, m->mtime_ms,
		     m->settings.ctx > 0 ? m->settings.ctx : c->parts.ctx);
	e->pinned = m->settings.pinned;
	w = waiter_new(c, e, deadline_ms, cb, arg);
	w->hit = e->state == CACHE_READY && !entry_stale(e);
	return w;
}

void waiter_free(struct cache_waiter *w)
{
	TAILQ_REMOVE(w->answered ? &w->cache->answered : &w->cache->waiting, w, link);
	w->cache->nwaiters--;
	if (!w->answered && w->entry)
		w->entry->waiters--;
	free(w);
}

void cache_cancel(struct cache_waiter *w)
{
	struct cache *c = w->cache;

	cache_release(w->lease);
	waiter_free(w);
	cache_kick(c);
}

enum cache_state cache_waiter_state(const struct cache_waiter *w)
{
	return w->entry ? (enum cache_state)w->entry->state : CACHE_ABSENT;
}

/* ---- the loader's answers */

void cache_loader_loaded(struct cache *c, uint64_t id, const struct cache_info *info)
{
	struct entry *e = entry_by_id(c, id);
	struct policy_plan p;

	if (!e || e->state != CACHE_LOADING)
		return;
	c->loading = NULL;
	entry_move(e, CACHE_READY);
	e->info = *info;
	e->bytes = e->measured_bytes = info->bytes;
	e->last_used_ms = cache_now(c);
	e->backoff_ms = 0;
	e->load_deaths = 0;
	log_info("cache: model '%s' is ready: %.1f MiB, ctx %d, %.0f ms", e->name,
		 (double)e->bytes / (1 << 20), info->ctx, info->load_ms);
	/* Larger than promised, and the others cannot make up for it: it leaves again,
	 * now with a measured size to plan with. */
	cache_plan(c, e, e->bytes, false, &p);
	e->retire = !p.fits;
	for (int i = 0; i < p.nvictims; i++)
		entry_unload(c, c->entries[p.victims[i]]);
	cache_kick(c);
}

static void fail(struct cache *c, struct entry *e, const struct err *err)
{
	bool for_good = err->code == ERR_CORRUPT || err->code == ERR_UNSUPPORTED;

	entry_move(e, CACHE_FAILED);
	e->error = *err;
	e->bytes = 0;
	e->backoff_ms = e->backoff_ms ? e->backoff_ms * 2 : CACHE_BACKOFF_MIN_MS;
	if (e->backoff_ms > CACHE_BACKOFF_MAX_MS)
		e->backoff_ms = CACHE_BACKOFF_MAX_MS;
	e->retry_ms = for_good ? UINT64_MAX : cache_now(c) + e->backoff_ms;
	c->load_failures++;
	log_warn("cache: model '%s' cannot be loaded: %s", e->name, err->text);
}

void cache_loader_failed(struct cache *c, uint64_t id, const struct err *err)
{
	struct entry *e = entry_by_id(c, id);

	if (!e || e->state != CACHE_LOADING)
		return;
	c->loading = NULL;
	fail(c, e, err);
	cache_kick(c);
}

void cache_loader_unloaded(struct cache *c, uint64_t id)
{
	struct entry *e = entry_by_id(c, id);

	if (!e || e->state != CACHE_UNLOADING)
		return;
	entry_move(e, CACHE_ABSENT);
	e->bytes = 0;
	cache_kick(c);
}

void cache_loader_gone(struct cache *c, uint64_t id)
{
	struct entry *e = entry_by_id(c, id);

	if (!e || e->state == CACHE_LOADING)
		return;
	leases_void(e);
	e->bytes = 0;
	e->retire = false;
	entry_move(e, CACHE_ABSENT);
	cache_kick(c);
}

void cache_loader_died(struct cache *c, const char *why)
{
	struct err err;

	c->loading = NULL;
	c->drain_for = NULL;
	for (int i = 0; i < c->nentries; i++) {
		struct entry *e = c->entries[i];
		bool was_loading = e->state == CACHE_LOADING;

		if (!entry_resident(e))
			continue;
		leases_void(e);
		e->bytes = 0;
		e->retire = false;
		if (was_loading && ++e->load_deaths >= 2) {
			err_set(&err, ERR_UNAVAILABLE,
				"the engine died while loading it: %s", why);
			fail(c, e, &err);
		} else {
			entry_move(e, CACHE_ABSENT);
		}
	}
	cache_kick(c);
}

/* ---- lifecycle and views */

struct cache *cache_new(const struct cache_parts *parts)
{
	struct cache *c = xcalloc(1, sizeof *c);

	c->parts = *parts;
	if (c->parts.slots < 1)
		c->parts.slots = 1;
	TAILQ_INIT(&c->waiting);
	TAILQ_INIT(&c->answered);
	if (parts->loop) {
		uv_timer_init(parts->loop, &c->timer);
		c->timer.data = c;
	}
	return c;
}

void cache_set_loader(struct cache *c, const struct cache_loader *loader)
{
	c->loader = *loader;
}

static void cache_free(struct cache *c)
{
	void (*done)(void *arg) = c->done;
	void *arg = c->done_arg;

	for (int i = 0; i < c->nentries; i++) {
		leases_void(c->entries[i]);
		entry_free(c->entries[i]);
	}
	free(c);
	if (done)
		done(arg);
}

static void on_closed(uv_handle_t *h)
{
	cache_free(h->data);
}

void cache_close(struct cache *c, void (*done)(void *arg), void *arg)
{
	struct cache_waiter *w;
	struct err err;

	c->closing = true;
	c->done = done;
	c->done_arg = arg;
	err_set(&err, ERR_UNAVAILABLE, "the daemon is stopping");
	while ((w = TAILQ_FIRST(&c->waiting)))
		waiter_refuse(w, &err);
	cache_deliver(c);
	if (c->parts.loop)
		uv_close((uv_handle_t *)&c->timer, on_closed);
	else
		cache_free(c);
}

void cache_set_budget(struct cache *c, uint64_t budget_bytes)
{
	c->parts.budget_bytes = budget_bytes;
	cache_kick(c);
}

bool cache_evict(struct cache *c, const char *name)
{
	struct entry *e = entry_find(c, name);

	if (!e || e->state != CACHE_READY || e->leases)
		return false;
	e->retire = true;
	cache_kick(c);
	return true;
}

int cache_count(const struct cache *c)
{
	return c->nentries;
}

void cache_row(const struct cache *c, int i, struct cache_row *out)
{
	const struct entry *e = c->entries[i];
	uint64_t now = cache_now(c);

	*out = (struct cache_row){
		.name = e->name,
		.error = e->state == CACHE_FAILED ? e->error.text : NULL,
		.state = (enum cache_state)e->state,
		.bytes = entry_resident(e) ? e->bytes : 0,
		.leases = e->leases,
		.waiters = e->waiters,
		.ctx = e->state == CACHE_READY ? e->info.ctx : e->want.ctx,
		.slots = e->state == CACHE_READY ? e->info.slots : c->parts.slots,
		.pinned = e->pinned,
		.idle_ms =
			now > e->last_used_ms && !e->leases ? now - e->last_used_ms : 0,
	};
}

void cache_totals(const struct cache *c, struct cache_totals *out)
{
	*out = (struct cache_totals){
		.budget_bytes = c->parts.budget_bytes,
		.used_bytes = cache_used(c),
		.loads = c->loads,
		.load_failures = c->load_failures,
		.evictions = c->evictions,
		.hits = c->hits,
		.waiters = c->nwaiters,
	};
	for (int i = 0; i < c->nentries; i++)
		out->leases += c->entries[i]->leases;
}
