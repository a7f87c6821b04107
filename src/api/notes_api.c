/* Notes.  Loop thread.  Numbers of notes are a store's own, so that deleting one of an incognito
 * conversation names that conversation too. */
#include "api/notes_api.h"

#include "api/history_json.h"
#include "api/store_call.h"
#include "memory/store_notes.h"

static void add_note(struct buf *out, const struct store_note *n)
{
	buf_addf(out, "{\"id\":%lld", (long long)n->id);
	buf_add_json_text(out, "scope", n->scope);
	buf_add_json_text(out, "text", n->text);
	buf_addf(out, ",\"created_ms\":%lld}", (long long)n->created_ms);
}

static void on_notes(void *arg, const struct err *e, const struct store_note *list, int n)
{
	struct store_call *sc = arg;

	if (store_call_failed(sc, e))
		return;
	buf_adds(&sc->out, "{\"notes\":[");
	for (int i = 0; i < n; i++) {
		buf_adds(&sc->out, i ? "," : "");
		add_note(&sc->out, &list[i]);
	}
	buf_adds(&sc->out, "]}");
	store_call_reply(sc);
}

/* For ?conversation=, or all. */
static struct store_call *begin(const struct call *call)
{
	struct store_call *sc = NULL;
	struct err e = {0};
	char *conversation;

	if (store_call_query(call->http, "conversation", false, &conversation, &e) < 0)
		api_reply_error(call->conn, &e);
	else
		sc = store_call_new(call, conversation);
	free(conversation);
	return sc;
}

void notes_api_list(const struct call *call)
{
	struct store_call *sc = begin(call);

	if (sc)
		store_notes(sc->store, sc->id, on_notes, sc);
}

static void on_added(void *arg, const struct err *e, const struct store_note *list, int n)
{
	struct store_call *sc = arg;

	if (store_call_failed(sc, e))
		return;
	ASSERT(n == 1);
	add_note(&sc->out, &list[0]);
	store_call_reply(sc);
}

static int read_note(const cJSON *body, const char **text, const char **conversation,
		     struct err *e)
{
	*text = *conversation = NULL;
	if (json_string(body, "text", text, e) < 0 ||
	    json_string(body, "conversation", conversation, e) < 0)
		return -1;
	if (!*text || !(*text)[strspn(*text, " \t\r\n")])
		return err_set(e, ERR_INVALID, "'text' is missing: what to note");
	if (strlen(*text) > STORE_MAX_NOTE_BYTES)
		return err_set(e, ERR_INVALID, "'text' has at most %d bytes",
			       STORE_MAX_NOTE_BYTES);
	if (*conversation && !**conversation)
		*conversation = NULL;
	return 0;
}

/* The scope must be an id: "last" is one only after it was looked up. */
static void on_scope(void *arg, const struct err *e,
		     const struct store_conversation *list, int n)
{
	struct store_call *sc = arg;
	const char *text = "";

	if (store_call_failed(sc, e))
		return;
	ASSERT(n == 1);
	json_string(sc->body, "text", &text, NULL);
	store_note_add(sc->store, list[0].id, text, on_added, sc);
}

void notes_api_add(const struct call *call)
{
	const char *text, *conversation;
	struct err e = {0};
	cJSON *body = store_call_body(call->http, &e);
	struct store_call *sc = NULL;

	if (!body || read_note(body, &text, &conversation, &e) < 0)
		api_reply_error(call->conn, &e);
	else
		sc = store_call_new(call, conversation);
	if (!sc) {
		cJSON_Delete(body);
		return;
	}
	sc->body = body;
	if (conversation)
		store_get(sc->store, conversation, on_scope, sc);
	else
		store_note_add(sc->store, "", text, on_added, sc);
}

static void on_deleted(void *arg, const struct err *e)
{
	struct store_call *sc = arg;

	if (store_call_failed(sc, e))
		return;
	buf_addf(&sc->out, "{\"id\":%s", sc->at);
	history_json_bool(&sc->out, "deleted", true);
	buf_addc(&sc->out, '}');
	store_call_reply(sc);
}

void notes_api_delete(const struct call *call)
{
	struct store_call *sc;
	struct err e = {0};
	int64_t id = 0;

	if (!str_to_i64(call->param, 1, INT64_C(1) << 53, &id)) {
		err_set(&e, ERR_INVALID,
			"that is no note's number: GET /v1/hob/notes lists them");
		api_reply_error(call->conn, &e);
		return;
	}
	sc = begin(call);
	if (!sc)
		return;
	sc->at = xasprintf("%lld", (long long)id);
	store_note_delete(sc->store, id, on_deleted, sc);
}
