/* Buffers, slices, errors, JSON limits, nearest words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/duration.h"
#include "base/json.h"
#include "base/sysmem.h"
#include "base/nearest.h"
#include "base/queue.h"

static void numbers_are_whole_and_in_range(void **state)
{
	int64_t v = 7;

	UNUSED(state);
	assert_true(str_to_i64(STR("0"), 0, 10, &v) && v == 0);
	assert_true(str_to_i64(STR("-9223372036854775808"), INT64_MIN, INT64_MAX, &v) &&
		    v == INT64_MIN);
	assert_true(str_to_i64(STR("9223372036854775807"), 0, INT64_MAX, &v) &&
		    v == INT64_MAX);
	v = 7;
	assert_false(str_to_i64(STR("9223372036854775808"), 0, INT64_MAX, &v));
	assert_false(str_to_i64(STR("-1"), 0, 10, &v));
	assert_false(str_to_i64(STR("11"), 0, 10, &v));
	assert_false(str_to_i64(STR("1x"), 0, 10, &v));
	assert_false(str_to_i64(STR(""), 0, 10, &v));
	assert_false(str_to_i64(STR("-"), -5, 10, &v));
	assert_int_equal(v, 7);
}

static void a_buf_grows_drops_and_stays_terminated(void **state)
{
	struct buf b = {0};

	UNUSED(state);
	for (int i = 0; i < 1000; i++)
		buf_addf(&b, "%d,", i);
	assert_int_equal(b.data[b.len], 0);
	buf_drop(&b, 4);
	assert_memory_equal(b.data, "2,3,", 4);
	buf_clear(&b);
	buf_add(&b, "a\0b", 3);
	assert_int_equal(b.len, 3);
	buf_free(&b);
}

static void json_strings_are_escaped_and_never_invalid_utf8(void **state)
{
	static const struct {
		struct str in;
		const char *out;
	} cases[] = {
		{STR("plain"), "\"plain\""},
		{STR("a\"b\\c\n\t\x01"), "\"a\\\"b\\\\c\\n\\t\\u0001\""},
		{STR("\xc3\xa9\xf0\x9f\x98\x80"), "\"\xc3\xa9\xf0\x9f\x98\x80\""},
		{STR("\xff"), "\"\\ufffd\""},
		{STR("\xc3"), "\"\\ufffd\""},                       /* cut */
		{STR("\xc0\x80"), "\"\\ufffd\\ufffd\""},            /* overlong NUL */
		{STR("\xed\xa0\x80"), "\"\\ufffd\\ufffd\\ufffd\""}, /* surrogate */
	};

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct buf b = {0};

		buf_add_json(&b, cases[i].in.ptr, cases[i].in.len);
		assert_string_equal(b.data, cases[i].out);
		buf_free(&b);
	}
}

static void errors_wrap_and_name_a_full_disk(void **state)
{
	struct err e = {0};

	UNUSED(state);
	assert_int_equal(err_set(&e, ERR_MODEL, "no model '%s'", "x"), -1);
	err_wrap(&e, "load");
	assert_string_equal(e.text, "load: no model 'x'");
	err_sys(&e, 28 /* ENOSPC */, "write");
	assert_int_equal(e.code, ERR_DISK_FULL);
	for (int i = 0; i < ERR_NR; i++)
		assert_int_equal(err_code_by_name(err_info((enum err_code)i)->name), i);
	assert_int_equal(err_code_by_name("nonsense"), ERR_INTERNAL);
}

static void json_members_are_parted_by_commas_and_the_unknown_is_null(void **state)
{
	struct buf b = {0};

	UNUSED(state);
	buf_add_json_text(&b, "first", "}{,");
	buf_add_json_text(&b, "none", NULL);
	buf_adds(&b, ",\"o\":{");
	buf_add_json_number(&b, "x", true, 1.5, 3);
	buf_add_json_number(&b, "unknown", false, 1, 3);
	buf_add_json_number(&b, "nan", true, NAN, 3);
	buf_addc(&b, '}');
	buf_add_json_number(&b, "n", true, -7, 0);
	buf_addc(&b, ',');
	buf_add_json_text(&b, "last", "");
	assert_string_equal(b.data,
			    "\"first\":\"}{,\",\"none\":null,\"o\":{\"x\":1.500,"
			    "\"unknown\":null,\"nan\":null},\"n\":-7,\"last\":\"\"");
	buf_free(&b);
}

