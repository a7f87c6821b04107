/* Plans: a world in the test's hands, cases by name, then random worlds against what must always hold. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/json.h"
#include "route/plan.h"

/* ---- the world: money, catalogues and files that say what the test wants */

struct money {
	enum money_verdict verdict;
	double left;
};

enum money_verdict money_ask(const struct money *m, const struct money_ask *a, char *why,
			     size_t bytes)
{
	snprintf(why, bytes, "%s",
		 m->verdict == MONEY_HARD   ? "today's 5 USD are used up"
		 : m->verdict == MONEY_SOFT ? "83 % of today's 5 USD are used"
					    : "");
	if (a->request_budget_usd >= 0 && a->most_usd > a->request_budget_usd) {
		snprintf(why, bytes, "over the request's budget");
		return MONEY_HARD;
	}
	return m->verdict;
}

double money_most(const struct prices *p, int prompt_tokens, int output_tokens,
		  int images)
{
	if (p->input < 0 || p->output < 0)
		return -1;
	return p->input * prompt_tokens + p->output * output_tokens +
	       (p->image > 0 ? p->image * images : 0);
}

double money_left_today(const struct money *m)
{
	return m->left;
}

struct remote_models {
	struct remote_model list[8];
	int n;
};

const struct remote_model *remote_models_find(const struct remote_models *m,
					      const char *id)
{
	for (int i = 0; i < m->n; i++)
		if (!strcmp(m->list[i].id, id))
			return &m->list[i];
	return NULL;
}

struct remote {
	struct provider base;
	struct remote_models models;
	bool no_key;
};

static const struct remote_models *ops_models(struct provider *p)
{
	return &((struct remote *)p)->models;
}

static void ops_status(struct provider *p, struct provider_status *out)
{
	*out = (struct provider_status){.has_key = !((struct remote *)p)->no_key,
					.key_source = "$A_KEY"};
}

static const struct provider_ops remote_ops = {
	.kind = "test", .models = ops_models, .status = ops_status};
static const struct provider_ops bare_ops = {.kind = "bare"};

enum { LOCALS = 4 };
static const char *const local_names[LOCALS] = {"big", "mid", "small", "tiny"};
static const uint64_t local_mib[LOCALS] = {4096, 1024, 512, 128};

struct world {
	struct plan_world w;
	struct config config;
	struct config_provider providers[3];
	struct config_model models[4];
	struct config_route routes[4];
	struct remote a, b, lan; /* lan: on this machine */
	struct provider *list[3];
	struct local_forecast forecasts[LOCALS];
	struct money money;
	struct request r;
	struct message message;
	char dir[64];
	struct plan p;
};

static void forecast(void *arg, const struct model *m, enum request_class class,
		     struct local_forecast *out)
{
	const struct world *x = arg;

	(void)class;
	for (int i = 0; i < LOCALS; i++)
		if (!strcmp(m->name, local_names[i]))
			*out = x->forecasts[i];
}

static struct names names_of(char **list, int n)
{
	return (struct names){list, n};
}

#define NAMES(...)                        \
	names_of((char *[]){__VA_ARGS__}, \
		 (int)(sizeof((char *[]){__VA_ARGS__}) / sizeof(char *)))

/* Files with holes: sizes without bytes. */
static void make_files(struct world *x)
{
	snprintf(x->dir, sizeof x->dir, "/tmp/hob-plan-XXXXXX");
	assert_non_null(mkdtemp(x->dir));
	for (int i = 0; i < LOCALS; i++) {
		char *path = xasprintf("%s/%s.gguf", x->dir, local_names[i]);
		FILE *f = fopen(path, "w");

		assert_non_null(f);
		assert_int_equal(ftruncate(fileno(f), (off_t)(local_mib[i] << 20)), 0);
		fclose(f);
		free(path);
	}
}

static void make_remote(struct world *x, int i, struct remote *r, char *name)
{
	r->base = (struct provider){.ops = &remote_ops, .name = name};
	x->list[i] = &r->base;
	x->providers[i].name = name;
}

static const struct remote_model unknown = {
	.images = UNSAID,
	.tools = UNSAID,
	.structured = UNSAID,
	.prices = {-1, -1, -1, -1, -1, -1},
};

static struct remote_model *add_model(struct remote *r, char *id, int ctx, double in,
				      double out)
{
	struct remote_model *m = &r->models.list[r->models.n++];

	*m = unknown;
	m->id = id;
	m->ctx = ctx;
	m->prices.input = in / 1e6;
	m->prices.output = out / 1e6;
	return m;
}

static struct world *world_new(void)
{
	struct world *x = xcalloc(1, sizeof *x);

