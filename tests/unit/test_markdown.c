/* Markdown comes out readable, whole and the same however it was cut. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "cli/markdown.h"
#include "cli/markdown_inline.h"
#include "cli/render.h"
#include "tests/unit/sanitized.h"

static int columns_of(void *arg)
{
	return *(int *)arg;
}

/* Renders text in pieces of `piece` bytes (0: one), as the renderer of answers does. */
static char *render(const char *text, size_t n, int columns, size_t piece)
{
	struct markdown *m = markdown_new(columns_of, &columns);
	struct render_filter f = {0};
	struct buf out = {0}, b = {0};

	piece = piece ? piece : n;
	for (size_t i = 0; i < n; i += piece) {
		buf_clear(&b);
		render_filter(&f, &b, text + i, piece < n - i ? piece : n - i);
		markdown_text(m, &out, b.data, b.len);
	}
	buf_clear(&b);
	render_filter_end(&f, &b);
	markdown_text(m, &out, b.data, b.len);
	markdown_end(m, &out);
	markdown_free(m);
	buf_free(&b);
	buf_addc(&out, 0);
	return buf_take(&out, NULL);
}

/* Takes away the SGR sequences; any other escape fails. */
static char *plain(const char *text)
{
	struct buf b = {0};

	for (const char *p = text; *p; p++) {
		if (*p != '\033') {
			buf_addc(&b, *p);
			continue;
		}
		p++;
		assert_int_equal(*p, '[');
		for (p++; *p != 'm'; p++)
			assert_true((*p >= '0' && *p <= '9') || *p == ';');
	}
	buf_addc(&b, 0);
	return buf_take(&b, NULL);
}

/* "\033[0;1m" as <1>, "\033[0m" as <>: readable in a test. */
static char *marked(const char *text)
{
	struct buf b = {0};

	for (const char *p = text; *p; p++) {
		if (*p != '\033') {
			buf_addc(&b, *p);
			continue;
		}
		buf_addc(&b, '<');
		for (p += p[3] == ';' ? 4 : 3; *p != 'm'; p++)
			buf_addc(&b, *p);
		buf_addc(&b, '>');
	}
	buf_addc(&b, 0);
	return buf_take(&b, NULL);
}

static void check(const char *text, const char *want)
{
	size_t n = strlen(text);

	for (size_t piece = 0; piece <= n; piece++) {
		char *got = render(text, n, 80, piece), *m = marked(got);

		assert_string_equal(m, want);
		free(got);
		free(m);
	}
}

static void check_at(int columns, const char *text, const char *want)
{
	char *got = render(text, strlen(text), columns, 1), *p = plain(got);

	assert_string_equal(p, want);
	free(got);
	free(p);
}

static void emphasis_follows_its_flanks(void **state)
{
	UNUSED(state);
	check("a *b* **c** ***d*** _e_ __f f__ ~~g~~",
	      "a <3>b<> <1>c<> <1;3>d<> <3>e<> <1>f f<> <9>g<>\n");
	check("2 * 3 * 4 snake_case_name a*b*c", "2 * 3 * 4 snake_case_name a<3>b<>c\n");
	check("__init__.py **__x__** _`a`_", "__init__.py <1>__x__<> <3;36>a<>\n");
	check("**a *b* c**", "<1>a <1;3>b<1> c<>\n");
	check("**a**b** `*`", "<1>a<>b** <36>*<>\n");
	check("**\xE4\xB8\xAD\xE3\x80\x82**\xE5\x90\x8E",
	      "<1>\xE4\xB8\xAD\xE3\x80\x82<>\xE5\x90\x8E\n");
	check("*a\nb* c", "<3>a<>\n<3>b<> c\n");
}

static void a_marker_without_a_partner_is_shown(void **state)
{
	UNUSED(state);
	check("rm *.o and **kwargs", "rm *.o and **kwargs\n");
	check("*a", "*a\n");
	check("**", "**\n");
	check("a ` b", "a ` b\n");
	check("``a` *b*", "``a` <3>b<>\n");
	check("[a](b", "[a](b\n");
	check("[a] (b) ![c", "[a] (b) ![c\n");
	check("\\", "\\\n");
	check("*a\n\nb*", "*a\n\nb*\n");
	check("$5 *and* $6 $", "$5 <3>and<> $6 $\n");
}

