/* Upstreams: URLs with their options, the origins that they share, and warming.  Loop thread.
 *
 * Two decisions that a reader may question:
 *  - curl reads 16 KiB at a time, for children of ours and for remote servers alike.  An open
 *    stream that says a token now and then has not touched most of it: 16.5 kB in all, and 14.5
 *    with a buffer of 2 KiB, which would bring two large bodies side by side on one HTTP/2
 *    connection from 314 to 45 MB/s.
 *  - The default folder of authorities is switched off where there is a bundle, because with a
 *    folder curl parses the bundle anew, all of it, for each connection. */
#include "net/fetch_impl.h"

#include <arpa/inet.h>
#include <strings.h>
#include <unistd.h>

enum {
	KEEPALIVE_IDLE_S = 30,
	KEEPALIVE_INTERVAL_S = 15,
	BUFFER_BYTES = 16 << 10,
	DNS_CACHE_S = 300,
	CA_CACHE_S = 3600,
	WARM_CONNECT_MS = 5000,
	WARM_TOTAL_MS = 10000,
	WARM_MAX_BYTES = 64 << 10,
};

/* ---- origins */

static struct origin *origin_get(struct fetch *f, const char *key)
{
	struct origin *o;

	TAILQ_FOREACH(o, &f->origins, link)
	{
		if (!strcmp(o->key, key)) {
			origin_ref(o);
			return o;
		}
	}
	o = xcalloc(1, sizeof *o);
	o->fetch = f;
	o->key = xstrdup(key);
	o->refs = 1;
	o->tls = !strncmp(key, "https:", 6);
	TAILQ_INIT(&o->waiting);
	TAILQ_INSERT_TAIL(&f->origins, o, link);
	return o;
}

void origin_ref(struct origin *o)
{
	o->refs++;
}

void origin_unref(struct origin *o)
{
	if (--o->refs > 0)
		return;
	TAILQ_REMOVE(&o->fetch->origins, o, link);
	free(o->key);
	free(o);
}

bool origin_has_paused(const struct origin *o)
{
	const struct upstream *u;
	const struct fetch_call *c;

	TAILQ_FOREACH(u, &o->fetch->upstreams, link)
	{
		if (u->origin != o)
			continue;
		TAILQ_FOREACH(c, &u->active, link)
		if (c->paused || c->curl_paused)
			return true;
	}
	return false;
}

bool origin_has_room(const struct origin *o, const struct upstream *u)
{
	int streams = o->http_version == 20 ? FETCH_STREAMS_PER_CONNECTION : 1;

	return !u->max_connections || o->running < u->max_connections * streams;
}

/* ---- options */

#define SET(option, value) curl_easy_setopt(easy, CURLOPT_##option, value)

static void set_transport(const struct upstream *u, CURL *easy)
{
	long version = CURL_HTTP_VERSION_1_1;

	if (u->origin->tls && !u->http_1)
		version = CURL_HTTP_VERSION_2TLS;
	SET(HTTP_VERSION, version);
	if (u->socket_path)
		SET(UNIX_SOCKET_PATH, u->socket_path);
	SET(TCP_KEEPALIVE, 1L);
	SET(TCP_KEEPIDLE, (long)KEEPALIVE_IDLE_S);
	SET(TCP_KEEPINTVL, (long)KEEPALIVE_INTERVAL_S);
	SET(MAXAGE_CONN,
	    u->socket_path ? (long)FETCH_MAX_IDLE_UNIX_S : (long)FETCH_MAX_IDLE_S);
	SET(MAXLIFETIME_CONN, (long)FETCH_MAX_AGE_S);
	SET(DNS_CACHE_TIMEOUT, (long)DNS_CACHE_S);
	SET(LOW_SPEED_LIMIT, 1L); /* its time is each call's */
	SET(BUFFERSIZE, (long)BUFFER_BYTES);
}

static void set_trust(const struct upstream *u, CURL *easy)
{
	const curl_version_info_data *v = curl_version_info(CURLVERSION_NOW);

	if (u->ca_path)
		SET(CAINFO, u->ca_path);
	if (u->ca_path || (v->cainfo && !access(v->cainfo, R_OK)))
		SET(CAPATH, NULL);
	SET(SSL_SESSIONID_CACHE, 1L);
#if LIBCURL_VERSION_NUM >= 0x075700
	SET(CA_CACHE_TIMEOUT, (long)CA_CACHE_S);
#endif
}

void upstream_options_set(const struct upstream *u, CURL *easy)
{
	SET(CURLU, u->parsed);
	SET(HTTPHEADER, u->headers);
	SET(PROTOCOLS_STR, "http,https");
	SET(FOLLOWLOCATION, 0L); /* a redirect would carry prompt and key elsewhere */
	SET(NOSIGNAL, 1L);
	SET(QUICK_EXIT, 1L); /* a cancel does not wait for the resolver's thread */
	set_transport(u, easy);
	set_trust(u, easy);
}

/* ---- the URL */

bool fetch_host_is_loopback(const char *host)
{
	unsigned char v4[4];

	if (!strcasecmp(host, "localhost") || !strcmp(host, "[::1]") ||
	    !strcmp(host, "::1"))
		return true;
	return inet_pton(AF_INET, host, v4) == 1 && v4[0] == IN_LOOPBACKNET;
}

bool fetch_url_is_loopback(const char *text)
{
	char *host = NULL;
	CURLU *url = curl_url();
	bool is = !curl_url_set(url, CURLUPART_URL, text, 0) &&
		  !curl_url_get(url, CURLUPART_HOST, &host, 0) &&
		  fetch_host_is_loopback(host);

	curl_free(host);
	curl_url_cleanup(url);
	return is;
}

