/* Source code keeps its bytes and gets its colours, however it was cut. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "cli/highlight.h"
#include "tests/unit/sanitized.h"

/* Each token that is not plain as <k:token>. */
struct seen {
	struct buf marked, raw;
	enum highlight_kind kind;
};

static const char letters[HIGHLIGHT_NR] = "pktsncdARH";

static void change(struct seen *s, enum highlight_kind kind)
{
	if (s->kind == kind)
		return;
	if (s->kind)
		buf_addc(&s->marked, '>');
	if (kind)
		buf_addf(&s->marked, "<%c:", letters[kind]);
	s->kind = kind;
}

static void see(void *arg, const char *p, size_t n, enum highlight_kind kind)
{
	struct seen *s = arg;

	assert_true(n > 0);
	assert_true(!memchr(p, '\n', n) || n == 1);
	if (*p == '\n')
		kind = HIGHLIGHT_PLAIN;
	change(s, kind);
	buf_add(&s->marked, p, n);
	buf_add(&s->raw, p, n);
}

/* A piece is at least one whole character, as the renderer's are. */
static void run(struct seen *s, const char *lang, const char *text, size_t n,
		size_t piece)
{
	struct highlight h;

	highlight_init(&h, see, s);
	highlight_start(&h, str_of(lang));
	for (size_t i = 0, end; i < n; i = end) {
		end = piece && i + piece < n ? i + piece : n;
		while (end < n && ((unsigned char)text[end] & 0xC0) == 0x80)
			end++;
		highlight_text(&h, text + i, end - i);
	}
	highlight_end(&h);
	highlight_fini(&h);
	change(s, HIGHLIGHT_PLAIN);
	buf_addc(&s->marked, 0);
	buf_addc(&s->raw, 0);
}

static void check(const char *lang, const char *text, const char *want)
{
	size_t n = strlen(text);

	for (size_t piece = 0; piece <= n; piece++) {
		struct seen s = {0};

		run(&s, lang, text, n, piece);
		assert_string_equal(s.marked.data, want);
		assert_string_equal(s.raw.data, text);
		buf_free(&s.marked);
		buf_free(&s.raw);
	}
}

static void c_has_keywords_types_strings_numbers_comments(void **state)
{
	UNUSED(state);
	check("c", "static int x = 0x1fUL; // no\nreturn \"a\\\"b\" + 'c';",
	      "<k:static> <t:int> x = <n:0x1fUL>; <c:// no>\n<k:return> <s:\"a\\\"b\"> + <s:'c'>;");
	check("C++", "/* a\nb */ int y = 1'000;",
	      "<c:/* a>\n<c:b */> <t:int> y = <n:1'000>;");
	check("c", "#include <x>\n  #if 1\na # b",
	      "<d:#include> <x>\n  <d:#if> <n:1>\na # b");
	check("c", "int_x x1 returned /", "int_x x1 returned /");
	check("c", "\"open\nint", "<s:\"open>\n<t:int>");
}

static void python_has_long_strings_and_decorators(void **state)
{
	UNUSED(state);
	check("python", "@a.b\ndef f():\n\t\"\"\"x\n\"y\" # z\"\"\" # c",
	      "<d:@a>.b\n<k:def> f():\n\t<s:\"\"\"x>\n<s:\"y\" # z\"\"\"> <c:# c>");
	check("py", "x = '' or None", "x = <s:''> <k:or> <t:None>");
}

static void javascript_has_template_strings_over_lines(void **state)
{
	UNUSED(state);
	check("ts", "const a = `x\n${y} \\` `; $b",
	      "<k:const> a = <s:`x>\n<s:${y} \\` `>; $b");
	check("json", "{\"a\": [1.5e3, true]}", "{<s:\"a\">: [<n:1.5e3>, <t:true>]}");
}

static void rust_tells_a_lifetime_from_a_character(void **state)
{
	UNUSED(state);
	check("rust", "fn f<'a>(x: &'a str) { 'x' '\\'' '\xE6\x97\xA5' }",
	      "<k:fn> f<'a>(x: &'a <t:str>) { <s:'x'> <s:'\\''> <s:'\xE6\x97\xA5'> }");
}

static void a_shell_has_variables_and_comments_only_at_words(void **state)
{
	UNUSED(state);
	check("bash", "for i in $x; do echo ${y}#z '$n' # c",
	      "<k:for> i <k:in> <t:$x>; <k:do> <t:echo> <t:${y}>#z <s:'$n'> <c:# c>");
}

static void other_languages(void **state)
{
	UNUSED(state);
	check("sql", "SELECT 'it''s' FROM t -- c",
	      "<k:SELECT> <s:'it''s'> <k:FROM> t <c:-- c>");
	check("html", "<!-- c --><a href=\"x\">it's \"if\"</a>",
	      "<c:<!-- c -->><k:<a> <t:href>=<s:\"x\"><k:>>it's \"if\"<k:</a>>");
	check("yaml", "a-b: 1 # c\n- url: http://x",
	      "<t:a-b>: <n:1> <c:# c>\n- <t:url>: http://x");
	check("toml", "[a.b]\nc = [1]", "<d:[a.b]>\nc = [<n:1>]");
	check("go", "func f() { x := `a\nb` }", "<k:func> f() { x := <s:`a>\n<s:b`> }");
	check("lua", "--[[ a\nb ]] local x -- c",
	      "<c:--[[ a>\n<c:b ]]> <k:local> x <c:-- c>");
	check("make", "all: $(X)\n\t$@", "<t:all>: <t:$(X)>\n\t$@");
	check("dockerfile", "FROM a\nRUN b", "<k:FROM> a\n<k:RUN> b");
}

