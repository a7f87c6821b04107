/* Continuous batching, and the engine's loop behind the line protocol on a socketpair. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/ioctl.h>

#include "base/json.h"
#include "engine/batch.h"
#include "engine/engine.h"
#include "tests/unit/engine_peer.h"
#include "tests/unit/kv_build.h"
#include "tests/unit/tiny_model.h"

enum { THREADS = 2, JOBS = 8, CTX = 512, GUARD = 20000 /* steps */ };
enum { UNREAD_JOBS = 300, STALL_POLL_US = 50000, STALL_POLLS = 20, KV_BYTES = 64 << 20 };

/* --- the batch alone -------------------------------------------------------------------------- */

struct answer {
	struct buf text;
	int started, progress, finished, failed;
	int prompt, cached, completion;
	char reason[16];
	enum err_code code;
	char message[512];
};

struct bench {
	struct tiny *tiny;
	struct pool *pool;
	struct model *model;
	struct batch *batch;
	struct answer a[JOBS];
};

static void on_event(void *arg, const struct batch_event *ev)
{
	struct answer *a = &((struct bench *)arg)->a[ev->job];

	assert_int_equal(a->finished + a->failed, 0); /* nothing after the end */
	a->prompt = ev->prompt_tokens;
	a->cached = ev->cached_tokens;
	a->completion = ev->completion_tokens;
	switch (ev->kind) {
	case BATCH_STARTED:
		a->started++;
		break;
	case BATCH_PROGRESS:
		a->progress++;
		assert_in_range(ev->done, 1, ev->prompt_tokens - 1);
		break;
	case BATCH_TEXT:
		assert_int_equal(a->started, 1);
		buf_add(&a->text, ev->text.ptr, ev->text.len);
		break;
	case BATCH_FINISHED:
		a->finished++;
		snprintf(a->reason, sizeof(a->reason), "%s", ev->reason);
		break;
	case BATCH_FAILED:
		a->failed++;
		a->code = ev->err->code;
		snprintf(a->message, sizeof(a->message), "%s", ev->err->text);
		break;
	}
}

/* path NULL: the tiny model */
static void bench_init(struct bench *b, const char *path, int ctx, int slots)
{
	struct err e = {0};

	memset(b, 0, sizeof(*b));
	if (!path)
		b->tiny = tiny_new(NULL);
	b->pool = pool_new(THREADS);
	b->model = model_open(path ? path : b->tiny->path, b->pool, &e);
	if (!b->model)
		fail_msg("%s", e.text);
	b->batch = batch_new(b->model, kernels_by_name("auto"), b->pool, ctx, slots,
			     on_event, b);
}

static void bench_fini(struct bench *b)
{
	batch_free(b->batch);
	model_free(b->model);
	pool_free(b->pool);
	for (int i = 0; i < JOBS; i++)
		buf_free(&b->a[i].text);
	if (b->tiny)
		tiny_free(b->tiny);
}

/* A greedy job over n tokens that depend on salt. */
static struct batch_job job_of(const struct bench *b, int id, int n, int salt,
			       int max_tokens)
{
	struct batch_job j = {.id = id, .max_tokens = max_tokens};

	j.sampling = sampler_defaults();
	j.sampling.temperature = 0;
	for (int i = 0; i < n; i++) {
		uint32_t s = (uint32_t)(salt + i) * 2654435761u + 12345;

		tokens_add(&j.prompt,
			   (int32_t)(tiny_random(&s) %
				     (uint32_t)(vocab_size(b->model->vocab) - 16)));
	}
	return j;
}

static void start(struct bench *b, int id, int n, int salt, int max_tokens)
{
	struct batch_job j = job_of(b, id, n, salt, max_tokens);

	batch_start(b->batch, &j);
	assert_null(j.prompt.ids);
}

static void run(struct bench *b)
{
	for (int i = 0; batch_busy(b->batch); i++) {
		assert_true(i < GUARD);
		batch_step(b->batch);
	}
}

