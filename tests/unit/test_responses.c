/* The Responses API without a network: what decodes to what, what is refused and how it says so, ids,
 * and that events come in an order a client can follow, whatever the model sends. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "api/responses.h"
#include "base/json.h"

/* -- decode -- */

static struct request *decode(const char *text, struct responses_params *p)
{
	struct err e = {0};
	struct request *r = responses_decode(str_of(text), NULL, p, &e);

	if (!r)
		fail_msg("%s: %s", text, e.text);
	return r;
}

static void a_text_is_one_user_message_and_storing_is_the_default(void **state)
{
	struct responses_params p;
	struct request *r = decode("{\"model\":\"m:1\",\"input\":\"hi\"}", &p);

	UNUSED(state);
	assert_string_equal(r->model, "m:1");
	assert_int_equal(r->nmessages, 1);
	assert_int_equal(r->nunkept, 0);
	assert_int_equal(r->messages[0].role, ROLE_USER);
	assert_string_equal(r->messages[0].text, "hi");
	assert_null(r->messages[0].raw_json);
	assert_null(r->extra_json);
	assert_null(r->conversation);
	assert_true(p.store && !p.stream && !p.previous && !p.nmissing);
	request_free(r);
	responses_params_free(&p);
}

static void instructions_stand_in_front_and_are_not_kept(void **state)
{
	struct responses_params p;
	struct request *r = decode(
		"{\"instructions\":\"i\",\"store\":false,\"stream\":true,\"conversation\":"
		"{\"id\":\"conv_01ARZ3NDEKTSV4RRFFQ69G5FAV\"},\"input\":[{\"role\":\"system\","
		"\"content\":\"s\"}]}",
		&p);

	UNUSED(state);
	assert_int_equal(r->nmessages, 2);
	assert_int_equal(r->nunkept, 1);
	assert_string_equal(r->messages[0].text, "i");
	assert_string_equal(r->conversation, "01ARZ3NDEKTSV4RRFFQ69G5FAV");
	assert_true(p.stream && !p.store);
	assert_non_null(strstr(p.echo.data, ",\"instructions\":\"i\""));
	request_free(r);
	responses_params_free(&p);
}

static void calls_join_the_text_before_them_and_nothing_else(void **state)
{
	struct responses_params p;
	struct request *r = decode(
		"{\"input\":[{\"role\":\"assistant\",\"content\":\"t\"},"
		"{\"type\":\"reasoning\",\"id\":\"rs_1\",\"summary\":[]},"
		"{\"type\":\"function_call\",\"call_id\":\"a\",\"name\":\"f\",\"arguments\":\"{}\"},"
		"{\"type\":\"function_call_output\",\"call_id\":\"a\",\"output\":\"1\"},"
		"{\"type\":\"function_call\",\"call_id\":\"b\",\"name\":\"f\",\"arguments\":\"\"},"
		"{\"type\":\"function_call\",\"call_id\":\"c\",\"name\":\"f\",\"arguments\":\"\"}]}",
		&p);

	UNUSED(state);
	assert_int_equal(r->nmessages, 3);
	assert_string_equal(
		r->messages[0].raw_json,
		"{\"role\":\"assistant\",\"content\":\"t\",\"tool_calls\":[{\"id\":\"a\","
		"\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]}");
	assert_string_equal(
		r->messages[1].raw_json,
		"{\"role\":\"tool\",\"tool_call_id\":\"a\",\"content\":\"1\"}");
	assert_string_equal(r->messages[2].text, "");
	assert_non_null(strstr(r->messages[2].raw_json, "\"content\":null"));
	assert_non_null(strstr(r->messages[2].raw_json, "\"id\":\"c\""));
	request_free(r);
	responses_params_free(&p);
}

