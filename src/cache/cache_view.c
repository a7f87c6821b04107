/* What can be seen of the cache: rows, totals, the last decisions, and who listens.
 *
 * Loop thread.  The question a reader will ask: why listeners hear of things at the end of
 * a turn and not when they happen.  They run foreign code; by then all tables are whole,
 * and several moves of one instance within a turn are one. */
#include "cache/cache_impl.h"

#include <stdarg.h>
#include "base/clock.h"
#include "base/log.h"

const char *cache_backend_name(enum cache_backend b)
{
	return b == CACHE_ENGINE  ? "engine"
	       : b == CACHE_CHILD ? "llama-server"
				  : "unknown";
}

const char *cache_tier_name(enum cache_state s)
{
	switch (s) {
	case CACHE_LOADING:
	case CACHE_CANCELLING:
	case CACHE_READY:
	case CACHE_DRAINING:
	case CACHE_PARKING:
		return "ram";
	case CACHE_PARKED:
		return "parked";
	default:
		return "disk";
	}
}

const char *decision_name(enum decision_kind k)
{
	static const char *const names[DECIDE_KINDS] = {
		[DECIDE_LOAD] = "load",     [DECIDE_PROMOTE] = "promote",
		[DECIDE_READY] = "ready",   [DECIDE_PARK] = "park",
		[DECIDE_UNLOAD] = "unload", [DECIDE_REFUSE] = "refuse",
		[DECIDE_FAIL] = "fail",     [DECIDE_CANCEL] = "cancel",
		[DECIDE_EXPIRE] = "expire"};

	return (unsigned)k < DECIDE_KINDS ? names[k] : "unknown";
}

static void count_decision(struct cache *c, enum decision_kind kind)
{
	c->n.expired += kind == DECIDE_EXPIRE;
}

/* The caller may add figures until the turn ends. */
struct decision *decide(struct cache *c, enum decision_kind kind, const struct entry *e,
			const char *fmt, ...)
{
	struct decided *slot = &c->decisions[c->ndecisions % CACHE_DECISIONS];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(slot->text, sizeof slot->text, fmt, ap);
	va_end(ap);
	snprintf(slot->model, sizeof slot->model, "%s", e->model.name);
	slot->d = (struct decision){.n = ++c->ndecisions,
				    .at_unix_ms = clock_unix_ms(),
				    .kind = kind,
				    .instance = e->no,
				    .model = slot->model,
				    .text = slot->text};
	count_decision(c, kind);
	if (kind == DECIDE_FAIL || kind == DECIDE_REFUSE)
		log_warn("cache: %s '%s': %s", decision_name(kind), slot->model,
			 slot->text);
	else
		log_info("cache: %s '%s': %s", decision_name(kind), slot->model,
			 slot->text);
	return &slot->d;
}

int cache_decisions(const struct cache *c, const char *model, struct decision *out,
		    int max)
{
	const struct entry *e = model ? entry_of_name(c, model) : NULL;
	uint64_t kept = c->ndecisions < CACHE_DECISIONS ? c->ndecisions : CACHE_DECISIONS;
	int n = 0;

	for (uint64_t i = 0; i < kept && n < max; i++) {
		const struct decided *d =
			&c->decisions[(c->ndecisions - 1 - i) % CACHE_DECISIONS];

		if (!model || (e && d->d.instance == e->no) || !strcmp(d->model, model))
			out[n++] = d->d;
	}
	return n;
}

/* ---- rows */

static int64_t expires_ms(const struct cache *c, const struct entry *e, uint64_t now)
{
	int64_t keep = entry_keep_alive(c, e);
	uint64_t at = e->last_used_ms + (uint64_t)keep;

	if (keep < 0 || e->state != CACHE_READY || e->leases || entry_pinned(c, e))
		return -1;
	return at > now ? (int64_t)(at - now) : 0;
}

static bool is_shared(const struct cache *c, const struct entry *e)
{
	for (int i = 0; i < c->nentries; i++) {
		const struct entry *o = c->entries[i];

		if (o != e && o->file_no == e->file_no && o->backend == e->backend &&
		    (o->resident || o->parked))
			return true;
	}
	return false;
}

static void row_names(const struct cache *c, const struct entry *e, struct cache_row *out)
{
	for (int i = 0; i < c->nnames; i++) {
		if (c->names[i]->entry != e)
			continue;
		if (out->nnames < CACHE_ROW_NAMES)
			out->names[out->nnames] = c->names[i]->name;
		out->nnames++;
	}
}

