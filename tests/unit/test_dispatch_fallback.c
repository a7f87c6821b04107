/* Fallback, retries, money, health and the cold-start bridge: each edge of the dispatcher's table
 * that leads from one try to the next, in a world that is played (dispatch_world.h). */
#include "memory/store_heads.h"
#include "tests/unit/dispatch_world.h"

#include "base/buf.h"

static const char *const routes =
	"model \"good\" { fallback = {\"far/x\"} }\n"
	"model \"big\" { fallback = {\"far/x\"} }\n"
	"model \"bad\" { fallback = {\"far/x\"} }\n"
	"model \"odd\" { fallback = {\"far/x\"} }\n"
	"route \"chain\" { candidates = {\"far/x\", \"away/y\", \"good\"} }\n"
	"route \"home\" { candidates = {\"far/x\", \"good\"} }\n"
	"route \"twice\" { candidates = {\"far/x\", \"far/y\", \"away/z\"} }\n"
	"route \"policy\" { candidates = {\"far/x\", \"away/y\"} after_refusal = true }\n"
	"route \"patient\" { candidates = {\"slow\", \"far/x\"} patience = 1 }\n"
	"route \"sizes\" { candidates = {\"far/small\", \"away/small\", \"away/large\"} }\n"
	"route \"inside\" { candidates = {\"big\", \"near/x\", \"far/x\"} }\n"
	"model \"far/small\" { ctx = 4096 }\n"
	"model \"away/small\" { ctx = 4096 }\n"
	"model \"away/large\" { ctx = 200000 }\n";

/* ---- what moves on */

static void a_local_model_that_cannot_come_up_is_replaced_by_its_fallback(void **state)
{
	static const char *const names[] = {"big", "bad", "odd"};
	struct world w;
	struct answer a;

	(void)state;
	world_init(&w, routes, 0);
	for (int i = 0; i < 3; i++) {
		ask(&w, &a, prompt(names[i], "hello"));
		assert_answered_by(&a, "far/x");
		assert_string_equal(a.text, "far answers");
		assert_string_equal(a.provider, "far");
		assert_string_equal(a.upstream, "up/real");
		assert_int_equal(a.nattempts, 1);
		assert_says(a.reason, names[i]);
		assert_says(a.reason, "far/x is next");
	}
	assert_int_equal(dispatch_stats(w.dispatch)->fallbacks, 3);
	assert_int_equal(dispatch_stats(w.dispatch)->fallbacks_by_code[ERR_MEMORY], 1);
	assert_int_equal(dispatch_stats(w.dispatch)->retried, 0);
	assert_nothing_held(&w);
	world_fini(&w);
}

static void a_remote_that_fails_is_replaced_by_the_next(void **state)
{
	static const char *const words[] = {"busy",
					    "unavailable",
					    "upstream",
					    "timeout",
					    "payment_required",
					    "upstream_auth",
					    "model_not_found",
					    "unsupported",
					    "lost",
					    "busy@60000"};
	struct world w;
	struct answer a;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		world_init(&w, routes, 0);
		script(&w.far, words[i]);
		ask(&w, &a, prompt("chain", "hello"));
		assert_answered_by(&a, "away/y");
		assert_string_equal(a.route, "chain");
		assert_int_equal(a.started, 1);
		assert_int_equal(w.far.starts, 1);
		assert_nothing_held(&w);
		world_fini(&w);
	}
}

static void a_lost_connection_is_tried_once_more_before_the_next(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_init(&w, routes, 0);
	script(&w.far, "upstream_unreachable");
	ask(&w, &a, prompt("home", "hello"));
	assert_answered_by(&a, "good");
	assert_string_equal(a.provider, "local");
	assert_int_equal(w.far.starts, 2);
	assert_int_equal(dispatch_stats(w.dispatch)->retried, 1);
	assert_int_equal(dispatch_stats(w.dispatch)->retried_by_code[ERR_TRANSPORT], 1);
	assert_true(a.most_usd == 0); /* local */
	world_fini(&w);
}

static void a_sole_remote_is_tried_again_and_then_its_error_is_told_as_spent(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_init(&w, routes, 0);
	script(&w.far, "unavailable,unavailable,ok");
	ask(&w, &a, prompt("far/x", "hello"));
	assert_answered_by(&a, "far/x");
	assert_int_equal(a.nattempts, 2);
	assert_says(a.reason, "the next try succeeded");
	assert_int_equal(dispatch_stats(w.dispatch)->retried, 2);
	script(&w.far, "unavailable");
	ask(&w, &a, prompt("far/y", "hello"));
	assert_failed_with(&a, ERR_UNAVAILABLE, "far says unavailable (3 times)");
	assert_true(a.end.failed.spent);
	assert_int_equal(a.started, 0);
	assert_nothing_held(&w);
	world_fini(&w);
}