static const struct {
	const char *text, *says;
	enum err_code code;
} wrong[] = {
	{"", "empty", ERR_INVALID},
	{"{", "request body", ERR_INVALID},
	{"[]", "object", ERR_INVALID},
	{"{}", "'input'", ERR_INVALID},
	{"{\"input\":null}", "'input'", ERR_INVALID},
	{"{\"input\":7}", "'input'", ERR_INVALID},
	{"{\"input\":[]}", "'input'", ERR_INVALID},
	{"{\"input\":{}}", "'input'", ERR_INVALID},
	{"{\"input\":[7]}", "input[0]", ERR_INVALID},
	{"{\"input\":[{}]}", "input[0].role", ERR_INVALID},
	{"{\"input\":[{\"type\":7}]}", "input[0]", ERR_INVALID},
	{"{\"input\":[{\"type\":\"message\"}]}", "input[0].role", ERR_INVALID},
	{"{\"input\":[{\"role\":\"tool\",\"content\":\"x\"}]}", "input[0].role",
	 ERR_INVALID},
	{"{\"input\":[{\"role\":\"user\"}]}", "input[0].content", ERR_INVALID},
	{"{\"input\":[{\"role\":\"user\",\"content\":[7]}]}", "input[0].content[0]",
	 ERR_INVALID},
	{"{\"input\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_text\"}]}]}",
	 "content[0].text", ERR_INVALID},
	{"{\"input\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_file\"}]}]}",
	 "input_file", ERR_UNSUPPORTED},
	{"{\"input\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_image\","
	 "\"file_id\":\"f\"}]}]}",
	 "image_url", ERR_UNSUPPORTED},
	{"{\"input\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_image\","
	 "\"image_url\":\"u\",\"detail\":\"x\"}]}]}",
	 "detail", ERR_INVALID},
	{"{\"input\":[{\"type\":\"function_call\",\"name\":\"f\",\"arguments\":\"\"}]}",
	 "call_id", ERR_INVALID},
	{"{\"input\":[{\"type\":\"function_call\",\"call_id\":\"a\",\"arguments\":\"\"}]}",
	 "name", ERR_INVALID},
	{"{\"input\":[{\"type\":\"function_call\",\"call_id\":\"a\",\"name\":\"f\","
	 "\"arguments\":{}}]}",
	 "arguments", ERR_INVALID},
	{"{\"input\":[{\"type\":\"function_call_output\",\"call_id\":\"a\"}]}", "output",
	 ERR_INVALID},
	{"{\"input\":[{\"type\":\"reasoning\",\"summary\":7}]}", "summary", ERR_INVALID},
	{"{\"input\":[{\"type\":\"reasoning\",\"summary\":[]}]}", "no message",
	 ERR_INVALID},
	{"{\"input\":[{\"type\":\"web_search_call\",\"id\":\"x\"}]}", "web_search_call",
	 ERR_UNSUPPORTED},
	{"{\"input\":[{\"type\":\"item_reference\"}]}", "not found", ERR_NOT_FOUND},
	{"{\"input\":[{\"type\":\"item_reference\",\"id\":\"msg_zz\"}]}", "not found",
	 ERR_NOT_FOUND},
	{"{\"input\":\"x\",\"background\":true}", "'background'", ERR_UNSUPPORTED},
	{"{\"input\":\"x\",\"prompt\":{\"id\":\"p\"}}", "'prompt'", ERR_UNSUPPORTED},
	{"{\"input\":\"x\",\"tools\":[{\"type\":\"web_search\"}]}", "web_search",
	 ERR_UNSUPPORTED},
	{"{\"input\":\"x\",\"tools\":[{\"type\":\"custom\",\"name\":\"c\"}]}", "custom",
	 ERR_UNSUPPORTED},
	{"{\"input\":\"x\",\"tools\":[7]}", "tools[0]", ERR_INVALID},
	{"{\"input\":\"x\",\"tools\":[{\"type\":\"function\"}]}", "tools[0].name",
	 ERR_INVALID},
	{"{\"input\":\"x\",\"tools\":[{\"type\":\"function\",\"name\":\"f\","
	 "\"parameters\":7}]}",
	 "tools[0]", ERR_INVALID},
	{"{\"input\":\"x\",\"tool_choice\":\"required\"}", "'tool_choice'", ERR_INVALID},
	{"{\"input\":\"x\",\"tool_choice\":\"any\"}", "'tool_choice'", ERR_INVALID},
	{"{\"input\":\"x\",\"tool_choice\":{\"type\":\"mcp\"}}", "mcp", ERR_UNSUPPORTED},
	{"{\"input\":\"x\",\"tool_choice\":{\"type\":\"function\"}}", "'name'",
	 ERR_INVALID},
	{"{\"input\":\"x\",\"tool_choice\":{\"type\":\"allowed_tools\",\"mode\":\"auto\"}}",
	 "'tools'", ERR_INVALID},
	{"{\"input\":\"x\",\"text\":{\"format\":{\"type\":\"json_schema\"}}}", "'schema'",
	 ERR_INVALID},
	{"{\"input\":\"x\",\"text\":{\"format\":{\"type\":\"grammar\"}}}", "json_schema",
	 ERR_INVALID},
	{"{\"input\":\"x\",\"text\":{\"format\":{}}}", "'type'", ERR_INVALID},
	{"{\"input\":\"x\",\"reasoning\":{\"effort\":\"enormous\"}}", "'effort'",
	 ERR_INVALID},
	{"{\"input\":\"x\",\"truncation\":\"some\"}", "'truncation'", ERR_INVALID},
	{"{\"input\":\"x\",\"max_output_tokens\":0}", "'max_output_tokens'", ERR_INVALID},
	{"{\"input\":\"x\",\"conversation\":{}}", "conversation.id", ERR_INVALID},
	{"{\"input\":\"x\",\"conversation\":\"../x\"}", "'conversation'", ERR_INVALID},
	{"{\"input\":\"x\",\"conversation\":\"a\",\"previous_response_id\":\"b\"}",
	 "exclude", ERR_INVALID},
};

