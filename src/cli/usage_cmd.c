/* hob usage: what remote models cost, and how much of the caps is left.
 *
 * Main thread.  The rows are as the daemon gives them; the total is added up here from integers of 1e-9 USD,
 * so that it is the sum of what is printed above it. */
#include <math.h>
#include "cli/listing.h"

enum { OPT_JSON, OPT_NO_START, OPT_DAYS, OPT_BY };

static const struct args_option options[] = {
	[OPT_JSON] = {"json", 0, NULL, "print the daemon's JSON"},
	[OPT_NO_START] = {"no-start", 0, NULL,
			  "fail (status 4) when the daemon is not running"},
	[OPT_DAYS] = {"days", 'd', "N", "of the last N days, today among them; 30"},
	[OPT_BY] = {"by", 'b', "WHAT",
		    "sum by model, day, provider, conversation; several with commas; "
		    "model,day"},
};

static const struct args_spec spec = {
	.command = "usage",
	.usage = "[OPTION]...",
	.summary = "Shows what was spent on remote models, and the caps.",
	.options = options,
	.noptions = (int)ARRAY_LEN(options),
	.notes =
		"ESTIMATED is the part of COST that the provider has not confirmed: answers that were\n"
		"cancelled or interrupted.  Days are those of local time.  doc/money.md says more.",
};

struct query {
	struct listing l;
	int64_t days;
	const char *by; /* NULL: the daemon's default */
};

/* True when the command may go on. */
static bool query_args(struct query *q, int argc, char **argv)
{
	struct args a;
	const char *value;
	int option;
	bool ok = true;

	q->l.spec = &spec;
	args_init(&a, &spec, argc, argv);
	while (ok && (option = args_next(&a, &value)) >= 0) {
		q->l.json |= option == OPT_JSON;
		q->l.no_start |= option == OPT_NO_START;
		if (option == OPT_DAYS)
			ok = args_int(&a, OPT_DAYS, value, 1, 3660, &q->days);
		if (option == OPT_BY)
			q->by = value;
	}
	if (!ok || option == ARGS_STOP)
		q->l.status = a.status;
	else if (argc > a.first)
		q->l.status = args_usage(&spec, "there are no operands");
	else if (q->by && strspn(q->by, "abcdefghijklmnopqrstuvwxyz,") != strlen(q->by))
		q->l.status = args_usage(
			&spec, "--by %s: model, day, provider, conversation", q->by);
	else
		return true;
	return false;
}

/* ---- amounts */

static int64_t nano(const cJSON *row, const char *key)
{
	double usd = 0;

	json_double(row, key, 0, 1e9, &usd, NULL);
	return llround(usd * 1e9);
}

/* At least two decimals, and as many as it has up to six. */
static char *cell_usd(int64_t n)
{
	char text[40];
	int len;

	if (n > 0 && n < 500)
		return xstrdup("<0.000001");
	len = snprintf(text, sizeof text, "%.6f", (double)n / 1e9);
	while (text[len - 1] == '0' && text[len - 3] != '.')
		len--;
	return xstrndup(text, (size_t)len);
}

static char *cell_estimated(int64_t n)
{
	return n ? cell_usd(n) : xstrdup("-");
}

/* ---- tables */

struct column {
	const char *key, *head;
};

static const struct column named[] = {
	{"day", "DAY"},
	{"provider", "PROVIDER"},
	{"model", "MODEL"},
	{"conversation", "CONVERSATION"},
};

enum { NAMED = ARRAY_LEN(named), COLUMNS = NAMED + 6 };

/* The names that the rows have, then the numbers: the count of columns. */
static int heads(const cJSON *row, const char *head[COLUMNS], bool right[COLUMNS],
		 bool shown[NAMED])
{
	static const char *const numbers[] = {"REQUESTS", "IN",       "CACHED",
					      "OUT",      "COST USD", "ESTIMATED"};
	int n = 0;

	for (size_t i = 0; i < NAMED; i++) {
		shown[i] = cJSON_HasObjectItem(row, named[i].key);
		if (shown[i])
			head[n++] = named[i].head;
	}
	for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
		right[n] = true;
		head[n++] = numbers[i];
	}
	return n;
}

