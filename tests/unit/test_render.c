/* What reaches a terminal is harmless, whole and in columns. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <unistd.h>

#include "cli/render.h"

static void check_text(const char *in, const char *want)
{
	char *got = render_text(in);

	assert_string_equal(got, want);
	free(got);
}

static void plain_text_newlines_and_tabs_pass(void **state)
{
	UNUSED(state);
	check_text("a\tb\nc \xC3\xA9 \xE6\x97\xA5 \xF0\x9F\x98\x80",
		   "a\tb\nc \xC3\xA9 \xE6\x97\xA5 \xF0\x9F\x98\x80");
	check_text(NULL, "");
}

static void escape_sequences_lose_their_escape(void **state)
{
	UNUSED(state);
	check_text("\033[31mred\033]0;title\007!", "[31mred]0;title!");
	check_text("a\rb\bc\x7f"
		   "d\v\f",
		   "abcd");
}

static void c1_controls_are_dropped_in_both_of_their_forms(void **state)
{
	UNUSED(state);
	check_text("a\xC2\x9B"
		   "31mb\xC2\x85",
		   "a31mb");
	check_text("a\x9B"
		   "31m",
		   "a\xEF\xBF\xBD"
		   "31m");                  /* a raw byte is broken UTF-8 */
	check_text("\xC2\xA0", "\xC2\xA0"); /* the first one that is no control */
}

static void what_reorders_text_is_dropped_and_right_to_left_text_stays(void **state)
{
	UNUSED(state);
	check_text("rm \xE2\x80\xAE"
		   "fdp.exe\xE2\x80\xAC \xE2\x81\xA6x\xE2\x81\xA9",
		   "rm fdp.exe x");
	check_text("\xD7\xA9\xD7\x9C\xE2\x80\x8F", "\xD7\xA9\xD7\x9C\xE2\x80\x8F");
}

static void broken_utf8_becomes_the_replacement_character(void **state)
{
	UNUSED(state);
	check_text("a\xC3", "a\xEF\xBF\xBD");
	check_text("\xE6\x97"
		   "b",
		   "\xEF\xBF\xBD"
		   "b");
	check_text("\xC0\x9B", "\xEF\xBF\xBD\xEF\xBF\xBD"); /* overlong ESC */
	check_text("\xED\xA0\x80", "\xEF\xBF\xBD");         /* a surrogate */
	check_text("\xE0\x82\x9B", "\xEF\xBF\xBD");         /* overlong C1 */
}

static void a_character_cut_anywhere_comes_out_whole(void **state)
{
	static const char text[] = "\xC3\xA9\xE6\x97\xA5\xF0\x9F\x98\x80\xC2\x9B!";

	UNUSED(state);
	for (size_t cut = 0; cut <= sizeof text - 1; cut++) {
		struct render_filter f = {0};
		struct buf out = {0};

		render_filter(&f, &out, text, cut);
		render_filter(&f, &out, text + cut, sizeof text - 1 - cut);
		render_filter_end(&f, &out);
		assert_string_equal(out.data, "\xC3\xA9\xE6\x97\xA5\xF0\x9F\x98\x80!");
		buf_free(&out);
	}
}

static void a_line_has_no_line_breaks(void **state)
{
	char *got = render_line("a\nb\tc\r\n");

	UNUSED(state);
	assert_string_equal(got, "a b c ");
	free(got);
}

static void sizes_read_well(void **state)
{
	static const struct {
		uint64_t bytes;
		const char *want;
	} table[] = {{0, "0 B"},
		     {999, "999 B"},
		     {1000, "1.0 kB"},
		     {98362432, "98.4 MB"},
		     {999999999, "1.0 GB"},
		     {123456789, "123 MB"},
		     {UINT64_MAX, "18446744 TB"}};
	char out[RENDER_SIZE_BYTES];

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(table); i++)
		assert_string_equal(render_size(table[i].bytes, out), table[i].want);
}

static void ages_read_well(void **state)
{
	char out[RENDER_AGE_BYTES];

	UNUSED(state);
	assert_string_equal(render_age(-1, out), "-");
	assert_string_equal(render_age(0, out), "0 s ago");
	assert_string_equal(render_age(119, out), "119 s ago");
	assert_string_equal(render_age(120, out), "2 min ago");
	assert_string_equal(render_age(7200, out), "2 h ago");
	assert_string_equal(render_age(172800, out), "2 days ago");
	render_age(INT64_MAX, out);
}

static void wide_and_combining_characters_count_as_shown(void **state)
{
	UNUSED(state);
	assert_int_equal(render_width("abc"), 3);
	assert_int_equal(render_width("\xE6\x97\xA5\xE6\x9C\xAC"), 4);
	assert_int_equal(render_width("e\xCC\x81"), 1);
}

