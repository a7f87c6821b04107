/* What the loaders answer: facts are noted here, and a turn is asked for.  Loop thread.
 *
 * The question a reader will ask: why most of this is checks of the state.  Answers cross
 * orders: a model may have been cancelled, or its backend may have died, while its answer
 * was under way.  Whatever does not belong to the state is stale and ignored. */
#include "cache/cache_impl.h"

#include "base/log.h"

void cache_loader_probed(struct cache *c, uint64_t id, const struct cache_sizes *s)
{
	struct entry *e = entry_by_id(c, id);

	if (!e || e->state != CACHE_PROBING)
		return;
	entry_move(e, CACHE_DISK); /* and keeps its id: the loader holds the header */
	e->known = KNOWN_PROBED;
	e->sizes = *s;
	cache_kick(c);
}

void cache_loader_progress(struct cache *c, uint64_t id, uint64_t done_bytes,
			   uint64_t total_bytes)
{
	struct entry *e = entry_by_id(c, id);

	if (!e || e->state != CACHE_LOADING)
		return;
	e->done_bytes = done_bytes;
	e->total_bytes = total_bytes;
}

static void note_loaded(struct cache *c, struct entry *e, const struct cache_info *info)
{
	bool promoted = e->parked;
	struct decision *d;

	e->info = *info;
	if (e->info.slots < 1)
		e->info.slots = 1;
	e->measured = info->sizes;
	e->sizes = info->sizes;
	e->known = KNOWN_MEASURED;
	e->parked = false;
	e->ready_ms = e->last_used_ms = cache_now(c);
	e->backoff_ms = 0;
	e->load_deaths = 0;
	e->loads++;
	d = decide(c, DECIDE_READY, e, "%s (%s), %d tokens of context, %d slots",
		   promoted ? "promoted" : "loaded",
		   info->source ? info->source
		   : promoted   ? "parked"
				: "disk",
		   info->ctx, info->slots);
	d->predicted_bytes = e->predicted.weights_bytes + e->predicted.kv_bytes;
	d->actual_bytes = e->sizes.weights_bytes + e->sizes.kv_bytes;
	d->predicted_ms = promoted ? e->promote_ms : e->load_ms;
	d->actual_ms = info->load_ms;
	*(promoted ? &e->promote_ms : &e->load_ms) = info->load_ms;
	*(promoted ? &c->n.bytes_promoted : &c->n.bytes_loaded) +=
		info->sizes.weights_bytes;
	entry_remember(c, e);
}

void cache_loader_loaded(struct cache *c, uint64_t id, const struct cache_info *info)
{
	struct entry *e = entry_by_id(c, id);

	if (!e || e->state != CACHE_LOADING)
		return;
	entry_move(e, CACHE_READY);
	note_loaded(c, e, info);
	e->weigh = true;
	cache_kick(c);
}

void entry_fail(struct cache *c, struct entry *e, const struct err *err)
{
	bool for_good = err->code == ERR_CORRUPT || err->code == ERR_UNSUPPORTED;

	entry_move(e, CACHE_FAILED);
	e->id = 0;
	e->resident = e->parked = false;
	e->leave = LEAVE_NO;
	e->error = *err;
	e->backoff_ms = e->backoff_ms ? e->backoff_ms * 2 : CACHE_BACKOFF_MIN_MS;
	if (e->backoff_ms > CACHE_BACKOFF_MAX_MS)
		e->backoff_ms = CACHE_BACKOFF_MAX_MS;
	e->retry_ms = for_good ? UINT64_MAX : cache_now(c) + e->backoff_ms;
	c->n.load_failures++;
	decide(c, DECIDE_FAIL, e, "%.300s", err->text);
}

static bool falls_over(const struct cache *c, const struct entry *e,
		       const struct err *err)
{
	const struct cache_loader *child = &c->loaders[CACHE_CHILD];

	return err->code == ERR_UNSUPPORTED && e->backend == CACHE_ENGINE &&
	       !e->fixed_backend && c->has_loader[CACHE_CHILD] &&
	       (!child->offers || child->offers(child->arg));
}

static void fall_over(struct cache *c, struct entry *e, const struct err *err)
{
	decide(c, DECIDE_FAIL, e, "the engine cannot: %.200s; llama-server tries",
	       err->text);
	entry_to_disk(e);
	e->backend = CACHE_CHILD;
	e->load_ms = e->promote_ms = 0;
	entry_learn(c, e);
}

void cache_loader_failed(struct cache *c, uint64_t id, const struct err *err)
{
	struct entry *e = entry_by_id(c, id);

	if (!e)
		return;
	if (e->state == CACHE_CANCELLING) /* it failed before it heard of it */
		entry_to_disk(e);
	else if (e->state != CACHE_PROBING && e->state != CACHE_LOADING)
		return;
	else if (falls_over(c, e, err))
		fall_over(c, e, err);
	else
		entry_fail(c, e, err);
	cache_kick(c);
}

void cache_loader_parked(struct cache *c, uint64_t id, uint64_t parked_bytes)
{
	struct entry *e = entry_by_id(c, id);

	if (!e || e->state != CACHE_PARKING)
		return;
	entry_move(e, CACHE_PARKED);
	e->resident = false;
	e->sizes.parked_bytes = e->measured.parked_bytes = parked_bytes;
	cache_kick(c);
}

void cache_loader_unloaded(struct cache *c, uint64_t id)
{
	struct entry *e = entry_by_id(c, id);

	if (!e || (e->state != CACHE_UNLOADING && e->state != CACHE_CANCELLING))
		return;
	entry_to_disk(e);
	cache_kick(c);
}

static void died(struct cache *c, struct entry *e, const char *why)
{
	struct err err;

	leases_void(e);
	if (c->drain_for == e)
		c->drain_for = NULL;
	if (e->state == CACHE_DISK) {
		e->id = 0;
	} else if ((e->state == CACHE_LOADING || e->state == CACHE_PROBING) &&
		   ++e->load_deaths >= 2) {
		err_set(&err, ERR_UNAVAILABLE, "its %s died while loading it: %s",
			cache_backend_name(e->backend), why);
		entry_fail(c, e, &err);
	} else {
		decide(c, DECIDE_FAIL, e, "its %s died while it was %s: %.150s",
		       cache_backend_name(e->backend),
		       cache_state_name((enum cache_state)e->state), why);
		entry_to_disk(e);
	}
}

void cache_loader_gone(struct cache *c, uint64_t id, const char *why)
{
	struct entry *e = entry_by_id(c, id);

	if (!e)
		return;
	died(c, e, why);
	cache_kick(c);
}

void cache_loader_died(struct cache *c, enum cache_backend b, const char *why)
{
	for (int i = 0; i < c->nentries; i++)
		if (c->entries[i]->backend == b && c->entries[i]->id)
			died(c, c->entries[i], why);
	cache_kick(c);
}
