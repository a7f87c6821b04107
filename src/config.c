/* The configuration file, by libConfuse.
 *
 * Two things libConfuse leaves to us: it accepts a section that is never closed (we parse the text
 * with a last line of our own, `end_of_file = true`, and look whether it arrived at top level), and
 * it names an unknown key but no better one (we look for the nearest in the same tables).  Read once
 * at start and at each reload, on the loop thread; files are small. */
#include "config_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/duration.h"
#include "base/nearest.h"
#include "base/paths.h"

enum {
	CONFIG_MAX_BYTES = 1 << 20,
	TOKEN_MAX_BYTES = 4096,
	CTX_MAX = 1 << 20,
	SLOTS_MAX = 64
};

static cfg_opt_t server_opts[] = {CFG_STR("socket", NULL, CFGF_NONE),
				  CFG_STR("bind", "127.0.0.1", CFGF_NONE),
				  CFG_INT("port", 4620, CFGF_NONE),
				  CFG_STR("token_file", NULL, CFGF_NONE),
				  CFG_STR_LIST("hosts", "{}", CFGF_NONE),
				  CFG_INT("header_timeout", 10, CFGF_NONE),
				  CFG_INT("queue_timeout", 120, CFGF_NONE),
				  CFG_BOOL("local_only", cfg_false, CFGF_NONE),
				  CFG_END()};
static cfg_opt_t cache_opts[] = {CFG_STR("budget", "0", CFGF_NONE),
				 CFG_STR("parked", "0", CFGF_NONE),
				 CFG_STR("reserve_completion", "0", CFGF_NONE),
				 CFG_STR("reserve_free", "512MiB", CFGF_NONE),
				 CFG_STR("packed", "32GiB", CFGF_NONE),
				 CFG_STR("kv_ram", "1GiB", CFGF_NONE),
				 CFG_STR("kv_disk", "4GiB", CFGF_NONE),
				 CFG_STR("policy", "lru", CFGF_NONE),
				 CFG_STR("keep_alive", "forever", CFGF_NONE),
				 CFG_INT("min_stay", 5, CFGF_NONE),
				 CFG_INT("queue", 64, CFGF_NONE),
				 CFG_INT("load_timeout", 600, CFGF_NONE),
				 CFG_INT("ctx", 4096, CFGF_NONE),
				 CFG_INT("slots", 4, CFGF_NONE),
				 CFG_INT("threads", 0, CFGF_NONE),
				 CFG_STR("kernels", "auto", CFGF_NONE),
				 CFG_STR("trace", NULL, CFGF_NONE),
				 CFG_STR("llama_server", "llama-server", CFGF_NONE),
				 CFG_END()};
static cfg_opt_t model_opts[] = {CFG_STR("path", NULL, CFGF_NONE),
				 CFG_INT("ctx", 0, CFGF_NONE),
				 CFG_BOOL("pinned", cfg_false, CFGF_NONE),
				 CFG_BOOL("preload", cfg_false, CFGF_NONE),
				 CFG_STR("keep_alive", NULL, CFGF_NONE),
				 CFG_STR("role", "any", CFGF_NONE),
				 CFG_STR("backend", "auto", CFGF_NONE),
				 CFG_STR_LIST("args", "{}", CFGF_NONE),
				 CFG_INT("strength", 0, CFGF_NONE),
				 CFG_FLOAT("price_input", 0, CFGF_NODEFAULT),
				 CFG_FLOAT("price_output", 0, CFGF_NODEFAULT),
				 CFG_FLOAT("price_cached", 0, CFGF_NODEFAULT),
				 CFG_BOOL("images", cfg_false, CFGF_NODEFAULT),
				 CFG_BOOL("tools", cfg_false, CFGF_NODEFAULT),
				 CFG_BOOL("structured", cfg_false, CFGF_NODEFAULT),
				 CFG_STR_LIST("fallback", "{}", CFGF_NONE),
				 CFG_END()};
