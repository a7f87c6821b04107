/* The choice of a replica: the least loaded one that lives, and the conversation's own when that is
 * nearly as good. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include "providers/replica_choice.h"

enum { NOW = 1000000 };

static struct replica_metrics metrics(const char *text)
{
	struct replica_metrics m = {-7, -7, -7};

	if (!replica_metrics_parse(str_of(text), &m))
		m.running = -99;
	return m;
}

static void assert_metrics(const char *text, int running, int waiting, double kv)
{
	struct replica_metrics m = metrics(text);

	assert_int_equal(m.running, running);
	assert_int_equal(m.waiting, waiting);
	assert_true(m.kv_usage == kv);
}

static void the_metrics_of_all_known_servers_are_read(void **state)
{
	(void)state;
	assert_metrics("# HELP vllm:num_requests_running x\n"
		       "# TYPE vllm:num_requests_running gauge\n"
		       "vllm:num_requests_running{engine=\"0\",model_name=\"a} 7\"} 3.0\n"
		       "vllm:num_requests_waiting{engine=\"0\"} 2.0\n"
		       "vllm:num_requests_waiting_by_reason{engine=\"0\"} 9.0\n"
		       "vllm:kv_cache_usage_perc{engine=\"0\"} 0.25\n",
		       3, 2, 0.25);
	assert_metrics("llamacpp:requests_processing 1\nllamacpp:requests_deferred 4", 1,
		       4, -1);
	assert_metrics("sglang:num_running_reqs{m=\"x\"} 5 1700000000\r\n"
		       "sglang:num_queue_reqs 6\nsglang:token_usage 0.5\n",
		       5, 6, 0.5);
	assert_metrics("tgi_queue_size 2\ntgi_batch_current_size 8\n", 8, 2, -1);
	assert_metrics("hob_running 5\nhob_waiting 2\n", 3, 2, -1);
}

static void engines_of_one_server_are_added_up(void **state)
{
	(void)state;
	assert_metrics("vllm:num_requests_running{engine=\"0\"} 3\n"
		       "vllm:num_requests_running{engine=\"1\"} 4\n"
		       "vllm:kv_cache_usage_perc{engine=\"0\"} 0.9\n"
		       "vllm:kv_cache_usage_perc{engine=\"1\"} 0.2\n",
		       7, 0, 0.9);
}

static void a_text_that_is_no_metrics_is_none(void **state)
{
	static const char *const texts[] = {
		"",
		"\n\n\n",
		"<html>",
		"vllm:num_requests_running",
		"vllm:num_requests_running ",
		"vllm:num_requests_running{engine=\"0\" 3",
		"vllm:num_requests_running{engine=\"\\\"} 3",
		"vllm:num_requests_running NaN",
		"vllm:num_requests_running -1",
		"vllm:num_requests_running +Inf",
		"# vllm:num_requests_running 3",
		"python_gc_objects_collected_total 5\n",
	};
	struct replica_metrics m;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		assert_false(replica_metrics_parse(str_of(texts[i]), &m));
}

static void a_flood_of_numbers_does_not_overflow(void **state)
{
	struct buf text = {0};
	struct replica_metrics m;

	(void)state;
	for (int i = 0; i < 5000; i++)
		buf_adds(&text, "vllm:num_requests_running 1000000\n");
	assert_true(replica_metrics_parse(buf_str(&text), &m));
	assert_int_equal(m.running, 1000000);
	buf_free(&text);
}

static void polled(struct replica_state *r, int running, int waiting, double kv)
{
	struct replica_metrics m = {running, waiting, kv};

	replica_poll_began(r);
	replica_poll_answered(r, &m, NOW);
}

static void load_counts_what_waits_twice_and_our_own_unseen_calls(void **state)
{
	struct replica_state r = {0};
	struct replica_ticket a, b, c;

	(void)state;
	a = replica_call_began(&r);
	assert_int_equal(replica_load(&r, NOW), 1); /* nothing polled: our own */
	polled(&r, 5, 2, 0.5);
	assert_int_equal(replica_load(&r, NOW), 9); /* the call is among the 5 */
	b = replica_call_began(&r);
	assert_int_equal(replica_load(&r, NOW), 10);
	replica_poll_began(&r); /* its answer will know b, but not c */
	c = replica_call_began(&r);
	assert_int_equal(replica_load(&r, NOW), 11);
	replica_poll_answered(&r, &(struct replica_metrics){6, 0, -1}, NOW);
	assert_int_equal(replica_load(&r, NOW), 7);
	replica_call_ended(&r, c);
	assert_int_equal(replica_load(&r, NOW), 6);
	replica_call_ended(&r, b);
	replica_call_ended(&r, a);
	assert_int_equal(replica_load(&r, NOW), 6);
	assert_int_equal(replica_load(&r, NOW + REPLICA_METRICS_MAX_AGE_MS + 1), 0);
	polled(&r, 1, 0, 0.951);
	assert_int_equal(replica_load(&r, NOW), 3);
	polled(&r, 1, 0, 0.95);
	assert_int_equal(replica_load(&r, NOW), 1);
}

