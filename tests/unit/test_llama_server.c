/* Managed llama-servers against a stubborn fake (tests/fakes/fake_llama_server.h), which is
 * this program started again: `--child` as hob would be, `-m` as llama-server would be. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <sys/stat.h>
#include "base/clock.h"
#include "base/log.h"
#include "cli/commands.h"
#include "providers/llama_server_impl.h"
#include "tests/fakes/fake_llama_server.h"

static const char *program; /* argv[0] */

struct world {
	uv_loop_t loop;
	uv_timer_t pulse; /* so that UV_RUN_ONCE never waits long */
	int pulses;
	char dir[100], sockets[120];
	struct fetch *fetch;
	struct llama_servers *llama;
	uint64_t next_id;
	bool closed;

	/* what was told */
	int loads, failures, unloads, goners, progresses;
	uint64_t gone_id;
	double part;
	struct llama_loaded loaded;
	struct err error;
	char gone_why[300];
};

struct answer {
	struct event_sink sink;
	struct world *w;
	struct buf text;
	int ends, progresses, progress_done, progress_total;
	int goners_before_end;
	struct event end;
	bool cancel_at_text;
	struct job *job;
};

/* ---- the world */

static void on_pulse(uv_timer_t *t)
{
	struct world *w = t->data;

	if (++w->pulses > 6000)
		fail_msg("the test waited 30 s for something that never came");
}

static void world_init_with(struct world *w, const char *prog, uint64_t load_ms,
			    const char *sockets)
{
	struct llama_servers_config c = {.program = prog, .load_ms = load_ms};
	struct err e;

	memset(w, 0, sizeof *w);
	log_set_level(LOG_LV_ERROR);
	snprintf(w->dir, sizeof w->dir, "/tmp/hob-llama-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	snprintf(w->sockets, sizeof w->sockets, "%s/run/children", w->dir);
	c.dir = sockets ? sockets : w->sockets;
	uv_loop_init(&w->loop);
	uv_timer_init(&w->loop, &w->pulse);
	w->pulse.data = w;
	uv_timer_start(&w->pulse, on_pulse, 5, 5);
	w->fetch = fetch_new(&w->loop, &e);
	assert_non_null(w->fetch);
	w->llama = llama_servers_new(&w->loop, w->fetch, &c);
}

static void world_init(struct world *w)
{
	world_init_with(w, program, 0, NULL);
}

static void run_until_closed(struct world *w)
{
	w->closed = false;
	while (!w->closed)
		uv_run(&w->loop, UV_RUN_ONCE);
}

static void on_done(void *arg)
{
	((struct world *)arg)->closed = true;
}

static int rm(const char *path, const struct stat *st, int flag, struct FTW *f)
{
	UNUSED(st), UNUSED(flag), UNUSED(f);
	return remove(path);
}

static void world_fini(struct world *w)
{
	struct provider *p = llama_servers_provider(w->llama);

	w->pulses = 0;
	p->ops->close(p, on_done, w);
	run_until_closed(w);
	fetch_close(w->fetch, on_done, w);
	run_until_closed(w);
	uv_close((uv_handle_t *)&w->pulse, NULL);
	uv_run(&w->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&w->loop), 0);
	nftw(w->dir, rm, 8, FTW_DEPTH | FTW_PHYS);
}

/* ---- loads */

static void on_loaded(void *arg, uint64_t id, const struct llama_loaded *m,
		      const struct err *e)
{
	struct world *w = arg;

	assert_true((m == NULL) != (e == NULL));
	assert_true(id <= w->next_id);
	if (m) {
		w->loads++;
		w->loaded = *m;
	} else {
		w->failures++;
		w->error = *e;
	}
}

static void on_progress(void *arg, uint64_t id, uint64_t done, uint64_t total)
{
	struct world *w = arg;

	UNUSED(id);
	w->progresses++;
	w->part = (double)done / (double)total;
}

static void on_unloaded(void *arg, uint64_t id)
{
	UNUSED(id);
	((struct world *)arg)->unloads++;
}

static void on_gone(void *arg, uint64_t id, const char *why)
{
	struct world *w = arg;

	w->goners++;
	w->gone_id = id;
	snprintf(w->gone_why, sizeof w->gone_why, "%s", why);
}

static char *file_of(struct world *w, const char *words)
{
	char *path = xasprintf("%s/%s", w->dir, words);
	int fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);

	if (fd < 0) /* it is there: the same file again */
		return path;
	assert_int_equal(ftruncate(fd, 4096), 0);
	close(fd);
	return path;
}