static void a_table_lines_up(void **state)
{
	static const char *const cells[] = {"NAME",         "SIZE",  "X",
					    "\xE6\x97\xA5", "5 B",   "yes",
					    "longer",       "10 kB", "no"};
	static const bool right[] = {false, true, false};
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	UNUSED(state);
	render_table(f, cells, 3, 3, right);
	fclose(f);
	assert_string_equal(text, "NAME     SIZE  X\n"
				  "\xE6\x97\xA5        5 B  yes\n"
				  "longer  10 kB  no\n");
	free(text);
}

static void an_answer_ends_with_one_newline(void **state)
{
	static const char *const answers[] = {"hi", "hi\n"};

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
		FILE *f = tmpfile();
		struct render_answer a;
		char got[16] = "";

		render_answer_init(&a, f, false);
		assert_true(
			render_answer_text(&a, "unseen", 6, true)); /* thoughts are off */
		assert_true(
			render_answer_text(&a, answers[i], strlen(answers[i]), false));
		assert_int_equal(render_answer_end(&a), 0);
		rewind(f);
		got[fread(got, 1, sizeof got - 1, f)] = '\0';
		assert_string_equal(got, "hi\n");
		fclose(f);
	}
}

static void an_answer_that_cannot_be_written_says_so(void **state)
{
	FILE *f = fopen("/dev/full", "w");
	struct render_answer a;

	UNUSED(state);
	if (!f)
		skip();
	render_answer_init(&a, f, false);
	assert_false(render_answer_text(&a, "hi", 2, false));
	assert_int_equal(render_answer_end(&a), -1);
	fclose(f);
}

/* The terminal's side of a pseudo-terminal that shows colours; what is written comes out of *master. */
static FILE *open_terminal(int *master)
{
	FILE *f = NULL;

	setenv("TERM", "xterm", 1);
	unsetenv("NO_COLOR");
	*master = posix_openpt(O_RDWR | O_NOCTTY);
	if (*master >= 0 && !grantpt(*master) && !unlockpt(*master))
		f = fopen(ptsname(*master), "r+");
	return f;
}

/* All of it is there: writing to a pseudo-terminal puts it into the master's buffer. */
static void check_screen(int master, const char *want)
{
	char got[512] = "";
	size_t n = 0;

	while (n < strlen(want)) {
		ssize_t more = read(master, got + n, sizeof got - 1 - n);

		assert_true(more > 0);
		n += (size_t)more;
	}
	assert_string_equal(got, want);
}

static void on_a_terminal_text_is_markdown_and_thoughts_are_dim(void **state)
{
	struct render_answer a;
	int master;
	FILE *f = open_terminal(&master);

	UNUSED(state);
	if (!f)
		skip();
	render_answer_init(&a, f, true);
	assert_true(render_answer_text(&a, "*hm*", 4, true));
	assert_true(render_answer_text(&a, "**a", 3, false));
	assert_true(render_answer_text(&a, "** \033[2Jb", 8, false));
	assert_true(render_answer_text(&a, "so", 2, true));
	assert_int_equal(render_answer_end(&a), 0);
	check_screen(master, "\033[2m*hm*\r\n\033[0m\033[0;1ma\033[0m [2Jb\r\n"
			     "\033[2mso\r\n\033[0m");
	fclose(f);
	close(master);
}

static void
an_answer_that_ends_anywhere_loses_nothing_and_closes_its_colours(void **state)
{
	static const struct {
		const char *text, *want;
	} table[] = {{"**a", "**a\r\n"},
		     {"```c\nint", "\033[0;36mint\033[0m\r\n"},
		     {"a\xE6", "a\xEF\xBF\xBD\r\n"},
		     {"| a |", "| a |\r\n"},
		     {"-", "\xE2\x80\xA2 \r\n"}};

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		struct render_answer a;
		int master;
		FILE *f = open_terminal(&master);

		if (!f)
			skip();
		render_answer_init(&a, f, true);
		for (const char *p = table[i].text; *p; p++)
			assert_true(render_answer_text(&a, p, 1, false));
		assert_int_equal(render_answer_end(&a), 0);
		check_screen(master, table[i].want);
		fclose(f);
		close(master);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_text_newlines_and_tabs_pass),
		cmocka_unit_test(escape_sequences_lose_their_escape),
		cmocka_unit_test(c1_controls_are_dropped_in_both_of_their_forms),
		cmocka_unit_test(
			what_reorders_text_is_dropped_and_right_to_left_text_stays),
		cmocka_unit_test(broken_utf8_becomes_the_replacement_character),
		cmocka_unit_test(a_character_cut_anywhere_comes_out_whole),
		cmocka_unit_test(a_line_has_no_line_breaks),
		cmocka_unit_test(sizes_read_well),
		cmocka_unit_test(ages_read_well),
		cmocka_unit_test(wide_and_combining_characters_count_as_shown),
		cmocka_unit_test(a_table_lines_up),
		cmocka_unit_test(an_answer_ends_with_one_newline),
		cmocka_unit_test(an_answer_that_cannot_be_written_says_so),
		cmocka_unit_test(on_a_terminal_text_is_markdown_and_thoughts_are_dim),
		cmocka_unit_test(
			an_answer_that_ends_anywhere_loses_nothing_and_closes_its_colours),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
