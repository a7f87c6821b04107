/* Limits around cJSON, and getters that tell absent from wrong.  Any thread. */
#include "base/json.h"

#include <math.h>

/* Depth is checked before cJSON sees the text, because it recurses; brackets inside strings do not
 * count. */
static int check_depth(struct str text, struct err *e)
{
	int depth = 0;
	bool in_string = false;

	for (size_t i = 0; i < text.len; i++) {
		char c = text.ptr[i];

		if (c == 0)
			return err_set(e, ERR_INVALID, "JSON: NUL byte at offset %zu", i);
		if (in_string) {
			if (c == '\\')
				i++;
			else if (c == '"')
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

cJSON *json_parse(struct str text, struct err *e)
{
	const char *end = NULL;
	cJSON *tree;

	if (text.len == 0) {
		err_set(e, ERR_INVALID, "JSON: empty");
		return NULL;
	}
	if (check_depth(text, e) < 0)
		return NULL;
	tree = cJSON_ParseWithLengthOpts(text.ptr, text.len, &end, false);
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

/* The member, or NULL when absent or null. */
static const cJSON *member(const cJSON *obj, const char *key)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(obj, key);

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
