/* Takes requests apart.  Pure functions, any thread.
 *
 * A reader may question that an unknown kind of part is an error and an unknown field of the request
 * is not: the part is what the prompt is about, while most fields are hints that other servers
 * ignore, too.  Fields that must not be ignored are refused by name (parts_refuse). */
#include "providers/openai_parts.h"

int parts_tree(const struct message *m, cJSON **tree, struct err *e)
{
	*tree = NULL;
	if (!m->raw_json)
		return 0;
	*tree = json_parse(str_of(m->raw_json), e);
	return *tree ? 0 : err_wrap(e, "a message");
}

int parts_extra(const struct request *r, cJSON **tree, struct err *e)
{
	*tree = r->extra_json ? json_parse(str_of(r->extra_json), e)
			      : cJSON_CreateObject();
	return *tree ? 0 : err_wrap(e, "extra fields of the request");
}

/* ---- parts ---- */

/* "data:image/png;base64,AAAA" */
static bool split_data_url(const char *url, struct str *type, struct str *data)
{
	const char *comma = strchr(url, ','), *end;

	if (strncmp(url, "data:", 5) || !comma)
		return false;
	end = memmem(url, (size_t)(comma - url), ";base64", 7);
	if (!end)
		return false;
	*type = (struct str){url + 5, strcspn(url + 5, ";,")};
	*data = str_of(comma + 1);
	return type->len > 0 && data->len > 0;
}

static int take_source(struct part *p, const char *url, struct err *e)
{
	if (split_data_url(url, &p->media_type, &p->data))
		return 0;
	if (strncmp(url, "https://", 8) && strncmp(url, "http://", 7))
		return err_set(e, ERR_INVALID,
			       "an image or file must be a data: URL in base64, or an "
			       "http or https URL");
	p->url = url;
	return 0;
}

static int read_part(const cJSON *element, struct part *p, struct err *e)
{
	const char *type = NULL, *url = NULL;
	const cJSON *inner = NULL;

	*p = (struct part){.element = element};
	json_string(element, "type", &type, NULL);
	if (type && !strcmp(type, "text")) {
		p->type = PART_TEXT;
		return json_string(element, "text", &p->text, e) < 0 ? -1 : 0;
	}
	if (type && !strcmp(type, "image_url")) {
		p->type = PART_IMAGE;
		if (json_string(element, "image_url", &url, NULL) > 0)
			return take_source(p, url, e);
		if (json_object(element, "image_url", &inner, NULL) > 0 &&
		    json_string(inner, "url", &url, NULL) > 0)
			return take_source(p, url, e);
		return err_set(e, ERR_INVALID, "a part 'image_url' has no url");
	}
	if (type && !strcmp(type, "file") &&
	    json_object(element, "file", &inner, NULL) > 0 &&
	    json_string(inner, "file_data", &url, NULL) > 0) {
		p->type = PART_FILE;
		return take_source(p, url, e);
	}
	return err_set(e, ERR_UNSUPPORTED,
		       "a part of type '%.40s' cannot be sent to this provider",
		       type ? type : "");
}

int parts_each(const struct message *m, const cJSON *tree, part_fn *fn, void *arg,
	       struct err *e)
{
	const cJSON *parts = NULL, *element;
	struct part p = {.type = PART_TEXT, .text = m->text};

	if (json_array(tree, "content", &parts, NULL) <= 0)
		return m->text[0] ? fn(arg, &p, e) : 0;
	cJSON_ArrayForEach(element, parts)
	{
		if (read_part(element, &p, e) < 0)
			return -1;
		if (p.type == PART_TEXT && (!p.text || !p.text[0]))
			continue;
		if (fn(arg, &p, e) < 0)
			return -1;
	}
	return 0;
}

/* ---- tool calls ---- */

