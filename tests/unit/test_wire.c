/* The router's side of engine/wire.h against a real child process (fake_engine.h): start,
 * loads, prompts, counts, cancel, pause, death and back-off. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"
#include "providers/engine.h"
#include "tests/unit/fake_engine.h"

static const char *program; /* argv[0] */

struct world {
	uv_loop_t loop;
	uv_timer_t pulse; /* so that UV_RUN_ONCE never waits long */
	int pulses;
	struct engine *engine;
	int loaded, failed, unloaded, deaths, probed, parked, progress;
	bool unload_at_progress;
	struct err load_err;
	char death[200];
	bool closed;
	int tokens[4], ntokens, extra;
	int counted;
	struct err count_err;
};

struct answer {
	struct event_sink sink;
	char text[2000];
	int events, ends;
	struct event end;
	int deaths_at_end;
	struct job *job;
	struct world *w;
	bool cancel_at_text;
};

static void on_died(void *arg, const char *why)
{
	struct world *w = arg;

	w->deaths++;
	snprintf(w->death, sizeof w->death, "%s", why);
}

static void on_pulse(uv_timer_t *t)
{
	struct world *w = t->data;

	if (++w->pulses > 2000)
		fail_msg("the test waited 10 s for something that never came");
}

static void world_init_config(struct world *w, const struct engine_config *c)
{
	log_set_level(LOG_LV_ERROR);
	memset(w, 0, sizeof *w);
	uv_loop_init(&w->loop);
	uv_timer_init(&w->loop, &w->pulse);
	w->pulse.data = w;
	uv_timer_start(&w->pulse, on_pulse, 5, 5);
	w->engine = engine_new(&w->loop, c);
	engine_on_death(w->engine, on_died, w);
}

static void world_init_argv(struct world *w, const char *const *argv)
{
	struct engine_config c = {.argv = argv};

	world_init_config(w, &c);
}

static void world_init(struct world *w)
{
	static const char *argv[4];

	argv[0] = program;
	argv[1] = "--fake-engine";
	argv[2] = "/nonexistent";
	world_init_argv(w, argv);
}

static void on_close(void *arg)
{
	((struct world *)arg)->closed = true;
}

static void world_fini(struct world *w)
{
	struct provider *p = engine_provider(w->engine);

	p->ops->close(p, on_close, w);
	assert_false(w->closed);
	while (!w->closed)
		uv_run(&w->loop, UV_RUN_ONCE);
	uv_close((uv_handle_t *)&w->pulse, NULL);
	uv_run(&w->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&w->loop), 0);
}

#define RUN_UNTIL(w, condition) \
	while (!(condition))    \
	uv_run(&(w)->loop, UV_RUN_ONCE)

static void on_load(void *arg, uint64_t id, const struct engine_loaded *m,
		    const struct err *e)
{
	struct world *w = arg;

	assert_true(id == 1 || id == 2);
	if (m) {
		w->loaded++;
		assert_int_equal(m->bytes, 1 << 20);
		assert_true(m->chat);
		assert_string_equal(m->arch, "fake");
	} else {
		w->failed++;
		w->load_err = *e;
	}
}

static void on_unload(void *arg, uint64_t id)
{
	(void)id;
	((struct world *)arg)->unloaded++;
}

static void on_probe(void *arg, uint64_t id, const struct engine_loaded *m,
		     const struct err *e)
{
	struct world *w = arg;

	assert_int_equal(id, 1);
	if (!m) {
		w->failed++;
		w->load_err = *e;
		return;
	}
	w->probed++;
	assert_int_equal(m->weights_bytes, 1000000);
	assert_int_equal(m->kv_bytes, 48576);
	assert_int_equal(m->parked_bytes, 1000000);
}

static void on_park(void *arg, uint64_t id, uint64_t bytes)
{
	assert_int_equal(id, 1);
	assert_int_equal(bytes, 1000000);
	((struct world *)arg)->parked++;
}

