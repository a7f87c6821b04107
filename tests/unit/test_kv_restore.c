/* The batch over a store: what was computed once is not computed again, and answers are the same tokens. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>

#include "base/clock.h"
#include "engine/batch_impl.h"
#include "tests/unit/batch_bench.h"
#include "tests/unit/sanitized.h"

#define RAM  ((uint64_t)64 << 20)
#define DISK ((uint64_t)64 << 20)
enum { CTX = 1024 };

static void spoil_rows(const char *full)
{
	int fd = open(full, O_RDWR | O_CLOEXEC);
	off_t end = lseek(fd, 0, SEEK_END);

	assert_int_equal(pwrite(fd, "spoilt", 6, end - 100), 6);
	close(fd);
}

static struct bench_job job(int id, int salt, int n)
{
	return (struct bench_job){.id = id,
				  .salt = salt,
				  .n = n,
				  .max_tokens = 20,
				  .class = BATCH_INTERACTIVE};
}

/* What a machine says that never saves anything. */
static void alone(struct bench *b, struct bench_job o)
{
	bench_init(b, NULL, CTX, 1, 0, 0);
	bench_start(b, o);
	bench_run(b);
	assert_int_equal(b->a[o.id].cached, 0);
}

static void a_conversation_that_lost_its_slot_goes_on_from_memory(void **state)
{
	struct bench b, c;

	UNUSED(state);
	bench_init(&b, NULL, CTX, 1, RAM, 0);
	bench_start(&b, job(0, 1, 300));
	bench_run(&b);
	bench_start(&b, job(1, 2, 400)); /* takes the only slot */
	bench_run(&b);
	assert_int_equal(b.a[1].cached, 0);
	bench_start(&b, job(2, 1, 500));
	bench_run(&b);
	assert_in_range(b.a[2].cached, 300, 319);
	bench_start(&b, job(3, 2, 390));
	bench_run(&b);
	assert_int_equal(b.a[3].cached, 389);
	alone(&c, job(2, 1, 500));
	bench_same(&b, 2, &c, 2);
	bench_fini(&b);
	bench_fini(&c);
}

static void a_system_prompt_is_shared_across_conversations(void **state)
{
	struct bench b, c;
	struct bench_job o = job(0, 1, 600);

	UNUSED(state);
	bench_init(&b, NULL, CTX, 2, RAM, 0);
	for (int i = 0; i < 5; i++) {
		o.id = i;
		o.salt = i + 1;
		o.shared = 400;
		bench_start(&b, o);
		bench_run(&b);
	}
	for (int i = 2; i < 5; i++)
		assert_true(b.a[i].cached >= 400);
	alone(&c, o);
	bench_same(&b, 4, &c, 4);
	bench_fini(&b);
	bench_fini(&c);
}

static void after_a_restart_the_next_turn_is_mostly_cached_and_says_the_same(void **state)
{
	struct bench b, c;

	UNUSED(state);
	bench_init(&b, NULL, CTX, 2, RAM, DISK);
	bench_start(&b, job(0, 1, 600));
	bench_run(&b);
	bench_close(&b);
	bench_open(&b, CTX, 2, RAM, DISK);
	bench_start(&b, job(1, 1, 700));
	bench_run(&b);
	assert_in_range(b.a[1].cached, 600, 619);
	assert_int_equal(kv_store_stats(b.store).disk_hits, 1);
	alone(&c, job(1, 1, 700));
	bench_same(&b, 1, &c, 1);
	bench_fini(&b);
	bench_fini(&c);
}

static void another_model_with_the_same_tokens_gets_nothing(void **state)
{
	struct bench b;

	UNUSED(state);
	bench_init(&b, NULL, CTX, 1, RAM, DISK);
	bench_start(&b, job(0, 1, 600));
	bench_run(&b);
	bench_close(&b);
	b.key.lo ^= 1;
	bench_open(&b, CTX, 1, RAM, DISK);
	bench_start(&b, job(1, 1, 700));
	bench_run(&b);
	assert_int_equal(b.a[1].cached, 0);
	bench_fini(&b);
}