static void replace_file(struct world *w, const char *words)
{
	char *path = xasprintf("%s/%s", w->dir, words);
	struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = 1}};

	assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
	free(path);
}

static uint64_t begin_load_args(struct world *w, const char *words, char **args)
{
	char *path = file_of(w, words);
	struct model_settings settings = {.args = args};
	struct llama_load m = {.name = words,
			       .path = path,
			       .settings = &settings,
			       .ctx = 512,
			       .slots = 3};
	struct llama_load_events ev = {on_loaded, on_progress, w};

	while (args && args[settings.nargs])
		settings.nargs++;
	llama_servers_on_gone(w->llama, on_gone, w);
	llama_servers_load(w->llama, ++w->next_id, &m, &ev);
	free(path);
	return w->next_id;
}

static uint64_t begin_load(struct world *w, const char *words)
{
	return begin_load_args(w, words, NULL);
}

/* A macro: the condition is looked at after each turn of the loop. */
#define UNTIL(w, condition)                              \
	do {                                             \
		(w)->pulses = 0;                         \
		while (!(condition))                     \
			uv_run(&(w)->loop, UV_RUN_ONCE); \
	} while (0)

static uint64_t load(struct world *w, const char *words)
{
	int loads = w->loads;
	uint64_t id = begin_load(w, words);

	UNTIL(w, w->loads > loads || w->failures);
	if (w->failures)
		fail_msg("%s", w->error.text);
	return id;
}

static const char *load_fails(struct world *w, const char *words)
{
	int failures = w->failures;

	begin_load(w, words);
	UNTIL(w, w->failures > failures);
	return w->error.text;
}

static void unload(struct world *w, uint64_t id)
{
	int unloads = w->unloads;

	llama_servers_unload(w->llama, id, on_unloaded, w);
	UNTIL(w, w->unloads > unloads);
}

static bool exists(int pid)
{
	return kill(pid, 0) == 0;
}

/* The number in FILE.suffix, 0 while there is none. */
static int marked(struct world *w, const char *words, const char *suffix)
{
	char *path = xasprintf("%s/%s.%s", w->dir, words, suffix);
	FILE *f = fopen(path, "re");
	int pid = 0;

	if (f) {
		if (fscanf(f, "%d", &pid) != 1)
			pid = 0;
		fclose(f);
	}
	free(path);
	return pid;
}

/* ---- prompts */

static void on_event(struct event_sink *sink, const struct event *ev)
{
	struct answer *a = CONTAINER_OF(sink, struct answer, sink);

	assert_int_equal(a->ends, 0);
	if (ev->type == EVENT_TEXT) {
		buf_add(&a->text, ev->text.ptr, ev->text.len);
		if (a->cancel_at_text) {
			llama_servers_provider(a->w->llama)->ops->cancel(a->job);
			a->ends = -1; /* nothing may come any more */
		}
	} else if (ev->type == EVENT_PROGRESS) {
		a->progresses++;
		a->progress_done = ev->progress.done;
		a->progress_total = ev->progress.total;
	} else if (ev->type == EVENT_FINISHED || ev->type == EVENT_FAILED) {
		a->ends++;
		a->end = *ev;
		a->goners_before_end = a->w->goners;
	}
}

static void ask(struct world *w, struct answer *a, uint64_t id, const char *text)
{
	struct provider *p = llama_servers_provider(w->llama);
	struct request *r = request_new();
	char model[24];

	a->sink.event = on_event;
	a->w = w;
	r->is_chat = true;
	r->class = CLASS_BATCH;
	r->keep_alive_ms = 1234;
	r->extra_json =
		xstrdup("{\"keep_alive\":\"5m\",\"class\":\"batch\",\"mirostat\":2}");
	request_add_message(r, ROLE_USER, text, strlen(text));
	snprintf(model, sizeof model, "%llu", (unsigned long long)id);
	a->job = p->ops->start(p, model, r, &a->sink);
	assert_int_equal(a->ends, 0);
	request_free(r); /* the body was made in start() */
}

static char *answer_to(struct world *w, uint64_t id, const char *text)
{
	struct answer a = {0};

	ask(w, &a, id, text);
	UNTIL(w, a.ends);
	if (a.end.type != EVENT_FINISHED)
		fail_msg("%s", a.end.failed.text);
	return buf_take(&a.text, NULL);
}

