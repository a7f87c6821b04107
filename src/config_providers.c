/* The sections provider {} of the configuration.  Loop thread, at start and at each reload.
 *
 * A section named like a preset (providers/presets.h) needs nothing but a key.  "openrouter" is there
 * without any section, so that a key in the environment is all that a newcomer sets. */
#include "config_impl.h"

#include "net/fetch.h"
#include "providers/presets.h"

cfg_opt_t config_provider_opts[] = {CFG_STR("preset", NULL, CFGF_NONE),
				    CFG_STR("kind", NULL, CFGF_NONE),
				    CFG_STR("url", NULL, CFGF_NONE),
				    CFG_STR_LIST("urls", "{}", CFGF_NONE),
				    CFG_STR("key_env", NULL, CFGF_NONE),
				    CFG_STR("key_file", NULL, CFGF_NONE),
				    CFG_STR("key_command", NULL, CFGF_NONE),
				    CFG_STR("ca_file", NULL, CFGF_NONE),
				    CFG_BOOL("local", cfg_false, CFGF_NONE),
				    CFG_BOOL("warm", cfg_true, CFGF_NONE),
				    CFG_INT("connect_timeout", 4, CFGF_NONE),
				    CFG_INT("first_byte_timeout", 60, CFGF_NONE),
				    CFG_INT("idle_timeout", 60, CFGF_NONE),
				    CFG_INT("total_timeout", 900, CFGF_NONE),
				    CFG_INT("queue_timeout", 30, CFGF_NONE),
				    CFG_INT("max_connections", -1, CFGF_NONE),
				    CFG_FLOAT("daily_cap", 0, CFGF_NONE),
				    CFG_FLOAT("monthly_cap", 0, CFGF_NONE),
				    CFG_STR("data_collection", NULL, CFGF_NONE),
				    CFG_BOOL("zdr", cfg_false, CFGF_NODEFAULT),
				    CFG_STR("sort", NULL, CFGF_NONE),
				    CFG_STR_LIST("order", "{}", CFGF_NONE),
				    CFG_STR_LIST("only", "{}", CFGF_NONE),
				    CFG_STR_LIST("ignore", "{}", CFGF_NONE),
				    CFG_STR("app_url", NULL, CFGF_NONE),
				    CFG_STR("app_title", NULL, CFGF_NONE),
				    CFG_END()};

static struct config_provider *add(struct config *c, const char *name)
{
	c->providers = xrealloc(c->providers,
				(size_t)(c->nproviders + 1) * sizeof *c->providers);
	c->providers[c->nproviders] = (struct config_provider){.name = xstrdup(name)};
	return &c->providers[c->nproviders++];
}

static int read_times(struct config_provider *p, const struct config_at *at,
		      struct err *e)
{
	const struct {
		const char *key;
		int *ms;
	} times[] = {
		{"connect_timeout", &p->connect_timeout_ms},
		{"first_byte_timeout", &p->first_byte_timeout_ms},
		{"idle_timeout", &p->idle_timeout_ms},
		{"total_timeout", &p->total_timeout_ms},
		{"queue_timeout", &p->queue_timeout_ms},
	};

	for (size_t i = 0; i < ARRAY_LEN(times); i++) {
		if (config_range(at, times[i].key, 1, 86400, times[i].ms, e) < 0)
			return -1;
		*times[i].ms *= 1000;
	}
	return 0;
}

static int read_urls(struct config_provider *p, const struct config_at *at, struct err *e)
{
	const char *one = cfg_getstr(at->cfg, "url");

	p->urls = config_names(at, "urls");
	if (one && p->urls.n)
		return err_set(e, ERR_INVALID,
			       "%s: provider \"%s\": url and urls: one of them", at->file,
			       p->name);
	if (one) {
		p->urls.list[0] = xstrdup(one); /* config_names() leaves room for one */
		p->urls.n = 1;
	}
	for (int i = 0; i < p->urls.n; i++) {
		const char *url = p->urls.list[i];

		if (strncmp(url, "http://", 7) && strncmp(url, "https://", 8))
			return err_set(
				e, ERR_INVALID,
				"%s: provider \"%s\": url must start with http:// or https://",
				at->file, p->name);
		if (strchr(url, '@'))
			return err_set(
				e, ERR_INVALID,
				"%s: provider \"%s\": a url has no user and password: "
				"use key_env, key_file or key_command",
				at->file, p->name);
	}
	return 0;
}

