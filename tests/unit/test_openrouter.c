/* OpenRouter's own JSON: what is asked for, what its models are, what things cost. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "providers/openrouter_wire.h"

/* ---- requests */

struct asked {
	struct config_provider c;
	struct request *r;
	cJSON *tree;
	char *text;
};

static void ask(struct asked *a, const char *extra, const char *user)
{
	struct buf out = {0};

	cJSON_Delete(a->tree);
	free(a->text);
	free(a->r->extra_json);
	a->r->extra_json = extra ? xstrdup(extra) : NULL;
	a->r->is_chat = true;
	buf_adds(&out, "{\"model\":\"x\"");
	openrouter_members(&out, &a->c, a->r, user);
	buf_addc(&out, '}');
	a->tree = json_parse(buf_str(&out), NULL);
	assert_non_null(a->tree);
	a->text = buf_take(&out, NULL);
}

static void asked_init(struct asked *a)
{
	*a = (struct asked){.c = {.zdr = UNSAID}, .r = request_new()};
}

static void asked_fini(struct asked *a)
{
	cJSON_Delete(a->tree);
	free(a->text);
	request_free(a->r);
}

static const cJSON *at(const struct asked *a, const char *key)
{
	return cJSON_GetObjectItemCaseSensitive(a->tree, key);
}

/* The provider object as JSON text; "" when there is none. */
static const char *routing(const struct asked *a)
{
	static char text[1000];
	char *s = cJSON_PrintUnformatted(at(a, "provider"));

	snprintf(text, sizeof text, "%s", s ? s : "");
	cJSON_free(s);
	return text;
}

static void without_configuration_only_compression_is_switched_off(void **state)
{
	struct asked a;

	(void)state;
	asked_init(&a);
	ask(&a, NULL, NULL);
	assert_string_equal(a.text, "{\"model\":\"x\",\"plugins\":[{\"id\":\"context-"
				    "compression\",\"enabled\":false}]}");
	asked_fini(&a);
}

static void the_sections_routing_goes_out(void **state)
{
	char *two[] = {"anthropic", "google-vertex"}, *one[] = {"deepinfra"};
	struct asked a;

	(void)state;
	asked_init(&a);
	a.c.order = (struct names){two, 2};
	a.c.ignore = (struct names){one, 1};
	a.c.sort = "price";
	a.c.data_collection = "deny";
	a.c.zdr = YES;
	ask(&a, NULL, "hob-1");
	assert_string_equal(
		routing(&a),
		"{\"order\":[\"anthropic\",\"google-vertex\"],\"sort\":\"price\","
		"\"data_collection\":\"deny\",\"ignore\":[\"deepinfra\"],"
		"\"zdr\":true}");
	assert_string_equal(at(&a, "user")->valuestring, "hob-1");
	asked_fini(&a);
}

static void tools_and_formats_need_a_server_that_knows_them(void **state)
{
	struct asked a;

	(void)state;
	asked_init(&a);
	ask(&a, "{\"tools\":[]}", NULL);
	assert_string_equal(routing(&a), "{\"require_parameters\":true}");
	ask(&a, "{\"response_format\":{\"type\":\"json_object\"}}", NULL);
	assert_string_equal(routing(&a), "{\"require_parameters\":true}");
	ask(&a, "{\"tools\":null,\"logprobs\":true}", NULL);
	assert_string_equal(routing(&a), "");
	ask(&a, "{\"tools\":[],\"provider\":{\"require_parameters\":false}}", NULL);
	assert_string_equal(routing(&a), "{\"require_parameters\":false}");
	asked_fini(&a);
}

