/* Conversations over HTTP.  Loop thread; each call is a struct store_call.
 *
 * What is made incognito goes to the store in memory, and is in no listing: who made it has its id. */
#include "api/history_api.h"

#include "api/history_json.h"
#include "api/openai.h"
#include "api/store_call.h"

enum { LIST_DEFAULT = 50, LIST_MAX = 1000, TURNS_DEFAULT = 100, TURNS_MAX = 1000 };

/* ---- rows ---- */

/* The row is the answer of most calls. */
static void on_row(void *arg, const struct err *e, const struct store_conversation *list,
		   int n)
{
	struct store_call *sc = arg;
	struct err none = {0};

	if (e->code == ERR_NONE && n < 1) {
		err_set(&none, ERR_NOT_FOUND, "no conversation '%s'",
			sc->id ? sc->id : "");
		e = &none;
	}
	if (store_call_failed(sc, e))
		return;
	history_json_row(&sc->out, &list[0]);
	buf_addc(&sc->out, '}');
	store_call_reply(sc);
}

static void on_list(void *arg, const struct err *e, const struct store_conversation *list,
		    int n)
{
	struct store_call *sc = arg;

	if (store_call_failed(sc, e))
		return;
	buf_adds(&sc->out, "{\"conversations\":[");
	for (int i = 0; i < n; i++) {
		buf_adds(&sc->out, i ? "," : "");
		history_json_row(&sc->out, &list[i]);
		buf_addc(&sc->out, '}');
	}
	buf_adds(&sc->out, "]}");
	store_call_reply(sc);
}

static int read_before(const struct call *call, char **before, bool *pinned_only,
		       struct err *e)
{
	struct str pinned = http_query(call->http, "pinned");

	if (store_call_query(call->http, "before", false, before, e) < 0)
		return -1;
	if (*before && !store_call_is_id(*before))
		return err_set(e, ERR_INVALID, "before must be a conversation's id");
	if (pinned.len && !str_eq(pinned, "1") && !str_eq(pinned, "0"))
		return err_set(e, ERR_INVALID, "pinned must be 0 or 1");
	*pinned_only = str_eq(pinned, "1");
	return 0;
}

void history_api_list(const struct call *call)
{
	struct store_list_ask ask = {.limit = LIST_DEFAULT};
	struct store_call *sc;
	struct err e = {0};
	char *before = NULL;

	if (!api_listing(call, LIST_MAX, &ask.limit, NULL))
		return;
	if (read_before(call, &before, &ask.pinned_only, &e) < 0) {
		api_reply_error(call->conn, &e);
	} else if ((sc = store_call_new(call, NULL))) {
		ask.before = before;
		store_list(sc->store, &ask, on_list, sc);
	}
	free(before);
}

/* ---- one conversation ---- */

static void on_path(void *arg, const struct err *e, const struct store_path *p)
{
	struct store_call *sc = arg;

	if (store_call_failed(sc, e))
		return;
	buf_adds(&sc->out, ",\"messages\":[");
	for (int i = 0; i < p->n; i++) {
		buf_adds(&sc->out, i ? "," : "");
		history_json_message(&sc->out, &p->messages[i]);
	}
	buf_adds(&sc->out, "]}");
	store_call_reply(sc);
}

static void on_row_of_path(void *arg, const struct err *e,
			   const struct store_conversation *list, int n)
{
	struct store_call *sc = arg;
	struct store_path_ask ask = {.parent = sc->at};

	if (e->code != ERR_NONE || n < 1) {
		on_row(sc, e, list, n);
		return;
	}
	history_json_row(&sc->out, &list[0]);
	ask.conversation = list[0].id;
	store_path(sc->store, &ask, on_path, sc);
}

/* A place on a path: a hash, or "root". */
static int check_place(const char *name, const char *at, struct err *e)
{
	if (!at || store_call_is_hash(at) || !strcmp(at, "root"))
		return 0;
	return err_set(e, ERR_INVALID, "'%s' must be a message's hash (32 hex digits)",
		       name);
}

