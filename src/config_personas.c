/* The sections persona "name" {} of the configuration.  Loop thread, at start and at each reload.
 *
 * The file of a system prompt is not looked at here but when the persona is first used
 * (api/persona.c): a prompt on a disk that is away at the start shall not keep the daemon down. */
#include "config_impl.h"

enum { PERSONA_MAX_TOKENS = 1 << 20 };

cfg_opt_t config_persona_opts[] = {CFG_STR("system", NULL, CFGF_NONE),
				   CFG_STR("system_file", NULL, CFGF_NONE),
				   CFG_STR("model", NULL, CFGF_NONE),
				   CFG_STR("description", NULL, CFGF_NONE),
				   CFG_FLOAT("temperature", 0, CFGF_NODEFAULT),
				   CFG_FLOAT("top_p", 0, CFGF_NODEFAULT),
				   CFG_INT("max_tokens", 0, CFGF_NONE),
				   CFG_BOOL("private", cfg_false, CFGF_NONE),
				   CFG_END()};

/* NULL too when what was written is empty. */
static char *text_or_null(const struct config_at *at, const char *key)
{
	const char *text = cfg_getstr(at->cfg, key);

	return text && text[0] ? config_text(at, key) : NULL;
}

static int read_share(const struct config_at *at, const char *key, double max,
		      double *out, struct err *e)
{
	*out = -1;
	if (!cfg_size(at->cfg, key))
		return 0;
	*out = cfg_getfloat(at->cfg, key);
	if (*out >= 0 && *out <= max)
		return 0;
	return err_set(e, ERR_INVALID,
		       "%s: persona \"%s\": %s = %g is out of range: 0 to %g", at->file,
		       at->section, key, *out, max);
}

static int check_name(const char *name, const char *file, struct err *e)
{
	size_t n = strlen(name);
	bool plain =
		n && n <= PERSONA_MAX_NAME_BYTES && name[0] != ' ' && name[n - 1] != ' ';

	for (size_t i = 0; plain && i < n; i++)
		plain = (unsigned char)name[i] >= ' ' && name[i] != 0x7f;
	return plain ? 0
		     : err_set(e, ERR_INVALID,
			       "%s: persona \"%.80s\": a name has 1 to %d characters, none "
			       "of them a control character or a space at an end",
			       file, name, PERSONA_MAX_NAME_BYTES);
}

static int check_system(const struct config_persona *p, const char *file, struct err *e)
{
	if (p->system && p->system_file)
		return err_set(e, ERR_INVALID,
			       "%s: persona \"%s\": system and system_file: one of them",
			       file, p->name);
	if (p->system && strlen(p->system) > PERSONA_MAX_SYSTEM_BYTES)
		return err_set(e, ERR_INVALID,
			       "%s: persona \"%s\": system is longer than %d bytes", file,
			       p->name, PERSONA_MAX_SYSTEM_BYTES);
	if (p->system_file && p->system_file[0] != '/')
		return err_set(e, ERR_INVALID,
			       "%s: persona \"%s\": system_file '%s' must be absolute or "
			       "begin with '~/'",
			       file, p->name, p->system_file);
	return 0;
}

static int read_one(struct config_persona *p, const struct config_at *at, struct err *e)
{
	p->system = text_or_null(at, "system");
	if (cfg_getstr(at->cfg, "system_file") && cfg_getstr(at->cfg, "system_file")[0])
		p->system_file = config_path_text(at, "system_file");
	p->model = text_or_null(at, "model");
	p->description = text_or_null(at, "description");
	p->is_private = cfg_getbool(at->cfg, "private");
	if (check_name(p->name, at->file, e) < 0 || check_system(p, at->file, e) < 0 ||
	    read_share(at, "temperature", 2, &p->temperature, e) < 0 ||
	    read_share(at, "top_p", 1, &p->top_p, e) < 0)
		return -1;
	return config_range(at, "max_tokens", 0, PERSONA_MAX_TOKENS, &p->max_tokens, e);
}

int config_read_personas(struct config *c, cfg_t *top, const char *file, struct err *e)
{
	int n = (int)cfg_size(top, "persona");

	c->personas = xcalloc((size_t)n, sizeof *c->personas);
	for (int i = 0; i < n; i++) {
		cfg_t *s = cfg_getnsec(top, "persona", (unsigned)i);
		struct config_at at = {s, file, cfg_title(s)};
		struct config_persona *p = &c->personas[c->npersonas++];

		p->name = xstrdup(cfg_title(s));
		if (read_one(p, &at, e) < 0)
			return -1;
	}
	return 0;
}

const struct config_persona *config_persona(const struct config *c, const char *name)
{
	for (int i = 0; i < c->npersonas; i++)
		if (!strcmp(c->personas[i].name, name))
			return &c->personas[i];
	return NULL;
}

void config_persona_free(struct config_persona *p)
{
	free(p->name);
	free(p->system);
	free(p->system_file);
	free(p->model);
	free(p->description);
}
