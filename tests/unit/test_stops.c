/* Stop strings: found across any borders, nothing lost, nothing of them shown. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/stops.h"

/* Feeds text in pieces of `step` bytes. */
static bool feed_all(struct stops *s, const char *text, size_t step, struct buf *out)
{
	size_t n = strlen(text);
	bool hit = false;

	for (size_t at = 0; at < n; at += step)
		hit = stops_feed(
			s, (struct str){text + at, n - at < step ? n - at : step}, out);
	stops_flush(s, out);
	return hit;
}

static void the_result_does_not_depend_on_the_borders(void **state)
{
	static const struct {
		const char *stops[3], *text, *want;
		bool hit;
	} rows[] = {
		{{"END"}, "one ENENEND two", "one ENEN", true},
		{{"END"}, "one EN two E", "one EN two E", false},
		{{"aab"}, "aaab", "a", true},
		{{"abcd", "bc"}, "xabcx", "xa", true},
		{{"bc", "abcd"}, "xabcd", "x", true}, /* what starts first wins */
		{{"\n\n"}, "a\nb\n\nc", "a\nb", true},
		{{"", "x"}, "abc", "abc", false},
		{{"\u00e4"}, "1\u00e42", "1", true},
		{{"abab"}, "aababx", "a", true},
	};

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		for (size_t step = 1; step < 17; step++) {
			struct str strings[3];
			struct stops s;
			struct buf out = {0};

			for (int k = 0; k < 3; k++)
				strings[k] = str_of(rows[i].stops[k]);
			assert_true(stops_init(&s, strings, 3));
			assert_int_equal(feed_all(&s, rows[i].text, step, &out),
					 rows[i].hit);
			assert_int_equal(s.hit, rows[i].hit);
			if (!str_eq(buf_str(&out), rows[i].want))
				fail_msg("row %zu, step %zu: '%s'", i, step, out.data);
			stops_free(&s);
			buf_free(&out);
		}
	}
}

static void only_what_could_stop_is_held_back(void **state)
{
	struct stops s;
	struct buf out = {0};

	UNUSED(state);
	assert_true(stops_init(&s, (struct str[]){STR("stop")}, 1));
	assert_false(stops_feed(&s, STR("hello"), &out));
	assert_string_equal(out.data, "hello");
	assert_false(stops_feed(&s, STR(" sto"), &out));
	assert_string_equal(out.data, "hello ");
	assert_false(stops_feed(&s, STR("ne"), &out));
	assert_string_equal(out.data, "hello stone");
	stops_free(&s);
	buf_free(&out);
}

static void after_a_hit_nothing_comes(void **state)
{
	struct stops s;
	struct buf out = {0};

	UNUSED(state);
	assert_true(stops_init(&s, (struct str[]){STR("x")}, 1));
	assert_true(stops_feed(&s, STR("axb"), &out));
	assert_true(stops_feed(&s, STR("more"), &out));
	stops_flush(&s, &out);
	assert_string_equal(out.data, "a");
	stops_free(&s);
	buf_free(&out);
}

static void without_stops_text_passes(void **state)
{
	struct stops s;
	struct buf out = {0};

	UNUSED(state);
	assert_true(stops_init(&s, NULL, 0));
	assert_false(feed_all(&s, "text", 1, &out));
	assert_string_equal(out.data, "text");
	stops_free(&s);
	buf_free(&out);
}

static void too_many_or_too_long_ones_are_refused(void **state)
{
	struct str many[STOPS_MAX + 1];
	char *big = xcalloc(1, STOPS_MAX_BYTES + 1);
	struct stops s;

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(many); i++)
		many[i] = STR("x");
	assert_false(stops_init(&s, many, STOPS_MAX + 1));
	assert_true(stops_init(&s, many, STOPS_MAX));
	stops_free(&s);
	assert_false(stops_init(&s, (struct str[]){{big, STOPS_MAX_BYTES + 1}}, 1));
	assert_int_equal(s.n, 0);
	free(big);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_result_does_not_depend_on_the_borders),
		cmocka_unit_test(only_what_could_stop_is_held_back),
		cmocka_unit_test(after_a_hit_nothing_comes),
		cmocka_unit_test(without_stops_text_passes),
		cmocka_unit_test(too_many_or_too_long_ones_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
