/* All that the cache decides, in one order: settle, shrink, serve, load, tell, and call
 * back last.
 *
 * Loop thread.  The question a reader will ask: why does nothing happen in
 * cache_acquire() or in the loader's answers?  They only record a fact and ask for a
 * turn; cache_run() looks at all facts together.  That leaves no window between "loaded"
 * and "leased" in which somebody else could evict, and no callback that finds the tables
 * half changed. */
#include "cache/cache_impl.h"

enum { FREE_POLL_MS = 1000 }; /* while somebody waits for room */

/* ---- settle: what follows from states, orders and the clock alone */

/* Nobody can ask for it any more: its names lead elsewhere. */
static bool orphaned(const struct entry *e)
{
	return e->nnames == 0 && e->waiters == 0;
}

static void settle_failed(struct entry *e, uint64_t now)
{
	if (now < e->retry_ms && e->leave == LEAVE_NO)
		return;
	if (e->leave != LEAVE_NO)
		e->backoff_ms = 0;
	entry_to_disk(e);
}

static bool expired(const struct cache *c, const struct entry *e, uint64_t now)
{
	int64_t keep = entry_keep_alive(c, e);

	return keep >= 0 && !e->leases && !e->waiters &&
	       now >= e->last_used_ms + (uint64_t)keep && !entry_pinned(c, e);
}

/* Larger than promised, and the others cannot make up for it: it leaves again, now with a
 * measured size to plan with. */
static void weigh(struct cache *c, struct entry *e)
{
	struct policy_plan p;

	if (!e->weigh)
		return;
	e->weigh = false;
	room_plan(c, e, PLAN_IDLE, 0, &p);
	if (p.fits)
		room_make(c, e, &p);
	else
		e->leave = LEAVE_DISK;
}

static void settle_ready(struct cache *c, struct entry *e, uint64_t now)
{
	bool out;

	weigh(c, e);
	out = e->leave != LEAVE_NO || orphaned(e);
	if (out && e->leases)
		entry_move(e, CACHE_DRAINING);
	else if (out)
		entry_leave(c, e, e->leave == LEAVE_PARK, DECIDE_UNLOAD,
			    e->leave == LEAVE_NO ? "its file or context was replaced"
						 : "told to, or larger than promised");
	else if (expired(c, e, now))
		entry_leave(c, e, true, DECIDE_EXPIRE, "idle for its keep-alive");
}

/* Draining ends when nobody waits for the room, or the leases are gone. */
static void settle_draining(struct cache *c, struct entry *e)
{
	bool replaced = orphaned(e);

	if (e->leases == 0)
		entry_leave(c, e, e->leave != LEAVE_DISK && !replaced, DECIDE_PARK,
			    replaced ? "its file or context was replaced"
				     : "its last lease ended");
	else if (!c->drain_for && !replaced && e->leave == LEAVE_NO)
		entry_move(e, CACHE_READY);
}

static void settle_drain_for(struct cache *c)
{
	const struct entry *e = c->drain_for;

	if (e &&
	    (e->waiters == 0 || (e->state != CACHE_DISK && e->state != CACHE_PARKED)))
		c->drain_for = NULL;
}

static void settle(struct cache *c, uint64_t now)
{
	settle_drain_for(c);
	for (int i = 0; i < c->nentries; i++) {
		struct entry *e = c->entries[i];

		if (e->state == CACHE_FAILED)
			settle_failed(e, now);
		else if (e->state == CACHE_READY)
			settle_ready(c, e, now);
		else if (e->state == CACHE_DRAINING)
			settle_draining(c, e);
		else if (e->state == CACHE_LOADING && (e->leave || orphaned(e)))
			entry_cancel(c, e,
				     e->leave ? "told to unload it"
					      : "its file was replaced");
		else if (e->state == CACHE_PARKED &&
			 (e->leave == LEAVE_DISK || orphaned(e)))
			entry_drop(c, e, "told to, or its file was replaced");
		else if (e->state == CACHE_DISK && e->id && !e->waiters)
			entry_drop(c, e, "probed only"); /* the loader forgets it */
		else if (e->state == CACHE_PARKED || e->state == CACHE_DISK)
			e->leave = LEAVE_NO;
	}
}

/* ---- load */

static int loads_under_way(const struct cache *c, enum cache_backend b, bool *suspect)
{
	int n = 0;

	for (int i = 0; i < c->nentries; i++) {
		const struct entry *e = c->entries[i];

		if ((e->state != CACHE_LOADING && e->state != CACHE_PROBING) ||
		    e->backend != b)
			continue;
		n++;
		*suspect |= e->load_deaths > 0;
	}
	return n;
}