static void expect_answer(struct world *w, uint64_t id, const char *text)
{
	char *got = answer_to(w, id, text);

	assert_string_equal(got, text);
	free(got);
}

/* ---- tests */

static void one_that_pushes_its_state_is_ready_and_answers(void **state)
{
	struct answer a = {0};
	struct world w;
	uint64_t id;

	UNUSED(state);
	world_init(&w);
	id = load(&w, "push"); /* its /health never says yes */
	assert_true(w.progresses >= 1 && w.part == 0.25);
	assert_int_equal(w.loaded.ctx, 777);
	assert_int_equal(w.loaded.ctx_train, 8888);
	assert_int_equal(w.loaded.slots, 3);
	assert_true(w.loaded.chat && w.loaded.kv_bytes > 100 << 10);
	assert_int_equal(w.loaded.weights_bytes, 4096);
	assert_true(llama_servers_has(w.llama, id));
	ask(&w, &a, id, "hello");
	UNTIL(&w, a.ends);
	assert_int_equal(a.end.type, EVENT_FINISHED);
	assert_string_equal(a.text.data, "hello");
	assert_int_equal(a.end.finished.reason, FINISH_LENGTH);
	assert_int_equal(a.end.finished.usage.prompt_tokens, 40);
	assert_int_equal(a.end.finished.usage.cached_tokens, 7);
	assert_int_equal(a.end.finished.usage.completion_tokens, 3);
	assert_true(a.end.finished.usage.prefill_ms == 12.5);
	assert_true(a.end.finished.usage.decode_ms == 2.25);
	assert_true(a.end.finished.usage.cost_usd == 0);
	assert_int_equal(a.progresses, 1);
	assert_int_equal(a.progress_done, 20);
	assert_int_equal(a.progress_total, 40);
	buf_free(&a.text);
	world_fini(&w);
	assert_int_equal(w.goners + w.failures, 0);
}

static void one_that_does_not_is_asked_until_it_says_yes(void **state)
{
	struct world w;

	UNUSED(state);
	world_init(&w);
	expect_answer(&w, load(&w, "plain"), "hello");
	assert_int_equal(w.progresses, 0);
	world_fini(&w);
}

static void a_request_carries_the_model_but_not_what_is_ours(void **state)
{
	struct world w;
	char *body;
	cJSON *tree;

	UNUSED(state);
	world_init(&w);
	body = answer_to(&w, load(&w, "push"), "body");
	tree = cJSON_Parse(body);
	assert_non_null(tree);
	assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(tree, "model")),
			    "push");
	assert_true(cJSON_IsTrue(cJSON_GetObjectItem(tree, "return_progress")));
	assert_int_equal(cJSON_GetObjectItem(tree, "mirostat")->valueint, 2);
	assert_null(cJSON_GetObjectItem(tree, "class"));
	assert_null(cJSON_GetObjectItem(tree, "keep_alive"));
	cJSON_Delete(tree);
	free(body);
	world_fini(&w);
}

static void the_command_has_slots_and_own_arguments_but_no_key(void **state)
{
	char flag[] = "--temp", value[] = "0.5", *args[] = {flag, value, NULL};
	struct llama_server *s;
	struct world w;
	uint64_t id;
	char *got;

	UNUSED(state);
	world_init(&w);
	id = begin_load_args(&w, "push", args);
	UNTIL(&w, w.loads);
	got = answer_to(&w, id, "argv");
	assert_non_null(strstr(got, "\n-c\n1536\n-np\n3\n"));
	assert_non_null(strstr(got, "\n--no-webui\n--no-slots\n--temp\n0.5\n"));
	assert_null(strstr(got, "\n-t\n"));
	s = llama_find(w.llama, id);
	assert_int_equal(strlen(s->key), 64);
	assert_null(strstr(got, s->key));
	free(got);
	world_fini(&w);
}

