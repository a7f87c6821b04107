/* Bounded history: which messages of a path still go to the model.
 *
 * Runs anywhere, touches nothing.  The question a reader will ask is why the path is replayed from
 * its first message instead of being cut once from the end: a cut computed from the end moves with
 * every turn, and each move costs the whole KV cache.  Replaying what an incremental trimmer would
 * have done makes the state after i messages a function of those i messages (and of the summaries that
 * reach less far), so a longer path has the same cut until a limit is reached again.  It needs no
 * memory of earlier calls. */
#include "memory/context.h"

struct replay {
	const struct context_ask *a;
	int64_t soft, low, sum;
	int nsystem, first, elided_to, summary;
	int i;            /* the last item that has been met */
	int last, before; /* where the last turn begins, and the one before it */
};

int context_guess(size_t bytes)
{
	double tokens = (double)bytes / 3.5 * 1.1 + 8;

	return tokens < 1e9 ? (int)tokens : 1000000000;
}

int context_summary_tokens(int ctx)
{
	return ctx / 8 < CONTEXT_SUMMARY_TOKENS ? ctx / 8 : CONTEXT_SUMMARY_TOKENS;
}

int context_budget(int ctx, int max_tokens, int extra)
{
	int64_t out = max_tokens, margin = ctx / 20, left;

	if (out <= 0)
		out = ctx / 4 < 1024 ? ctx / 4 : 1024;
	else if (out > ctx / 2)
		out = ctx / 2;
	if (margin < CONTEXT_MARGIN_TOKENS)
		margin = CONTEXT_MARGIN_TOKENS;
	left = ctx - out - margin - extra;
	return left > 0 ? (int)left : 1;
}

/* ---- what an item costs */

static int64_t whole(const struct context_item *it)
{
	return it->tokens > 0 ? it->tokens : 0;
}

bool context_is_long(const struct context_item *it)
{
	return it->is_result && it->bytes >= CONTEXT_ELIDE_MIN_BYTES &&
	       it->tokens > CONTEXT_ELIDED_TOKENS;
}

static int64_t cost(const struct replay *r, int i)
{
	const struct context_item *it = &r->a->items[i];

	return i < r->elided_to && context_is_long(it) ? CONTEXT_ELIDED_TOKENS
						       : whole(it);
}

static int64_t summary_cost(const struct replay *r, int summary)
{
	int tokens = summary < 0 ? 0 : r->a->summaries[summary].tokens;

	return tokens > 0 ? tokens : 0;
}

static int64_t saved_by_eliding(const struct replay *r, int from, int to)
{
	int64_t saved = 0;

	for (int i = from; i < to; i++)
		if (context_is_long(&r->a->items[i]))
			saved += whole(&r->a->items[i]) - CONTEXT_ELIDED_TOKENS;
	return saved;
}

/* ---- steps */

/* Tool results of turns before the last two, oldest first, until `target` is reached. */
static void elide(struct replay *r, int64_t target)
{
	int i = r->elided_to > r->first ? r->elided_to : r->first;

	for (; r->sum > target && i < r->before; i++)
		if (context_is_long(&r->a->items[i])) {
			r->sum -= whole(&r->a->items[i]) - CONTEXT_ELIDED_TOKENS;
			r->elided_to = i + 1;
		}
}

static int64_t could_elide(const struct replay *r)
{
	return saved_by_eliding(r, r->elided_to > r->first ? r->elided_to : r->first,
				r->before);
}

/* What goes once the cut stands at `to`, behind this summary. */
static int64_t sum_from(const struct replay *r, int to, int summary)
{
	int64_t sum = r->sum - summary_cost(r, r->summary) + summary_cost(r, summary);

	for (int i = r->first; i < to; i++)
		sum -= cost(r, i);
	return sum;
}

/* The newest that reaches further than the cut, not into the last turn, and saves something; -1: none. */
static int newest_summary(const struct replay *r)
{
	for (int s = r->a->nsummaries - 1; s >= 0; s--) {
		int to = r->a->summaries[s].upto + 1;

		if (to <= r->first || to > r->last || to <= r->nsystem ||
		    r->a->items[to].role != ROLE_USER)
			continue;
		if (sum_from(r, to, s) < r->sum)
			return s;
	}
	return -1;
}

static bool use_summary(struct replay *r)
{
	int s = newest_summary(r);

	if (s < 0)
		return false;
	r->sum = sum_from(r, r->a->summaries[s].upto + 1, s);
	r->first = r->a->summaries[s].upto + 1;
	r->summary = s;
	return true;
}

static int next_turn(const struct context_item *items, int i, int end)
{
	for (i++; i < end; i++)
		if (items[i].role == ROLE_USER)
			return i;
	return end;
}

/* Whole turns, until `target` is reached; the last one stays. */
static void drop_turns(struct replay *r, int64_t target)
{
	while (r->sum > target) {
		int next = next_turn(r->a->items, r->first, r->i + 1);

		if (next > r->i)
			break;
		for (; r->first < next; r->first++)
			r->sum -= cost(r, r->first);
	}
}

/* One that reaches into what was dropped says more of it than nothing. */
static void adopt_summary(struct replay *r)
{
	for (int s = r->a->nsummaries - 1; s > r->summary; s--) {
		int64_t sum = r->sum - summary_cost(r, r->summary) + summary_cost(r, s);
		int upto = r->a->summaries[s].upto;

		if (upto < r->nsystem || upto >= r->first || sum > r->a->budget)
			continue;
		r->sum = sum;
		r->summary = s;
		return;
	}
}

