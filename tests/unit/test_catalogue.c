/* What a remote provider asks beside its prompts: its models, the quota of its key, the bills of
 * answers that broke off, the load of its replicas; against a server on the same loop. */
#include "remote_world.h"

#include <unistd.h>
#include "base/clock.h"
#include "providers/remote_impl.h"

struct answer_to {
	struct event_sink sink;
	struct job *job; /* NULL: over */
	int events, failed;
	enum err_code code;
	bool text;
};

struct bill_listener {
	struct provider_listener base;
	int calls;
	char request_id[64];
	struct late_cost cost;
};

static const char models[] =
	"{\"data\":[{\"id\":\"a\",\"context_length\":4096,\"pricing\":{\"prompt\":\"0.5\"},"
	"\"top_provider\":{\"max_completion_tokens\":77}},{\"id\":\"b\"}]}";
static const char quota[] =
	"{\"data\":{\"limit\":10,\"limit_remaining\":4,\"usage\":6,\"is_free_tier\":false}}";
static const char answer[] =
	"data: {\"id\":\"g\",\"model\":\"real\",\"choices\":[{\"index\":0,\"delta\":"
	"{\"content\":\"Paris\"},\"finish_reason\":null}]}\n\n";
static const char rest[] =
	"data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],"
	"\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1,\"cost\":0.5}}\n\n"
	"data: [DONE]\n\n";

#define EVENT_STREAM "Content-Type: text/event-stream\r\nX-Generation-Id: gen 1/2\r\n"

static void on_event(struct event_sink *sink, const struct event *ev)
{
	struct answer_to *a = CONTAINER_OF(sink, struct answer_to, sink);

	a->events++;
	a->text |= ev->type == EVENT_TEXT;
	if (ev->type == EVENT_FAILED) {
		a->failed++;
		a->code = ev->failed.code;
	}
	if (ev->type == EVENT_FAILED || ev->type == EVENT_FINISHED)
		a->job = NULL;
}

static void on_bill(struct provider_listener *base, struct provider *p,
		    const struct late_cost *c)
{
	struct bill_listener *l = CONTAINER_OF(base, struct bill_listener, base);

	UNUSED(p);
	l->calls++;
	l->cost = *c;
	snprintf(l->request_id, sizeof l->request_id, "%s", c->request_id);
	l->cost.request_id = l->request_id;
}

static void start(struct world *w, struct answer_to *a, const char *model,
		  const char *text)
{
	struct request *r = request_new();

	*a = (struct answer_to){.sink = {on_event}};
	snprintf(r->id, sizeof r->id, "hob-request-7");
	r->is_chat = true;
	request_add_message(r, ROLE_USER, text, strlen(text));
	a->job = w->provider->ops->start(w->provider, model, r, &a->sink);
	request_free(r); /* the body is made in start(): no key has to be waited for */
}

static void ask(struct world *w, struct answer_to *a, const char *model)
{
	start(w, a, model, "hello");
	world_until(w, !a->job);
}

static void begin(struct world *w, struct config_provider *c, const char *kind)
{
	c->kind_name = (char *)(uintptr_t)kind;
	w->provider = provider_remote_new(&w->loop, w->fetch, c, NULL);
	assert_non_null(w->provider);
}

static const struct remote_models *models_of(struct world *w)
{
	return w->provider->ops->models(w->provider);
}

static struct buf details(struct world *w)
{
	struct buf out = {0};

	w->provider->ops->details_json(w->provider, &out);
	return out;
}

/* Without the connection that warming makes too: this server closes each after its answer. */
static void ask_extras(struct world *w)
{
	struct remote *r = CONTAINER_OF(w->provider, struct remote, base);

	r->extras->warm(r->extras_arg);
}