static void the_key_of_a_model_tells_equal_headers_apart(void **state)
{
	struct bench b;
	const struct gguf_tensor *t;
	struct gguf *g;
	struct err e = {0};
	int fd;
	float x;

	UNUSED(state);
	bench_init(&b, NULL, CTX, 1, 0, 0);
	g = gguf_open(b.tiny->path, &e);
	assert_true(kv_key_eq(kv_model_key(g), b.key));
	/* One weight of one tensor, as fine-tuning changes them. */
	t = gguf_tensor(g, "blk.1.ffn_up.weight");
	assert_non_null(t);
	fd = open(b.tiny->path, O_RDWR | O_CLOEXEC);
	memcpy(&x, t->data + 40, sizeof(x));
	x += 1;
	assert_int_equal(pwrite(fd, &x, sizeof(x), t->data + 40 - gguf_mapping(g)),
			 sizeof(x));
	close(fd);
	gguf_close(g);
	g = gguf_open(b.tiny->path, &e);
	assert_false(kv_key_eq(kv_model_key(g), b.key));
	gguf_close(g);
	bench_fini(&b);
}

static void while_one_waits_for_the_disk_the_others_go_on(void **state)
{
	struct bench b, c;

	UNUSED(state);
	bench_init(&b, NULL, CTX, 2, RAM, DISK);
	bench_start(&b, job(0, 1, 600));
	bench_run(&b);
	bench_close(&b);
	bench_open(&b, CTX, 2, RAM, DISK);
	bench_start(&b, job(1, 1, 700));
	batch_step(b.batch);
	/* Its KV is on the way; nobody has looked whether it is there. */
	assert_true(batch_busy(b.batch));
	assert_false(batch_ready(b.batch));
	assert_int_equal(b.a[1].started, 0);
	bench_start(&b, job(2, 2, 10));
	for (int i = 0; i < BENCH_GUARD && !b.a[2].finished; i++) {
		assert_true(batch_ready(b.batch));
		batch_step(b.batch);
	}
	assert_int_equal(b.a[1].started, 0);
	bench_run(&b);
	assert_true(b.a[1].cached >= 600);
	alone(&c, job(1, 1, 700));
	bench_same(&b, 1, &c, 1);
	bench_fini(&b);
	bench_fini(&c);
}

static void a_job_cancelled_while_it_waits_for_the_disk_is_gone(void **state)
{
	struct bench b, c;

	UNUSED(state);
	bench_init(&b, NULL, CTX, 1, RAM, DISK);
	bench_start(&b, job(0, 1, 600));
	bench_run(&b);
	bench_close(&b);
	bench_open(&b, CTX, 1, RAM, DISK);
	bench_start(&b, job(1, 1, 700));
	batch_step(b.batch);
	assert_true(batch_cancel(b.batch, 1));
	assert_false(batch_busy(b.batch));
	assert_int_equal(kv_store_stats(b.store).pinned, 0);
	/* The slot is free at once; the answer of the disk comes when it wants. */
	bench_start(&b, job(2, 2, 100));
	batch_step(b.batch);
	assert_int_equal(b.a[2].started, 1);
	bench_run(&b);
	assert_true(kv_store_settle(b.store, BENCH_SETTLE_MS));
	assert_int_equal(b.a[1].started + b.a[1].finished, 0);
	bench_start(&b, job(3, 1, 700));
	bench_run(&b);
	assert_true(b.a[3].cached >= 600);
	alone(&c, job(3, 1, 700));
	bench_same(&b, 3, &c, 3);
	/* Also when everything ends meanwhile. */
	bench_close(&b);
	bench_open(&b, CTX, 1, RAM, DISK);
	bench_start(&b, job(4, 1, 700));
	batch_step(b.batch);
	bench_fini(&b);
	bench_fini(&c);
}

static void a_spoilt_file_costs_a_prefill_and_nothing_else(void **state)
{
	struct bench b, c;

	UNUSED(state);
	bench_init(&b, NULL, CTX, 1, RAM, DISK);
	bench_start(&b, job(0, 1, 600));
	bench_run(&b);
	bench_close(&b);
	assert_int_equal(fake_each(b.path, spoil_rows), 1);
	bench_open(&b, CTX, 1, RAM, DISK);
	bench_start(&b, job(1, 1, 700));
	bench_run(&b);
	assert_int_equal(b.a[1].cached, 0);
	assert_int_equal(fake_each(b.path, NULL), 0);
	alone(&c, job(1, 1, 700));
	bench_same(&b, 1, &c, 1);
	bench_fini(&b);
	bench_fini(&c);
}

