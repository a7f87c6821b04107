/* Prompts and counts in the engine: encoding them, and turning lines back into events.
 *
 * Loop thread.  A job that must end before it was sent, or whose events were held back
 * while its client was slow, is put on the `soon` list and told in a later turn of the
 * loop, so that no sink is ever called from within start() or pause().  The question a
 * reader will ask: why hold text back instead of not reading the pipe.  The pipe is
 * shared by all jobs; what one job can pile up is bounded by its context. */
#include "providers/engine_impl.h"

#include <math.h>
#include "engine/wire.h"

static void job_soon(struct job *j)
{
	if (j->is_soon || j->engine->closing)
		return;
	j->is_soon = true;
	TAILQ_INSERT_TAIL(&j->engine->soon, j, soon);
	uv_timer_start(&j->engine->soon_timer, engine_jobs_soon, 0, 0);
}

/* From every list; the process may still speak of it, and nobody listens. */
static void job_forget(struct job *j)
{
	if (j->known)
		HASH_DEL(j->engine->jobs, j);
	if (j->is_soon)
		TAILQ_REMOVE(&j->engine->soon, j, soon);
	j->known = j->is_soon = false;
}

static void job_free(struct job *j)
{
	job_forget(j);
	TAILQ_REMOVE(&j->engine->all, j, all);
	buf_free(&j->held);
	free(j);
}

static struct job *job_new(struct engine *e, enum job_kind kind)
{
	struct job *j = xcalloc(1, sizeof *j);

	j->engine = e;
	j->kind = kind;
	j->id = ++e->next_job;
	TAILQ_INSERT_TAIL(&e->all, j, all);
	return j;
}

static void job_end_failed(struct job *j, enum err_code code, const char *text)
{
	j->ended = true;
	j->end.type = EVENT_FAILED;
	err_set(&j->end.failed, code, "%s", text);
}

/* The terminal event; the job is gone when this returns. */
static void job_tell_end(struct job *j)
{
	job_forget(j);
	j->telling = true;
	if (j->kind == JOB_COUNT)
		j->counted(j->arg, NULL, 0, 0, &j->end.failed);
	else
		j->sink->event(j->sink, &j->end);
	job_free(j);
}

static void job_tell_text(struct job *j, const char *p, size_t n)
{
	struct event ev = {.type = EVENT_TEXT, .text = {p, n}};

	j->sink->event(j->sink, &ev);
}

/* Text and end that were held back.  The sink may cancel within. */
static void job_flush(struct job *j)
{
	struct buf held = j->held;

	if (j->paused)
		return;
	if (held.len) {
		j->held = (struct buf){0};
		if (j->ended) /* again, unless cancelled by what it is told now */
			job_soon(j);
		job_tell_text(j, held.data, held.len);
		buf_free(&held);
		return;
	}
	if (j->ended)
		job_tell_end(j);
}

void engine_jobs_soon(uv_timer_t *t)
{
	struct engine *e = t->data;
	struct job *j;
	int n = 0;

	TAILQ_FOREACH(j, &e->soon, soon)
	n++;
	while (n-- > 0 && (j = TAILQ_FIRST(&e->soon))) {
		TAILQ_REMOVE(&e->soon, j, soon);
		j->is_soon = false;
		job_flush(j);
	}
	if (!TAILQ_EMPTY(&e->soon) && !e->closing)
		uv_timer_start(&e->soon_timer, engine_jobs_soon, 0, 0);
}

/* In a later turn, or at once when closing. */
void engine_jobs_fail(struct engine *e, enum err_code code, const char *why)
{
	struct job *j;

	while ((j = e->jobs)) {
		HASH_DEL(e->jobs, j);
		j->known = false;
		if (!j->ended)
			job_end_failed(j, code, why);
		job_soon(j);
	}
	while (e->closing && (j = TAILQ_FIRST(&e->all))) {
		if (!j->ended)
			job_end_failed(j, code, why);
		job_tell_end(j);
	}
}

/* ---- encoding */

