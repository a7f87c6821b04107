/* A provider's replicas: their polls and their health.  Loop thread.
 *
 * A reader may question that a server without /metrics is polled all the same: any answer says that
 * it lives, and that is how one that died comes back before a prompt has to find out. */
#include "providers/replicas.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/clock.h"
#include "base/log.h"
#include "providers/remote_impl.h"

struct replica {
	struct fetch_sink sink;
	struct replicas *of;
	struct replica_state state;
	char *url, *metrics_url; /* owned */
	struct upstream *up;     /* NULL: not polled yet */
	unsigned generation;     /* of the key in its headers */
	struct fetch_call *call; /* the poll that runs, or NULL */
	uint64_t asked_ms;
	int slow; /* polls in a row that took too long */
	struct buf body;
	bool was_up; /* as far as the log knows */
};

struct replicas {
	struct remote *remote; /* borrowed */
	struct replica *list;  /* owned array */
	int n, running;        /* calls */
	unsigned turn;
	uint64_t used_ms; /* when a call began or ended last */
	uv_timer_t timer;
	struct replica_sessions sessions;
};

/* ---- health ---- */

static void tell(struct replica *r)
{
	bool up = replica_is_up(&r->state);

	if (up == r->was_up)
		return;
	r->was_up = up;
	if (up)
		log_info("replica '%s' is back", r->url);
	else
		log_warn("replica '%s' does not answer: others take its calls", r->url);
}

static void failed(struct replica *r)
{
	replica_failed(&r->state, clock_mono_ms());
	tell(r);
}

static void worked(struct replica *r)
{
	replica_worked(&r->state);
	tell(r);
}

/* ---- polls ---- */

static bool on_data(struct fetch_sink *sink, const char *bytes, size_t n)
{
	struct replica *r = CONTAINER_OF(sink, struct replica, sink);
	size_t room = REPLICAS_MAX_BYTES - r->body.len;

	buf_add(&r->body, bytes, n < room ? n : room);
	return true;
}

/* 500, 502, 503: ill, or still loading.  Any other answer comes from one that lives; llama-server says
 * 501 when it was started without --metrics. */
static bool is_ill(int status)
{
	return status == 0 || status == 500 || status == 502 || status == 503;
}

/* llama-server answers between two batches, which may take seconds.  So a late answer is no death
 * while calls of ours run there, whose own deadlines tell, nor before it has come several times. */
static bool is_only_slow(struct replica *r, const struct err *e)
{
	if (!e || e->code != ERR_TIMEOUT) {
		r->slow = 0;
		return false;
	}
	return ++r->slow < REPLICAS_SLOW_POLLS || r->state.own > 0;
}

static void on_end(struct fetch_sink *sink, const struct err *e)
{
	struct replica *r = CONTAINER_OF(sink, struct replica, sink);
	int status = fetch_status(r->call);
	struct replica_metrics m;
	bool known = false;

	r->call = NULL;
	if (is_only_slow(r, e)) {
		; /* what was known ages */
	} else if (e || is_ill(status)) {
		failed(r);
	} else {
		known = status == 200 && replica_metrics_parse(buf_str(&r->body), &m);
		replica_poll_answered(&r->state, known ? &m : NULL, r->asked_ms);
		tell(r);
	}
	buf_free(&r->body);
}

/* With the key: llama-server and hob may want it even here. */
static bool connect_poll(struct replica *r)
{
	struct remote *remote = r->of->remote;
	unsigned generation = key_generation(remote->key);
	struct err e = {0};

	if (r->up && r->generation == generation)
		return true;
	upstream_free(r->up);
	r->up = link_upstream(remote, r->metrics_url, &e);
	r->generation = generation;
	if (!r->up)
		log_debug("metrics of '%s': %s", r->url, e.text);
	return r->up != NULL;
}

static void poll(struct replica *r)
{
	static const struct fetch_deadlines deadlines = {.connect = REPLICAS_CONNECT_MS,
							 .total = REPLICAS_TOTAL_MS};

	if (r->call || !connect_poll(r))
		return;
	buf_clear(&r->body);
	replica_poll_began(&r->state);
	r->asked_ms = clock_mono_ms();
	r->call = fetch_start(r->up, NULL, &deadlines, &r->sink);
}

static void poll_all(struct replicas *s)
{
	for (int i = 0; i < s->n; i++)
		poll(&s->list[i]);
}

static void on_timer(uv_timer_t *t)
{
	struct replicas *s = t->data;

	if (s->running == 0 && clock_mono_ms() - s->used_ms > REPLICAS_LINGER_MS)
		uv_timer_stop(t);
	else
		poll_all(s);
}

static void keep_polling(struct replicas *s)
{
	s->used_ms = clock_mono_ms();
	if (uv_is_active((uv_handle_t *)&s->timer))
		return;
	poll_all(s);
	uv_timer_start(&s->timer, on_timer, REPLICA_POLL_MS, REPLICA_POLL_MS);
}

/* ---- calls ---- */

static uint64_t hash(const char *text, size_t n, uint64_t seed)
{
	uint64_t h = XXH3_64bits_withSeed(text, n, seed);

	return h ? h : 1;
}

