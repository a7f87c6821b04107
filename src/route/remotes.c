/* Remote providers as a set.  Loop thread.
 *
 * What a reader may question: why a retired provider waits for jobs that may never have asked it.  A
 * plan names providers for later tries, and asking every plan would tie the two together; the oldest
 * job's age says enough. */
#include "route/remotes.h"

#include "base/clock.h"
#include "base/log.h"
#include "providers/remote.h"

enum { RETIRE_POLL_MS = 500 };

struct retired {
	struct provider *provider; /* owned */
	uint64_t at_ms;
};

struct remotes {
	uv_loop_t *loop;
	struct fetch *fetch;
	remotes_oldest_fn *oldest;
	void *arg;
	uv_timer_t timer;
	struct provider **list; /* owned, and what it holds */
	int n;
	struct retired *retired; /* owned */
	int nretired, closing;   /* closing: providers whose close() has not answered */
	bool is_closing;
	void (*done)(void *arg); /* when is_closing */
	void *done_arg;
};

static void on_timer_closed(uv_handle_t *h)
{
	struct remotes *r = h->data;
	void (*done)(void *arg) = r->done;
	void *arg = r->done_arg;

	free(r->list);
	free(r->retired);
	free(r);
	done(arg);
}

static void end_when_all_are_gone(struct remotes *r)
{
	if (r->is_closing && !r->closing)
		uv_close((uv_handle_t *)&r->timer, on_timer_closed);
}

static void on_provider_closed(void *arg)
{
	struct remotes *r = arg;

	r->closing--;
	end_when_all_are_gone(r);
}

static void close_provider(struct remotes *r, struct provider *p)
{
	r->closing++;
	p->ops->close(p, on_provider_closed, r);
}

static void on_timer(uv_timer_t *t)
{
	struct remotes *r = t->data;
	uint64_t oldest = r->oldest(r->arg);
	int left = 0;

	for (int i = 0; i < r->nretired; i++) {
		if (oldest > r->retired[i].at_ms)
			close_provider(r, r->retired[i].provider);
		else
			r->retired[left++] = r->retired[i];
	}
	r->nretired = left;
	if (!left)
		uv_timer_stop(t);
}

static void retire(struct remotes *r, struct provider *p)
{
	log_info("provider '%s' has left the configuration, or changed", p->name);
	r->retired = xrealloc(r->retired, (size_t)(r->nretired + 1) * sizeof *r->retired);
	r->retired[r->nretired++] = (struct retired){p, clock_mono_ms()};
	uv_timer_start(&r->timer, on_timer, RETIRE_POLL_MS, RETIRE_POLL_MS);
}

static const struct config_provider *section(const struct config *c, const char *name)
{
	for (int i = 0; c && i < c->nproviders; i++)
		if (!strcmp(c->providers[i].name, name))
			return &c->providers[i];
	return NULL;
}

/* The listed one of that name if its section is what it was; taken out of the list. */
static struct provider *take_unchanged(struct remotes *r, const struct config *old,
				       const struct config_provider *p)
{
	const struct config_provider *was = section(old, p->name);

	for (int i = 0; was && config_provider_equal(was, p) && i < r->n; i++)
		if (r->list[i] && !strcmp(r->list[i]->name, p->name)) {
			struct provider *found = r->list[i];

			r->list[i] = NULL;
			return found;
		}
	return NULL;
}

static struct provider *make(struct remotes *r, const struct config_provider *c)
{
	struct err e = {0};
	struct provider *p = provider_remote_new(r->loop, r->fetch, c, &e);

	if (!p)
		log_error("provider '%s' is off: %s", c->name, e.text);
	return p;
}

struct remotes *remotes_new(uv_loop_t *loop, struct fetch *f, remotes_oldest_fn *oldest,
			    void *arg)
{
	struct remotes *r = xcalloc(1, sizeof *r);

	*r = (struct remotes){.loop = loop, .fetch = f, .oldest = oldest, .arg = arg};
	uv_timer_init(loop, &r->timer);
	r->timer.data = r;
	return r;
}

void remotes_set(struct remotes *r, const struct config *old, const struct config *next)
{
	struct provider **list = xcalloc((size_t)next->nproviders + 1, sizeof *list);
	int n = 0;

	for (int i = 0; i < next->nproviders; i++) {
		struct provider *p = take_unchanged(r, old, &next->providers[i]);

		if (!p)
			p = make(r, &next->providers[i]);
		if (p)
			list[n++] = p;
	}
	for (int i = 0; i < r->n; i++)
		if (r->list[i])
			retire(r, r->list[i]);
	free(r->list);
	r->list = list;
	r->n = n;
}

struct provider **remotes_list(const struct remotes *r, int *n)
{
	*n = r->n;
	return r->list;
}

void remotes_close(struct remotes *r, void (*done)(void *arg), void *arg)
{
	r->is_closing = true;
	r->done = done;
	r->done_arg = arg;
	r->closing++; /* ours, so that the last close below does not end it within the loop */
	for (int i = 0; i < r->n; i++)
		close_provider(r, r->list[i]);
	for (int i = 0; i < r->nretired; i++)
		close_provider(r, r->retired[i].provider);
	r->n = r->nretired = 0;
	r->closing--;
	end_when_all_are_gone(r);
}
