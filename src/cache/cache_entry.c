/* The tables of the cache: instances, the names that lead to them, leases.  Loop thread.
 *
 * The question a reader will ask: why names are not instances.  A model may have several
 * names, and a name may lead to another file or another context tomorrow; what is loaded
 * is neither.  So a request moves its name to the instance that fits it, and an instance
 * that lost its last name leaves when it is idle. */
#include "cache/cache_impl.h"

#include "base/clock.h"

static const struct sm_state cache_states[CACHE_STATES] = {
	[CACHE_DISK] = {"disk", SM_TO(CACHE_PROBING) | SM_TO(CACHE_LOADING) |
					SM_TO(CACHE_UNLOADING)},
	[CACHE_PROBING] = {"probing", SM_TO(CACHE_DISK) | SM_TO(CACHE_FAILED)},
	[CACHE_LOADING] = {"loading", SM_TO(CACHE_READY) | SM_TO(CACHE_FAILED) |
					      SM_TO(CACHE_CANCELLING) |
					      SM_TO(CACHE_DISK)},
	[CACHE_CANCELLING] = {"cancelling", SM_TO(CACHE_DISK)},
	[CACHE_READY] = {"ready", SM_TO(CACHE_DRAINING) | SM_TO(CACHE_PARKING) |
					  SM_TO(CACHE_UNLOADING) | SM_TO(CACHE_DISK)},
	[CACHE_DRAINING] = {"draining", SM_TO(CACHE_READY) | SM_TO(CACHE_PARKING) |
						SM_TO(CACHE_UNLOADING) |
						SM_TO(CACHE_DISK)},
	[CACHE_PARKING] = {"parking", SM_TO(CACHE_PARKED) | SM_TO(CACHE_DISK)},
	[CACHE_PARKED] = {"parked", SM_TO(CACHE_LOADING) | SM_TO(CACHE_UNLOADING) |
					    SM_TO(CACHE_DISK)},
	[CACHE_UNLOADING] = {"unloading", SM_TO(CACHE_DISK)},
	[CACHE_FAILED] = {"failed", SM_TO(CACHE_DISK)},
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

	snprintf(what, sizeof what, "cache: model '%.60s'", e->model.name);
	sm_move(cache_states, what, &e->state, next);
}

void entry_to_disk(struct entry *e)
{
	entry_move(e, CACHE_DISK);
	e->id = 0;
	e->resident = e->parked = e->weigh = false;
	e->leave = LEAVE_NO;
	e->uses = 0; /* GDSF counts uses since it came */
	e->done_bytes = e->total_bytes = 0;
}

bool entry_resident(const struct entry *e)
{
	return e->resident;
}

int class_rank(enum request_class k)
{
	static const int ranks[CACHE_CLASSES] = {
		[CLASS_COMPLETION] = 2, [CLASS_INTERACTIVE] = 1, [CLASS_BATCH] = 0};

	return (unsigned)k < CACHE_CLASSES ? ranks[k] : 0;
}

/* ---- the copy of the model that a loader is given */

static void model_clear(struct model *m)
{
	for (int i = 0; i < m->settings.nargs; i++)
		free(m->settings.args[i]);
	free(m->settings.args);
	free(m->name);
	free(m->path);
	memset(m, 0, sizeof *m);
}

/* The configuration that args belong to may go while the model loads. */
static void model_copy(struct model *to, const struct model *from)
{
	int n = from->settings.nargs;
	char **args = n > 0 ? xcalloc((size_t)n, sizeof *args) : NULL;
	struct model copy = *from;

	for (int i = 0; i < n; i++)
		args[i] = xstrdup(from->settings.args[i]);
	copy.name = xstrdup(from->name);
	copy.path = xstrdup(from->path);
	copy.settings.args = args;
	copy.settings.nargs = n;
	model_clear(to);
	*to = copy;
}

/* ---- instances */

static struct identity identity_of(const struct model *m)
{
	return (struct identity){m->dev, m->ino, m->bytes, m->mtime_ms};
}

/* Without device and inode (tests, foreign file systems) the path has to do. */
static bool same_file(const struct entry *e, const struct model *m)
{
	return e->file.dev == m->dev && e->file.ino == m->ino &&
	       e->file.bytes == m->bytes && e->file.mtime_ms == m->mtime_ms &&
	       (m->ino || !strcmp(e->model.path, m->path));
}

void entry_free(struct entry *e)
{
	leases_void(e);
	model_clear(&e->model);
	free(e);
}

