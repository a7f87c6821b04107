/* The entries of the cache: one for each name that was ever asked for, its file's
 * identity, its state, its size, and the leases on it.  Loop thread.
 *
 * The question a reader will ask: why two identities.  `want` is what the latest request
 * asked for, `have` is what was loaded; a file that is replaced under a running model
 * makes them differ, and then the old one drains before the new one loads. */
#include "cache/cache_impl.h"

#include "base/clock.h"

static const struct sm_state cache_states[CACHE_STATES] = {
	[CACHE_ABSENT] = {"absent", SM_TO(CACHE_LOADING)},
	/* to absent: the engine died */
	[CACHE_LOADING] = {"loading", SM_TO(CACHE_READY) | SM_TO(CACHE_FAILED) |
					      SM_TO(CACHE_ABSENT)},
	[CACHE_READY] = {"ready", SM_TO(CACHE_DRAINING) | SM_TO(CACHE_UNLOADING) |
					  SM_TO(CACHE_ABSENT)},
	/* back to ready: whoever wanted the room has gone */
	[CACHE_DRAINING] = {"draining", SM_TO(CACHE_READY) | SM_TO(CACHE_UNLOADING) |
						SM_TO(CACHE_ABSENT)},
	[CACHE_UNLOADING] = {"unloading", SM_TO(CACHE_ABSENT)},
	/* to absent: the file changed, or the back-off is over */
	[CACHE_FAILED] = {"failed", SM_TO(CACHE_ABSENT)},
};

const char *cache_state_name(enum cache_state s)
{
	return (unsigned)s < CACHE_STATES ? cache_states[s].name : "unknown";
}

uint64_t cache_now(const struct cache *c)
{
	return c->parts.now_ms ? c->parts.now_ms(c->parts.now_arg) : clock_mono_ms();
}

void entry_move(struct entry *e, enum cache_state next)
{
	char what[80];

	snprintf(what, sizeof what, "cache: model '%.60s'", e->name);
	sm_move(cache_states, what, &e->state, next);
}

void identity_set(struct identity *id, const char *path, uint64_t bytes, int64_t mtime_ms,
		  int ctx)
{
	char *copy = xstrdup(path ? path : "");

	free(id->path);
	*id = (struct identity){copy, bytes, mtime_ms, ctx};
}

bool identity_same(const struct identity *a, const struct identity *b)
{
	return a->path && b->path && !strcmp(a->path, b->path) && a->bytes == b->bytes &&
	       a->mtime_ms == b->mtime_ms;
}

/* What is loaded no longer is what is asked for.  A smaller context never reloads. */
bool entry_stale(const struct entry *e)
{
	return !identity_same(&e->have, &e->want) || e->want.ctx > e->have.ctx;
}

bool entry_resident(const struct entry *e)
{
	return e->state != CACHE_ABSENT && e->state != CACHE_FAILED;
}

void entry_free(struct entry *e)
{
	free(e->name);
	free(e->want.path);
	free(e->have.path);
	free(e);
}

/* Forgets one that is neither resident nor waited for, to make room in the table. */
static bool forget_one(struct cache *c)
{
	for (int i = 0; i < c->nentries; i++) {
		struct entry *e = c->entries[i];

		if (entry_resident(e) || e->waiters || e == c->drain_for)
			continue;
		entry_free(e);
		c->entries[i] = c->entries[--c->nentries];
		return true;
	}
	return false;
}

struct entry *entry_find(const struct cache *c, const char *name)
{
	for (int i = 0; i < c->nentries; i++)
		if (!strcmp(c->entries[i]->name, name))
			return c->entries[i];
	return NULL;
}

struct entry *entry_get(struct cache *c, const char *name)
{
	struct entry *e = entry_find(c, name);

	if (e)
		return e;
	if (c->nentries == POLICY_MAX_ENTRIES && !forget_one(c))
		return NULL;
	e = xcalloc(1, sizeof *e);
	e->name = xstrdup(name);
	TAILQ_INIT(&e->lease_list);
	c->entries[c->nentries++] = e;
	return e;
}

struct entry *entry_by_id(const struct cache *c, uint64_t id)
{
	for (int i = 0; i < c->nentries; i++)
		if (c->entries[i]->id == id && entry_resident(c->entries[i]))
			return c->entries[i];
	return NULL;
}

/* A guess for the first load only, on the low side: too low is put right by the measured
 * size, too high would refuse what fits.  Per token of context a model with grouped-query
 * attention keeps roughly a 1/8192 part of its file (SmolLM2 135M: 98 MB, 11.5 KB with q8
 * keys and values), large ones less. */
static uint64_t estimate(const struct cache *c, const struct identity *id)
{
	enum { KV_PART = 8192, KV_MAX_BYTES_PER_TOKEN = 64 << 10 };
	uint64_t per_token = id->bytes / KV_PART;
	uint64_t tokens = (uint64_t)id->ctx * (uint64_t)c->parts.slots;
	uint64_t sum;

	if (per_token > KV_MAX_BYTES_PER_TOKEN)
		per_token = KV_MAX_BYTES_PER_TOKEN;
	if (__builtin_add_overflow(id->bytes, id->bytes / 10 + per_token * tokens, &sum))
		return UINT64_MAX;
	/* A guess over the budget proves nothing while the file itself is below it. */
	if (sum > c->parts.budget_bytes && id->bytes <= c->parts.budget_bytes)
		return c->parts.budget_bytes;
	return sum;
}

uint64_t entry_needs(const struct cache *c, const struct entry *e)
{
	if (e->measured_bytes && identity_same(&e->have, &e->want) &&
	    e->want.ctx <= e->have.ctx)
		return e->measured_bytes;
	return estimate(c, &e->want);
}

struct cache_lease *lease_new(struct cache *c, struct entry *e)
{
	struct cache_lease *l = xcalloc(1, sizeof *l);

	l->cache = c;
	l->entry = e;
	l->id = e->id;
	l->info = e->info;
	TAILQ_INSERT_TAIL(&e->lease_list, l, link);
	e->leases++;
	e->last_used_ms = cache_now(c);
	return l;
}

void cache_release(struct cache_lease *l)
{
	if (!l)
		return;
	if (l->entry) {
		TAILQ_REMOVE(&l->entry->lease_list, l, link);
		l->entry->leases--;
		l->entry->last_used_ms = cache_now(l->cache);
		cache_kick(l->cache);
	}
	free(l);
}

void leases_void(struct entry *e)
{
	struct cache_lease *l;

	while ((l = TAILQ_FIRST(&e->lease_list))) {
		TAILQ_REMOVE(&e->lease_list, l, link);
		l->entry = NULL;
	}
	e->leases = 0;
}

bool cache_lease_valid(const struct cache_lease *l)
{
	return l && l->entry;
}

uint64_t cache_lease_id(const struct cache_lease *l)
{
	return l->id;
}

const struct cache_info *cache_lease_info(const struct cache_lease *l)
{
	return &l->info;
}

uint64_t cache_used(const struct cache *c)
{
	uint64_t used = 0;

	for (int i = 0; i < c->nentries; i++)
		if (entry_resident(c->entries[i]))
			used += c->entries[i]->bytes;
	return used;
}