static void check_company(const char *path, int tokens)
{
	static const int lengths[4] = {40, 7, 300, 1};
	struct bench b, c;

	bench_init(&b, path, CTX, 4);
	for (int i = 0; i < 4; i++) {
		struct bench *one = &c;

		bench_init(one, path, CTX, 1);
		start(one, 0, lengths[i], 1000 * i, tokens);
		run(one);
		buf_add(&b.a[4 + i].text, one->a[0].text.data, one->a[0].text.len);
		assert_int_equal(one->a[0].finished, 1);
		bench_fini(one);
	}
	/* They join one after the other, in the middle of each other's answers. */
	for (int i = 0; i < 4; i++) {
		start(&b, i, lengths[i], 1000 * i, tokens);
		for (int s = 0; s < 5; s++)
			batch_step(b.batch);
	}
	run(&b);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(b.a[i].finished, 1);
		assert_int_equal(b.a[i].text.len, b.a[4 + i].text.len);
		assert_memory_equal(b.a[i].text.data, b.a[4 + i].text.data,
				    b.a[i].text.len);
	}
	bench_fini(&b);
}

static void greedy_text_is_the_same_alone_and_in_company(void **state)
{
	UNUSED(state);
	check_company(NULL, 60);
}

static void greedy_text_of_the_real_model_is_the_same_alone_and_in_company(void **state)
{
	const char *path = getenv("HOB_TEST_MODEL");

	UNUSED(state);
	if (!path) {
		print_message("HOB_TEST_MODEL names no model file\n");
		skip();
	}
	check_company(path, 24);
}

static void a_long_prompt_delays_an_answer_by_one_chunk_at_most(void **state)
{
	struct bench b;
	int before;

	UNUSED(state);
	bench_init(&b, NULL, 1024, 2);
	start(&b, 0, 5, 0, 200);
	batch_step(b.batch);
	start(&b, 1, 900, 5000, 5);
	for (int i = 0; i < 3; i++) {
		before = (int)b.a[0].text.len;
		batch_step(b.batch);
		batch_step(b.batch); /* a token may be half a character */
		assert_true((int)b.a[0].text.len > before);
	}
	run(&b);
	/* 900 tokens beside one row a step: 255 + 255 + 255 + 135 */
	assert_int_equal(b.a[1].progress, 3);
	bench_fini(&b);
}

static void jobs_beyond_the_slots_wait_for_their_turn(void **state)
{
	struct bench b;

	UNUSED(state);
	bench_init(&b, NULL, CTX, 2);
	for (int i = 0; i < 5; i++)
		start(&b, i, 10 + i, 100 * i, 20);
	batch_step(b.batch);
	assert_int_equal(b.a[0].started + b.a[1].started, 2);
	assert_int_equal(b.a[2].started + b.a[3].started + b.a[4].started, 0);
	run(&b);
	for (int i = 0; i < 5; i++)
		assert_int_equal(b.a[i].finished, 1);
	bench_fini(&b);
}

static void the_same_prompt_again_is_mostly_cached_and_answers_the_same(void **state)
{
	struct bench b;

	UNUSED(state);
	bench_init(&b, NULL, CTX, 2);
	start(&b, 0, 100, 0, 20);
	run(&b);
	start(&b, 1, 100, 0, 20);
	run(&b);
	assert_int_equal(b.a[0].cached, 0);
	assert_int_equal(b.a[1].cached, 99);
	assert_int_equal(b.a[0].text.len, b.a[1].text.len);
	assert_memory_equal(b.a[0].text.data, b.a[1].text.data, b.a[0].text.len);
	bench_fini(&b);
}

static void a_cancelled_job_is_silent_and_frees_its_slot(void **state)
{
	struct bench b;

	UNUSED(state);
	bench_init(&b, NULL, CTX, 1);
	start(&b, 0, 10, 0, 0);
	start(&b, 1, 10, 50, 3);
	start(&b, 2, 10, 90, 3);
	batch_step(b.batch);
	batch_step(b.batch);
	assert_true(batch_cancel(b.batch, 0)); /* running */
	assert_true(batch_cancel(b.batch, 2)); /* waiting */
	assert_false(batch_cancel(b.batch, 2));
	assert_false(batch_has(b.batch, 0));
	run(&b);
	assert_int_equal(b.a[0].finished + b.a[0].failed + b.a[2].started, 0);
	assert_int_equal(b.a[1].finished, 1);
	bench_fini(&b);
}