static void row_of(const struct cache *c, const struct entry *e, struct cache_row *out)
{
	bool up = e->state == CACHE_READY || e->state == CACHE_DRAINING;
	uint64_t now = cache_now(c);

	*out = (struct cache_row){
		.instance = e->no,
		.name = e->model.name,
		.path = e->model.path,
		.error = e->state == CACHE_FAILED ? e->error.text : NULL,
		.state = (enum cache_state)e->state,
		.backend = e->backend,
		.bytes = e->resident ? e->sizes.weights_bytes + e->sizes.kv_bytes : 0,
		.parked_bytes = e->parked ? e->sizes.parked_bytes : 0,
		.predicted = e->predicted,
		.measured = e->measured,
		.load_ms = e->load_ms,
		.promote_ms = e->promote_ms,
		.leases = e->leases,
		.waiters = e->waiters,
		.ctx = up ? e->info.ctx : e->ctx,
		.slots = up ? e->info.slots : c->parts.slots,
		.pinned = entry_pinned(c, e),
		.shared = is_shared(c, e),
		.idle_ms =
			now > e->last_used_ms && !e->leases ? now - e->last_used_ms : 0,
		.keep_alive_ms = entry_keep_alive(c, e),
		.expires_ms = expires_ms(c, e, now),
		.done_bytes = e->done_bytes,
		.total_bytes = e->total_bytes,
		.source = e->info.source,
	};
	memcpy(out->leases_by_class, e->leases_by_class, sizeof out->leases_by_class);
	row_names(c, e, out);
}

int cache_count(const struct cache *c)
{
	return c->nentries;
}

void cache_row(const struct cache *c, int i, struct cache_row *out)
{
	ASSERT(i >= 0 && i < c->nentries);
	row_of(c, c->entries[i], out);
}

bool cache_find(const struct cache *c, const char *name, struct cache_row *out)
{
	const struct entry *e = entry_of_name(c, name);

	if (e)
		row_of(c, e, out);
	return e != NULL;
}

void cache_totals(const struct cache *c, struct cache_totals *out)
{
	*out = c->n;
	out->budget_bytes = c->parts.settings.budget_bytes;
	out->parked_budget_bytes = c->parts.settings.parked_budget_bytes;
	out->used_bytes = room_used(c);
	out->parked_bytes = room_parked(c);
	out->free_bytes = c->free_bytes;
	out->waiters = c->nwaiters;
	for (int i = 0; i < c->nentries; i++)
		out->leases += c->entries[i]->leases;
}

/* ---- listeners */

void cache_listen(struct cache *c, struct cache_listener *l)
{
	TAILQ_INSERT_TAIL(&c->listeners, l, link);
}

void cache_unlisten(struct cache *c, struct cache_listener *l)
{
	TAILQ_REMOVE(&c->listeners, l, link);
}

static void use_free(struct use *u)
{
	free(u->model);
	free(u);
}

void use_over(struct cache *c, const struct entry *e, const struct cache_use *from)
{
	struct cache_listener *l;
	bool heard = false;
	struct use *u;

	TAILQ_FOREACH(l, &c->listeners, link)
	heard |= l->used != NULL;
	if (!heard)
		return;
	u = xcalloc(1, sizeof *u);
	u->u = *from;
	u->u.model = u->model = xstrdup(e->model.name);
	u->u.instance = e->no;
	u->u.file = e->file_no;
	u->u.sizes = entry_predict(c, e);
	u->u.load_ms = e->load_ms;
	u->u.promote_ms = e->promote_ms;
	u->u.pinned = entry_pinned(c, e);
	u->u.completion = entry_completion(c, e);
	TAILQ_INSERT_TAIL(&c->uses, u, link);
}

static void tell_decisions(struct cache *c)
{
	struct cache_listener *l;

	if (c->ndecisions - c->told_decisions > CACHE_DECISIONS)
		c->told_decisions = c->ndecisions - CACHE_DECISIONS;
	for (; c->told_decisions < c->ndecisions; c->told_decisions++) {
		const struct decided *d =
			&c->decisions[c->told_decisions % CACHE_DECISIONS];

		TAILQ_FOREACH(l, &c->listeners, link)
		if (l->decided)
			l->decided(l, &d->d);
	}
}

static void tell_moves(struct cache *c)
{
	struct cache_listener *l;
	struct cache_row row;

	for (int i = 0; i < c->nentries; i++) {
		struct entry *e = c->entries[i];

		if (e->state == e->told_state)
			continue;
		row_of(c, e, &row);
		TAILQ_FOREACH(l, &c->listeners, link)
		if (l->moved)
			l->moved(l, &row, (enum cache_state)e->told_state);
		e->told_state = e->state;
	}
}

static void tell_uses(struct cache *c)
{
	struct cache_listener *l;
	struct use *u;

	while ((u = TAILQ_FIRST(&c->uses))) {
		TAILQ_REMOVE(&c->uses, u, link);
		TAILQ_FOREACH(l, &c->listeners, link)
		if (l->used)
			l->used(l, &u->u);
		use_free(u);
	}
}

void views_tell(struct cache *c)
{
	tell_decisions(c);
	tell_moves(c);
	tell_uses(c);
}

void views_free(struct cache *c)
{
	struct use *u;

	while ((u = TAILQ_FIRST(&c->uses))) {
		TAILQ_REMOVE(&c->uses, u, link);
		use_free(u);
	}
}