/* A backend that died while several models were loading gets them one by one. */
static bool may_start(const struct cache *c, const struct entry *e)
{
	bool suspect = false, other = false;
	int here = loads_under_way(c, e->backend, &suspect);
	int all = here + loads_under_way(c, !e->backend, &other);

	return all < CACHE_MAX_LOADS && !suspect && (!here || !e->load_deaths);
}

static void start_probe(struct cache *c, struct entry *e)
{
	const struct cache_loader *l = &c->loaders[e->backend];

	entry_move(e, CACHE_PROBING);
	e->id = ++c->next_id;
	l->probe(l->arg, e->id, e->model.path, e->ctx, c->parts.slots);
}

static void start_load(struct cache *c, struct entry *e, const struct policy_plan *p)
{
	static const char *const known[] = {[KNOWN_NOT] = "guessed",
					    [KNOWN_PROBED] = "from its header",
					    [KNOWN_LEDGER] = "measured before",
					    [KNOWN_MEASURED] = "measured"};
	const struct cache_loader *l = &c->loaders[e->backend];
	bool promoted = e->state == CACHE_PARKED;
	char needs[32], room[32];
	struct decision *d;

	policy_bytes(p->needs_bytes, needs, sizeof needs);
	policy_bytes(p->free_bytes, room, sizeof room);
	d = decide(c, promoted ? DECIDE_PROMOTE : DECIDE_LOAD, e,
		   "needs %s (%s), free %s%s", needs, known[e->known], room, e->why);
	e->sizes = e->predicted = entry_predict(c, e);
	d->predicted_bytes = e->sizes.weights_bytes + e->sizes.kv_bytes;
	d->predicted_ms = promoted ? e->promote_ms : e->load_ms;
	entry_move(e, CACHE_LOADING);
	if (!e->id)
		e->id = ++c->next_id;
	e->why[0] = '\0';
	e->resident = true;
	e->leave = LEAVE_NO;
	e->last_used_ms = cache_now(c);
	*(promoted ? &c->n.promotions : &c->n.loads) += 1;
	l->load(l->arg, e->id, &e->model, e->model.path, e->ctx, c->parts.slots);
}

static void refuse(struct cache *c, struct entry *e, const struct policy_plan *p)
{
	char text[256];
	struct err err;

	policy_text(p, text, sizeof text);
	err_set(&err, ERR_MEMORY, "load '%.100s': %s", e->model.name, text);
	decide(c, DECIDE_REFUSE, e, "%s", text)->predicted_bytes = p->needs_bytes;
	waiters_refuse(c, e, &err);
}

static bool has_backend(struct cache *c, struct entry *e)
{
	struct err err;

	if (c->has_loader[e->backend])
		return true;
	err_set(&err, ERR_UNAVAILABLE, "model '%.100s': there is no %s to run it",
		e->model.name, cache_backend_name(e->backend));
	waiters_refuse(c, e, &err);
	return false;
}

/* Its victims go; returns the bytes to keep for it, 0 when it loads now or was refused. */
static uint64_t make_room(struct cache *c, struct entry *e, bool aged, uint64_t reserved)
{
	struct policy_plan p, now;

	room_plan(c, e, PLAN_IDLE, reserved, &p);
	if (!p.fits && !p.fits_when_idle) {
		refuse(c, e, &p);
		return 0;
	}
	if (!p.fits) {
		uint64_t needs = p.needs_bytes;

		if (!aged)
			return 0;
		if (!c->drain_for)
			c->drain_for = e;
		if (c->drain_for == e) {
			room_plan(c, e, PLAN_DRAIN, reserved, &p);
			room_make(c, e, &p);
		}
		return needs;
	}
	room_make(c, e, &p);
	room_plan(c, e, PLAN_NOW, 0, &now);
	if (!now.fits)
		return p.needs_bytes;
	start_load(c, e, &now);
	return 0;
}

struct want_load {
	struct entry *entry;
	bool aged;
};

/* Who waited too long first, the oldest of them; then by class; then first come. */
static int by_turn(const void *pa, const void *pb)
{
	const struct want_load *a = pa, *b = pb;

	if (a->aged != b->aged)
		return a->aged ? -1 : 1;
	if (!a->aged && a->entry->rank != b->entry->rank)
		return a->entry->rank > b->entry->rank ? -1 : 1;
	if (a->entry->since_ms != b->entry->since_ms)
		return a->entry->since_ms < b->entry->since_ms ? -1 : 1;
	return a->entry->no < b->entry->no ? -1 : 1;
}

