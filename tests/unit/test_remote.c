/* What calls itself compatible with OpenAI: what its streams become, what each failure means, and
 * what requests become. */
#include "answer_script.h"

#include "providers/openai.h"

#define EVENTS    "text/event-stream"
#define JSON      "application/json"
#define SSE(json) "data: " json "\n\n"
#define CHUNK(rest)                                                                     \
	SSE("{\"id\":\"g\",\"object\":\"chat.completion.chunk\",\"model\":\"up\"," rest \
	    "}")
#define CHOICE(delta) \
	CHUNK("\"choices\":[{\"index\":0,\"delta\":" delta ",\"finish_reason\":null}]")
#define SAYS(t) CHOICE("{\"content\":\"" t "\"}")
#define ENDS(reason) \
	CHUNK("\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"" reason "\"}]")
#define USAGE                                                                             \
	CHUNK("\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":6,"   \
	      "\"prompt_tokens_details\":{\"cached_tokens\":4,\"cache_write_tokens\":2}," \
	      "\"completion_tokens_details\":{\"reasoning_tokens\":3}}")
#define DONE    SSE("[DONE]")
#define STARTED "started up|"
#define USED    " 11+4+2>6/3"
#define UNKNOWN " -1+-1+-1>-1/-1"

static const struct script streams[] = {
	{.name = "text, usage, done",
	 .type = EVENTS,
	 .bytes = SAYS("Hel") SAYS("lo") ENDS("stop") USAGE DONE,
	 .says = STARTED "text Hello|finished stop" USED},
	{.name = "comments are nothing",
	 .type = EVENTS,
	 .bytes = ": OPENROUTER PROCESSING\n\n" SAYS("A") ":\n" ENDS("stop") DONE,
	 .says = STARTED "text A|finished stop" UNKNOWN},
	{.name = "no [DONE]",
	 .type = EVENTS,
	 .bytes = SAYS("A") ENDS("length"),
	 .says = STARTED "text A|finished length" UNKNOWN},
	{.name = "no finish reason",
	 .type = EVENTS,
	 .bytes = SAYS("A") DONE,
	 .says = STARTED "text A|finished stop" UNKNOWN},
	{.name = "a last event without its blank line",
	 .type = EVENTS,
	 .bytes = SAYS(
		 "A") "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}",
	 .says = STARTED "text A|finished stop" UNKNOWN},
	{.name = "cut off",
	 .type = EVENTS,
	 .bytes = SAYS("A"),
	 .says = STARTED "text A|failed upstream"},
	{.name = "lost",
	 .type = EVENTS,
	 .bytes = SAYS("A"),
	 .lost = "h: lost",
	 .says = STARTED "text A|failed upstream_unreachable"},
	{.name = "lost behind the reason",
	 .type = EVENTS,
	 .bytes = SAYS("A") ENDS("stop"),
	 .lost = "h: lost",
	 .says = STARTED "text A|finished stop" UNKNOWN},
	{.name = "half a character at the end",
	 .type = EVENTS,
	 .bytes = SAYS("a\xf0\x9f") DONE,
	 .says = STARTED "text a\xef\xbf\xbd|finished stop" UNKNOWN},
	{.name = "reasoning under any name, once",
	 .type = EVENTS,
	 .bytes = CHOICE(
		 "{\"reasoning\":\"a\",\"reasoning_details\":[{\"type\":\"reasoning.text\",\"text\":\"a\"}]}")
		 CHOICE("{\"reasoning_content\":\"b\",\"reasoning\":\"b\"}") CHOICE(
			 "{\"reasoning_content\":\"\",\"reasoning_details\":[{\"text\":\"c\"}]}")
			 CHOICE("{\"thinking\":\"d\"}") CHOICE(
				 "{\"reasoning_details\":[{\"type\":\"reasoning.summary\",\"summary\":\"e\"},"
				 "{\"type\":\"reasoning.encrypted\",\"data\":\"x\"}]}")
				 SAYS("A") ENDS("stop") DONE,
	 .says = STARTED "thought abcde|text A|finished stop" UNKNOWN},
	{.name = "content in parts",
	 .type = EVENTS,
	 .bytes = CHOICE(
		 "{\"content\":[{\"type\":\"thinking\",\"thinking\":[{\"type\":\"text\",\"text\":\"hm\"}]}]}")
		 CHOICE("{\"content\":[{\"type\":\"text\",\"text\":\"A\"}]}") ENDS("stop")
			 DONE,
	 .says = STARTED "thought hm|text A|finished stop" UNKNOWN},
	{.name = "tools",
	 .type = EVENTS,
	 .bytes = CHOICE(
		 "{\"tool_calls\":[{\"index\":0,\"id\":\"c\",\"function\":{\"name\":\"f\",\"arguments\":\"\"}}]}")
		 CHOICE("{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{}\"}}]}")
			 ENDS("tool_calls") DONE,
	 .says = STARTED
	 "tool {\"index\":0,\"id\":\"c\",\"function\":{\"name\":\"f\",\"arguments\":\"\"}}|"
	 "tool {\"index\":0,\"function\":{\"arguments\":\"{}\"}}|finished tool_calls" UNKNOWN},
	{.name = "a filter before any text",
	 .type = EVENTS,
	 .bytes = ENDS("content_filter") DONE,
	 .says = STARTED "failed content_filter"},
	{.name = "a filter behind text",
	 .type = EVENTS,
	 .bytes = SAYS("A") ENDS("content_filter") DONE,
	 .says = STARTED "text A|finished content_filter" UNKNOWN},
	{.name = "an error before choices",
	 .type = EVENTS,
	 .bytes = SAYS("A") CHUNK(
		 "\"error\":{\"code\":502,\"message\":\"died\"},\"choices\":[{\"index\":0,"
		 "\"delta\":{\"content\":\"\"},\"finish_reason\":\"error\"}]"),
	 .says = STARTED "text A|failed unavailable"},
	{.name = "an error with no choices",
	 .type = EVENTS,
	 .bytes = SSE(
		 "{\"error\":{\"code\":429,\"message\":\"busy\",\"metadata\":{\"retry_after_seconds\":3}},\"choices\":[]}"),
	 .says = "failed busy after 3000"},
	{.name = "an error whose code is a word",
	 .type = EVENTS,
	 .bytes = SAYS("A")
		 SSE("{\"error\":{\"code\":\"server_error\",\"message\":\"x\"}}"),
	 .says = STARTED "text A|failed unavailable"},
	{.name = "an error in the choice",
	 .type = EVENTS,
	 .bytes = CHUNK(
		 "\"choices\":[{\"index\":0,\"error\":{\"code\":504,\"message\":\"x\"},\"finish_reason\":\"error\"}]"),
	 .says = STARTED "failed timeout"},
	{.name = "an event named error",
	 .type = EVENTS,
	 .bytes =
		 "event: error\ndata: {\"message\":\"x\",\"type\":\"rate_limit_error\"}\n\n",
	 .says = "failed busy"},
	{.name = "no JSON",
	 .type = EVENTS,
	 .bytes = SAYS("A") SSE("{nonsense"),
	 .says = STARTED "text A|failed upstream"},
	{.name = "an event that is a number",
	 .type = EVENTS,
	 .bytes = SSE("7"),
	 .says = "failed upstream"},
	{.name = "progress",
	 .type = EVENTS,
	 .bytes =
		 CHUNK("\"choices\":[],\"prompt_progress\":{\"total\":9,\"processed\":4}")
			 SAYS("A") ENDS("stop") DONE,
	 .says = STARTED "progress 4/9|text A|finished stop" UNKNOWN},
	{.name = "other choices are not ours",
	 .type = EVENTS,
	 .bytes = CHUNK(
		 "\"choices\":[{\"index\":1,\"delta\":{\"content\":\"no\"}},{\"index\":0,\"delta\":{\"content\":\"A\"}}]")
		 ENDS("stop") DONE,
	 .says = STARTED "text A|finished stop" UNKNOWN},
	{.name = "a raw completion",
	 .type = EVENTS,
	 .bytes = CHUNK(
		 "\"choices\":[{\"index\":0,\"text\":\"ab\",\"finish_reason\":null}]")
		 CHUNK("\"choices\":[{\"index\":0,\"text\":\"\",\"finish_reason\":\"length\"}]")
			 DONE,
	 .says = STARTED "text ab|finished length" UNKNOWN},
	{.name = "a whole answer",
	 .type = JSON,
	 .bytes =
		 "{\"model\":\"up\",\"choices\":[{\"index\":0,\"finish_reason\":\"stop\",\"message\":"
		 "{\"content\":\"A\",\"reasoning\":\"hm\"}}],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}",
	 .says = STARTED "thought hm|text A|finished stop 1+-1+-1>2/-1"},
	{.name = "a whole answer that broke off",
	 .type = JSON,
	 .bytes =
		 "{\"model\":\"up\",\"choices\":[{\"index\":0,\"finish_reason\":\"error\",\"error\":"
		 "{\"code\":502,\"message\":\"x\"},\"message\":{\"content\":\"A\"}}]}",
	 .says = STARTED "failed unavailable"},
	{.name = "a web page",
	 .type = "text/html",
	 .bytes = "<html>",
	 .says = "failed upstream"},
	{.name = "a web page that hides",
	 .type = "",
	 .bytes = "  <!doctype html>",
	 .says = "failed upstream"},
	{.name = "nothing", .type = EVENTS, .bytes = "", .says = "failed upstream"},
	{.name = "JSON that means nothing",
	 .type = JSON,
	 .bytes = "{]",
	 .says = "failed upstream"},
};