static void a_provider_is_warmed_once_and_knows_its_models_and_quota(void **state)
{
	struct config_provider c;
	struct world w;
	struct buf json;

	(void)state;
	world_init(&w);
	c = world_section(&w);
	w.routes[0] = (struct route_to){"/v1/models", 200, "", models, false};
	w.routes[1] = (struct route_to){"/v1/key", 200, "", quota, false};
	begin(&w, &c, "openrouter");
	json = details(&w);
	assert_string_equal(json.data, "\"quota\":null,\"replicas\":null");
	buf_free(&json);
	for (int i = 0; i < 5; i++)
		w.provider->ops->warm(w.provider);
	world_until(&w, remote_models_count(models_of(&w)) == 2);
	assert_true(remote_models_find(models_of(&w), "a")->prices.input == 0.5);
	world_run_ms(&w, 50);
	json = details(&w);
	assert_non_null(
		strstr(json.data, "\"quota\":{\"limit_usd\":10,\"remaining_usd\":4,"));
	assert_non_null(strstr(json.data, ",\"replicas\":null"));
	buf_free(&json);
	ask_extras(&w);
	world_run_ms(&w, 100);
	assert_int_equal(world_count(&w, "GET /v1/models\n"), 1);
	assert_int_equal(world_count(&w, "GET /v1/key\n"), 1);
	world_fini(&w);
}

static void a_cancelled_answers_bill_reaches_the_listener(void **state)
{
	struct bill_listener l = {.base = {on_bill}};
	struct config_provider c;
	struct answer_to a;
	struct world w;

	(void)state;
	world_init(&w);
	c = world_section(&w);
	w.routes[0] = (struct route_to){"/v1/chat", 200, EVENT_STREAM, answer, true};
	w.routes[1] = (struct route_to){"/v1/generation", 404, "",
					"{\"error\":{\"code\":404}}", false};
	begin(&w, &c, "openrouter");
	w.provider->listener = &l.base;
	start(&w, &a, "a", "hello");
	world_until(&w, a.text);
	w.provider->ops->cancel(a.job);
	world_until(&w, world_count(&w, "GET /v1/generation?id=gen%201%2F2\n") == 1);
	world_run_ms(&w, 50);
	assert_int_equal(l.calls, 0); /* not made out yet */
	w.routes[1] = (struct route_to){"/v1/generation", 200, "",
					"{\"data\":{\"total_cost\":0.25,"
					"\"native_tokens_prompt\":9}}",
					false};
	world_until(&w, l.calls == 1);
	assert_string_equal(l.request_id, "hob-request-7");
	assert_true(l.cost.cost_usd == 0.25);
	assert_int_equal(l.cost.prompt_tokens, 9);
	assert_int_equal(l.cost.completion_tokens, -1);
	assert_int_equal(world_count(&w, "/v1/generation"), 2);
	world_fini(&w);
}

static void a_hundred_cancels_are_outlived_and_a_close_drops_their_bills(void **state)
{
	struct bill_listener l = {.base = {on_bill}};
	struct config_provider c;
	struct answer_to a[100];
	uint64_t began;
	struct world w;

	(void)state;
	world_init(&w);
	c = world_section(&w);
	w.routes[0] = (struct route_to){"/v1/chat", 200, EVENT_STREAM, answer, true};
	w.routes[1] = (struct route_to){"/v1/generation", 404, "", "{}", false};
	begin(&w, &c, "openrouter");
	w.provider->listener = &l.base;
	began = clock_mono_ms();
	for (int i = 0; i < 100; i++) {
		start(&w, &a[i], "a", "hello");
		world_until(&w, a[i].text);
		w.provider->ops->cancel(a[i].job);
	}
	world_until(&w, world_count(&w, "/v1/generation") >= 10);
	world_run_ms(&w, 300);
	/* Each that waits is asked for once in its first 3 s. */
	assert_in_range(world_count(&w, "/v1/generation"), 10,
			clock_mono_ms() - began < 2900 ? 64 : 192);
	world_fini(&w);
	assert_int_equal(l.calls, 0);
}

static void a_finished_answer_needs_no_bill(void **state)
{
	char *whole = xasprintf("%s%s", answer, rest);
	struct config_provider c;
	struct answer_to a;
	struct world w;

	(void)state;
	world_init(&w);
	c = world_section(&w);
	w.routes[0] = (struct route_to){"/v1/chat", 200, EVENT_STREAM, whole, false};
	begin(&w, &c, "openrouter");
	ask(&w, &a, "a");
	assert_int_equal(a.failed, 0);
	world_run_ms(&w, 1200);
	assert_int_equal(world_count(&w, "/v1/generation"), 0);
	world_fini(&w);
	free(whole);
}