	make_files(x);
	make_remote(x, 0, &x->a, "a");
	make_remote(x, 1, &x->b, "b");
	make_remote(x, 2, &x->lan, "lan");
	x->lan.base.is_local = true;
	add_model(&x->a, "v/cheap", 131072, 0.1, 0.4);
	add_model(&x->a, "v/dear", 200000, 3, 15);
	add_model(&x->b, "plain", 8192, 0.5, 1.5);
	x->config = (struct config){.models_dir = x->dir,
				    .providers = x->providers,
				    .nproviders = 3,
				    .models = x->models,
				    .routes = x->routes,
				    .ctx = 4096,
				    .queue_timeout_ms = 120000};
	for (int i = 0; i < LOCALS; i++)
		x->forecasts[i] = (struct local_forecast){
			.known = true, .resident = true, .ctx = 4096};
	x->money = (struct money){MONEY_OK, INFINITY};
	x->message = (struct message){.role = ROLE_USER, .text = "Hello"};
	x->r = (struct request){.model = "default",
				.is_chat = true,
				.class = CLASS_INTERACTIVE,
				.messages = &x->message,
				.nmessages = 1,
				.budget_usd = -1};
	x->w = (struct plan_world){.config = &x->config,
				   .models = models_new(&x->config),
				   .providers = x->list,
				   .nproviders = 3,
				   .now_ms = 1000,
				   .forecast = forecast,
				   .health = health_new(),
				   .money = &x->money,
				   .sticky = sticky_new(),
				   .arg = x};
	return x;
}

static void world_free(struct world *x)
{
	plan_fini(&x->p);
	models_free(x->w.models);
	health_free((struct health *)x->w.health);
	sticky_free(x->w.sticky);
	for (int i = 0; i < LOCALS; i++) {
		char *path = xasprintf("%s/%s.gguf", x->dir, local_names[i]);

		unlink(path);
		free(path);
	}
	rmdir(x->dir);
	free(x);
}

static struct config_route *add_route(struct world *x, char *name, enum route_pick pick,
				      struct names candidates)
{
	struct config_route *r = &x->routes[x->config.nroutes++];

	*r = (struct config_route){.name = name,
				   .pick = pick,
				   .candidates = candidates,
				   .patience_ms = 20000};
	return r;
}

static struct config_model *add_facts(struct world *x, char *name)
{
	struct config_model *m = &x->models[x->config.nmodels++];

	m->name = name;
	m->facts = (struct model_facts){.price_input = -1,
					.price_output = -1,
					.price_cached = -1,
					.images = UNSAID,
					.tools = UNSAID,
					.structured = UNSAID};
	return m;
}

static const struct plan *plan_of(struct world *x, const char *model)
{
	plan_fini(&x->p);
	x->r.model = (char *)model;
	plan_make(&x->p, &x->w, &x->r, NULL, x->r.messages, x->r.nmessages);
	return &x->p;
}

/* "big a/v/cheap": the used ones in their order */
static const char *order(struct world *x, const char *model)
{
	static char out[1024];
	const struct plan *p = plan_of(x, model);

	out[0] = '\0';
	for (int i = 0; i < p->nused; i++) {
		size_t n = strlen(out);

		snprintf(out + n, sizeof out - n, "%s%s", i ? " " : "", p->c[i].model);
	}
	return out;
}

static const struct candidate *candidate_of(const struct plan *p, const char *model)
{
	for (int i = 0; i < p->n; i++)
		if (!strcmp(p->c[i].model, model))
			return &p->c[i];
	fail_msg("no candidate '%s'", model);
	return NULL;
}

static const char *why(struct world *x, const char *model)
{
	return candidate_of(&x->p, model)->why;
}

static void open_breaker(struct world *x, const char *provider, const char *model)
{
	struct err e = {.code = ERR_TRANSPORT, .text = "connection refused"};

	for (int i = 0; i < HEALTH_IN_A_ROW; i++)
		health_failure((struct health *)x->w.health, provider, model, x->w.now_ms,
			       &e);
}

/* A prompt of about so many tokens. */
static void prompt(struct world *x, int tokens, char **text)
{
	size_t n = (size_t)tokens * 7 / 2;

	*text = xmalloc(n + 1);
	memset(*text, 'x', n);
	(*text)[n] = '\0';
	x->message.text = *text;
}

/* ---- names */

static void plain_names_are_one_candidate(void **state)
{
	struct world *x = world_new();

	(void)state;
	assert_true(plan_is_plain(&x->w, "small"));
	assert_true(plan_is_plain(&x->w, "a/v/cheap"));
	assert_false(plan_is_plain(&x->w, "auto"));
	assert_string_equal(order(x, "small"), "small");
	assert_null(x->p.c[0].provider);
	assert_null(x->p.c[0].upstream);
	assert_string_equal(x->p.reason, "a local model");
	assert_string_equal(order(x, "a/v/cheap"), "a/v/cheap");
	assert_ptr_equal(x->p.c[0].provider, &x->a.base);
	assert_string_equal(x->p.c[0].upstream, "v/cheap");
	assert_string_equal(x->p.reason, "the model's name is a remote provider's");
	assert_string_equal(order(x, "b/unheard-of"), "b/unheard-of");
	assert_int_equal(x->p.c[0].ctx, 0);
	world_free(x);
}