static void code_spans_are_literal(void **state)
{
	UNUSED(state);
	check("`*a*` ``b`c`` `` `d` ``", "<36>*a*<> <36>b`c<> <36>`d`<>\n");
	check("`a\nb`", "<36>a b<>\n");
}

static void links_show_their_address(void **state)
{
	UNUSED(state);
	check("[a *b*](http://x/y_z) c", "<4>a <3;4>b<> <2>(http://x/y_z)<> c\n");
	check("[http://x](http://x)", "<4>http://x<>\n");
	check("![alt](p.png \"t\")", "alt <2>(p.png)<>\n");
	check("[a](<b c>) [d](e(f)g)", "<4>a<> <2>(b c)<> <4>d<> <2>(e(f)g)<>\n");
	check("*[a](b)*", "<3;4>a<3> <2;3>(b)<>\n");
}

static void references_become_characters_but_never_controls(void **state)
{
	UNUSED(state);
	check("&lt;&#65;&#x1F600;&nope;&", "<A\xF0\x9F\x98\x80&nope;&\n");
	check("&#27;[31m &#x9b; &#0; &#10; &#xD800; &#x202E;",
	      "&#27;[31m &#x9b; &#0; &#10; &#xD800; &#x202E;\n");
	check("&#42;a*", "*a*\n");
}

static void tex_and_html_stay_as_they_are(void **state)
{
	UNUSED(state);
	check("$a*b*c$ $$x*y*z$$ \\(p*q*r\\) \\[s*t*u\\]",
	      "$a*b*c$ $$x*y*z$$ \\(p*q*r\\) \\[s*t*u\\]\n");
	check("<b class=\"*x*\">a < b</b>", "<b class=\"*x*\">a < b</b>\n");
}

static void headings_rules_and_escapes(void **state)
{
	UNUSED(state);
	check("# A ##\n## B\n### C #d\n#no", "<1;4>A<>\n<1>B<>\n<1;3>C #d<>\n#no\n");
	check("\\*a\\* \\a", "*a* \\a\n");
	check("a\n\n\n\nb\n\n", "a\n\nb\n");
	check_at(12, "a\n\n---\n* * *\nb", "a\n\n────────────\n────────────\nb\n");
}

static void lists_nest_and_hang(void **state)
{
	UNUSED(state);
	check("- a\n  - b\n    - c\n- d\n\n  e\n\nf",
	      "• a\n  ◦ b\n    • c\n• d\n\n  e\n\nf\n");
	check("1. a\n   * b\n10) c\n2) d", "1. a\n   ◦ b\n10) c\n2) d\n");
	check("- [ ] a\n- [x] b\n- [y] c\n- [", "☐ a\n☑ b\n• [y] c\n• [\n");
	check("-\n- \n  a\n-", "• \n• a\n• \n");
	check("- a\nlazy\n<p>b\n", "• a\n  lazy\n<p>b\n");
	check("a\n2. b\n1. c", "a\n2. b\n1. c\n");
	check_at(16, "- one two three four\n  1. five six seven",
		 "• one two three\n  four\n  1. five six\n     seven\n");
}

static void quotes_have_a_bar_on_each_line(void **state)
{
	UNUSED(state);
	check_at(12, "> one two three\nlazy\n>\n> - a\n> > b\n\nc",
		 "│ one two\n│ three\n│ lazy\n│ \n│ • a\n│ │ b\n\nc\n");
}

static void fences_hold_code_and_end_by_their_own_kind(void **state)
{
	UNUSED(state);
	check("a\n```\n*x*\n\n  y\n```\nb", "a\n\n*x*\n\n  y\n\nb\n");
	check("````\n```\nx\n```\n````\nb", "```\nx\n```\n\nb\n");
	check("~~~ c\nint x;\n```\n~~~", "<36>int<> x;\n```\n");
	check("- a\n  ```sh\n  x\n    y\nz\n  ```\n- b",
	      "• a\n\n  x\n    y\n  z\n\n• b\n");
	check("```c\nint", "<36>int<>\n");
	check("> ```\n> a\n>\n> b\n> ```", "<2>│ <>a\n<2>│ <>\n<2>│ <>b\n");
	check("``` a`b\nc", "``` a`b\nc\n");
	check("a\n\n    *x*\n\n    y\nb", "a\n\n*x*\n\ny\nb\n");
	check("```make\na:\n\tb\n```", "<36>a<>:\n\tb\n");
}