static void a_client_may_route_but_not_undo_what_is_forbidden(void **state)
{
	char *one[] = {"deepinfra"};
	struct asked a;

	(void)state;
	asked_init(&a);
	a.c.sort = "price";
	ask(&a,
	    "{\"provider\":{\"sort\":\"latency\",\"max_price\":{\"prompt\":1},"
	    "\"data_collection\":\"deny\",\"zdr\":true}}",
	    NULL);
	assert_string_equal(routing(&a),
			    "{\"sort\":\"latency\",\"max_price\":{\"prompt\":1},"
			    "\"data_collection\":\"deny\",\"zdr\":true}");
	a.c.sort = NULL;
	a.c.data_collection = "deny";
	a.c.zdr = YES;
	a.c.only = a.c.ignore = (struct names){one, 1};
	ask(&a,
	    "{\"provider\":{\"data_collection\":\"allow\",\"zdr\":false,"
	    "\"only\":[\"evil\"],\"ignore\":[]}}",
	    NULL);
	assert_string_equal(routing(&a),
			    "{\"only\":[\"deepinfra\"],\"ignore\":[\"deepinfra\"],"
			    "\"data_collection\":\"deny\",\"zdr\":true}");
	ask(&a, "{\"provider\":{\"data_collection\":null,\"zdr\":null}}", NULL);
	assert_non_null(strstr(routing(&a), "\"data_collection\":\"deny\",\"zdr\":true"));
	asked_fini(&a);
}

static void a_clients_plugins_stay_and_its_word_on_compression_counts(void **state)
{
	struct asked a;

	(void)state;
	asked_init(&a);
	ask(&a, "{\"plugins\":[{\"id\":\"web\"}]}", NULL);
	assert_int_equal(cJSON_GetArraySize(at(&a, "plugins")), 2);
	ask(&a,
	    "{\"plugins\":[{\"id\":\"context-compression\",\"engine\":\"middle-out\"}]}",
	    NULL);
	assert_int_equal(cJSON_GetArraySize(at(&a, "plugins")), 1);
	ask(&a, "{\"plugins\":\"odd\"}", NULL);
	assert_int_equal(cJSON_GetArraySize(at(&a, "plugins")), 1);
	asked_fini(&a);
}

static void the_conversation_is_the_session(void **state)
{
	char long_id[300];
	struct asked a;

	(void)state;
	asked_init(&a);
	a.r->conversation = xstrdup("01JABCDEF");
	ask(&a, "{\"session_id\":\"theirs\"}", NULL);
	assert_string_equal(at(&a, "session_id")->valuestring, "01JABCDEF");
	memcpy(a.r->conversation, "new", 4);
	ask(&a, "{\"session_id\":\"theirs\"}", NULL);
	assert_string_equal(at(&a, "session_id")->valuestring, "theirs");
	ask(&a, NULL, NULL);
	assert_null(at(&a, "session_id"));
	free(a.r->conversation);
	memset(long_id, 'x', sizeof long_id);
	long_id[257] = 0;
	a.r->conversation = xstrdup(long_id);
	ask(&a, NULL, NULL);
	assert_null(at(&a, "session_id"));
	a.r->conversation[256] = 0;
	ask(&a, NULL, NULL);
	assert_non_null(at(&a, "session_id"));
	asked_fini(&a);
}

static void a_clients_own_user_is_not_passed_on(void **state)
{
	struct asked a;

	(void)state;
	asked_init(&a);
	ask(&a, "{\"user\":\"jane@example.org\"}", "hob-7");
	assert_null(strstr(a.text, "jane"));
	assert_string_equal(at(&a, "user")->valuestring, "hob-7");
	ask(&a, "{\"user\":\"jane@example.org\"}", NULL);
	assert_null(at(&a, "user"));
	assert_true(openrouter_takes("user") && openrouter_takes("provider"));
	assert_false(openrouter_takes("tools"));
	asked_fini(&a);
}

/* ---- models */