static uint64_t age_ms(const struct cache *c)
{
	uint64_t ms = c->parts.settings.age_ms;

	return ms ? ms : CACHE_AGE_MS;
}

static int list_wanted(const struct cache *c, uint64_t now, struct want_load *list)
{
	struct cache_waiter *w;
	int n = 0;

	for (int i = 0; i < c->nentries; i++)
		c->entries[i]->rank = -1;
	TAILQ_FOREACH(w, &c->waiting, link)
	{
		struct entry *e = w->entry;

		if (e->state != CACHE_DISK && e->state != CACHE_PARKED)
			continue;
		if (e->rank < 0) { /* the list is in the order of arrival */
			e->since_ms = w->since_ms;
			list[n++] = (struct want_load){e, now - w->since_ms >= age_ms(c)};
		}
		if (class_rank(w->class) > e->rank)
			e->rank = class_rank(w->class);
	}
	qsort(list, (size_t)n, sizeof *list, by_turn);
	return n;
}

/* What is being made free for one is not given to those behind it. */
static void load_next(struct cache *c, uint64_t now)
{
	struct want_load list[POLICY_MAX_ENTRIES];
	uint64_t reserved = 0;
	int n;

	if (TAILQ_EMPTY(&c->waiting))
		return;
	n = list_wanted(c, now, list);
	for (int i = 0; i < n; i++) {
		struct entry *e = list[i].entry;
		uint64_t keep = 0;

		if (!has_backend(c, e) || !may_start(c, e))
			continue;
		if (e->known == KNOWN_NOT && !e->id && c->loaders[e->backend].probe)
			start_probe(c, e);
		else
			keep = make_room(c, e, list[i].aged, reserved);
		if (__builtin_add_overflow(reserved, keep, &reserved))
			reserved = UINT64_MAX;
	}
}

/* ---- serve */

static uint64_t served_n(const struct cache *c, uint64_t client)
{
	for (int i = 0; i < c->nclients; i++)
		if (c->clients[i].client == client)
			return c->clients[i].served_n;
	return 0;
}

static void note_served(struct cache *c, uint64_t client)
{
	int at = 0;

	for (int i = 0; i < c->nclients; i++) {
		if (c->clients[i].client == client) {
			c->clients[i].served_n = ++c->served_n;
			return;
		}
		if (c->clients[i].served_n < c->clients[at].served_n)
			at = i;
	}
	if (c->nclients < CACHE_CLIENTS)
		at = c->nclients++;
	c->clients[at] = (struct client){client, ++c->served_n};
}

static int leases_of(const struct entry *e, uint64_t client)
{
	const struct cache_lease *l;
	int n = 0;

	TAILQ_FOREACH(l, &e->lease_list, link)
	n += l->client == client;
	return n;
}

static bool slot_for(const struct entry *e, enum request_class class)
{
	int n = 0;

	for (int k = 0; k < CACHE_CLASSES; k++)
		if (class_rank((enum request_class)k) >= class_rank(class))
			n += e->leases_by_class[k];
	return n < e->info.slots;
}

static bool sooner(const struct cache *c, const struct cache_waiter *a,
		   const struct cache_waiter *b)
{
	int la, lb;
	uint64_t sa, sb;

	if (a->class != b->class)
		return class_rank(a->class) > class_rank(b->class);
	if (a->client == b->client)
		return false; /* b came first */
	la = leases_of(a->entry, a->client);
	lb = leases_of(b->entry, b->client);
	if (la != lb)
		return la < lb;
	sa = served_n(c, a->client);
	sb = served_n(c, b->client);
	return sa < sb;
}

static void grant(struct cache *c, struct cache_waiter *w)
{
	struct entry *e = w->entry;
	uint64_t bytes = e->sizes.weights_bytes + e->sizes.kv_bytes;
	double cost = e->promote_ms > 0 && c->parts.settings.parked_budget_bytes
			      ? e->promote_ms
			      : e->load_ms;

	w->lease = lease_new(c, w);
	note_served(c, w->client);
	e->last_used_ms = cache_now(c);
	e->uses++;
	e->score = policy_score(c->inflation, (double)e->uses, cost, bytes);
	*(w->hit ? &c->n.hits : &c->n.misses) += 1;
	waiter_answer(w);
}

