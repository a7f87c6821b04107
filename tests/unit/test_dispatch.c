/* The dispatcher with a real cache, registry, store and engine client; the engine process
 * is fake_engine.h, the remote provider is below. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <ftw.h>
#include <sqlite3.h>
#include "memory/store_heads.h"
#include "api/cache_json.h"
#include "base/clock.h"
#include "base/log.h"
#include "route/dispatch_open.h"
#include "tests/unit/fake_engine.h"

static const char *program; /* argv[0] */

/* Remembers what it was asked and answers "remote". */
struct remote {
	struct provider provider;
	char model[100], last[200];
	int nmessages, starts, cancels;
	struct event_sink *sink;
};

struct world {
	uv_loop_t loop;
	uv_timer_t pulse; /* so that UV_RUN_ONCE never waits long */
	int pulses, closing;
	char dir[200], flag[220];
	struct config config;
	struct models *models;
	struct engine *engine;
	struct cache *cache;
	struct store *store;
	struct remote remote;
	struct dispatch *dispatch;
};

struct answer {
	struct event_sink sink;
	struct world *w;
	struct dispatch_job *job;
	char text[4000], model[100], upstream[100], reason[300], conversation[64];
	int events, started, kept, dropped, ends, progress;
	struct event end;
	int cancel_at; /* the event after which it cancels itself; 0 = never */
	bool cancel_at_text;
};

/* ---- the remote provider */

struct job {
	uv_timer_t timer;
	struct remote *remote;
};

static void free_job(uv_handle_t *h)
{
	free(CONTAINER_OF(h, struct job, timer));
}

static void remote_answer(uv_timer_t *t)
{
	struct job *j = t->data;
	struct event_sink *s = j->remote->sink;
	struct event started = {.type = EVENT_STARTED,
				.started = {.model = "vendor/real"}};
	struct event text = {.type = EVENT_TEXT, .text = {"remote", 6}};
	struct event end = {.type = EVENT_FINISHED};

	end.finished.usage = (struct usage){5, 1, 2, -1, -1, 0.5, -1, -1};
	uv_close((uv_handle_t *)t, free_job);
	s->event(s, &started);
	s->event(s, &text);
	s->event(s, &end);
}

static struct job *remote_start(struct provider *p, const char *model,
				const struct request *r, struct event_sink *sink)
{
	struct remote *remote = (struct remote *)p;
	struct world *w = CONTAINER_OF(remote, struct world, remote);
	struct job *j = xcalloc(1, sizeof *j);

	remote->starts++;
	remote->sink = sink;
	remote->nmessages = r->nmessages;
	snprintf(remote->model, sizeof remote->model, "%s", model);
	snprintf(remote->last, sizeof remote->last, "%s",
		 r->messages[r->nmessages - 1].text);
	j->remote = remote;
	uv_timer_init(&w->loop, &j->timer);
	j->timer.data = j;
	if (strcmp(remote->last, "hang"))
		uv_timer_start(&j->timer, remote_answer, 1, 0);
	return j;
}

static void remote_cancel(struct job *j)
{
	j->remote->cancels++;
	uv_close((uv_handle_t *)&j->timer, free_job);
}

static const struct provider_ops remote_ops = {
	.kind = "fake",
	.start = remote_start,
	.cancel = remote_cancel,
};

/* ---- the world */

static void on_pulse(uv_timer_t *t)
{
	struct world *w = t->data;

	if (++w->pulses > 4000)
		fail_msg("the test waited 20 s for something that never came");
}

static void add_file(struct world *w, const char *name)
{
	char *path = xasprintf("%s/%s.gguf", w->dir, name);
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs("a model", f);
	fclose(f);
	free(path);
}