static void a_failure_that_is_the_requests_own_is_told_at_once(void **state)
{
	static const char *const words[] = {"invalid", "too_large", "content_filter"};
	struct world w;
	struct answer a;

	(void)state;
	world_init(&w, routes, 0);
	for (int i = 0; i < 3; i++) {
		script(&w.far, words[i]);
		w.far.starts = 0;
		ask(&w, &a, prompt("chain", "hello"));
		assert_failed_with(&a, err_code_by_name(words[i]), "far says");
		assert_int_equal(w.far.starts, 1);
		assert_int_equal(w.away.starts, 0);
	}
	script(&w.far, "content_filter"); /* unless the route says so */
	ask(&w, &a, prompt("policy", "hello"));
	assert_answered_by(&a, "away/y");
	world_fini(&w);
}

static void what_was_asked_to_wait_waits_and_tells_the_client(void **state)
{
	struct world w;
	struct answer a;
	uint64_t before;

	(void)state;
	world_init(&w, routes, 0);
	script(&w.far, "payment_required@1200,ok"); /* only in-flight money is short */
	before = clock_mono_ms();
	ask(&w, &a, prompt("far/x", "hello"));
	assert_answered_by(&a, "far/x");
	assert_true(clock_mono_ms() - before >= 1200);
	assert_true(a.progress >= 1);
	world_fini(&w);
}

static void when_nothing_is_left_the_first_candidates_error_names_the_others(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_init(&w, routes, 0);
	script(&w.far, "busy@90000");
	script(&w.away, "unavailable@70000");
	ask(&w, &a, prompt("twice", "hello"));
	assert_failed_with(&a, ERR_BUSY,
			   "far/x: far says busy; far/y: far says busy; "
			   "away/z: away says unavailable");
	assert_true(a.end.failed.spent);
	assert_int_equal(a.end.failed.retry_after_ms, 70000);
	assert_int_equal(a.ends, 1);
	assert_nothing_held(&w);
	world_fini(&w);
}

static void a_refused_key_spares_the_providers_other_models(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_init(&w, routes, 0);
	script(&w.far, "upstream_auth");
	ask(&w, &a, prompt("twice", "hello"));
	assert_answered_by(&a, "away/z");
	assert_int_equal(w.far.starts, 1);
	world_fini(&w);
}

static void a_refused_context_moves_only_to_a_larger_one(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_init(&w, routes, 0);
	script(&w.far, "context_length_exceeded");
	ask(&w, &a, prompt("sizes", "hello"));
	assert_answered_by(&a, "away/large");
	assert_int_equal(w.away.starts, 1);
	world_fini(&w);
}

static void a_queue_beyond_patience_moves_on_but_the_last_one_waits(void **state)
{
	struct world w;
	struct answer a;
	struct request *r;

	(void)state;
	world_init(&w, routes, 0);
	ask(&w, &a, prompt("patient", "hello"));
	assert_answered_by(&a, "far/x");
	assert_int_equal(dispatch_stats(w.dispatch)->fallbacks_by_code[ERR_TIMEOUT], 1);
	r = prompt("slow", "hello"); /* nothing behind it: until the deadline */
	r->deadline_ms = clock_mono_ms() + 300;
	ask(&w, &a, r);
	assert_failed_with(&a, ERR_TIMEOUT, "slow");
	assert_nothing_held(&w);
	world_fini(&w);
}

static void an_engine_that_dies_is_started_again_once_and_then_left(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_init(&w, routes, 0);
	script(&w.local, "unavailable,ok");
	ask(&w, &a, prompt("good", "hello"));
	assert_answered_by(&a, "good");
	assert_int_equal(w.far.starts, 0);
	script(&w.local, "unavailable");
	ask(&w, &a, prompt("good", "hello"));
	assert_answered_by(&a, "far/x");
	assert_int_equal(a.nattempts, 2);
	assert_nothing_held(&w);
	world_fini(&w);
}

/* ---- what does not */