static cfg_opt_t top_opts[] = {
	CFG_SEC("server", server_opts, CFGF_NONE),
	CFG_SEC("cache", cache_opts, CFGF_NONE),
	CFG_SEC("memory", config_memory_opts, CFGF_NONE),
	CFG_SEC("model", model_opts, CFGF_TITLE | CFGF_MULTI | CFGF_NO_TITLE_DUPES),
	CFG_SEC("provider", config_provider_opts,
		CFGF_TITLE | CFGF_MULTI | CFGF_NO_TITLE_DUPES),
	CFG_SEC("route", config_route_opts,
		CFGF_TITLE | CFGF_MULTI | CFGF_NO_TITLE_DUPES),
	CFG_SEC("persona", config_persona_opts,
		CFGF_TITLE | CFGF_MULTI | CFGF_NO_TITLE_DUPES),
	CFG_SEC("budget", config_budget_opts, CFGF_NONE),
	CFG_STR("models_dir", NULL, CFGF_NONE),
	CFG_STR("default_model", NULL, CFGF_NONE),
	CFG_BOOL("end_of_file", cfg_false, CFGF_NONE),
	CFG_END()};

/* libConfuse reports through a callback without an argument, so the first report of a parse is kept
 * per thread for the caller to take. */
static _Thread_local struct err reported;
static _Thread_local const char *reported_file;

/* A table of keys and what people call the place where they belong. */
struct key_table {
	const char *place;
	const cfg_opt_t *opts;
};

static const struct key_table key_tables[] = {{"top level", top_opts},
					      {"server", server_opts},
					      {"cache", cache_opts},
					      {"memory", config_memory_opts},
					      {"model", model_opts},
					      {"provider", config_provider_opts},
					      {"route", config_route_opts},
					      {"rule", config_rule_opts},
					      {"persona", config_persona_opts},
					      {"budget", config_budget_opts}};

/* What may help with a key that its section does not know: where a key of this very name belongs
 * ("a, b"), else the nearest name there is. */
static void advise(const char *word, char *out, size_t size)
{
	struct nearest n = {.word = word};
	size_t at = 0;

	*out = 0;
	for (size_t i = 0; i < ARRAY_LEN(key_tables); i++)
		for (const cfg_opt_t *o = key_tables[i].opts; o->name; o++) {
			if (!strcmp(o->name, "end_of_file"))
				continue;
			nearest_offer(&n, o->name);
			if (!strcmp(o->name, word) && at < size)
				at += (size_t)snprintf(out + at, size - at, "%s%s",
						       at ? ", " : "; it belongs in: ",
						       key_tables[i].place);
		}
	if (!at && n.best)
		snprintf(out, size, "; did you mean '%s'?", n.best);
}

static void on_report(cfg_t *cfg, const char *fmt, va_list ap)
{
	char text[256], advice[160] = "", *quote, *end;

	if (reported.code)
		return;
	vsnprintf(text, sizeof text, fmt, ap);
	quote = strstr(text, "no such option '");
	if (quote && (end = strrchr(quote, '\''))) {
		*end = 0;
		advise(quote + strlen("no such option '"), advice, sizeof advice);
		*end = '\'';
	}
	err_set(&reported, ERR_INVALID, "%.200s:%d: %s%s", reported_file,
		cfg ? cfg->line : 0, text, advice);
}

/* A file of at most max bytes as text; NUL bytes are refused. */
static char *read_text(const char *path, size_t max, struct err *e)
{
	struct buf b = {0};
	char chunk[4096];
	ssize_t n = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0) {
		err_sys(e, errno, "read '%s'", path);
		return NULL;
	}
	while (b.len <= max && (n = read(fd, chunk, sizeof chunk)) > 0)
		buf_add(&b, chunk, (size_t)n);
	if (n < 0)
		err_sys(e, errno, "read '%s'", path);
	else if (b.len > max)
		n = err_set(e, ERR_INVALID, "'%s' is larger than %zu bytes", path, max);
	else if (b.len && memchr(b.data, 0, b.len))
		n = err_set(e, ERR_INVALID, "'%s' holds a NUL byte: not a text file",
			    path);
	close(fd);
	if (n < 0) {
		buf_free(&b);
		return NULL;
	}
	return buf_take(&b, NULL);
}

