/* The daemon's list of models, for the commands that show or check it. */
#ifndef HOB_MODELS_LIST_H
#define HOB_MODELS_LIST_H

#include "base/json.h"
#include "cli/client.h"

/* GET a path and parse the reply: the tree (cJSON_Delete), or NULL and the daemon's
 * error. */
cJSON *models_list_get(struct client *c, const char *path, struct err *e);

/* GET /v1/models; its "data" array is known to be one. */
cJSON *models_list(struct client *c, struct err *e);
int models_list_count(const cJSON *list);
const char *models_list_name(const cJSON *list, int i);  /* never NULL */
const char *models_list_owner(const cJSON *list, int i); /* "local", "route", "remote" */
/* USD per million tokens; false: not known. */
bool models_list_prices(const cJSON *list, int i, double *input, double *output);
int64_t models_list_bytes(const cJSON *list, int i); /* -1 when not said */
bool models_list_has(const cJSON *list, const char *name);

#endif