static void what_is_wrong_is_named(void **state)
{
	struct responses_params p;

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		struct err e = {0};

		assert_null(responses_decode(str_of(wrong[i].text), NULL, &p, &e));
		if (e.code != wrong[i].code || !strstr(e.text, wrong[i].says))
			fail_msg("%s: %s (%s)", wrong[i].text, e.text,
				 err_info(e.code)->name);
		responses_params_free(&p);
	}
}

static void every_field_of_a_wrong_type_is_refused_by_its_name(void **state)
{
	static const char *const fields[] = {"model",
					     "stream",
					     "store",
					     "instructions",
					     "temperature",
					     "top_p",
					     "max_output_tokens",
					     "max_tool_calls",
					     "tools",
					     "tool_choice",
					     "parallel_tool_calls",
					     "text",
					     "reasoning",
					     "metadata",
					     "previous_response_id",
					     "conversation",
					     "truncation",
					     "user",
					     "safety_identifier",
					     "prompt_cache_key",
					     "prompt_cache_retention",
					     "service_tier",
					     "background",
					     "include",
					     "stream_options",
					     "top_logprobs"};
	static const char *const values[] = {"-7.5", "[7]", "\"\\u0001 ~\"",
					     "{\"a\":[{}]}"};
	struct responses_params p;
	char text[256];

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
		int refused = 0;

		for (size_t k = 0; k < ARRAY_LEN(values); k++) {
			struct err e = {0};
			struct request *r;

			snprintf(text, sizeof text, "{\"input\":\"x\",\"%s\":%s}",
				 fields[i], values[k]);
			r = responses_decode(str_of(text), NULL, &p, &e);
			refused += !r;
			if (!r && !strstr(e.text, fields[i]))
				fail_msg("%s: %s", text, e.text);
			request_free(r);
			responses_params_free(&p);
		}
		if (refused < 2)
			fail_msg("'%s' took %zu values of wrong types", fields[i],
				 ARRAY_LEN(values) - (size_t)refused);
	}
}

static void null_is_the_same_as_absent(void **state)
{
	struct responses_params p;
	struct request *r = decode(
		"{\"input\":\"x\",\"model\":null,\"stream\":null,\"store\":null,"
		"\"instructions\":null,\"temperature\":null,\"tools\":null,\"tool_choice\":null,"
		"\"text\":null,\"reasoning\":null,\"metadata\":null,\"conversation\":null,"
		"\"previous_response_id\":null,\"truncation\":null,\"user\":null,"
		"\"background\":null,\"prompt\":null,\"include\":null,\"new_thing\":null}",
		&p);

	UNUSED(state);
	assert_string_equal(r->model, "default");
	assert_true(p.store && !p.stream && !p.previous);
	assert_null(r->extra_json);
	request_free(r);
	responses_params_free(&p);
}