void history_api_get(const struct call *call)
{
	struct store_call *sc = NULL;
	struct err e = {0};
	char *at = NULL;

	if (store_call_query(call->http, "at", false, &at, &e) < 0 ||
	    check_place("at", at, &e) < 0)
		api_reply_error(call->conn, &e);
	else
		sc = store_call_of(call);
	if (!sc) {
		free(at);
		return;
	}
	sc->at = at;
	store_get(sc->store, sc->id, on_row_of_path, sc);
}

static void on_deleted(void *arg, const struct err *e)
{
	struct store_call *sc = arg;

	if (e->code == ERR_NONE && sc->api->forget_computed)
		sc->api->forget_computed(sc->api->arg);
	if (store_call_failed(sc, e))
		return;
	buf_addc(&sc->out, '{');
	buf_add_json_text(&sc->out, "id", sc->id);
	history_json_bool(&sc->out, "deleted", true);
	buf_addc(&sc->out, '}');
	store_call_reply(sc);
}

void history_api_delete(const struct call *call)
{
	struct store_call *sc = store_call_of(call);

	if (sc)
		store_delete(sc->store, sc->id, on_deleted, sc);
}

/* ---- what may be changed ---- */

static int read_bool(const cJSON *body, const char *key, enum tristate *out,
		     struct err *e)
{
	bool value = false;
	int rc = json_bool(body, key, &value, e);

	if (rc == 1)
		*out = value ? YES : NO;
	return rc < 0 ? -1 : 0;
}

static int read_text(const cJSON *body, const char *key, size_t max, const char **out,
		     struct err *e)
{
	if (json_string(body, key, out, e) < 0)
		return -1;
	if (*out && strlen(*out) > max)
		return err_set(e, ERR_INVALID, "'%s' has at most %zu bytes", key, max);
	return 0;
}

static int read_metadata(const cJSON *body, struct buf *text, struct err *e)
{
	const cJSON *metadata = NULL;

	if (json_object(body, "metadata", &metadata, e) < 0)
		return -1;
	if (!metadata)
		return 0;
	json_print(text, metadata);
	if (text->len > STORE_MAX_METADATA_BYTES)
		return err_set(e, ERR_INVALID, "'metadata' has at most %d bytes as JSON",
			       STORE_MAX_METADATA_BYTES);
	return 0;
}

/* Strings are borrowed from body and from `metadata`, the caller's. */
static int read_change(const cJSON *body, struct store_change *c, struct buf *metadata,
		       struct err *e)
{
	*c = (struct store_change){.pinned = UNSAID, .is_private = UNSAID};
	if (read_text(body, "title", STORE_MAX_TITLE_BYTES, &c->title, e) < 0 ||
	    read_text(body, "model", OPENAI_MAX_MODEL_BYTES, &c->model, e) < 0 ||
	    read_bool(body, "pinned", &c->pinned, e) < 0 ||
	    read_bool(body, "private", &c->is_private, e) < 0 ||
	    read_metadata(body, metadata, e) < 0)
		return -1;
	c->metadata = metadata->len ? metadata->data : NULL;
	return 0;
}

void history_api_change(const struct call *call)
{
	struct store_call *sc = store_call_of_with_body(call);
	struct buf metadata = {0};
	struct store_change c;
	struct err e = {0};

	if (!sc)
		return;
	if (read_change(sc->body, &c, &metadata, &e) < 0)
		store_call_fail(sc, &e);
	else
		store_change(sc->store, sc->id, &c, on_row, sc);
	buf_free(&metadata);
}

/* ---- creating ---- */

static void on_undone(void *arg, const struct err *e)
{
	UNUSED(arg);
	UNUSED(e); /* the client has the error that came first */
}

static void on_appended(void *arg, const struct err *e, const struct store_path *p)
{
	struct store_call *sc = arg;

	UNUSED(p);
	if (e->code != ERR_NONE) /* all of it or nothing */
		store_delete(sc->store, sc->id, on_undone, NULL);
	if (store_call_failed(sc, e))
		return;
	store_get(sc->store, sc->id, on_row, sc);
}

