/* Ollama's own protocol: what its lines become, and what requests become for it. */
#include "answer_script.h"

#include "providers/ollama.h"

#define LINES "application/x-ndjson"
#define PART(m) \
	"{\"model\":\"qwen3:8b\",\"created_at\":\"t\",\"message\":" m ",\"done\":false}\n"
#define SAYS(t) PART("{\"role\":\"assistant\",\"content\":\"" t "\"}")
#define DONE(reason)                                                                     \
	"{\"model\":\"qwen3:8b\",\"message\":{\"role\":\"assistant\",\"content\":\"\"}," \
	"\"done\":true,\"done_reason\":\"" reason "\",\"total_duration\":9000000,"       \
	"\"prompt_eval_count\":11,\"prompt_eval_duration\":2000000,\"eval_count\":6,"    \
	"\"eval_duration\":5000000}"
#define STARTED "started qwen3:8b|"
#define USED    " 11+-1+-1>6/-1"

static const struct script scripts[] = {
	{.name = "text",
	 .type = LINES,
	 .bytes = SAYS("Hel") SAYS("lo") DONE("stop") "\n",
	 .says = STARTED "text Hello|finished stop" USED},
	{.name = "the last line may lack its end",
	 .type = LINES,
	 .bytes = SAYS("Hi") DONE("length"),
	 .says = STARTED "text Hi|finished length" USED},
	{.name = "CRLF, empty lines, no type",
	 .type = "",
	 .bytes = "{\"message\":{\"content\":\"a\"},\"done\":false}\r\n\r\n\n" DONE(
		 "stop"),
	 .says = "started -|text a|finished stop" USED},
	{.name = "characters split between lines",
	 .type = LINES,
	 .bytes = PART("{\"content\":\"a\xf0\x9f\"}") PART("{\"content\":\"\x94\xa5z\"}")
		 DONE("stop"),
	 .says = STARTED "text a\xf0\x9f\x94\xa5z|finished stop" USED},
	{.name = "thinking",
	 .type = LINES,
	 .bytes = PART("{\"content\":\"\",\"thinking\":\"hm\"}") SAYS("A") DONE("stop"),
	 .says = STARTED "thought hm|text A|finished stop" USED},
	{.name = "tools get ids, and stop means tools",
	 .type = LINES,
	 .bytes = PART("{\"content\":\"\",\"tool_calls\":[{\"function\":{\"name\":\"f\","
		       "\"arguments\":{\"c\":\"x\"}}},{\"function\":{\"name\":\"g\"}}]}")
		 PART("{\"content\":\"\",\"tool_calls\":[{\"id\":\"call_9\",\"function\":{"
		      "\"name\":\"h\",\"arguments\":{}}}]}") DONE("stop"),
	 .says = STARTED
	 "tool {\"index\":0,\"id\":\"call_hob-1_0\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"c\\\":\\\"x\\\"}\"}}|"
	 "tool {\"index\":1,\"id\":\"call_hob-1_1\",\"type\":\"function\",\"function\":{\"name\":\"g\",\"arguments\":\"{}\"}}|"
	 "tool {\"index\":2,\"id\":\"call_9\",\"type\":\"function\",\"function\":{\"name\":\"h\",\"arguments\":\"{}\"}}|"
	 "finished tool_calls" USED},
	{.name = "an answer to a raw prompt",
	 .type = LINES,
	 .bytes =
		 "{\"model\":\"qwen3:8b\",\"response\":\"ab\",\"done\":false}\n"
		 "{\"model\":\"qwen3:8b\",\"response\":\"\",\"done\":true,\"done_reason\":"
		 "\"stop\",\"prompt_eval_count\":11,\"eval_count\":6}\n",
	 .says = STARTED "text ab|finished stop" USED},
	{.name = "an error in the middle",
	 .type = LINES,
	 .bytes = SAYS(
		 "A") "{\"error\":\"an error was encountered while running the model\"}\n",
	 .says = STARTED "text A|failed upstream"},
	{.name = "cut off",
	 .type = LINES,
	 .bytes = SAYS("A"),
	 .says = STARTED "text A|failed upstream"},
	{.name = "cut off in a line",
	 .type = LINES,
	 .bytes = SAYS("A") "{\"model\":\"qwen3",
	 .says = STARTED "text A|failed upstream"},
	{.name = "lost",
	 .type = LINES,
	 .bytes = SAYS("A"),
	 .lost = "h: lost",
	 .says = STARTED "text A|failed upstream_unreachable"},
	{.name = "no JSON",
	 .type = LINES,
	 .bytes = "so sorry\n",
	 .says = "failed upstream"},
	{.name = "a web page",
	 .type = "text/html",
	 .bytes = "<html>hi</html>",
	 .says = "failed upstream"},
	{.name = "nothing", .type = LINES, .bytes = "", .says = "failed upstream"},
	{.name = "no such model",
	 .status = 404,
	 .type = "application/json",
	 .bytes = "{\"error\":\"model 'x' not found\"}",
	 .says = "failed model_not_found"},
	{.name = "its queue is full",
	 .status = 503,
	 .type = "application/json",
	 .bytes = "{\"error\":\"server busy, please try again.\"}",
	 .says = "failed unavailable"},
	{.name = "400",
	 .status = 400,
	 .type = "application/json",
	 .bytes = "{\"error\":\"x does not support tools\"}",
	 .says = "failed invalid"},
	{.name = "500",
	 .status = 500,
	 .type = "application/json",
	 .bytes = "{\"error\":\"llama runner process has terminated\"}",
	 .says = "failed unavailable"},
};