static void a_prompt_longer_than_the_context_fails_with_the_numbers(void **state)
{
	struct bench b;

	UNUSED(state);
	bench_init(&b, NULL, 64, 1);
	start(&b, 0, 64, 0, 5);
	assert_int_equal(b.a[0].failed, 1);
	assert_int_equal(b.a[0].code, ERR_CONTEXT);
	assert_non_null(strstr(b.a[0].message, "64 tokens"));
	start(&b, 1, 0, 0, 5);
	assert_int_equal(b.a[1].code, ERR_INVALID);
	assert_false(batch_busy(b.batch));
	bench_fini(&b);
}

static void
answers_end_by_length_at_max_tokens_and_at_the_end_of_the_context(void **state)
{
	struct bench b;

	UNUSED(state);
	bench_init(&b, NULL, 64, 2);
	start(&b, 0, 10, 0, 7);
	start(&b, 1, 60, 300, 0);
	run(&b);
	assert_string_equal(b.a[0].reason, "length");
	assert_int_equal(b.a[0].completion, 7);
	assert_string_equal(b.a[1].reason, "length");
	/* 60 + 4 are stored, and the last one made is not. */
	assert_int_equal(b.a[1].completion, 5);
	bench_fini(&b);
}

static void a_stop_string_ends_the_answer_before_itself(void **state)
{
	struct bench b;
	struct batch_job j;
	struct str stop;
	size_t at;

	UNUSED(state);
	bench_init(&b, NULL, CTX, 1);
	start(&b, 0, 10, 0, 40);
	run(&b);
	/* Some text from the middle of what it says anyway. */
	at = b.a[0].text.len / 2;
	while ((b.a[0].text.data[at] & 0xc0) == 0x80)
		at++;
	stop = (struct str){b.a[0].text.data + at,
			    b.a[0].text.len - at < 8 ? b.a[0].text.len - at : 8};
	j = job_of(&b, 1, 10, 0, 40);
	j.stop = &stop;
	j.nstop = 1;
	batch_start(b.batch, &j);
	run(&b);
	assert_string_equal(b.a[1].reason, "stop");
	assert_true(b.a[1].text.len <= at);
	assert_memory_equal(b.a[1].text.data, b.a[0].text.data, b.a[1].text.len);
	bench_fini(&b);
}

/* --- the engine ---------------------------------------------------------------------------------- */

/* Waits for that event, adding text events to *text (may be NULL). */
static cJSON *wait_for(struct peer *p, const char *ev, struct buf *text)
{
	for (;;) {
		cJSON *line = hear(p);

		assert_non_null(line);
		if (strcmp(text_of(line, "ev"), ev) == 0)
			return line;
		if (text)
			buf_adds(text, text_of(line, "text"));
		cJSON_Delete(line);
	}
}

/* kv_dir NULL: nothing is saved. */
static void peer_init_saving(struct peer *p, const char *kv_dir)
{
	peer_init_options(
		p, &(struct engine_options){.kernels = "auto",
					    .threads = THREADS,
					    .kv_dir = kv_dir,
					    .kv_ram_bytes = kv_dir ? KV_BYTES : 0,
					    .kv_disk_bytes = kv_dir ? KV_BYTES : 0});
}

static void load(struct peer *p, int id, const char *path)
{
	cJSON *line;

	say(p, "{\"op\":\"load\",\"model\":%d,\"path\":\"%s\",\"ctx\":512,\"slots\":2}",
	    id, path);
	line = wait_for(p, "loaded", NULL);
	assert_int_equal(number_of(line, "model"), id);
	assert_true(number_of(line, "bytes") > 0);
	cJSON_Delete(line);
}