static void on_progress(void *arg, uint64_t id, uint64_t done, uint64_t total)
{
	struct world *w = arg;

	assert_int_equal(w->loaded, 0);
	assert_int_equal(done, 500000);
	assert_int_equal(total, 1000000);
	w->progress++;
	if (w->unload_at_progress)
		engine_unload(w->engine, id, on_unload, w);
}

static void on_event(struct event_sink *s, const struct event *ev)
{
	struct answer *a = CONTAINER_OF(s, struct answer, sink);
	size_t used = strlen(a->text);

	a->events++;
	assert_int_equal(a->ends, 0);
	if (ev->type == EVENT_TEXT) {
		snprintf(a->text + used, sizeof a->text - used, "%.*s", (int)ev->text.len,
			 ev->text.ptr);
		if (a->cancel_at_text) {
			engine_provider(a->w->engine)->ops->cancel(a->job);
			a->cancel_at_text = false;
			a->ends = 100; /* any later event fails the assertion above */
		}
	}
	if (ev->type == EVENT_FINISHED || ev->type == EVENT_FAILED) {
		a->ends++;
		a->end = *ev;
		a->deaths_at_end = a->w->deaths;
	}
}

static struct request *prompt(const char *text)
{
	struct request *r = request_new();

	r->is_chat = true;
	request_add_message(r, ROLE_USER, text, strlen(text));
	return r;
}

static void ask(struct world *w, struct answer *a, const struct request *r)
{
	struct provider *p = engine_provider(w->engine);

	memset(a, 0, sizeof *a);
	a->sink.event = on_event;
	a->w = w;
	a->job = p->ops->start(p, "1", r, &a->sink);
	assert_int_equal(a->events, 0); /* never before start() returned */
}

static void load(struct world *w)
{
	engine_load(w->engine, 1, "good", 1024, 2, NULL, on_load, w);
	RUN_UNTIL(w, w->loaded || w->failed);
	assert_int_equal(w->loaded, 1);
}

static void the_process_starts_with_the_first_load_only(void **state)
{
	struct world w;

	(void)state;
	world_init(&w);
	uv_run(&w.loop, UV_RUN_NOWAIT);
	assert_int_equal(engine_pid(w.engine), 0);
	assert_int_equal(engine_state(w.engine), ENGINE_STOPPED);
	load(&w);
	assert_true(engine_pid(w.engine) > 0);
	assert_int_equal(engine_state(w.engine), ENGINE_READY);
	assert_string_equal(engine_kernels(w.engine), "fake");
	engine_unload(w.engine, 1, on_unload, &w);
	RUN_UNTIL(&w, w.unloaded);
	world_fini(&w);
}

/* This program as `hob engine` would be started: it says hello only to the right command line. */
static int as_engine(int argc, char **argv)
{
	static const char *const want[] = {
		"engine",          "--stdio",    "--kernels",      "auto",
		"--threads",       "3",          "--pack-dir",     "/p",
		"--pack-bytes",    "5000000000", "--kv-dir",       "/k",
		"--kv-disk-bytes", "7",          "--kv-ram-bytes", "6"};

	if (argc - 1 != (int)ARRAY_LEN(want))
		return 9;
	for (int i = 1; i < argc; i++)
		if (strcmp(argv[i], want[i - 1]))
			return 9;
	return fake_engine_main("/nonexistent");
}

static void folders_and_budgets_reach_the_process(void **state)
{
	struct engine_config c = {.exe = program,
				  .threads = 3,
				  .pack_dir = "/p",
				  .pack_bytes = UINT64_C(5000000000),
				  .kv_dir = "/k",
				  .kv_ram_bytes = 6,
				  .kv_disk_bytes = 7};
	struct world w;

	(void)state;
	world_init_config(&w, &c);
	load(&w);
	world_fini(&w);
}

static void a_prompt_brings_text_and_one_end(void **state)
{
	struct world w;
	struct answer a;
	struct request *r = prompt("hello \"you\"\n\xc3\xa4");

	(void)state;
	world_init(&w);
	load(&w);
	ask(&w, &a, r);
	RUN_UNTIL(&w, a.ends);
	assert_int_equal(a.end.type, EVENT_FINISHED);
	assert_string_equal(a.text, "echo hello \"you\"\n\xc3\xa4");
	assert_int_equal(a.end.finished.usage.completion_tokens, 2);
	assert_int_equal(a.end.finished.reason, FINISH_STOP);
	request_free(r);
	world_fini(&w);
}

