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
	for (int i = 0; i < l->npaths; i++) {
		upstream_free(l->paths[i].up);
		free(l->paths[i].path);
	}
	free(l->base);
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
}

const char *link_base(const struct remote *r, int at)
{
	return r->replicas ? replicas_url(r->replicas, at) : r->url;
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
	l->base = xstrdup(link_base(r, at));
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
		up = upstream_new(r->fetch, url, headers, e);
	}
	if (up && r->socket_path)
		upstream_set_socket(up, r->socket_path);
	key_wipe(&key);
	buf_free(&lines);
	return up;
}

struct upstream *link_open(struct remote *r, int at, const char *path, struct link **out,
			   struct err *e)
{
	struct link *l = link_now(r, at);
	char *url;
	int i;

	for (i = 0; i < l->npaths; i++)
		if (!strcmp(l->paths[i].path, path))
			break;
	if (i == l->npaths) {
		if (i == (int)ARRAY_LEN(l->paths)) { /* rare ones share the last place */
			i--;
			if (l->calls == 0) {
				upstream_free(l->paths[i].up);
				free(l->paths[i].path);
				l->npaths--;
			} else {
				err_set(e, ERR_BUSY, "%s: too many different calls",
					r->who);
				return NULL;
			}
		}
		url = xasprintf("%s%s", l->base, path);
		l->paths[i].up = link_upstream(r, url, e);
		free(url);
		if (!l->paths[i].up) {
			err_wrap(e, "%s", r->who);
			return NULL;
		}
		l->paths[i].path = xstrdup(path);
		l->npaths++;
	}
	l->calls++;
	*out = l;
	return l->paths[i].up;
}
