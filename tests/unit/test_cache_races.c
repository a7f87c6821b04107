/* The races that other routers shipped, by name: two things at once, in both orders. */
#include "cache_world.h"

/* ---- those of the plan */

static void stop_during_load(void **state)
{
	struct world w;
	struct answer a, later;

	(void)state;
	world_init(&w, 100 * MIB);
	ask(&w, &a, model("m", 10), 9000);
	cache_run(w.cache);
	assert_int_equal(cache_unload(w.cache, "m", false, NULL), 0);
	cache_run(w.cache);
	assert_int_equal(a.err.code, ERR_CANCELLED);
	assert_text(a.err.text, "unload command");
	assert_int_equal(state_of(&w, "m"), CACHE_CANCELLING);
	assert_true(used(&w) > 0); /* until the loader answered */
	ask(&w, &later, model("m", 10), 9000);
	cache_run(w.cache);
	assert_int_equal(w.loads, 1); /* not beside the one that ends */
	answer_unload(&w);
	assert_int_equal(w.loads, 2);
	answer_load(&w, 10 * MIB);
	assert_non_null(later.lease);
	cache_release(later.lease);
	world_fini(&w);
}

static void a_load_that_ends_as_it_is_cancelled(void **state)
{
	struct cache_info info = info_of(10 * MIB, 16);
	struct world w;
	struct answer a;
	struct asked load;

	(void)state;
	world_init(&w, 100 * MIB);
	ask(&w, &a, model("m", 10), 9000);
	cache_run(w.cache);
	load = w.asked[0];
	cache_unload(w.cache, "m", false, NULL);
	cache_run(w.cache);
	cache_loader_loaded(w.cache, load.id, &info); /* it was under way */
	cache_run(w.cache);
	assert_int_equal(state_of(&w, "m"), CACHE_CANCELLING);
	assert_null(a.lease);
	answer_unload(&w);
	assert_int_equal(state_of(&w, "m"), CACHE_DISK);
	assert_int_equal(used(&w), 0);
	world_fini(&w);
}

static void load_during_stop(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_init(&w, 100 * MIB);
	warm(&w, model("m", 10));
	cache_unload(w.cache, "m", false, NULL);
	cache_run(w.cache);
	assert_int_equal(state_of(&w, "m"), CACHE_UNLOADING);
	ask(&w, &a, model("m", 10), 9000);
	cache_run(w.cache);
	assert_int_equal(w.loads, 1);
	answer_unload(&w);
	answer_load(&w, 10 * MIB);
	assert_non_null(a.lease);
	cache_release(a.lease);
	world_fini(&w);
}

static void load_during_parking(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_init_with(&w, 100 * MIB, WITH_PARK, NULL);
	warm(&w, model("m", 10));
	cache_unload(w.cache, "m", true, NULL);
	cache_run(w.cache);
	assert_int_equal(state_of(&w, "m"), CACHE_PARKING);
	ask(&w, &a, model("m", 10), 9000);
	cache_run(w.cache);
	assert_int_equal(w.loads, 1);
	answer_park(&w, 10 * MIB);
	assert_int_equal(state_of(&w, "m"), CACHE_LOADING); /* the same id, see at[] */
	answer_load(&w, 10 * MIB);
	assert_non_null(a.lease);
	cache_release(a.lease);
	world_fini(&w);
}

static void evict_while_busy(void **state)
{
	struct world w;
	struct answer a, b;

	(void)state;
	world_init(&w, 100 * MIB);
	ask(&w, &a, model("busy", 60), 1000);
	cache_run(w.cache);
	answer_load(&w, 60 * MIB);
	ask(&w, &b, model("other", 60), 60000);
	cache_run(w.cache);
	assert_int_equal(cache_unload(w.cache, "busy", false, NULL), 0);
	cache_run(w.cache);
	assert_int_equal(state_of(&w, "busy"), CACHE_DRAINING);
	assert_true(cache_lease_valid(a.lease)); /* nobody is cut off */
	give(&w, &a);
	answer_unload(&w);
	answer_load(&w, 60 * MIB);
	assert_non_null(b.lease);
	cache_release(b.lease);
	world_fini(&w);
}

