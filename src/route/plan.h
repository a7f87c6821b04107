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
#include "route/health.h"
#include "route/models.h"
#include "route/money.h"
#include "route/sticky.h"

enum {
	PLAN_MAX = 32,
	PLAN_WHY_BYTES = 200,
	PLAN_PATIENCE_MS = 20000, /* of `auto` without a section */
	PLAN_COLD_MS = 1000,      /* a load that takes longer is worth a bridge */
	PLAN_ANSWER_TOKENS =
		256, /* a context must leave room for so much, or for max_tokens */
	PLAN_OUTPUT_TOKENS =
		4096, /* of an answer whose longest length nobody knows: for usd */
};
#define PLAN_DISK_BYTES_S  500e6 /* reading weights, while nobody has measured it */
#define PLAN_CONTEXT_SLACK 0.9   /* of the estimate of tokens: it is one */
#define PLAN_USD_SLACK     1.1   /* the same, where an upper bound is wanted */

/* `auto`: score = strength_weight * strength - time_weight * log2(1 + ttft / 500 ms)
 *               - price_weight * log2(1 + usd / 0.0005).  doc/routing.md says why. */
struct plan_weights {
	double strength, time, price;
};
extern const struct plan_weights plan_weights[]; /* by enum route_prefer */
#define PLAN_TIME_UNIT_MS     500.0
#define PLAN_PRICE_UNIT_USD   0.0005
#define PLAN_UNKNOWN_USD      0.005 /* an answer of a model whose price nobody knows */
#define PLAN_UNKNOWN_STRENGTH 5
/* ms a token and GiB of the file, while health has no measurement */
#define PLAN_PREFILL_MS_TOKEN_GIB 3.0
#define PLAN_REMOTE_MS_TOKEN      0.05
/* Strength that nobody declared.  Local: 1 at 128 MiB, one more for each doubling.  Remote: 6 at 0.04
 * USD per million tokens of output, one more for each factor of four. */
#define PLAN_STRENGTH_BYTES 134217728.0
#define PLAN_STRENGTH_USD   0.04e-6

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

	/* for plan*.c and the reason */
	int at;                  /* its place in the configuration */
	enum err_code code;      /* dropped: what it would be answered with */
	uint32_t retry_after_ms; /* dropped by its breaker */
	bool by_guess; /* dropped by an estimate, or by what the engine cannot do: taken back
			   * when nothing else is left */
	bool soft;     /* a budget is nearly used up */
	bool impatient; /* moved behind others: its wait is longer than the route's patience */
	bool cold;      /* local, not resident */
	double wait_ms;    /* local: queue and load; < 0 = unknown */
	double likely_usd; /* of a usual answer, for auto; < 0 = unknown */
	uint64_t bytes;    /* local: of the file */
};

struct plan {
	char *asked; /* owned */
	const char *
		route; /* name in the configuration, "auto", or NULL; borrowed from config */
	const char *rule;   /* that held, or NULL; borrowed from config */
	int patience_ms;    /* for a local candidate when another follows; without a route
			      * config.queue_timeout_ms */
	bool after_refusal; /* of the route */
	bool pin;           /* auto: the conversation keeps what answers */
	struct candidate c[PLAN_MAX]; /* the used ones first, in order */
	int n, nused;
	const char *
		load_behind; /* in c[]: local model to load while the bridge answers, or NULL */
	char reason[400]; /* why c[0] is first */
	struct err error; /* nused == 0: why nothing can; its code */
};

struct local_forecast {
	bool known, resident; /* resident: a lease needs no load */
	bool too_big;         /* for the memory budget, even alone */
	int ctx;              /* it is or would be loaded with; 0 = default */
	double queue_ms,
		load_ms; /* expected; load_ms by ledger; < 0: bytes / PLAN_DISK_BYTES_S is assumed */
};

/* health is asked by provider->name and the upstream name ("openrouter", "vendor/x"), speeds of local
 * models by their name. */
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

/* Logs what of the routes cannot work: candidates that are routes, providers that are not there.  The
 * daemon calls it after each reading of the configuration. */
void plan_check_config(const struct config *c);

#endif
