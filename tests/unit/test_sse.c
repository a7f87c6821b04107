/* Server-sent events: a corpus, each text of it split at every byte. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "net/sse.h"

/* Events are written down as "type|data;" each. */
static const struct {
	const char *text, *want;
} corpus[] = {
	{"data: a\n\ndata: b\n\n", "|a;|b;"},
	{"data: a\r\n\r\ndata: b\r\n\r\n", "|a;|b;"},
	{"data: a\r\rdata: b\r\r", "|a;|b;"},
	{"data: a\r\n\ndata: b\n\r\n", "|a;|b;"},
	{"data:a\n\n", "|a;"},
	{"data:  two spaces\n\n", "| two spaces;"},
	{"data\n\n", "|;"},
	{"data: one\ndata: two\ndata\n\n", "|one\ntwo\n;"},
	{": comment\n\n:another\ndata: x\n\n", "|x;"},
	{"event: delta\ndata: x\n\ndata: y\n\n", "delta|x;|y;"},
	{"event: empty\n\ndata: y\n\n", "|y;"},
	{"id: 7\nretry: 10\nwhatever: z\nnocolon\ndata: x\n\n", "|x;"},
	{"\xef\xbb\xbf"
	 "data: bom\n\n",
	 "|bom;"},
	{"\xef\xbb"
	 "data: no bom\n\ndata: x\n\n",
	 "|x;"},
	{"data: \xf0\x9f\x94\xa5 fire\n\n", "|\xf0\x9f\x94\xa5 fire;"},
	{"data: no blank line", "|no blank line;"},
	{"data: no blank line\n", "|no blank line;"},
	{"data: cr at the end\r", "|cr at the end;"},
	{"data: [DONE]\n\n\n\n\n", "|[DONE];"},
	{"data: a:b:c\n\n", "|a:b:c;"},
	{"", ""},
	{"\n\n\r\n", ""},
};

static bool note(void *arg, struct str type, struct str data)
{
	struct buf *got = arg;

	buf_add(got, type.ptr, type.len);
	buf_addc(got, '|');
	buf_add(got, data.ptr, data.len);
	buf_addc(got, ';');
	return true;
}

static void check(const char *text, size_t n, size_t cut, size_t cut2, const char *want)
{
	struct buf got = {0};
	struct sse s;

	sse_init(&s);
	assert_int_equal(sse_feed(&s, text, cut, note, &got, NULL), 0);
	assert_int_equal(sse_feed(&s, text + cut, cut2 - cut, note, &got, NULL), 0);
	assert_int_equal(sse_feed(&s, text + cut2, n - cut2, note, &got, NULL), 0);
	assert_int_equal(sse_finish(&s, note, &got, NULL), 0);
	assert_string_equal(got.data ? got.data : "", want);
	sse_fini(&s);
	buf_free(&got);
}

static void every_text_reads_the_same_split_at_any_two_bytes(void **state)
{
	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(corpus); i++) {
		size_t n = strlen(corpus[i].text);

		for (size_t cut = 0; cut <= n; cut++)
			for (size_t cut2 = cut; cut2 <= n; cut2++)
				check(corpus[i].text, n, cut, cut2, corpus[i].want);
	}
}

static void bytes_one_by_one_read_the_same(void **state)
{
	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(corpus); i++) {
		struct buf got = {0};
		struct sse s;

		sse_init(&s);
		for (const char *p = corpus[i].text; *p; p++)
			assert_int_equal(sse_feed(&s, p, 1, note, &got, NULL), 0);
		assert_int_equal(sse_finish(&s, note, &got, NULL), 0);
		assert_string_equal(got.data ? got.data : "", corpus[i].want);
		sse_fini(&s);
		buf_free(&got);
	}
}

static void comments_are_counted(void **state)
{
	struct buf got = {0};
	struct sse s;

	UNUSED(state);
	sse_init(&s);
	sse_feed(&s, STR(": OPENROUTER PROCESSING\n\n:\n\n").ptr, 28, note, &got, NULL);
	assert_int_equal(s.comments, 2);
	assert_int_equal(got.len, 0);
	sse_fini(&s);
}

static void a_line_over_its_limit_is_refused(void **state)
{
	size_t half = SSE_MAX_LINE_BYTES / 2 + 1;
	char *piece = xmalloc(half);
	struct buf got = {0};
	struct err e = {0};
	struct sse s;

	UNUSED(state);
	memset(piece, 'x', half);
	sse_init(&s);
	assert_int_equal(sse_feed(&s, piece, half, note, &got, &e), 0);
	assert_int_equal(sse_feed(&s, piece, half, note, &got, &e), -1);
	assert_int_equal(e.code, ERR_UPSTREAM);
	sse_fini(&s);
	free(piece);
}

static void an_event_over_its_limit_is_refused(void **state)
{
	size_t n = SSE_MAX_LINE_BYTES - 1;
	char *line = xmalloc(n + 1);
	struct buf got = {0};
	struct err e = {0};
	struct sse s;
	int rc = 0;

	UNUSED(state);
	memset(line, 'x', n);
	memcpy(line, "data:", 5);
	line[n] = '\n';
	sse_init(&s);
	for (int i = 0; i < 4; i++)
		assert_int_equal(sse_feed(&s, line, n + 1, note, &got, &e), 0);
	rc = sse_feed(&s, line, n + 1, note, &got, &e);
	assert_int_equal(rc, -1);
	assert_int_equal(e.code, ERR_UPSTREAM);
	sse_fini(&s);
	free(line);
}

static bool free_the_reader(void *arg, struct str type, struct str data)
{
	struct sse **s = arg;

	UNUSED(type);
	assert_true(str_eq(data, "last"));
	sse_fini(*s);
	free(*s);
	*s = NULL;
	return false;
}

static void a_reader_may_go_while_it_delivers(void **state)
{
	static const char text[] = "data: last\n\ndata: never\n\n";

	UNUSED(state);
	for (size_t cut = 0; cut < sizeof text - 1; cut++) {
		struct sse *s = xcalloc(1, sizeof *s);

		if (sse_feed(s, text, cut, free_the_reader, &s, NULL) == 0)
			assert_int_equal(sse_feed(s, text + cut, sizeof text - 1 - cut,
						  free_the_reader, &s, NULL),
					 1);
		assert_null(s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_text_reads_the_same_split_at_any_two_bytes),
		cmocka_unit_test(bytes_one_by_one_read_the_same),
		cmocka_unit_test(comments_are_counted),
		cmocka_unit_test(a_line_over_its_limit_is_refused),
		cmocka_unit_test(an_event_over_its_limit_is_refused),
		cmocka_unit_test(a_reader_may_go_while_it_delivers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
