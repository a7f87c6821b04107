/* The user's words as an expression of FTS5: what it looks like, and that FTS5 takes every one. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <sqlite3.h>
#include <stdlib.h>
#include "memory/search_query.h"
#include "memory/store_search.h"

static void check(const char *words, const char *expression)
{
	struct buf b = {0};
	struct err e = {0};

	if (search_query(str_of(words), &b, &e) < 0)
		fail_msg("'%s': %s", words, e.text);
	assert_string_equal(b.data, expression);
	buf_free(&b);
}

static enum err_code refused(const char *words, size_t len)
{
	struct buf b = {0};
	struct err e = {0};

	search_query((struct str){words, len}, &b, &e);
	buf_free(&b);
	return e.code;
}

static void words_become_quoted_strings_that_must_all_be_there(void **state)
{
	(void)state;
	check("one", "(\"one\")");
	check("  one\ttwo\n", "(\"one\" \"two\")");
	check("\"one two\" three", "(\"one two\" \"three\")");
	check("state-of-the-art", "(\"state-of-the-art\")");
	check("Grüße 你好", "(\"Grüße\" \"你好\")");
}

static void a_star_asks_for_a_beginning_and_a_dash_excludes(void **state)
{
	(void)state;
	check("pre*", "(\"pre\" *)");
	check("pre***", "(\"pre\" *)");
	check("\"two wor\"*", "(\"two wor\" *)");
	check("yes -no", "(\"yes\") NOT (\"no\")");
	check("-no yes -\"not that\" -nev*",
	      "(\"yes\") NOT (\"no\" OR \"not that\" OR \"nev\" *)");
	check("a*b", "(\"a*b\")");
}

static void operators_of_fts5_are_words(void **state)
{
	(void)state;
	check("NOT", "(\"NOT\")");
	check("a OR b", "(\"a\" \"OR\" \"b\")");
	check("NEAR(a b, 5)", "(\"NEAR(a\" \"b,\" \"5)\")");
	check("text:secret", "(\"text:secret\")");
	check("{text} : ^a + b", "(\"{text}\" \"^a\" \"b\")");
	check("a\"b", "(\"a\" \"b\")");
	check("\"unclosed and", "(\"unclosed and\")");
	check("\"\" x \"", "(\"x\")");
	check("a;DROP TABLE message", "(\"a;DROP\" \"TABLE\" \"message\")");
}

static void what_has_no_word_is_refused(void **state)
{
	static const char *const none[] = {"",    " ",   "\"\"", "\"",   "-",
					   "*",   "()",  "-no",  ":*^+", "- -",
					   "-\"", "...", "\t\n"};
	char many[STORE_MAX_QUERY_BYTES + 1];

	(void)state;
	for (size_t i = 0; i < sizeof(none) / sizeof(*none); i++)
		assert_int_equal(refused(none[i], strlen(none[i])), ERR_INVALID);
	memset(many, 'a', sizeof(many));
	assert_int_equal(refused(many, sizeof(many)), ERR_TOO_LARGE);
	assert_int_equal(refused(many, sizeof(many) - 1), ERR_NONE);
}

static void broken_utf_8_and_control_characters_separate(void **state)
{
	(void)state;
	check("a\xff"
	      "b",
	      "(\"a\" \"b\")");
	check("\"a\xc3\"", "(\"a \")");
	check("\"a\002b\003\"", "(\"a b \")");
	check("a\177b", "(\"a\" \"b\")");
}

/* A table with the words of the alphabet that the random queries are made of. */
static sqlite3_stmt *table(sqlite3 **db)
{
	sqlite3_stmt *st = NULL;

	assert_int_equal(sqlite3_open(":memory:", db), SQLITE_OK);
	assert_int_equal(
		sqlite3_exec(*db,
			     "CREATE VIRTUAL TABLE f USING fts5(text, "
			     "tokenize='unicode61 remove_diacritics 2');"
			     "INSERT INTO f VALUES ('or and not near a b text é 你')",
			     NULL, NULL, NULL),
		SQLITE_OK);
	assert_int_equal(sqlite3_prepare_v2(*db, "SELECT rowid FROM f WHERE f MATCH ?1",
					    -1, &st, NULL),
			 SQLITE_OK);
	return st;
}

