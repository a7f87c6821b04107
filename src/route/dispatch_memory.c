/* The part of a job that remembers: read the path, fit it, open the turn, save, close it.
 *
 * Loop thread.  Memory never blocks or fails an answer: whatever the store cannot do ends
 * in memory_off(), and the client is told by `reason`.  The one exception is a
 * conversation that does not exist: that is the client's mistake, and guessing would
 * start another one silently. */
#include "route/dispatch_impl.h"

#include "base/clock.h"
#include "base/log.h"

static void set_note(struct dispatch_job *j, const char *why)
{
	free(j->note);
	j->note = xasprintf("not remembered: %.170s", why);
}

bool memory_wanted(struct dispatch_job *j)
{
	if (!j->r->conversation)
		return false;
	if (!j->r->is_chat)
		set_note(j, "raw completions are not");
	else if (!j->store)
		set_note(j, "memory is off");
	return !j->note;
}

static void after_history(struct dispatch_job *j)
{
	if (j->c)
		job_try(j); /* a plain name's plan came first */
	else
		job_plan(j);
}

/* Goes on from where it stands as if no conversation had been named. */
void memory_off(struct dispatch_job *j, const char *why)
{
	set_note(j, why);
	log_warn("request %s: %s", j->r->id, j->note);
	if (j->state == JOB_HISTORY)
		after_history(j);
	else
		job_run(j);
}

static void copy_history(struct dispatch_job *j, const struct store_message *path, int n)
{
	j->history = xcalloc((size_t)n + 1, sizeof *j->history);
	j->nhistory = n;
	for (int i = 0; i < n; i++) {
		j->history[i].role = path[i].role;
		j->history[i].text = xstrdup(path[i].text ? path[i].text : "");
		if (path[i].raw_json)
			j->history[i].raw_json = xstrdup(path[i].raw_json);
	}
}

/* A client that sends its system prompt with each turn does not pile them up. */
static int skip_known_system(const struct dispatch_job *j)
{
	const struct message *fresh = j->r->messages + j->r->nunkept;
	int i = 0, n = j->r->nmessages - j->r->nunkept;

	while (i < n - 1 && i < j->nhistory && fresh[i].role == ROLE_SYSTEM &&
	       j->history[i].role == ROLE_SYSTEM &&
	       !strcmp(fresh[i].text, j->history[i].text))
		i++;
	return j->r->nunkept + i;
}

static void join(struct dispatch_job *j)
{
	int fresh, unkept = j->r->nunkept;

	j->first_new = skip_known_system(j);
	fresh = j->r->nmessages - j->first_new;
	j->njoined = unkept + j->nhistory + fresh;
	j->joined = xcalloc((size_t)j->njoined + 1, sizeof *j->joined);
	j->messages = xcalloc((size_t)j->njoined + 1, sizeof *j->messages);
	memcpy(j->joined, j->r->messages, (size_t)unkept * sizeof *j->joined);
	memcpy(j->joined + unkept, j->history, (size_t)j->nhistory * sizeof *j->joined);
	memcpy(j->joined + unkept + j->nhistory, j->r->messages + j->first_new,
	       (size_t)fresh * sizeof *j->joined);
}

static void on_path(void *arg, const struct err *e, const struct store_path *p)
{
	struct dispatch_job *j = arg;

	if (j->state != JOB_HISTORY) {
		job_unref(j);
		return;
	}
	uv_timer_stop(&j->timer);
	if (e->code == ERR_NOT_FOUND) {
		job_fail(j, e);
	} else if (e->code != ERR_NONE) {
		memory_off(j, e->text);
	} else {
		j->conversation = xstrdup(p->conversation);
		copy_history(j, p->messages, p->n);
		join(j);
		after_history(j);
	}
	job_unref(j);
}

/* What a conversation goes on with: the alias or name that was asked for, not what stood in for
 * it this time. */
static const char *session_model(const struct dispatch_job *j)
{
	if (!j->c)
		return j->r->model;
	return j->route ? j->route : j->c[0].model;
}

void memory_history(struct dispatch_job *j)
{
	job_move(j, JOB_HISTORY);
	job_wait(j, STORE_WAIT_MS);
	j->refs++;
	store_path(j->store,
		   &(struct store_path_ask){.conversation = j->r->conversation,
					    .model = session_model(j)},
		   on_path, j);
}

/* ---- the window */

/* Tokens that the history and the new messages may take. */
static int budget(const struct dispatch_job *j, int ctx, int extra)
{
	int out = j->r->sampling.max_tokens, margin = ctx / 20;

	if (out <= 0)
		out = ctx / 4 < 1024 ? ctx / 4 : 1024;
	else if (out > ctx / 2)
		out = ctx / 2;
	if (margin < 256)
		margin = 256;
	return ctx - out - margin - extra > 0 ? ctx - out - margin - extra : 1;
}

static void fit(struct dispatch_job *j, const int *tokens, int ctx, int extra)
{
	struct window_item *items = xcalloc((size_t)j->njoined + 1, sizeof *items);
	struct window w;
	int n = 0;

	for (int i = 0; i < j->njoined; i++)
		items[i] = (struct window_item){j->joined[i].role, tokens[i]};
	w = window_fit(items, j->njoined, budget(j, ctx, extra));
	free(items);
	for (int i = 0; i < j->njoined; i++)
		if (i < w.nsystem || i >= w.first)
			j->messages[n++] = j->joined[i];
	j->nmessages = n;
	j->dropped = w.dropped < j->nhistory ? w.dropped : j->nhistory;
	j->kept = j->nhistory - j->dropped;
}

/* Bytes / 3.5, 10 % on top, and 8 for the template around each: English text in common
 * tokenizers lies at 4 to 4.5 bytes a token, source code at 3 to 3.5. */
