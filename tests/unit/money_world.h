/* A small world for the accounts: a folder, a clock, a configuration with one provider that has caps. */
#ifndef HOB_TESTS_MONEY_WORLD_H
#define HOB_TESTS_MONEY_WORLD_H

#include <dirent.h>
#include <math.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "base/json.h"
#include "base/log.h"
#include "route/money.h"

/* Saturday, 21 November 2026, 12:00 UTC. */
#define WORLD_NOON 1795262400000ll

struct world {
	char dir[64], path[96];
	int64_t now;
	struct config_provider providers[2];
	struct config config;
	struct money *money;
};

static inline int64_t world_now(void *arg)
{
	return ((struct world *)arg)->now;
}

static inline void world_open(struct world *w, uv_loop_t *loop)
{
	struct money_parts p = {loop, w->path[0] ? w->path : NULL, world_now, w};

	w->money = money_new(&p);
	money_set_config(w->money, &w->config);
}

static inline void world_close(struct world *w)
{
	money_close(w->money, NULL, NULL);
	w->money = NULL;
}

static inline void world_restart(struct world *w)
{
	world_close(w);
	world_open(w, NULL);
}

static inline void world_init(struct world *w)
{
	log_set_level(LOG_LV_ERROR);
	*w = (struct world){.now = WORLD_NOON};
	snprintf(w->dir, sizeof w->dir, "/tmp/hob-money-XXXXXX");
	if (!mkdtemp(w->dir))
		abort();
	snprintf(w->path, sizeof w->path, "%s/spend.db", w->dir);
	w->providers[0].name = (char *)"openrouter";
	w->providers[1].name = (char *)"other";
	w->config.providers = w->providers;
	w->config.nproviders = 2;
	w->config.budget.soft = 0.8;
}

/* Files in the folder whose name contains `part`; all go when `remove`. */
static inline int world_files(struct world *w, const char *part, bool remove_them)
{
	DIR *d = opendir(w->dir);
	struct dirent *e;
	int n = 0;

	while (d && (e = readdir(d))) {
		char path[400];

		if (e->d_name[0] == '.' || !strstr(e->d_name, part))
			continue;
		n++;
		snprintf(path, sizeof path, "%s/%s", w->dir, e->d_name);
		if (remove_them)
			unlink(path);
	}
	if (d)
		closedir(d);
	return n;
}

static inline void world_fini(struct world *w)
{
	if (w->money)
		world_close(w);
	world_files(w, "", true);
	rmdir(w->dir);
}

static inline struct money_ask ask_of(const char *provider, const char *model,
				      const char *conversation, double most)
{
	return (struct money_ask){provider, model, conversation, most, -1};
}

static inline struct money_hold *reserve(struct world *w, const char *request,
					 double most, struct err *e)
{
	struct money_ask a = ask_of("openrouter", "v/m", "c1", most);

	return money_reserve(w->money, &a, request, e);
}

static inline struct usage usage_of(int in, int out, double cost)
{
	struct usage u = USAGE_UNKNOWN;

	u.prompt_tokens = in;
	u.completion_tokens = out;
	u.cost_usd = cost;
	return u;
}

/* The view as a tree. */
static inline cJSON *world_json(struct world *w, int days, unsigned by)
{
	struct buf out = {0};
	cJSON *tree;

	money_json(w->money, days, by, &out);
	tree = json_parse(buf_str(&out), NULL);
	buf_free(&out);
	return tree;
}

/* A number of the first row, or of the only one. */
static inline double world_total(struct world *w, const char *key)
{
	cJSON *tree = world_json(w, MONEY_MAX_DAYS, 0);
	const cJSON *row = cJSON_GetArrayItem(cJSON_GetObjectItem(tree, "rows"), 0);
	const cJSON *n = cJSON_GetObjectItem(row, key);
	double value = n ? n->valuedouble : 0;

	cJSON_Delete(tree);
	return value;
}

/* Of a cap of the view; -1: there is no such. */
static inline double world_cap(struct world *w, const char *scope, const char *key)
{
	cJSON *tree = world_json(w, 1, 0);
	const cJSON *cap;
	double value = -1;

	cJSON_ArrayForEach(
		cap, cJSON_GetObjectItem(
			     tree, "caps")) if (!strcmp(cJSON_GetObjectItem(cap, "scope")
								->valuestring,
							scope)) value =
		cJSON_GetObjectItem(cap, key)->valuedouble;
	cJSON_Delete(tree);
	return value;
}

#endif
