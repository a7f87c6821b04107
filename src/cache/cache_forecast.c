/* What a request for a model would meet now.  Loop thread; changes nothing and reads no file.
 *
 * The question a reader will ask: why a model that was never asked for gets an entry on the stack.  What the
 * ledger knows of its file is found by the same functions as for a real one, and a question must not
 * leave a trace in the tables. */
#include "cache/cache_impl.h"

/* How long a lease lasts, while nobody has measured one: an answer of a few hundred tokens. */
enum { LEASE_MS = 5000 };

static double load_ms(const struct entry *e)
{
	double ms = e->load_ms;

	switch (e->state) {
	case CACHE_PARKING:
	case CACHE_PARKED:
		if (e->promote_ms > 0)
			ms = e->promote_ms;
		break;
	case CACHE_LOADING:
		if (e->total_bytes && e->done_bytes <= e->total_bytes)
			ms *= 1 - (double)e->done_bytes / (double)e->total_bytes;
		return e->load_ms > 0 ? ms : -1;
	default:
		break;
	}
	return ms > 0 ? ms : -1;
}

/* Leases and waiters that come first: of its class or above. */
static int ahead_of(const struct cache *c, const struct entry *e,
		    enum request_class class)
{
	const struct cache_waiter *w;
	int n = 0;

	for (int k = 0; k < CACHE_CLASSES; k++)
		if (class_rank((enum request_class)k) >= class_rank(class))
			n += e->leases_by_class[k];
	TAILQ_FOREACH(w, &c->waiting, link)
	n += w->entry == e && !w->done && class_rank(w->class) >= class_rank(class);
	return n;
}

static double queue_ms(const struct cache *c, const struct entry *e,
		       enum request_class class)
{
	int slots = e->info.slots > 0    ? e->info.slots
		    : c->parts.slots > 0 ? c->parts.slots
					 : 1;
	double lease_ms = e->lease_ms[class] > 0 ? e->lease_ms[class] : LEASE_MS;
	int ahead = ahead_of(c, e, class);

	return ahead < slots ? 0 : lease_ms * (ahead - slots + 1) / slots;
}

static double backoff_ms(const struct cache *c, const struct entry *e)
{
	uint64_t now = cache_now(c);

	if (e->state != CACHE_FAILED || e->retry_ms == UINT64_MAX || e->retry_ms <= now)
		return 0;
	return (double)(e->retry_ms - now);
}

static bool fits(const struct cache *c, const struct model *m, uint64_t bytes)
{
	uint64_t budget = c->parts.settings.budget_bytes;
	uint64_t reserve = c->parts.settings.reserve_completion_bytes;

	if (m->settings.role != MODEL_COMPLETION)
		budget = budget > reserve ? budget - reserve : 0;
	return bytes <= budget;
}

static void fill(const struct cache *c, const struct entry *e, const struct model *m,
		 enum request_class class, struct cache_forecast *out)
{
	struct cache_sizes s = entry_predict(c, e);
	bool up = e->state == CACHE_READY || e->state == CACHE_DRAINING;

	out->resident = e->state == CACHE_READY && e->leave == LEAVE_NO;
	out->wait_ms = queue_ms(c, e, class) + backoff_ms(c, e);
	out->load_ms = out->resident ? 0 : load_ms(e);
	out->ctx = up ? e->info.ctx : e->ctx;
	out->bytes = s.weights_bytes + s.kv_bytes;
	out->fits = up || fits(c, m, out->bytes);
}

void cache_forecast(const struct cache *c, const struct model *m,
		    enum request_class class, struct cache_forecast *out)
{
	int ctx = m->settings.ctx > 0 ? m->settings.ctx : c->parts.ctx;
	const struct entry *e = entry_fitting(c, m, ctx, entry_of_name(c, m->name));
	struct entry none = {.ctx = ctx,
			     .file = {m->dev, m->ino, m->bytes, m->mtime_ms},
			     .backend = entry_first_backend(c, m),
			     .state = CACHE_DISK};

	ASSERT((unsigned)class < CACHE_CLASSES);
	if (!e) {
		entry_learn(c, &none);
		e = &none;
	}
	fill(c, e, m, class, out);
}
