/* One job for each prompt, from the request to its terminal event: the states, and the two ways
 * out.
 *
 * Loop thread.  The steps are functions that start one wait each; the answers of cache,
 * store, engine, money and provider come back and start the next.  job_end() is the one way
 * out for success and failure, dispatch_cancel() the other.  The question a reader will
 * ask: why is a job's memory not freed at once.  The store cannot be told to forget an
 * answer that it owes, and its timer closes in a later turn: both hold a reference, and a
 * job in state DONE ignores whatever comes. */
#include "route/dispatch_impl.h"

#include "base/clock.h"
#include "base/log.h"

#define OUT (SM_TO(JOB_END) | SM_TO(JOB_DONE))

static const struct sm_state job_states[JOB_STATES] = {
	[JOB_START] = {"start", SM_TO(JOB_HISTORY) | SM_TO(JOB_PLAN) | OUT},
	[JOB_HISTORY] = {"history", SM_TO(JOB_PLAN) | OUT},
	[JOB_PLAN] = {"plan", SM_TO(JOB_HISTORY) | SM_TO(JOB_WAIT) | SM_TO(JOB_LEASE) |
				      SM_TO(JOB_MONEY) | SM_TO(JOB_SUMMARISE) |
				      SM_TO(JOB_BEGIN) | SM_TO(JOB_RUN) | OUT},
	[JOB_WAIT] = {"wait", SM_TO(JOB_PLAN) | OUT},
	[JOB_LEASE] = {"lease", SM_TO(JOB_COUNT) | SM_TO(JOB_BEGIN) | SM_TO(JOB_RUN) |
					SM_TO(JOB_SUMMARISE) | SM_TO(JOB_WAIT) | OUT},
	[JOB_MONEY] = {"money", SM_TO(JOB_SUMMARISE) | SM_TO(JOB_BEGIN) | SM_TO(JOB_RUN) |
					SM_TO(JOB_WAIT) | OUT},
	/* to wait: the engine died meanwhile */
	[JOB_COUNT] = {"count", SM_TO(JOB_SUMMARISE) | SM_TO(JOB_BEGIN) | SM_TO(JOB_RUN) |
					SM_TO(JOB_WAIT) | OUT},
	[JOB_SUMMARISE] = {"summarise", SM_TO(JOB_PLAN) | OUT},
	[JOB_BEGIN] = {"begin", SM_TO(JOB_RUN) | SM_TO(JOB_WAIT) | OUT},
	[JOB_RUN] = {"run", SM_TO(JOB_WAIT) | OUT},
	[JOB_END] = {"end", SM_TO(JOB_DONE)},
	[JOB_DONE] = {"done", 0},
};

const double dispatch_ttft_bounds_s[DISPATCH_TTFT_BUCKETS] = {
	0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, __builtin_inf()};

static void on_timer(uv_timer_t *t);

void job_move(struct dispatch_job *j, enum job_state next)
{
	sm_move(job_states, j->r->id, &j->state, next);
}

void job_wait(struct dispatch_job *j, uint64_t ms)
{
	uv_timer_start(&j->timer, on_timer, ms, 0);
}

void job_unref(struct dispatch_job *j)
{
	if (--j->refs > 0)
		return;
	memory_free(j);
	candidates_free(j);
	request_free(j->r);
	free(j);
}

static void on_closed(uv_handle_t *h)
{
	job_unref(h->data);
}

/* Lets go of whatever it holds or waits for, the store's answers excepted. */
static void stop(struct dispatch_job *j)
{
	bool ran = j->run != NULL;

	if (j->waiter)
		cache_cancel(j->waiter);
	if (j->count)
		engine_count_cancel(j->count);
	summary_cancel(j);
	if (j->run)
		j->runner->ops->cancel(j->run);
	cache_release(j->lease);
	j->waiter = NULL;
	j->count = NULL;
	j->run = NULL;
	j->lease = NULL;
	account_stopped(j, ran);
	uv_timer_stop(&j->timer);
}

/* The last of it; the memory stays until the timer is closed and the store has answered.
 */
static void done(struct dispatch_job *j, const char *outcome)
{
	bool ok = j->end.type == EVENT_FINISHED;

	if (j->log)
		route_log_ended(j->d->log, j->log, outcome, ok ? NULL : &j->end.failed,
				(double)(clock_mono_ms() - j->start_ms),
				ok ? j->end.finished.usage.cost_usd : -1);
	job_move(j, JOB_DONE);
	TAILQ_REMOVE(&j->d->jobs, j, link);
	j->d->stats.running--;
	background_job_done(j->d);
	j->d = NULL; /* which may be gone before the last reference to us is */
	uv_close((uv_handle_t *)&j->timer, on_closed);
}

static void count_end(struct dispatch_job *j)
{
	struct dispatch_stats *s = &j->d->stats;
	const struct usage *u = &j->end.finished.usage;

	if (j->end.type == EVENT_FAILED) {
		s->failed++;
		s->failed_by_code[j->end.failed.code]++;
		return;
	}
	s->finished++;
	s->tokens_in += u->prompt_tokens > 0 ? (uint64_t)u->prompt_tokens : 0;
	s->tokens_cached += u->cached_tokens > 0 ? (uint64_t)u->cached_tokens : 0;
	s->tokens_out += u->completion_tokens > 0 ? (uint64_t)u->completion_tokens : 0;
}