static void streams_become_events(void **state)
{
	UNUSED(state);
	scripts_run(&openai_protocol, streams, ARRAY_LEN(streams));
}

#define FAILS(n, st, text, said)                                      \
	{                                                             \
		.name = n, .status = st, .type = JSON, .bytes = text, \
		.says = "failed " said                                \
	}
#define LATER(n, st, h, v, text, said)                                          \
	{                                                                       \
		.name = n, .status = st, .type = JSON, .header = h, .value = v, \
		.bytes = text, .says = "failed " said                           \
	}
#define ERR(rest) "{\"error\":{\"message\":\"m\"," rest "}}"

static const struct script failures[] = {
	FAILS("400", 400, ERR("\"code\":400"), "invalid"),
	FAILS("context by code", 400, ERR("\"code\":\"context_length_exceeded\""),
	      "context_length_exceeded"),
	FAILS("context by sentence", 400,
	      "{\"object\":\"error\",\"message\":\"This model's maximum context length is 8 tokens\",\"code\":400}",
	      "context_length_exceeded"),
	FAILS("context by type", 400, ERR("\"type\":\"exceed_context_size_error\""),
	      "context_length_exceeded"),
	FAILS("policy by code", 400, ERR("\"code\":\"content_policy_violation\""),
	      "content_filter"),
	FAILS("policy of Azure", 400, ERR("\"code\":\"content_filter\""),
	      "content_filter"),
	FAILS("an unknown model as 400", 400, ERR("\"code\":\"model_not_found\""),
	      "model_not_found"),
	FAILS("401", 401, ERR("\"code\":\"invalid_api_key\""), "upstream_auth"),
	FAILS("401 of a page", 401, "<html>", "upstream_auth"),
	FAILS("402", 402, ERR("\"code\":402"), "payment_required"),
	LATER("402 for a moment", 402, "retry-after", "5", ERR("\"code\":402"),
	      "payment_required after 5000"),
	FAILS("403 of the key", 403, ERR("\"code\":403"), "upstream_auth"),
	FAILS("403 of moderation", 403,
	      ERR("\"code\":403,\"metadata\":{\"reasons\":[\"violence\"],\"flagged_input\":\"kill\"}"),
	      "content_filter"),
	FAILS("403 of a guardrail", 403, ERR("\"metadata\":{\"patterns\":[\"ssn\"]}"),
	      "content_filter"),
	FAILS("403 of a region", 403,
	      ERR("\"availability\":{\"code\":\"region_restricted\"}"),
	      "model_not_found"),
	FAILS("404", 404, ERR("\"code\":404"), "model_not_found"),
	FAILS("404 of a page", 404, "<html>", "upstream"),
	FAILS("408", 408, "", "timeout"),
	FAILS("412", 412, "", "invalid"),
	FAILS("413", 413, "", "too_large"),
	FAILS("422", 422, "{\"detail\":\"bad\"}", "invalid"),
	FAILS("422 of FastAPI", 422, "{\"detail\":[{\"loc\":[1]}]}", "invalid"),
	FAILS("429", 429, ERR("\"code\":429"), "busy"),
	LATER("429 in seconds", 429, "retry-after", "7", "", "busy after 7000"),
	LATER("429 in parts of a second", 429, "retry-after", " 0.25 ", "",
	      "busy after 250"),
	LATER("429 in ms", 429, "retry-after-ms", "1500", "", "busy after 1500"),
	LATER("429 until a date", 429, "retry-after", "Sun, 06 Nov 1994 08:49:37 GMT", "",
	      "busy after 10000"),
	LATER("429 until a date that was", 429, "retry-after",
	      "Sun, 06 Nov 1994 08:49:00 GMT", "", "busy"),
	LATER("429 until nonsense", 429, "retry-after", "soon", "", "busy"),
	LATER("429 for ever", 429, "retry-after", "1e99", "", "busy after 86400000"),
	LATER("429 for years", 429, "retry-after", "999999999", "",
	      "busy after 86400000"),
	FAILS("429 as OpenRouter says it", 429,
	      ERR("\"metadata\":{\"headers\":{\"Retry-After\":\"4\"}}"),
	      "busy after 4000"),
	FAILS("429 with availability", 429,
	      ERR("\"availability\":{\"code\":\"capacity_exhausted\",\"retryable\":true,\"retry_after\":2}"),
	      "busy after 2000"),
	LATER("429 of an empty purse", 429, "retry-after", "7",
	      ERR("\"type\":\"insufficient_quota\",\"code\":\"insufficient_quota\""),
	      "payment_required"),
	FAILS("500", 500, ERR("\"code\":500"), "unavailable"),
	FAILS("502 of a page", 502, "<html>Bad gateway</html>", "unavailable"),
	LATER("503", 503, "retry-after", "2", "busy", "unavailable after 2000"),
	FAILS("503 while it loads", 503,
	      "{\"error\":{\"code\":503,\"message\":\"Loading model\",\"type\":\"unavailable_error\"}}",
	      "unavailable"),
	FAILS("504", 504, "", "timeout"),
	FAILS("524", 524, "", "timeout"),
	FAILS("529", 529, "", "unavailable"),
	FAILS("520", 520, "", "unavailable"),
	FAILS("302", 302, "", "upstream"),
	{.name = "an error with status 200",
	 .type = JSON,
	 .bytes = ERR("\"code\":402"),
	 .says = "failed payment_required"},
};

