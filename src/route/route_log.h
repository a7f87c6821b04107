/* The last requests: where each went, why, and what was tried before.  For `hob why`.  Loop thread. */
#ifndef HOB_ROUTE_LOG_H
#define HOB_ROUTE_LOG_H

#include "base/buf.h"
#include "base/err.h"
#include "route/request.h"

enum { ROUTE_LOG_MAX = 256, ROUTE_LOG_ATTEMPTS = 8 };

struct route_attempt {
	const char *model, *provider; /* borrowed for the call */
	struct err error;
	double ms;
};

struct route_log;
struct route_log *route_log_new(void);
void route_log_free(struct route_log *l);
/* A number for the calls below; 0 is never given. The oldest entry goes. */
uint64_t route_log_begin(struct route_log *l, const struct request *r);
void route_log_attempt(struct route_log *l, uint64_t n, const struct route_attempt *a);
void route_log_started(struct route_log *l, uint64_t n, const char *route,
		       const char *model, const char *provider, const char *reason,
		       double ttft_ms);
void route_log_ended(struct route_log *l, uint64_t n, const char *outcome,
		     const struct err *e, double total_ms, double cost_usd);
/* The body of GET /v1/hob/routes/decisions.  model NULL: all. */
void route_log_json(const struct route_log *l, const char *model, int limit,
		    struct buf *out);

#endif