/* The first system message and the first other one, as providers with prompt caches count it. */
static uint64_t beginning_of(const struct request *r)
{
	uint64_t h = 0;

	if (!r->is_chat)
		return 0; /* raw prompts are mostly completions: no conversation */
	for (int i = 0; i < r->nmessages; i++) {
		const struct message *m = &r->messages[i];
		const char *text = m->raw_json ? m->raw_json : m->text;

		if (m->role == ROLE_SYSTEM && h)
			continue;
		h = hash(text, strlen(text), h + (uint64_t)m->role);
		if (m->role != ROLE_SYSTEM)
			return h;
	}
	return h;
}

struct replica_keys replica_keys_of(const struct request *r)
{
	struct replica_keys k = {0, beginning_of(r)};
	const char *id = r->conversation;

	if (id && strcmp(id, "new"))
		k.id = hash(id, strlen(id), 0);
	return k;
}

static int home_of(const struct replicas *s, struct replica_keys k)
{
	int home = k.id ? replica_sessions_find(&s->sessions, k.id) : -1;

	if (home < 0 && k.beginning)
		home = replica_sessions_find(&s->sessions, k.beginning);
	return home;
}

static int choose(struct replicas *s, int home)
{
	struct replica_state states[REPLICAS_MAX];

	for (int i = 0; i < s->n; i++)
		states[i] = s->list[i].state;
	return replica_choose(states, s->n, home, s->turn++, clock_mono_ms());
}

void replicas_began(struct replicas *s, struct replica_keys k, struct replica_call *c)
{
	if (!s)
		return;
	keep_polling(s);
	c->at = choose(s, home_of(s, k));
	if (k.id)
		replica_sessions_put(&s->sessions, k.id, c->at);
	if (k.beginning)
		replica_sessions_put(&s->sessions, k.beginning, c->at);
	c->ticket = replica_call_began(&s->list[c->at].state);
	c->counted = true;
	s->running++;
}

void replicas_ended(struct replicas *s, struct replica_call *c, enum err_code code,
		    int status)
{
	struct replica *r;

	if (!s || !c->counted)
		return;
	c->counted = false;
	r = &s->list[c->at];
	replica_call_ended(&r->state, c->ticket);
	s->running--;
	s->used_ms = clock_mono_ms();
	if (code == ERR_TRANSPORT || code == ERR_UNAVAILABLE ||
	    (status == 0 && (code == ERR_TIMEOUT || code == ERR_UPSTREAM)))
		failed(r);
	else if (status && code != ERR_TIMEOUT)
		worked(r);
}

void replicas_warm(struct replicas *s)
{
	if (s)
		keep_polling(s);
}

int replicas_any(struct replicas *s)
{
	return s ? choose(s, -1) : 0;
}

const char *replicas_url(const struct replicas *s, int at)
{
	return s->list[at].url;
}

/* ---- for people ---- */

void replicas_count(const struct replicas *s, int *all, int *up)
{
	*all = s ? s->n : 0;
	*up = 0;
	for (int i = 0; i < *all; i++)
		*up += replica_is_up(&s->list[i].state);
}

void replicas_json(const struct replicas *s, struct buf *out)
{
	uint64_t now = clock_mono_ms();

	if (!s) {
		buf_adds(out, "null");
		return;
	}
	buf_addc(out, '[');
	for (int i = 0; i < s->n; i++) {
		const struct replica *r = &s->list[i];
		bool known = r->state.metrics_ms &&
			     now - r->state.metrics_ms <= REPLICA_METRICS_MAX_AGE_MS;

		buf_adds(out, i ? ",{\"url\":" : "{\"url\":");
		buf_add_json(out, r->url, strlen(r->url));
		buf_addf(out, ",\"load\":%d,\"healthy\":%s,\"in_flight\":%d",
			 replica_load(&r->state, now),
			 replica_is_up(&r->state) ? "true" : "false", r->state.own);
		if (known)
			buf_addf(out, ",\"running\":%d,\"waiting\":%d",
				 r->state.metrics.running, r->state.metrics.waiting);
		buf_addc(out, '}');
	}
	buf_addc(out, ']');
}

/* ---- life ---- */

/* "https://host:8000/v1" gives "https://host:8000/metrics". */
static char *metrics_url(const char *url)
{
	const char *host = strstr(url, "://");
	size_t n = host ? (size_t)(host + 3 - url) : 0;

	n += strcspn(url + n, "/?#");
	return xasprintf("%.*s/metrics", (int)n, url);
}

struct replicas *replicas_new(struct remote *remote, char *const *urls, int n)
{
	struct replicas *s = xcalloc(1, sizeof *s);

	s->remote = remote;
	s->n = n < REPLICAS_MAX ? n : REPLICAS_MAX;
	ASSERT(s->n >= 1);
	s->list = xcalloc((size_t)s->n, sizeof *s->list);
	for (int i = 0; i < s->n; i++) {
		struct replica *r = &s->list[i];

		r->of = s;
		r->url = xstrdup(urls[i]);
		r->metrics_url = metrics_url(urls[i]);
		r->sink = (struct fetch_sink){.data = on_data, .end = on_end};
		r->was_up = true;
	}
	uv_timer_init(remote->loop, &s->timer);
	s->timer.data = s;
	return s;
}

static void on_closed(uv_handle_t *h)
{
	struct replicas *s = h->data;

	free(s->list);
	free(s);
}

void replicas_close(struct replicas *s)
{
	if (!s)
		return;
	for (int i = 0; i < s->n; i++) {
		struct replica *r = &s->list[i];

		upstream_free(r->up); /* cancels its poll */
		buf_free(&r->body);
		free(r->url);
		free(r->metrics_url);
	}
	uv_close((uv_handle_t *)&s->timer, on_closed);
}
