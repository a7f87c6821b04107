/* Which candidate a job tries, and what a failure before the first output leads to.
 *
 * Loop thread.  The plan is made once; what is kept of it is a copy, since the configuration whose
 * names it borrows may be replaced while the job runs.  A failure asks retry_decide(); what is
 * added here is what only the plan knows: after a refused context only a larger one is worth
 * trying, and after a refused key no other model of the same provider. */
#include "route/dispatch_impl.h"

#include "base/clock.h"
#include "base/log.h"

void candidates_forget(struct dispatch_job *j)
{
	for (int i = 0; i < j->nc; i++)
		free(j->c[i].model);
	if (j->c != &j->only)
		free(j->c);
	free(j->route);
	free(j->reason);
	j->c = NULL;
	j->nc = 0;
	j->route = j->reason = NULL;
}

void candidates_free(struct dispatch_job *j)
{
	candidates_forget(j);
	free(j->failed);
	free(j->sent);
	free(j->upstream_model);
	free(j->answered_by);
}

/* ---- the plan */

static void keep_plan(struct dispatch_job *j, struct plan *p)
{
	j->c = p->nused == 1 ? &j->only : xcalloc((size_t)p->nused, sizeof *j->c);
	j->nc = p->nused;
	for (int i = 0; i < p->nused; i++) {
		j->c[i] = p->c[i];
		p->c[i].model = NULL; /* ours now; `upstream` points into it */
	}
	j->route = p->route ? xstrdup(p->route) : NULL;
	j->patience_ms = p->patience_ms;
	j->after_refusal = p->after_refusal;
	j->pin = p->pin;
	j->reason = xstrdup(p->reason);
}

/* -1: nothing can answer it. */
static int make_plan(struct dispatch_job *j, struct err *e)
{
	struct plan_world w;
	struct plan p;

	dispatch_world(j->d, &w);
	plan_make(&p, &w, j->r, j->conversation, j->joined ? j->joined : j->r->messages,
		  j->joined ? j->njoined : j->r->nmessages);
	if (p.nused == 0) {
		*e = p.error;
	} else {
		if (p.load_behind)
			bridge_load(j->d, p.load_behind);
		keep_plan(j, &p);
	}
	plan_fini(&p);
	return j->c ? 0 : -1;
}

void job_plan(struct dispatch_job *j)
{
	struct err e;

	job_move(j, JOB_PLAN);
	if (make_plan(j, &e) < 0) {
		e.spent = e.code == ERR_PAYMENT; /* a cap of ours */
		job_fail(j, &e);
	} else if (j->is_plain && !j->joined && memory_wanted(j))
		memory_history(j);
	else
		job_try(j);
}

/* ---- a try */

static void on_money(void *arg, const struct err *e)
{
	struct dispatch_job *j = arg;

	if (e)
		job_failed(j, e);
	else
		job_prepare(j);
}

/* Without a delay too: a provider that is telling us of its failure may not be entered again. */
static void wait_for(struct dispatch_job *j, uint64_t delay_ms)
{
	job_move(j, JOB_WAIT);
	j->wait_until_ms = clock_mono_ms() + delay_ms;
	job_wait(j, delay_ms < PROGRESS_MS ? delay_ms : PROGRESS_MS);
}

/* A second try may find the breaker open.  One that the server has asked to come again later waits for
 * the breaker as well when nobody else is left, since the two are not the same time; any other fails at
 * once, which is what breakers are for. */
static bool wait_for_breaker(struct dispatch_job *j, const struct err *e)
{
	if (!j->refused || j->tries < 2 || job_has_more(j) ||
	    !j->failed[j->nfailed - 1].error.retry_after_ms ||
	    clock_mono_ms() + e->retry_after_ms >= j->deadline_ms)
		return false;
	account_stopped(j, false);
	j->tries--;
	wait_for(j, e->retry_after_ms);
	return true;
}

static void try_remote(struct dispatch_job *j)
{
	struct err e = {0};

	j->runner = job_candidate(j)->provider;
	if (account_open(j, &e) < 0) {
		if (!wait_for_breaker(j, &e))
			job_failed(j, &e);
		return;
	}
	if (!account_must_wait(j)) {
		job_prepare(j);
		return;
	}
	job_move(j, JOB_MONEY);
	job_wait(j, MONEY_WAIT_MS);
	account_when_safe(j, on_money);
}

