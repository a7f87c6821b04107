/* All that the cache decides, in one order: drain, serve, load, and call back last.
 *
 * Loop thread.  The question a reader will ask: why does nothing happen in
 * cache_acquire() or in the loader's answers?  They only record a fact and ask for a
 * turn; cache_run() looks at all facts together.  That leaves no window between "loaded"
 * and "leased" in which somebody else could evict, and no callback that finds the tables
 * half changed. */
#include "cache/cache_impl.h"

#include "base/log.h"

void entry_unload(struct cache *c, struct entry *e)
{
	ASSERT(e->leases == 0);
	entry_move(e, CACHE_UNLOADING);
	e->retire = false;
	c->evictions++;
	log_info("cache: model '%s' leaves (%.1f MiB)", e->name,
		 (double)e->bytes / (1 << 20));
	c->loader.unload(c->loader.arg, e->id);
}

static void drain(struct cache *c, struct entry *e)
{
	if (e->state == CACHE_READY && e->leases)
		entry_move(e, CACHE_DRAINING);
	else if (e->leases == 0 &&
		 (e->state == CACHE_READY || e->state == CACHE_DRAINING))
		entry_unload(c, e);
}

/* Plans room for `needs_bytes` beside everybody but `self`.  What is on its way out
 * counts as gone; whether it is gone already is asked by room_now(). */
void cache_plan(const struct cache *c, const struct entry *self, uint64_t needs_bytes,
		bool ignore_leases, struct policy_plan *p)
{
	struct policy_entry list[POLICY_MAX_ENTRIES];

	for (int i = 0; i < c->nentries; i++) {
		const struct entry *e = c->entries[i];
		bool leaving = e->state == CACHE_UNLOADING || e->state == CACHE_DRAINING;
		bool gone =
			!entry_resident(e) || e == self || e->state == CACHE_UNLOADING;

		list[i] = (struct policy_entry){
			.bytes = gone ? 0 : e->bytes,
			.leases = ignore_leases ? 0 : e->leases,
			.pinned = e->pinned && !leaving && !gone,
			.movable = e->state == CACHE_READY ||
				   (ignore_leases && e->state == CACHE_DRAINING),
			/* who drains already goes first: the choice stays the same */
			.last_used_ms = e->state == CACHE_DRAINING ? 0 : e->last_used_ms,
		};
	}
	policy_plan(list, c->nentries, c->parts.budget_bytes, needs_bytes, p);
}

static bool room_now(const struct cache *c, uint64_t needs_bytes)
{
	uint64_t used = cache_used(c);

	return used <= c->parts.budget_bytes &&
	       needs_bytes <= c->parts.budget_bytes - used;
}

/* The budget shrank, or a load was larger than promised: idle ones leave. */
static void shrink(struct cache *c)
{
	struct policy_plan p;

	cache_plan(c, NULL, 0, false, &p);
	for (int i = 0; i < p.nvictims; i++)
		entry_unload(c, c->entries[p.victims[i]]);
}

static void answer_all(struct cache *c, struct entry *e, const struct err *err)
{
	struct cache_waiter *w, *next;

	for (w = TAILQ_FIRST(&c->waiting); w; w = next) {
		next = TAILQ_NEXT(w, link);
		if (w->entry == e)
			waiter_refuse(w, err);
	}
}

static void start_load(struct cache *c, struct entry *e, uint64_t bytes)
{
	entry_move(e, CACHE_LOADING);
	if (!identity_same(&e->have, &e->want) || e->have.ctx != e->want.ctx) {
		e->measured_bytes = 0;
		identity_set(&e->have, e->want.path, e->want.bytes, e->want.mtime_ms,
			     e->want.ctx);
	}
	e->id = ++c->next_id;
	e->bytes = bytes;
	e->retire = false;
	c->loading = e;
	c->loads++;
	log_info("cache: model '%s' loads (%s %.1f MiB)", e->name,
		 e->measured_bytes ? "measured" : "estimated", (double)bytes / (1 << 20));
	c->loader.load(c->loader.arg, e->id, e->have.path, e->have.ctx, c->parts.slots);
}

