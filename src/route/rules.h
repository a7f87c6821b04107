/* Does a rule of the configuration hold for a request?  Pure but for PCRE2's compiled patterns. */
#ifndef HOB_RULES_H
#define HOB_RULES_H

#include "config.h"
#include "route/features.h"

enum {
	RULES_MATCH_LIMIT = 100000,  /* PCRE2's steps of one match: some milliseconds */
	RULES_HEAP_LIMIT_KIB = 4096, /* of one match */
};

/* What the moment adds to the request. */
struct rules_now {
	int minute_of_day;      /* local time, 0 to 1439 */
	int weekday;            /* 0 = Sunday, as struct tm */
	double budget_left_usd; /* of today's budget; INFINITY without a cap */
};
void rules_now(struct rules_now *out, double budget_left_usd); /* by the clock */

/* Regex, hours, days, class and languages are well formed.  -1 ERR_INVALID says which is not.  Compiles the
 * regex into r->compiled, which rules_free() releases. */
int rules_check(struct config_rule *r, struct err *e);
void rules_free(struct config_rule *r);
/* Matching a regex has a limit (PCRE2's match limit): one that runs over it does not hold, and is
 * logged once.  A rule that was never checked is compiled for the call.  Hours that go over midnight belong
 * to the day on which they begin. */
bool rules_hold(const struct config_rule *r, const struct features *f,
		const struct rules_now *now);
/* For people: "min_tokens 8000: the prompt has about 812": why it does not hold, or "". */
void rules_why_not(const struct config_rule *r, const struct features *f,
		   const struct rules_now *now, char *out, size_t bytes);

#endif
