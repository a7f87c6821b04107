/* One job for each prompt, from the request to its terminal event.
 *
 * Loop thread.  The steps are functions that start one wait each; the answers of cache,
 * store, engine and provider come back here and start the next.  job_end() is the one way
 * out for success and failure, dispatch_cancel() the other.  The question a reader will
 * ask: why is a job's memory not freed at once.  The store cannot be told to forget an
 * answer that it owes, and its timer closes in a later turn: both hold a reference, and a
 * job in state DONE ignores whatever comes. */
#include "route/dispatch_impl.h"

#include <inttypes.h>
#include <sys/stat.h>
#include "base/clock.h"
#include "base/log.h"

static const struct sm_state job_states[JOB_STATES] = {
	[JOB_START] = {"start", SM_TO(JOB_HISTORY) | SM_TO(JOB_LEASE) | SM_TO(JOB_RUN) |
					SM_TO(JOB_DONE)},
	[JOB_HISTORY] = {"history", SM_TO(JOB_LEASE) | SM_TO(JOB_BEGIN) | SM_TO(JOB_RUN) |
					    SM_TO(JOB_DONE)},
	[JOB_LEASE] = {"lease", SM_TO(JOB_LEASE) | SM_TO(JOB_COUNT) | SM_TO(JOB_BEGIN) |
					SM_TO(JOB_RUN) | SM_TO(JOB_END) |
					SM_TO(JOB_DONE)},
	[JOB_COUNT] = {"count", SM_TO(JOB_BEGIN) | SM_TO(JOB_DONE)},
	[JOB_BEGIN] = {"begin", SM_TO(JOB_RUN) | SM_TO(JOB_LEASE) | SM_TO(JOB_END) |
					SM_TO(JOB_DONE)},
	/* to lease: the engine died before the first text */
	[JOB_RUN] = {"run", SM_TO(JOB_LEASE) | SM_TO(JOB_END) | SM_TO(JOB_DONE)},
	[JOB_END] = {"end", SM_TO(JOB_DONE)},
	[JOB_DONE] = {"done", 0},
};

const double dispatch_ttft_bounds_s[DISPATCH_TTFT_BUCKETS] = {
	0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, __builtin_inf()};

static void on_timer(uv_timer_t *t);

void job_move(struct dispatch_job *j, enum job_state next)
{
	char what[64];

	snprintf(what, sizeof what, "request %.40s", j->r->id);
	sm_move(job_states, what, &j->state, next);
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
	free(j->model);
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
	if (j->waiter)
		cache_cancel(j->waiter);
	if (j->count)
		engine_count_cancel(j->count);
	if (j->run)
		j->provider->ops->cancel(j->run);
	cache_release(j->lease);
	j->waiter = NULL;
	j->count = NULL;
	j->run = NULL;
	j->lease = NULL;
	uv_timer_stop(&j->timer);
}

/* The last of it; the memory stays until the timer is closed and the store has answered.
 */
static void done(struct dispatch_job *j)
{
	job_move(j, JOB_DONE);
	TAILQ_REMOVE(&j->d->jobs, j, link);
	j->d->stats.running--;
	j->d = NULL; /* which may be gone before the last reference to us is */
	uv_close((uv_handle_t *)&j->timer, on_closed);
}

static void account(struct dispatch_job *j)
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
	account(j);
	done(j);
	j->out->event(j->out, &j->end);
}

/* Success and failure: from any state before END. */
static void job_end(struct dispatch_job *j, const struct event *ev)
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

static void job_fail(struct dispatch_job *j, const struct err *e)
{
	struct event ev = {.type = EVENT_FAILED, .failed = *e};

	job_end(j, &ev);
}

/* ---- where it runs */

static struct provider *find_provider(const struct dispatch *d, struct str name)
{
	for (int i = 0; i < d->parts.nproviders; i++)
		if (str_eq(name, d->providers[i]->name))
			return d->providers[i];
	return NULL;
}

static int resolve_remote(struct dispatch_job *j, const char *slash, struct err *e)
{
	if (!slash[1])
		return err_set(e, ERR_MODEL,
			       "model '%.100s': a model's name is missing after '/'",
			       j->r->model);
	if (j->r->is_private && !j->provider->is_local)
		return err_set(e, ERR_FORBIDDEN,
			       "model '%.100s' is remote, and the request is private: it "
			       "must not "
			       "leave this machine",
			       j->r->model);
	j->upstream = slash + 1;
	j->model = xstrdup(j->r->model);
	return 0;
}

static int no_such_model(const struct dispatch_job *j, const char *name, struct err *e)
{
	const char *near = models_nearest(j->d->parts.models, name);

	if (near)
		return err_set(e, ERR_MODEL, "no model '%.150s'; did you mean '%.150s'?",
			       name, near);
	return err_set(e, ERR_MODEL, "no model '%.150s'; 'hob ls' lists those there are",
		       name);
}

