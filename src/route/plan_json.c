/* A plan as JSON.  Pure. */
#include "route/plan.h"

#include <math.h>

static void add_bool(struct buf *out, const char *key, bool x)
{
	buf_addf(out, ",\"%s\":%s", key, x ? "true" : "false");
}

static void add_features(struct buf *out, const struct features *f)
{
	buf_addf(out, "\"features\":{\"tokens\":%d", f->prompt_tokens);
	add_bool(out, "images", f->nimages > 0);
	add_bool(out, "tools", f->tools);
	add_bool(out, "structured", f->structured);
	buf_add_json_text(out, "class", request_class_name(f->class));
	buf_add_json_text(out, "client", f->client);
	buf_add_json_text(out, "code", f->ncodes ? f->codes[0] : NULL);
	add_bool(out, "private", f->is_private);
	buf_addc(out, '}');
}

static const char *provider_name(const struct candidate *c, char *out, size_t bytes)
{
	if (c->provider)
		return c->provider->name;
	if (!c->upstream)
		return "local";
	snprintf(out, bytes, "%.*s", (int)(c->upstream - 1 - c->model), c->model);
	return out;
}

static void add_candidate(struct buf *out, const struct candidate *c)
{
	char name[256];

	buf_addc(out, '{');
	buf_add_json_text(out, "model", c->model);
	buf_add_json_text(out, "provider", provider_name(c, name, sizeof name));
	add_bool(out, "use", c->use);
	buf_add_json_text(out, "why", c->why);
	buf_add_json_number(out, "predicted_ttft_ms", c->ttft_ms >= 0, c->ttft_ms, 3);
	buf_add_json_number(out, "predicted_usd", c->usd >= 0, c->usd, 9);
	buf_add_json_number(out, "strength", c->strength > 0, c->strength, 0);
	buf_add_json_number(out, "score", !isnan(c->score), c->score, 4);
	buf_add_json_number(out, "ctx", c->ctx > 0, c->ctx, 0);
	buf_addc(out, '}');
}

void plan_json(const struct plan *p, const struct features *f, struct buf *out)
{
	buf_addc(out, '{');
	buf_add_json_text(out, "model", p->asked);
	buf_add_json_text(out, "route", p->route);
	buf_add_json_text(out, "rule", p->rule);
	buf_addc(out, ',');
	add_features(out, f);
	buf_adds(out, ",\"candidates\":[");
	for (int i = 0; i < p->n; i++) {
		buf_adds(out, i ? "," : "");
		add_candidate(out, &p->c[i]);
	}
	buf_adds(out, "],");
	buf_add_json_text(out, "chosen", p->nused ? p->c[0].model : NULL);
	buf_add_json_text(out, "reason", p->nused ? p->reason : p->error.text);
	buf_addc(out, '}');
}