static void a_part_of_a_url_is_escaped_byte_by_byte(void **state)
{
	struct buf b = {0};

	UNUSED(state);
	buf_addc(&b, '?');
	buf_add_escaped(&b, "azAZ09-_.~ /%&=?+\n\x7f\xc3\xa4");
	assert_string_equal(b.data, "?azAZ09-_.~%20%2F%25%26%3D%3F%2B%0A%7F%C3%A4");
	buf_free(&b);
}

static void json_deeper_than_the_limit_is_refused_before_parsing(void **state)
{
	struct buf b = {0};
	struct err e = {0};
	cJSON *tree;

	UNUSED(state);
	for (int i = 0; i < JSON_MAX_DEPTH; i++)
		buf_addc(&b, '[');
	for (int i = 0; i < JSON_MAX_DEPTH; i++)
		buf_addc(&b, ']');
	tree = json_parse(buf_str(&b), &e);
	assert_non_null(tree);
	cJSON_Delete(tree);
	buf_clear(&b);
	for (int i = 0; i < 1000000; i++)
		buf_addc(&b, '[');
	assert_null(json_parse(buf_str(&b), &e));
	assert_non_null(strstr(e.text, "nested deeper than 64"));
	assert_null(json_parse(STR("{\"a\":1} x"), &e));
	assert_non_null(strstr(e.text, "offset 8"));
	assert_null(json_parse(STR(""), &e));
	assert_null(json_parse(STR("{\"a\":\"\0\"}"), &e));
	tree = json_parse(STR("{\"a\":\"x\\u0000y\\\\u0000\"}"), &e);
	assert_string_equal(cJSON_GetObjectItem(tree, "a")->valuestring,
			    "x\xef\xbf\xbdy\\u0000");
	cJSON_Delete(tree);
	buf_free(&b);
}

static void durations_are_read_or_refused(void **state)
{
	static const struct {
		const char *text;
		int64_t ms; /* -2: refused */
	} cases[] = {
		{"5m", 300000}, {"1h30m", 5400000}, {"90", 90000}, {"0", 0},
		{"1.5s", 1500}, {"500ms", 500},     {"-1", -1},    {"forever", -1},
		{"", -2},       {"m", -2},          {"5x", -2},    {"-5m", -2},
		{"1h30", -2},   {"1e9h", -2},       {"4000d", -2}, {"inf", -2},
	};
	int64_t ms;

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		ms = -2;
		assert_int_equal(duration_parse(cases[i].text, &ms), cases[i].ms != -2);
		assert_int_equal(ms, cases[i].ms);
	}
	assert_true(duration_of_seconds(-3, &ms) && ms == DURATION_FOREVER);
	assert_false(duration_of_seconds(__builtin_nan(""), &ms));
}

static void write_text(const char *dir, const char *name, const char *text)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void free_memory_is_the_least_of_system_and_groups(void **state)
{
	char dir[] = "/tmp/hob-base-XXXXXX", slice[64], path[128];
	static const char *const files[] = {"meminfo", "slice/memory.max",
					    "slice/memory.current", "slice/memory.stat",
					    "slice/hob/memory.max"};

	UNUSED(state);
	assert_non_null(mkdtemp(dir));
	snprintf(slice, sizeof slice, "%s/slice", dir);
	snprintf(path, sizeof path, "%s/slice/hob", dir);
	assert_int_equal(mkdir(slice, 0700), 0);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_true(sysmem_available_in(dir, dir, NULL) == UINT64_MAX);
	write_text(dir, files[0], "MemTotal: 9000 kB\nMemAvailable:    4000 kB\n");
	assert_int_equal(sysmem_available_in(dir, dir, "/slice/hob"), 4000 * 1024);
	write_text(dir, files[4], "max\n");
	write_text(dir, files[1], "1000000\n");
	write_text(dir, files[2], "900000\n");
	assert_int_equal(sysmem_available_in(dir, dir, "/slice/hob"), 100000);
	write_text(dir, files[3], "anon 600000\ninactive_file 300000\n");
	assert_int_equal(sysmem_available_in(dir, dir, "/slice/hob"), 400000);
	write_text(dir, files[2], "1400000\n");
	assert_int_equal(sysmem_available_in(dir, dir, "/slice/hob"), 0);
	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		snprintf(path, sizeof path, "%s/%s", dir, files[i]);
		unlink(path);
	}
	snprintf(path, sizeof path, "%s/slice/hob", dir);
	rmdir(path);
	rmdir(slice);
	rmdir(dir);
	assert_true(sysmem_available() > 0);
}

