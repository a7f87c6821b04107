/* Summaries and titles: requests of our own, made like anybody's, by dispatch_start().
 *
 * Loop thread.  A task holds what its request needs, so that it survives the turn it comes from and may be
 * started again.  In the background one runs at a time, of class batch, once nothing else has run for
 * BACKGROUND_IDLE_MS; it is cancelled and put back when somebody has to wait for a model, and dropped
 * with the dispatcher.  A call that does not fit waits for its summary in SUMMARISE; it gives its lease back
 * meanwhile, since a model with one slot could not run both, and then starts its try anew.  Such a request
 * names no conversation, so nothing of it enters one; the messages in front of its question are those that were
 * sent before, byte for byte, so that their KV cache is reused. */
#include "route/dispatch_impl.h"

#include "base/clock.h"
#include "base/log.h"
#include "memory/store_heads.h"
#include "memory/store_notes.h"
#include "memory/summary.h"

enum {
	TASK_MAX_YIELDS = 4,
	FAILURES_MAX = 64,
	ASK_TOKENS = 240, /* of the question, at most */
	FLAT_CALL_BYTES = 2000,
};

enum task_kind { TASK_SUMMARY, TASK_TITLE };

struct summary_task {
	TAILQ_ENTRY(summary_task) link; /* unless somebody waits for it */
	struct dispatch *d;
	enum task_kind kind;
	struct dispatch_job *waiter; /* or NULL: in the background */
	struct store *store;
	char id[REQUEST_ID_BYTES];
	char *conversation, *model; /* owned */
	bool is_private, is_volatile;
	struct message *messages; /* owned, with the question */
	int n, max_tokens;

	/* summaries: up to which message, and what of it they stand for */
	int upto;
	int64_t upto_id;
	size_t stands_for_bytes;

	/* while it runs */
	struct dispatch_job *job;
	struct event_sink sink;
	struct buf text;
	char *by; /* owned: what really answers */
	int yields;
};

TAILQ_HEAD(task_list, summary_task);

struct failure {
	char conversation[CONVERSATION_ID_BYTES];
	int64_t message; /* up to which it would have reached */
	uint64_t at_ms;  /* 0: none */
};

struct background {
	struct dispatch *d; /* NULL: closing */
	uv_timer_t timer;
	struct task_list tasks; /* the first may run */
	int n;
	struct failure failures[FAILURES_MAX];
	int next_failure;
};

static void task_free(struct summary_task *t)
{
	context_free_messages(t->messages, t->n);
	free(t->conversation);
	free(t->model);
	free(t->by);
	buf_free(&t->text);
	free(t);
}

/* ---- what failed is left alone for a while */

static bool failed_lately(const struct background *b, const char *conversation,
			  int64_t message)
{
	uint64_t now = clock_mono_ms();

	for (int i = 0; i < FAILURES_MAX; i++) {
		const struct failure *f = &b->failures[i];

		if (f->at_ms && !strcmp(f->conversation, conversation) &&
		    now < f->at_ms + (f->message == message ? SUMMARY_LATER_MS
							    : SUMMARY_SOON_MS))
			return true;
	}
	return false;
}

static void note_failure(struct background *b, const struct summary_task *t)
{
	struct failure *f = &b->failures[b->next_failure++ % FAILURES_MAX];

	snprintf(f->conversation, sizeof f->conversation, "%s", t->conversation);
	f->message = t->upto_id;
	f->at_ms = clock_mono_ms();
}

/* ---- who writes */

