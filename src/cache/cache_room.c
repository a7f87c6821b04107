/* Room: what the two tiers hold, who would leave for whom, and how one leaves.
 *
 * Loop thread.  The question a reader will ask: why three ways to plan.  What is on its
 * way out still occupies its bytes.  To choose victims it counts as gone, or each turn
 * would evict one more; to start a load it counts as there, or two models would meet in
 * memory that has room for one. */
#include "cache/cache_impl.h"

#include "base/log.h"

/* The number of the first that has the same weights. */
static int group_of(const struct cache *c, int i)
{
	const struct entry *e = c->entries[i];

	for (int k = 0; k < i; k++)
		if (c->entries[k]->file_no == e->file_no &&
		    c->entries[k]->backend == e->backend)
			return k;
	return i;
}

static bool leaving(const struct entry *e)
{
	return e->state == CACHE_UNLOADING || e->state == CACHE_CANCELLING ||
	       e->state == CACHE_PARKING;
}

uint64_t entry_stay_until(const struct cache *c, const struct entry *e)
{
	double ms = e->info.load_ms * 2;

	if (e->info.load_ms < CACHE_STAY_FLOOR_MS)
		return 0;
	if (ms > (double)c->parts.settings.min_stay_ms)
		ms = (double)c->parts.settings.min_stay_ms;
	return e->ready_ms + (uint64_t)ms;
}

bool entry_fresh(const struct cache *c, const struct entry *e, uint64_t now)
{
	return e->state == CACHE_READY && now < entry_stay_until(c, e);
}

static bool movable(const struct entry *e, enum plan_mode mode)
{
	switch (e->state) {
	case CACHE_READY:
		return mode != PLAN_NOW;
	case CACHE_DRAINING:
		return mode == PLAN_DRAIN;
	case CACHE_LOADING:
		return mode != PLAN_NOW && e->waiters == 0;
	default:
		return false;
	}
}

/* Who waits for one that is ready is about to get its lease. */
static int in_use(const struct entry *e)
{
	return e->leases + (e->state == CACHE_READY ? e->waiters : 0);
}

static void list_resident(const struct cache *c, const struct entry *self,
			  enum plan_mode mode, struct policy_entry *list)
{
	uint64_t now = cache_now(c);

	for (int i = 0; i < c->nentries; i++) {
		const struct entry *e = c->entries[i];
		bool counts =
			e->resident && e != self && (mode == PLAN_NOW || !leaving(e));
		bool drains = e->state == CACHE_DRAINING;

		list[i] = (struct policy_entry){
			.own_bytes = counts ? e->sizes.kv_bytes : 0,
			.shared_bytes = counts ? e->sizes.weights_bytes : 0,
			.group = group_of(c, i),
			.leases = mode == PLAN_DRAIN ? 0 : in_use(e),
			.pinned = counts && !drains && entry_pinned(c, e),
			.movable = counts && movable(e, mode),
			.fresh = mode == PLAN_IDLE && entry_fresh(c, e, now),
			.completion = entry_completion(c, e),
			/* who drains already goes first: the choice stays the same */
			.last_used_ms = drains ? 0 : e->last_used_ms,
			.score = drains ? -1 : e->score,
		};
	}
}

/* Promised to loads under way and not yet taken from the system. */
static uint64_t pending_bytes(const struct cache *c)
{
	double sum = 0;

	for (int i = 0; i < c->nentries; i++) {
		const struct entry *e = c->entries[i];
		double all = (double)e->sizes.weights_bytes + (double)e->sizes.kv_bytes;

		if (e->state != CACHE_LOADING)
			continue;
		if (e->total_bytes && e->done_bytes <= e->total_bytes)
			all *= 1 - (double)e->done_bytes / (double)e->total_bytes;
		sum += all;
	}
	return sum < 1e18 ? (uint64_t)sum : UINT64_MAX / 2;
}

static uint64_t leaving_bytes(const struct cache *c)
{
	uint64_t all, rest;
	struct policy_entry list[POLICY_MAX_ENTRIES];

	list_resident(c, NULL, PLAN_NOW, list);
	all = policy_used(list, c->nentries);
	list_resident(c, NULL, PLAN_IDLE, list);
	rest = policy_used(list, c->nentries);
	return all > rest ? all - rest : 0;
}

static uint64_t free_for_plan(struct cache *c, enum plan_mode mode)
{
	uint64_t room, pending = pending_bytes(c);

	if (!c->parts.free_bytes)
		return UINT64_MAX;
	room = c->free_bytes = c->parts.free_bytes(c->parts.free_arg);
	if (room == UINT64_MAX)
		return room;
	room = room > pending ? room - pending : 0;
	return mode == PLAN_NOW ? room : room + leaving_bytes(c);
}