static void only_the_sampling_that_was_given_is_sent(void **state)
{
	struct world w;
	struct answer a;
	struct request *r = prompt("sampling");

	(void)state;
	world_init(&w);
	load(&w);
	ask(&w, &a, r);
	RUN_UNTIL(&w, a.ends);
	assert_null(strstr(a.text, "temperature"));
	assert_null(strstr(a.text, "seed"));
	assert_null(strstr(a.text, "max_tokens"));
	assert_null(strstr(a.text, "stop"));
	r->sampling.temperature = 0;
	r->sampling.top_p = 0.5;
	r->sampling.top_k = 0;
	r->sampling.seed = INT64_MAX; /* a double would round it */
	r->sampling.max_tokens = 7;
	r->sampling.stops = xcalloc(1, sizeof(char *));
	r->sampling.stops[r->sampling.nstops++] = xstrdup("a\"b");
	ask(&w, &a, r);
	RUN_UNTIL(&w, a.ends);
	assert_non_null(strstr(a.text, "\"temperature\":0,"));
	assert_non_null(strstr(a.text, "\"top_p\":0.5"));
	assert_non_null(strstr(a.text, "\"top_k\":0"));
	assert_non_null(strstr(a.text, "\"seed\":9007199254740991"));
	assert_non_null(strstr(a.text, "\"max_tokens\":7"));
	assert_non_null(strstr(a.text, "\"stop\":[\"a\\\"b\"]"));
	assert_null(strstr(a.text, "min_p"));
	request_free(r);
	world_fini(&w);
}

static void what_the_engine_cannot_read_is_refused_here(void **state)
{
	struct world w;
	struct answer a;
	struct request *r = prompt("look at this");

	(void)state;
	world_init(&w);
	load(&w);
	r->messages[0].raw_json = xstrdup("{\"role\":\"user\",\"content\":[]}");
	ask(&w, &a, r);
	RUN_UNTIL(&w, a.ends);
	assert_int_equal(a.end.failed.code, ERR_UNSUPPORTED);
	assert_non_null(strstr(a.end.failed.text, "messages[0]"));
	free(r->messages[0].raw_json);
	r->messages[0].raw_json = NULL;
	r->extra_json = xstrdup("{\"response_format\":{\"type\":\"json_object\"}}");
	ask(&w, &a, r);
	RUN_UNTIL(&w, a.ends);
	assert_int_equal(a.end.failed.code, ERR_UNSUPPORTED);
	free(r->extra_json);
	r->extra_json = xstrdup("{\"tools\":[],\"tool_choice\":{\"type\":\"function\"}}");
	ask(&w, &a, r);
	RUN_UNTIL(&w, a.ends);
	assert_int_equal(a.end.failed.code, ERR_UNSUPPORTED);
	free(r->extra_json);
	r->extra_json = xstrdup("{\"tools\":[],\"tool_choice\":\"auto\"}");
	ask(&w, &a, r);
	RUN_UNTIL(&w, a.ends);
	assert_int_equal(a.end.type, EVENT_FINISHED);
	request_free(r);
	world_fini(&w);
}

static void a_model_is_probed_loaded_with_progress_parked_and_loaded_again(void **state)
{
	struct world w;

	(void)state;
	world_init(&w);
	engine_probe(w.engine, 1, "good", 1024, 2, on_probe, &w);
	RUN_UNTIL(&w, w.probed);
	for (int i = 1; i <= 2; i++) {
		w.loaded = 0;
		engine_load(w.engine, 1, "good", 1024, 2, on_progress, on_load, &w);
		RUN_UNTIL(&w, w.loaded);
		assert_int_equal(w.progress, i);
		engine_park(w.engine, 1, on_park, &w);
		RUN_UNTIL(&w, w.parked == i);
	}
	engine_unload(w.engine, 1, on_unload, &w);
	RUN_UNTIL(&w, w.unloaded);
	engine_probe(w.engine, 1, "bad", 1024, 2, on_probe, &w);
	RUN_UNTIL(&w, w.failed);
	assert_int_equal(w.load_err.code, ERR_CORRUPT);
	world_fini(&w);
}

