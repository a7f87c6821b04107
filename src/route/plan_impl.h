/* What the files of the plan share; nobody else includes it.
 *
 * plan.c       names to candidates, their order, the reason
 * plan_fit.c   can this candidate answer this request, now?
 * plan_auto.c  scores
 * plan_json.c  what people and programs see */
#ifndef HOB_PLAN_IMPL_H
#define HOB_PLAN_IMPL_H

#include "route/plan.h"

/* A plan in the making. */
struct draft {
	struct plan *out;
	const struct plan_world *w;
	const struct request *r;
	struct features f;
	bool simple; /* one candidate: only sizes are known of it */
	enum route_pick pick;
	enum route_prefer prefer;
};

void candidate_drop(struct candidate *c, enum err_code code, const char *fmt, ...)
	PRINTF(3, 4);
void candidate_say(struct candidate *c, const char *fmt, ...) PRINTF(2, 3);

/* plan_fit.c: fill a new candidate in, and drop it where it cannot. */
void fit_local(struct draft *d, struct candidate *c, const struct model *m);
void fit_remote(struct draft *d, struct candidate *c);
void fit_context(const struct draft *d, struct candidate *c); /* by the estimate */
/* What only estimates and the engine's habits speak against; never drops the last one. */
void fit_guesses(struct draft *d);

/* plan_auto.c */
void auto_score(const struct draft *d, struct candidate *c);
int auto_strength(const struct candidate *c);

#endif
