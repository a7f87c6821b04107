/* The cache from outside: who asks for a model, who gives it back, what is ordered, and
 * how it begins and ends.  Loop thread.  Nothing is decided here, see cache_decide.c. */
#include "cache/cache_impl.h"

#include "base/clock.h"

/* ---- waiters */

static struct cache_waiter *waiter_new(struct cache *c, struct entry *e,
				       const struct cache_want *want)
{
	struct cache_waiter *w = xcalloc(1, sizeof *w);

	w->cache = c;
	w->entry = e;
	w->class = (unsigned)want->class < CACHE_CLASSES ? want->class : CLASS_BATCH;
	w->client = want->client;
	w->since_ms = cache_now(c);
	w->since_unix_ms = clock_unix_ms();
	w->deadline_ms = want->deadline_ms;
	w->hit = e && e->state == CACHE_READY && e->leave == LEAVE_NO;
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
	w->entry = NULL; /* it may be forgotten before the callback */
}

static void waiter_over(struct cache_waiter *w, enum err_code outcome)
{
	struct cache_use u = {.at_unix_ms = w->since_unix_ms,
			      .class = w->class,
			      .client = w->client,
			      .waited_ms = (double)(cache_now(w->cache) - w->since_ms),
			      .hit = w->hit,
			      .outcome = outcome};

	if (w->entry && !w->done)
		use_over(w->cache, w->entry, &u);
}

void waiter_refuse(struct cache_waiter *w, const struct err *e)
{
	ASSERT(e->code != ERR_NONE);
	w->error = *e;
	w->cache->n.refused++;
	waiter_over(w, e->code);
	waiter_answer(w);
	cache_kick(w->cache); /* what was kept for it may go */
}

void waiters_refuse(struct cache *c, const struct entry *e, const struct err *err)
{
	struct cache_waiter *w, *next;

	for (w = TAILQ_FIRST(&c->waiting); w; w = next) {
		next = TAILQ_NEXT(w, link);
		if (w->entry == e)
			waiter_refuse(w, err);
	}
}

void waiter_free(struct cache_waiter *w)
{
	TAILQ_REMOVE(w->answered ? &w->cache->answered : &w->cache->waiting, w, link);
	w->cache->nwaiters--;
	if (w->entry)
		w->entry->waiters--;
	free(w);
}

void cache_cancel(struct cache_waiter *w)
{
	struct cache *c = w->cache;

	if (!w->answered)
		waiter_over(w, ERR_CANCELLED);
	cache_release(w->lease);
	waiter_free(w);
	cache_kick(c);
}

static int ahead_of(const struct cache_waiter *w)
{
	const struct cache_waiter *o;
	bool before = true;
	int n = 0;

	TAILQ_FOREACH(o, &w->cache->waiting, link)
	{
		if (o == w)
			before = false;
		else if (o->entry == w->entry && !o->done &&
			 (class_rank(o->class) > class_rank(w->class) ||
			  (before && o->class == w->class)))
			n++;
	}
	return n;
}

void cache_waiter_progress(const struct cache_waiter *w, struct cache_progress *out)
{
	const struct entry *e = w->entry;

	*out = (struct cache_progress){.state = CACHE_DISK};
	if (!e) /* answered, and about to hear of it */
		return;
	out->state = (enum cache_state)e->state;
	out->done_bytes = e->done_bytes;
	out->total_bytes = e->total_bytes;
	out->ahead = ahead_of(w);
}

/* Those ahead take their turns on its slots, each as long as leases took lately. */
unsigned cache_retry_after_s(const struct cache *c, const struct entry *e,
			     enum request_class class)
{
	int slots = e->info.slots > 0    ? e->info.slots
		    : c->parts.slots > 0 ? c->parts.slots
					 : 1;
	double ms = e->lease_ms[class] * (e->waiters + e->leases) / slots;

