/* Anthropic's Messages: what its streams become, and what requests become for it. */
#include "answer_script.h"

#include "api/openai.h"
#include "providers/anthropic.h"

#define EV(type, rest) "event: " type "\ndata: {\"type\":\"" type "\"" rest "}\n\n"
#define START                                                                        \
	EV("message_start",                                                          \
	   ",\"message\":{\"id\":\"m\",\"type\":\"message\",\"role\":\"assistant\"," \
	   "\"model\":\"claude-x\",\"content\":[],\"usage\":{\"input_tokens\":10,"   \
	   "\"cache_creation_input_tokens\":3,\"cache_read_input_tokens\":20,"       \
	   "\"output_tokens\":1}}")
#define BLOCK(i, block) \
	EV("content_block_start", ",\"index\":" i ",\"content_block\":" block)
#define DELTA(i, delta) EV("content_block_delta", ",\"index\":" i ",\"delta\":" delta)
#define TEXT_DELTA(t)   DELTA("0", "{\"type\":\"text_delta\",\"text\":\"" t "\"}")
#define STOP_BLOCK(i)   EV("content_block_stop", ",\"index\":" i)
#define END(reason)                                                      \
	EV("message_delta",                                              \
	   ",\"delta\":{\"stop_reason\":\"" reason                       \
	   "\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":6}") \
	EV("message_stop", "")
#define PING EV("ping", "")
#define HELLO \
	BLOCK("0", "{\"type\":\"text\",\"text\":\"\"}") TEXT_DELTA("Hel") TEXT_DELTA("lo")
#define EVENTS  "text/event-stream; charset=utf-8"
#define STARTED "started claude-x|"
#define USED    " 33+20+3>6/-1"

