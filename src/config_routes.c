/* The sections route {} and budget {} of the configuration.  Loop thread, at start and at each reload.
 *
 * Regular expressions and hours are checked here, so that a wrong one is an error of the file and not
 * of a prompt; what was compiled stays with the rule (src/route/rules.h). */
#include "config_impl.h"

#include "route/rules.h"

cfg_opt_t config_rule_opts[] = {CFG_INT("min_tokens", 0, CFGF_NONE),
				CFG_INT("max_tokens", 0, CFGF_NONE),
				CFG_BOOL("images", cfg_false, CFGF_NODEFAULT),
				CFG_BOOL("tools", cfg_false, CFGF_NODEFAULT),
				CFG_BOOL("structured", cfg_false, CFGF_NODEFAULT),
				CFG_BOOL("private", cfg_false, CFGF_NODEFAULT),
				CFG_STR("class", NULL, CFGF_NONE),
				CFG_STR("client", NULL, CFGF_NONE),
				CFG_STR_LIST("code", "{}", CFGF_NONE),
				CFG_STR_LIST("words", "{}", CFGF_NONE),
				CFG_STR("regex", NULL, CFGF_NONE),
				CFG_STR("hours", NULL, CFGF_NONE),
				CFG_STR_LIST("days", "{}", CFGF_NONE),
				CFG_FLOAT("budget_below", 0, CFGF_NODEFAULT),
				CFG_STR_LIST("use", "{}", CFGF_NONE),
				CFG_STR("refuse", NULL, CFGF_NONE),
				CFG_END()};
cfg_opt_t config_route_opts[] = {
	CFG_STR_LIST("candidates", "{}", CFGF_NONE),
	CFG_STR("pick", NULL, CFGF_NONE),
	CFG_STR("prefer", "balanced", CFGF_NONE),
	CFG_INT("patience", 20, CFGF_NONE),
	CFG_STR("bridge", NULL, CFGF_NONE),
	CFG_BOOL("after_refusal", cfg_false, CFGF_NONE),
	CFG_SEC("rule", config_rule_opts, CFGF_TITLE | CFGF_MULTI | CFGF_NO_TITLE_DUPES),
	CFG_END()};
cfg_opt_t config_budget_opts[] = {CFG_FLOAT("daily", 0, CFGF_NONE),
				  CFG_FLOAT("monthly", 0, CFGF_NONE),
				  CFG_FLOAT("conversation", 0, CFGF_NONE),
				  CFG_FLOAT("soft", 0.8, CFGF_NONE), CFG_END()};

static int check_rule(struct config_rule *r, const struct config_at *at, struct err *e)
{
	struct err why = {0};

	if (rules_check(r, &why) < 0)
		return err_set(e, why.code, "%s: rule \"%s\": %s", at->file, r->name,
			       why.text);
	if (r->use.n && r->refuse)
		return err_set(e, ERR_INVALID,
			       "%s: rule \"%s\": use and refuse: one of them", at->file,
			       r->name);
	if (!r->use.n && !r->refuse)
		return err_set(e, ERR_INVALID,
			       "%s: rule \"%s\" needs use = {...} or refuse = \"why\"",
			       at->file, r->name);
	return 0;
}

static int read_rule(struct config_rule *r, const struct config_at *at, struct err *e)
{
	r->name = xstrdup(at->section);
	r->images = config_tristate(at, "images");
	r->tools = config_tristate(at, "tools");
	r->structured = config_tristate(at, "structured");
	r->is_private = config_tristate(at, "private");
	r->class = config_text(at, "class");
	r->client = config_text(at, "client");
	r->code = config_names(at, "code");
	r->words = config_names(at, "words");
	r->regex = config_text(at, "regex");
	r->hours = config_text(at, "hours");
	r->days = config_names(at, "days");
	r->use = config_names(at, "use");
	r->refuse = config_text(at, "refuse");
	if (config_range(at, "min_tokens", 0, INT32_MAX, &r->min_tokens, e) < 0 ||
	    config_range(at, "max_tokens", 0, INT32_MAX, &r->max_tokens, e) < 0 ||
	    config_usd(at, "budget_below", -1, &r->budget_below_usd, e) < 0)
		return -1;
	return check_rule(r, at, e);
}

