/* Upstreams of a remote provider.  Loop thread.
 *
 * A reader may question the generations: an upstream holds the key in its headers, and freeing it
 * cancels its calls; so when the key changes, a new link is made and the old one ends with its last
 * call. */
#include "providers/remote_impl.h"

#include "base/log.h"

static void link_free(struct link *l)
{
	TAILQ_REMOVE(&l->remote->links, l, link);
	upstream_free(l->chat);
	upstream_free(l->raw);
	free(l);
}

void link_done(struct link *l)
{
	if (--l->calls == 0 && l->retired)
		link_free(l);
}

void links_free(struct remote *r)
{
	struct link *l;

	while ((l = TAILQ_FIRST(&r->links)))
		link_free(l);
	upstream_free(r->warmer);
	r->warmer = NULL;
}

/* The link to that server for the key as it is now. */
static struct link *link_now(struct remote *r, int at)
{
	struct link *l;

	TAILQ_FOREACH(l, &r->links, link)
	if (!l->retired && l->at == at)
		break;
	if (l && l->generation == key_generation(r->key))
		return l;
	if (l) {
		l->retired = true;
		if (l->calls == 0)
			link_free(l);
	}
	l = xcalloc(1, sizeof *l);
	l->remote = r;
	l->at = at;
	l->generation = key_generation(r->key);
	TAILQ_INSERT_HEAD(&r->links, l, link);
	return l;
}

/* Splits lines into the array; returns how many there are then. */
static size_t add_lines(char *lines, const char **headers, size_t n, size_t max)
{
	while (lines && *lines && n < max) {
		char *end = strchr(lines, '\n');

		headers[n++] = lines;
		if (!end)
			break;
		*end = 0;
		lines = end + 1;
	}
	return n;
}

static void warn_plain(struct remote *r, const char *url, bool has_key)
{
	if (has_key && !r->warned && !strncmp(url, "http:", 5) &&
	    !fetch_url_is_loopback(url)) {
		r->warned = true;
		log_warn("%s: its key goes over plain http to another machine", r->who);
	}
}

struct upstream *link_upstream(struct remote *r, const char *url, struct err *e)
{
	const char *headers[16] = {
		"Content-Type: application/json",
		"Accept: text/event-stream, application/json, application/x-ndjson",
		"User-Agent: hob"};
	struct buf key = {0}, lines = {0};
	struct upstream *up = NULL;
	size_t n = 3;

	if (key_header(r->key, url, r->protocol->key_header, &key, e) == 0) {
		warn_plain(r, url, key.len > 0);
		if (key.len)
			headers[n++] = key.data;
		for (const char *const *h = r->protocol->headers; h && *h; h++)
			headers[n++] = *h;
		if (r->extras && r->extras->headers)
			r->extras->headers(r->extras_arg, &lines);
		add_lines(lines.data, headers, n, ARRAY_LEN(headers) - 1);
		up = upstream_new(r->fetch, url,
				  &(struct upstream_options){
					  .headers = headers,
					  .socket_path = r->socket_path,
					  .ca_file = r->ca_file,
					  .max_connections = r->max_connections},
				  e);
	}
	key_wipe(&key);
	buf_free(&lines);
	return up;
}

static struct upstream *make_path(struct remote *r, int at, const char *path,
				  struct err *e)
{
	const char *base = r->replicas ? replicas_url(r->replicas, at) : r->url;
	char *url = xasprintf("%s%s", base, path);
	struct upstream *up = link_upstream(r, url, e);

	free(url);
	if (!up)
		err_wrap(e, "%s", r->who);
	return up;
}

struct upstream *link_open(struct remote *r, int at, bool is_chat, struct link **out,
			   struct err *e)
{
	struct link *l = link_now(r, at);
	struct upstream **up = is_chat ? &l->chat : &l->raw;

	if (!*up)
		*up = make_path(r, at,
				is_chat ? r->protocol->chat_path : r->protocol->raw_path,
				e);
	if (!*up)
		return NULL;
	l->calls++;
	*out = l;
	return *up;
}

struct upstream *link_once(struct remote *r, const char *path, struct err *e)
{
	return make_path(r, replicas_any(r->replicas), path, e);
}

void link_warm(struct remote *r)
{
	if (r->warmer && r->warmer_generation != key_generation(r->key)) {
		upstream_free(r->warmer);
		r->warmer = NULL;
	}
	if (!r->warmer)
		r->warmer = link_once(r, r->protocol->models_path, NULL);
	r->warmer_generation = key_generation(r->key);
	if (r->warmer)
		upstream_warm(r->warmer);
}

int link_host(struct fetch *f, const struct config_provider *c, char **host, struct err *e)
{
	const struct upstream_options o = {.ca_file = c->ca_file};
	struct upstream *probe = upstream_new(f, c->urls.list[0], &o, e);

	if (!probe)
		return -1;
	*host = xstrdup(upstream_host(probe));
	upstream_free(probe);
	return 0;
}

void link_stats(const struct upstream *u, struct provider_status *out)
{
	const struct upstream_stats *s = u ? upstream_stats(u) : NULL;

	if (!s)
		return;
	out->new_connections += s->new_connections;
	out->reused += s->reused;
	if (s->http_version)
		out->http_version = s->http_version;
}

void links_stats(const struct remote *r, struct provider_status *out)
{
	const struct link *l;

	out->new_connections += r->past.new_connections;
	out->reused += r->past.reused;
	out->http_version = r->past.http_version;
	link_stats(r->warmer, out);
	TAILQ_FOREACH(l, &r->links, link)
	{
		link_stats(l->chat, out);
		link_stats(l->raw, out);
	}
}
