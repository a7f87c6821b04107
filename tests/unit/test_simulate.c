/* Traces: what the cache writes is read again; a replay gives the figures that one counts
 * by hand. */
#include "cache_world.h"

#include <sys/stat.h>
#include <unistd.h>
#include "base/buf.h"
#include "cache/simulate.h"
#include "cache/trace.h"

struct file {
	char path[64];
};

static void file_init(struct file *f, const char *text)
{
	int fd;

	snprintf(f->path, sizeof f->path, "/tmp/hob-trace-XXXXXX");
	fd = mkstemp(f->path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

static struct cache_use use(const char *model, uint64_t n, int64_t at, double held)
{
	return (struct cache_use){.at_unix_ms = at,
				  .model = model,
				  .instance = n,
				  .file = n,
				  .sizes = {40 * MIB, 10 * MIB, 40 * MIB},
				  .load_ms = 400,
				  .promote_ms = 10,
				  .held_ms = held};
}

static struct sim_trace *read_uses(const struct cache_use *u, int n)
{
	struct buf b = {0};
	struct sim_trace *t;
	struct file f;
	struct err e;

	for (int i = 0; i < n; i++)
		trace_line(&b, &u[i]);
	file_init(&f, b.data);
	buf_free(&b);
	t = sim_read(f.path, &e);
	unlink(f.path);
	if (!t)
		fail_msg("%s", e.text);
	return t;
}

static struct sim_settings settings(uint64_t budget, uint64_t parked)
{
	return (struct sim_settings){.budget_bytes = budget * MIB,
				     .parked_budget_bytes = parked * MIB,
				     .keep_alive_ms = -1};
}

static void two_models_take_turns_in_room_for_one(void **state)
{
	struct cache_use u[] = {use("a", 1, 0, 50), use("b", 2, 1000, 50),
				use("a", 1, 2000, 50), use("a", 1, 3000, 50)};
	struct sim_trace *t = read_uses(u, 4);
	struct sim_settings s = settings(60, 0);
	struct sim_result r;

	(void)state;
	assert_int_equal(sim_requests(t), 4);
	assert_int_equal(sim_models(t), 2);
	assert_int_equal(sim_working_set(t), 100 * MIB);
	sim_run(t, &s, &r);
	assert_int_equal(r.loads, 3);
	assert_int_equal(r.evictions, 2);
	assert_int_equal(r.hits, 1);
	assert_true(r.hit_ratio == 0.25);
	assert_true(r.waited_ms == 1200 && r.waited_max_ms == 400);
	assert_int_equal(r.bytes_loaded, 120 * MIB);
	s = settings(60, 100); /* parked: the second coming of a is cheap */
	sim_run(t, &s, &r);
	assert_int_equal(r.loads, 2);
	assert_int_equal(r.promotions, 1);
	assert_int_equal(r.parks, 2);
	assert_true(r.waited_ms == 810);
	assert_int_equal(r.bytes_promoted, 40 * MIB);
	s = settings(100, 0); /* room for both */
	sim_run(t, &s, &r);
	assert_int_equal(r.loads, 2);
	assert_int_equal(r.evictions, 0);
	assert_int_equal(r.hits, 2);
	s = settings(40, 0); /* for none */
	sim_run(t, &s, &r);
	assert_int_equal(r.refused, 4);
	assert_true(r.waited_ms == 0);
	sim_free(t);
}

static void a_request_waits_for_the_lease_of_another(void **state)
{
	struct cache_use u[] = {use("a", 1, 0, 5000), use("b", 2, 1000, 50)};
	struct sim_trace *t = read_uses(u, 2);
	struct sim_settings s = settings(60, 0);
	struct sim_result r;

	(void)state;
	sim_run(t, &s, &r);
	/* a: its load; b: until a ends at 400 + 5000, and its own load */
	assert_true(r.waited_ms == 400 + (5400 - 1000) + 400);
	u[0].pinned = true;
	sim_free(t);
	t = read_uses(u, 2);
	sim_run(t, &s, &r);
	assert_int_equal(r.refused, 1);
	sim_free(t);
}

static void instances_of_one_file_share_the_weights(void **state)
{
	struct cache_use u[] = {use("a", 1, 0, 5), use("a32", 2, 1000, 5)};
	struct sim_trace *t;
	struct sim_settings s = settings(60, 0);
	struct sim_result r;

	(void)state;
	u[1].file = 1;
	t = read_uses(u, 2);
	assert_int_equal(sim_working_set(t), 60 * MIB);
	sim_run(t, &s, &r);
	assert_int_equal(r.evictions, 0);
	sim_free(t);
}

static void the_policies_differ_where_they_should(void **state)
{
	struct cache_use u[40];
	struct sim_settings s = settings(110, 0);
	struct sim_result lru, gdsf;
	struct sim_trace *t;
	int n = 0;

	(void)state;
	/* one model is used all the time; others come once each, two between its uses */
	u[n] = use("hot", 1, n * 1000, 10);
	n++;
	for (int i = 0; i < 12; i++) {
		u[n] = use("hot", 1, n * 1000, 10);
		n++;
		for (int k = 0; k < 2; k++, n++)
			u[n] = use("cold", 100 + (uint64_t)n, n * 1000, 10);
	}
	t = read_uses(u, n);
	sim_run(t, &s, &lru);
	s.policy = POLICY_GDSF;
	sim_run(t, &s, &gdsf);
	assert_int_equal(lru.hits, 1);
	assert_int_equal(gdsf.hits, 12);
	assert_true(gdsf.waited_ms < lru.waited_ms);
	sim_free(t);
}

static void keep_alive_and_starts_empty_the_machine(void **state)
{
	struct sim_settings s = settings(100, 0);
	struct sim_result r;
	struct sim_trace *t;
	struct buf b = {0};
	struct cache_use u = use("a", 1, 0, 10);
	struct file f;
	struct err e;

	(void)state;
	trace_line(&b, &u);
	u.at_unix_ms = 10000;
	trace_line(&b, &u);
	buf_adds(&b, "{\"event\":\"start\",\"t\":11000}\r\n{\"event\":\"other\"}\n\n");
	u.at_unix_ms = 12000;
	trace_line(&b, &u);
	file_init(&f, b.data);
	t = sim_read(f.path, &e);
	assert_non_null(t);
	sim_run(t, &s, &r);
	assert_int_equal(r.requests, 3);
	assert_int_equal(r.loads, 2);
	s.keep_alive_ms = 5000;
	sim_run(t, &s, &r);
	assert_int_equal(r.loads, 3);
	assert_int_equal(r.expired, 1);
	sim_free(t);
	unlink(f.path);
	buf_free(&b);
}

static void refuses(const char *text, const char *part)
{
	struct err e = {0};
	struct file f;

	file_init(&f, text);
	assert_null(sim_read(f.path, &e));
	assert_text(e.text, part);
	unlink(f.path);
}

static void a_wrong_line_is_named(void **state)
{
	struct err e;

	(void)state;
	refuses("nonsense\n", "line 1");
	refuses("{\"event\":\"start\",\"t\":1}\n{\"event\":\"request\",\"t\":2}\n",
		"line 2: instance is missing");
	refuses("{\"event\":\"start\",\"t\":1}\nhalf a li\n{\"event\":\"other\"}\n",
		"line 2");
	refuses("{\"event\":\"start\"}\n", "line 1: t is missing");
	refuses("{\"t\":1}\n", "line 1: event is missing");
	refuses("{\"event\":\"request\",\"t\":2,\"instance\":1,\"file\":1,\"weights_"
		"bytes\":-4,\"kv_bytes\":1}\n",
		"weights_bytes");
	refuses("{\"event\":\"request\",\"t\":2,\"instance\":1,\"file\":1,\"weights_"
		"bytes\":1e300,\"kv_bytes\":1}\n",
		"weights_bytes");
	assert_null(sim_read("/nonexistent/trace", &e));
	assert_int_equal(e.code, ERR_IO);
}

static void half_a_line_of_a_killed_daemon_is_skipped(void **state)
{
	struct sim_trace *t;
	struct buf b = {0};
	struct cache_use u = use("a", 1, 0, 10);
	struct file f;
	struct err e;

	(void)state;
	trace_line(&b, &u);
	buf_adds(&b, "{\"event\":\"requ\n{\"event\":\"start\",\"t\":5}\n");
	trace_line(&b, &u);
	buf_adds(&b, "{\"event\":\"re");
	file_init(&f, b.data);
	t = sim_read(f.path, &e);
	if (!t)
		fail_msg("%s", e.text);
	assert_int_equal(sim_requests(t), 2);
	sim_free(t);
	unlink(f.path);
	buf_free(&b);
}

static void on_closed(void *arg)
{
	*(bool *)arg = true;
}

static void what_the_cache_does_is_recorded_and_replayed(void **state)
{
	struct sim_settings s = settings(100, 0);
	struct sim_result r;
	struct sim_trace *t;
	struct trace *trace;
	struct world w;
	struct answer a;
	struct file f;
	struct stat sb;
	struct err e;
	uv_loop_t loop;
	bool closed = false;

	(void)state;
	uv_loop_init(&loop);
	file_init(&f, "");
	world_init(&w, 100 * MIB);
	trace = trace_open(&loop, w.cache, f.path, &e);
	assert_non_null(trace);
	warm(&w, model("a \"quoted\" name", 10));
	ask(&w, &a, model("a \"quoted\" name", 10), 1000);
	cache_run(w.cache);
	give(&w, &a);
	ask(&w, &a, model("huge", 1000), 1000);
	cache_run(w.cache);
	cache_run(w.cache); /* tells of the refusal */
	trace_close(trace, on_closed, &closed);
	world_fini(&w);
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_true(closed);
	assert_int_equal(uv_loop_close(&loop), 0);
	assert_int_equal(stat(f.path, &sb), 0);
	assert_int_equal(sb.st_mode & 0777, 0600);
	t = sim_read(f.path, &e);
	if (!t)
		fail_msg("%s", e.text);
	assert_int_equal(sim_requests(t), 3);
	sim_run(t, &s, &r);
	assert_int_equal(r.loads, 1);
	assert_int_equal(r.refused, 1);
	sim_free(t);
	unlink(f.path);
}

static void a_trace_stops_at_its_bound(void **state)
{
	struct trace *trace;
	struct world w;
	struct file f;
	struct stat sb;
	struct err e;
	uv_loop_t loop;
	bool closed = false;

	(void)state;
	uv_loop_init(&loop);
	file_init(&f, "");
	assert_int_equal(truncate(f.path, TRACE_MAX_BYTES - 400), 0); /* sparse */
	world_init(&w, 100 * MIB);
	trace = trace_open(&loop, w.cache, f.path, &e);
	assert_non_null(trace);
	warm(&w, model("a", 10));
	assert_int_equal(trace_dropped(trace), 0);
	for (int i = 0; i < 5; i++) {
		struct answer a;

		ask(&w, &a, model("a", 10), 1000);
		cache_run(w.cache);
		give(&w, &a);
	}
	assert_int_equal(trace_dropped(trace), 5);
	trace_close(trace, on_closed, &closed);
	world_fini(&w);
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_true(closed);
	uv_loop_close(&loop);
	assert_int_equal(stat(f.path, &sb), 0);
	assert_true(sb.st_size <= TRACE_MAX_BYTES);
	assert_null(trace_open(&loop, w.cache, "/nonexistent/x", &e));
	unlink(f.path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(two_models_take_turns_in_room_for_one),
		cmocka_unit_test(a_request_waits_for_the_lease_of_another),
		cmocka_unit_test(instances_of_one_file_share_the_weights),
		cmocka_unit_test(the_policies_differ_where_they_should),
		cmocka_unit_test(keep_alive_and_starts_empty_the_machine),
		cmocka_unit_test(a_wrong_line_is_named),
		cmocka_unit_test(half_a_line_of_a_killed_daemon_is_skipped),
		cmocka_unit_test(what_the_cache_does_is_recorded_and_replayed),
		cmocka_unit_test(a_trace_stops_at_its_bound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