/* Fills in host and loopback; the origin's scheme, host and port go to *origin, owned. */
static int parse_url(struct upstream *u, char **origin, struct err *e)
{
	char *host = NULL, *scheme = NULL, *port = NULL;
	CURLU *url = curl_url();
	int rc = -1;

	if (curl_url_set(url, CURLUPART_URL, u->url, 0) ||
	    curl_url_get(url, CURLUPART_HOST, &host, 0) ||
	    curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) ||
	    curl_url_get(url, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) ||
	    (strcmp(scheme, "http") && strcmp(scheme, "https"))) {
		err_set(e, ERR_INVALID, "'%.200s' is no http or https URL", u->url);
	} else {
		u->host = xstrdup(host);
		u->loopback = fetch_host_is_loopback(host);
		*origin = xasprintf("%s://%s:%s", scheme, host, port);
		rc = 0;
	}
	curl_free(host);
	curl_free(scheme);
	curl_free(port);
	u->parsed = url;
	return rc;
}

/* ---- their life */

static int upstream_init(struct upstream *u, const struct upstream_options *o,
			 struct err *e)
{
	char *site = NULL, *key;

	if (parse_url(u, &site, e) < 0)
		return -1;
	if (o->ca_file && !(u->ca_path = trust_get(u->fetch, o->ca_file, e))) {
		free(site);
		return err_wrap(e, "%s", u->host);
	}
	key = xasprintf("%s %s %s %d", site, o->socket_path ? o->socket_path : "-",
			u->ca_path ? u->ca_path : "-", (int)o->http);
	u->origin = origin_get(u->fetch, key);
	free(key);
	free(site);
	return 0;
}

struct upstream *upstream_new(struct fetch *f, const char *url,
			      const struct upstream_options *options, struct err *e)
{
	static const struct upstream_options none;
	const struct upstream_options *o = options ? options : &none;
	struct upstream *u = xcalloc(1, sizeof *u);

	u->fetch = f;
	u->url = xstrdup(url);
	if (upstream_init(u, o, e) < 0) {
		free(u->host);
		curl_url_cleanup(u->parsed);
		free(u->url);
		free(u);
		return NULL;
	}
	u->socket_path = o->socket_path ? xstrdup(o->socket_path) : NULL;
	u->http_1 = o->http == UPSTREAM_HTTP_1;
	u->max_connections = o->max_connections;
	u->stats = xcalloc(1, sizeof *u->stats);
	TAILQ_INIT(&u->spare);
	TAILQ_INIT(&u->active);
	/* Else a body over 1 MiB waits for a "100 Continue". */
	u->headers = curl_slist_append(NULL, "Expect:");
	for (const char *const *h = o->headers; h && *h; h++)
		u->headers = curl_slist_append(u->headers, *h);
	TAILQ_INSERT_TAIL(&f->upstreams, u, link);
	return u;
}

static void upstream_gone(struct upstream *u)
{
	if (u->ncalls > 0)
		return;
	curl_slist_free_all(u->headers);
	origin_unref(u->origin);
	free(u->stats);
	free(u->host);
	free(u->socket_path);
	curl_url_cleanup(u->parsed);
	free(u->url);
	free(u);
}

void upstream_unref(struct upstream *u)
{
	u->ncalls--;
	if (u->freed)
		upstream_gone(u);
}

void upstream_free(struct upstream *u)
{
	struct fetch_call *c;

	if (!u)
		return;
	u->freeing = true;
	while ((c = TAILQ_FIRST(&u->active)))
		fetch_cancel(c);
	while ((c = TAILQ_FIRST(&u->spare)))
		call_free(c);
	TAILQ_REMOVE(&u->fetch->upstreams, u, link);
	u->freed = true;
	upstream_gone(u);
}

const char *upstream_host(const struct upstream *u)
{
	return u->host;
}

const struct upstream_stats *upstream_stats(const struct upstream *u)
{
	struct upstream_stats *s = u->stats;
	const struct fetch_call *c;

	s->http_version = u->origin->http_version;
	s->connect_ms = u->origin->connect_ms;
	s->running = -s->queued;
	TAILQ_FOREACH(c, &u->active, link)
	s->running += !c->is_warm;
	return s;
}

/* ---- warming */

static bool on_warm_data(struct fetch_sink *sink, const char *bytes, size_t n)
{
	struct warmer *w = CONTAINER_OF(sink, struct warmer, sink);

	UNUSED(bytes);
	w->bytes += n;
	if (w->bytes > WARM_MAX_BYTES) {
		fetch_cancel(w->call);
		w->call = NULL;
	}
	return true;
}

static void on_warm_end(struct fetch_sink *sink, const struct err *e)
{
	UNUSED(e); /* the next call will meet it, and has somebody to tell */
	CONTAINER_OF(sink, struct warmer, sink)->call = NULL;
}

/* A connection is idle, or on its way to carry more than one. */
static bool origin_is_warm(const struct origin *o)
{
	int fresh = sockets_fresh(o);

	if (o->warming)
		return true;
	if (o->http_version == 20 || (o->tls && o->http_version == 0))
		return fresh > 0;
	return fresh > o->running;
}

void upstream_get(struct upstream *u)
{
	static const struct fetch_deadlines limits = {.connect = WARM_CONNECT_MS,
						      .total = WARM_TOTAL_MS};

	u->warmer.bytes = 0;
	u->warmer.sink = (struct fetch_sink){.data = on_warm_data, .end = on_warm_end};
	u->warmer.call = call_start(u, NULL, &limits, &u->warmer.sink, true);
}

void upstream_warm(struct upstream *u)
{
	if (u->fetch->local_only && !upstream_is_local(u))
		return;
	uv_update_time(u->fetch->loop);
	if (!origin_is_warm(u->origin))
		upstream_get(u);
}