static void streams_become_events(void **state)
{
	UNUSED(state);
	scripts_run(&ollama_protocol, scripts, ARRAY_LEN(scripts));
}

static void durations_are_read(void **state)
{
	struct answer_of of = {.reader = &ollama_protocol.reader, .who = "x"};
	struct answer a;
	struct err e;
	cJSON *tree = json_parse(STR(DONE("stop")), NULL);

	UNUSED(state);
	answer_init(&a, &of);
	assert_int_equal(ollama_protocol.reader.event(&a, (struct str){0}, tree, &e), 1);
	assert_true(a.usage.prefill_ms == 2 && a.usage.decode_ms == 5);
	answer_fini(&a);
	cJSON_Delete(tree);
}

#define HI   "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"
#define HEAD "{\"model\":\"m\",\"stream\":true,"

static const struct request_script requests[] = {
	{.name = "a word", .asked = "{" HI "}", .body = HEAD HI "}"},
	{.name = "sampling",
	 .asked = "{" HI
		  ",\"max_tokens\":9,\"temperature\":0.5,\"top_p\":0.25,\"top_k\":3,"
		  "\"min_p\":0.125,\"seed\":4,\"stop\":\"a\",\"frequency_penalty\":0.5}",
	 .body = HEAD HI
	 ",\"options\":{\"num_predict\":9,\"temperature\":0.5,\"top_p\":0.25,\"top_k\":3,"
	 "\"min_p\":0.125,\"seed\":4,\"stop\":[\"a\"],\"frequency_penalty\":0.5}}"},
	{.name = "how long it stays",
	 .asked = "{" HI ",\"keep_alive\":\"5m\"}",
	 .body = HEAD HI ",\"keep_alive\":\"300000ms\"}"},
	{.name = "for ever",
	 .asked = "{" HI ",\"keep_alive\":-1}",
	 .body = HEAD HI ",\"keep_alive\":-1}"},
	{.name = "images",
	 .asked =
		 "{\"messages\":[{\"role\":\"user\",\"content\":["
		 "{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\"},"
		 "{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:image/png;base64,QUJD\"}}]}]}",
	 .body = HEAD
	 "\"messages\":[{\"role\":\"user\",\"content\":\"ab\",\"images\":[\"QUJD\"]}]}"},
	{.name = "tools there and back",
	 .asked =
		 "{\"messages\":[{\"role\":\"assistant\",\"content\":null,\"reasoning\":\"hm\","
		 "\"tool_calls\":[{\"id\":\"t1\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"c\\\":1}\"}}]},"
		 "{\"role\":\"tool\",\"tool_call_id\":\"t1\",\"content\":\"sun\"}],"
		 "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}],\"tool_choice\":\"auto\"}",
	 .body = HEAD
	 "\"messages\":[{\"role\":\"assistant\",\"content\":\"\",\"thinking\":\"hm\",\"tool_calls\":"
	 "[{\"function\":{\"name\":\"f\",\"arguments\":{\"c\":1}}}]},"
	 "{\"role\":\"tool\",\"content\":\"sun\",\"tool_name\":\"f\"}],"
	 "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]}"},
	{.name = "tools that must not be called are not shown",
	 .asked = "{" HI
		  ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}],"
		  "\"tool_choice\":\"none\"}",
	 .body = HEAD HI "}"},
	{.name = "any JSON",
	 .asked = "{" HI ",\"response_format\":{\"type\":\"json_object\"}}",
	 .body = HEAD HI ",\"format\":\"json\"}"},
	{.name = "a schema",
	 .asked =
		 "{" HI ",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{"
		 "\"schema\":{\"type\":\"object\"}}}}",
	 .body = HEAD HI ",\"format\":{\"type\":\"object\"}}"},
	{.name = "thinking",
	 .asked = "{" HI ",\"reasoning_effort\":\"high\"}",
	 .body = HEAD HI ",\"think\":\"high\"}"},
	{.name = "no thinking",
	 .asked = "{" HI ",\"reasoning\":{\"enabled\":false}}",
	 .body = HEAD HI ",\"think\":false}"},
	{.name = "a raw prompt",
	 .asked = "{\"prompt\":\"ab\",\"max_tokens\":3}",
	 .body = HEAD "\"prompt\":\"ab\",\"raw\":true,\"options\":{\"num_predict\":3}}"},
	{.name = "a hole to fill",
	 .asked = "{\"prompt\":\"ab\",\"suffix\":\"c\"}",
	 .body = HEAD "\"prompt\":\"ab\",\"suffix\":\"c\"}"},
	{.name = "ours and unknown fields stay here",
	 .asked = "{" HI ",\"class\":\"batch\",\"frob\":1,\"base_url\":\"http://evil\"}",
	 .body = HEAD HI "}"},

	{.name = "an image by address",
	 .asked =
		 "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\","
		 "\"image_url\":{\"url\":\"https://h/i.png\"}}]}]}",
	 .code = ERR_UNSUPPORTED,
	 .says = "data: URLs only"},
	{.name = "a call that is demanded",
	 .asked = "{" HI
		  ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}],"
		  "\"tool_choice\":\"required\"}",
	 .code = ERR_UNSUPPORTED,
	 .says = "tool_choice"},
	{.name = "logit_bias",
	 .asked = "{" HI ",\"logit_bias\":{\"1\":2}}",
	 .code = ERR_UNSUPPORTED,
	 .says = "'logit_bias'"},
	{.name = "an effort that nobody knows",
	 .asked = "{" HI ",\"reasoning_effort\":\"heroic\"}",
	 .code = ERR_INVALID,
	 .says = "heroic"},
};