static const char models_text[] =
	"{\"data\":["
	"{\"id\":\"vendor/full\",\"context_length\":200000,"
	" \"architecture\":{\"input_modalities\":[\"text\",\"image\"],"
	"  \"output_modalities\":[\"text\"]},"
	" \"pricing\":{\"prompt\":\"0.00000125\",\"completion\":\"0.00001\",\"request\":\"0\","
	"  \"image\":\"0.005\",\"input_cache_read\":\"1.25e-7\",\"input_cache_write\":0.0000015},"
	" \"top_provider\":{\"context_length\":128000,\"max_completion_tokens\":16384},"
	" \"supported_parameters\":[\"tools\",\"structured_outputs\",\"reasoning\"],"
	" \"expiration_date\":\"2027-01-02\"},"
	"{\"id\":\"openrouter/auto\",\"context_length\":2000000,"
	" \"architecture\":{\"input_modalities\":[\"text\"],\"output_modalities\":[\"text\",\"image\"]},"
	" \"pricing\":{\"prompt\":\"-1\",\"completion\":\"-1\"},"
	" \"top_provider\":{\"context_length\":null,\"max_completion_tokens\":null},"
	" \"supported_parameters\":[]},"
	"{\"id\":\"vendor/painter\",\"architecture\":{\"output_modalities\":[\"image\"]}},"
	"{\"id\":\"vendor/free:free\",\"context_length\":8192,\"pricing\":{\"prompt\":\"0\","
	" \"completion\":\"0\"},\"expiration_date\":null},"
	"{\"id\":\"vendor/odd\",\"context_length\":\"many\",\"architecture\":7,\"pricing\":{"
	" \"prompt\":\"cheap\",\"completion\":\"1e999\",\"request\":\"nan\",\"image\":{},"
	" \"input_cache_read\":\"1.0 USD\"},\"top_provider\":[],\"supported_parameters\":{},"
	" \"expiration_date\":\"soon\"},"
	"{\"name\":\"no id\"},{\"id\":7},null,3]}";

static int parse_models(const char *text, struct remote_model **list, int *n)
{
	cJSON *tree = json_parse(str_of(text), NULL);
	int rc = openrouter_models(tree, list, n);

	cJSON_Delete(tree);
	return rc;
}

static void models_are_read_with_prices_and_abilities(void **state)
{
	struct remote_model *list;
	int n;

	(void)state;
	assert_int_equal(parse_models(models_text, &list, &n), 0);
	assert_int_equal(n, 4);
	assert_string_equal(list[0].id, "vendor/full");
	assert_int_equal(list[0].ctx, 128000); /* the smaller of the two */
	assert_int_equal(list[0].max_output, 16384);
	assert_true(list[0].images == YES && list[0].tools == YES &&
		    list[0].structured == YES && list[0].reasoning == YES);
	assert_true(list[0].prices.input == 1.25e-6 && list[0].prices.output == 1e-5);
	assert_true(list[0].prices.cached == 1.25e-7 &&
		    list[0].prices.cache_write == 1.5e-6);
	assert_true(list[0].prices.image == 0.005 && list[0].prices.request == 0);
	assert_int_equal(list[0].expires_unix_s, 1798848000);

	assert_int_equal(list[1].ctx, 2000000);
	assert_int_equal(list[1].max_output, 0);
	assert_true(list[1].prices.input < 0 && list[1].prices.output < 0);
	assert_true(list[1].images == NO && list[1].tools == NO);

	assert_true(list[2].prices.input == 0 && list[2].images == UNSAID &&
		    list[2].tools == UNSAID);
	assert_int_equal(list[2].expires_unix_s, 0);

	assert_int_equal(list[3].ctx, 0);
	assert_true(list[3].prices.input < 0 && list[3].prices.output < 0 &&
		    list[3].prices.request < 0 && list[3].prices.image < 0 &&
		    list[3].prices.cached < 0);
	assert_int_equal(list[3].expires_unix_s, 0);
	remote_models_list_free(list, n);
}

static void what_is_no_list_of_models_is_none(void **state)
{
	static const char *const texts[] = {"[]", "{}", "{\"data\":{}}",
					    "{\"data\":null}", "7"};
	struct remote_model *list;
	int n;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		assert_int_equal(parse_models(texts[i], &list, &n), -1);
	assert_int_equal(parse_models("{\"data\":[]}", &list, &n), 0);
	assert_int_equal(n, 0);
	remote_models_list_free(list, n);
}

/* ---- money */

