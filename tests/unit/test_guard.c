/* Who may ask: each row a request's headers and what the guard says. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "net/guard.h"

enum { PORT = 4620 };

static const struct row {
	const char *host, *origin, *site;
	enum err_code want;
} rows[] = {
	{"127.0.0.1", NULL, NULL, ERR_NONE},
	{"127.0.0.1:4620", NULL, NULL, ERR_NONE},
	{"localhost:4620", NULL, NULL, ERR_NONE},
	{"LOCALHOST", NULL, NULL, ERR_NONE},
	{"[::1]:4620", NULL, NULL, ERR_NONE},
	{"[::1]", NULL, NULL, ERR_NONE},
	{"mine.example", NULL, NULL, ERR_NONE}, /* configured */
	{"mine.example:8080", NULL, NULL, ERR_NONE},
	{"other.example:99", NULL, NULL, ERR_NONE}, /* configured with its port */
	{"other.example", NULL, NULL, ERR_FORBIDDEN},
	{NULL, NULL, NULL, ERR_FORBIDDEN},
	{"", NULL, NULL, ERR_FORBIDDEN},
	{"evil.example", NULL, NULL, ERR_FORBIDDEN},
	{"localhost:80", NULL, NULL, ERR_FORBIDDEN},
	{"localhost:", NULL, NULL, ERR_FORBIDDEN},
	{"localhost:4620x", NULL, NULL, ERR_FORBIDDEN},
	{"localhost:4620:4620", NULL, NULL, ERR_FORBIDDEN},
	{"localhost.", NULL, NULL, ERR_FORBIDDEN},
	{"localhost.evil.example", NULL, NULL, ERR_FORBIDDEN},
	{"127.0.0.2", NULL, NULL, ERR_FORBIDDEN},
	{"0.0.0.0:4620", NULL, NULL, ERR_FORBIDDEN},
	{"2130706433", NULL, NULL, ERR_FORBIDDEN},
	{"[::1", NULL, NULL, ERR_FORBIDDEN},
	{"[::1]x", NULL, NULL, ERR_FORBIDDEN},
	{"user@localhost", NULL, NULL, ERR_FORBIDDEN},
	{"localhost", "http://localhost:4620", NULL, ERR_NONE},
	{"localhost", "http://127.0.0.1:4620", "same-origin", ERR_NONE},
	{"localhost", "http://[::1]:4620", NULL, ERR_NONE},
	{"localhost", "https://mine.example", NULL, ERR_NONE},
	{"localhost", "http://localhost", NULL, ERR_FORBIDDEN},
	{"localhost", "http://localhost:3000", NULL, ERR_FORBIDDEN},
	{"localhost", "http://evil.example", NULL, ERR_FORBIDDEN},
	{"localhost", "http://localhost:4620.evil.example", NULL, ERR_FORBIDDEN},
	{"localhost", "null", NULL, ERR_FORBIDDEN},
	{"localhost", "", NULL, ERR_FORBIDDEN},
	{"localhost", "file://", NULL, ERR_FORBIDDEN},
	{"localhost", "chrome-extension://abc", NULL, ERR_FORBIDDEN},
	{"localhost", NULL, "cross-site", ERR_FORBIDDEN},
	{"localhost", NULL, "Cross-Site", ERR_FORBIDDEN},
	{"localhost", NULL, "none", ERR_NONE},
};

static char *hosts[] = {(char *)"mine.example", (char *)"other.example:99"};

static enum err_code ask(bool is_tcp, const struct row *r, const char *auth,
			 const char *token)
{
	struct config c = {.hosts = hosts, .nhosts = 2, .token = (char *)token};
	struct guard_input in = {.is_tcp = is_tcp, .port = PORT};
	struct err e = {0};

	if (r->host)
		in.host = str_of(r->host);
	if (r->origin)
		in.origin = str_of(r->origin);
	if (r->site)
		in.fetch_site = str_of(r->site);
	if (auth)
		in.authorization = str_of(auth);
	return guard_check(&in, &c, &e) == 0 ? ERR_NONE : e.code;
}

static void only_exact_names_and_own_origins_pass_on_tcp(void **state)
{
	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (ask(true, &rows[i], NULL, NULL) != rows[i].want)
			fail_msg("host %s, origin %s, site %s", rows[i].host,
				 rows[i].origin, rows[i].site);
}

static void a_unix_socket_takes_any_host_but_no_web_page(void **state)
{
	static const struct row any = {"whatever.example", NULL, NULL, ERR_NONE};
	static const struct row none = {NULL, NULL, NULL, ERR_NONE};
	static const struct row page = {"x", "http://evil.example", NULL, ERR_FORBIDDEN};

	UNUSED(state);
	assert_int_equal(ask(false, &any, NULL, NULL), ERR_NONE);
	assert_int_equal(ask(false, &none, NULL, NULL), ERR_NONE);
	assert_int_equal(ask(false, &page, NULL, NULL), ERR_FORBIDDEN);
}

static void a_token_is_asked_for_on_tcp_only(void **state)
{
	static const struct row ok = {"localhost", NULL, NULL, ERR_NONE};
	static const struct {
		const char *auth;
		enum err_code want;
	} cases[] = {
		{NULL, ERR_UNAUTHORIZED},
		{"", ERR_UNAUTHORIZED},
		{"Bearer", ERR_UNAUTHORIZED},
		{"Bearer ", ERR_UNAUTHORIZED},
		{"Basic secret", ERR_UNAUTHORIZED},
		{"Bearer secre", ERR_UNAUTHORIZED},
		{"Bearer secrets", ERR_UNAUTHORIZED},
		{"Bearer secretsecret", ERR_UNAUTHORIZED},
		{"Bearer Secret", ERR_UNAUTHORIZED},
		{"Bearer secret", ERR_NONE},
		{"bearer  secret ", ERR_NONE},
	};

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		if (ask(true, &ok, cases[i].auth, "secret") != cases[i].want)
			fail_msg("authorization %s", cases[i].auth);
	assert_int_equal(ask(false, &ok, NULL, "secret"), ERR_NONE);
	assert_int_equal(ask(true, &ok, NULL, ""), ERR_NONE);
}

static void an_empty_token_equals_nothing(void **state)
{
	UNUSED(state);
	assert_false(guard_token_eq(STR(""), ""));
	assert_false(guard_token_eq(STR("a"), ""));
	assert_false(guard_token_eq(STR(""), "a"));
	assert_true(guard_token_eq(STR("a"), "a"));
}

static void loopback_addresses_are_known(void **state)
{
	UNUSED(state);
	assert_true(guard_is_loopback("127.0.0.1"));
	assert_true(guard_is_loopback("127.9.9.9"));
	assert_true(guard_is_loopback("::1"));
	assert_true(guard_is_loopback("localhost"));
	assert_false(guard_is_loopback("0.0.0.0"));
	assert_false(guard_is_loopback("::"));
	assert_false(guard_is_loopback("192.168.1.2"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_exact_names_and_own_origins_pass_on_tcp),
		cmocka_unit_test(a_unix_socket_takes_any_host_but_no_web_page),
		cmocka_unit_test(a_token_is_asked_for_on_tcp_only),
		cmocka_unit_test(an_empty_token_equals_nothing),
		cmocka_unit_test(loopback_addresses_are_known),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