static void add_folder(struct world *w)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(w->dir, sizeof w->dir, "%s/hob-dispatch-XXXXXX", tmp ? tmp : P_tmpdir);
	assert_non_null(mkdtemp(w->dir));
	snprintf(w->flag, sizeof w->flag, "%s/flag", w->dir);
	add_file(w, "good");
	add_file(w, "bad");
	add_file(w, "die");
}

static void world_init(struct world *w, bool with_store)
{
	struct engine_config engine = {0};
	struct cache_parts cache = {
		.loop = &w->loop,
		.settings = {.budget_bytes = 100 << 20, .keep_alive_ms = -1},
		.ctx = 1024,
		.slots = 2};
	static const char *argv[4];
	static struct provider *remotes[1];
	struct dispatch_parts parts = {.loop = &w->loop,
				       .config = &w->config,
				       .providers = remotes,
				       .nproviders = 1};
	struct err e;

	memset(w, 0, sizeof *w);
	log_set_level(LOG_LV_ERROR);
	add_folder(w);
	argv[0] = program;
	argv[1] = "--fake-engine";
	argv[2] = w->flag;
	engine.argv = argv;
	uv_loop_init(&w->loop);
	uv_timer_init(&w->loop, &w->pulse);
	w->pulse.data = w;
	uv_timer_start(&w->pulse, on_pulse, 5, 5);
	w->config.models_dir = w->dir;
	w->config.queue_timeout_ms = 5000;
	w->config.ctx = 1024;
	w->config.memory_store = MEMORY_STORE_OPT_IN;
	w->models = parts.models = models_new(&w->config);
	w->engine = parts.engine = engine_new(&w->loop, &engine);
	w->cache = parts.cache = cache_new(&cache);
	if (with_store) {
		char *path = xasprintf("%s/memory.db", w->dir);

		w->store = parts.store = store_open(&w->loop, path, &e);
		assert_non_null(w->store);
		free(path);
	}
	w->remote.provider =
		(struct provider){.ops = &remote_ops, .name = (char *)(uintptr_t) "far"};
	remotes[0] = &w->remote.provider;
	w->dispatch = dispatch_new(&parts);
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st, (void)flag, (void)ftw;
	return remove(path);
}

static void on_closed(void *arg)
{
	((struct world *)arg)->closing--;
}

