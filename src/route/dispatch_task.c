/* Requests of our own, for summaries and titles: made like anybody's, by dispatch_start().
 *
 * Loop thread.  A task holds what its request needs, so that it survives the turn it comes from and may be
 * started again.  Its request names no conversation, so nothing of it enters one.  What becomes of its answer is
 * here; which tasks are made, and when, is in dispatch_summary.c. */
#include "route/dispatch_task.h"

#include "base/log.h"
#include "memory/store_heads.h"
#include "memory/store_notes.h"
#include "memory/summary.h"

struct summary_task *task_new(const struct dispatch_job *j, enum task_kind kind,
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

void task_free(struct summary_task *t)
{
	context_free_messages(t->messages, t->n);
	free(t->conversation);
	free(t->model);
	free(t->by);
	buf_free(&t->text);
	free(t);
}

void task_add_question(struct summary_task *t, struct buf *text)
{
	t->messages = xrealloc(t->messages, ((size_t)t->n + 1) * sizeof *t->messages);
	t->messages[t->n++] =
		(struct message){.role = ROLE_USER, .text = buf_take(text, NULL)};
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

void task_start(struct summary_task *t)
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

/* ---- its end */

static void task_over(struct summary_task *t)
{
	struct dispatch_job *j = t->waiter;

	if (!j) {
		background_remove(t);
		return;
	}
	task_free(t);
	summary_go_on(j);
}

static void failed(struct summary_task *t, const char *why)
{
	log_info("%s: no %s: %s", t->id, t->kind == TASK_TITLE ? "title" : "summary",
		 why);
	if (t->kind == TASK_SUMMARY) {
		t->d->stats.summaries_failed++;
		background_note_failure(t);
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

	if (!title_read(buf_str(&t->text), &text)) {
		buf_free(&text);
		failed(t, "nothing is left of the answer");
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
