/* A batch over the tiny model (or a real one) with a store beneath, for tests of what survives. */
#ifndef HOB_TESTS_BATCH_BENCH_H
#define HOB_TESTS_BATCH_BENCH_H

#include "engine/batch.h"
#include "tests/unit/kv_build.h"
#include "tests/unit/tiny_model.h"

enum {
	BENCH_JOBS = 512,
	BENCH_THREADS = 2,
	BENCH_GUARD = 100000,
	BENCH_SETTLE_MS = 60000
};

struct answer {
	struct buf text;
	int started, progress, finished, failed;
	int prompt, cached, completion, done;
	int order; /* when it was started, counted over all */
	uint64_t prefill_us;
};

struct bench {
	struct tiny *tiny;
	char path[32]; /* folder of the store */
	struct pool *pool;
	struct model *model;
	struct kv_key key;
	struct kv_store *store;
	struct batch *batch;
	int starts;
	struct answer *a; /* owned; BENCH_JOBS of them */
};

static inline void bench_event(void *arg, const struct batch_event *ev)
{
	struct bench *b = arg;
	struct answer *a = &b->a[ev->job];

	assert_int_equal(a->finished + a->failed, 0); /* nothing after the end */
	a->prompt = ev->prompt_tokens;
	a->cached = ev->cached_tokens;
	a->completion = ev->completion_tokens;
	switch (ev->kind) {
	case BATCH_STARTED:
		assert_int_equal(a->started++, 0); /* once, preempted or not */
		a->order = b->starts++;
		break;
	case BATCH_PROGRESS:
		assert_in_range(ev->done, a->done + 1,
				ev->prompt_tokens - 1); /* never back */
		a->done = ev->done;
		a->progress++;
		break;
	case BATCH_TEXT:
		assert_int_equal(a->started, 1);
		buf_add(&a->text, ev->text.ptr, ev->text.len);
		break;
	case BATCH_FINISHED:
		a->finished++;
		a->prefill_us = ev->prefill_us;
		break;
	case BATCH_FAILED:
		a->failed++;
		break;
	}
}

/* ram 0: without a store; disk 0: in memory only.  Again after bench_close(): a restart. */
static inline void bench_open(struct bench *b, int ctx, int slots, uint64_t ram,
			      uint64_t disk)
{
	b->batch = batch_new(b->model, kernels_by_name("auto"), b->pool, ctx, slots,
			     bench_event, b);
	b->store = NULL;
	if (!ram)
		return;
	b->store = kv_store_new(&(struct kv_store_options){
		.dir = b->path, .ram_bytes = ram, .disk_bytes = disk, .pool = b->pool});
	batch_use_store(b->batch, b->store, b->key);
	assert_true(kv_store_settle(b->store, BENCH_SETTLE_MS));
}

static inline void bench_close(struct bench *b)
{
	batch_save_all(b->batch);
	batch_free(b->batch);
	kv_store_free(b->store);
}

/* path NULL: the tiny model */
static inline void bench_init(struct bench *b, const char *path, int ctx, int slots,
			      uint64_t ram, uint64_t disk)
{
	struct err e = {0};

	memset(b, 0, sizeof(*b));
	b->a = xcalloc(BENCH_JOBS, sizeof(*b->a));
	if (!path)
		b->tiny = tiny_new(NULL);
	fake_folder(b->path);
	b->pool = pool_new(BENCH_THREADS);
	b->model = model_open(path ? path : b->tiny->path, b->pool, &e);
	if (!b->model)
		fail_msg("%s", e.text);
	b->key = kv_model_key(b->model->gguf);
	bench_open(b, ctx, slots, ram, disk);
}

static inline void bench_fini(struct bench *b)
{
	bench_close(b);
	model_free(b->model);
	pool_free(b->pool);
	for (int i = 0; i < BENCH_JOBS; i++)
		buf_free(&b->a[i].text);
	free(b->a);
	if (b->tiny)
		tiny_free(b->tiny);
	fake_folder_remove(b->path);
}

/* The i-th token of a conversation; the first `shared` are those of every conversation. */
static inline int32_t bench_token(const struct bench *b, int salt, int i, int shared)
{
	uint32_t s = (uint32_t)((i < shared ? 0 : 1000 * salt) + i) * 2654435761u + 12345;

	return (int32_t)(tiny_random(&s) % (uint32_t)(vocab_size(b->model->vocab) - 16));
}

struct bench_job {
	int id, salt, n, max_tokens, shared;
	enum batch_class class;
	float temperature;
	bool is_volatile;
};

static inline void bench_start(struct bench *b, struct bench_job o)
{
	struct batch_job j = {.id = o.id,
			      .class = o.class,
			      .max_tokens = o.max_tokens,
			      .ignore_eos = true,
			      .is_volatile = o.is_volatile,
			      .sampling = sampler_defaults()};

	j.sampling.temperature = o.temperature;
	j.sampling.seed = (uint64_t)o.salt;
	for (int i = 0; i < o.n; i++)
		tokens_add(&j.prompt, bench_token(b, o.salt, i, o.shared));
	batch_start(b->batch, &j);
}

static inline void bench_run(struct bench *b)
{
	for (int i = 0; batch_busy(b->batch); i++) {
		assert_true(i < BENCH_GUARD);
		if (batch_ready(b->batch))
			batch_step(b->batch);
		else
			assert_true(kv_store_settle(b->store, BENCH_SETTLE_MS));
		if (b->store)
			kv_store_poll(b->store);
	}
}

static inline void bench_same(const struct bench *b, int i, const struct bench *c, int j)
{
	assert_int_equal(b->a[i].finished, 1);
	assert_int_equal(c->a[j].finished, 1);
	assert_int_equal(b->a[i].completion, c->a[j].completion);
	assert_int_equal(b->a[i].text.len, c->a[j].text.len);
	assert_true(b->a[i].text.len > 0);
	assert_memory_equal(b->a[i].text.data, c->a[j].text.data, b->a[i].text.len);
}

#endif
