/* Which models could answer a request, in the order in which they are tried, and why.
 *
 * A function of the request, the configuration and what the world says at this moment (struct
 * plan_world): nothing is started and nothing remembered, so `hob route explain` and the
 * dispatcher ask the same function, and tests give it any world.
 *
 *   the model's name → route (alias) or model with its fallbacks → rules → candidates
 *   → those that cannot (private, context, images, tools, breaker, money, no key) drop out, saying why
 *   → pick order | auto (score = strength, predicted time to first token, price; by route.prefer)
 *   → the conversation's choice first, if it still can → soft budget: local ones first
 *   → cold-start bridge in front */
#ifndef HOB_PLAN_H
#define HOB_PLAN_H

#include "providers/provider.h"
#include "route/features.h"
#include "route/models.h"

enum { PLAN_MAX = 32, PLAN_WHY_BYTES = 200 };

struct candidate {
	char *model; /* owned: full name: "qwen3:8b", "openrouter/vendor/x" */
	struct provider *provider; /* borrowed; NULL: local */
	const char *upstream;      /* in model: the provider's own name; NULL: local */
	bool use;                  /* false: dropped, `why` says why */
	bool is_bridge;            /* stands in while `loads` is loaded */
	bool stays;                /* nothing leaves this machine */
	char why[PLAN_WHY_BYTES];
	int ctx;             /* tokens; 0 = unknown */
	double ttft_ms, usd; /* predicted; < 0 = unknown; usd: upper bound, 0 = local */
	double score;        /* of auto; NAN otherwise */
	int strength;
	struct prices prices; /* of remote ones; < 0 = unknown */
};

struct plan {
	char *asked; /* owned */
	const char *
		route; /* name in the configuration, "auto", or NULL; borrowed from config */
	const char *rule;             /* that held, or NULL; borrowed from config */
	int patience_ms;              /* for a local candidate when another follows */
	bool after_refusal;           /* of the route */
	bool pin;                     /* auto: the conversation keeps what answers */
	struct candidate c[PLAN_MAX]; /* the used ones first, in order */
	int n, nused;
	const char *
		load_behind; /* in c[]: local model to load while the bridge answers, or NULL */
	char reason[400]; /* why c[0] is first */
	struct err error; /* nused == 0: why nothing can; its code */
};

struct local_forecast {
	bool known, resident; /* resident: a lease needs no load */
	int ctx;              /* it is or would be loaded with; 0 = default */
	double queue_ms,
		load_ms; /* expected; load_ms by ledger, else bytes / PLAN_DISK_BYTES_S */
};

struct plan_world {
	const struct config *config;
	struct models *models;
	struct provider **providers;
	int nproviders;
	uint64_t now_ms; /* monotonic */
	bool local_only;
	/* Each may be NULL: then unknown, and nothing drops out because of it. */
	void (*forecast)(void *arg, const struct model *m, enum request_class class,
			 struct local_forecast *out);
	const struct health *health;
	const struct money *money;
	struct sticky *sticky;
	void *arg;
};

/* messages: history and new ones.  conversation: its id or NULL. */
void plan_make(struct plan *out, const struct plan_world *w, const struct request *r,
	       const char *conversation, const struct message *messages, int n);
void plan_fini(struct plan *p);
/* Does the name need nothing but itself (a local model or a remote one without route, rules and
 * fallback)?  Then plans are cheap: features are not computed. */
bool plan_is_plain(const struct plan_world *w, const char *model);
/* The body of POST /v1/hob/route/explain. */
void plan_json(const struct plan *p, const struct features *f, struct buf *out);

#endif
