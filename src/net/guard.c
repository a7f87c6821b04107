/* The guard's checks.  Pure functions over slices, any thread.
 *
 * Host is compared as text with a short list and never parsed into an address: every clever
 * reading (private ranges, *.local, decimal addresses) has been a hole in some daemon. */
#include "net/guard.h"

static const char *const loopback_names[] = {"127.0.0.1", "localhost", "[::1]"};

/* Splits "name", "name:port", "[v6]", "[v6]:port"; port -1 when absent, false when malformed. */
static bool split_host(struct str s, struct str *name, int64_t *port)
{
	const char *colon = NULL;
	size_t from = 0;

	if (s.len && s.ptr[0] == '[') {
		const char *end = memchr(s.ptr, ']', s.len);

		if (!end)
			return false;
		from = (size_t)(end - s.ptr) + 1;
		if (from < s.len && s.ptr[from] != ':')
			return false;
	}
	if (from < s.len)
		colon = memchr(s.ptr + from, ':', s.len - from);
	*port = -1;
	*name = s;
	if (!colon)
		return s.len > 0;
	name->len = (size_t)(colon - s.ptr);
	return name->len > 0 &&
	       str_to_i64((struct str){colon + 1, s.len - name->len - 1}, 1, 65535, port);
}

static bool is_configured(struct str host, struct str name, const struct config *c)
{
	for (int i = 0; i < c->nhosts; i++)
		if (str_eq_nocase(host, c->hosts[i]) || str_eq_nocase(name, c->hosts[i]))
			return true;
	/* A bind beyond loopback has a token; its own address is a fair name for it. */
	return c->bind && !guard_is_loopback(c->bind) &&
	       strcmp(c->bind, "0.0.0.0") != 0 && strcmp(c->bind, "::") != 0 &&
	       str_eq_nocase(name, c->bind);
}

static bool host_is_ours(struct str host, int port, bool need_port,
			 const struct config *c)
{
	struct str name;
	int64_t given;

	if (!split_host(host, &name, &given))
		return false;
	if (is_configured(host, name, c))
		return true;
	if (given != port && (need_port || given != -1))
		return false;
	for (size_t i = 0; i < ARRAY_LEN(loopback_names); i++)
		if (str_eq_nocase(name, loopback_names[i]))
			return true;
	return false;
}

static bool origin_is_ours(struct str origin, int port, const struct config *c)
{
	static const char *const schemes[] = {"http://", "https://"};

	for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
		size_t n = strlen(schemes[i]);

		if (str_starts(origin, schemes[i]))
			return host_is_ours((struct str){origin.ptr + n, origin.len - n},
					    port, true, c);
	}
	return false; /* "null", file://, extensions */
}

bool guard_token_eq(struct str given, const char *token)
{
	size_t want = strlen(token);
	unsigned char diff = given.len != want;

	for (size_t i = 0; i < given.len; i++) /* want > 0: an empty token is no token */
		diff |= (unsigned char)(given.ptr[i] ^ token[want ? i % want : 0]);
	return diff == 0 && want > 0;
}

static int check_token(struct str authorization, const char *token, struct err *e)
{
	struct str given = authorization;

	if (!given.ptr)
		return err_set(e, ERR_UNAUTHORIZED,
			       "a token is needed: send \"Authorization: Bearer TOKEN\"");
	if (given.len < 7 || !str_eq_nocase((struct str){given.ptr, 7}, "bearer "))
		return err_set(e, ERR_UNAUTHORIZED,
			       "Authorization must be \"Bearer TOKEN\"");
	given = str_trim((struct str){given.ptr + 7, given.len - 7});
	if (!guard_token_eq(given, token))
		return err_set(e, ERR_UNAUTHORIZED, "the token is wrong");
	return 0;
}

bool guard_is_loopback(const char *bind_address)
{
	return str_starts(str_of(bind_address), "127.") || !strcmp(bind_address, "::1") ||
	       !strcmp(bind_address, "localhost");
}

int guard_check(const struct guard_input *in, const struct config *c, struct err *e)
{
	if (in->is_tcp && !in->host.ptr)
		return err_set(e, ERR_FORBIDDEN, "the Host header is missing");
	if (in->is_tcp && !host_is_ours(in->host, in->port, false, c))
		return err_set(
			e, ERR_FORBIDDEN,
			"Host \"%.*s\" is not served here; a name of your own goes into "
			"server.hosts",
			(int)(in->host.len < 100 ? in->host.len : 100), in->host.ptr);
	if (in->origin.ptr && !origin_is_ours(in->origin, in->port, c))
		return err_set(e, ERR_FORBIDDEN,
			       "requests from web pages are refused (Origin)");
	if (in->fetch_site.ptr && str_eq_nocase(in->fetch_site, "cross-site"))
		return err_set(e, ERR_FORBIDDEN,
			       "requests from web pages are refused (Sec-Fetch-Site)");
	if (in->is_tcp && c->token && c->token[0])
		return check_token(in->authorization, c->token, e);
	return 0;
}