static void load_fails(struct peer *p, const char *path, const char *code)
{
	cJSON *line;

	say(p, "{\"op\":\"load\",\"model\":9,\"path\":\"%s\",\"ctx\":512,\"slots\":2}",
	    path);
	line = wait_for(p, "load_failed", NULL);
	assert_string_equal(text_of(line, "code"), code);
	assert_non_null(strstr(text_of(line, "message"), path));
	cJSON_Delete(line);
}

static void a_file_that_is_missing_or_broken_fails_and_the_process_lives_on(void **state)
{
	struct tiny *good = tiny_new(NULL),
		    *cut = tiny_new(&(struct tiny_faults){.cut = 1000});
	struct tiny *mamba = tiny_new(&(struct tiny_faults){.arch = "mamba"});
	struct peer p;

	UNUSED(state);
	peer_init_saving(&p, NULL);
	load_fails(&p, "/nowhere/at/all.gguf", "not_found");
	load_fails(&p, cut->path, "corrupt");
	load_fails(&p, mamba->path, "unsupported");
	load(&p, 9, good->path);
	say(&p, "{\"op\":\"ping\"}");
	cJSON_Delete(wait_for(&p, "pong", NULL));
	peer_fini(&p);
	tiny_free(good);
	tiny_free(cut);
	tiny_free(mamba);
}

static void two_models_answer_at_once_and_unload_fails_what_runs(void **state)
{
	struct tiny *m = tiny_new(NULL);
	struct peer p;
	cJSON *line;

	UNUSED(state);
	peer_init_saving(&p, NULL);
	load(&p, 1, m->path);
	load(&p, 2, m->path);
	say(&p,
	    "{\"op\":\"start\",\"job\":1,\"model\":1,\"prompt\":\"hello\",\"temperature\":0,"
	    "\"max_tokens\":400}");
	say(&p,
	    "{\"op\":\"start\",\"job\":2,\"model\":2,\"prompt\":\"hello\",\"temperature\":0,"
	    "\"max_tokens\":8}");
	line = wait_for(&p, "finished", NULL);
	assert_int_equal(number_of(line, "job"), 2);
	assert_int_equal(number_of(line, "completion_tokens"), 8);
	cJSON_Delete(line);
	say(&p, "{\"op\":\"start\",\"job\":3,\"model\":7,\"prompt\":\"hello\"}");
	line = wait_for(&p, "failed", NULL);
	assert_int_equal(number_of(line, "job"), 3);
	cJSON_Delete(line);
	say(&p,
	    "{\"op\":\"start\",\"job\":4,\"model\":1,\"prompt\":\"h\",\"temperature\":0}\n"
	    "{\"op\":\"unload\",\"model\":1}");
	cJSON_Delete(wait_for(&p, "unloaded", NULL));
	say(&p, "{\"op\":\"quit\"}");
	peer_fini(&p);
	tiny_free(m);
}

/* What a client sent wrong fails its job; the others never notice. */
static void wrong_values_of_a_client_fail_the_job_alone(void **state)
{
	static const char *const wrong[] = {
		"\"prompt\":\"\"",
		"\"prompt\":\"x\",\"temperature\":-1",
		"\"prompt\":\"x\",\"stop\":[1]",
		"\"prompt\":\"x\",\"class\":\"royal\"",
		"\"prompt\":\"x\",\"class\":2",
		"\"messages\":[{\"role\":\"wizard\",\"content\":\"hi\"}]",
		"\"max_tokens\":3",
	};
	struct tiny *m = tiny_new(NULL);
	struct peer p;

	UNUSED(state);
	peer_init_saving(&p, NULL);
	load(&p, 1, m->path);
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		cJSON *line;

		say(&p, "{\"op\":\"start\",\"job\":%zu,\"model\":1,%s}", i, wrong[i]);
		line = hear(&p);
		if (strcmp(text_of(line, "ev"), "failed"))
			fail_msg("%s: %s", wrong[i], text_of(line, "ev"));
		assert_int_equal(number_of(line, "job"), i);
		assert_true(strlen(text_of(line, "message")) > 0);
		cJSON_Delete(line);
	}
	peer_fini(&p);
	tiny_free(m);
}