static void a_refused_model_makes_the_list_doubtful_but_not_for_each_call(void **state)
{
	struct config_provider c;
	struct answer_to a;
	struct world w;

	(void)state;
	world_init(&w);
	c = world_section(&w);
	w.routes[0] = (struct route_to){"/v1/models", 200, "", models, false};
	w.routes[1] =
		(struct route_to){"/v1/chat", 404, "Content-Type: application/json\r\n",
				  "{\"error\":{\"message\":\"no such model\"}}", false};
	begin(&w, &c, "openai");
	for (int i = 0; i < 5; i++) {
		ask(&w, &a, "none");
		assert_int_equal(a.code, ERR_MODEL);
		world_run_ms(&w, 30);
	}
	assert_int_equal(world_count(&w, "GET /v1/models\n"), 1);
	assert_int_equal(remote_models_count(models_of(&w)), 2);
	world_fini(&w);
}

static void a_failed_question_rests(void **state)
{
	struct config_provider c;
	struct world w;

	(void)state;
	world_init(&w);
	c = world_section(&w);
	w.routes[0] = (struct route_to){"/v1/models", 200, "", "{\"data\":7}", false};
	begin(&w, &c, "openai");
	for (int i = 0; i < 5; i++) {
		ask_extras(&w);
		world_run_ms(&w, 40);
	}
	assert_int_equal(world_count(&w, "GET /v1/models\n"), 1);
	assert_int_equal(remote_models_count(models_of(&w)), 0);
	world_fini(&w);
}

static void ollamas_models_are_asked_for_one_by_one(void **state)
{
	struct config_provider c;
	const struct remote_model *m;
	struct world w;
	char *bare;

	(void)state;
	world_init(&w);
	bare = xasprintf("http://127.0.0.1:%d", w.port);
	free(w.url);
	w.url = bare;
	c = world_section(&w);
	w.routes[0] =
		(struct route_to){"/api/tags", 200, "",
				  "{\"models\":[{\"name\":\"x:1b\",\"model\":\"x:1b\"},"
				  "{\"name\":\"y:1b\",\"model\":\"y:1b\"}]}",
				  false};
	w.routes[1] = (struct route_to){"/api/show", 200, "",
					"{\"capabilities\":[\"completion\",\"tools\"],"
					"\"model_info\":{\"x.context_length\":2048}}",
					false};
	begin(&w, &c, "ollama");
	w.provider->ops->warm(w.provider);
	world_until(&w, remote_models_count(models_of(&w)) == 2);
	m = remote_models_find(models_of(&w), "y:1b");
	assert_non_null(m);
	assert_int_equal(m->ctx, 2048);
	assert_int_equal(m->tools, YES);
	assert_int_equal(world_count(&w, "POST /api/show\n"), 2);
	world_fini(&w);
}

static void another_hobs_models_come_with_what_it_knows(void **state)
{
	struct config_provider c;
	const struct remote_model *m;
	struct world w;

	(void)state;
	world_init(&w);
	c = world_section(&w);
	w.routes[0] = (struct route_to){
		"/v1/models", 200, "",
		"{\"data\":[{\"id\":\"qwen3:8b\",\"hob\":{\"ctx\":8192,\"images\":false}},"
		"{\"id\":\"up/x\",\"hob\":{\"price_input\":2.5,\"price_output\":10,"
		"\"tools\":true}},{\"id\":\"bare\",\"max_model_len\":512}]}",
		false};
	begin(&w, &c, "openai");
	w.provider->ops->warm(w.provider);
	world_until(&w, remote_models_count(models_of(&w)) == 3);
	m = remote_models_find(models_of(&w), "qwen3:8b");
	assert_true(m->ctx == 8192 && m->images == NO && m->tools == UNSAID);
	m = remote_models_find(models_of(&w), "up/x");
	assert_true(m->prices.input == 2.5 / 1e6 && m->prices.output == 10 / 1e6);
	assert_int_equal(m->tools, YES);
	m = remote_models_find(models_of(&w), "bare");
	assert_true(m->ctx == 512 && m->prices.input < 0);
	world_fini(&w);
}