static void crash_during_load(void **state)
{
	struct world w;
	struct answer poison, innocent;

	(void)state;
	world_init(&w, 100 * MIB);
	ask(&w, &poison, model("poison", 10), 60000);
	ask(&w, &innocent, model("innocent", 10), 60000);
	cache_run(w.cache);
	assert_int_equal(w.nasked, 2);
	engine_dies(&w, "engine died (signal 11)");
	assert_int_equal(w.nasked, 1); /* now one by one, to find who it was */
	engine_dies(&w, "engine died (signal 11)");
	assert_int_equal(poison.err.code, ERR_UNAVAILABLE);
	assert_text(poison.err.text, "signal 11");
	assert_int_equal(innocent.times, 0);
	answer_load(&w, 10 * MIB);
	assert_non_null(innocent.lease);
	cache_release(innocent.lease);
	world_fini(&w);
}

static void crash_while_leased_draining_parking_and_parked(void **state)
{
	struct world w;
	struct answer a, b;

	(void)state;
	world_init_with(&w, 100 * MIB, WITH_PARK, NULL);
	warm(&w, model("parked", 10));
	cache_unload(w.cache, "parked", true, NULL);
	cache_run(w.cache);
	answer_park(&w, 10 * MIB);
	warm(&w, model("parking", 10));
	cache_unload(w.cache, "parking", true, NULL);
	ask(&w, &a, model("draining", 10), 1000);
	ask(&w, &b, model("leased", 10), 1000);
	cache_run(w.cache);
	answer_load(&w, 10 * MIB);
	answer_load(&w, 10 * MIB);
	cache_unload(w.cache, "draining", false, NULL);
	cache_run(w.cache);
	assert_int_equal(state_of(&w, "parking"), CACHE_PARKING);
	assert_int_equal(state_of(&w, "draining"), CACHE_DRAINING);
	engine_dies(&w, "signal 9");
	assert_int_equal(used(&w), 0);
	assert_int_equal(state_of(&w, "parked"), CACHE_DISK);
	assert_int_equal(state_of(&w, "parking"), CACHE_DISK);
	assert_int_equal(state_of(&w, "draining"), CACHE_DISK);
	assert_int_equal(state_of(&w, "leased"), CACHE_DISK);
	assert_false(cache_lease_valid(a.lease));
	assert_false(cache_lease_valid(b.lease));
	cache_release(a.lease);
	cache_release(b.lease);
	world_fini(&w);
}

static void reload_of_the_configuration_during_load(void **state)
{
	struct world w;
	struct answer a, b;
	struct model m = model("m", 10);

	(void)state;
	world_init(&w, 100 * MIB);
	m.settings.ctx = 16;
	ask(&w, &a, m, 9000);
	cache_run(w.cache);
	w.settings.budget_bytes = 50 * MIB;
	w.settings.policy = POLICY_GDSF;
	cache_set(w.cache, &w.settings);
	cache_run(w.cache);
	assert_int_equal(w.unloads, 0); /* an unchanged model is not restarted */
	m.settings.ctx = 32;            /* a changed one is another instance */
	ask(&w, &b, m, 9000);
	cache_run(w.cache);
	assert_int_equal(w.loads, 2);
	answer_load(&w, 10 * MIB);
	assert_non_null(a.lease); /* who waited for the old one gets it */
	answer_load(&w, 10 * MIB);
	assert_non_null(b.lease);
	give(&w, &a);
	assert_int_equal(w.unloads, 1); /* and then no name leads to it */
	cache_release(b.lease);
	world_fini(&w);
}

static void the_budget_shrinks_below_a_load_under_way(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_init(&w, 100 * MIB);
	ask(&w, &a, model("m", 60), 9000);
	cache_run(w.cache);
	w.settings.budget_bytes = 50 * MIB;
	cache_set(w.cache, &w.settings);
	cache_run(w.cache);
	answer_load(&w, 60 * MIB);
	answer_unload(&w);
	assert_int_equal(a.err.code, ERR_MEMORY);
	world_fini(&w);
}

