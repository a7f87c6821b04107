/* The cache over HTTP: views, commands, a load that is waited for, and the event stream.
 *
 * Loop thread.  A load and an event stream outlive their handlers: each is a struct that goes when its
 * reply is complete or its client has left.  A client that leaves does not cancel the load: it asked for
 * a warm model, not for an answer. */
#include "api/cache_api.h"

#include "api/cache_json.h"
#include "base/clock.h"
#include "base/json.h"

enum {
	DECISIONS_DEFAULT = 20,
	PROGRESS_MS = 250,   /* of a streamed load */
	ALIVE_MS = 15000,    /* a comment in a quiet event stream */
	NAME_MAX_BYTES = 256 /* as model names elsewhere */
};

/* ---- requests */

struct command {
	cJSON *root;      /* owned */
	const char *name; /* borrowed from root */
	const struct model *model;
	bool park, stream, wait;
	int64_t keep_alive_ms;
};

static int find_model(const struct call *call, struct command *c, struct err *e)
{
	const char *near;

	if (!c->name || !*c->name)
		return err_set(e, ERR_INVALID, "'model' is missing");
	if (strlen(c->name) > NAME_MAX_BYTES)
		return err_set(e, ERR_INVALID, "'model' is too long");
	c->model = strcmp(c->name, "default") ? models_find(call->api->models, c->name)
					      : models_default(call->api->models);
	if (c->model && c->model->path)
		return 0;
	near = models_nearest(call->api->models, c->name);
	return err_set(e, ERR_MODEL, "no local model '%.150s'%s%.150s%s", c->name,
		       near ? "; did you mean '" : "", near ? near : "",
		       near ? "'?" : "");
}

/* False: the error has been replied. */
static bool read_command(const struct call *call, struct command *c)
{
	struct err e = {0};

	*c = (struct command){.keep_alive_ms = KEEP_ALIVE_DEFAULT, .wait = true};
	c->root = json_parse(call->http->body, &e);
	if (c->root && !cJSON_IsObject(c->root))
		err_set(&e, ERR_INVALID, "the body must be a JSON object");
	if (e.code == ERR_NONE && json_string(c->root, "model", &c->name, &e) >= 0 &&
	    json_bool(c->root, "park", &c->park, &e) >= 0 &&
	    json_bool(c->root, "stream", &c->stream, &e) >= 0 &&
	    json_bool(c->root, "wait", &c->wait, &e) >= 0 &&
	    json_duration(c->root, "keep_alive", &c->keep_alive_ms, &e) >= 0 &&
	    find_model(call, c, &e) == 0)
		return true;
	api_reply_error(call->conn, &e);
	cJSON_Delete(c->root);
	return false;
}

/* The row of the model, or its name alone when the cache knows nothing of it. */
static void add_state(struct buf *out, const struct cache *c, const char *name)
{
	struct cache_row row;

	if (cache_find(c, name, &row)) {
		cache_json_row(out, &row);
		return;
	}
	buf_adds(out, "{\"name\":");
	buf_add_json(out, name, strlen(name));
	buf_adds(out, ",\"state\":\"disk\",\"tier\":\"disk\"}");
}

static void reply_state(const struct call *call, const char *name, int rc,
			const struct err *e)
{
	struct buf out = {0};

	if (rc < 0) {
		api_reply_error(call->conn, e);
		return;
	}
	add_state(&out, call->api->cache, name);
	api_reply_json(call->conn, &out);
	buf_free(&out);
}

void cache_api_unload(const struct call *call)
{
	struct err e = {0};
	struct command c;
	int rc;

	if (!read_command(call, &c))
		return;
	rc = cache_unload(call->api->cache, c.model->name, c.park, &e);
	reply_state(call, c.model->name, rc, &e);
	cJSON_Delete(c.root);
}

static void pin(const struct call *call, bool pinned)
{
	struct err e = {0};
	struct command c;
	int rc;

	if (!read_command(call, &c))
		return;
	rc = cache_pin(call->api->cache, c.model, pinned, &e);
	reply_state(call, c.model->name, rc, &e);
	cJSON_Delete(c.root);
}

void cache_api_pin(const struct call *call)
{
	pin(call, true);
}

void cache_api_unpin(const struct call *call)
{
	pin(call, false);
}

/* ---- views */

