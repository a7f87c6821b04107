/* How remote models do lately: a circuit breaker and a time to first token for each (provider, model).
 *
 *   CLOSED ──5 failures in a row, or more than half of at least 5 within 60 s──▶ OPEN
 *   OPEN ──its time is over (5 s, doubling to 60 s; a Retry-After counts)──▶ HALF_OPEN
 *   HALF_OPEN ──the one probe succeeds──▶ CLOSED,  ──it fails──▶ OPEN
 *
 * PeakEWMA as in Finagle: a slower sample is believed at once, a faster one by age (tau 30 s); a model
 * without samples counts as 250 ms.  Pure: the caller gives the time (ms, monotonic).  Local models
 * have no breaker (the cache has states), but their speed of reading prompts is kept here too.
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
};

enum breaker_state { BREAKER_CLOSED, BREAKER_OPEN, BREAKER_HALF_OPEN };

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

/* Local models: how fast one reads prompts and writes answers; 0 = not known yet. */
void health_local_speed(struct health *h, const char *model, int prompt_tokens,
			double prefill_ms, int output_tokens, double decode_ms);
double health_prefill_ms_per_token(const struct health *h, const char *model);

struct health_row {
	const char *provider, *model;
	enum breaker_state state;
	int in_a_row, in_flight;
	uint64_t retry_in_ms;
	double ttft_ms; /* < 0 = no sample */
};
int health_count(const struct health *h);
void health_row(const struct health *h, int i, uint64_t now, struct health_row *out);

#endif
