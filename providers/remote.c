/* A provider that speaks one of the protocols: made, asked how it does, closed.  Loop thread.
 *
 * A reader may question that a server on loopback is not `local` by itself: it may be a gateway that
 * sends on what it receives, so only the configuration can say that prompts stay here. */
#include "providers/remote.h"

#include "providers/anthropic.h"
#include "providers/catalogue.h"
#include "providers/ollama.h"
#include "providers/openai.h"
#include "providers/openrouter.h"
#include "providers/remote_impl.h"

/* Of a server that no preset describes. */
static const struct provider_preset unknown_server = {
	.name = "other", .max_tokens_key = "max_tokens", .stream_options = true};

/* ---- what extras and the daemon ask ---- */

struct provider *remote_provider(struct remote *r)
{
	return &r->base;
}

uv_loop_t *remote_loop(struct remote *r)
{
	return r->loop;
}

const char *remote_who(const struct remote *r)
{
	return r->who;
}

const struct remote_protocol *remote_protocol(const struct remote *r)
{
	return r->protocol;
}

bool remote_is_allowed(const struct remote *r)
{
	return r->base.is_local || !fetch_is_local_only(r->fetch);
}

const struct replicas *remote_replicas(const struct remote *r)
{
	return r->replicas;
}

static struct remote *remote_of(struct provider *p)
{
	return CONTAINER_OF(p, struct remote, base);
}

static void remote_status(struct provider *p, struct provider_status *out)
{
	struct remote *r = remote_of(p);

	*out = (struct provider_status){.url = r->url,
					.key_source = key_source(r->key),
					.has_key = key_is_there(r->key),
					.calls = r->calls,
					.in_flight = r->in_flight};
	links_stats(r, out);
	replicas_count(r->replicas, &out->replicas, &out->replicas_up);
}

/* A real small request leaves a connection behind; nothing less does with libcurl.  What extras ask
 * is one, and then the origin counts as warm already. */
static void remote_warm(struct provider *p)
{
	struct remote *r = remote_of(p);

	if (r->closing || !r->warms || !remote_is_allowed(r) || !key_is_there(r->key))
		return;
	replicas_warm(r->replicas);
	if (r->extras && r->extras->warm)
		r->extras->warm(r->extras_arg);
	if (r->replicas || !TAILQ_EMPTY(&r->asked))
		return; /* what they ask makes the connections */
	link_warm(r);
}

static const struct remote_models *remote_models_of(struct provider *p)
{
	struct remote *r = remote_of(p);

	return r->extras->models(r->extras_arg);
}

static void remote_details(struct provider *p, struct buf *out)
{
	struct remote *r = remote_of(p);

	r->extras->details_json(r->extras_arg, out);
}

/* ---- its end ---- */

static void on_closed(uv_handle_t *h)
{
	struct remote *r = h->data;
	void (*done)(void *arg) = r->done;
	void *arg = r->done_arg;

	free(r->base.name);
	free(r->url);
	free(r->socket_path);
	free(r->ca_file);
	free(r->who);
	free(r);
	done(arg);
}

static void on_key_closed(void *arg)
{
	struct remote *r = arg;

	uv_close((uv_handle_t *)&r->later, on_closed);
}

static void remote_close(struct provider *p, void (*done)(void *arg), void *arg)
{
	struct remote *r = remote_of(p);

	r->closing = true;
	r->done = done;
	r->done_arg = arg;
	remote_jobs_close(r);
	if (r->extras)
		r->extras->close(r->extras_arg);
	remote_asked_close(r);
	links_free(r);
	replicas_close(r->replicas);
	key_close(r->key, on_key_closed, r);
}

/* ---- its making ---- */

static const struct remote_protocol *const protocols[PROVIDER_KINDS] = {
	[PROVIDER_OPENAI] = &openai_protocol,
	[PROVIDER_OPENROUTER] = &openrouter_protocol,
	[PROVIDER_ANTHROPIC] = &anthropic_protocol,
	[PROVIDER_OLLAMA] = &ollama_protocol,
};

static const struct remote_extras *const extras[PROVIDER_KINDS] = {
	[PROVIDER_OPENAI] = &catalogue_extras,
	[PROVIDER_OPENROUTER] = &openrouter_extras,
	[PROVIDER_ANTHROPIC] = &catalogue_extras,
	[PROVIDER_OLLAMA] = &catalogue_extras,
};

static enum provider_kind kind_of(const struct config_provider *c,
				  const struct provider_preset *preset)
{
	static const char *const names[PROVIDER_KINDS] = {"openai", "openrouter",
							  "anthropic", "ollama"};

	for (int i = 0; c->kind_name && i < PROVIDER_KINDS; i++)
		if (!strcmp(names[i], c->kind_name))
			return (enum provider_kind)i;
	return preset ? preset->kind : PROVIDER_OPENAI;
}