static void add_snapshot(struct buf *out, const struct api *api)
{
	buf_addc(out, '{');
	cache_json_members(out, api->cache);
	buf_adds(out, ",\"engine\":");
	if (api->engine_json)
		api->engine_json(api->arg, out);
	else
		buf_adds(out, "null");
	buf_addc(out, '}');
}

void cache_api_get(const struct call *call)
{
	struct buf out = {0};

	add_snapshot(&out, call->api);
	api_reply_json(call->conn, &out);
	buf_free(&out);
}

void cache_api_decisions(const struct call *call)
{
	struct decision list[CACHE_DECISIONS];
	int limit = DECISIONS_DEFAULT, n;
	struct buf out = {0};
	char *model;

	if (!api_listing(call, CACHE_DECISIONS, &limit, &model))
		return;
	n = cache_decisions(call->api->cache, model, list, limit);
	buf_adds(&out, "{\"decisions\":[");
	for (int i = 0; i < n; i++) {
		buf_adds(&out, i ? "," : "");
		cache_json_decision(&out, &list[i]);
	}
	buf_adds(&out, "]}");
	api_reply_json(call->conn, &out);
	buf_free(&out);
	free(model);
}

/* ---- load */

struct load_call {
	struct exchange exchange;
	struct conn *conn; /* NULL: the client has left */
	const struct api *api;
	char *name;                  /* owned */
	struct cache_waiter *waiter; /* NULL after its answer */
	uv_timer_t timer;
	bool stream;
	struct buf out; /* scratch */
};

static void load_freed(uv_handle_t *h)
{
	struct load_call *l = h->data;

	buf_free(&l->out);
	free(l->name);
	free(l);
}

static void load_send(struct load_call *l)
{
	http_stream_write(l->conn, buf_str(&l->out));
	buf_clear(&l->out);
}

static void load_progress(uv_timer_t *t)
{
	struct load_call *l = t->data;
	struct cache_progress p;

	if (!l->conn || !l->waiter)
		return;
	cache_waiter_progress(l->waiter, &p);
	buf_addf(&l->out,
		 "event: progress\ndata: {\"state\":\"%s\",\"done_bytes\":%llu,"
		 "\"total_bytes\":%llu}\n\n",
		 cache_state_name(p.state), (unsigned long long)p.done_bytes,
		 (unsigned long long)p.total_bytes);
	load_send(l);
}

static void load_told(struct load_call *l, const struct err *e)
{
	if (l->stream) {
		buf_adds(&l->out, e ? "event: error\ndata: " : "event: done\ndata: ");
		if (e)
			api_add_error(&l->out, e);
		else
			add_state(&l->out, l->api->cache, l->name);
		buf_adds(&l->out, "\n\n");
		load_send(l);
		http_stream_end(l->conn);
	} else if (e) {
		api_reply_error(l->conn, e);
	} else {
		add_state(&l->out, l->api->cache, l->name);
		api_reply_json(l->conn, &l->out);
	}
}

static void load_done(void *arg, const struct err *e)
{
	struct load_call *l = arg;

	l->waiter = NULL;
	if (l->conn)
		load_told(l, e);
	l->conn = NULL;
	uv_close((uv_handle_t *)&l->timer, load_freed);
}

static void load_abort(struct exchange *x)
{
	struct load_call *l = CONTAINER_OF(x, struct load_call, exchange);

	l->conn = NULL;
	uv_timer_stop(&l->timer);
}

void cache_api_load(const struct call *call)
{
	struct load_call *l;
	struct cache_want want;
	struct command c;

	if (!read_command(call, &c))
		return;
	l = xcalloc(1, sizeof(*l));
	l->exchange.abort = load_abort;
	l->conn = call->conn;
	l->api = call->api;
	l->name = xstrdup(c.model->name);
	l->stream = c.stream;
	uv_timer_init(conn_loop(l->conn), &l->timer);
	l->timer.data = l;
	if (c.wait)
		exchange_begin(l->conn, &l->exchange);
	want = (struct cache_want){
		.model = c.model,
		.class = CLASS_INTERACTIVE,
		.client = conn_peer(l->conn).client,
		.deadline_ms =
			clock_mono_ms() + (uint64_t)call->api->config->queue_timeout_ms,
		.keep_alive_ms = c.keep_alive_ms,
	};
	l->waiter = cache_load(call->api->cache, &want, load_done, l);
	if (!c.wait) {
		reply_state(call, l->name, 0, NULL);
		l->conn = NULL; /* nobody is told how it ends but `hob why` */
	} else if (l->stream) {
		http_stream_begin(l->conn, 200, "text/event-stream",
				  "Cache-Control: no-cache\r\n");
		uv_timer_start(&l->timer, load_progress, 0, PROGRESS_MS);
	}
	cJSON_Delete(c.root);
}