static bool parse_quota(const char *text, struct openrouter_quota *q)
{
	cJSON *tree = json_parse(str_of(text), NULL);
	bool ok = openrouter_quota(tree, q);

	cJSON_Delete(tree);
	return ok;
}

static void assert_json(const struct openrouter_quota *q, const char *expected)
{
	struct buf out = {0};

	openrouter_quota_json(&out, q, 12);
	assert_string_equal(out.data, expected);
	buf_free(&out);
}

static void the_quota_of_a_key_is_read(void **state)
{
	struct openrouter_quota q;

	(void)state;
	assert_true(parse_quota("{\"data\":{\"label\":\"sk-or-v1-abc\",\"limit\":10,"
				"\"limit_reset\":\"monthly\",\"limit_remaining\":7.5,"
				"\"usage\":2.5,\"usage_daily\":0.25,\"usage_weekly\":1,"
				"\"usage_monthly\":2.5,\"is_free_tier\":false}}",
				&q));
	assert_json(&q, "{\"limit_usd\":10,\"remaining_usd\":7.5,\"usage_usd\":2.5,"
			"\"daily_usd\":0.25,\"weekly_usd\":1,\"monthly_usd\":2.5,"
			"\"resets\":\"monthly\",\"free_tier\":false,\"age_s\":12}");
	assert_true(parse_quota("{\"data\":{\"limit\":null,\"limit_remaining\":null,"
				"\"usage\":3,\"is_free_tier\":true}}",
				&q));
	assert_json(&q, "{\"limit_usd\":null,\"remaining_usd\":null,\"usage_usd\":3,"
			"\"daily_usd\":null,\"weekly_usd\":null,\"monthly_usd\":null,"
			"\"free_tier\":true,\"age_s\":12}");
	assert_true(
		parse_quota("{\"data\":{\"limit\":5,\"limit_remaining\":-0.25}}", &q));
	assert_true(q.remaining == 0);
	assert_false(parse_quota("{\"error\":{\"code\":401}}", &q));
}

static bool parse_bill(const char *text, struct late_cost *c)
{
	cJSON *tree = json_parse(str_of(text), NULL);
	bool ok = openrouter_bill(tree, c);

	cJSON_Delete(tree);
	return ok;
}

static void a_bill_counts_when_its_total_is_there(void **state)
{
	struct late_cost c = {0};

	(void)state;
	assert_true(
		parse_bill("{\"data\":{\"id\":\"gen-1\",\"total_cost\":0.0015,"
			   "\"tokens_prompt\":10,\"tokens_completion\":20,"
			   "\"native_tokens_prompt\":11,\"native_tokens_completion\":22,"
			   "\"cancelled\":true}}",
			   &c));
	assert_true(c.cost_usd == 0.0015);
	assert_int_equal(c.prompt_tokens, 11);
	assert_int_equal(c.completion_tokens, 22);
	assert_true(parse_bill("{\"data\":{\"total_cost\":0,\"tokens_prompt\":10}}", &c));
	assert_int_equal(c.prompt_tokens, 10);
	assert_int_equal(c.completion_tokens, -1);
	assert_false(parse_bill("{\"data\":{\"total_cost\":null}}", &c));
	assert_false(parse_bill("{\"data\":{\"total_cost\":-1}}", &c));
	assert_false(parse_bill("{\"error\":{\"code\":404}}", &c));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_configuration_only_compression_is_switched_off),
		cmocka_unit_test(the_sections_routing_goes_out),
		cmocka_unit_test(tools_and_formats_need_a_server_that_knows_them),
		cmocka_unit_test(a_client_may_route_but_not_undo_what_is_forbidden),
		cmocka_unit_test(
			a_clients_plugins_stay_and_its_word_on_compression_counts),
		cmocka_unit_test(the_conversation_is_the_session),
		cmocka_unit_test(a_clients_own_user_is_not_passed_on),
		cmocka_unit_test(models_are_read_with_prices_and_abilities),
		cmocka_unit_test(what_is_no_list_of_models_is_none),
		cmocka_unit_test(the_quota_of_a_key_is_read),
		cmocka_unit_test(a_bill_counts_when_its_total_is_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