static void an_unload_takes_back_a_load_before_it_is_sent_and_while_it_runs(void **state)
{
	struct world w;

	(void)state;
	world_init(&w);
	engine_load(w.engine, 1, "good", 1024, 2, on_progress, on_load, &w);
	engine_unload(w.engine, 1, on_unload, &w); /* the process is not even there */
	RUN_UNTIL(&w, w.unloaded == 1);
	w.unload_at_progress = true;
	engine_load(w.engine, 1, "slow", 1024, 2, on_progress, on_load, &w);
	RUN_UNTIL(&w, w.unloaded == 2);
	engine_load(w.engine, 1, "good", 1024, 2, NULL, on_load, &w);
	engine_unload(w.engine, 1, on_unload,
		      &w); /* `loaded` will come, and be ignored */
	RUN_UNTIL(&w, w.unloaded == 3);
	assert_int_equal(w.loaded + w.failed, 0);
	assert_int_equal(w.progress, 1);
	world_fini(&w);
}

static void the_engines_errors_keep_their_code(void **state)
{
	struct world w;
	struct answer a;
	struct request *r = prompt("fail");

	(void)state;
	world_init(&w);
	load(&w);
	ask(&w, &a, r);
	RUN_UNTIL(&w, a.ends);
	assert_int_equal(a.end.failed.code, ERR_CONTEXT);
	assert_string_equal(a.end.failed.text, "too long");
	engine_load(w.engine, 2, "bad", 1024, 1, NULL, on_load, &w);
	RUN_UNTIL(&w, w.failed);
	assert_int_equal(w.load_err.code, ERR_CORRUPT);
	request_free(r);
	world_fini(&w);
}

static void on_count(void *arg, const int *tokens, int n, int extra, const struct err *e)
{
	struct world *w = arg;

	w->counted++;
	w->ntokens = n;
	w->extra = extra;
	if (e)
		w->count_err = *e;
	else
		memcpy(w->tokens, tokens, (size_t)n * sizeof *tokens);
}

static void counts_come_per_message_and_cancel_reaches_the_engine(void **state)
{
	struct world w;
	struct answer a;
	struct request *r = prompt("hang");

	(void)state;
	world_init(&w);
	load(&w);
	request_add_message(r, ROLE_USER, "four", 4);
	engine_count_cancel(engine_count(w.engine, 1, r->messages, 2, on_count, &w));
	engine_count(w.engine, 1, r->messages, 2, on_count, &w);
	RUN_UNTIL(&w, w.counted);
	assert_int_equal(w.ntokens, 2);
	assert_int_equal(w.tokens[1], 4);
	assert_int_equal(w.extra, 1);
	r->nmessages = 1;
	ask(&w, &a, r);
	uv_run(&w.loop, UV_RUN_NOWAIT);
	engine_provider(w.engine)->ops->cancel(a.job);
	engine_count(w.engine, 1, r->messages, 1, on_count, &w);
	RUN_UNTIL(&w, w.counted == 2);
	assert_int_equal(w.extra, 2);
	assert_int_equal(a.events, 0);
	r->nmessages = 2;
	request_free(r);
	world_fini(&w);
}