static void requests_become_bodies(void **state)
{
	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(requests); i++)
		request_script_run(&ollama_protocol, &requests[i]);
}

static void models_are_listed_and_shown(void **state)
{
	cJSON *tags = json_parse(
		STR("{\"models\":[{\"name\":\"qwen3:8b\",\"model\":\"qwen3:8b\","
		    "\"size\":5},{\"name\":\"\"}]}"),
		NULL);
	cJSON *show = json_parse(
		STR("{\"capabilities\":[\"completion\",\"tools\",\"thinking\"],\"model_info\":{"
		    "\"general.architecture\":\"qwen3\",\"qwen3.context_length\":40960}}"),
		NULL);
	struct remote_model *list;
	int n;

	UNUSED(state);
	assert_int_equal(ollama_protocol.models(tags, &list, &n), 0);
	assert_int_equal(n, 1);
	assert_int_equal(list[0].tools, UNSAID);
	assert_int_equal(ollama_protocol.show(show, &list[0]), 0);
	assert_int_equal(list[0].ctx, 40960);
	assert_int_equal(list[0].tools, YES);
	assert_int_equal(list[0].reasoning, YES);
	assert_int_equal(list[0].images, NO);
	free(list[0].id);
	free(list);
	assert_int_equal(ollama_protocol.models(show, &list, &n), -1);
	cJSON_Delete(tags);
	cJSON_Delete(show);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(streams_become_events),
		cmocka_unit_test(durations_are_read),
		cmocka_unit_test(requests_become_bodies),
		cmocka_unit_test(models_are_listed_and_shown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