struct remote *remote_make(uv_loop_t *loop, struct fetch *f, const char *name,
			   const struct remote_protocol *protocol)
{
	struct remote *r = xcalloc(1, sizeof *r);

	r->ops = (struct provider_ops){.kind = protocol->name,
				       .start = remote_start,
				       .cancel = remote_cancel,
				       .pause = remote_pause,
				       .close = remote_close,
				       .warm = remote_warm,
				       .status = remote_status};
	r->base.ops = &r->ops;
	r->base.name = xstrdup(name);
	r->loop = loop;
	r->fetch = f;
	r->protocol = protocol;
	r->preset = &unknown_server;
	TAILQ_INIT(&r->links);
	TAILQ_INIT(&r->running);
	TAILQ_INIT(&r->failing);
	TAILQ_INIT(&r->asked);
	uv_timer_init(loop, &r->later);
	r->later.data = r;
	return r;
}

/* Without slashes at its end, nor what belongs to the paths. */
static char *base_of(const char *url, const char *without)
{
	size_t n = strlen(url), w = without ? strlen(without) : 0;

	while (n && url[n - 1] == '/')
		n--;
	if (w && n > w && !strncmp(url + n - w, without, w))
		n -= w;
	return xstrndup(url, n);
}

static bool all_on_loopback(const struct names *urls)
{
	for (int i = 0; i < urls->n; i++)
		if (!fetch_url_is_loopback(urls->list[i]))
			return false;
	return true;
}

static void take_limits(struct remote *r, const struct config_provider *c)
{
	r->warms = c->warm;
	r->ca_file = c->ca_file ? xstrdup(c->ca_file) : NULL;
	r->max_connections = c->max_connections;
	if (r->max_connections < 0)
		r->max_connections =
			all_on_loopback(&c->urls) ? 0 : REMOTE_MAX_CONNECTIONS;
	r->deadlines.queue = c->queue_timeout_ms;
	r->deadlines.connect = c->connect_timeout_ms;
	r->deadlines.first_byte = c->first_byte_timeout_ms;
	r->deadlines.idle = c->idle_timeout_ms;
	r->deadlines.total = c->total_timeout_ms;
}

static struct replicas *open_replicas(struct remote *r, const struct names *urls)
{
	char **bases = xcalloc((size_t)urls->n, sizeof *bases);
	struct replicas *s;

	for (int i = 0; i < urls->n; i++)
		bases[i] = base_of(urls->list[i], r->protocol->base_without);
	s = replicas_new(r, bases, urls->n);
	for (int i = 0; i < urls->n; i++)
		free(bases[i]);
	free(bases);
	return s;
}

static void open_extras(struct remote *r, enum provider_kind kind,
			const struct config_provider *c)
{
	r->extras = extras[kind];
	if (!r->extras)
		return;
	if (r->extras->models)
		r->ops.models = remote_models_of;
	if (r->extras->details_json)
		r->ops.details_json = remote_details;
	r->extras_arg = r->extras->open(r, c);
}

struct provider *provider_remote_new(uv_loop_t *loop, struct fetch *f,
				     const struct config_provider *c, struct err *e)
{
	char *host = NULL, *who = xasprintf("provider '%s'", c->name);
	struct key_from from = {.env = c->key_env,
				.file = c->key_file,
				.command = c->key_command,
				.urls = &c->urls,
				.who = who};
	const struct provider_preset *preset =
		c->preset ? provider_preset(c->preset) : NULL;
	struct key *key = NULL;
	struct remote *r;
	enum provider_kind kind = kind_of(c, preset);

	if (link_host(f, c, &host, e) == 0)
		key = key_new(loop, &from, e);
	if (!key) {
		err_wrap(e, "%s", who);
		free(host);
		free(who);
		return NULL;
	}
	if (!preset)
		preset = provider_preset_of_host(host);
	r = remote_make(loop, f, c->name, protocols[kind]);
	r->base.is_local = c->local;
	r->preset = preset ? preset : &unknown_server;
	r->url = base_of(c->urls.list[0], protocols[kind]->base_without);
	if (c->urls.n > 1)
		r->replicas = open_replicas(r, &c->urls);
	r->who = who;
	r->key = key;
	take_limits(r, c);
	open_extras(r, kind, c);
	free(host);
	return &r->base;
}

struct provider *provider_openai_local(uv_loop_t *loop, struct fetch *f,
				       const struct openai_local *l)
{
	struct key_from from = {.fixed = l->key, .who = l->who};
	struct remote *r = remote_make(loop, f, l->name, &openai_protocol);

	r->base.is_local = true;
	r->preset = &openai_llama_server;
	r->url = xstrdup("http://localhost/v1");
	r->who = xstrdup(l->who);
	r->socket_path = xstrdup(l->socket_path);
	r->key = key_new(loop, &from, NULL);
	r->deadlines.connect = l->connect_ms;
	r->deadlines.idle = l->idle_ms;
	return &r->base;
}
