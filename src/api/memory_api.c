/* The store as a whole.  Loop thread.
 *
 * A backup writes a file wherever it is told to, with the user's rights: that is for the Unix socket,
 * which only the user can open, never for TCP.  Forgetting by age or altogether means the incognito
 * conversations too: both stores are asked at once, and the sums are added up. */
#include "api/memory_api.h"

#include <limits.h>
#include <sys/stat.h>

#include "api/store_call.h"
#include "memory/store_keep.h"

/* ---- figures ---- */

void memory_api_get(const struct call *call)
{
	const struct api *a = call->api;
	const char *status =
		a->memory_status ? a->memory_status(a->arg) : (a->store ? "ok" : "off");
	struct store_figures f = {0};
	struct buf out = {0};

	if (a->store)
		store_figures(a->store, &f);
	buf_addc(&out, '{');
	buf_add_json_text(&out, "path", a->config->memory_path);
	buf_add_json_text(&out, "status", status);
	buf_add_json_text(&out, "store",
			  config_memory_store_name(a->config->memory_store));
	buf_addf(&out,
		 ",\"bytes\":%llu,\"max_bytes\":%llu,\"conversations\":%lld,"
		 "\"messages\":%lld,\"evicted\":%llu,\"oldest_ms\":%lld}",
		 (unsigned long long)f.bytes,
		 (unsigned long long)a->config->memory_limits.max_bytes,
		 (long long)f.conversations, (long long)f.messages,
		 (unsigned long long)f.evicted, (long long)f.oldest_ms);
	api_reply_json(call->conn, &out);
	buf_free(&out);
}

/* ---- forgetting ---- */

struct forgetting {
	struct store_call *call;
	struct store_forgotten sum;
	struct err err; /* the first */
	int waiting;    /* for so many stores */
};

static void on_forgotten(void *arg, const struct err *e,
			 const struct store_forgotten *done)
{
	struct forgetting *f = arg;
	struct store_call *sc = f->call;

	if (e->code == ERR_NONE) {
		f->sum.conversations += done->conversations;
		f->sum.messages += done->messages;
		f->sum.bytes += done->bytes;
	} else if (f->err.code == ERR_NONE) {
		f->err = *e;
	}
	if (--f->waiting)
		return;
	if (f->sum.conversations && sc->api->forget_computed)
		sc->api->forget_computed(sc->api->arg);
	if (!store_call_failed(sc, &f->err)) {
		buf_addf(&sc->out,
			 "{\"conversations\":%lld,\"messages\":%lld,\"bytes\":%lld}",
			 (long long)f->sum.conversations, (long long)f->sum.messages,
			 (long long)f->sum.bytes);
		store_call_reply(sc);
	}
	free(f);
}

static int read_forget(const cJSON *body, struct store_forget_ask *ask, struct err *e)
{
	int given = json_string(body, "conversation", &ask->conversation, e), has_before;

	if (given < 0)
		return -1;
	has_before = json_int(body, "before_ms", 1, INT64_C(1) << 53, &ask->before_ms, e);
	if (has_before < 0 || json_bool(body, "all", &ask->all, e) < 0 ||
	    json_bool(body, "pinned", &ask->pinned_too, e) < 0)
		return -1;
	if (given + has_before + ask->all != 1)
		return err_set(e, ERR_INVALID,
			       "say what to forget: one of 'conversation', 'before_ms' "
			       "and 'all': true");
	ask->pinned_too |= given; /* it was named */
	return 0;
}

void memory_api_forget(const struct call *call)
{
	struct store_forget_ask ask = {0};
	struct err e = {0};
	cJSON *body = store_call_body(call->http, &e);
	struct store_call *sc = NULL;
	struct forgetting *f;
	struct store *incognito;

	if (!body || read_forget(body, &ask, &e) < 0)
		api_reply_error(call->conn, &e);
	else
		sc = store_call_new(call, ask.conversation);
	if (!sc) {
		cJSON_Delete(body);
		return;
	}
	sc->body = body;
	f = xcalloc(1, sizeof *f);
	f->call = sc;
	incognito = ask.conversation ? NULL : api_incognito(call->api);
	f->waiting = incognito ? 2 : 1;
	store_forget(sc->store, &ask, on_forgotten, f);
	if (incognito)
		store_forget(incognito, &ask, on_forgotten, f);
}

/* ---- backup ---- */

static void on_backup(void *arg, const struct err *e)
{
	struct store_call *sc = arg;
	const char *path = "";
	struct stat st = {0};
	bool known;

	if (store_call_failed(sc, e))
		return;
	json_string(sc->body, "path", &path, NULL);
	known = stat(path, &st) == 0;
	buf_addc(&sc->out, '{');
	buf_add_json_text(&sc->out, "path", path);
	buf_add_json_number(&sc->out, "bytes", known, (double)st.st_size, 0);
	buf_addc(&sc->out, '}');
	store_call_reply(sc);
}

static int read_backup(const struct call *call, const cJSON *body, const char **path,
		       struct err *e)
{
	if (conn_peer(call->conn).is_tcp)
		return err_set(
			e, ERR_FORBIDDEN,
			"a backup is made over the Unix socket only: hob backup FILE");
	if (json_string(body, "path", path, e) < 0)
		return -1;
	if (!*path || **path != '/')
		return err_set(e, ERR_INVALID, "'path' must be an absolute path");
	if (strlen(*path) >= PATH_MAX)
		return err_set(e, ERR_INVALID, "'path' is longer than %d bytes",
			       PATH_MAX - 1);
	return 0;
}

void memory_api_backup(const struct call *call)
{
	struct err e = {0};
	cJSON *body = store_call_body(call->http, &e);
	struct store_call *sc = NULL;
	const char *path = NULL;

	if (!body || read_backup(call, body, &path, &e) < 0)
		api_reply_error(call->conn, &e);
	else
		sc = store_call_new(call, NULL);
	if (!sc) {
		cJSON_Delete(body);
		return;
	}
	sc->body = body;
	store_backup(sc->store, path, on_backup, sc);
}
