/* The summariser's words: what is asked, what is read from an answer, what stands in a prompt. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "memory/summary.h"
#include "route/tool_calls.h"

static void assert_reads(const char *answer, size_t stands_for, const char *expected)
{
	struct buf out = {0};
	bool ok = summary_read(str_of(answer), stands_for, &out);

	if (!expected) {
		assert_false(ok);
		assert_int_equal(out.len, 0);
	} else {
		assert_true(ok);
		assert_string_equal(out.data, expected);
	}
	buf_free(&out);
}

static void a_summary_is_trimmed_and_cut_at_markers(void **state)
{
	UNUSED(state);
	assert_reads("  Goals: a port.\n\n", 1000, "Goals: a port.");
	assert_reads("Goals: a port.\n<tool_call>{\"name\":\"ls\"}", 1000,
		     "Goals: a port.");
	assert_reads("Goals: a port.</think> And more", 1000, "Goals: a port.");
	assert_reads("Goals: a port.<|im_end|>\n<|im_start|>user", 1000,
		     "Goals: a port.");
}

static void thoughts_in_front_of_it_are_no_part_of_it(void **state)
{
	UNUSED(state);
	assert_reads("<think>\nThe user wants…\n</think>\n\nGoals: a port.", 1000,
		     "Goals: a port.");
	assert_reads("<think>\nIt never ends", 1000, NULL);
}

static void an_empty_or_absurd_summary_is_none(void **state)
{
	UNUSED(state);
	assert_reads("", 1000, NULL);
	assert_reads(" \n\t", 1000, NULL);
	assert_reads("<tool_call>ls", 1000, NULL);
	assert_reads("longer than it", 14, NULL);
	assert_reads("longer than it", 15, "longer than it");
}

static void a_block_says_what_it_is(void **state)
{
	struct buf out = {0};
	char notes[][8] = {"one", "two"}, *list[] = {notes[0], notes[1]};

	UNUSED(state);
	buf_adds(&out, "Be brief.");
	summary_add_notes(&out, list, 2);
	summary_add_block(&out, "Goals: a port.", 12, "smollm2:135m");
	assert_non_null(strstr(out.data, "Be brief.\n\n[Notes"));
	assert_non_null(strstr(out.data, "\n- one\n- two\n"));
	assert_non_null(strstr(out.data, "[Summary of 12 earlier messages"));
	assert_non_null(strstr(out.data, "made by smollm2:135m"));
	assert_non_null(strstr(out.data, "\nGoals: a port.\n"));
	out.len = 0;
	summary_add_notes(&out, list, 0);
	assert_int_equal(out.len, 0);
	summary_add_elided(&out, 8192, "00112233445566778899aabbccddeeff");
	assert_string_equal(
		out.data,
		"[result elided, 8 KB, message 00112233445566778899aabbccddeeff]");
	buf_free(&out);
}

static void the_question_bounds_its_answer(void **state)
{
	struct buf out = {0};

	UNUSED(state);
	summary_ask(512, &out);
	assert_non_null(strstr(out.data, "at most 307 words"));
	assert_non_null(strstr(out.data, "Invent nothing"));
	buf_free(&out);
}

static void assert_title(const char *answer, const char *expected)
{
	struct buf out = {0};
	bool ok = title_read(str_of(answer), str_of(""), &out);

	assert_int_equal(ok, expected != NULL);
	if (expected) {
		assert_int_equal(out.len, strlen(expected));
		assert_memory_equal(out.data, expected, out.len);
	}
	buf_free(&out);
}

static void a_title_is_one_clean_line(void **state)
{
	UNUSED(state);
	assert_title("\"The capital of France\"\n\nI hope this helps!",
		     "The capital of France");
	assert_title("Title: **Ports and ships**", "Ports and ships");
	assert_title("\xe2\x80\x9eH\xc3\xa4"
		     "fen\xe2\x80\x9c.",
		     "H\xc3\xa4"
		     "fen");
	assert_title("<think>hm</think>A\x1b[31mred\x07 title", "A[31mred title");
	assert_title("evil\xe2\x80\xaetxt", "eviltxt");
	assert_title("", NULL);
	assert_title("\"\"", NULL);
	assert_title("\n", NULL);
	/* sixty characters, and one more: that is no title but a sentence */
	assert_title("a b c d e f g h i j k l m n o p q r s t u v w x y z a b c de",
		     "a b c d e f g h i j k l m n o p q r s t u v w x y z a b c de");
	assert_title("a b c d e f g h i j k l m n o p q r s t u v w x y z a b c def",
		     NULL);
}

