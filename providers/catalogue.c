/* The questions for a provider's models.  Loop thread.
 *
 * A reader may question the missing timer: prices an hour old matter only to who is about to spend
 * money, so the questions hang on use, and an idle daemon sends nothing. */
#include "providers/catalogue.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/paths.h"
#include "providers/replicas.h"

struct catalogue {
	struct remote *r;
	struct remote_models *models; /* owned */
	struct remote_get *get;       /* while one runs, else NULL */
	/* A listing that lacks what a question for each model tells (Ollama). */
	struct remote_model *list; /* owned; NULL: there is none */
	int n, shown;
	uv_timer_t start;
	bool at_start; /* may be asked before anybody uses it */
	int failures;  /* in a row */
	uint64_t rest_until_ms, asked_ms;
	bool asked;
};

static bool has_key(struct remote *r)
{
	struct provider *p = remote_provider(r);
	struct provider_status s = {.has_key = true};

	if (p->ops->status)
		p->ops->status(p, &s);
	return s.has_key;
}

static uint64_t rest_ms(int failures)
{
	int shift = failures < 8 ? failures - 1 : 7;
	uint64_t ms = (uint64_t)CATALOGUE_REST_MS << shift;

	return ms < CATALOGUE_REST_MAX_MS ? ms : CATALOGUE_REST_MAX_MS;
}

static void show_next(struct catalogue *c);

static void take(struct catalogue *c)
{
	log_debug("%s has %d models", remote_who(c->r), c->n);
	remote_models_set(c->models, c->list, c->n);
	c->list = NULL;
}

static void on_shown(void *arg, const cJSON *tree, const struct err *why)
{
	struct catalogue *c = arg;

	c->get = NULL;
	if (tree)
		remote_protocol(c->r)->show(tree, &c->list[c->shown]);
	c->shown++;
	if (why &&
	    why->code != ERR_MODEL) /* what is known so far is better than nothing */
		take(c);
	else
		show_next(c);
}

static void show_next(struct catalogue *c)
{
	const struct remote_protocol *p = remote_protocol(c->r);
	struct buf body = {0};

	if (!p->show_path || c->shown >= c->n || c->shown >= CATALOGUE_SHOWN) {
		take(c);
		return;
	}
	buf_adds(&body, "{\"model\":");
	buf_add_json(&body, c->list[c->shown].id, strlen(c->list[c->shown].id));
	buf_addc(&body, '}');
	c->get = remote_post(c->r, p->show_path, &body, CATALOGUE_MAX_BYTES, on_shown, c);
}

static void on_answer(void *arg, const cJSON *tree, const struct err *why)
{
	struct catalogue *c = arg;
	struct remote_model *list = NULL;
	struct err e = {0};
	int n = 0;

	c->get = NULL;
	if (why)
		e = *why;
	else if (remote_protocol(c->r)->models(tree, &list, &n) < 0)
		err_set(&e, ERR_UPSTREAM, "%s: its list of models is none",
			remote_who(c->r));
	if (!e.code) {
		c->failures = 0;
		c->rest_until_ms = 0;
		c->list = list;
		c->n = n;
		c->shown = 0;
		show_next(c);
		return;
	}
	c->failures++;
	c->rest_until_ms = clock_mono_ms() + rest_ms(c->failures);
	log_debug("models of %s: %s", remote_who(c->r), e.text);
}

static void ask(struct catalogue *c)
{
	const struct remote_protocol *p = remote_protocol(c->r);
	uint64_t now = clock_mono_ms();

	if (c->get || !p->models_path || !p->models || now < c->rest_until_ms)
		return;
	c->asked = true;
	c->asked_ms = now;
	c->get = remote_get(c->r, p->models_path, CATALOGUE_MAX_BYTES, on_answer, c);
}

static void ask_when_old(struct catalogue *c)
{
	int64_t age = remote_models_age_s(c->models);

	if (age < 0 || age > REMOTE_MODELS_FRESH_S)
		ask(c);
}

static void on_start(uv_timer_t *t)
{
	struct catalogue *c = t->data;

	if (c->at_start && remote_is_allowed(c->r) && has_key(c->r))
		ask_when_old(c);
}

struct catalogue *catalogue_new(struct remote *r, const struct config_provider *cfg)
{
	struct catalogue *c = xcalloc(1, sizeof *c);
	char *cache = paths_cache_dir(), *dir = xasprintf("%s/catalogue", cache);

	c->r = r;
	c->models = remote_models_new(remote_loop(r), dir, cfg->name);
	if (cfg->urls.n)
		remote_models_set_origin(c->models, cfg->urls.list[0]);
	/* A command may ask a person for a passphrase: not because a machine was switched on. */
	c->at_start = cfg->warm && !cfg->key_command;
	uv_timer_init(remote_loop(r), &c->start);
	c->start.data = c;
	uv_timer_start(&c->start, on_start, CATALOGUE_START_MS, 0);
	free(cache);
	free(dir);
	return c;
}

static void on_closed(uv_handle_t *h)
{
	free(h->data);
}

void catalogue_free(struct catalogue *c)
{
	if (c->get)
		remote_get_cancel(c->get);
	remote_models_list_free(c->list, c->list ? c->n : 0);
	remote_models_free(c->models);
	uv_close((uv_handle_t *)&c->start, on_closed);
}

void catalogue_warm(struct catalogue *c)
{
	ask_when_old(c);
}

void catalogue_ended(struct catalogue *c, const struct remote_ended *e)
{
	if (e->failed == ERR_MODEL &&
	    (!c->asked || clock_mono_ms() - c->asked_ms >= CATALOGUE_MIN_MS))
		ask(c);
	else if (e->finished)
		ask_when_old(c);
}

const struct remote_models *catalogue_models(const struct catalogue *c)
{
	return c->models;
}

int catalogue_max_output(const struct catalogue *c, const char *model)
{
	const struct remote_model *m = remote_models_find(c->models, model);

	return m ? m->max_output : 0;
}

/* ---- as extras */

static void *x_open(struct remote *r, const struct config_provider *c)
{
	return catalogue_new(r, c);
}

static void x_close(void *x)
{
	catalogue_free(x);
}

static int x_max_output(void *x, const char *model)
{
	return catalogue_max_output(x, model);
}

static void x_ended(void *x, const struct remote_ended *e)
{
	catalogue_ended(x, e);
}

static void x_warm(void *x)
{
	catalogue_warm(x);
}

static const struct remote_models *x_models(void *x)
{
	return catalogue_models(x);
}

static void x_details(void *x, struct buf *out)
{
	struct catalogue *c = x;

	buf_adds(out, "\"quota\":null,\"replicas\":");
	replicas_json(remote_replicas(c->r), out);
}

const struct remote_extras catalogue_extras = {
	.open = x_open,
	.close = x_close,
	.max_output = x_max_output,
	.ended = x_ended,
	.warm = x_warm,
	.models = x_models,
	.details_json = x_details,
};
