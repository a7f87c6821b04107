/* The cache: each edge of its state machine, with fake loaders and a fake clock. */
#include "cache_world.h"

/* As warm(), where others may have to leave first. */
static void warm_beside(struct world *w, struct model m)
{
	struct answer a;

	ask(w, &a, m, 1000);
	cache_run(w->cache);
	while (!a.times && w->nasked) {
		if (w->asked[0].op == OP_UNLOAD)
			answer_unload(w);
		else
			answer_load(w, m.bytes);
	}
	assert_non_null(a.lease);
	give(w, &a);
}

static void warm_in(struct world *w, struct model m, double load_ms)
{
	struct cache_info info = info_of(m.bytes, 16);
	struct answer a;

	info.load_ms = load_ms;
	ask(w, &a, m, 1000);
	cache_run(w->cache);
	answer_load_as(w, &info);
	give(w, &a);
}

static void a_model_loaded_for_a_waiter_is_leased_in_the_same_step(void **state)
{
	struct world w;
	struct answer a, b;
	struct cache_row row;

	(void)state;
	world_init(&w, 100 * MIB);
	ask(&w, &a, model("m", 40), 1000);
	ask(&w, &b, model("m", 40), 1000);
	cache_run(w.cache);
	assert_int_equal(w.nasked, 1); /* one load for both */
	assert_int_equal(state_of(&w, "m"), CACHE_LOADING);
	answer_load(&w, 50 * MIB);
	assert_int_equal(a.times, 1);
	assert_non_null(a.lease);
	assert_non_null(b.lease);
	cache_row(w.cache, 0, &row);
	assert_int_equal(row.leases, 2);
	assert_int_equal(row.bytes, 50 * MIB);
	cache_release(a.lease);
	cache_release(b.lease);
	world_fini(&w);
}

static void the_oldest_idle_model_leaves_and_the_load_waits_until_it_has(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_init(&w, 100 * MIB);
	warm(&w, model("old", 40));
	warm(&w, model("new", 40));
	ask(&w, &a, model("third", 40), 1000);
	cache_run(w.cache);
	assert_int_equal(state_of(&w, "old"), CACHE_UNLOADING);
	assert_int_equal(state_of(&w, "new"), CACHE_READY);
	assert_int_equal(state_of(&w, "third"), CACHE_DISK);
	answer_unload(&w);
	assert_int_equal(state_of(&w, "third"), CACHE_LOADING);
	answer_load(&w, 40 * MIB);
	assert_non_null(a.lease);
	cache_release(a.lease);
	world_fini(&w);
}

static void a_leased_model_is_not_evicted_and_the_waiter_hears_so_in_time(void **state)
{
	struct world w;
	struct answer a, b;

	(void)state;
	world_init(&w, 100 * MIB);
	ask(&w, &a, model("busy", 60), 1000);
	cache_run(w.cache);
	answer_load(&w, 60 * MIB);
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
	world_init(&w, 100 * MIB);
	ask(&w, &a, model("busy", 60), 1000);
	cache_run(w.cache);
	answer_load(&w, 60 * MIB);
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
	answer_load(&w, 60 * MIB);
	assert_non_null(b.lease);
	cache_release(b.lease);
	cache_run(w.cache);
	answer_unload(&w);
	answer_load(&w, 60 * MIB);
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
	world_init(&w, 100 * MIB);
	ask(&w, &a, model("busy", 60), 1000);
	cache_run(w.cache);
	answer_load(&w, 60 * MIB);
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
	world_init(&w, 100 * MIB);
	ask(&w, &a, model("huge", 200), 1000);
	cache_run(w.cache);
	assert_int_equal(a.err.code, ERR_MEMORY);
	assert_non_null(strstr(a.err.text, "huge"));
	assert_text(
		a.err.text,
		"MiB, free 100.0 MiB, would evict 0.0 MiB; limit: the budget of 100.0 MiB");
	assert_int_equal(w.nasked, 0);
	world_fini(&w);
}

static void a_pinned_model_stays_and_the_other_is_refused_at_once(void **state)
{
	struct world w;
	struct answer a;
	struct model pinned = model("pinned", 60);

	(void)state;
	world_init(&w, 100 * MIB);
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
	world_init(&w, 100 * MIB);
	warm(&w, model("idle", 40));
	ask(&w, &a, model("fat", 40), 1000);
	cache_run(w.cache);
	answer_load(&w, 70 * MIB);
	assert_non_null(a.lease);
	assert_int_equal(state_of(&w, "idle"), CACHE_UNLOADING);
	answer_unload(&w);
	cache_release(a.lease);

	/* over the budget alone: it is unloaded again and refused by its measured size */
	ask(&w, &a, model("fatter", 40), 1000);
	cache_run(w.cache);
	answer_unload(&w);
	answer_load(&w, 120 * MIB);
	assert_int_equal(a.times, 0);
	answer_unload(&w);
	assert_int_equal(a.err.code, ERR_MEMORY);
	assert_int_equal(state_of(&w, "fatter"), CACHE_DISK);
	world_fini(&w);
}

