/* The dispatcher as an object: made, wired to engine and cache, watched, ended.  Loop
 * thread.  The prompts themselves are in dispatch.c. */
#include "route/dispatch_impl.h"

#include <sys/random.h>
#include "base/clock.h"
#include "memory/store_keep.h"

struct provider *dispatch_runner(const struct dispatch *d, const struct cache_lease *l)
{
	return cache_lease_backend(l) == CACHE_CHILD
		       ? llama_servers_provider(d->parts.llama)
		       : d->parts.local;
}

struct dispatch *dispatch_new(const struct dispatch_parts *p)
{
	struct dispatch *d = xcalloc(1, sizeof *d);

	d->parts = *p;
	TAILQ_INIT(&d->jobs);
	d->health = health_new();
	d->sticky = sticky_new();
	d->log = route_log_new();
	d->background = background_new(d);
	retry_budget_init(&d->budget);
	d->listener.late_cost = account_late;
	dispatch_set_providers(d, p->providers, p->nproviders);
	if (p->engine) {
		if (!d->parts.local)
			d->parts.local = engine_provider(p->engine);
		d->loaders = loaders_new(p->cache, p->engine, p->llama);
	}
	ASSERT(d->parts.local);
	return d;
}

void dispatch_set_providers(struct dispatch *d, struct provider *const *list, int n)
{
	struct provider **copy = xcalloc((size_t)n + 1, sizeof *copy);

	/* one that leaves may outlive us */
	for (int i = 0; i < d->parts.nproviders && d->providers; i++)
		d->providers[i]->listener = NULL;
	for (int i = 0; i < n; i++) {
		copy[i] = list[i];
		copy[i]->listener = &d->listener;
	}
	free(d->providers);
	d->providers = copy;
	d->parts.nproviders = n;
}

/* The list has them in the order of their starts. */
uint64_t dispatch_oldest_ms(const struct dispatch *d)
{
	const struct dispatch_job *j = TAILQ_FIRST(&d->jobs);

	return j ? j->start_ms : UINT64_MAX;
}

void dispatch_set_config(struct dispatch *d, const struct config *c)
{
	d->parts.config = c;
}

void dispatch_free(struct dispatch *d)
{
	struct dispatch_job *j;

	if (!d)
		return;
	background_close(d);
	while ((j = TAILQ_FIRST(&d->jobs)))
		dispatch_cancel(j); /* its memory goes later, see job_unref() */
	bridges_free(d);
	for (int i = 0; i < d->parts.nproviders; i++)
		d->providers[i]->listener = NULL;
	loaders_free(d->loaders);
	health_free(d->health);
	sticky_free(d->sticky);
	route_log_free(d->log);
	if (d->incognito) /* goes by itself once it has answered what is under way */
		store_close(d->incognito, NULL, NULL);
	free(d->providers);
	free(d);
}

/* Jitter needs no secret, only that two daemons differ. */
double dispatch_random(struct dispatch *d)
{
	uint64_t bits = 0;

	if (d->parts.random)
		return d->parts.random(d->parts.arg);
	if (getrandom(&bits, sizeof bits, GRND_NONBLOCK) != (ssize_t)sizeof bits)
		bits = uv_hrtime() * UINT64_C(0x9E3779B97F4A7C15);
	return (double)(bits >> 11) * 0x1p-53;
}

/* ---- views */

static void forecast(void *arg, const struct model *m, enum request_class class,
		     struct local_forecast *out)
{
	const struct dispatch *d = arg;
	struct cache_forecast f;

	cache_forecast(d->parts.cache, m, class, &f);
	*out = (struct local_forecast){.known = true,
				       .resident = f.resident,
				       .too_big = !f.fits,
				       .ctx = f.ctx,
				       .queue_ms = f.wait_ms,
				       .load_ms = f.load_ms};
}

void dispatch_world(struct dispatch *d, struct plan_world *out)
{
	*out = (struct plan_world){.config = d->parts.config,
				   .models = d->parts.models,
				   .providers = d->providers,
				   .nproviders = d->parts.nproviders,
				   .now_ms = clock_mono_ms(),
				   .local_only = d->parts.config->local_only,
				   .forecast = forecast,
				   .health = d->health,
				   .money = d->parts.money,
				   .sticky = d->sticky,
				   .arg = d};
}

struct store *dispatch_incognito(struct dispatch *d, struct err *e)
{
	static const struct store_limits limits = {.max_bytes = INCOGNITO_MAX_BYTES,
						   .max_conversations =
							   INCOGNITO_MAX_CONVERSATIONS};

	if (d->incognito)
		return d->incognito;
	d->incognito = store_open(d->parts.loop, ":memory:", e);
	if (d->incognito)
		store_set_limits(d->incognito, &limits);
	return d->incognito;
}

struct route_log *dispatch_log(struct dispatch *d)
{
	return d->log;
}

const struct dispatch_stats *dispatch_stats(const struct dispatch *d)
{
	return &d->stats;
}