static void the_default_may_be_a_model_a_remote_one_or_a_route(void **state)
{
	struct world *x = world_new();

	(void)state;
	add_route(x, "smart", PICK_ORDER, NAMES("mid", "a/v/cheap"));
	assert_string_equal(order(x, "default"), "big"); /* the first there is */
	x->config.default_model = "tiny";
	assert_string_equal(order(x, "default"), "tiny");
	x->config.default_model = "a/v/dear";
	assert_string_equal(order(x, ""), "a/v/dear");
	x->config.default_model = "smart";
	assert_string_equal(order(x, "default"), "mid a/v/cheap");
	assert_string_equal(x->p.route, "smart");
	assert_string_equal(x->p.asked, "default");
	world_free(x);
}

static void unknown_names_get_the_nearest_one(void **state)
{
	struct world *x = world_new();

	(void)state;
	add_route(x, "smart", PICK_ORDER, NAMES("mid"));
	assert_string_equal(order(x, "smal"), "");
	assert_int_equal(x->p.error.code, ERR_MODEL);
	assert_string_equal(x->p.error.text, "no model 'smal'; did you mean 'small'?");
	plan_of(x, "smrt");
	assert_string_equal(x->p.error.text, "no model 'smrt'; did you mean 'smart'?");
	plan_of(x, "lann/m");
	assert_string_equal(x->p.error.text, "no model 'lann/m'; did you mean 'lan/m'?");
	plan_of(x, "xxxxxxxx");
	assert_string_equal(x->p.error.text,
			    "no model 'xxxxxxxx'; 'hob ls' lists those there are");
	plan_of(x, "a/");
	assert_int_equal(x->p.error.code, ERR_MODEL);
	world_free(x);
}

static void a_model_with_fallbacks_is_a_plan(void **state)
{
	struct world *x = world_new();

	(void)state;
	add_facts(x, "a/v/dear")->facts.fallback = NAMES("b/plain", "tiny", "b/plain");
	assert_false(plan_is_plain(&x->w, "a/v/dear"));
	assert_string_equal(order(x, "a/v/dear"), "a/v/dear b/plain tiny");
	assert_null(x->p.route);
	assert_int_equal(x->p.patience_ms, 120000);
	x->a.no_key = true;
	assert_string_equal(order(x, "a/v/dear"), "b/plain tiny");
	assert_string_equal(x->p.reason,
			    "model 'a/v/dear' and its fallbacks: a/v/dear no "
			    "key: set $A_KEY; b/plain is next");
	world_free(x);
}

static void a_route_is_no_candidate_of_a_route(void **state)
{
	struct world *x = world_new();

	(void)state;
	add_route(x, "one", PICK_ORDER, NAMES("two", "tiny"));
	add_route(x, "two", PICK_ORDER, NAMES("mid"));
	assert_string_equal(order(x, "one"), "tiny");
	assert_string_equal(why(x, "two"),
			    "is a route: candidates of a route are models");
	world_free(x);
}

/* ---- who cannot */

static void private_requests_stay_here(void **state)
{
	struct world *x = world_new();

	(void)state;
	add_route(x, "smart", PICK_ORDER, NAMES("a/v/dear", "lan/m", "tiny"));
	add_route(x, "away", PICK_ORDER, NAMES("a/v/dear", "b/plain"));
	x->r.is_private = true;
	assert_string_equal(order(x, "smart"), "lan/m tiny");
	assert_true(x->p.c[0].stays && x->p.c[1].stays);
	assert_string_equal(why(x, "a/v/dear"), "private: must not leave this machine");
	assert_string_equal(order(x, "away"), "");
	assert_int_equal(x->p.error.code, ERR_FORBIDDEN);
	plan_of(x, "a/v/dear");
	assert_int_equal(x->p.error.code, ERR_FORBIDDEN);
	assert_string_equal(x->p.error.text,
			    "model 'a/v/dear': private: must not leave this machine");
	x->r.is_private = false;
	x->w.local_only = true;
	assert_string_equal(order(x, "smart"), "lan/m tiny");
	assert_string_equal(order(x, "away"), "");
	assert_int_equal(x->p.error.code, ERR_FORBIDDEN);
	world_free(x);
}

static void prompts_too_long_for_a_context_go_elsewhere(void **state)
{
	struct world *x = world_new();
	char *text;

	(void)state;
	add_route(x, "smart", PICK_ORDER, NAMES("mid", "b/plain", "a/v/cheap"));
	add_route(x, "local", PICK_ORDER, NAMES("mid", "small"));
	prompt(x, 5000, &text);
	assert_string_equal(order(x, "smart"), "b/plain a/v/cheap");
	assert_string_equal(why(x, "mid"), "context of 4096 tokens: the prompt has about "
					   "5004, and an answer needs 256");
	assert_string_equal(order(x, "mid"), "mid"); /* it says so itself */
	x->forecasts[2].ctx = 4500;
	assert_string_equal(order(x, "local"), "small"); /* the larger of two too small */
	assert_non_null(strstr(x->p.c[0].why, "no other is left"));
	add_facts(x, "a/v/cheap")->settings.ctx = 4096;
	assert_string_equal(order(x, "smart"), "b/plain");
	free(text);
	prompt(x, 4096, &text); /* within the slack of the estimate */
	x->r.sampling.max_tokens = 64;
	assert_string_equal(order(x, "local"), "mid small");
	free(text);
	world_free(x);
}

