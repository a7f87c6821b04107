/* The part of a job that remembers: whether at all, the path, the turn that is opened, saved and closed.
 *
 * Loop thread.  Memory never blocks or fails an answer: whatever the store cannot do ends
 * in memory_off(), and the client is told by `reason`.  The exceptions are a conversation and a parent
 * that do not exist: that is the client's mistake, and guessing would start another one silently; and a
 * conversation that cannot be read may be a private one, so only a model of this machine answers.
 * Incognito conversations are in a second store, which exists in memory only. */
#include "route/dispatch_impl.h"

#include "base/clock.h"
#include "base/log.h"
#include "memory/store_heads.h"
#include "memory/store_keep.h"

static void set_note(struct dispatch_job *j, const char *why)
{
	free(j->note);
	j->note = xasprintf("not remembered: %.170s", why);
}

/* ---- whether at all */

/* NULL: as memory.store says this client's turns may be written. */
static const char *refused_by_policy(const struct dispatch_job *j)
{
	const char *client = j->r->client_name;

	switch (j->d->parts.config->memory_store) {
	case MEMORY_STORE_OFF:
		return "memory.store is off";
	case MEMORY_STORE_CLI:
		if (!client || strncmp(client, "hob ", 4))
			return "memory.store keeps only what hob's own commands ask";
		break;
	case MEMORY_STORE_OPT_IN:
	case MEMORY_STORE_ALL:
		break;
	}
	return NULL;
}

/* Without a conversation: asked for, or the policy is to keep everything. */
static bool wants_record(const struct dispatch_job *j)
{
	if (j->r->keep != UNSAID)
		return j->r->keep == YES;
	return j->r->is_chat && j->d->parts.config->memory_store == MEMORY_STORE_ALL;
}

static bool names_incognito(const struct request *r)
{
	return r->conversation && (!strcmp(r->conversation, "incognito") ||
				   store_is_incognito(r->conversation));
}

static const char *why_not(struct dispatch_job *j)
{
	struct err e;

	if (!j->r->is_chat)
		return "raw completions are not";
	if (names_incognito(j->r)) {
		j->is_incognito = j->r->is_volatile = true;
		j->store = dispatch_incognito(j->d, &e);
		return j->store ? NULL : "there is no memory for it";
	}
	if (!j->store)
		return "memory is off";
	return refused_by_policy(j);
}

/* One that is there already: somebody may have said that it is private. */
static bool names_old(const struct request *r)
{
	return r->conversation && strcmp(r->conversation, "new") != 0 &&
	       strcmp(r->conversation, "incognito") != 0;
}

bool memory_wanted(struct dispatch_job *j)
{
	const char *why;

	if (!j->r->conversation && !wants_record(j))
		return false;
	why = why_not(j);
	if (why) {
		set_note(j, why);
		/* Not looked up: nothing leaves, as in memory_off().  An empty prompt is refused anyway. */
		if (names_old(j->r) && j->r->nmessages > j->r->nunkept)
			j->r->is_private = true;
		return false;
	}
	j->use = j->r->conversation ? MEMORY_PATH : MEMORY_RECORD;
	return j->use == MEMORY_PATH;
}

/* store: false of a conversation: it is read, and nothing is added to it. */
static bool writes(const struct dispatch_job *j)
{
	return j->use != MEMORY_NONE && j->r->keep != NO;
}

static void after_history(struct dispatch_job *j)
{
	if (j->c)
		job_try(j); /* a plain name's plan came first */
	else
		job_plan(j);
}

/* The plan was made before it was known that nothing of the conversation may leave. */
static void make_private(struct dispatch_job *j)
{
	if (j->r->is_private)
		return;
	j->r->is_private = true;
	candidates_forget(j);
}

/* Goes on from where it stands as if no conversation had been named.  Of one that is not new nobody has
 * said whether it is private: until that is known nothing leaves the machine. */
void memory_off(struct dispatch_job *j, const char *why)
{
	set_note(j, why);
	log_warn("request %s: %s", j->r->id, j->note);
	if (j->state == JOB_HISTORY) {
		j->use = MEMORY_NONE;
		if (names_old(j->r))
			make_private(j);
		after_history(j);
	} else {
		job_run(j);
	}
}

