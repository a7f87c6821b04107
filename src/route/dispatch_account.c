/* What a try owes to others: health wants an outcome, money a settlement.
 *
 * Loop thread.  Remote candidates only, but for the speed of local ones.  Each account that was
 * opened is closed by exactly one of finished, failed and stopped; all three may be called again
 * and then do nothing, because the ways out of a job overlap.  The question a reader will ask: when
 * is a failed call free.  When the server said no before it began; a timeout or a torn answer may
 * have been computed and billed, so those are settled at the estimate. */
#include "route/dispatch_impl.h"

#include "base/clock.h"

static const char *provider_name(const struct dispatch_job *j)
{
	return job_candidate(j)->provider->name;
}

/* ---- open */

/* The plan's upper bound; < 0 = no price is known.  A plain name's plan was made before the history
 * was known. */
static double most_usd(const struct dispatch_job *j)
{
	const struct candidate *c = job_candidate(j);
	double most = c->usd;

	if (most < 0 || !j->is_plain || c->prices.input <= 0)
		return most;
	for (int i = 0; i < j->nhistory; i++)
		most += c->prices.input * PLAN_USD_SLACK *
			features_message_tokens(&j->history[i]);
	return most;
}

void account_id(const struct dispatch_job *j, char id[REQUEST_ID_BYTES])
{
	if (j->nfailed)
		snprintf(id, REQUEST_ID_BYTES, "%.30s-%u", j->r->id,
			 (unsigned char)(j->nfailed + 1));
	else
		memcpy(id, j->r->id, REQUEST_ID_BYTES);
}

static int reserve(struct dispatch_job *j, struct err *e)
{
	struct money_ask ask = {
		.provider = provider_name(j),
		.model = job_candidate(j)->model,
		.conversation = j->is_incognito ? NULL : j->conversation, /* to disk */
		.most_usd = j->account.most_usd,
		.request_budget_usd = j->r->budget_usd};

	char id[REQUEST_ID_BYTES];

	if (!j->d->parts.money)
		return 0;
	account_id(j, id);
	j->account.hold = money_reserve(j->d->parts.money, &ask, id, e);
	return j->account.hold ? 0 : -1;
}

static int admit(struct dispatch_job *j, struct err *e)
{
	const struct candidate *c = job_candidate(j);
	uint64_t retry_in_ms = 0;

	j->account.admitted = health_admit(j->d->health, c->provider->name, c->upstream,
					   clock_mono_ms(), &retry_in_ms);
	if (j->account.admitted)
		return 0;
	err_set(e, ERR_UNAVAILABLE,
		"%s has failed again and again; it is left alone for %.1f s",
		c->provider->name, (double)retry_in_ms / 1000);
	e->retry_after_ms = retry_in_ms < UINT32_MAX ? (uint32_t)retry_in_ms : UINT32_MAX;
	j->refused = true;
	return -1;
}

int account_open(struct dispatch_job *j, struct err *e)
{
	j->account.most_usd = most_usd(j);
	if (reserve(j, e) < 0)
		return -1;
	return admit(j, e);
}

/* A reservation that nobody compares with a cap need not survive a crash. */
bool account_must_wait(const struct dispatch_job *j)
{
	const struct config *c = j->d->parts.config;
	const struct config_provider *p;

	if (!j->account.hold || j->account.most_usd == 0)
		return false;
	if (c->budget.daily > 0 || c->budget.monthly > 0 || c->budget.conversation > 0)
		return true;
	p = config_provider_of(c, job_candidate(j)->model);
	return p && (p->daily_cap_usd > 0 || p->monthly_cap_usd > 0);
}

void account_when_safe(struct dispatch_job *j, void (*cb)(void *arg, const struct err *e))
{
	money_when_safe(j->account.hold, cb, j);
}

/* ---- close */

static void settle(struct dispatch_job *j, const struct usage *u, const char *status)
{
	struct money_hold *hold = j->account.hold;

	j->account.hold = NULL;
	if (hold)
		money_settle(hold, u, &job_candidate(j)->prices, status);
}