static bool is_title_of(const char *title, const char *question, const char *answer)
{
	struct buf asked = {0}, out = {0};
	bool ok;

	title_ask(question, str_of(answer), &asked);
	ok = title_read(str_of(title), buf_str(&asked), &out);
	buf_free(&asked);
	buf_free(&out);
	return ok;
}

static void what_repeats_itself_or_is_about_something_else_is_no_title(void **state)
{
	UNUSED(state);
	assert_false(is_title_of("La femme, les femmes, les femmes, les femmes",
				 "Femmes?", "Les femmes."));
	assert_false(is_title_of("The Name of the One Who Loved You", "inc",
				 "[{\"role\": \"user\"}]"));
	assert_false(is_title_of("Your Assistant", "hi", "Good morning."));
	assert_false(is_title_of("Write the title", "hi", "Good morning."));
	assert_true(is_title_of("A good morning", "hi", "Good morning."));
	assert_true(is_title_of("Reversing a Python list",
				"How do I reverse a list in Python?", "list[::-1]"));
	assert_true(is_title_of("\xe6\x97\xa5\xe6\x9c\xac", "hi", "Good morning."));
	assert_true(is_title_of("C or C++", "which?", "Both."));
}

static void a_title_is_asked_for_with_the_beginnings_only(void **state)
{
	struct buf out = {0}, longer = {0};

	UNUSED(state);
	for (int i = 0; i < 2000; i++)
		buf_adds(&longer, "\xc3\xa4");
	title_ask(longer.data, buf_str(&longer), &out);
	assert_true(out.len < 2 * TITLE_QUOTE_BYTES + 200);
	assert_non_null(strstr(out.data, "\xc3\xa4\n\nAssistant: \xc3\xa4")); /* whole */
	buf_free(&out);
	buf_free(&longer);
}

/* ---- tool calls */

static void pieces_of_tool_calls_become_one_message(void **state)
{
	static const char *const pieces[] = {
		"{\"index\":0,\"id\":\"c1\",\"type\":\"function\",\"function\":{\"name\":"
		"\"ls\",\"arguments\":\"\"}}",
		"{\"index\":0,\"function\":{\"arguments\":\"{\\\"p\\\":\"}}",
		"{\"index\":1,\"id\":\"c2\",\"function\":{\"name\":\"pwd\",\"arguments\":"
		"\"{}\"}}",
		"{\"index\":0,\"function\":{\"arguments\":\"1}\"}}"};
	struct tool_calls *t = tool_calls_new();
	struct buf out = {0};
	struct err e;

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(pieces); i++)
		assert_int_equal(tool_calls_add(t, str_of(pieces[i]), &e), 0);
	assert_int_equal(tool_calls_add(t, STR("{\"index\":128}"), &e), -1);
	assert_int_equal(tool_calls_add(t, STR("nonsense"), &e), -1);
	tool_calls_message(t, STR(""), &out);
	assert_string_equal(
		out.data,
		"{\"role\":\"assistant\",\"content\":null,\"tool_calls\":["
		"{\"id\":\"c1\",\"type\":\"function\",\"function\":{\"name\":\"ls\","
		"\"arguments\":\"{\\\"p\\\":1}\"}},"
		"{\"id\":\"c2\",\"type\":\"function\",\"function\":{\"name\":\"pwd\","
		"\"arguments\":\"{}\"}}]}");
	buf_free(&out);
	tool_calls_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_summary_is_trimmed_and_cut_at_markers),
		cmocka_unit_test(thoughts_in_front_of_it_are_no_part_of_it),
		cmocka_unit_test(an_empty_or_absurd_summary_is_none),
		cmocka_unit_test(a_block_says_what_it_is),
		cmocka_unit_test(the_question_bounds_its_answer),
		cmocka_unit_test(a_title_is_one_clean_line),
		cmocka_unit_test(
			what_repeats_itself_or_is_about_something_else_is_no_title),
		cmocka_unit_test(a_title_is_asked_for_with_the_beginnings_only),
		cmocka_unit_test(pieces_of_tool_calls_become_one_message),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
