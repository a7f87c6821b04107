/* The dispatcher under chance: many requests at once, calls that fail in every way, clients that
 * leave and pause in any state, a reload now and then.  What holds whatever happens:
 *   each request gets exactly one terminal event, or none once it was cancelled;
 *   text comes after one EVENT_STARTED, which names the provider that really said it;
 *   no call is started for a request that has had output; a private one never leaves;
 *   at the end nobody holds a lease, a reservation, a place in flight or a call. */
#include "tests/unit/dispatch_world.h"

/* Many short worlds: in a long one the breakers would be open most of the time. */
enum { AT_ONCE = 20, JOBS = 250, SEEDS = 12 };

static const char *const config_text =
	"model \"good\" { fallback = {\"far/x\", \"away/y\"} }\n"
	"model \"big\" { fallback = {\"far/x\", \"good\"} }\n"
	"model \"far/x\" { price_input = 1 price_output = 10 }\n"
	"route \"chain\" { candidates = {\"far/x\", \"away/y\", \"good\"} }\n"
	"route \"home\" { candidates = {\"other\", \"near/n\", \"far/z\"} patience = 1 }\n"
	"route \"remote\" { candidates = {\"far/x\", \"away/y\"} after_refusal = true }\n"
	"route \"patient\" { candidates = {\"slow\", \"far/w\", \"good\"} patience = 0 }\n"
	"route \"bridge\" { candidates = {\"cold\", \"good\"} bridge = \"away/b\" }\n"
	"budget { daily = 1000000 }\n";

static const char *const names[] = {"good",    "big",    "chain",  "home",   "remote",
				    "patient", "bridge", "far/x",  "away/q", "other",
				    "default", "nobody", "near/n", "far/",   "bad"};

static const char *const words[] = {"ok",
				    "ok",
				    "ok",
				    "ok",
				    "ok",
				    "ok",
				    "ok",
				    "ok",
				    "ok",
				    "ok",
				    "ok",
				    "ok",
				    "ok",
				    "ok",
				    "torn",
				    "empty",
				    "lost",
				    "hang",
				    "mute",
				    "busy@5",
				    "busy",
				    "unavailable",
				    "unavailable",
				    "upstream",
				    "timeout",
				    "payment_required@7",
				    "payment_required",
				    "upstream_auth",
				    "content_filter",
				    "context_length_exceeded",
				    "model_not_found",
				    "invalid",
				    "upstream_unreachable"};

struct client {
	struct answer a;
	bool busy, wants_private;
	int leave_after; /* turns of the loop; < 0 = stays */
	char id[REQUEST_ID_BYTES];
};

struct crowd {
	struct world w;
	struct client clients[AT_ONCE];
	uint64_t chance;
	int started, ended, left, answered;
};

static unsigned pick(struct crowd *c, unsigned n)
{
	c->chance = c->chance * UINT64_C(6364136223846793005) + 1442695040888963407u;
	return (unsigned)(c->chance >> 33) % n;
}

static void script_at_random(struct crowd *c, struct fake *f)
{
	size_t used = 0;

	f->script[0] = '\0';
	for (int i = 0; i < 4; i++)
		used += (size_t)snprintf(f->script + used, sizeof f->script - used,
					 "%s%s", i ? "," : "",
					 words[pick(c, ARRAY_LEN(words))]);
}

/* Later attempts have ids of their own: "hob-7-2". */
static bool is_of(const char *attempt, const char *id)
{
	size_t n = strlen(id);

	return !strncmp(attempt, id, n) && (!attempt[n] || attempt[n] == '-');
}

/* Whatever was shown to the client: there is no second call behind it. */
static void look_at_start(struct world *w, struct fake *f, const struct request *r)
{
	struct crowd *c = CONTAINER_OF(w, struct crowd, w);

	assert_true(!r->is_private || f->provider.is_local);
	for (int i = 0; i < AT_ONCE; i++) {
		struct client *cl = &c->clients[i];

		if (!cl->busy || !is_of(r->id, cl->id))
			continue;
		assert_string_equal(cl->a.text, "");
		assert_int_equal(cl->a.started, 0);
		assert_false(cl->a.gone);
	}
	script_at_random(c, f);
}

