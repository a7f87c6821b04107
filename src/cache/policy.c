/* The eviction policy: whose turn it is to leave, and as few as will do.
 *
 * Pure: the loop thread calls it, tests and the simulator call it without any model.  The
 * question a reader will ask: why is the sum made anew for each candidate.  What a model
 * gives back depends on who else of its group stays, so a running total would have to know
 * the groups anyway; tables are small and this runs when something is loaded, not when
 * something is asked. */
#include "cache/policy.h"

/* Sizes of files that somebody else wrote: sums of 256 of them do not wrap in 128 bits.
 */
typedef unsigned __int128 wide;

struct sums {
	wide all, others; /* others: all but models with role completion */
};

struct table {
	const struct policy_entry *entries;
	int n;
	const struct policy_ask *ask; /* counts as a member when `with` */
	bool taken[POLICY_MAX_ENTRIES];
	wide limit, limit_others;
	bool guard_completion; /* they are within the reserve: not for this one */
};

const char *policy_name(enum policy_kind k)
{
	return k == POLICY_GDSF ? "gdsf" : "lru";
}

static uint64_t narrow(wide v)
{
	return v > UINT64_MAX ? UINT64_MAX : (uint64_t)v;
}

static wide less(wide a, wide b)
{
	return a > b ? a - b : 0;
}

struct groups {
	uint64_t all[POLICY_MAX_ENTRIES], others[POLICY_MAX_ENTRIES];
	int n;
};

/* The weights of a group are as large as the largest claim, and count for the first. */
static void add_one(struct sums *s, struct groups *g, int group, uint64_t own,
		    uint64_t shared, bool completion)
{
	uint64_t no_all = 0, no_others = 0;
	uint64_t *all = &no_all, *others = &no_others;

	if (group >= 0) {
		ASSERT(group < POLICY_MAX_ENTRIES);
		for (; g->n <= group; g->n++)
			g->all[g->n] = g->others[g->n] = 0;
		all = &g->all[group];
		others = &g->others[group];
	}
	s->all += own;
	if (shared > *all) {
		s->all += shared - *all;
		*all = shared;
	}
	if (completion)
		return;
	s->others += own;
	if (shared > *others) {
		s->others += shared - *others;
		*others = shared;
	}
}

static struct sums sum(const struct table *t, const bool *taken, bool with)
{
	struct groups g;
	struct sums s = {0, 0};

	g.n = 0;
	for (int i = 0; i < t->n; i++) {
		const struct policy_entry *e = &t->entries[i];

		if (!taken || !taken[i])
			add_one(&s, &g, e->group, e->own_bytes, e->shared_bytes,
				e->completion);
	}
	if (with)
		add_one(&s, &g, t->ask->group, t->ask->own_bytes, t->ask->shared_bytes,
			t->ask->completion);
	return s;
}

static bool total_fits(const struct table *t, const struct sums *s, uint64_t reserved)
{
	return s->all + reserved <= t->limit;
}

static bool others_fit(const struct table *t, const struct sums *s, uint64_t reserved)
{
	return t->ask->completion || s->others + reserved <= t->limit_others;
}

static bool enough(const struct table *t, const bool *taken)
{
	struct sums s = sum(t, taken, true);

	return total_fits(t, &s, t->ask->reserved_bytes) &&
	       others_fit(t, &s, t->ask->reserved_bytes);
}

static bool may_go(const struct table *t, const struct policy_entry *e)
{
	return e->movable && e->leases == 0 && !e->pinned && !e->fresh &&
	       (e->own_bytes || e->shared_bytes) &&
	       !(e->completion && t->guard_completion);
}

/* a goes before b */
static bool before(enum policy_kind kind, const struct policy_entry *a,
		   const struct policy_entry *b)
{
	if (kind == POLICY_GDSF && a->score != b->score)
		return a->score < b->score;
	if (kind == POLICY_LRU && a->last_used_ms != b->last_used_ms)
		return a->last_used_ms < b->last_used_ms;
	return a->own_bytes + a->shared_bytes > b->own_bytes + b->shared_bytes;
}

static int next_to_go(const struct table *t, bool only_others)
{
	int best = -1;

	for (int i = 0; i < t->n; i++) {
		const struct policy_entry *e = &t->entries[i];

		if (t->taken[i] || !may_go(t, e) || (only_others && e->completion))
			continue;
		if (best < 0 || before(t->ask->kind, e, &t->entries[best]))
			best = i;
	}
	return best;
}

static bool choose(struct table *t, struct policy_plan *p)
{
	while (!enough(t, t->taken)) {
		struct sums s = sum(t, t->taken, true);
		int i = next_to_go(t, total_fits(t, &s, t->ask->reserved_bytes));

		if (i < 0)
			return false;
		t->taken[i] = true;
		p->victims[p->nvictims++] = i;
	}
	return true;
}

static void give_back(struct table *t, struct policy_plan *p)
{
	for (int i = p->nvictims - 1; i >= 0; i--) {
		int who = p->victims[i];

		t->taken[who] = false;
		if (enough(t, t->taken)) {
			p->nvictims--;
			memmove(&p->victims[i], &p->victims[i + 1],
				(size_t)(p->nvictims - i) * sizeof p->victims[0]);
		} else {
			t->taken[who] = true;
		}
	}
}