static void release(struct dispatch_job *j)
{
	struct money_hold *hold = j->account.hold;

	j->account.hold = NULL;
	if (hold)
		money_release(hold);
}

static double ttft_ms(const struct dispatch_job *j)
{
	const struct account *a = &j->account;

	return a->first_ms ? (double)(a->first_ms - a->start_ms) : -1;
}

void account_first(struct dispatch_job *j)
{
	j->account.first_ms = clock_mono_ms();
}

static void local_speed(struct dispatch_job *j, const struct usage *u)
{
	int fresh = u->prompt_tokens - (u->cached_tokens > 0 ? u->cached_tokens : 0);

	if (u->prompt_tokens >= 0)
		health_local_speed(j->d->health, job_candidate(j)->model, fresh,
				   u->prefill_ms);
}

void account_finished(struct dispatch_job *j, struct usage *u)
{
	const struct candidate *c = job_candidate(j);
	struct account *a = &j->account;

	if (!c->provider) {
		local_speed(j, u);
		if (u->cost_usd < 0)
			u->cost_usd = 0;
		return;
	}
	if (u->cost_usd < 0)
		u->cost_usd = money_cost(&c->prices, u);
	settle(j, u, "finished");
	if (a->admitted)
		health_success(j->d->health, c->provider->name, c->upstream,
			       clock_mono_ms(), ttft_ms(j));
	a->admitted = false;
}

static bool bills_nothing(const struct dispatch_job *j, const struct err *e)
{
	if (j->account.first_ms)
		return false;
	switch (e->code) {
	case ERR_TRANSPORT:
	case ERR_UNAVAILABLE:
		return !j->accepted;
	case ERR_TIMEOUT:
	case ERR_UPSTREAM:
	case ERR_INTERNAL:
		return false;
	default: /* it said no */
		return true;
	}
}

struct provider_status account_cluster(struct provider *p)
{
	struct provider_status s = {0};

	if (p->ops->status)
		p->ops->status(p, &s);
	return s;
}

/* One server of a cluster that dies says nothing of the others: the cluster looks after that. */
static bool speaks_against(const struct candidate *c, const struct err *e)
{
	return e->code != ERR_TRANSPORT || !account_cluster(c->provider).replicas_up;
}

void account_failed(struct dispatch_job *j, const struct err *e)
{
	const struct candidate *c = job_candidate(j);
	struct usage unknown = USAGE_UNKNOWN;
	struct account *a = &j->account;

	/* a try that did not get as far as a call has cost nothing */
	if (a->hold && (j->state != JOB_RUN || bills_nothing(j, e)))
		release(j);
	settle(j, &unknown, "failed");
	if (a->admitted && j->state == JOB_RUN && speaks_against(c, e))
		health_failure(j->d->health, c->provider->name, c->upstream,
			       clock_mono_ms(), e);
	else if (a->admitted)
		health_abandon(j->d->health, c->provider->name, c->upstream,
			       clock_mono_ms());
	a->admitted = false;
}

/* By the client, a newer request or a deadline of ours.  Output that came shows that it was well. */
void account_stopped(struct dispatch_job *j, bool ran)
{
	const struct candidate *c = j->c ? job_candidate(j) : NULL;
	struct usage unknown = USAGE_UNKNOWN;
	struct account *a = &j->account;

	if (a->hold && !ran)
		release(j);
	settle(j, &unknown, "cancelled");
	if (a->admitted && a->first_ms)
		health_success(j->d->health, c->provider->name, c->upstream,
			       clock_mono_ms(), ttft_ms(j));
	else if (a->admitted)
		health_abandon(j->d->health, c->provider->name, c->upstream,
			       clock_mono_ms());
	a->admitted = false;
}

void account_late(struct provider_listener *l, struct provider *p,
		  const struct late_cost *late)
{
	struct dispatch *d = CONTAINER_OF(l, struct dispatch, listener);

	UNUSED(p);
	if (d->parts.money)
		money_late(d->parts.money, late->request_id, late->prompt_tokens,
			   late->completion_tokens, late->cost_usd);
}
