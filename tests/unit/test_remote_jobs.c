/* The life of jobs and small questions on a remote server: every one ends exactly once, whenever it is
 * cancelled, and closing leaves nothing behind. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <unistd.h>

#include "providers/remote_impl.h"

#define HEAD(type) \
	"HTTP/1.1 200 OK\r\nContent-Type: " type "\r\nConnection: close\r\n\r\n"
#define CHUNK(t)                                                                        \
	"data: {\"model\":\"up\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"" t \
	"\"}}]}\n\n"
#define GOOD HEAD("text/event-stream") CHUNK("a") CHUNK("b") CHUNK("c") "data: [DONE]\n\n"

/* With a server on the same loop, which says the same to everybody once it has heard something. */
struct world {
	uv_loop_t loop;
	uv_tcp_t server;
	struct fetch *fetch;
	struct provider *p;
	struct remote *r;
	const char *says; /* NULL: nothing */
	struct buf heard; /* all that came, over all connections */
	int connections;
	bool closed;
};

static void on_alloc(uv_handle_t *h, size_t n, uv_buf_t *b)
{
	UNUSED(h);
	*b = uv_buf_init(xmalloc(n), (unsigned)n);
}

static void on_freed(uv_handle_t *h)
{
	free(h);
}

static void on_heard(uv_stream_t *s, ssize_t n, const uv_buf_t *b)
{
	struct world *t = s->data;

	if (n > 0)
		buf_add(&t->heard, b->base, (size_t)n);
	if (n > 0 && t->says && memmem(b->base, (size_t)n, "\r\n\r\n", 4)) {
		uv_buf_t out = uv_buf_init((char *)t->says, (unsigned)strlen(t->says));

		uv_try_write(s, &out, 1);
		n = UV_EOF;
	}
	free(b->base);
	if (n < 0)
		uv_close((uv_handle_t *)s, on_freed);
}

static void on_connection(uv_stream_t *server, int status)
{
	struct world *t = server->data;
	uv_tcp_t *c = xcalloc(1, sizeof *c);

	assert_int_equal(status, 0);
	t->connections++;
	uv_tcp_init(&t->loop, c);
	c->data = t;
	assert_int_equal(uv_accept(server, (uv_stream_t *)c), 0);
	uv_read_start((uv_stream_t *)c, on_alloc, on_heard);
}

static void begin(struct world *t, const char *says, const char *key_command)
{
	struct sockaddr_in at;
	int len = sizeof at;
	struct err e = {0};
	char *url;
	struct config_provider c = {.name = (char *)"x",
				    .key_command = (char *)key_command,
				    .zdr = UNSAID,
				    .connect_timeout_ms = 2000,
				    .first_byte_timeout_ms = 5000,
				    .idle_timeout_ms = 5000,
				    .total_timeout_ms = 20000};

	*t = (struct world){.says = says};
	assert_int_equal(uv_loop_init(&t->loop), 0);
	uv_tcp_init(&t->loop, &t->server);
	t->server.data = t;
	uv_ip4_addr("127.0.0.1", 0, &at);
	assert_int_equal(uv_tcp_bind(&t->server, (struct sockaddr *)&at, 0), 0);
	assert_int_equal(uv_listen((uv_stream_t *)&t->server, 16, on_connection), 0);
	uv_tcp_getsockname(&t->server, (struct sockaddr *)&at, &len);
	url = xasprintf("http://127.0.0.1:%d/v1", ntohs(at.sin_port));
	c.urls = (struct names){&url, 1};
	t->fetch = fetch_new(&t->loop, &e);
	assert_non_null(t->fetch);
	t->p = provider_remote_new(&t->loop, t->fetch, &c, &e);
	if (!t->p)
		fail_msg("%s", e.text);
	t->r = CONTAINER_OF(t->p, struct remote, base);
	free(url);
}

static void on_fetch_closed(void *arg)
{
	((struct world *)arg)->closed = true;
}

