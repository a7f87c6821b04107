/* From a name to candidates in their order, with a reason.  Loop thread; nothing is remembered.
 *
 * The array keeps the used ones first all the way; each step is a stable sort or a move to the front, so
 * that whatever a step does not care about stays as the configuration has it.  The question a reader will
 * ask: why plain names go through all of it.  They have one candidate, for which everything that costs
 * (features, guesses, scores) is skipped; one code path keeps privacy and money the same for all. */
#include "route/plan_impl.h"

#include <math.h>
#include "base/log.h"
#include "base/nearest.h"
#include "route/rules.h"

/* ---- candidates */

void candidate_say(struct candidate *c, const char *fmt, ...)
{
	size_t n = strlen(c->why);
	va_list ap;

	if (n && n + 2 < sizeof c->why)
		n += (size_t)snprintf(c->why + n, sizeof c->why - n, "; ");
	va_start(ap, fmt);
	vsnprintf(c->why + n, sizeof c->why - n, fmt, ap);
	va_end(ap);
}

void candidate_drop(struct candidate *c, enum err_code code, const char *fmt, ...)
{
	va_list ap;

	c->use = false;
	c->code = code;
	va_start(ap, fmt);
	vsnprintf(c->why, sizeof c->why, fmt, ap);
	va_end(ap);
}

static struct provider *find_provider(const struct plan_world *w, struct str name)
{
	for (int i = 0; i < w->nproviders; i++)
		if (str_eq(name, w->providers[i]->name))
			return w->providers[i];
	return NULL;
}

static int find_candidate(const struct plan *p, const char *name)
{
	for (int i = 0; i < p->n; i++)
		if (!strcmp(p->c[i].model, name))
			return i;
	return -1;
}

static struct candidate *new_candidate(struct draft *d, const char *name)
{
	struct plan *p = d->out;
	struct candidate *c = &p->c[p->n];

	*c = (struct candidate){.model = xstrdup(name),
				.use = true,
				.at = p->n,
				.ttft_ms = -1,
				.usd = -1,
				.wait_ms = -1,
				.likely_usd = -1,
				.score = NAN,
				.prices = {-1, -1, -1, -1, -1, -1}};
	p->n++;
	return c;
}

static void add_local(struct draft *d, const struct model *m)
{
	struct candidate *c;

	if (find_candidate(d->out, m->name) >= 0 || d->out->n == PLAN_MAX)
		return;
	c = new_candidate(d, m->name);
	c->prices = (struct prices){0};
	fit_local(d, c, m);
}

static void add_remote(struct draft *d, const char *name, struct provider *p)
{
	struct candidate *c = new_candidate(d, name);

	c->provider = p;
	c->upstream = strchr(c->model, '/') + 1;
	fit_remote(d, c);
}

/* Something near in spelling: a model, a route, or another provider's prefix. */
static void offer_nearest(const struct plan_world *w, const char *name, char *out,
			  size_t bytes)
{
	const char *slash = strchr(name, '/');
	char prefix[128];
	struct nearest n = {.word = name};
	const char *model = models_nearest(w->models, name);

	out[0] = '\0';
	if (slash) {
		snprintf(prefix, sizeof prefix, "%.*s", (int)(slash - name), name);
		n.word = prefix;
		for (int i = 0; i < w->nproviders; i++)
			nearest_offer(&n, w->providers[i]->name);
		if (n.best)
			snprintf(out, bytes, "%s%.150s", n.best, slash);
		return;
	}
	if (model)
		nearest_offer(&n, model);
	for (int i = 0; i < w->config->nroutes; i++)
		nearest_offer(&n, w->config->routes[i].name);
	nearest_offer(&n, "auto");
	if (n.best)
		snprintf(out, bytes, "%.150s", n.best);
}