struct entry *entry_by_id(const struct cache *c, uint64_t id)
{
	for (int i = 0; i < c->nentries; i++)
		if (id && c->entries[i]->id == id)
			return c->entries[i];
	return NULL;
}

static bool gone(const struct cache *c, const struct entry *e)
{
	return (e->state == CACHE_DISK || e->state == CACHE_FAILED) && !e->id &&
	       !e->waiters && !e->leases && e != c->drain_for;
}

static void remove_at(struct cache *c, int i)
{
	struct entry *e = c->entries[i];

	for (int k = 0; k < c->nnames; k++)
		if (c->names[k]->entry == e)
			c->names[k]->entry = NULL;
	c->entries[i] = c->entries[--c->nentries];
	entry_free(e);
}

void entries_forget(struct cache *c)
{
	for (int i = c->nentries - 1; i >= 0; i--)
		if (!c->entries[i]->nnames && gone(c, c->entries[i]))
			remove_at(c, i);
}

/* The one used longest ago of those that are not here. */
static bool forget_one(struct cache *c)
{
	int best = -1;

	for (int i = 0; i < c->nentries; i++)
		if (gone(c, c->entries[i]) &&
		    (best < 0 ||
		     c->entries[i]->last_used_ms < c->entries[best]->last_used_ms))
			best = i;
	if (best < 0)
		return false;
	remove_at(c, best);
	return true;
}

static uint64_t file_no(struct cache *c, const struct model *m)
{
	for (int i = 0; i < c->nentries; i++)
		if (same_file(c->entries[i], m))
			return c->entries[i]->file_no;
	return ++c->next_file_no;
}

enum cache_backend entry_first_backend(const struct cache *c, const struct model *m)
{
	if (m->settings.backend == BACKEND_LLAMA_SERVER)
		return CACHE_CHILD;
	if (m->settings.backend == BACKEND_AUTO && !c->has_loader[CACHE_ENGINE] &&
	    c->has_loader[CACHE_CHILD])
		return CACHE_CHILD;
	return CACHE_ENGINE;
}

static struct entry *entry_new(struct cache *c, const struct model *m, int ctx)
{
	struct entry *e;

	if (c->nentries == POLICY_MAX_ENTRIES && !forget_one(c))
		return NULL;
	e = xcalloc(1, sizeof *e);
	e->no = ++c->next_no;
	e->file_no = file_no(c, m);
	e->file = identity_of(m);
	e->ctx = ctx;
	e->backend = entry_first_backend(c, m);
	e->fixed_backend = m->settings.backend != BACKEND_AUTO;
	e->keep_alive_ms = CACHE_KEEP_DEFAULT;
	e->last_used_ms = cache_now(c);
	TAILQ_INIT(&e->lease_list);
	model_copy(&e->model, m);
	entry_learn(c, e);
	c->entries[c->nentries++] = e;
	return e;
}

static bool backend_suits(const struct entry *e, const struct model *m)
{
	switch (m->settings.backend) {
	case BACKEND_ENGINE:
		return e->backend == CACHE_ENGINE;
	case BACKEND_LLAMA_SERVER:
		return e->backend == CACHE_CHILD;
	default: /* a child that was asked for by name is not for those who left it open */
		return e->backend == CACHE_ENGINE || !e->fixed_backend;
	}
}

/* No model has more context than it was trained for, whatever is asked. */
static bool ctx_suits(const struct entry *e, int ctx)
{
	if (e->info.ctx_train > 0 && ctx > e->info.ctx_train)
		ctx = e->info.ctx_train;
	return ctx <= e->ctx || ctx <= e->info.ctx;
}

/* How soon it could serve; one that is not here and not awaited only fits exactly. */
static int nearness(const struct entry *e, int ctx)
{
	static const int by_state[CACHE_STATES] = {
		[CACHE_READY] = 9,     [CACHE_LOADING] = 8,    [CACHE_DRAINING] = 7,
		[CACHE_PARKING] = 6,   [CACHE_PARKED] = 6,     [CACHE_PROBING] = 5,
		[CACHE_UNLOADING] = 1, [CACHE_CANCELLING] = 1, [CACHE_FAILED] = 1,
		[CACHE_DISK] = 1};
	int near = by_state[e->state];

	if (near > 1 && e->leave == LEAVE_NO)
		return near;
	if (e->waiters && e->state != CACHE_FAILED)
		return 4;
	return e->ctx == ctx ? near : 0;
}

