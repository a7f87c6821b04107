/* OpenAI's dialect: what decodes to what, what is refused and how it says so, and that every
 * encoded piece is JSON of the right shape. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "api/openai.h"
#include "base/json.h"
#include "route/route_log.h"

#define HI "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"

static struct request *decode(const char *text, struct openai_params *p)
{
	struct err e = {0};
	struct request *r = openai_decode(str_of(text), true, p, &e);

	if (!r)
		fail_msg("%s: %s", text, e.text);
	return r;
}

static void all_fields_are_decoded(void **state)
{
	struct openai_params p;
	struct request *r = decode(
		"{\"model\":\"m:1\",\"messages\":[{\"role\":\"developer\",\"content\":\"s\"},"
		"{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},"
		"{\"type\":\"text\",\"text\":\"b\"}]}],\"stream\":true,"
		"\"stream_options\":{\"include_usage\":true},\"temperature\":0.5,\"top_p\":0.25,"
		"\"min_p\":0.125,\"top_k\":40,\"seed\":7,\"max_completion_tokens\":9,\"n\":1,"
		"\"stop\":[\"x\",\"yy\"],\"conversation\":\"new\",\"tools\":[{\"type\":\"function\"}],"
		"\"user\":\"u\"}",
		&p);

	UNUSED(state);
	assert_string_equal(r->model, "m:1");
	assert_int_equal(r->nmessages, 2);
	assert_int_equal(r->messages[0].role, ROLE_SYSTEM);
	assert_string_equal(r->messages[1].text, "ab");
	assert_null(r->messages[1].raw_json);
	assert_true(p.stream && p.include_usage);
	assert_true(r->sampling.temperature == 0.5 && r->sampling.top_p == 0.25);
	assert_true(r->sampling.min_p == 0.125 && r->sampling.top_k == 40);
	assert_int_equal(r->sampling.seed, 7);
	assert_int_equal(r->sampling.max_tokens, 9);
	assert_int_equal(r->sampling.nstops, 2);
	assert_string_equal(r->sampling.stops[1], "yy");
	assert_string_equal(r->conversation, "new");
	assert_string_equal(r->extra_json,
			    "{\"tools\":[{\"type\":\"function\"}],\"user\":\"u\"}");
	request_free(r);
}

static void what_is_absent_or_null_is_not_given(void **state)
{
	struct openai_params p;
	struct request *r =
		decode("{" HI ",\"temperature\":null,\"stop\":null,\"seed\":null,"
		       "\"stream_options\":null,\"max_tokens\":-1}",
		       &p);

	UNUSED(state);
	assert_string_equal(r->model, "default");
	assert_false(p.stream || p.include_usage);
	assert_true(r->sampling.temperature < 0 && r->sampling.top_k < 0);
	assert_true(r->sampling.seed < 0);
	assert_int_equal(r->sampling.max_tokens, 0);
	assert_int_equal(r->sampling.nstops, 0);
	assert_null(r->extra_json);
	assert_null(r->conversation);
	request_free(r);
}

static void an_echo_of_our_own_answer_is_a_plain_message(void **state)
{
	struct openai_params p;
	struct request *r = decode(
		"{\"messages\":[{\"role\":\"assistant\",\"content\":\"a\",\"refusal\":null,"
		"\"reasoning_content\":\"r\",\"reasoning\":\"r\",\"tool_calls\":[],"
		"\"function_call\":null,\"audio\":null,\"annotations\":[]}]}",
		&p);

	UNUSED(state);
	assert_null(r->messages[0].raw_json);
	request_free(r);
}

static void images_and_tools_keep_the_whole_message(void **state)
{
	struct openai_params p;
	struct request *r = decode(
		"{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"t\"},"
		"{\"type\":\"image_url\",\"image_url\":{\"url\":\"u\"}}]},"
		"{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"c\"}]},"
		"{\"role\":\"tool\",\"tool_call_id\":\"c\",\"content\":\"42\"}]}",
		&p);

	UNUSED(state);
	assert_string_equal(r->messages[0].text, "t");
	assert_non_null(strstr(r->messages[0].raw_json, "image_url"));
	assert_string_equal(r->messages[1].text, "");
	assert_non_null(strstr(r->messages[1].raw_json, "tool_calls"));
	assert_int_equal(r->messages[2].role, ROLE_TOOL);
	assert_non_null(strstr(r->messages[2].raw_json, "tool_call_id"));
	request_free(r);
}

static const struct {
	const char *text, *says;
} wrong[] = {
	{"", "empty"},
	{"{", "request body"},
	{"[]", "object"},
	{"{}", "'messages'"},
	{"{\"messages\":{}}", "'messages'"},
	{"{\"messages\":[]}", "'messages'"},
	{"{\"messages\":[1]}", "messages[0]"},
	{"{\"messages\":[{\"content\":\"a\"}]}", "messages[0].role"},
	{"{\"messages\":[{\"role\":\"boss\",\"content\":\"a\"}]}", "messages[0].role"},
	{"{\"messages\":[{\"role\":\"user\"}]}", "messages[0].content"},
	{"{\"messages\":[{\"role\":\"user\",\"content\":1}]}", "messages[0].content"},
	{"{\"messages\":[{\"role\":\"user\",\"content\":[1]}]}",
	 "messages[0].content[0]"},
	{"{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}]}",
	 "messages[0].content[0].text"},
	{"{" HI ",\"model\":1}", "'model'"},
	{"{" HI ",\"stream\":\"yes\"}", "'stream'"},
	{"{" HI ",\"stream_options\":{\"include_usage\":1}}", "'include_usage'"},
	{"{" HI ",\"n\":2}", "'n'"},
	{"{" HI ",\"temperature\":2.5}", "'temperature'"},
	{"{" HI ",\"temperature\":\"1\"}", "'temperature'"},
	{"{" HI ",\"top_p\":-0.1}", "'top_p'"},
	{"{" HI ",\"top_k\":1.5}", "'top_k'"},
	{"{" HI ",\"max_tokens\":0}", "'max_tokens'"},
	{"{" HI ",\"max_tokens\":1e99}", "'max_tokens'"},
	{"{" HI ",\"stop\":5}", "'stop'"},
	{"{" HI ",\"stop\":\"\"}", "'stop'"},
	{"{" HI ",\"stop\":[\"a\",1]}", "'stop'"},
	{"{" HI ",\"stop\":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]}", "'stop'"},
	{"{" HI ",\"conversation\":\"../x\"}", "'conversation'"},
	{"{" HI ",\"seed\":1e300}", "'seed'"},
	{"{\"messages\":[{\"role\":\"user\",\"content\":\"a\\u0000b\"}]}", "NUL"},
	{"{\"messages\":[{\"role\":\"user\",\"content\":\"\xff\"}]}", "UTF-8"},
	{"{\"messages\":[{\"role\":\"user\",\"content\":\"\xed\xa0\x80\"}]}", "UTF-8"},
	{"{" HI "} x", "request body"},
};

static void what_is_wrong_is_refused_and_named(void **state)
{
	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		struct openai_params p;
		struct err e = {0};
		struct request *r = openai_decode(str_of(wrong[i].text), true, &p, &e);

		if (r || !strstr(e.text, wrong[i].says))
			fail_msg("%s → %s", wrong[i].text, r ? "accepted" : e.text);
		assert_int_equal(err_info(e.code)->http_status, 400);
	}
}

static void an_escaped_backslash_before_u0000_is_no_NUL(void **state)
{
	struct openai_params p;
	struct request *r = decode(
		"{\"messages\":[{\"role\":\"user\",\"content\":\"\\\\u0000\"}]}", &p);

	UNUSED(state);
	assert_string_equal(r->messages[0].text, "\\u0000");
	request_free(r);
}

static void sixteen_stops_fit_and_seventeen_do_not(void **state)
{
	UNUSED(state);
	for (int n = 16; n <= 17; n++) {
		struct buf b = {0};
		struct openai_params p;
		struct err e = {0};
		struct request *r;

		buf_adds(&b, "{" HI ",\"stop\":[");
		for (int i = 0; i < n; i++)
			buf_addf(&b, "%s\"s%d\"", i ? "," : "", i);
		buf_adds(&b, "]}");
		r = openai_decode(buf_str(&b), true, &p, &e);
		assert_int_equal(r != NULL, n == 16);
		request_free(r);
		buf_free(&b);
	}
}

static void a_raw_prompt_is_one_string(void **state)
{
	static const char *const bad[] = {"{}", "{\"prompt\":5}", "{\"prompt\":[1,2]}",
					  "{\"prompt\":[\"a\",\"b\"]}"};
	struct openai_params p;
	struct err e = {0};
	struct request *r = openai_decode(STR("{\"prompt\":[\"ab\"]}"), false, &p, &e);

	UNUSED(state);
	assert_non_null(r);
	assert_string_equal(r->prompt, "ab");
	assert_int_equal(r->class, CLASS_COMPLETION);
	request_free(r);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_null(openai_decode(str_of(bad[i]), false, &p, &e));
		assert_non_null(strstr(e.text, "'prompt'"));
	}
}

/* -- encoding -- */

