/* Calls of the connection bench, through net/fetch and nothing else: one after the other, each timed from
 * fetch_start() to its first bytes.  Prints one JSON object.
 *
 *      connect_calls URL CA_FILE CALLS WARM      WARM: "warm" warms first and waits a second */
#include <stdarg.h>

#include "net/fetch.h"

struct run {
	struct fetch_sink sink;
	uv_loop_t loop;
	uv_timer_t pause;
	struct fetch *fetch;
	struct upstream *up;
	struct fetch_call *call;
	uint64_t start_ns;
	bool first;
	int left, failed;
};

static const struct fetch_deadlines limits = {.connect = 10000, .total = 30000};

static void call(struct run *r)
{
	struct buf body = {0};

	buf_adds(&body, "{\"model\": \"bench\", \"stream\": true, \"messages\": []}");
	r->first = true;
	r->left--;
	r->start_ns = uv_hrtime();
	r->call = fetch_start(r->up, &body, &limits, &r->sink);
}

static bool on_data(struct fetch_sink *sink, const char *bytes, size_t n)
{
	struct run *r = CONTAINER_OF(sink, struct run, sink);

	UNUSED(bytes), UNUSED(n);
	if (r->first)
		printf("%.3f", (double)(uv_hrtime() - r->start_ns) / 1e6);
	r->first = false;
	return true;
}

static void on_closed(void *arg)
{
	UNUSED(arg);
}

static void finish(struct run *r)
{
	const struct upstream_stats *s = upstream_stats(r->up);

	printf("], \"new_connections\": %d, \"reused\": %d, \"http_version\": %d, \"connect_ms\": %.3f, "
	       "\"failed\": %d}\n",
	       (int)s->new_connections, (int)s->reused, s->http_version, s->connect_ms,
	       r->failed);
	upstream_free(r->up);
	fetch_close(r->fetch, on_closed, NULL);
	uv_close((uv_handle_t *)&r->pause, NULL);
}

static void on_end(struct fetch_sink *sink, const struct err *e)
{
	struct run *r = CONTAINER_OF(sink, struct run, sink);

	if (e || fetch_status(r->call) != 200) {
		fprintf(stderr, "%s\n", e ? e->text : "a status that is not 200");
		r->failed++;
		r->left = 0;
	}
	r->call = NULL;
	if (!r->left) {
		finish(r);
		return;
	}
	printf(", ");
	call(r);
}

static void on_pause(uv_timer_t *t)
{
	call(t->data);
}

int main(int argc, char **argv)
{
	struct run r = {.sink = {.data = on_data, .end = on_end}};
	static const char *const headers[] = {"Content-Type: application/json", NULL};
	struct upstream_options o = {.headers = headers,
				     .ca_file = argc > 2 ? argv[2] : NULL};
	struct err e = {0};

	if (argc != 5) {
		fprintf(stderr, "usage: connect_calls URL CA_FILE CALLS warm|cold\n");
		return 2;
	}
	uv_loop_init(&r.loop);
	uv_timer_init(&r.loop, &r.pause);
	r.pause.data = &r;
	r.left = (int)strtol(argv[3], NULL, 10);
	r.fetch = fetch_new(&r.loop, &e);
	r.up = r.fetch ? upstream_new(r.fetch, argv[1], &o, &e) : NULL;
	if (!r.up || r.left < 1) {
		fprintf(stderr, "%s\n", e.text);
		return 1;
	}
	printf("{\"first_ms\": [");
	if (!strcmp(argv[4], "warm"))
		upstream_warm(r.up);
	uv_timer_start(&r.pause, on_pause, 1000,
		       0); /* both wait, so that the loop is as warm */
	uv_run(&r.loop, UV_RUN_DEFAULT);
	return r.failed != 0;
}
