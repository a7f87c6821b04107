/* Pastes and the history of prompts, without a terminal. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "cli/lines_history.h"
#include "cli/lines_paste.h"

static void check_paste(const char *raw, size_t n, const char *want)
{
	struct pastes p = {0};
	char *shown = pastes_take(&p, (struct str){raw, n});

	assert_string_equal(shown, want);
	assert_int_equal(p.n, 0);
	free(shown);
}

static void a_small_paste_has_newlines_for_returns_and_no_broken_bytes(void **state)
{
	UNUSED(state);
	check_paste("a\rb\r\nc\nd", 8, "a\nb\nc\nd");
	check_paste("a\0b\xFFz\xE6\x97\xA5", 8, "ab\xEF\xBF\xBDz\xE6\x97\xA5");
	check_paste("", 0, "");
}

static char *lines_of(int n, char c)
{
	struct buf b = {0};

	for (int i = 0; i < n; i++)
		buf_addf(&b, "%c%d\n", c, i);
	return buf_take(&b, NULL);
}

static void a_large_paste_is_a_placeholder_until_it_is_sent(void **state)
{
	struct pastes p = {0};
	char *a = lines_of(20, 'a'), *b = lines_of(20, 'b');
	char *mark_a = pastes_take(&p, str_of(a)), *mark_b = pastes_take(&p, str_of(b));
	char *line = xasprintf("x [pasted %s y [pasted 20 lines #2] z [pasted 9 lines]",
			       "20 lines]");
	char *want = xasprintf("x %s y %s z [pasted 9 lines]", a, b);
	struct buf out = {0};

	UNUSED(state);
	assert_string_equal(mark_a, "[pasted 20 lines]");
	assert_string_equal(mark_b, "[pasted 20 lines #2]");
	pastes_expand(&p, str_of(line), &out);
	assert_string_equal(out.data, want);
	pastes_clear(&p);
	buf_free(&out);
	free(a);
	free(b);
	free(mark_a);
	free(mark_b);
	free(line);
	free(want);
}

static void a_placeholder_is_found_only_where_it_ends(void **state)
{
	struct pastes p = {0};
	char *a = lines_of(20, 'a'), *mark = pastes_take(&p, str_of(a));

	UNUSED(state);
	assert_int_equal(pastes_ending(&p, str_of("ab[pasted 20 lines]")), strlen(mark));
	assert_int_equal(pastes_ending(&p, str_of("[pasted 20 lines] ")), 0);
	assert_int_equal(pastes_ending(&p, str_of("")), 0);
	pastes_clear(&p);
	free(a);
	free(mark);
}

static void the_end_of_a_paste_is_found_when_it_came_in_pieces(void **state)
{
	static const char all[] = "text\033[20\033[201~rest";
	struct buf b = {0};

	UNUSED(state);
	for (size_t i = 0; i < sizeof all - 1; i++) {
		long want = b.len >= 14 ? 8 : -1;

		assert_int_equal(paste_end(&b, b.len > 5 && want < 0 ? b.len - 6 : 0),
				 want);
		buf_addc(&b, all[i]);
	}
	buf_free(&b);
}

static char *make_path(void)
{
	char dir[] = "/tmp/hob-lines-XXXXXX";

	assert_non_null(mkdtemp(dir));
	return xasprintf("%s/history", dir);
}

static void drop_path(char *path)
{
	unlink(path);
	*strrchr(path, '/') = '\0';
	assert_int_equal(rmdir(path), 0); /* and nothing else was left there */
	free(path);
}

static void entries_of_several_lines_come_back_whole(void **state)
{
	static const char *const texts[] = {"one",
					    "two\nlines\n and \\ a backslash \\012",
					    "\ttab \xE6\x97\xA5\xE6\x9C\xAC \x7F"};
	char *path = make_path();
	struct lines_history *h = lines_history_open(path);
	struct stat st;

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		lines_history_add(h, texts[i], true);
	lines_history_add(h, "a secret", false);
	assert_string_equal(lines_history_at(h, 0), "a secret");
	lines_history_close(h);
	h = lines_history_open(path);
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		assert_string_equal(lines_history_at(h, (int)(ARRAY_LEN(texts) - 1 - i)),
				    texts[i]);
	assert_null(lines_history_at(h, (int)ARRAY_LEN(texts)));
	lines_history_close(h);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	drop_path(path);
}

static void two_programs_lose_none_of_each_others_entries(void **state)
{
	char *path = make_path();
	struct lines_history *a = lines_history_open(path), *b = lines_history_open(path);
	int n = 0;

	UNUSED(state);
	for (int i = 0; i < 50; i++) {
		char *text = xasprintf("entry %d", i);

		lines_history_add(i % 3 ? a : b, text, true);
		free(text);
	}
	lines_history_close(a);
	lines_history_close(b);
	a = lines_history_open(path);
	while (lines_history_at(a, n))
		n++;
	assert_int_equal(n, 50);
	assert_string_equal(lines_history_at(a, 0), "entry 49");
	lines_history_close(a);
	drop_path(path);
}

static void a_file_that_grew_too_long_keeps_the_newest(void **state)
{
	char *path = make_path();
	FILE *f = fopen(path, "w");
	struct lines_history *h;
	struct stat st;

	UNUSED(state);
	assert_non_null(f);
	fputs("_HiStOrY_V2_\n", f);
	for (int i = 0; i < 3 * LINES_HISTORY_MAX; i++)
		fprintf(f, "entry\\040%d\n", i);
	fclose(f);
	h = lines_history_open(path);
	assert_string_equal(lines_history_at(h, 0), "entry 2999");
	lines_history_add(h, "one more", true);
	lines_history_close(h);
	assert_int_equal(stat(path, &st), 0);
	assert_true(st.st_size < 20 * LINES_HISTORY_MAX);
	h = lines_history_open(path);
	assert_string_equal(lines_history_at(h, 0), "one more");
	assert_string_equal(lines_history_at(h, 1), "entry 2999");
	lines_history_close(h);
	drop_path(path);
}

static void a_link_or_a_folder_is_no_history_file(void **state)
{
	char *path = make_path();
	struct lines_history *h;

	UNUSED(state);
	assert_int_equal(symlink("/dev/null", path), 0);
	h = lines_history_open(path);
	lines_history_add(h, "kept in memory", true);
	assert_string_equal(lines_history_at(h, 0), "kept in memory");
	lines_history_close(h);
	drop_path(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			a_small_paste_has_newlines_for_returns_and_no_broken_bytes),
		cmocka_unit_test(a_large_paste_is_a_placeholder_until_it_is_sent),
		cmocka_unit_test(a_placeholder_is_found_only_where_it_ends),
		cmocka_unit_test(the_end_of_a_paste_is_found_when_it_came_in_pieces),
		cmocka_unit_test(entries_of_several_lines_come_back_whole),
		cmocka_unit_test(two_programs_lose_none_of_each_others_entries),
		cmocka_unit_test(a_file_that_grew_too_long_keeps_the_newest),
		cmocka_unit_test(a_link_or_a_folder_is_no_history_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