static const struct script scripts[] = {
	{.name = "text with pings",
	 .type = EVENTS,
	 .bytes = START PING HELLO PING STOP_BLOCK("0") END("end_turn"),
	 .says = STARTED "text Hello|finished stop" USED},
	{.name = "length",
	 .type = EVENTS,
	 .bytes = START HELLO STOP_BLOCK("0") END("max_tokens"),
	 .says = STARTED "text Hello|finished length" USED},
	{.name = "the window is full",
	 .type = EVENTS,
	 .bytes = START HELLO STOP_BLOCK("0") END("model_context_window_exceeded"),
	 .says = STARTED "text Hello|finished length" USED},
	{.name = "a stop sequence",
	 .type = EVENTS,
	 .bytes = START HELLO STOP_BLOCK("0") END("stop_sequence"),
	 .says = STARTED "text Hello|finished stop" USED},
	{.name = "a pause is an end",
	 .type = EVENTS,
	 .bytes = START HELLO STOP_BLOCK("0") END("pause_turn"),
	 .says = STARTED "text Hello|finished stop" USED},
	{.name = "thinking, its signature, then text",
	 .type = EVENTS,
	 .bytes = START BLOCK("0", "{\"type\":\"thinking\",\"thinking\":\"\"}")
		 DELTA("0", "{\"type\":\"thinking_delta\",\"thinking\":\"hm\"}") DELTA(
			 "0", "{\"type\":\"signature_delta\",\"signature\":\"Eq==\"}")
			 STOP_BLOCK("0") BLOCK("1", "{\"type\":\"text\",\"text\":\"\"}")
				 DELTA("1", "{\"type\":\"text_delta\",\"text\":\"A\"}")
					 STOP_BLOCK("1") END("end_turn"),
	 .says = STARTED "thought hm|text A|finished stop" USED},
	{.name = "thoughts that nobody may read",
	 .type = EVENTS,
	 .bytes = START BLOCK("0", "{\"type\":\"redacted_thinking\",\"data\":\"zz\"}")
		 STOP_BLOCK("0") BLOCK("1", "{\"type\":\"text\",\"text\":\"A\"}")
			 STOP_BLOCK("1") END("end_turn"),
	 .says = STARTED "text A|finished stop" USED},
	{.name = "two tools, one without arguments",
	 .type = EVENTS,
	 .bytes = START BLOCK("0", "{\"type\":\"text\",\"text\":\"\"}") TEXT_DELTA(
		 "Ok") STOP_BLOCK("0")
		 BLOCK("1",
		       "{\"type\":\"tool_use\",\"id\":\"t1\",\"name\":"
		       "\"weather\",\"input\":{}}") DELTA("1",
							  "{\"type\":\"input_json_delta\","
							  "\"partial_json\":\"\"}")
			 DELTA("1", "{\"type\":\"input_json_delta\","
				    "\"partial_json\":\"{\\\"c\"}")
				 DELTA("1",
				       "{\"type\":\"input_json_delta\","
				       "\"partial_json\":\"\\\":1}\"}") STOP_BLOCK("1")
					 BLOCK("2",
					       "{\"type\":\"tool_use\",\"id\":\"t2\","
					       "\"name\":\"now\",\"input\":{}}")
						 STOP_BLOCK("2") END("tool_use"),
	 .says = STARTED
	 "text Ok|"
	 "tool {\"index\":0,\"id\":\"t1\",\"type\":\"function\",\"function\":{\"name\":\"weather\",\"arguments\":\"\"}}|"
	 "tool {\"index\":0,\"function\":{\"arguments\":\"{\\\"c\"}}|"
	 "tool {\"index\":0,\"function\":{\"arguments\":\"\\\":1}\"}}|"
	 "tool {\"index\":1,\"id\":\"t2\",\"type\":\"function\",\"function\":{\"name\":\"now\",\"arguments\":\"\"}}|"
	 "tool {\"index\":1,\"function\":{\"arguments\":\"{}\"}}|"
	 "finished tool_calls" USED},
	{.name = "a refusal before any text",
	 .type = EVENTS,
	 .bytes = START END("refusal"),
	 .says = STARTED "failed content_filter"},
	{.name = "a refusal behind text",
	 .type = EVENTS,
	 .bytes = START HELLO END("refusal"),
	 .says = STARTED "text Hello|finished content_filter" USED},
	{.name = "overloaded inside a 200",
	 .type = EVENTS,
	 .bytes = EV("error", ",\"error\":{\"type\":\"overloaded_error\",\"message\":"
			      "\"Overloaded\"}"),
	 .says = "failed unavailable"},
	{.name = "overloaded in the middle",
	 .type = EVENTS,
	 .bytes = START HELLO EV("error", ",\"error\":{\"type\":\"overloaded_error\","
					  "\"message\":\"Overloaded\"}"),
	 .says = STARTED "text Hello|failed unavailable"},
	{.name = "cut off",
	 .type = EVENTS,
	 .bytes = START HELLO,
	 .says = STARTED "text Hello|failed upstream"},
	{.name = "lost",
	 .type = EVENTS,
	 .bytes = START HELLO,
	 .lost = "h: the connection was lost",
	 .says = STARTED "text Hello|failed upstream_unreachable"},
	{.name = "the reason came, only message_stop is missing",
	 .type = EVENTS,
	 .bytes = START HELLO EV("message_delta",
				 ",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":"
				 "{\"output_tokens\":6}"),
	 .says = STARTED "text Hello|finished stop" USED},
	{.name = "what is new is ignored",
	 .type = EVENTS,
	 .bytes = START EV("content_block_weather", ",\"index\":0")
		 BLOCK("0", "{\"type\":\"weather\"}") STOP_BLOCK("0") END("end_turn"),
	 .says = STARTED "finished stop" USED},
	{.name = "a whole answer",
	 .type = "application/json",
	 .bytes =
		 "{\"type\":\"message\",\"model\":\"claude-x\",\"content\":["
		 "{\"type\":\"thinking\",\"thinking\":\"hm\"},"
		 "{\"type\":\"text\",\"text\":\"Ja\"},{\"type\":\"tool_use\",\"id\":\"t\","
		 "\"name\":\"f\",\"input\":{\"a\":1}}],\"stop_reason\":\"tool_use\","
		 "\"usage\":{\"input_tokens\":5,\"output_tokens\":2}}",
	 .says = STARTED
	 "thought hm|text Ja|"
	 "tool {\"index\":0,\"id\":\"t\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"\"}}|"
	 "tool {\"index\":0,\"function\":{\"arguments\":\"{\\\"a\\\":1}\"}}|"
	 "finished tool_calls 5+-1+-1>2/-1"},
	{.name = "an error as JSON with status 200",
	 .type = "application/json",
	 .bytes = "{\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\","
		  "\"message\":\"slow\"}}",
	 .says = "failed busy"},
	{.name = "429 in seconds",
	 .status = 429,
	 .type = "application/json",
	 .header = "retry-after",
	 .value = "12",
	 .bytes = "{\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\","
		  "\"message\":\"slow\"}}",
	 .says = "failed busy after 12000"},
	{.name = "429 that no waiting ends",
	 .status = 429,
	 .type = "application/json",
	 .header = "retry-after",
	 .value = "12",
	 .bytes = "{\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\","
		  "\"details\":{\"error_code\":\"enforced_spend_limit_reached\"}}}",
	 .says = "failed payment_required"},
	{.name = "529",
	 .status = 529,
	 .type = "application/json",
	 .bytes = "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}",
	 .says = "failed unavailable"},
	{.name = "401",
	 .status = 401,
	 .type = "application/json",
	 .bytes = "{\"type\":\"error\",\"error\":{\"type\":\"authentication_error\"}}",
	 .says = "failed upstream_auth"},
	{.name = "403",
	 .status = 403,
	 .type = "application/json",
	 .bytes = "{\"type\":\"error\",\"error\":{\"type\":\"permission_error\"}}",
	 .says = "failed upstream_auth"},
	{.name = "404",
	 .status = 404,
	 .type = "application/json",
	 .bytes = "{\"type\":\"error\",\"error\":{\"type\":\"not_found_error\"}}",
	 .says = "failed model_not_found"},
	{.name = "no credit as 400",
	 .status = 400,
	 .type = "application/json",
	 .bytes = "{\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\","
		  "\"message\":\"Your credit balance is too low to access the API\"}}",
	 .says = "failed payment_required"},
	{.name = "too long",
	 .status = 400,
	 .type = "application/json",
	 .bytes = "{\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\","
		  "\"message\":\"prompt is too long: 210000 tokens > 200000 maximum\"}}",
	 .says = "failed context_length_exceeded"},
};