struct entry *entry_fitting(const struct cache *c, const struct model *m, int ctx,
			    const struct entry *current)
{
	struct entry *best = NULL;
	int best_near = 0;

	for (int i = 0; i < c->nentries; i++) {
		struct entry *e = c->entries[i];
		int near;

		if (!same_file(e, m) || !backend_suits(e, m) || !ctx_suits(e, ctx))
			continue;
		near = nearness(e, ctx);
		if (near > best_near ||
		    (best && near == best_near &&
		     (e == current || (best != current && e->ctx < best->ctx)))) {
			best = e;
			best_near = near;
		}
	}
	return best;
}

/* ---- names */

static struct name *name_find(const struct cache *c, const char *name)
{
	for (int i = 0; i < c->nnames; i++)
		if (!strcmp(c->names[i]->name, name))
			return c->names[i];
	return NULL;
}

static void name_lead(struct name *n, struct entry *e)
{
	if (n->entry == e)
		return;
	if (n->entry)
		n->entry->nnames--;
	if (e)
		e->nnames++;
	n->entry = e;
}

static bool forget_name(struct cache *c)
{
	for (int i = 0; i < c->nnames; i++) {
		struct name *n = c->names[i];

		if (n->pin_order || (n->entry && !gone(c, n->entry)))
			continue;
		name_lead(n, NULL);
		free(n->name);
		free(n);
		c->names[i] = c->names[--c->nnames];
		return true;
	}
	return false;
}

struct name *name_get(struct cache *c, const char *name)
{
	struct name *n = name_find(c, name);

	if (n)
		return n;
	if (c->nnames == CACHE_MAX_NAMES && !forget_name(c))
		return NULL;
	n = xcalloc(1, sizeof *n);
	n->name = xstrdup(name);
	c->names[c->nnames++] = n;
	return n;
}

struct entry *entry_of_name(const struct cache *c, const char *name)
{
	const struct name *n = name_find(c, name);

	return n ? n->entry : NULL;
}

static bool name_pins(const struct name *n)
{
	return n->pin_order ? n->pin_order > 0 : n->pinned;
}

bool entry_pinned(const struct cache *c, const struct entry *e)
{
	for (int i = 0; i < c->nnames; i++)
		if (c->names[i]->entry == e && name_pins(c->names[i]))
			return true;
	return false;
}

bool entry_completion(const struct cache *c, const struct entry *e)
{
	for (int i = 0; i < c->nnames; i++)
		if (c->names[i]->entry == e && c->names[i]->completion)
			return true;
	return false;
}

static bool renamed(const struct entry *e, const struct model *m)
{
	return strcmp(e->model.name, m->name) != 0 || strcmp(e->model.path, m->path) != 0;
}

struct entry *entry_for(struct cache *c, const struct cache_want *w)
{
	const struct model *m = w->model;
	int ctx = m->settings.ctx > 0 ? m->settings.ctx : c->parts.ctx;
	struct name *n = name_get(c, m->name);
	struct entry *e;

	if (!n)
		return NULL;
	e = entry_fitting(c, m, ctx, n->entry);
	if (!e)
		e = entry_new(c, m, ctx);
	if (!e)
		return NULL;
	name_lead(n, e);
	n->pinned = m->settings.pinned;
	n->completion = m->settings.role == MODEL_COMPLETION;
	if (e->state != CACHE_READY || renamed(e, m))
		model_copy(&e->model, m);
	return e;
}

int64_t entry_keep_alive(const struct cache *c, const struct entry *e)
{
	if (e->keep_alive_ms != CACHE_KEEP_DEFAULT)
		return e->keep_alive_ms;
	return c->parts.settings.keep_alive_ms;
}

/* ---- sizes */

static struct ledger_key key_of(const struct cache *c, const struct entry *e)
{
	return (struct ledger_key){.dev = e->file.dev,
				   .ino = e->file.ino,
				   .bytes = e->file.bytes,
				   .mtime_ms = e->file.mtime_ms,
				   .ctx = e->ctx,
				   .slots = c->parts.slots,
				   .backend = (int)e->backend};
}

void entry_learn(const struct cache *c, struct entry *e)
{
	struct ledger_key key = key_of(c, e);
	const struct ledger_row *row;

	e->known = KNOWN_NOT;
	if (!c->parts.ledger || !e->file.ino)
		return;
	row = ledger_find(c->parts.ledger, &key);
	if (!row)
		return;
	e->known = KNOWN_LEDGER;
	e->sizes = (struct cache_sizes){row->weights_bytes, row->kv_bytes,
					row->parked_bytes};
	e->load_ms = row->load_ms;
	e->promote_ms = row->promote_ms;
	e->loads = row->loads;
	for (int k = 0; k < CACHE_CLASSES; k++)
		e->lease_ms[k] = row->lease_ms;
}

