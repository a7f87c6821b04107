/* Bytes of a response in, a transcript of events out: one line an event, neighbouring texts joined,
 * so that whole and byte by byte must give the same. */
#ifndef HOB_ANSWER_SCRIPT_H
#define HOB_ANSWER_SCRIPT_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "api/openai.h"
#include "providers/remote.h"

struct script {
	const char *name;
	int status;                 /* 0: 200 */
	const char *type;           /* content type */
	const char *header, *value; /* one more, or NULL */
	const char *bytes;
	const char
		*lost; /* the connection broke behind the bytes: fetch's text; or NULL */
	const char *says; /* the transcript */
};

struct transcript {
	struct event_sink sink;
	struct buf out;
	const struct script *s;
	int last; /* type of the latest event; -1 */
	int ends;
};

static void transcript_event(struct event_sink *sink, const struct event *ev)
{
	static const char *const names[] = {[EVENT_TEXT] = "text",
					    [EVENT_REASONING] = "thought",
					    [EVENT_TOOL_CALL] = "tool"};
	struct transcript *t = CONTAINER_OF(sink, struct transcript, sink);

	assert_int_equal(t->ends, 0);
	switch (ev->type) {
	case EVENT_STARTED:
		buf_addf(&t->out, "started %s|",
			 ev->started.model ? ev->started.model : "-");
		break;
	case EVENT_TEXT:
	case EVENT_REASONING:
	case EVENT_TOOL_CALL:
		assert_true(ev->text.len > 0);
		if (t->last == (int)ev->type && ev->type != EVENT_TOOL_CALL)
			t->out.data[--t->out.len] = 0; /* joins */
		else
			buf_addf(&t->out, "%s ", names[ev->type]);
		buf_add(&t->out, ev->text.ptr, ev->text.len);
		buf_addc(&t->out, '|');
		break;
	case EVENT_PROGRESS:
		buf_addf(&t->out, "progress %lld/%lld|", (long long)ev->progress.done,
			 (long long)ev->progress.total);
		break;
	case EVENT_FINISHED:
		t->ends++;
		buf_addf(&t->out, "finished %s %d+%d+%d>%d/%d",
			 finish_reason_name(ev->finished.reason),
			 ev->finished.usage.prompt_tokens,
			 ev->finished.usage.cached_tokens,
			 ev->finished.usage.cache_write_tokens,
			 ev->finished.usage.completion_tokens,
			 ev->finished.usage.reasoning_tokens);
		break;
	case EVENT_FAILED:
		t->ends++;
		buf_addf(&t->out, "failed %s", err_info(ev->failed.code)->name);
		if (ev->failed.retry_after_ms)
			buf_addf(&t->out, " after %u", ev->failed.retry_after_ms);
		break;
	}
	t->last = (int)ev->type;
}

static struct str script_header(void *arg, const char *name)
{
	const struct script *s = arg;

	if (!strcmp(name, "content-type"))
		return str_of(s->type);
	return s->header && !strcmp(name, s->header) ? str_of(s->value) : (struct str){0};
}

/* What remote_job.c does with an answer, without the network. */
static void script_run(const struct remote_protocol *p, const struct script *s,
		       size_t step, struct buf *said, char text[512])
{
	struct transcript t = {.sink.event = transcript_event, .s = s, .last = -1};
	struct answer_of of = {.reader = &p->reader,
			       .who = "provider 'x'",
			       .provider = "x",
			       .request_id = "hob-1",
			       .out = &t.sink,
			       .progress = true};
	struct response_head head = {.status = s->status ? s->status : 200,
				     .header = script_header,
				     .arg = (void *)s,
				     .now_unix_s = 784111767 /* of the dates below */};
	size_t n = strlen(s->bytes);
	struct event end = {.type = EVENT_FAILED};
	struct err lost = {.code = ERR_TRANSPORT}, e = {0};
	struct answer a;
	int rc = 0;

	if (s->lost)
		snprintf(lost.text, sizeof lost.text, "%s", s->lost);
	answer_init(&a, &of);
	a.key_source = "$KEY";
	for (size_t i = 0; i < n && rc == 0; i += step)
		rc = answer_feed(&a, &head, s->bytes + i, n - i < step ? n - i : step,
				 &e);
	if (rc == 0)
		rc = answer_end(&a, &head, s->lost ? &lost : NULL, &e);
	if (rc > 0)
		answer_finished(&a, &end);
	else
		end.failed = e;
	transcript_event(&t.sink, &end);
	snprintf(text, 512, "%s", e.text);
	answer_fini(&a);
	*said = t.out;
}

static void scripts_run(const struct remote_protocol *p, const struct script *scripts,
			size_t n)
{
	static const size_t steps[] = {1 << 20, 1, 7};

	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < ARRAY_LEN(steps); k++) {
			struct buf said = {0};
			char text[512];

			script_run(p, &scripts[i], steps[k], &said, text);
			if (strcmp(said.data, scripts[i].says))
				fail_msg("%s, %zu bytes at a time:\n  said  %s\n  "
					 "not   %s\n  error '%s'",
					 scripts[i].name, steps[k], said.data,
					 scripts[i].says, text);
			buf_free(&said);
		}
}

/* ---- bodies ---- */

/* Both as trees: the order of members is nobody's business. */
static void assert_same_json(const char *name, const char *got, const char *want)
{
	cJSON *a = json_parse(str_of(got), NULL), *b = json_parse(str_of(want), NULL);

	if (!b)
		fail_msg("%s: what is wanted is no JSON: %s", name, want);
	if (!cJSON_Compare(a, b, true))
		fail_msg("%s:\n  got   %s\n  want  %s", name, got, want);
	cJSON_Delete(a);
	cJSON_Delete(b);
}

/* A request as clients send it, through the decoder that they meet. */
struct request_script {
	const char *name;
	const char *asked; /* OpenAI's dialect, without model */
	const char *body;  /* or NULL: refused, and says holds what it says */
	enum err_code code;
	const char *says;
	int max_output;
};

static void request_script_run(const struct remote_protocol *p,
			       const struct request_script *s)
{
	static const struct provider_preset preset = {.max_tokens_key = "max_tokens",
						      .stream_options = true};
	struct openai_params params;
	struct err e = {0};
	struct request *r = openai_decode(str_of(s->asked),
					  !strstr(s->asked, "\"prompt\""), &params, &e);
	struct remote_ask ask = {.preset = &preset,
				 .model = "m",
				 .request = r,
				 .max_output = s->max_output};
	struct buf out = {0};
	int rc;

	if (!r)
		fail_msg("%s: %s", s->name, e.text);
	rc = p->body(&out, &ask, &e);
	if (s->body && rc < 0)
		fail_msg("%s: refused: %s", s->name, e.text);
	else if (s->body)
		assert_same_json(s->name, out.data, s->body);
	else if (rc == 0)
		fail_msg("%s: not refused: %s", s->name, out.data);
	else if (e.code != s->code || !strstr(e.text, s->says))
		fail_msg("%s: %s: %s", s->name, err_info(e.code)->name, e.text);
	request_free(r);
	buf_free(&out);
}

#endif
