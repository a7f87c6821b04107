/* The queue of our own requests that nobody waits for, and what failed lately.
 *
 * Loop thread.  One runs at a time, of class batch, once nothing else has run for BACKGROUND_IDLE_MS; it is
 * cancelled and put back when somebody has to wait for a model, and dropped with the dispatcher.  The first in
 * the list is the one that runs or may run next: no state says so, only its `job`. */
#include "route/dispatch_task.h"

#include "base/clock.h"
#include "base/log.h"

enum {
	TASK_MAX_YIELDS = 4,
	FAILURES_MAX = 64,
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

/* ---- what failed is left alone for a while */

bool background_failed_lately(const struct dispatch *d, const char *conversation,
			      int64_t message)
{
	const struct background *b = d->background;
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

void background_note_failure(const struct summary_task *t)
{
	struct background *b = t->d->background;
	struct failure *f = &b->failures[b->next_failure++ % FAILURES_MAX];

	snprintf(f->conversation, sizeof f->conversation, "%s", t->conversation);
	f->message = t->upto_id;
	f->at_ms = clock_mono_ms();
}

/* ---- the queue */

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

static void unlink_task(struct summary_task *t)
{
	TAILQ_REMOVE(&t->d->background->tasks, t, link);
	t->d->background->n--;
}

void background_remove(struct summary_task *t)
{
	struct dispatch *d = t->d;

	unlink_task(t);
	task_free(t);
	background_job_done(d);
}

/* One of a kind for each conversation; the newer one knows more. */
void background_add(struct summary_task *t)
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
		background_remove(o);
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
		background_remove(t);
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
		background_remove(t);
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

/* ---- one that somebody waits for after all */

struct summary_task *background_running(const struct dispatch *d)
{
	struct summary_task *t = TAILQ_FIRST(&d->background->tasks);

	return t && t->job ? t : NULL;
}

void background_adopted(struct summary_task *t)
{
	unlink_task(t);
	t->job->is_background = false;
}
