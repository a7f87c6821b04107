/* The scores of `auto`.  Pure.
 *
 * Logarithms, because people feel ratios: from 0.5 s to 1 s is as much worse as from 10 s to 20 s, and the
 * same holds for money and for sizes of models.  So one point of strength (twice the size) is worth one
 * doubling of the wait.  All constants are in plan.h and printed by `hob route explain`. */
#include "route/plan_impl.h"

#include <math.h>

const struct plan_weights plan_weights[] = {
	[PREFER_BALANCED] = {1, 1, 1},
	[PREFER_FAST] = {0.5, 2, 0.5},
	[PREFER_CHEAP] = {0.5, 0.5, 2},
	[PREFER_STRONG] = {2, 0.5, 0.25},
};

static int clamp(double strength)
{
	return strength < 1 ? 1 : strength > 10 ? 10 : (int)lround(strength);
}

int auto_strength(const struct candidate *c)
{
	if (c->bytes)
		return clamp(1 + log2((double)c->bytes / PLAN_STRENGTH_BYTES));
	if (c->prices.output > 0)
		return clamp(6 + log2(c->prices.output / PLAN_STRENGTH_USD) / 2);
	return PLAN_UNKNOWN_STRENGTH;
}

void auto_score(const struct draft *d, struct candidate *c)
{
	const struct plan_weights *w = &plan_weights[d->prefer];
	double ms = c->ttft_ms >= 0 ? c->ttft_ms : 0;
	double usd = c->likely_usd >= 0 ? c->likely_usd : PLAN_UNKNOWN_USD;
	double time = log2(1 + ms / PLAN_TIME_UNIT_MS);
	double price = log2(1 + usd / PLAN_PRICE_UNIT_USD);

	c->score = w->strength * c->strength - w->time * time - w->price * price;
	candidate_say(
		c,
		"score %.2f = %g * strength %d - %g * %.2f (first token %s%.1f s) - "
		"%g * %.2f (%s%.6f USD)",
		c->score, w->strength, c->strength, w->time, time,
		c->ttft_ms >= 0 ? "in " : "unknown, ", ms / 1000, w->price, price,
		c->likely_usd >= 0 ? "" : "unknown, ", usd);
}