static void what_a_model_cannot_do_is_asked_of_the_facts(void **state)
{
	struct world *x = world_new();

	(void)state;
	add_route(x, "smart", PICK_ORDER, NAMES("mid", "a/v/cheap", "b/plain"));
	add_route(x, "local", PICK_ORDER, NAMES("mid", "small"));
	x->message.raw_json = "{\"content\":[{\"type\":\"image_url\"}]}";
	assert_string_equal(order(x, "smart"), "a/v/cheap b/plain"); /* nobody said no */
	assert_string_equal(why(x, "mid"), "cannot do images");
	x->a.models.list[0].images = NO;
	assert_string_equal(order(x, "smart"), "b/plain");
	add_facts(x, "a/v/cheap")->facts.images = YES; /* the user knows better */
	assert_string_equal(order(x, "smart"), "a/v/cheap b/plain");
	assert_string_equal(order(x, "local"), "mid"); /* for the engine's own words */
	x->message.raw_json = NULL;
	x->r.extra_json = "{\"tools\":[{}]}";
	x->b.models.list[0].tools = NO;
	assert_string_equal(order(x, "smart"), "a/v/cheap");
	x->r.extra_json = "{\"response_format\":{\"type\":\"json_object\"}}";
	assert_string_equal(order(x, "smart"), "a/v/cheap b/plain");
	world_free(x);
}

static void the_last_one_left_must_have_passed_all_other_checks(void **state)
{
	struct world *x = world_new();

	(void)state;
	add_route(x, "away", PICK_ORDER, NAMES("a/v/cheap", "b/plain"));
	x->message.raw_json = "{\"content\":[{\"type\":\"image_url\"}]}";
	x->a.models.list[0].images = NO;
	x->money.verdict = MONEY_HARD;
	assert_string_equal(order(x, "away"), "");
	assert_int_equal(x->p.error.code, ERR_PAYMENT);
	x->money.verdict = MONEY_OK;
	open_breaker(x, "a", "v/cheap");
	open_breaker(x, "b", "plain");
	assert_string_equal(order(x, "away"), "");
	assert_int_equal(x->p.error.code, ERR_UNAVAILABLE);
	world_free(x);
}

static void a_missing_key_says_what_to_set(void **state)
{
	struct world *x = world_new();

	(void)state;
	x->a.no_key = true;
	plan_of(x, "a/v/cheap");
	assert_int_equal(x->p.error.code, ERR_UNAUTHORIZED);
	assert_string_equal(x->p.error.text, "model 'a/v/cheap': no key: set $A_KEY");
	x->b.base.ops = &bare_ops; /* knows nothing of keys and models */
	assert_string_equal(order(x, "b/plain"), "b/plain");
	world_free(x);
}

static void an_open_breaker_fails_at_once(void **state)
{
	struct world *x = world_new();

	(void)state;
	add_route(x, "smart", PICK_ORDER, NAMES("a/v/cheap", "tiny"));
	open_breaker(x, "a", "v/cheap");
	assert_string_equal(order(x, "smart"), "tiny");
	plan_of(x, "a/v/cheap");
	assert_int_equal(x->p.error.code, ERR_UNAVAILABLE);
	assert_int_equal(x->p.error.retry_after_ms, HEALTH_OPEN_MIN_MS);
	assert_string_equal(x->p.error.text, "model 'a/v/cheap': failed lately, is tried "
					     "again in 5 s: connection refused");
	x->w.now_ms += HEALTH_OPEN_MIN_MS; /* a probe may go */
	assert_string_equal(order(x, "smart"), "a/v/cheap tiny");
	world_free(x);
}

static void money_drops_or_reorders(void **state)
{
	struct world *x = world_new();

	(void)state;
	add_route(x, "smart", PICK_ORDER, NAMES("a/v/dear", "tiny", "b/plain", "mid"));
	add_route(x, "away", PICK_ORDER, NAMES("a/v/dear", "b/plain"));
	x->money.verdict = MONEY_SOFT;
	assert_string_equal(order(x, "smart"), "tiny mid a/v/dear b/plain");
	assert_non_null(strstr(x->p.reason, "the budget is nearly used up"));
	assert_string_equal(why(x, "a/v/dear"), "83 % of today's 5 USD are used");
	x->money.verdict = MONEY_HARD;
	assert_string_equal(order(x, "smart"), "tiny mid");
	assert_string_equal(order(x, "away"), "");
	assert_int_equal(x->p.error.code, ERR_PAYMENT);
	assert_non_null(strstr(x->p.error.text, "today's 5 USD are used up"));
	x->money.verdict = MONEY_OK;
	x->r.budget_usd = 0.001;
	x->r.sampling.max_tokens = 100; /* 100 * 15 / 1e6 and the prompt: over */
	assert_string_equal(order(x, "away"), "b/plain");
	assert_true(x->p.c[0].usd > 0 && x->p.c[0].usd < 0.001);
	world_free(x);
}