/* What the preset knows fills what the section left open. */
static int apply_preset(struct config_provider *p, const char *file, struct err *e)
{
	const struct provider_preset *preset =
		provider_preset(p->preset ? p->preset : p->name);

	if (!preset && p->preset)
		return err_set(
			e, ERR_INVALID,
			"%s: provider \"%s\": preset = '%s' is unknown: it is one of %s",
			file, p->name, p->preset, provider_preset_names());
	if (preset && !p->preset)
		p->preset = xstrdup(preset->name);
	if (preset && !p->urls.n) {
		p->urls.list = xrealloc(p->urls.list, 2 * sizeof *p->urls.list);
		p->urls.list[0] = xstrdup(preset->url);
		p->urls.n = 1;
	}
	if (preset && !p->key_env && !p->key_file && !p->key_command && preset->key_env)
		p->key_env = xstrdup(preset->key_env);
	return p->urls.n
		       ? 0
		       : err_set(e, ERR_INVALID,
				 "%s: provider \"%s\": url is missing: http:// or https://",
				 file, p->name);
}

static int check_local(const struct config_provider *p, const char *file, struct err *e)
{
	for (int i = 0; p->local && i < p->urls.n; i++)
		if (!fetch_url_is_loopback(p->urls.list[i]))
			return err_set(
				e, ERR_INVALID,
				"%s: provider \"%s\": local = true, but '%s' is not on "
				"this machine",
				file, p->name, p->urls.list[i]);
	return 0;
}

static int check_words(const struct config_provider *p, const char *file, struct err *e)
{
	static const char *const kinds[] = {"openai", "openrouter", "anthropic",
					    "ollama"};
	bool known = !p->kind_name;

	for (size_t i = 0; !known && i < ARRAY_LEN(kinds); i++)
		known = !strcmp(kinds[i], p->kind_name);
	if (!known)
		return err_set(e, ERR_INVALID,
			       "%s: provider \"%s\": kind = '%s' is unknown: use openai, "
			       "openrouter, anthropic or ollama",
			       file, p->name, p->kind_name);
	if (p->data_collection && strcmp(p->data_collection, "allow") &&
	    strcmp(p->data_collection, "deny"))
		return err_set(e, ERR_INVALID,
			       "%s: provider \"%s\": data_collection is allow or deny",
			       file, p->name);
	if (p->key_file && p->key_command)
		return err_set(
			e, ERR_INVALID,
			"%s: provider \"%s\": key_file and key_command: one of them",
			file, p->name);
	if (strchr(p->name, '/') || !p->name[0])
		return err_set(e, ERR_INVALID, "%s: provider \"%s\": a name has no '/'",
			       file, p->name);
	if (!strcmp(p->name, "local") || !strcmp(p->name, "route"))
		return err_set(e, ERR_INVALID, "%s: provider \"%s\": the name is taken",
			       file, p->name);
	return 0;
}