void entry_remember(const struct cache *c, const struct entry *e)
{
	struct ledger_row row = {.key = key_of(c, e),
				 .weights_bytes = e->measured.weights_bytes,
				 .kv_bytes = e->measured.kv_bytes,
				 .parked_bytes = e->measured.parked_bytes,
				 .load_ms = e->load_ms,
				 .promote_ms = e->promote_ms,
				 .lease_ms = e->lease_ms[CLASS_INTERACTIVE],
				 .loads = e->loads,
				 .used_unix_ms = clock_unix_ms()};

	if (c->parts.ledger && e->file.ino && e->known == KNOWN_MEASURED)
		ledger_put(c->parts.ledger, &row);
}

/* A guess for the first load only, on the low side: too low is put right by the measured
 * size, too high would refuse what fits.  Per token of context a model with grouped-query
 * attention keeps roughly a 1/8192 part of its file (SmolLM2 135M: 98 MB, 11.5 KB with q8
 * keys and values), large ones less. */
static struct cache_sizes guess(const struct cache *c, const struct entry *e)
{
	enum { KV_PART = 8192, KV_MAX_BYTES_PER_TOKEN = 64 << 10 };
	uint64_t file = e->file.bytes, per_token = file / KV_PART, sum, kv;
	uint64_t tokens = (uint64_t)e->ctx * (uint64_t)c->parts.slots;
	uint64_t budget = c->parts.settings.budget_bytes;

	if (per_token > KV_MAX_BYTES_PER_TOKEN)
		per_token = KV_MAX_BYTES_PER_TOKEN;
	kv = file / 10 + per_token * tokens;
	if (!entry_completion(c, e)) {
		uint64_t reserve = c->parts.settings.reserve_completion_bytes;

		budget = budget > reserve ? budget - reserve : 0;
	}
	if (__builtin_add_overflow(file, kv, &sum))
		sum = UINT64_MAX;
	/* A guess over the budget proves nothing while the file itself is below it. */
	if (sum > budget && file <= budget)
		kv = budget - file;
	return (struct cache_sizes){file, kv, file};
}

struct cache_sizes entry_predict(const struct cache *c, const struct entry *e)
{
	struct ledger_key key = key_of(c, e);
	const struct ledger_row *near = NULL;
	double tokens, old;

	if (e->known != KNOWN_NOT)
		return e->sizes;
	if (c->parts.ledger && e->file.ino)
		near = ledger_near(c->parts.ledger, &key);
	if (!near || near->key.ctx < 1 || near->key.slots < 1)
		return guess(c, e);
	tokens = (double)e->ctx * c->parts.slots;
	old = (double)near->key.ctx * near->key.slots;
	return (struct cache_sizes){near->weights_bytes,
				    (uint64_t)((double)near->kv_bytes * tokens / old),
				    near->parked_bytes};
}

/* ---- leases */

struct cache_lease *lease_new(struct cache *c, const struct cache_waiter *w)
{
	struct cache_lease *l = xcalloc(1, sizeof *l);
	struct entry *e = w->entry;

	*l = (struct cache_lease){.cache = c,
				  .entry = e,
				  .id = e->id,
				  .client = w->client,
				  .class = w->class,
				  .backend = e->backend,
				  .info = e->info,
				  .start_ms = cache_now(c),
				  .asked_unix_ms = w->since_unix_ms,
				  .hit = w->hit};
	l->waited_ms = (double)(l->start_ms - w->since_ms);
	TAILQ_INSERT_TAIL(&e->lease_list, l, link);
	e->leases++;
	e->leases_by_class[l->class]++;
	return l;
}

void leases_void(struct entry *e)
{
	struct cache_lease *l;

	while ((l = TAILQ_FIRST(&e->lease_list))) {
		TAILQ_REMOVE(&e->lease_list, l, link);
		l->entry = NULL;
	}
	e->leases = 0;
	memset(e->leases_by_class, 0, sizeof e->leases_by_class);
}

bool cache_lease_valid(const struct cache_lease *l)
{
	return l && l->entry;
}

uint64_t cache_lease_id(const struct cache_lease *l)
{
	return l->id;
}

enum cache_backend cache_lease_backend(const struct cache_lease *l)
{
	return l->backend;
}

const struct cache_info *cache_lease_info(const struct cache_lease *l)
{
	return &l->info;
}