static void add_unknown(struct draft *d, const char *name)
{
	struct candidate *c = new_candidate(d, name);
	char near[200];

	offer_nearest(d->w, name, near, sizeof near);
	if (config_route(d->w->config, name))
		candidate_drop(c, ERR_MODEL,
			       "is a route: candidates of a route are models");
	else if (near[0])
		candidate_drop(c, ERR_MODEL, NO_SUCH "; did you mean '%.150s'?", near);
	else
		candidate_drop(c, ERR_MODEL, NO_SUCH "; 'hob ls' lists those there are");
}

static void add_default(struct draft *d)
{
	const struct model *m = models_default(d->w->models);

	if (m) {
		add_local(d, m);
		return;
	}
	candidate_drop(new_candidate(d, "default"), ERR_MODEL,
		       "there is no model yet; get one with 'hob pull smollm2:135m'");
}

/* A name of the configuration or of a client. */
static void add_name(struct draft *d, const char *name)
{
	const char *slash = strchr(name, '/');
	struct provider *p = NULL;
	const struct model *m;

	if (d->out->n == PLAN_MAX || find_candidate(d->out, name) >= 0)
		return;
	if (!name[0] || !strcmp(name, "default")) {
		add_default(d);
		return;
	}
	if (slash)
		p = find_provider(d->w, (struct str){name, (size_t)(slash - name)});
	if (p || (slash && config_provider_of(d->w->config, name))) {
		add_remote(d, name, p);
		return;
	}
	m = models_find(d->w->models, name);
	if (m)
		add_local(d, m);
	else
		add_unknown(d, name);
}

static void add_names(struct draft *d, const struct names *names)
{
	for (int i = 0; i < names->n; i++)
		add_name(d, names->list[i]);
}

/* `auto` without candidates: whatever is here.  A model that is kept for completions is not for chats. */
static void add_all_local(struct draft *d)
{
	int n = models_count(d->w->models);

	for (int i = 0; i < n; i++) {
		const struct model *m = models_at(d->w->models, i);
		int before = d->out->n;

		add_local(d, m);
		if (d->out->n > before && m->settings.role == MODEL_COMPLETION &&
		    d->r->class != CLASS_COMPLETION && d->out->c[before].use) {
			candidate_drop(&d->out->c[before], ERR_UNSUPPORTED,
				       "is kept for completions");
			d->out->c[before].by_guess = true;
		}
	}
	if (!d->out->n)
		add_default(d);
}

/* ---- routes */

static const struct config_rule *rule_that_holds(const struct draft *d,
						 const struct config_route *route)
{
	struct rules_now now;

	if (!route->nrules)
		return NULL;
	rules_now(&now, d->w->money ? money_left_today(d->w->money) : INFINITY);
	for (int i = 0; i < route->nrules; i++)
		if (rules_hold(&route->rules[i], &d->f, &now))
			return &route->rules[i];
	return NULL;
}

/* route NULL: `auto` that nobody configured. */
static void add_route(struct draft *d, const struct config_route *route)
{
	const struct config_rule *rule = route ? rule_that_holds(d, route) : NULL;
	struct plan *p = d->out;

	p->route = route ? route->name : "auto";
	p->patience_ms = route ? route->patience_ms : PLAN_PATIENCE_MS;
	p->after_refusal = route && route->after_refusal;
	d->pick = route ? route->pick : PICK_AUTO;
	d->prefer = route ? route->prefer : PREFER_BALANCED;
	p->pin = d->pick == PICK_AUTO;
	if (rule)
		p->rule = rule->name;
	if (rule && rule->refuse)
		err_set(&p->error, ERR_FORBIDDEN, "route '%.60s', rule '%.60s': %.300s",
			p->route, p->rule, rule->refuse);
	else if (rule)
		add_names(d, &rule->use);
	else if (route && route->candidates.n)
		add_names(d, &route->candidates);
	else
		add_all_local(d);
}

/* ---- order: each keeps what it does not care about */

typedef bool goes_before(const struct candidate *a, const struct candidate *b);

static void sort(struct candidate *c, int n, goes_before *before)
{
	for (int i = 1; i < n; i++) {
		struct candidate x = c[i];
		int k = i;

		while (k > 0 && before(&x, &c[k - 1])) {
			c[k] = c[k - 1];
			k--;
		}
		if (k != i)
			c[k] = x;
	}
}

