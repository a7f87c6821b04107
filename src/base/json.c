/* Limits around cJSON, and getters that tell absent from wrong.  Any thread. */
#include "base/json.h"

#include <math.h>

#include "base/duration.h"

static bool is_nul_escape(struct str text, size_t i)
{
	return text.len - i >= 6 && !memcmp(text.ptr + i, "\\u0000", 6);
}

/* Depth is checked before cJSON sees the text, because it recurses; brackets inside strings do not
 * count.  Counts the escaped NULs on the way. */
static int check_text(struct str text, size_t *nuls, struct err *e)
{
	int depth = 0;
	bool in_string = false;

	for (size_t i = 0; i < text.len; i++) {
		char c = text.ptr[i];

		if (c == 0)
			return err_set(e, ERR_INVALID, "JSON: NUL byte at offset %zu", i);
		if (in_string) {
			if (c == '\\') {
				*nuls += is_nul_escape(text, i);
				i++;
			} else if (c == '"')
				in_string = false;
		} else if (c == '"') {
			in_string = true;
		} else if (c == '[' || c == '{') {
			if (++depth > JSON_MAX_DEPTH)
				return err_set(
					e, ERR_INVALID,
					"JSON: nested deeper than %d at offset %zu",
					JSON_MAX_DEPTH, i);
		} else if (c == ']' || c == '}') {
			depth--;
		}
	}
	return 0;
}

/* "\u0000" becomes "\ufffd", of the same length: cJSON would cut the string there. */
static char *replace_nuls(struct str text)
{
	char *copy = xmalloc(text.len + 1);

	memcpy(copy, text.ptr, text.len);
	copy[text.len] = 0;
	for (size_t i = 0; i < text.len; i++)
		if (copy[i] == '\\') {
			if (is_nul_escape(text, i))
				memcpy(copy + i, "\\ufffd", 6);
			i++;
		}
	return copy;
}

static cJSON *parse(struct str text, struct err *e)
{
	const char *end = NULL;
	cJSON *tree = cJSON_ParseWithLengthOpts(text.ptr, text.len, &end, false);

	if (!tree) {
		err_set(e, ERR_INVALID, "JSON: syntax error near offset %zu",
			end ? (size_t)(end - text.ptr) : 0);
		return NULL;
	}
	for (; end < text.ptr + text.len; end++)
		if (!strchr(" \t\r\n", *end)) {
			err_set(e, ERR_INVALID,
				"JSON: text after the value at offset %zu",
				(size_t)(end - text.ptr));
			cJSON_Delete(tree);
			return NULL;
		}
	return tree;
}

cJSON *json_parse(struct str text, struct err *e)
{
	size_t nuls = 0;
	char *copy;
	cJSON *tree;

	if (text.len == 0) {
		err_set(e, ERR_INVALID, "JSON: empty");
		return NULL;
	}
	if (check_text(text, &nuls, e) < 0)
		return NULL;
	if (nuls == 0)
		return parse(text, e);
	copy = replace_nuls(text);
	tree = parse((struct str){copy, text.len}, e);
	free(copy);
	return tree;
}

/* The member, or NULL when absent or null. */
static const cJSON *member(const cJSON *obj, const char *key)
{
	const cJSON *v = obj ? obj->child : NULL;

	while (v && (!v->string || v->string[0] != key[0] || strcmp(v->string, key) != 0))
		v = v->next;
	return v && !cJSON_IsNull(v) ? v : NULL;
}

static int wrong(struct err *e, const char *key, const char *expected)
{
	return err_set(e, ERR_INVALID, "'%s' must be %s", key, expected);
}

int json_string(const cJSON *obj, const char *key, const char **out, struct err *e)
{
	const cJSON *v = member(obj, key);

	if (!v)
		return 0;
	if (!cJSON_IsString(v))
		return wrong(e, key, "a string");
	*out = v->valuestring;
	return 1;
}

int json_double(const cJSON *obj, const char *key, double min, double max, double *out,
		struct err *e)
{
	const cJSON *v = member(obj, key);

	if (!v)
		return 0;
	if (!cJSON_IsNumber(v))
		return wrong(e, key, "a number");
	if (!(v->valuedouble >= min && v->valuedouble <= max))
		return err_set(e, ERR_INVALID, "'%s' must be between %g and %g", key, min,
			       max);
	*out = v->valuedouble;
	return 1;
}

int json_int(const cJSON *obj, const char *key, int64_t min, int64_t max, int64_t *out,
	     struct err *e)
{
	const cJSON *v = member(obj, key);

	if (!v)
		return 0;
	if (!cJSON_IsNumber(v) || v->valuedouble != floor(v->valuedouble))
		return wrong(e, key, "an integer");
	if (!(v->valuedouble >= (double)min && v->valuedouble <= (double)max))
		return err_set(e, ERR_INVALID, "'%s' must be between %lld and %lld", key,
			       (long long)min, (long long)max);
	*out = (int64_t)v->valuedouble;
	return 1;
}

int json_bool(const cJSON *obj, const char *key, bool *out, struct err *e)
{
	const cJSON *v = member(obj, key);

	if (!v)
		return 0;
	if (!cJSON_IsBool(v))
		return wrong(e, key, "true or false");
	*out = cJSON_IsTrue(v);
	return 1;
}

int json_duration(const cJSON *obj, const char *key, int64_t *ms, struct err *e)
{
	const cJSON *v = member(obj, key);

	if (!v)
		return 0;
	if ((cJSON_IsNumber(v) && duration_of_seconds(v->valuedouble, ms)) ||
	    (cJSON_IsString(v) && duration_parse(v->valuestring, ms)))
		return 1;
	return wrong(e, key, "a number of seconds or a time such as \"5m\"");
}

int json_array(const cJSON *obj, const char *key, const cJSON **out, struct err *e)
{
	const cJSON *v = member(obj, key);

	if (!v)
		return 0;
	if (!cJSON_IsArray(v))
		return wrong(e, key, "an array");
	*out = v;
	return 1;
}

int json_object(const cJSON *obj, const char *key, const cJSON **out, struct err *e)
{
	const cJSON *v = member(obj, key);

	if (!v)
		return 0;
	if (!cJSON_IsObject(v))
		return wrong(e, key, "an object");
	*out = v;
	return 1;
}

void json_print(struct buf *out, const cJSON *tree)
{
	char *text = cJSON_PrintUnformatted(tree);

	ASSERT(text);
	buf_adds(out, text);
	cJSON_free(text);
}
