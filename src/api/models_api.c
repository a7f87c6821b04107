/* The list of models in OpenAI's shape.  Loop thread, no state.
 *
 * One visitor writes both the list and the one that is asked for by name, so that they cannot differ. */
#include "api/models_api.h"

#include "providers/provider.h"
#include "route/dispatch_open.h"
#include "route/models.h"

struct listing {
	struct buf out;
	const char *only; /* NULL: all */
	int n;
};

/* False: not the one that is asked for. */
static bool begin(struct listing *l, const char *name, int64_t created_s,
		  const char *owner)
{
	if (l->only && strcmp(l->only, name))
		return false;
	if (l->n++)
		buf_addc(&l->out, ',');
	buf_adds(&l->out, "{\"id\":");
	buf_add_json(&l->out, name, strlen(name));
	buf_addf(&l->out,
		 ",\"object\":\"model\",\"created\":%lld,\"owned_by\":\"%s\",\"hob\":{",
		 (long long)created_s, owner);
	return true;
}

static void end(struct listing *l)
{
	buf_adds(&l->out, "}}");
}

static void add_local(struct listing *l, const struct model *m)
{
	if (!begin(l, m->name, m->mtime_ms / 1000, "local"))
		return;
	buf_addf(&l->out, "\"bytes\":%llu,\"ctx\":%d,\"pinned\":%s",
		 (unsigned long long)m->bytes, m->settings.ctx,
		 m->settings.pinned ? "true" : "false");
	end(l);
}

static void add_route(struct listing *l, const char *name, const struct names *candidates)
{
	if (!begin(l, name, 0, "route"))
		return;
	buf_adds(&l->out, "\"candidates\":[");
	for (int i = 0; candidates && i < candidates->n; i++) {
		buf_adds(&l->out, i ? "," : "");
		buf_add_json(&l->out, candidates->list[i], strlen(candidates->list[i]));
	}
	buf_addc(&l->out, ']');
	end(l);
}

/* USD per million tokens; null when it is not known. */
static void add_price(struct buf *out, const char *key, double usd_per_token)
{
	if (usd_per_token >= 0)
		buf_addf(out, ",\"%s\":%.9g", key, usd_per_token * 1e6);
	else
		buf_addf(out, ",\"%s\":null", key);
}

static void add_ability(struct buf *out, const char *key, enum tristate is)
{
	buf_addf(out, ",\"%s\":%s", key,
		 is == UNSAID ? "null"
		 : is == YES  ? "true"
			      : "false");
}

/* What the configuration declares goes before what the provider says; UNSAID and < 0: nothing. */
static double either_price(double declared_per_million, double told)
{
	return declared_per_million >= 0 ? declared_per_million / 1e6 : told;
}

static enum tristate either(enum tristate declared, enum tristate told)
{
	return declared != UNSAID ? declared : told;
}

static void add_remote(struct listing *l, const struct provider *p, const char *name,
		       const struct remote_model *m, const struct config_model *c)
{
	static const struct model_facts unsaid = {.price_input = -1,
						  .price_output = -1,
						  .price_cached = -1,
						  .images = UNSAID,
						  .tools = UNSAID,
						  .structured = UNSAID};
	const struct model_facts *f = c ? &c->facts : &unsaid;
	int ctx = c && c->settings.ctx ? c->settings.ctx : m->ctx;

	if (!begin(l, name, 0, "remote"))
		return;
	buf_adds(&l->out, "\"provider\":");
	buf_add_json(&l->out, p->name, strlen(p->name));
	if (ctx > 0)
		buf_addf(&l->out, ",\"ctx\":%d", ctx);
	add_price(&l->out, "price_input", either_price(f->price_input, m->prices.input));
	add_price(&l->out, "price_output",
		  either_price(f->price_output, m->prices.output));
	add_price(&l->out, "price_cached",
		  either_price(f->price_cached, m->prices.cached));
	add_ability(&l->out, "images", either(f->images, m->images));
	add_ability(&l->out, "tools", either(f->tools, m->tools));
	add_ability(&l->out, "structured", either(f->structured, m->structured));
	end(l);
}

static void add_told(struct listing *l, const struct plan_world *w,
		     const struct provider *p, const struct remote_models *known)
{
	for (int i = 0; known && i < remote_models_count(known); i++) {
		const struct remote_model *m = remote_models_at(known, i);
		char *name = xasprintf("%s/%s", p->name, m->id);

		add_remote(l, p, name, m, config_model(w->config, name));
		free(name);
	}
}

/* Those that only the configuration knows. */
static void add_declared(struct listing *l, const struct plan_world *w,
			 const struct provider *p, const struct remote_models *known)
{
	static const struct remote_model unknown = REMOTE_MODEL_UNKNOWN;
	size_t n = strlen(p->name);

	for (int i = 0; i < w->config->nmodels; i++) {
		const struct config_model *c = &w->config->models[i];

		if (strncmp(c->name, p->name, n) || c->name[n] != '/' ||
		    (known && remote_models_find(known, c->name + n + 1)))
			continue;
		add_remote(l, p, c->name, &unknown, c);
	}
}

static void add_provider(struct listing *l, const struct plan_world *w,
			 struct provider *p)
{
	const struct remote_models *known;

	if (w->local_only && !p->is_local)
		return;
	if (p->ops->warm)
		p->ops->warm(p);
	known = p->ops->models ? p->ops->models(p) : NULL;
	add_told(l, w, p, known);
	add_declared(l, w, p, known);
}

static void add_all(struct listing *l, const struct call *call)
{
	struct models *models = call->api->models;
	struct plan_world w;

	dispatch_world(call->api->dispatch, &w);
	models_rescan(models, w.config);
	for (int i = 0; i < models_count(models); i++)
		add_local(l, models_at(models, i));
	if (!config_route(w.config, "auto") && models_count(models) > 1)
		add_route(l, "auto", NULL);
	for (int i = 0; i < w.config->nroutes; i++)
		add_route(l, w.config->routes[i].name, &w.config->routes[i].candidates);
	for (int i = 0; i < w.nproviders; i++)
		add_provider(l, &w, w.providers[i]);
}

void models_api_list(const struct call *call)
{
	struct listing l = {0};

	buf_adds(&l.out, "{\"object\":\"list\",\"data\":[");
	add_all(&l, call);
	buf_adds(&l.out, "]}");
	api_reply_json(call->conn, &l.out);
	buf_free(&l.out);
}

void models_api_get(const struct call *call)
{
	struct buf name = {0};
	struct listing l = {.only = ""};
	struct err e = {0};

	if (http_unescape(call->param, &name)) {
		l.only = name.data;
		add_all(&l, call);
	}
	if (l.n) {
		api_reply_json(call->conn, &l.out);
	} else {
		err_set(&e, ERR_MODEL, "no model '%.200s'; GET /v1/models lists them",
			l.only);
		api_reply_error(call->conn, &e);
	}
	buf_free(&name);
	buf_free(&l.out);
}