bool config_bytes(const char *s, uint64_t *out)
{
	static const struct {
		const char *suffix;
		uint64_t factor;
	} units[] = {{"", 1},
		     {"B", 1},
		     {"KB", 1000},
		     {"MB", 1000000},
		     {"GB", 1000000000},
		     {"KiB", 1ull << 10},
		     {"MiB", 1ull << 20},
		     {"GiB", 1ull << 30},
		     {"K", 1ull << 10},
		     {"M", 1ull << 20},
		     {"G", 1ull << 30}};
	char *end;
	double v;

	if (s[0] < '0' || s[0] > '9')
		return false;
	v = strtod(s, &end);
	while (*end == ' ')
		end++;
	for (size_t i = 0; i < ARRAY_LEN(units); i++)
		if (!strcasecmp(end, units[i].suffix)) {
			v *= (double)units[i].factor;
			if (!(v >= 0 && v < 9e15))
				return false;
			*out = (uint64_t)v;
			return true;
		}
	return false;
}

int config_range(const struct config_at *at, const char *key, long min, long max,
		 int *out, struct err *e)
{
	long v = cfg_getint(at->cfg, key);

	if (v < min || v > max)
		return err_set(e, ERR_INVALID,
			       "%s: %s: %s = %ld is out of range: %ld to %ld", at->file,
			       at->section, key, v, min, max);
	*out = (int)v;
	return 0;
}

int config_usd(const struct config_at *at, const char *key, double unset, double *out,
	       struct err *e)
{
	double v = cfg_size(at->cfg, key) ? cfg_getfloat(at->cfg, key) : unset;

	*out = v;
	if (v == unset || (v >= 0 && v <= 1e9))
		return 0;
	return err_set(e, ERR_INVALID, "%s: %s: %s = %g is no amount of USD", at->file,
		       at->section, key, v);
}

enum tristate config_tristate(const struct config_at *at, const char *key)
{
	if (!cfg_size(at->cfg, key))
		return UNSAID;
	return cfg_getbool(at->cfg, key) ? YES : NO;
}

struct names config_names(const struct config_at *at, const char *key)
{
	struct names n = {.n = (int)cfg_size(at->cfg, key)};

	n.list = xcalloc((size_t)n.n + 1, sizeof *n.list);
	for (int i = 0; i < n.n; i++)
		n.list[i] = xstrdup(cfg_getnstr(at->cfg, key, (unsigned)i));
	return n;
}

void names_free(struct names *n)
{
	for (int i = 0; i < n->n; i++)
		free(n->list[i]);
	free(n->list);
	*n = (struct names){0};
}

static char *copy(const char *s)
{
	return s ? xstrdup(s) : NULL;
}

/* A leading "~/" is the home folder. */
static char *copy_path(const char *s)
{
	const char *home = getenv("HOME");

	if (s && s[0] == '~' && s[1] == '/' && home)
		return xasprintf("%s%s", home, s + 1);
	return copy(s);
}

char *config_text(const struct config_at *at, const char *key)
{
	return copy(cfg_getstr(at->cfg, key));
}

char *config_path_text(const struct config_at *at, const char *key)
{
	return copy_path(cfg_getstr(at->cfg, key));
}

static int read_token(struct config *c, struct err *e)
{
	struct stat st;
	char *text;

	if (stat(c->token_file, &st) < 0)
		return err_sys(e, errno, "server: token_file '%s'", c->token_file);
	if (st.st_mode & 077)
		return err_set(
			e, ERR_INVALID,
			"server: token_file '%s' is readable by others: chmod 600 it",
			c->token_file);
	text = read_text(c->token_file, TOKEN_MAX_BYTES, e);
	if (!text)
		return err_wrap(e, "server: token_file");
	text[strcspn(text, "\r\n")] = 0;
	c->token = text;
	if (strlen(text) < 16)
		return err_set(
			e, ERR_INVALID,
			"server: token_file '%s': a token needs at least 16 characters",
			c->token_file);
	return 0;
}

