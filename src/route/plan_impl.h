/* What the files of the plan share; nobody else includes it.
 *
 * plan.c        names to candidates, and their order
 * plan_fit.c    can this candidate answer this request, now?
 * plan_auto.c   scores
 * plan_reason.c why this one, or why none
 * plan_json.c   what programs see */
#ifndef HOB_PLAN_IMPL_H
#define HOB_PLAN_IMPL_H

#include "route/plan.h"

/* A plan in the making. */
struct draft {
	struct plan *out;
	const struct plan_world *w;
	const struct request *r;
	const char *conversation; /* its id, or NULL */
	struct features f;
	bool simple; /* one candidate: only sizes are known of it */
	enum route_pick pick;
	enum route_prefer prefer;
};

#define NO_SUCH "no such model" /* how `why` begins for an unknown name */

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

/* plan_reason.c: fill p->reason, or p->error. */
void reason_of_route(struct plan *p, bool kept, bool soft);
void reason_of_one(struct plan *p, bool is_default);
void reason_of_failure(struct plan *p);

#endif