static int read_call(const cJSON *element, struct tool_call *c, struct err *e)
{
	const cJSON *function = NULL;
	const char *text = "";

	*c = (struct tool_call){.id = ""};
	json_string(element, "id", &c->id, NULL);
	if (json_object(element, "function", &function, NULL) <= 0 ||
	    json_string(function, "name", &c->name, NULL) <= 0)
		return err_set(e, ERR_INVALID, "a tool call has no function with a name");
	json_string(function, "arguments", &text, NULL);
	while (*text == ' ' || *text == '\n')
		text++;
	c->arguments = *text ? json_parse(str_of(text), NULL) : cJSON_CreateObject();
	if (cJSON_IsObject(c->arguments))
		return 0;
	cJSON_Delete(c->arguments);
	return err_set(e, ERR_INVALID,
		       "the arguments of the tool call '%.60s' are no JSON object",
		       c->name);
}

int parts_tool_calls(const cJSON *message, tool_call_fn *fn, void *arg, struct err *e)
{
	const cJSON *calls = NULL, *element;
	struct tool_call c;

	if (json_array(message, "tool_calls", &calls, NULL) <= 0)
		return 0;
	cJSON_ArrayForEach(element, calls)
	{
		if (read_call(element, &c, e) < 0)
			return -1;
		fn(arg, &c);
	}
	return 0;
}

/* ---- fields ---- */

int parts_effort(const cJSON *extra, enum effort *out, int *max_tokens, struct err *e)
{
	static const struct {
		const char *name;
		enum effort effort;
	} efforts[] = {
		{"none", EFFORT_NONE}, {"minimal", EFFORT_MINIMAL},
		{"low", EFFORT_LOW},   {"medium", EFFORT_MEDIUM},
		{"high", EFFORT_HIGH}, {"xhigh", EFFORT_MAX},
		{"max", EFFORT_MAX},
	};
	const cJSON *object = NULL;
	const char *name = NULL;
	bool enabled = true;
	int64_t tokens = 0;

	*out = EFFORT_UNSAID;
	*max_tokens = 0;
	json_string(extra, "reasoning_effort", &name, NULL);
	if (json_object(extra, "reasoning", &object, NULL) > 0) {
		json_string(object, "effort", &name, NULL);
		json_int(object, "max_tokens", 1, INT32_MAX, &tokens, NULL);
		if (json_bool(object, "enabled", &enabled, NULL) > 0)
			*out = enabled ? EFFORT_MEDIUM : EFFORT_NONE;
		*max_tokens = (int)tokens;
		if (tokens)
			*out = EFFORT_MEDIUM;
	}
	if (!name)
		return 0;
	for (size_t i = 0; i < ARRAY_LEN(efforts); i++)
		if (!strcmp(efforts[i].name, name)) {
			*out = efforts[i].effort;
			return 0;
		}
	return err_set(e, ERR_INVALID, "reasoning_effort '%.40s' is unknown", name);
}

int parts_format(const cJSON *extra, const cJSON **schema, struct err *e)
{
	const cJSON *format = NULL, *named = NULL;
	const char *type = NULL;

	if (json_object(extra, "response_format", &format, NULL) <= 0 ||
	    json_string(format, "type", &type, NULL) <= 0 || !strcmp(type, "text"))
		return 0;
	if (!strcmp(type, "json_object"))
		return 1;
	if (strcmp(type, "json_schema"))
		return err_set(e, ERR_UNSUPPORTED,
			       "response_format '%.40s' is not known to this provider",
			       type);
	if (json_object(format, "json_schema", &named, NULL) <= 0 ||
	    json_object(named, "schema", schema, NULL) <= 0)
		return err_set(e, ERR_INVALID,
			       "response_format: json_schema has no schema");
	return 2;
}

/* False: null, false, 0, "" and what is empty ask for nothing. */
static bool asks(const cJSON *v)
{
	if (!v || cJSON_IsNull(v) || cJSON_IsFalse(v))
		return false;
	if (cJSON_IsNumber(v))
		return v->valuedouble != 0;
	if (cJSON_IsString(v))
		return v->valuestring[0] != 0;
	return cJSON_IsTrue(v) || v->child;
}

int parts_refuse(const cJSON *extra, const char *const *names, const char *protocol,
		 struct err *e)
{
	for (; *names; names++)
		if (asks(cJSON_GetObjectItemCaseSensitive(extra, *names)))
			return err_set(e, ERR_UNSUPPORTED, "%s has no '%s'", protocol,
				       *names);
	return 0;
}
