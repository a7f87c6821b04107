/* The cache's state machine with a fake loader and a fake clock: every edge, then 20,000
 * random events with the invariants checked after each. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/log.h"
#include "cache/cache.h"

enum { MIB = 1 << 20, MAX_ASKED = 64, MAX_WAITERS = 64 };

/* What the loader was asked for and has not answered. */
struct asked {
	bool is_load;
	uint64_t id;
	char path[32];
	int ctx;
};

struct world {
	struct cache *cache;
	uint64_t now_ms;
	struct asked asked[MAX_ASKED];
	int nasked;
	int loads; /* ever */
};

struct answer {
	int times;
	struct cache_lease *lease;
	struct err err;
};

static uint64_t fake_now(void *arg)
{
	return ((struct world *)arg)->now_ms;
}

static void fake_load(void *arg, uint64_t id, const char *path, int ctx, int slots)
{
	struct world *w = arg;
	struct asked *a = &w->asked[w->nasked++];

	(void)slots;
	assert_true(w->nasked <= MAX_ASKED);
	*a = (struct asked){.is_load = true, .id = id, .ctx = ctx};
	snprintf(a->path, sizeof a->path, "%s", path);
	w->loads++;
}

static void fake_unload(void *arg, uint64_t id)
{
	struct world *w = arg;

	w->asked[w->nasked++] = (struct asked){.is_load = false, .id = id};
	assert_true(w->nasked <= MAX_ASKED);
}

static void world_init(struct world *w, uint64_t budget)
{
	struct cache_parts parts = {.now_ms = fake_now,
				    .now_arg = w,
				    .budget_bytes = budget,
				    .ctx = 16,
				    .slots = 1};
	struct cache_loader loader = {fake_load, fake_unload, w};

	log_set_level(LOG_LV_ERROR);
	memset(w, 0, sizeof *w);
	w->now_ms = 1000;
	w->cache = cache_new(&parts);
	cache_set_loader(w->cache, &loader);
}

static void world_fini(struct world *w)
{
	cache_close(w->cache, NULL, NULL);
}

static struct asked take(struct world *w, int i)
{
	struct asked a = w->asked[i];

	assert_true(i < w->nasked);
	memmove(&w->asked[i], &w->asked[i + 1], (size_t)(w->nasked - i - 1) * sizeof a);
	w->nasked--;
	return a;
}

/* The oldest question must be of this kind; answers it. */
static void answer_load(struct world *w, uint64_t bytes)
{
	struct asked a = take(w, 0);
	struct cache_info info = {.bytes = bytes, .ctx = a.ctx, .slots = 1};

	assert_true(a.is_load);
	cache_loader_loaded(w->cache, a.id, &info);
	cache_run(w->cache);
}

static void answer_unload(struct world *w)
{
	struct asked a = take(w, 0);

	assert_false(a.is_load);
	cache_loader_unloaded(w->cache, a.id);
	cache_run(w->cache);
}

static void fail_load(struct world *w, enum err_code code, const char *text)
{
	struct err e;

	err_set(&e, code, "%s", text);
	cache_loader_failed(w->cache, take(w, 0).id, &e);
	cache_run(w->cache);
}

static struct model model(char *name, uint64_t mib)
{
	return (struct model){
		.name = name, .path = name, .bytes = mib * MIB, .mtime_ms = 1};
}

static void on_answer(void *arg, struct cache_lease *lease, const struct err *e)
{
	struct answer *a = arg;

	a->times++;
	a->lease = lease;
	assert_true(!lease != !e);
	if (e)
		a->err = *e;
}

static struct cache_waiter *ask(struct world *w, struct answer *a, struct model m,
				uint64_t for_ms)
{
	struct cache_waiter *waiter;

	memset(a, 0, sizeof *a);
	waiter = cache_acquire(w->cache, &m, w->now_ms + for_ms, on_answer, a);
	assert_int_equal(a->times, 0);
	return waiter;
}