static void a_hundred_thousand_items_are_read_and_one_more_is_refused(void **state)
{
	static const char item[] = "{\"role\":\"user\",\"content\":\"x\"},";
	struct responses_params p;
	struct err e = {0};
	struct buf text = {0};
	struct request *r;

	UNUSED(state);
	buf_adds(&text, "{\"input\":[");
	for (int i = 0; i < OPENAI_MAX_MESSAGES; i++)
		buf_add(&text, item, sizeof item - 1 - (i == OPENAI_MAX_MESSAGES - 1));
	buf_adds(&text, "]}");
	r = responses_decode(buf_str(&text), NULL, &p, &e);
	assert_non_null(r);
	assert_int_equal(r->nmessages, OPENAI_MAX_MESSAGES);
	request_free(r);
	responses_params_free(&p);
	text.len -= 2;
	buf_adds(&text, ",{\"role\":\"user\",\"content\":\"x\"}]}");
	assert_null(responses_decode(buf_str(&text), NULL, &p, &e));
	assert_non_null(strstr(e.text, "100000"));
	responses_params_free(&p);
	buf_free(&text);
}

static void what_nests_deeper_than_json_may_is_refused(void **state)
{
	struct responses_params p;
	struct err e = {0};
	struct buf text = {0};

	UNUSED(state);
	buf_adds(&text, "{\"input\":\"x\",\"metadata\":");
	for (int i = 0; i < 100000; i++)
		buf_adds(&text, "[");
	assert_null(responses_decode(buf_str(&text), NULL, &p, &e));
	assert_int_equal(e.code, ERR_INVALID);
	responses_params_free(&p);
	buf_free(&text);
}

static void references_are_noted_and_then_known(void **state)
{
	static const char text[] =
		"{\"input\":[{\"role\":\"user\",\"content\":\"q\"},"
		"{\"type\":\"item_reference\",\"id\":\"rs_0123456789abcdef\"},"
		"{\"type\":\"item_reference\",\"id\":\"msg_0123456789abcdef\"},"
		"{\"id\":\"fc_0123456789abcdef_0\"},"
		"{\"type\":\"function_call_output\",\"call_id\":\"a\",\"output\":\"1\"}]}";
	struct responses_params p;
	struct request *r = decode(text, &p);
	struct responses_known list[2];
	struct responses_references known = {list, 2};
	struct err e = {0};

	UNUSED(state);
	assert_int_equal(p.nmissing, 2);
	assert_string_equal(p.missing[0], "msg_0123456789abcdef");
	assert_string_equal(p.missing[1], "fc_0123456789abcdef_0");
	for (int i = 0; i < 2; i++) {
		list[i] = (struct responses_known){
			.id = p.missing[i],
			.text = "said",
			.role = ROLE_ASSISTANT,
			.raw_json = "{\"tool_calls\":[{\"id\":\"a\"}]}"};
		assert_true(responses_read_item_id(str_of(list[i].id), &list[i].item));
	}
	request_free(r);
	p.nmissing = 0; /* the texts are the list's for the moment */
	buf_free(&p.echo);
	free(p.missing);
	r = responses_decode(STR(text), &known, &p, &e);
	assert_non_null(r);
	assert_int_equal(p.nmissing, 0);
	assert_int_equal(r->nmessages, 3);
	assert_string_equal(r->messages[1].text, "said");
	assert_string_equal(
		r->messages[1].raw_json,
		"{\"role\":\"assistant\",\"content\":\"said\",\"tool_calls\":[{\"id\":\"a\"}]}");
	request_free(r);
	responses_params_free(&p);
	for (int i = 0; i < 2; i++)
		free(list[i].id);
}

/* Bytes of a good body changed, taken out and repeated: it must stay on its feet, and what it reads
 * must be a request. */