/* ---- the path */

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

static bool has_system(const struct store_path *p)
{
	for (int i = 0; i < p->n; i++)
		if (p->messages[i].role == ROLE_SYSTEM)
			return true;
	return false;
}

/* Instructions of this turn alone, the history, what is new.  A client that sends its system prompt with
 * each turn does not pile them up; a persona's yields to any. */
static void join(struct dispatch_job *j, const struct store_path *p)
{
	const struct request *r = j->r;
	bool yields = r->system_is_default && has_system(p);

	j->joined = xcalloc((size_t)(j->nhistory + r->nmessages) + 1, sizeof *j->joined);
	for (j->lead = 0; j->lead < r->nunkept; j->lead++)
		j->joined[j->njoined++] = r->messages[j->lead];
	for (int i = 0; i < j->nhistory; i++)
		j->joined[j->njoined++] = j->history[i];
	for (int i = r->nunkept + yields; i < r->nmessages; i++)
		if (!store_repeats_system(p->messages, p->n, &r->messages[i]))
			j->joined[j->njoined++] = r->messages[i];
}

static void take_path(struct dispatch_job *j, const struct store_path *p)
{
	struct err e;

	j->conversation = xstrdup(p->conversation);
	copy_history(j, p->messages, p->n);
	join(j, p);
	context_take(j, p);
	if (j->njoined == j->lead) {
		err_set(&e, ERR_INVALID,
			"'messages' is empty, and so is the conversation");
		job_fail(j, &e);
		return;
	}
	if (p->is_private) {
		j->was_private = true;
		make_private(j);
	}
	after_history(j);
}

static void on_path(void *arg, const struct err *e, const struct store_path *p)
{
	struct dispatch_job *j = arg;

	if (j->state != JOB_HISTORY) {
		job_unref(j);
		return;
	}
	uv_timer_stop(&j->timer);
	if (e->code == ERR_NOT_FOUND || e->code == ERR_INVALID)
		job_fail(j, e);
	else if (e->code != ERR_NONE && !j->r->nmessages)
		job_fail(j, e); /* without the history there is nothing to answer */
	else if (e->code != ERR_NONE)
		memory_off(j, e->text);
	else
		take_path(j, p);
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
	const char *name = j->r->conversation;

	job_move(j, JOB_HISTORY);
	job_wait(j, STORE_WAIT_MS);
	j->refs++;
	j->context.tokenizer = context_tokenizer(j);
	store_path(j->store,
		   &(struct store_path_ask){
			   .conversation = strcmp(name, "incognito") ? name : "new",
			   .parent = j->r->parent,
			   .model = session_model(j),
			   .tokenizer = j->context.tokenizer},
		   on_path, j);
}

/* ---- the turn */

static const char *or_null(const char *hash)
{
	return hash && *hash ? hash : NULL;
}

static void on_end(void *arg, const struct err *e, const char *prompt, const char *reply)
{
	struct dispatch_job *j = arg;
	bool ok = e->code == ERR_NONE;

	if (!ok)
		log_warn("request %s: the turn was not saved: %s", j->r->id, e->text);
	if (j->state == JOB_END) {
		if (ok && j->end.type == EVENT_FINISHED) {
			j->end.finished.prompt = or_null(prompt);
			j->end.finished.message = or_null(reply);
			summary_after(j);
		}
		job_deliver(j);
	}
	job_unref(j);
}

static void on_marked(void *arg, const struct err *e,
		      const struct store_conversation *list, int n)
{
	UNUSED(arg);
	UNUSED(list);
	UNUSED(n);
	if (e->code != ERR_NONE)
		log_warn("a conversation is not marked private: %s", e->text);
}

/* What was asked in private is history of the next turn, which may not say so: the conversation stays
 * private until somebody says otherwise. */
static void keep_private(struct dispatch_job *j, const char *conversation)
{
	if (j->r->is_private && !j->was_private)
		store_change(j->store, conversation,
			     &(struct store_change){.pinned = UNSAID, .is_private = YES},
			     on_marked, NULL);
}