static void two_waiters_wanting_two_victims(void **state)
{
	struct world w;
	struct answer a, b;

	(void)state;
	world_init(&w, 100 * MIB);
	warm(&w, model("x", 45));
	warm(&w, model("y", 45));
	ask(&w, &a, model("a", 40), 9000);
	ask(&w, &b, model("b", 40), 9000);
	cache_run(w.cache);
	assert_int_equal(w.unloads, 2); /* one each, not both for the first */
	answer_unload(&w);
	answer_unload(&w);
	answer_load(&w, 40 * MIB);
	answer_load(&w, 40 * MIB);
	assert_non_null(a.lease);
	assert_non_null(b.lease);
	cache_release(a.lease);
	cache_release(b.lease);
	world_fini(&w);
}

static void two_waiters_wanting_one_victim(void **state)
{
	struct world w;
	struct answer a, b;

	(void)state;
	world_init(&w, 100 * MIB);
	warm(&w, model("x", 90));
	ask(&w, &a, model("a", 30), 9000);
	ask(&w, &b, model("b", 30), 9000);
	cache_run(w.cache);
	assert_int_equal(w.unloads, 1);
	answer_unload(&w);
	answer_load(&w, 30 * MIB);
	answer_load(&w, 30 * MIB);
	assert_non_null(a.lease);
	assert_non_null(b.lease);
	cache_release(a.lease);
	cache_release(b.lease);
	world_fini(&w);
}

static void two_that_are_larger_than_promised_arrive_together(void **state)
{
	struct world w;
	struct answer a, b;
	struct cache_info info = info_of(70 * MIB, 16);
	struct asked one, two;

	(void)state;
	world_init(&w, 100 * MIB);
	ask(&w, &a, model("a", 40), 9000);
	ask(&w, &b, model("b", 40), 9000);
	cache_run(w.cache);
	one = take(&w, 0);
	two = take(&w, 0);
	w.at[one.id] = w.at[two.id] = AT_LOADED;
	cache_loader_loaded(w.cache, one.id, &info);
	cache_loader_loaded(w.cache, two.id, &info);
	assert_int_equal(w.nasked, 0); /* nothing is decided outside a turn */
	cache_run(w.cache);
	assert_int_equal(w.unloads, 1); /* one gives way, one is served */
	assert_true(!a.lease != !b.lease);
	give(&w, a.lease ? &a : &b);
	answer_unload(&w);
	answer_unload(&w);
	answer_load(&w, 70 * MIB);
	assert_int_equal(a.times + b.times, 2);
	give(&w, &a);
	give(&w, &b);
	world_fini(&w);
}

static void client_gone_while_queued(void **state)
{
	struct world w;
	struct answer a, gone, after;
	struct cache_waiter *waiter;

	(void)state;
	world_init(&w, 100 * MIB);
	ask(&w, &a, model("busy", 60), 1000);
	cache_run(w.cache);
	answer_load(&w, 60 * MIB);
	waiter = ask(&w, &gone, model("other", 60), 60000);
	ask(&w, &after, model("busy", 60), 60000);
	pass(&w, CACHE_AGE_MS);
	give(&w, &after);
	ask(&w, &after, model("busy", 60), 60000);
	cache_cancel(waiter);
	cache_run(w.cache);
	assert_int_equal(gone.times, 0);
	assert_int_equal(w.loads, 1); /* nothing is loaded for who has left */
	assert_non_null(after.lease);
	assert_true(cache_lease_valid(a.lease)); /* and nobody else is hit */
	cache_release(a.lease);
	cache_release(after.lease);
	world_fini(&w);
}

static void client_gone_between_answer_and_callback(void **state)
{
	struct world w;
	struct answer a;
	struct cache_waiter *waiter;
	struct cache_totals t;

	(void)state;
	world_init(&w, 100 * MIB);
	warm(&w, model("m", 10));
	waiter = ask(&w, &a, model("m", 10), 1000);
	cache_cancel(waiter);
	cache_run(w.cache);
	cache_totals(w.cache, &t);
	assert_int_equal(t.leases, 0);
	assert_int_equal(a.times, 0);
	world_fini(&w);
}

