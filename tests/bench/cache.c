/* What the cache adds to a request for a warm model: acquire, the turn that decides,
 * release, the turn after it.  usage: cache [models [rounds]]
 *
 * No loop and no engine: loaders answer at once, the clock is the real one.  Prints the
 * median and the 99th percentile of `rounds` requests with `models` models resident, and
 * JSON in the last line.  The bar is 20 us at the median with 16 models. */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "cache/cache.h"

enum { BAR_US = 20, MOST_MODELS = 200 };

struct bench {
	struct cache *cache;
	struct cache_lease *lease;
	char names[MOST_MODELS][16];
	uint64_t asked; /* id of the load that is not answered yet, or 0 */
};

static void load(void *arg, uint64_t id, const struct model *m, const char *path, int ctx,
		 int slots)
{
	UNUSED(m), UNUSED(path), UNUSED(ctx), UNUSED(slots);
	((struct bench *)arg)->asked = id;
}

static void unload(void *arg, uint64_t id)
{
	UNUSED(arg), UNUSED(id);
}

static void on_lease(void *arg, struct cache_lease *lease, const struct err *e)
{
	UNUSED(e);
	((struct bench *)arg)->lease = lease;
}

static void one(struct bench *b, int i)
{
	struct model m = {.name = b->names[i],
			  .path = b->names[i],
			  .bytes = 1 << 20,
			  .ino = (uint64_t)i + 1,
			  .settings = {.keep_alive_ms = KEEP_ALIVE_DEFAULT}};
	struct cache_want want = {.model = &m,
				  .client = 7,
				  .deadline_ms = UINT64_MAX,
				  .keep_alive_ms = CACHE_KEEP_DEFAULT};
	struct cache_info info = {
		.sizes = {1 << 20, 1 << 16, 1 << 20}, .ctx = 16, .slots = 4};

	cache_acquire(b->cache, &want, on_lease, b);
	cache_run(b->cache);
	if (b->asked) {
		cache_loader_loaded(b->cache, b->asked, &info);
		b->asked = 0;
		cache_run(b->cache);
	}
	ASSERT(b->lease);
	cache_release(b->lease);
	b->lease = NULL;
	cache_run(b->cache);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

/* Each sample is the mean of a batch: the clock itself counts microseconds. */
int main(int argc, char **argv)
{
	enum { BATCH = 100 };
	int models = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 16;
	int rounds = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 100000;
	int n = rounds / BATCH;
	struct cache_parts parts = {.ctx = 16,
				    .slots = 4,
				    .settings = {.budget_bytes = UINT64_C(1) << 40,
						 .keep_alive_ms = 3600000}};
	struct bench b = {0};
	struct cache_loader loader = {.load = load, .unload = unload, .arg = &b};
	double *us;

	if (models < 1 || models > MOST_MODELS || n < 1)
		return 2;
	us = xcalloc((size_t)n, sizeof *us);
	log_set_level(LOG_LV_ERROR);
	b.cache = cache_new(&parts);
	cache_set_loader(b.cache, CACHE_ENGINE, &loader);
	for (int i = 0; i < models; i++) {
		snprintf(b.names[i], sizeof b.names[i], "model-%d", i);
		one(&b, i);
	}
	for (int k = 0; k < n; k++) {
		uint64_t start = clock_mono_us();

		for (int i = 0; i < BATCH; i++)
			one(&b, (k * BATCH + i) % models);
		us[k] = (double)(clock_mono_us() - start) / BATCH;
	}
	qsort(us, (size_t)n, sizeof *us, by_value);
	printf("%d warm models, %d requests: %.2f us a request (99th percentile %.2f us), "
	       "bar %d us\n",
	       models, n * BATCH, us[n / 2], us[n * 99 / 100], BAR_US);
	printf("{\"bench\":\"cache\",\"models\":%d,\"requests\":%d,\"median_us\":%.3f,"
	       "\"p99_us\":%.3f,\"bar_us\":%d,\"passed\":%s}\n",
	       models, n * BATCH, us[n / 2], us[n * 99 / 100], BAR_US,
	       us[n / 2] < BAR_US ? "true" : "false");
	cache_close(b.cache, NULL, NULL);
	free(us);
	return 0;
}
