/* Pieces of JSON text.
 *
 * Any thread; no state. */
#include "memory/json_slice.h"

static const char *skip_space(const char *p, const char *end)
{
	while (p < end && (*p == ' ' || *p == '\t' || *p == '\r' || *p == '\n'))
		p++;
	return p;
}

static const char *skip_string(const char *p, const char *end)
{
	for (p++; p < end && *p != '"'; p++)
		p += *p == '\\' && end - p > 1;
	return p < end ? p + 1 : end;
}

/* Behind the value at p: brackets are counted, strings are jumped over. */
static const char *skip_value(const char *p, const char *end)
{
	size_t depth = 0;

	for (; p < end; p++) {
		if (*p == '"')
			p = skip_string(p, end) - 1;
		else if (*p == '{' || *p == '[')
			depth++;
		else if (!depth && (*p == ',' || *p == '}' || *p == ']'))
			return p;
		else if (*p == '}' || *p == ']')
			depth--;
	}
	return end;
}

bool json_slice_cut(struct str object, const char *key, struct str *value,
		    struct buf *rest)
{
	const char *end = object.ptr + object.len, *p = skip_space(object.ptr, end);
	size_t n = strlen(key);

	if (p == end || *p != '{')
		return false;
	for (p++; p < end; p++) {
		const char *name = p = skip_space(p, end);
		bool found;

		if (p == end || *p != '"')
			return false;
		p = skip_string(p, end);
		found = (size_t)(p - name) == n + 2 && !memcmp(name + 1, key, n);
		p = skip_space(p, end);
		if (p == end || *p != ':')
			return false;
		name = p + 1;
		p = skip_value(name, end);
		if (!found)
			continue;
		*value = (struct str){name, (size_t)(p - name)};
		buf_add(rest, object.ptr, (size_t)(name - object.ptr));
		buf_adds(rest, "null");
		buf_add(rest, p, (size_t)(end - p));
		return true;
	}
	return false;
}

bool json_slice_next(struct str *at, struct str *element)
{
	const char *end = at->ptr + at->len, *p = skip_space(at->ptr, end), *from;

	if (p == end || (*p != '[' && *p != ','))
		return false;
	from = skip_space(p + 1, end);
	p = skip_value(from, end);
	*element = (struct str){from, (size_t)(p - from)};
	*at = (struct str){p, (size_t)(end - p)};
	return element->len > 0;
}