static void the_least_loaded_is_chosen_and_ties_go_round(void **state)
{
	struct replica_state r[3] = {0};
	int seen[3] = {0};

	(void)state;
	for (unsigned turn = 0; turn < 30; turn++)
		seen[replica_choose(r, 3, -1, turn, NOW)]++;
	assert_true(seen[0] == 10 && seen[1] == 10 && seen[2] == 10);
	polled(&r[0], 4, 0, 0);
	polled(&r[1], 0, 1, 0);
	polled(&r[2], 3, 0, 0);
	for (unsigned turn = 0; turn < 3; turn++)
		assert_int_equal(replica_choose(r, 3, -1, turn, NOW), 1);
}

static void a_conversation_stays_until_its_replica_is_much_busier(void **state)
{
	struct replica_state r[2] = {0};

	(void)state;
	polled(&r[0], REPLICA_STAY + 2, 0, 0);
	polled(&r[1], 2, 0, 0);
	assert_int_equal(replica_choose(r, 2, 0, 0, NOW), 0);
	polled(&r[0], REPLICA_STAY + 3, 0, 0);
	assert_int_equal(replica_choose(r, 2, 0, 0, NOW), 1);
	replica_failed(&r[1], NOW);
	assert_int_equal(replica_choose(r, 2, 0, 0, NOW), 0);
	replica_failed(&r[0], NOW);
	replica_worked(&r[1]);
	assert_int_equal(replica_choose(r, 2, 0, 0, NOW), 1);
}

static void a_failed_one_is_away_for_longer_each_time(void **state)
{
	static const uint64_t away[] = {5000, 10000, 20000, 40000, 60000, 60000};
	struct replica_state r = {0};
	uint64_t now = NOW;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(away); i++) {
		replica_failed(&r, now);
		replica_failed(&r, now + 1); /* another call that died with it */
		assert_false(replica_is_up(&r, now + away[i] - 1));
		now += away[i];
		assert_true(replica_is_up(&r, now));
	}
	replica_failed(&r, now);
	polled(&r, 0, 0, 0); /* it answers: back at once, and forgiven */
	assert_true(replica_is_up(&r, now));
	replica_failed(&r, now);
	assert_true(replica_is_up(&r, now + 5000));
}

static void when_all_are_away_the_next_to_come_back_is_tried(void **state)
{
	struct replica_state r[3] = {0};

	(void)state;
	replica_failed(&r[0], NOW + 2);
	replica_failed(&r[1], NOW);
	replica_failed(&r[2], NOW + 1);
	for (unsigned turn = 0; turn < 3; turn++)
		assert_int_equal(replica_choose(r, 3, 0, turn, NOW + 10), 1);
}

static void conversations_are_remembered_within_a_bound(void **state)
{
	static struct replica_sessions s;

	(void)state;
	assert_int_equal(replica_sessions_find(&s, 0), -1);
	for (uint64_t k = 0; k < REPLICA_SESSIONS; k++)
		replica_sessions_put(&s, k, (int)(k % 7));
	for (uint64_t k = 0; k < REPLICA_SESSIONS; k++)
		assert_int_equal(replica_sessions_find(&s, k), k % 7);
	replica_sessions_put(&s, 0, 3); /* used again, and moved */
	replica_sessions_put(&s, 5000, 1);
	assert_int_equal(replica_sessions_find(&s, 0), 3);
	assert_int_equal(replica_sessions_find(&s, 1), -1); /* the oldest went */
	assert_int_equal(replica_sessions_find(&s, 5000), 1);
}

/* ---- a long random life against a simple model */

enum { REPLICAS = 4, CALLS = 64, STEPS = 200000 };