static void what_is_not_the_protocol_ends_the_process(void **state)
{
	static const char *const wrong[] = {
		"{\"op\":\"dance\"}",
		"{\"op\":",
		"[]",
		"{\"op\":\"load\",\"model\":1}",
		"{\"op\":\"start\",\"model\":1}",
		"{\"op\":\"park\",\"model\":5}",
	};

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		struct peer p;

		peer_init_saving(&p, NULL);
		say(&p, "%s", wrong[i]);
		assert_null(hear(&p));
		peer_fini_with(&p, ENGINE_EXIT_PROTOCOL);
	}
}

/* The router stops reading in the middle of answers: the engine must neither block nor grow, and go on
 * when it reads again. */
/* Until the unread bytes have not grown for a second, after the first came: its buffers are full. */
static void wait_until_stalled(int fd)
{
	int unread = 0, last = 0, same = 0;

	while (same < STALL_POLLS) {
		usleep(STALL_POLL_US);
		assert_int_equal(ioctl(fd, FIONREAD, &unread), 0);
		same = unread > 0 && unread == last ? same + 1 : 0;
		last = unread;
	}
}

static void a_router_that_does_not_read_stops_computing_not_the_process(void **state)
{
	struct tiny *m = tiny_new(NULL);
	struct peer p;
	int finished = 0, before_pong = -1;

	UNUSED(state);
	peer_init_saving(&p, NULL);
	load(&p, 1, m->path);
	for (int i = 0; i < UNREAD_JOBS; i++)
		say(&p,
		    "{\"op\":\"start\",\"job\":%d,\"model\":1,\"prompt\":\"hello\",\"seed\":%d,"
		    "\"stop\":[],\"max_tokens\":450}",
		    i, i);
	wait_until_stalled(p.fd);
	say(&p, "{\"op\":\"ping\"}");
	while (finished < UNREAD_JOBS) {
		cJSON *line = hear(&p);

		assert_non_null(line);
		finished += strcmp(text_of(line, "ev"), "finished") == 0;
		if (strcmp(text_of(line, "ev"), "pong") == 0)
			before_pong = finished;
		cJSON_Delete(line);
	}
	/* It still listened, and had not run on. */
	assert_in_range(before_pong, 1, UNREAD_JOBS - 1);
	peer_fini(&p);
	tiny_free(m);
}

/* n words, so that a conversation's next turn begins with the last. */
static void words(struct buf *b, int n)
{
	for (int i = 0; i < n; i++)
		buf_addf(b, "w%d ", i % 97);
}

/* Starts a greedy job over n words and takes its answer; the engine has started and loaded model 1. */
static int turn(struct peer *p, const char *class, int n, struct buf *text)
{
	struct buf prompt = {0};
	cJSON *line;
	int cached;

	words(&prompt, n);
	say(p,
	    "{\"op\":\"start\",\"job\":1,\"model\":1,\"class\":\"%s\",\"prompt\":\"%s\","
	    "\"temperature\":0,\"ignore_eos\":true,\"max_tokens\":16}",
	    class, prompt.data);
	line = wait_for(p, "finished", text);
	cached = (int)number_of(line, "cached_tokens");
	cJSON_Delete(line);
	buf_free(&prompt);
	return cached;
}