static void close_handle(uv_handle_t *h, void *arg)
{
	struct world *t = arg;

	if (h == (uv_handle_t *)&t->server && !uv_is_closing(h))
		uv_close(h, NULL);
	else if (h->type == UV_TCP && h->data == t && !uv_is_closing(h))
		uv_close(h, on_freed);
}

static void on_provider_closed(void *arg)
{
	struct world *t = arg;

	fetch_close(t->fetch, on_fetch_closed, t);
	uv_walk(&t->loop, close_handle, t);
}

static void end(struct world *t)
{
	t->p->ops->close(t->p, on_provider_closed, t);
	while (uv_run(&t->loop, UV_RUN_DEFAULT))
		;
	assert_true(t->closed);
	assert_int_equal(uv_loop_close(&t->loop), 0);
	buf_free(&t->heard);
}

/* ---- prompts ---- */

struct asker {
	struct event_sink sink;
	struct world *t;
	struct request *request;
	struct job *job; /* NULL: it is over */
	struct buf text;
	int events, ends;
	int cancel_at; /* the event in which it is cancelled; 0: never */
	struct err e;
};

static void on_answer(struct event_sink *sink, const struct event *ev)
{
	struct asker *a = CONTAINER_OF(sink, struct asker, sink);

	assert_non_null(a->job); /* start() has returned, and it is not over */
	a->events++;
	if (ev->type == EVENT_TEXT)
		buf_add(&a->text, ev->text.ptr, ev->text.len);
	if (a->events == a->cancel_at) {
		struct job *j = a->job;

		a->job = NULL;
		a->t->p->ops->cancel(j);
		uv_stop(&a->t->loop);
		return;
	}
	if (ev->type == EVENT_FAILED)
		a->e = ev->failed;
	if (ev->type == EVENT_FAILED || ev->type == EVENT_FINISHED) {
		a->ends++;
		a->job = NULL;
		uv_stop(&a->t->loop);
	}
}

static void ask(struct world *t, struct asker *a)
{
	a->t = t;
	a->sink.event = on_answer;
	a->request = request_new();
	a->request->is_chat = true;
	request_add_message(a->request, ROLE_USER, "hi", 2);
	a->job = t->p->ops->start(t->p, "m", a->request, &a->sink);
}

static void forget(struct asker *a)
{
	request_free(a->request);
	buf_free(&a->text);
}

static void turn(struct world *t, const struct asker *a)
{
	while (a->job)
		uv_run(&t->loop, UV_RUN_DEFAULT); /* stopped by its end */
}

static int in_flight(struct world *t)
{
	struct provider_status s;

	t->p->ops->status(t->p, &s);
	return s.in_flight;
}

static void an_answer_ends_once(void **state)
{
	struct asker a = {0};
	struct world t;

	UNUSED(state);
	begin(&t, GOOD, NULL);
	ask(&t, &a);
	assert_int_equal(in_flight(&t), 1);
	turn(&t, &a);
	assert_int_equal(a.ends, 1);
	assert_int_equal(a.e.code, ERR_NONE);
	assert_string_equal(a.text.data, "abc");
	forget(&a);
	end(&t);
	assert_int_equal(a.ends, 1);
}

static void a_job_may_be_cancelled_in_any_of_its_events(void **state)
{
	UNUSED(state);
	for (int at = 1; at <= 4; at++) { /* started, a, b, c; the fifth is its end */
		struct asker a = {.cancel_at = at};
		struct world t;

		begin(&t, GOOD, NULL);
		ask(&t, &a);
		turn(&t, &a);
		assert_int_equal(a.events, at);
		assert_int_equal(a.ends, 0);
		assert_int_equal(in_flight(&t), 0);
		forget(&a);
		end(&t);
	}
}

static void closing_ends_what_runs(void **state)
{
	struct asker a[3] = {0};
	struct world t;

	UNUSED(state);
	begin(&t, NULL, NULL);
	for (int i = 0; i < 3; i++)
		ask(&t, &a[i]);
	while (!t.heard.len)
		uv_run(&t.loop, UV_RUN_ONCE);
	end(&t);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(a[i].ends, 1);
		assert_int_equal(a[i].e.code, ERR_UNAVAILABLE);
		forget(&a[i]);
	}
}