static void add_messages(struct buf *b, const struct message *m, int n)
{
	buf_adds(b, "\"messages\":[");
	for (int i = 0; i < n; i++) {
		buf_addf(b, "%s{\"role\":\"%s\",\"content\":", i ? "," : "",
			 role_name(m[i].role));
		buf_add_json(b, m[i].text, strlen(m[i].text));
		buf_addc(b, '}');
	}
	buf_addc(b, ']');
}

/* Locale-proof: hob never calls setlocale() for LC_NUMERIC. */
static void add_number(struct buf *b, const char *key, double v)
{
	if (v >= 0 && isfinite(v))
		buf_addf(b, ",\"%s\":%.9g", key, v);
}

static void add_sampling(struct buf *b, const struct sampling *s)
{
	const uint64_t seed_mask = (UINT64_C(1) << 53) - 1; /* JSON numbers are doubles */

	if (s->max_tokens > 0)
		buf_addf(b, ",\"max_tokens\":%d", s->max_tokens);
	add_number(b, "temperature", s->temperature);
	add_number(b, "top_p", s->top_p);
	add_number(b, "min_p", s->min_p);
	if (s->top_k >= 0)
		buf_addf(b, ",\"top_k\":%d", s->top_k);
	if (s->seed >= 0)
		buf_addf(b, ",\"seed\":%llu",
			 (unsigned long long)((uint64_t)s->seed & seed_mask));
	if (s->ignore_eos)
		buf_adds(b, ",\"ignore_eos\":true");
	if (s->nstops == 0)
		return;
	buf_adds(b, ",\"stop\":[");
	for (int i = 0; i < s->nstops; i++) {
		if (i)
			buf_addc(b, ',');
		buf_add_json(b, s->stops[i], strlen(s->stops[i]));
	}
	buf_addc(b, ']');
}

/* Wishes that cannot be ignored without giving a wrong answer.  Tools that may be called
 * need not be. */
static int check_extra(const char *extra_json, struct err *e)
{
	const cJSON *format = NULL;
	const char *type = "text", *choice = "auto";
	cJSON *extra = json_parse(str_of(extra_json), e);
	int rc = 0;

	if (!extra)
		return -1;
	if (json_object(extra, "response_format", &format, e) > 0 && format)
		json_string(format, "type", &type, e);
	if (json_string(extra, "tool_choice", &choice, e) < 0)
		choice = "required"; /* an object: one tool by name */
	if (strcmp(type, "text"))
		rc = err_set(
			e, ERR_UNSUPPORTED,
			"response_format '%.40s' is not supported by the local engine",
			type);
	else if (!strcmp(choice, "required"))
		rc = err_set(e, ERR_UNSUPPORTED,
			     "tool calls are not supported by the local "
			     "engine; use a remote model");
	cJSON_Delete(extra);
	return rc;
}

static int check(const struct request *r, struct err *e)
{
	for (int i = 0; i < r->nmessages; i++)
		if (r->messages[i].raw_json)
			return err_set(
				e, ERR_UNSUPPORTED,
				"messages[%d] holds more than text (images, tool calls), "
				"which the local engine cannot read; use a remote model",
				i);
	return r->extra_json ? check_extra(r->extra_json, e) : 0;
}

static int encode(struct buf *b, const struct job *j, const char *model,
		  const struct request *r, struct err *e)
{
	int64_t id;

	if (!str_to_i64(str_of(model), 0, INT64_C(1) << 53, &id))
		return err_set(e, ERR_MODEL, "'%.60s' is no model of the engine", model);
	if (check(r, e) < 0)
		return -1;
	buf_addf(b, "{\"op\":\"start\",\"job\":%llu,\"model\":%lld,",
		 (unsigned long long)j->id, (long long)id);
	if (r->is_chat) {
		add_messages(b, r->messages, r->nmessages);
	} else {
		buf_adds(b, "\"prompt\":");
		buf_add_json(b, r->prompt ? r->prompt : "",
			     r->prompt ? strlen(r->prompt) : 0);
	}
	buf_addf(b, ",\"class\":\"%s\"", request_class_name(r->class));
	if (r->is_volatile)
		buf_adds(b, ",\"volatile\":true");
	add_sampling(b, &r->sampling);
	buf_adds(b, "}\n");
	if (b->len > WIRE_MAX_LINE_BYTES)
		return err_set(e, ERR_TOO_LARGE,
			       "the prompt has %zu bytes, over the limit of %d", b->len,
			       WIRE_MAX_LINE_BYTES);
	return 0;
}