static void add_row(struct table *t, const cJSON *row, const bool shown[NAMED])
{
	for (size_t i = 0; i < NAMED; i++)
		if (shown[i])
			table_add(t, cell_string(row, named[i].key));
	table_add(t, cell_int(row, "requests"));
	table_add(t, cell_int(row, "tokens_in"));
	table_add(t, cell_int(row, "tokens_cached"));
	table_add(t, cell_int(row, "tokens_out"));
	table_add(t, cell_usd(nano(row, "cost_usd")));
	table_add(t, cell_estimated(nano(row, "estimated_usd")));
}

static void print_total(int64_t cost, int64_t estimated, int64_t unpriced)
{
	char *sum = cell_usd(cost), *open = cell_usd(estimated);

	printf("total %s USD", sum);
	if (estimated)
		printf(", of which %s are estimated", open);
	if (unpriced)
		printf("; the price of %lld requests is unknown and not in it",
		       (long long)unpriced);
	printf("\n");
	free(sum);
	free(open);
}

static void print_rows(const cJSON *tree)
{
	const cJSON *row, *rows = listing_array(tree, "rows");
	const char *head[COLUMNS];
	bool right[COLUMNS] = {false}, shown[NAMED];
	int64_t cost = 0, estimated = 0, unpriced = 0;
	struct table t = {0};
	int n;

	if (!cJSON_GetArraySize(rows)) {
		printf("no remote model was used in that time\n");
		return;
	}
	n = heads(cJSON_GetArrayItem(rows, 0), head, right, shown);
	table_head(&t, head, n);
	cJSON_ArrayForEach(row, rows)
	{
		if (t.ncells + COLUMNS < TABLE_MAX_CELLS)
			add_row(&t, row, shown);
		cost += nano(row, "cost_usd");
		estimated += nano(row, "estimated_usd");
		unpriced += listing_int(row, "unpriced", 0);
	}
	table_print(&t, n, right);
	print_total(cost, estimated, unpriced);
}

static void print_caps(const cJSON *tree)
{
	static const char *const head[] = {"CAP", "LIMIT USD", "SPENT", "RESERVED",
					   "STATE"};
	static const bool right[] = {false, true, true, true, false};
	const cJSON *cap, *caps = listing_array(tree, "caps");
	struct table t = {0};

	if (!cJSON_GetArraySize(caps)) {
		printf("no caps: budget {} of hob.conf sets them\n");
		return;
	}
	printf("\n");
	table_head(&t, head, (int)ARRAY_LEN(head));
	cJSON_ArrayForEach(cap, caps)
	{
		if (t.ncells + COLUMNS >= TABLE_MAX_CELLS)
			break;
		table_add(&t, cell_string(cap, "scope"));
		table_add(&t, cell_usd(nano(cap, "limit_usd")));
		table_add(&t, cell_usd(nano(cap, "spent_usd")));
		table_add(&t, cell_usd(nano(cap, "reserved_usd")));
		table_add(&t, cell_string(cap, "state"));
	}
	table_print(&t, (int)ARRAY_LEN(head), right);
}

static void print_warning(const cJSON *tree)
{
	const char *text = NULL;

	if (json_string(tree, "warning", &text, NULL) == 1)
		fprintf(stderr, "hob usage: %s\n", text);
}

int cmd_usage(int argc, char **argv)
{
	struct query q = {.days = 30};
	struct buf path = {0};
	cJSON *tree;

	if (!query_args(&q, argc, argv) || !listing_connect(&q.l, true))
		return q.l.status;
	buf_addf(&path, "/v1/hob/usage?days=%lld", (long long)q.days);
	if (q.by)
		buf_addf(&path, "&by=%s", q.by);
	tree = listing_get(&q.l, path.data);
	buf_free(&path);
	if (tree && q.l.json) {
		listing_print(tree);
	} else if (tree) {
		print_rows(tree);
		print_caps(tree);
		print_warning(tree);
	}
	cJSON_Delete(tree);
	return listing_end(&q.l);
}