static void diff_goes_by_lines(void **state)
{
	UNUSED(state);
	check("diff", "--- a\n+++ b\n@@ -1 @@\n-x\n+y\n z\n-\n--",
	      "<d:--- a>\n<d:+++ b>\n<H:@@ -1 @@>\n<R:-x>\n<A:+y>\n z\n<R:->\n<R:-->");
}

static void names_of_languages_have_aliases_in_any_case(void **state)
{
	static const char *const known[] = {
		"c",    "C++", "Python", "js",   "tsx",  "Rust",  "sh",  "yml",  "SQL",
		"html", "css", "java",   "ruby", "toml", "elisp", "vim", "patch"};

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		assert_non_null(highlight_lang(str_of(known[i])));
	assert_null(highlight_lang(str_of("klingon")));
	assert_null(highlight_lang(str_of("")));
	assert_null(highlight_lang(str_of("c h")));
	check("klingon", "int \"x\" // y\n", "int \"x\" // y\n");
	check("python title=\"x\"", "if 1", "<k:if> <n:1>");
}

static const char *const pieces[] = {
	"\"",     "'",    "`",
	"\"\"\"", "\\",   "/*",
	"*/",     "//",   "#",
	"--",     "[[",   "]]",
	"<",      ">",    "<!--",
	"-->",    "@",    "$",
	"${",     "}",    "\n",
	"\n",     " ",    "\t",
	"int",    "if",   "a",
	"1",      "1.5",  "0x",
	":",      "-",    "+",
	"=",      "日",   "é",
	"=begin", "[",    "]",
	"_",      "--- ", "a_name_that_is_longer_than_any_that_is_held_back_"};

static void every_byte_comes_out_once_in_any_language_and_cut(void **state)
{
	static const char *const names[] = {
		"c",    "python", "js",   "json",   "go",  "rust", "java",
		"sh",   "sql",    "html", "css",    "lua", "ruby", "yaml",
		"toml", "make",   "diff", "docker", "vim", "lisp", "none"};
	uint64_t seed = 1234567;
	char text[4096];

	UNUSED(state);
	for (int round = 0; round < 4000; round++) {
		const char *lang = names[(size_t)round % ARRAY_LEN(names)];
		struct seen whole = {0}, parts = {0};
		size_t n = 0;

		for (seed = seed * 6364136223846793005u + 1; n < 40 + (seed >> 56);) {
			const char *p;

			seed = seed * 6364136223846793005u + 1442695040888963407u;
			p = pieces[(seed >> 33) % ARRAY_LEN(pieces)];
			memcpy(text + n, p, strlen(p) + 1);
			n += strlen(p);
		}
		run(&whole, lang, text, n, 0);
		run(&parts, lang, text, n, 1 + (size_t)round % 5);
		assert_string_equal(whole.raw.data, text);
		if (strcmp(parts.marked.data, whole.marked.data))
			print_message("%s: %s\n", lang, text);
		assert_string_equal(parts.marked.data, whole.marked.data);
		buf_free(&whole.marked);
		buf_free(&whole.raw);
		buf_free(&parts.marked);
		buf_free(&parts.raw);
	}
}

static void ignore(void *arg, const char *p, size_t n, enum highlight_kind kind)
{
	UNUSED(p);
	UNUSED(kind);
	*(size_t *)arg += n;
}

/* A megabyte of each, in small pieces: done where it is linear. */
static void a_megabyte_on_one_line_is_done(void **state)
{
	enum { BYTES = SANITIZED ? 1 << 17 : 1 << 20 };
	char *text = xmalloc(BYTES);

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
		size_t len = strlen(pieces[i]), got = 0;
		struct highlight h;

		for (size_t n = 0; n < BYTES; n++)
			text[n] = pieces[i][n % len];
		highlight_init(&h, ignore, &got);
		highlight_start(&h, STR("rust"));
		for (size_t n = 0; n < BYTES; n += 64)
			highlight_text(&h, text + n, 64);
		highlight_end(&h);
		highlight_fini(&h);
		assert_int_equal(got, BYTES);
	}
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(c_has_keywords_types_strings_numbers_comments),
		cmocka_unit_test(python_has_long_strings_and_decorators),
		cmocka_unit_test(javascript_has_template_strings_over_lines),
		cmocka_unit_test(rust_tells_a_lifetime_from_a_character),
		cmocka_unit_test(a_shell_has_variables_and_comments_only_at_words),
		cmocka_unit_test(other_languages),
		cmocka_unit_test(diff_goes_by_lines),
		cmocka_unit_test(names_of_languages_have_aliases_in_any_case),
		cmocka_unit_test(every_byte_comes_out_once_in_any_language_and_cut),
		cmocka_unit_test(a_megabyte_on_one_line_is_done),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