static void request_arriving_as_the_ttl_fires(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_init_with(&w, 100 * MIB, WITH_PARK, NULL);
	w.settings.keep_alive_ms = 5000;
	cache_set(w.cache, &w.settings);
	warm(&w, model("m", 10));
	w.now_ms += 60000; /* due long ago, and nothing ran since */
	ask(&w, &a, model("m", 10), 1000);
	cache_run(w.cache);
	assert_non_null(a.lease);
	assert_int_equal(w.parks, 0);
	give(&w, &a);
	pass(&w, 4999);
	assert_int_equal(w.parks, 0);
	pass(&w, 1);
	assert_int_equal(w.parks, 1);
	assert_decided(&w, "m", DECIDE_EXPIRE, "keep-alive");
	world_fini(&w);
}

/* ---- llama.cpp's router, llama-swap, Ollama, LM Studio */

static void a_just_loaded_model_is_not_evicted_before_its_first_request(void **state)
{
	struct world w;
	struct answer a, b;

	(void)state;
	world_init(&w, 100 * MIB);
	ask(&w, &a, model("a", 60), 9000);
	ask(&w, &b, model("b", 60), 9000); /* would take its room at once */
	cache_run(w.cache);
	answer_load(&w, 60 * MIB);
	assert_non_null(a.lease);
	assert_true(cache_lease_valid(a.lease));
	assert_int_equal(w.unloads, 0);
	give(&w, &a);
	answer_unload(&w);
	answer_load(&w, 60 * MIB);
	assert_non_null(b.lease);
	cache_release(b.lease);
	world_fini(&w);
}

static void a_crash_ends_the_wait_for_its_memory(void **state)
{
	struct world w;
	struct answer b;

	(void)state;
	world_init(&w, 100 * MIB);
	warm(&w, model("a", 60));
	ask(&w, &b, model("b", 60), 9000);
	cache_run(w.cache);
	assert_int_equal(state_of(&w, "a"), CACHE_UNLOADING);
	engine_dies(&w, "signal 9"); /* the answer to unload never comes */
	assert_int_equal(w.nasked, 1);
	answer_load(&w, 60 * MIB);
	assert_non_null(b.lease);
	cache_release(b.lease);
	world_fini(&w);
}

static void unload_while_the_ttl_fires_and_a_request_arrives(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_init(&w, 100 * MIB);
	w.settings.keep_alive_ms = 100;
	cache_set(w.cache, &w.settings);
	warm(&w, model("m", 10));
	w.now_ms += 200;
	ask(&w, &a, model("m", 10), 9000);
	cache_unload(w.cache, "m", false, NULL);
	cache_unload(w.cache, "m", false, NULL); /* twice is once */
	cache_run(w.cache);
	assert_int_equal(w.unloads, 1);
	answer_unload(&w);
	answer_load(&w, 10 * MIB);
	assert_non_null(a.lease);
	cache_release(a.lease);
	world_fini(&w);
}

static void fast_switching_between_small_models_hangs_nobody(void **state)
{
	static char *const names[] = {"a", "b", "c", "d"};
	struct world w;
	struct answer a[40];

	(void)state;
	world_init_with(&w, 25 * MIB, WITH_PARK, NULL);
	for (int i = 0; i < 40; i++) {
		ask(&w, &a[i], model(names[i % 4], 10), 3600000);
		cache_run(w.cache);
	}
	for (int step = 0; step < 1000; step++) {
		struct asked *first = &w.asked[0];

		if (w.nasked && first->op == OP_LOAD)
			answer_load(&w, 10 * MIB);
		else if (w.nasked && first->op == OP_PARK)
			answer_park(&w, 10 * MIB);
		else if (w.nasked)
			answer_unload(&w);
		for (int i = 0; i < 40; i++)
			if (a[i].lease)
				give(&w, &a[i]);
		pass(&w, 20);
	}
	for (int i = 0; i < 40; i++) {
		assert_int_equal(a[i].times, 1);
		assert_int_equal(a[i].err.code, 0);
	}
	world_fini(&w);
}

