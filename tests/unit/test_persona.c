/* Personas: what they give a request, and what they leave alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/openai.h"
#include "api/persona.h"

struct fixture {
	char dir[64], file[80];
	struct personas *personas;
	struct config_persona list[3];
	struct config config;
};

static int setup(void **state)
{
	struct fixture *f = xcalloc(1, sizeof *f);

	snprintf(f->dir, sizeof f->dir, "/tmp/hob-test-XXXXXX");
	if (!mkdtemp(f->dir))
		return -1;
	snprintf(f->file, sizeof f->file, "%s/system.md", f->dir);
	f->personas = personas_new();
	f->list[0] = (struct config_persona){.name = (char *)"reviewer",
					     .system = (char *)"Be brief.",
					     .model = (char *)"big",
					     .temperature = 0.25,
					     .top_p = 0.5,
					     .max_tokens = 7,
					     .is_private = true};
	f->list[1] = (struct config_persona){.name = (char *)"writer",
					     .system_file = f->file,
					     .temperature = -1,
					     .top_p = -1};
	f->list[2] = (struct config_persona){
		.name = (char *)"plain", .temperature = -1, .top_p = -1};
	f->config = (struct config){.personas = f->list, .npersonas = 3};
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	int rc;

	personas_free(f->personas);
	unlink(f->file);
	rc = rmdir(f->dir);
	free(f);
	return rc;
}

static void write_file(const char *path, const char *text, size_t n)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, n, f), n);
	assert_int_equal(fclose(f), 0);
}

static struct request *chat(const char *persona, const char *model)
{
	struct request *r = request_new();

	r->is_chat = true;
	free(r->model);
	r->model = xstrdup(model);
	request_add_message(r, ROLE_USER, "Hello", 5);
	assert_int_equal(persona_set(r, str_of(persona), NULL), 0);
	return r;
}

static int apply(struct fixture *f, struct request *r, struct err *e)
{
	*e = (struct err){0};
	return persona_apply(f->personas, &f->config, r, e);
}

static void a_persona_fills_what_the_request_left_open(void **state)
{
	struct request *r = chat("reviewer", "default");
	struct err e;

	assert_int_equal(apply(*state, r, &e), 0);
	assert_string_equal(r->model, "big");
	assert_int_equal(r->nmessages, 2);
	assert_int_equal(r->messages[0].role, ROLE_SYSTEM);
	assert_string_equal(r->messages[0].text, "Be brief.");
	assert_string_equal(r->messages[1].text, "Hello");
	assert_true(r->system_is_default);
	assert_true(r->sampling.temperature == 0.25 && r->sampling.top_p == 0.5);
	assert_int_equal(r->sampling.max_tokens, 7);
	assert_true(r->is_private);
	request_free(r);
}

static void what_the_request_says_itself_wins(void **state)
{
	struct request *r = chat("reviewer", "small");
	struct err e;

	request_add_message(r, ROLE_SYSTEM, "Be long.", 8);
	r->sampling.temperature = 0;
	r->sampling.top_p = 1;
	r->sampling.max_tokens = 99;
	assert_int_equal(apply(*state, r, &e), 0);
	assert_string_equal(r->model, "small");
	assert_int_equal(r->nmessages, 2);
	assert_string_equal(r->messages[0].text, "Hello");
	assert_false(r->system_is_default);
	assert_true(r->sampling.temperature == 0 && r->sampling.top_p == 1);
	assert_int_equal(r->sampling.max_tokens, 99);
	request_free(r);
}

static void a_raw_completion_gets_model_and_settings_only(void **state)
{
	struct request *r = request_new();
	struct err e;

	r->prompt = xstrdup("Once");
	free(r->model);
	r->model = xstrdup("default");
	assert_int_equal(persona_set(r, STR("reviewer"), NULL), 0);
	assert_int_equal(apply(*state, r, &e), 0);
	assert_string_equal(r->model, "big");
	assert_int_equal(r->nmessages, 0);
	assert_string_equal(r->prompt, "Once");
	request_free(r);
}

static void without_a_persona_nothing_changes(void **state)
{
	struct request *r = chat("", "default");
	struct err e;

	assert_null(r->persona);
	assert_int_equal(apply(*state, r, &e), 0);
	assert_int_equal(r->nmessages, 1);
	assert_string_equal(r->model, "default");
	request_free(r);
	r = chat("plain", "default");
	assert_int_equal(apply(*state, r, &e), 0);
	assert_int_equal(r->nmessages, 1);
	assert_true(r->sampling.temperature < 0);
	assert_false(r->is_private);
	request_free(r);
}

static void an_unknown_persona_is_refused_with_the_nearest_name(void **state)
{
	struct request *r = chat("reviever", "default");
	char name[PERSONA_MAX_NAME_BYTES + 1];
	struct err e;

	assert_int_equal(apply(*state, r, &e), -1);
	assert_int_equal(e.code, ERR_INVALID);
	assert_non_null(
		strstr(e.text, "no persona 'reviever'; did you mean 'reviewer'?"));
	memset(name, 'x', sizeof name);
	e = (struct err){0};
	assert_int_equal(persona_set(r, (struct str){name, sizeof name}, &e), -1);
	assert_int_equal(e.code, ERR_INVALID);
	request_free(r);
}

/* The system prompt of the writer now, which the caller frees; NULL: refused. */
static char *written(struct fixture *f, struct err *e)
{
	struct request *r = chat("writer", "m");
	char *text = NULL;

	if (apply(f, r, e) == 0)
		text = xstrdup(r->messages[0].text);
	request_free(r);
	return text;
}