static struct event text_event(enum event_type type, const char *s)
{
	struct event ev = {.type = type};

	ev.text.ptr = s;
	ev.text.len = strlen(s);
	return ev;
}

static struct event finished_event(enum finish_reason reason)
{
	struct event ev = {.type = EVENT_FINISHED};

	ev.finished.reason = reason;
	ev.finished.usage = (struct usage){10, 4, 3, 1.5, 2.5, -1, -1, -1};
	return ev;
}

static void begin(struct openai_encoder *enc, bool is_chat, bool include_usage)
{
	struct openai_params p = {true, include_usage};
	struct request *r = request_new();
	struct event ev = {.type = EVENT_STARTED};

	r->is_chat = is_chat;
	snprintf(r->id, sizeof(r->id), "hob-1");
	openai_encoder_init(enc, r, &p);
	request_free(r);
	ev.started.model = "m \"quoted\"";
	ev.started.provider = "local";
	ev.started.reason = "resident";
	ev.started.kept_messages = ev.started.dropped_messages = -1;
	openai_started(enc, &ev);
}

/* The i-th SSE payload as a tree; NULL for [DONE] or none. */
static cJSON *payload(const struct buf *out, int i)
{
	const char *at = out->data, *end;
	struct err e = {0};
	cJSON *tree;

	for (; i > 0 && at; i--) {
		at = strstr(at, "\n\n");
		at = at ? at + 2 : NULL;
	}
	if (!at || strncmp(at, "data: {", 7) != 0)
		return NULL;
	end = strstr(at, "\n\n");
	assert_non_null(end);
	tree = json_parse((struct str){at + 6, (size_t)(end - at - 6)}, &e);
	if (!tree)
		fail_msg("%s in %s", e.text, at);
	return tree;
}

