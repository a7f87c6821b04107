/* Outgoing HTTP: the multi on the loop, its clock, and delivery to the sinks.  Loop thread.
 *
 * What a reader may question, measured in the research on proxies that the design rests on:
 *  - A timeout of zero from curl stays zero: rounded up to 1 ms it would add 1 ms to each call.
 *  - libcurl must not be re-entered, so its write callback only gathers bytes.  They are
 *    delivered after curl returned (deliver()), with one data() for all that one socket held. */
#include "net/fetch_impl.h"

void fetch_unref(struct fetch *f)
{
	void (*done)(void *arg) = f->done;
	void *arg = f->done_arg;

	if (--f->open_handles > 0 || !f->closing)
		return;
	ASSERT(TAILQ_EMPTY(&f->origins));
	trusts_free(&f->trusts);
	free(f->socks);
	free(f);
	done(arg);
}

static void deliver(struct fetch *f)
{
	struct fetch_call *c;

	while ((c = TAILQ_FIRST(&f->ready))) {
		call_dequeue(c);
		call_deliver(c);
	}
	f->delivering = NULL;
}

static void on_kick(uv_timer_t *t)
{
	deliver(t->data);
}

void fetch_kick(struct fetch *f)
{
	if (!f->closing && !TAILQ_EMPTY(&f->ready))
		uv_timer_start(&f->kick, on_kick, 0, 0);
}

void fetch_run(struct fetch *f, curl_socket_t fd, int events)
{
	struct fetch_call *c;
	int running, left;
	CURLMsg *m;

	f->in_curl = true;
	curl_multi_socket_action(f->multi, fd, events, &running);
	f->in_curl = false;
	while ((m = curl_multi_info_read(f->multi, &left))) {
		CURLcode why = m->data.result; /* m goes with the handle */

		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&c);
		call_done(c, why);
	}
	deliver(f);
}

static void on_timer(uv_timer_t *t)
{
	fetch_run(t->data, CURL_SOCKET_TIMEOUT, 0);
}

static int on_timeout(CURLM *multi, long ms, void *arg)
{
	struct fetch *f = arg;

	UNUSED(multi);
	if (ms < 0 || f->closing)
		uv_timer_stop(&f->timer);
	else /* 0 runs in the next turn, before the loop sleeps */
		uv_timer_start(&f->timer, on_timer, (uint64_t)ms, 0);
	return 0;
}

struct fetch *fetch_new(uv_loop_t *loop, struct err *e)
{
	const curl_version_info_data *v = curl_version_info(CURLVERSION_NOW);
	struct fetch *f;

	if (curl_global_init(CURL_GLOBAL_DEFAULT) ||
	    !(v->features & CURL_VERSION_ASYNCHDNS)) {
		err_set(e, ERR_UNSUPPORTED,
			"libcurl %s cannot look up names without blocking", v->version);
		return NULL;
	}
	f = xcalloc(1, sizeof *f);
	f->loop = loop;
	f->multi = curl_multi_init();
	ASSERT(f->multi);
	/* Read in 7.88.1, and different in 8: each way to lose an HTTP/2 connection writes an error
	 * text, a refused stream does not; a reset stays in curl until the connection's next use. */
	f->curl_7 = v->version_num < 0x080000;
	TAILQ_INIT(&f->ready);
	TAILQ_INIT(&f->upstreams);
	TAILQ_INIT(&f->origins);
	SLIST_INIT(&f->trusts);
	uv_timer_init(loop, &f->timer);
	uv_timer_init(loop, &f->kick);
	f->timer.data = f->kick.data = f;
	f->open_handles = 2;
	curl_multi_setopt(f->multi, CURLMOPT_SOCKETFUNCTION, socket_on_interest);
	curl_multi_setopt(f->multi, CURLMOPT_SOCKETDATA, f);
	curl_multi_setopt(f->multi, CURLMOPT_TIMERFUNCTION, on_timeout);
	curl_multi_setopt(f->multi, CURLMOPT_TIMERDATA, f);
	/* Else 4 for each running transfer: after a burst the warm ones would go first. */
	curl_multi_setopt(f->multi, CURLMOPT_MAXCONNECTS, (long)FETCH_MAX_CONNECTIONS);
	curl_multi_setopt(f->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_MULTIPLEX);
	curl_multi_setopt(f->multi, CURLMOPT_MAX_CONCURRENT_STREAMS,
			  (long)FETCH_STREAMS_PER_CONNECTION);
	return f;
}

bool fetch_is_local_only(const struct fetch *f)
{
	return f->local_only;
}

void fetch_set_local_only(struct fetch *f, bool on)
{
	struct fetch_call *c, *next;
	struct upstream *u;

	f->local_only = on;
	if (!on)
		return;
	TAILQ_FOREACH(u, &f->upstreams, link)
	{
		if (upstream_is_local(u))
			continue;
		for (c = TAILQ_FIRST(&u->active); c; c = next) {
			next = TAILQ_NEXT(c, link);
			call_forbid(c);
		}
	}
	sockets_shut_remote(f);
	fetch_kick(f);
}

static void on_timer_closed(uv_handle_t *h)
{
	fetch_unref(h->data);
}

void fetch_close(struct fetch *f, void (*done)(void *arg), void *arg)
{
	ASSERT(TAILQ_EMPTY(&f->upstreams) && !f->closing);
	f->closing = true;
	f->done = done;
	f->done_arg = arg;
	curl_multi_cleanup(f->multi); /* closes the pool, by socket_on_close() */
	sockets_close_all(f);
	uv_close((uv_handle_t *)&f->timer, on_timer_closed);
	uv_close((uv_handle_t *)&f->kick, on_timer_closed);
}