/* Loads it and gives the lease back. */
static void warm(struct world *w, struct model m)
{
	struct answer a;

	ask(w, &a, m, 1000);
	cache_run(w->cache);
	answer_load(w, m.bytes);
	assert_non_null(a.lease);
	cache_release(a.lease);
	w->now_ms += 10;
	cache_run(w->cache);
}

static enum cache_state state_of(struct world *w, const char *name)
{
	struct cache_row row;

	for (int i = 0; i < cache_count(w->cache); i++) {
		cache_row(w->cache, i, &row);
		if (!strcmp(row.name, name))
			return row.state;
	}
	return CACHE_ABSENT;
}

static void a_model_loaded_for_a_waiter_is_leased_in_the_same_step(void **state)
{
	struct world w;
	struct answer a, b;
	struct cache_row row;

	(void)state;
	world_init(&w, 100 * (uint64_t)MIB);
	ask(&w, &a, model("m", 40), 1000);
	ask(&w, &b, model("m", 40), 1000);
	cache_run(w.cache);
	assert_int_equal(w.nasked, 1); /* one load for both */
	assert_int_equal(state_of(&w, "m"), CACHE_LOADING);
	answer_load(&w, 50 * (uint64_t)MIB);
	assert_int_equal(a.times, 1);
	assert_non_null(a.lease);
	assert_non_null(b.lease);
	cache_row(w.cache, 0, &row);
	assert_int_equal(row.leases, 2);
	assert_int_equal(row.bytes, 50 * (uint64_t)MIB);
	cache_release(a.lease);
	cache_release(b.lease);
	world_fini(&w);
}

static void the_oldest_idle_model_leaves_and_the_load_waits_until_it_has(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_init(&w, 100 * (uint64_t)MIB);
	warm(&w, model("old", 40));
	warm(&w, model("new", 40));
	ask(&w, &a, model("third", 40), 1000);
	cache_run(w.cache);
	assert_int_equal(state_of(&w, "old"), CACHE_UNLOADING);
	assert_int_equal(state_of(&w, "new"), CACHE_READY);
	assert_int_equal(state_of(&w, "third"), CACHE_ABSENT);
	answer_unload(&w);
	assert_int_equal(state_of(&w, "third"), CACHE_LOADING);
	answer_load(&w, 40 * (uint64_t)MIB);
	assert_non_null(a.lease);
	cache_release(a.lease);
	world_fini(&w);
}

static void a_leased_model_is_not_evicted_and_the_waiter_hears_so_in_time(void **state)
{
	struct world w;
	struct answer a, b;

	(void)state;
	world_init(&w, 100 * (uint64_t)MIB);
	ask(&w, &a, model("busy", 60), 1000);
	cache_run(w.cache);
	answer_load(&w, 60 * (uint64_t)MIB);
	ask(&w, &b, model("other", 60), 2000);
	assert_int_equal(cache_run(w.cache), w.now_ms + 2000);
	w.now_ms += 1999;
	cache_run(w.cache);
	assert_int_equal(b.times, 0);
	w.now_ms += 1;
	cache_run(w.cache);
	assert_int_equal(b.times, 1);
	assert_int_equal(b.err.code, ERR_TIMEOUT);
	assert_non_null(strstr(b.err.text, "needs "));
	assert_non_null(strstr(b.err.text, "would evict "));
	assert_true(cache_lease_valid(a.lease));
	cache_release(a.lease);
	world_fini(&w);
}

static void a_busy_model_drains_for_one_who_has_waited_long(void **state)
{
	struct world w;
	struct answer a, b, late;

	(void)state;
	world_init(&w, 100 * (uint64_t)MIB);
	ask(&w, &a, model("busy", 60), 1000);
	cache_run(w.cache);
	answer_load(&w, 60 * (uint64_t)MIB);
	ask(&w, &b, model("other", 60), 60000);
	cache_run(w.cache);
	w.now_ms += CACHE_AGE_MS;
	cache_run(w.cache);
	assert_int_equal(state_of(&w, "busy"), CACHE_DRAINING);
	ask(&w, &late, model("busy", 60), 60000);
	cache_run(w.cache);
	assert_int_equal(late.times, 0); /* no new lease while it drains */
	cache_release(a.lease);
	cache_run(w.cache);
	answer_unload(&w);
	answer_load(&w, 60 * (uint64_t)MIB);
	assert_non_null(b.lease);
	cache_release(b.lease);
	cache_run(w.cache);
	answer_unload(&w);
	answer_load(&w, 60 * (uint64_t)MIB);
	assert_non_null(late.lease);
	cache_release(late.lease);
	world_fini(&w);
}