static void a_private_prompt_never_reaches_a_socket(void **state)
{
	struct asker a = {0};
	struct world t;

	UNUSED(state);
	begin(&t, GOOD, NULL);
	a.t = &t;
	a.sink.event = on_answer;
	a.request = request_new();
	a.request->is_private = a.request->is_chat = true;
	a.job = t.p->ops->start(t.p, "m", a.request, &a.sink);
	assert_int_equal(a.events, 0);
	turn(&t, &a);
	assert_int_equal(a.e.code, ERR_FORBIDDEN);
	assert_int_equal(t.connections, 0);
	forget(&a);
	end(&t);
}

static void jobs_wait_for_the_key_and_may_leave(void **state)
{
	struct asker a[2] = {0};
	struct world t;

	UNUSED(state);
	begin(&t, GOOD, "echo sk-from-command");
	ask(&t, &a[0]);
	ask(&t, &a[1]);
	t.p->ops->pause(a[1].job, true); /* before there is a call */
	t.p->ops->pause(a[1].job, false);
	t.p->ops->cancel(a[0].job);
	turn(&t, &a[1]);
	assert_int_equal(a[0].events, 0);
	assert_int_equal(a[1].e.code, ERR_NONE);
	assert_non_null(memmem(t.heard.data, t.heard.len,
			       "Authorization: Bearer sk-from-command\r\n", 39));
	assert_int_equal(t.connections, 1);
	forget(&a[0]);
	forget(&a[1]);
	end(&t);
}

static void a_key_that_cannot_be_found_fails_all_who_wait(void **state)
{
	struct asker a[3] = {0};
	struct world t;

	UNUSED(state);
	begin(&t, GOOD, "exit 4");
	ask(&t, &a[0]);
	ask(&t, &a[1]);
	turn(&t, &a[0]);
	turn(&t, &a[1]);
	ask(&t, &a[2]); /* while the command rests */
	turn(&t, &a[2]);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(a[i].ends, 1);
		assert_int_equal(a[i].e.code, ERR_UNAUTHORIZED);
		assert_non_null(strstr(a[i].e.text, "exit status 4"));
		forget(&a[i]);
	}
	assert_int_equal(t.connections, 0);
	end(&t);
}

static void closing_while_the_command_runs_ends_both(void **state)
{
	struct asker a = {0};
	struct world t;

	UNUSED(state);
	begin(&t, GOOD, "sleep 1000");
	ask(&t, &a);
	end(&t);
	assert_int_equal(a.ends, 1);
	forget(&a);
}

/* ---- small questions ---- */

struct question {
	int told;
	int n; /* of data */
	struct err e;
	struct world *t;
};

static void on_got(void *arg, const cJSON *tree, const struct err *e)
{
	struct question *q = arg;
	const cJSON *data = NULL;

	q->told++;
	assert_true(!tree != !e);
	if (e)
		q->e = *e;
	if (json_array(tree, "data", &data, NULL) > 0)
		q->n = cJSON_GetArraySize(data);
	if (q->t)
		uv_stop(&q->t->loop);
}

static void until_told(struct world *t, struct question *q)
{
	q->t = t;
	while (!q->told)
		uv_run(&t->loop, UV_RUN_DEFAULT);
}

static void a_small_question_is_answered(void **state)
{
	struct question q = {0};
	struct world t;

	UNUSED(state);
	begin(&t, HEAD("application/json") "{\"data\":[1,2]}", "echo sk-k");
	remote_get(t.r, "/models", 1000, on_got, &q);
	assert_int_equal(q.told, 0);
	until_told(&t, &q);
	assert_int_equal(q.n, 2);
	assert_memory_equal(t.heard.data, "GET /v1/models HTTP/1.1\r\n", 25);
	assert_non_null(memmem(t.heard.data, t.heard.len, "Bearer sk-k\r\n", 13));
	end(&t);
	assert_int_equal(q.told, 1);
}

