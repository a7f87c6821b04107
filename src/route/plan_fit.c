/* Whether a candidate can answer a request, and what is predicted of it.  Loop thread.
 *
 * Two kinds of "no".  Facts drop a candidate for good: it does not exist, must not be used, has no key,
 * its breaker is open, no money is left.  Guesses (tokens are estimated, the engine's abilities grow)
 * drop it only while another is left: the last one is kept and says itself what it cannot do, with the
 * exact numbers. */
#include "route/plan_impl.h"

#include <math.h>

/* ---- local ones */

static void predict_local(struct draft *d, struct candidate *c,
			  const struct local_forecast *f)
{
	double per_token =
		d->w->health ? health_prefill_ms_per_token(d->w->health, c->model) : 0;
	double load_ms = f->load_ms >= 0 ? f->load_ms
					 : (double)c->bytes / PLAN_DISK_BYTES_S * 1000;

	if (per_token <= 0)
		per_token = (double)c->bytes / (1 << 30) * PLAN_PREFILL_MS_TOKEN_GIB;
	if (!f->known)
		return;
	c->cold = !f->resident;
	c->wait_ms = f->queue_ms + (f->resident ? 0 : load_ms);
	c->ttft_ms = c->wait_ms + per_token * d->f.prompt_tokens;
}

static const struct model_facts *facts_of(const struct draft *d, const char *name)
{
	const struct config_model *m = config_model(d->w->config, name);

	return m ? &m->facts : NULL;
}

static void cannot(struct candidate *c, const char *what)
{
	candidate_drop(c, ERR_UNSUPPORTED, "cannot do %s", what);
	c->by_guess = true;
}

/* What the engine refuses, or would answer without (tools): see providers/engine_jobs.c.  A llama-server
 * may do all of it. */
static void local_needs(const struct draft *d, struct candidate *c, const struct model *m)
{
	if (d->simple || m->settings.backend == BACKEND_LLAMA_SERVER)
		return;
	if (d->f.nimages)
		cannot(c, "images");
	else if (d->f.tools)
		cannot(c, "tools");
	else if (d->f.structured)
		cannot(c, "structured output");
}

void fit_local(struct draft *d, struct candidate *c, const struct model *m)
{
	struct local_forecast f = {.load_ms = -1};
	const struct model_facts *facts = facts_of(d, m->name);

	c->stays = true;
	c->usd = c->likely_usd = 0;
	c->bytes = m->bytes;
	c->strength = facts ? facts->strength : 0;
	if (!c->strength)
		c->strength = auto_strength(c);
	if (d->w->forecast)
		d->w->forecast(d->w->arg, m, d->r->class, &f);
	c->ctx = f.ctx ? f.ctx : m->settings.ctx ? m->settings.ctx : d->w->config->ctx;
	predict_local(d, c, &f);
	if (!m->path) {
		candidate_drop(c, ERR_MODEL, "has no file");
	} else if (f.too_big && !d->simple) { /* alone: the cache says it, with numbers */
		candidate_drop(c, ERR_MEMORY, "is larger than the memory budget");
		c->by_guess = true;
	} else {
		local_needs(d, c, m);
	}
}

/* ---- remote ones */

/* USD per token; what the configuration says wins. */
static struct prices prices_of(const struct candidate *c, const struct remote_model *rm,
			       const struct model_facts *facts)
{
	double none = c->stays ? 0 : -1;
	struct prices p = {none, none, -1, -1, none, none};

	if (rm)
		p = rm->prices;
	if (facts && facts->price_input >= 0)
		p.input = facts->price_input / 1e6;
	if (facts && facts->price_output >= 0)
		p.output = facts->price_output / 1e6;
	if (facts && facts->price_cached >= 0)
		p.cached = facts->price_cached / 1e6;
	if (p.request < 0 && p.input >= 0)
		p.request = 0; /* nobody has spoken of one */
	return p;
}

