/* memory {} and persona {} of hob.conf: defaults, values, and errors that say what is right. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <unistd.h>

#include "config.h"

struct fixture {
	char dir[64], file[80];
};

static int setup(void **state)
{
	struct fixture *f = xcalloc(1, sizeof *f);

	snprintf(f->dir, sizeof f->dir, "/tmp/hob-test-XXXXXX");
	if (!mkdtemp(f->dir))
		return -1;
	snprintf(f->file, sizeof f->file, "%s/hob.conf", f->dir);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	int rc;

	unlink(f->file);
	rc = rmdir(f->dir);
	free(f);
	return rc;
}

static struct config *load(struct fixture *f, const char *text, struct err *e)
{
	FILE *out = fopen(f->file, "w");

	assert_non_null(out);
	fputs(text, out);
	fclose(out);
	*e = (struct err){0};
	return config_load(&(struct config_source){.path = f->file}, e);
}

static void an_empty_file_keeps_what_is_asked_for_within_limits(void **state)
{
	struct err e;
	struct config *c = load(*state, "", &e);
	const struct store_limits *l;

	assert_non_null(c);
	assert_int_equal(c->memory_store, MEMORY_STORE_OPT_IN);
	assert_string_equal(config_memory_store_name(c->memory_store), "opt-in");
	assert_true(c->memory_durable && c->memory_summary && c->memory_titles);
	assert_null(c->memory_summary_model);
	assert_non_null(strstr(c->memory_path, "/memory.db"));
	l = &c->memory_limits;
	assert_int_equal(l->max_bytes, 2147483648);
	assert_int_equal(l->max_age_ms, INT64_C(365) * 86400 * 1000);
	assert_int_equal(l->max_messages, 1000000);
	assert_int_equal(l->max_conversations, 0);
	assert_int_equal(l->max_message_bytes, 32 << 20);
	assert_int_equal(l->max_attachment_bytes, 16 << 20);
	assert_int_equal(l->failed_age_ms, INT64_C(7) * 86400 * 1000);
	assert_int_equal(c->npersonas, 0);
	assert_null(config_persona(c, "x"));
	config_free(c);
}

static void every_setting_of_memory_is_read(void **state)
{
	struct err e;
	struct config *c = load(
		*state,
		"memory {\n"
		"  path = \"/x/m.db\" store = \"all\" durability = \"normal\"\n"
		"  summary = false summary_model = \"small\" titles = false\n"
		"  max_bytes = \"10MiB\" max_age = \"forever\" max_messages = 5\n"
		"  max_conversations = 3 max_message = \"2KiB\" max_attachment = \"0\"\n"
		"  failed_age = \"1h30m\"\n}\n",
		&e);
	const struct store_limits *l;

	assert_non_null(c);
	assert_string_equal(c->memory_path, "/x/m.db");
	assert_int_equal(c->memory_store, MEMORY_STORE_ALL);
	assert_false(c->memory_durable || c->memory_summary || c->memory_titles);
	assert_string_equal(c->memory_summary_model, "small");
	l = &c->memory_limits;
	assert_int_equal(l->max_bytes, 10 << 20);
	assert_int_equal(l->max_age_ms, 0);
	assert_int_equal(l->max_messages, 5);
	assert_int_equal(l->max_conversations, 3);
	assert_int_equal(l->max_message_bytes, 2048);
	assert_int_equal(l->max_attachment_bytes, 0);
	assert_int_equal(l->failed_age_ms, 5400000);
	config_free(c);
}

static void each_policy_has_its_word(void **state)
{
	static const char *const words[] = {"off", "cli", "opt-in", "all"};

	for (int i = 0; i < (int)ARRAY_LEN(words); i++) {
		char *text = xasprintf("memory { store = \"%s\" }\n", words[i]);
		struct err e;
		struct config *c = load(*state, text, &e);

		assert_non_null(c);
		assert_int_equal(c->memory_store, i);
		assert_string_equal(config_memory_store_name(c->memory_store), words[i]);
		config_free(c);
		free(text);
	}
}

static void empty_texts_are_as_if_not_written(void **state)
{
	struct err e;
	struct config *c = load(*state,
				"memory { path = \"\" summary_model = \"\" }\n"
				"persona \"p\" { system = \"\" system_file = \"\" "
				"model = \"\" description = \"\" }\n",
				&e);
	const struct config_persona *p;

	assert_non_null(c);
	assert_non_null(strstr(c->memory_path, "/memory.db"));
	assert_null(c->memory_summary_model);
	p = config_persona(c, "p");
	assert_non_null(p);
	assert_null(p->system);
	assert_null(p->system_file);
	assert_null(p->model);
	assert_null(p->description);
	config_free(c);
}

static void personas_are_found_by_name(void **state)
{
	struct err e;
	struct config *c =
		load(*state,
		     "persona \"reviewer\" { system = \"Be brief.\" model = \"big\"\n"
		     "  temperature = 0.0 top_p = 0.5 max_tokens = 100 private = true\n"
		     "  description = \"Reads diffs\" }\n"
		     "persona \"writer of prose\" { system_file = \"/p/w.md\" }\n",
		     &e);
	const struct config_persona *p;

	assert_non_null(c);
	assert_int_equal(c->npersonas, 2);
	p = config_persona(c, "reviewer");
	assert_non_null(p);
	assert_string_equal(p->system, "Be brief.");
	assert_string_equal(p->model, "big");
	assert_string_equal(p->description, "Reads diffs");
	assert_true(p->temperature == 0 && p->top_p == 0.5);
	assert_int_equal(p->max_tokens, 100);
	assert_true(p->is_private);
	p = config_persona(c, "writer of prose");
	assert_non_null(p);
	assert_string_equal(p->system_file, "/p/w.md");
	assert_true(p->temperature < 0 && p->top_p < 0);
	assert_int_equal(p->max_tokens, 0);
	assert_false(p->is_private);
	assert_null(config_persona(c, "Reviewer"));
	config_free(c);
}

static void wrong_values_say_where_and_what_is_right(void **state)
{
	static const struct {
		const char *text, *says;
	} cases[] = {
		{"memory {\n  stor = \"all\"\n}\n",
		 "hob.conf:2: no such option 'stor'; did you mean 'store'?"},
		{"memory { max_byte = \"1GiB\" }\n", "did you mean 'max_bytes'?"},
		{"memory { recall = true }\n", "no such option 'recall'"},
		{"memory { store = \"optin\" }\n",
		 "memory: store = 'optin' is unknown; did you mean 'opt-in'?"},
		{"memory { durability = \"ful\" }\n", "did you mean 'full'?"},
		{"memory { summary = perhaps }\n", "hob.conf:1"},
		{"memory { max_bytes = \"much\" }\n", "max_bytes = 'much' is not a size"},
		{"memory { max_bytes = \"-1\" }\n", "max_bytes = '-1' is not a size"},
		{"memory { max_bytes = \"4096\" }\n", "out of range: 0 (no limit), or"},
		{"memory { max_message = \"33MiB\" }\n", "max_message = '33MiB' is out"},
		{"memory { max_attachment = \"1\" }\n", "max_attachment = '1' is out of"},
		{"memory { max_age = \"a year\" }\n",
		 "max_age = 'a year' is not a time: write \"365d\""},
		{"memory { failed_age = \"\" }\n", "failed_age = '' is not a time"},
		{"memory { max_messages = -1 }\n", "max_messages = -1 is out of range"},
		{"memory { max_conversations = 99999999999 }\n", "is out of range"},
		{"personna \"p\" { }\n", "did you mean 'persona'?"},
		{"persona \"p\" {\n  sistem = \"x\"\n}\n",
		 "hob.conf:2: no such option 'sistem'; did you mean 'system'?"},
		{"persona \"p\" { system = \"a\" system_file = \"/b\" }\n",
		 "system and system_file: one of them"},
		{"persona \"p\" { system_file = \"b.md\" }\n", "'b.md' must be absolute"},
		{"persona \"p\" { temperature = 2.5 }\n",
		 "temperature = 2.5 is out of range: 0 to 2"},
		{"persona \"p\" { temperature = -0.5 }\n", "out of range: 0 to 2"},
		{"persona \"p\" { top_p = 1.5 }\n", "top_p = 1.5 is out of range"},
		{"persona \"p\" { max_tokens = -1 }\n", "max_tokens = -1 is out of"},
		{"persona \"\" { }\n", "a name has 1 to 64 characters"},
		{"persona \" p\" { }\n", "a name has 1 to 64 characters"},
		{"persona \"p\\n\" { }\n", "a name has 1 to 64 characters"},
		{"persona \"p\" { }\npersona \"p\" { }\n", "hob.conf:2"},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct err e;
		struct config *c = load(*state, cases[i].text, &e);

		assert_null(c);
		if (!strstr(e.text, cases[i].says))
			fail_msg("'%s' gave '%s'", cases[i].text, e.text);
	}
}

static void a_system_prompt_longer_than_the_cap_is_refused(void **state)
{
	char *long_text = xcalloc(1, PERSONA_MAX_SYSTEM_BYTES + 2), *text;
	struct config *c;
	struct err e;

	memset(long_text, 'x', PERSONA_MAX_SYSTEM_BYTES);
	text = xasprintf("persona \"p\" { system = \"%s\" }\n", long_text);
	c = load(*state, text, &e);
	assert_non_null(c);
	config_free(c);
	free(text);
	long_text[PERSONA_MAX_SYSTEM_BYTES] = 'x';
	text = xasprintf("persona \"p\" { system = \"%s\" }\n", long_text);
	assert_null(load(*state, text, &e));
	assert_non_null(strstr(e.text, "system is longer than 65536 bytes"));
	free(text);
	free(long_text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			an_empty_file_keeps_what_is_asked_for_within_limits, setup,
			teardown),
		cmocka_unit_test_setup_teardown(every_setting_of_memory_is_read, setup,
						teardown),
		cmocka_unit_test_setup_teardown(each_policy_has_its_word, setup,
						teardown),
		cmocka_unit_test_setup_teardown(empty_texts_are_as_if_not_written, setup,
						teardown),
		cmocka_unit_test_setup_teardown(personas_are_found_by_name, setup,
						teardown),
		cmocka_unit_test_setup_teardown(wrong_values_say_where_and_what_is_right,
						setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_system_prompt_longer_than_the_cap_is_refused, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