struct writer {
	const char *model;
	int ctx;
	bool takes_raw; /* the turn's own model far away: it has read all this before */
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
		*w = (struct writer){job_candidate(j)->model, j->context.ctx, false};
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

static struct summary_task *task_new(const struct dispatch_job *j, enum task_kind kind,
				     const char *model, const char *suffix)
{
	struct summary_task *t = xcalloc(1, sizeof *t);

	t->d = j->d;
	t->kind = kind;
	t->store = j->store;
	t->conversation = xstrdup(j->conversation);
	t->model = xstrdup(model);
	t->is_private = j->r->is_private;
	t->is_volatile = j->r->is_volatile;
	snprintf(t->id, sizeof t->id, "%.28s-%s", j->r->id, suffix);
	return t;
}

/* As text: what a model without tools can read of a call.  A result without its call is no result. */
static void flatten(struct message *m)
{
	if (m->role == ROLE_TOOL)
		m->role = ROLE_USER;
	if (m->raw_json && !*m->text && strlen(m->raw_json) <= FLAT_CALL_BYTES) {
		free(m->text);
		m->text = m->raw_json;
	} else {
		free(m->raw_json);
	}
	m->raw_json = NULL;
}

static void add_question(struct summary_task *t, struct buf *text)
{
	t->messages = xrealloc(t->messages, ((size_t)t->n + 1) * sizeof *t->messages);
	t->messages[t->n++] =
		(struct message){.role = ROLE_USER, .text = buf_take(text, NULL)};
}

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
	    failed_lately(j->d->background, j->conversation,
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
	t->messages = context_copy(j, p, from, to, &t->n);
	for (int i = 0; i < t->n && !w.takes_raw; i++)
		if (t->messages[i].raw_json)
			flatten(&t->messages[i]);
	summary_ask(max_tokens, &question);
	add_question(t, &question);
	return t;
}

/* ---- running */

static void finished(struct summary_task *t, const struct usage *u);
static void failed(struct summary_task *t, const char *why);

static void on_text(struct summary_task *t, const struct event *ev)
{
	if (t->text.len + ev->text.len <= SUMMARY_MAX_BYTES) {
		buf_add(&t->text, ev->text.ptr, ev->text.len);
		return;
	}
	dispatch_cancel(t->job);
	t->job = NULL;
	failed(t, "the answer is too long");
}

static void on_event(struct event_sink *sink, const struct event *ev)
{
	struct summary_task *t = CONTAINER_OF(sink, struct summary_task, sink);

	switch (ev->type) {
	case EVENT_STARTED:
		free(t->by);
		t->by = xstrdup(ev->started.model);
		break;
	case EVENT_TEXT:
		on_text(t, ev);
		break;
	case EVENT_FINISHED:
		t->job = NULL;
		finished(t, &ev->finished.usage);
		break;
	case EVENT_FAILED:
		t->job = NULL;
		failed(t, ev->failed.text);
		break;
	case EVENT_REASONING:
	case EVENT_TOOL_CALL:
	case EVENT_PROGRESS:
		break;
	}
}

static void task_start(struct summary_task *t)
{
	struct request *r = request_new();

	free(r->model);
	r->model = xstrdup(t->model);
	memcpy(r->id, t->id, sizeof r->id);
	r->is_chat = true;
	r->class = t->waiter ? t->waiter->r->class : CLASS_BATCH;
	r->keep = NO;
	r->is_private = t->is_private;
	r->is_volatile = t->is_volatile;
	r->client_name = xstrdup(t->kind == TASK_TITLE ? "hob title" : "hob summary");
	r->sampling.temperature = 0;
	r->sampling.max_tokens = t->max_tokens;
	for (int i = 0; i < t->n; i++) {
		const struct message *m = &t->messages[i];

		request_add_message(r, m->role, m->text, strlen(m->text));
		if (m->raw_json)
			r->messages[i].raw_json = xstrdup(m->raw_json);
	}
	t->text.len = 0;
	t->sink.event = on_event;
	t->job = dispatch_start(t->d, r, &t->sink);
	t->job->is_background = !t->waiter;
}

/* ---- the background */

static bool is_quiet(const struct dispatch *d)
{
	const struct dispatch_job *j;

	TAILQ_FOREACH(j, &d->jobs, link)
	if (!j->is_background)
		return false;
	return true;
}

static void on_quiet(uv_timer_t *timer)
{
	struct background *b = timer->data;
	struct summary_task *t = b->d ? TAILQ_FIRST(&b->tasks) : NULL;

	if (t && !t->job && is_quiet(b->d))
		task_start(t);
}

void background_job_done(struct dispatch *d)
{
	struct background *b = d->background;
	const struct summary_task *t = TAILQ_FIRST(&b->tasks);

	if (b->d && t && !t->job && is_quiet(d))
		uv_timer_start(&b->timer, on_quiet, BACKGROUND_IDLE_MS, 0);
}

static void task_remove(struct summary_task *t)
{
	struct dispatch *d = t->d;

	TAILQ_REMOVE(&d->background->tasks, t, link);
	d->background->n--;
	task_free(t);
	background_job_done(d);
}

/* One of a kind for each conversation; the newer one knows more. */
static void task_add(struct summary_task *t)
{
	struct background *b = t->d->background;
	struct summary_task *o;

	TAILQ_FOREACH(o, &b->tasks, link)
	if (o->kind == t->kind && !strcmp(o->conversation, t->conversation))
		break;
	if ((o && o->job) || (!o && b->n >= BACKGROUND_MAX)) {
		task_free(t);
		return;
	}
	if (o)
		task_remove(o);
	TAILQ_INSERT_TAIL(&b->tasks, t, link);
	b->n++;
	background_job_done(
		t->d); /* the job that leads here is still counted: it comes again */
}

void background_yield(struct dispatch *d)
{
	struct summary_task *t = TAILQ_FIRST(&d->background->tasks);

	if (!t || !t->job)
		return;
	log_debug("%s: gives way", t->id);
	dispatch_cancel(t->job);
	t->job = NULL;
	if (++t->yields > TASK_MAX_YIELDS)
		task_remove(t);
}

struct background *background_new(struct dispatch *d)
{
	struct background *b = xcalloc(1, sizeof *b);

