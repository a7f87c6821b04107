/* Small questions to a remote provider: its catalogue, its quota.  Loop thread.
 *
 * A reader may question the timer of each: a get that cannot even start (no key) must not call back
 * before remote_get() returns. */
#include "providers/remote_impl.h"

#include <time.h>


struct remote_get {
	struct fetch_sink sink;
	TAILQ_ENTRY(remote_get) in_list;
	struct remote *r;
	struct upstream *up; /* owned */
	unsigned generation; /* of the key in it */
	struct fetch_call *call;
	struct key_wait wait;
	char *path;
	struct buf question; /* of a POST, until it goes */
	struct buf body;     /* of the answer */
	size_t max_bytes;
	bool too_long;
	struct err failed; /* before it began: to be told by the timer */
	uv_timer_t later;
	remote_get_cb *cb; /* NULL: told or cancelled */
	void *arg;
};

static void on_closed(uv_handle_t *h)
{
	free(h->data);
}

static void get_end(struct remote_get *g)
{
	TAILQ_REMOVE(&g->r->asked, g, in_list);
	key_unwait(&g->wait);
	if (g->call)
		fetch_cancel(g->call);
	link_stats(g->up, &g->r->past);
	upstream_free(g->up);
	buf_free(&g->question);
	buf_free(&g->body);
	free(g->path);
	uv_close((uv_handle_t *)&g->later, on_closed);
}

/* Ends it, then tells: cb may ask the next one. */
static void get_tell(struct remote_get *g, const cJSON *tree, const struct err *why)
{
	remote_get_cb *cb = g->cb;
	struct err e = {0};

	if (why) {
		e = *why;
		key_redact(g->r->key, e.text);
		if (e.code == ERR_KEY && g->up)
			key_refused(g->r->key, g->generation);
	}
	get_end(g);
	cb(g->arg, tree, why ? &e : NULL);
}

static bool on_data(struct fetch_sink *sink, const char *bytes, size_t n)
{
	struct remote_get *g = CONTAINER_OF(sink, struct remote_get, sink);
	size_t room = g->max_bytes - g->body.len;

	g->too_long |= n > room;
	buf_add(&g->body, bytes, n < room ? n : room);
	return true;
}

static struct str header_of(void *arg, const char *name)
{
	return fetch_header(((struct remote_get *)arg)->call, name);
}

static int judge(struct remote_get *g, struct err *e)
{
	struct response_head h = {.status = fetch_status(g->call),
				  .header = header_of,
				  .arg = g,
				  .now_unix_s = (int64_t)time(NULL)};
	struct failure f = {.who = g->r->who,
			    .key_source = key_source(g->r->key),
			    .status = h.status,
			    .content_type = header_of(g, "content-type"),
			    .body = buf_str(&g->body),
			    .retry_after_ms = failure_retry_after(&h)};

	if (h.status != 200)
		return failure_of_response(e, &f);
	if (g->too_long)
		return err_set(e, ERR_UPSTREAM, "%s: %s is over %zu bytes", g->r->who,
			       g->path, g->max_bytes);
	return 0;
}

static void on_end(struct fetch_sink *sink, const struct err *why)
{
	struct remote_get *g = CONTAINER_OF(sink, struct remote_get, sink);
	struct err e = {0};
	cJSON *tree = NULL;

	if (why) {
		e = *why;
		err_wrap(&e, "%s", g->r->who);
	} else if (judge(g, &e) == 0) {
		tree = json_parse(buf_str(&g->body), NULL);
		if (!tree)
			err_set(&e, ERR_UPSTREAM, "%s: %s is no JSON", g->r->who,
				g->path);
	}
	get_tell(g, tree, tree ? NULL : &e);
	cJSON_Delete(tree);
}

static int get_call(struct remote_get *g, struct err *e)
{
	static const struct fetch_deadlines deadlines = {.connect = REMOTE_GET_CONNECT_MS,
							 .total = REMOTE_GET_TOTAL_MS};

	g->generation = key_generation(g->r->key);
	g->up = link_once(g->r, g->path, e);
	if (!g->up)
		return -1;
	g->call = fetch_start(g->up, g->question.len ? &g->question : NULL, &deadlines,
			      &g->sink);
	return 0;
}

static void on_key(struct key_wait *w, const struct err *why)
{
	struct remote_get *g = CONTAINER_OF(w, struct remote_get, wait);
	struct err e = {0};

	if (why)
		e = *why;
	if (why || get_call(g, &e) < 0)
		get_tell(g, NULL, &e);
}

static void on_later(uv_timer_t *t)
{
	struct remote_get *g = t->data;
	struct err e = g->failed;

	get_tell(g, NULL, &e);
}

struct remote_get *remote_get(struct remote *r, const char *path, size_t max_bytes,
			      remote_get_cb *cb, void *arg)
{
	return remote_post(r, path, NULL, max_bytes, cb, arg);
}

struct remote_get *remote_post(struct remote *r, const char *path, struct buf *body,
			       size_t max_bytes, remote_get_cb *cb, void *arg)
{
	struct remote_get *g = xcalloc(1, sizeof *g);
	int rc;

	g->r = r;
	g->sink = (struct fetch_sink){.data = on_data, .end = on_end};
	g->wait.ready = on_key;
	g->path = xstrdup(path);
	if (body) {
		g->question = *body;
		*body = (struct buf){0};
	}
	g->max_bytes = max_bytes;
	g->cb = cb;
	g->arg = arg;
	uv_timer_init(r->loop, &g->later);
	g->later.data = g;
	TAILQ_INSERT_TAIL(&r->asked, g, in_list);
	if (remote_is_allowed(r))
		rc = key_want(r->key, &g->wait, &g->failed);
	else
		rc = err_set(&g->failed, ERR_FORBIDDEN,
			     "%s is not local, and local_only is on", r->who);
	if (rc == 0)
		rc = get_call(g, &g->failed);
	if (rc < 0)
		uv_timer_start(&g->later, on_later, 0, 0);
	return g;
}

void remote_get_cancel(struct remote_get *g)
{
	get_end(g);
}

void remote_asked_close(struct remote *r)
{
	struct err e;

	err_set(&e, ERR_UNAVAILABLE, "%s is closing", r->who);
	while (!TAILQ_EMPTY(&r->asked))
		get_tell(TAILQ_FIRST(&r->asked), NULL, &e);
}