static void code_is_never_wrapped(void **state)
{
	UNUSED(state);
	check_at(10, "```\na b c d e f g h i j k l m n\n```",
		 "a b c d e f g h i j k l m n\n");
}

static void words_wrap_by_display_width(void **state)
{
	UNUSED(state);
	check_at(10, "aaaa bbbb ccc", "aaaa bbbb\nccc\n");
	check_at(10, "aaaa bbbbb ccc", "aaaa bbbbb\nccc\n");
	check_at(10, "a http://a.very/long/address b",
		 "a\nhttp://a.very/long/address b\n");
	check_at(10, "日本語日本語", "日本語日本\n語\n");
	check_at(10, "日本語日本。語", "日本語日\n本。語\n");
	check_at(5,
		 "e\xCC\x81"
		 "e\xCC\x81 e\xCC\x81 x",
		 "e\xCC\x81"
		 "e\xCC\x81 e\xCC\x81\nx\n");
	/* a family is one picture of two columns, a flag too */
	check_at(
		7,
		"\xF0\x9F\x91\xA8\xE2\x80\x8D\xF0\x9F\x91\xA9 \xF0\x9F\x87\xA9\xF0\x9F\x87\xAA x",
		"\xF0\x9F\x91\xA8\xE2\x80\x8D\xF0\x9F\x91\xA9 \xF0\x9F\x87\xA9\xF0\x9F\x87\xAA x\n");
}

static void tables_line_up_and_wrap_inside(void **state)
{
	UNUSED(state);
	check_at(80, "| a | bb |\n|---|--:|\n| ccc | d |\n| 日 | `e` |\n\nf",
		 "a   │ bb\n────┼───\nccc │  d\n日  │  e\n\nf\n");
	check_at(20, "|a|b|\n|-|-|\n|one two three four|five six seven|",
		 "a        │ b\n"
		 "─────────┼─────────\n"
		 "one two  │ five six\n"
		 "three    │ seven\n"
		 "four     │ \n");
	check_at(10, "|a|b|\n|-|-|\n|c|d|\n|e|f and more|",
		 "a │ b\n──┼───────\nc │ d\ne │ f and\n  │ more\n");
	check_at(10, "|a|b|c|\n|-|-|-|\n|dddddd|eeeeee|ffffff|",
		 "a: dddddd\nb: eeeeee\nc: ffffff\n\n");
	check("| a | b |\nc", "| a | b |\nc\n");
	check("| a |\n", "| a |\n");
	check_at(80, "|a|b|\n|-|-|\n|c|d|e|", "a │ b\n──┼────\nc │ d|e\n");
}

static void a_resize_takes_effect_on_the_next_line(void **state)
{
	int columns = 20;
	struct markdown *m = markdown_new(columns_of, &columns);
	struct buf out = {0};

	UNUSED(state);
	markdown_text(m, &out, "aaaa bbbb cccc dddd ", 20);
	columns = 10;
	markdown_text(m, &out, "eeee ffff gggg", 14);
	markdown_end(m, &out);
	assert_string_equal(out.data, "aaaa bbbb cccc dddd\neeee ffff\ngggg\n");
	buf_free(&out);
	markdown_free(m);
}

static void what_is_certain_appears_at_once(void **state)
{
	static const struct {
		const char *text, *shown;
	} table[] = {{"one two", "one"},
		     {"one two ", "one two"},
		     {"one **two", "one"},
		     {"one **two** ", "one <1>two"},
		     {"# Titl", "<1;4>Titl"},
		     {"- it", "• it"},
		     {"```c\nint x", "<36>int<> "},
		     {"```c\nint x = \"ab", "<36>int<> x = <32>\"ab"},
		     {"> a ", "<2>│ <>a"}};
	int columns = 80;

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		struct markdown *m = markdown_new(columns_of, &columns);
		struct buf out = {0};
		char *got;

		markdown_text(m, &out, table[i].text, strlen(table[i].text));
		got = marked(out.data ? out.data : "");
		assert_string_equal(got, table[i].shown);
		free(got);
		buf_free(&out);
		markdown_free(m);
	}
}

