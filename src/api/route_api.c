/* Routing over HTTP.  Loop thread, no state: each reply is made from the dispatcher's world as it is.
 *
 * The dry run reads the same body and fields as a real prompt and asks the same plan_make(), so that it
 * cannot say anything else than what would happen.  The history of a conversation is not read for it:
 * the store answers later, and a dry run is about this prompt. */
#include "api/route_api.h"

#include "api/openai.h"
#include "route/dispatch_open.h"

enum { DECISIONS_DEFAULT = 20 };

/* ---- explain */

/* "new" and "last" are no conversation yet, or one that only the store knows. */
static const char *conversation_of(const struct request *r)
{
	const char *c = r->conversation;

	return c && strcmp(c, "new") && strcmp(c, "last") ? c : NULL;
}

void route_api_explain(const struct call *call)
{
	struct plan *p = xmalloc(sizeof *p);
	struct openai_params params;
	struct plan_world w;
	struct features f;
	struct err e = {0};
	struct buf out = {0};
	struct request *r = openai_read(call, true, &params, &e);

	if (!r) {
		api_reply_error(call->conn, &e);
		free(p);
		return;
	}
	dispatch_world(call->api->dispatch, &w);
	features_of(r, r->messages, r->nmessages, &f);
	plan_make(p, &w, r, conversation_of(r), r->messages, r->nmessages);
	plan_json(p, &f, &out);
	api_reply_json(call->conn, &out);
	buf_free(&out);
	plan_fini(p);
	free(p);
	request_free(r);
}

/* ---- decisions */

void route_api_decisions(const struct call *call)
{
	struct route_log *log = dispatch_log(call->api->dispatch);
	int limit = DECISIONS_DEFAULT;
	struct buf out = {0};
	char *model;

	if (!api_listing(call, ROUTE_LOG_MAX, &limit, &model))
		return;
	if (log)
		route_log_json(log, model, limit, &out);
	else
		buf_adds(&out, "{\"decisions\":[]}");
	api_reply_json(call->conn, &out);
	buf_free(&out);
	free(model);
}

/* ---- providers */

/* Without what may hold secrets: user and password before '@', and the query. */
static void add_url(struct buf *out, const char *url)
{
	const char *rest = strstr(url, "://"), *at;
	size_t n = strcspn(url, "?#");
	struct buf plain = {0};

	rest = rest ? rest + 3 : url;
	at = memchr(rest, '@', strcspn(rest, "/?#"));
	buf_add(&plain, url, (size_t)(rest - url));
	if (at)
		rest = at + 1;
	if ((size_t)(rest - url) < n)
		buf_add(&plain, rest, n - (size_t)(rest - url));
	buf_add_json_text(out, "url", plain.data);
	buf_free(&plain);
}

/* What its breakers and times come to. */
struct sums {
	int rows, open, samples;
	double ttft_ms; /* sum */
};

static void add_breaker(struct buf *out, const struct health_row *r, bool first)
{
	buf_adds(out, first ? "{" : ",{");
	buf_add_json_text(out, "model", r->model);
	buf_addf(out, ",\"state\":\"%s\",\"failures\":%d,\"retry_in_s\":%.3f,",
		 breaker_state_name(r->state), r->in_a_row,
		 (double)r->retry_in_ms / 1000);
	buf_add_json_text(out, "error", r->error[0] ? r->error : NULL);
	buf_addc(out, '}');
}

static void add_breakers(struct buf *out, const struct health *h, const char *provider,
			 uint64_t now_ms, struct sums *sums)
{
	struct health_row r;

	*sums = (struct sums){0};
	buf_adds(out, ",\"breakers\":[");
	for (int i = 0; h && i < health_count(h); i++) {
		health_row(h, i, now_ms, &r);
		if (strcmp(r.provider, provider))
			continue;
		add_breaker(out, &r, !sums->rows);
		sums->rows++;
		sums->open += r.state == BREAKER_OPEN;
		if (r.ttft_ms >= 0) {
			sums->samples++;
			sums->ttft_ms += r.ttft_ms;
		}
	}
	buf_addc(out, ']');
}