void job_deliver(struct dispatch_job *j)
{
	count_end(j);
	done(j, j->end.type == EVENT_FINISHED ? "finished" : "failed");
	j->out->event(j->out, &j->end);
}

/* From any state before END. */
void job_end(struct dispatch_job *j, const struct event *ev)
{
	j->end = *ev;
	stop(j);
	if (memory_end(j)) {
		job_move(j, JOB_END);
		job_wait(j, STORE_END_MS);
		return;
	}
	job_deliver(j);
}

void job_fail(struct dispatch_job *j, const struct err *e)
{
	struct event ev = {.type = EVENT_FAILED, .failed = *e};

	job_end(j, &ev);
}

/* ---- start, time, cancel */

/* An editor asks again with each key stroke: only the newest question is of interest. */
static void supersede_older(struct dispatch_job *j)
{
	struct dispatch_job *o, *next;
	struct err e;

	for (o = TAILQ_FIRST(&j->d->jobs); o; o = next) {
		next = TAILQ_NEXT(o, link);
		if (o == j || o->state == JOB_END || !o->r->supersede ||
		    strcmp(o->r->supersede, j->r->supersede))
			continue;
		err_set(&e, ERR_CONFLICT,
			"superseded by a newer request with the key '%s'",
			j->r->supersede);
		job_fail(o, &e);
		if (j->state == JOB_DONE)
			return; /* cancelled by whom that told */
	}
}

/* A plain name's plan does not ask for sizes: it comes first, so that a wrong name is an error
 * before the store is asked to make a conversation for it. */
static void job_begin(struct dispatch_job *j)
{
	struct plan_world w;
	struct err e;

	if (j->r->supersede)
		supersede_older(j);
	if (j->state == JOB_DONE)
		return;
	retry_budget_request(&j->d->budget);
	j->log = route_log_begin(j->d->log, j->r);
	if (j->d->stats.running > DISPATCH_MAX_JOBS) {
		err_set(&e, ERR_BUSY, "%d requests are running already; try again later",
			DISPATCH_MAX_JOBS);
		job_fail(j, &e);
		return;
	}
	dispatch_world(j->d, &w);
	j->is_plain = plan_is_plain(&w, j->r->model);
	if (memory_wanted(j) && !j->is_plain)
		memory_history(j);
	else
		job_plan(j);
}

static void on_timer(uv_timer_t *t)
{
	struct dispatch_job *j = t->data;
	struct err e;

	switch ((enum job_state)j->state) {
	case JOB_START:
		job_begin(j);
		break;
	case JOB_HISTORY:
	case JOB_BEGIN:
		memory_off(j, "the store did not answer in time");
		break;
	case JOB_WAIT:
		job_tell_wait(j);
		break;
	case JOB_LEASE:
		job_tell_lease(j);
		break;
	case JOB_MONEY:
		err_set(&e, ERR_PAYMENT,
			"what it may cost could not be written to disk in time, and a cap is set");
		job_failed(j, &e);
		break;
	case JOB_COUNT:
		context_counted_late(j);
		break;
	case JOB_SUMMARISE:
		summary_tell(j);
		break;
	case JOB_RUN:
		job_check_running(j);
		break;
	case JOB_END:
		log_warn("request %s: the store did not commit in time", j->r->id);
		job_deliver(j);
		break;
	default:
		break;
	}
}

struct dispatch_job *dispatch_start(struct dispatch *d, struct request *r,
				    struct event_sink *sink)
{
	struct dispatch_job *j = xcalloc(1, sizeof *j);

	j->d = d;
	j->store = d->parts.store;
	j->r = r;
	j->out = sink;
	j->start_ms = clock_mono_ms();
	j->deadline_ms = r->deadline_ms;
	if (!j->deadline_ms)
		j->deadline_ms =
			j->start_ms + (uint64_t)d->parts.config->queue_timeout_ms;
	uv_timer_init(d->parts.loop, &j->timer);
	j->timer.data = j;
	j->refs = 1;
	TAILQ_INSERT_TAIL(&d->jobs, j, link);
	d->stats.running++;
	d->stats.started++;
	job_wait(j, 0);
	return j;
}

void dispatch_cancel(struct dispatch_job *j)
{
	if (j->state == JOB_DONE)
		return; /* by the sink, while it is told the end */
	stop(j);
	/* In END the answer is complete, and its commit is on its way: it stays as it is.
	 */
	if (j->state != JOB_END) {
		j->was_cancelled = true;
		j->end.type = EVENT_FAILED;
		err_set(&j->end.failed, ERR_CANCELLED, "cancelled");
		memory_end(j);
	}
	j->d->stats.cancelled++;
	done(j, "cancelled");
}

void dispatch_pause(struct dispatch_job *j, bool paused)
{
	if (j->state == JOB_DONE || j->paused == paused)
		return;
	j->paused = paused;
	if (j->run && j->runner->ops->pause)
		j->runner->ops->pause(j->run, paused);
}