static int read_server(struct config *c, cfg_t *s, const char *file, struct err *e)
{
	struct config_at at = {s, file, "server"};
	int header_s = 0, queue_s = 0;

	if (config_range(&at, "port", -1, 65535, &c->port, e) < 0 ||
	    config_range(&at, "header_timeout", 1, 3600, &header_s, e) < 0 ||
	    config_range(&at, "queue_timeout", 1, 86400, &queue_s, e) < 0)
		return -1;
	c->local_only = cfg_getbool(s, "local_only");
	c->header_timeout_ms = header_s * 1000;
	c->queue_timeout_ms = queue_s * 1000;
	c->socket_path = cfg_getstr(s, "socket") ? copy_path(cfg_getstr(s, "socket"))
						 : paths_socket();
	c->bind = xstrdup(cfg_getstr(s, "bind"));
	c->token_file = copy_path(cfg_getstr(s, "token_file"));
	c->nhosts = (int)cfg_size(s, "hosts");
	c->hosts = xcalloc((size_t)c->nhosts, sizeof *c->hosts);
	for (int i = 0; i < c->nhosts; i++)
		c->hosts[i] = xstrdup(cfg_getnstr(s, "hosts", (unsigned)i));
	return c->token_file ? read_token(c, e) : 0;
}

static int size_of(cfg_t *s, const char *file, const char *key, uint64_t *out,
		   struct err *e)
{
	if (config_bytes(cfg_getstr(s, key), out))
		return 0;
	return err_set(e, ERR_INVALID,
		       "%s: cache: %s = '%s' is not a size: write \"8GiB\"", file, key,
		       cfg_getstr(s, key));
}

int config_choice(const struct config_at *at, const char *key, const char *const *words,
		  int n, struct err *e)
{
	const char *value = cfg_getstr(at->cfg, key);
	struct nearest near = {.word = value};

	for (int i = 0; i < n; i++) {
		if (!strcmp(value, words[i]))
			return i;
		nearest_offer(&near, words[i]);
	}
	return err_set(e, ERR_INVALID, "%s: %s: %s = '%s' is unknown%s%s%s", at->file,
		       at->section, key, value, near.best ? "; did you mean '" : "",
		       near.best ? near.best : "", near.best ? "'?" : "");
}

static int keep_alive_of(cfg_t *s, const char *file, const char *section, int64_t *out,
			 struct err *e)
{
	if (duration_parse(cfg_getstr(s, "keep_alive"), out))
		return 0;
	return err_set(
		e, ERR_INVALID,
		"%s: %s: keep_alive = '%s' is not a time: write \"5m\" or \"forever\"",
		file, section, cfg_getstr(s, "keep_alive"));
}

static int read_cache_sizes(struct config *c, cfg_t *s, const char *file, struct err *e)
{
	const struct {
		const char *key;
		uint64_t *out;
	} sizes[] = {{"budget", &c->budget_bytes},
		     {"parked", &c->parked_bytes},
		     {"reserve_completion", &c->reserve_completion_bytes},
		     {"reserve_free", &c->reserve_free_bytes},
		     {"packed", &c->packed_bytes},
		     {"kv_ram", &c->kv_ram_bytes},
		     {"kv_disk", &c->kv_disk_bytes}};

	for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
		if (size_of(s, file, sizes[i].key, sizes[i].out, e) < 0)
			return -1;
	return 0;
}

static int read_cache(struct config *c, cfg_t *s, const char *file, struct err *e)
{
	static const char *const tables[] = {"auto", "scalar", "avx2", "avx512"};
	static const char *const policies[] = {"lru", "gdsf"}; /* by enum policy_kind */
	struct config_at at = {s, file, "cache"};
	int policy, stay_s = 0, load_s = 0;

	if (read_cache_sizes(c, s, file, e) < 0 ||
	    keep_alive_of(s, file, "cache", &c->keep_alive_ms, e) < 0 ||
	    config_choice(&at, "kernels", tables, (int)ARRAY_LEN(tables), e) < 0)
		return -1;
	policy = config_choice(&at, "policy", policies, (int)ARRAY_LEN(policies), e);
	if (policy < 0 || config_range(&at, "min_stay", 0, 3600, &stay_s, e) < 0 ||
	    config_range(&at, "queue", 1, 1024, &c->queue, e) < 0 ||
	    config_range(&at, "load_timeout", 1, 86400, &load_s, e) < 0 ||
	    config_range(&at, "ctx", 64, CTX_MAX, &c->ctx, e) < 0 ||
	    config_range(&at, "slots", 1, SLOTS_MAX, &c->slots, e) < 0 ||
	    config_range(&at, "threads", 0, 64, &c->threads, e) < 0)
		return -1;
	c->policy = (enum policy_kind)policy;
	c->min_stay_ms = stay_s * 1000;
	c->load_timeout_ms = load_s * 1000;
	c->kernels = xstrdup(cfg_getstr(s, "kernels"));
	c->trace = copy_path(cfg_getstr(s, "trace"));
	c->llama_server = copy_path(cfg_getstr(s, "llama_server"));
	return 0;
}

