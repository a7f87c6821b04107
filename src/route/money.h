/* What remote answers cost: reserved before, settled after, capped, remembered over restarts.
 *
 * Loop thread.  Rows of one day, provider, model and conversation are summed in memory and written to
 * an SQLite file of its own behind the loop's back (as cache/ledger.h does); what was reserved
 * when the daemon died is settled at the reserved amount at the next start, so that a crash
 * never makes money reappear: a reservation is on disk before its call starts when any cap is set.
 * A broken file is set aside with a line in the log; with hard caps configured remote calls are then
 * refused until the user removes it or the caps (never silently without a cap).
 *
 * Days and months are of local time.  Amounts are USD.  A cap counts spent plus reserved. */
#ifndef HOB_MONEY_H
#define HOB_MONEY_H

#include <uv.h>
#include "base/buf.h"
#include "config.h"
#include "providers/remote_models.h"
#include "route/event.h"

enum {
	MONEY_NAME_BYTES = 256, /* of a provider, model, conversation or request id */
	MONEY_MAX_ROWS = 50000, /* sums that are kept; see doc/money.md for what folds */
	MONEY_MAX_CONVERSATIONS = 50000,
	MONEY_MAX_ESTIMATES = 10000,
	MONEY_LOOSE_ESTIMATES = 256, /* no more of finished calls that count nothing */
	MONEY_ZONE_MS = 10000,       /* a new time zone is noticed after so long */
	MONEY_DETAIL_DAYS = 90,      /* of conversations */
	MONEY_LATE_MS = 24 * 3600 * 1000, /* so long money_late() may come */
	MONEY_MAX_DAYS = 3660,            /* of money_json() */
};

struct money;
struct money_hold; /* one call's reservation: ends in exactly one settle, unknown or release */

struct money_parts {
	uv_loop_t *loop;                   /* NULL: writes happen at once (tests) */
	const char *path;                  /* NULL: memory only */
	int64_t (*now_unix_ms)(void *arg); /* NULL: the clock */
	void *arg;
};
struct money *money_new(const struct money_parts *p);
void money_set_config(struct money *m,
		      const struct config *c); /* borrowed until the next */
void money_close(struct money *m, void (*done)(void *arg),
		 void *arg); /* all is on disk at done */

enum money_verdict {
	MONEY_OK,
	MONEY_SOFT /* prefer local, warn */,
	MONEY_HARD /* refuse */
};

struct money_ask {
	const char *provider, *model;
	const char *conversation; /* or NULL; names are cut at MONEY_NAME_BYTES */
	double most_usd; /* upper bound; 0 = costs nothing, no cap applies; < 0 = price
			  * unknown: counts as 0 without caps, is refused where one applies */
	double request_budget_usd; /* of the request itself; < 0 = none */
};
/* Would it be within the caps?  why: for people, "" when MONEY_OK. */
enum money_verdict money_ask(const struct money *m, const struct money_ask *a, char *why,
			     size_t bytes);
/* NULL and ERR_PAYMENT when a hard cap is reached; retry_after_ms then says when its window ends,
 * where waiting helps.  request_id: for money_late(), another one for each attempt; or NULL. */
struct money_hold *money_reserve(struct money *m, const struct money_ask *a,
				 const char *request_id, struct err *e);
/* Calls back when the reservation is on disk (e NULL), or when it cannot be written (e: ERR_PAYMENT and
 * why; the call must not start, and the hold is still to be released); in the next turn when no cap
 * applies to it.  The hold may end before: cb is not called then.  Without a loop: at once. */
void money_when_safe(struct money_hold *h, void (*cb)(void *arg, const struct err *e),
		     void *arg);
/* The call ended.  cost_usd >= 0 is what counts.  Else it is computed from usage and prices, which is
 * an estimate unless the status is "finished"; where that cannot be either, the reservation is
 * counted as an estimate.  Estimates are marked as such, until money_late(). */
void money_settle(struct money_hold *h, const struct usage *u, const struct prices *p,
		  const char *status /* "finished", "cancelled", "failed" */);
void money_release(
	struct money_hold *h); /* it never started, or was refused: nothing is owed */
/* The provider said later what it cost. Unknown ids are ignored. */
void money_late(struct money *m, const char *request_id, int tokens_in, int tokens_out,
		double cost_usd);

/* Upper bound of a call, < 0 when a price is missing.  Pure. */
double money_most(const struct prices *p, int prompt_tokens, int output_tokens,
		  int images);
/* What it cost, < 0 when unknown.  Pure. */
double money_cost(const struct prices *p, const struct usage *u);

double money_left_today(const struct money *m); /* INFINITY without a daily cap */
double money_spent_today(const struct money *m, const char *provider); /* NULL: of all */
/* The body of GET /v1/hob/usage.  by: a set of the flags; days >= 1. */
enum {
	MONEY_BY_DAY = 1,
	MONEY_BY_MODEL = 2,
	MONEY_BY_PROVIDER = 4,
	MONEY_BY_CONVERSATION = 8
};
void money_json(const struct money *m, int days, unsigned by, struct buf *out);

#endif