static void draining_ends_when_nobody_waits_for_the_room(void **state)
{
	struct world w;
	struct answer a, b;
	struct cache_waiter *waiter;

	(void)state;
	world_init(&w, 100 * (uint64_t)MIB);
	ask(&w, &a, model("busy", 60), 1000);
	cache_run(w.cache);
	answer_load(&w, 60 * (uint64_t)MIB);
	waiter = ask(&w, &b, model("other", 60), 60000);
	w.now_ms += CACHE_AGE_MS;
	cache_run(w.cache);
	assert_int_equal(state_of(&w, "busy"), CACHE_DRAINING);
	cache_cancel(waiter);
	cache_run(w.cache);
	assert_int_equal(state_of(&w, "busy"), CACHE_READY);
	assert_int_equal(b.times, 0);
	cache_release(a.lease);
	world_fini(&w);
}

static void a_model_over_the_whole_budget_is_refused_with_sizes(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_init(&w, 100 * (uint64_t)MIB);
	ask(&w, &a, model("huge", 200), 1000);
	cache_run(w.cache);
	assert_int_equal(a.err.code, ERR_MEMORY);
	assert_non_null(strstr(a.err.text, "huge"));
	assert_non_null(strstr(a.err.text, "needs 0.22 GiB, free 0.10 GiB"));
	assert_int_equal(w.nasked, 0);
	world_fini(&w);
}

static void a_pinned_model_stays_and_the_other_is_refused_at_once(void **state)
{
	struct world w;
	struct answer a;
	struct model pinned = model("pinned", 60);

	(void)state;
	world_init(&w, 100 * (uint64_t)MIB);
	pinned.settings.pinned = true;
	warm(&w, pinned);
	ask(&w, &a, model("other", 60), 1000);
	cache_run(w.cache);
	assert_int_equal(a.err.code, ERR_MEMORY);
	assert_int_equal(state_of(&w, "pinned"), CACHE_READY);
	world_fini(&w);
}

static void a_load_larger_than_promised_makes_others_leave_or_leaves_itself(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_init(&w, 100 * (uint64_t)MIB);
	warm(&w, model("idle", 40));
	ask(&w, &a, model("fat", 40), 1000);
	cache_run(w.cache);
	answer_load(&w, 70 * (uint64_t)MIB);
	assert_non_null(a.lease);
	assert_int_equal(state_of(&w, "idle"), CACHE_UNLOADING);
	answer_unload(&w);
	cache_release(a.lease);

	/* over the budget alone: it is unloaded again and refused by its measured size */
	ask(&w, &a, model("fatter", 40), 1000);
	cache_run(w.cache);
	answer_unload(&w);
	answer_load(&w, 120 * (uint64_t)MIB);
	assert_int_equal(a.times, 0);
	answer_unload(&w);
	assert_int_equal(a.err.code, ERR_MEMORY);
	assert_int_equal(state_of(&w, "fatter"), CACHE_ABSENT);
	world_fini(&w);
}

static void a_guess_over_the_budget_does_not_refuse_a_file_below_it(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_init(&w, 100 * (uint64_t)MIB);
	ask(&w, &a, model("tight", 95), 1000); /* times 1.1 it would not fit */
	cache_run(w.cache);
	answer_load(&w, 97 * (uint64_t)MIB);
	assert_non_null(a.lease);
	cache_release(a.lease);
	world_fini(&w);
}

