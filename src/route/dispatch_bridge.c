/* Loads behind answers: while a stand-in answers, the local model that was meant is brought up.
 *
 * Loop thread.  Nobody waits for such a load, and no job owns it: a client that leaves does not
 * stop it, so that the next turn of the conversation finds the model ready.  Class batch, so that
 * it comes after whoever waits. */
#include "route/dispatch_impl.h"

#include "base/clock.h"
#include "base/log.h"

static void bridge_clear(struct bridge *b)
{
	free(b->model);
	*b = (struct bridge){0};
}

static void on_loaded(void *arg, const struct err *e)
{
	struct bridge *b = arg;

	if (e)
		log_warn("%s, loaded behind an answer: %s", b->model, e->text);
	bridge_clear(b);
}

/* A free place, or NULL: it is on its way already, or too many are. */
static struct bridge *place_for(struct dispatch *d, const char *model)
{
	struct bridge *free_one = NULL;

	for (int i = 0; i < DISPATCH_MAX_BRIDGES; i++) {
		struct bridge *b = &d->bridges[i];

		if (b->d && !strcmp(b->model, model))
			return NULL;
		if (!b->d && !free_one)
			free_one = b;
	}
	return free_one;
}

void bridge_load(struct dispatch *d, const char *model)
{
	const struct model *m = models_find(d->parts.models, model);
	struct bridge *b = place_for(d, model);
	struct cache_want want;
	struct model now;

	if (!m || !m->path || !b)
		return;
	now = dispatch_model_now(m);
	want = (struct cache_want){
		.model = &now,
		.class = CLASS_BATCH,
		.deadline_ms =
			clock_mono_ms() + (uint64_t)d->parts.config->queue_timeout_ms,
		.keep_alive_ms = KEEP_ALIVE_DEFAULT,
	};
	*b = (struct bridge){.d = d, .model = xstrdup(model)};
	b->waiter = cache_load(d->parts.cache, &want, on_loaded, b);
}

void bridges_free(struct dispatch *d)
{
	for (int i = 0; i < DISPATCH_MAX_BRIDGES; i++) {
		struct bridge *b = &d->bridges[i];

		if (!b->d)
			continue;
		cache_cancel(b->waiter);
		bridge_clear(b);
	}
}