static struct request *random_request(struct crowd *c, struct client *cl)
{
	struct request *r = prompt(names[pick(c, ARRAY_LEN(names))], "hello");

	snprintf(cl->id, sizeof cl->id, "hob-%d", c->started);
	snprintf(r->id, sizeof r->id, "%s", cl->id);
	r->is_private = cl->wants_private = pick(c, 4) == 0;
	r->class = (enum request_class)pick(c, 3);
	/* hanging calls end by their deadline or their client */
	r->deadline_ms = clock_mono_ms() + 15 + pick(c, 60);
	if (c->w.store && pick(c, 2))
		r->conversation = xstrdup(pick(c, 3) ? "last" : "new");
	if (pick(c, 10) == 0)
		r->supersede = xstrdup("key");
	return r;
}

static void join_crowd(struct crowd *c, struct client *cl)
{
	memset(cl, 0, sizeof *cl);
	cl->leave_after = pick(c, 3) ? -1 : (int)pick(c, 60);
	start(&c->w, &cl->a, random_request(c, cl));
	cl->a.cancel_at = pick(c, 8) ? 0 : 1 + (int)pick(c, 4);
	cl->busy = true;
	c->started++;
}

static void check_end(struct crowd *c, struct client *cl)
{
	const struct answer *a = &cl->a;
	char said[100];

	if (a->text[0]) {
		snprintf(said, sizeof said, "%s answers", a->provider);
		assert_string_equal(a->text, said);
	}
	if (a->ends) {
		c->ended++;
		c->answered += a->end.type == EVENT_FINISHED;
		assert_int_equal(a->ends, 1);
	} else {
		c->left++;
	}
	cl->busy = false;
}

static void turn(struct crowd *c)
{
	for (int i = 0; i < AT_ONCE; i++) {
		struct client *cl = &c->clients[i];

		if (!cl->busy) {
			if (c->started < JOBS && pick(c, 4) == 0)
				join_crowd(c, cl);
			continue;
		}
		if (cl->a.ends || cl->a.gone) {
			check_end(c, cl);
			continue;
		}
		if (pick(c, 20) == 0)
			dispatch_pause(cl->a.job, pick(c, 2));
		if (cl->leave_after >= 0 && cl->leave_after-- == 0) {
			dispatch_cancel(cl->a.job);
			cl->a.gone = true;
		}
	}
}

static void reload(struct crowd *c)
{
	struct world *w = &c->w;
	struct config *next = world_config(w, config_text);

	models_rescan(w->models, next);
	money_set_config(w->money, next);
	dispatch_set_config(w->dispatch, next);
	config_free(w->config);
	w->config = next;
}

static bool any_busy(const struct crowd *c)
{
	for (int i = 0; i < AT_ONCE; i++)
		if (c->clients[i].busy)
			return true;
	return false;
}

static double reserved(struct world *w)
{
	return 1000000 - money_left_today(w->money) - money_spent_today(w->money, NULL);
}

static void run_crowd(uint64_t seed, int with)
{
	struct crowd *c = xcalloc(1, sizeof *c);

	world_init(&c->w, config_text, with);
	c->chance = seed;
	c->w.on_start = look_at_start;
	c->w.random = 0.01;
	while (c->started < JOBS || any_busy(c)) {
		uv_run(&c->w.loop, UV_RUN_ONCE);
		turn(c);
		c->w.pulses = 0; /* progress is what ends this test, not time */
		if (pick(c, 200) == 0)
			reload(c);
	}
	assert_int_equal(c->ended + c->left, JOBS);
	assert_true(c->answered > 0); /* chance did not make all of them fail */
	assert_nothing_held(&c->w);
	assert_near(reserved(&c->w) / 1e6, 0);
	world_fini(&c->w);
	free(c);
}

static void whatever_happens_each_request_ends_once_and_nothing_is_held(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= SEEDS; seed++)
		run_crowd(seed * 7919, 0);
}

static void the_same_holds_with_memory(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= SEEDS / 4; seed++)
		run_crowd(seed * 104729, WITH_STORE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			whatever_happens_each_request_ends_once_and_nothing_is_held),
		cmocka_unit_test(the_same_holds_with_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