static double likely_usd(const struct prices *p, const struct features *f)
{
	if (p->input < 0 || p->output < 0)
		return -1;
	return p->input * f->prompt_tokens + p->output * f->output_tokens +
	       (p->request > 0 ? p->request : 0) +
	       (p->image > 0 ? p->image * f->nimages : 0);
}

/* An upper bound: of an answer as long as it may get. */
static double most_usd(const struct draft *d, const struct candidate *c,
		       const struct remote_model *rm)
{
	int prompt = (int)fmin(d->f.prompt_tokens * PLAN_USD_SLACK, INT32_MAX);
	int output = d->r->sampling.max_tokens;

	if (output <= 0 && rm)
		output = rm->max_output;
	if (output <= 0)
		output = c->ctx > prompt ? c->ctx - prompt : PLAN_OUTPUT_TOKENS;
	return money_most(&c->prices, prompt, output, d->f.nimages);
}

static bool is_no(enum tristate declared, enum tristate told)
{
	return (declared != UNSAID ? declared : told) == NO;
}

static const struct remote_model *remote_of(const struct candidate *c)
{
	const struct provider_ops *ops = c->provider->ops;

	return ops->models ? remote_models_find(ops->models(c->provider), c->upstream)
			   : NULL;
}

/* The last check: what a guess drops may be taken back, and must have passed all others. */
static void remote_needs(const struct draft *d, struct candidate *c)
{
	static const struct model_facts unsaid = {
		.images = UNSAID, .tools = UNSAID, .structured = UNSAID};
	static const struct remote_model unknown = {
		.images = UNSAID, .tools = UNSAID, .structured = UNSAID};

	const struct model_facts *facts = facts_of(d, c->model);
	const struct remote_model *rm;

	if (d->simple || !c->use)
		return;
	rm = remote_of(c);
	facts = facts ? facts : &unsaid;
	rm = rm ? rm : &unknown;
	if (d->f.nimages && is_no(facts->images, rm->images))
		cannot(c, "images");
	else if (d->f.tools && is_no(facts->tools, rm->tools))
		cannot(c, "tools");
	else if (d->f.structured && is_no(facts->structured, rm->structured))
		cannot(c, "structured output");
}

static void learn_remote(struct draft *d, struct candidate *c)
{
	const struct config_model *m = config_model(d->w->config, c->model);
	const struct remote_model *rm = remote_of(c);

	c->ctx = m && m->settings.ctx ? m->settings.ctx : rm ? rm->ctx : 0;
	c->prices = prices_of(c, rm, m ? &m->facts : NULL);
	c->usd = most_usd(d, c, rm);
	c->likely_usd = likely_usd(&c->prices, &d->f);
	c->strength = m ? m->facts.strength : 0;
	if (!c->strength)
		c->strength = auto_strength(c);
	if (d->w->health)
		c->ttft_ms = health_ttft_ms(d->w->health, c->provider->name, c->upstream,
					    d->w->now_ms) +
			     PLAN_REMOTE_MS_TOKEN * d->f.prompt_tokens;
}

/* Privacy is the first question: what is said later may come from the provider. */
static bool may_leave(const struct draft *d, struct candidate *c)
{
	if (c->stays)
		return true;
	if (d->r->is_private)
		candidate_drop(c, ERR_FORBIDDEN, "private: must not leave this machine");
	else if (d->w->local_only || d->w->config->local_only)
		candidate_drop(c, ERR_FORBIDDEN,
			       "local only: nothing leaves this machine");
	return c->use;
}

/* A sole candidate stays when a file or a command is at fault: the provider says what is wrong. */
static void check_key(const struct draft *d, struct candidate *c)
{
	struct provider_status s = {.has_key = true};

	if (c->provider->ops->status)
		c->provider->ops->status(c->provider, &s);
	if (s.has_key)
		return;
	if (d->simple && s.key_source && s.key_source[0] != '$')
		return;
	if (s.key_source && s.key_source[0] == '$')
		candidate_drop(c, ERR_UNAUTHORIZED, "no key: set %.80s", s.key_source);
	else
		candidate_drop(c, ERR_UNAUTHORIZED, "no key%s%.80s",
			       s.key_source ? ": it comes from " : "",
			       s.key_source ? s.key_source : "");
}