static void
what_is_too_long_to_count_is_refused_before_the_engine_ends_over_it(void **state)
{
	struct world w;
	struct request *r = prompt("hello");
	size_t n = (20 << 20) + 1; /* each of them is two bytes of the line */
	char *text = xmalloc(n);

	(void)state;
	world_init(&w);
	load(&w);
	memset(text, '\n', n);
	request_add_message(r, ROLE_USER, text, n);
	engine_count(w.engine, 1, r->messages, 2, on_count, &w);
	assert_int_equal(w.counted, 0); /* in a later turn of the loop */
	RUN_UNTIL(&w, w.counted);
	assert_int_equal(w.count_err.code, ERR_TOO_LARGE);
	engine_count_cancel(engine_count(w.engine, 1, r->messages, 2, on_count, &w));
	engine_count(w.engine, 1, r->messages, 1, on_count, &w);
	RUN_UNTIL(&w, w.counted == 2);
	assert_int_equal(w.ntokens, 1);
	assert_int_equal(w.deaths, 0);
	free(text);
	request_free(r);
	world_fini(&w);
}

static void a_job_may_be_cancelled_by_what_it_is_told(void **state)
{
	struct world w;
	struct answer a, b;
	struct request *r = prompt("hello");

	(void)state;
	world_init(&w);
	load(&w);
	ask(&w, &a, r);
	a.cancel_at_text = true;
	ask(&w, &b, r);
	RUN_UNTIL(&w, b.ends);
	assert_string_equal(a.text, "echo ");
	request_free(r);
	world_fini(&w);
}

static void a_paused_job_holds_its_text_and_its_end(void **state)
{
	struct world w;
	struct answer a, b;
	struct request *r = prompt("hello");
	struct provider *p;

	(void)state;
	world_init(&w);
	p = engine_provider(w.engine);
	load(&w);
	ask(&w, &a, r);
	p->ops->pause(a.job, true);
	ask(&w, &b, r);
	RUN_UNTIL(&w, b.ends); /* the other one is not held up */
	assert_int_equal(a.events, 0);
	p->ops->pause(a.job, false);
	assert_int_equal(a.events, 0);
	RUN_UNTIL(&w, a.ends);
	assert_string_equal(a.text, "echo hello");
	ask(&w, &a, r);
	p->ops->pause(a.job, true);
	ask(&w, &b, r);
	RUN_UNTIL(&w, b.ends);
	p->ops->cancel(a.job);
	assert_int_equal(a.events, 0);
	request_free(r);
	world_fini(&w);
}

static void when_it_dies_every_job_fails_and_the_next_load_restarts_it(void **state)
{
	struct world w;
	struct answer a, b;
	struct request *r = prompt("hang"), *die = prompt("die");
	uint64_t before;

	(void)state;
	world_init(&w);
	load(&w);
	ask(&w, &a, r);
	ask(&w, &b, die);
	RUN_UNTIL(&w, a.ends && b.ends);
	assert_int_equal(w.deaths, 1);
	assert_int_equal(a.end.failed.code, ERR_UNAVAILABLE);
	assert_string_equal(a.end.failed.text, "engine died (signal 9); restarting");
	assert_int_equal(engine_state(w.engine), ENGINE_BACKOFF);
	assert_int_equal(engine_restarts(w.engine), 1);
	ask(&w, &a, r); /* while it is down */
	RUN_UNTIL(&w, a.ends);
	assert_int_equal(a.end.failed.code, ERR_UNAVAILABLE);
	before = clock_mono_ms();
	w.loaded = 0;
	load(&w);
	assert_true(clock_mono_ms() - before >= ENGINE_BACKOFF_MIN_MS / 2);
	request_free(r);
	request_free(die);
	world_fini(&w);
}

static void a_job_sent_to_a_dying_process_fails_after_the_owner_heard(void **state)
{
	struct world w;
	struct answer a, b;
	struct request *r = prompt("hello"), *mute = prompt("mute");

	(void)state;
	world_init(&w);
	load(&w);
	ask(&w, &b, mute);
	w.pulses = 0;
	RUN_UNTIL(&w,
		  w.pulses > 40); /* 200 ms: its end of file has come, its exit has not */
	assert_int_equal(w.deaths, 0);
	ask(&w, &a, r);
	RUN_UNTIL(&w, a.ends && b.ends);
	assert_int_equal(a.end.failed.code, ERR_UNAVAILABLE);
	assert_int_equal(a.deaths_at_end, 1);
	request_free(r);
	request_free(mute);
	world_fini(&w);
}

