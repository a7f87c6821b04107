/* A world for the dispatcher in which everything but the dispatcher, the plan, the cache and the
 * books is played: local models load or fail as their names say, providers answer as a script says.
 *
 * Local files: "big*" does not fit, "bad*" is corrupt, "odd*" is unsupported, "slow*" never comes up,
 * else it loads within a few turns of the loop; "cold" and "slowcold" are expected to take long.
 * A script is a list of words, one a call, of which the last goes on for ever:
 *   ok        text "NAME answers", usage            torn      text, then ERR_TRANSPORT
 *   empty     finishes without any text             hang      accepts, and is silent
 *   calls     one tool call, no text                longer    200 times "longer "
 *   mute      does not even accept                  lost      accepts, then ERR_TRANSPORT
 *   an error code's name ("busy", "unavailable", "context_length_exceeded", ...): fails so before
 *   it accepts; "busy@40" adds retry_after_ms. */
#ifndef HOB_DISPATCH_WORLD_H
#define HOB_DISPATCH_WORLD_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <ftw.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/log.h"
#include "route/dispatch_open.h"
#include "route/health.h"

enum { FAKES = 3, CALLS_MAX = 64 };

struct world;

struct fake {
	struct provider provider;
	struct world *w;
	char script[200]; /* what is left of it */
	int starts, cancels, live, nmessages;
	char model[100], last[200];
	bool saw_private;
};

struct job {
	uv_timer_t timer;
	struct fake *fake;
	struct event_sink *sink;
	char word[64];
	int step;
	bool over;
};

struct world {
	uv_loop_t loop;
	uv_timer_t pulse; /* so that UV_RUN_ONCE never waits long */
	int pulses, closing;
	char dir[200];
	struct config *config;
	struct models *models;
	struct cache *cache;
	struct store *store;
	struct money *money;
	struct fake far, away, local; /* far and away are remote; "near" stays here */
	struct fake near;
	struct dispatch *dispatch;
	double random;
	/* called with each start of a call; tests look at what must not be */
	void (*on_start)(struct world *w, struct fake *f, const struct request *r);
};

/* ---- providers */

static inline void fake_next_word(struct fake *f, char *out, size_t bytes)
{
	char *comma = strchr(f->script, ',');
	size_t n = comma ? (size_t)(comma - f->script) : strlen(f->script);

	snprintf(out, bytes, "%.*s", (int)n, f->script);
	if (comma)
		memmove(f->script, comma + 1, strlen(comma + 1) + 1);
}

static inline void fake_gone(uv_handle_t *h)
{
	free(CONTAINER_OF(h, struct job, timer));
}

static inline void fake_over(struct job *j)
{
	assert_false(j->over);
	j->over = true;
	j->fake->live--;
	uv_timer_stop(&j->timer);
	uv_close((uv_handle_t *)&j->timer, fake_gone);
}

static inline void fake_fail(struct job *j, enum err_code code, uint32_t retry_after_ms)
{
	struct event ev = {.type = EVENT_FAILED};
	struct event_sink *s = j->sink;

	err_set(&ev.failed, code, "%s says %s", j->fake->provider.name,
		err_info(code)->name);
	ev.failed.retry_after_ms = retry_after_ms;
	fake_over(j);
	s->event(s, &ev);
}

static inline void fake_finish(struct job *j)
{
	struct event ev = {.type = EVENT_FINISHED};
	struct event_sink *s = j->sink;

	ev.finished.usage = (struct usage){.prompt_tokens = 100,
					   .cached_tokens = 0,
					   .completion_tokens = 10,
					   .prefill_ms = -1,
					   .decode_ms = -1,
					   .cost_usd = -1,
					   .reasoning_tokens = -1,
					   .cache_write_tokens = -1};
	fake_over(j);
	s->event(s, &ev);
}