static const cJSON *path(const cJSON *tree, const char *a, const char *b, const char *c)
{
	const cJSON *choices = cJSON_GetObjectItem(tree, "choices");
	const cJSON *v = !strcmp(a, "choice") ? cJSON_GetArrayItem(choices, 0)
					      : cJSON_GetObjectItem(tree, a);

	v = b ? cJSON_GetObjectItem(v, b) : v;
	return c ? cJSON_GetObjectItem(v, c) : v;
}

static void a_stream_has_role_text_finish_usage_and_done(void **state)
{
	struct openai_encoder enc;
	struct buf out = {0};
	struct event ev;
	cJSON *t;

	UNUSED(state);
	begin(&enc, true, true);
	ev = text_event(EVENT_TEXT, "a \"b\"\n");
	openai_add_delta(&enc, &ev, &out);
	ev = finished_event(FINISH_LENGTH);
	openai_add_finish(&enc, &ev, &out);

	t = payload(&out, 0);
	assert_string_equal(path(t, "choice", "delta", "role")->valuestring, "assistant");
	assert_string_equal(path(t, "model", NULL, NULL)->valuestring, "m \"quoted\"");
	assert_string_equal(path(t, "object", NULL, NULL)->valuestring,
			    "chat.completion.chunk");
	assert_true(cJSON_IsNull(path(t, "usage", NULL, NULL)));
	cJSON_Delete(t);
	t = payload(&out, 1);
	assert_string_equal(path(t, "choice", "delta", "content")->valuestring,
			    "a \"b\"\n");
	assert_true(cJSON_IsNull(path(t, "choice", "finish_reason", NULL)));
	cJSON_Delete(t);
	t = payload(&out, 2);
	assert_string_equal(path(t, "choice", "finish_reason", NULL)->valuestring,
			    "length");
	cJSON_Delete(t);
	t = payload(&out, 3);
	assert_int_equal(cJSON_GetArraySize(path(t, "choices", NULL, NULL)), 0);
	assert_int_equal(path(t, "usage", "total_tokens", NULL)->valueint, 13);
	assert_string_equal(path(t, "hob", "provider", NULL)->valuestring, "local");
	assert_true(cJSON_IsNull(path(t, "hob", "cost_usd", NULL)));
	cJSON_Delete(t);
	assert_null(payload(&out, 4));
	assert_string_equal(out.data + out.len - 14, "data: [DONE]\n\n");
	openai_encoder_fini(&enc);
	buf_free(&out);
}