static int read_rules(struct config_route *r, const struct config_at *at, struct err *e)
{
	int n = (int)cfg_size(at->cfg, "rule");

	r->rules = xcalloc((size_t)n + 1, sizeof *r->rules);
	for (int i = 0; i < n; i++) {
		cfg_t *s = cfg_getnsec(at->cfg, "rule", (unsigned)i);
		struct config_at rule = {s, at->file, cfg_title(s)};

		if (read_rule(&r->rules[r->nrules++], &rule, e) < 0)
			return -1;
	}
	return 0;
}

static int read_route(struct config_route *r, const struct config_at *at, struct err *e)
{
	static const char *const picks[] = {"order", "auto"}; /* by enum route_pick */
	static const char *const prefers[] = {"balanced", "fast", "cheap", "strong"};
	bool is_auto = !strcmp(at->section, "auto");
	int pick = is_auto ? PICK_AUTO : PICK_ORDER, prefer, patience_s = 0;

	r->name = xstrdup(at->section);
	r->candidates = config_names(at, "candidates");
	r->bridge = config_text(at, "bridge");
	r->after_refusal = cfg_getbool(at->cfg, "after_refusal");
	if (cfg_getstr(at->cfg, "pick"))
		pick = config_choice(at, "pick", picks, (int)ARRAY_LEN(picks), e);
	prefer = config_choice(at, "prefer", prefers, (int)ARRAY_LEN(prefers), e);
	if (pick < 0 || prefer < 0 ||
	    config_range(at, "patience", 0, 86400, &patience_s, e) < 0)
		return -1;
	r->pick = (enum route_pick)pick;
	r->prefer = (enum route_prefer)prefer;
	r->patience_ms = patience_s * 1000;
	if (!r->candidates.n && !is_auto)
		return err_set(e, ERR_INVALID,
			       "%s: route \"%s\" needs candidates = {...}", at->file,
			       r->name);
	if (strchr(r->name, '/') || !r->name[0] || !strcmp(r->name, "default"))
		return err_set(
			e, ERR_INVALID,
			"%s: route \"%s\": a name has no '/', and 'default' is taken",
			at->file, r->name);
	return read_rules(r, at, e);
}

static int read_budget(struct config_budget *b, const struct config_at *at, struct err *e)
{
	if (config_usd(at, "daily", 0, &b->daily, e) < 0 ||
	    config_usd(at, "monthly", 0, &b->monthly, e) < 0 ||
	    config_usd(at, "conversation", 0, &b->conversation, e) < 0)
		return -1;
	b->soft = cfg_getfloat(at->cfg, "soft");
	if (b->soft >= 0 && b->soft <= 1)
		return 0;
	return err_set(e, ERR_INVALID, "%s: budget: soft = %g is no share: 0 to 1",
		       at->file, b->soft);
}

int config_read_routes(struct config *c, cfg_t *top, const char *file, struct err *e)
{
	struct config_at budget = {cfg_getsec(top, "budget"), file, "budget"};
	int n = (int)cfg_size(top, "route");

	c->routes = xcalloc((size_t)n + 1, sizeof *c->routes);
	for (int i = 0; i < n; i++) {
		cfg_t *s = cfg_getnsec(top, "route", (unsigned)i);
		struct config_at at = {s, file, cfg_title(s)};

		if (read_route(&c->routes[c->nroutes++], &at, e) < 0)
			return -1;
	}
	return read_budget(&c->budget, &budget, e);
}

static void rule_free(struct config_rule *r)
{
	rules_free(r);
	free(r->name);
	free(r->class);
	free(r->client);
	free(r->regex);
	free(r->hours);
	free(r->refuse);
	names_free(&r->code);
	names_free(&r->words);
	names_free(&r->days);
	names_free(&r->use);
}

void config_route_free(struct config_route *r)
{
	for (int i = 0; i < r->nrules; i++)
		rule_free(&r->rules[i]);
	free(r->rules);
	free(r->name);
	free(r->bridge);
	names_free(&r->candidates);
}