static void streams_become_events(void **state)
{
	UNUSED(state);
	scripts_run(&anthropic_protocol, scripts, ARRAY_LEN(scripts));
}

#define HI "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"
#define HI_SENT \
	"\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"hi\"}]}]"
#define HEAD "{\"model\":\"m\",\"max_tokens\":4096,\"stream\":true,"

static const struct request_script requests[] = {
	{.name = "a word", .asked = "{" HI "}", .body = HEAD HI_SENT "}"},
	{.name = "the model's limit where nobody gave one",
	 .asked = "{" HI "}",
	 .max_output = 64000,
	 .body = "{\"model\":\"m\",\"max_tokens\":64000,\"stream\":true," HI_SENT "}"},
	{.name = "sampling",
	 .asked =
		 "{" HI ",\"max_tokens\":9,\"temperature\":1.5,\"top_p\":0.5,\"top_k\":3,"
		 "\"stop\":[\"a\"],\"seed\":4,\"min_p\":0.1,\"user\":\"u\"}",
	 .body = "{\"model\":\"m\",\"max_tokens\":9,\"stream\":true," HI_SENT
		 ",\"temperature\":1,\"top_k\":3,\"stop_sequences\":[\"a\"],"
		 "\"metadata\":{\"user_id\":\"u\"}}"},
	{.name = "top_p alone",
	 .asked = "{" HI ",\"top_p\":0.5}",
	 .body = HEAD HI_SENT ",\"top_p\":0.5}"},
	{.name = "systems come first, turns take turns",
	 .asked =
		 "{\"messages\":[{\"role\":\"system\",\"content\":\"s1\"},"
		 "{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"user\",\"content\":\"b\"},"
		 "{\"role\":\"assistant\",\"content\":\"c\"},"
		 "{\"role\":\"developer\",\"content\":\"s2\"},"
		 "{\"role\":\"user\",\"content\":\"d\"}]}",
	 .body = HEAD
	 "\"system\":[{\"type\":\"text\",\"text\":\"s1\"},{\"type\":\"text\",\"text\":\"s2\"}],"
	 "\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},"
	 "{\"type\":\"text\",\"text\":\"b\"}]},{\"role\":\"assistant\",\"content\":"
	 "[{\"type\":\"text\",\"text\":\"c\"}]},{\"role\":\"user\",\"content\":"
	 "[{\"type\":\"text\",\"text\":\"d\"}]}]}"},
	{.name = "images by data and by address, a document",
	 .asked =
		 "{\"messages\":[{\"role\":\"user\",\"content\":["
		 "{\"type\":\"text\",\"text\":\"see\"},{\"type\":\"text\",\"text\":\"\"},"
		 "{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:image/png;base64,QUJD\"}},"
		 "{\"type\":\"image_url\",\"image_url\":{\"url\":\"https://h/i.png\",\"detail\":\"low\"}},"
		 "{\"type\":\"file\",\"file\":{\"file_data\":\"data:application/pdf;base64,QQ==\"}}]}]}",
	 .body = HEAD
	 "\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"see\"},"
	 "{\"type\":\"image\",\"source\":{\"type\":\"base64\",\"media_type\":\"image/png\",\"data\":\"QUJD\"}},"
	 "{\"type\":\"image\",\"source\":{\"type\":\"url\",\"url\":\"https://h/i.png\"}},"
	 "{\"type\":\"document\",\"source\":{\"type\":\"base64\",\"media_type\":\"application/pdf\",\"data\":\"QQ==\"}}"
	 "]}]}"},
	{.name = "tools there and back",
	 .asked =
		 "{\"messages\":[{\"role\":\"user\",\"content\":\"w?\"},"
		 "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":["
		 "{\"id\":\"t1\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"c\\\":1}\"}},"
		 "{\"id\":\"t2\",\"type\":\"function\",\"function\":{\"name\":\"g\",\"arguments\":\"\"}}]},"
		 "{\"role\":\"tool\",\"tool_call_id\":\"t1\",\"content\":\"sun\"},"
		 "{\"role\":\"tool\",\"tool_call_id\":\"t2\",\"content\":\"\"}],"
		 "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"description\":\"d\","
		 "\"parameters\":{\"type\":\"object\",\"properties\":{\"c\":{}}}}},"
		 "{\"type\":\"function\",\"function\":{\"name\":\"g\"}}],"
		 "\"tool_choice\":\"required\",\"parallel_tool_calls\":false,"
		 "\"reasoning_effort\":\"low\"}",
	 .body = HEAD
	 "\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"w?\"}]},"
	 "{\"role\":\"assistant\",\"content\":[{\"type\":\"tool_use\",\"id\":\"t1\",\"name\":\"f\",\"input\":{\"c\":1}},"
	 "{\"type\":\"tool_use\",\"id\":\"t2\",\"name\":\"g\",\"input\":{}}]},"
	 "{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\",\"tool_use_id\":\"t1\",\"content\":[{\"type\":\"text\",\"text\":\"sun\"}]},"
	 "{\"type\":\"tool_result\",\"tool_use_id\":\"t2\",\"content\":[]}]}],"
	 "\"tools\":[{\"name\":\"f\",\"description\":\"d\",\"input_schema\":{\"type\":\"object\",\"properties\":{\"c\":{}}}},"
	 "{\"name\":\"g\",\"input_schema\":{\"type\":\"object\"}}],"
	 "\"tool_choice\":{\"type\":\"any\",\"disable_parallel_tool_use\":true}}"},
	{.name = "one tool by name",
	 .asked =
		 "{" HI
		 ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"g\"}}],"
		 "\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"g\"}}}",
	 .body = HEAD HI_SENT
	 ",\"tools\":[{\"name\":\"g\",\"input_schema\":{\"type\":\"object\"}}],"
	 "\"tool_choice\":{\"type\":\"tool\",\"name\":\"g\"}}"},
	{.name = "thinking is a share of max_tokens and silences the temperature",
	 .asked = "{" HI ",\"reasoning_effort\":\"medium\",\"max_tokens\":8000,"
		  "\"temperature\":0.5,\"top_k\":4}",
	 .body = "{\"model\":\"m\",\"max_tokens\":8000,\"stream\":true," HI_SENT
		 ",\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":4000}}"},
	{.name = "no thinking when none is wanted",
	 .asked = "{" HI ",\"reasoning_effort\":\"none\"}",
	 .body = HEAD HI_SENT "}"},
	{.name = "a schema for the answer",
	 .asked = "{" HI ",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":"
		  "{\"name\":\"n\",\"schema\":{\"type\":\"object\"}}}}",
	 .body = HEAD HI_SENT
	 ",\"output_config\":{\"format\":{\"type\":\"json_schema\",\"schema\":{\"type\":\"object\"}}}}"},
	{.name = "ours and unknown fields stay here",
	 .asked = "{" HI ",\"class\":\"batch\",\"supersede\":\"k\",\"keep_alive\":5,"
		  "\"api_base\":\"http://evil\",\"frob\":1,\"logprobs\":false}",
	 .body = HEAD HI_SENT "}"},

	{.name = "a room too small to think in",
	 .asked = "{" HI ",\"reasoning_effort\":\"high\",\"max_tokens\":500}",
	 .code = ERR_UNSUPPORTED,
	 .says = "max_tokens over 1024"},
	{.name = "logprobs",
	 .asked = "{" HI ",\"logprobs\":true}",
	 .code = ERR_UNSUPPORTED,
	 .says = "'logprobs'"},
	{.name = "penalties",
	 .asked = "{" HI ",\"presence_penalty\":1}",
	 .code = ERR_UNSUPPORTED,
	 .says = "'presence_penalty'"},
	{.name = "any JSON",
	 .asked = "{" HI ",\"response_format\":{\"type\":\"json_object\"}}",
	 .code = ERR_UNSUPPORTED,
	 .says = "json_object"},
	{.name = "sound",
	 .asked =
		 "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_audio\","
		 "\"input_audio\":{}}]}]}",
	 .code = ERR_UNSUPPORTED,
	 .says = "input_audio"},
	{.name = "tools of another kind",
	 .asked = "{" HI ",\"tools\":[{\"type\":\"web_search\"}]}",
	 .code = ERR_UNSUPPORTED,
	 .says = "web_search"},
	{.name = "arguments that are no object",
	 .asked =
		 "{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"t\",\"function\":"
		 "{\"name\":\"f\",\"arguments\":\"[1\"}}]}]}",
	 .code = ERR_INVALID,
	 .says = "messages[0]"},
	{.name = "nobody says anything",
	 .asked = "{\"messages\":[{\"role\":\"system\",\"content\":\"s\"}]}",
	 .code = ERR_INVALID,
	 .says = "system"},
};

static void requests_become_bodies(void **state)
{
	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(requests); i++)
		request_script_run(&anthropic_protocol, &requests[i]);
}

static void models_are_listed(void **state)
{
	cJSON *tree = json_parse(
		STR("{\"data\":[{\"type\":\"model\",\"id\":\"claude-x\",\"max_input_tokens\":"
		    "200000,\"max_tokens\":64000},{\"id\":\"\"},{\"id\":\"claude-y\"}],"
		    "\"has_more\":false}"),
		NULL);
	struct remote_model *list;
	int n;

	UNUSED(state);
	assert_int_equal(anthropic_protocol.models(tree, &list, &n), 0);
	assert_int_equal(n, 2);
	assert_string_equal(list[0].id, "claude-x");
	assert_int_equal(list[0].ctx, 200000);
	assert_int_equal(list[0].max_output, 64000);
	assert_int_equal(list[1].ctx, 0);
	assert_int_equal(list[1].reasoning, UNSAID);
	free(list[0].id);
	free(list[1].id);
	free(list);
	cJSON_Delete(tree);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(streams_become_events),
		cmocka_unit_test(requests_become_bodies),
		cmocka_unit_test(models_are_listed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