static bool used_first(const struct candidate *a, const struct candidate *b)
{
	return a->use && !b->use;
}

static bool better_score(const struct candidate *a, const struct candidate *b)
{
	return a->score > b->score;
}

static bool more_patient(const struct candidate *a, const struct candidate *b)
{
	return !a->impatient && b->impatient;
}

static bool stays_first(const struct candidate *a, const struct candidate *b)
{
	return a->stays && !b->stays;
}

static void count_used(struct plan *p)
{
	sort(p->c, p->n, used_first);
	for (p->nused = 0; p->nused < p->n && p->c[p->nused].use; p->nused++)
		;
}

static void order_by_score(struct draft *d)
{
	for (int i = 0; i < d->out->nused; i++)
		auto_score(d, &d->out->c[i]);
	sort(d->out->c, d->out->nused, better_score);
}

/* Those that would make wait go behind those that would not. */
static void order_by_patience(struct draft *d)
{
	struct plan *p = d->out;
	bool quick = false;

	for (int i = p->nused - 1; i >= 0; i--) {
		struct candidate *c = &p->c[i];
		bool slow = !c->upstream && c->wait_ms > p->patience_ms;

		quick |= !slow;
		c->impatient = slow && quick;
		if (c->impatient)
			candidate_say(c, "would wait %.0f s (patience %g s)",
				      ceil(c->wait_ms / 1000), p->patience_ms / 1000.0);
	}
	sort(p->c, p->nused, more_patient);
}

static void to_front(struct plan *p, int i)
{
	struct candidate x = p->c[i];

	memmove(&p->c[1], &p->c[0], (size_t)i * sizeof x);
	p->c[0] = x;
}

/* True: the conversation had a choice, and it can still be kept. */
static bool keep_choice(struct draft *d, const struct message *messages, int n)
{
	struct plan *p = d->out;
	const char *kept;
	int i;

	if (!p->pin || !d->w->sticky || !p->nused)
		return false;
	kept = sticky_get(d->w->sticky, p->route,
			  sticky_key(d->r, d->conversation, messages, n), d->w->now_ms);
	i = kept ? find_candidate(p, kept) : -1;
	if (i < 0 || i >= p->nused)
		return false;
	candidate_say(&p->c[i], "this conversation's choice");
	to_front(p, i);
	return true;
}

/* True: one is close to a cap. */
static bool order_by_budget(struct plan *p)
{
	bool soft = false;

	for (int i = 0; i < p->nused; i++)
		soft |= p->c[i].soft;
	if (soft)
		sort(p->c, p->nused, stays_first);
	return soft;
}

/* ---- the bridge */

/* Index of the stand-in, added when it is none of the candidates; -1: it cannot. */
static int find_bridge(struct draft *d, const char *name)
{
	struct plan *p = d->out;
	int i = find_candidate(p, name);
	bool added = i < 0;

	if (added) {
		i = p->n;
		add_name(d, name);
		if (p->n == i)
			return -1;
		fit_context(d, &p->c[i]);
	}
	if (p->c[i].use && (p->c[i].soft || p->c[i].cold)) {
		if (added)
			candidate_drop(&p->c[i], ERR_UNAVAILABLE, "is no bridge: %s",
				       p->c[i].cold ? "it would have to load itself"
						    : "the budget is nearly used up");
		return -1;
	}
	return p->c[i].use ? i : -1;
}

static void put_bridge(struct draft *d, const struct config_route *route)
{
	struct plan *p = d->out;
	struct candidate *first = &p->c[0];
	int i;

	if (!route || !route->bridge || !p->nused || first->upstream || !first->cold ||
	    first->wait_ms <= PLAN_COLD_MS)
		return;
	i = find_bridge(d, route->bridge);
	if (i <= 0)
		return;
	p->c[i].is_bridge = true;
	candidate_say(&p->c[i], "stands in while %.80s loads", p->c[0].model);
	if (i >= p->nused)
		p->nused++;
	to_front(p, i);
	p->load_behind = p->c[1].model;
}

