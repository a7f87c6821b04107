/* Prompts on their way to a child: each is a job of the OpenAI provider on its socket.
 *
 * Loop thread.  The wrapper exists for two things: to find the child by the id that the router
 * knows, and to say why a connection broke.  The socket of a dying process closes before
 * anybody is told that it died, so a job whose connection was lost waits for the exit, at most
 * LLAMA_VERDICT_MS; with it the error is "died (signal 9)", which the dispatcher may retry. */
#include "providers/llama_server_impl.h"

#include "providers/openai.h"

struct job {
	struct event_sink in; /* the inner job's events come here */
	struct event_sink *out;
	struct llama_servers *all;
	struct llama_server *server; /* NULL: on the failing list */
	struct job *inner;           /* the OpenAI provider's, not of our type; or NULL */
	struct err failed;           /* code set: waits to be told */
	bool telling;
	TAILQ_ENTRY(job) link; /* in server->jobs, or failing */
};

static void job_free(struct job *j)
{
	TAILQ_REMOVE(j->server ? &j->server->jobs : &j->all->failing, j, link);
	free(j);
}

/* The terminal event; the job is gone when it returns. */
static void job_tell(struct job *j, const struct event *ev)
{
	j->telling = true;
	j->out->event(j->out, ev);
	job_free(j);
}

static void job_fail(struct job *j, const struct err *e)
{
	struct event ev = {.type = EVENT_FAILED, .failed = *e};

	job_tell(j, &ev);
}

/* Errors that a death of the process would explain. */
static bool is_lost(const struct err *e)
{
	return e->code == ERR_TRANSPORT || e->code == ERR_UPSTREAM ||
	       e->code == ERR_UNAVAILABLE;
}

static void on_verdict(uv_timer_t *t)
{
	llama_jobs_verdict(t->data);
}

static void on_failed(struct job *j, const struct event *ev)
{
	if (!is_lost(&ev->failed)) {
		job_tell(j, ev);
		return;
	}
	j->failed = ev->failed;
	uv_timer_start(&j->server->timer, on_verdict, LLAMA_VERDICT_MS, 0);
}

static void on_event(struct event_sink *sink, const struct event *ev)
{
	struct job *j = CONTAINER_OF(sink, struct job, in);
	struct event end;

	switch (ev->type) {
	case EVENT_FAILED:
		j->inner = NULL;
		on_failed(j, ev);
		break;
	case EVENT_FINISHED:
		j->inner = NULL;
		crash_forget(j->server);
		end = *ev;
		end.finished.usage.cost_usd = 0;
		job_tell(j, &end);
		break;
	default:
		j->out->event(j->out, ev); /* may have cancelled us */
	}
}

void llama_jobs_verdict(struct llama_server *s)
{
	struct job *j, *next;

	for (j = TAILQ_FIRST(&s->jobs); j; j = next) {
		next = TAILQ_NEXT(j, link);
		if (!j->failed.code || j->telling)
			continue;
		/* A sink may cancel others of the list: one a turn. */
		if (next)
			uv_timer_start(&s->timer, on_verdict, 0, 0);
		job_fail(j, &j->failed);
		return;
	}
}

void llama_jobs_fail(struct llama_server *s, const struct err *e)
{
	struct job *j;

	while ((j = TAILQ_FIRST(&s->jobs))) {
		if (j->inner)
			s->inner->ops->cancel(j->inner);
		j->inner = NULL;
		job_fail(j, e);
	}
}

void llama_jobs_soon(uv_timer_t *t)
{
	struct llama_servers *l = t->data;
	struct job *j;

	while ((j = TAILQ_FIRST(&l->failing)))
		job_fail(j, &j->failed);
}

/* ---- the provider */

static struct job *start(struct provider *p, const char *model, const struct request *r,
			 struct event_sink *sink)
{
	struct llama_servers *l = CONTAINER_OF(p, struct llama_servers, provider);
	struct job *j = xcalloc(1, sizeof *j);
	struct llama_server *s = NULL;
	int64_t id;

	j->all = l;
	j->out = sink;
	j->in.event = on_event;
	if (str_to_i64(str_of(model), 0, INT64_MAX, &id))
		s = llama_find(l, (uint64_t)id);
	if (!s || s->state != LLAMA_READY) {
		err_set(&j->failed, ERR_UNAVAILABLE, "its %s is gone",
			llama_server_kind.name);
		TAILQ_INSERT_TAIL(&l->failing, j, link);
		uv_timer_start(&l->soon, llama_jobs_soon, 0, 0);
		return j;
	}
	j->server = s;
	TAILQ_INSERT_TAIL(&s->jobs, j, link);
	j->inner = s->inner->ops->start(s->inner, s->name, r, &j->in);
	return j;
}

static void cancel(struct job *j)
{
	if (j->telling)
		return; /* it is over, and freed when the sink returns */
	if (j->inner)
		j->server->inner->ops->cancel(j->inner);
	job_free(j);
}

static void pause_job(struct job *j, bool paused)
{
	if (j->inner)
		j->server->inner->ops->pause(j->inner, paused);
}

const struct provider_ops llama_provider_ops = {
	.kind = "llama-server",
	.start = start,
	.cancel = cancel,
	.pause = pause_job,
	.close = llama_close,
};