static int index_of(const struct cache *c, const struct entry *self)
{
	for (int i = 0; i < c->nentries; i++)
		if (c->entries[i] == self)
			return i;
	return -1;
}

void room_plan(struct cache *c, const struct entry *self, enum plan_mode mode,
	       uint64_t reserved_bytes, struct policy_plan *p)
{
	struct policy_entry list[POLICY_MAX_ENTRIES];
	struct cache_sizes s = entry_predict(c, self);
	struct policy_ask ask = {.kind = c->parts.settings.policy,
				 .budget_bytes = c->parts.settings.budget_bytes,
				 .free_bytes = free_for_plan(c, mode),
				 .reserve_bytes =
					 c->parts.settings.reserve_completion_bytes,
				 .own_bytes = s.kv_bytes,
				 .shared_bytes = s.weights_bytes,
				 .group = group_of(c, index_of(c, self)),
				 .completion = entry_completion(c, self),
				 .reserved_bytes = reserved_bytes};

	/* What it holds by itself is in its own measured size, not in what is free. */
	if (self->resident)
		ask.free_bytes = UINT64_MAX;
	list_resident(c, self, mode, list);
	policy_plan(list, c->nentries, &ask, p);
}

uint64_t room_used(const struct cache *c)
{
	struct policy_entry list[POLICY_MAX_ENTRIES];

	list_resident(c, NULL, PLAN_NOW, list);
	return policy_used(list, c->nentries);
}

static void list_parked(const struct cache *c, bool with_leaving,
			struct policy_entry *list)
{
	for (int i = 0; i < c->nentries; i++) {
		const struct entry *e = c->entries[i];
		bool counts = e->parked && (with_leaving || e->state != CACHE_UNLOADING);

		list[i] = (struct policy_entry){
			.shared_bytes = counts ? e->sizes.parked_bytes : 0,
			.group = group_of(c, i),
			.movable = e->state == CACHE_PARKED && !e->waiters,
			.pinned = entry_pinned(c, e),
			.last_used_ms = e->last_used_ms,
		};
	}
}

uint64_t room_parked(const struct cache *c)
{
	struct policy_entry list[POLICY_MAX_ENTRIES];

	list_parked(c, true, list);
	return policy_used(list, c->nentries);
}

/* ---- leaving */

void entry_drop(struct cache *c, struct entry *e, const char *why)
{
	entry_move(e, CACHE_UNLOADING);
	e->leave = LEAVE_NO;
	if (e->parked) {
		struct decision *d = decide(c, DECIDE_UNLOAD, e, "%s", why);

		d->actual_bytes = e->sizes.parked_bytes;
	}
	c->loaders[e->backend].unload(c->loaders[e->backend].arg, e->id);
}

/* Parked ones that were used longest ago make room; false: there is none. */
static bool make_parked_room(struct cache *c, const struct entry *e)
{
	struct policy_entry list[POLICY_MAX_ENTRIES];
	struct policy_ask ask = {.budget_bytes = c->parts.settings.parked_budget_bytes,
				 .free_bytes = UINT64_MAX,
				 .shared_bytes = e->sizes.parked_bytes,
				 .group = group_of(c, index_of(c, e)),
				 .completion = true};
	struct policy_plan p;

	if (ask.budget_bytes == 0)
		return false;
	list_parked(c, false, list);
	policy_plan(list, c->nentries, &ask, &p);
	for (int i = 0; i < p.nvictims; i++)
		entry_drop(c, c->entries[p.victims[i]],
			   "parked longest ago; another is parked");
	return p.fits;
}

void entry_leave(struct cache *c, struct entry *e, bool park, enum decision_kind kind,
		 const char *why)
{
	const struct cache_loader *l = &c->loaders[e->backend];
	struct decision *d;

	ASSERT(e->leases == 0);
	park = park && l->park && make_parked_room(c, e);
	if (kind != DECIDE_EXPIRE)
		kind = park ? DECIDE_PARK : DECIDE_UNLOAD;
	d = decide(c, kind, e, "%s%s", why, park ? "" : "; to disk");
	d->actual_bytes = e->sizes.weights_bytes + e->sizes.kv_bytes;
	entry_remember(c, e);
	if (e->score > c->inflation)
		c->inflation = e->score;
	c->n.evictions++;
	e->leave = LEAVE_NO;
	entry_move(e, park ? CACHE_PARKING : CACHE_UNLOADING);
	e->parked = park;
	c->n.parks += park;
	if (park)
		l->park(l->arg, e->id);
	else
		l->unload(l->arg, e->id);
}

