/* The chat completions API, or the raw one, as one call.  Main thread.
 *
 * Errors come in two ways: as an HTTP status before the answer begins, and as a chunk
 * with "error" after it has; both end up in *e, and a reader may ask why a stream that
 * just ends is an error too: without finish_reason or [DONE] the answer was cut, and half
 * an answer must not look like a whole one to a script. */
#include "cli/ask.h"

#include <errno.h>
#include <float.h>

#include "base/json.h"
#include "cli/commands.h"
#include "cli/render.h"
#include "net/sse.h"

enum { MAX_TOKENS_SHOWN = 1 << 30 };

/* The stream under way. */
struct stream {
	struct sse sse;
	struct ask_answer *answer; /* borrowed */
	ask_text_cb *on_text;
	void *arg;
	bool done, failed;
	bool shown;    /* of render_progress() */
	struct err *e; /* borrowed: set once failed */
};

static void add_field(struct buf *b, const char *key, const char *text)
{
	buf_addf(b, "\"%s\":", key);
	buf_add_json(b, text, strlen(text));
}

static void add_messages(const struct ask *a, struct buf *b)
{
	buf_adds(b, "\"messages\":[");
	for (int i = 0; i < a->nmessages; i++) {
		buf_adds(b, i ? ",{" : "{");
		add_field(b, "role", a->messages[i].role);
		buf_addc(b, ',');
		if (a->messages[i].content)
			buf_addf(b, "\"content\":%s", a->messages[i].content);
		else
			add_field(b, "content", a->messages[i].text);
		buf_addc(b, '}');
	}
	buf_addc(b, ']');
}

static void request_body(const struct ask *a, struct buf *b)
{
	buf_addc(b, '{');
	add_field(b, "model", a->model ? a->model : "default");
	buf_addc(b, ',');
	if (a->prompt)
		add_field(b, "prompt", a->prompt);
	else
		add_messages(a, b);
	buf_adds(b, ",\"stream\":true,\"stream_options\":{\"include_usage\":true}");
	if (a->temperature >= 0)
		buf_addf(b, ",\"temperature\":%.6g", a->temperature);
	if (a->max_tokens > 0)
		buf_addf(b, ",\"max_tokens\":%lld", (long long)a->max_tokens);
	if (a->seed >= 0)
		buf_addf(b, ",\"seed\":%lld", (long long)a->seed);
	if (a->schema)
		buf_addf(b,
			 ",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":"
			 "{\"name\":\"answer\",\"strict\":true,\"schema\":%s}}",
			 a->schema);
	buf_addc(b, '}');
}

static void take_string(const cJSON *obj, const char *key, char **out)
{
	const char *s = NULL;

	if (json_string(obj, key, &s, NULL) != 1)
		return;
	free(*out);
	*out = xstrdup(s);
}

static void take_int(const cJSON *obj, const char *key, int64_t *out)
{
	json_int(obj, key, -1, MAX_TOKENS_SHOWN, out, NULL);
}

static void take_error(struct stream *s, const cJSON *error)
{
	const char *message = NULL, *code = NULL;

	json_string(error, "message", &message, NULL);
	json_string(error, "code", &code, NULL);
	s->failed = true;
	err_set(s->e, err_code_by_name(code), "%s",
		message ? message : "the answer failed");
}

static void pass_on(struct stream *s, const char *text, bool is_reasoning)
{
	if (s->failed || s->on_text(s->arg, text, strlen(text), is_reasoning))
		return;
	s->failed = true;
	err_sys(s->e, errno, "write the answer");
}

static void take_text(struct stream *s, const cJSON *from, const char *key)
{
	const char *text = NULL;

	if (json_string(from, key, &text, NULL) != 1 || !*text)
		return;
	buf_adds(&s->answer->text, text);
	pass_on(s, text, false);
}

static void take_delta(struct stream *s, const cJSON *choice)
{
	const cJSON *delta = NULL;
	const char *thought = NULL;

	take_string(choice, "finish_reason", &s->answer->finish);
	take_text(s, choice, "text"); /* raw completions have no delta */
	if (json_object(choice, "delta", &delta, NULL) != 1)
		return;
	if (json_string(delta, "reasoning_content", &thought, NULL) == 1 && *thought)
		pass_on(s, thought, true);
	take_text(s, delta, "content");
}

static void take_extras(struct ask_answer *a, const cJSON *usage, const cJSON *hob)
{
	const cJSON *attempts = NULL;

	if (usage) {
		take_int(usage, "prompt_tokens", &a->prompt_tokens);
		take_int(usage, "completion_tokens", &a->completion_tokens);
	}
	if (!hob)
		return;
	take_string(hob, "tier", &a->tier);
	take_string(hob, "prompt", &a->prompt);
	take_string(hob, "message", &a->message);
	take_string(hob, "provider", &a->provider);
	take_string(hob, "model", &a->model);
	take_string(hob, "reason", &a->reason);
	take_string(hob, "conversation", &a->conversation);
	a->prompt_tokens = a->completion_tokens =
		-1; /* unknown is 0 in usage, null here */
	take_int(hob, "prompt_tokens", &a->prompt_tokens);
	take_int(hob, "completion_tokens", &a->completion_tokens);
	take_int(hob, "cached_tokens", &a->cached_tokens);
	take_int(hob, "kept", &a->kept);
	take_int(hob, "dropped", &a->dropped);
	take_int(hob, "summarised", &a->summarised);
	take_int(hob, "elided", &a->elided);
	take_int(hob, "ctx", &a->ctx);
	if (json_array(hob, "attempts", &attempts, NULL) == 1)
		a->attempts = cJSON_GetArraySize(attempts);
	json_double(hob, "cost_usd", 0, DBL_MAX, &a->cost_usd, NULL);
	json_double(hob, "prefill_ms", -1, DBL_MAX, &a->prefill_ms, NULL);
	json_double(hob, "decode_ms", -1, DBL_MAX, &a->decode_ms, NULL);
}