/* ---- all of it */

static bool is_route(const struct plan_world *w, const char *name,
		     const struct config_route **route)
{
	*route = config_route(w->config, name);
	return *route || !strcmp(name, "auto");
}

/* cache.default_model may be a route or a remote model as well. */
static const char *name_of(const struct plan_world *w, const char *asked)
{
	if (asked[0] && strcmp(asked, "default"))
		return asked;
	return w->config->default_model ? w->config->default_model : "default";
}

static const struct names *fallbacks(const struct plan_world *w, const char *name)
{
	const struct config_model *m = config_model(w->config, name);

	return m && m->facts.fallback.n ? &m->facts.fallback : NULL;
}

bool plan_is_plain(const struct plan_world *w, const char *model)
{
	const char *name = name_of(w, model);
	const struct config_route *route;

	return !is_route(w, name, &route) && !fallbacks(w, name);
}

static void start(struct plan *p, const struct plan_world *w, const struct request *r)
{
	p->asked = xstrdup(r->model);
	p->route = p->rule = p->load_behind = NULL;
	p->patience_ms = w->config->queue_timeout_ms;
	p->after_refusal = p->pin = false;
	p->n = p->nused = 0;
	p->reason[0] = '\0';
	p->error.code = ERR_NONE;
	p->error.text[0] = '\0';
	p->error.retry_after_ms = 0;
	p->error.spent = false;
}

void plan_make(struct plan *out, const struct plan_world *w, const struct request *r,
	       const char *conversation, const struct message *messages, int n)
{
	const char *name = name_of(w, r->model);
	const struct config_route *route = NULL;
	bool by_route = is_route(w, name, &route), kept = false, soft = false;
	const struct names *others = by_route ? NULL : fallbacks(w, name);
	struct draft d = {.out = out,
			  .w = w,
			  .r = r,
			  .conversation = conversation,
			  .simple = !by_route && !others};

	start(out, w, r);
	if (d.simple)
		features_sizes(r, messages, n, &d.f);
	else
		features_of(r, messages, n, &d.f);
	if (by_route)
		add_route(&d, route);
	else
		add_name(&d, name);
	if (others)
		add_names(&d, others);
	fit_guesses(&d);
	count_used(out);
	if (by_route && d.pick == PICK_AUTO)
		order_by_score(&d);
	else if (!d.simple)
		order_by_patience(&d);
	if (!d.simple) {
		kept = keep_choice(&d, messages, n);
		soft = order_by_budget(out);
		put_bridge(&d, route);
	}
	if (!out->nused)
		reason_of_failure(out);
	else if (d.simple)
		reason_of_one(out, name != r->model || !strcmp(name, "default"));
	else
		reason_of_route(out, kept, soft);
}

void plan_fini(struct plan *p)
{
	for (int i = 0; i < p->n; i++)
		free(p->c[i].model);
	free(p->asked);
	p->asked = NULL;
	p->n = p->nused = 0;
}

/* ---- the configuration */

static void check_names(const struct config *c, const char *route, const char *what,
			const struct names *names)
{
	for (int i = 0; i < names->n; i++)
		if (config_route(c, names->list[i]) || !strcmp(names->list[i], "auto"))
			log_warn("route '%s': %s '%s' is a route: candidates are models",
				 route, what, names->list[i]);
}

void plan_check_config(const struct config *c)
{
	for (int i = 0; i < c->nroutes; i++) {
		const struct config_route *r = &c->routes[i];

		check_names(c, r->name, "candidate", &r->candidates);
		for (int k = 0; k < r->nrules; k++)
			check_names(c, r->name, "candidate", &r->rules[k].use);
		if (r->bridge &&
		    (config_route(c, r->bridge) || !strcmp(r->bridge, "auto")))
			log_warn("route '%s': bridge '%s' is a route: it must be a model",
				 r->name, r->bridge);
	}
}