static void after_the_first_text_a_failure_is_final(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_init(&w, routes, 0);
	script(&w.far, "torn");
	ask(&w, &a, prompt("chain", "hello"));
	assert_failed_with(&a, ERR_TRANSPORT, "far says");
	assert_string_equal(a.text, "far answers");
	assert_string_equal(a.model, "far/x");
	assert_true(a.end.failed.spent);
	assert_int_equal(w.far.starts, 1);
	assert_int_equal(w.away.starts, 0);
	assert_nothing_held(&w);
	world_fini(&w);
}

static void an_empty_answer_is_an_answer(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_init(&w, routes, 0);
	script(&w.far, "empty");
	ask(&w, &a, prompt("chain", "hello"));
	assert_answered_by(&a, "far/x");
	assert_int_equal(a.started, 1);
	assert_int_equal(w.away.starts, 0);
	world_fini(&w);
}

static void a_private_prompt_falls_back_only_to_what_stays(void **state)
{
	struct world w;
	struct answer a;
	struct request *r;

	(void)state;
	world_init(&w, routes, 0);
	r = prompt("inside", "secret");
	r->is_private = true;
	ask(&w, &a, r);
	assert_answered_by(&a, "near/x");
	script(&w.near, "unavailable");
	r = prompt("inside", "secret");
	r->is_private = true;
	ask(&w, &a, r);
	assert_int_equal(a.end.type, EVENT_FAILED);
	assert_false(w.far.saw_private);
	assert_int_equal(w.far.starts, 0);
	r = prompt("far/x", "secret");
	r->is_private = true;
	ask(&w, &a, r);
	assert_failed_with(&a, ERR_FORBIDDEN, "private");
	assert_int_equal(w.far.starts, 0);
	assert_nothing_held(&w);
	world_fini(&w);
}

static void a_model_that_fails_again_and_again_is_left_alone(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_init(&w, routes, 0);
	script(&w.far, "upstream");
	for (int i = 0; i < 5; i++)
		ask(&w, &a, prompt("home", "hello"));
	assert_int_equal(w.far.starts, 5);
	script(&w.far, "ok");
	ask(&w, &a, prompt("home", "hello"));
	assert_answered_by(&a, "good");
	assert_int_equal(w.far.starts, 5);
	ask(&w, &a, prompt("far/x", "hello"));
	assert_failed_with(&a, ERR_UNAVAILABLE, "");
	assert_true(a.end.failed.retry_after_ms > 0);
	assert_nothing_held(&w);
	world_fini(&w);
}

/* What a busy server asks for may be shorter than what its breaker leaves it. */
static void a_retry_that_finds_the_breaker_open_waits_for_it(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_init(&w, routes, 0);
	script(&w.far, "busy@50,ok");
	ask(&w, &a, prompt("far/x", "hello"));
	assert_answered_by(&a, "far/x");
	assert_int_equal(w.far.starts, 2);
	assert_int_equal(dispatch_stats(w.dispatch)->retried, 1);
	assert_nothing_held(&w);
	world_fini(&w);
}

static void a_probe_that_fails_is_told_at_once_and_as_what_it_was(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_init(&w, routes, 0);
	script(&w.far, "upstream");
	for (int i = 0; i < 2;
	     i++) /* two tries each: the fifth failure opens the breaker */
		ask(&w, &a, prompt("far/x", "hello"));
	ask(&w, &a, prompt("far/x", "hello"));
	assert_failed_with(&a, ERR_UPSTREAM, "far says upstream");
	assert_int_equal(w.far.starts, 5);
	assert_true(a.end.failed.spent);
	assert_nothing_held(&w);
	world_fini(&w);
}

/* ---- cancel and pause between tries */

static void cancel_is_legal_in_each_state_of_a_request_that_falls_back(void **state)
{
	static const char *const asked[] = {"chain", "patient", "big", "far/x"};
	struct world w;
	struct answer a;

	(void)state;
	for (int kind = 0; kind < 4; kind++)
		for (int turns = 0; turns < 14; turns++) {
			world_init(&w, routes, turns % 2 ? WITH_STORE : 0);
			w.random = 0.1;
			script(&w.far, "unavailable");
			script(&w.away, "busy");
			start(&w, &a, prompt(asked[kind], "hello"));
			dispatch_pause(a.job, turns % 3 == 0);
			for (int i = 0; i < turns && !a.ends; i++)
				uv_run(&w.loop, UV_RUN_ONCE);
			if (!a.ends) {
				dispatch_cancel(a.job);
				a.gone = true;
			}
			assert_nothing_held(&w);
			world_fini(&w);
		}
}

