/* Jobs of remote providers.  Loop thread.
 *
 * A reader may question the drain: after the last event has been delivered, the HTTP response may have
 * its last bytes to come.  The call is left to end by itself for a moment, because cancelling it
 * would close the connection that the next prompt could use. */
#include "providers/remote_impl.h"

#include <time.h>

enum { MAX_GENERATION_ID_BYTES = 128 };

struct job {
	struct fetch_sink sink;
	struct remote *r;
	struct answer answer;    /* its of.out NULL: told or cancelled, nobody listens */
	struct link *link;       /* while there is a call */
	struct fetch_call *call; /* NULL: not started */
	struct key_wait wait;
	struct buf body;                      /* until the call starts */
	bool is_chat, paused, finished, over; /* over: the extras were told */
	char *request_id, *model; /* for the extras; NULL when there are none */
	char *generation_id;      /* owned or NULL */
	struct replica_keys keys; /* whose conversation it is; unused with one server */
	struct replica_call replica;
	enum err_code why; /* of EVENT_FAILED */
	int status;
	struct err *failed;       /* owned: on the failing list; NULL: it started */
	bool dead;                /* to be freed when busy is 0 again */
	int busy;                 /* > 0: our frames are below the sink's on the stack */
	TAILQ_ENTRY(job) in_list; /* running or failing */
};

/* ---- their end ---- */

static void tell_extras(struct job *j)
{
	const struct remote_extras *x = j->r->extras;
	struct remote_ended end = {.request_id = j->request_id,
				   .model = j->model,
				   .generation_id =
					   j->generation_id ? j->generation_id : "",
				   .got_answer = j->status == 200,
				   .finished = j->finished,
				   .failed = j->why,
				   .usage = &j->answer.usage};

	if (j->over || !j->request_id || !x || !x->ended)
		return;
	j->over = true;
	x->ended(j->r->extras_arg, &end);
}

static void job_free(struct job *j)
{
	struct remote *r = j->r;

	TAILQ_REMOVE(j->failed ? &r->failing : &r->running, j, in_list);
	key_unwait(&j->wait);
	if (j->call)
		fetch_cancel(j->call);
	if (j->link)
		link_done(j->link);
	replicas_ended(r->replicas, &j->replica, ERR_NONE, j->status);
	tell_extras(j);
	answer_fini(&j->answer);
	buf_free(&j->body);
	free(j->generation_id);
	free(j->failed);
	free(j->request_id);
	free(j->model);
	free(j);
	r->in_flight--;
}

static void job_drop(struct job *j)
{
	j->answer.of.out = NULL;
	if (j->busy)
		j->dead = true;
	else
		job_free(j);
}

/* The terminal event.  The owner's pointer is dead when the sink returns. */
static void job_tell(struct job *j, const struct event *ev)
{
	struct event_sink *out = j->answer.of.out;

	j->answer.of.out = NULL;
	if (out)
		out->event(out, ev);
}

static void job_fail(struct job *j, const struct err *e)
{
	struct event ev = {.type = EVENT_FAILED, .failed = *e};

	j->why = e->code;
	/* Before the sink: its next try is to meet another one. */
	replicas_ended(j->r->replicas, &j->replica, j->r->closing ? ERR_NONE : e->code,
		       j->status);
	key_redact(j->r->key, ev.failed.text);
	if (e->code == ERR_KEY && j->link)
		key_refused(j->r->key, j->link->generation);
	j->busy++;
	job_tell(j, &ev);
	j->busy--;
	job_drop(j);
}

static void job_finish(struct job *j)
{
	struct event ev;

	replicas_ended(j->r->replicas, &j->replica, ERR_NONE, j->status);
	j->busy++;
	answer_finished(&j->answer, &ev);
	if (j->r->base.is_local && ev.finished.usage.cost_usd < 0)
		ev.finished.usage.cost_usd = 0; /* one's own machine sends no bill */
	j->finished = true;
	job_tell(j, &ev);
	j->busy--;
	if (!j->dead && j->call)
		fetch_expect_end(j->call, REMOTE_DRAIN_MS);
}

/* ---- the call ---- */

static struct str header_of(void *arg, const char *name)
{
	struct job *j = arg;

	return fetch_header(j->call, name);
}

static struct response_head head_of(struct job *j)
{
	return (struct response_head){.status = fetch_status(j->call),
				      .header = header_of,
				      .arg = j,
				      .now_unix_s = (int64_t)time(NULL)};
}

static void note_head(struct job *j, const struct response_head *h)
{
	struct str id = header_of(j, "x-generation-id");

	if (j->status)
		return;
	j->status = h->status;
	j->answer.key_source = key_source(j->r->key);
	if (id.len && id.len < MAX_GENERATION_ID_BYTES)
		j->generation_id = str_dup(id);
}

static bool on_data(struct fetch_sink *sink, const char *bytes, size_t n)
{
	struct job *j = CONTAINER_OF(sink, struct job, sink);
	struct response_head head;
	struct err e = {0};
	bool alive;
	int rc;

	if (!j->answer.of.out) /* draining */
		return true;
	head = head_of(j);
	note_head(j, &head);
	j->busy++;
	rc = answer_feed(&j->answer, &head, bytes, n, &e);
	if (rc < 0)
		job_fail(j, &e);
	else if (rc > 0)
		job_finish(j);
	j->busy--;
	alive = j->answer.alive;
	if (j->dead)
		job_free(j);
	return alive;
}