void entry_cancel(struct cache *c, struct entry *e, const char *why)
{
	entry_move(e, CACHE_CANCELLING);
	e->leave = LEAVE_NO;
	c->n.cancelled++;
	decide(c, DECIDE_CANCEL, e, "%s", why);
	c->loaders[e->backend].unload(c->loaders[e->backend].arg, e->id);
}

static void why_it(const struct cache *c, const struct entry *e, char *out, size_t cap)
{
	uint64_t now = cache_now(c);
	double idle_s = now > e->last_used_ms ? (double)(now - e->last_used_ms) / 1e3 : 0;

	if (c->parts.settings.policy == POLICY_GDSF)
		snprintf(out, cap, "idle %.1f s, lowest score %.3g (%llu uses)", idle_s,
			 e->score, (unsigned long long)e->uses);
	else
		snprintf(out, cap, "idle %.1f s, least recently used", idle_s);
}

void room_make(struct cache *c, struct entry *forr, const struct policy_plan *p)
{
	char why[96], text[240];

	for (int i = 0; i < p->nvictims; i++) {
		struct entry *e = c->entries[p->victims[i]];
		size_t len = strlen(forr->why);

		if (e->state == CACHE_LOADING) {
			snprintf(text, sizeof text,
				 "nobody waits for it any more, and '%.60s' needs the "
				 "room",
				 forr->model.name);
			entry_cancel(c, e, text);
			continue;
		}
		if (e->leases) {
			if (e->state == CACHE_READY)
				entry_move(e, CACHE_DRAINING);
			continue;
		}
		why_it(c, e, why, sizeof why);
		snprintf(text, sizeof text, "%s; makes room for '%.60s'", why,
			 forr->model.name);
		entry_leave(c, e, true, DECIDE_PARK, text);
		snprintf(forr->why + len, sizeof forr->why - len,
			 ", evicted '%.40s' (%s)", e->model.name, why);
	}
}

/* The budget shrank, or a load was larger than promised: idle ones leave. */
static void shrink_resident(struct cache *c)
{
	struct policy_entry list[POLICY_MAX_ENTRIES];
	struct policy_ask ask = {.kind = c->parts.settings.policy,
				 .budget_bytes = c->parts.settings.budget_bytes,
				 .free_bytes = UINT64_MAX,
				 .reserve_bytes =
					 c->parts.settings.reserve_completion_bytes,
				 .group = -1,
				 .best_effort = true};
	struct policy_plan p;

	list_resident(c, NULL, PLAN_IDLE, list);
	for (int i = 0; i < c->nentries; i++)
		list[i].fresh = false; /* there is no thrash to fear: nobody comes */
	policy_plan(list, c->nentries, &ask, &p);
	for (int i = 0; i < p.nvictims; i++) {
		struct entry *e = c->entries[p.victims[i]];

		if (e->state == CACHE_LOADING)
			entry_cancel(c, e, "over the budget, and nobody waits for it");
		else
			entry_leave(c, e, true, DECIDE_PARK, "over the budget");
	}
}

static void shrink_parked(struct cache *c)
{
	struct policy_entry list[POLICY_MAX_ENTRIES];
	struct policy_ask ask = {.budget_bytes = c->parts.settings.parked_budget_bytes,
				 .free_bytes = UINT64_MAX,
				 .group = -1,
				 .completion = true,
				 .best_effort = true};
	struct policy_plan p;

	list_parked(c, false, list);
	policy_plan(list, c->nentries, &ask, &p);
	for (int i = 0; i < p.nvictims; i++)
		entry_drop(c, c->entries[p.victims[i]],
			   "over the budget of parked models");
}

/* Most turns change nothing: what fits even if nothing is shared is not planned for. */
void room_shrink(struct cache *c)
{
	const struct cache_settings *s = &c->parts.settings;
	unsigned __int128 resident = s->reserve_completion_bytes, parked = 0;

	for (int i = 0; i < c->nentries; i++) {
		const struct entry *e = c->entries[i];

		if (e->resident)
			resident += (unsigned __int128)e->sizes.weights_bytes +
				    e->sizes.kv_bytes;
		if (e->parked)
			parked += e->sizes.parked_bytes;
	}
	if (resident > s->budget_bytes)
		shrink_resident(c);
	if (parked > s->parked_budget_bytes)
		shrink_parked(c);
}