static void over_budget(struct replay *r)
{
	int64_t left = r->sum - could_elide(r);

	elide(r, r->low);
	if (left <= r->soft)
		return;
	drop_turns(r, r->low);
	adopt_summary(r);
	if (r->sum <= r->a->budget || r->summary < 0)
		return;
	r->sum -= summary_cost(r, r->summary); /* the last turn needs all there is */
	r->summary = -1;
}

static void meet(struct replay *r, int i)
{
	const struct context_item *it = &r->a->items[i];

	r->i = i;
	if (it->role == ROLE_USER) {
		r->before = r->last;
		r->last = i;
	}
	r->sum += whole(it);
	if (r->sum <= r->soft)
		return;
	if (r->sum - could_elide(r) <= r->low)
		elide(r, r->low);
	else
		use_summary(r);
	if (r->sum > r->a->budget)
		over_budget(r);
}

/* ---- asking for a summary */

/* Where a tail begins that leaves `cut` tokens of [first, n) behind: at a user message, not behind
 * `latest`.  -1: none does. */
static int border_behind(const struct replay *r, int first, int64_t cut, int latest)
{
	int64_t sum = 0;
	int found = -1;

	for (int i = first; i <= latest && i < r->a->n; i++) {
		if (i > first && r->a->items[i].role == ROLE_USER) {
			found = i;
			if (sum >= cut)
				break;
		}
		sum += cost(r, i);
	}
	return found;
}

static int64_t tokens_from(const struct replay *r, int i)
{
	int64_t sum = 0;

	for (; i < r->a->n; i++)
		sum += cost(r, i);
	return sum;
}

/* `base`: first item that no summary in use stands for.  -1 also when a summary of full length would
 * be no shorter. */
static int choose_upto(const struct replay *r, int base, int latest)
{
	int64_t all = tokens_from(r, base), head = r->a->notes_tokens;
	int64_t block = context_summary_tokens(r->a->ctx) + CONTEXT_BLOCK_TOKENS;
	int64_t tail_max = (int64_t)r->a->ctx * CONTEXT_TAIL_PERCENT / 100;
	int at = -1;

	for (int i = 0; i < r->nsystem; i++)
		head += whole(&r->a->items[i]);
	head += block;
	for (int percent = CONTEXT_LOW_PERCENT; percent <= 100;
	     percent += CONTEXT_WIDEN_PERCENT) {
		int64_t tail;

		at = border_behind(r, base, all * percent / 100, latest);
		if (at < 0)
			return -1;
		tail = tokens_from(r, at);
		if (at == latest || (head + tail <= r->low && tail <= tail_max))
			break;
	}
	return all - tokens_from(r, at) > block ? at - 1 : -1;
}

/* What was dropped for want of a summary: it is read in pieces, so no more than that is asked for. */
static int dropped_upto(const struct replay *r)
{
	int block = context_summary_tokens(r->a->ctx) + CONTEXT_BLOCK_TOKENS;

	return r->sum + block <= r->a->budget ? r->first - 1 : -1;
}

static void ask(const struct replay *r, struct context_plan *out)
{
	int base = r->summary < 0 ? r->nsystem : r->a->summaries[r->summary].upto + 1;

	out->soft_upto = out->hard_upto = -1;
	if (r->sum > r->a->budget) /* one turn: a summary would not help it */
		return;
	if (r->sum > r->soft)
		out->soft_upto = choose_upto(r, base, r->before);
	if (r->first <= base)
		return;
	out->hard_upto = choose_upto(r, base, r->last);
	if (out->hard_upto < r->first - 1)
		out->hard_upto = dropped_upto(r);
	if (out->soft_upto < r->first - 1)
		out->soft_upto = dropped_upto(r);
}

/* ---- the plan */

static void count(const struct replay *r, struct context_plan *out)
{
	int nh = r->a->nhistory;
	int nsystem = r->nsystem < nh ? r->nsystem : nh;
	int first = r->first < nh ? r->first : nh;
	int behind = r->summary < 0 ? nsystem : r->a->summaries[r->summary].upto + 1;

	if (behind > first)
		behind = first;
	out->summarised = r->summary < 0 ? 0 : behind - nsystem;
	out->dropped = first - behind;
	out->kept = nh - out->summarised - out->dropped;
	for (int i = first; i < nh; i++)
		if (context_elides(r->a, out, i))
			out->elided++;
}

bool context_elides(const struct context_ask *a, const struct context_plan *p, int i)
{
	return i >= p->first && i < p->elided_to && context_is_long(&a->items[i]);
}

void context_fit(const struct context_ask *a, struct context_plan *out)
{
	struct replay r = {.a = a,
			   .soft = (int64_t)a->budget * CONTEXT_SOFT_PERCENT / 100,
			   .low = (int64_t)a->budget * CONTEXT_LOW_PERCENT / 100,
			   .sum = a->notes_tokens > 0 ? a->notes_tokens : 0,
			   .summary = -1};

	*out = (struct context_plan){0};
	while (r.nsystem < a->n && a->items[r.nsystem].role == ROLE_SYSTEM)
		r.sum += whole(&a->items[r.nsystem++]);
	r.first = r.last = r.before = r.nsystem;
	for (int i = r.nsystem; i < a->n; i++)
		meet(&r, i);
	out->nsystem = r.nsystem;
	out->summary = r.summary;
	out->first = r.first;
	out->elided_to = r.elided_to;
	out->tokens = r.sum < INT32_MAX ? (int)r.sum : INT32_MAX;
	out->fits = r.sum <= a->budget;
	count(&r, out);
	ask(&r, out);
}
