/* Tools and their choice, from the Responses API's words to the chat dialect's.  Pure; any thread.
 *
 * Functions are all there is: the tools that OpenAI runs itself are refused by name, since an answer
 * without them would be another one than was asked for. */
#include "api/responses_fields.h"

#include "base/json.h"

enum { NAME_BYTES = 256 };

static int check_tool(const cJSON *t, int at, struct err *e)
{
	const char *type = NULL, *name = NULL, *text = NULL;
	const cJSON *o = NULL;
	bool strict = false;

	if (!cJSON_IsObject(t) || json_string(t, "type", &type, e) <= 0)
		return err_set(e, ERR_INVALID,
			       "tools[%d] must be an object with a 'type'", at);
	if (strcmp(type, "function"))
		return err_set(e, ERR_UNSUPPORTED,
			       "tools[%d]: '%.60s' is not available here; only tools of "
			       "type 'function' are",
			       at, type);
	if (json_string(t, "name", &name, e) < 0 ||
	    json_string(t, "description", &text, e) < 0 ||
	    json_object(t, "parameters", &o, e) < 0 ||
	    json_bool(t, "strict", &strict, e) < 0)
		return err_wrap(e, "tools[%d]", at);
	if (!name || !*name || strlen(name) > NAME_BYTES)
		return err_set(e, ERR_INVALID,
			       "tools[%d].name must be a text of 1 to %d bytes", at,
			       NAME_BYTES);
	return 0;
}

/* allowed: the list of tool_choice, or NULL. */
static bool is_allowed(const cJSON *allowed, const cJSON *tool)
{
	const cJSON *a, *name;

	if (!allowed)
		return true;
	cJSON_ArrayForEach(a, allowed)
	{
		name = responses_member(a, "name");
		if (cJSON_IsString(name) &&
		    !strcmp(name->valuestring,
			    responses_member(tool, "name")->valuestring))
			return true;
	}
	return false;
}

static void add_tool(struct buf *out, const cJSON *t)
{
	static const char *const members[] = {"name", "description", "parameters",
					      "strict"};
	bool any = false;

	buf_adds(out, "{\"type\":\"function\",\"function\":{");
	for (size_t i = 0; i < ARRAY_LEN(members); i++) {
		const cJSON *v = responses_member(t, members[i]);

		if (!v || cJSON_IsNull(v))
			continue;
		buf_addf(out, "%s\"%s\":", any ? "," : "", members[i]);
		json_print(out, v);
		any = true;
	}
	buf_adds(out, "}}");
}

static int decode_tools(const cJSON *root, const cJSON *allowed, struct buf *extra,
			bool *any, struct responses_params *p, struct err *e)
{
	const cJSON *list = NULL, *t;
	int at = 0;

	p->param = "tools";
	if (json_array(root, "tools", &list, e) < 0)
		return -1;
	cJSON_ArrayForEach(t, list)
	{
		if (at == RESPONSES_MAX_TOOLS)
			return err_set(e, ERR_INVALID, "more than %d tools",
				       RESPONSES_MAX_TOOLS);
		if (check_tool(t, at++, e) < 0)
			return -1;
		if (!is_allowed(allowed, t))
			continue;
		if (*any)
			buf_addc(extra, ',');
		else
			responses_extra_key(extra, "tools"), buf_addc(extra, '[');
		add_tool(extra, t);
		*any = true;
	}
	if (*any)
		buf_addc(extra, ']');
	p->param = NULL;
	return 0;
}

/* A word, or an object: one function, or a list that narrows the tools.  *mode is the word that is
 * left of it, *function the one function's name. */
static int read_choice(const cJSON *root, const char **mode, const char **function,
		       const cJSON **allowed, struct responses_params *p, struct err *e)
{
	const cJSON *choice = responses_member(root, "tool_choice");
	const char *type = NULL;

	p->param = "tool_choice";
	*mode = "auto";
	if (!cJSON_IsObject(choice)) {
		if (RESPONSES_WORD(root, "tool_choice", mode, e, "none", "auto",
				   "required") < 0)
			return -1;
	} else if (json_string(choice, "type", &type, e) <= 0) {
		return err_set(e, ERR_INVALID, "'tool_choice' must have a 'type'");
	} else if (!strcmp(type, "function")) {
		if (json_string(choice, "name", function, e) <= 0)
			return err_set(e, ERR_INVALID, "'tool_choice' lacks a 'name'");
	} else if (!strcmp(type, "allowed_tools")) {
		if (RESPONSES_WORD(choice, "mode", mode, e, "auto", "required") < 0 ||
		    json_array(choice, "tools", allowed, e) < 0)
			return err_wrap(e, "tool_choice");
		if (!*allowed)
			return err_set(e, ERR_INVALID, "'tool_choice' lacks 'tools'");
	} else {
		return err_set(
			e, ERR_UNSUPPORTED,
			"tool_choice '%.60s' is not available here; only functions "
			"are",
			type);
	}
	p->param = NULL;
	return 0;
}

int responses_decode_calls(const cJSON *root, struct buf *extra,
			   struct responses_params *p, struct err *e)
{
	const char *mode = NULL, *function = NULL;
	const cJSON *allowed = NULL;
	bool parallel = true, any = false;
	int64_t most = 0;

	if (read_choice(root, &mode, &function, &allowed, p, e) < 0 ||
	    decode_tools(root, allowed, extra, &any, p, e) < 0 ||
	    json_bool(root, "parallel_tool_calls", &parallel, e) < 0 ||
	    json_int(root, "max_tool_calls", 1, INT32_MAX, &most, e) < 0)
		return -1;
	buf_addf(&p->echo, ",\"parallel_tool_calls\":%s", parallel ? "true" : "false");
	responses_echo(p, "max_tool_calls", responses_member(root, "max_tool_calls"));
	if (cJSON_IsObject(responses_member(root, "tool_choice")))
		responses_echo(p, "tool_choice", responses_member(root, "tool_choice"));
	else
		responses_echo_text(p, "tool_choice", mode);
	if (!any && (function || !strcmp(mode, "required"))) {
		p->param = "tool_choice";
		return err_set(e, ERR_INVALID,
			       "'tool_choice' asks for a tool, but "
			       "there are no 'tools'");
	}
	if (!any)
		return 0;
	if (function) {
		responses_extra_key(extra, "tool_choice");
		buf_adds(extra, "{\"type\":\"function\",\"function\":{\"name\":");
		buf_add_json(extra, function, strlen(function));
		buf_adds(extra, "}}");
	} else if (strcmp(mode, "auto")) {
		responses_extra_key(extra, "tool_choice");
		buf_add_json(extra, mode, strlen(mode));
	}
	if (!parallel) {
		responses_extra_key(extra, "parallel_tool_calls");
		buf_adds(extra, "false");
	}
	return 0;
}