/* ---- rules */

static void the_first_rule_that_holds_decides(void **state)
{
	struct config_rule rules[3];
	struct config_rule any = {.images = UNSAID,
				  .tools = UNSAID,
				  .structured = UNSAID,
				  .is_private = UNSAID,
				  .budget_below_usd = -1};
	struct world *x = world_new();
	struct config_route *r = add_route(x, "smart", PICK_ORDER, NAMES("mid"));
	char *text;

	(void)state;
	rules[0] = rules[1] = rules[2] = any;
	rules[0].name = "no";
	rules[0].words = NAMES("forbidden");
	rules[0].refuse = "ask somebody else";
	rules[1].name = "long";
	rules[1].min_tokens = 1000;
	rules[1].use = NAMES("a/v/cheap", "b/plain");
	rules[2].name = "poor";
	rules[2].budget_below_usd = 1;
	rules[2].use = NAMES("tiny");
	r->rules = rules;
	r->nrules = 3;
	assert_string_equal(order(x, "smart"), "mid");
	assert_null(x->p.rule);
	x->money.left = 0.5;
	assert_string_equal(order(x, "smart"), "tiny");
	prompt(x, 1000, &text);
	assert_string_equal(order(x, "smart"), "a/v/cheap b/plain");
	assert_string_equal(x->p.rule, "long");
	assert_string_equal(x->p.reason,
			    "route 'smart', rule 'long': a/v/cheap is first");
	x->message.text = "a FORBIDDEN word";
	assert_string_equal(order(x, "smart"), "");
	assert_int_equal(x->p.error.code, ERR_FORBIDDEN);
	assert_string_equal(x->p.error.text,
			    "route 'smart', rule 'no': ask somebody else");
	free(text);
	world_free(x);
}

/* ---- order */

static void who_would_make_wait_goes_to_the_end(void **state)
{
	struct world *x = world_new();

	(void)state;
	add_route(x, "smart", PICK_ORDER, NAMES("mid", "a/v/cheap", "small"));
	x->forecasts[1].queue_ms = 20000;
	assert_string_equal(order(x, "smart"), "mid a/v/cheap small");
	x->forecasts[1].queue_ms = 40001;
	assert_string_equal(order(x, "smart"), "a/v/cheap small mid");
	assert_string_equal(why(x, "mid"), "would wait 41 s (patience 20 s)");
	assert_string_equal(
		x->p.reason,
		"route 'smart': mid would wait 41 s (patience 20 s); a/v/cheap is next");
	x->r.is_private = true;
	x->forecasts[2].queue_ms = 50000; /* both too slow: as configured */
	assert_string_equal(order(x, "smart"), "mid small");
	x->forecasts[1] = (struct local_forecast){.known = true, .load_ms = 30000};
	x->forecasts[2].queue_ms = 0;
	assert_string_equal(order(x, "smart"), "small mid"); /* a load counts as well */
	world_free(x);
}

static void auto_weighs_strength_time_and_price(void **state)
{
	struct world *x = world_new();
	struct config_route *r = add_route(x, "pick", PICK_AUTO,
					   NAMES("tiny", "big", "a/v/cheap", "a/v/dear"));

	(void)state;
	order(x, "pick");
	assert_true(x->p.pin);
	assert_int_equal(candidate_of(&x->p, "tiny")->strength, 1); /* 128 MiB */
	assert_int_equal(candidate_of(&x->p, "big")->strength, 6);  /* 4 GiB */
	assert_int_equal(candidate_of(&x->p, "a/v/cheap")->strength, 8);
	assert_int_equal(candidate_of(&x->p, "a/v/dear")->strength, 10);
	for (int i = 1; i < x->p.nused; i++)
		assert_true(x->p.c[i - 1].score >= x->p.c[i].score);
	r->prefer = PREFER_STRONG;
	order(x, "pick");
	assert_string_equal(x->p.c[0].model, "a/v/dear");
	r->prefer = PREFER_CHEAP;
	order(x, "pick");
	assert_null(x->p.c[0].upstream);
	r->prefer = PREFER_FAST;
	x->forecasts[0] = (struct local_forecast){.known = true, .load_ms = 60000};
	order(x, "pick");
	assert_string_equal(x->p.c[x->p.nused - 1].model, "big");
	add_facts(x, "tiny")->facts.strength = 10;
	order(x, "pick");
	assert_string_equal(x->p.c[0].model, "tiny"); /* what is declared counts */
	world_free(x);
}

