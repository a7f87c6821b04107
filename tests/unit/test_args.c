/* Options, operands, and what wrong ones get. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <unistd.h>

#include "cli/args.h"
#include "cli/commands.h"

enum { OPT_COUNT, OPT_LOUD };

static const struct args_option options[] = {
	[OPT_COUNT] = {"count", 'n', "N", "how many"},
	[OPT_LOUD] = {"loud", 0, NULL, "no whispering"},
};

static const struct args_spec spec = {
	.command = "test",
	.usage = "[OPTIONS] WORD...",
	.summary = "Tests.",
	.options = options,
	.noptions = 2,
};

/* Parses to the end; what was said on stderr (or stdout) goes to `said`. */
struct result {
	char count[32];
	bool loud;
	int last, status, operands;
	char said[1024];
};

static struct result parse(char **argv)
{
	struct result r = {0};
	struct args a;
	const char *v = NULL;
	int argc = 0, o, saved = dup(2);
	FILE *said = tmpfile();

	while (argv[argc])
		argc++;
	fflush(stderr);
	dup2(fileno(said), 2);
	args_init(&a, &spec, argc, argv);
	while ((o = args_next(&a, &v)) >= 0) {
		if (o == OPT_COUNT)
			snprintf(r.count, sizeof r.count, "%s", v);
		r.loud |= o == OPT_LOUD;
	}
	fflush(stderr);
	dup2(saved, 2);
	close(saved);
	rewind(said);
	r.said[fread(r.said, 1, sizeof r.said - 1, said)] = '\0';
	fclose(said);
	r.last = o;
	r.status = a.status;
	r.operands = argc - a.first;
	return r;
}

#define PARSE(...) parse((char *[]){(char *)"test", __VA_ARGS__, NULL})
#define W(s)       ((char *)(s))

static void options_may_stand_anywhere(void **state)
{
	struct result r = PARSE(W("one"), W("--count=3"), W("two"), W("--loud"));

	UNUSED(state);
	assert_int_equal(r.last, ARGS_END);
	assert_string_equal(r.count, "3");
	assert_true(r.loud);
	assert_int_equal(r.operands, 2);
}

static void a_letter_takes_its_value(void **state)
{
	struct result r = PARSE(W("-n"), W("7"), W("word"));

	UNUSED(state);
	assert_string_equal(r.count, "7");
	assert_int_equal(r.operands, 1);
}

static void after_two_dashes_everything_is_an_operand(void **state)
{
	struct result r = PARSE(W("--"), W("--loud"), W("-n"));

	UNUSED(state);
	assert_int_equal(r.last, ARGS_END);
	assert_false(r.loud);
	assert_int_equal(r.operands, 2);
}

static void an_unknown_option_names_the_nearest(void **state)
{
	struct result r = PARSE(W("--cuont"), W("3"));

	UNUSED(state);
	assert_int_equal(r.last, ARGS_STOP);
	assert_int_equal(r.status, CLI_USAGE);
	assert_non_null(strstr(r.said, "did you mean --count?"));
}

static void an_unknown_letter_says_how_to_write_text_with_a_dash(void **state)
{
	struct result r = PARSE(W("-x"));

	UNUSED(state);
	assert_int_equal(r.status, CLI_USAGE);
	assert_non_null(strstr(r.said, "no option -x"));
	assert_non_null(strstr(r.said, "after --"));
}

static void a_missing_value_is_named(void **state)
{
	struct result r = PARSE(W("--count"));

	UNUSED(state);
	assert_int_equal(r.status, CLI_USAGE);
	assert_non_null(strstr(r.said, "--count needs a value: N"));
}

static void a_value_for_a_flag_is_refused(void **state)
{
	struct result r = PARSE(W("--loud=very"));

	UNUSED(state);
	assert_int_equal(r.status, CLI_USAGE);
	assert_non_null(strstr(r.said, "takes no value"));
}

static void the_help_lists_every_option(void **state)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	UNUSED(state);
	args_help(&spec, f);
	fclose(f);
	assert_non_null(strstr(text, "-n, --count N"));
	assert_non_null(strstr(text, "    --loud"));
	assert_non_null(strstr(text, "-h, --help"));
	free(text);
}

static void numbers_are_checked_with_their_range(void **state)
{
	struct args a = {.spec = &spec};
	int64_t n = -5;
	double x = -5;

	UNUSED(state);
	assert_true(args_int(&a, OPT_COUNT, "12", 1, 99, &n));
	assert_int_equal(n, 12);
	assert_false(args_int(&a, OPT_COUNT, "100", 1, 99, &n));
	assert_int_equal(a.status, CLI_USAGE);
	assert_false(args_int(&a, OPT_COUNT, "12x", 1, 99, &n));
	assert_int_equal(n, 12);
	assert_true(args_double(&a, OPT_COUNT, "0.5", 0, 2, &x));
	assert_true(x > 0.49 && x < 0.51);
	assert_false(args_double(&a, OPT_COUNT, "nan", 0, 2, &x));
	assert_false(args_double(&a, OPT_COUNT, "", 0, 2, &x));
	assert_false(args_double(&a, OPT_COUNT, "2.1", 0, 2, &x));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(options_may_stand_anywhere),
		cmocka_unit_test(a_letter_takes_its_value),
		cmocka_unit_test(after_two_dashes_everything_is_an_operand),
		cmocka_unit_test(an_unknown_option_names_the_nearest),
		cmocka_unit_test(an_unknown_letter_says_how_to_write_text_with_a_dash),
		cmocka_unit_test(a_missing_value_is_named),
		cmocka_unit_test(a_value_for_a_flag_is_refused),
		cmocka_unit_test(the_help_lists_every_option),
		cmocka_unit_test(numbers_are_checked_with_their_range),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
