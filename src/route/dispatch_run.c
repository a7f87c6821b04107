/* A try from its lease to its last event: what the provider says, and what the client hears of it.
 *
 * Loop thread.  The commit boundary is in on_event(): EVENT_STARTED of a provider only tells that it
 * has accepted the prompt; the client's own comes with the first output. */
#include "route/dispatch_impl.h"

#include <inttypes.h>
#include <sys/stat.h>
#include "base/clock.h"
#include "base/log.h"

/* ---- lease */

static void on_lease(void *arg, struct cache_lease *lease, const struct err *e)
{
	struct dispatch_job *j = arg;

	j->waiter = NULL;
	j->lease = lease;
	if (lease)
		j->runner = dispatch_runner(j->d, lease);
	uv_timer_stop(&j->timer);
	if (!lease)
		job_failed(j, e);
	else
		job_prepare(j);
}

struct model dispatch_model_now(const struct model *m)
{
	struct model now = *m;
	struct stat st;

	if (stat(m->path, &st) == 0) {
		now.bytes = (uint64_t)st.st_size;
		now.dev = (uint64_t)st.st_dev;
		now.ino = (uint64_t)st.st_ino;
		now.mtime_ms =
			(int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000;
	}
	return now;
}

/* With others behind it a candidate may wait as long as the route says, the last one until the
 * request's own deadline. */
static uint64_t lease_deadline(const struct dispatch_job *j)
{
	uint64_t patience =
		(uint64_t)(j->patience_ms > PATIENCE_MIN_MS ? j->patience_ms
							    : PATIENCE_MIN_MS);
	uint64_t until = clock_mono_ms() + patience;

	if (!job_has_more(j) || until > j->deadline_ms)
		return j->deadline_ms;
	return until;
}

void job_lease(struct dispatch_job *j)
{
	/* by name, since the folder may have been read again meanwhile */
	const struct model *m = models_find(j->d->parts.models, job_candidate(j)->model);
	struct cache_want want;
	struct model now;
	struct err e;

	if (!m || !m->path) {
		err_set(&e, ERR_MODEL, "model '%.150s' is no longer there",
			job_candidate(j)->model);
		job_failed(j, &e);
		return;
	}
	now = dispatch_model_now(m);
	job_move(j, JOB_LEASE);
	want = (struct cache_want){.model = &now,
				   .class = j->r->class,
				   .client = j->r->client,
				   .deadline_ms = lease_deadline(j),
				   .keep_alive_ms = j->r->keep_alive_ms};
	j->waiter = cache_acquire(j->d->parts.cache, &want, on_lease, j);
	job_wait(j, PROGRESS_FIRST_MS);
}

void job_tell_lease(struct dispatch_job *j)
{
	struct event ev = {.type = EVENT_PROGRESS};
	struct cache_progress p;

	if (!j->is_background)
		background_yield(j->d);
	cache_waiter_progress(j->waiter, &p);
	ev.progress.stage = p.state == CACHE_LOADING ? PROGRESS_LOADING : PROGRESS_QUEUED;
	ev.progress.done = p.state == CACHE_LOADING ? (int64_t)p.done_bytes : p.ahead;
	ev.progress.total = p.state == CACHE_LOADING ? (int64_t)p.total_bytes : 0;
	job_wait(j, PROGRESS_MS);
	if (!j->paused)
		j->out->event(j->out, &ev);
}

/* Each candidate gets what fits it; the turn is opened once. */
void job_prepare(struct dispatch_job *j)
{
	if (j->joined)
		context_count(j);
	else if (j->use == MEMORY_RECORD)
		memory_begin(j);
	else
		job_run(j);
}

/* ---- what the client hears */

static void add_reason(char *out, size_t bytes, const char *format, const char *a,
		       const char *b)
{
	size_t used = strlen(out);

	if (used + 1 < bytes)
		snprintf(out + used, bytes - used, format, a, b);
}

/* The plan's, unless that turned out differently. */
static void reason_of(const struct dispatch_job *j, char *out, size_t bytes)
{
	const struct route_attempt *last = NULL;

	out[0] = '\0';
	for (int i = 0; i < j->nfailed; i++) {
		last = &j->failed[i];
		if (i + 1 == j->nfailed || j->failed[i + 1].model != last->model)
			add_reason(out, bytes, "%.80s: %.120s; ", last->model,
				   last->error.text);
	}
	if (last && last->model == job_candidate(j)->model)
		add_reason(out, bytes, "%.100s%s", "the next try succeeded", "");
	else if (last)
		add_reason(out, bytes, "%.100s is next%s", job_candidate(j)->model, "");
	else
		add_reason(out, bytes, "%.399s%s", j->reason ? j->reason : "", "");
	if (j->note)
		add_reason(out, bytes, "; %s%s", j->note, "");
}

static void tell_context(const struct dispatch_job *j, struct event *ev)
{
	const struct candidate *c = job_candidate(j);
	const struct context_plan *p = &j->context.plan;
	bool has_path = j->joined != NULL;

	ev->started.conversation = j->conversation ? j->conversation : j->recorded;
	ev->started.kept_messages = has_path ? p->kept : -1;
	ev->started.dropped_messages = has_path ? p->dropped : -1;
	ev->started.summarised_messages = has_path ? p->summarised : -1;
	ev->started.elided_messages = has_path ? p->elided : -1;
	ev->started.ctx = j->lease ? cache_lease_info(j->lease)->ctx : c->ctx;
	ev->started.tier = c->provider ? "remote" : cache_tier_name(CACHE_READY);
}

static void tell_started(struct dispatch_job *j)
{
	const struct candidate *c = job_candidate(j);
	struct event ev = {.type = EVENT_STARTED};
	const char *reason = j->reason;
	char told[400];

	if (j->told_started)
		return;
	j->told_started = true;
	if (j->nfailed || j->note) {
		reason_of(j, told, sizeof told);
		reason = told;
	}
	ev.started.model = c->model;
	ev.started.provider = j->runner->name;
	ev.started.reason = reason;
	tell_context(j, &ev);
	ev.started.route = j->route;
	ev.started.upstream_model = j->upstream_model;
	ev.started.most_usd = j->account.most_usd;
	ev.started.attempts = j->failed;
	ev.started.nattempts = j->nfailed;
	route_log_started(j->d->log, j->log, j->route, c->model, j->runner->name, reason,
			  (double)(clock_mono_ms() - j->start_ms));
	j->out->event(j->out, &ev);
}

static void count_first_token(struct dispatch_job *j)
{
	struct dispatch_stats *s = &j->d->stats;
	double seconds = (double)(j->first_ms - j->start_ms) / 1000;
	int i = 0;

	while (i < DISPATCH_TTFT_BUCKETS - 1 && seconds > dispatch_ttft_bounds_s[i])
		i++;
	s->ttft[i]++;
	s->ttft_sum_s += seconds;
	s->ttft_count++;
}

/* The conversation keeps what answers it; a stand-in only bridges. */
static void pin(struct dispatch_job *j)
{
	const struct candidate *c = job_candidate(j);
	uint64_t key;

	if (!j->pin || c->is_bridge)
		return;
	key = sticky_key(j->r, j->conversation, j->joined ? j->joined : j->r->messages,
			 j->joined ? j->njoined : j->r->nmessages);
	sticky_put(j->d->sticky, j->route ? j->route : j->r->model, key, c->model,
		   clock_mono_ms());
}

/* From here on nothing is taken back. */
static void commit(struct dispatch_job *j)
{
	if (j->committed)
		return;
	j->committed = true;
	j->answered_by = xstrdup(j->runner->name);
	pin(j);
	tell_started(j);
}

/* ---- what the provider says */

static void on_output(struct dispatch_job *j, const struct event *ev)
{
	if (!j->first_ms) {
		j->first_ms = clock_mono_ms();
		count_first_token(j);
		account_first(j);
	}
	commit(j);
	if (j->state != JOB_DONE && memory_keep(j, ev))
		j->out->event(j->out, ev);
}

/* After the commit it is final, and no client should send the prompt again unasked. */
static void on_failed(struct dispatch_job *j, const struct event *ev)
{
	struct event last = *ev;

	j->run = NULL;
	if (!j->committed) {
		job_failed(j, &ev->failed);
		return;
	}
	last.failed.spent = true;
	account_failed(j, &last.failed);
	job_end(j, &last);
}

static void on_finished(struct dispatch_job *j, const struct event *ev)
{
	struct event last = *ev;

	j->run = NULL;
	account_finished(j, &last.finished.usage);
	commit(j);
	if (j->state != JOB_DONE)
		job_end(j, &last);
}

/* A long prompt is under way: silence, not work, has a limit. */
static void on_progress(struct dispatch_job *j, const struct event *ev)
{
	if (!j->r->deadline_ms)
		j->deadline_ms =
			clock_mono_ms() + (uint64_t)j->d->parts.config->queue_timeout_ms;
	if (!j->paused)
		j->out->event(j->out, ev);
}

static void on_accepted(struct dispatch_job *j, const struct event *ev)
{
	j->accepted = true;
	if (job_is_remote(j) && ev->started.model && !j->upstream_model)
		j->upstream_model = xstrndup(ev->started.model, MAX_NAME_BYTES);
}

static void on_event(struct event_sink *sink, const struct event *ev)
{
	struct dispatch_job *j = CONTAINER_OF(sink, struct dispatch_job, in);

	switch (ev->type) {
	case EVENT_STARTED:
		on_accepted(j, ev);
		break;
	case EVENT_TEXT:
	case EVENT_REASONING:
	case EVENT_TOOL_CALL:
		on_output(j, ev);
		break;
	case EVENT_PROGRESS:
		on_progress(j, ev);
		break;
	case EVENT_FINISHED:
		on_finished(j, ev);
		break;
	case EVENT_FAILED:
		on_failed(j, ev);
		break;
	}
}

/* ---- run */

/* What the provider borrows: as the client sent it, unless there is a history or this is a later try. */
static const struct request *request_of(struct dispatch_job *j)
{
	if (!j->context.messages && !j->nfailed)
		return j->r;
	if (!j->sent)
		j->sent = xmalloc(sizeof *j->sent);
	*j->sent = *j->r;
	account_id(j, j->sent->id);
	if (j->context.messages) {
		j->sent->messages = j->context.messages;
		j->sent->nmessages = j->context.nmessages;
	}
	return j->sent;
}

void job_run(struct dispatch_job *j)
{
	const struct candidate *c = job_candidate(j);
	const char *name = c->upstream;
	char id[24];
	struct err gone;

	if (!c->provider && !cache_lease_valid(j->lease)) {
		err_set(&gone, ERR_UNAVAILABLE, "the engine died; restarting");
		job_failed(j, &gone);
		return;
	}
	/* The plan has seen to it; a bug there must not become a leak. */
	ASSERT(!j->r->is_private || !c->provider || (c->stays && c->provider->is_local));
	job_move(j, JOB_RUN);
	if (!c->provider) {
		snprintf(id, sizeof id, "%" PRIu64, cache_lease_id(j->lease));
		name = id;
	}
	if (!j->ran)
		c->provider ? j->d->stats.remote++ : j->d->stats.local++;
	j->ran = true;
	j->in.event = on_event;
	j->run = j->runner->ops->start(j->runner, name, request_of(j), &j->in);
	if (j->paused && j->runner->ops->pause)
		j->runner->ops->pause(j->run, true);
	job_wait(j, PROGRESS_MS);
}

/* Remote providers have deadlines of their own; a client's own deadline counts
 * everywhere. */
void job_check_running(struct dispatch_job *j)
{
	struct err e;

	if (j->committed || clock_mono_ms() < j->deadline_ms ||
	    (job_is_remote(j) && !j->r->deadline_ms)) {
		memory_partial(j, true);
		job_wait(j, PROGRESS_MS);
		return;
	}
	err_set(&e, ERR_TIMEOUT,
		"model '%.150s': no first token within %.1f s; try again later",
		job_candidate(j)->model, (double)(clock_mono_ms() - j->start_ms) / 1000);
	job_fail(j, &e);
}
