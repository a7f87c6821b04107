/* What a model that reads only text is given of tool calls, results and images. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/base.h"
#include "route/plain_text.h"

enum { MOST = 8 };

struct made {
	struct message m[MOST];
	bool changed[MOST];
	int n;
};

static void make(struct made *made, const struct message *m, int n)
{
	struct plain_text *p = plain_text_new();

	*made = (struct made){.n = n};
	for (int i = 0; i < n; i++)
		made->changed[i] = plain_text_next(p, &m[i], &made->m[i]);
	plain_text_free(p);
}

static void unmake(struct made *made)
{
	for (int i = 0; i < made->n; i++)
		free(made->m[i].text);
}

static struct message message(enum role role, const char *text, const char *raw)
{
	return (struct message){role, (char *)(uintptr_t)text, (char *)(uintptr_t)raw};
}

/* The text of one message alone. */
static void assert_reads(struct message m, enum role role, const char *expected)
{
	struct made made;

	make(&made, &m, 1);
	assert_true(made.changed[0]);
	assert_int_equal(made.m[0].role, role);
	assert_null(made.m[0].raw_json);
	assert_string_equal(made.m[0].text, expected);
	unmake(&made);
}

#define CALLS                                                                         \
	"\"tool_calls\":[{\"id\":\"c1\",\"type\":\"function\",\"function\":{"         \
	"\"name\":\"ls\",\"arguments\":\"{\\\"dir\\\":\\\".\\\"}\"}},{\"id\":\"c2\"," \
	"\"type\":\"function\",\"function\":{\"name\":\"date\",\"arguments\":\"\"}}]}"

static void what_is_text_stays_as_it_is(void **state)
{
	struct message m[] = {message(ROLE_SYSTEM, "s", NULL),
			      message(ROLE_USER, "u", NULL),
			      message(ROLE_ASSISTANT, "", NULL)};
	struct made made;

	(void)state;
	make(&made, m, 3);
	for (int i = 0; i < 3; i++)
		assert_false(made.changed[i]);
	unmake(&made);
}

static void calls_stand_behind_the_text_and_name_their_results(void **state)
{
	struct message m[] = {
		message(ROLE_USER, "look", NULL),
		message(ROLE_ASSISTANT, "I look.",
			"{\"role\":\"assistant\",\"content\":\"I look.\"," CALLS),
		message(ROLE_TOOL, "today",
			"{\"role\":\"tool\",\"tool_call_id\":\"c2\",\"content\":\"today\"}"),
		message(ROLE_TOOL, "a.txt",
			"{\"role\":\"tool\",\"tool_call_id\":\"c1\",\"content\":\"a.txt\"}"),
		message(ROLE_USER, "and?", NULL),
		message(ROLE_TOOL, "late",
			"{\"role\":\"tool\",\"tool_call_id\":\"c1\",\"content\":\"late\"}"),
	};
	struct made made;

	(void)state;
	make(&made, m, 6);
	assert_string_equal(made.m[1].text,
			    "I look.\n[called ls({\"dir\":\".\"})]\n[called date()]");
	assert_int_equal(made.m[1].role, ROLE_ASSISTANT);
	assert_string_equal(made.m[2].text, "[result of date: today]");
	assert_string_equal(made.m[3].text, "[result of ls: a.txt]");
	assert_int_equal(made.m[3].role, ROLE_USER);
	assert_false(made.changed[4]);
	/* a call of an earlier turn is not what this one answers */
	assert_string_equal(made.m[5].text, "[result of a tool: late]");
	unmake(&made);
}

static void results_and_calls_of_other_ages_are_read(void **state)
{
	(void)state;
	assert_reads(message(ROLE_TOOL, "42", NULL), ROLE_USER, "[result of a tool: 42]");
	assert_reads(message(ROLE_TOOL, "42", "{\"role\":\"tool\",\"name\":\"f\"}"),
		     ROLE_USER, "[result of f: 42]");
	assert_reads(message(ROLE_ASSISTANT, "",
			     "{\"content\":null,\"function_call\":{\"name\":\"f\","
			     "\"arguments\":\"{}\"}}"),
		     ROLE_ASSISTANT, "[called f({})]");
	assert_reads(message(ROLE_ASSISTANT, "", "{\"tool_calls\":[{},7]}"),
		     ROLE_ASSISTANT, "[called a tool()]\n[called a tool()]");
}

static void parts_that_are_no_text_stand_where_they_stood(void **state)
{
	(void)state;
	assert_reads(
		message(ROLE_USER, "What is this?",
			"{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":"
			"\"What is this?\"},{\"type\":\"image_url\",\"image_url\":{"
			"\"url\":\"data:image/png;base64,AAAA\"}}]}"),
		ROLE_USER, "What is this?\n[image]");
	assert_reads(
		message(ROLE_USER, "ab",
			"{\"content\":[{\"type\":\"input_audio\"},{\"type\":\"text\","
			"\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\"},{\"type\":"
			"\"file\"},{\"type\":\"odd\"},4]}"),
		ROLE_USER, "[audio]\nab\n[file]\n[attachment]\n[attachment]");
	assert_reads(
		message(ROLE_ASSISTANT, "", "{\"content\":null,\"refusal\":\"No.\"}"),
		ROLE_ASSISTANT, "No.");
}

static void what_cannot_be_read_still_says_that_it_was_there(void **state)
{
	(void)state;
	assert_reads(message(ROLE_USER, "", "{]"), ROLE_USER, "[attachment]");
	assert_reads(message(ROLE_USER, "text", "{]"), ROLE_USER, "text");
	assert_reads(message(ROLE_ASSISTANT, "", "[]"), ROLE_ASSISTANT, "[attachment]");
	assert_reads(message(ROLE_TOOL, "", ""), ROLE_USER, "[result of a tool: ]");
}

/* Of two bytes each, so that the limit may fall into one. */
static void long_results_are_cut_between_characters(void **state)
{
	enum { BYTES = 20001 };
	char *text = xcalloc(1, BYTES + 1);
	struct message m;
	struct made made;

	(void)state;
	text[0] = 'x';
	for (int i = 1; i < BYTES; i += 2)
		memcpy(text + i, "\xc3\xa9", 2);
	m = message(ROLE_TOOL, text, NULL);
	make(&made, &m, 1);
	assert_true(strlen(made.m[0].text) < PLAIN_RESULT_BYTES + 60);
	assert_non_null(strstr(made.m[0].text, "\xc3\xa9... (cut, 20 KB in all)]"));
	unmake(&made);
	memset(text, 'x', BYTES); /* one that just fits */
	text[PLAIN_RESULT_BYTES] = '\0';
	make(&made, &m, 1);
	assert_null(strstr(made.m[0].text, "(cut"));
	unmake(&made);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_text_stays_as_it_is),
		cmocka_unit_test(calls_stand_behind_the_text_and_name_their_results),
		cmocka_unit_test(results_and_calls_of_other_ages_are_read),
		cmocka_unit_test(parts_that_are_no_text_stand_where_they_stood),
		cmocka_unit_test(what_cannot_be_read_still_says_that_it_was_there),
		cmocka_unit_test(long_results_are_cut_between_characters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
