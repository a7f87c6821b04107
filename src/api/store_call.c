/* The life of a call that waits for the store; and what such calls read from outside.  Loop thread. */
#include "api/store_call.h"

#include "memory/store.h"
#include "route/dispatch_open.h"

static void call_free(struct store_call *sc)
{
	cJSON_Delete(sc->body);
	buf_free(&sc->out);
	free(sc->id);
	free(sc->at);
	free(sc);
}

/* ---- the end ---- */

void store_call_fail(struct store_call *sc, const struct err *e)
{
	if (sc->pending.conn)
		api_reply_error(sc->pending.conn, e);
	call_free(sc);
}

bool store_call_failed(struct store_call *sc, const struct err *e)
{
	if (sc->pending.conn && e->code == ERR_NONE)
		return false;
	if (sc->pending.conn)
		api_reply_error(sc->pending.conn, e);
	call_free(sc);
	return true;
}

void store_call_reply_as(struct store_call *sc, const char *content_type, struct str body)
{
	if (sc->pending.conn)
		http_reply(sc->pending.conn, 200, content_type, NULL, body);
	call_free(sc);
}

void store_call_reply(struct store_call *sc)
{
	store_call_reply_as(sc, "application/json", buf_str(&sc->out));
}

/* ---- the beginning ---- */

struct store *api_incognito(const struct api *a)
{
	struct err e = {0};

	return dispatch_incognito(a->dispatch, &e);
}

struct store *api_store_of(const struct api *a, const char *conversation)
{
	return conversation && store_is_incognito(conversation) ? api_incognito(a)
								: a->store;
}

bool store_call_is_id(const char *id)
{
	size_t n = strlen(id);

	return n && n < STORE_CALL_ID_BYTES &&
	       strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
			  "0123456789-_") == n;
}

bool store_call_is_hash(const char *text)
{
	return strlen(text) == STORE_HASH_TEXT_BYTES - 1 &&
	       strspn(text, "0123456789abcdef") == STORE_HASH_TEXT_BYTES - 1;
}

struct store_call *store_call_in(const struct call *call, struct store *store)
{
	struct store_call *sc;

	if (!store)
		return NULL;
	sc = xcalloc(1, sizeof *sc);
	sc->api = call->api;
	sc->store = store;
	pending_begin(&sc->pending, call->conn);
	return sc;
}

struct store_call *store_call_new(const struct call *call, const char *id)
{
	struct store *store = api_store_of(call->api, id);
	struct store_call *sc;
	struct err e = {0};

	if (id && !store_call_is_id(id))
		err_set(&e, ERR_INVALID,
			"that is no conversation's id: GET /v1/hob/conversations lists "
			"them");
	else if (!store && id && store_is_incognito(id))
		err_set(&e, ERR_NOT_FOUND, "no conversation '%s'", id);
	else if (!store)
		err_set(&e, ERR_UNSUPPORTED,
			"memory is off (memory.enabled in the configuration; "
			"GET /healthz says more)");
	if (e.code != ERR_NONE) {
		api_reply_error(call->conn, &e);
		return NULL;
	}
	sc = store_call_in(call, store);
	sc->id = id ? xstrdup(id) : NULL;
	return sc;
}

struct store_call *store_call_of(const struct call *call)
{
	struct store_call *sc;
	struct buf id = {0};

	if (!http_unescape(call->param, &id) || !id.len)
		buf_clear(&id);
	sc = store_call_new(call, id.len ? id.data : "");
	buf_free(&id);
	return sc;
}

struct store_call *store_call_of_with_body(const struct call *call)
{
	struct err e = {0};
	cJSON *body = store_call_body(call->http, &e);
	struct store_call *sc = NULL;

	if (body)
		sc = store_call_of(call);
	else
		api_reply_error(call->conn, &e);
	if (sc)
		sc->body = body;
	else
		cJSON_Delete(body);
	return sc;
}

/* ---- what is asked ---- */

cJSON *store_call_body(const struct http_request *http, struct err *e)
{
	struct str text = http->body.len ? http->body : STR("{}");
	cJSON *root = json_read(text, JSON_UTF8 | JSON_NO_NUL, e);

	if (!root) {
		err_wrap(e, "request body");
	} else if (!cJSON_IsObject(root)) {
		err_set(e, ERR_INVALID, "the body must be a JSON object");
		cJSON_Delete(root);
		root = NULL;
	}
	return root;
}

int store_call_query(const struct http_request *http, const char *name,
		     bool plus_is_space, char **out, struct err *e)
{
	struct str text = http_query(http, name);
	struct buf value = {0};
	char *copy;

	*out = NULL;
	if (!text.len)
		return 0;
	copy = str_dup(text);
	for (char *p = copy; plus_is_space && *p; p++)
		if (*p == '+')
			*p = ' ';
	if (!http_unescape(str_of(copy), &value)) {
		free(copy);
		buf_free(&value);
		return err_set(e, ERR_INVALID,
			       "?%s= has a wrong escape: %% and two hex digits", name);
	}
	free(copy);
	*out = value.len ? buf_take(&value, NULL) : NULL;
	buf_free(&value);
	return 0;
}