static void a_guess_over_the_budget_does_not_refuse_a_file_below_it(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_init(&w, 100 * MIB);
	ask(&w, &a, model("tight", 95), 1000); /* times 1.1 it would not fit */
	cache_run(w.cache);
	answer_load(&w, 97 * MIB);
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
	world_init(&w, 100 * MIB);
	ask(&w, &a, m, 1000);
	cache_run(w.cache);
	fail_op(&w, OP_LOAD, ERR_CORRUPT, "tensor 3 ends beyond the file");
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
	answer_load(&w, 10 * MIB);
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
	world_init(&w, 100 * MIB);
	for (int i = 0, pause = CACHE_BACKOFF_MIN_MS; i < 3; i++, pause *= 2) {
		ask(&w, &a, m, 1000);
		cache_run(w.cache);
		assert_int_equal(w.loads, i + 1);
		fail_op(&w, OP_LOAD, ERR_IO, "read: Input/output error");
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

static void a_changed_file_is_another_instance_and_the_old_one_drains(void **state)
{
	struct world w;
	struct answer a, b;
	struct model m = model("m", 10);
	struct cache_row row;

	(void)state;
	world_init_with(&w, 100 * MIB, WITH_PARK, NULL);
	ask(&w, &a, m, 1000);
	cache_run(w.cache);
	answer_load(&w, 10 * MIB);
	m.mtime_ms = 5;
	ask(&w, &b, m, 1000);
	cache_run(w.cache);
	assert_int_equal(cache_count(w.cache), 2);
	cache_row(w.cache, 0, &row);
	assert_int_equal(row.state, CACHE_DRAINING);
	assert_int_equal(row.nnames, 0);
	answer_load(&w, 10 * MIB); /* beside the old one: there is room */
	assert_non_null(b.lease);
	assert_true(cache_lease_id(a.lease) != cache_lease_id(b.lease));
	give(&w, &a);
	assert_int_equal(w.parks, 0); /* nobody can ask for it again */
	answer_unload(&w);
	assert_int_equal(cache_count(w.cache), 1);
	cache_release(b.lease);
	world_fini(&w);
}

static void a_smaller_context_does_not_reload(void **state)
{
	struct world w;
	struct answer a;
	struct model m = model("m", 10);

	(void)state;
	world_init(&w, 100 * MIB);
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
	world_init(&w, 100 * MIB);
	ask(&w, &a, model("m", 10), 1000);
	cache_run(w.cache);
	answer_load(&w, 10 * MIB);
	cache_loader_died(w.cache, CACHE_ENGINE, "engine died (signal 9)");
	assert_false(cache_lease_valid(a.lease));
	cache_run(w.cache);
	cache_totals(w.cache, &t);
	assert_int_equal(t.used_bytes, 0);
	assert_int_equal(t.leases, 0);
	cache_release(a.lease);
	ask(&w, &b, model("m", 10), 1000);
	cache_run(w.cache);
	answer_load(&w, 10 * MIB);
	assert_true(cache_lease_valid(b.lease));
	cache_release(b.lease);
	world_fini(&w);
}

static void a_model_that_kills_the_engine_while_loading_is_tried_once_more(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_init(&w, 100 * MIB);
	ask(&w, &a, model("poison", 10), 60000);
	cache_run(w.cache);
	take(&w, 0);
	cache_loader_died(w.cache, CACHE_ENGINE, "engine died (signal 11)");
	cache_run(w.cache);
	assert_int_equal(w.loads, 2);
	assert_int_equal(a.times, 0);
	take(&w, 0);
	cache_loader_died(w.cache, CACHE_ENGINE, "engine died (signal 11)");
	cache_run(w.cache);
	assert_int_equal(w.loads, 2);
	assert_int_equal(a.err.code, ERR_UNAVAILABLE);
	assert_non_null(strstr(a.err.text, "signal 11"));
	world_fini(&w);
}

static void several_models_load_at_once_when_they_fit_but_four_at_most(void **state)
{
	static char *const names[] = {"a", "b", "c", "d", "e"};
	struct world w;
	struct answer a[5];

	(void)state;
	world_init(&w, 100 * MIB);
	for (int i = 0; i < 5; i++)
		ask(&w, &a[i], model(names[i], 10), 1000);
	cache_run(w.cache);
	assert_int_equal(w.nasked, CACHE_MAX_LOADS);
	answer_load(&w, 10 * MIB);
	assert_int_equal(w.loads, 5);
	for (int i = 1; i < 5; i++)
		answer_load(&w, 10 * MIB);
	for (int i = 0; i < 5; i++) {
		assert_non_null(a[i].lease);
		cache_release(a[i].lease);
	}
	world_fini(&w);
}

static void a_cancelled_waiter_is_never_called_and_the_load_is_kept(void **state)
{
	struct world w;
	struct answer a;
	struct cache_waiter *waiter;

	(void)state;
	world_init(&w, 100 * MIB);
	waiter = ask(&w, &a, model("m", 10), 1000);
	cache_run(w.cache);
	cache_cancel(waiter);
	answer_load(&w, 10 * MIB);
	assert_int_equal(a.times, 0);
	assert_int_equal(state_of(&w, "m"), CACHE_READY);
	assert_int_equal(cache_unload(w.cache, "m", false, NULL), 0);
	cache_run(w.cache);
	assert_int_equal(state_of(&w, "m"), CACHE_UNLOADING);
	world_fini(&w);
}

static void too_many_waiters_are_told_to_come_again(void **state)
{
	struct world w;
	static struct answer a[CACHE_MAX_WAITERS + 1];

	(void)state;
	world_init(&w, 100 * MIB);
	for (int i = 0; i <= CACHE_MAX_WAITERS; i++)
		ask(&w, &a[i], model("m", 10), 1000);
	cache_run(w.cache);
	assert_int_equal(a[CACHE_MAX_WAITERS].err.code, ERR_BUSY);
	assert_int_equal(a[0].times, 0);
	world_fini(&w);
	for (int i = 0; i < CACHE_MAX_WAITERS; i++) {
		assert_int_equal(a[i].times, 1);
		assert_int_equal(a[i].err.code, ERR_UNAVAILABLE);
	}
}

static void a_shrunk_budget_evicts_idle_models(void **state)
{
	struct world w;

	(void)state;
	world_init(&w, 100 * MIB);
	warm(&w, model("a", 40));
	warm(&w, model("b", 40));
	w.settings.budget_bytes = 50 * MIB;
	cache_set(w.cache, &w.settings);
	cache_run(w.cache);
	assert_int_equal(state_of(&w, "a"), CACHE_UNLOADING);
	assert_int_equal(state_of(&w, "b"), CACHE_READY);
	world_fini(&w);
}

static void stale_answers_are_ignored(void **state)
{
	struct world w;
	struct answer a;
	struct cache_info info = info_of(MIB, 16);
	struct err e;

	(void)state;
	world_init(&w, 100 * MIB);
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

/* ---- tiers */

static void an_evicted_model_is_parked_and_promoted_under_its_id(void **state)
{
	struct world w;
	struct answer a;
	struct cache_row row;
	struct cache_totals t;
	uint64_t id;

	(void)state;
	world_init_with(&w, 100 * MIB, WITH_PARK, NULL);
	w.settings.parked_budget_bytes = 200 * MIB;
	cache_set(w.cache, &w.settings);
	warm(&w, model("a", 60));
	ask(&w, &a, model("a", 60), 1000);
	cache_run(w.cache);
	id = cache_lease_id(a.lease);
	give(&w, &a);
	pass(&w, 3100);
	ask(&w, &a, model("b", 60), 1000);
	cache_run(w.cache);
	assert_int_equal(state_of(&w, "a"), CACHE_PARKING);
	assert_decided(&w, "a", DECIDE_PARK, "idle 3.1 s, least recently used");
	assert_decided(&w, "a", DECIDE_PARK, "makes room for 'b'");
	assert_int_equal(w.loads, 1); /* b waits until it is out */
	answer_park(&w, 55 * MIB);
	answer_load(&w, 60 * MIB);
	assert_decided(&w, "b", DECIDE_LOAD, "evicted 'a' (idle 3.1 s");
	give(&w, &a);
	assert_true(cache_find(w.cache, "a", &row));
	assert_int_equal(row.state, CACHE_PARKED);
	assert_int_equal(row.bytes, 0);
	assert_int_equal(row.parked_bytes, 55 * MIB);
	assert_string_equal(cache_tier_name(row.state), "parked");
	ask(&w, &a, model("a", 60), 1000);
	cache_run(w.cache);
	answer_park(&w, 60 * MIB);
	answer_load(&w, 60 * MIB);
	assert_int_equal(cache_lease_id(a.lease), id);
	assert_decided(&w, "a", DECIDE_READY, "promoted");
	cache_totals(w.cache, &t);
	assert_int_equal(t.promotions, 1);
	assert_int_equal(t.parks, 2);
	cache_release(a.lease);
	world_fini(&w);
}

static void parked_models_leave_by_age_when_their_budget_is_full(void **state)
{
	struct world w;

	(void)state;
	world_init_with(&w, 200 * MIB, WITH_PARK, NULL);
	w.settings.parked_budget_bytes = 50 * MIB;
	cache_set(w.cache, &w.settings);
	warm(&w, model("a", 20));
	warm(&w, model("b", 20));
	warm(&w, model("c", 20));
	warm(&w, model("large", 60));
	for (int i = 0; i < 2; i++) {
		cache_unload(w.cache, i ? "b" : "a", true, NULL);
		cache_run(w.cache);
		answer_park(&w, 20 * MIB);
	}
	cache_unload(w.cache, "c", true, NULL);
	cache_run(w.cache);
	assert_int_equal(state_of(&w, "a"), CACHE_UNLOADING);
	assert_int_equal(state_of(&w, "b"), CACHE_PARKED);
	assert_int_equal(state_of(&w, "c"), CACHE_PARKING);
	answer_park(&w, 20 * MIB);
	answer_unload(&w);
	w.settings.parked_budget_bytes = 30 * MIB; /* shrinks: the oldest goes */
	cache_set(w.cache, &w.settings);
	cache_run(w.cache);
	assert_int_equal(state_of(&w, "b"), CACHE_UNLOADING);
	assert_int_equal(state_of(&w, "c"), CACHE_PARKED);
	cache_unload(w.cache, "large", true, NULL); /* over the whole budget: to disk */
	cache_run(w.cache);
	assert_int_equal(state_of(&w, "large"), CACHE_UNLOADING);
	assert_int_equal(state_of(&w, "c"), CACHE_PARKED);
	w.settings.parked_budget_bytes = 0; /* nothing is parked any more */
	cache_set(w.cache, &w.settings);
	cache_run(w.cache);
	assert_int_equal(state_of(&w, "c"), CACHE_UNLOADING);
	world_fini(&w);
}

static void without_a_budget_or_a_way_to_park_a_model_is_unloaded(void **state)
{
	struct world w;

	(void)state;
	world_init_with(&w, 100 * MIB, WITH_PARK, NULL);
	w.settings.parked_budget_bytes = 0;
	cache_set(w.cache, &w.settings);
	warm(&w, model("a", 20));
	cache_unload(w.cache, "a", true, NULL);
	cache_run(w.cache);
	assert_int_equal(state_of(&w, "a"), CACHE_UNLOADING);
	world_fini(&w);
	world_init(&w, 100 * MIB);
	w.settings.parked_budget_bytes = 100 * MIB;
	cache_set(w.cache, &w.settings);
	warm(&w, model("a", 20));
	cache_unload(w.cache, "a", true, NULL);
	cache_run(w.cache);
	assert_int_equal(state_of(&w, "a"), CACHE_UNLOADING);
	world_fini(&w);
}

static void a_parked_model_can_be_unloaded_and_its_promotion_cancelled(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_init_with(&w, 100 * MIB, WITH_PARK, NULL);
	warm(&w, model("m", 20));
	cache_unload(w.cache, "m", true, NULL);
	cache_run(w.cache);
	answer_park(&w, 20 * MIB);
	ask(&w, &a, model("m", 20), 1000);
	cache_run(w.cache);
	assert_int_equal(state_of(&w, "m"), CACHE_LOADING);
	cache_unload(w.cache, "m", false, NULL);
	cache_run(w.cache);
	assert_int_equal(a.err.code, ERR_CANCELLED);
	answer_unload(&w);
	assert_int_equal(state_of(&w, "m"), CACHE_DISK);
	assert_int_equal(cache_unload(w.cache, "m", false, &a.err), -1);
	assert_int_equal(a.err.code, ERR_NOT_FOUND);
	warm(&w, model("m", 20));
	cache_unload(w.cache, "m", true, NULL);
	cache_run(w.cache);
	answer_park(&w, 20 * MIB);
	cache_unload(w.cache, "m", false, NULL);
	cache_run(w.cache);
	answer_unload(&w);
	assert_int_equal(state_of(&w, "m"), CACHE_DISK);
	world_fini(&w);
}

static void a_failed_promotion_is_a_failed_load(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_init_with(&w, 100 * MIB, WITH_PARK, NULL);
	warm(&w, model("m", 20));
	cache_unload(w.cache, "m", true, NULL);
	cache_run(w.cache);
	answer_park(&w, 20 * MIB);
	ask(&w, &a, model("m", 20), 1000);
	cache_run(w.cache);
	fail_op(&w, OP_LOAD, ERR_IO, "mmap");
	assert_int_equal(a.err.code, ERR_IO);
	assert_int_equal(state_of(&w, "m"), CACHE_FAILED);
	assert_int_equal(cache_unload(w.cache, "m", false, NULL), 0); /* forgets it */
	cache_run(w.cache);
	assert_int_equal(state_of(&w, "m"), CACHE_DISK);
	warm(&w, model("m", 20)); /* at once, the back-off is forgotten too */
	world_fini(&w);
}

/* ---- names, contexts, files */

static void two_names_of_one_file_are_one_instance(void **state)
{
	struct world w;
	struct answer a, b;
	struct model one = model("one", 10), two = model("two", 10);
	struct cache_row row;

	(void)state;
	world_init(&w, 100 * MIB);
	two.ino = one.ino;
	ask(&w, &a, one, 1000);
	ask(&w, &b, two, 1000);
	cache_run(w.cache);
	assert_int_equal(w.loads, 1);
	answer_load(&w, 10 * MIB);
	assert_int_equal(cache_lease_id(a.lease), cache_lease_id(b.lease));
	assert_true(cache_find(w.cache, "one", &row));
	assert_int_equal(row.nnames, 2);
	cache_release(a.lease);
	cache_release(b.lease);
	world_fini(&w);
}

static void a_larger_context_is_another_instance_that_shares_the_weights(void **state)
{
	struct world w;
	struct answer a, b;
	struct model m = model("m", 60), n = model("n", 60);
	struct cache_info info = {
		.sizes = {60 * MIB, 10 * MIB, 0}, .ctx = 16, .slots = 1};
	struct cache_row row;

	(void)state;
	world_init(&w, 100 * MIB);
	n.ino = m.ino;
	n.settings.ctx = 32;
	ask(&w, &a, m, 1000);
	cache_run(w.cache);
	answer_load_as(&w, &info);
	ask(&w, &b, n, 1000);
	cache_run(w.cache);
	info.ctx = 32;
	info.sizes.kv_bytes = 20 * MIB;
	answer_load_as(&w, &info);
	assert_non_null(a.lease);
	assert_non_null(b.lease);
	assert_int_equal(used(&w), 90 * MIB); /* the weights once */
	assert_true(cache_find(w.cache, "m", &row));
	assert_true(row.shared);
	give(&w, &a);
	ask(&w, &a, m, 1000); /* m leads to the smaller one as before */
	cache_run(w.cache);
	assert_int_equal(cache_lease_info(a.lease)->ctx, 16);
	give(&w, &a);
	m.settings.ctx = 32; /* now both names lead to the larger: the other goes */
	give(&w, &b);
	ask(&w, &a, m, 1000);
	cache_run(w.cache);
	assert_int_equal(cache_lease_info(a.lease)->ctx, 32);
	cache_run(w.cache);
	answer_unload(&w);
	assert_int_equal(used(&w), 80 * MIB);
	assert_int_equal(cache_count(w.cache), 1);
	cache_release(a.lease);
	world_fini(&w);
}

static void a_context_beyond_training_does_not_load_again(void **state)
{
	struct world w;
	struct answer a;
	struct model m = model("m", 10);
	struct cache_info info = info_of(10 * MIB, 24);

	(void)state;
	world_init(&w, 100 * MIB);
	info.ctx_train = 24;
	m.settings.ctx = 32;
	ask(&w, &a, m, 1000);
	cache_run(w.cache);
	answer_load_as(&w, &info);
	give(&w, &a);
	m.settings.ctx = 64;
	ask(&w, &a, m, 1000);
	cache_run(w.cache);
	assert_non_null(a.lease);
	assert_int_equal(w.loads, 1);
	cache_release(a.lease);
	world_fini(&w);
}

static void a_smaller_context_joins_a_load_under_way(void **state)
{
	struct world w;
	struct answer a, b;
	struct model m = model("m", 10);

	(void)state;
	world_init(&w, 100 * MIB);
	m.settings.ctx = 64;
	ask(&w, &a, m, 1000);
	cache_run(w.cache);
	m.settings.ctx = 32;
	ask(&w, &b, m, 1000);
	cache_run(w.cache);
	assert_int_equal(w.loads, 1);
	answer_load(&w, 10 * MIB);
	assert_int_equal(cache_lease_info(b.lease)->ctx, 64);
	cache_release(a.lease);
	cache_release(b.lease);
	world_fini(&w);
}

/* ---- probes, backends */

static void sizes_are_known_before_anybody_is_evicted(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_init_with(&w, 100 * MIB, WITH_PROBE, NULL);
	ask(&w, &a, model("a", 60), 1000);
	cache_run(w.cache);
	assert_int_equal(state_of(&w, "a"), CACHE_PROBING);
	answer_probe(&w, 60 * MIB, 10 * MIB);
	answer_load(&w, 70 * MIB);
	give(&w, &a);
	ask(&w, &a, model("b", 90), 1000); /* by its file it would not fit beside a */
	cache_run(w.cache);
	assert_int_equal(w.unloads, 0);
	answer_probe(&w, 20 * MIB, 10 * MIB);
	assert_int_equal(w.unloads, 0); /* by its header it does */
	assert_decided(&w, "b", DECIDE_LOAD, "from its header");
	answer_load(&w, 30 * MIB);
	give(&w, &a);
	ask(&w, &a, model("bad", 90), 1000);
	cache_run(w.cache);
	fail_op(&w, OP_PROBE, ERR_CORRUPT, "no GGUF");
	assert_int_equal(a.err.code, ERR_CORRUPT);
	ask(&w, &a, model("huge", 90), 1000);
	cache_run(w.cache);
	answer_probe(&w, 200 * MIB, 0);
	assert_int_equal(a.err.code, ERR_MEMORY);
	assert_text(a.err.text, "needs 200.0 MiB, free 0.0 MiB, would evict 100.0 MiB");
	cache_run(w.cache);
	assert_int_equal(w.unloads, 1); /* the probe is dropped, nobody was evicted */
	answer_unload(&w);
	assert_int_equal(used(&w), 100 * MIB);
	world_fini(&w);
}

static void a_probe_that_kills_the_engine_twice_has_failed(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_init_with(&w, 100 * MIB, WITH_PROBE, NULL);
	ask(&w, &a, model("m", 10), 60000);
	cache_run(w.cache);
	engine_dies(&w, "signal 11");
	assert_int_equal(w.probes, 2);
	engine_dies(&w, "signal 11");
	assert_int_equal(a.err.code, ERR_UNAVAILABLE);
	world_fini(&w);
}

static void what_the_engine_does_not_support_a_child_runs(void **state)
{
	struct world w;
	struct answer a;
	struct model m = model("m", 10);
	char *args[] = {"--flash-attn"};

	(void)state;
	world_init_with(&w, 100 * MIB, WITH_CHILD | WITH_PROBE, NULL);
	m.settings.args = args;
	m.settings.nargs = 1;
	ask(&w, &a, m, 1000);
	cache_run(w.cache);
	args[0] = NULL; /* the configuration may go meanwhile */
	fail_op(&w, OP_PROBE, ERR_UNSUPPORTED, "architecture 'mamba'");
	assert_int_equal(a.times, 0);
	assert_int_equal(w.asked[0].backend, CACHE_CHILD);
	assert_int_equal(w.asked[0].nargs, 1);
	assert_decided(&w, "m", DECIDE_FAIL, "llama-server tries");
	answer_load(&w, 10 * MIB);
	assert_int_equal(cache_lease_backend(a.lease), CACHE_CHILD);
	give(&w, &a);
	args[0] = "--flash-attn";
	ask(&w, &a, m, 1000); /* and it is remembered */
	cache_run(w.cache);
	assert_non_null(a.lease);
	cache_loader_gone(w.cache, cache_lease_id(a.lease), "exit 1");
	assert_false(cache_lease_valid(a.lease));
	cache_release(a.lease);
	cache_run(w.cache);
	assert_int_equal(state_of(&w, "m"), CACHE_DISK);
	m = model("only", 10);
	m.settings.backend = BACKEND_ENGINE;
	ask(&w, &a, m, 1000);
	cache_run(w.cache);
	fail_op(&w, OP_PROBE, ERR_UNSUPPORTED, "architecture 'mamba'");
	assert_int_equal(a.err.code, ERR_UNSUPPORTED);
	world_fini(&w);
}

static void a_backend_that_is_not_there_is_said(void **state)
{
	struct world w;
	struct answer a;
	struct model m = model("m", 10);

	(void)state;
	world_init(&w, 100 * MIB);
	m.settings.backend = BACKEND_LLAMA_SERVER;
	ask(&w, &a, m, 1000);
	cache_run(w.cache);
	assert_int_equal(a.err.code, ERR_UNAVAILABLE);
	assert_text(a.err.text, "llama-server");
	world_fini(&w);
}

static void a_backend_that_comes_later_gets_what_was_unsupported(void **state)
{
	struct world w;
	struct answer a;
	struct cache_loader child = {.load = child_load, .unload = fake_unload};

	(void)state;
	world_init(&w, 100 * MIB);
	ask(&w, &a, model("m", 10), 1000);
	cache_run(w.cache);
	fail_op(&w, OP_LOAD, ERR_UNSUPPORTED, "architecture 'mamba'");
	assert_int_equal(a.err.code, ERR_UNSUPPORTED);
	child.arg = &w;
	cache_set_loader(w.cache, CACHE_CHILD, &child);
	ask(&w, &a, model("m", 10), 1000);
	cache_run(w.cache);
	fail_op(&w, OP_LOAD, ERR_UNSUPPORTED, "architecture 'mamba'");
	answer_load(&w, 10 * MIB);
	assert_int_equal(cache_lease_backend(a.lease), CACHE_CHILD);
	give(&w, &a);
	world_fini(&w);
}

static void a_backend_that_was_taken_away_is_told_nothing(void **state)
{
	struct world w;

	(void)state;
	world_init(&w, 100 * MIB);
	warm(&w, model("m", 10));
	cache_set_loader(w.cache, CACHE_ENGINE, NULL);
	cache_unload(w.cache, "m", false, NULL);
	cache_run(w.cache);
	assert_int_equal(w.unloads, 0);
	world_fini(&w);
}

/* ---- policy as the cache uses it */

static void a_fresh_model_stays_twice_its_load(void **state)
{
	struct world w;
	struct answer a, b;
	struct cache_info info = info_of(60 * MIB, 16);

	(void)state;
	world_init(&w, 100 * MIB);
	info.load_ms = 400;
	ask(&w, &a, model("fresh", 60), 1000);
	cache_run(w.cache);
	answer_load_as(&w, &info);
	give(&w, &a);
	ask(&w, &b, model("other", 60), 9000);
	assert_int_equal(cache_run(w.cache), w.now_ms + 800);
	pass(&w, 799);
	assert_int_equal(w.unloads, 0);
	pass(&w, 1);
	answer_unload(&w);
	info.load_ms = CACHE_STAY_FLOOR_MS - 1; /* as cheap as that: not protected */
	answer_load_as(&w, &info);
	give(&w, &b);
	ask(&w, &a, model("fresh", 60), 9000);
	cache_run(w.cache);
	assert_int_equal(w.unloads, 2);
	world_fini(&w);
}

static void the_reserve_keeps_room_for_completion(void **state)
{
	struct world w;
	struct answer a;
	struct model fim = model("fim", 25);

	(void)state;
	world_init(&w, 100 * MIB);
	w.settings.reserve_completion_bytes = 30 * MIB;
	cache_set(w.cache, &w.settings);
	warm(&w, model("chat", 60));
	ask(&w, &a, model("huge", 80), 1000);
	cache_run(w.cache);
	assert_int_equal(a.err.code, ERR_MEMORY);
	assert_text(a.err.text, "the reserve for completion of 30.0 MiB");
	fim.settings.role = MODEL_COMPLETION;
	warm(&w, fim);
	assert_int_equal(w.unloads, 0);
	ask(&w, &a, model("chat2", 60), 1000);
	cache_run(w.cache);
	assert_int_equal(state_of(&w, "fim"), CACHE_READY); /* though it fits better */
	assert_int_equal(state_of(&w, "chat"), CACHE_UNLOADING);
	world_fini(&w);
}

static void other_programs_memory_is_not_ours(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_init(&w, 100 * MIB);
	w.free_bytes = 30 * MIB;
	ask(&w, &a, model("m", 40), 9000);
	cache_run(w.cache);
	assert_int_equal(a.err.code, ERR_MEMORY);
	assert_text(a.err.text, "free 30.0 MiB");
	assert_text(a.err.text, "the system's memory");
	w.free_bytes = 60 * MIB;
	warm(&w, model("m", 40));
	w.free_bytes = 10 * MIB;
	ask(&w, &a, model("n", 40), 9000); /* what m gives back counts */
	cache_run(w.cache);
	assert_int_equal(w.unloads, 1);
	w.free_bytes = 50 * MIB;
	answer_unload(&w);
	answer_load(&w, 40 * MIB);
	assert_non_null(a.lease);
	cache_release(a.lease);
	world_fini(&w);
}

static void what_loads_under_way_will_take_is_not_free(void **state)
{
	struct world w;
	struct answer a, b;

	(void)state;
	world_init(&w, 100 * MIB);
	w.free_bytes = 60 * MIB;
	ask(&w, &a, model("a", 30), 9000);
	ask(&w, &b, model("b", 30), 9000);
	cache_run(w.cache);
	assert_int_equal(w.loads, 1);
	assert_int_equal(b.times, 0);
	w.free_bytes = 45 * MIB;
	cache_loader_progress(w.cache, w.asked[0].id, 100, 100);
	answer_load(&w, 30 * MIB);
	assert_int_equal(w.loads, 2);
	cache_release(a.lease);
	world_fini(&w);
}

static void a_pin_by_command_wins_over_the_configuration(void **state)
{
	struct world w;
	struct answer a;
	struct model m = model("m", 60), pinned = model("p", 60);
	struct cache_row row;

	(void)state;
	world_init(&w, 100 * MIB);
	assert_int_equal(cache_pin(w.cache, &m, true, NULL), 0); /* before its load */
	warm(&w, m);
	ask(&w, &a, model("other", 60), 1000);
	cache_run(w.cache);
	assert_int_equal(a.err.code, ERR_MEMORY);
	assert_text(a.err.text, "pinned");
	assert_true(cache_find(w.cache, "m", &row));
	assert_true(row.pinned);
	cache_pin(w.cache, &m, false, NULL);
	pinned.settings.pinned = true;
	warm_beside(&w, pinned);
	cache_pin(w.cache, &pinned, false, NULL);
	ask(&w, &a, model("other", 60), 1000);
	cache_run(w.cache);
	assert_int_equal(state_of(&w, "p"), CACHE_UNLOADING);
	world_fini(&w);
}

static void gdsf_keeps_what_is_used_often(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_init(&w, 100 * MIB);
	w.settings.policy = POLICY_GDSF;
	cache_set(w.cache, &w.settings);
	warm_in(&w, model("often", 40), 30);
	for (int i = 0; i < 5; i++) {
		ask(&w, &a, model("often", 40), 1000);
		cache_run(w.cache);
		give(&w, &a);
	}
	w.now_ms += 1000;
	warm_in(&w, model("once", 40), 30);
	ask(&w, &a, model("new", 40), 1000);
	cache_run(w.cache);
	assert_int_equal(state_of(&w, "often"), CACHE_READY); /* LRU would take it */
	assert_int_equal(state_of(&w, "once"), CACHE_UNLOADING);
	assert_decided(&w, "once", DECIDE_UNLOAD, "lowest score");
	world_fini(&w);
}

/* ---- keep-alive */

static void the_latest_request_says_how_long_a_model_stays(void **state)
{
	struct world w;
	struct answer a;
	struct model m = model("m", 10);
	struct cache_want want;
	struct cache_row row;

	(void)state;
	world_init(&w, 100 * MIB);
	want = want_of(&w, &m, 0);
	m.settings.keep_alive_ms = 5000;
	warm(&w, m);
	cache_find(w.cache, "m", &row);
	assert_int_equal(row.keep_alive_ms, 5000);
	assert_int_equal(row.expires_ms, 4990);
	want.deadline_ms = w.now_ms + 1000;
	want.keep_alive_ms = -1; /* for ever */
	ask_as(&w, &a, &want);
	cache_run(w.cache);
	give(&w, &a);
	pass(&w, 3600000);
	assert_int_equal(state_of(&w, "m"), CACHE_READY);
	assert_int_equal(cache_keep_alive(w.cache, "m", 7200000, NULL), 0);
	assert_int_equal(cache_run(w.cache), w.now_ms + 3600000);
	want.deadline_ms = w.now_ms + 1000;
	want.keep_alive_ms = 0; /* leaves as soon as it is idle */
	ask_as(&w, &a, &want);
	cache_run(w.cache);
	assert_int_equal(state_of(&w, "m"), CACHE_READY);
	give(&w, &a);
	assert_int_equal(state_of(&w, "m"), CACHE_UNLOADING);
	assert_int_equal(cache_keep_alive(w.cache, "nobody", 0, &a.err), -1);
	world_fini(&w);
}

static void a_pinned_model_does_not_expire(void **state)
{
	struct world w;
	struct model m = model("m", 10);

	(void)state;
	world_init(&w, 100 * MIB);
	m.settings.keep_alive_ms = 5000;
	m.settings.pinned = true;
	warm(&w, m);
	pass(&w, 60000);
	assert_int_equal(state_of(&w, "m"), CACHE_READY);
	world_fini(&w);
}

/* ---- slots, classes, fairness, queues */

static struct cache_waiter *ask_class(struct world *w, struct answer *a,
				      const struct model *m, enum request_class class,
				      uint64_t client)
{
	struct cache_want want = want_of(w, m, 600000);

	want.class = class;
	want.client = client;
	return ask_as(w, a, &want);
}

static void higher_classes_get_slots_first_and_do_not_wait_for_lower(void **state)
{
	struct world w;
	struct answer batch[2], chat[2], fim;
	struct model m = model("m", 10);
	struct cache_info info = info_of(10 * MIB, 16);

	(void)state;
	world_init(&w, 100 * MIB);
	info.slots = 1;
	ask_class(&w, &batch[0], &m, CLASS_BATCH, 1);
	ask_class(&w, &chat[0], &m, CLASS_INTERACTIVE, 2);
	cache_run(w.cache);
	answer_load_as(&w, &info);
	assert_null(batch[0].lease); /* though it came first */
	assert_non_null(chat[0].lease);
	ask_class(&w, &chat[1], &m, CLASS_INTERACTIVE, 3);
	ask_class(&w, &fim, &m, CLASS_COMPLETION, 2);
	cache_run(w.cache);
	assert_null(chat[1].lease);
	assert_non_null(fim.lease); /* at once: the chat is paused by the engine */
	give(&w, &fim);
	assert_null(chat[1].lease);
	give(&w, &chat[0]);
	assert_non_null(chat[1].lease);
	assert_null(batch[0].lease);
	give(&w, &chat[1]);
	assert_non_null(batch[0].lease);
	ask_class(&w, &batch[1], &m, CLASS_BATCH, 1);
	ask_class(&w, &chat[0], &m, CLASS_INTERACTIVE, 2);
	cache_run(w.cache);
	assert_null(batch[1].lease);
	assert_non_null(chat[0].lease);
	give(&w, &batch[0]);
	give(&w, &chat[0]);
	give(&w, &batch[1]);
	world_fini(&w);
}

static void a_client_with_many_requests_does_not_shut_out_another(void **state)
{
	struct world w;
	struct answer greedy[6], other, third;
	struct model m = model("m", 10);
	struct cache_info info = info_of(10 * MIB, 16);

	(void)state;
	world_init(&w, 100 * MIB);
	info.slots = 2;
	for (int i = 0; i < 6; i++)
		ask_class(&w, &greedy[i], &m, CLASS_INTERACTIVE, 7);
	ask_class(&w, &other, &m, CLASS_INTERACTIVE, 8);
	cache_run(w.cache);
	answer_load_as(&w, &info);
	assert_non_null(greedy[0].lease);
	assert_null(greedy[1].lease);
	assert_non_null(other.lease); /* it has none yet */
	ask_class(&w, &third, &m, CLASS_INTERACTIVE, 9);
	give(&w, &other);
	assert_non_null(third.lease);
	ask_class(&w, &other, &m, CLASS_INTERACTIVE, 8);
	give(&w, &third);
	assert_non_null(other.lease); /* 7 holds one */
	ask_class(&w, &third, &m, CLASS_INTERACTIVE, 9);
	give(&w, &other);
	assert_non_null(third.lease);
	for (int i = 0; i < 6; i++)
		give(&w, &greedy[i]);
	give(&w, &third);
	for (int i = 0; i < 6; i++)
		give(&w, &greedy[i]);
	world_fini(&w);
}

static void among_equals_the_one_served_longest_ago_is_next(void **state)
{
	struct world w;
	struct answer a, b[2], c;
	struct model m = model("m", 10);
	struct cache_info info = info_of(10 * MIB, 16);

	(void)state;
	world_init(&w, 100 * MIB);
	info.slots = 1;
	ask_class(&w, &b[0], &m, CLASS_INTERACTIVE, 2);
	cache_run(w.cache);
	answer_load_as(&w, &info);
	ask_class(&w, &b[1], &m, CLASS_INTERACTIVE, 2);
	ask_class(&w, &c, &m, CLASS_INTERACTIVE, 3);
	ask_class(&w, &a, &m, CLASS_INTERACTIVE, 1);
	cache_run(w.cache);
	give(&w, &b[0]);
	assert_non_null(c.lease); /* never served, and came before a */
	give(&w, &c);
	assert_non_null(a.lease);
	give(&w, &a);
	assert_non_null(b[1].lease);
	give(&w, &b[1]);
	world_fini(&w);
}

static void a_full_queue_says_when_to_come_again(void **state)
{
	struct world w;
	struct answer a[4], late;
	struct model m = model("m", 10);
	struct cache_info info = info_of(10 * MIB, 16);
	struct cache_progress p;
	struct cache_waiter *waiter;

	(void)state;
	world_init(&w, 100 * MIB);
	w.settings.max_queue = 3;
	cache_set(w.cache, &w.settings);
	info.slots = 1;
	ask(&w, &a[0], m, 600000);
	cache_run(w.cache);
	answer_load_as(&w, &info);
	w.now_ms += 4000; /* that long a lease takes */
	give(&w, &a[0]);
	for (int i = 0; i < 4; i++) {
		waiter = ask(&w, &a[i], m, 600000);
		cache_run(w.cache);
	}
	cache_waiter_progress(waiter, &p);
	assert_int_equal(p.state, CACHE_READY);
	assert_int_equal(p.ahead, 2);
	ask(&w, &late, m, 600000);
	cache_run(w.cache);
	assert_int_equal(late.err.code, ERR_BUSY);
	assert_int_equal(late.err.retry_after_ms, 17000); /* 3 wait, 1 runs: 4 s each */
	for (int i = 0; i < 4; i++)
		give(&w, &a[i]);
	world_fini(&w);
}

static void a_waiter_for_a_slot_hears_by_its_deadline_why(void **state)
{
	struct world w;
	struct answer a, b;
	struct cache_info info = info_of(10 * MIB, 16);

	(void)state;
	world_init(&w, 100 * MIB);
	info.slots = 1;
	ask(&w, &a, model("m", 10), 1000);
	cache_run(w.cache);
	answer_load_as(&w, &info);
	ask(&w, &b, model("m", 10), 1000);
	pass(&w, 1000);
	assert_int_equal(b.err.code, ERR_TIMEOUT);
	assert_text(b.err.text, "1 slots were busy");
	cache_release(a.lease);
	world_fini(&w);
}

/* ---- preload, views */

static void on_preloaded(void *arg, const struct err *e)
{
	struct answer *a = arg;

	a->times++;
	if (e)
		a->err = *e;
}

static void a_preload_ends_with_a_ready_model_and_no_lease(void **state)
{
	struct world w;
	struct answer a = {0}, b = {0};
	struct model m = model("m", 10), huge = model("huge", 200);
	struct cache_want want;
	struct cache_totals t;

	(void)state;
	world_init(&w, 100 * MIB);
	want = want_of(&w, &m, 1000);
	cache_load(w.cache, &want, on_preloaded, &a);
	want.model = &huge;
	cache_load(w.cache, &want, on_preloaded, &b);
	cache_run(w.cache);
	assert_int_equal(b.err.code, ERR_MEMORY);
	answer_load(&w, 10 * MIB);
	assert_int_equal(a.times, 1);
	assert_int_equal(a.err.code, 0);
	assert_int_equal(state_of(&w, "m"), CACHE_READY);
	cache_totals(w.cache, &t);
	assert_int_equal(t.leases, 0);
	world_fini(&w);
}

struct ears {
	struct cache_listener l;
	int decided, moved, used;
	enum cache_state last;
	struct cache_use use;
};

static void on_decided(struct cache_listener *l, const struct decision *d)
{
	assert_int_equal(d->n, ++((struct ears *)l)->decided);
}

static void on_moved(struct cache_listener *l, const struct cache_row *row,
		     enum cache_state from)
{
	struct ears *e = (struct ears *)l;

	assert_int_equal(from, e->last);
	e->last = row->state;
	e->moved++;
}

static void on_used(struct cache_listener *l, const struct cache_use *u)
{
	struct ears *e = (struct ears *)l;

	e->used++;
	e->use = *u;
}

static void listeners_hear_of_decisions_moves_and_uses(void **state)
{
	struct world w;
	struct answer a;
	struct ears e = {
		.l = {.decided = on_decided, .moved = on_moved, .used = on_used}};
	struct decision d[2];

	(void)state;
	world_init(&w, 100 * MIB);
	cache_listen(w.cache, &e.l);
	ask(&w, &a, model("m", 10), 1000);
	cache_run(w.cache);
	assert_int_equal(e.last, CACHE_LOADING);
	w.now_ms += 300;
	answer_load(&w, 12 * MIB);
	assert_int_equal(e.last, CACHE_READY);
	w.now_ms += 200;
	give(&w, &a);
	assert_int_equal(e.used, 1);
	assert_int_equal(e.use.outcome, ERR_NONE);
	assert_false(e.use.hit);
	assert_true(e.use.waited_ms == 300 && e.use.held_ms == 200);
	assert_int_equal(e.use.sizes.weights_bytes, 12 * MIB);
	assert_int_equal(cache_decisions(w.cache, "m", d, 2), 2);
	assert_int_equal(d[0].kind, DECIDE_READY); /* newest first */
	assert_int_equal(d[0].actual_bytes, 12 * MIB);
	assert_true(d[0].predicted_bytes > 10 * MIB);
	assert_int_equal(d[1].kind, DECIDE_LOAD);
	assert_int_equal(cache_decisions(w.cache, "nobody", d, 2), 0);
	cache_unlisten(w.cache, &e.l);
	ask(&w, &a, model("huge", 1000), 1000);
	cache_run(w.cache);
	assert_int_equal(e.decided, 2);
	assert_int_equal(e.used, 1);
	world_fini(&w);
}

static void only_the_last_decisions_are_kept(void **state)
{
	struct world w;
	struct answer a;
	static struct decision d[CACHE_DECISIONS + 10];

	(void)state;
	world_init(&w, 100 * MIB);
	for (int i = 0; i < 300; i++) {
		ask(&w, &a, model("huge", 1000), 1000);
		cache_run(w.cache);
	}
	assert_int_equal(cache_decisions(w.cache, NULL, d, CACHE_DECISIONS + 10),
			 CACHE_DECISIONS);
	assert_int_equal(d[0].n, 300);
	world_fini(&w);
}

static void more_names_and_models_than_the_tables_hold_are_forgotten(void **state)
{
	struct world w;
	struct answer a;
	char name[16];

	(void)state;
	world_init(&w, 100 * MIB);
	for (int i = 0; i < 3000; i++) {
		struct model m;

		snprintf(name, sizeof name, "m%d", i);
		m = model(name, 1000);
		ask(&w, &a, m, 1000);
		cache_run(w.cache);
		assert_int_equal(a.err.code, ERR_MEMORY);
	}
	assert_true(cache_count(w.cache) <= POLICY_MAX_ENTRIES);
	warm(&w, model("last", 10));
	world_fini(&w);
}

static void what_was_measured_is_known_after_a_restart(void **state)
{
	struct world w;
	struct answer a;
	struct ledger *l = ledger_new(NULL, NULL);
	struct model m = model("m", 10);
	struct cache_info info = info_of(55 * MIB, 16);

	(void)state;
	world_init_with(&w, 100 * MIB, WITH_PROBE, l);
	ask(&w, &a, m, 1000);
	cache_run(w.cache);
	answer_probe(&w, 10 * MIB, 0);
	info.sizes.kv_bytes = 5 * MIB;
	info.load_ms = 123;
	answer_load_as(&w, &info);
	cache_release(a.lease);
	world_fini(&w);
	world_init_with(&w, 100 * MIB, WITH_PROBE, l);
	ask(&w, &a, m, 1000);
	cache_run(w.cache);
	assert_int_equal(w.probes, 0); /* nothing to ask */
	assert_decided(&w, "m", DECIDE_LOAD, "needs 60.0 MiB (measured before)");
	m.mtime_ms++;
	ask(&w, &a, m, 1000);
	cache_run(w.cache);
	assert_int_equal(w.probes, 1); /* another file */
	world_fini(&w);
	ledger_close(l, NULL, NULL);
}

/* Everybody who waits is served in the end, when the loader answers and leases end. */
static void nobody_starves_behind_a_hot_model(void **state)
{
	struct world w;
	struct answer hot[2], cold;

	(void)state;
	world_init(&w, 100 * MIB);
	ask(&w, &hot[0], model("hot", 60), 1000000);
	cache_run(w.cache);
	answer_load(&w, 60 * MIB);
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
			if (w.asked[0].op == OP_LOAD)
				answer_load(&w, 60 * MIB);
			else
				answer_unload(&w);
		}
	}
	assert_non_null(cold.lease);
	assert_true(w.now_ms < 1000 + 2 * CACHE_AGE_MS);
	cache_release(cold.lease);
	world_fini(&w);
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
		cmocka_unit_test(
			a_changed_file_is_another_instance_and_the_old_one_drains),
		cmocka_unit_test(a_smaller_context_does_not_reload),
		cmocka_unit_test(when_the_engine_dies_leases_are_void_and_models_absent),
		cmocka_unit_test(
			a_model_that_kills_the_engine_while_loading_is_tried_once_more),
		cmocka_unit_test(
			several_models_load_at_once_when_they_fit_but_four_at_most),
		cmocka_unit_test(a_cancelled_waiter_is_never_called_and_the_load_is_kept),
		cmocka_unit_test(too_many_waiters_are_told_to_come_again),
		cmocka_unit_test(a_shrunk_budget_evicts_idle_models),
		cmocka_unit_test(stale_answers_are_ignored),
		cmocka_unit_test(an_evicted_model_is_parked_and_promoted_under_its_id),
		cmocka_unit_test(parked_models_leave_by_age_when_their_budget_is_full),
		cmocka_unit_test(without_a_budget_or_a_way_to_park_a_model_is_unloaded),
		cmocka_unit_test(
			a_parked_model_can_be_unloaded_and_its_promotion_cancelled),
		cmocka_unit_test(a_failed_promotion_is_a_failed_load),
		cmocka_unit_test(two_names_of_one_file_are_one_instance),
		cmocka_unit_test(
			a_larger_context_is_another_instance_that_shares_the_weights),
		cmocka_unit_test(a_context_beyond_training_does_not_load_again),
		cmocka_unit_test(a_smaller_context_joins_a_load_under_way),
		cmocka_unit_test(sizes_are_known_before_anybody_is_evicted),
		cmocka_unit_test(a_probe_that_kills_the_engine_twice_has_failed),
		cmocka_unit_test(what_the_engine_does_not_support_a_child_runs),
		cmocka_unit_test(a_backend_that_is_not_there_is_said),
		cmocka_unit_test(a_backend_that_comes_later_gets_what_was_unsupported),
		cmocka_unit_test(a_backend_that_was_taken_away_is_told_nothing),
		cmocka_unit_test(a_fresh_model_stays_twice_its_load),
		cmocka_unit_test(the_reserve_keeps_room_for_completion),
		cmocka_unit_test(other_programs_memory_is_not_ours),
		cmocka_unit_test(what_loads_under_way_will_take_is_not_free),
		cmocka_unit_test(a_pin_by_command_wins_over_the_configuration),
		cmocka_unit_test(gdsf_keeps_what_is_used_often),
		cmocka_unit_test(the_latest_request_says_how_long_a_model_stays),
		cmocka_unit_test(a_pinned_model_does_not_expire),
		cmocka_unit_test(
			higher_classes_get_slots_first_and_do_not_wait_for_lower),
		cmocka_unit_test(a_client_with_many_requests_does_not_shut_out_another),
		cmocka_unit_test(among_equals_the_one_served_longest_ago_is_next),
		cmocka_unit_test(a_full_queue_says_when_to_come_again),
		cmocka_unit_test(a_waiter_for_a_slot_hears_by_its_deadline_why),
		cmocka_unit_test(a_preload_ends_with_a_ready_model_and_no_lease),
		cmocka_unit_test(listeners_hear_of_decisions_moves_and_uses),
		cmocka_unit_test(only_the_last_decisions_are_kept),
		cmocka_unit_test(
			more_names_and_models_than_the_tables_hold_are_forgotten),
		cmocka_unit_test(what_was_measured_is_known_after_a_restart),
		cmocka_unit_test(nobody_starves_behind_a_hot_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