static void getters_tell_absent_from_wrong(void **state)
{
	struct err e = {0};
	cJSON *t = json_parse(
		STR("{\"s\":\"x\",\"n\":1.5,\"i\":3,\"z\":null,\"b\":true}"), &e);
	const char *s = NULL;
	int64_t i = 0;
	double d = 0;
	bool b = false;

	UNUSED(state);
	assert_int_equal(json_string(t, "s", &s, &e), 1);
	assert_int_equal(json_string(t, "z", &s, &e), 0);
	assert_int_equal(json_string(t, "absent", &s, &e), 0);
	assert_int_equal(json_string(t, "n", &s, &e), -1);
	assert_non_null(strstr(e.text, "'n' must be a string"));
	assert_int_equal(json_int(t, "i", 0, 5, &i, &e), 1);
	assert_int_equal(i, 3);
	assert_int_equal(json_int(t, "n", 0, 5, &i, &e), -1);
	assert_int_equal(json_int(t, "i", 0, 2, &i, &e), -1);
	assert_int_equal(json_double(t, "n", 0, 2, &d, &e), 1);
	assert_int_equal(json_bool(t, "b", &b, &e), 1);
	assert_true(b);
	cJSON_Delete(t);
}

static void the_nearest_word_is_near(void **state)
{
	struct nearest n = {.word = "prot"};

	UNUSED(state);
	assert_int_equal(edit_distance("kitten", "sitting"), 3);
	nearest_offer(&n, "socket");
	assert_null(n.best);
	nearest_offer(&n, "port");
	assert_string_equal(n.best, "port");
}

static void a_full_or_closed_queue_refuses(void **state)
{
	struct queue q;
	struct queue_item a, b, c, *all;

	UNUSED(state);
	queue_init(&q, 2);
	assert_true(queue_push(&q, &a));
	assert_true(queue_push(&q, &b));
	assert_false(queue_push(&q, &c));
	all = queue_take_all(&q);
	assert_ptr_equal(all, &a);
	assert_ptr_equal(all->next, &b);
	assert_null(queue_take_all(&q));
	queue_close(&q);
	assert_false(queue_push(&q, &c));
	assert_null(queue_wait_all(&q));
	queue_fini(&q);
}

static const char *const json_texts[] = {
	"{}",
	"[]",
	" [ ] ",
	"{\"a\":{}}",
	"[[],[[]],{}]",
	"\"\"",
	"0",
	"-0",
	"-1.5e3",
	"true",
	"null ",
	"[false,true]",
	"{\"model\":\"a\",\"messages\":[{\"role\":\"user\",\"content\":\"h\\u00e9\\ud83d\\ude00 \\\"x\\\" \\\\ \\n\"}],"
	"\"temperature\":0.7,\"n\":123456789012345,\"x\":1234567890123456789,\"y\":0.1234567890123456,\"stream\":true}",
	"[1,2.25,-3,1e400,123.456,0.000001,99999999999999.9,2147483648,-2147483649]",
	"{\"d\":\"\xc3\xa9\xe6\x97\xa5\xf0\x9f\x94\xa5 plain text that is longer than eight bytes, 123\",\"d\":null}",
	"\xef\xbb\xbf{\"bom\":1}",
	"[\"\\u0000\"]",
	"[1",
	"[1,]",
	"{\"a\":}",
	"{\"a\" 1}",
	"{a:1}",
	"[\"",
	"[\"\\\"]",
	"[\"\\u12\"]",
	"[\"\\ud800\"]",
	"[\"\\q\"]",
	"1 2",
	"]",
	",",
	"tru",
	"-",
	"[,]",
	"{,}",
	"{\"a\":1,}",
};

/* What the fast reader reads, cJSON reads, and alike.  True if it reads it, or neither does. */
static bool check_reads_alike(const char *s, size_t n)
{
	char *text = malloc(n ? n : 1); /* of its own size, for the sanitizer */
	struct err e = {0};
	cJSON *fast, *slow;
	bool agree;

	memcpy(text, s, n);
	fast = json_read((struct str){text, n}, 0, &e);
	assert_int_equal(!fast, !!e.code);
	slow = json_parse((struct str){text, n}, NULL);
	agree = !fast == !slow;
	if (fast) {
		char *a = cJSON_Print(fast), *b = slow ? cJSON_Print(slow) : NULL;
		cJSON *copy = cJSON_Duplicate(fast, true);

		assert_non_null(b);
		assert_string_equal(a, b);
		cJSON_Delete(fast);
		fast = NULL;
		free(a);
		a = cJSON_Print(copy);
		assert_string_equal(a, b);
		cJSON_Delete(copy);
		free(a);
		free(b);
	}
	cJSON_Delete(fast);
	cJSON_Delete(slow);
	free(text);
	return agree;
}

