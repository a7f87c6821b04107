/* The request parser: whole, byte by byte, and everything that must be refused. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "net/http.h"

/* Feeds text in pieces of `step` bytes; the last event.  *left: bytes not used. */
static enum parse_event feed(struct http_parser *p, const char *text, size_t n,
			     size_t step, size_t *left, struct err *e)
{
	enum parse_event ev = PARSE_MORE;
	size_t pos = 0, used;

	while (pos < n) {
		/* A copy of exact size, so that AddressSanitizer sees a read too far. */
		size_t give = n - pos < step ? n - pos : step;
		char *piece = xstrndup(text + pos, give);

		piece = xrealloc(piece, give);
		ev = http_feed(p, piece, give, &used, e);
		free(piece);
		assert_true(used <= give);
		pos += used;
		if (ev == PARSE_DONE || ev == PARSE_BAD)
			break;
		assert_true(ev == PARSE_HEAD || used == give);
	}
	*left = n - pos;
	return ev;
}

static const char chat[] = "POST /v1/chat/completions?a=1&limit=20 HTTP/1.1\r\n"
			   "Host: localhost:4620\r\n"
			   "content-LENGTH: 5\r\n"
			   "X-Spaces:  \t two words \t\r\n"
			   "Empty:\r\n\r\n"
			   "helloGET";

static void a_request_is_the_same_whole_and_in_pieces_of_any_size(void **state)
{
	UNUSED(state);
	for (size_t step = 1; step <= sizeof(chat); step++) {
		struct http_parser p;
		struct err e = {0};
		size_t left;

		http_parser_init(&p);
		assert_int_equal(feed(&p, chat, sizeof(chat) - 1, step, &left, &e),
				 PARSE_DONE);
		assert_int_equal(left, 3);
		assert_true(str_eq(p.req.method, "POST"));
		assert_true(str_eq(p.req.path, "/v1/chat/completions"));
		assert_true(str_eq(http_query(&p.req, "limit"), "20"));
		assert_null(http_query(&p.req, "lim").ptr);
		assert_true(str_eq(http_header(&p.req, "HOST"), "localhost:4620"));
		assert_true(str_eq(http_header(&p.req, "x-spaces"), "two words"));
		assert_non_null(http_header(&p.req, "empty").ptr);
		assert_int_equal(http_header(&p.req, "empty").len, 0);
		assert_null(http_header(&p.req, "absent").ptr);
		assert_true(str_eq(p.req.body, "hello"));
		assert_true(p.req.keep_alive);
		http_parser_fini(&p);
	}
}

static void pipelined_requests_come_out_one_by_one(void **state)
{
	static const char text[] =
		"\r\nGET /a HTTP/1.1\r\nHost: x\r\n\r\n"
		"POST /b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
		"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nTrailer: t\r\n\r\n"
		"GET /c HTTP/1.0\r\n\r\n";
	static const char *const paths[] = {"/a", "/b", "/c"}, *const bodies[] = {
								       "", "abcde", ""};
	struct http_parser p;
	struct err e = {0};
	size_t left = sizeof(text) - 1;
	const char *at = text;

	UNUSED(state);
	http_parser_init(&p);
	for (int i = 0; i < 3; i++) {
		size_t n = left;

		assert_int_equal(feed(&p, at, n, n, &left, &e), PARSE_DONE);
		at += n - left;
		assert_true(str_eq(p.req.path, paths[i]));
		assert_true(str_eq(p.req.body, bodies[i]));
		assert_int_equal(p.req.keep_alive, i < 2);
		assert_int_equal(p.req.is_http10, i == 2);
		http_parser_reset(&p);
		assert_false(http_parser_started(&p));
	}
	assert_int_equal(left, 0);
	http_parser_fini(&p);
}

static void a_released_parser_holds_nothing_and_reads_the_next_request(void **state)
{
	struct http_parser p;
	struct buf text = {0};
	struct err e = {0};
	size_t left;

	UNUSED(state);
	http_parser_init(&p);
	for (int headers = 1; headers < HTTP_MAX_HEADERS; headers *= 3) {
		buf_clear(&text);
		buf_adds(&text, "POST /x HTTP/1.1\r\nContent-Length: 5000\r\n");
		for (int i = 1; i < headers; i++)
			buf_addf(&text, "h%d: v%d\r\n", i, i);
		buf_addf(&text, "\r\n%05000d", headers);
		assert_int_equal(feed(&p, text.data, text.len, text.len, &left, &e),
				 PARSE_DONE);
		assert_int_equal(left, 0);
		assert_int_equal(p.req.nheaders, headers);
		assert_int_equal(p.req.body.len, 5000);
		if (headers > 1)
			assert_true(str_eq(http_header(&p.req, "H1"), "v1"));
		http_parser_release(&p);
		assert_null(p.head.data);
		assert_null(p.body.data);
		assert_null(p.req.headers);
		assert_null(http_header(&p.req, "content-length").ptr);
		http_parser_reset(&p);
	}
	http_parser_fini(&p);
	buf_free(&text);
}

