/* Answers of Ollama.  Pure functions, any thread.
 *
 * A reader may question the ids of tool calls: Ollama gives none (or did not, depending on its age),
 * and OpenAI's clients need them to send results back.  They are made of the request's id, so that
 * they differ between the turns of a conversation. */
#include "providers/ollama.h"

static void read_calls(struct answer *a, const cJSON *calls)
{
	const cJSON *c;

	cJSON_ArrayForEach(c, calls)
	{
		const cJSON *function = NULL, *arguments;
		const char *name = NULL, *id = NULL, *request = a->of.request_id;
		char *text, *made;

		if (!a->of.out || a->ntools == ANSWER_MAX_TOOLS)
			return;
		if (json_object(c, "function", &function, NULL) <= 0 ||
		    json_string(function, "name", &name, NULL) <= 0)
			continue;
		arguments = cJSON_GetObjectItemCaseSensitive(function, "arguments");
		text = cJSON_IsObject(arguments) ? cJSON_PrintUnformatted(arguments)
						 : NULL;
		json_string(c, "id", &id, NULL);
		made = xasprintf("call_%s_%d", request ? request : "", a->ntools);
		answer_tool_part(a, a->ntools++, id && id[0] ? id : made, name,
				 text ? text : "{}");
		cJSON_free(text);
		free(made);
	}
}

/* Durations are in ns. */
static void read_usage(struct answer *a, const cJSON *tree)
{
	struct usage *u = &a->usage;
	double ns;

	answer_count(tree, "prompt_eval_count", &u->prompt_tokens);
	answer_count(tree, "eval_count", &u->completion_tokens);
	if (json_double(tree, "prompt_eval_duration", 0, 1e18, &ns, NULL) > 0)
		u->prefill_ms = ns / 1e6;
	if (json_double(tree, "eval_duration", 0, 1e18, &ns, NULL) > 0)
		u->decode_ms = ns / 1e6;
}

static int read_end(struct answer *a, const cJSON *tree)
{
	const char *reason = "stop";

	json_string(tree, "done_reason", &reason, NULL);
	read_usage(a, tree);
	answer_reason(a, !strcmp(reason, "length") ? FINISH_LENGTH
			 : a->has_tools            ? FINISH_TOOLS
						   : FINISH_STOP);
	return 1;
}

static int ollama_event(struct answer *a, struct str type, const cJSON *tree,
			struct err *e)
{
	const cJSON *error = cJSON_GetObjectItemCaseSensitive(tree, "error");
	const cJSON *message = NULL, *calls = NULL;
	const char *model = NULL;
	bool done = false;

	UNUSED(type);
	if (error && !cJSON_IsNull(error))
		return answer_error(a, error, e);
	json_string(tree, "model", &model, NULL);
	answer_started(a, model);
	if (json_object(tree, "message", &message, NULL) <= 0) { /* /api/generate */
		answer_member(a, tree, "thinking", EVENT_REASONING);
		answer_member(a, tree, "response", EVENT_TEXT);
	} else {
		answer_member(a, message, "thinking", EVENT_REASONING);
		answer_member(a, message, "content", EVENT_TEXT);
		if (json_array(message, "tool_calls", &calls, NULL) > 0)
			read_calls(a, calls);
	}
	json_bool(tree, "done", &done, NULL);
	return done ? read_end(a, tree) : 0;
}

/* Never of use: one JSON text is a stream of one line. */
static int ollama_whole(struct answer *a, const cJSON *tree, struct err *e)
{
	UNUSED(a);
	UNUSED(tree);
	UNUSED(e);
	return 0;
}

/* ---- the listing of models ---- */

static void read_capabilities(const cJSON *tree, struct remote_model *m)
{
	const cJSON *list = NULL, *word;

	if (json_array(tree, "capabilities", &list, NULL) <= 0)
		return;
	m->images = m->tools = m->reasoning = NO;
	cJSON_ArrayForEach(word, list)
	{
		const char *name = cJSON_IsString(word) ? word->valuestring : "";

		if (!strcmp(name, "vision"))
			m->images = YES;
		else if (!strcmp(name, "tools"))
			m->tools = YES;
		else if (!strcmp(name, "thinking"))
			m->reasoning = YES;
	}
}

int ollama_read_show(const cJSON *tree, struct remote_model *m)
{
	const cJSON *info = NULL, *v;

	if (json_object(tree, "model_info", &info, NULL) <= 0)
		return -1;
	read_capabilities(tree, m);
	cJSON_ArrayForEach(v, info)
	{
		const char *dot = strrchr(v->string, '.'); /* "qwen3.context_length" */

		if (dot && !strcmp(dot, ".context_length"))
			answer_count(info, v->string, &m->ctx);
	}
	return 0;
}

static int ollama_read_models(const cJSON *tree, struct remote_model **list, int *n)
{
	const cJSON *models = NULL, *m;

	*list = NULL;
	*n = 0;
	if (json_array(tree, "models", &models, NULL) <= 0)
		return -1;
	*list = xcalloc((size_t)cJSON_GetArraySize(models) + 1, sizeof **list);
	cJSON_ArrayForEach(m, models)
	{
		struct remote_model *out = &(*list)[*n];
		const char *id = NULL;

		if (*n == REMOTE_MODELS_MAX)
			break;
		json_string(m, "name", &id, NULL);
		json_string(m, "model", &id, NULL);
		if (!id || !id[0])
			continue;
		*out = REMOTE_MODEL_UNKNOWN;
		out->id = xstrdup(id);
		out->structured = YES; /* by grammar, whatever the model */
		read_capabilities(m, out);
		(*n)++;
	}
	return 0;
}

const struct remote_protocol ollama_protocol = {
	.name = "ollama",
	.reader = {FRAMING_LINES, ollama_event, ollama_whole},
	.chat_path = "/api/chat",
	.raw_path = "/api/generate",
	.models_path = "/api/tags",
	.base_without = "/v1",
	.key_header = "Authorization: Bearer ",
	.body = ollama_body,
	.models = ollama_read_models,
	.show_path = "/api/show",
	.show = ollama_read_show,
};
