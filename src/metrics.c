/* One table of names; the values are gathered from the subsystems at each scrape.  Loop thread. */
#include "metrics.h"

static void head(struct buf *out, const char *name, const char *type, const char *help)
{
	buf_addf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void one(struct buf *out, const char *name, const char *type, const char *help,
		double value)
{
	head(out, name, type, help);
	buf_addf(out, "%s %.15g\n", name, value);
}

static void labelled(struct buf *out, const char *name, const char *label,
		     const char *value, double v)
{
	buf_addf(out, "%s{%s=", name, label);
	buf_add_json(out, value,
		     strlen(value)); /* same escapes as a label value, for our names */
	buf_addf(out, "} %.15g\n", v);
}

static void requests(struct buf *out, const struct dispatch_stats *s)
{
	const char *name = "hob_requests_total";

	head(out, name, "counter", "Prompts by how they ended.");
	labelled(out, name, "outcome", "finished", (double)s->finished);
	labelled(out, name, "outcome", "failed", (double)s->failed);
	labelled(out, name, "outcome", "cancelled", (double)s->cancelled);
	name = "hob_errors_total";
	head(out, name, "counter", "Failed prompts by error code.");
	for (int i = 1; i < ERR_NR; i++)
		if (s->failed_by_code[i])
			labelled(out, name, "code", err_info((enum err_code)i)->name,
				 (double)s->failed_by_code[i]);
	name = "hob_tokens_total";
	head(out, name, "counter", "Tokens by kind.");
	labelled(out, name, "kind", "prompt", (double)s->tokens_in);
	labelled(out, name, "kind", "cached", (double)s->tokens_cached);
	labelled(out, name, "kind", "completion", (double)s->tokens_out);
}

static void tries(struct buf *out, const char *name, const char *help,
		  const uint64_t by_code[ERR_NR])
{
	head(out, name, "counter", help);
	for (int i = 1; i < ERR_NR; i++)
		if (by_code[i])
			labelled(out, name, "code", err_info((enum err_code)i)->name,
				 (double)by_code[i]);
}

static void first_token(struct buf *out, const struct dispatch_stats *s)
{
	const char *name = "hob_time_to_first_token_seconds";
	uint64_t sum = 0;

	head(out, name, "histogram", "From the request to its first token.");
	for (int i = 0; i < DISPATCH_TTFT_BUCKETS; i++) {
		sum += s->ttft[i];
		if (i < DISPATCH_TTFT_BUCKETS - 1)
			buf_addf(out, "%s_bucket{le=\"%g\"} %llu\n", name,
				 dispatch_ttft_bounds_s[i], (unsigned long long)sum);
		else
			buf_addf(out, "%s_bucket{le=\"+Inf\"} %llu\n", name,
				 (unsigned long long)sum);
	}
	buf_addf(out, "%s_sum %.15g\n%s_count %llu\n", name, s->ttft_sum_s, name,
		 (unsigned long long)s->ttft_count);
}

static struct cache_totals totals(const struct cache *c)
{
	struct cache_totals t;

	cache_totals(c, &t);
	return t;
}

static void cache(struct buf *out, const struct cache *c)
{
	struct cache_totals t = totals(c);
	struct cache_row row;
	const struct {
		const char *name, *kind, *help;
		uint64_t value;
	} rows[] = {
		{"hob_cache_budget_bytes", "gauge", "Bytes that local models may hold.",
		 t.budget_bytes},
		{"hob_cache_used_bytes", "gauge", "Bytes that local models hold.",
		 t.used_bytes},
		{"hob_cache_parked_budget_bytes", "gauge",
		 "Bytes that parked models may hold.", t.parked_budget_bytes},
		{"hob_cache_parked_bytes", "gauge", "Bytes that parked models hold.",
		 t.parked_bytes},
		{"hob_cache_hits_total", "counter", "Prompts whose model was warm.",
		 t.hits},
		{"hob_cache_misses_total", "counter", "Prompts whose model was not.",
		 t.misses},
		{"hob_cache_refused_total", "counter",
		 "Prompts refused: no room, or a full queue.", t.refused},
		{"hob_cache_timeouts_total", "counter",
		 "Prompts that waited to their deadline.", t.timeouts},
		{"hob_cache_loads_total", "counter", "Models loaded from disk.", t.loads},
		{"hob_cache_promotions_total", "counter", "Parked models brought back.",
		 t.promotions},
		{"hob_cache_load_failures_total", "counter", "Loads that failed.",
		 t.load_failures},
		{"hob_cache_evictions_total", "counter", "Models evicted.", t.evictions},
		{"hob_cache_expired_total", "counter", "Models whose keep-alive ran out.",
		 t.expired},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		one(out, rows[i].name, rows[i].kind, rows[i].help, (double)rows[i].value);
	one(out, "hob_waiting", "gauge", "Prompts that wait for a model.", t.waiters);
	head(out, "hob_resident_bytes", "gauge", "Bytes by local model.");
	for (int i = 0; i < cache_count(c); i++) {
		cache_row(c, i, &row);
		if (row.bytes)
			labelled(out, "hob_resident_bytes", "model", row.name,
				 (double)row.bytes);
	}
}

static void context(struct buf *out, const struct dispatch_stats *s)
{
	const char *name = "hob_summaries_total";

	head(out, name, "counter",
	     "Summaries of what no longer fits, by how they ended.");
	labelled(out, name, "result", "done", (double)s->summaries_done);
	labelled(out, name, "result", "failed", (double)s->summaries_failed);
	one(out, "hob_context_dropped_messages_total", "counter",
	    "Messages of histories that were left out because they did not fit.",
	    (double)s->context_dropped);
}

static void store(struct buf *out, const struct store *s)
{
	struct store_figures f;

	store_figures(s, &f);
	one(out, "hob_store_bytes", "gauge", "Bytes of the conversations' database.",
	    (double)f.bytes);
	one(out, "hob_store_conversations", "gauge", "Conversations that are kept.",
	    (double)f.conversations);
	one(out, "hob_store_messages", "gauge", "Messages that are kept.",
	    (double)f.messages);
	one(out, "hob_store_evicted_total", "counter",
	    "Conversations that were forgotten to stay within the limits.",
	    (double)f.evicted);
}

void metrics_text(const struct metrics_view *v, struct buf *out)
{
	requests(out, v->dispatch);
	first_token(out, v->dispatch);
	one(out, "hob_running", "gauge", "Prompts that run or wait.",
	    v->dispatch->running);
	tries(out, "hob_retries_total",
	      "Tries of the same model again before a first token, by what had failed.",
	      v->dispatch->retried_by_code);
	tries(out, "hob_fallbacks_total",
	      "Moves to the next model before a first token, by what had failed.",
	      v->dispatch->fallbacks_by_code);
	cache(out, v->cache);
	context(out, v->dispatch);
	if (v->store)
		store(out, v->store);
	one(out, "hob_engine_restarts_total", "counter",
	    "Unexpected deaths of the engine.", v->engine_restarts);
	one(out, "hob_http_requests_total", "counter", "HTTP requests.",
	    (double)v->requests);
	one(out, "hob_connections", "gauge", "Open client connections.", v->connections);
	one(out, "hob_uptime_seconds", "gauge", "Since the daemon started.",
	    (double)v->uptime_ms / 1000);
}
