/* OpenAI's `messages`, as scripts and training data hold them.
 *
 * A command's thread.  A message that is more than role and text keeps its own JSON, by the same rule
 * as a request to the daemon (api/openai_decode.c), so that what was sent once is known again. */
#include "base/json.h"
#include "memory/import_formats.h"
#include "memory/json_slice.h"

static struct str skip_space(struct str s)
{
	while (s.len && strchr(" \t\r\n\xef\xbb\xbf", s.ptr[0]) && s.ptr[0]) {
		s.ptr++;
		s.len--;
	}
	return s;
}

bool import_openai_sniff(struct str text)
{
	struct str s = skip_space(text);
	size_t n = s.len > 4096 ? 4096 : s.len;

	if (!s.len || (s.ptr[0] != '[' && s.ptr[0] != '{'))
		return false;
	return memmem(s.ptr, n, "\"role\"", 6) || memmem(s.ptr, n, "\"messages\"", 10);
}

static const cJSON *member(const cJSON *obj, const char *key)
{
	return cJSON_GetObjectItemCaseSensitive(obj, key);
}

static bool is_empty(const cJSON *v)
{
	return !v || cJSON_IsNull(v) ||
	       ((cJSON_IsArray(v) || cJSON_IsObject(v)) && !v->child);
}

static bool is_special(const cJSON *m)
{
	static const char *const keys[] = {"tool_calls", "tool_call_id", "function_call",
					   "audio", "reasoning_details"};

	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		if (!is_empty(member(m, keys[i])))
			return true;
	return false;
}

/* Text of the parts; *special when there is more. */
static void add_parts(const cJSON *content, struct buf *text, bool *special)
{
	const cJSON *part, *type, *s;

	cJSON_ArrayForEach(part, content)
	{
		type = member(part, "type");
		s = member(part, "text");
		if (cJSON_IsString(type) && !strcmp(type->valuestring, "text") &&
		    cJSON_IsString(s))
			buf_adds(text, s->valuestring);
		else
			*special = true;
	}
}

/* Adds a message behind *at; what is none is counted. */
static void add_message(struct draft *d, int *at, const cJSON *m,
			struct import_counts *counts)
{
	const cJSON *role = member(m, "role"), *content = member(m, "content"),
		    *thought = member(m, "reasoning_content");
	struct draft_message out = {0};
	bool special = is_special(m);
	struct buf text = {0};

	if (!cJSON_IsString(role) || !role_by_name(role->valuestring, &out.role)) {
		draft_skip(counts, "a message",
			   cJSON_IsString(role) ? role->valuestring : "without a role");
		return;
	}
	if (cJSON_IsString(content))
		buf_adds(&text, content->valuestring);
	else if (cJSON_IsArray(content))
		add_parts(content, &text, &special);
	if (!text.len && !special) {
		counts->hidden++;
		return;
	}
	out.text = text.data;
	out.own = special || out.role == ROLE_TOOL ? m : NULL;
	out.reasoning = cJSON_IsString(thought) ? thought->valuestring : NULL;
	*at = draft_add(d, *at, &out);
	buf_free(&text);
}

static const char *text_of(const cJSON *obj, const char *key)
{
	const cJSON *v = cJSON_IsObject(obj) ? member(obj, key) : NULL;

	return cJSON_IsString(v) ? v->valuestring : NULL;
}

/* messages: an array; around: the object that holds it, or NULL. */
static int one_conversation(const struct import_in *in, const cJSON *messages,
			    const cJSON *around, import_sink *sink, void *arg,
			    struct import_counts *counts, struct err *e)
{
	struct draft *d = draft_new(in, "openai", NULL, 0, counts);
	const cJSON *m;
	int at = -1, rc;

	cJSON_ArrayForEach(m, messages) add_message(d, &at, m, counts);
	rc = draft_end(d, at, text_of(around, "title"), text_of(around, "model"), 0, sink,
		       arg, e);
	draft_free(d);
	return rc;
}

/* A value of any of the shapes; *found when it is one. */
static int convert_value(const struct import_in *in, const cJSON *v, bool *found,
			 import_sink *sink, void *arg, struct import_counts *counts,
			 struct err *e)
{
	const cJSON *list = cJSON_IsObject(v) ? member(v, "messages") : v, *item;

	if (!cJSON_IsArray(list))
		return 0;
	if (!list->child || text_of(list->child, "role")) {
		*found = true;
		return one_conversation(in, list, list == v ? NULL : v, sink, arg, counts,
					e);
	}
	cJSON_ArrayForEach(item, list)
	{
		if (!cJSON_IsArray(member(item, "messages")))
			continue;
		*found = true;
		if (one_conversation(in, member(item, "messages"), item, sink, arg,
				     counts, e) < 0)
			return -1;
	}
	return 0;
}

static int convert_text(const struct import_in *in, struct str text, bool *found,
			import_sink *sink, void *arg, struct import_counts *counts,
			struct err *e)
{
	cJSON *tree = json_read(text, JSON_UTF8, e);
	int rc = tree ? convert_value(in, tree, found, sink, arg, counts, e) : -1;

	cJSON_Delete(tree);
	return rc;
}

/* One value a line: true when the first line is one by itself and something follows. */
static bool is_lines(struct str text)
{
	const char *end = memchr(text.ptr, '\n', text.len);
	struct err ignored = {0};
	cJSON *tree;

	if (!end ||
	    !skip_space((struct str){end, text.len - (size_t)(end - text.ptr)}).len)
		return false;
	tree = json_read((struct str){text.ptr, (size_t)(end - text.ptr)}, 0, &ignored);
	cJSON_Delete(tree);
	return tree != NULL;
}

int import_openai(const struct import_in *in, import_sink *sink, void *arg,
		  struct import_counts *counts, struct err *e)
{
	struct str rest = skip_space(in->text), line;
	bool found = false;
	int rc = 0, at = 0;

	if (!is_lines(rest)) {
		rc = convert_text(in, rest, &found, sink, arg, counts, e);
		return rc < 0 || found
			       ? rc
			       : err_set(e, ERR_INVALID, "no array of messages in it");
	}
	while (rc == 0 && rest.len) {
		const char *end = memchr(rest.ptr, '\n', rest.len);
		struct err why = {0};
		bool one = false;

		line = (struct str){rest.ptr, end ? (size_t)(end - rest.ptr) : rest.len};
		rest.ptr += line.len + (end != NULL);
		rest.len -= line.len + (end != NULL);
		at++;
		if (!skip_space(line).len)
			continue;
		rc = convert_text(in, line, &one, sink, arg, counts, &why);
		found |= one;
		if (rc < 0 && one) { /* the sink's */
			*e = why;
			break;
		}
		if (!one) {
			char name[32];

			snprintf(name, sizeof(name), "line %d", at);
			draft_skip(counts, name, rc < 0 ? why.text : "no messages");
		}
		rc = 0;
	}
	return rc < 0 || found ? rc
			       : err_set(e, ERR_INVALID, "no array of messages in it");
}