/* What was to be answered stands in a conversation that could not be read. */
static bool has_nothing_to_ask(const struct dispatch_job *j)
{
	return j->r->is_chat && !j->joined && j->r->nmessages <= j->r->nunkept;
}

void job_try(struct dispatch_job *j)
{
	struct err e;

	if (has_nothing_to_ask(j)) {
		err_set(&e, ERR_UNAVAILABLE,
			"'messages' is empty, and the conversation is not there: %.300s",
			j->note ? j->note : "memory is off");
		job_fail(j, &e);
		return;
	}
	if (j->state != JOB_PLAN)
		job_move(j, JOB_PLAN);
	j->tries++;
	j->accepted = j->refused = false;
	free(j->upstream_model);
	j->upstream_model = NULL;
	j->account = (struct account){.start_ms = clock_mono_ms()};
	if (job_is_remote(j))
		try_remote(j);
	else
		job_lease(j);
}

/* ---- failures */

int candidate_ctx(const struct dispatch_job *j, const struct candidate *c)
{
	if (c->ctx > 0)
		return c->ctx;
	return c->provider ? REMOTE_CTX : j->d->parts.config->ctx;
}

/* Said by the provider of all its models: the key, or an account without money.  A cap of ours
 * is asked anew for each: the next may be cheaper. */
static bool is_of_account(const struct dispatch_job *j, const struct err *e)
{
	if (j->state != JOB_RUN)
		return false;
	return e->code == ERR_KEY || e->code == ERR_UNAUTHORIZED ||
	       (e->code == ERR_PAYMENT && !e->retry_after_ms);
}

/* Those behind the failed one that would fail the same way. */
static void withdraw(struct dispatch_job *j, const struct err *e)
{
	const struct candidate *bad = job_candidate(j);

	for (int i = j->at + 1; i < j->nc; i++) {
		struct candidate *c = &j->c[i];

		if (e->code == ERR_CONTEXT &&
		    candidate_ctx(j, c) <= candidate_ctx(j, bad))
			c->use = false;
		if (is_of_account(j, e) && bad->provider && c->provider == bad->provider)
			c->use = false;
	}
}

static int next_candidate(const struct dispatch_job *j)
{
	int i = j->at + 1;

	while (i < j->nc && !j->c[i].use)
		i++;
	return i;
}

bool job_has_more(const struct dispatch_job *j)
{
	return next_candidate(j) < j->nc;
}

static void note_failure(struct dispatch_job *j, const struct err *e)
{
	const struct candidate *c = job_candidate(j);
	struct route_attempt *a;

	j->failed = xrealloc(j->failed, ((size_t)j->nfailed + 1) * sizeof *j->failed);
	a = &j->failed[j->nfailed++];
	a->model = c->model;
	a->provider = c->provider ? c->provider->name : "local";
	a->error = *e;
	a->ms = (double)(clock_mono_ms() - j->account.start_ms);
	if (j->log)
		route_log_attempt(j->d->log, j->log, a);
}

/* The engine's death says nothing about the prompt that it had: once more, at once. */
static bool was_crash(const struct dispatch_job *j, const struct err *e)
{
	return !job_is_remote(j) && e->code == ERR_UNAVAILABLE && j->lease &&
	       j->tries == 1;
}

/* Once more could be paid for twice.  One's own machines send no bill. */
static bool may_be_billed_twice(const struct dispatch_job *j, const struct err *e)
{
	const struct candidate *c = job_candidate(j);

	if (j->accepted)
		return true;
	return e->sent && c->provider && !c->provider->is_local &&
	       !account_cluster(c->provider).replicas;
}

static enum retry_step decide(struct dispatch_job *j, const struct err *e,
			      uint64_t *delay_ms)
{
	uint64_t now = clock_mono_ms();
	struct retry_ask ask = {
		.e = e,
		.is_local = !job_is_remote(j),
		.tries = j->refused ? RETRY_MAX_SAME + 1 : j->tries,
		.more = job_has_more(j),
		.after_refusal = j->after_refusal,
		.sent_twice = may_be_billed_twice(j, e),
		.left_ms = j->deadline_ms > now ? j->deadline_ms - now : 0,
		.random = dispatch_random(j->d),
	};

	*delay_ms = 0;
	if (was_crash(j, e))
		return RETRY_SAME;
	return retry_decide(&ask, &j->d->budget, delay_ms);
}