static void an_engine_that_restarts_goes_on_where_it_was(void **state)
{
	struct tiny *m = tiny_new(NULL);
	struct buf saved = {0}, fresh = {0};
	char dir[32];
	struct peer p;

	UNUSED(state);
	fake_folder(dir);
	peer_init_saving(&p, dir);
	load(&p, 1, m->path);
	assert_int_equal(turn(&p, "batch", 90, &saved), 0);
	/* An unload, as on a switch of models. */
	say(&p, "{\"op\":\"unload\",\"model\":1}");
	cJSON_Delete(wait_for(&p, "unloaded", NULL));
	load(&p, 1, m->path);
	assert_true(turn(&p, "completion", 100, &saved) > KV_DISK_MIN_TOKENS);
	peer_fini(&p);
	assert_true(fake_each(dir, NULL) >= 1);

	peer_init_saving(&p, dir);
	load(&p, 1, m->path);
	buf_clear(&saved);
	assert_true(turn(&p, "interactive", 110, &saved) > KV_DISK_MIN_TOKENS);
	peer_fini(&p);

	peer_init_saving(&p, NULL);
	load(&p, 1, m->path);
	assert_int_equal(turn(&p, "interactive", 110, &fresh), 0);
	peer_fini(&p);
	assert_int_equal(saved.len, fresh.len);
	assert_true(fresh.len > 0);
	assert_memory_equal(saved.data, fresh.data, fresh.len);
	buf_free(&saved);
	buf_free(&fresh);
	fake_folder_remove(dir);
	tiny_free(m);
}

static void the_real_model_knows_the_capital_of_france(void **state)
{
	const char *path = getenv("HOB_TEST_MODEL");
	struct buf text = {0};
	struct peer p;
	cJSON *line;

	UNUSED(state);
	if (!path) {
		print_message("HOB_TEST_MODEL names no model file\n");
		skip();
	}
	peer_init_saving(&p, NULL);
	load(&p, 1, path);
	say(&p,
	    "{\"op\":\"count\",\"job\":8,\"model\":1,\"messages\":[{\"role\":\"user\",\"content\":"
	    "\"What is the capital of France? Answer in one sentence.\"}]}");
	line = wait_for(&p, "count", NULL);
	assert_int_equal(
		number_of(line, "extra") +
			cJSON_GetArrayItem(cJSON_GetObjectItem(line, "tokens"), 0)
				->valueint,
		42);
	cJSON_Delete(line);
	say(&p,
	    "{\"op\":\"start\",\"job\":1,\"model\":1,\"temperature\":0,\"max_tokens\":40,"
	    "\"messages\":[{\"role\":\"user\",\"content\":"
	    "\"What is the capital of France? Answer in one sentence.\"}]}");
	line = wait_for(&p, "finished", &text);
	assert_string_equal(text_of(line, "reason"), "stop");
	assert_int_equal(number_of(line, "prompt_tokens"), 42);
	assert_non_null(strstr(text.data, "Paris"));
	cJSON_Delete(line);
	buf_free(&text);
	peer_fini(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(greedy_text_is_the_same_alone_and_in_company),
		cmocka_unit_test(
			greedy_text_of_the_real_model_is_the_same_alone_and_in_company),
		cmocka_unit_test(a_long_prompt_delays_an_answer_by_one_chunk_at_most),
		cmocka_unit_test(jobs_beyond_the_slots_wait_for_their_turn),
		cmocka_unit_test(
			the_same_prompt_again_is_mostly_cached_and_answers_the_same),
		cmocka_unit_test(a_cancelled_job_is_silent_and_frees_its_slot),
		cmocka_unit_test(a_prompt_longer_than_the_context_fails_with_the_numbers),
		cmocka_unit_test(
			answers_end_by_length_at_max_tokens_and_at_the_end_of_the_context),
		cmocka_unit_test(a_stop_string_ends_the_answer_before_itself),
		cmocka_unit_test(
			a_file_that_is_missing_or_broken_fails_and_the_process_lives_on),
		cmocka_unit_test(two_models_answer_at_once_and_unload_fails_what_runs),
		cmocka_unit_test(wrong_values_of_a_client_fail_the_job_alone),
		cmocka_unit_test(what_is_not_the_protocol_ends_the_process),
		cmocka_unit_test(
			a_router_that_does_not_read_stops_computing_not_the_process),
		cmocka_unit_test(an_engine_that_restarts_goes_on_where_it_was),
		cmocka_unit_test(the_real_model_knows_the_capital_of_france),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