/* One step a call: accepted, text, end; the sink may cancel us in each. */
static inline void fake_step(uv_timer_t *t)
{
	struct job *j = t->data;
	struct event started = {.type = EVENT_STARTED, .started = {.model = "up/real"}};
	struct event text = {.type = EVENT_TEXT};
	char said[100];
	int step = j->step++;

	if (!strcmp(j->word, "mute"))
		return;
	if (strcmp(j->word, "ok") && strcmp(j->word, "torn") &&
	    strcmp(j->word, "empty") && strcmp(j->word, "hang") &&
	    strcmp(j->word, "lost") && strcmp(j->word, "calls") &&
	    strcmp(j->word, "longer")) {
		char *at = strchr(j->word, '@');

		if (at)
			*at = '\0';
		fake_fail(j, err_code_by_name(j->word),
			  at ? (uint32_t)strtoul(at + 1, NULL, 10) : 0);
		return;
	}
	if (step == 0) {
		uv_timer_start(&j->timer, fake_step, 0, 0);
		j->sink->event(j->sink, &started);
	} else if (!strcmp(j->word, "hang")) {
		return;
	} else if (!strcmp(j->word, "lost")) {
		fake_fail(j, ERR_TRANSPORT, 0);
	} else if (step == 1 && !strcmp(j->word, "calls")) {
		text.type = EVENT_TOOL_CALL;
		text.text.ptr =
			"{\"index\":0,\"id\":\"c1\",\"function\":{\"name\":\"ls\","
			"\"arguments\":\"{}\"}}";
		text.text.len = strlen(text.text.ptr);
		uv_timer_start(&j->timer, fake_step, 0, 0);
		j->sink->event(j->sink, &text);
	} else if (step <= 200 && !strcmp(j->word, "longer")) {
		text.text.ptr = "longer ";
		text.text.len = 7;
		uv_timer_start(&j->timer, fake_step, 0, 0);
		j->sink->event(j->sink, &text);
	} else if (step == 1 && strcmp(j->word, "empty")) {
		snprintf(said, sizeof said, "%s answers", j->fake->provider.name);
		text.text.ptr = said;
		text.text.len = strlen(said);
		uv_timer_start(&j->timer, fake_step, 0, 0);
		j->sink->event(j->sink, &text);
	} else if (!strcmp(j->word, "torn")) {
		fake_fail(j, ERR_TRANSPORT, 0);
	} else {
		fake_finish(j);
	}
}

static inline struct job *fake_start(struct provider *p, const char *model,
				     const struct request *r, struct event_sink *sink)
{
	struct fake *f = (struct fake *)p;
	struct job *j = xcalloc(1, sizeof *j);

	f->starts++;
	f->live++;
	f->nmessages = r->nmessages;
	f->saw_private |= r->is_private;
	snprintf(f->model, sizeof f->model, "%s", model);
	if (r->nmessages)
		snprintf(f->last, sizeof f->last, "%s",
			 r->messages[r->nmessages - 1].text);
	j->fake = f;
	j->sink = sink;
	fake_next_word(f, j->word, sizeof j->word);
	uv_timer_init(&f->w->loop, &j->timer);
	j->timer.data = j;
	uv_timer_start(&j->timer, fake_step, 0, 0);
	if (f->w->on_start)
		f->w->on_start(f->w, f, r);
	return j;
}

static inline void fake_cancel(struct job *j)
{
	j->fake->cancels++;
	fake_over(j);
}

static inline void fake_pause(struct job *j, bool paused)
{
	assert_false(j->over);
	(void)paused;
}

static const struct provider_ops fake_ops = {
	.kind = "fake", .start = fake_start, .cancel = fake_cancel, .pause = fake_pause};

static inline void fake_init(struct world *w, struct fake *f, const char *name,
			     bool is_local)
{
	f->provider = (struct provider){
		.ops = &fake_ops, .name = (char *)(uintptr_t)name, .is_local = is_local};
	f->w = w;
	snprintf(f->script, sizeof f->script, "ok");
}

/* ---- local models */

struct loading {
	uv_timer_t timer;
	struct world *w;
	uint64_t id;
	char name[64];
	int ctx;
};

static inline void loading_gone(uv_handle_t *h)
{
	free(CONTAINER_OF(h, struct loading, timer));
}

static inline void load_fails(struct loading *l, enum err_code code, const char *text)
{
	struct err e;

	err_set(&e, code, "load '%s': %s", l->name, text);
	cache_loader_failed(l->w->cache, l->id, &e);
}