/* ---- events */

struct watcher {
	struct exchange exchange;
	struct cache_listener listener;
	struct conn *conn;
	const struct api *api;
	uv_timer_t timer; /* comments while nothing happens */
	uint64_t n;       /* of the last event */
	bool paused, missed;
	struct buf out; /* scratch */
};

static void watcher_freed(uv_handle_t *h)
{
	struct watcher *w = h->data;

	buf_free(&w->out);
	free(w);
}

static void watcher_send(struct watcher *w)
{
	http_stream_write(w->conn, buf_str(&w->out));
	buf_clear(&w->out);
	uv_timer_again(&w->timer);
}

static void watcher_snapshot(struct watcher *w)
{
	buf_addf(&w->out,
		 "id: %llu\nevent: snapshot\ndata: ", (unsigned long long)++w->n);
	add_snapshot(&w->out, w->api);
	buf_adds(&w->out, "\n\n");
	w->missed = false;
	watcher_send(w);
}

static void on_decided(struct cache_listener *l, const struct decision *d)
{
	struct watcher *w = CONTAINER_OF(l, struct watcher, listener);

	w->missed |= w->paused;
	if (w->paused)
		return;
	buf_addf(&w->out,
		 "id: %llu\nevent: decision\ndata: ", (unsigned long long)++w->n);
	cache_json_decision(&w->out, d);
	buf_adds(&w->out, "\n\n");
	watcher_send(w);
}

static void on_moved(struct cache_listener *l, const struct cache_row *row,
		     enum cache_state from)
{
	struct watcher *w = CONTAINER_OF(l, struct watcher, listener);

	w->missed |= w->paused;
	if (w->paused)
		return;
	buf_addf(&w->out, "id: %llu\nevent: state\ndata: {\"from\":\"%s\",\"model\":",
		 (unsigned long long)++w->n, cache_state_name(from));
	cache_json_row(&w->out, row);
	buf_adds(&w->out, "}\n\n");
	watcher_send(w);
}

static void watcher_alive(uv_timer_t *t)
{
	struct watcher *w = t->data;

	buf_adds(&w->out, ": hob\n\n");
	watcher_send(w);
}

static void watcher_pause(struct exchange *x, bool paused)
{
	struct watcher *w = CONTAINER_OF(x, struct watcher, exchange);

	w->paused = paused;
	if (!paused && w->missed)
		watcher_snapshot(w);
}

static void watcher_abort(struct exchange *x)
{
	struct watcher *w = CONTAINER_OF(x, struct watcher, exchange);

	cache_unlisten(w->api->cache, &w->listener);
	uv_close((uv_handle_t *)&w->timer, watcher_freed);
}

/* It would go on for ever. */
static void watcher_drain(struct exchange *x)
{
	struct watcher *w = CONTAINER_OF(x, struct watcher, exchange);
	struct conn *c = w->conn;

	watcher_abort(x);
	http_stream_end(c);
}

void cache_api_events(const struct call *call)
{
	struct watcher *w = xcalloc(1, sizeof(*w));

	w->exchange = (struct exchange){
		.abort = watcher_abort, .pause = watcher_pause, .drain = watcher_drain};
	w->listener.decided = on_decided;
	w->listener.moved = on_moved;
	w->conn = call->conn;
	w->api = call->api;
	uv_timer_init(conn_loop(w->conn), &w->timer);
	w->timer.data = w;
	uv_timer_start(&w->timer, watcher_alive, ALIVE_MS, ALIVE_MS);
	exchange_begin(w->conn, &w->exchange);
	http_stream_begin(w->conn, 200, "text/event-stream",
			  "Cache-Control: no-cache\r\n");
	watcher_snapshot(w);
	cache_listen(call->api->cache, &w->listener);
}