static void on_begin(void *arg, const struct err *e, const char *conversation,
		     int64_t turn)
{
	struct dispatch_job *j = arg;

	j->begin_due = false;
	if (e->code == ERR_NONE) {
		j->turn = turn;
		keep_private(j, conversation);
	}
	if (e->code == ERR_NONE && !j->conversation)
		j->recorded = xstrdup(conversation);
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
	struct store_turn_begin ask = {.conversation = j->conversation,
				       .parent = j->r->parent,
				       .model = session_model(j),
				       .provider = j->runner->name,
				       .request = j->r->id,
				       .params = j->r->turn_json,
				       .messages = j->r->messages + j->r->nunkept,
				       .n = j->r->nmessages - j->r->nunkept};

	if (j->begun || !writes(j)) { /* begun: its end names who answered */
		job_run(j);
		return;
	}
	if (j->conversation) {
		ask.messages = j->joined + j->lead + j->nhistory;
		ask.n = j->njoined - j->lead - j->nhistory;
	}
	job_move(j, JOB_BEGIN);
	job_wait(j, STORE_WAIT_MS);
	j->saved_ms = clock_mono_ms();
	j->refs++;
	j->begun = j->begin_due = true;
	store_turn_begin(j->store, &ask, on_begin, j);
}

/* ---- the answer */

static bool too_long(struct dispatch_job *j)
{
	struct err e;

	err_set(&e, ERR_UPSTREAM, "the answer is longer than %d MiB",
		MAX_ANSWER_BYTES >> 20);
	job_fail(j, &e);
	return false;
}

static void keep_call(struct dispatch_job *j, struct str delta)
{
	struct err e;

	if (!j->calls)
		j->calls = tool_calls_new();
	if (tool_calls_add(j->calls, delta, &e) < 0)
		log_debug("request %s: a tool call is not kept: %s", j->r->id, e.text);
}

bool memory_keep(struct dispatch_job *j, const struct event *ev)
{
	struct str s = {ev->text.ptr, ev->text.len};

	if (!(j->turn || j->begin_due))
		return true;
	if (ev->type == EVENT_TOOL_CALL) {
		keep_call(j, s);
	} else if (ev->type == EVENT_REASONING) {
		if (j->reasoning.len + s.len <= MAX_REASONING_BYTES)
			buf_add(&j->reasoning, s.ptr, s.len);
	} else {
		if (j->answer.len + s.len > MAX_ANSWER_BYTES)
			return too_long(j);
		buf_add(&j->answer, s.ptr, s.len);
		memory_partial(j, false);
	}
	return true;
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
	struct buf raw = {0};
	struct store_turn_end end = {
		.model = j->committed ? job_candidate(j)->model : NULL,
		.provider = j->committed ? j->answered_by : NULL,
		.status = j->was_cancelled ? "cancelled"
			  : ok             ? "done"
					   : "error",
		.text = j->answer.data ? j->answer.data : "",
		.len = j->answer.len,
		.error = ok ? NULL : j->end.failed.text,
		.finish = ok ? finish_reason_name(j->end.finished.reason) : NULL,
		.tokens_in = u ? u->prompt_tokens : -1,
		.tokens_cached = u ? u->cached_tokens : -1,
		.tokens_out = u ? u->completion_tokens : -1,
		.ttft_ms = j->first_ms ? (int)(j->first_ms - j->start_ms) : -1,
		.total_ms = (int)(clock_mono_ms() - j->start_ms),
		.cost_usd = u ? u->cost_usd : -1,
	};

	if (!j->turn)
		return false;
	if (j->calls && ok) {
		tool_calls_message(j->calls, buf_str(&j->answer), &raw);
		end.raw_json = raw.data;
	}
	if (j->reasoning.len)
		end.reasoning = j->reasoning.data;
	j->refs++;
	store_turn_end(j->store, j->turn, &end, on_end, j);
	j->turn = 0;
	buf_free(&raw);
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
	context_free(j);
	free(j->conversation);
	free(j->recorded);
	free(j->note);
	buf_free(&j->answer);
	buf_free(&j->reasoning);
	tool_calls_free(j->calls);
}
