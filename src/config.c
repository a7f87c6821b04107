/* The configuration file, by libConfuse.
 *
 * Two things libConfuse leaves to us: it accepts a section that is never closed (we parse the text
 * with a last line of our own, `end_of_file = true`, and look whether it arrived at top level), and
 * it names an unknown key but no better one (we look for the nearest in the same tables).  Read once
 * at start and at each reload, on the loop thread; files are small. */
#include "config.h"

#include <confuse.h>
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
static cfg_opt_t memory_opts[] = {CFG_BOOL("enabled", cfg_true, CFGF_NONE),
				  CFG_STR("path", NULL, CFGF_NONE), CFG_END()};
static cfg_opt_t model_opts[] = {CFG_STR("path", NULL, CFGF_NONE),
				 CFG_INT("ctx", 0, CFGF_NONE),
				 CFG_BOOL("pinned", cfg_false, CFGF_NONE),
				 CFG_BOOL("preload", cfg_false, CFGF_NONE),
				 CFG_STR("keep_alive", NULL, CFGF_NONE),
				 CFG_STR("role", "any", CFGF_NONE),
				 CFG_STR("backend", "auto", CFGF_NONE),
				 CFG_STR_LIST("args", "{}", CFGF_NONE),
				 CFG_END()};
static cfg_opt_t provider_opts[] = {CFG_STR("kind", "openai", CFGF_NONE),
				    CFG_STR("url", NULL, CFGF_NONE),
				    CFG_STR("key_env", NULL, CFGF_NONE),
				    CFG_STR("key_file", NULL, CFGF_NONE),
				    CFG_STR("ca_file", NULL, CFGF_NONE),
				    CFG_INT("connect_timeout", 4, CFGF_NONE),
				    CFG_INT("first_byte_timeout", 60, CFGF_NONE),
				    CFG_INT("idle_timeout", 60, CFGF_NONE),
				    CFG_END()};
static cfg_opt_t top_opts[] = {
	CFG_SEC("server", server_opts, CFGF_NONE),
	CFG_SEC("cache", cache_opts, CFGF_NONE),
	CFG_SEC("memory", memory_opts, CFGF_NONE),
	CFG_SEC("model", model_opts, CFGF_TITLE | CFGF_MULTI | CFGF_NO_TITLE_DUPES),
	CFG_SEC("provider", provider_opts, CFGF_TITLE | CFGF_MULTI | CFGF_NO_TITLE_DUPES),
	CFG_STR("models_dir", NULL, CFGF_NONE),
	CFG_STR("default_model", NULL, CFGF_NONE),
	CFG_BOOL("end_of_file", cfg_false, CFGF_NONE),
	CFG_END()};

/* libConfuse reports through a callback without an argument, so the first report of a parse is kept
 * per thread for the caller to take. */
static _Thread_local struct err reported;
static _Thread_local const char *reported_file;

static const char *nearest_key(const char *word)
{
	static const cfg_opt_t *const tables[] = {top_opts,   server_opts,
						  cache_opts, memory_opts,
						  model_opts, provider_opts};
	struct nearest n = {.word = word};

	for (size_t i = 0; i < ARRAY_LEN(tables); i++)
		for (const cfg_opt_t *o = tables[i]; o->name; o++)
			if (strcmp(o->name, "end_of_file"))
				nearest_offer(&n, o->name);
	return n.best;
}

