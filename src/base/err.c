/* Error values and the one table of what a code means to each protocol.  Any thread.
 *
 * HTTP statuses follow OpenAI's API where it has an answer; 499 is nginx's "client closed
 * request", which no client ever sees but metrics do. */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>

static const struct err_info infos[ERR_NR] = {
	[ERR_NONE] = {"none", 200, "none", false},
	[ERR_INVALID] = {"invalid", 400, "invalid_request_error", false},
	[ERR_UNAUTHORIZED] = {"unauthorized", 401, "authentication_error", false},
	[ERR_FORBIDDEN] = {"forbidden", 403, "permission_error", false},
	[ERR_NOT_FOUND] = {"not_found", 404, "invalid_request_error", false},
	[ERR_MODEL] = {"model_not_found", 404, "invalid_request_error", false},
	[ERR_METHOD] = {"method_not_allowed", 405, "invalid_request_error", false},
	[ERR_TOO_LARGE] = {"too_large", 413, "invalid_request_error", false},
	[ERR_CONTEXT] = {"context_length_exceeded", 400, "invalid_request_error", false},
	[ERR_UNSUPPORTED] = {"unsupported", 400, "invalid_request_error", false},
	[ERR_CORRUPT] = {"corrupt", 500, "server_error", false},
	[ERR_CONFLICT] = {"conflict", 409, "invalid_request_error", false},
	[ERR_BUSY] = {"busy", 429, "rate_limit_error", true},
	[ERR_TIMEOUT] = {"timeout", 504, "server_error", true},
	[ERR_CANCELLED] = {"cancelled", 499, "server_error", false},
	[ERR_MEMORY] = {"out_of_memory", 503, "server_error", true},
	[ERR_UNAVAILABLE] = {"unavailable", 503, "server_error", true},
	[ERR_UPSTREAM] = {"upstream", 502, "server_error", true},
	/* not 401 and 403: clients would think that theirs is meant */
	[ERR_KEY] = {"upstream_auth", 502, "server_error", false},
	[ERR_PAYMENT] = {"payment_required", 402, "insufficient_quota", false},
	[ERR_POLICY] = {"content_filter", 400, "invalid_request_error", false},
	[ERR_IO] = {"io", 500, "server_error", false},
	[ERR_DISK_FULL] = {"disk_full", 507, "server_error", false},
	[ERR_TRANSPORT] = {"upstream_unreachable", 502, "server_error", true},
	[ERR_INTERNAL] = {"internal", 500, "server_error", false},
};

const struct err_info *err_info(enum err_code code)
{
	return &infos[(unsigned)code < ERR_NR ? code : ERR_INTERNAL];
}

enum err_code err_code_by_name(const char *name)
{
	for (int i = 0; i < ERR_NR; i++)
		if (name && !strcmp(infos[i].name, name))
			return (enum err_code)i;
	return ERR_INTERNAL;
}

void err_put(struct err *e, enum err_code code, const char *fmt, ...)
{
	va_list ap;

	if (!e)
		return;
	e->code = code;
	e->retry_after_ms = 0;
	e->sent = e->spent = false;
	va_start(ap, fmt);
	vsnprintf(e->text, sizeof e->text, fmt, ap);
	va_end(ap);
}

void err_put_sys(struct err *e, int errnum, const char *fmt, ...)
{
	char what[sizeof e->text];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof what, fmt, ap);
	va_end(ap);
	err_put(e, errnum == ENOSPC || errnum == EDQUOT ? ERR_DISK_FULL : ERR_IO,
		"%.380s: %s", what, strerror(errnum));
}

void err_put_prefix(struct err *e, const char *fmt, ...)
{
	char old[sizeof e->text];
	va_list ap;
	size_t n;

	if (!e)
		return;
	memcpy(old, e->text, sizeof old);
	va_start(ap, fmt);
	vsnprintf(e->text, sizeof e->text, fmt, ap);
	va_end(ap);
	n = strlen(e->text);
	snprintf(e->text + n, sizeof e->text - n, ": %s", old);
}
