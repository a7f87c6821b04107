/* The dispatcher as an object: made, wired to engine and cache, watched, ended.  Loop
 * thread.  The prompts themselves are in dispatch.c. */
#include "route/dispatch_impl.h"

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
	d->providers = xcalloc((size_t)p->nproviders + 1, sizeof *d->providers);
	for (int i = 0; i < p->nproviders; i++)
		d->providers[i] = p->providers[i];
	TAILQ_INIT(&d->jobs);
	if (p->engine) {
		if (!d->parts.local)
			d->parts.local = engine_provider(p->engine);
		d->loaders = loaders_new(p->cache, p->engine, p->llama);
	}
	ASSERT(d->parts.local);
	return d;
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
	while ((j = TAILQ_FIRST(&d->jobs)))
		dispatch_cancel(j); /* its memory goes later, see job_unref() */
	loaders_free(d->loaders);
	free(d->providers);
	free(d);
}

/* ---- views */

const struct dispatch_stats *dispatch_stats(const struct dispatch *d)
{
	return &d->stats;
}