static void take_chunk(struct stream *s, const cJSON *chunk)
{
	const cJSON *error = NULL, *choices = NULL, *usage = NULL, *hob = NULL;

	if (json_object(chunk, "error", &error, NULL) == 1) {
		take_error(s, error);
		return;
	}
	take_string(chunk, "id", &s->answer->id);
	take_string(chunk, "model", &s->answer->model);
	if (json_array(chunk, "choices", &choices, NULL) == 1 &&
	    cJSON_GetArraySize(choices))
		take_delta(s, cJSON_GetArrayItem(choices, 0));
	json_object(chunk, "usage", &usage, NULL);
	json_object(chunk, "hob", &hob, NULL);
	take_extras(s->answer, usage, hob);
}

/* Until the answer begins. */
static void show_progress(struct stream *s, struct str data)
{
	cJSON *p = json_parse(data, NULL);
	const char *stage = "waiting";
	int64_t done = 0, total = 0;

	json_string(p, "stage", &stage, NULL);
	json_int(p, "done", 0, INT64_MAX / 1024, &done, NULL);
	json_int(p, "total", 0, INT64_MAX / 1024, &total, NULL);
	if (!s->answer->text.len)
		render_progress(&s->shown, stage, done, total);
	cJSON_Delete(p);
}

static bool on_event(void *arg, struct str type, struct str data)
{
	struct stream *s = arg;
	struct err why;
	cJSON *chunk;

	if (str_eq(type, "progress")) {
		show_progress(s, data);
		return true;
	}
	if (str_eq(data, "[DONE]")) {
		s->done = true;
		return true; /* go on to the end of the reply: the connection stays usable
			      */
	}
	chunk = json_parse(data, &why);
	if (!chunk) {
		s->failed = true;
		err_set(s->e, ERR_INTERNAL, "the daemon sent what is no JSON: %.200s",
			why.text);
		return false;
	}
	render_progress_end(&s->shown);
	take_chunk(s, chunk);
	cJSON_Delete(chunk);
	return !s->failed;
}

static int on_data(void *arg, const char *p, size_t n, struct err *e)
{
	struct stream *s = arg;

	return sse_feed(&s->sse, p, n, on_event, s, e) ? -1 : 0; /* both ways *e is set */
}

/* The header comes before any text: a stopped answer's conversation is known too. */
static void take_headers(struct ask_answer *a, const struct client_reply *r)
{
	if (!a->conversation && r->conversation[0])
		a->conversation = xstrdup(r->conversation);
}

static int ask_result(int rc, const struct stream *s, const struct client_reply *r,
		      struct err *e)
{
	if (rc < 0)
		return -1;
	if (r->status != 200)
		return client_error(r, e);
	if (!s->done && !s->answer->finish)
		return err_set(
			e, ERR_IO,
			"the answer was cut off: the daemon closed the connection");
	return 0;
}

int ask(struct client *c, const struct ask *a, ask_text_cb *on_text, void *arg,
	struct ask_answer *out, struct err *e)
{
	struct stream s = {.answer = out, .on_text = on_text, .arg = arg, .e = e};
	struct client_request r = {.method = "POST",
				   .path = a->prompt ? "/v1/completions"
						     : "/v1/chat/completions",
				   .conversation = a->conversation,
				   .parent = a->parent,
				   .persona = a->persona,
				   .client = a->client,
				   .is_private = a->is_private,
				   .progress = true,
				   .data = on_data,
				   .arg = &s};
	struct client_reply reply;
	struct buf body = {0};
	int rc;

	*out = (struct ask_answer){.prompt_tokens = -1,
				   .completion_tokens = -1,
				   .cached_tokens = -1,
				   .prefill_ms = -1,
				   .decode_ms = -1,
				   .cost_usd = -1,
				   .ctx = -1,
				   .kept = -1,
				   .dropped = -1};
	request_body(a, &body);
	r.body = buf_str(&body);
	sse_init(&s.sse);
	rc = client_do(c, &r, &reply, e);
	render_progress_end(&s.shown);
	take_headers(out, &reply);
	rc = ask_result(rc, &s, &reply, e);
	sse_fini(&s.sse);
	client_reply_fini(&reply);
	buf_free(&body);
	return rc;
}

void ask_answer_fini(struct ask_answer *a)
{
	buf_free(&a->text);
	free(a->id);
	free(a->tier);
	free(a->prompt);
	free(a->message);
	free(a->model);
	free(a->provider);
	free(a->reason);
	free(a->conversation);
	free(a->finish);
}

char *ask_answer_speed(const struct ask_answer *a)
{
	if (a->completion_tokens < 0)
		return xstrdup("? tokens");
	if (a->decode_ms <= 0)
		return xasprintf("%lld tokens", (long long)a->completion_tokens);
	return xasprintf("%lld tokens, %.1f tokens/s", (long long)a->completion_tokens,
			 (double)a->completion_tokens / (a->decode_ms / 1000));
}

int ask_exit_status(const struct err *e)
{
	switch (e->code) {
	case ERR_CANCELLED:
		return CLI_INTERRUPTED;
	case ERR_MODEL:
		return CLI_NO_MODEL;
	default:
		return CLI_FAIL;
	}
}