static void warming_a_pool_asks_each_for_its_metrics(void **state)
{
	struct config_provider c;
	struct world w;
	char *urls[2];

	(void)state;
	world_init(&w);
	c = world_section(&w);
	urls[0] = w.url;
	urls[1] = xasprintf("http://127.0.0.1:%d/b/v1", w.port);
	c.urls = (struct names){urls, 2};
	w.routes[0] = (struct route_to){"/metrics", 200, "", "hob_running 0\n", false};
	begin(&w, &c, "openai");
	world_run_ms(&w, 100);
	assert_int_equal(world_count(&w, "GET /metrics\n"), 0);
	w.provider->ops->warm(w.provider);
	world_until(&w, world_count(&w, "GET /metrics\n") == 2);
	w.provider->ops->warm(w.provider); /* cheap to repeat */
	world_run_ms(&w, 100);
	assert_int_equal(world_count(&w, "GET /metrics\n"), 2);
	world_fini(&w);
	free(urls[1]);
}

static void a_close_in_the_middle_of_all_questions_is_clean(void **state)
{
	struct config_provider c;
	struct answer_to a;
	struct world w;

	(void)state;
	world_init(&w);
	c = world_section(&w);
	c.warm = true;
	w.routes[0] = (struct route_to){"/v1/chat", 200, EVENT_STREAM, answer, true};
	w.routes[1] = (struct route_to){"/", 200, "", "{", true}; /* never ends */
	begin(&w, &c, "openrouter");
	start(&w, &a, "a", "hello");
	world_until(&w, a.text);
	w.provider->ops->cancel(a.job);
	w.provider->ops->warm(w.provider);
	start(&w, &a, "a", "hello");
	world_until(&w, world_count(&w, "GET /v1/models\n") == 1 &&
				world_count(&w, "GET /v1/key\n") == 1 &&
				world_count(&w, "/v1/generation") == 1);
	world_fini(&w);
	assert_int_equal(a.failed, 1); /* its job was told */
}

static void a_pool_counts_its_calls_and_comes_back_to_zero(void **state)
{
	char *whole = xasprintf("%s%s", answer, rest), *urls[2];
	struct config_provider c;
	struct answer_to a[6], b;
	struct world w;
	struct buf json;

	(void)state;
	world_init(&w);
	c = world_section(&w);
	urls[0] = w.url;
	urls[1] = xasprintf("http://127.0.0.1:%d/v1/b/", w.port);
	c.urls = (struct names){urls, 2};
	w.routes[0] = (struct route_to){"/v1/", 200, EVENT_STREAM, answer, true};
	w.routes[1] = (struct route_to){"/metrics", 200, "",
					"vllm:num_requests_running 0\n", false};
	begin(&w, &c, "openai");
	for (int i = 0; i < 6; i++) {
		char text[16];

		snprintf(text, sizeof text, "hello %d", i);
		start(&w, &a[i], "a", text);
	}
	json = details(&w);
	assert_non_null(
		strstr(json.data, "\"quota\":null,\"replicas\":[{\"url\":\"http://127"));
	assert_non_null(
		strstr(json.data, "\"load\":3,\"healthy\":true,\"in_flight\":3},{"));
	assert_non_null(
		strstr(json.data, "\"load\":3,\"healthy\":true,\"in_flight\":3}]"));
	buf_free(&json);
	for (int i = 0; i < 6; i++)
		world_until(&w, a[i].text);
	assert_int_equal(world_count(&w, "GET /metrics\n"), 2);
	for (int i = 0; i < 6; i++)
		w.provider->ops->cancel(a[i].job);
	assert_int_equal(world_count(&w, "POST /v1/b/chat/completions\n"), 3);
	w.routes[0] = (struct route_to){"/v1/", 200, EVENT_STREAM, whole, false};
	ask(&w, &b, "a");
	assert_int_equal(b.failed, 0);
	json = details(&w);
	assert_null(strstr(json.data, "\"in_flight\":1"));
	assert_null(strstr(json.data, "\"in_flight\":3"));
	buf_free(&json);
	world_fini(&w);
	free(urls[1]);
	free(whole);
}

