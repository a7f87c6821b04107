/* What OpenRouter has beyond OpenAI's chat completions, as JSON: members of requests, its models with
 * prices, the quota of a key, the bill of a generation.  Pure: no I/O, no state.
 *
 * Sources: openapi.yaml and guides of OpenRouter's documentation (research: gateways.md 1.1). */
#ifndef HOB_OPENROUTER_WIRE_H
#define HOB_OPENROUTER_WIRE_H

#include "base/buf.h"
#include "base/json.h"
#include "config.h"
#include "providers/provider.h"
#include "providers/remote_models.h"
#include "route/request.h"

enum { OPENROUTER_SESSION_MAX = 256 };

/* Appends ",\"session_id\":…" and so on: what the request and the provider's section ask for.
 *   session_id   our conversation: its prompt cache follows it
 *   user         `user`, a pseudonym, or nothing when NULL; a client's own is never passed on
 *   provider     the section's routing object, with what the client wrote over it; but what the
 *                section says of who may see a prompt (only, ignore, data_collection = deny, zdr)
 *                no client undoes; require_parameters when tools or a format are asked for
 *   plugins      the client's, and context-compression switched off: hob bounds history itself, and
 *                the answer must not silently be to a shortened prompt */
void openrouter_members(struct buf *out, const struct config_provider *c,
			const struct request *r, const char *user);
/* Members of a client's request that openrouter_members() has taken care of. */
bool openrouter_takes(const char *key);

/* The answer to /models.  Models without text output are left out.  -1: it is none. */
int openrouter_models(const cJSON *tree, struct remote_model **list, int *n);

/* The answer to /key; USD, < 0 = no limit or not said. */
struct openrouter_quota {
	double limit, remaining, usage, daily, weekly, monthly;
	enum tristate free_tier;
	char resets[16]; /* "daily", "" */
};
bool openrouter_quota(const cJSON *tree, struct openrouter_quota *out);
/* An object. */
void openrouter_quota_json(struct buf *out, const struct openrouter_quota *q,
			   int64_t age_s);

/* The answer to /generation?id=: false while the bill is not made out.  request_id is left alone. */
bool openrouter_bill(const cJSON *tree, struct late_cost *out);

#endif