/* Sends it, or sees to it that the failure is told in a later turn.  While the process is
 * ending, that is its death and not sooner: the owner of the models has to hear of it
 * first, or a retry would be given the same dead model. */
static void job_send(struct job *j, struct buf *b)
{
	struct engine *e = j->engine;

	if (engine_send(e, b) || (e->state == ENGINE_ENDING && e->child)) {
		HASH_ADD(hh, e->jobs, id, sizeof j->id, j);
		j->known = true;
		return;
	}
	job_end_failed(j, ERR_UNAVAILABLE, "the engine is not running; try again");
	job_soon(j);
}

/* ---- lines */

static int get_count(const cJSON *line, const char *key, int *out, struct err *e)
{
	int64_t v = *out;
	int rc = json_int(line, key, 0, INT32_MAX, &v, e);

	*out = (int)v;
	return rc;
}

static int on_progress(struct job *j, const cJSON *line, const char *done_key,
		       const char *total_key, struct err *e)
{
	struct event ev = {.type = EVENT_PROGRESS, .progress = {PROGRESS_PREFILL, 0, 0}};

	if (json_int(line, done_key, 0, INT32_MAX, &ev.progress.done, e) < 0 ||
	    json_int(line, total_key, 0, INT32_MAX, &ev.progress.total, e) < 0)
		return -1;
	if (!j->paused && j->kind == JOB_PROMPT)
		j->sink->event(j->sink, &ev);
	return 0;
}

static int on_text(struct job *j, const cJSON *line, struct err *e)
{
	const char *text = "";

	if (json_string(line, "text", &text, e) < 0)
		return -1;
	if (j->kind != JOB_PROMPT || !text[0])
		return 0;
	if (j->paused || j->held.len)
		buf_adds(&j->held, text);
	else
		job_tell_text(j, text, strlen(text));
	return 0;
}

/* At once when nothing is held back. */
static void job_end(struct job *j)
{
	HASH_DEL(j->engine->jobs, j);
	j->known = false;
	if (!j->paused && !j->held.len)
		job_tell_end(j);
	else if (!j->paused)
		job_soon(j);
}

static int on_finished(struct job *j, const cJSON *line, struct err *e)
{
	struct usage u = USAGE_UNKNOWN;
	const char *reason = "stop";

	u.cost_usd = 0;
	if (json_string(line, "reason", &reason, e) < 0 ||
	    get_count(line, "prompt_tokens", &u.prompt_tokens, e) < 0 ||
	    get_count(line, "cached_tokens", &u.cached_tokens, e) < 0 ||
	    get_count(line, "completion_tokens", &u.completion_tokens, e) < 0 ||
	    json_double(line, "prefill_ms", 0, 1e12, &u.prefill_ms, e) < 0 ||
	    json_double(line, "decode_ms", 0, 1e12, &u.decode_ms, e) < 0)
		return -1;
	if (j->kind != JOB_PROMPT)
		return err_set(e, ERR_INVALID, "a count does not finish");
	j->ended = true;
	j->end.type = EVENT_FINISHED;
	j->end.finished.reason = !strcmp(reason, "length") ? FINISH_LENGTH : FINISH_STOP;
	j->end.finished.usage = u;
	j->engine->backoff_ms = 0; /* it works: the next death is a new story */
	job_end(j);
	return 0;
}

static int on_failed(struct job *j, const cJSON *line, struct err *e)
{
	const char *code = "internal", *message = "no reason given";

	if (json_string(line, "code", &code, e) < 0 ||
	    json_string(line, "message", &message, e) < 0)
		return -1;
	job_end_failed(j, err_code_by_name(code), message);
	job_end(j);
	return 0;
}