static void check_breaker(const struct draft *d, struct candidate *c)
{
	const char *why;
	uint64_t wait;

	if (!c->use || !d->w->health)
		return;
	health_state(d->w->health, c->provider->name, c->upstream, d->w->now_ms, &wait);
	if (!wait)
		return;
	why = health_error(d->w->health, c->provider->name, c->upstream);
	candidate_drop(c, ERR_UNAVAILABLE,
		       "failed lately, is tried again in %d s%s%.110s",
		       (int)((wait + 999) / 1000), why[0] ? ": " : "", why);
	c->retry_after_ms = wait < UINT32_MAX ? (uint32_t)wait : UINT32_MAX;
}

static void check_money(const struct draft *d, struct candidate *c)
{
	struct money_ask a = {.provider = c->provider->name,
			      .model = c->model,
			      .conversation = d->conversation,
			      .most_usd = c->usd,
			      .request_budget_usd = d->r->budget_usd};
	char why[PLAN_WHY_BYTES];

	if (!c->use || !d->w->money)
		return;
	switch (money_ask(d->w->money, &a, why, sizeof why)) {
	case MONEY_HARD:
		candidate_drop(c, ERR_PAYMENT, "%s", why);
		break;
	case MONEY_SOFT:
		c->soft = true;
		candidate_say(c, "%s", why);
		break;
	default:
		break;
	}
}

void fit_remote(struct draft *d, struct candidate *c)
{
	if (c->provider && c->provider->is_local)
		c->stays = true;
	if (!may_leave(d, c))
		return;
	if (!c->provider) {
		candidate_drop(c, ERR_UNAVAILABLE, "its provider is not running");
		return;
	}
	if (!c->upstream[0]) {
		candidate_drop(c, ERR_MODEL, "a model's name is missing after '/'");
		return;
	}
	check_key(d, c);
	if (c->use)
		learn_remote(d, c);
	check_breaker(d, c);
	check_money(d, c);
	remote_needs(d, c);
}

/* ---- guesses */

void fit_context(const struct draft *d, struct candidate *c)
{
	int answer = d->r->sampling.max_tokens > 0 &&
				     d->r->sampling.max_tokens < PLAN_ANSWER_TOKENS
			     ? d->r->sampling.max_tokens
			     : PLAN_ANSWER_TOKENS;
	double prompt = d->f.prompt_tokens * PLAN_CONTEXT_SLACK;

	if (!c->use || c->ctx <= 0 || prompt + answer <= c->ctx)
		return;
	candidate_drop(c, ERR_CONTEXT,
		       "context of %d tokens: the prompt has about %d, and an answer "
		       "needs %d",
		       c->ctx, d->f.prompt_tokens, answer);
	c->by_guess = true;
}

/* Who comes nearest: the largest context, else the first. */
static struct candidate *least_bad(struct plan *p)
{
	struct candidate *best = NULL;

	for (int i = 0; i < p->n; i++) {
		struct candidate *c = &p->c[i];

		if (c->by_guess &&
		    (!best || (c->code == ERR_CONTEXT && best->code == ERR_CONTEXT &&
			       c->ctx > best->ctx)))
			best = c;
	}
	return best;
}

void fit_guesses(struct draft *d)
{
	struct plan *p = d->out;
	struct candidate *last;
	char why[PLAN_WHY_BYTES];

	if (d->simple)
		return;
	for (int i = 0; i < p->n; i++)
		fit_context(d, &p->c[i]);
	for (int i = 0; i < p->n; i++)
		if (p->c[i].use)
			return;
	last = least_bad(p);
	if (!last)
		return;
	last->use = true;
	snprintf(why, sizeof why, "%s", last->why);
	last->why[0] = '\0';
	candidate_say(last, "no other is left (%.150s)", why);
}