/* "qwen3:8b: out of memory; far/x: it is overloaded (3 times)": one part for each candidate. */
static void add_attempts(const struct dispatch_job *j, struct err *e)
{
	size_t used = 0, share = sizeof e->text / (size_t)(j->at + 1);
	int n = 1;

	if (share < 60)
		share = 60;
	for (int i = 0; i < j->nfailed && used + 1 < sizeof e->text; i++, n++) {
		const struct route_attempt *a = &j->failed[i];
		char part[sizeof e->text];
		int len;

		if (i + 1 < j->nfailed && j->failed[i + 1].model == a->model)
			continue;
		len = snprintf(part, sizeof part, "%s%.100s: %s", used ? "; " : "",
			       a->model, a->error.text);
		if (len >= (int)share)
			len = (int)share - 1;
		used += (size_t)snprintf(e->text + used, sizeof e->text - used, "%.*s",
					 len, part);
		if (n > 1 && used < sizeof e->text)
			used += (size_t)snprintf(e->text + used, sizeof e->text - used,
						 " (%d times)", n);
		n = 0;
	}
}

/* A server that limits, or holds money for calls that still run, wants its client to come again; a cap
 * of ours does not.  For the rest the policy has said no to trying again. */
static bool may_come_again(const struct dispatch_job *j, const struct err *e)
{
	if (!job_is_remote(j))
		return true;
	return e->code == ERR_BUSY ||
	       (e->code == ERR_PAYMENT && e->retry_after_ms && j->state == JOB_RUN);
}

/* What the client gets: the first candidate's latest error. */
static void give_up(struct dispatch_job *j)
{
	struct err e = j->failed[0].error;
	uint32_t soonest = 0;

	for (int i = 0; i < j->nfailed; i++) {
		const struct route_attempt *a = &j->failed[i];

		if (a->model == j->failed[0].model)
			e = a->error;
		if (a->error.retry_after_ms &&
		    (!soonest || a->error.retry_after_ms < soonest))
			soonest = a->error.retry_after_ms;
	}
	if (j->nfailed > 1) {
		add_attempts(j, &e);
		e.spent = true;
	} else {
		e.spent = !may_come_again(j, &e);
	}
	e.retry_after_ms = soonest;
	job_fail(j, &e);
}

static void again(struct dispatch_job *j, const struct err *e, uint64_t delay_ms)
{
	struct dispatch_stats *s = &j->d->stats;

	s->retried++;
	s->retried_by_code[e->code]++;
	log_info("request %s: %s: %s; once more after %llu ms", j->r->id,
		 job_candidate(j)->model, e->text, (unsigned long long)delay_ms);
	wait_for(j, delay_ms);
}

static void fall_back(struct dispatch_job *j, const struct err *e)
{
	struct dispatch_stats *s = &j->d->stats;
	int next = next_candidate(j);

	s->fallbacks++;
	s->fallbacks_by_code[e->code]++;
	log_info("request %s: %s: %s; %s is next", j->r->id, job_candidate(j)->model,
		 e->text, j->c[next].model);
	j->at = next;
	j->tries = 0;
	wait_for(j, 0);
}

void job_failed(struct dispatch_job *j, const struct err *e)
{
	struct err why = *e; /* which may be in what goes now */
	enum retry_step step;
	uint64_t delay_ms;

	uv_timer_stop(&j->timer);
	account_failed(j, &why);
	if (!j->refused || j->tries < 2) /* else what it was refused for says more */
		note_failure(j, &why);
	withdraw(j, &why);
	step = decide(j, &why, &delay_ms);
	cache_release(j->lease);
	j->lease = NULL;
	if (step == RETRY_SAME)
		again(j, &why, delay_ms);
	else if (step == RETRY_OTHER && job_has_more(j))
		fall_back(j, &why);
	else
		give_up(j);
}

void job_tell_wait(struct dispatch_job *j)
{
	struct event ev = {.type = EVENT_PROGRESS,
			   .progress = {.stage = PROGRESS_QUEUED}};
	uint64_t now = clock_mono_ms(), left;

	if (now >= j->wait_until_ms) {
		job_try(j);
		return;
	}
	left = j->wait_until_ms - now;
	job_wait(j, left < PROGRESS_MS ? left : PROGRESS_MS);
	if (!j->paused)
		j->out->event(j->out, &ev);
}