static int match(sqlite3_stmt *st, struct str words)
{
	struct buf b = {0};
	struct err e = {0};
	int rc = SQLITE_DONE;

	if (search_query(words, &b, &e) == 0) {
		sqlite3_bind_text(st, 1, b.data, (int)b.len, SQLITE_STATIC);
		rc = sqlite3_step(st);
		if (rc != SQLITE_ROW && rc != SQLITE_DONE)
			fail_msg("'%.*s' became %s: %d", (int)words.len, words.ptr,
				 b.data, rc);
		sqlite3_reset(st);
	}
	buf_free(&b);
	return rc;
}

static void fts5_takes_whatever_a_user_types(void **state)
{
	static const char *const pieces[] = {
		"\"", "'",    "(",     ")",        "*",    "-",     ":",     "^",
		"+",  "{",    "}",     ",",        " OR ", " AND ", " NOT ", "NEAR(",
		" a", " b ",  "text:", " ",        "\xff", "é",     "你",    "—",
		"…",  "\002", "\\",    "\xf0\x9f", "%",    ";"};
	unsigned seed = 6;
	char words[STORE_MAX_QUERY_BYTES];
	sqlite3 *db;
	sqlite3_stmt *st = table(&db);
	int found = 0;

	(void)state;
	for (int i = 0; i < 20000; i++) {
		size_t len = 0;

		for (int n = rand_r(&seed) % 12 + 1; n > 0; n--) {
			const char *p = pieces[(size_t)rand_r(&seed) %
					       (sizeof(pieces) / sizeof(*pieces))];

			memcpy(words + len, p, strlen(p));
			len += strlen(p);
		}
		found += match(st, (struct str){words, len}) == SQLITE_ROW;
	}
	assert_true(found > 100); /* else only refusals were tried */
	sqlite3_finalize(st);
	sqlite3_close(db);
}

static void the_longest_query_is_one_that_fts5_takes(void **state)
{
	char words[STORE_MAX_QUERY_BYTES];
	sqlite3 *db;
	sqlite3_stmt *st = table(&db);

	(void)state;
	for (size_t i = 0; i < sizeof(words); i++)
		words[i] = i % 2 ? ' ' : 'a';
	assert_int_equal(match(st, (struct str){words, sizeof(words)}), SQLITE_ROW);
	for (size_t i = 0; i + 4 < sizeof(words); i += 4)
		memcpy(words + i, i ? " -z*" : "a   ", 4);
	assert_int_equal(match(st, (struct str){words, sizeof(words) - 4}), SQLITE_ROW);
	memset(words, '"', sizeof(words));
	words[0] = 'a';
	assert_int_equal(match(st, (struct str){words, sizeof(words)}), SQLITE_ROW);
	sqlite3_finalize(st);
	sqlite3_close(db);
}

static void a_term_without_a_token_counts_for_nothing(void **state)
{
	sqlite3 *db;
	sqlite3_stmt *st = table(&db);

	(void)state;
	assert_int_equal(match(st, STR("a — b")), SQLITE_ROW);
	assert_int_equal(match(st, STR("a -—")), SQLITE_ROW);
	assert_int_equal(match(st, STR("a -b")), SQLITE_DONE);
	assert_int_equal(match(st, STR("E")), SQLITE_ROW); /* é without its accent */
	sqlite3_finalize(st);
	sqlite3_close(db);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(words_become_quoted_strings_that_must_all_be_there),
		cmocka_unit_test(a_star_asks_for_a_beginning_and_a_dash_excludes),
		cmocka_unit_test(operators_of_fts5_are_words),
		cmocka_unit_test(what_has_no_word_is_refused),
		cmocka_unit_test(broken_utf_8_and_control_characters_separate),
		cmocka_unit_test(fts5_takes_whatever_a_user_types),
		cmocka_unit_test(the_longest_query_is_one_that_fts5_takes),
		cmocka_unit_test(a_term_without_a_token_counts_for_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
