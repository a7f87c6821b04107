/* Does a rule of the configuration hold for a request?  Pure but for PCRE2's compiled patterns. */
#ifndef HOB_RULES_H
#define HOB_RULES_H

#include "config.h"
#include "route/features.h"

/* What the moment adds to the request. */
struct rules_now {
	int minute_of_day;      /* local time, 0 to 1439 */
	int weekday;            /* 0 = Sunday, as struct tm */
	double budget_left_usd; /* of today's budget; INFINITY without a cap */
};
void rules_now(struct rules_now *out, double budget_left_usd); /* by the clock */

/* Regex, hours, days, class and languages are well formed.  -1 ERR_INVALID says which is not. */
int rules_check(const struct config_rule *r, struct err *e);
/* Matching a regex has a limit (PCRE2's match limit): one that runs over it does not hold, and is
 * logged once. */
bool rules_hold(const struct config_rule *r, const struct features *f,
		const struct rules_now *now);
/* For people: "min_tokens 8000: the prompt has about 812": why it does not hold, or "". */
void rules_why_not(const struct config_rule *r, const struct features *f,
		   const struct rules_now *now, char *out, size_t bytes);

#endif