static void a_corrupt_file_is_not_tried_again_until_it_changes(void **state)
{
	struct world w;
	struct answer a;
	struct model m = model("bad", 10);

	(void)state;
	world_init(&w, 100 * (uint64_t)MIB);
	ask(&w, &a, m, 1000);
	cache_run(w.cache);
	fail_load(&w, ERR_CORRUPT, "tensor 3 ends beyond the file");
	assert_int_equal(a.err.code, ERR_CORRUPT);
	assert_non_null(strstr(a.err.text, "tensor 3"));
	w.now_ms += 3600 * 1000;
	ask(&w, &a, m, 1000);
	cache_run(w.cache);
	assert_int_equal(a.err.code, ERR_CORRUPT);
	assert_int_equal(w.loads, 1);
	m.mtime_ms = 2;
	ask(&w, &a, m, 1000);
	cache_run(w.cache);
	assert_int_equal(w.loads, 2);
	answer_load(&w, 10 * (uint64_t)MIB);
	assert_non_null(a.lease);
	cache_release(a.lease);
	world_fini(&w);
}

static void another_failure_is_tried_again_after_a_growing_pause(void **state)
{
	struct world w;
	struct answer a;
	struct model m = model("flaky", 10);

	(void)state;
	world_init(&w, 100 * (uint64_t)MIB);
	for (int i = 0, pause = CACHE_BACKOFF_MIN_MS; i < 3; i++, pause *= 2) {
		ask(&w, &a, m, 1000);
		cache_run(w.cache);
		assert_int_equal(w.loads, i + 1);
		fail_load(&w, ERR_IO, "read: Input/output error");
		assert_int_equal(a.err.code, ERR_IO);
		w.now_ms += (uint64_t)pause - 1;
		ask(&w, &a, m, 1000);
		cache_run(w.cache);
		assert_int_equal(a.err.code, ERR_IO); /* at once, without a load */
		assert_int_equal(w.nasked, 0);
		w.now_ms += 1;
	}
	world_fini(&w);
}

static void a_changed_file_drains_and_loads_anew(void **state)
{
	struct world w;
	struct answer a, b;
	struct model m = model("m", 10);

	(void)state;
	world_init(&w, 100 * (uint64_t)MIB);
	ask(&w, &a, m, 1000);
	cache_run(w.cache);
	answer_load(&w, 10 * (uint64_t)MIB);
	m.mtime_ms = 5;
	ask(&w, &b, m, 1000);
	cache_run(w.cache);
	assert_int_equal(state_of(&w, "m"), CACHE_DRAINING);
	cache_release(a.lease);
	cache_run(w.cache);
	answer_unload(&w);
	answer_load(&w, 10 * (uint64_t)MIB);
	assert_non_null(b.lease);
	cache_release(b.lease);
	world_fini(&w);
}

static void a_smaller_context_does_not_reload(void **state)
{
	struct world w;
	struct answer a;
	struct model m = model("m", 10);

	(void)state;
	world_init(&w, 100 * (uint64_t)MIB);
	m.settings.ctx = 64;
	warm(&w, m);
	m.settings.ctx = 32;
	ask(&w, &a, m, 1000);
	cache_run(w.cache);
	assert_non_null(a.lease);
	assert_int_equal(w.loads, 1);
	cache_release(a.lease);
	world_fini(&w);
}

static void when_the_engine_dies_leases_are_void_and_models_absent(void **state)
{
	struct world w;
	struct answer a, b;
	struct cache_totals t;

	(void)state;
	world_init(&w, 100 * (uint64_t)MIB);
	ask(&w, &a, model("m", 10), 1000);
	cache_run(w.cache);
	answer_load(&w, 10 * (uint64_t)MIB);
	cache_loader_died(w.cache, "engine died (signal 9)");
	assert_false(cache_lease_valid(a.lease));
	cache_run(w.cache);
	cache_totals(w.cache, &t);
	assert_int_equal(t.used_bytes, 0);
	assert_int_equal(t.leases, 0);
	cache_release(a.lease);
	ask(&w, &b, model("m", 10), 1000);
	cache_run(w.cache);
	answer_load(&w, 10 * (uint64_t)MIB);
	assert_true(cache_lease_valid(b.lease));
	cache_release(b.lease);
	world_fini(&w);
}