static void the_score_is_the_documented_formula(void **state)
{
	struct world *x = world_new();
	const struct candidate *c;
	double ttft;

	(void)state;
	add_route(x, "pick", PICK_AUTO, NAMES("a/v/cheap", "big"));
	x->forecasts[0] =
		(struct local_forecast){.known = true, .queue_ms = 700, .load_ms = 2000};
	order(x, "pick"); /* "Hello" is 1 token, and 4 of the template */
	c = candidate_of(&x->p, "big");
	ttft = 700 + 2000 + 5 * 4 * PLAN_PREFILL_MS_TOKEN_GIB;
	assert_true(fabs(c->ttft_ms - ttft) < 1e-6);
	assert_true(fabs(c->score - (6 - log2(1 + ttft / 500))) < 1e-9);
	c = candidate_of(&x->p, "a/v/cheap");
	ttft = 250 + 5 * PLAN_REMOTE_MS_TOKEN;
	assert_true(fabs(c->ttft_ms - ttft) < 1e-6);
	assert_true(fabs(c->score - (8 - log2(1 + ttft / 500) -
				     log2(1 + (5 * 0.1e-6 + 512 * 0.4e-6) / 0.0005))) <
		    1e-9);
	health_local_speed((struct health *)x->w.health, "big", 100, 100);
	order(x, "pick");
	assert_true(fabs(candidate_of(&x->p, "big")->ttft_ms - 2705) < 1e-6);
	world_free(x);
}

static void auto_without_a_section_is_all_that_is_here(void **state)
{
	struct world *x = world_new();

	(void)state;
	order(x, "auto");
	assert_int_equal(x->p.nused, LOCALS);
	assert_string_equal(x->p.route, "auto");
	add_facts(x, "big")->settings.role = MODEL_COMPLETION;
	models_rescan(x->w.models, &x->config);
	order(x, "auto");
	assert_string_equal(why(x, "big"), "is kept for completions");
	x->r.class = CLASS_COMPLETION;
	order(x, "auto");
	assert_int_equal(x->p.nused, LOCALS);
	world_free(x);
}

static void a_conversation_keeps_its_choice_while_it_can(void **state)
{
	struct world *x = world_new();

	(void)state;
	add_route(x, "pick", PICK_AUTO, NAMES("tiny", "a/v/cheap"));
	sticky_put(x->w.sticky, "pick", sticky_key(&x->r, NULL, &x->message, 1), "tiny",
		   x->w.now_ms);
	assert_string_equal(order(x, "pick"), "tiny a/v/cheap");
	assert_string_equal(x->p.reason,
			    "route 'pick': tiny is this conversation's choice");
	sticky_put(x->w.sticky, "pick", sticky_key(&x->r, NULL, &x->message, 1),
		   "a/v/cheap", x->w.now_ms);
	open_breaker(x, "a", "v/cheap");
	assert_string_equal(order(x, "pick"), "tiny");
	world_free(x);
}

/* ---- the bridge */

static void a_cold_model_has_a_stand_in(void **state)
{
	struct world *x = world_new();
	struct config_route *r = add_route(x, "smart", PICK_ORDER, NAMES("big", "tiny"));

	(void)state;
	r->bridge = "a/v/cheap";
	assert_string_equal(order(x, "smart"), "big tiny"); /* it is warm */
	assert_null(x->p.load_behind);
	x->forecasts[0] = (struct local_forecast){.known = true, .load_ms = 900};
	assert_string_equal(order(x, "smart"), "big tiny"); /* soon enough */
	x->forecasts[0].load_ms = -1; /* nobody knows: 4 GiB from a disk */
	assert_string_equal(order(x, "smart"), "a/v/cheap big tiny");
	assert_true(x->p.c[0].is_bridge);
	assert_string_equal(x->p.load_behind, "big");
	assert_string_equal(x->p.reason,
			    "route 'smart': a/v/cheap answers while big loads");
	x->r.is_private = true;
	assert_string_equal(order(x, "smart"), "big tiny");
	assert_null(x->p.load_behind);
	x->r.is_private = false;
	x->money.verdict = MONEY_SOFT;
	assert_string_equal(order(x, "smart"), "big tiny");
	x->money.verdict = MONEY_OK;
	r->bridge = "tiny"; /* one of the candidates, and warm */
	assert_string_equal(order(x, "smart"), "tiny big");
	assert_string_equal(x->p.load_behind, "big");
	x->forecasts[3] = (struct local_forecast){.known = true, .load_ms = 5000};
	assert_string_equal(order(x, "smart"), "big tiny"); /* as cold */
	world_free(x);
}

static void prompts_too_long_for_the_bridge_wait(void **state)
{
	struct world *x = world_new();
	struct config_route *r = add_route(x, "smart", PICK_ORDER, NAMES("big", "small"));
	char *text;

	(void)state;
	r->bridge = "b/plain";
	prompt(x, 9000, &text);
	x->forecasts[0] =
		(struct local_forecast){.known = true, .load_ms = 9000, .ctx = 32768};
	assert_string_equal(order(x, "smart"), "big");
	assert_null(x->p.load_behind);
	free(text);
	world_free(x);
}

/* ---- what is printed */