	if (e->state == CACHE_PARKED)
		ms += e->promote_ms;
	else if (e->state != CACHE_READY && e->state != CACHE_DRAINING)
		ms += e->load_ms;
	if (ms > 3600e3)
		ms = 3600e3;
	return ms <= 1000 ? 1 : (unsigned)(ms / 1000) + 1;
}

/* NULL: e says why. */
static struct entry *admit(struct cache *c, const struct cache_want *want, struct err *e)
{
	const struct cache_settings *s = &c->parts.settings;
	int most = s->max_queue > 0 ? s->max_queue : CACHE_MAX_WAITERS;
	const char *name = want->model->name;
	struct entry *it;

	if (c->closing) {
		err_set(e, ERR_UNAVAILABLE, "the daemon is stopping");
		return NULL;
	}
	it = c->nwaiters < CACHE_MAX_WAITERS ? entry_for(c, want) : NULL;
	if (it && it->waiters < most)
		return it;
	err_set(e, ERR_BUSY,
		"model '%.100s': %d requests wait already; try again "
		"later",
		name, it ? it->waiters : c->nwaiters);
	e->retry_after_ms = it ? 1000 * cache_retry_after_s(c, it, want->class) : 1000;
	return NULL;
}

static struct cache_waiter *ask(struct cache *c, const struct cache_want *want)
{
	struct cache_waiter *w;
	struct entry *e;
	struct err err;

	ASSERT(want->model->path);
	ASSERT((unsigned)want->class < CACHE_CLASSES);
	e = admit(c, want, &err);
	w = waiter_new(c, e, want);
	if (!e) {
		waiter_refuse(w, &err);
		return w;
	}
	e->keep_alive_ms = want->keep_alive_ms;
	if (e->keep_alive_ms == CACHE_KEEP_DEFAULT)
		e->keep_alive_ms = want->model->settings.keep_alive_ms;
	return w;
}

struct cache_waiter *cache_acquire(struct cache *c, const struct cache_want *want,
				   cache_cb *cb, void *arg)
{
	struct cache_waiter *w = ask(c, want);

	w->cb = cb;
	w->arg = arg;
	return w;
}

struct cache_waiter *cache_load(struct cache *c, const struct cache_want *want,
				cache_done_cb *cb, void *arg)
{
	struct cache_waiter *w = ask(c, want);

	w->done = cb;
	w->arg = arg;
	return w;
}

/* ---- giving back */

static void average(double *avg, double value)
{
	enum { WEIGHT_PERCENT = 20 }; /* the latest one's: follows a change in ten uses */

	*avg = *avg > 0 ? *avg + (value - *avg) * WEIGHT_PERCENT / 100 : value;
}

void cache_release(struct cache_lease *l)
{
	struct cache_use u;
	struct entry *e;

	if (!l)
		return;
	e = l->entry;
	if (e) {
		uint64_t now = cache_now(l->cache);

		u = (struct cache_use){.at_unix_ms = l->asked_unix_ms,
				       .class = l->class,
				       .client = l->client,
				       .waited_ms = l->waited_ms,
				       .held_ms = (double)(now - l->start_ms),
				       .hit = l->hit};
		TAILQ_REMOVE(&e->lease_list, l, link);
		e->leases--;
		e->leases_by_class[l->class]--;
		e->last_used_ms = now;
		average(&e->lease_ms[l->class], u.held_ms);
		use_over(l->cache, e, &u);
		cache_kick(l->cache);
	}
	free(l);
}

/* ---- orders */

static int not_there(const char *name, struct err *e)
{
	return err_set(e, ERR_NOT_FOUND, "model '%.100s' is not loaded", name);
}

static bool unload_waits(const struct entry *e)
{
	return e->state == CACHE_PROBING || e->state == CACHE_LOADING ||
	       (e->state == CACHE_DISK && e->waiters);
}

