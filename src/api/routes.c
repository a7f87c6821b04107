/* The table of routes, and replies that carry an error.  Loop thread, no state. */
#include "api/routes.h"

#include "api/cache_api.h"
#include "api/conversations_api.h"
#include "api/history_api.h"
#include "api/hob.h"
#include "api/memory_api.h"
#include "api/metrics_api.h"
#include "api/models_api.h"
#include "api/move_api.h"
#include "api/notes_api.h"
#include "api/openai.h"
#include "api/persona.h"
#include "api/responses.h"
#include "api/route_api.h"
#include "api/search_api.h"
#include "api/usage_api.h"

static const struct route routes[] = {
	{"GET", "/healthz", hob_health},
	{"GET", "/metrics", metrics_get},
	{"GET", "/v1/models", models_api_list},
	{"GET", "/v1/models/**", models_api_get},
	{"POST", "/v1/chat/completions", openai_chat},
	{"POST", "/v1/completions", openai_completion},
	{"POST", "/v1/responses", responses_create},
	{"GET", "/v1/responses/*", responses_get},
	{"DELETE", "/v1/responses/*", responses_delete},
	{"GET", "/v1/responses/*/input_items", responses_input_items},
	{"POST", "/v1/responses/*/cancel", responses_cancel},
	{"POST", "/v1/conversations", conversations_create},
	{"GET", "/v1/conversations/*", conversations_get},
	{"POST", "/v1/conversations/*", conversations_update},
	{"DELETE", "/v1/conversations/*", conversations_delete},
	{"GET", "/v1/conversations/*/items", conversations_items},
	{"POST", "/v1/conversations/*/items", conversations_add_items},
	{"GET", "/v1/conversations/*/items/*", conversations_item},
	{"DELETE", "/v1/conversations/*/items/*", conversations_delete_item},
	{"GET", "/v1/hob/cache", cache_api_get},
	{"GET", "/v1/hob/cache/decisions", cache_api_decisions},
	{"GET", "/v1/hob/cache/events", cache_api_events},
	{"POST", "/v1/hob/cache/load", cache_api_load},
	{"POST", "/v1/hob/cache/unload", cache_api_unload},
	{"POST", "/v1/hob/cache/pin", cache_api_pin},
	{"POST", "/v1/hob/cache/unpin", cache_api_unpin},
	{"GET", "/v1/hob/usage", usage_api_get},
	{"GET", "/v1/hob/providers", route_api_providers},
	{"POST", "/v1/hob/route/explain", route_api_explain},
	{"GET", "/v1/hob/routes/decisions", route_api_decisions},
	{"GET", "/v1/hob/conversations", history_api_list},
	{"POST", "/v1/hob/conversations", history_api_create},
	{"POST", "/v1/hob/conversations/import", move_api_import},
	{"GET", "/v1/hob/conversations/*", history_api_get},
	{"PATCH", "/v1/hob/conversations/*", history_api_change},
	{"DELETE", "/v1/hob/conversations/*", history_api_delete},
	{"POST", "/v1/hob/conversations/*/head", history_api_head},
	{"POST", "/v1/hob/conversations/*/fork", history_api_fork},
	{"GET", "/v1/hob/conversations/*/turns", history_api_turns},
	{"GET", "/v1/hob/conversations/*/export", move_api_export},
	{"GET", "/v1/hob/search", search_api_get},
	{"GET", "/v1/hob/notes", notes_api_list},
	{"POST", "/v1/hob/notes", notes_api_add},
	{"DELETE", "/v1/hob/notes/*", notes_api_delete},
	{"GET", "/v1/hob/memory", memory_api_get},
	{"POST", "/v1/hob/forget", memory_api_forget},
	{"POST", "/v1/hob/backup", memory_api_backup},
	{"GET", "/v1/hob/personas", persona_api_list},
};

static size_t segment_len(struct str s)
{
	const char *slash = memchr(s.ptr, '/', s.len);

	return slash ? (size_t)(slash - s.ptr) : s.len;
}

static bool path_matches(const char *pattern, struct str path,
			 struct str params[ROUTE_PARAMS])
{
	int n = 0;

	for (int i = 0; i < ROUTE_PARAMS; i++)
		params[i] = STR("");
	while (*pattern) {
		size_t len = 1;

		if (!path.len)
			return false;
		if (*pattern == '*') {
			bool rest = pattern[1] == '*';

			len = rest ? path.len : segment_len(path);
			if (!len)
				return false;
			ASSERT(n < ROUTE_PARAMS);
			params[n++] = (struct str){path.ptr, len};
			pattern += rest;
		} else if (*pattern != *path.ptr) {
			return false;
		}
		pattern++;
		path = (struct str){path.ptr + len, path.len - len};
	}
	return !path.len;
}