static int guess(const struct message *m)
{
	double tokens = (double)strlen(m->text) / 3.5 * 1.1 + 8;

	return tokens < 1e9 ? (int)tokens : 1000000000;
}

static void guess_and_begin(struct dispatch_job *j, int ctx)
{
	int *tokens = xcalloc((size_t)j->njoined + 1, sizeof *tokens);

	for (int i = 0; i < j->njoined; i++)
		tokens[i] = guess(&j->joined[i]);
	fit(j, tokens, ctx, 0);
	free(tokens);
	memory_begin(j);
}

static int ctx_of(const struct dispatch_job *j)
{
	int ctx = j->lease ? cache_lease_info(j->lease)->ctx : 0;

	return ctx > 0 ? ctx : candidate_ctx(j, job_candidate(j));
}

static void on_count(void *arg, const int *tokens, int n, int extra, const struct err *e)
{
	struct dispatch_job *j = arg;

	UNUSED(n);
	j->count = NULL;
	uv_timer_stop(&j->timer);
	if (e) {
		log_debug("request %s: tokens are guessed: %s", j->r->id, e->text);
		guess_and_begin(j, ctx_of(j));
		return;
	}
	fit(j, tokens, ctx_of(j), extra);
	memory_begin(j);
}

void memory_count(struct dispatch_job *j)
{
	/* a child is not asked to count: what it would cost, a guess saves */
	if (job_is_remote(j) || !j->d->parts.engine || j->runner != j->d->parts.local) {
		guess_and_begin(j, ctx_of(j));
		return;
	}
	job_move(j, JOB_COUNT);
	job_wait(j, COUNT_WAIT_MS);
	j->count = engine_count(j->d->parts.engine, cache_lease_id(j->lease), j->joined,
				j->njoined, on_count, j);
}

/* ---- the turn */

static void on_end(void *arg, const struct err *e, const char *prompt, const char *reply)
{
	struct dispatch_job *j = arg;

	UNUSED(prompt);
	UNUSED(reply);
	if (e->code != ERR_NONE)
		log_warn("request %s: the turn was not saved: %s", j->r->id, e->text);
	if (j->state == JOB_END)
		job_deliver(j);
	job_unref(j);
}

static void on_begin(void *arg, const struct err *e, const char *conversation,
		     int64_t turn)
{
	struct dispatch_job *j = arg;

	UNUSED(conversation);
	j->begin_due = false;
	if (e->code == ERR_NONE)
		j->turn = turn;
	if (j->state == JOB_BEGIN) {
		uv_timer_stop(&j->timer);
		if (e->code != ERR_NONE)
			memory_off(j, e->text);
		else
			job_run(j);
	} else if (j->state == JOB_DONE) {
		memory_end(j); /* cancelled while it was opened */
	}
	job_unref(j);
}

void memory_begin(struct dispatch_job *j)
{
	if (j->count) { /* the count took too long */
		engine_count_cancel(j->count);
		j->count = NULL;
		guess_and_begin(j, ctx_of(j));
		return;
	}
	if (j->begun) { /* for the candidate before; its end names who answered */
		job_run(j);
		return;
	}
	job_move(j, JOB_BEGIN);
	job_wait(j, STORE_WAIT_MS);
	j->saved_ms = clock_mono_ms();
	j->refs++;
	j->begun = j->begin_due = true;
	store_turn_begin(
		j->store,
		&(struct store_turn_begin){.conversation = j->conversation,
					   .model = session_model(j),
					   .provider = j->runner->name,
					   .request = j->r->id,
					   .messages = j->r->messages + j->first_new,
					   .n = j->r->nmessages - j->first_new},
		on_begin, j);
}

/* due: by the clock; else after enough bytes. */
void memory_partial(struct dispatch_job *j, bool due)
{
	uint64_t now;

	if (!j->turn || j->answer.len == j->saved_bytes)
		return;
	now = clock_mono_ms();
	if (due ? now - j->saved_ms < PARTIAL_MS
		: j->answer.len - j->saved_bytes < PARTIAL_BYTES)
		return;
	store_turn_partial(j->store, j->turn, j->answer.data, j->answer.len);
	j->saved_bytes = j->answer.len;
	j->saved_ms = now;
}

bool memory_end(struct dispatch_job *j)
{
	bool ok = j->end.type == EVENT_FINISHED && !j->was_cancelled;
	const struct usage *u = ok ? &j->end.finished.usage : NULL;
	struct store_turn_end end = {
		.model = j->committed ? job_candidate(j)->model : NULL,
		.provider = j->committed ? j->answered_by : NULL,
		.status = j->was_cancelled ? "cancelled"
			  : ok             ? "done"
					   : "error",
		.text = j->answer.data ? j->answer.data : "",
		.len = j->answer.len,
		.error = ok ? NULL : j->end.failed.text,
		.tokens_in = u ? u->prompt_tokens : -1,
		.tokens_cached = u ? u->cached_tokens : -1,
		.tokens_out = u ? u->completion_tokens : -1,
		.ttft_ms = j->first_ms ? (int)(j->first_ms - j->start_ms) : -1,
		.total_ms = (int)(clock_mono_ms() - j->start_ms),
		.cost_usd = u ? u->cost_usd : -1,
	};

	if (!j->turn)
		return false;
	j->refs++;
	store_turn_end(j->store, j->turn, &end, on_end, j);
	j->turn = 0;
	return true;
}

void memory_free(struct dispatch_job *j)
{
	for (int i = 0; i < j->nhistory; i++) {
		free(j->history[i].text);
		free(j->history[i].raw_json);
	}
	free(j->history);
	free(j->joined);
	free(j->messages);
	free(j->conversation);
	free(j->note);
	buf_free(&j->answer);
}