int cache_unload(struct cache *c, const char *name, bool park, struct err *e)
{
	struct entry *it = entry_of_name(c, name);
	struct err err;

	if (!it || (it->state == CACHE_DISK && !it->waiters))
		return not_there(name, e);
	if (it->state == CACHE_UNLOADING || it->state == CACHE_CANCELLING)
		return 0;
	if (unload_waits(it)) {
		err_set(&err, ERR_CANCELLED,
			"model '%.100s': an unload command cancelled its load", name);
		waiters_refuse(c, it, &err);
	}
	if (it->state != CACHE_DISK && it->state != CACHE_PROBING &&
	    !(park && it->state == CACHE_PARKED))
		it->leave = park ? LEAVE_PARK : LEAVE_DISK;
	cache_kick(c);
	return 0;
}

int cache_pin(struct cache *c, const struct model *m, bool pinned, struct err *e)
{
	struct name *n = name_get(c, m->name);

	if (!n)
		return err_set(e, ERR_BUSY, "pin '%.100s': %d names are known already",
			       m->name, CACHE_MAX_NAMES);
	n->pin_order = pinned ? 1 : -1;
	cache_kick(c);
	return 0;
}

int cache_keep_alive(struct cache *c, const char *name, int64_t ms, struct err *e)
{
	struct entry *it = entry_of_name(c, name);

	if (!it || (it->state == CACHE_DISK && !it->waiters))
		return not_there(name, e);
	it->keep_alive_ms = ms;
	cache_kick(c);
	return 0;
}

/* ---- lifecycle */

struct cache *cache_new(const struct cache_parts *parts)
{
	struct cache *c = xcalloc(1, sizeof *c);

	c->parts = *parts;
	c->free_bytes = UINT64_MAX;
	if (c->parts.slots < 1)
		c->parts.slots = 1;
	TAILQ_INIT(&c->waiting);
	TAILQ_INIT(&c->answered);
	TAILQ_INIT(&c->listeners);
	TAILQ_INIT(&c->uses);
	if (parts->loop) {
		uv_timer_init(parts->loop, &c->timer);
		c->timer.data = c;
	}
	return c;
}

/* A backend that was taken away is told nothing more; its models stay where they were. */
static void no_op(void *arg, uint64_t id)
{
	UNUSED(arg), UNUSED(id);
}

static void no_load(void *arg, uint64_t id, const struct model *m, const char *path,
		    int ctx, int slots)
{
	UNUSED(arg), UNUSED(id), UNUSED(m), UNUSED(path), UNUSED(ctx), UNUSED(slots);
}

void cache_set_loader(struct cache *c, enum cache_backend b,
		      const struct cache_loader *loader)
{
	static const struct cache_loader nobody = {.load = no_load, .unload = no_op};

	ASSERT((unsigned)b < CACHE_BACKENDS);
	c->has_loader[b] = loader != NULL;
	c->loaders[b] = loader ? *loader : nobody;
	for (int i = 0; i < c->nentries && loader; i++) /* it may know more formats */
		if (c->entries[i]->state == CACHE_FAILED &&
		    c->entries[i]->error.code == ERR_UNSUPPORTED)
			c->entries[i]->retry_ms = 0;
	cache_kick(c);
}

void cache_set(struct cache *c, const struct cache_settings *s)
{
	c->parts.settings = *s;
	cache_kick(c);
}

const struct cache_settings *cache_settings(const struct cache *c)
{
	return &c->parts.settings;
}

static void cache_free(struct cache *c)
{
	void (*done)(void *arg) = c->done;
	void *arg = c->done_arg;

	for (int i = 0; i < c->nentries; i++)
		entry_free(c->entries[i]);
	for (int i = 0; i < c->nnames; i++) {
		free(c->names[i]->name);
		free(c->names[i]);
	}
	views_free(c);
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
	for (int i = 0; i < c->nentries; i++)
		entry_remember(c, c->entries[i]);
	err_set(&err, ERR_UNAVAILABLE, "the daemon is stopping");
	while ((w = TAILQ_FIRST(&c->waiting)))
		waiter_refuse(w, &err);
	views_tell(c);
	cache_deliver(c);
	if (c->parts.loop)
		uv_close((uv_handle_t *)&c->timer, on_closed);
	else
		cache_free(c);
}