static void on_created(void *arg, const struct err *e,
		       const struct store_conversation *list, int n)
{
	struct store_call *sc = arg;
	struct request *r;
	struct err bad = {0};

	if (e->code != ERR_NONE || n < 1 || !cJSON_HasObjectItem(sc->body, "messages")) {
		on_row(sc, e, list, n);
		return;
	}
	sc->id = xstrdup(list[0].id);
	r = request_new();
	if (openai_decode_messages(r, sc->body, &bad) == 0)
		store_append(sc->store, sc->id, r->messages, r->nmessages, on_appended,
			     sc);
	else
		store_call_fail(sc, &bad); /* cannot be: they were read before */
	request_free(r);
}

/* Before anything is made. */
static int check_messages(const cJSON *body, struct err *e)
{
	struct request *r;
	int rc;

	if (!cJSON_HasObjectItem(body, "messages"))
		return 0;
	r = request_new();
	rc = openai_decode_messages(r, body, e);
	request_free(r);
	return rc;
}

static struct store_call *begin_create(const struct call *call, cJSON *body,
				       struct err *e)
{
	bool incognito = false;
	struct store_call *sc;

	if (json_bool(body, "incognito", &incognito, e) < 0 ||
	    check_messages(body, e) < 0)
		return NULL;
	if (!incognito)
		return store_call_new(call, NULL);
	sc = store_call_in(call, api_incognito(call->api));
	if (!sc)
		err_set(e, ERR_UNSUPPORTED, "incognito conversations are not to be had");
	return sc;
}

void history_api_create(const struct call *call)
{
	struct err e = {0};
	cJSON *body = store_call_body(call->http, &e);
	struct store_call *sc = body ? begin_create(call, body, &e) : NULL;
	struct buf metadata = {0};
	struct store_change c;

	if (!sc) {
		if (e.code != ERR_NONE)
			api_reply_error(call->conn, &e);
		cJSON_Delete(body);
		return;
	}
	sc->body = body;
	if (read_change(body, &c, &metadata, &e) < 0)
		store_call_fail(sc, &e);
	else
		store_create(sc->store, &c, on_created, sc);
	buf_free(&metadata);
}

/* ---- heads ---- */

void history_api_head(const struct call *call)
{
	struct store_call *sc = store_call_of_with_body(call);
	const char *to = NULL;
	struct err e = {0};
	int rc;

	if (!sc)
		return;
	rc = json_string(sc->body, "to", &to, &e);
	if (rc == 0)
		rc = err_set(&e, ERR_INVALID,
			     "'to' is missing: a message's hash, \"root\" or \"undo\"");
	else if (rc == 1 && strcmp(to, "root") && strcmp(to, "undo") &&
		 !store_call_is_hash(to))
		rc = err_set(&e, ERR_INVALID,
			     "'to' must be a message's hash, \"root\" or \"undo\"");
	if (rc < 0)
		store_call_fail(sc, &e);
	else
		store_move_head(sc->store, sc->id, to, on_row, sc);
}

void history_api_fork(const struct call *call)
{
	struct store_call *sc = store_call_of_with_body(call);
	const char *at = NULL;
	struct err e = {0};

	if (!sc)
		return;
	if (json_string(sc->body, "at", &at, &e) < 0 || check_place("at", at, &e) < 0)
		store_call_fail(sc, &e);
	else
		store_fork(sc->store, sc->id, at, on_row, sc);
}

/* ---- turns ---- */

static void on_turns(void *arg, const struct err *e, const struct store_turn *list, int n)
{
	struct store_call *sc = arg;

	if (store_call_failed(sc, e))
		return;
	buf_adds(&sc->out, "{\"turns\":[");
	for (int i = 0; i < n; i++) {
		buf_adds(&sc->out, i ? "," : "");
		history_json_turn(&sc->out, &list[i]);
	}
	buf_adds(&sc->out, "]}");
	store_call_reply(sc);
}

void history_api_turns(const struct call *call)
{
	int limit = TURNS_DEFAULT;
	struct store_call *sc;

	if (!api_listing(call, TURNS_MAX, &limit, NULL))
		return;
	sc = store_call_of(call);
	if (sc)
		store_turns(sc->store, sc->id, limit, on_turns, sc);
}