static void one_late_answer_to_a_poll_is_no_death_but_several_are(void **state)
{
	struct config_provider c;
	struct world w;
	struct buf json;
	char *urls[2];

	(void)state;
	world_init(&w);
	c = world_section(&w);
	urls[0] = w.url;
	urls[1] = xstrdup("http://127.0.0.1:1/v1"); /* nobody is there */
	c.urls = (struct names){urls, 2};
	w.routes[0] =
		(struct route_to){"/metrics", 200, "", "vllm:", true}; /* never ends */
	begin(&w, &c, "openai");
	w.provider->ops->warm(w.provider);
	world_until(&w, world_count(&w, "GET /metrics\n") == 2);
	json = details(&w);
	assert_non_null(strstr(json.data, "\"healthy\":true,\"in_flight\":0},{"));
	assert_non_null(strstr(json.data, "\"healthy\":false,\"in_flight\":0}]"));
	buf_free(&json);
	world_until(&w, world_count(&w, "GET /metrics\n") == 4);
	json = details(&w);
	assert_non_null(strstr(json.data, "\"healthy\":false,\"in_flight\":0},{"));
	buf_free(&json);
	world_fini(&w);
	free(urls[1]);
}

static void a_dead_replica_is_met_once(void **state)
{
	char *whole = xasprintf("%s%s", answer, rest), *urls[2];
	struct config_provider c;
	struct answer_to a;
	struct world w;
	struct buf json;
	int failed = 0;

	(void)state;
	world_init(&w);
	c = world_section(&w);
	urls[0] = xstrdup("http://127.0.0.1:1/v1"); /* nobody is there */
	urls[1] = w.url;
	c.urls = (struct names){urls, 2};
	w.routes[0] = (struct route_to){"/v1/chat", 200, EVENT_STREAM, whole, false};
	begin(&w, &c, "openai");
	for (int i = 0; i < 8; i++) {
		ask(&w, &a, "a");
		failed += a.failed;
	}
	assert_in_range(failed, 0, 1);
	json = details(&w);
	assert_non_null(strstr(json.data, "\"url\":\"http://127.0.0.1:1/v1\",\"load\":0,"
					  "\"healthy\":false"));
	buf_free(&json);
	world_fini(&w);
	free(urls[0]);
	free(whole);
}

static int own_folders(void **state)
{
	static char dir[] = "/tmp/hob-test-XXXXXX";

	*state = mkdtemp(dir);
	setenv("XDG_CACHE_HOME", dir, 1);
	setenv("XDG_STATE_HOME", dir, 1);
	return *state ? 0 : -1;
}

static int no_catalogue(void **state)
{
	char *path = xasprintf("%s/hob/catalogue/fake.json", (const char *)*state);

	unlink(path);
	free(path);
	return 0;
}

static int remove_folders(void **state)
{
	static const char *const names[] = {"hob/openrouter-user", "hob/catalogue", "hob",
					    ""};

	no_catalogue(state);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		char *path = xasprintf("%s/%s", (const char *)*state, names[i]);

		remove(path);
		free(path);
	}
	return 0;
}

#define WITH_FOLDER(f) cmocka_unit_test_setup(f, no_catalogue)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_FOLDER(a_provider_is_warmed_once_and_knows_its_models_and_quota),
		WITH_FOLDER(a_cancelled_answers_bill_reaches_the_listener),
		WITH_FOLDER(a_hundred_cancels_are_outlived_and_a_close_drops_their_bills),
		WITH_FOLDER(a_finished_answer_needs_no_bill),
		WITH_FOLDER(
			a_refused_model_makes_the_list_doubtful_but_not_for_each_call),
		WITH_FOLDER(a_failed_question_rests),
		WITH_FOLDER(ollamas_models_are_asked_for_one_by_one),
		WITH_FOLDER(another_hobs_models_come_with_what_it_knows),
		WITH_FOLDER(warming_a_pool_asks_each_for_its_metrics),
		WITH_FOLDER(a_close_in_the_middle_of_all_questions_is_clean),
		WITH_FOLDER(a_pool_counts_its_calls_and_comes_back_to_zero),
		WITH_FOLDER(one_late_answer_to_a_poll_is_no_death_but_several_are),
		WITH_FOLDER(a_dead_replica_is_met_once),
	};

	return cmocka_run_group_tests(tests, own_folders, remove_folders);
}