static void expect_written(struct fixture *f, const char *expected)
{
	struct err e;
	char *text = written(f, &e);

	if (!text)
		fail_msg("%s", e.text);
	assert_string_equal(text, expected);
	free(text);
}

static void
a_system_file_is_read_when_it_is_needed_and_again_when_it_changed(void **state)
{
	struct fixture *f = *state;

	write_file(f->file, "First.\n\n", 8);
	expect_written(f, "First.");
	expect_written(f, "First.");
	unlink(f->file);
	write_file(f->file, "Second one.\n", 12);
	expect_written(f, "Second one.");
	personas_forget(f->personas);
	expect_written(f, "Second one.");
	unlink(f->file);
	write_file(f->file, "No cache.", 9);
	personas_free(f->personas);
	f->personas = NULL;
	expect_written(f, "No cache.");
}

static void expect_refused(struct fixture *f, enum err_code code, const char *says)
{
	struct err e;

	assert_null(written(f, &e));
	if (!strstr(e.text, says) || !strstr(e.text, f->file) ||
	    !strstr(e.text, "persona 'writer'"))
		fail_msg("'%s' should say '%s'", e.text, says);
	assert_int_equal(e.code, code);
}

static void a_file_that_cannot_be_used_is_named(void **state)
{
	struct fixture *f = *state;
	char *large = xmalloc(PERSONA_MAX_SYSTEM_BYTES + 1);

	expect_refused(f, ERR_IO, "No such file");
	write_file(f->file, "\n\n", 2);
	expect_refused(f, ERR_CORRUPT, "is empty");
	write_file(f->file, "a\0b", 3);
	expect_refused(f, ERR_CORRUPT, "UTF-8 (byte 1)");
	write_file(f->file, "ab\xff", 3);
	expect_refused(f, ERR_CORRUPT, "UTF-8 (byte 2)");
	memset(large, 'x', PERSONA_MAX_SYSTEM_BYTES + 1);
	write_file(f->file, large, PERSONA_MAX_SYSTEM_BYTES + 1);
	expect_refused(f, ERR_TOO_LARGE, "larger than 65536 bytes");
	unlink(f->file);
	assert_int_equal(mkdir(f->file, 0700), 0);
	expect_refused(f, ERR_CORRUPT, "is not a file");
	assert_int_equal(rmdir(f->file), 0);
	assert_int_equal(mkfifo(f->file, 0600), 0); /* nobody writes: must not wait */
	expect_refused(f, ERR_CORRUPT, "is not a file");
	free(large);
}

static void the_field_of_the_body_is_read_and_goes_no_further(void **state)
{
	struct openai_params p;
	struct err e = {0};
	struct request *r;

	UNUSED(state);
	r = openai_decode(STR("{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],"
			      "\"persona\":\"reviewer\"}"),
			  true, &p, &e);
	assert_non_null(r);
	assert_string_equal(r->persona, "reviewer");
	assert_null(r->extra_json);
	request_free(r);
	assert_null(openai_decode(STR("{\"messages\":[{\"role\":\"user\",\"content\":"
				      "\"x\"}],\"persona\":5}"),
				  true, &p, &e));
	assert_non_null(strstr(e.text, "'persona'"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			a_persona_fills_what_the_request_left_open, setup, teardown),
		cmocka_unit_test_setup_teardown(what_the_request_says_itself_wins, setup,
						teardown),
		cmocka_unit_test_setup_teardown(
			a_raw_completion_gets_model_and_settings_only, setup, teardown),
		cmocka_unit_test_setup_teardown(without_a_persona_nothing_changes, setup,
						teardown),
		cmocka_unit_test_setup_teardown(
			an_unknown_persona_is_refused_with_the_nearest_name, setup,
			teardown),
		cmocka_unit_test_setup_teardown(
			a_system_file_is_read_when_it_is_needed_and_again_when_it_changed,
			setup, teardown),
		cmocka_unit_test_setup_teardown(a_file_that_cannot_be_used_is_named,
						setup, teardown),
		cmocka_unit_test(the_field_of_the_body_is_read_and_goes_no_further),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
