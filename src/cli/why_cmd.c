/* hob why: what was decided and why, by the cache and by the routes, newest first.
 *
 * Main thread.  Does not start a daemon: without one there is nothing to explain.  The two lists come from
 * two places; they are one table here, because "why did this answer come from there" often ends in "because
 * that model had just been evicted". */
#include "base/clock.h"
#include "cli/listing.h"

static const struct args_spec spec = {
	.command = "why",
	.usage = "[--json] [MODEL]",
	.summary =
		"Explains the last answers, loads, evictions and refusals, of all models or of one.",
	.options = listing_options,
	.noptions = 1,
	.notes =
		"WHAT: answer (where a prompt went), or what the cache did.  PREDICTED, MEASURED: "
		"memory;\n"
		"EXPECTED, TOOK: time; of an answer, to its first token and in all.",
};

struct row {
	const cJSON *d; /* borrowed */
	bool is_answer;
	int64_t at_ms;
};

static char *cell_ms(const cJSON *d, const char *key)
{
	double ms = 0;

	if (json_double(d, key, 0, 1e12, &ms, NULL) != 1)
		return xstrdup("-");
	return xasprintf(ms < 10 ? "%.1f ms" : "%.0f ms", ms);
}

/* "smart: route 'smart': qwen3:8b is first; tried openrouter/x: busy; failed: ..." */
static char *cell_answer(const cJSON *d)
{
	const cJSON *a, *attempts = listing_array(d, "attempts");
	char *asked = cell_string(d, "asked"), *reason = cell_string(d, "reason");
	char *outcome = cell_string(d, "outcome"), *error = cell_string(d, "error"),
	     *cell;
	struct buf out = {0};

	buf_addf(&out, "%s: ", asked);
	if (strcmp(reason, "-"))
		buf_addf(&out, "%s; ", reason);
	cJSON_ArrayForEach(a, attempts)
	{
		char *model = cell_string(a, "model"), *why = cell_string(a, "error");

		buf_addf(&out, "tried %s: %s; ", model, why);
		free(model);
		free(why);
	}
	buf_addf(&out, "%s", outcome);
	if (strcmp(error, "-"))
		buf_addf(&out, ": %s", error);
	free(asked);
	free(reason);
	free(outcome);
	free(error);
	cell = xstrdup(out.data);
	buf_free(&out);
	return cell;
}

static void add_answer(struct table *t, const cJSON *d)
{
	table_add(t, xstrdup("answer"));
	table_add(t, cell_string(d, "model"));
	table_add(t, xstrdup("-"));
	table_add(t, xstrdup("-"));
	table_add(t, cell_ms(d, "ttft_ms"));
	table_add(t, cell_ms(d, "total_ms"));
	table_add(t, cell_answer(d));
}

static void add_decision(struct table *t, const cJSON *d)
{
	table_add(t, cell_string(d, "kind"));
	table_add(t, cell_string(d, "model"));
	table_add(t, cell_size(listing_int(d, "predicted_bytes", 0)));
	table_add(t, cell_size(listing_int(d, "actual_bytes", 0)));
	table_add(t, cell_ms(d, "predicted_ms"));
	table_add(t, cell_ms(d, "actual_ms"));
	table_add(t, cell_string(d, "text"));
}

static int newest_first(const void *a, const void *b)
{
	const struct row *x = a, *y = b;

	if (x->at_ms != y->at_ms)
		return x->at_ms < y->at_ms ? 1 : -1;
	return x->d < y->d ? -1 : x->d > y->d;
}

static int gather(const cJSON *tree, bool is_answer, struct row *rows, int n, int max)
{
	const cJSON *d;

	cJSON_ArrayForEach(d, listing_array(tree, "decisions"))
	{
		if (n < max)
			rows[n++] =
				(struct row){d, is_answer, listing_int(d, "at_ms", 0)};
	}
	return n;
}

static void print_both(const cJSON *cache, const cJSON *answers)
{
	static const char *const head[] = {"WHEN",     "WHAT",     "MODEL", "PREDICTED",
					   "MEASURED", "EXPECTED", "TOOK",  "WHY"};
	static const bool right[] = {false, false, false, true, true, true, true, false};
	struct row rows[64];
	struct table t = {0};
	int n = gather(cache, false, rows, 0, (int)ARRAY_LEN(rows));

	n = gather(answers, true, rows, n, (int)ARRAY_LEN(rows));
	if (!n) {
		printf("nothing was decided since the daemon started\n");
		return;
	}
	qsort(rows, (size_t)n, sizeof *rows, newest_first);
	table_head(&t, head, (int)ARRAY_LEN(head));
	for (int i = 0; i < n; i++) {
		table_add(&t, cell_age((clock_unix_ms() - rows[i].at_ms) / 1000));
		(rows[i].is_answer ? add_answer : add_decision)(&t, rows[i].d);
	}
	table_print(&t, (int)ARRAY_LEN(head), right);
}

static cJSON *get(struct listing *l, const char *path, const char *model)
{
	struct buf full = {0};
	cJSON *tree;

	buf_adds(&full, path);
	if (model) {
		buf_adds(&full, "?model=");
		buf_add_escaped(&full, model);
	}
	tree = listing_get(l, full.data);
	buf_free(&full);
	return tree;
}

/* {"decisions": of the cache, "answers": of the routes} */
static void print_json(cJSON *cache, const cJSON *answers)
{
	cJSON_AddItemToObject(cache, "answers",
			      cJSON_Duplicate(listing_array(answers, "decisions"), true));
	listing_print(cache);
}

int cmd_why(int argc, char **argv)
{
	struct listing l = {.spec = &spec};
	const char *model = NULL;
	cJSON *cache, *answers = NULL;

	if (!listing_args(&l, argc, argv, &model) || !listing_connect(&l, false))
		return l.status;
	cache = get(&l, "/v1/hob/cache/decisions", model);
	if (cache)
		answers = get(&l, "/v1/hob/routes/decisions", model);
	if (answers && l.json)
		print_json(cache, answers);
	else if (answers)
		print_both(cache, answers);
	cJSON_Delete(cache);
	cJSON_Delete(answers);
	return listing_end(&l);
}
