/* When a summary or a title is wanted, of what, and who writes it.
 *
 * Loop thread.  Behind a turn it goes to the background.  A call that does not fit waits for its summary
 * in SUMMARISE; it gives its lease back meanwhile, since a model with one slot could not run both, and then
 * starts its try anew.  The messages in front of the question are those that were sent before, byte for
 * byte, so that their KV cache is reused. */
#include "route/dispatch_task.h"

#include "base/clock.h"
#include "base/log.h"
#include "memory/summary.h"

enum {
	ASK_TOKENS = 240, /* of the question, at most */
};

/* ---- who writes */

struct writer {
	const char *model;
	int ctx;
	bool takes_raw; /* the turn's own model, no engine: it has read all this before */
};

/* A completion model has no way to hold a conversation. */
static bool is_for_code(const struct dispatch_job *j, const char *name)
{
	const struct config_model *m = config_model(j->d->parts.config, name);

	return m && m->settings.role == MODEL_COMPLETION;
}

static bool resident(const struct dispatch_job *j, struct writer *w)
{
	const struct cache *c = j->d->parts.cache;
	struct cache_row row;

	if (!job_is_remote(j)) {
		*w = (struct writer){job_candidate(j)->model, j->context.ctx,
				     !context_is_plain(j)};
		return true;
	}
	for (int i = 0; i < cache_count(c); i++) {
		cache_row(c, i, &row);
		if (row.state == CACHE_READY && row.ctx > w->ctx &&
		    !is_for_code(j, row.name))
			*w = (struct writer){row.name, row.ctx, false};
	}
	return w->model != NULL;
}

/* What may not leave this machine is written by a model that is on it. */
static bool configured(const struct dispatch_job *j, struct writer *w)
{
	const struct config *c = j->d->parts.config;
	const struct config_provider *p;
	struct cache_row row;

	if (!c->memory_summary_model)
		return false;
	p = config_provider_of(c, c->memory_summary_model);
	if (p && !p->local && (j->r->is_private || c->local_only))
		return false;
	w->model = c->memory_summary_model;
	w->ctx = p ? REMOTE_CTX : c->ctx;
	if (cache_find(j->d->parts.cache, w->model, &row) && row.ctx > 0)
		w->ctx = row.ctx;
	return true;
}

/* ---- making tasks */

/* How far the writer can read: a border of turns not behind upto + 1.  Not beyond `from`: nothing. */
static int readable_to(const struct dispatch_job *j, const struct context_plan *p,
		       int from, int upto, int ctx, int max_tokens)
{
	int64_t left = ctx - max_tokens - ASK_TOKENS - ctx / 20, sum = 0;
	int to = from;

	for (int i = 0; i < p->nsystem; i++)
		sum += j->context.tokens[i];
	if (p->summary >= 0)
		sum += context_guess(strlen(j->context.summaries[p->summary].text));
	if (j->context.nnotes) /* their share */
		left -= left * CONTEXT_NOTES_PERCENT / 100;
	for (int i = from; i <= upto; i++) {
		sum += j->context.tokens[i];
		if (sum > left)
			break;
		if (i == upto || j->joined[i + 1].role == ROLE_USER)
			to = i + 1;
	}
	return to;
}

static struct summary_task *summary_task_new(struct dispatch_job *j,
					     const struct context_plan *p, int upto,
					     const char *suffix)
{
	int from = p->summary < 0 ? p->nsystem
				  : j->lead + j->context.summaries[p->summary].upto + 1;
	struct writer w = {0};
	struct summary_task *t;
	struct buf question = {0};
	int to, max_tokens;

	if (!configured(j, &w) && !resident(j, &w))
		w = (struct writer){job_candidate(j)->model, j->context.ctx, true};
	max_tokens =
		context_summary_tokens(w.ctx < j->context.ctx ? w.ctx : j->context.ctx);
	to = readable_to(j, p, from, upto, w.ctx, max_tokens);
	if (to <= from || to > j->lead + j->nhistory ||
	    background_failed_lately(j->d, j->conversation,
				     j->context.marks[to - 1 - j->lead].id))
		return NULL;
	t = task_new(j, TASK_SUMMARY, w.model, suffix);
	t->upto = to - 1 - j->lead;
	t->upto_id = j->context.marks[to - 1 - j->lead].id;
	t->max_tokens = max_tokens;
	for (int i = from; i < to; i++)
		t->stands_for_bytes +=
			strlen(j->joined[i].text) +
			(j->joined[i].raw_json ? strlen(j->joined[i].raw_json) : 0);
	if (p->summary >= 0)
		t->stands_for_bytes += strlen(j->context.summaries[p->summary].text);
	t->messages = context_copy(j, p, from, to, !w.takes_raw, &t->n);
	summary_ask(max_tokens, &question);
	task_add_question(t, &question);
	return t;
}

/* ---- before a call that does not fit */

/* The one in the background that has begun already: half of the wait is behind it. */
static struct summary_task *take_running(struct dispatch_job *j)
{
	struct summary_task *t = background_running(j->d);