static void on_report(cfg_t *cfg, const char *fmt, va_list ap)
{
	char text[256], *quote, *end;
	const char *near = NULL;

	if (reported.code)
		return;
	vsnprintf(text, sizeof text, fmt, ap);
	quote = strstr(text, "no such option '");
	if (quote && (end = strrchr(quote, '\''))) {
		*end = 0;
		near = nearest_key(quote + strlen("no such option '"));
		*end = '\'';
	}
	err_set(&reported, ERR_INVALID, "%.200s:%d: %s%s%s%s", reported_file,
		cfg ? cfg->line : 0, text, near ? "; did you mean '" : "",
		near ? near : "", near ? "'?" : "");
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

static int in_range(cfg_t *cfg, const char *file, const char *section, const char *key,
		    long min, long max, int *out, struct err *e)
{
	long v = cfg_getint(cfg, key);

	if (v < min || v > max)
		return err_set(e, ERR_INVALID,
			       "%s: %s: %s = %ld is out of range: %ld to %ld", file,
			       section, key, v, min, max);
	*out = (int)v;
	return 0;
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
	int header_s = 0, queue_s = 0;

	if (in_range(s, file, "server", "port", -1, 65535, &c->port, e) < 0 ||
	    in_range(s, file, "server", "header_timeout", 1, 3600, &header_s, e) < 0 ||
	    in_range(s, file, "server", "queue_timeout", 1, 86400, &queue_s, e) < 0)
		return -1;
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

/* The index of the option's value among n words. */
static int choice_of(cfg_t *s, const char *file, const char *section, const char *key,
		     const char *const *words, int n, struct err *e)
{
	const char *value = cfg_getstr(s, key);
	struct nearest near = {.word = value};

	for (int i = 0; i < n; i++) {
		if (!strcmp(value, words[i]))
			return i;
		nearest_offer(&near, words[i]);
	}
	return err_set(e, ERR_INVALID, "%s: %s: %s = '%s' is unknown%s%s%s", file,
		       section, key, value, near.best ? "; did you mean '" : "",
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
	int policy, stay_s = 0, load_s = 0;

	if (read_cache_sizes(c, s, file, e) < 0 ||
	    keep_alive_of(s, file, "cache", &c->keep_alive_ms, e) < 0 ||
	    choice_of(s, file, "cache", "kernels", tables, (int)ARRAY_LEN(tables), e) < 0)
		return -1;
	policy = choice_of(s, file, "cache", "policy", policies, (int)ARRAY_LEN(policies),
			   e);
	if (policy < 0 ||
	    in_range(s, file, "cache", "min_stay", 0, 3600, &stay_s, e) < 0 ||
	    in_range(s, file, "cache", "queue", 1, 1024, &c->queue, e) < 0 ||
	    in_range(s, file, "cache", "load_timeout", 1, 86400, &load_s, e) < 0 ||
	    in_range(s, file, "cache", "ctx", 64, CTX_MAX, &c->ctx, e) < 0 ||
	    in_range(s, file, "cache", "slots", 1, SLOTS_MAX, &c->slots, e) < 0 ||
	    in_range(s, file, "cache", "threads", 0, 64, &c->threads, e) < 0)
		return -1;
	c->policy = (enum policy_kind)policy;
	c->min_stay_ms = stay_s * 1000;
	c->load_timeout_ms = load_s * 1000;
	c->kernels = xstrdup(cfg_getstr(s, "kernels"));
	c->trace = copy_path(cfg_getstr(s, "trace"));
	c->llama_server = copy_path(cfg_getstr(s, "llama_server"));
	return 0;
}

static int read_model(struct model_settings *m, cfg_t *s, const char *file,
		      const char *name, struct err *e)
{
	static const char *const roles[] = {"any", "completion"};
	static const char *const backends[] = {"auto", "engine", "llama-server"};
	int role = choice_of(s, file, name, "role", roles, (int)ARRAY_LEN(roles), e);
	int backend = choice_of(s, file, name, "backend", backends,
				(int)ARRAY_LEN(backends), e);

	if (role < 0 || backend < 0 ||
	    in_range(s, file, name, "ctx", 0, CTX_MAX, &m->ctx, e) < 0)
		return -1;
	m->role = (enum model_role)role;
	m->backend = (enum model_backend)backend;
	m->pinned = cfg_getbool(s, "pinned");
	m->preload = cfg_getbool(s, "preload");
	m->nargs = (int)cfg_size(s, "args");
	m->args = xcalloc((size_t)m->nargs + 1, sizeof *m->args);
	for (int i = 0; i < m->nargs; i++)
		m->args[i] = xstrdup(cfg_getnstr(s, "args", (unsigned)i));
	m->keep_alive_ms = KEEP_ALIVE_DEFAULT;
	return cfg_getstr(s, "keep_alive")
		       ? keep_alive_of(s, file, name, &m->keep_alive_ms, e)
		       : 0;
}

static int read_models(struct config *c, cfg_t *top, const char *file, struct err *e)
{
	int n = (int)cfg_size(top, "model");

	c->models = xcalloc((size_t)n, sizeof *c->models);
	for (int i = 0; i < n; i++) {
		cfg_t *s = cfg_getnsec(top, "model", (unsigned)i);
		struct config_model *m = &c->models[c->nmodels++];

		m->name = xstrdup(cfg_title(s));
		m->path = copy_path(cfg_getstr(s, "path"));
		if (read_model(&m->settings, s, file, m->name, e) < 0)
			return -1;
		if (m->path && m->path[0] != '/')
			return err_set(e, ERR_INVALID,
				       "%s: model \"%s\": path '%s' must be absolute",
				       file, m->name, m->path);
	}
	return 0;
}

static struct config_provider *add_provider(struct config *c, const char *name)
{
	struct config_provider *p;

	c->providers = xrealloc(c->providers,
				(size_t)(c->nproviders + 1) * sizeof *c->providers);
	p = &c->providers[c->nproviders++];
	*p = (struct config_provider){.name = xstrdup(name)};
	return p;
}

static int read_providers(struct config *c, cfg_t *top, const char *file, struct err *e)
{
	int n = (int)cfg_size(top, "provider");

	for (int i = 0; i < n; i++) {
		cfg_t *s = cfg_getnsec(top, "provider", (unsigned)i);
		struct config_provider *p = add_provider(c, cfg_title(s));

		p->kind = xstrdup(cfg_getstr(s, "kind"));
		p->url = copy(cfg_getstr(s, "url"));
		p->key_env = copy(cfg_getstr(s, "key_env"));
		p->key_file = copy_path(cfg_getstr(s, "key_file"));
		p->ca_file = copy_path(cfg_getstr(s, "ca_file"));
		if (strcmp(p->kind, "openai"))
			return err_set(
				e, ERR_INVALID,
				"%s: provider \"%s\": kind = '%s' is unknown: use \"openai\"",
				file, p->name, p->kind);
		if (!p->url ||
		    (strncmp(p->url, "http://", 7) && strncmp(p->url, "https://", 8)))
			return err_set(
				e, ERR_INVALID,
				"%s: provider \"%s\": url must start with http:// or https://",
				file, p->name);
		if (strchr(p->name, '/') || !p->name[0])
			return err_set(e, ERR_INVALID,
				       "%s: provider \"%s\": a name has no '/'", file,
				       p->name);
		if (in_range(s, file, p->name, "connect_timeout", 1, 600,
			     &p->connect_timeout_ms, e) < 0 ||
		    in_range(s, file, p->name, "first_byte_timeout", 1, 3600,
			     &p->first_byte_timeout_ms, e) < 0 ||
		    in_range(s, file, p->name, "idle_timeout", 1, 3600,
			     &p->idle_timeout_ms, e) < 0)
			return -1;
		p->connect_timeout_ms *= 1000;
		p->first_byte_timeout_ms *= 1000;
		p->idle_timeout_ms *= 1000;
	}
	return 0;
}

static void default_provider(struct config *c)
{
	struct config_provider *p;

	for (int i = 0; i < c->nproviders; i++)
		if (!strcmp(c->providers[i].name, "openrouter"))
			return;
	p = add_provider(c, "openrouter");
	p->kind = xstrdup("openai");
	p->url = xstrdup("https://openrouter.ai/api/v1");
	p->key_env = xstrdup("OPENROUTER_API_KEY");
	p->connect_timeout_ms = 4000;
	p->first_byte_timeout_ms = p->idle_timeout_ms = 60000;
}

static int read_all(struct config *c, cfg_t *top, struct err *e)
{
	const char *file = c->file ? c->file : "built-in configuration";
	cfg_t *memory = cfg_getsec(top, "memory");
	char *data = paths_data_dir();

	c->memory_enabled = cfg_getbool(memory, "enabled");
	c->memory_path = cfg_getstr(memory, "path")
				 ? copy_path(cfg_getstr(memory, "path"))
				 : xasprintf("%s/memory.db", data);
	c->models_dir = cfg_getstr(top, "models_dir")
				? copy_path(cfg_getstr(top, "models_dir"))
				: paths_models_dir();
	c->default_model = copy(cfg_getstr(top, "default_model"));
	free(data);
	if (read_server(c, cfg_getsec(top, "server"), file, e) < 0 ||
	    read_cache(c, cfg_getsec(top, "cache"), file, e) < 0 ||
	    read_models(c, top, file, e) < 0 || read_providers(c, top, file, e) < 0)
		return -1;
	default_provider(c);
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
	}
	for (int i = 0; i < c->nproviders; i++) {
		free(c->providers[i].name);
		free(c->providers[i].kind);
		free(c->providers[i].url);
		free(c->providers[i].key_env);
		free(c->providers[i].key_file);
		free(c->providers[i].ca_file);
	}
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
	free(c->models_dir);
	free(c->default_model);
	free(c);
}