static void mutated_bodies_do_no_harm(void **state)
{
	static const char good[] =
		"{\"model\":\"m\",\"instructions\":\"i\",\"input\":[{\"role\":\"user\",\"content\":"
		"[{\"type\":\"input_text\",\"text\":\"t\"},{\"type\":\"input_image\",\"image_url\":"
		"\"data:\",\"detail\":\"low\"}]},{\"type\":\"function_call\",\"call_id\":\"a\","
		"\"name\":\"f\",\"arguments\":\"{}\"},{\"type\":\"function_call_output\","
		"\"call_id\":\"a\",\"output\":[{\"type\":\"input_text\",\"text\":\"1\"}]},"
		"{\"id\":\"msg_0123456789abcdef\"}],\"tools\":[{\"type\":\"function\",\"name\":"
		"\"f\",\"parameters\":{}}],\"tool_choice\":{\"type\":\"function\",\"name\":\"f\"},"
		"\"text\":{\"format\":{\"type\":\"json_schema\",\"name\":\"n\",\"schema\":{}}},"
		"\"metadata\":{\"a\":\"b\"},\"conversation\":{\"id\":\"conv_1\"}}";
	uint64_t x = 88172645463325252u;
	int read = 0;

	UNUSED(state);
	for (int i = 0; i < 20000; i++) {
		struct responses_params p;
		struct err e = {0};
		struct request *r;
		struct buf text = {0};

		buf_adds(&text, good);
		for (int k = 0; k < 1 + i % 3; k++) {
			size_t at;

			x ^= x << 13, x ^= x >> 7, x ^= x << 17;
			at = x % text.len;
			switch (x >> 32 & 3) {
			case 0:
				text.data[at] = (char)(x >> 40);
				break;
			case 1:
				text.len = at + 1;
				break;
			case 2:
				buf_drop(&text, at % 7);
				break;
			default:
				text.data[at] = "{}[]\",:0"[x >> 40 & 7];
			}
			if (!text.len)
				break;
		}
		r = responses_decode(buf_str(&text), NULL, &p, &e);
		assert_true(!r == (e.code != ERR_NONE));
		read += r != NULL;
		request_free(r);
		responses_params_free(&p);
		buf_free(&text);
	}
	assert_true(read > 0);
}

/* -- ids -- */

static void ids_are_read_as_they_are_written(void **state)
{
	static const char *const names[] = {"0123456789abcdef",
					    "0123456789abcdef0123456789abcdef"};
	struct item_id id;
	char text[RESPONSES_ID_BYTES], request[REQUEST_ID_BYTES];

	UNUSED(state);
	for (int kind = 0; kind <= ITEM_CALL_OUTPUT; kind++)
		for (int index = 0; index < 3; index++)
			for (int n = 0; n < 2; n++) {
				responses_item_id((enum item_kind)kind, names[n], index,
						  text);
				assert_true(responses_read_item_id(str_of(text), &id));
				assert_int_equal(id.kind, kind);
				assert_int_equal(id.index, index);
				assert_string_equal(n ? id.hash : id.request + 4,
						    names[n]);
				assert_string_equal(n ? id.request : id.hash, "");
			}
	assert_true(responses_request_of(STR("resp_0123456789abcdef"), request));
	assert_string_equal(request, "hob-0123456789abcdef");
}

static void what_is_no_id_is_not_taken_for_one(void **state)
{
	static const char *const bad[] = {"",
					  "msg",
					  "msg_",
					  "x",
					  "msg_0123456789abcde",
					  "msg_0123456789abcdef0",
					  "msg_0123456789ABCDEF",
					  "msg_0123456789abcdef_",
					  "msg_0123456789abcdef_-1",
					  "msg_0123456789abcdef_99999",
					  "msg_0123456789abcdef_1x",
					  "resp_0123456789abcdef",
					  "fco",
					  "rs_../../etc"};
	char request[REQUEST_ID_BYTES];
	struct item_id id;

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (responses_read_item_id(str_of(bad[i]), &id))
			fail_msg("'%s' was taken for an item's id", bad[i]);
	assert_false(responses_request_of(STR("resp_0123456789abcde"), request));
	assert_false(responses_request_of(STR("resp_0123456789abcdef0"), request));
	assert_false(responses_request_of(STR("msg_0123456789abcdef"), request));
	assert_false(responses_request_of(STR("resp_0123456789abcdeg"), request));
}