enum attempt {
	ATTEMPT_DONE,   /* it loads now, or its waiters were refused */
	ATTEMPT_ROOM,   /* its victims are on their way out */
	ATTEMPT_BLOCKED /* too much is leased */
};

static void refuse(struct cache *c, struct entry *e, const struct policy_plan *p)
{
	char text[160];
	struct err err;

	policy_text(p, text, sizeof text);
	err_set(&err, ERR_MEMORY, "load '%s': %s (budget %.2f GiB, pinned models stay)",
		e->name, text, (double)c->parts.budget_bytes / (1 << 30));
	answer_all(c, e, &err);
}

static enum attempt try_load(struct cache *c, struct entry *e, bool aged)
{
	uint64_t bytes = entry_needs(c, e);
	struct policy_plan p;
	bool fits;

	cache_plan(c, e, bytes, false, &p);
	if (!p.fits && !p.fits_when_idle) {
		refuse(c, e, &p);
		return ATTEMPT_DONE;
	}
	fits = p.fits;
	if (!fits) {
		if (!aged)
			return ATTEMPT_BLOCKED;
		cache_plan(c, e, bytes, true, &p);
		c->drain_for = e;
	}
	for (int i = 0; i < p.nvictims; i++)
		drain(c, c->entries[p.victims[i]]);
	if (!fits)
		return ATTEMPT_BLOCKED;
	if (!room_now(c, bytes))
		return ATTEMPT_ROOM;
	start_load(c, e, bytes);
	return ATTEMPT_DONE;
}

static bool first_of_its_entry(const struct cache *c, const struct cache_waiter *w)
{
	const struct cache_waiter *o;

	TAILQ_FOREACH(o, &c->waiting, link)
	if (o->entry == w->entry)
		return o == w;
	return false;
}

/* In the order of the oldest waiters; one that lacks room lets others pass until it is
 * aged. */
static void load_next(struct cache *c, uint64_t now)
{
	struct cache_waiter *w, *next;

	for (w = TAILQ_FIRST(&c->waiting); w && !c->loading; w = next) {
		bool aged = now - w->since_ms >= CACHE_AGE_MS;
		struct entry *e = w->entry;
		enum attempt got;

		next = TAILQ_NEXT(w, link);
		if (e->state != CACHE_ABSENT || !first_of_its_entry(c, w))
			continue;
		/* answer_all() may take any waiter of e out of the list, `next` too */
		while (next && next->entry == e)
			next = TAILQ_NEXT(next, link);
		got = try_load(c, e, aged);
		/* let nobody take the room that was made for this one */
		if (got == ATTEMPT_ROOM || (got == ATTEMPT_BLOCKED && aged))
			return;
	}
}

/* Draining ends when nobody waits for the room, or the leases are gone. */
static void settle_draining(struct cache *c)
{
	if (c->drain_for &&
	    (c->drain_for->state != CACHE_ABSENT || c->drain_for->waiters == 0))
		c->drain_for = NULL;
	for (int i = 0; i < c->nentries; i++) {
		struct entry *e = c->entries[i];

		if (e->state == CACHE_READY && (entry_stale(e) || e->retire))
			drain(c, e);
		if (e->state != CACHE_DRAINING)
			continue;
		if (e->leases == 0)
			entry_unload(c, e);
		else if (!c->drain_for && !entry_stale(e) && !e->retire)
			entry_move(e, CACHE_READY);
	}
}

