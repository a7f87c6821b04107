/* Is it ready, and what has it loaded: small GETs on the child's socket.
 *
 * Loop thread.  The first looks come 10 ms apart and then up to 100 ms; a child that pushes
 * its state is looked at once a second only, in case it pushes the rest in words that we do
 * not know.  A socket that is not there yet fails at once and costs next to nothing. */
#include "providers/llama_server_impl.h"

#include <limits.h>

static bool on_data(struct fetch_sink *sink, const char *bytes, size_t n)
{
	struct ask *a = CONTAINER_OF(sink, struct ask, sink);
	size_t room = LLAMA_MAX_ANSWER_BYTES - a->body.len;

	buf_add(&a->body, bytes, n < room ? n : room);
	return true;
}

static void ask_start(struct llama_server *s, struct ask *a, const char *path,
		      void (*end)(struct fetch_sink *sink, const struct err *e))
{
	static const struct fetch_deadlines limits = {.connect = LLAMA_ASK_MS,
						      .total = LLAMA_ASK_MS};

	if (!a->up) {
		char *url = xasprintf("http://localhost%s", path);
		char *bearer = xasprintf("Authorization: Bearer %s", s->key);
		const char *const headers[] = {bearer, NULL};
		const struct upstream_options o = {.headers = headers,
						   .socket_path = s->socket_path};

		a->up = upstream_new(s->all->fetch, url, &o, NULL);
		ASSERT(a->up); /* a constant URL */
		explicit_bzero(bearer, strlen(bearer));
		free(bearer);
		free(url);
	}
	buf_clear(&a->body);
	a->sink = (struct fetch_sink){.data = on_data, .end = end};
	a->call = fetch_start(a->up, NULL, &limits, &a->sink);
}

static void on_timer(uv_timer_t *t)
{
	struct llama_server *s = t->data;

	if (s->state == LLAMA_STARTING)
		llama_poll(s);
}

static void on_health(struct fetch_sink *sink, const struct err *e)
{
	struct llama_server *s = CONTAINER_OF(sink, struct llama_server, health.sink);
	bool ok = !e && fetch_status(s->health.call) == 200;

	s->health.call = NULL;
	if (s->state != LLAMA_STARTING)
		return;
	if (ok) {
		llama_is_ready(s);
		return;
	}
	uv_timer_start(&s->timer, on_timer, s->pushes ? LLAMA_POLL_PUSH_MS : s->poll_ms,
		       0);
	s->poll_ms = s->poll_ms * 3 / 2;
	if (s->poll_ms > LLAMA_POLL_MAX_MS)
		s->poll_ms = LLAMA_POLL_MAX_MS;
}

void llama_poll(struct llama_server *s)
{
	if (!s->health.call)
		ask_start(s, &s->health, s->kind->health_path, on_health);
}

/* The first model's meta; without it what was asked for is taken for granted. */
static void read_models(struct llama_server *s)
{
	const cJSON *data = NULL, *meta = NULL;
	cJSON *tree = json_parse(buf_str(&s->models.body), NULL);
	int64_t ctx = 0, ctx_train = 0;

	if (json_array(tree, "data", &data, NULL) > 0 && data->child &&
	    json_object(data->child, "meta", &meta, NULL) > 0) {
		json_int(meta, "n_ctx", 1, INT_MAX, &ctx, NULL);
		json_int(meta, "n_ctx_train", 1, INT_MAX, &ctx_train, NULL);
	}
	if (ctx)
		s->info.ctx = (int)ctx;
	s->info.ctx_train = (int)ctx_train;
	cJSON_Delete(tree);
}

static void on_models(struct fetch_sink *sink, const struct err *e)
{
	struct llama_server *s = CONTAINER_OF(sink, struct llama_server, models.sink);
	bool ok = !e && fetch_status(s->models.call) == 200;

	s->models.call = NULL;
	if (s->state != LLAMA_ASKING)
		return;
	if (ok)
		read_models(s);
	llama_was_asked(s);
}

void llama_ask(struct llama_server *s)
{
	ask_start(s, &s->models, s->kind->models_path, on_models);
}

void llama_asks_end(struct llama_server *s)
{
	struct ask *asks[] = {&s->health, &s->models};

	for (size_t i = 0; i < ARRAY_LEN(asks); i++) {
		upstream_free(asks[i]->up); /* cancels the call */
		asks[i]->up = NULL;
		asks[i]->call = NULL;
		buf_free(&asks[i]->body);
	}
}