const struct route *routes_find(struct str method, struct str path,
				struct str params[ROUTE_PARAMS], char *allow,
				size_t allow_bytes)
{
	size_t used = 0;

	allow[0] = '\0';
	for (size_t i = 0; i < ARRAY_LEN(routes); i++) {
		const struct route *r = &routes[i];
		bool is_get = !strcmp(r->method, "GET");
		int n;

		if (!path_matches(r->path, path, params))
			continue;
		if (str_eq(method, r->method) || (is_get && str_eq(method, "HEAD")))
			return r;
		n = snprintf(allow + used, allow_bytes - used, "%s%s%s", used ? ", " : "",
			     r->method, is_get ? ", HEAD" : "");
		ASSERT(n > 0 && (size_t)n < allow_bytes - used);
		used += (size_t)n;
	}
	return NULL;
}

/* -- errors -- */

static void add_error(struct buf *out, const struct err *e, const char *param,
		      const char *code)
{
	const struct err_info *info = err_info(e->code);

	buf_adds(out, "{\"error\":{\"message\":");
	buf_add_json(out, e->text, strlen(e->text));
	buf_addf(out, ",\"type\":\"%s\",\"param\":", info->openai_type);
	buf_add_json_or_null(out, param);
	buf_addf(out, ",\"code\":\"%s\"}}", code ? code : info->name);
}

void api_add_error(struct buf *out, const struct err *e)
{
	add_error(out, e, NULL, NULL);
}

/* The official clients retry 408, 409, 429 and 5xx twice by themselves, so that each of our own
 * attempts would count thrice: they are told no, unless waiting is what helps.  They follow
 * retry-after-ms before Retry-After, and neither beyond a minute.  A cap on money says when its window
 * ends, for those who show it. */
static void add_retry(struct buf *head, const struct err *e)
{
	bool window = e->code == ERR_PAYMENT && e->retry_after_ms > 0;
	bool again = !e->spent &&
		     (e->code == ERR_BUSY || e->code == ERR_UNAVAILABLE || window);
	unsigned ms = e->retry_after_ms ? e->retry_after_ms : 1000;

	if (e->code == ERR_UNAUTHORIZED)
		buf_adds(head, "WWW-Authenticate: Bearer\r\n");
	if (again || window)
		buf_addf(head, "retry-after-ms: %u\r\nRetry-After: %u\r\n", ms,
			 ms / 1000 + (ms % 1000 != 0));
	buf_addf(head, "x-should-retry: %s\r\n", again ? "true" : "false");
}

void api_reply_error_status(struct conn *c, int status, const struct err *e,
			    const char *extra)
{
	struct buf body = {0}, head = {0};

	add_retry(&head, e);
	if (extra)
		buf_adds(&head, extra);
	api_add_error(&body, e);
	http_reply(c, status, "application/json", head.data, buf_str(&body));
	buf_free(&body);
	buf_free(&head);
}

void api_reply_error_about(struct conn *c, const struct err *e, const char *param,
			   const char *code)
{
	struct buf body = {0}, head = {0};

	add_retry(&head, e);
	add_error(&body, e, param, code);
	http_reply(c, err_info(e->code)->http_status, "application/json", head.data,
		   buf_str(&body));
	buf_free(&body);
	buf_free(&head);
}

void api_reply_error(struct conn *c, const struct err *e)
{
	api_reply_error_status(c, err_info(e->code)->http_status, e, NULL);
}

void api_reply_json(struct conn *c, const struct buf *body)
{
	http_reply(c, 200, "application/json", NULL, buf_str(body));
}

/* -- queries -- */

static int read_limit(const struct http_request *r, int most, int *limit, struct err *e)
{
	struct str text = http_query(r, "limit");
	int64_t n = *limit;

	if (text.ptr && !str_to_i64(text, 1, most, &n))
		return err_set(e, ERR_INVALID, "limit must be a number from 1 to %d",
			       most);
	*limit = (int)n;
	return 0;
}

static int read_model(const struct http_request *r, char **model, struct err *e)
{
	struct str text = http_query(r, "model");
	struct buf name = {0};

	*model = NULL;
	if (!text.len)
		return 0;
	if (!http_unescape(text, &name)) {
		buf_free(&name);
		return err_set(e, ERR_INVALID, "model is no name");
	}
	*model = buf_take(&name, NULL);
	return 0;
}

bool api_listing(const struct call *call, int most, int *limit, char **model)
{
	struct err e = {0};

	if (read_limit(call->http, most, limit, &e) == 0 &&
	    (!model || read_model(call->http, model, &e) == 0))
		return true;
	api_reply_error(call->conn, &e);
	return false;
}
