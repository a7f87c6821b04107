/* Answers of Anthropic's Messages.  Pure functions, any thread.
 *
 * A reader may question that a tool's first piece goes out before its arguments are known to be
 * complete: clients of OpenAI's dialect expect them in pieces, too.  A call without any becomes
 * "{}", because an empty text is no JSON. */
#include "providers/anthropic.h"

static const struct {
	const char *name;
	enum finish_reason reason;
} reasons[] = {
	{"end_turn", FINISH_STOP},     {"stop_sequence", FINISH_STOP},
	{"pause_turn", FINISH_STOP}, /* of its own tools only, which we never name */
	{"max_tokens", FINISH_LENGTH}, {"model_context_window_exceeded", FINISH_LENGTH},
	{"tool_use", FINISH_TOOLS},    {"refusal", FINISH_FILTER},
};

static int read_reason(struct answer *a, const char *name, struct err *e)
{
	enum finish_reason reason = FINISH_STOP;

	for (size_t i = 0; i < ARRAY_LEN(reasons); i++)
		if (!strcmp(reasons[i].name, name))
			reason = reasons[i].reason;
	if (reason == FINISH_FILTER && !a->has_text && !a->has_tools)
		return err_set(e, ERR_POLICY,
			       "%s refused the prompt by its content policy", a->of.who);
	answer_reason(a, reason);
	return 0;
}

/* input_tokens leaves out what the cache read or wrote. */
static void read_usage(struct answer *a, const cJSON *usage)
{
	struct usage *u = &a->usage;

	answer_count(usage, "input_tokens", &a->fresh_tokens);
	answer_count(usage, "cache_read_input_tokens", &u->cached_tokens);
	answer_count(usage, "cache_creation_input_tokens", &u->cache_write_tokens);
	answer_count(usage, "output_tokens", &u->completion_tokens);
	if (a->fresh_tokens >= 0)
		u->prompt_tokens =
			a->fresh_tokens + (u->cached_tokens > 0 ? u->cached_tokens : 0) +
			(u->cache_write_tokens > 0 ? u->cache_write_tokens : 0);
}

/* ---- blocks ---- */

static int begin_tool(struct answer *a, const cJSON *block, struct err *e)
{
	const cJSON *input = cJSON_GetObjectItemCaseSensitive(block, "input");
	const char *id = "", *name = "";

	if (a->ntools == ANSWER_MAX_TOOLS)
		return err_set(e, ERR_UPSTREAM, "%s: over %d tool calls in one answer",
			       a->of.who, ANSWER_MAX_TOOLS);
	json_string(block, "id", &id, NULL);
	json_string(block, "name", &name, NULL);
	a->tool_open = true;
	a->tool_has_arguments = false;
	buf_clear(&a->tool_input);
	if (input && input->child) { /* whole at once */
		char *text = cJSON_PrintUnformatted(input);

		buf_adds(&a->tool_input, text ? text : "{}");
		cJSON_free(text);
	}
	answer_tool_part(a, a->ntools++, id, name, "");
	return 0;
}

static void end_tool(struct answer *a)
{
	if (!a->tool_open)
		return;
	a->tool_open = false;
	if (!a->tool_has_arguments)
		answer_tool_part(a, a->ntools - 1, NULL, NULL,
				 a->tool_input.len ? a->tool_input.data : "{}");
}

static int begin_block(struct answer *a, const cJSON *block, struct err *e)
{
	const char *type = "";

	answer_started(a, NULL); /* at the latest now */
	json_string(block, "type", &type, NULL);
	if (!strcmp(type, "text"))
		answer_member(a, block, "text", EVENT_TEXT);
	else if (!strcmp(type, "thinking"))
		answer_member(a, block, "thinking", EVENT_REASONING);
	else if (!strcmp(type, "tool_use"))
		return begin_tool(a, block, e);
	return 0;
}

static void read_delta(struct answer *a, const cJSON *delta)
{
	const char *type = "", *json = NULL;

	json_string(delta, "type", &type, NULL);
	if (!strcmp(type, "text_delta")) {
		answer_member(a, delta, "text", EVENT_TEXT);
	} else if (!strcmp(type, "thinking_delta")) {
		answer_member(a, delta, "thinking", EVENT_REASONING);
	} else if (!strcmp(type, "input_json_delta") && a->tool_open &&
		   json_string(delta, "partial_json", &json, NULL) > 0 && json[0]) {
		a->tool_has_arguments = true;
		answer_tool_part(a, a->ntools - 1, NULL, NULL, json);
	}
}