static void each_failure_has_its_code(void **state)
{
	UNUSED(state);
	scripts_run(&openai_protocol, failures, ARRAY_LEN(failures));
}

static void texts_from_outside_are_one_short_line(void **state)
{
	char body[2000] = "{\"error\":{\"message\":\"a\\nb\\u001b[31m", text[512];
	struct script s = {.status = 400, .type = JSON, .bytes = body};
	struct buf said = {0};

	UNUSED(state);
	memset(body + strlen(body), 'x', 1000);
	snprintf(body + strlen(body), 10, "\"}}");
	script_run(&openai_protocol, &s, 4096, &said, text);
	assert_non_null(strstr(text, "a b [31mxxx"));
	assert_true(strlen(text) < 400);
	buf_free(&said);
}

/* ---- requests ---- */

#define HI "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"
#define HEAD \
	"{\"model\":\"m\",\"stream\":true,\"stream_options\":{\"include_usage\":true},"

static const struct request_script requests[] = {
	{.name = "a word", .asked = "{" HI "}", .body = HEAD HI "}"},
	{.name = "what the model knows goes on",
	 .asked =
		 "{" HI
		 ",\"temperature\":0.5,\"max_tokens\":9,\"reasoning_effort\":\"low\","
		 "\"response_format\":{\"type\":\"json_object\"},\"logit_bias\":{\"5\":1}}",
	 .body = HEAD HI
	 ",\"temperature\":0.5,\"max_tokens\":9,\"reasoning_effort\":\"low\","
	 "\"response_format\":{\"type\":\"json_object\"},\"logit_bias\":{\"5\":1}}"},
	{.name = "what is ours stays here",
	 .asked =
		 "{" HI ",\"class\":\"batch\",\"supersede\":\"k\",\"keep_alive\":1,"
		 "\"x-hob-private\":1,\"hob\":{},\"hob_budget\":2,\"api_base\":\"http://evil\","
		 "\"base_url\":\"http://evil\",\"api_key\":\"k\",\"return_progress\":true}",
	 .body = HEAD HI "}"},
	{.name = "messages with more than text go on as they are",
	 .asked =
		 "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\","
		 "\"image_url\":{\"url\":\"data:,\"}}]}]}",
	 .body = HEAD
	 "\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\","
	 "\"image_url\":{\"url\":\"data:,\"}}]}]}"},
	{.name = "a raw prompt",
	 .asked = "{\"prompt\":\"ab\",\"suffix\":\"c\"}",
	 .body = HEAD "\"prompt\":\"ab\",\"suffix\":\"c\"}"},
};

