/* The accounts as JSON: what GET /v1/hob/usage answers.
 *
 * Loop thread.  Rows are gathered, sorted by what they are to be summed by, and summed in runs; amounts are
 * printed from integers, so that what a client adds up is what we counted. */
#include "route/money_impl.h"

static void add_usd(struct buf *out, const char *key, int64_t nano)
{
	char text[AMOUNT_BYTES];

	buf_addf(out, ",\"%s\":%s", key, amount_exact(nano, text));
}

static void add_name(struct buf *out, const char *key, const char *name)
{
	buf_addf(out, "\"%s\":", key);
	buf_add_json_or_null(out, *name ? name : NULL);
	buf_addc(out, ',');
}

/* ---- rows */

/* A model belongs to a provider, so that by model is by provider too. */
static bool by_provider(unsigned by)
{
	return by & (MONEY_BY_PROVIDER | MONEY_BY_MODEL);
}

static int compare(const void *a, const void *b, void *arg)
{
	const struct entry_key *x = &(*(const struct entry *const *)a)->key,
			       *y = &(*(const struct entry *const *)b)->key;
	unsigned by = *(const unsigned *)arg;
	int order = 0;

	if (by & MONEY_BY_DAY)
		order = (x->day < y->day) - (x->day > y->day);
	if (!order && by_provider(by))
		order = strcmp(x->provider, y->provider);
	if (!order && (by & MONEY_BY_MODEL))
		order = strcmp(x->model, y->model);
	if (!order && (by & MONEY_BY_CONVERSATION))
		order = strcmp(x->conversation, y->conversation);
	return order;
}

static const struct entry **gather(const struct books *b, int from_day, int *n)
{
	const struct entry **list = xcalloc((size_t)b->nentries + 1, sizeof *list);

	*n = 0;
	for (int i = 0; i < BOOKS_BUCKETS; i++)
		for (const struct entry *e = b->entries[i]; e; e = e->next)
			if (e->key.day >= from_day)
				list[(*n)++] = e;
	return list;
}

static void add_row(struct buf *out, const struct entry_key *k, const struct sums *s,
		    unsigned by)
{
	buf_addc(out, '{');
	if (by & MONEY_BY_DAY)
		buf_addf(out, "\"day\":\"%04d-%02d-%02d\",", k->day / 10000,
			 k->day / 100 % 100, k->day % 100);
	if (by_provider(by))
		add_name(out, "provider", k->provider);
	if (by & MONEY_BY_MODEL)
		add_name(out, "model", k->model);
	if (by & MONEY_BY_CONVERSATION)
		add_name(out, "conversation", k->conversation);
	buf_addf(out,
		 "\"requests\":%lld,\"tokens_in\":%lld,\"tokens_cached\":%lld,"
		 "\"tokens_out\":%lld",
		 (long long)s->requests, (long long)s->tokens_in,
		 (long long)s->tokens_cached, (long long)s->tokens_out);
	add_usd(out, "cost_usd", s->cost);
	add_usd(out, "estimated_usd", s->estimated);
	buf_addf(out, ",\"unpriced\":%lld}", (long long)s->unpriced);
}

static void add_rows(const struct money *m, int from_day, unsigned by, struct buf *out)
{
	int n, first = 0;
	const struct entry **list = gather(&m->books, from_day, &n);

	qsort_r(list, (size_t)n, sizeof *list, compare, &by);
	while (first < n) {
		struct sums s = {0};
		int i = first;

		for (; i < n && !compare(&list[first], &list[i], &by); i++)
			sums_add(&s, &list[i]->sums);
		buf_adds(out, first ? "," : "");
		add_row(out, &list[first]->key, &s, by);
		first = i;
	}
	free(list);
}

/* ---- caps */

static void add_cap(const struct money *m, const struct cap *c, bool *some,
		    struct buf *out)
{
	static const char *const names[] = {"day", "month", "day", "month"};
	static const char *const states[] = {
		[MONEY_OK] = "ok", [MONEY_SOFT] = "soft", [MONEY_HARD] = "hard"};
	struct buf scope = {0};

	if (c->kind == CAP_PROVIDER_DAY || c->kind == CAP_PROVIDER_MONTH)
		buf_addf(&scope, "provider %s %s", c->name, names[c->kind]);
	else
		buf_adds(&scope,
			 c->kind == CAP_CONVERSATION ? "conversation" : names[c->kind]);
	buf_adds(out, *some ? ",{\"scope\":" : "{\"scope\":");
	buf_add_json(out, scope.data, scope.len);
	add_usd(out, "limit_usd", c->limit);
	add_usd(out, "spent_usd", c->spent);
	add_usd(out, "reserved_usd", c->reserved);
	buf_addf(out, ",\"state\":\"%s\"", states[money_cap_state(m, c)]);
	if (c->kind == CAP_CONVERSATION) {
		buf_adds(out, ",\"conversation\":");
		buf_add_json(out, c->name, strlen(c->name));
	}
	buf_addc(out, '}');
	*some = true;
	buf_free(&scope);
}

/* Each conversation has that cap; the one that is nearest to it is shown. */
static const char *dearest(const struct books *b)
{
	const struct tally *top = NULL;

	for (int i = 0; i < BOOKS_BUCKETS; i++)
		for (const struct tally *t = b->tallies[i]; t; t = t->next)
			if (!t->period &&
			    (!top || amount_add(t->spent, t->reserved) >
					     amount_add(top->spent, top->reserved)))
				top = t;
	return top ? top->name : "-";
}

static void add_caps(const struct money *m, int day, struct buf *out)
{
	struct cap caps[MONEY_CAPS];
	bool some = false;
	int n = money_caps(m, day, "", dearest(&m->books), caps);

	for (int i = 0; i < n; i++)
		if (caps[i].kind != CAP_CONVERSATION)
			add_cap(m, &caps[i], &some, out);
	for (int k = 0; m->config && k < m->config->nproviders; k++) {
		struct cap of[MONEY_CAPS];
		int nof = money_caps(m, day, m->config->providers[k].name, NULL, of);

		for (int i = 0; i < nof; i++)
			if (of[i].kind == CAP_PROVIDER_DAY ||
			    of[i].kind == CAP_PROVIDER_MONTH)
				add_cap(m, &of[i], &some, out);
	}
	for (int i = 0; i < n; i++)
		if (caps[i].kind == CAP_CONVERSATION)
			add_cap(m, &caps[i], &some, out);
}

void money_json(const struct money *m, int days, unsigned by, struct buf *out)
{
	int64_t now = money_now(m);
	char why[300];

	if (days < 1)
		days = 1;
	if (days > MONEY_MAX_DAYS)
		days = MONEY_MAX_DAYS;
	buf_adds(out, "{\"rows\":[");
	add_rows(m, money_day_before(now, days - 1), by, out);
	buf_adds(out, "],\"caps\":[");
	add_caps(m, money_day(now), out);
	buf_addc(out, ']');
	buf_add_json_text(out, "warning",
			  money_file_broken(m, why, sizeof why) ? why : NULL);
	buf_addc(out, '}');
}