/* ---- events ---- */

static void begin_message(struct answer *a, const cJSON *message)
{
	const cJSON *usage = NULL;
	const char *model = NULL;

	json_string(message, "model", &model, NULL);
	answer_started(a, model);
	if (json_object(message, "usage", &usage, NULL) > 0)
		read_usage(a, usage);
}

static int end_message(struct answer *a, const cJSON *tree, struct err *e)
{
	const cJSON *delta = NULL, *usage = NULL;
	const char *reason = NULL;

	if (json_object(tree, "usage", &usage, NULL) > 0)
		read_usage(a, usage);
	if (json_object(tree, "delta", &delta, NULL) > 0 &&
	    json_string(delta, "stop_reason", &reason, NULL) > 0)
		return read_reason(a, reason, e);
	return 0;
}

static int anthropic_event(struct answer *a, struct str event, const cJSON *tree,
			   struct err *e)
{
	const cJSON *part = NULL;
	const char *type = NULL;
	struct str name = event;

	if (json_string(tree, "type", &type, NULL) > 0)
		name = str_of(type);
	if (str_eq(name, "error")) {
		part = cJSON_GetObjectItemCaseSensitive(tree, "error");
		return answer_error(a, part ? part : tree, e);
	}
	if (str_eq(name, "message_start")) {
		json_object(tree, "message", &part, NULL);
		begin_message(a, part);
	} else if (str_eq(name, "content_block_start")) {
		json_object(tree, "content_block", &part, NULL);
		return begin_block(a, part, e);
	} else if (str_eq(name, "content_block_delta")) {
		json_object(tree, "delta", &part, NULL);
		read_delta(a, part);
	} else if (str_eq(name, "content_block_stop")) {
		end_tool(a);
	} else if (str_eq(name, "message_delta")) {
		return end_message(a, tree, e);
	} else if (str_eq(name, "message_stop")) {
		return 1;
	}
	return 0; /* ping, and what is new */
}

static int anthropic_whole(struct answer *a, const cJSON *tree, struct err *e)
{
	const cJSON *content = NULL, *block;
	const char *type = NULL, *reason = NULL;

	if (json_string(tree, "type", &type, NULL) <= 0 || strcmp(type, "message") ||
	    json_array(tree, "content", &content, NULL) <= 0)
		return 0;
	begin_message(a, tree);
	cJSON_ArrayForEach(block, content)
	{
		if (begin_block(a, block, e) < 0)
			return -1;
		end_tool(a);
		if (!a->of.out)
			return 1;
	}
	if (json_string(tree, "stop_reason", &reason, NULL) > 0 &&
	    read_reason(a, reason, e) < 0)
		return -1;
	return 1;
}

/* ---- the listing of models ---- */

static int anthropic_read_models(const cJSON *tree, struct remote_model **list, int *n)
{
	const cJSON *data = NULL, *m;

	*list = NULL;
	*n = 0;
	if (json_array(tree, "data", &data, NULL) <= 0)
		return -1;
	*list = xcalloc((size_t)cJSON_GetArraySize(data) + 1, sizeof **list);
	cJSON_ArrayForEach(m, data)
	{
		struct remote_model *out = &(*list)[*n];
		const char *id = NULL;

		if (*n == REMOTE_MODELS_MAX)
			break;
		if (json_string(m, "id", &id, NULL) <= 0 || !id[0])
			continue;
		*out = REMOTE_MODEL_UNKNOWN;
		out->id = xstrdup(id);
		answer_count(m, "max_input_tokens", &out->ctx);
		answer_count(m, "max_tokens", &out->max_output);
		out->images = out->tools = YES; /* all that are still listed */
		(*n)++;
	}
	return 0;
}

/* The version that the reader above was written for; newer ones are asked for by nobody. */
static const char *const headers[] = {"anthropic-version: 2023-06-01", NULL};

const struct remote_protocol anthropic_protocol = {
	.name = "anthropic",
	.reader = {FRAMING_EVENTS, anthropic_event, anthropic_whole},
	.chat_path = "/v1/messages",
	.models_path = "/v1/models?limit=1000",
	.base_without = "/v1",
	.key_header = "x-api-key: ",
	.headers = headers,
	.body = anthropic_body,
	.models = anthropic_read_models,
};