static int read_one(struct config_provider *p, const struct config_at *at, struct err *e)
{
	p->preset = config_text(at, "preset");
	p->kind_name = config_text(at, "kind");
	p->key_env = config_text(at, "key_env");
	p->key_file = config_path_text(at, "key_file");
	p->key_command = config_text(at, "key_command");
	p->ca_file = config_path_text(at, "ca_file");
	p->local = cfg_getbool(at->cfg, "local");
	p->warm = cfg_getbool(at->cfg, "warm");
	p->data_collection = config_text(at, "data_collection");
	p->sort = config_text(at, "sort");
	p->app_url = config_text(at, "app_url");
	p->app_title = config_text(at, "app_title");
	p->zdr = config_tristate(at, "zdr");
	p->order = config_names(at, "order");
	p->only = config_names(at, "only");
	p->ignore = config_names(at, "ignore");
	if (check_words(p, at->file, e) < 0 || read_urls(p, at, e) < 0 ||
	    read_times(p, at, e) < 0 ||
	    config_range(at, "max_connections", -1, 1024, &p->max_connections, e) < 0 ||
	    config_usd(at, "daily_cap", 0, &p->daily_cap_usd, e) < 0 ||
	    config_usd(at, "monthly_cap", 0, &p->monthly_cap_usd, e) < 0 ||
	    apply_preset(p, at->file, e) < 0)
		return -1;
	return check_local(p, at->file, e);
}

static void add_default(struct config *c)
{
	struct config_provider *p;

	for (int i = 0; i < c->nproviders; i++)
		if (!strcmp(c->providers[i].name, "openrouter"))
			return;
	p = add(c, "openrouter");
	p->warm = true;
	p->zdr = UNSAID;
	p->max_connections = -1;
	p->connect_timeout_ms = 4000;
	p->first_byte_timeout_ms = p->idle_timeout_ms = 60000;
	p->total_timeout_ms = 900000;
	p->queue_timeout_ms = 30000;
	apply_preset(p, "built-in", NULL);
}

int config_read_providers(struct config *c, cfg_t *top, const char *file, struct err *e)
{
	int n = (int)cfg_size(top, "provider");

	for (int i = 0; i < n; i++) {
		cfg_t *s = cfg_getnsec(top, "provider", (unsigned)i);
		struct config_at at = {s, file, cfg_title(s)};

		if (read_one(add(c, cfg_title(s)), &at, e) < 0)
			return -1;
	}
	add_default(c);
	return 0;
}

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && !strcmp(a, b));
}

static bool same_names(const struct names *a, const struct names *b)
{
	if (a->n != b->n)
		return false;
	for (int i = 0; i < a->n; i++)
		if (strcmp(a->list[i], b->list[i]))
			return false;
	return true;
}

bool config_provider_equal(const struct config_provider *a,
			   const struct config_provider *b)
{
	return same_text(a->name, b->name) && same_text(a->preset, b->preset) &&
	       same_text(a->kind_name, b->kind_name) && same_names(&a->urls, &b->urls) &&
	       same_text(a->key_env, b->key_env) && same_text(a->key_file, b->key_file) &&
	       same_text(a->key_command, b->key_command) &&
	       same_text(a->ca_file, b->ca_file) && a->local == b->local &&
	       a->warm == b->warm && a->connect_timeout_ms == b->connect_timeout_ms &&
	       a->first_byte_timeout_ms == b->first_byte_timeout_ms &&
	       a->idle_timeout_ms == b->idle_timeout_ms &&
	       a->total_timeout_ms == b->total_timeout_ms &&
	       a->queue_timeout_ms == b->queue_timeout_ms &&
	       a->max_connections == b->max_connections &&
	       same_text(a->data_collection, b->data_collection) &&
	       same_text(a->sort, b->sort) && same_text(a->app_url, b->app_url) &&
	       same_text(a->app_title, b->app_title) && a->zdr == b->zdr &&
	       same_names(&a->order, &b->order) && same_names(&a->only, &b->only) &&
	       same_names(&a->ignore, &b->ignore);
}

void config_provider_free(struct config_provider *p)
{
	free(p->name);
	free(p->preset);
	free(p->kind_name);
	free(p->key_env);
	free(p->key_file);
	free(p->key_command);
	free(p->ca_file);
	free(p->data_collection);
	free(p->sort);
	free(p->app_url);
	free(p->app_title);
	names_free(&p->urls);
	names_free(&p->order);
	names_free(&p->only);
	names_free(&p->ignore);
}
