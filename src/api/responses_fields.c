/* Members of a request as the Responses API has them: read, repeated in each response object, renamed.
 *
 * Pure; any thread.  A word that is not known is an error that lists those that are. */
#include "api/responses_fields.h"

#include "base/json.h"

void responses_echo(struct responses_params *p, const char *key, const cJSON *v)
{
	buf_addf(&p->echo, ",\"%s\":", key);
	if (v)
		json_print(&p->echo, v);
	else
		buf_adds(&p->echo, "null");
}

void responses_echo_text(struct responses_params *p, const char *key, const char *text)
{
	buf_addf(&p->echo, ",\"%s\":", key);
	buf_add_json_or_null(&p->echo, text);
}

const cJSON *responses_member(const cJSON *o, const char *key)
{
	return cJSON_GetObjectItemCaseSensitive(o, key);
}

int responses_word(const cJSON *root, const char *key, const char *const *words, int n,
		   const char **out, struct err *e)
{
	struct buf list = {0};
	int rc = json_string(root, key, out, e);

	if (rc <= 0)
		return rc;
	for (int i = 0; i < n; i++)
		if (!strcmp(*out, words[i]))
			return 1;
	for (int i = 0; i < n; i++)
		buf_addf(&list, "%s%s", i ? ", " : "", words[i]);
	err_set(e, ERR_INVALID, "'%s' must be one of: %s", key, list.data);
	buf_free(&list);
	return -1;
}

void responses_extra_key(struct buf *extra, const char *key)
{
	buf_addc(extra, extra->len ? ',' : '{');
	buf_add_json(extra, key, strlen(key));
	buf_addc(extra, ':');
}