static void the_pause_between_deaths_doubles(void **state)
{
	struct world w;
	uint64_t before;

	(void)state;
	world_init(&w);
	for (int i = 0; i < 3; i++) {
		before = clock_mono_ms();
		engine_load(w.engine, 1, "die", 1024, 1, NULL, on_load, &w);
		RUN_UNTIL(&w, w.deaths == i + 1);
		if (i == 2)
			assert_true(clock_mono_ms() - before >= 180);
	}
	assert_int_equal(w.loaded + w.failed, 0); /* the death says it for all */
	world_fini(&w);
}

static void a_line_that_does_not_parse_kills_it(void **state)
{
	struct world w;
	struct answer a;
	struct request *r = prompt("garbage");

	(void)state;
	world_init(&w);
	load(&w);
	ask(&w, &a, r);
	RUN_UNTIL(&w, a.ends);
	assert_int_equal(a.end.failed.code, ERR_UNAVAILABLE);
	assert_non_null(strstr(w.death, "bad line"));
	request_free(r);
	world_fini(&w);
}

static void a_program_that_is_not_there_is_a_death_too(void **state)
{
	static const char *const argv[] = {"/nonexistent/hob", NULL};
	struct world w;

	(void)state;
	world_init_argv(&w, argv);
	engine_load(w.engine, 1, "good", 1024, 1, NULL, on_load, &w);
	assert_int_equal(w.deaths, 0);
	RUN_UNTIL(&w, w.deaths);
	assert_non_null(strstr(w.death, "/nonexistent/hob"));
	world_fini(&w);
}

static void closing_ends_all_jobs_at_once(void **state)
{
	struct world w;
	struct answer a, b;
	struct request *r = prompt("hang");

	(void)state;
	world_init(&w);
	load(&w);
	ask(&w, &a, r);
	ask(&w, &b, r);
	engine_provider(w.engine)->ops->pause(b.job, true);
	engine_count(w.engine, 1, r->messages, 1, on_count, &w);
	world_fini(&w);
	assert_int_equal(a.end.failed.code, ERR_UNAVAILABLE);
	assert_int_equal(b.ends, 1);
	assert_int_equal(w.counted, 1);
	assert_int_equal(w.count_err.code, ERR_UNAVAILABLE);
	request_free(r);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_process_starts_with_the_first_load_only),
		cmocka_unit_test(folders_and_budgets_reach_the_process),
		cmocka_unit_test(a_prompt_brings_text_and_one_end),
		cmocka_unit_test(only_the_sampling_that_was_given_is_sent),
		cmocka_unit_test(what_the_engine_cannot_read_is_refused_here),
		cmocka_unit_test(
			a_model_is_probed_loaded_with_progress_parked_and_loaded_again),
		cmocka_unit_test(
			an_unload_takes_back_a_load_before_it_is_sent_and_while_it_runs),
		cmocka_unit_test(the_engines_errors_keep_their_code),
		cmocka_unit_test(counts_come_per_message_and_cancel_reaches_the_engine),
		cmocka_unit_test(
			what_is_too_long_to_count_is_refused_before_the_engine_ends_over_it),
		cmocka_unit_test(a_job_may_be_cancelled_by_what_it_is_told),
		cmocka_unit_test(a_paused_job_holds_its_text_and_its_end),
		cmocka_unit_test(
			when_it_dies_every_job_fails_and_the_next_load_restarts_it),
		cmocka_unit_test(
			a_job_sent_to_a_dying_process_fails_after_the_owner_heard),
		cmocka_unit_test(the_pause_between_deaths_doubles),
		cmocka_unit_test(a_line_that_does_not_parse_kills_it),
		cmocka_unit_test(a_program_that_is_not_there_is_a_death_too),
		cmocka_unit_test(closing_ends_all_jobs_at_once),
	};

	if (argc == 3 && !strcmp(argv[1], "--fake-engine"))
		return fake_engine_main(argv[2]);
	if (argc > 2 && !strcmp(argv[1], "engine"))
		return as_engine(argc, argv);
	signal(SIGPIPE, SIG_IGN);
	program = argv[0];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