static void a_name_that_changes_its_file_while_waiting(void **state)
{
	struct world w;
	struct answer a, b;
	struct model m = model("m", 10);

	(void)state;
	world_init(&w, 100 * MIB);
	ask(&w, &a, m, 9000);
	cache_run(w.cache);
	m.mtime_ms++;
	ask(&w, &b, m, 9000);
	cache_run(w.cache);
	fail_op(&w, OP_LOAD, ERR_IO, "the file is gone"); /* of the old one */
	assert_int_equal(a.err.code, ERR_IO);
	assert_int_equal(b.times, 0);
	answer_load(&w, 10 * MIB);
	assert_non_null(b.lease);
	cache_release(b.lease);
	world_fini(&w);
}

static void a_load_that_nobody_wants_any_more_gives_way(void **state)
{
	struct world w;
	struct answer a, b;
	struct cache_waiter *waiter;

	(void)state;
	world_init(&w, 100 * MIB);
	waiter = ask(&w, &a, model("slow", 60), 9000);
	cache_run(w.cache);
	ask(&w, &b, model("other", 60), 9000);
	cache_run(w.cache);
	assert_int_equal(w.unloads, 0);
	cache_cancel(waiter);
	cache_run(w.cache);
	assert_int_equal(state_of(&w, "slow"), CACHE_CANCELLING);
	assert_decided(&w, "slow", DECIDE_CANCEL, "nobody waits for it");
	answer_unload(&w);
	answer_load(&w, 60 * MIB);
	assert_non_null(b.lease);
	cache_release(b.lease);
	world_fini(&w);
}

static void the_daemon_stops_in_the_middle_of_everything(void **state)
{
	struct world w;
	struct answer a, b, c;

	(void)state;
	world_init_with(&w, 100 * MIB, WITH_PARK | WITH_PROBE, NULL);
	ask(&w, &a, model("probed", 10), 9000);
	cache_run(w.cache);
	answer_probe(&w, 10 * MIB, MIB);
	ask(&w, &b, model("probing", 10), 9000);
	cache_run(w.cache);
	ask(&w, &c, model("asked", 10), 9000);
	world_fini(&w);
	assert_int_equal(a.err.code, ERR_UNAVAILABLE);
	assert_int_equal(b.err.code, ERR_UNAVAILABLE);
	assert_int_equal(c.err.code, ERR_UNAVAILABLE);
	assert_int_equal(a.times + b.times + c.times, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stop_during_load),
		cmocka_unit_test(a_load_that_ends_as_it_is_cancelled),
		cmocka_unit_test(load_during_stop),
		cmocka_unit_test(load_during_parking),
		cmocka_unit_test(evict_while_busy),
		cmocka_unit_test(crash_during_load),
		cmocka_unit_test(crash_while_leased_draining_parking_and_parked),
		cmocka_unit_test(reload_of_the_configuration_during_load),
		cmocka_unit_test(the_budget_shrinks_below_a_load_under_way),
		cmocka_unit_test(two_waiters_wanting_two_victims),
		cmocka_unit_test(two_waiters_wanting_one_victim),
		cmocka_unit_test(two_that_are_larger_than_promised_arrive_together),
		cmocka_unit_test(client_gone_while_queued),
		cmocka_unit_test(client_gone_between_answer_and_callback),
		cmocka_unit_test(request_arriving_as_the_ttl_fires),
		cmocka_unit_test(
			a_just_loaded_model_is_not_evicted_before_its_first_request),
		cmocka_unit_test(a_crash_ends_the_wait_for_its_memory),
		cmocka_unit_test(unload_while_the_ttl_fires_and_a_request_arrives),
		cmocka_unit_test(fast_switching_between_small_models_hangs_nobody),
		cmocka_unit_test(a_name_that_changes_its_file_while_waiting),
		cmocka_unit_test(a_load_that_nobody_wants_any_more_gives_way),
		cmocka_unit_test(the_daemon_stops_in_the_middle_of_everything),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