static int read_settings(struct model_settings *m, const struct config_at *at,
			 struct err *e)
{
	static const char *const roles[] = {"any", "completion"};
	static const char *const backends[] = {"auto", "engine", "llama-server"};
	int role = config_choice(at, "role", roles, (int)ARRAY_LEN(roles), e);
	int backend = config_choice(at, "backend", backends, (int)ARRAY_LEN(backends), e);
	struct names args = config_names(at, "args");

	m->args = args.list;
	m->nargs = args.n;
	if (role < 0 || backend < 0 ||
	    config_range(at, "ctx", 0, CTX_MAX, &m->ctx, e) < 0)
		return -1;
	m->role = (enum model_role)role;
	m->backend = (enum model_backend)backend;
	m->pinned = cfg_getbool(at->cfg, "pinned");
	m->preload = cfg_getbool(at->cfg, "preload");
	m->keep_alive_ms = KEEP_ALIVE_DEFAULT;
	return cfg_getstr(at->cfg, "keep_alive")
		       ? keep_alive_of(at->cfg, at->file, at->section, &m->keep_alive_ms,
				       e)
		       : 0;
}

static int read_facts(struct model_facts *f, const struct config_at *at, struct err *e)
{
	f->images = config_tristate(at, "images");
	f->tools = config_tristate(at, "tools");
	f->structured = config_tristate(at, "structured");
	f->fallback = config_names(at, "fallback");
	if (config_range(at, "strength", 0, 10, &f->strength, e) < 0 ||
	    config_usd(at, "price_input", -1, &f->price_input, e) < 0 ||
	    config_usd(at, "price_output", -1, &f->price_output, e) < 0 ||
	    config_usd(at, "price_cached", -1, &f->price_cached, e) < 0)
		return -1;
	return 0;
}

static int read_models(struct config *c, cfg_t *top, const char *file, struct err *e)
{
	int n = (int)cfg_size(top, "model");

	c->models = xcalloc((size_t)n, sizeof *c->models);
	for (int i = 0; i < n; i++) {
		cfg_t *s = cfg_getnsec(top, "model", (unsigned)i);
		struct config_at at = {s, file, cfg_title(s)};
		struct config_model *m = &c->models[c->nmodels++];

		m->name = xstrdup(cfg_title(s));
		m->path = copy_path(cfg_getstr(s, "path"));
		if (read_settings(&m->settings, &at, e) < 0 ||
		    read_facts(&m->facts, &at, e) < 0)
			return -1;
		if (m->path && m->path[0] != '/')
			return err_set(e, ERR_INVALID,
				       "%s: model \"%s\": path '%s' must be absolute",
				       file, m->name, m->path);
		if (m->path && config_provider_of(c, m->name))
			return err_set(e, ERR_INVALID,
				       "%s: model \"%s\" is a provider's: it has no path",
				       file, m->name);
	}
	return 0;
}

static int read_all(struct config *c, cfg_t *top, struct err *e)
{
	const char *file = c->file ? c->file : "built-in configuration";

	c->models_dir = cfg_getstr(top, "models_dir")
				? copy_path(cfg_getstr(top, "models_dir"))
				: paths_models_dir();
	c->default_model = copy(cfg_getstr(top, "default_model"));
	if (read_server(c, cfg_getsec(top, "server"), file, e) < 0 ||
	    read_cache(c, cfg_getsec(top, "cache"), file, e) < 0 ||
	    config_read_memory(c, cfg_getsec(top, "memory"), file, e) < 0 ||
	    config_read_personas(c, top, file, e) < 0 ||
	    config_read_providers(c, top, file, e) < 0 ||
	    read_models(c, top, file, e) < 0 || config_read_routes(c, top, file, e) < 0)
		return -1;
	return 0;
}