static void a_span_of_more_than_a_line_shows_its_markers(void **state)
{
	char words[2 * MARKDOWN_HOLD], text[sizeof words + 8], *got, *p;

	UNUSED(state);
	memset(words, 'x', sizeof words);
	words[sizeof words - 1] = 0;
	snprintf(text, sizeof text, "**%s** y", words);
	got = render(text, strlen(text), 1000, 1);
	p = marked(got);
	assert_memory_equal(p, "**<1>x", 6);
	assert_non_null(strstr(p, "x**<> y\n"));
	free(got);
	free(p);
	snprintf(text, sizeof text, "`%s` y", words);
	got = render(text, strlen(text), 1000, 1);
	p = marked(got);
	assert_memory_equal(p, "<36>`x", 6);
	assert_non_null(strstr(p, "x`<> y\n"));
	free(got);
	free(p);
}

/* -- properties */

static uint64_t next_random(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s;
}

static const char *const pieces[] = {
	"*",         "**",     "_",
	"__",        "`",      "``",
	"```",       "~~",     "~~~",
	"#",         "## ",    ">",
	"> ",        "- ",     "+ ",
	"1. ",       "2) ",    "[",
	"](",        ")",      "!",
	"<",         "&",      "$",
	"$$",        "\\",     "|",
	"|-|-|\n",   "---",    "===",
	" ",         "    ",   "\t",
	"\n",        "\n",     "\n\n",
	"a",         "b",      "word ",
	"c1",        "日本",   "\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x92\xBB",
	"e\xCC\x81", "[ ] ",   "\"",
	"'",         "/*",     "*/",
	"//",        ":",      "\033[31m",
	"\xC3",      "```c\n", "\n```\n",
	";"};

/* without: pieces that hold one of these are left out. */
static size_t random_text(uint64_t *seed, char *text, size_t cap, size_t most,
			  const char *without)
{
	size_t n = 0, count = next_random(seed) % most;

	while (count--) {
		const char *p = pieces[next_random(seed) % ARRAY_LEN(pieces)];

		if (strpbrk(p, without))
			continue;
		if (n + strlen(p) >= cap)
			break;
		memcpy(text + n, p, strlen(p));
		n += strlen(p);
	}
	text[n] = 0;
	return n;
}

static void any_cut_gives_the_same_bytes(void **state)
{
	uint64_t seed = 88172645463325252;
	char text[2048];

	UNUSED(state);
	for (int round = 0; round < 3000; round++) {
		size_t n = random_text(&seed, text, sizeof text, 120, "");
		int columns = (int)(next_random(&seed) % 90);
		char *whole = render(text, n, columns, 0);

		for (size_t piece = 1; piece < 6; piece++) {
			char *got = render(text, n, columns, piece);

			if (strcmp(got, whole))
				print_message("text: %s\n", text);
			assert_string_equal(got, whole);
			free(got);
		}
		free(whole);
	}
}

/* Renders text cut behind each byte whose bit is set. */
static char *render_cut(const char *text, size_t n, unsigned cuts)
{
	int columns = 12;
	struct markdown *m = markdown_new(columns_of, &columns);
	struct render_filter f = {0};
	struct buf out = {0}, b = {0};

	for (size_t i = 0, from = 0; i < n; i++) {
		if (i < n - 1 && !(cuts >> i & 1))
			continue;
		buf_clear(&b);
		render_filter(&f, &b, text + from, i + 1 - from);
		markdown_text(m, &out, b.data, b.len);
		from = i + 1;
	}
	buf_clear(&b);
	render_filter_end(&f, &b);
	markdown_text(m, &out, b.data, b.len);
	markdown_end(m, &out);
	markdown_free(m);
	buf_free(&b);
	buf_addc(&out, 0);
	return buf_take(&out, NULL);
}

static void every_possible_cut_of_a_small_text_gives_the_same_bytes(void **state)
{
	uint64_t seed = 99;
	char text[10];

	UNUSED(state);
	for (int round = 0; round < 200; round++) {
		size_t n = random_text(&seed, text, sizeof text, 9, "");
		char *whole = render_cut(text, n, 0);

		for (unsigned cuts = 1; n > 1 && cuts < 1u << (n - 1); cuts++) {
			char *got = render_cut(text, n, cuts);

			assert_string_equal(got, whole);
			free(got);
		}
		free(whole);
	}
}