static void no_room_in_the_store_is_no_failure(void **state)
{
	struct bench b, c;

	UNUSED(state);
	bench_init(&b, NULL, CTX, 1, 1000, DISK);
	for (int i = 0; i < 4; i++) {
		bench_start(&b, job(i, i % 2, 300));
		bench_run(&b);
		assert_int_equal(b.a[i].cached, 0);
	}
	assert_true(kv_store_stats(b.store).refused > 0);
	assert_int_equal(kv_store_stats(b.store).ram_bytes, 0);
	alone(&c, job(3, 1, 300));
	bench_same(&b, 3, &c, 3);
	bench_fini(&b);
	bench_fini(&c);
}

static void an_idle_conversation_goes_to_disk_so_that_a_crash_loses_little(void **state)
{
	struct bench b;
	int wait;

	UNUSED(state);
	bench_init(&b, NULL, CTX, 2, RAM, DISK);
	bench_start(&b, job(0, 1, 600));
	assert_int_equal(batch_idle(b.batch), -1);
	bench_run(&b);
	wait = batch_idle(b.batch);
	assert_in_range(wait, 1, BATCH_IDLE_MS);
	assert_true(kv_store_settle(b.store, BENCH_SETTLE_MS));
	assert_int_equal(kv_store_stats(b.store).written, 0);
	for (int i = 0; i < 2; i++)
		b.batch->kv->slots[i].idle_ms = 0; /* long ago */
	assert_int_equal(batch_idle(b.batch), -1);
	assert_true(kv_store_settle(b.store, BENCH_SETTLE_MS));
	assert_int_equal(kv_store_stats(b.store).written, 1);
	assert_int_equal(kv_store_stats(b.store).ram_bytes, 0); /* the slot has it */
	/* A few tokens more are not worth a file; many are. */
	bench_start(&b, job(1, 1, 640));
	bench_run(&b);
	assert_int_equal(batch_idle(b.batch), -1);
	bench_start(&b, job(2, 1, 700));
	bench_run(&b);
	assert_int_not_equal(batch_idle(b.batch), -1);
	bench_fini(&b);
}

static void what_is_volatile_is_saved_nowhere(void **state)
{
	struct bench_job secret = job(0, 1, 600), again = job(3, 1, 700);
	struct bench b;

	UNUSED(state);
	secret.is_volatile = again.is_volatile = true;
	bench_init(&b, NULL, CTX, 1, RAM, DISK);
	bench_start(&b, secret);
	bench_run(&b);
	b.batch->kv->slots[0].idle_ms = 0; /* long ago */
	assert_int_equal(batch_idle(b.batch), -1);
	batch_save_all(b.batch);
	bench_start(&b, job(1, 2, 300)); /* takes the slot */
	bench_run(&b);
	assert_true(kv_store_settle(b.store, BENCH_SETTLE_MS));
	assert_int_equal(kv_store_stats(b.store).saved, 0);
	assert_int_equal(kv_store_stats(b.store).entries, 0);
	bench_start(&b, job(2, 1, 600));
	bench_run(&b);
	assert_int_equal(b.a[2].cached, 0); /* it is nowhere */
	assert_true(kv_store_stats(b.store).saved >
		    0); /* that of job 1 is kept as ever */
	/* a slot that it took over with somebody's beginning is let go too */
	bench_start(&b, again);
	bench_run(&b);
	batch_save_all(b.batch);
	bench_close(&b);
	bench_open(&b, CTX, 1, RAM, DISK);
	bench_start(&b, job(4, 1, 700));
	bench_run(&b);
	assert_true(b.a[4].cached < 640);
	bench_fini(&b);
}

/* Jobs of every class and length with cancels at any moment: what finishes is right, memory stays within the
 * budget, and nothing stays pinned.  Under ASan nothing leaks. */