static void a_model_that_kills_the_engine_while_loading_is_tried_once_more(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_init(&w, 100 * (uint64_t)MIB);
	ask(&w, &a, model("poison", 10), 60000);
	cache_run(w.cache);
	take(&w, 0);
	cache_loader_died(w.cache, "engine died (signal 11)");
	cache_run(w.cache);
	assert_int_equal(w.loads, 2);
	assert_int_equal(a.times, 0);
	take(&w, 0);
	cache_loader_died(w.cache, "engine died (signal 11)");
	cache_run(w.cache);
	assert_int_equal(w.loads, 2);
	assert_int_equal(a.err.code, ERR_UNAVAILABLE);
	assert_non_null(strstr(a.err.text, "signal 11"));
	world_fini(&w);
}

static void loads_come_one_after_the_other(void **state)
{
	struct world w;
	struct answer a, b;

	(void)state;
	world_init(&w, 100 * (uint64_t)MIB);
	ask(&w, &a, model("a", 10), 1000);
	ask(&w, &b, model("b", 10), 1000);
	cache_run(w.cache);
	assert_int_equal(w.nasked, 1);
	answer_load(&w, 10 * (uint64_t)MIB);
	assert_non_null(a.lease);
	assert_int_equal(state_of(&w, "b"), CACHE_LOADING);
	answer_load(&w, 10 * (uint64_t)MIB);
	assert_non_null(b.lease);
	cache_release(a.lease);
	cache_release(b.lease);
	world_fini(&w);
}

static void a_cancelled_waiter_is_never_called_and_the_load_is_kept(void **state)
{
	struct world w;
	struct answer a;
	struct cache_waiter *waiter;

	(void)state;
	world_init(&w, 100 * (uint64_t)MIB);
	waiter = ask(&w, &a, model("m", 10), 1000);
	cache_run(w.cache);
	cache_cancel(waiter);
	answer_load(&w, 10 * (uint64_t)MIB);
	assert_int_equal(a.times, 0);
	assert_int_equal(state_of(&w, "m"), CACHE_READY);
	assert_true(cache_evict(w.cache, "m"));
	cache_run(w.cache);
	assert_int_equal(state_of(&w, "m"), CACHE_UNLOADING);
	world_fini(&w);
}

static void too_many_waiters_are_told_to_come_again(void **state)
{
	struct world w;
	static struct answer a[CACHE_MAX_WAITERS + 1];

	(void)state;
	world_init(&w, 100 * (uint64_t)MIB);
	for (int i = 0; i <= CACHE_MAX_WAITERS; i++)
		ask(&w, &a[i], model("m", 10), 1000);
	cache_run(w.cache);
	assert_int_equal(a[CACHE_MAX_WAITERS].err.code, ERR_BUSY);
	assert_int_equal(a[0].times, 0);
	cache_close(w.cache, NULL, NULL);
	for (int i = 0; i < CACHE_MAX_WAITERS; i++) {
		assert_int_equal(a[i].times, 1);
		assert_int_equal(a[i].err.code, ERR_UNAVAILABLE);
	}
}

static void a_shrunk_budget_evicts_idle_models(void **state)
{
	struct world w;

	(void)state;
	world_init(&w, 100 * (uint64_t)MIB);
	warm(&w, model("a", 40));
	warm(&w, model("b", 40));
	cache_set_budget(w.cache, 50 * (uint64_t)MIB);
	cache_run(w.cache);
	assert_int_equal(state_of(&w, "a"), CACHE_UNLOADING);
	assert_int_equal(state_of(&w, "b"), CACHE_READY);
	world_fini(&w);
}

static void stale_answers_are_ignored(void **state)
{
	struct world w;
	struct answer a;
	struct cache_info info = {.bytes = MIB};
	struct err e;

	(void)state;
	world_init(&w, 100 * (uint64_t)MIB);
	err_set(&e, ERR_IO, "x");
	cache_loader_loaded(w.cache, 77, &info);
	cache_loader_failed(w.cache, 77, &e);
	cache_loader_unloaded(w.cache, 77);
	ask(&w, &a, model("m", 10), 1000);
	cache_run(w.cache);
	cache_loader_unloaded(w.cache,
			      w.asked[0].id); /* it loads, nobody asked for that */
	cache_run(w.cache);
	assert_int_equal(state_of(&w, "m"), CACHE_LOADING);
	world_fini(&w);
}