static void world_fini(struct world *w)
{
	struct provider *p = engine_provider(w->engine);

	dispatch_free(w->dispatch);
	w->closing = 2;
	cache_close(w->cache, on_closed, w);
	p->ops->close(p, on_closed, w);
	while (w->closing)
		uv_run(&w->loop, UV_RUN_ONCE);
	if (w->store) {
		w->closing = 1;
		store_close(w->store, on_closed, w);
		while (w->closing)
			uv_run(&w->loop, UV_RUN_ONCE);
	}
	uv_close((uv_handle_t *)&w->pulse, NULL);
	uv_run(&w->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&w->loop), 0);
	models_free(w->models);
	nftw(w->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

#define RUN_UNTIL(w, condition) \
	while (!(condition))    \
	uv_run(&(w)->loop, UV_RUN_ONCE)

static void on_event(struct event_sink *s, const struct event *ev)
{
	struct answer *a = CONTAINER_OF(s, struct answer, sink);
	size_t used = strlen(a->text);

	assert_int_equal(a->ends, 0); /* nothing after the end or a cancel */
	a->events++;
	switch (ev->type) {
	case EVENT_STARTED:
		a->started++;
		assert_int_equal(used, 0);
		a->kept = ev->started.kept_messages;
		a->dropped = ev->started.dropped_messages;
		snprintf(a->model, sizeof a->model, "%s", ev->started.model);
		snprintf(a->reason, sizeof a->reason, "%s", ev->started.reason);
		if (ev->started.upstream_model)
			snprintf(a->upstream, sizeof a->upstream, "%s",
				 ev->started.upstream_model);
		if (ev->started.conversation)
			snprintf(a->conversation, sizeof a->conversation, "%s",
				 ev->started.conversation);
		break;
	case EVENT_TEXT:
		snprintf(a->text + used, sizeof a->text - used, "%.*s", (int)ev->text.len,
			 ev->text.ptr);
		break;
	case EVENT_PROGRESS:
		a->progress++;
		break;
	case EVENT_FINISHED:
	case EVENT_FAILED:
		a->ends++;
		a->end = *ev;
		break;
	default:
		break;
	}
	if (a->cancel_at == a->events || (a->cancel_at_text && ev->type == EVENT_TEXT)) {
		dispatch_cancel(a->job);
		a->ends = 100;
	}
}

static struct request *prompt(const char *model, const char *text)
{
	struct request *r = request_new();

	free(r->model);
	r->model = xstrdup(model);
	r->is_chat = true;
	snprintf(r->id, sizeof r->id, "hob-test");
	request_add_message(r, ROLE_USER, text, strlen(text));
	return r;
}

static void start(struct world *w, struct answer *a, struct request *r)
{
	memset(a, 0, sizeof *a);
	a->sink.event = on_event;
	a->w = w;
	a->job = dispatch_start(w->dispatch, r, &a->sink);
	assert_int_equal(a->events, 0);
}

static void ask(struct world *w, struct answer *a, struct request *r)
{
	start(w, a, r);
	RUN_UNTIL(w, a->ends);
}

static struct request *remembered(const char *model, const char *text,
				  const char *conversation)
{
	struct request *r = prompt(model, text);

	r->conversation = xstrdup(conversation);
	return r;
}

static void assert_failed_with(const struct answer *a, enum err_code code,
			       const char *part)
{
	assert_int_equal(a->end.type, EVENT_FAILED);
	assert_int_equal(a->end.failed.code, code);
	if (!strstr(a->end.failed.text, part))
		fail_msg("'%s' is not in '%s'", part, a->end.failed.text);
}

/* ---- without memory */

static void a_prompt_is_loaded_run_and_ends_once(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_init(&w, false);
	ask(&w, &a, prompt("good", "hello"));
	assert_int_equal(a.end.type, EVENT_FINISHED);
	assert_string_equal(a.text, "echo hello");
	assert_string_equal(a.model, "good");
	assert_int_equal(a.started, 1);
	assert_int_equal(a.kept, -1);
	assert_int_equal(dispatch_stats(w.dispatch)->finished, 1);
	assert_int_equal(dispatch_stats(w.dispatch)->running, 0);
	assert_int_equal(dispatch_stats(w.dispatch)->tokens_out, 2);
	assert_int_equal(dispatch_stats(w.dispatch)->ttft_count, 1);
	world_fini(&w);
}

static void an_unknown_model_names_the_nearest(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_init(&w, false);
	ask(&w, &a, prompt("goood", "hello"));
	assert_failed_with(&a, ERR_MODEL, "did you mean 'good'");
	ask(&w, &a, prompt("nowhere/x", "hello"));
	assert_failed_with(&a, ERR_MODEL, "nowhere/x");
	ask(&w, &a, prompt("far/", "hello"));
	assert_failed_with(&a, ERR_MODEL, "missing after '/'");
	world_fini(&w);
}

static void a_provider_that_leaves_speaks_to_nobody(void **state)
{
	struct world w;

	(void)state;
	world_init(&w, false);
	assert_non_null(w.remote.provider.listener);
	dispatch_set_providers(w.dispatch, NULL, 0);
	assert_null(w.remote.provider.listener);
	world_fini(&w);
}

static void a_prefix_leads_to_the_remote_provider(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_init(&w, false);
	ask(&w, &a, prompt("far/vendor/m", "hello"));
	assert_string_equal(w.remote.model, "vendor/m");
	assert_string_equal(a.text, "remote");
	assert_string_equal(a.model, "far/vendor/m");
	assert_string_equal(a.upstream, "vendor/real");
	assert_int_equal(engine_pid(w.engine), 0);
	assert_int_equal(dispatch_stats(w.dispatch)->remote, 1);
	world_fini(&w);
}

static void a_private_prompt_never_leaves_the_machine(void **state)
{
	struct world w;
	struct answer a;
	struct request *r;

	(void)state;
	world_init(&w, false);
	r = prompt("far/vendor/m", "secret");
	r->is_private = true;
	ask(&w, &a, r);
	assert_failed_with(&a, ERR_FORBIDDEN, "private");
	assert_int_equal(w.remote.starts, 0);
	world_fini(&w);
}

static void errors_of_load_and_prompt_come_through(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_init(&w, false);
	ask(&w, &a, prompt("bad", "hello"));
	assert_failed_with(&a, ERR_CORRUPT, "no GGUF");
	ask(&w, &a, prompt("good", "fail"));
	assert_failed_with(&a, ERR_CONTEXT, "too long");
	assert_int_equal(a.started, 0);
	world_fini(&w);
}

static void a_corrupt_file_that_is_replaced_is_loaded(void **state)
{
	struct world w;
	struct answer a;
	struct cache_totals t;
	char *path;
	FILE *f;

	(void)state;
	world_init(&w, false);
	ask(&w, &a, prompt("bad", "hello"));
	ask(&w, &a, prompt("bad", "hello"));
	cache_totals(w.cache, &t);
	assert_int_equal(t.load_failures, 1);
	path = xasprintf("%s/bad.gguf", w.dir);
	f = fopen(path, "a");
	fputs("more", f);
	fclose(f);
	free(path);
	ask(&w, &a, prompt("bad", "hello"));
	cache_totals(w.cache, &t);
	assert_int_equal(t.load_failures, 2); /* as corrupt as before, but looked at */
	world_fini(&w);
}

static void a_death_before_the_first_text_is_retried_once(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_init(&w, false);
	ask(&w, &a, prompt("good", "die-once"));
	assert_int_equal(a.end.type, EVENT_FINISHED);
	assert_string_equal(a.text, "echo die-once");
	assert_int_equal(dispatch_stats(w.dispatch)->retried, 1);
	ask(&w, &a, prompt("good", "die"));
	assert_failed_with(&a, ERR_UNAVAILABLE, "engine died (signal 9)");
	assert_int_equal(engine_restarts(w.engine), 3);
	world_fini(&w);
}

static void a_death_after_the_first_text_fails_and_the_next_prompt_works(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_init(&w, false);
	ask(&w, &a, prompt("good", "die-late"));
	assert_failed_with(&a, ERR_UNAVAILABLE, "engine died (signal 9)");
	assert_string_equal(a.text, "echo ");
	ask(&w, &a, prompt("good", "again"));
	assert_string_equal(a.text, "echo again");
	assert_int_equal(engine_restarts(w.engine), 1);
	world_fini(&w);
}

static void a_model_that_kills_the_engine_fails_alone(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_init(&w, false);
	ask(&w, &a, prompt("die", "hello"));
	assert_failed_with(&a, ERR_UNAVAILABLE, "while loading");
	ask(&w, &a, prompt("good", "hello"));
	assert_string_equal(a.text, "echo hello");
	world_fini(&w);
}

static void the_first_token_has_a_deadline(void **state)
{
	struct world w;
	struct answer a;
	struct request *r;
	uint64_t before = clock_mono_ms();

	(void)state;
	world_init(&w, false);
	r = prompt("good", "hang");
	r->deadline_ms = clock_mono_ms() + 200;
	ask(&w, &a, r);
	assert_failed_with(&a, ERR_TIMEOUT, "no first token");
	assert_true(clock_mono_ms() - before < 5000);
	world_fini(&w);
}

static void cancel_is_legal_everywhere(void **state)
{
	struct world w;
	struct answer a, b;

	(void)state;
	world_init(&w, false);
	start(&w, &a, prompt("good", "hello")); /* before it began */
	dispatch_cancel(a.job);
	start(&w, &a, prompt("good", "hello")); /* while it is loaded */
	uv_run(&w.loop, UV_RUN_NOWAIT);
	dispatch_cancel(a.job);
	for (int at = 1; at <= 4; at++) { /* within each event, the last one included */
		start(&w, &b, prompt("good", "hello"));
		b.cancel_at = at;
		RUN_UNTIL(&w, b.ends);
	}
	start(&w, &b, prompt("far/x", "hang"));
	RUN_UNTIL(&w, w.remote.starts);
	dispatch_cancel(b.job);
	assert_int_equal(w.remote.cancels, 1);
	assert_int_equal(b.events, 0);
	assert_int_equal(dispatch_stats(w.dispatch)->running, 0);
	start(&w, &a, prompt("good", "hang")); /* left to dispatch_free() */
	uv_run(&w.loop, UV_RUN_NOWAIT);
	world_fini(&w);
	assert_int_equal(a.ends, 0);
}

static void the_view_lists_what_is_resident(void **state)
{
	struct world w;
	struct answer a;
	struct buf b = {0};
	cJSON *o;
	struct err e;

	(void)state;
	world_init(&w, false);
	ask(&w, &a, prompt("good", "hello"));
	buf_addc(&b, '{');
	cache_json_members(&b, w.cache);
	buf_addc(&b, '}');
	o = json_parse(buf_str(&b), &e);
	assert_non_null(o);
	assert_non_null(strstr(
		b.data, "\"name\":\"good\",\"names\":[\"good\"],\"state\":\"ready\""));
	assert_non_null(strstr(b.data, "\"bytes\":1048576"));
	cJSON_Delete(o);
	buf_free(&b);
	world_fini(&w);
}

/* ---- with memory */

static void a_conversation_goes_on_where_it_was(void **state)
{
	struct world w;
	struct answer a, b, c;

	(void)state;
	world_init(&w, true);
	ask(&w, &a, remembered("good", "one", "new"));
	assert_int_equal(a.end.type, EVENT_FINISHED);
	assert_int_equal(strlen(a.conversation), 26);
	assert_int_equal(a.kept, 0);
	ask(&w, &b, remembered("good", "two", a.conversation));
	assert_string_equal(b.conversation, a.conversation);
	assert_int_equal(b.kept, 2);
	assert_int_equal(b.dropped, 0);
	/* and on another model, far away, with all four messages before it */
	ask(&w, &c, remembered("far/x", "three", a.conversation));
	assert_int_equal(w.remote.nmessages, 5);
	assert_string_equal(w.remote.last, "three");
	assert_int_equal(c.kept, 4);
	world_fini(&w);
}

static void a_long_history_is_cut_and_said_so(void **state)
{
	struct world w;
	struct answer a;
	char id[64] = "new", text[301];

	(void)state;
	world_init(&w, true);
	memset(text, 'x', sizeof text - 1);
	text[sizeof text - 1] = 0;
	for (int i = 0; i < 4; i++) { /* the fake engine counts bytes; ctx is 1024 */
		ask(&w, &a, remembered("good", text, id));
		assert_int_equal(a.end.type, EVENT_FINISHED);
		snprintf(id, sizeof id, "%s", a.conversation);
	}
	assert_true(a.dropped > 0);
	assert_int_equal(a.kept + a.dropped, 6);
	world_fini(&w);
}

static int on_number(void *arg, int n, char **values, char **names)
{
	(void)n, (void)names;
	*(int *)arg = (int)strtol(values[0], NULL, 10);
	return 0;
}

/* Behind the back of the store. */
static int sql(struct world *w, const char *text)
{
	char *path = xasprintf("%s/memory.db", w->dir);
	int number = 0;
	sqlite3 *db;

	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	sqlite3_busy_timeout(db, 5000);
	assert_int_equal(sqlite3_exec(db, text, on_number, &number, NULL), SQLITE_OK);
	sqlite3_close(db);
	free(path);
	return number;
}

static void tokens_are_counted_once_for_each_tokenizer(void **state)
{
	struct world w;
	struct answer a;
	char id[64] = "new";

	(void)state;
	world_init(&w, true);
	for (int i = 0; i < 2; i++) {
		ask(&w, &a, remembered("good", "one", id));
		snprintf(id, sizeof id, "%s", a.conversation);
	}
	assert_int_equal(a.dropped, 0);
	assert_int_equal(sql(&w, "SELECT count(*) FROM token_count"), 2);
	assert_int_equal(sql(&w, "SELECT count(DISTINCT tokenizer) FROM token_count"), 1);
	/* what is written there is believed, so nobody has counted again */
	sql(&w, "UPDATE token_count SET tokens = 5000");
	ask(&w, &a, remembered("good", "one", id));
	assert_int_equal(a.dropped, 2);
	assert_int_equal(sql(&w, "SELECT count(*) FROM token_count"), 4);
	/* another file is another tokenizer, as far as we know */
	add_file(&w, "other");
	ask(&w, &a, remembered("other", "one", id));
	assert_int_equal(a.end.type, EVENT_FINISHED);
	assert_int_equal(a.dropped, 0);
	assert_int_equal(sql(&w, "SELECT count(DISTINCT tokenizer) FROM token_count"), 2);
	world_fini(&w);
}

static void a_system_prompt_sent_again_is_not_piled_up(void **state)
{
	struct world w;
	struct answer a;
	char id[64] = "new";

	(void)state;
	world_init(&w, true);
	for (int i = 0; i < 2; i++) {
		struct request *r = request_new();

		free(r->model);
		r->model = xstrdup("far/x");
		r->is_chat = true;
		r->conversation = xstrdup(id);
		request_add_message(r, ROLE_SYSTEM, "be brief", 8);
		request_add_message(r, ROLE_USER, "hello", 5);
		ask(&w, &a, r);
		snprintf(id, sizeof id, "%s", a.conversation);
	}
	assert_int_equal(w.remote.nmessages, 4); /* system, user, assistant, user */
	world_fini(&w);
}

static void an_unknown_conversation_is_an_error(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_init(&w, true);
	ask(&w, &a, remembered("good", "hi", "01ARZ3NDEKTSV4RRFFQ69G5FAV"));
	assert_failed_with(&a, ERR_NOT_FOUND, "01ARZ3NDEKTSV4RRFFQ69G5FAV");
	world_fini(&w);
}

static void without_a_store_the_answer_comes_and_says_so(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_init(&w, false);
	ask(&w, &a, remembered("good", "hi", "new"));
	assert_string_equal(a.text, "echo hi");
	assert_string_equal(a.conversation, "");
	assert_non_null(strstr(a.reason, "memory is off"));
	world_fini(&w);
}

struct seen {
	int times, messages;
	char status[40], partial[100];
};

static void on_row(void *arg, const struct err *e, const struct store_conversation *list,
		   int n)
{
	struct seen *s = arg;

	s->times++;
	assert_int_equal(e->code, ERR_NONE);
	assert_int_equal(n, 1);
	s->messages = list->messages;
	snprintf(s->status, sizeof s->status, "%s", list->status);
	snprintf(s->partial, sizeof s->partial, "%s", list->partial ? list->partial : "");
}

static void look(struct world *w, struct seen *s)
{
	memset(s, 0, sizeof *s);
	store_get(w->store, "last", on_row, s);
	RUN_UNTIL(w, s->times);
}

static void a_turn_is_committed_before_its_end_is_told(void **state)
{
	struct world w;
	struct answer a;
	struct seen s;

	(void)state;
	world_init(&w, true);
	ask(&w, &a, remembered("good", "one", "new"));
	look(&w, &s);
	assert_string_equal(s.status, "done");
	assert_int_equal(s.messages, 2);
	world_fini(&w);
}

static void a_cancelled_turn_keeps_its_partial_text(void **state)
{
	struct world w;
	struct answer a;
	struct seen s;

	(void)state;
	world_init(&w, true);
	start(&w, &a, remembered("good", "one", "new"));
	a.cancel_at_text = true;
	RUN_UNTIL(&w, a.ends);
	assert_string_equal(a.text, "echo ");
	look(&w, &s);
	assert_string_equal(s.status, "cancelled");
	assert_string_equal(s.partial, "echo ");
	assert_int_equal(s.messages,
			 2); /* the store keeps a cancelled answer in the path */
	world_fini(&w);
}

static void a_failed_turn_is_marked_and_the_conversation_goes_on(void **state)
{
	struct world w;
	struct answer a, b;
	struct seen s;

	(void)state;
	world_init(&w, true);
	ask(&w, &a, remembered("good", "die-late", "new"));
	assert_failed_with(&a, ERR_UNAVAILABLE, "engine died");
	look(&w, &s);
	assert_string_equal(s.status, "error");
	ask(&w, &b, remembered("good", "again", a.conversation));
	assert_string_equal(b.text, "echo again");
	world_fini(&w);
}

static void cancel_is_legal_at_each_step_of_a_remembered_turn(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_init(&w, true);
	ask(&w, &a, remembered("good", "warm", "new"));
	for (int turns = 0; turns < 12; turns++) {
		start(&w, &a, remembered("good", "one", "last"));
		for (int i = 0; i < turns && !a.ends; i++)
			uv_run(&w.loop, UV_RUN_ONCE);
		if (!a.ends)
			dispatch_cancel(a.job);
	}
	assert_int_equal(dispatch_stats(w.dispatch)->running, 0);
	world_fini(&w);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_prompt_is_loaded_run_and_ends_once),
		cmocka_unit_test(an_unknown_model_names_the_nearest),
		cmocka_unit_test(a_provider_that_leaves_speaks_to_nobody),
		cmocka_unit_test(a_prefix_leads_to_the_remote_provider),
		cmocka_unit_test(a_private_prompt_never_leaves_the_machine),
		cmocka_unit_test(errors_of_load_and_prompt_come_through),
		cmocka_unit_test(a_corrupt_file_that_is_replaced_is_loaded),
		cmocka_unit_test(a_death_before_the_first_text_is_retried_once),
		cmocka_unit_test(
			a_death_after_the_first_text_fails_and_the_next_prompt_works),
		cmocka_unit_test(a_model_that_kills_the_engine_fails_alone),
		cmocka_unit_test(the_first_token_has_a_deadline),
		cmocka_unit_test(cancel_is_legal_everywhere),
		cmocka_unit_test(the_view_lists_what_is_resident),
		cmocka_unit_test(a_conversation_goes_on_where_it_was),
		cmocka_unit_test(a_long_history_is_cut_and_said_so),
		cmocka_unit_test(tokens_are_counted_once_for_each_tokenizer),
		cmocka_unit_test(a_system_prompt_sent_again_is_not_piled_up),
		cmocka_unit_test(an_unknown_conversation_is_an_error),
		cmocka_unit_test(without_a_store_the_answer_comes_and_says_so),
		cmocka_unit_test(a_turn_is_committed_before_its_end_is_told),
		cmocka_unit_test(a_cancelled_turn_keeps_its_partial_text),
		cmocka_unit_test(a_failed_turn_is_marked_and_the_conversation_goes_on),
		cmocka_unit_test(cancel_is_legal_at_each_step_of_a_remembered_turn),
	};

	if (argc == 3 && !strcmp(argv[1], "--fake-engine"))
		return fake_engine_main(argv[2]);
	signal(SIGPIPE, SIG_IGN);
	program = argv[0];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
