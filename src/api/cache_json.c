/* The cache's views as JSON.  Loop thread.
 *
 * Numbers that are not known are null and not 0: a reader must be able to tell "nothing" from "nobody
 * has measured it". */
#include "api/cache_json.h"

static void add_bytes(struct buf *out, const char *key, uint64_t bytes)
{
	buf_addf(out, ",\"%s\":%llu", key, (unsigned long long)bytes);
}

static void add_known_bytes(struct buf *out, const char *key, uint64_t bytes)
{
	if (bytes)
		add_bytes(out, key, bytes);
	else
		buf_addf(out, ",\"%s\":null", key);
}

static void add_sizes(struct buf *out, const char *key, const struct cache_sizes *s)
{
	if (!s->weights_bytes && !s->kv_bytes) {
		buf_addf(out, ",\"%s\":null", key);
		return;
	}
	buf_addf(
		out,
		",\"%s\":{\"weights_bytes\":%llu,\"kv_bytes\":%llu,\"parked_bytes\":%llu}",
		key, (unsigned long long)s->weights_bytes,
		(unsigned long long)s->kv_bytes, (unsigned long long)s->parked_bytes);
}

static void add_names(struct buf *out, const struct cache_row *r)
{
	int n = r->nnames < CACHE_ROW_NAMES ? r->nnames : CACHE_ROW_NAMES;

	buf_adds(out, ",\"names\":[");
	for (int i = 0; i < n; i++) {
		buf_adds(out, i ? "," : "");
		buf_add_json(out, r->names[i], strlen(r->names[i]));
	}
	buf_adds(out, "]");
}

void cache_json_row(struct buf *out, const struct cache_row *r)
{
	buf_adds(out, "{\"name\":");
	buf_add_json(out, r->name, strlen(r->name));
	add_names(out, r);
	buf_addf(out, ",\"state\":\"%s\",\"tier\":\"%s\",\"backend\":\"%s\"",
		 cache_state_name(r->state), cache_tier_name(r->state),
		 cache_backend_name(r->backend));
	add_bytes(out, "bytes", r->bytes);
	add_bytes(out, "parked_bytes", r->parked_bytes);
	add_sizes(out, "predicted", &r->predicted);
	add_sizes(out, "measured", &r->measured);
	buf_add_json_number(out, "load_ms", r->load_ms > 0, r->load_ms, 3);
	buf_add_json_number(out, "promote_ms", r->promote_ms > 0, r->promote_ms, 3);
	buf_addf(out,
		 ",\"leases\":%d,\"leases_by_class\":{\"interactive\":%d,"
		 "\"completion\":%d,\"batch\":%d},\"waiters\":%d,\"ctx\":%d,\"slots\":%d",
		 r->leases, r->leases_by_class[CLASS_INTERACTIVE],
		 r->leases_by_class[CLASS_COMPLETION], r->leases_by_class[CLASS_BATCH],
		 r->waiters, r->ctx, r->slots);
	buf_addf(out, ",\"pinned\":%s,\"shared\":%s,\"idle_ms\":%llu",
		 r->pinned ? "true" : "false", r->shared ? "true" : "false",
		 (unsigned long long)r->idle_ms);
	buf_add_json_number(out, "keep_alive_ms", r->keep_alive_ms >= 0,
			    (double)r->keep_alive_ms, 0);
	buf_add_json_number(out, "expires_ms", r->expires_ms >= 0, (double)r->expires_ms,
			    0);
	add_bytes(out, "done_bytes", r->done_bytes);
	add_bytes(out, "total_bytes", r->total_bytes);
	buf_add_json_text(out, "source", r->source);
	buf_add_json_text(out, "error", r->error);
	buf_addc(out, '}');
}

void cache_json_decision(struct buf *out, const struct decision *d)
{
	buf_addf(out, "{\"n\":%llu,\"at_ms\":%lld,\"kind\":\"%s\"",
		 (unsigned long long)d->n, (long long)d->at_unix_ms,
		 decision_name(d->kind));
	buf_add_json_text(out, "model", d->model);
	buf_add_json_text(out, "text", d->text);
	add_known_bytes(out, "predicted_bytes", d->predicted_bytes);
	add_known_bytes(out, "actual_bytes", d->actual_bytes);
	buf_add_json_number(out, "predicted_ms", d->predicted_ms > 0, d->predicted_ms, 3);
	buf_add_json_number(out, "actual_ms", d->actual_ms > 0, d->actual_ms, 3);
	buf_addc(out, '}');
}

static void add_totals(struct buf *out, const struct cache_totals *t)
{
	const struct {
		const char *name;
		uint64_t n;
	} counts[] = {{"loads", t->loads},
		      {"promotions", t->promotions},
		      {"load_failures", t->load_failures},
		      {"cancelled", t->cancelled},
		      {"evictions", t->evictions},
		      {"parks", t->parks},
		      {"expired", t->expired},
		      {"hits", t->hits},
		      {"misses", t->misses},
		      {"refused", t->refused},
		      {"timeouts", t->timeouts},
		      {"bytes_loaded", t->bytes_loaded},
		      {"bytes_promoted", t->bytes_promoted}};

	buf_addf(out, ",\"totals\":{\"waiters\":%d,\"leases\":%d", t->waiters, t->leases);
	for (size_t i = 0; i < ARRAY_LEN(counts); i++)
		add_bytes(out, counts[i].name, counts[i].n);
	buf_addc(out, '}');
}

void cache_json_members(struct buf *out, const struct cache *c)
{
	struct cache_totals t;
	struct cache_row r;
	bool first = true;

	cache_totals(c, &t);
	buf_addf(out, "\"policy\":\"%s\"", policy_name(cache_settings(c)->policy));
	add_bytes(out, "budget_bytes", t.budget_bytes);
	add_bytes(out, "used_bytes", t.used_bytes);
	add_bytes(out, "parked_budget_bytes", t.parked_budget_bytes);
	add_bytes(out, "parked_bytes", t.parked_bytes);
	add_known_bytes(out, "free_bytes", t.free_bytes == UINT64_MAX ? 0 : t.free_bytes);
	add_totals(out, &t);
	buf_adds(out, ",\"models\":[");
	for (int i = 0; i < cache_count(c); i++) {
		cache_row(c, i, &r);
		if (r.state == CACHE_DISK && r.waiters == 0)
			continue;
		buf_adds(out, first ? "" : ",");
		cache_json_row(out, &r);
		first = false;
	}
	buf_addc(out, ']');
}