/* -- events -- */

static void begin(struct responses_encoder *enc)
{
	struct responses_params p;
	struct request *r = decode("{\"input\":\"x\"}", &p);

	snprintf(r->id, sizeof r->id, "hob-0123456789abcdef");
	responses_encoder_init(enc, r, &p, true);
	request_free(r);
	responses_params_free(&p);
}

static void give(struct responses_encoder *enc, enum event_type type, const char *text,
		 struct buf *out)
{
	struct event ev = {.type = type, .text = {text, strlen(text)}};
	struct err e = {0};

	if ((out ? responses_add_delta(enc, &ev, out, &e)
		 : responses_gather(enc, &ev, &e)) < 0)
		fail_msg("%s: %s", text, e.text);
}

static const struct event stopped = {.type = EVENT_FINISHED,
				     .finished = {.reason = FINISH_STOP,
						  .usage = {.prompt_tokens = 3,
							    .cached_tokens = -1,
							    .completion_tokens = 2,
							    .prefill_ms = -1,
							    .decode_ms = -1,
							    .cost_usd = -1,
							    .reasoning_tokens = -1,
							    .cache_write_tokens = -1}}};

/* The JSON of the n-th event called `name`; NULL when there are fewer. */
static cJSON *event(const struct buf *out, const char *name, int n)
{
	char line[96];
	const char *p = out->data;
	const char *end;
	cJSON *tree;
	struct err e = {0};

	snprintf(line, sizeof line, "event: %s\ndata: ", name);
	for (; (p = strstr(p, line)); n--) {
		p += strlen(line);
		if (n)
			continue;
		end = strstr(p, "\n\n");
		assert_non_null(end);
		tree = json_parse((struct str){p, (size_t)(end - p)}, &e);
		if (!tree)
			fail_msg("%s: %s", name, e.text);
		return tree;
	}
	return NULL;
}

static const char *text_at(const cJSON *o, const char *a, const char *b)
{
	o = cJSON_GetObjectItemCaseSensitive(o, a);
	if (b)
		o = cJSON_GetObjectItemCaseSensitive(o, b);
	return cJSON_IsString(o) ? o->valuestring : NULL;
}

static void pieces_of_calls_in_turn_stay_apart(void **state)
{
	struct responses_encoder enc;
	struct buf out = {0};
	cJSON *t;

	UNUSED(state);
	begin(&enc);
	give(&enc, EVENT_TEXT, "t", &out);
	give(&enc, EVENT_TOOL_CALL,
	     "{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"1\"}}",
	     &out);
	give(&enc, EVENT_TOOL_CALL, "{\"index\":1,\"function\":{\"arguments\":\"x\"}}",
	     &out);
	assert_null(event(&out, "response.output_item.added", 2)); /* nameless yet */
	give(&enc, EVENT_TOOL_CALL, "{\"index\":0,\"function\":{\"arguments\":\"2\"}}",
	     &out);
	give(&enc, EVENT_TOOL_CALL,
	     "{\"index\":1,\"id\":\"b\",\"function\":{\"name\":\"g\",\"arguments\":\"y\"}}",
	     &out);
	give(&enc, EVENT_TEXT, "u", &out);
	responses_add_finish(&enc, &stopped, &out);
	t = event(&out, "response.function_call_arguments.done", 0);
	assert_string_equal(text_at(t, "arguments", NULL), "12");
	cJSON_Delete(t);
	t = event(&out, "response.function_call_arguments.done", 1);
	assert_string_equal(text_at(t, "arguments", NULL), "xy");
	assert_string_equal(text_at(t, "name", NULL), "g");
	cJSON_Delete(t);
	t = event(&out, "response.output_item.added", 2);
	assert_string_equal(text_at(t, "item", "call_id"), "b");
	cJSON_Delete(t);
	t = event(&out, "response.output_item.added", 3);
	assert_string_equal(text_at(t, "item", "id"), "msg_0123456789abcdef_1");
	cJSON_Delete(t);
	t = event(&out, "response.completed", 0);
	assert_int_equal(
		cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(
			cJSON_GetObjectItemCaseSensitive(t, "response"), "output")),
		4);
	cJSON_Delete(t);
	responses_encoder_fini(&enc);
	buf_free(&out);
}

