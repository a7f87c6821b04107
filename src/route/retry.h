/* What to do about a failure before the commit boundary: again, elsewhere, or tell the client.
 *
 * A table by error code (research: gateways.md 1.10) and a budget: retries are at most a fifth of
 * the traffic (a token bucket: each request adds 0.2, a retry takes 1, at most 10 are saved), so
 * that an upstream in trouble is not hit harder.  Delays have full jitter: a random time below
 * min(0.5 s * 2^n, 8 s).  Pure but for the random number, which the caller can give. */
#ifndef HOB_RETRY_H
#define HOB_RETRY_H

#include "base/err.h"

enum {
	RETRY_MAX_SAME = 2,
	RETRY_BASE_MS = 500,
	RETRY_CAP_MS = 8000,
	RETRY_AFTER_MAX_MS =
		5000, /* a longer Retry-After is passed on: the client may have better to do */
};

struct retry_budget {
	double tokens;
};
void retry_budget_init(struct retry_budget *b);
void retry_budget_request(struct retry_budget *b);
bool retry_budget_take(struct retry_budget *b);

enum retry_step {
	RETRY_SAME,  /* the same candidate, after delay_ms */
	RETRY_OTHER, /* the next candidate, at once */
	RETRY_NO     /* the client gets this error */
};

struct retry_ask {
	const struct err *e;
	bool is_local;      /* the candidate that failed */
	int tries;          /* of this candidate, 1 = the first has failed */
	bool more;          /* another candidate follows */
	bool after_refusal; /* of the route: ERR_POLICY moves on too */
	bool sent_twice;    /* a silent replay cannot be ruled out: do not send again */
	uint64_t left_ms;   /* until the deadline of the first token */
	double random;      /* 0 <= random < 1 */
};
/* budget NULL: no limit (tests). */
enum retry_step retry_decide(const struct retry_ask *a, struct retry_budget *budget,
			     uint64_t *delay_ms);

#endif