/* ---- random events */

struct random_waiter {
	struct cache_waiter *waiter;
	struct cache_lease *lease;
	uint64_t deadline_ms;
	int times;
	bool used, cancelled;
};

static void on_random(void *arg, struct cache_lease *lease, const struct err *e)
{
	struct random_waiter *r = arg;

	(void)e;
	assert_false(r->cancelled);
	assert_int_equal(r->times++, 0);
	r->waiter = NULL;
	r->lease = lease;
}

static unsigned pick(unsigned *seed, unsigned n)
{
	*seed = *seed * 1664525u + 1013904223u;
	return (*seed >> 8) % n;
}

static void check_invariants(struct world *w, struct random_waiter *r)
{
	struct cache_totals t;
	uint64_t staying = 0;
	int valid = 0, loading = 0;

	cache_totals(w->cache, &t);
	for (int i = 0; i < cache_count(w->cache); i++) {
		struct cache_row row;

		cache_row(w->cache, i, &row);
		if (row.state != CACHE_UNLOADING)
			staying += row.bytes;
		loading += row.state == CACHE_LOADING;
		/* no lease on a model that is not there */
		if (row.state != CACHE_READY && row.state != CACHE_DRAINING)
			assert_int_equal(row.leases, 0);
	}
	assert_true(staying <= t.budget_bytes);
	assert_true(loading <= 1);
	for (int i = 0; i < MAX_WAITERS; i++) {
		valid += cache_lease_valid(r[i].lease);
		if (r[i].used && !r[i].cancelled && w->now_ms >= r[i].deadline_ms)
			assert_int_equal(r[i].times, 1);
	}
	assert_int_equal(valid, t.leases);
}

static void random_ask(struct world *w, struct random_waiter *r, unsigned *seed)
{
	static char *const names[] = {"a", "b", "c", "d", "e", "f"};
	struct model m = model(names[pick(seed, 6)], 10 + pick(seed, 50));

	if (r->used)
		return;
	m.bytes = 10 * MIB + (uint64_t)(m.name[0] - 'a') * 9 * MIB;
	m.settings.pinned = m.name[0] == 'a';
	m.mtime_ms = pick(seed, 20) == 0;
	*r = (struct random_waiter){.used = true};
	r->deadline_ms = w->now_ms + pick(seed, 20000);
	r->waiter = cache_acquire(w->cache, &m, r->deadline_ms, on_random, r);
}

static void random_drop(struct random_waiter *r)
{
	if (r->waiter) {
		r->cancelled = true;
		cache_cancel(r->waiter);
	}
	cache_release(r->lease);
	memset(r, 0, sizeof *r);
}

static void random_answer(struct world *w, unsigned *seed)
{
	struct cache_info info = {.ctx = 16, .slots = 1};
	struct asked a;
	struct err e;

	if (w->nasked == 0)
		return;
	a = take(w, (int)pick(seed, (unsigned)w->nasked));
	info.bytes = (5 + pick(seed, 70)) * (uint64_t)MIB;
	err_set(&e, pick(seed, 4) ? ERR_IO : ERR_CORRUPT, "no luck");
	if (!a.is_load)
		cache_loader_unloaded(w->cache, a.id);
	else if (pick(seed, 10) == 0)
		cache_loader_failed(w->cache, a.id, &e);
	else
		cache_loader_loaded(w->cache, a.id, &info);
}

