/* `hob cache simulate`: a recorded trace under each policy.  Main thread; no daemon is needed.
 *
 * Without options the budgets are those of the configuration, which is what a user wants to compare
 * with; a budget that the configuration leaves open is half of what the system can give now. */
#include "base/duration.h"
#include "base/sysmem.h"
#include "cache/simulate.h"
#include "cli/listing.h"
#include "config.h"

enum { OPT_JSON, OPT_BUDGET, OPT_PARKED, OPT_KEEP_ALIVE };

static const struct args_option options[] = {
	[OPT_JSON] = {"json", 0, NULL, "print one JSON object"},
	[OPT_BUDGET] = {"budget", 'b', "SIZE", "as cache.budget: \"8GiB\""},
	[OPT_PARKED] = {"parked", 'p', "SIZE", "as cache.parked"},
	[OPT_KEEP_ALIVE] = {"keep-alive", 'k', "TIME", "as cache.keep_alive"},
};

static const struct args_spec spec = {
	.command = "cache",
	.usage = "simulate [OPTION]... TRACE",
	.summary = "Replays a recorded trace (cache.trace) under each eviction policy.",
	.options = options,
	.noptions = (int)ARRAY_LEN(options),
	.notes = "Options that are not given come from the configuration.",
};

static uint64_t or_half(uint64_t bytes)
{
	uint64_t free = sysmem_available();

	return bytes ? bytes : free == UINT64_MAX ? 2ull << 30 : free / 2;
}

static bool settings_of_config(struct sim_settings *s)
{
	struct err e = {0};
	struct config *c = config_load(&(struct config_source){0}, &e);

	if (!c) {
		fprintf(stderr, "hob cache: %s\n", e.text);
		return false;
	}
	*s = (struct sim_settings){.budget_bytes = or_half(c->budget_bytes),
				   .parked_budget_bytes = or_half(c->parked_bytes),
				   .reserve_completion_bytes =
					   c->reserve_completion_bytes,
				   .min_stay_ms = (uint64_t)c->min_stay_ms,
				   .keep_alive_ms = c->keep_alive_ms};
	config_free(c);
	return true;
}

static bool read_size(struct args *a, int option, const char *value, uint64_t *out)
{
	if (config_bytes(value, out))
		return true;
	a->status = args_usage(&spec, "--%s %s: not a size such as 8GiB",
			       options[option].name, value);
	return false;
}

/* The trace's name, or NULL and the status set. */
static const char *parse(struct args *a, struct sim_settings *s, bool *json)
{
	const char *value;
	bool fine = true;
	int o;

	while (fine && (o = args_next(a, &value)) >= 0) {
		if (o == OPT_JSON)
			*json = true;
		else if (o == OPT_BUDGET)
			fine = read_size(a, o, value, &s->budget_bytes);
		else if (o == OPT_PARKED)
			fine = read_size(a, o, value, &s->parked_budget_bytes);
		else if (!duration_parse(value, &s->keep_alive_ms))
			fine = (a->status = args_usage(
					&spec, "--keep-alive %s: not a time such as 5m",
					value)) == CLI_OK;
	}
	if (!fine || o == ARGS_STOP)
		return NULL;
	if (a->argc - a->first != 2 || strcmp(a->argv[a->first], "simulate")) {
		a->status = args_usage(&spec, "what is needed: simulate TRACE");
		return NULL;
	}
	return a->argv[a->first + 1];
}

/* ---- output */

static void print_json(const struct sim_trace *t, const struct sim_settings *s,
		       const struct sim_result *r)
{
	printf("{\"requests\":%d,\"models\":%d,\"working_set_bytes\":%llu,"
	       "\"budget_bytes\":%llu,\"parked_budget_bytes\":%llu,\"policies\":{",
	       sim_requests(t), sim_models(t), (unsigned long long)sim_working_set(t),
	       (unsigned long long)s->budget_bytes,
	       (unsigned long long)s->parked_budget_bytes);
	for (int k = 0; k < POLICY_KINDS; k++)
		printf("%s\"%s\":{\"hit_ratio\":%.4f,\"hits\":%llu,\"promotions\":%llu,"
		       "\"loads\":%llu,\"evictions\":%llu,\"refused\":%llu,"
		       "\"bytes_loaded\":%llu,\"bytes_promoted\":%llu,\"waited_ms\":%.1f,"
		       "\"waited_max_ms\":%.1f}",
		       k ? "," : "", policy_name((enum policy_kind)k), r[k].hit_ratio,
		       (unsigned long long)r[k].hits, (unsigned long long)r[k].promotions,
		       (unsigned long long)r[k].loads, (unsigned long long)r[k].evictions,
		       (unsigned long long)r[k].refused,
		       (unsigned long long)r[k].bytes_loaded,
		       (unsigned long long)r[k].bytes_promoted, r[k].waited_ms,
		       r[k].waited_max_ms);
	printf("}}\n");
}

static void print_table(const struct sim_trace *t, const struct sim_settings *s,
			const struct sim_result *r)
{
	static const char *const head[] = {"POLICY", "HITS",    "PROMOTED",
					   "LOADED", "REFUSED", "READ",
					   "MOVED",  "WAITED",  "LONGEST WAIT"};
	static const bool right[] = {false, true, true, true, true,
				     true,  true, true, true};
	char size[RENDER_SIZE_BYTES], budget[RENDER_SIZE_BYTES];
	struct table table = {0};

	printf("%d requests of %d models that take %s together; budget %s\n",
	       sim_requests(t), sim_models(t), render_size(sim_working_set(t), size),
	       render_size(s->budget_bytes, budget));
	table_head(&table, head, (int)ARRAY_LEN(head));
	for (int k = 0; k < POLICY_KINDS; k++) {
		table_add(&table, xstrdup(policy_name((enum policy_kind)k)));
		table_add(&table, xasprintf("%.1f %%", 100 * r[k].hit_ratio));
		table_add(&table, xasprintf("%llu", (unsigned long long)r[k].promotions));
		table_add(&table, xasprintf("%llu", (unsigned long long)r[k].loads));
		table_add(&table, xasprintf("%llu", (unsigned long long)r[k].refused));
		table_add(&table, cell_size((int64_t)r[k].bytes_loaded));
		table_add(&table, cell_size((int64_t)r[k].bytes_promoted));
		table_add(&table, xasprintf("%.1f s", r[k].waited_ms / 1000));
		table_add(&table, xasprintf("%.2f s", r[k].waited_max_ms / 1000));
	}
	table_print(&table, (int)ARRAY_LEN(head), right);
}

int cmd_cache(int argc, char **argv)
{
	struct sim_result results[POLICY_KINDS];
	struct sim_settings s;
	struct sim_trace *t;
	struct err e = {0};
	const char *path;
	bool json = false;
	struct args a;

	args_init(&a, &spec, argc, argv);
	if (!settings_of_config(&s))
		return CLI_USAGE;
	path = parse(&a, &s, &json);
	if (!path)
		return a.status;
	t = sim_read(path, &e);
	if (!t) {
		fprintf(stderr, "hob cache: %s\n", e.text);
		return CLI_FAIL;
	}
	for (int k = 0; k < POLICY_KINDS; k++) {
		s.policy = (enum policy_kind)k;
		sim_run(t, &s, &results[k]);
	}
	(json ? print_json : print_table)(t, &s, results);
	sim_free(t);
	return fflush(stdout) ? CLI_FAIL : CLI_OK;
}