/* Everybody gone who may ever go. */
static struct sums when_idle(const struct table *t)
{
	bool gone[POLICY_MAX_ENTRIES];

	for (int i = 0; i < t->n; i++)
		gone[i] = !t->entries[i].pinned &&
			  !(t->entries[i].completion && t->guard_completion);
	return sum(t, gone, true);
}

static void explain(const struct table *t, struct policy_plan *p)
{
	struct sums now = sum(t, t->taken, true), idle = when_idle(t);
	const struct policy_ask *a = t->ask;
	wide alone = (wide)a->own_bytes + a->shared_bytes;
	struct sums *s = p->fits_when_idle ? &now : &idle;

	if (alone <= t->limit && !p->fits_when_idle && idle.all > alone &&
	    alone <= t->limit_others)
		p->limit = LIMIT_PINS, p->limit_bytes = narrow(idle.all - alone);
	else if (s->all <= t->limit && !a->completion && s->others > t->limit_others)
		p->limit = LIMIT_RESERVE, p->limit_bytes = a->reserve_bytes;
	else if (t->limit < a->budget_bytes && s->all <= a->budget_bytes)
		p->limit = LIMIT_SYSTEM, p->limit_bytes = narrow(t->limit);
	else
		p->limit = LIMIT_BUDGET, p->limit_bytes = a->budget_bytes;
}

static void set_limits(struct table *t, const struct sums *used)
{
	const struct policy_ask *a = t->ask;

	t->limit = a->budget_bytes;
	if (a->free_bytes != UINT64_MAX && used->all + a->free_bytes < t->limit)
		t->limit = used->all + a->free_bytes;
	t->limit_others = less(a->budget_bytes, a->reserve_bytes);
	t->guard_completion = !a->completion && used->all > used->others &&
			      used->all - used->others <= a->reserve_bytes;
}

static uint64_t evictable(const struct table *t, const struct sums *used)
{
	bool gone[POLICY_MAX_ENTRIES];

	for (int i = 0; i < t->n; i++)
		gone[i] = may_go(t, &t->entries[i]);
	return narrow(used->all - sum(t, gone, false).all);
}

void policy_plan(const struct policy_entry *entries, int n, const struct policy_ask *ask,
		 struct policy_plan *p)
{
	struct table t = {.entries = entries, .n = n, .ask = ask};
	struct sums used, idle;

	ASSERT(n >= 0 && n <= POLICY_MAX_ENTRIES);
	memset(p, 0, sizeof *p);
	used = sum(&t, NULL, false);
	set_limits(&t, &used);
	p->needs_bytes = narrow(sum(&t, NULL, true).all - used.all);
	p->free_bytes = narrow(less(t.limit, used.all));
	if (!ask->completion && less(t.limit_others, used.others) < p->free_bytes)
		p->free_bytes = narrow(less(t.limit_others, used.others));
	p->evictable_bytes = evictable(&t, &used);
	idle = when_idle(&t);
	p->fits_when_idle = total_fits(&t, &idle, 0) && others_fit(&t, &idle, 0);
	p->fits = choose(&t, p);
	if (p->fits) {
		give_back(&t, p);
		return;
	}
	explain(&t, p);
	if (!ask->best_effort)
		p->nvictims = 0;
}

uint64_t policy_used(const struct policy_entry *entries, int n)
{
	struct table t = {.entries = entries, .n = n};

	ASSERT(n >= 0 && n <= POLICY_MAX_ENTRIES);
	return narrow(sum(&t, NULL, false).all);
}

void policy_bytes(uint64_t bytes, char *out, size_t cap)
{
	double mib = (double)bytes / (1 << 20);

	if (mib >= 1024)
		snprintf(out, cap, "%.2f GiB", mib / 1024);
	else
		snprintf(out, cap, "%.1f MiB", mib);
}

void policy_text(const struct policy_plan *p, char *out, size_t cap)
{
	static const char *const limits[] = {
		[LIMIT_BUDGET] = "the budget of",
		[LIMIT_SYSTEM] = "the system's memory, for us",
		[LIMIT_PINS] = "pinned or reserved models hold",
		[LIMIT_RESERVE] = "the reserve for completion of",
	};
	char needs[32], room[32], evict[32], limit[32];
	int len;

	policy_bytes(p->needs_bytes, needs, sizeof needs);
	policy_bytes(p->free_bytes, room, sizeof room);
	policy_bytes(p->evictable_bytes, evict, sizeof evict);
	len = snprintf(out, cap, "needs %s, free %s, would evict %s", needs, room, evict);
	if (p->limit == LIMIT_NONE || len < 0 || (size_t)len >= cap)
		return;
	policy_bytes(p->limit_bytes, limit, sizeof limit);
	snprintf(out + len, cap - (size_t)len, "; limit: %s %s", limits[p->limit], limit);
}

double policy_score(double inflation, double uses, double reload_ms, uint64_t bytes)
{
	return inflation + uses * reload_ms / (bytes ? (double)bytes : 1);
}