static void without_include_usage_there_is_no_usage_but_hob_extras(void **state)
{
	struct openai_encoder enc;
	struct buf out = {0};
	struct event ev = finished_event(FINISH_STOP);
	cJSON *t;

	UNUSED(state);
	begin(&enc, true, false);
	openai_add_finish(&enc, &ev, &out);
	assert_null(strstr(out.data, "\"usage\""));
	t = payload(&out, 1); /* behind the role */
	assert_string_equal(path(t, "choice", "finish_reason", NULL)->valuestring,
			    "stop");
	assert_true(path(t, "hob", "prefill_ms", NULL)->valuedouble == 1.5);
	cJSON_Delete(t);
	openai_encoder_fini(&enc);
	buf_free(&out);
}

static void a_whole_reply_joins_text_reasoning_and_tool_calls(void **state)
{
	static const char *const calls[] = {
		"{\"index\":0,\"id\":\"c1\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\"}}",
		"{\"index\":1,\"id\":\"c2\",\"function\":{\"name\":\"g\",\"arguments\":\"{}\"}}",
		"{\"index\":0,\"function\":{\"arguments\":\"\\\":1}\"}}",
	};
	struct openai_encoder enc;
	struct buf out = {0};
	struct err e = {0};
	struct event ev;
	const cJSON *list;
	cJSON *t;

	UNUSED(state);
	begin(&enc, true, false);
	ev = text_event(EVENT_REASONING, "hm");
	assert_int_equal(openai_gather(&enc, &ev, &e), 0);
	ev = text_event(EVENT_TEXT, "one ");
	assert_int_equal(openai_gather(&enc, &ev, &e), 0);
	assert_int_equal(openai_gather(&enc, &ev, &e), 0);
	for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
		ev = text_event(EVENT_TOOL_CALL, calls[i]);
		assert_int_equal(openai_gather(&enc, &ev, &e), 0);
	}
	ev = text_event(EVENT_TOOL_CALL, "{\"index\":128}");
	assert_int_equal(openai_gather(&enc, &ev, &e), -1);
	ev = finished_event(FINISH_TOOLS);
	openai_add_whole(&enc, &ev, &out);
	t = json_parse(buf_str(&out), &e);
	assert_non_null(t);
	assert_string_equal(path(t, "choice", "message", "content")->valuestring,
			    "one one ");
	assert_string_equal(
		path(t, "choice", "message", "reasoning_content")->valuestring, "hm");
	list = path(t, "choice", "message", "tool_calls");
	assert_int_equal(cJSON_GetArraySize(list), 2);
	assert_string_equal(
		path(cJSON_GetArrayItem(list, 0), "function", "arguments", NULL)
			->valuestring,
		"{\"a\":1}");
	assert_string_equal(path(t, "choice", "finish_reason", NULL)->valuestring,
			    "tool_calls");
	cJSON_Delete(t);
	openai_encoder_fini(&enc);
	buf_free(&out);
}

static void raw_completions_have_their_own_shape(void **state)
{
	struct openai_encoder enc;
	struct buf out = {0};
	struct event ev = text_event(EVENT_TEXT, "x");
	cJSON *t;

	UNUSED(state);
	begin(&enc, false, false);
	openai_add_delta(&enc, &ev, &out);
	t = payload(&out, 0);
	assert_string_equal(path(t, "object", NULL, NULL)->valuestring,
			    "text_completion");
	assert_string_equal(path(t, "choice", "text", NULL)->valuestring, "x");
	cJSON_Delete(t);
	openai_encoder_fini(&enc);
	buf_free(&out);
}

static void an_error_object_names_type_and_code(void **state)
{
	struct buf out = {0};
	struct err e = {0};
	cJSON *t;

	UNUSED(state);
	err_set(&e, ERR_MODEL, "no model \"x\"");
	api_add_error(&out, &e);
	t = json_parse(buf_str(&out), &e);
	assert_string_equal(path(t, "error", "message", NULL)->valuestring,
			    "no model \"x\"");
	assert_string_equal(path(t, "error", "code", NULL)->valuestring,
			    "model_not_found");
	assert_string_equal(path(t, "error", "type", NULL)->valuestring,
			    "invalid_request_error");
	cJSON_Delete(t);
	buf_free(&out);
}