static void twenty_thousand_random_events_break_no_invariant(void **state)
{
	struct world w;
	struct random_waiter r[MAX_WAITERS] = {{0}};
	unsigned seed = 42;
	struct cache_totals t;

	(void)state;
	world_init(&w, 100 * (uint64_t)MIB);
	for (int i = 0; i < 20000; i++) {
		unsigned what = pick(&seed, 100);
		struct random_waiter *one = &r[pick(&seed, MAX_WAITERS)];

		if (what < 30) {
			random_ask(&w, one, &seed);
		} else if (what < 60) {
			random_drop(one);
		} else if (what < 85) {
			random_answer(&w, &seed);
		} else if (what < 99) {
			w.now_ms += pick(&seed, 3000);
		} else {
			w.nasked = 0;
			cache_loader_died(w.cache, "chance");
		}
		cache_run(w.cache);
		check_invariants(&w, r);
	}
	cache_totals(w.cache, &t);
	assert_true(t.loads > 500 && t.evictions > 100 &&
		    t.hits > 100); /* it did happen */
	for (int i = 0; i < MAX_WAITERS; i++)
		random_drop(&r[i]);
	world_fini(&w);
}

/* Everybody who waits is served in the end, when the loader answers and leases end. */
static void nobody_starves_behind_a_hot_model(void **state)
{
	struct world w;
	struct answer hot[2], cold;

	(void)state;
	world_init(&w, 100 * (uint64_t)MIB);
	ask(&w, &hot[0], model("hot", 60), 1000000);
	cache_run(w.cache);
	answer_load(&w, 60 * (uint64_t)MIB);
	ask(&w, &cold, model("cold", 60), 1000000);
	for (int i = 0; i < 100 && !cold.times; i++) {
		struct answer *old = &hot[i % 2], *new = &hot[(i + 1) % 2];

		ask(&w, new, model("hot", 60), 1000000); /* overlaps the one before */
		cache_run(w.cache);
		w.now_ms += 1000;
		cache_release(old->lease);
		old->lease = NULL;
		cache_run(w.cache);
		while (w.nasked) {
			if (w.asked[0].is_load)
				answer_load(&w, 60 * (uint64_t)MIB);
			else
				answer_unload(&w);
		}
	}
	assert_non_null(cold.lease);
	assert_true(w.now_ms < 1000 + 2 * CACHE_AGE_MS);
	cache_release(cold.lease);
	cache_close(w.cache, NULL, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_model_loaded_for_a_waiter_is_leased_in_the_same_step),
		cmocka_unit_test(
			the_oldest_idle_model_leaves_and_the_load_waits_until_it_has),
		cmocka_unit_test(
			a_leased_model_is_not_evicted_and_the_waiter_hears_so_in_time),
		cmocka_unit_test(a_busy_model_drains_for_one_who_has_waited_long),
		cmocka_unit_test(draining_ends_when_nobody_waits_for_the_room),
		cmocka_unit_test(a_model_over_the_whole_budget_is_refused_with_sizes),
		cmocka_unit_test(a_pinned_model_stays_and_the_other_is_refused_at_once),
		cmocka_unit_test(
			a_load_larger_than_promised_makes_others_leave_or_leaves_itself),
		cmocka_unit_test(a_guess_over_the_budget_does_not_refuse_a_file_below_it),
		cmocka_unit_test(a_corrupt_file_is_not_tried_again_until_it_changes),
		cmocka_unit_test(another_failure_is_tried_again_after_a_growing_pause),
		cmocka_unit_test(a_changed_file_drains_and_loads_anew),
		cmocka_unit_test(a_smaller_context_does_not_reload),
		cmocka_unit_test(when_the_engine_dies_leases_are_void_and_models_absent),
		cmocka_unit_test(
			a_model_that_kills_the_engine_while_loading_is_tried_once_more),
		cmocka_unit_test(loads_come_one_after_the_other),
		cmocka_unit_test(a_cancelled_waiter_is_never_called_and_the_load_is_kept),
		cmocka_unit_test(too_many_waiters_are_told_to_come_again),
		cmocka_unit_test(a_shrunk_budget_evicts_idle_models),
		cmocka_unit_test(stale_answers_are_ignored),
		cmocka_unit_test(twenty_thousand_random_events_break_no_invariant),
		cmocka_unit_test(nobody_starves_behind_a_hot_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