static int parse(struct config *c, const char *text, struct err *e)
{
	cfg_t *top = cfg_init(top_opts, CFGF_NONE);
	char *closed = xasprintf("%s\nend_of_file = true\n", text);
	int rc = -1;

	reported = (struct err){0};
	reported_file = c->file ? c->file : "configuration";
	cfg_set_error_function(top, on_report);
	if (cfg_parse_buf(top, closed) != CFG_SUCCESS) {
		if (strstr(reported.text, "end_of_file"))
			err_set(e, ERR_INVALID,
				"%s: a section is not closed: a '}' is missing",
				c->file ? c->file : "configuration");
		else if (reported.code)
			*e = reported;
		else
			err_set(e, ERR_INVALID, "%s: syntax error",
				c->file ? c->file : "configuration");
	} else if (!cfg_getbool(top, "end_of_file")) {
		err_set(e, ERR_INVALID, "%s: a section is not closed: a '}' is missing",
			c->file ? c->file : "configuration");
	} else {
		rc = read_all(c, top, e);
	}
	free(closed);
	cfg_free(top);
	return rc;
}

struct config *config_load(const struct config_source *s, struct err *e)
{
	struct config *c = xcalloc(1, sizeof *c);
	const char *named = s->path ? s->path : getenv("HOB_CONFIG");
	struct err local = {0};
	char *text = NULL;

	if (!e)
		e = &local;
	c->file = named && named[0] ? xstrdup(named) : paths_config_file();
	if ((named && named[0]) || access(c->file, F_OK) == 0) {
		text = read_text(c->file, CONFIG_MAX_BYTES, e);
		if (!text)
			goto fail;
	} else {
		free(c->file);
		c->file = NULL;
	}
	if (parse(c, text ? text : "", e) < 0)
		goto fail;
	free(text);
	if (s->has_port)
		c->port = s->port;
	c->local_only |= s->local_only;
	if (s->socket_path) {
		free(c->socket_path);
		c->socket_path = xstrdup(s->socket_path);
	}
	return c;
fail:
	free(text);
	config_free(c);
	return NULL;
}

const struct config_provider *config_provider_of(const struct config *c,
						 const char *model)
{
	size_t n = strcspn(model, "/");

	for (int i = 0; model[n] && i < c->nproviders; i++)
		if (str_eq((struct str){model, n}, c->providers[i].name))
			return &c->providers[i];
	return NULL;
}

const struct config_model *config_model(const struct config *c, const char *name)
{
	for (int i = 0; i < c->nmodels; i++)
		if (!strcmp(c->models[i].name, name))
			return &c->models[i];
	return NULL;
}

const struct config_route *config_route(const struct config *c, const char *name)
{
	for (int i = 0; i < c->nroutes; i++)
		if (!strcmp(c->routes[i].name, name))
			return &c->routes[i];
	return NULL;
}

void config_free(struct config *c)
{
	if (!c)
		return;
	for (int i = 0; i < c->nhosts; i++)
		free(c->hosts[i]);
	for (int i = 0; i < c->nmodels; i++) {
		free(c->models[i].name);
		free(c->models[i].path);
		for (int k = 0; k < c->models[i].settings.nargs; k++)
			free(c->models[i].settings.args[k]);
		free(c->models[i].settings.args);
		names_free(&c->models[i].facts.fallback);
	}
	for (int i = 0; i < c->nproviders; i++)
		config_provider_free(&c->providers[i]);
	for (int i = 0; i < c->nroutes; i++)
		config_route_free(&c->routes[i]);
	for (int i = 0; i < c->npersonas; i++)
		config_persona_free(&c->personas[i]);
	free(c->personas);
	free(c->routes);
	free(c->hosts);
	free(c->models);
	free(c->providers);
	free(c->file);
	free(c->socket_path);
	free(c->bind);
	free(c->token_file);
	free(c->token);
	free(c->kernels);
	free(c->trace);
	free(c->llama_server);
	free(c->memory_path);
	free(c->memory_summary_model);
	free(c->models_dir);
	free(c->default_model);
	free(c);
}
