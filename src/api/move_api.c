/* Export and import of conversations.  Loop thread; the store writes and reads hob's own JSON lines, and
 * the other formats are made from them here. */
#include "api/move_api.h"

#include "api/store_call.h"
#include "memory/markdown_out.h"
#include "memory/openai_out.h"
#include "memory/store_move.h"

/* ---- export ---- */

static int as_is(struct str jsonl, struct buf *out, struct err *e)
{
	UNUSED(e);
	buf_add(out, jsonl.ptr, jsonl.len);
	return 0;
}

static const struct {
	const char *name, *content_type;
	int (*write)(struct str jsonl, struct buf *out, struct err *e);
} formats[] = {
	{"jsonl", "application/x-ndjson", as_is},
	{"markdown", "text/markdown; charset=utf-8", markdown_out},
	{"openai", "application/json", openai_out},
};

static void on_export(void *arg, const struct err *e, struct str jsonl)
{
	struct store_call *sc = arg;
	struct buf text = {0};
	struct err bad = {0};

	if (store_call_failed(sc, e))
		return;
	if (formats[sc->step].write(jsonl, &text, &bad) < 0)
		store_call_fail(sc, &bad);
	else
		store_call_reply_as(sc, formats[sc->step].content_type, buf_str(&text));
	buf_free(&text);
}

void move_api_export(const struct call *call)
{
	struct str name = http_query(call->http, "format");
	struct store_call *sc;
	struct err e = {0};
	int i = 0;

	while (name.len && i < (int)ARRAY_LEN(formats) && !str_eq(name, formats[i].name))
		i++;
	if (i == (int)ARRAY_LEN(formats)) {
		err_set(&e, ERR_INVALID, "format must be jsonl, markdown or openai");
		api_reply_error(call->conn, &e);
		return;
	}
	sc = store_call_of(call);
	if (!sc)
		return;
	sc->step = i;
	store_export(sc->store, sc->id, on_export, sc);
}

/* ---- import ---- */

static void on_import(void *arg, const struct err *e, const struct store_imported *done)
{
	struct store_call *sc = arg;

	if (store_call_failed(sc, e))
		return;
	buf_addf(&sc->out, "{\"conversations\":%d,\"messages\":%d,\"known\":%d",
		 done->conversations, done->messages, done->known);
	buf_add_json_text(&sc->out, "last",
			  done->last && done->last[0] ? done->last : NULL);
	buf_addc(&sc->out, '}');
	store_call_reply(sc);
}

void move_api_import(const struct call *call)
{
	struct store_call *sc;
	struct err e = {0};

	if (!call->http->body.len) {
		err_set(&e, ERR_INVALID,
			"the body is empty: hob's JSON lines are expected, as export "
			"gives them");
		api_reply_error(call->conn, &e);
		return;
	}
	sc = store_call_new(call, NULL);
	if (sc)
		store_import(sc->store, call->http->body, on_import, sc);
}