static void on_end(struct fetch_sink *sink, const struct err *why)
{
	struct job *j = CONTAINER_OF(sink, struct job, sink);
	struct response_head head = head_of(j);
	struct err e = {0};
	int rc;

	note_head(j, &head);
	j->busy++;
	rc = j->answer.of.out ? answer_end(&j->answer, &head, why, &e) : 0;
	e.sent = why && fetch_was_sent(j->call);
	if (rc < 0 && j->answer.of.out)
		job_fail(j, &e);
	else if (rc > 0 && j->answer.of.out)
		job_finish(j);
	j->busy--;
	job_free(j); /* cancels the call, which is legal here */
}

/* ---- their start ---- */

static int job_call(struct job *j, struct err *e)
{
	struct remote *r = j->r;
	struct upstream *up;

	replicas_began(r->replicas, j->keys, &j->replica);
	up = link_open(r, j->replica.at, j->is_chat, &j->link, e);
	if (!up)
		return -1;
	r->calls++;
	j->call = fetch_start(up, &j->body, &r->deadlines, &j->sink);
	if (j->paused)
		fetch_pause(j->call, true);
	return 0;
}

/* From the loop, so the sink may be called at once. */
static void on_key(struct key_wait *w, const struct err *why)
{
	struct job *j = CONTAINER_OF(w, struct job, wait);
	struct err e = {0};

	if (why)
		e = *why;
	if (why || job_call(j, &e) < 0)
		job_fail(j, &e);
}

static int check(const struct remote *r, const struct request *q, struct err *e)
{
	if (q->is_private && !r->base.is_local)
		return err_set(e, ERR_FORBIDDEN,
			       "the request is private: it must not go to %s", r->who);
	if (!q->is_chat && !r->protocol->raw_path)
		return err_set(e, ERR_UNSUPPORTED,
			       "%s has no completions of raw prompts: ask by chat",
			       r->who);
	return 0;
}

static int add_body(struct job *j, const char *model, const struct request *q,
		    struct err *e)
{
	struct remote *r = j->r;
	const struct remote_extras *x = r->extras;
	struct remote_ask ask = {.preset = r->preset, .model = model, .request = q};
	struct buf more = {0};
	int rc;

	if (x && x->members)
		x->members(r->extras_arg, q, &more);
	if (x && x->max_output)
		ask.max_output = x->max_output(r->extras_arg, model);
	ask.takes = x ? x->takes : NULL;
	ask.more = buf_str(&more);
	rc = r->protocol->body(&j->body, &ask, e);
	buf_free(&more);
	return rc < 0 ? err_wrap(e, "%s", r->who) : 0;
}

static int job_start(struct job *j, const char *model, const struct request *q,
		     struct err *e)
{
	struct remote *r = j->r;
	int rc;

	if (check(r, q, e) < 0 || add_body(j, model, q, e) < 0)
		return -1;
	j->is_chat = q->is_chat;
	if (r->extras) {
		j->request_id = xstrdup(q->id);
		j->model = xstrdup(model);
	}
	if (r->replicas)
		j->keys = replica_keys_of(q);
	rc = key_want(r->key, &j->wait, e);
	if (rc == 0)
		rc = job_call(j, e);
	return rc < 0 ? -1 : 0;
}

struct job *remote_start(struct provider *base, const char *model,
			 const struct request *q, struct event_sink *sink)
{
	struct remote *r = CONTAINER_OF(base, struct remote, base);
	struct job *j = xcalloc(1, sizeof *j);
	struct answer_of of = {.reader = &r->protocol->reader,
			       .who = r->who,
			       .provider = r->base.name,
			       .request_id = q->id,
			       .out = sink,
			       .progress = r->preset->progress};
	struct err e = {0};

	j->r = r;
	j->sink = (struct fetch_sink){.data = on_data, .end = on_end};
	j->wait.ready = on_key;
	answer_init(&j->answer, &of);
	r->in_flight++;
	if (job_start(j, model, q, &e) < 0) {
		j->failed = xmalloc(sizeof e);
		*j->failed = e;
		TAILQ_INSERT_TAIL(&r->failing, j, in_list);
		uv_timer_start(&r->later, remote_jobs_later, 0, 0);
	} else {
		TAILQ_INSERT_TAIL(&r->running, j, in_list);
	}
	return j;
}

/* One at a time: the sink may add and cancel others. */
void remote_jobs_later(uv_timer_t *t)
{
	struct remote *r = t->data;
	struct job *j = TAILQ_FIRST(&r->failing);

	if (!j)
		return;
	if (TAILQ_NEXT(j, in_list))
		uv_timer_start(t, remote_jobs_later, 0, 0);
	job_fail(j, j->failed);
}

void remote_cancel(struct job *j)
{
	if (j->call &&
	    j->busy) { /* upstream is told at once, not when the stack unwinds */
		fetch_cancel(j->call);
		j->call = NULL;
	}
	job_drop(j);
}

void remote_pause(struct job *j, bool paused)
{
	j->paused = paused;
	if (j->call)
		fetch_pause(j->call, paused);
}

void remote_jobs_close(struct remote *r)
{
	struct err e;
	struct job *j;

	err_set(&e, ERR_UNAVAILABLE, "%s is closing", r->who);
	while ((j = TAILQ_FIRST(&r->failing)))
		job_fail(j, j->failed);
	while ((j = TAILQ_FIRST(&r->running))) {
		ASSERT(!j->busy); /* close() is the daemon's, not a sink's */
		job_fail(j, &e);
	}
}