static void the_environment_holds_what_is_listed_and_no_keys(void **state)
{
	struct llama_server *s;
	struct world w;
	uint64_t id;
	char *got;

	UNUSED(state);
	setenv("OPENROUTER_API_KEY", "sk-not-for-children", 1);
	setenv("LLAMA_ARG_HOST", "0.0.0.0", 1);
	setenv("LC_TEST", "x", 1);
	setenv("PATHOLOGICAL", "y", 1);
	world_init(&w);
	id = load(&w, "push");
	got = answer_to(&w, id, "env");
	assert_null(strstr(got, "sk-not-for-children"));
	assert_null(strstr(got, "LLAMA_ARG_HOST"));
	assert_null(strstr(got, "PATHOLOGICAL"));
	assert_non_null(strstr(got, "PATH="));
	assert_non_null(strstr(got, "LC_TEST=x\n"));
	assert_non_null(strstr(got, "LLAMA_SERVER_ROUTER_PORT="));
	s = llama_find(w.llama, id);
	assert_null(strstr(got, s->key));
	free(got);
	unsetenv("OPENROUTER_API_KEY");
	unsetenv("LLAMA_ARG_HOST");
	unsetenv("LC_TEST");
	unsetenv("PATHOLOGICAL");
	world_fini(&w);
}

static int files_in(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *f;
	int n = 0;

	while (d && (f = readdir(d)))
		n += f->d_name[0] != '.';
	if (d)
		closedir(d);
	return n;
}