static void no_letter_is_lost(void **state)
{
	uint64_t seed = 2463534242;
	char text[2048];
	int checked = 0;

	UNUSED(state);
	for (int round = 0; round < 5000; round++) {
		size_t n = random_text(&seed, text, sizeof text, 100, "\"'\033");
		char *got, *p;
		const char *at;

		/* an info string and a title are not shown; other letters come with records */
		if (strstr(text, "```") || strstr(text, "~~~") || strstr(text, "|-"))
			continue;
		checked++;
		got = render(text, n, 40, 1);
		p = plain(got);
		at = p;
		for (size_t i = 0; i < n; i++) {
			if (!strchr("abcdorw", text[i]))
				continue;
			at = strchr(at, text[i]);
			if (!at)
				print_message("lost '%c' at %zu of: %s\nin: %s\n",
					      text[i], i, text, p);
			assert_non_null(at);
			at++;
		}
		free(got);
		free(p);
	}
	assert_true(checked > 500);
}

static void styles_are_closed_at_the_end_of_each_line(void **state)
{
	uint64_t seed = 7;
	char text[2048];

	UNUSED(state);
	for (int round = 0; round < 2000; round++) {
		size_t n = random_text(&seed, text, sizeof text, 100, "");
		char *got = render(text, n, 30, 0);
		bool on = false;

		for (const char *p = got; *p; p++) {
			if (*p == '\033')
				on = memcmp(p, "\033[0m", 4) != 0;
			assert_false(*p == '\n' && on);
		}
		assert_false(on);
		if (*got)
			assert_int_equal(got[strlen(got) - 1], '\n');
		free(plain(got)); /* only SGR */
		free(got);
	}
}

/* A megabyte of each: done in well under a second where it is linear, never where it is not. */
static void a_megabyte_of_any_marker_is_done(void **state)
{
	static const char *const units[] = {
		"a",     "`",   "*",         "> ",           ">",        "_a",
		"*a ",   "[",   "[](",       "![",           "](",       "<a",
		"&a",    "$a ", "- ",        "1. ",          "|",        "| a ",
		"#",     "\\",  "a`",        "**a ",         "``a`",     "\t",
		" ",     "~~a", "[a](b)",    "\n>",          "a \n",     "|a|\n",
		"```\n", "日",  "e\xCC\x81", "\xE2\x80\x8D", "- - - - ", "[a](<",
		"$a",    "\\[", "**a* "};
	enum { BYTES = SANITIZED ? 1 << 17 : 1 << 20 };
	char *text = xmalloc(BYTES);

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(units); i++) {
		size_t len = strlen(units[i]);
		char *got;

		for (size_t n = 0; n < BYTES; n++)
			text[n] = units[i][n % len];
		got = render(text, BYTES, 80, 61);
		free(got);
	}
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(emphasis_follows_its_flanks),
		cmocka_unit_test(a_marker_without_a_partner_is_shown),
		cmocka_unit_test(code_spans_are_literal),
		cmocka_unit_test(links_show_their_address),
		cmocka_unit_test(references_become_characters_but_never_controls),
		cmocka_unit_test(tex_and_html_stay_as_they_are),
		cmocka_unit_test(headings_rules_and_escapes),
		cmocka_unit_test(lists_nest_and_hang),
		cmocka_unit_test(quotes_have_a_bar_on_each_line),
		cmocka_unit_test(fences_hold_code_and_end_by_their_own_kind),
		cmocka_unit_test(code_is_never_wrapped),
		cmocka_unit_test(words_wrap_by_display_width),
		cmocka_unit_test(tables_line_up_and_wrap_inside),
		cmocka_unit_test(a_resize_takes_effect_on_the_next_line),
		cmocka_unit_test(what_is_certain_appears_at_once),
		cmocka_unit_test(a_span_of_more_than_a_line_shows_its_markers),
		cmocka_unit_test(any_cut_gives_the_same_bytes),
		cmocka_unit_test(every_possible_cut_of_a_small_text_gives_the_same_bytes),
		cmocka_unit_test(no_letter_is_lost),
		cmocka_unit_test(styles_are_closed_at_the_end_of_each_line),
		cmocka_unit_test(a_megabyte_of_any_marker_is_done),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