static void a_client_that_leaves_in_an_event_frees_all(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_init(&w, routes, 0);
	script(&w.far, "unavailable");
	for (int at = 1; at <= 3; at++) {
		start(&w, &a, prompt("chain", "hello"));
		a.cancel_at = at;
		RUN_UNTIL(&w, a.ends || a.gone);
		assert_nothing_held(&w);
	}
	world_fini(&w);
}

static void a_reload_while_a_request_waits_changes_nothing_for_it(void **state)
{
	struct world w;
	struct answer a;
	struct config *next;

	(void)state;
	world_init(&w, routes, 0);
	script(&w.far, "hang");
	start(&w, &a, prompt("chain", "hello"));
	RUN_UNTIL(&w, w.far.starts);
	next = world_config(&w, "");
	models_rescan(w.models, next);
	money_set_config(w.money, next);
	dispatch_set_config(w.dispatch, next);
	config_free(w.config);
	w.config = next;
	dispatch_cancel(a.job);
	start(&w, &a, prompt("far/x", "hello"));
	script(&w.far, "unavailable,ok");
	RUN_UNTIL(&w, a.ends);
	assert_answered_by(&a, "far/x");
	world_fini(&w);
}

/* ---- a conversation */

struct seen {
	int times, messages;
	char status[40], model[100];
};

static void on_row(void *arg, const struct err *e, const struct store_conversation *list,
		   int n)
{
	struct seen *s = arg;

	s->times++;
	assert_int_equal(e->code, ERR_NONE);
	assert_int_equal(n, 1);
	s->messages = list->messages;
	snprintf(s->status, sizeof s->status, "%s", list->status);
	snprintf(s->model, sizeof s->model, "%s", list->model);
}

static void a_turn_that_falls_back_is_one_turn(void **state)
{
	struct world w;
	struct answer a, b;
	struct seen s = {0};
	struct request *r;

	(void)state;
	world_init(&w, routes, WITH_STORE);
	script(&w.far, "unavailable");
	r = prompt("chain", "one");
	r->conversation = xstrdup("new");
	ask(&w, &a, r);
	assert_answered_by(&a, "away/y");
	r = prompt("chain", "two");
	r->conversation = xstrdup(a.conversation);
	ask(&w, &b, r);
	assert_int_equal(w.away.nmessages, 3);
	assert_int_equal(b.kept, 2);
	store_get(w.store, "last", on_row, &s);
	RUN_UNTIL(&w, s.times);
	assert_int_equal(s.messages, 4);
	assert_string_equal(s.status, "done");
	assert_string_equal(s.model, "chain"); /* what the next turn asks for again */
	world_fini(&w);
}

static void history_is_fitted_to_the_candidate_that_gets_it(void **state)
{
	struct world w;
	struct answer a;
	char id[64] = "new", text[1501];

	(void)state;
	world_init(&w,
		   "route \"both\" { candidates = {\"good\", \"away/large\"} }\n"
		   "model \"away/large\" { ctx = 200000 }\n",
		   WITH_STORE);
	memset(text, 'x', sizeof text - 1);
	text[sizeof text - 1] = 0;
	for (int i = 0; i < 4; i++) {
		struct request *r = prompt("away/large", text);

		r->conversation = xstrdup(id);
		ask(&w, &a, r);
		assert_answered_by(&a, "away/large");
		snprintf(id, sizeof id, "%s", a.conversation);
	}
	for (int fails = 0; fails < 2; fails++) {
		struct request *r = prompt("both", "short");

		script(&w.local, fails ? "unavailable" : "ok");
		r->conversation = xstrdup(id);
		ask(&w, &a, r);
		if (fails) { /* all of it fits here */
			assert_answered_by(&a, "away/large");
			assert_int_equal(a.dropped, 0);
		} else if (!strcmp(a.model, "good")) {
			assert_true(a.dropped > 0);
		}
	}
	world_fini(&w);
}

static void a_conversation_keeps_what_answered_it(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_init(
		&w,
		"route \"a\" { candidates = {\"far/x\", \"away/y\"} pick = \"auto\" }\n"
		"model \"far/x\" { strength = 9 }\n"
		"model \"away/y\" { strength = 1 }\n",
		0);
	script(&w.far, "timeout,ok");
	ask(&w, &a, prompt("a", "hello"));
	assert_answered_by(&a, "away/y");
	ask(&w, &a,
	    prompt("a", "hello")); /* the same first message: the same conversation */
	assert_answered_by(&a, "away/y");
	ask(&w, &a, prompt("a", "another"));
	assert_answered_by(&a, "far/x");
	world_fini(&w);
}