static inline void load_ends(uv_timer_t *t)
{
	struct loading *l = t->data;
	struct cache_info info = {.sizes = {1000, 0, 1000},
				  .ctx = l->ctx,
				  .ctx_train = 8192,
				  .slots = 2,
				  .chat = true,
				  .load_ms = 1};

	if (!strncmp(l->name, "big", 3))
		load_fails(l, ERR_MEMORY, "needs 9 GiB, free 1 GiB");
	else if (!strncmp(l->name, "bad", 3))
		load_fails(l, ERR_CORRUPT, "no GGUF");
	else if (!strncmp(l->name, "odd", 3))
		load_fails(l, ERR_UNSUPPORTED, "its architecture is not known");
	else if (strncmp(l->name, "slow", 4))
		cache_loader_loaded(l->w->cache, l->id, &info);
	uv_close((uv_handle_t *)t, loading_gone);
}

static inline void world_load(void *arg, uint64_t id, const struct model *m,
			      const char *path, int ctx, int slots)
{
	struct world *w = arg;
	struct loading *l = xcalloc(1, sizeof *l);

	(void)path, (void)slots;
	l->w = w;
	l->id = id;
	l->ctx = ctx;
	snprintf(l->name, sizeof l->name, "%s", m->name);
	uv_timer_init(&w->loop, &l->timer);
	l->timer.data = l;
	uv_timer_start(&l->timer, load_ends, 0, 0);
}

static inline void unload_ends(uv_timer_t *t)
{
	struct loading *l = t->data;

	cache_loader_unloaded(l->w->cache, l->id);
	uv_close((uv_handle_t *)t, loading_gone);
}

static inline void world_unload(void *arg, uint64_t id)
{
	struct world *w = arg;
	struct loading *l = xcalloc(1, sizeof *l);

	l->w = w;
	l->id = id;
	uv_timer_init(&w->loop, &l->timer);
	l->timer.data = l;
	uv_timer_start(&l->timer, unload_ends, 0, 0);
}

/* ---- the world */

static inline void on_pulse(uv_timer_t *t)
{
	struct world *w = t->data;

	if (++w->pulses > 12000)
		fail_msg("the test waited 60 s for something that never came");
}

static inline double world_random(void *arg)
{
	return ((struct world *)arg)->random;
}

static inline char *world_file(struct world *w, const char *name, const char *text)
{
	char *path = xasprintf("%s/%s", w->dir, name);
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	return path;
}

static inline struct config *world_config(struct world *w, const char *more)
{
	struct err e = {0};
	char *text = xasprintf("models_dir = \"%s\"\n"
			       "server { queue_timeout = 20 port = -1 }\n"
			       "cache { ctx = 1024 }\n"
			       "provider \"far\" { url = \"https://far.invalid/v1\" }\n"
			       "provider \"away\" { url = \"https://away.invalid/v1\" }\n"
			       "provider \"near\" { url = \"http://127.0.0.1:1/v1\" "
			       "local = true }\n%s",
			       w->dir, more);
	char *path = world_file(w, "hob.conf", text);
	struct config *c = config_load(&(struct config_source){.path = path}, &e);

	if (!c)
		fail_msg("%s", e.text);
	free(text);
	free(path);
	return c;
}

static inline void world_models(struct world *w)
{
	static const char *const names[] = {"good", "other", "big", "bad", "odd", "slow"};

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		char *file = xasprintf("%s.gguf", names[i]);

		free(world_file(w, file, names[i]));
		free(file);
	}
	for (int i = 0; i < 2; i++) { /* so large that loading it should take seconds */
		char *path = world_file(w, i ? "slowcold.gguf" : "cold.gguf", "");

		assert_int_equal(truncate(path, INT64_C(4) << 30), 0);
		free(path);
	}
}

static inline void world_cache(struct world *w)
{
	struct cache_parts parts = {
		.loop = &w->loop,
		.settings = {.budget_bytes = UINT64_C(100) << 30, .keep_alive_ms = -1},
		.ctx = 1024,
		.slots = 2};
	struct cache_loader loader = {
		.load = world_load, .unload = world_unload, .arg = w};

	w->cache = cache_new(&parts);
	cache_set_loader(w->cache, CACHE_ENGINE, &loader);
}

enum { WITH_STORE = 1 };