static const struct {
	const char *text;
	int status;
} bad[] = {
	{"\x01garbage\r\n\r\n", 400},
	{"GET\r\n\r\n", 400},
	{"GET / HTTP/9.9\r\n\r\n", 400},
	{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400},
	{"GET / HTTP/1.1\r\nA B: c\r\n\r\n", 400},
	{"GET / HTTP/1.1\r\nHost : c\r\n\r\n", 400},
	{"GET / HTTP/1.1\r\n: c\r\n\r\n", 400},
	{"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400},
	{"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	 400},
	{"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n",
	 400},
	{"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400},
	{"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nab", 400},
	{"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400},
	{"POST / HTTP/1.1\r\nContent-Length: 1 1\r\n\r\n", 400},
	{"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", 400},
	{"POST / HTTP/1.1\r\nContent-Length: 33554433\r\n\r\n", 413},
	{"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nXY\r\n", 400},
	{"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n-1\r\n", 400},
	{"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501},
	{"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n", 501},
};

static void malformed_and_ambiguous_requests_are_refused(void **state)
{
	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		for (size_t step = 1; step < 200; step += 66) {
			struct http_parser p;
			struct err e = {0};
			enum parse_event ev;
			size_t left;

			http_parser_init(&p);
			ev = feed(&p, bad[i].text, strlen(bad[i].text), step, &left, &e);
			if (ev != PARSE_BAD || p.status != bad[i].status)
				fail_msg("case %zu: event %d status %d", i, ev, p.status);
			assert_int_not_equal(e.code, ERR_NONE);
			http_parser_fini(&p);
		}
	}
}

/* A request whose head has exactly n bytes. */
static char *head_of(size_t n)
{
	const char *open = "GET / HTTP/1.1\r\nX: ";
	char *text = xmalloc(n + 1);
	size_t at = strlen(open);

	memcpy(text, open, at);
	memset(text + at, 'a', n - at - 4);
	memcpy(text + n - 4, "\r\n\r\n", 5);
	return text;
}

static void a_head_of_16_KiB_passes_and_one_byte_more_is_431(void **state)
{
	UNUSED(state);
	for (size_t more = 0; more < 2; more++) {
		char *text = head_of(HTTP_MAX_HEAD_BYTES + more);
		struct http_parser p;
		struct err e = {0};
		enum parse_event ev;
		size_t left;

		http_parser_init(&p);
		ev = feed(&p, text, strlen(text), 1000, &left, &e);
		assert_int_equal(ev, more ? PARSE_BAD : PARSE_DONE);
		assert_int_equal(p.status, more ? 431 : 0);
		http_parser_fini(&p);
		free(text);
	}
}

static void too_many_header_fields_are_431(void **state)
{
	struct buf text = {0};
	struct http_parser p;
	struct err e = {0};
	size_t left;

	UNUSED(state);
	buf_adds(&text, "GET / HTTP/1.1\r\n");
	for (int i = 0; i <= HTTP_MAX_HEADERS; i++)
		buf_addf(&text, "X%d: y\r\n", i);
	buf_adds(&text, "\r\n");
	http_parser_init(&p);
	assert_int_equal(feed(&p, text.data, text.len, 64, &left, &e), PARSE_BAD);
	assert_int_equal(p.status, 431);
	http_parser_fini(&p);
	buf_free(&text);
}

static void a_chunked_body_over_the_limit_is_413(void **state)
{
	enum { MIB = 1 << 20 };
	struct http_parser p;
	struct err e = {0};
	struct buf chunk = {0};
	const char *head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
	enum parse_event ev;
	size_t left;
	int sent = 0;

	UNUSED(state);
	buf_adds(&chunk, "100000\r\n");
	for (int i = 0; i < MIB; i++)
		buf_addc(&chunk, 'x');
	buf_adds(&chunk, "\r\n");
	http_parser_init(&p);
	ev = feed(&p, head, strlen(head), strlen(head), &left, &e);
	while (ev != PARSE_BAD && sent < 40) {
		ev = feed(&p, chunk.data, chunk.len, chunk.len, &left, &e);
		sent++;
	}
	assert_int_equal(ev, PARSE_BAD);
	assert_int_equal(p.status, 413);
	assert_int_equal(sent, 33); /* 32 MiB fit */
	http_parser_fini(&p);
	buf_free(&chunk);
}

static void an_upgrade_offer_is_an_ordinary_request(void **state)
{
	static const char text[] =
		"GET /a HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nGET";
	struct http_parser p;
	struct err e = {0};
	size_t left;

	UNUSED(state);
	http_parser_init(&p);
	assert_int_equal(feed(&p, text, sizeof(text) - 1, 1000, &left, &e), PARSE_DONE);
	assert_int_equal(left, 3);
	http_parser_fini(&p);
}

static void percent_escapes_are_decoded_and_bad_ones_refused(void **state)
{
	static const char *const wrong[] = {"%", "%4", "%zz", "a%00b", "%g1"};
	struct buf out = {0};

	UNUSED(state);
	assert_true(http_unescape(STR("a%3Ab%2fc"), &out));
	assert_string_equal(out.data, "a:b/c");
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		buf_clear(&out);
		assert_false(http_unescape(str_of(wrong[i]), &out));
	}
	buf_free(&out);
}

static void a_field_value_cannot_split_the_head(void **state)
{
	struct buf out = {0};

	UNUSED(state);
	http_add_field(&out, "x-a", "b\r\nSet-Cookie: c");
	assert_string_equal(out.data, "x-a: b  Set-Cookie: c\r\n");
	buf_free(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_request_is_the_same_whole_and_in_pieces_of_any_size),
		cmocka_unit_test(pipelined_requests_come_out_one_by_one),
		cmocka_unit_test(
			a_released_parser_holds_nothing_and_reads_the_next_request),
		cmocka_unit_test(malformed_and_ambiguous_requests_are_refused),
		cmocka_unit_test(a_head_of_16_KiB_passes_and_one_byte_more_is_431),
		cmocka_unit_test(too_many_header_fields_are_431),
		cmocka_unit_test(a_chunked_body_over_the_limit_is_413),
		cmocka_unit_test(an_upgrade_offer_is_an_ordinary_request),
		cmocka_unit_test(percent_escapes_are_decoded_and_bad_ones_refused),
		cmocka_unit_test(a_field_value_cannot_split_the_head),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
