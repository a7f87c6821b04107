/* What a request would meet: against a cache whose loaders and clock the test holds. */
#include "cache_world.h"

static struct cache_forecast forecast(const struct world *w, struct model m)
{
	struct cache_forecast f;

	cache_forecast(w->cache, &m, CLASS_INTERACTIVE, &f);
	return f;
}

static void a_model_nobody_asked_for_is_cold_and_stays_unknown(void **state)
{
	struct cache_forecast f;
	struct world w;

	(void)state;
	world_init(&w, 100 * MIB);
	f = forecast(&w, model("a", 40));
	assert_false(f.resident);
	assert_true(f.load_ms < 0);
	assert_true(f.wait_ms == 0);
	assert_int_equal(f.ctx, 16);
	assert_true(f.bytes >= 40 * MIB && f.fits);
	assert_int_equal(cache_count(w.cache), 0); /* a question leaves no trace */
	assert_false(forecast(&w, model("b", 400)).fits);
	world_fini(&w);
}

static void what_is_ready_needs_no_load(void **state)
{
	struct cache_info info = info_of(40 * MIB, 16);
	struct cache_forecast f;
	struct answer a, b;
	struct world w;

	(void)state;
	world_init(&w, 100 * MIB);
	info.load_ms = 800;
	info.slots = 1;
	ask(&w, &a, model("a", 40), 1000);
	cache_run(w.cache);
	f = forecast(&w, model("a", 40)); /* it loads */
	assert_false(f.resident);
	assert_true(f.load_ms < 0 && f.wait_ms > 0); /* one waits before us */
	answer_load_as(&w, &info);
	f = forecast(&w, model("a", 40));
	assert_true(f.resident && f.load_ms == 0 && f.fits);
	assert_true(f.wait_ms > 0); /* its only slot is leased */
	ask(&w, &b, model("a", 40), 60000);
	cache_run(w.cache);
	assert_true(forecast(&w, model("a", 40)).wait_ms > f.wait_ms);
	w.now_ms += 300;
	give(&w, &a);
	w.now_ms += 300;
	give(&w, &b);
	f = forecast(&w, model("a", 40));
	assert_true(f.wait_ms == 0);
	assert_int_equal(f.ctx, 16);
	world_fini(&w);
}

static void a_parked_one_comes_back_in_its_own_time(void **state)
{
	struct cache_info info = info_of(40 * MIB, 16);
	struct cache_forecast f;
	struct answer a;
	struct world w;

	(void)state;
	world_init_with(&w, 100 * MIB, WITH_PARK, NULL);
	info.load_ms = 800;
	ask(&w, &a, model("a", 40), 1000);
	cache_run(w.cache);
	answer_load_as(&w, &info);
	give(&w, &a);
	assert_int_equal(cache_unload(w.cache, "a", true, NULL), 0);
	cache_run(w.cache);
	answer_park(&w, 40 * MIB);
	assert_int_equal(state_of(&w, "a"), CACHE_PARKED);
	f = forecast(&w, model("a", 40));
	assert_false(f.resident);
	assert_true(f.load_ms == 800); /* never promoted: as from the disk at most */
	info.load_ms = 50;
	ask(&w, &a, model("a", 40), 1000);
	cache_run(w.cache);
	answer_load_as(&w, &info);
	give(&w, &a);
	assert_int_equal(cache_unload(w.cache, "a", true, NULL), 0);
	cache_run(w.cache);
	answer_park(&w, 40 * MIB);
	assert_true(forecast(&w, model("a", 40)).load_ms == 50);
	world_fini(&w);
}

static void the_ledger_knows_models_that_were_here_before(void **state)
{
	struct model m = model("a", 40);
	struct ledger *l = ledger_new(NULL, NULL);
	struct ledger_row row = {.key = {.dev = m.dev,
					 .ino = m.ino,
					 .bytes = m.bytes,
					 .mtime_ms = m.mtime_ms,
					 .ctx = 16,
					 .slots = 1},
				 .weights_bytes = 41 * MIB,
				 .kv_bytes = MIB,
				 .load_ms = 1234,
				 .lease_ms = 10};
	struct cache_forecast f;
	struct world w;

	(void)state;
	ledger_put(l, &row);
	world_init_with(&w, 100 * MIB, WITH_LOAD, l);
	f = forecast(&w, m);
	assert_true(f.load_ms == 1234);
	assert_int_equal(f.bytes, 42 * MIB);
	assert_int_equal(cache_count(w.cache), 0);
	world_fini(&w);
	ledger_close(l, NULL, NULL);
}

static void completion_models_may_use_what_is_reserved_for_them(void **state)
{
	struct model m = model("a", 80);
	struct world w;

	(void)state;
	world_init(&w, 100 * MIB);
	w.settings.reserve_completion_bytes = 50 * MIB;
	cache_set(w.cache, &w.settings);
	assert_false(forecast(&w, m).fits);
	m.settings.role = MODEL_COMPLETION;
	assert_true(forecast(&w, m).fits);
	world_fini(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_model_nobody_asked_for_is_cold_and_stays_unknown),
		cmocka_unit_test(what_is_ready_needs_no_load),
		cmocka_unit_test(a_parked_one_comes_back_in_its_own_time),
		cmocka_unit_test(the_ledger_knows_models_that_were_here_before),
		cmocka_unit_test(completion_models_may_use_what_is_reserved_for_them),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