static void the_fast_reader_reads_what_cjson_reads(void **state)
{
	static const char bytes[] = "{}[]\",:\\u0019e-+. tfn\xc3\xa9";
	unsigned seed = 1;

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(json_texts); i++) {
		size_t n = strlen(json_texts[i]);
		char *s = strdup(json_texts[i]);

		assert_true(check_reads_alike(s, n));
		for (int k = 0; k < 2000; k++) {
			size_t at = (size_t)rand_r(&seed) % (n + 1);
			char had = s[at];

			s[at] = bytes[(size_t)rand_r(&seed) % (sizeof(bytes) - 1)];
			check_reads_alike(s, k % 3 ? n : at);
			if (k % 5)
				s[at] = had;
			s[n] = 0;
		}
		free(s);
	}
}

static void the_fast_reader_says_what_is_wrong(void **state)
{
	static const struct {
		struct str text;
		unsigned flags;
		const char *says;
	} cases[] = {
		{STR("{\"a\":\"\xff\"}"), JSON_UTF8, "invalid UTF-8 near offset 6"},
		{STR("{\"a\":\"\xc3\"}"), JSON_UTF8, "invalid UTF-8"},
		{STR("{\"a\":\"\xed\xa0\x80 surrogate\"}"), JSON_UTF8, "invalid UTF-8"},
		{STR("{\"a\":\"x\\u0000\"}"), JSON_NO_NUL, "a NUL character"},
		{STR("{\"a\":\"\0\"}"), 0, "NUL byte"},
		{STR("{\"a\":\0}"), 0, "NUL byte"},
		{STR("01"), 0, "malformed number"},
		{STR("[1] x"), 0, "text after the value near offset 4"},
		{STR(",,,,,,,,"), 0, "syntax error"},
		{STR(""), 0, "empty"},
	};
	struct buf deep = {0};
	struct err e;
	cJSON *t;

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		e = (struct err){0};
		assert_null(json_read(cases[i].text, cases[i].flags, &e));
		if (!strstr(e.text, cases[i].says))
			fail_msg("%zu: %s", i, e.text);
	}
	for (int depth = JSON_MAX_DEPTH; depth <= JSON_MAX_DEPTH + 1; depth++) {
		buf_clear(&deep);
		for (int i = 0; i < 2 * depth; i++)
			buf_addc(&deep, i < depth ? '[' : ']');
		t = json_read(buf_str(&deep), 0, &e);
		assert_int_equal(t != NULL, depth == JSON_MAX_DEPTH);
		cJSON_Delete(t);
	}
	assert_non_null(strstr(e.text, "deeper than 64"));
	t = json_read(STR("{\"a\":\"x\\u0000y\"}"), 0, &e);
	assert_string_equal(cJSON_GetObjectItemCaseSensitive(t, "a")->valuestring,
			    "x\xef\xbf\xbdy");
	cJSON_Delete(t);
	buf_free(&deep);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_fast_reader_reads_what_cjson_reads),
		cmocka_unit_test(the_fast_reader_says_what_is_wrong),
		cmocka_unit_test(numbers_are_whole_and_in_range),
		cmocka_unit_test(a_buf_grows_drops_and_stays_terminated),
		cmocka_unit_test(a_part_of_a_url_is_escaped_byte_by_byte),
		cmocka_unit_test(json_strings_are_escaped_and_never_invalid_utf8),
		cmocka_unit_test(errors_wrap_and_name_a_full_disk),
		cmocka_unit_test(
			json_members_are_parted_by_commas_and_the_unknown_is_null),
		cmocka_unit_test(json_deeper_than_the_limit_is_refused_before_parsing),
		cmocka_unit_test(durations_are_read_or_refused),
		cmocka_unit_test(free_memory_is_the_least_of_system_and_groups),
		cmocka_unit_test(getters_tell_absent_from_wrong),
		cmocka_unit_test(the_nearest_word_is_near),
		cmocka_unit_test(a_full_or_closed_queue_refuses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