	b->d = d;
	TAILQ_INIT(&b->tasks);
	uv_timer_init(d->parts.loop, &b->timer);
	b->timer.data = b;
	return b;
}

static void on_timer_closed(uv_handle_t *h)
{
	free(h->data);
}

void background_forget(struct dispatch *d)
{
	struct summary_task *t;

	while ((t = TAILQ_FIRST(&d->background->tasks))) {
		if (t->job)
			dispatch_cancel(t->job);
		t->job = NULL;
		task_remove(t);
	}
}

void background_close(struct dispatch *d)
{
	struct background *b = d->background;
	struct summary_task *t;

	b->d = NULL;
	while ((t = TAILQ_FIRST(&b->tasks))) {
		if (t->job)
			dispatch_cancel(t->job);
		TAILQ_REMOVE(&b->tasks, t, link);
		task_free(t);
	}
	uv_close((uv_handle_t *)&b->timer, on_timer_closed);
}

/* ---- its end */

/* The call goes on, with or without; its candidate is tried as if for the first time. */
static void go_on(struct dispatch_job *j)
{
	j->summary = NULL;
	uv_timer_stop(&j->timer);
	j->tries--;
	job_try(j);
}

static void task_over(struct summary_task *t)
{
	struct dispatch_job *j = t->waiter;

	if (!j) {
		task_remove(t);
		return;
	}
	task_free(t);
	go_on(j);
}

static void failed(struct summary_task *t, const char *why)
{
	log_info("%s: no %s: %s", t->id, t->kind == TASK_TITLE ? "title" : "summary",
		 why);
	if (t->kind == TASK_SUMMARY) {
		t->d->stats.summaries_failed++;
		note_failure(t->d->background, t);
	}
	task_over(t);
}

static void on_saved(void *arg, const struct err *e)
{
	UNUSED(arg);
	if (e->code != ERR_NONE)
		log_warn("a summary is not kept: %s", e->text);
}

/* For the call that waits: as if the path had brought it. */
static void hand_over(struct summary_task *t, const char *text, int tokens)
{
	struct job_context *x = &t->waiter->context;
	int at = x->nsummaries;

	x->summaries = xrealloc(x->summaries,
				((size_t)x->nsummaries + 2) * sizeof *x->summaries);
	while (at > 0 && x->summaries[at - 1].upto > t->upto)
		at--;
	memmove(&x->summaries[at + 1], &x->summaries[at],
		(size_t)(x->nsummaries - at) * sizeof *x->summaries);
	x->summaries[at] = (struct history_summary){.upto = t->upto,
						    .tokens = tokens,
						    .model = xstrdup(t->by),
						    .text = xstrdup(text)};
	x->nsummaries++;
}

static void summary_done(struct summary_task *t, const struct usage *u)
{
	struct buf text = {0};
	bool ok = summary_read(buf_str(&t->text), t->stands_for_bytes, &text);

	if (!ok) {
		failed(t,
		       t->text.len
			       ? "it is longer than what it would stand for, or no summary"
			       : "an empty answer");
		buf_free(&text);
		return;
	}
	t->d->stats.summaries_done++;
	store_summary_put(t->store, t->upto_id, t->by, text.data, u->completion_tokens,
			  on_saved, NULL);
	if (t->waiter)
		hand_over(t, text.data, u->completion_tokens);
	buf_free(&text);
	task_over(t);
}

static void on_titled(void *arg, const struct err *e,
		      const struct store_conversation *list, int n)
{
	UNUSED(arg);
	UNUSED(list);
	UNUSED(n);
	if (e->code != ERR_NONE && e->code != ERR_NOT_FOUND)
		log_warn("a title is not kept: %s", e->text);
}

static void title_done(struct summary_task *t)
{
	struct buf text = {0};
	char *title;

	if (!title_read(buf_str(&t->text), str_of(t->messages[t->n - 1].text), &text)) {
		buf_free(&text);
		failed(t, "what came is none");
		return;
	}
	title = xstrndup(text.data, text.len);
	store_change(t->store, t->conversation,
		     &(struct store_change){.title = title,
					    .title_by_model = true,
					    .pinned = UNSAID,
					    .is_private = UNSAID},
		     on_titled, NULL);
	free(title);
	buf_free(&text);
	task_over(t);
}

static void finished(struct summary_task *t, const struct usage *u)
{
	if (t->kind == TASK_TITLE)
		title_done(t);
	else
		summary_done(t, u);
}

/* ---- before a call that does not fit */

/* The one in the background that has begun already: half of the wait is behind it. */
static struct summary_task *take_running(struct dispatch_job *j)
{
	struct background *b = j->d->background;
	struct summary_task *t = TAILQ_FIRST(&b->tasks);

	if (!t || !t->job || t->kind != TASK_SUMMARY ||
	    strcmp(t->conversation, j->conversation) || t->upto >= j->nhistory ||
	    j->context.marks[t->upto].id != t->upto_id)
		return NULL;
	TAILQ_REMOVE(&b->tasks, t, link);
	b->n--;
	t->job->is_background = false;
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
	uint64_t now = clock_mono_ms(), until = now + SUMMARY_WAIT_MS;

	if (j->r->deadline_ms > now && now + (j->r->deadline_ms - now) / 2 < until)
		until = now + (j->r->deadline_ms - now) / 2;
	return until;
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
		note_failure(j->d->background, j->summary);
		summary_cancel(j);
		go_on(j);
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
	add_question(t, &text);
	task_add(t);
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
		task_add(t);
}

void summary_after(struct dispatch_job *j)
{
	j->d->stats.context_dropped += (uint64_t)j->context.plan.dropped;
	if (j->use != MEMORY_PATH || !j->joined)
		return;
	want_title(j);
	want_summary(j);
}