/* ---- money */

static const char *const priced =
	"model \"far/x\" { price_input = 1 price_output = 10 }\n"
	"model \"away/y\" { price_input = 100 price_output = 1000 }\n"
	"route \"chain\" { candidates = {\"away/y\", \"far/x\", \"good\"} }\n"
	"budget { daily = 0.5 }\n";

static void a_call_is_reserved_before_and_settled_after(void **state)
{
	struct world w;
	struct answer a;
	struct request *r;
	double spent;

	(void)state;
	world_init(&w, priced, 0);
	r = prompt("far/x", "hello");
	r->sampling.max_tokens = 1000;
	start(&w, &a, r);
	script(&w.far, "hang");
	RUN_UNTIL(&w, w.far.starts);
	assert_true(money_left_today(w.money) <= 0.5 - 0.01); /* what it may cost */
	dispatch_cancel(a.job);
	spent = money_spent_today(w.money, NULL);
	assert_true(spent > 0); /* a cancelled call counts at its estimate */
	script(&w.far, "ok");
	r = prompt("far/x", "hello");
	ask(&w, &a, r);
	assert_answered_by(&a, "far/x");
	assert_true(a.most_usd > 0.04); /* 4,096 tokens of answer at 10 USD a million */
	/* 100 in at 1 USD and 10 out at 10 USD a million */
	assert_near(a.end.finished.usage.cost_usd, 0.0002);
	assert_near(money_spent_today(w.money, NULL) - spent, 0.0002);
	assert_near(money_left_today(w.money), 0.5 - money_spent_today(w.money, NULL));
	world_fini(&w);
}

static void a_refused_call_costs_nothing_and_a_torn_one_its_estimate(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_init(&w, priced, 0);
	script(&w.far, "invalid");
	ask(&w, &a, prompt("far/x", "hello"));
	assert_failed_with(&a, ERR_INVALID, "far says");
	assert_true(money_spent_today(w.money, NULL) == 0);
	assert_true(money_left_today(w.money) == 0.5);
	script(&w.far, "torn");
	ask(&w, &a, prompt("far/x", "hello"));
	assert_true(money_spent_today(w.money, NULL) > 0);
	world_fini(&w);
}

static void over_a_cap_the_cheaper_or_the_local_one_answers(void **state)
{
	struct world w;
	struct answer a;
	struct request *r;

	(void)state;
	world_init(&w, priced, 0);
	ask(&w, &a, prompt("chain", "hello")); /* 4,096 tokens at 1000 a million: over */
	assert_answered_by(&a, "far/x");
	assert_int_equal(w.away.starts, 0);
	r = prompt("chain", "hello");
	r->budget_usd = 0.0001; /* of this request */
	ask(&w, &a, r);
	assert_answered_by(&a, "good");
	r = prompt("far/x", "hello");
	r->budget_usd = 0.0001;
	ask(&w, &a, r);
	assert_failed_with(&a, ERR_PAYMENT, "");
	assert_nothing_held(&w);
	world_fini(&w);
}

static void what_a_provider_says_later_corrects_the_books(void **state)
{
	struct world w;
	struct answer a;
	struct late_cost late = {.request_id = "hob-test",
				 .prompt_tokens = 10,
				 .completion_tokens = 1,
				 .cost_usd = 0.00003};
	struct provider *p;

	(void)state;
	world_init(&w, priced, 0);
	p = &w.far.provider;
	script(&w.far, "hang");
	start(&w, &a, prompt("far/x", "hello"));
	RUN_UNTIL(&w, w.far.starts);
	dispatch_cancel(a.job);
	p->listener->late_cost(p->listener, p, &late);
	assert_near(money_spent_today(w.money, NULL), 0.00003);
	world_fini(&w);
}

/* ---- bridge */

static void a_stand_in_answers_while_the_cold_model_loads(void **state)
{
	struct world w;
	struct answer a;
	struct cache_row row;

	(void)state;
	world_init(&w, "route \"b\" { candidates = {\"cold\"} bridge = \"far/x\" }\n", 0);
	ask(&w, &a, prompt("b", "hello"));
	assert_answered_by(&a, "far/x");
	assert_says(a.reason, "cold");
	RUN_UNTIL(&w, cache_find(w.cache, "cold", &row) && row.state == CACHE_READY);
	ask(&w, &a, prompt("b", "hello"));
	assert_answered_by(&a, "cold");
	assert_int_equal(w.far.starts, 1);
	assert_nothing_held(&w);
	world_fini(&w);
}