static void a_small_question_may_have_a_body(void **state)
{
	struct question q = {0};
	struct buf body = {0};
	struct world t;

	UNUSED(state);
	begin(&t, HEAD("application/json") "{\"data\":[]}", NULL);
	buf_adds(&body, "{\"model\":\"m\"}");
	remote_post(t.r, "/show", &body, 1000, on_got, &q);
	assert_null(body.data);
	until_told(&t, &q);
	assert_int_equal(q.e.code, ERR_NONE);
	assert_memory_equal(t.heard.data, "POST /v1/show ", 14);
	end(&t);
}

static void answers_that_are_none_are_errors(void **state)
{
	static const struct {
		const char *says;
		enum err_code code;
	} cases[] = {
		{"HTTP/1.1 401 No\r\nConnection: close\r\n\r\n", ERR_KEY},
		{HEAD("application/json") "{\"data\":[\"0123456789\"]}", ERR_UPSTREAM},
		{HEAD("application/json") "[", ERR_UPSTREAM},
	};

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct question q = {0};
		struct world t;

		begin(&t, cases[i].says, NULL);
		remote_get(t.r, "/models", 12, on_got, &q);
		until_told(&t, &q);
		if (q.e.code != cases[i].code)
			fail_msg("%zu: %s", i, q.e.text);
		end(&t);
	}
}

static void a_small_question_may_be_taken_back(void **state)
{
	struct question q = {0};
	struct remote_get *g;
	struct world t;

	UNUSED(state);
	begin(&t, NULL, NULL);
	g = remote_get(t.r, "/models", 12, on_got, &q);
	while (!t.heard.len)
		uv_run(&t.loop, UV_RUN_ONCE);
	remote_get_cancel(g);
	g = remote_get(t.r, "/models", 12, on_got, &q);
	remote_get_cancel(g);
	end(&t);
	assert_int_equal(q.told, 0);
}

static void warming_asks_once(void **state)
{
	struct world t;

	UNUSED(state);
	begin(&t, HEAD("application/json") "{}", NULL);
	t.p->ops->warm(t.p); /* not configured to be warmed */
	assert_true(!t.r->warmer && TAILQ_EMPTY(&t.r->asked));
	t.r->warms = true;
	t.p->ops->warm(t.p);
	t.p->ops->warm(t.p);
	while (!TAILQ_EMPTY(&t.r->asked))
		uv_run(&t.loop, UV_RUN_ONCE);
	assert_int_equal(t.connections, 1);
	t.p->ops->warm(t.p); /* a moment ago: the list is not asked for again */
	assert_true(TAILQ_EMPTY(&t.r->asked));
	end(&t);
}

static void its_status_says_how_it_does(void **state)
{
	struct provider_status s;
	struct asker a = {0};
	struct world t;

	UNUSED(state);
	begin(&t, GOOD, "echo sk-k");
	t.p->ops->status(t.p, &s);
	assert_string_equal(s.key_source, "command");
	assert_true(s.has_key && s.calls == 0 && s.in_flight == 0);
	ask(&t, &a);
	turn(&t, &a);
	t.p->ops->status(t.p, &s);
	assert_int_equal(s.calls, 1);
	assert_non_null(t.p->ops->models);
	forget(&a);
	end(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_answer_ends_once),
		cmocka_unit_test(a_job_may_be_cancelled_in_any_of_its_events),
		cmocka_unit_test(closing_ends_what_runs),
		cmocka_unit_test(a_private_prompt_never_reaches_a_socket),
		cmocka_unit_test(jobs_wait_for_the_key_and_may_leave),
		cmocka_unit_test(a_key_that_cannot_be_found_fails_all_who_wait),
		cmocka_unit_test(closing_while_the_command_runs_ends_both),
		cmocka_unit_test(a_small_question_is_answered),
		cmocka_unit_test(a_small_question_may_have_a_body),
		cmocka_unit_test(answers_that_are_none_are_errors),
		cmocka_unit_test(a_small_question_may_be_taken_back),
		cmocka_unit_test(warming_asks_once),
		cmocka_unit_test(its_status_says_how_it_does),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