static void random_jobs_with_random_cancels_stay_right_and_within_budget(void **state)
{
	enum { JOBS = 500, KINDS = 12, RAM_SMALL = 1500000 };
	struct bench_job jobs[JOBS];
	struct bench b, c;
	uint32_t seed = 5;
	int next = 0, right = 0;

	UNUSED(state);
	bench_init(&b, NULL, CTX, 3, RAM_SMALL, 2 * RAM_SMALL);
	while (next < JOBS || batch_busy(b.batch)) {
		uint32_t r = tiny_random(&seed);

		if (next < JOBS && r % 4 == 0) {
			int salt = (int)(r >> 4) % KINDS;

			jobs[next] =
				(struct bench_job){.id = next,
						   .salt = salt,
						   .n = 30 + 57 * salt,
						   .max_tokens = 1 + salt * 3,
						   .shared = salt & 1 ? 80 : 0,
						   .temperature = salt & 2 ? 1 : 0,
						   .class = (enum batch_class)(salt % 3)};
			bench_start(&b, jobs[next++]);
		} else if (next && r % 11 == 0) {
			int back = (int)(tiny_random(&seed) % 5);

			batch_cancel(b.batch, next - 1 - back < 0 ? 0 : next - 1 - back);
		}
		if (batch_ready(b.batch))
			batch_step(b.batch);
		else
			kv_store_settle(b.store, BENCH_SETTLE_MS);
		kv_store_tick(b.store);
		kv_store_poll(b.store);
		assert_true(kv_store_stats(b.store).ram_bytes <= RAM_SMALL);
		assert_true(kv_store_stats(b.store).disk_bytes <= 2 * RAM_SMALL);
	}
	assert_int_equal(kv_store_stats(b.store).pinned, 0);
	assert_true(kv_store_stats(b.store).hits > 0);
	bench_init(&c, NULL, CTX, 1, 0, 0);
	for (int salt = 0; salt < KINDS; salt++) {
		bool told = false;

		for (int i = 0; i < JOBS; i++) {
			if (jobs[i].salt != salt || !b.a[i].finished)
				continue;
			if (!told) {
				struct bench_job o = jobs[i];

				o.id = salt;
				bench_start(&c, o);
				bench_run(&c);
				told = true;
			}
			if (b.a[i].text.len)
				bench_same(&b, i, &c, salt);
			right++;
		}
	}
	assert_true(right > JOBS / 4);
	bench_fini(&b);
	bench_fini(&c);
}

/* Issue 4's bar, with its figures on the screen; ratios are for tests/bench, not for a test. */
static void the_real_model_goes_on_after_4000_tokens(void **state)
{
	const char *path = getenv("HOB_TEST_MODEL");
	const uint64_t room = (uint64_t)1 << 30;
	const int n = SANITIZED ? 300 : 4000, more = 24;
	struct bench b, c;

	UNUSED(state);
	if (!path) {
		print_message("HOB_TEST_MODEL names no model file\n");
		skip();
	}
	bench_init(&c, path, 8192, 1, 0, 0);
	bench_start(&c, job(0, 1, n + more));
	bench_run(&c);
	bench_init(&b, path, 8192, 1, room, room);
	bench_start(&b, job(9, 1, n));
	bench_run(&b);
	bench_start(&b, job(8, 2, 100));
	bench_run(&b);
	bench_start(&b, job(0, 1, n + more));
	bench_run(&b);
	bench_close(&b);
	bench_open(&b, 8192, 1, room, room);
	bench_start(&b, job(1, 1, n + more));
	bench_run(&b);
	bench_same(&b, 0, &c, 0);
	bench_same(&b, 1, &c, 0);
	assert_true(b.a[0].cached >= n && b.a[1].cached >= n);
	print_message(
		"first token after %d tokens: computed %.1f ms, from memory %.1f ms (%.0fx), "
		"from disk %.1f ms (%.0fx)\n",
		n + more, (double)c.a[0].prefill_us / 1e3,
		(double)b.a[0].prefill_us / 1e3,
		(double)c.a[0].prefill_us / (double)b.a[0].prefill_us,
		(double)b.a[1].prefill_us / 1e3,
		(double)c.a[0].prefill_us / (double)b.a[1].prefill_us);
	bench_fini(&b);
	bench_fini(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_conversation_that_lost_its_slot_goes_on_from_memory),
		cmocka_unit_test(a_system_prompt_is_shared_across_conversations),
		cmocka_unit_test(
			after_a_restart_the_next_turn_is_mostly_cached_and_says_the_same),
		cmocka_unit_test(another_model_with_the_same_tokens_gets_nothing),
		cmocka_unit_test(the_key_of_a_model_tells_equal_headers_apart),
		cmocka_unit_test(while_one_waits_for_the_disk_the_others_go_on),
		cmocka_unit_test(a_job_cancelled_while_it_waits_for_the_disk_is_gone),
		cmocka_unit_test(a_spoilt_file_costs_a_prefill_and_nothing_else),
		cmocka_unit_test(no_room_in_the_store_is_no_failure),
		cmocka_unit_test(
			an_idle_conversation_goes_to_disk_so_that_a_crash_loses_little),
		cmocka_unit_test(what_is_volatile_is_saved_nowhere),
		cmocka_unit_test(
			random_jobs_with_random_cancels_stay_right_and_within_budget),
		cmocka_unit_test(the_real_model_goes_on_after_4000_tokens),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
