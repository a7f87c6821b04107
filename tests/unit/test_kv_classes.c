/* Classes in the batch: who gets slots and rows, who is preempted, and that nobody's text changes by it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/batch_bench.h"

#define RAM ((uint64_t)64 << 20)
enum { CTX = 1024 };

static void start(struct bench *b, int id, enum batch_class class, int n, int max_tokens)
{
	bench_start(b, (struct bench_job){.id = id,
					  .salt = id + 1,
					  .n = n,
					  .max_tokens = max_tokens,
					  .class = class});
}

static void steps(struct bench *b, int n)
{
	for (int i = 0; i < n; i++)
		batch_step(b->batch);
}

static void waiting_jobs_get_slots_by_class_then_in_order(void **state)
{
	static const enum batch_class classes[] = {
		BATCH_COMPLETION, BATCH_BATCH,       BATCH_INTERACTIVE, BATCH_COMPLETION,
		BATCH_BATCH,      BATCH_INTERACTIVE, BATCH_COMPLETION};
	static const int order[] = {0, 5, 3, 1, 6, 4, 2};
	struct bench b;

	UNUSED(state);
	bench_init(&b, NULL, CTX, 1, 0, 0);
	start(&b, 0, classes[0], 10, 4);
	batch_step(b.batch);
	for (int i = 1; i < 7; i++)
		start(&b, i, classes[i], 10, 4);
	bench_run(&b);
	for (int i = 0; i < 7; i++) {
		assert_int_equal(b.a[i].finished, 1);
		assert_int_equal(b.a[i].order, order[i]);
	}
	bench_fini(&b);
}

static void chunks_go_to_the_highest_class_that_has_a_prompt(void **state)
{
	struct bench b;

	UNUSED(state);
	bench_init(&b, NULL, CTX, 3, 0, 0);
	start(&b, 0, BATCH_BATCH, 600, 4);
	batch_step(b.batch);
	assert_int_equal(b.a[0].done, 256);
	start(&b, 1, BATCH_INTERACTIVE, 900, 4);
	start(&b, 2, BATCH_COMPLETION, 300, 4);
	batch_step(b.batch);
	assert_int_equal(b.a[2].done, 256);
	assert_int_equal(b.a[1].done, 0);
	batch_step(b.batch); /* the rest is 44 rows, and all of the step */
	assert_int_equal(b.a[1].done, 0);
	batch_step(b.batch);
	assert_int_equal(b.a[1].done, 255);
	assert_int_equal(b.a[0].done, 256);
	bench_run(&b);
	for (int i = 0; i < 3; i++)
		assert_int_equal(b.a[i].finished, 1);
	bench_fini(&b);
}

static int said(const struct bench *b, int id)
{
	return (int)b->a[id].text.len;
}

static void
a_batch_job_steps_aside_for_completions_but_for_one_step_in_eight(void **state)
{
	struct bench b;
	int changes = 0, last;

	UNUSED(state);
	bench_init(&b, NULL, CTX, 2, 0, 0);
	start(&b, 0, BATCH_BATCH, 10, 600);
	steps(&b, 5);
	start(&b, 1, BATCH_COMPLETION, 10, 400);
	batch_step(b.batch);
	last = said(&b, 0);
	assert_true(last > 0);
	for (int i = 1; i < 240; i++) {
		batch_step(b.batch);
		if (said(&b, 0) != last)
			changes++;
		last = said(&b, 0);
	}
	/* 30 tokens in 240 steps; a few show no text by themselves. */
	assert_in_range(changes, 20, 240 / BATCH_OPEN_STEP);
	bench_run(&b);
	assert_int_equal(b.a[0].finished + b.a[1].finished, 2);
	bench_fini(&b);
}

static void prompts_of_all_classes_come_through_a_stream_of_completions(void **state)
{
	struct bench b;
	int id = 2, i;

	UNUSED(state);
	bench_init(&b, NULL, CTX, 6, 0, 0);
	start(&b, 0, BATCH_BATCH, 600, 2);
	start(&b, 1, BATCH_INTERACTIVE, 600, 2);
	/* There is always a completion with a prompt of more than one chunk. */
	for (i = 0; i < 400 && !(b.a[0].finished && b.a[1].finished); i++) {
		if (id < BENCH_JOBS - 2 &&
		    (id == 2 || b.a[id - 1].finished || b.a[id - 1].started))
			if (id - 2 < 2 || b.a[id - 2].finished)
				start(&b, id++, BATCH_COMPLETION, 700, 1);
		batch_step(b.batch);
	}
	assert_int_equal(b.a[0].finished, 1);
	assert_int_equal(b.a[1].finished, 1);
	bench_run(&b);
	bench_fini(&b);
}