static void items_are_announced_in_the_order_of_their_numbers(void **state)
{
	struct responses_encoder enc;
	struct buf out = {0};
	cJSON *t;

	UNUSED(state);
	begin(&enc);
	give(&enc, EVENT_TOOL_CALL, "{\"index\":0,\"function\":{\"arguments\":\"x\"}}",
	     &out);
	give(&enc, EVENT_TEXT, "t", &out);
	give(&enc, EVENT_TOOL_CALL, "{\"index\":0,\"function\":{\"name\":\"late\"}}",
	     &out);
	responses_add_finish(&enc, &stopped, &out);
	for (int i = 0; i < 2; i++) {
		t = event(&out, "response.output_item.added", i);
		assert_int_equal(
			cJSON_GetObjectItemCaseSensitive(t, "output_index")->valueint, i);
		cJSON_Delete(t);
	}
	t = event(&out, "response.function_call_arguments.delta", 0);
	assert_string_equal(text_at(t, "delta", NULL), "x");
	cJSON_Delete(t);
	t = event(&out, "response.function_call_arguments.done", 0);
	assert_string_equal(text_at(t, "name", NULL), "late");
	cJSON_Delete(t);
	responses_encoder_fini(&enc);
	buf_free(&out);
}

static void an_answer_without_a_word_has_an_empty_message(void **state)
{
	struct responses_encoder enc;
	struct buf out = {0}, whole = {0};
	struct err e = {0};
	cJSON *t;

	UNUSED(state);
	begin(&enc);
	responses_add_finish(&enc, &stopped, &out);
	t = event(&out, "response.output_text.done", 0);
	assert_string_equal(text_at(t, "text", NULL), "");
	cJSON_Delete(t);
	responses_encoder_fini(&enc);
	begin(&enc);
	responses_add_whole(&enc, &stopped, &whole);
	t = json_parse(buf_str(&whole), &e);
	assert_string_equal(text_at(t, "status", NULL), "completed");
	assert_string_equal(text_at(t, "id", NULL), "resp_0123456789abcdef");
	cJSON_Delete(t);
	responses_encoder_fini(&enc);
	buf_free(&out);
	buf_free(&whole);
}

static void a_failure_before_any_text_still_begins_with_created(void **state)
{
	struct responses_encoder enc;
	struct buf out = {0};
	struct err e = {0};
	cJSON *t;

	UNUSED(state);
	begin(&enc);
	err_set(&e, ERR_TIMEOUT, "too \"late\"");
	responses_add_failure(&enc, &e, &out);
	assert_true(str_starts(buf_str(&out), "event: response.created\n"));
	t = event(&out, "error", 0);
	assert_string_equal(text_at(t, "code", NULL), "timeout");
	cJSON_Delete(t);
	t = event(&out, "response.failed", 0);
	assert_string_equal(text_at(t, "response", "status"), "failed");
	cJSON_Delete(t);
	responses_encoder_fini(&enc);
	buf_free(&out);
}