static void requests_become_bodies(void **state)
{
	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(requests); i++)
		request_script_run(&openai_protocol, &requests[i]);
}

static void presets_differ_in_their_habits(void **state)
{
	static const struct {
		const char *preset, *body;
	} cases[] = {
		{"openai",
		 "{\"model\":\"m\",\"stream\":true,\"stream_options\":{\"include_usage\":"
		 "true,\"include_obfuscation\":false}," HI
		 ",\"max_completion_tokens\":5}"},
		{"mistral", "{\"model\":\"m\",\"stream\":true," HI ",\"max_tokens\":5}"},
		{"openrouter",
		 "{\"model\":\"m\",\"stream\":true," HI
		 ",\"max_tokens\":5,\"session_id\":\"c1\",\"provider\":{}}"},
	};

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct request *r = request_new();
		struct remote_ask ask = {.preset = provider_preset(cases[i].preset),
					 .model = "m",
					 .request = r};
		struct buf out = {0};
		struct err e;

		r->is_chat = true;
		r->conversation = xstrdup("c1");
		r->sampling.max_tokens = 5;
		request_add_message(r, ROLE_USER, "hi", 2);
		if (i == 2)
			ask.more = STR(",\"provider\":{}");
		assert_int_equal(openai_body(&out, &ask, &e), 0);
		assert_same_json(cases[i].preset, out.data, cases[i].body);
		buf_free(&out);
		request_free(r);
	}
}

static void contexts_are_found_under_any_name(void **state)
{
	cJSON *tree = json_parse(
		STR("{\"data\":[{\"id\":\"a\",\"max_model_len\":1},{\"id\":\"b\",\"context_length\":2},"
		    "{\"id\":\"c\",\"meta\":{\"n_ctx_train\":3}},{\"id\":\"d\"},{\"object\":\"model\"}]}"),
		NULL);
	struct remote_model *list;
	int n;

	UNUSED(state);
	assert_int_equal(openai_protocol.models(tree, &list, &n), 0);
	assert_int_equal(n, 4);
	for (int i = 0; i < n; i++) {
		assert_int_equal(list[i].ctx, i == 3 ? 0 : i + 1);
		free(list[i].id);
	}
	free(list);
	cJSON_Delete(tree);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(streams_become_events),
		cmocka_unit_test(each_failure_has_its_code),
		cmocka_unit_test(texts_from_outside_are_one_short_line),
		cmocka_unit_test(requests_become_bodies),
		cmocka_unit_test(presets_differ_in_their_habits),
		cmocka_unit_test(contexts_are_found_under_any_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