static void a_stand_in_that_fails_leaves_the_prompt_to_the_model_that_loads(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_init(&w, "route \"b\" { candidates = {\"cold\"} bridge = \"far/x\" }\n", 0);
	script(&w.far, "unavailable");
	ask(&w, &a, prompt("b", "hello"));
	assert_answered_by(&a, "cold");
	world_fini(&w);
}

static void a_load_behind_an_answer_ends_with_the_daemon(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_init(&w, "route \"b\" { candidates = {\"slowcold\"} bridge = \"far/x\" }\n",
		   0);
	ask(&w, &a, prompt("b", "hello"));
	ask(&w, &a, prompt("b", "hello")); /* and is not asked for twice */
	assert_answered_by(&a, "far/x");
	world_fini(&w);
}

/* ---- the log */

static void each_request_and_its_attempts_are_in_the_log(void **state)
{
	struct world w;
	struct answer a;
	struct buf out = {0};

	(void)state;
	world_init(&w, routes, 0);
	script(&w.far, "busy");
	ask(&w, &a, prompt("chain", "hello"));
	route_log_json(dispatch_log(w.dispatch), NULL, 10, &out);
	assert_says(out.data, "\"asked\":\"chain\"");
	assert_says(out.data, "\"model\":\"away/y\"");
	assert_says(out.data, "\"outcome\":\"finished\"");
	assert_says(out.data, "far says busy");
	buf_free(&out);
	world_fini(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			a_local_model_that_cannot_come_up_is_replaced_by_its_fallback),
		cmocka_unit_test(a_remote_that_fails_is_replaced_by_the_next),
		cmocka_unit_test(a_lost_connection_is_tried_once_more_before_the_next),
		cmocka_unit_test(
			a_sole_remote_is_tried_again_and_then_its_error_is_told_as_spent),
		cmocka_unit_test(a_failure_that_is_the_requests_own_is_told_at_once),
		cmocka_unit_test(what_was_asked_to_wait_waits_and_tells_the_client),
		cmocka_unit_test(
			when_nothing_is_left_the_first_candidates_error_names_the_others),
		cmocka_unit_test(a_refused_key_spares_the_providers_other_models),
		cmocka_unit_test(a_refused_context_moves_only_to_a_larger_one),
		cmocka_unit_test(a_queue_beyond_patience_moves_on_but_the_last_one_waits),
		cmocka_unit_test(an_engine_that_dies_is_started_again_once_and_then_left),
		cmocka_unit_test(after_the_first_text_a_failure_is_final),
		cmocka_unit_test(an_empty_answer_is_an_answer),
		cmocka_unit_test(a_private_prompt_falls_back_only_to_what_stays),
		cmocka_unit_test(a_model_that_fails_again_and_again_is_left_alone),
		cmocka_unit_test(a_retry_that_finds_the_breaker_open_waits_for_it),
		cmocka_unit_test(a_probe_that_fails_is_told_at_once_and_as_what_it_was),
		cmocka_unit_test(
			cancel_is_legal_in_each_state_of_a_request_that_falls_back),
		cmocka_unit_test(a_client_that_leaves_in_an_event_frees_all),
		cmocka_unit_test(a_reload_while_a_request_waits_changes_nothing_for_it),
		cmocka_unit_test(a_turn_that_falls_back_is_one_turn),
		cmocka_unit_test(history_is_fitted_to_the_candidate_that_gets_it),
		cmocka_unit_test(a_conversation_keeps_what_answered_it),
		cmocka_unit_test(a_call_is_reserved_before_and_settled_after),
		cmocka_unit_test(
			a_refused_call_costs_nothing_and_a_torn_one_its_estimate),
		cmocka_unit_test(over_a_cap_the_cheaper_or_the_local_one_answers),
		cmocka_unit_test(what_a_provider_says_later_corrects_the_books),
		cmocka_unit_test(a_stand_in_answers_while_the_cold_model_loads),
		cmocka_unit_test(
			a_stand_in_that_fails_leaves_the_prompt_to_the_model_that_loads),
		cmocka_unit_test(a_load_behind_an_answer_ends_with_the_daemon),
		cmocka_unit_test(each_request_and_its_attempts_are_in_the_log),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