static int on_count(struct job *j, const cJSON *line, struct err *e)
{
	const cJSON *list = NULL, *item;
	int *tokens, n = 0, extra = 0;

	if (j->kind != JOB_COUNT)
		return err_set(e, ERR_INVALID, "a prompt does not count");
	if (get_count(line, "extra", &extra, e) < 0 ||
	    json_array(line, "tokens", &list, e) < 0)
		return -1;
	if (!list || cJSON_GetArraySize(list) != j->nmessages)
		return err_set(e, ERR_INVALID, "'tokens' has the wrong length");
	tokens = xcalloc((size_t)j->nmessages + 1, sizeof *tokens);
	cJSON_ArrayForEach(item, list)
	{
		if (!cJSON_IsNumber(item) || item->valueint < 0) {
			free(tokens);
			return err_set(e, ERR_INVALID, "'tokens' holds no count");
		}
		tokens[n++] = item->valueint;
	}
	job_forget(j);
	j->counted(j->arg, tokens, n, extra, NULL);
	free(tokens);
	job_free(j);
	return 0;
}

int engine_job_line(struct engine *e, const char *ev, const cJSON *line, struct err *err)
{
	int64_t v = 0;
	struct job *j;
	uint64_t id;
	int rc = json_int(line, "job", 0, INT64_C(1) << 53, &v, err);

	if (rc <= 0)
		return rc < 0 ? -1
			      : err_set(err, ERR_INVALID, "'%.40s' names no job", ev);
	id = (uint64_t)v;
	HASH_FIND(hh, e->jobs, &id, sizeof id, j);
	if (!j)
		return 0; /* cancelled while the line was on its way */
	if (!strcmp(ev, "text"))
		return on_text(j, line, err);
	if (!strcmp(ev, "finished"))
		return on_finished(j, line, err);
	if (!strcmp(ev, "failed"))
		return on_failed(j, line, err);
	if (!strcmp(ev, "started"))
		return on_progress(j, line, "cached_tokens", "prompt_tokens", err);
	if (!strcmp(ev, "progress"))
		return on_progress(j, line, "done", "total", err);
	if (!strcmp(ev, "count"))
		return on_count(j, line, err);
	return err_set(err, ERR_INVALID, "unknown event '%.40s'", ev);
}

/* ---- the provider */

static struct job *start(struct provider *p, const char *model, const struct request *r,
			 struct event_sink *sink)
{
	struct engine *e = CONTAINER_OF(p, struct engine, provider);
	struct job *j = job_new(e, JOB_PROMPT);
	struct buf b = {0};
	struct err err;

	j->sink = sink;
	if (encode(&b, j, model, r, &err) < 0) {
		buf_free(&b);
		job_end_failed(j, err.code, err.text);
		job_soon(j);
	} else {
		job_send(j, &b);
	}
	return j;
}

static void cancel(struct job *j)
{
	struct engine *e = j->engine;
	struct buf b = {0};

	if (j->telling)
		return; /* it is told its end right now and goes after that */
	if (j->known && !j->ended) {
		buf_addf(&b, "{\"op\":\"cancel\",\"job\":%llu}\n",
			 (unsigned long long)j->id);
		engine_send(e, &b);
	}
	job_free(j);
}

static void pause_job(struct job *j, bool paused)
{
	j->paused = paused;
	if (!paused && (j->held.len || j->ended))
		job_soon(j);
}

const struct provider_ops engine_provider_ops = {
	.kind = "engine",
	.start = start,
	.cancel = cancel,
	.pause = pause_job,
	.close = engine_close,
};

struct engine_count *engine_count(struct engine *e, uint64_t id,
				  const struct message *messages, int n,
				  engine_count_cb *cb, void *arg)
{
	struct job *j = job_new(e, JOB_COUNT);
	struct buf b = {0};

	j->counted = cb;
	j->arg = arg;
	j->nmessages = n;
	buf_addf(&b, "{\"op\":\"count\",\"job\":%llu,\"model\":%llu,",
		 (unsigned long long)j->id, (unsigned long long)id);
	add_messages(&b, messages, n);
	buf_adds(&b, "}\n");
	if (b.len > WIRE_MAX_LINE_BYTES) { /* the engine would end over it */
		buf_free(&b);
		job_end_failed(j, ERR_TOO_LARGE, "too much to count at once");
		job_soon(j);
	} else {
		job_send(j, &b);
	}
	return (struct engine_count *)j;
}

void engine_count_cancel(struct engine_count *c)
{
	cancel((struct job *)c);
}