static inline void world_init(struct world *w, const char *config, int with)
{
	const char *tmp = getenv("TMPDIR");
	struct provider *remotes[FAKES];
	struct money_parts money = {.loop = &w->loop};
	char *spend;
	struct dispatch_parts parts = {.loop = &w->loop,
				       .providers = remotes,
				       .nproviders = FAKES,
				       .random = world_random,
				       .arg = w};
	struct err e;

	memset(w, 0, sizeof *w);
	log_set_level(LOG_LV_ERROR);
	snprintf(w->dir, sizeof w->dir, "%s/hob-dispatch-XXXXXX", tmp ? tmp : P_tmpdir);
	assert_non_null(mkdtemp(w->dir));
	world_models(w);
	w->config = world_config(w, config);
	uv_loop_init(&w->loop);
	uv_timer_init(&w->loop, &w->pulse);
	w->pulse.data = w;
	uv_timer_start(&w->pulse, on_pulse, 5, 5);
	w->models = models_new(w->config);
	world_cache(w);
	fake_init(w, &w->far, "far", false);
	fake_init(w, &w->away, "away", false);
	fake_init(w, &w->near, "near", true);
	fake_init(w, &w->local, "local", true);
	remotes[0] = &w->far.provider;
	remotes[1] = &w->away.provider;
	remotes[2] = &w->near.provider;
	money.path = spend = xasprintf("%s/spend.db", w->dir);
	w->money = money_new(&money);
	free(spend);
	money_set_config(w->money, w->config);
	if (with & WITH_STORE) {
		char *path = xasprintf("%s/memory.db", w->dir);

		w->store = store_open(&w->loop, path, &e);
		assert_non_null(w->store);
		free(path);
	}
	parts.config = w->config;
	parts.models = w->models;
	parts.cache = w->cache;
	parts.store = w->store;
	parts.money = w->money;
	parts.local = &w->local.provider;
	w->dispatch = dispatch_new(&parts);
}

static inline int world_remove(const char *path, const struct stat *st, int flag,
			       struct FTW *ftw)
{
	(void)st, (void)flag, (void)ftw;
	return remove(path);
}

static inline void world_closed(void *arg)
{
	((struct world *)arg)->closing--;
}

static inline void world_close_rest(struct world *w)
{
	w->closing = 2 + (w->store ? 1 : 0);
	cache_close(w->cache, world_closed, w);
	money_close(w->money, world_closed, w);
	if (w->store)
		store_close(w->store, world_closed, w);
	while (w->closing)
		uv_run(&w->loop, UV_RUN_ONCE);
}

static inline void world_fini(struct world *w)
{
	dispatch_free(w->dispatch);
	assert_int_equal(w->far.live + w->away.live + w->near.live + w->local.live, 0);
	world_close_rest(w);
	uv_close((uv_handle_t *)&w->pulse, NULL);
	uv_run(&w->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&w->loop), 0);
	models_free(w->models);
	config_free(w->config);
	nftw(w->dir, world_remove, 8, FTW_DEPTH | FTW_PHYS);
}

/* Nobody holds anything any more. */
static inline void assert_nothing_held(struct world *w)
{
	struct plan_world now;
	struct cache_totals t;
	struct health_row row;

	cache_totals(w->cache, &t);
	assert_int_equal(t.leases, 0);
	assert_int_equal(dispatch_stats(w->dispatch)->running, 0);
	assert_int_equal(w->far.live + w->away.live + w->near.live + w->local.live, 0);
	dispatch_world(w->dispatch, &now);
	for (int i = 0; i < health_count(now.health); i++) {
		health_row(now.health, i, clock_mono_ms(), &row);
		assert_int_equal(row.in_flight, 0);
	}
}

#define RUN_UNTIL(w, condition) \
	while (!(condition))    \
	uv_run(&(w)->loop, UV_RUN_ONCE)

/* ---- a client */

struct answer {
	struct event_sink sink;
	struct world *w;
	struct dispatch_job *job;
	char text[400], model[100], provider[40], reason[500], route[40], upstream[100];
	char conversation[64];
	char prompt[STORE_HASH_TEXT_BYTES], message[STORE_HASH_TEXT_BYTES], tier[20];
	int events, started, ends, progress, nattempts, kept, dropped, summarised, elided,
		ctx;
	double most_usd;
	enum progress_stage stage;
	struct event end;
	int cancel_at; /* the event after which it cancels itself; 0 = never */
	bool gone;     /* cancelled */
};

