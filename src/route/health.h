/* How remote models do lately: a circuit breaker and a time to first token for each (provider, model).
 *
 *   CLOSED ──5 failures in a row, or more than half of at least 5 within 60 s──▶ OPEN
 *   OPEN ──its time is over (5 s, doubling to 60 s; a Retry-After counts)──▶ HALF_OPEN
 *   HALF_OPEN ──the one probe succeeds──▶ CLOSED,  ──it fails──▶ OPEN
 *
 * A 429 that says when to come again opens it at once, until then.  An answer that faults the request
 * (400, 404, moderation) proves the server alive; what failed on our side proves nothing.
 *
 * PeakEWMA as in Finagle: a slower sample is believed at once, a faster one by age (tau 30 s); a model
 * without samples counts as 250 ms, and an old sample is forgotten towards that (10 min).  Pure: the
 * caller gives the time (ms, monotonic).  Local models (provider "local") have no breaker (the cache
 * has states), but their speed of reading prompts is kept here too.
 * Bounded: HEALTH_MAX rows, the one used longest ago goes. */
#ifndef HOB_HEALTH_H
#define HOB_HEALTH_H

#include "base/err.h"

enum {
	HEALTH_MAX = 512,
	HEALTH_SEED_MS = 250,
	HEALTH_TAU_MS = 30000,
	HEALTH_IN_A_ROW = 5,
	HEALTH_WINDOW_MS = 60000,
	HEALTH_WINDOW_MIN = 5,
	HEALTH_OPEN_MIN_MS = 5000,
	HEALTH_OPEN_MAX_MS = 60000,
	HEALTH_RETRY_AFTER_MAX_MS = 600000, /* of what a server may ask for */
	HEALTH_PROBE_WAIT_MS = 1000,        /* said to those who meet a probe under way */
	HEALTH_FORGET_MS = 600000,
	HEALTH_SPEED_MIN_TOKENS = 16, /* fewer say more of the start than of the speed */
	HEALTH_ERROR_BYTES = 160,
};

enum breaker_state { BREAKER_CLOSED, BREAKER_OPEN, BREAKER_HALF_OPEN };
const char *breaker_state_name(enum breaker_state s); /* "closed", "open", "half-open" */

struct health;
struct health *health_new(void);
void health_free(struct health *h);

/* False: leave it alone until *retry_in_ms have passed.  True in HALF_OPEN makes the caller the probe:
 * it must call exactly one of health_success(), health_failure(), health_abandon(). */
bool health_admit(struct health *h, const char *provider, const char *model, uint64_t now,
		  uint64_t *retry_in_ms);
/* The same question without becoming the probe. */
enum breaker_state health_state(const struct health *h, const char *provider,
				const char *model, uint64_t now, uint64_t *retry_in_ms);
/* Text of the last failure that spoke against the server, "" when there was none or it is over.  Borrowed
 * until the next call that is not a question. */
const char *health_error(const struct health *h, const char *provider, const char *model);
/* Each admitted call ends in one of these.  ttft_ms < 0: there was none. */
void health_success(struct health *h, const char *provider, const char *model,
		    uint64_t now, double ttft_ms);
/* Which codes speak against the server and which against the request: a table. */
void health_failure(struct health *h, const char *provider, const char *model,
		    uint64_t now, const struct err *e);
void health_abandon(struct health *h, const char *provider, const char *model,
		    uint64_t now);
/* Expected time to first token: ewma * (in flight + 1), in ms. */
double health_ttft_ms(const struct health *h, const char *provider, const char *model,
		      uint64_t now);

/* Local models: how fast one reads prompts; 0 = not known yet.  prompt_tokens: those
 * that were computed, not those found in the prefix cache. */
void health_local_speed(struct health *h, const char *model, int prompt_tokens,
			double prefill_ms);
double health_prefill_ms_per_token(const struct health *h, const char *model);

struct health_row {
	const char *provider, *model, *error; /* borrowed, as health_error()'s */
	enum breaker_state state;
	int in_a_row, in_flight;
	uint64_t retry_in_ms;
	double ttft_ms; /* < 0 = no sample */
};
int health_count(const struct health *h);
void health_row(const struct health *h, int i, uint64_t now, struct health_row *out);

#endif