static void settle_failed(struct cache *c, uint64_t now)
{
	for (int i = 0; i < c->nentries; i++) {
		struct entry *e = c->entries[i];

		if (e->state != CACHE_FAILED)
			continue;
		if (!identity_same(&e->have, &e->want)) {
			e->backoff_ms = 0;
			e->load_deaths = 0;
			entry_move(e, CACHE_ABSENT);
		} else if (now >= e->retry_ms) {
			entry_move(e, CACHE_ABSENT);
		}
	}
}

static void answer_failed(struct cache_waiter *w, uint64_t now)
{
	const struct entry *e = w->entry;
	struct err err = e->error;

	if (e->retry_ms == UINT64_MAX)
		err_set(&err, err.code,
			"load '%s': %.380s (not tried again until the file changes)",
			e->name, e->error.text);
	else
		err_set(&err, err.code, "load '%s': %.380s (next try in %.0f s)", e->name,
			e->error.text, (double)(e->retry_ms - now) / 1000 + 0.5);
	waiter_refuse(w, &err);
}

static void answer_timeout(struct cache_waiter *w, uint64_t now)
{
	struct entry *e = w->entry;
	double waited_s = (double)(now - w->since_ms) / 1000;
	struct policy_plan p;
	char text[160];
	struct err err;

	if (e->state == CACHE_LOADING) {
		err_set(&err, ERR_TIMEOUT,
			"model '%s': still loading after %.1f s; try again later",
			e->name, waited_s);
	} else {
		cache_plan(w->cache, e, entry_needs(w->cache, e), false, &p);
		policy_text(&p, text, sizeof text);
		err_set(&err, ERR_TIMEOUT, "model '%s': not loaded after %.1f s: %s",
			e->name, waited_s, text);
	}
	waiter_refuse(w, &err);
}

static void serve(struct cache *c, uint64_t now)
{
	struct cache_waiter *w, *next;

	for (w = TAILQ_FIRST(&c->waiting); w; w = next) {
		struct entry *e = w->entry;

		next = TAILQ_NEXT(w, link);
		if (e->state == CACHE_READY) {
			w->lease = lease_new(c, e);
			c->hits += w->hit;
			waiter_answer(w);
		} else if (e->state == CACHE_FAILED) {
			answer_failed(w, now);
		} else if (now >= w->deadline_ms) {
			answer_timeout(w, now);
		}
	}
}

void cache_deliver(struct cache *c)
{
	struct cache_waiter *w;

	while ((w = TAILQ_FIRST(&c->answered))) {
		struct cache_waiter copy = *w;

		waiter_free(w);
		copy.cb(copy.arg, copy.lease, copy.lease ? NULL : &copy.error);
	}
}

static uint64_t next_due(const struct cache *c, uint64_t now)
{
	const struct cache_waiter *w;
	uint64_t due = UINT64_MAX;

	TAILQ_FOREACH(w, &c->waiting, link)
	{
		uint64_t age_ms = w->since_ms + CACHE_AGE_MS;

		if (w->deadline_ms < due)
			due = w->deadline_ms;
		if (age_ms > now && age_ms < due)
			due = age_ms;
	}
	return due;
}

static void on_timer(uv_timer_t *t)
{
	cache_run(t->data);
}

/* Asks for a turn. */
void cache_kick(struct cache *c)
{
	c->kicked = true;
	if (c->parts.loop && !c->closing)
		uv_timer_start(&c->timer, on_timer, 0, 0);
}

uint64_t cache_run(struct cache *c)
{
	uint64_t now = cache_now(c), due;

	if (c->closing)
		return UINT64_MAX;
	c->kicked = false;
	settle_failed(c, now);
	settle_draining(c);
	shrink(c);
	serve(c, now);
	load_next(c, now);
	cache_deliver(c);
	due = c->kicked ? now : next_due(c, now);
	if (c->parts.loop && !c->closing && !c->kicked) {
		if (due == UINT64_MAX)
			uv_timer_stop(&c->timer);
		else
			uv_timer_start(&c->timer, on_timer, due > now ? due - now : 1, 0);
	}
	return due;
}
