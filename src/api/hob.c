/* Handlers for our own paths.
 *
 * Loop thread.  A store call cannot be cancelled and its callback comes later, so each lookup is
 * a struct of its own that outlives a client who left: abort() only takes the connection away. */
#include "api/hob.h"

#include <unistd.h>

#include "base/clock.h"
#include "memory/store_heads.h"

enum { LIST_DEFAULT = 50, LIST_MAX = 1000, ID_MAX_BYTES = 64 };

void hob_health(const struct call *call)
{
	const struct api *a = call->api;
	const char *engine = a->engine_status ? a->engine_status(a->arg) : "unknown";
	const char *memory =
		a->memory_status ? a->memory_status(a->arg) : (a->store ? "ok" : "off");
	struct buf out = {0};

	buf_adds(&out, "{\"status\":\"ok\",\"version\":");
	buf_add_json(&out, a->version ? a->version : "",
		     a->version ? strlen(a->version) : 0);
	buf_addf(&out, ",\"pid\":%d,\"uptime_s\":%.3f,\"engine\":", (int)getpid(),
		 (double)(clock_mono_ms() - a->started_ms) / 1000.0);
	buf_add_json(&out, engine, strlen(engine));
	buf_adds(&out, ",\"memory\":");
	buf_add_json(&out, memory, strlen(memory));
	buf_adds(&out, "}");
	api_reply_json(call->conn, &out);
	buf_free(&out);
}

/* -- conversations -- */

struct lookup {
	struct exchange exchange;
	struct conn *conn;   /* NULL: the client has left */
	struct store *store; /* borrowed */
	char *id;            /* owned, or NULL */
	struct buf out;
};

static void lookup_abort(struct exchange *x)
{
	CONTAINER_OF(x, struct lookup, exchange)->conn = NULL;
}

static void lookup_free(struct lookup *l)
{
	buf_free(&l->out);
	free(l->id);
	free(l);
}

/* True when there was an error, or nobody to tell: the lookup is gone. */
static bool lookup_failed(struct lookup *l, const struct err *e)
{
	if (l->conn && e->code == ERR_NONE)
		return false;
	if (l->conn)
		api_reply_error(l->conn, e);
	lookup_free(l);
	return true;
}

static struct lookup *lookup_new(const struct call *call, bool has_id)
{
	struct buf id = {0};
	struct lookup *l;
	struct err e = {0};

	if (!call->api->store)
		err_set(&e, ERR_UNSUPPORTED,
			"memory is off (memory.enabled in the configuration)");
	else if (has_id &&
		 (!http_unescape(call->param, &id) || !id.len || id.len > ID_MAX_BYTES))
		err_set(&e, ERR_INVALID, "that is no conversation id");
	if (e.code != ERR_NONE) {
		api_reply_error(call->conn, &e);
		buf_free(&id);
		return NULL;
	}
	l = xcalloc(1, sizeof(*l));
	l->exchange.abort = lookup_abort;
	l->conn = call->conn;
	l->store = call->api->store;
	l->id = has_id ? buf_take(&id, NULL) : NULL;
	exchange_begin(call->conn, &l->exchange);
	return l;
}

/* Without the closing brace. */
static void add_conversation(struct buf *out, const struct store_conversation *c)
{
	buf_adds(out, "{");
	buf_add_json_text(out, "id", c->id);
	buf_add_json_text(out, "title", c->title);
	buf_add_json_text(out, "model", c->model);
	buf_addf(out, ",\"created_ms\":%lld,\"updated_ms\":%lld,\"message_count\":%d,",
		 (long long)c->created_ms, (long long)c->updated_ms, c->messages);
	buf_add_json_text(out, "status", c->status);
	buf_add_json_text(out, "partial", c->partial);
}

static void on_list(void *arg, const struct err *e, const struct store_conversation *list,
		    int n)
{
	struct lookup *l = arg;

	if (lookup_failed(l, e))
		return;
	buf_adds(&l->out, "{\"conversations\":[");
	for (int i = 0; i < n; i++) {
		buf_adds(&l->out, i ? "," : "");
		add_conversation(&l->out, &list[i]);
		buf_adds(&l->out, "}");
	}
	buf_adds(&l->out, "]}");
	api_reply_json(l->conn, &l->out);
	lookup_free(l);
}

void hob_conversations(const struct call *call)
{
	int limit = LIST_DEFAULT;
	struct lookup *l;

	if (!api_listing(call, LIST_MAX, &limit, NULL))
		return;
	l = lookup_new(call, false);
	if (l)
		store_list(l->store, &(struct store_list_ask){.limit = limit}, on_list,
			   l);
}

static void on_path(void *arg, const struct err *e, const struct store_path *p)
{
	struct lookup *l = arg;

	if (lookup_failed(l, e))
		return;
	buf_adds(&l->out, ",\"messages\":[");
	for (int i = 0; i < p->n; i++) {
		const struct store_message *m = &p->messages[i];
		const char *role = role_name(m->role);

		buf_addf(&l->out, "%s{\"role\":\"%s\",\"content\":", i ? "," : "", role);
		buf_add_json(&l->out, m->text, strlen(m->text));
		buf_addf(&l->out, ",\"created_ms\":%lld}", (long long)m->created_ms);
	}
	buf_adds(&l->out, "]}");
	api_reply_json(l->conn, &l->out);
	lookup_free(l);
}

static void on_row(void *arg, const struct err *e, const struct store_conversation *list,
		   int n)
{
	struct lookup *l = arg;
	struct err none = {0};

	if (e->code == ERR_NONE && n < 1) {
		err_set(&none, ERR_NOT_FOUND, "no conversation '%s'", l->id);
		e = &none;
	}
	if (lookup_failed(l, e))
		return;
	add_conversation(&l->out, &list[0]);
	store_path(l->store, &(struct store_path_ask){.conversation = list[0].id},
		   on_path, l);
}

void hob_conversation(const struct call *call)
{
	struct lookup *l = lookup_new(call, true);

	if (l)
		store_get(l->store, l->id, on_row, l);
}

static void on_deleted(void *arg, const struct err *e)
{
	struct lookup *l = arg;

	if (lookup_failed(l, e))
		return;
	buf_adds(&l->out, "{");
	buf_add_json_text(&l->out, "id", l->id);
	buf_adds(&l->out, ",\"deleted\":true}");
	api_reply_json(l->conn, &l->out);
	lookup_free(l);
}

void hob_conversation_delete(const struct call *call)
{
	struct lookup *l = lookup_new(call, true);

	if (l)
		store_delete(l->store, l->id, on_deleted, l);
}