/* One slot, an answer in the middle, and a higher class comes: twice, in the answer and in its prompt. */
static void check_preemption(const char *path, uint64_t ram, float temperature,
			     int tokens)
{
	struct bench_job low = {.id = 0,
				.salt = 1,
				.n = 600,
				.max_tokens = tokens,
				.class = BATCH_BATCH,
				.temperature = temperature};
	struct bench b, c;
	int before;

	bench_init(&c, path, CTX, 1, 0, 0);
	bench_start(&c, low);
	bench_run(&c);

	bench_init(&b, path, CTX, 1, ram, 0);
	bench_start(&b, low);
	batch_step(b.batch); /* 256 of 600 */
	start(&b, 1, BATCH_INTERACTIVE, 100, 3);
	batch_step(b.batch);
	assert_int_equal(b.a[1].started, 1); /* at once */
	while (!b.a[0].text.len)
		batch_step(b.batch);
	assert_int_equal(b.a[1].finished, 1);
	steps(&b, tokens / 3);
	before = (int)b.a[0].text.len;
	start(&b, 2, BATCH_COMPLETION, 200, 5);
	steps(&b, 3);
	assert_int_equal(b.a[2].started, 1);
	assert_int_equal(b.a[0].text.len, before);
	/* While it is out a lower one comes, and one of its own class: both come after. */
	start(&b, 3, BATCH_BATCH, 20, 2);
	bench_run(&b);
	bench_same(&b, 0, &c, 0);
	assert_int_equal(b.a[0].cached, 0); /* as it was when it began */
	assert_int_equal(b.a[0].prompt, 600);
	assert_true(b.a[3].order > b.a[2].order);
	for (int i = 0; i < 4; i++)
		assert_int_equal(b.a[i].finished, 1);
	if (ram)
		assert_int_equal(kv_store_stats(b.store).hits, 2);
	bench_fini(&b);
	bench_fini(&c);
}

static void a_preempted_answer_says_what_it_would_have_said(void **state)
{
	UNUSED(state);
	check_preemption(NULL, RAM, 0, 60);
	check_preemption(NULL, RAM, 1, 60);
}

static void also_when_nothing_is_saved(void **state)
{
	UNUSED(state);
	check_preemption(NULL, 0, 0, 60);
	check_preemption(NULL, 0, 1, 60);
}

static void also_with_the_real_model(void **state)
{
	const char *path = getenv("HOB_TEST_MODEL");

	UNUSED(state);
	if (!path) {
		print_message("HOB_TEST_MODEL names no model file\n");
		skip();
	}
	check_preemption(path, (uint64_t)1 << 30, 1, 24);
}

static void the_youngest_of_the_lowest_class_goes_and_equals_never_do(void **state)
{
	struct bench b;

	UNUSED(state);
	bench_init(&b, NULL, CTX, 4, RAM, 0);
	start(&b, 0, BATCH_INTERACTIVE, 10, 30);
	start(&b, 1, BATCH_BATCH, 10, 30);
	start(&b, 2, BATCH_BATCH, 10, 30);
	start(&b, 3, BATCH_INTERACTIVE, 10, 30);
	steps(&b, 3);
	start(&b, 4, BATCH_BATCH, 10, 1); /* an equal waits */
	steps(&b, 2);
	assert_int_equal(b.a[4].started, 0);
	start(&b, 5, BATCH_INTERACTIVE, 10, 30);
	batch_step(b.batch);
	assert_int_equal(b.a[5].started, 1);
	{
		size_t one = b.a[1].text.len, two = b.a[2].text.len;

		steps(&b, 8);
		assert_true(b.a[1].text.len > one);
		assert_int_equal(b.a[2].text.len, two);
	}
	bench_run(&b);
	for (int i = 0; i < 6; i++)
		assert_int_equal(b.a[i].finished, 1);
	assert_int_equal(b.a[4].order, 5);
	bench_fini(&b);
}

static void a_preempted_job_can_be_cancelled(void **state)
{
	struct bench b;

	UNUSED(state);
	bench_init(&b, NULL, CTX, 1, RAM, 0);
	start(&b, 0, BATCH_BATCH, 100, 50);
	steps(&b, 10);
	start(&b, 1, BATCH_COMPLETION, 100, 50);
	steps(&b, 10);
	assert_true(batch_cancel(b.batch, 0));
	bench_run(&b);
	assert_int_equal(b.a[0].finished, 0);
	assert_int_equal(b.a[1].finished, 1);
	bench_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(waiting_jobs_get_slots_by_class_then_in_order),
		cmocka_unit_test(chunks_go_to_the_highest_class_that_has_a_prompt),
		cmocka_unit_test(
			a_batch_job_steps_aside_for_completions_but_for_one_step_in_eight),
		cmocka_unit_test(
			prompts_of_all_classes_come_through_a_stream_of_completions),
		cmocka_unit_test(a_preempted_answer_says_what_it_would_have_said),
		cmocka_unit_test(also_when_nothing_is_saved),
		cmocka_unit_test(also_with_the_real_model),
		cmocka_unit_test(
			the_youngest_of_the_lowest_class_goes_and_equals_never_do),
		cmocka_unit_test(a_preempted_job_can_be_cancelled),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