static void explanations_are_json(void **state)
{
	struct world *x = world_new();
	const cJSON *list, *c;
	struct features f;
	struct buf out = {0};
	struct err e = {0};
	cJSON *tree;

	(void)state;
	add_route(x, "smart", PICK_ORDER, NAMES("gone\"", "mid", "b/x"));
	features_of(&x->r, &x->message, 1, &f);
	plan_of(x, "smart");
	plan_json(&x->p, &f, &out);
	tree = json_parse(buf_str(&out), &e);
	assert_non_null(tree);
	assert_string_equal(cJSON_GetObjectItem(tree, "chosen")->valuestring, "mid");
	assert_string_equal(cJSON_GetObjectItem(tree, "route")->valuestring, "smart");
	assert_true(cJSON_IsNull(cJSON_GetObjectItem(tree, "rule")));
	list = cJSON_GetObjectItem(tree, "candidates");
	assert_int_equal(cJSON_GetArraySize(list), 3);
	c = cJSON_GetArrayItem(list, 0);
	assert_string_equal(cJSON_GetObjectItem(c, "provider")->valuestring, "local");
	assert_true(cJSON_IsTrue(cJSON_GetObjectItem(c, "use")));
	c = cJSON_GetArrayItem(list, 1);
	assert_string_equal(cJSON_GetObjectItem(c, "provider")->valuestring, "b");
	assert_true(cJSON_IsNull(cJSON_GetObjectItem(c, "predicted_usd")));
	assert_true(cJSON_IsNull(cJSON_GetObjectItem(c, "score")));
	assert_true(cJSON_IsNull(cJSON_GetObjectItem(c, "ctx")));
	c = cJSON_GetArrayItem(list, 2);
	assert_true(cJSON_IsFalse(cJSON_GetObjectItem(c, "use")));
	assert_int_equal(
		cJSON_GetObjectItem(cJSON_GetObjectItem(tree, "features"), "tokens")
			->valueint,
		5);
	cJSON_Delete(tree);
	buf_free(&out);
	world_free(x);
}

static void reasons_are_ascii(void **state)
{
	struct world *x = world_new();

	(void)state;
	add_route(x, "schl\xC3\xA4u\n", PICK_ORDER, NAMES("n\xC3\xB6\x1b", "mid"));
	plan_of(x, "schl\xC3\xA4u\n");
	for (const char *p = x->p.reason; *p; p++)
		assert_true(*p >= 0x20 && *p < 0x7F);
	assert_non_null(strstr(x->p.reason, "schl??u "));
	world_free(x);
}

static void more_candidates_than_fit_are_left_out(void **state)
{
	struct world *x = world_new();
	char text[100][16], *list[100];

	(void)state;
	for (int i = 0; i < 100; i++) {
		snprintf(text[i], sizeof text[i], "b/m%d", i);
		list[i] = text[i];
	}
	add_route(x, "many", PICK_AUTO, names_of(list, 100))->bridge = "tiny";
	plan_of(x, "many");
	assert_int_equal(x->p.n, PLAN_MAX);
	assert_int_equal(x->p.nused, PLAN_MAX);
	world_free(x);
}

/* ---- random worlds */

static uint64_t next_random(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s;
}

static void check(struct world *x)
{
	const struct plan *p = &x->p;

	assert_true(p->n > 0 && p->n <= PLAN_MAX);
	for (int i = 0; i < p->n; i++) {
		const struct candidate *c = &p->c[i];

		assert_int_equal(c->use, i < p->nused); /* the used ones first */
		assert_true(c->use || c->why[0]);       /* each dropped one says why */
		assert_true(c->use || c->code != ERR_NONE);
		assert_true(!c->use || c->stays ||
			    (!x->r.is_private && !x->w.local_only));
		assert_true(!c->use || c->stays || x->money.verdict != MONEY_HARD);
		assert_true(!c->use ||
			    c->stays == (!c->upstream || c->provider == &x->lan.base));
		for (int k = 0; k < i; k++)
			assert_string_not_equal(c->model, p->c[k].model);
	}
	if (p->nused)
		assert_true(p->reason[0]);
	else
		assert_true(p->error.code != ERR_NONE && p->error.text[0]);
	if (p->load_behind) {
		assert_true(p->c[0].is_bridge && !p->c[0].cold);
		assert_string_equal(p->load_behind, p->c[1].model);
		assert_true(p->c[1].cold && !p->c[1].upstream);
	}
}

static void shuffle_world(struct world *x, uint64_t *s)
{
	static const char *const models[] = {"big",       "mid",      "small",   "tiny",
					     "a/v/cheap", "a/v/dear", "b/plain", "lan/m",
					     "gone",      "b/",       "default", "r0"};
	static char *lists[3][6];

	x->config.nroutes = 0;
	for (int i = 0; i < 3; i++) {
		static char *const route_names[] = {"r0", "r1", "auto"};
		int n = 1 + (int)(next_random(s) % 6);
		struct config_route *r;

		for (int k = 0; k < n; k++)
			lists[i][k] = (char *)models[next_random(s) % ARRAY_LEN(models)];
		r = add_route(x, route_names[i], (enum route_pick)(next_random(s) % 2),
			      names_of(lists[i], n));
		r->prefer = (enum route_prefer)(next_random(s) % 4);
		r->patience_ms = (int)(next_random(s) % 30000);
		if (next_random(s) % 2)
			r->bridge = (char *)models[next_random(s) % ARRAY_LEN(models)];
	}
	for (int i = 0; i < LOCALS; i++)
		x->forecasts[i] = (struct local_forecast){
			.known = next_random(s) % 4 != 0,
			.resident = next_random(s) % 2,
			.too_big = next_random(s) % 8 == 0,
			.ctx = (int)(next_random(s) % 3) * 2048,
			.queue_ms = (double)(next_random(s) % 60000),
			.load_ms = (double)(next_random(s) % 60000) - 10000};
	x->r.is_private = next_random(s) % 3 == 0;
	x->w.local_only = next_random(s) % 5 == 0;
	x->money.verdict = (enum money_verdict)(next_random(s) % 3);
	x->a.no_key = next_random(s) % 4 == 0;
	x->a.models.list[0].images = (enum tristate)((int)(next_random(s) % 3) - 1);
	x->message.raw_json = next_random(s) % 3 ? NULL : "{\"type\":\"image_url\"}";
	x->r.extra_json = next_random(s) % 3 ? NULL : "{\"tools\":[{}]}";
	x->w.now_ms += next_random(s) % 3000;
	if (next_random(s) % 4 == 0)
		open_breaker(x, next_random(s) % 2 ? "a" : "b",
			     next_random(s) % 2 ? "v/cheap" : "plain");
}

