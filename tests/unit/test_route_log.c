/* The ring of the last requests, as JSON. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/json.h"
#include "route/route_log.h"

static uint64_t begin(struct route_log *l, const char *id, const char *model)
{
	struct request r = {0};

	snprintf(r.id, sizeof r.id, "%s", id);
	r.model = (char *)model;
	return route_log_begin(l, &r);
}

/* The array, in a tree that the caller deletes. */
static const cJSON *read_json(const struct route_log *l, const char *model, int limit,
			      cJSON **tree)
{
	struct buf out = {0};
	struct err e = {0};

	route_log_json(l, model, limit, &out);
	*tree = json_parse(buf_str(&out), &e);
	buf_free(&out);
	assert_non_null(*tree);
	return cJSON_GetObjectItem(*tree, "decisions");
}

static const char *text(const cJSON *o, const char *key)
{
	const cJSON *v = cJSON_GetObjectItem(o, key);

	return cJSON_IsString(v) ? v->valuestring : NULL;
}

static double number(const cJSON *o, const char *key)
{
	const cJSON *v = cJSON_GetObjectItem(o, key);

	return cJSON_IsNumber(v) ? v->valuedouble : -1;
}

static void a_request_is_told_from_its_beginning_to_its_end(void **state)
{
	struct route_log *l = route_log_new();
	struct route_attempt a = {"qwen3:8b", "local", {.code = ERR_MEMORY}, 12.5};
	const cJSON *d, *tried;
	cJSON *tree;
	uint64_t n = begin(l, "hob-1", "smart");

	(void)state;
	assert_true(n != 0);
	d = cJSON_GetArrayItem(read_json(l, NULL, 10, &tree), 0);
	assert_string_equal(text(d, "outcome"), "running");
	assert_null(text(d, "model"));
	cJSON_Delete(tree);
	snprintf(a.error.text, sizeof a.error.text, "no room");
	route_log_attempt(l, n, &a);
	route_log_started(l, n, "smart", "openrouter/x/y", "openrouter", "because", 80);
	route_log_ended(l, n, "finished", NULL, 900, 0.000125);
	d = cJSON_GetArrayItem(read_json(l, NULL, 10, &tree), 0);
	assert_string_equal(text(d, "id"), "hob-1");
	assert_string_equal(text(d, "asked"), "smart");
	assert_string_equal(text(d, "route"), "smart");
	assert_string_equal(text(d, "model"), "openrouter/x/y");
	assert_string_equal(text(d, "provider"), "openrouter");
	assert_string_equal(text(d, "reason"), "because");
	assert_string_equal(text(d, "outcome"), "finished");
	assert_true(number(d, "ttft_ms") == 80);
	assert_true(number(d, "total_ms") == 900);
	assert_true(number(d, "cost_usd") == 0.000125);
	assert_int_equal(strlen(text(d, "at")), strlen("2026-11-21T00:00:00.000Z"));
	tried = cJSON_GetArrayItem(cJSON_GetObjectItem(d, "attempts"), 0);
	assert_string_equal(text(tried, "model"), "qwen3:8b");
	assert_string_equal(text(tried, "code"), "out_of_memory");
	assert_string_equal(text(tried, "error"), "no room");
	assert_true(number(tried, "ms") == 12.5);
	cJSON_Delete(tree);
	route_log_free(l);
}

static void what_is_not_known_is_null(void **state)
{
	struct route_log *l = route_log_new();
	struct err e = {.code = ERR_MODEL, .text = "no model 'x'"};
	uint64_t n = begin(l, "hob-2", "x");
	const cJSON *d;
	cJSON *tree;

	(void)state;
	route_log_ended(l, n, "failed", &e, 1, -1);
	d = cJSON_GetArrayItem(read_json(l, NULL, 10, &tree), 0);
	assert_true(cJSON_IsNull(cJSON_GetObjectItem(d, "cost_usd")));
	assert_true(cJSON_IsNull(cJSON_GetObjectItem(d, "ttft_ms")));
	assert_true(cJSON_IsNull(cJSON_GetObjectItem(d, "route")));
	assert_string_equal(text(d, "code"), "model_not_found");
	assert_string_equal(text(d, "error"), "no model 'x'");
	cJSON_Delete(tree);
	route_log_free(l);
}

static void the_newest_come_first_and_the_oldest_go(void **state)
{
	struct route_log *l = route_log_new();
	const cJSON *list;
	uint64_t first = begin(l, "hob-first", "m");
	char id[40];
	cJSON *tree;

	(void)state;
	for (int i = 0; i < ROUTE_LOG_MAX; i++) {
		snprintf(id, sizeof id, "hob-%d", i);
		begin(l, id, i % 2 ? "odd" : "even");
	}
	route_log_ended(l, first, "finished", NULL, 1,
			0); /* its entry is another's now */
	list = read_json(l, NULL, 1000, &tree);
	assert_int_equal(cJSON_GetArraySize(list), ROUTE_LOG_MAX);
	assert_string_equal(text(cJSON_GetArrayItem(list, 0), "id"), "hob-255");
	assert_string_equal(text(cJSON_GetArrayItem(list, 255), "id"), "hob-0");
	for (int i = 0; i < ROUTE_LOG_MAX; i++)
		assert_string_equal(text(cJSON_GetArrayItem(list, i), "outcome"),
				    "running");
	cJSON_Delete(tree);
	list = read_json(l, "odd", 3, &tree);
	assert_int_equal(cJSON_GetArraySize(list), 3);
	assert_string_equal(text(cJSON_GetArrayItem(list, 2), "id"), "hob-251");
	cJSON_Delete(tree);
	route_log_free(l);
}

static void strings_are_bounded_and_have_no_control_bytes(void **state)
{
	struct route_log *l = route_log_new();
	char *lng = xmalloc(100001);
	const cJSON *d;
	const char *s;
	cJSON *tree;
	uint64_t n;

	(void)state;
	for (int i = 0; i < 100000; i += 2)
		memcpy(lng + i, "\xC3\xA9", 2); /* é: two bytes */
	lng[100000] = '\0';
	lng[0] = 'x'; /* so that a bound falls within a character */
	lng[1] = '\r';
	n = begin(l, "hob-3", lng + 1);
	route_log_started(l, n, NULL, lng, "p", "a\r\nx-evil: 1\x1b[2J\x7f", 1);
	for (int i = 0; i < 3 * ROUTE_LOG_ATTEMPTS; i++)
		route_log_attempt(l, n,
				  &(struct route_attempt){.model = lng, .provider = lng});
	d = cJSON_GetArrayItem(read_json(l, NULL, 1, &tree), 0);
	s = text(d, "asked");
	assert_true(strlen(s) <= 256 && s[0] == ' ');
	assert_null(strstr(s, "\xEF\xBF\xBD")); /* nothing was cut in two */
	assert_string_equal(text(d, "reason"), "a  x-evil: 1 [2J ");
	assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(d, "attempts")),
			 ROUTE_LOG_ATTEMPTS);
	cJSON_Delete(tree);
	route_log_free(l);
	free(lng);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_request_is_told_from_its_beginning_to_its_end),
		cmocka_unit_test(what_is_not_known_is_null),
		cmocka_unit_test(the_newest_come_first_and_the_oldest_go),
		cmocka_unit_test(strings_are_bounded_and_have_no_control_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