static int resolve(struct dispatch_job *j, struct err *e)
{
	const char *name = j->r->model, *slash = strchr(name, '/');
	const struct model *m;

	if (slash) {
		j->provider =
			find_provider(j->d, (struct str){name, (size_t)(slash - name)});
		if (j->provider)
			return resolve_remote(j, slash, e);
	}
	if (!name[0] || !strcmp(name, "default")) {
		m = models_default(j->d->parts.models);
		if (!m)
			return err_set(e, ERR_MODEL,
				       "there is no model yet; get one with "
				       "'hob pull smollm2:135m'");
	} else {
		m = models_find(j->d->parts.models, name);
		if (!m)
			return no_such_model(j, name, e);
	}
	j->provider = j->d->parts.local;
	j->model = xstrdup(m->name);
	if (m->path)
		return 0;
	return err_set(e, ERR_MODEL, "model '%.150s' has no file", m->name);
}

/* ---- lease */

static void on_lease(void *arg, struct cache_lease *lease, const struct err *e)
{
	struct dispatch_job *j = arg;

	j->waiter = NULL;
	j->lease = lease;
	if (lease)
		j->provider = dispatch_runner(j->d, lease);
	uv_timer_stop(&j->timer);
	if (!lease)
		job_fail(j, e);
	else if (j->conversation && !j->prepared)
		memory_count(j);
	else
		job_run(j);
}

/* A file that was replaced since the folder was read is another model to the cache.  One
 * that was removed stays what it was: it may be loaded still. */
static struct model as_of_now(const struct model *m)
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

void job_lease(struct dispatch_job *j)
{
	/* by name, since the folder may have been read again meanwhile */
	const struct model *m = models_find(j->d->parts.models, j->model);
	struct cache_want want;
	struct model now;
	struct err e;

	if (!m || !m->path) {
		no_such_model(j, j->model, &e);
		job_fail(j, &e);
		return;
	}
	now = as_of_now(m);
	job_move(j, JOB_LEASE);
	want = (struct cache_want){.model = &now,
				   .class = j->r->class,
				   .client = j->r->client,
				   .deadline_ms = j->deadline_ms,
				   .keep_alive_ms = j->r->keep_alive_ms};
	j->waiter = cache_acquire(j->d->parts.cache, &want, on_lease, j);
	job_wait(j, PROGRESS_FIRST_MS);
}

static void tell_waiting(struct dispatch_job *j)
{
	struct event ev = {.type = EVENT_PROGRESS};
	struct cache_progress p;

	cache_waiter_progress(j->waiter, &p);
	ev.progress.stage = p.state == CACHE_LOADING ? PROGRESS_LOADING : PROGRESS_QUEUED;
	ev.progress.done = p.state == CACHE_LOADING ? (int64_t)p.done_bytes : p.ahead;
	ev.progress.total = p.state == CACHE_LOADING ? (int64_t)p.total_bytes : 0;
	job_wait(j, PROGRESS_MS);
	if (!j->paused)
		j->out->event(j->out, &ev);
}

/* ---- run */

static void tell_started(struct dispatch_job *j, const struct event *from)
{
	char reason[256];
	struct event ev = {.type = EVENT_STARTED};

	if (j->told_started)
		return;
	j->told_started = true;
	snprintf(reason, sizeof reason, "%s%s%s",
		 j->upstream ? "the model's name is a remote provider's"
			     : "a local model",
		 j->note[0] ? "; " : "", j->note);
	ev.started.model = j->model;
	if (from->type == EVENT_STARTED && from->started.model && j->upstream)
		ev.started.model = from->started.model;
	ev.started.provider = j->provider->name;
	ev.started.reason = reason;
	ev.started.conversation = j->conversation;
	ev.started.kept_messages = j->kept;
	ev.started.dropped_messages = j->dropped;
	j->out->event(j->out, &ev);
}

static void first_text(struct dispatch_job *j)
{
	struct dispatch_stats *s = &j->d->stats;
	double seconds;
	int i = 0;

	j->committed = true;
	j->first_ms = clock_mono_ms();
	seconds = (double)(j->first_ms - j->start_ms) / 1000;
	while (i < DISPATCH_TTFT_BUCKETS - 1 && seconds > dispatch_ttft_bounds_s[i])
		i++;
	s->ttft[i]++;
	s->ttft_sum_s += seconds;
	s->ttft_count++;
}

static void on_output(struct dispatch_job *j, const struct event *ev)
{
	struct err e;

	if (!j->committed)
		first_text(j);
	if (ev->type == EVENT_TEXT && (j->turn || j->begin_due)) {
		if (j->answer.len + ev->text.len > MAX_ANSWER_BYTES) {
			err_set(&e, ERR_UPSTREAM, "the answer is longer than %d MiB",
				MAX_ANSWER_BYTES >> 20);
			job_fail(j, &e);
			return;
		}
		buf_add(&j->answer, ev->text.ptr, ev->text.len);
		memory_partial(j, false);
	}
	j->out->event(j->out, ev);
}

