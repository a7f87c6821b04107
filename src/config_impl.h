/* What the files that read the configuration share; nobody else includes it. */
#ifndef HOB_CONFIG_IMPL_H
#define HOB_CONFIG_IMPL_H

#include <confuse.h>
#include "config.h"

extern cfg_opt_t config_provider_opts[], config_route_opts[], config_rule_opts[],
	config_budget_opts[], config_memory_opts[], config_persona_opts[];

/* Of a named section ("cache", or a title), for messages. */
struct config_at {
	cfg_t *cfg;
	const char *file, *section;
};

/* config.c: one value each; -1 and an error that names file, section, key and what is right */
int config_range(const struct config_at *at, const char *key, long min, long max,
		 int *out, struct err *e);
/* A number that is not negative, or unset when it was not written. */
int config_usd(const struct config_at *at, const char *key, double unset, double *out,
	       struct err *e);
/* Index of the value among n words; -1 when it is none of them. */
int config_choice(const struct config_at *at, const char *key, const char *const *words,
		  int n, struct err *e);
enum tristate config_tristate(const struct config_at *at, const char *key);
struct names config_names(const struct config_at *at, const char *key);
char *config_text(const struct config_at *at,
		  const char *key); /* owned; NULL: not given */
char *config_path_text(const struct config_at *at,
		       const char *key); /* "~/" is the home folder */
void names_free(struct names *n);

/* config_memory.c */
int config_read_memory(struct config *c, cfg_t *section, const char *file, struct err *e);

/* config_personas.c */
int config_read_personas(struct config *c, cfg_t *top, const char *file, struct err *e);
void config_persona_free(struct config_persona *p);

/* config_providers.c */
int config_read_providers(struct config *c, cfg_t *top, const char *file, struct err *e);
void config_provider_free(struct config_provider *p);

/* config_routes.c */
int config_read_routes(struct config *c, cfg_t *top, const char *file, struct err *e);
void config_route_free(struct config_route *r);

#endif