static void random_worlds_keep_the_promises(void **state)
{
	static const char *const asked[] = {"r0",      "r1",        "auto",
					    "default", "big",       "gone",
					    "lan/m",   "a/v/cheap", "b/plain"};
	struct world *x = world_new();
	uint64_t s = 2463534242;
	struct plan again;

	(void)state;
	add_facts(x, "a/v/cheap")->facts.fallback = NAMES("tiny", "b/plain");
	for (int i = 0; i < 4000; i++) {
		const char *model = asked[next_random(&s) % ARRAY_LEN(asked)];

		shuffle_world(x, &s);
		plan_of(x, model);
		check(x);
		plan_make(&again, &x->w, &x->r, NULL, &x->message, 1);
		assert_int_equal(again.n, x->p.n); /* the same world, the same plan */
		assert_int_equal(again.nused, x->p.nused);
		assert_string_equal(again.reason, x->p.reason);
		for (int k = 0; k < again.n; k++)
			assert_string_equal(again.c[k].model, x->p.c[k].model);
		plan_fini(&again);
		if (x->p.pin && x->p.nused)
			sticky_put(x->w.sticky, x->p.route,
				   sticky_key(&x->r, NULL, &x->message, 1),
				   x->p.c[next_random(&s) % (uint64_t)x->p.nused].model,
				   x->w.now_ms);
	}
	world_free(x);
}

/* No limit: it is told, for whoever runs it (HOB_PLAN_SPEED=1). */
static void speed(struct world *x, const char *model)
{
	enum { TIMES = 20000 };
	uint64_t start = clock_mono_us();

	for (int i = 0; i < TIMES; i++)
		plan_of(x, model);
	printf("# plan of %-10s %.2f us\n", model,
	       (double)(clock_mono_us() - start) / TIMES);
}

static void plans_are_quick(void **state)
{
	struct world *x;

	(void)state;
	if (!getenv("HOB_PLAN_SPEED"))
		skip();
	x = world_new();
	add_route(x, "smart", PICK_ORDER, NAMES("mid", "a/v/cheap", "b/plain"));
	speed(x, "small");
	speed(x, "a/v/cheap");
	speed(x, "smart");
	speed(x, "auto");
	world_free(x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_names_are_one_candidate),
		cmocka_unit_test(the_default_may_be_a_model_a_remote_one_or_a_route),
		cmocka_unit_test(unknown_names_get_the_nearest_one),
		cmocka_unit_test(a_model_with_fallbacks_is_a_plan),
		cmocka_unit_test(a_route_is_no_candidate_of_a_route),
		cmocka_unit_test(private_requests_stay_here),
		cmocka_unit_test(prompts_too_long_for_a_context_go_elsewhere),
		cmocka_unit_test(what_a_model_cannot_do_is_asked_of_the_facts),
		cmocka_unit_test(the_last_one_left_must_have_passed_all_other_checks),
		cmocka_unit_test(a_missing_key_says_what_to_set),
		cmocka_unit_test(an_open_breaker_fails_at_once),
		cmocka_unit_test(money_drops_or_reorders),
		cmocka_unit_test(the_first_rule_that_holds_decides),
		cmocka_unit_test(who_would_make_wait_goes_to_the_end),
		cmocka_unit_test(auto_weighs_strength_time_and_price),
		cmocka_unit_test(the_score_is_the_documented_formula),
		cmocka_unit_test(auto_without_a_section_is_all_that_is_here),
		cmocka_unit_test(a_conversation_keeps_its_choice_while_it_can),
		cmocka_unit_test(a_cold_model_has_a_stand_in),
		cmocka_unit_test(prompts_too_long_for_the_bridge_wait),
		cmocka_unit_test(explanations_are_json),
		cmocka_unit_test(reasons_are_ascii),
		cmocka_unit_test(more_candidates_than_fit_are_left_out),
		cmocka_unit_test(random_worlds_keep_the_promises),
		cmocka_unit_test(plans_are_quick),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