	if (!t || t->kind != TASK_SUMMARY || strcmp(t->conversation, j->conversation) ||
	    t->upto >= j->nhistory || j->context.marks[t->upto].id != t->upto_id)
		return NULL;
	background_adopted(t);
	return t;
}

static bool spares_messages(const struct dispatch_job *j, const struct summary_task *t)
{
	struct context_plan with;

	context_plan_with(j, j->lead + t->upto, &with);
	return with.dropped < j->context.plan.dropped;
}

/* Half of what the client leaves us, if it said. */
static uint64_t summary_deadline(const struct dispatch_job *j)
{
	uint64_t now = clock_mono_ms(), until = now + SUMMARY_WAIT_MS, left;

	if (!j->r->deadline_ms)
		return until;
	left = j->r->deadline_ms > now ? j->r->deadline_ms - now : 0;
	return now + left / 2 < until ? now + left / 2 : until;
}

/* The call goes on, with or without; its candidate is tried as if for the first time. */
void summary_go_on(struct dispatch_job *j)
{
	j->summary = NULL;
	uv_timer_stop(&j->timer);
	j->tries--;
	job_try(j);
}

bool summary_before(struct dispatch_job *j)
{
	const struct context_plan *p = &j->context.plan;
	struct summary_task *t;

	if (!j->d->parts.config->memory_summary || j->summary_tried || p->hard_upto < 0 ||
	    p->hard_upto >= j->lead + j->nhistory)
		return false;
	j->summary_tried = true;
	t = take_running(j);
	if (!t)
		t = summary_task_new(j, p, p->hard_upto, "pre");
	if (!t)
		return false;
	if (!t->job &&
	    !spares_messages(j, t)) { /* a piece of it: nobody waits for that */
		task_free(t);
		return false;
	}
	job_move(j, JOB_SUMMARISE);
	cache_release(j->lease);
	j->lease = NULL;
	account_stopped(j, false);
	t->waiter = j;
	j->summary = t;
	j->summary_until_ms = summary_deadline(j);
	if (!t->job)
		task_start(t);
	job_wait(j, PROGRESS_FIRST_MS);
	return true;
}

void summary_cancel(struct dispatch_job *j)
{
	struct summary_task *t = j->summary;

	if (!t)
		return;
	j->summary = NULL;
	if (t->job)
		dispatch_cancel(t->job);
	task_free(t);
}

/* The wait is bounded, and shown; the request's own deadline starts behind it. */
void summary_tell(struct dispatch_job *j)
{
	struct event ev = {.type = EVENT_PROGRESS,
			   .progress = {.stage = PROGRESS_SUMMARISING}};

	if (clock_mono_ms() >= j->summary_until_ms) {
		log_warn("request %s: the summary did not come in time", j->r->id);
		j->d->stats.summaries_failed++;
		background_note_failure(j->summary);
		summary_cancel(j);
		summary_go_on(j);
		return;
	}
	if (!j->r->deadline_ms)
		j->deadline_ms =
			clock_mono_ms() + (uint64_t)j->d->parts.config->queue_timeout_ms;
	job_wait(j, PROGRESS_MS);
	if (!j->paused)
		j->out->event(j->out, &ev);
}

/* ---- behind a turn */

static const char *first_question(const struct dispatch_job *j)
{
	for (int i = j->lead; i < j->njoined; i++)
		if (j->joined[i].role == ROLE_USER)
			return *j->joined[i].text ? j->joined[i].text : NULL;
	return NULL;
}

static bool is_first_turn(const struct dispatch_job *j)
{
	for (int i = 0; i < j->nhistory; i++)
		if (j->history[i].role != ROLE_SYSTEM)
			return false;
	return true;
}

static void want_title(struct dispatch_job *j)
{
	const char *question = first_question(j);
	struct summary_task *t;
	struct writer w = {0};
	struct buf text = {0};

	if (!j->d->parts.config->memory_titles || !is_first_turn(j) || !question ||
	    !j->answer.len)
		return;
	if (!configured(j, &w) && !resident(j, &w))
		return;
	t = task_new(j, TASK_TITLE, w.model, "title");
	t->max_tokens = TITLE_MAX_TOKENS;
	title_ask(question, buf_str(&j->answer), &text);
	task_add_question(t, &text);
	background_add(t);
}

static void want_summary(struct dispatch_job *j)
{
	int tokens = j->end.finished.usage.completion_tokens;
	struct context_plan next;
	struct summary_task *t;

	if (!j->d->parts.config->memory_summary)
		return;
	if (tokens < 0)
		tokens = context_guess(j->answer.len);
	context_plan_next(j, tokens, &next);
	if (next.soft_upto < 0 || next.soft_upto >= j->lead + j->nhistory)
		return;
	t = summary_task_new(j, &next, next.soft_upto, "sum");
	if (t)
		background_add(t);
}

void summary_after(struct dispatch_job *j)
{
	j->d->stats.context_dropped += (uint64_t)j->context.plan.dropped;
	if (j->use != MEMORY_PATH || !j->joined)
		return;
	want_title(j);
	want_summary(j);
}