struct world {
	struct replica_state r[REPLICAS];
	bool polling[REPLICAS];
	struct {
		int at; /* -1: free */
		struct replica_ticket ticket;
		uint64_t began,
			answered; /* the model's: polls of `at` begun so far, and known */
	} calls[CALLS];
	uint64_t polls[REPLICAS],
		known[REPLICAS]; /* begun; the newest that was answered */
	uint64_t now, seed;
};

static unsigned dice(struct world *w, unsigned n)
{
	w->seed = w->seed * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(w->seed >> 33) % n;
}

static int count(const struct world *w, int i, bool unseen)
{
	int n = 0;

	for (int c = 0; c < CALLS; c++)
		n += w->calls[c].at == i && (!unseen || w->calls[c].began >= w->known[i]);
	return n;
}

static void begin_call(struct world *w, int c)
{
	int home = (int)dice(w, REPLICAS + 1) - 1, i;
	bool any = false;

	i = replica_choose(w->r, REPLICAS, home, dice(w, 1000), w->now);
	assert_in_range(i, 0, REPLICAS - 1);
	for (int k = 0; k < REPLICAS; k++)
		any |= replica_is_up(&w->r[k], w->now);
	if (any)
		assert_true(replica_is_up(&w->r[i], w->now));
	w->calls[c].at = i;
	w->calls[c].began = w->polls[i];
	w->calls[c].ticket = replica_call_began(&w->r[i]);
}

static void end_call(struct world *w, int c)
{
	struct replica_state *r = &w->r[w->calls[c].at];

	replica_call_ended(r, w->calls[c].ticket);
	w->calls[c].at = -1;
	if (dice(w, 10) == 0)
		replica_failed(r, w->now);
	else
		replica_worked(r);
}

static void poll_step(struct world *w, int i)
{
	if (!w->polling[i]) {
		replica_poll_began(&w->r[i]);
		w->polls[i]++;
	} else if (dice(w, 3) == 0) {
		replica_failed(&w->r[i], w->now);
	} else {
		struct replica_metrics m = {(int)dice(w, 9), (int)dice(w, 3), 0.5};

		replica_poll_answered(&w->r[i], dice(w, 5) ? &m : NULL, w->now);
		w->known[i] = w->polls[i];
	}
	w->polling[i] = !w->polling[i];
}

static void
in_a_long_life_no_dead_one_is_chosen_and_counts_come_back_to_zero(void **state)
{
	static struct world w = {.now = NOW, .seed = 20261121};

	(void)state;
	for (int c = 0; c < CALLS; c++)
		w.calls[c].at = -1;
	for (int step = 0; step < STEPS; step++) {
		int c = (int)dice(&w, CALLS), i = (int)dice(&w, REPLICAS);

		w.now += dice(&w, 200);
		if (dice(&w, 4) == 0)
			poll_step(&w, i);
		else if (w.calls[c].at < 0)
			begin_call(&w, c);
		else
			end_call(&w, c);
		assert_int_equal(w.r[i].own, count(&w, i, false));
		assert_int_equal(w.r[i].before + w.r[i].after, count(&w, i, true));
		assert_true(replica_load(&w.r[i], w.now) >= 0);
	}
	for (int c = 0; c < CALLS; c++)
		if (w.calls[c].at >= 0)
			end_call(&w, c);
	for (int i = 0; i < REPLICAS; i++)
		assert_true(w.r[i].own == 0 && w.r[i].before == 0 && w.r[i].after == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_metrics_of_all_known_servers_are_read),
		cmocka_unit_test(engines_of_one_server_are_added_up),
		cmocka_unit_test(a_text_that_is_no_metrics_is_none),
		cmocka_unit_test(a_flood_of_numbers_does_not_overflow),
		cmocka_unit_test(load_counts_what_waits_twice_and_our_own_unseen_calls),
		cmocka_unit_test(the_least_loaded_is_chosen_and_ties_go_round),
		cmocka_unit_test(a_conversation_stays_until_its_replica_is_much_busier),
		cmocka_unit_test(a_failed_one_is_away_for_longer_each_time),
		cmocka_unit_test(when_all_are_away_the_next_to_come_back_is_tried),
		cmocka_unit_test(conversations_are_remembered_within_a_bound),
		cmocka_unit_test(
			in_a_long_life_no_dead_one_is_chosen_and_counts_come_back_to_zero),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