static inline void copy_string(char *to, size_t bytes, const char *from)
{
	snprintf(to, bytes, "%s", from ? from : "");
}

static inline void answer_started(struct answer *a, const struct event *ev)
{
	a->started++;
	assert_int_equal(strlen(a->text), 0);
	copy_string(a->model, sizeof a->model, ev->started.model);
	copy_string(a->provider, sizeof a->provider, ev->started.provider);
	copy_string(a->reason, sizeof a->reason, ev->started.reason);
	copy_string(a->route, sizeof a->route, ev->started.route);
	copy_string(a->upstream, sizeof a->upstream, ev->started.upstream_model);
	copy_string(a->conversation, sizeof a->conversation, ev->started.conversation);
	a->nattempts = ev->started.nattempts;
	a->most_usd = ev->started.most_usd;
	a->kept = ev->started.kept_messages;
	a->dropped = ev->started.dropped_messages;
	a->summarised = ev->started.summarised_messages;
	a->elided = ev->started.elided_messages;
	a->ctx = ev->started.ctx;
	copy_string(a->tier, sizeof a->tier, ev->started.tier);
}

static inline void on_event(struct event_sink *s, const struct event *ev)
{
	struct answer *a = CONTAINER_OF(s, struct answer, sink);
	size_t used = strlen(a->text);

	assert_int_equal(a->ends, 0); /* nothing after the end */
	assert_false(a->gone);        /* nor after a cancel */
	a->events++;
	switch (ev->type) {
	case EVENT_STARTED:
		answer_started(a, ev);
		break;
	case EVENT_TEXT:
		assert_int_equal(a->started, 1);
		snprintf(a->text + used, sizeof a->text - used, "%.*s", (int)ev->text.len,
			 ev->text.ptr);
		break;
	case EVENT_PROGRESS:
		a->progress++;
		a->stage = ev->progress.stage;
		break;
	case EVENT_FINISHED:
		assert_int_equal(a->started, 1);
		copy_string(a->prompt, sizeof a->prompt, ev->finished.prompt);
		copy_string(a->message, sizeof a->message, ev->finished.message);
		a->ends++;
		a->end = *ev;
		break;
	case EVENT_FAILED:
		a->ends++;
		a->end = *ev;
		break;
	default:
		break;
	}
	if (a->cancel_at == a->events) {
		dispatch_cancel(a->job);
		a->gone = true;
	}
}

static inline struct request *prompt(const char *model, const char *text)
{
	struct request *r = request_new();

	free(r->model);
	r->model = xstrdup(model);
	r->is_chat = true;
	snprintf(r->id, sizeof r->id, "hob-test");
	request_add_message(r, ROLE_USER, text, strlen(text));
	return r;
}

static inline void start(struct world *w, struct answer *a, struct request *r)
{
	memset(a, 0, sizeof *a);
	a->sink.event = on_event;
	a->w = w;
	a->job = dispatch_start(w->dispatch, r, &a->sink);
	assert_int_equal(a->events, 0);
}

static inline void ask(struct world *w, struct answer *a, struct request *r)
{
	start(w, a, r);
	RUN_UNTIL(w, a->ends || a->gone);
}

static inline void script(struct fake *f, const char *words)
{
	snprintf(f->script, sizeof f->script, "%s", words);
}

static inline void assert_says(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("'%s' is not in '%s'", part, text);
}

static inline void assert_near(double a, double b)
{
	if (!(a - b < 1e-9 && b - a < 1e-9))
		fail_msg("%.10g is not %.10g", a, b);
}

static inline void assert_failed_with(const struct answer *a, enum err_code code,
				      const char *part)
{
	if (a->end.type != EVENT_FAILED || a->end.failed.code != code)
		fail_msg("expected %s, got %s: %s", err_info(code)->name,
			 a->end.type == EVENT_FAILED ? err_info(a->end.failed.code)->name
						     : "an answer",
			 a->end.type == EVENT_FAILED ? a->end.failed.text : a->text);
	assert_says(a->end.failed.text, part);
}

static inline void assert_answered_by(const struct answer *a, const char *model)
{
	if (a->end.type != EVENT_FINISHED)
		fail_msg("%s", a->end.failed.text);
	assert_string_equal(a->model, model);
}

#endif