static void the_folder_is_private_and_empties_itself(void **state)
{
	char stale[200], alive[200];
	struct world w;
	struct stat st;
	uint64_t id;

	UNUSED(state);
	world_init(&w);
	assert_int_equal(mkdir(w.sockets, 0755), -1); /* its parent is not there yet */
	snprintf(stale, sizeof stale, "%s/run", w.dir);
	assert_int_equal(mkdir(stale, 0755), 0);
	assert_int_equal(mkdir(w.sockets, 0755), 0);
	/* of processes that are no more, and of one that is */
	snprintf(stale, sizeof stale, "%s/%d-7.sock", w.sockets, INT32_MAX);
	snprintf(alive, sizeof alive, "%s/%d-7.key", w.sockets, (int)getppid());
	close(open(stale, O_CREAT | O_WRONLY, 0600));
	close(open(alive, O_CREAT | O_WRONLY, 0600));
	id = load(&w, "push");
	assert_int_equal(stat(w.sockets, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	assert_int_equal(access(stale, F_OK), -1);
	assert_int_equal(access(alive, F_OK), 0);
	assert_int_equal(files_in(w.sockets), 2); /* the other's, our socket; no key */
	unload(&w, id);
	assert_int_equal(files_in(w.sockets), 1);
	assert_false(llama_servers_has(w.llama, id));
	world_fini(&w);
}

static void a_path_too_long_for_a_socket_is_refused_with_advice(void **state)
{
	struct world w;
	char dir[200];

	UNUSED(state);
	memset(dir, 'x', sizeof dir);
	memcpy(dir, "/tmp/", 5);
	dir[110] = 0;
	world_init_with(&w, program, 0, dir);
	assert_non_null(strstr(load_fails(&w, "push"), "XDG_RUNTIME_DIR"));
	world_fini(&w);
}

static void a_program_that_is_not_there_is_named_with_advice(void **state)
{
	struct world w;
	struct err e;

	UNUSED(state);
	world_init_with(&w, "no-such-llama-server", 0, NULL);
	assert_int_equal(llama_servers_find(w.llama, &e), -1);
	assert_int_equal(e.code, ERR_UNSUPPORTED);
	assert_non_null(
		strstr(load_fails(&w, "push"), "'no-such-llama-server' is not on PATH"));
	assert_int_equal(w.error.code, ERR_UNSUPPORTED);
	world_fini(&w);
}

static void one_that_dies_while_loading_is_quoted(void **state)
{
	struct world w;

	UNUSED(state);
	world_init(&w);
	assert_non_null(strstr(load_fails(&w, "dies"), "exit status 1: no such tensor"));
	assert_int_equal(w.error.code, ERR_UNAVAILABLE);
	assert_int_equal(llama_servers_crashes(w.llama), 1);
	world_fini(&w);
}

static void after_three_crashes_it_is_not_started_until_later(void **state)
{
	struct world w;

	UNUSED(state);
	world_init(&w);
	for (int i = 0; i < LLAMA_MAX_CRASHES; i++)
		assert_non_null(strstr(load_fails(&w, "dies"), "exit status 1"));
	load_fails(&w, "dies");
	assert_non_null(strstr(w.error.text, "failed 3 times in a row"));
	assert_non_null(strstr(w.error.text, "no such tensor"));
	assert_non_null(strstr(w.error.text, "tried again in "));
	assert_true(w.error.retry_after_ms > 0 &&
		    w.error.retry_after_ms <= LLAMA_BREAK_MIN_MS);
	assert_int_equal(llama_servers_crashes(w.llama), 3);
	expect_answer(&w, (w.failures = 0, load(&w, "push")), "others go on");
	/* a new configuration, or another file, begins anew */
	w.failures = 0;
	llama_servers_set(w.llama, &(struct llama_servers_config){.program = program});
	assert_non_null(strstr(load_fails(&w, "dies"), "exit status 1"));
	TAILQ_FIRST(&w.llama->crashes)->in_a_row = LLAMA_MAX_CRASHES;
	TAILQ_FIRST(&w.llama->crashes)->retry_ms = clock_mono_ms() + LLAMA_BREAK_MIN_MS;
	assert_non_null(strstr(load_fails(&w, "dies"), "in a row"));
	replace_file(&w, "dies");
	for (int i = 0; i < LLAMA_MAX_CRASHES; i++)
		assert_non_null(strstr(load_fails(&w, "dies"), "exit status 1"));
	/* the time has come: one more attempt, then a longer pause */
	TAILQ_FIRST(&w.llama->crashes)->retry_ms = clock_mono_ms();
	w.failures = 0;
	assert_non_null(strstr(load_fails(&w, "dies"), "exit status 1"));
	load_fails(&w, "dies");
	assert_true(w.error.retry_after_ms > LLAMA_BREAK_MIN_MS);
	world_fini(&w);
}

static void an_answer_ends_the_row_of_crashes(void **state)
{
	struct world w;

	UNUSED(state);
	world_init(&w);
	for (int i = 0; i < 2 * LLAMA_MAX_CRASHES; i++) {
		uint64_t id = load(&w, "push");

		expect_answer(&w, id, "hello");
		kill(llama_servers_pid(w.llama, id), SIGKILL);
		UNTIL(&w, w.goners == i + 1);
		assert_true(w.gone_id == id);
	}
	assert_non_null(strstr(w.gone_why, "died (signal 9)"));
	world_fini(&w);
}

static void one_that_is_never_ready_fails_at_the_deadline(void **state)
{
	struct world w;

	UNUSED(state);
	world_init_with(&w, program, 300, NULL);
	begin_load(&w, "never-push");
	UNTIL(&w, w.failures);
	assert_int_equal(w.error.code, ERR_TIMEOUT);
	assert_non_null(strstr(w.error.text, "not ready within 0.3 s"));
	world_fini(&w);
}

/* By turns of the loop, so that each state is met. */
static void a_load_can_be_cancelled_at_any_time(void **state)
{
	struct world w;

	UNUSED(state);
	world_init(&w);
	for (int turns = 0; turns < 40; turns += turns < 8 ? 1 : 4) {
		uint64_t id = begin_load(&w, turns % 2 ? "push" : "plain");
		int pid;

		w.loads = w.unloads = 0;
		for (int i = 0; i < turns && !w.loads; i++)
			uv_run(&w.loop, UV_RUN_ONCE);
		pid = llama_servers_pid(w.llama, id);
		if (w.loads)
			w.loads = 0; /* it was faster: an unload then */
		unload(&w, id);
		assert_int_equal(w.loads + w.failures, 0);
		assert_int_equal(w.unloads, 1);
		assert_null(llama_find(w.llama, id));
		if (pid)
			assert_false(exists(pid));
	}
	assert_int_equal(files_in(w.sockets), 0);
	assert_int_equal(llama_servers_crashes(w.llama), 0);
	world_fini(&w);
}

static void an_unknown_id_is_unloaded_at_once(void **state)
{
	struct world w;

	UNUSED(state);
	world_init(&w);
	llama_servers_unload(w.llama, 99, on_unloaded, &w);
	assert_int_equal(w.unloads, 0);
	UNTIL(&w, w.unloads);
	world_fini(&w);
}

static void one_that_ignores_sigterm_is_killed(void **state)
{
	struct world w;
	uint64_t id;
	int pid;

	UNUSED(state);
	world_init(&w);
	id = load(&w, "deaf-push");
	pid = llama_servers_pid(w.llama, id);
	unload(&w, id);
	assert_false(exists(pid));
	id = begin_load(&w, "deaf-never");
	UNTIL(&w, llama_servers_pid(w.llama, id));
	pid = llama_servers_pid(w.llama, id);
	unload(&w, id);
	assert_false(exists(pid));
	world_fini(&w);
}

static void closing_ends_the_stubborn_too(void **state)
{
	struct answer a = {0};
	struct world w;
	int pids[3];

	UNUSED(state);
	world_init(&w);
	pids[0] = llama_servers_pid(w.llama, load(&w, "deaf-push"));
	pids[1] = llama_servers_pid(w.llama, load(&w, "push"));
	ask(&w, &a, w.next_id, "slow");
	UNTIL(&w, a.text.len);
	begin_load(&w, "deaf-never");
	UNTIL(&w, llama_servers_pid(w.llama, w.next_id));
	pids[2] = llama_servers_pid(w.llama, w.next_id);
	begin_load(&w, "plain"); /* not even spawned */
	world_fini(&w);
	for (size_t i = 0; i < ARRAY_LEN(pids); i++)
		assert_false(exists(pids[i]));
	assert_int_equal(a.ends, 1);
	assert_int_equal(a.end.failed.code, ERR_UNAVAILABLE);
	buf_free(&a.text);
}

static void a_flood_of_log_blocks_nobody(void **state)
{
	struct world w;
	uint64_t id;
	long long before, after;
	char *text;

	UNUSED(state);
	world_init(&w);
	id = load(&w, "flood-push");
	text = answer_to(&w, id, "flooded");
	before = strtoll(text, NULL, 10);
	free(text);
	do { /* far more than any pipe holds */
		text = answer_to(&w, id, "flooded");
		after = strtoll(text, NULL, 10);
		free(text);
	} while (after - before < 4 << 20);
	assert_true(llama_find(w.llama, id)->gate.dropped > 0);
	unload(&w, id);
	world_fini(&w);
}

static void its_own_children_end_with_it(void **state)
{
	struct world w;
	uint64_t id;
	int child;

	UNUSED(state);
	world_init(&w);
	id = load(&w, "brood-push");
	UNTIL(&w, marked(&w, "brood-push", "pid"));
	child = marked(&w, "brood-push", "pid");
	assert_true(exists(child));
	unload(&w, id);
	UNTIL(&w, !exists(child)); /* init reaps it */
	id = load(&w, "brood-push2");
	UNTIL(&w, marked(&w, "brood-push2", "pid"));
	child = marked(&w, "brood-push2", "pid");
	kill(llama_servers_pid(w.llama, id), SIGKILL);
	UNTIL(&w, w.goners && !exists(child));
	world_fini(&w);
}

static void one_that_holds_the_pipes_delays_no_exit(void **state)
{
	struct world w;
	uint64_t id;
	int holder;

	UNUSED(state);
	world_init(&w);
	id = load(&w, "holder-push");
	UNTIL(&w, marked(&w, "holder-push", "pid"));
	holder = marked(&w, "holder-push", "pid");
	unload(&w, id);
	assert_true(exists(holder)); /* it left the group: that is its affair */
	kill(holder, SIGKILL);
	world_fini(&w);
}

static void a_death_in_an_answer_is_told_with_its_cause(void **state)
{
	struct answer a = {0}, b = {0};
	struct world w;
	uint64_t id;

	UNUSED(state);
	world_init(&w);
	id = load(&w, "push");
	ask(&w, &b, id, "slow");
	UNTIL(&w, b.text.len);
	ask(&w, &a, id, "die");
	UNTIL(&w, a.ends && b.ends);
	assert_int_equal(a.end.type, EVENT_FAILED);
	assert_int_equal(a.end.failed.code, ERR_UNAVAILABLE);
	assert_non_null(strstr(a.end.failed.text, "'push' died (signal 9)"));
	assert_int_equal(b.end.failed.code, ERR_UNAVAILABLE);
	assert_int_equal(a.goners_before_end, 1); /* the owner hears it first */
	assert_int_equal(w.goners, 1);
	buf_free(&a.text);
	buf_free(&b.text);
	expect_answer(&w, load(&w, "push"), "again");
	world_fini(&w);
}

static void a_cancelled_prompt_closes_its_connection_at_once(void **state)
{
	struct answer a = {.cancel_at_text = true}, b = {0};
	struct world w;
	uint64_t id;

	UNUSED(state);
	world_init(&w);
	id = load(&w, "push");
	ask(&w, &a, id, "slow"); /* cancelled from inside its own sink */
	UNTIL(&w, a.ends == -1);
	UNTIL(&w, marked(&w, "push", "closed"));
	ask(&w, &b, id, "hello"); /* cancelled before it was sent */
	llama_servers_provider(w.llama)->ops->cancel(b.job);
	expect_answer(&w, id, "next");
	assert_int_equal(b.ends, 0);
	buf_free(&a.text);
	world_fini(&w);
}

static void a_prompt_to_nobody_fails_in_a_later_turn(void **state)
{
	struct answer a = {0}, b = {0};
	struct world w;

	UNUSED(state);
	world_init(&w);
	ask(&w, &a, 42, "hello");
	ask(&w, &b, 43, "hello");
	llama_servers_provider(w.llama)->ops->cancel(b.job);
	UNTIL(&w, a.ends);
	assert_int_equal(a.end.failed.code, ERR_UNAVAILABLE);
	assert_int_equal(b.ends, 0);
	world_fini(&w);
}

static void the_guess_has_the_file_and_a_cache_that_grows(void **state)
{
	uint64_t weights, small, large;

	UNUSED(state);
	llama_server_guess(98 << 20, 4096, 1, &weights, &small);
	assert_true(weights == 98 << 20);
	llama_server_guess(98 << 20, 4096, 4, &weights, &large);
	assert_true(large > small && large < 1u << 30);
	llama_server_guess(UINT64_C(40) << 30, 8192, 1, &weights, &large);
	assert_true(large > UINT64_C(1) << 30 && large < UINT64_C(8) << 30);
}

static void note_line(void *arg, struct str line)
{
	buf_addf(arg, "[%.*s]", (int)line.len, line.ptr);
}

static void lines_are_cut_at_their_limit(void **state)
{
	struct lines l = {0};
	struct buf got = {0};

	UNUSED(state);
	lines_feed(&l, "ab\r\n\ncdefghij", 13, 4, note_line, &got);
	lines_feed(&l, "kl\nm", 4, 4, note_line, &got);
	lines_feed(&l, "nop\nqrst", 8, 4, note_line, &got);
	lines_feed(&l, "\nu", 2, 4, note_line, &got);
	lines_finish(&l, note_line, &got);
	lines_fini(&l);
	assert_string_equal(got.data, "[ab][cdef][mnop][qrst][u]");
	buf_free(&got);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_that_pushes_its_state_is_ready_and_answers),
		cmocka_unit_test(one_that_does_not_is_asked_until_it_says_yes),
		cmocka_unit_test(a_request_carries_the_model_but_not_what_is_ours),
		cmocka_unit_test(the_command_has_slots_and_own_arguments_but_no_key),
		cmocka_unit_test(the_environment_holds_what_is_listed_and_no_keys),
		cmocka_unit_test(the_folder_is_private_and_empties_itself),
		cmocka_unit_test(a_path_too_long_for_a_socket_is_refused_with_advice),
		cmocka_unit_test(a_program_that_is_not_there_is_named_with_advice),
		cmocka_unit_test(one_that_dies_while_loading_is_quoted),
		cmocka_unit_test(after_three_crashes_it_is_not_started_until_later),
		cmocka_unit_test(an_answer_ends_the_row_of_crashes),
		cmocka_unit_test(one_that_is_never_ready_fails_at_the_deadline),
		cmocka_unit_test(a_load_can_be_cancelled_at_any_time),
		cmocka_unit_test(an_unknown_id_is_unloaded_at_once),
		cmocka_unit_test(one_that_ignores_sigterm_is_killed),
		cmocka_unit_test(closing_ends_the_stubborn_too),
		cmocka_unit_test(a_flood_of_log_blocks_nobody),
		cmocka_unit_test(its_own_children_end_with_it),
		cmocka_unit_test(one_that_holds_the_pipes_delays_no_exit),
		cmocka_unit_test(a_death_in_an_answer_is_told_with_its_cause),
		cmocka_unit_test(a_cancelled_prompt_closes_its_connection_at_once),
		cmocka_unit_test(a_prompt_to_nobody_fails_in_a_later_turn),
		cmocka_unit_test(the_guess_has_the_file_and_a_cache_that_grows),
		cmocka_unit_test(lines_are_cut_at_their_limit),
	};

	signal(SIGPIPE, SIG_IGN);
	if (argc > 1 && !strcmp(argv[1], "--child"))
		return cmd_child(argc - 1, argv + 1);
	if (argc > 1 && !strcmp(argv[1], "-m"))
		return fake_llama_main(argc, argv);
	program = realpath(argv[0], NULL); /* named as it is, whatever PATH is */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