static void what_grows_without_end_is_ended(void **state)
{
	struct responses_encoder enc;
	struct buf out = {0};
	struct err e = {0};
	static char text[1 << 20];
	struct event ev = {.type = EVENT_TEXT, .text = {text, sizeof text}};
	struct event odd = {.type = EVENT_TOOL_CALL, .text = {"{]", 2}};
	int n = 0;

	UNUSED(state);
	memset(text, 'x', sizeof text);
	begin(&enc);
	while (responses_add_delta(&enc, &ev, &out, &e) == 0)
		assert_true(++n < 100);
	assert_int_equal(n, RESPONSES_MAX_STREAM_BYTES / sizeof text);
	assert_int_equal(e.code, ERR_TOO_LARGE);
	buf_clear(&out);
	responses_add_failure(&enc, &e, &out);
	assert_true(out.len < 4 * RESPONSES_MAX_STREAM_BYTES);
	responses_encoder_fini(&enc);
	begin(&enc);
	assert_int_equal(responses_add_delta(&enc, &odd, &out, &e), -1);
	responses_encoder_fini(&enc);
	begin(&enc);
	for (n = 0; responses_gather(&enc, &ev, &e) == 0; n++)
		ev.type = ev.type == EVENT_TEXT ? EVENT_REASONING : EVENT_TEXT;
	assert_int_equal(n, OPENAI_MAX_WHOLE_BYTES / sizeof text);
	responses_encoder_fini(&enc);
	ev.text.len = 1;
	begin(&enc);
	for (n = 0; responses_gather(&enc, &ev, &e) == 0; n++)
		ev.type = ev.type == EVENT_TEXT ? EVENT_REASONING : EVENT_TEXT;
	assert_int_equal(n, RESPONSES_MAX_ITEMS);
	responses_encoder_fini(&enc);
	buf_free(&out);
}

/* -- pages -- */

static void pages_are_cut_at_items_not_at_messages(void **state)
{
	static const struct store_message path[] = {
		{.hash = "00000000000000000000000000000001",
		 .role = ROLE_USER,
		 .text = "q"},
		{.hash = "00000000000000000000000000000002",
		 .role = ROLE_ASSISTANT,
		 .text = "t",
		 .reasoning = "r",
		 .raw_json = "{\"tool_calls\":[{\"id\":\"a\"},{\"id\":\"b\"}]}"},
	};
	struct items_ask ask = {.limit = 2, .is_desc = false};
	struct buf out = {0};
	struct err e = {0};
	int pages = 0, items = 0;
	cJSON *t;

	UNUSED(state);
	do {
		assert_int_equal(
			responses_add_page(path, 2, ITEMS_CONVERSATION, &ask, &out, &e),
			0);
		t = json_parse(buf_str(&out), &e);
		if (!t)
			fail_msg("%s: %s", out.data, e.text);
		buf_clear(&out);
		items += cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(t, "data"));
		snprintf(ask.after, sizeof ask.after, "%s", text_at(t, "last_id", NULL));
		assert_true(++pages < 10);
		if (!cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(t, "has_more")))
			ask.limit = 0;
		cJSON_Delete(t);
	} while (ask.limit);
	assert_int_equal(pages, 3); /* q, r, t, a, b */
	assert_int_equal(items, 5);
	ask = (struct items_ask){.limit = 100};
	snprintf(ask.after, sizeof ask.after, "msg_nobody");
	assert_int_equal(responses_add_page(path, 2, ITEMS_INPUT, &ask, &out, &e), -1);
	assert_int_equal(e.code, ERR_NOT_FOUND);
	buf_free(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_text_is_one_user_message_and_storing_is_the_default),
		cmocka_unit_test(instructions_stand_in_front_and_are_not_kept),
		cmocka_unit_test(calls_join_the_text_before_them_and_nothing_else),
		cmocka_unit_test(what_is_wrong_is_named),
		cmocka_unit_test(every_field_of_a_wrong_type_is_refused_by_its_name),
		cmocka_unit_test(null_is_the_same_as_absent),
		cmocka_unit_test(
			a_hundred_thousand_items_are_read_and_one_more_is_refused),
		cmocka_unit_test(what_nests_deeper_than_json_may_is_refused),
		cmocka_unit_test(references_are_noted_and_then_known),
		cmocka_unit_test(mutated_bodies_do_no_harm),
		cmocka_unit_test(ids_are_read_as_they_are_written),
		cmocka_unit_test(what_is_no_id_is_not_taken_for_one),
		cmocka_unit_test(pieces_of_calls_in_turn_stay_apart),
		cmocka_unit_test(items_are_announced_in_the_order_of_their_numbers),
		cmocka_unit_test(an_answer_without_a_word_has_an_empty_message),
		cmocka_unit_test(a_failure_before_any_text_still_begins_with_created),
		cmocka_unit_test(what_grows_without_end_is_ended),
		cmocka_unit_test(pages_are_cut_at_items_not_at_messages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
