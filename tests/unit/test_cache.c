/* The cache: each edge of its state machine, with fake loaders and a fake clock. */
#include "cache_world.h"

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
		cmocka_unit_test(nobody_starves_behind_a_hot_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