static void routes_know_paths_methods_and_parameters(void **state)
{
	char allow[64];
	struct str params[ROUTE_PARAMS];

	UNUSED(state);
	assert_non_null(
		routes_find(STR("GET"), STR("/healthz"), params, allow, sizeof(allow)));
	assert_non_null(
		routes_find(STR("HEAD"), STR("/healthz"), params, allow, sizeof(allow)));
	assert_null(
		routes_find(STR("POST"), STR("/healthz"), params, allow, sizeof(allow)));
	assert_string_equal(allow, "GET, HEAD");
	assert_null(routes_find(STR("PUT"), STR("/v1/hob/conversations/x"), params, allow,
				sizeof(allow)));
	assert_string_equal(allow, "GET, HEAD, PATCH, DELETE");
	assert_null(
		routes_find(STR("GET"), STR("/healthz/"), params, allow, sizeof(allow)));
	assert_string_equal(allow, "");
	assert_null(routes_find(STR("GET"), STR("/v1/models/"), params, allow,
				sizeof(allow)));
	assert_non_null(routes_find(STR("GET"), STR("/v1/models/a/b"), params, allow,
				    sizeof(allow)));
	assert_true(str_eq(params[0], "a/b"));
}

static void a_star_is_one_segment_and_two_are_the_rest(void **state)
{
	char allow[64];
	struct str params[ROUTE_PARAMS];

	UNUSED(state);
	assert_null(routes_find(STR("GET"), STR("/v1/hob/conversations/a/b/c/d"), params,
				allow, sizeof(allow)));
	assert_string_equal(allow, "");
	assert_non_null(routes_find(STR("GET"), STR("/v1/hob/conversations/a"), params,
				    allow, sizeof(allow)));
	assert_true(str_eq(params[0], "a") && str_eq(params[1], ""));
	assert_null(routes_find(STR("GET"), STR("/v1/hob/conversations/"), params, allow,
				sizeof(allow)));
}

static void a_star_stands_for_one_segment_of_a_path(void **state)
{
	static const struct {
		const char *method, *path;
		const char *param; /* NULL: no such route */
	} cases[] = {
		{"GET", "/v1/hob/conversations/x", "x"},
		{"GET", "/v1/hob/conversations/x/turns", "x"},
		{"POST", "/v1/hob/conversations/a%2Fb/head", "a%2Fb"},
		{"POST", "/v1/hob/conversations/import", ""},
		{"GET", "/v1/hob/conversations/", NULL},
		{"GET", "/v1/hob/conversations//turns", NULL},
		{"GET", "/v1/hob/conversations/x/turns/", NULL},
		{"GET", "/v1/hob/conversations/x/turn", NULL},
		{"DELETE", "/v1/hob/conversations/x/turns", NULL},
		{"GET", "/v1/hob/conversations/x/y/turns", NULL},
		{"DELETE", "/v1/hob/notes/12", "12"},
		{"GET", "/v1/hob", NULL},
		{"GET", "", NULL},
	};
	char allow[64];

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct str params[ROUTE_PARAMS];
		const struct route *r =
			routes_find(str_of(cases[i].method), str_of(cases[i].path),
				    params, allow, sizeof allow);

		if (!r != !cases[i].param)
			fail_msg("%s %s: %s", cases[i].method, cases[i].path,
				 r ? r->path : "no route");
		if (r && !str_eq(params[0], cases[i].param))
			fail_msg("%s: '%.*s'", cases[i].path, (int)params[0].len,
				 params[0].ptr);
	}
}

/* -- where it ran -- */

static void start_after_a_fallback(struct openai_encoder *enc, double most_usd)
{
	static struct route_attempt failed = {.model = "qwen3:8b", .provider = "local"};
	struct openai_params p = {true, false};
	struct request *r = request_new();
	struct event ev = {.type = EVENT_STARTED};

	r->is_chat = true;
	snprintf(r->id, sizeof r->id, "hob-1");
	openai_encoder_init(enc, r, &p);
	request_free(r);
	err_set(&failed.error, ERR_MEMORY, "needs \"9 GiB\"");
	ev.started.model = "far/vendor/x";
	ev.started.provider = "far";
	ev.started.reason = "qwen3:8b: Speicher für \x01 alles";
	ev.started.route = "smart";
	ev.started.upstream_model = "vendor/x-2025";
	ev.started.most_usd = most_usd;
	ev.started.attempts = &failed;
	ev.started.nattempts = 1;
	ev.started.kept_messages = ev.started.dropped_messages = -1;
	openai_started(enc, &ev);
}