/* The engine died, and nothing was shown yet: once more, with a fresh lease. */
static bool may_retry(const struct dispatch_job *j, const struct err *e)
{
	return !j->upstream && e->code == ERR_UNAVAILABLE && !j->committed &&
	       j->retries == 0;
}

static void retry(struct dispatch_job *j, const struct err *why)
{
	j->retries++;
	j->d->stats.retried++;
	log_info("request %s: %s; tried once more", j->r->id, why->text);
	cache_release(j->lease);
	j->lease = NULL;
	job_lease(j);
}

static void on_failed(struct dispatch_job *j, const struct event *ev)
{
	j->run = NULL;
	if (may_retry(j, &ev->failed))
		retry(j, &ev->failed);
	else
		job_end(j, ev);
}

static void on_event(struct event_sink *sink, const struct event *ev)
{
	struct dispatch_job *j = CONTAINER_OF(sink, struct dispatch_job, in);

	if (ev->type == EVENT_FAILED) {
		on_failed(j, ev);
		return;
	}
	tell_started(j, ev);
	if (j->state == JOB_DONE)
		return; /* cancelled by what it was told */
	switch (ev->type) {
	case EVENT_TEXT:
	case EVENT_REASONING:
	case EVENT_TOOL_CALL:
		on_output(j, ev);
		break;
	case EVENT_PROGRESS:
		/* a long prompt is under way: silence, not work, has a limit */
		if (!j->r->deadline_ms)
			j->deadline_ms = clock_mono_ms() +
					 (uint64_t)j->d->parts.config->queue_timeout_ms;
		if (!j->paused)
			j->out->event(j->out, ev);
		break;
	case EVENT_FINISHED:
		j->run = NULL;
		job_end(j, ev);
		break;
	default:
		break;
	}
}

void job_run(struct dispatch_job *j)
{
	char id[24];
	const char *name = j->upstream;
	struct err gone;

	if (!name && !cache_lease_valid(j->lease)) {
		err_set(&gone, ERR_UNAVAILABLE, "the engine died; restarting");
		if (may_retry(j, &gone))
			retry(j, &gone);
		else
			job_fail(j, &gone);
		return;
	}
	job_move(j, JOB_RUN);
	j->prepared = true;
	j->sent = *j->r;
	if (j->messages) {
		j->sent.messages = j->messages;
		j->sent.nmessages = j->nmessages;
	}
	if (!name) {
		snprintf(id, sizeof id, "%" PRIu64, cache_lease_id(j->lease));
		name = id;
	}
	if (j->retries == 0)
		j->upstream ? j->d->stats.remote++ : j->d->stats.local++;
	j->in.event = on_event;
	j->run = j->provider->ops->start(j->provider, name, &j->sent, &j->in);
	if (j->paused && j->provider->ops->pause)
		j->provider->ops->pause(j->run, true);
	job_wait(j, PROGRESS_MS);
}

/* Remote providers have deadlines of their own; a client's own deadline counts
 * everywhere. */
static void check_first_token(struct dispatch_job *j)
{
	struct err e;

	if (j->committed || clock_mono_ms() < j->deadline_ms ||
	    (j->upstream && !j->r->deadline_ms)) {
		memory_partial(j, true);
		job_wait(j, PROGRESS_MS);
		return;
	}
	err_set(&e, ERR_TIMEOUT,
		"model '%.150s': no first token within %.1f s; try again later", j->model,
		(double)(clock_mono_ms() - j->start_ms) / 1000);
	job_fail(j, &e);
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
	}
}

static void job_begin(struct dispatch_job *j)
{
	struct err e;

	if (j->r->supersede)
		supersede_older(j);
	if (j->d->stats.running > DISPATCH_MAX_JOBS) {
		err_set(&e, ERR_BUSY, "%d requests are running already; try again later",
			DISPATCH_MAX_JOBS);
		job_fail(j, &e);
	} else if (resolve(j, &e) < 0) {
		job_fail(j, &e);
	} else if (memory_wanted(j)) {
		memory_history(j);
	} else if (j->upstream) {
		job_run(j);
	} else {
		job_lease(j);
	}
}

static void on_timer(uv_timer_t *t)
{
	struct dispatch_job *j = t->data;

	switch ((enum job_state)j->state) {
	case JOB_START:
		job_begin(j);
		break;
	case JOB_HISTORY:
	case JOB_BEGIN:
		memory_off(j, "the store did not answer in time");
		break;
	case JOB_LEASE:
		tell_waiting(j);
		break;
	case JOB_COUNT:
		memory_begin(j);
		break;
	case JOB_RUN:
		check_first_token(j);
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
	j->kept = j->dropped = -1;
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
		err_set(&j->end.failed, ERR_CANCELLED, "cancelled");
		memory_end(j);
	}
	j->d->stats.cancelled++;
	done(j);
}

void dispatch_pause(struct dispatch_job *j, bool paused)
{
	if (j->state == JOB_DONE || j->paused == paused)
		return;
	j->paused = paused;
	if (j->run && j->provider->ops->pause)
		j->provider->ops->pause(j->run, paused);
}