static const char *state_of(const struct plan_world *w, const struct provider *p,
			    const struct provider_status *s, const struct sums *sums)
{
	if (!p || (!p->is_local && (w->local_only || w->config->local_only)))
		return "off";
	if (!s->has_key)
		return "no key";
	return sums->rows && sums->open == sums->rows ? "open" : "ready";
}

static void add_models(struct buf *out, struct provider *p)
{
	const struct remote_models *m = p && p->ops->models ? p->ops->models(p) : NULL;
	int64_t age_s = m ? remote_models_age_s(m) : -1;

	buf_addf(out, ",\"models\":%d", m ? remote_models_count(m) : 0);
	buf_add_json_number(out, "catalogue_age_s", age_s >= 0, (double)age_s, 0);
}

static void add_connections(struct buf *out, const struct provider_status *s)
{
	buf_addf(out,
		 ",\"in_flight\":%d,\"connections\":{\"calls\":%llu,\"new\":%llu,"
		 "\"reused\":%llu,\"http\":",
		 s->in_flight, (unsigned long long)s->calls,
		 (unsigned long long)s->new_connections, (unsigned long long)s->reused);
	if (s->http_version)
		buf_addf(out, "\"%g\"}", s->http_version / 10.0);
	else
		buf_adds(out, "null}");
}

/* p NULL: configured, and not there (local_only). */
static void add_provider(struct buf *out, const struct plan_world *w,
			 const struct config_provider *c, struct provider *p)
{
	const char *name = p ? p->name : c->name;
	struct provider_status s = {.has_key = true};
	struct sums sums;

	if (p && p->ops->status)
		p->ops->status(p, &s);
	buf_addc(out, '{');
	buf_add_json_text(out, "name", name);
	buf_add_json_text(out, "kind", p ? p->ops->kind : c->kind_name);
	buf_addc(out, ',');
	if (s.url || (c && c->urls.n))
		add_url(out, s.url ? s.url : c->urls.list[0]);
	else
		buf_add_json_text(out, "url", NULL);
	buf_addf(out, ",\"local\":%s,", (p ? p->is_local : c->local) ? "true" : "false");
	buf_add_json_text(out, "key", s.key_source);
	add_breakers(out, w->health, name, w->now_ms, &sums);
	buf_add_json_text(out, "state", state_of(w, p, &s, &sums));
	add_models(out, p);
	buf_add_json_number(out, "ttft_ms", sums.samples > 0,
			    sums.samples ? sums.ttft_ms / sums.samples : 0, 3);
	add_connections(out, &s);
	buf_addc(out, ',');
	if (p && p->ops->details_json)
		p->ops->details_json(p, out);
	else
		buf_adds(out, "\"quota\":null,\"replicas\":null");
	buf_add_json_number(out, "spent_today_usd", w->money,
			    w->money ? money_spent_today(w->money, name) : 0, 9);
	buf_addc(out, '}');
}

static const struct config_provider *configured(const struct config *c, const char *name)
{
	for (int i = 0; i < c->nproviders; i++)
		if (!strcmp(c->providers[i].name, name))
			return &c->providers[i];
	return NULL;
}

static bool is_there(const struct plan_world *w, const char *name)
{
	for (int i = 0; i < w->nproviders; i++)
		if (!strcmp(w->providers[i]->name, name))
			return true;
	return false;
}

void route_api_providers(const struct call *call)
{
	struct plan_world w;
	struct buf out = {0};
	int n = 0;

	dispatch_world(call->api->dispatch, &w);
	buf_adds(&out, "{\"providers\":[");
	for (int i = 0; i < w.nproviders; i++) {
		buf_adds(&out, n++ ? "," : "");
		add_provider(&out, &w, configured(w.config, w.providers[i]->name),
			     w.providers[i]);
	}
	for (int i = 0; i < w.config->nproviders; i++) {
		if (is_there(&w, w.config->providers[i].name))
			continue;
		buf_adds(&out, n++ ? "," : "");
		add_provider(&out, &w, &w.config->providers[i], NULL);
	}
	buf_adds(&out, "]}");
	api_reply_json(call->conn, &out);
	buf_free(&out);
}