static void a_reply_says_where_it_ran_and_what_was_tried_before(void **state)
{
	struct openai_encoder enc;
	struct event end = {.type = EVENT_FINISHED};
	struct buf head = {0}, body = {0};
	const cJSON *hob, *attempt;
	cJSON *tree;
	struct err e;

	UNUSED(state);
	start_after_a_fallback(&enc, 0.0042);
	end.finished.usage = USAGE_UNKNOWN;
	end.finished.usage.cost_usd = 0.000125;
	openai_finished(&enc, &end);
	openai_add_fields(&enc, &head);
	assert_non_null(strstr(head.data, "x-hob-model: far/vendor/x\r\n"));
	assert_non_null(strstr(head.data, "x-hob-route: smart\r\n"));
	assert_non_null(strstr(head.data, "x-hob-attempts: 2\r\n"));
	assert_non_null(strstr(head.data, "x-hob-cost: 0.000125\r\n"));
	assert_non_null(
		strstr(head.data, "x-hob-reason: qwen3:8b: Speicher f??r   alles\r\n"));
	openai_add_whole(&enc, &end, &body);
	tree = json_parse(buf_str(&body), &e);
	assert_non_null(tree);
	hob = cJSON_GetObjectItem(tree, "hob");
	assert_string_equal(cJSON_GetObjectItem(hob, "route")->valuestring, "smart");
	assert_string_equal(cJSON_GetObjectItem(hob, "upstream_model")->valuestring,
			    "vendor/x-2025");
	assert_true(cJSON_GetObjectItem(hob, "cost_usd")->valuedouble == 0.000125);
	attempt = cJSON_GetArrayItem(cJSON_GetObjectItem(hob, "attempts"), 0);
	assert_string_equal(cJSON_GetObjectItem(attempt, "model")->valuestring,
			    "qwen3:8b");
	assert_string_equal(cJSON_GetObjectItem(attempt, "error")->valuestring,
			    "needs \"9 GiB\"");
	assert_string_equal(cJSON_GetObjectItem(attempt, "code")->valuestring,
			    "out_of_memory");
	cJSON_Delete(tree);
	buf_free(&head);
	buf_free(&body);
	openai_encoder_fini(&enc);
}

static void a_stream_says_what_it_may_cost_at_most(void **state)
{
	static const struct {
		double most;
		const char *says;
	} costs[] = {
		{0, "x-hob-cost: 0\r\n"},
		{-1, "x-hob-cost: unknown\r\n"},
		{0.0042, "x-hob-cost: <=0.0042\r\n"},
		{12, "x-hob-cost: <=12\r\n"},
		{0.0000001, "x-hob-cost: <=0.0000001\r\n"},
	};

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(costs); i++) {
		struct openai_encoder enc;
		struct buf head = {0};

		start_after_a_fallback(&enc, costs[i].most);
		openai_add_fields(&enc, &head);
		if (!strstr(head.data, costs[i].says))
			fail_msg("%s is not in %s", costs[i].says, head.data);
		buf_free(&head);
		openai_encoder_fini(&enc);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_fields_are_decoded),
		cmocka_unit_test(what_is_absent_or_null_is_not_given),
		cmocka_unit_test(an_echo_of_our_own_answer_is_a_plain_message),
		cmocka_unit_test(images_and_tools_keep_the_whole_message),
		cmocka_unit_test(what_is_wrong_is_refused_and_named),
		cmocka_unit_test(an_escaped_backslash_before_u0000_is_no_NUL),
		cmocka_unit_test(sixteen_stops_fit_and_seventeen_do_not),
		cmocka_unit_test(a_raw_prompt_is_one_string),
		cmocka_unit_test(a_stream_has_role_text_finish_usage_and_done),
		cmocka_unit_test(without_include_usage_there_is_no_usage_but_hob_extras),
		cmocka_unit_test(a_whole_reply_joins_text_reasoning_and_tool_calls),
		cmocka_unit_test(raw_completions_have_their_own_shape),
		cmocka_unit_test(an_error_object_names_type_and_code),
		cmocka_unit_test(routes_know_paths_methods_and_parameters),
		cmocka_unit_test(a_star_stands_for_one_segment_of_a_path),
		cmocka_unit_test(a_star_is_one_segment_and_two_are_the_rest),
		cmocka_unit_test(a_reply_says_where_it_ran_and_what_was_tried_before),
		cmocka_unit_test(a_stream_says_what_it_may_cost_at_most),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
