/* Reads GET /v1/models.  Main thread.  hob's own fields are in an object "hob"; a name
 * that is not a string is shown as "?", so that one odd entry does not hide the others.
 */
#include "cli/models_list.h"

cJSON *models_list_get(struct client *c, const char *path, struct err *e)
{
	struct client_request r = {.method = "GET",
				   .path = path,
				   .total_timeout_ms = CLIENT_CALL_TIMEOUT_MS};
	struct client_reply reply;
	cJSON *tree = NULL;

	if (!client_do(c, &r, &reply, e)) {
		if (reply.status != 200)
			client_error(&reply, e);
		else if (!(tree = json_parse(buf_str(&reply.body), e)))
			err_wrap(e, "the daemon's answer to %s", path);
	}
	client_reply_fini(&reply);
	return tree;
}

cJSON *models_list(struct client *c, struct err *e)
{
	cJSON *list = models_list_get(c, "/v1/models", e);

	if (list && !cJSON_IsArray(cJSON_GetObjectItemCaseSensitive(list, "data"))) {
		err_set(e, ERR_INTERNAL, "the daemon's list of models has no \"data\"");
		cJSON_Delete(list);
		list = NULL;
	}
	return list;
}

static const cJSON *item(const cJSON *list, int i)
{
	return cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(list, "data"), i);
}

int models_list_count(const cJSON *list)
{
	return cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(list, "data"));
}

const char *models_list_name(const cJSON *list, int i)
{
	const char *name = "?";

	json_string(item(list, i), "id", &name, NULL);
	return name;
}

const char *models_list_owner(const cJSON *list, int i)
{
	const char *owner = "?";

	json_string(item(list, i), "owned_by", &owner, NULL);
	return owner;
}

bool models_list_prices(const cJSON *list, int i, double *input, double *output)
{
	const cJSON *hob = cJSON_GetObjectItemCaseSensitive(item(list, i), "hob");

	return json_double(hob, "price_input", 0, 1e9, input, NULL) > 0 &&
	       json_double(hob, "price_output", 0, 1e9, output, NULL) > 0;
}

int64_t models_list_bytes(const cJSON *list, int i)
{
	int64_t bytes = -1;

	json_int(cJSON_GetObjectItemCaseSensitive(item(list, i), "hob"), "bytes", 0,
		 (int64_t)1 << 53, &bytes, NULL);
	return bytes;
}

bool models_list_has(const cJSON *list, const char *name)
{
	for (int i = 0; i < models_list_count(list); i++)
		if (!strcmp(models_list_name(list, i), name))
			return true;
	return false;
}