static void serve_one(struct cache *c, struct entry *e)
{
	struct cache_waiter *w, *next, *best;

	for (w = TAILQ_FIRST(&c->waiting); w; w = next) {
		next = TAILQ_NEXT(w, link);
		if (w->entry == e && w->done)
			waiter_answer(w);
	}
	do {
		best = NULL;
		TAILQ_FOREACH(w, &c->waiting, link)
		if (w->entry == e && slot_for(e, w->class) &&
		    (!best || sooner(c, w, best)))
			best = w;
		if (best)
			grant(c, best);
	} while (best && e->waiters);
}

static void answer_failed(struct cache_waiter *w, uint64_t now)
{
	const struct entry *e = w->entry;
	struct err err = e->error;

	if (e->retry_ms == UINT64_MAX)
		err_set(&err, err.code,
			"load '%.100s': %.320s (not tried again until the file changes)",
			e->model.name, e->error.text);
	else
		err_set(&err, err.code, "load '%.100s': %.320s (next try in %.0f s)",
			e->model.name, e->error.text,
			(double)(e->retry_ms - now) / 1000 + 0.5);
	waiter_refuse(w, &err);
}

static void answer_timeout(struct cache_waiter *w, uint64_t now)
{
	struct cache *c = w->cache;
	struct entry *e = w->entry;
	double waited_s = (double)(now - w->since_ms) / 1000;
	struct policy_plan p;
	char text[256];
	struct err err;

	if (e->state == CACHE_READY || e->state == CACHE_DRAINING) {
		snprintf(text, sizeof text, "all its %d slots were busy", e->info.slots);
	} else if (e->state == CACHE_LOADING) {
		snprintf(text, sizeof text, "it is still loading");
	} else {
		room_plan(c, e, PLAN_IDLE, 0, &p);
		policy_text(&p, text, sizeof text);
	}
	err_set(&err, ERR_TIMEOUT, "model '%.100s': not ready after %.1f s: %s",
		e->model.name, waited_s, text);
	err.retry_after_ms = 1000 * cache_retry_after_s(c, e, w->class);
	c->n.timeouts++;
	waiter_refuse(w, &err);
}

static void serve(struct cache *c, uint64_t now)
{
	struct cache_waiter *w, *next;

	if (TAILQ_EMPTY(&c->waiting))
		return;
	for (int i = 0; i < c->nentries; i++)
		if (c->entries[i]->waiters && c->entries[i]->state == CACHE_READY)
			serve_one(c, c->entries[i]);
	for (w = TAILQ_FIRST(&c->waiting); w; w = next) {
		next = TAILQ_NEXT(w, link);
		if (w->entry->state == CACHE_FAILED)
			answer_failed(w, now);
		else if (now >= w->deadline_ms)
			answer_timeout(w, now);
	}
}

/* ---- call back, and when to come again */

void cache_deliver(struct cache *c)
{
	struct cache_waiter *w;

	while ((w = TAILQ_FIRST(&c->answered))) {
		struct cache_waiter copy = *w;

		waiter_free(w);
		if (copy.done)
			copy.done(copy.arg, copy.error.code ? &copy.error : NULL);
		else
			copy.cb(copy.arg, copy.lease, copy.lease ? NULL : &copy.error);
	}
}

static void sooner_of(uint64_t *due, uint64_t at, uint64_t now)
{
	if (at > now && at < *due)
		*due = at;
}

static uint64_t next_due(const struct cache *c, uint64_t now)
{
	const struct cache_waiter *w;
	uint64_t due = UINT64_MAX;
	bool blocked = false;

	TAILQ_FOREACH(w, &c->waiting, link)
	{
		if (w->deadline_ms < due)
			due = w->deadline_ms;
		sooner_of(&due, w->since_ms + age_ms(c), now);
		blocked |= w->entry->state != CACHE_READY;
	}
	for (int i = 0; i < c->nentries; i++) {
		const struct entry *e = c->entries[i];
		int64_t keep = entry_keep_alive(c, e);

		if (e->state != CACHE_READY)
			continue;
		if (keep >= 0 && !e->leases && !e->waiters)
			sooner_of(&due, e->last_used_ms + (uint64_t)keep, now);
		if (blocked && !e->leases)
			sooner_of(&due, entry_stay_until(c, e), now);
	}
	if (blocked && c->free_bytes != UINT64_MAX) /* other programs do not tell us */
		sooner_of(&due, now + FREE_POLL_MS, now);
	return due;
}

static void on_timer(uv_timer_t *t)
{
	cache_run(t->data);
}

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
	settle(c, now);
	room_shrink(c);
	serve(c, now);
	load_next(c, now);
	views_tell(c);
	entries_forget(c);
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
