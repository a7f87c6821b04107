/* Requests for Anthropic's Messages.  Pure functions, any thread.
 *
 * A reader may question that thinking is left out while tool results are being answered: the server
 * wants the signed thought that led to the call back, and OpenAI's dialect has no place where a
 * client could have kept it. */
#include "providers/anthropic.h"

#include "providers/openai_parts.h"

/* One request on its way into a tree. */
struct writer {
	const struct remote_ask *ask;
	cJSON *root, *messages, *system;
	cJSON *extra;     /* of the request */
	const char *role; /* of the message that is open, or NULL */
	cJSON *content;   /* its blocks */
	cJSON *into;      /* where parts go: content, or a tool result's own */
	int max_tokens;
	bool thinking;
};

static cJSON *add_object(cJSON *array)
{
	cJSON *o = cJSON_CreateObject();

	cJSON_AddItemToArray(array, o);
	return o;
}

static void add_str(cJSON *obj, const char *key, struct str s)
{
	char *text = str_dup(s);

	cJSON_AddStringToObject(obj, key, text);
	free(text);
}

/* ---- messages ---- */

/* Turns must take turns: neighbours of one role become one message. */
static void open_message(struct writer *w, const char *role)
{
	cJSON *m;

	if (!w->role || strcmp(w->role, role)) {
		m = add_object(w->messages);
		cJSON_AddStringToObject(m, "role", role);
		w->content = cJSON_AddArrayToObject(m, "content");
		w->role = role;
	}
	w->into = w->content;
}

static void copy_cache_control(cJSON *block, const cJSON *element)
{
	const cJSON *c = cJSON_GetObjectItemCaseSensitive(element, "cache_control");

	if (c)
		cJSON_AddItemToObject(block, "cache_control", cJSON_Duplicate(c, true));
}

static int add_part(void *arg, const struct part *p, struct err *e)
{
	struct writer *w = arg;
	cJSON *block, *source;

	if (p->type != PART_TEXT && w->into == w->system)
		return err_set(e, ERR_UNSUPPORTED,
			       "a system message can hold only text for Anthropic");
	block = add_object(w->into);
	if (p->type == PART_TEXT) {
		cJSON_AddStringToObject(block, "type", "text");
		cJSON_AddStringToObject(block, "text", p->text);
	} else {
		cJSON_AddStringToObject(block, "type",
					p->type == PART_IMAGE ? "image" : "document");
		source = cJSON_AddObjectToObject(block, "source");
		cJSON_AddStringToObject(source, "type", p->url ? "url" : "base64");
		if (p->url) {
			cJSON_AddStringToObject(source, "url", p->url);
		} else {
			add_str(source, "media_type", p->media_type);
			add_str(source, "data", p->data);
		}
	}
	copy_cache_control(block, p->element);
	return 0;
}

static void add_tool_use(void *arg, const struct tool_call *c)
{
	struct writer *w = arg;
	cJSON *block = add_object(w->content);

	cJSON_AddStringToObject(block, "type", "tool_use");
	cJSON_AddStringToObject(block, "id", c->id);
	cJSON_AddStringToObject(block, "name", c->name);
	cJSON_AddItemToObject(block, "input", c->arguments);
}

static int add_tool_result(struct writer *w, const struct message *m, const cJSON *tree,
			   struct err *e)
{
	const char *id = NULL;
	cJSON *block;

	if (json_string(tree, "tool_call_id", &id, NULL) <= 0)
		return err_set(e, ERR_INVALID, "a tool message has no tool_call_id");
	open_message(w, "user");
	block = add_object(w->content);
	cJSON_AddStringToObject(block, "type", "tool_result");
	cJSON_AddStringToObject(block, "tool_use_id", id);
	w->into = cJSON_AddArrayToObject(block, "content");
	return parts_each(m, tree, add_part, w, e);
}

static bool has_content(const struct message *m, const cJSON *tree)
{
	const cJSON *list = NULL;

	return m->text[0] ||
	       (json_array(tree, "content", &list, NULL) > 0 && list->child) ||
	       (json_array(tree, "tool_calls", &list, NULL) > 0 && list->child);
}

static int add_message(struct writer *w, const struct message *m, const cJSON *tree,
		       struct err *e)
{
	if (m->role == ROLE_TOOL)
		return add_tool_result(w, m, tree, e);
	if (m->role == ROLE_SYSTEM) {
		w->into = w->system;
		return parts_each(m, tree, add_part, w, e);
	}
	if (!has_content(m, tree))
		return 0;
	open_message(w, role_name(m->role));
	if (parts_each(m, tree, add_part, w, e) < 0)
		return -1;
	return parts_tool_calls(tree, add_tool_use, w, e);
}

static int add_messages(struct writer *w, struct err *e)
{
	const struct request *r = w->ask->request;

	for (int i = 0; i < r->nmessages; i++) {
		cJSON *tree;
		int rc;

		if (parts_tree(&r->messages[i], &tree, e) < 0)
			return -1;
		rc = add_message(w, &r->messages[i], tree, e);
		cJSON_Delete(tree);
		if (rc < 0)
			return err_wrap(e, "messages[%d]", i);
	}
	if (!w->messages->child)
		return err_set(e, ERR_INVALID,
			       "Anthropic needs a message that is not the "
			       "system's");
	return 0;
}

/* ---- tools ---- */

static int add_tool(cJSON *tools, const cJSON *tool, struct err *e)
{
	const cJSON *function = NULL, *schema = NULL;
	const char *type = "", *name = NULL, *text = NULL;
	cJSON *out, *empty;

	json_string(tool, "type", &type, NULL);
	if (strcmp(type, "function"))
		return err_set(e, ERR_UNSUPPORTED,
			       "tools of type '%.40s' cannot be sent to Anthropic", type);
	if (json_object(tool, "function", &function, NULL) <= 0 ||
	    json_string(function, "name", &name, NULL) <= 0)
		return err_set(e, ERR_INVALID, "a tool has no function with a name");
	out = add_object(tools);
	cJSON_AddStringToObject(out, "name", name);
	if (json_string(function, "description", &text, NULL) > 0)
		cJSON_AddStringToObject(out, "description", text);
	if (json_object(function, "parameters", &schema, NULL) > 0) {
		cJSON_AddItemToObject(out, "input_schema", cJSON_Duplicate(schema, true));
	} else {
		empty = cJSON_AddObjectToObject(out, "input_schema");
		cJSON_AddStringToObject(empty, "type", "object");
	}
	copy_cache_control(out, tool);
	return 0;
}

static int choice_named(cJSON *choice, const cJSON *wanted, struct err *e)
{
	const cJSON *function = NULL;
	const char *name = NULL;

	if (json_object(wanted, "function", &function, NULL) <= 0 ||
	    json_string(function, "name", &name, NULL) <= 0)
		return err_set(e, ERR_UNSUPPORTED,
			       "this tool_choice cannot be sent to Anthropic");
	cJSON_AddStringToObject(choice, "type", "tool");
	cJSON_AddStringToObject(choice, "name", name);
	return 0;
}

static int add_choice(struct writer *w, struct err *e)
{
	const cJSON *wanted = cJSON_GetObjectItemCaseSensitive(w->extra, "tool_choice");
	const char *word = cJSON_IsString(wanted) ? wanted->valuestring : "auto";
	bool parallel = true;
	cJSON *choice;

	json_bool(w->extra, "parallel_tool_calls", &parallel, NULL);
	if ((!wanted || cJSON_IsNull(wanted)) && parallel)
		return 0;
	choice = cJSON_AddObjectToObject(w->root, "tool_choice");
	if (cJSON_IsObject(wanted)) {
		if (choice_named(choice, wanted, e) < 0)
			return -1;
	} else if (!strcmp(word, "required")) {
		cJSON_AddStringToObject(choice, "type", "any");
	} else if (!strcmp(word, "auto") || !strcmp(word, "none")) {
		cJSON_AddStringToObject(choice, "type", word);
	} else {
		return err_set(e, ERR_INVALID, "tool_choice '%.40s' is unknown", word);
	}
	if (!parallel && strcmp(word, "none"))
		cJSON_AddBoolToObject(choice, "disable_parallel_tool_use", true);
	return 0;
}

static int add_tools(struct writer *w, struct err *e)
{
	const cJSON *tools = NULL, *tool;
	cJSON *out;

	if (json_array(w->extra, "tools", &tools, NULL) <= 0 || !tools->child)
		return 0;
	out = cJSON_AddArrayToObject(w->root, "tools");
	cJSON_ArrayForEach(tool, tools)
	{
		if (add_tool(out, tool, e) < 0)
			return -1;
	}
	return add_choice(w, e);
}

/* ---- settings ---- */

/* The last user's turn was already answered by calls of tools. */
static bool amid_tools(const struct request *r)
{
	return r->nmessages > 0 && r->messages[r->nmessages - 1].role == ROLE_TOOL;
}

/* Shares of max_tokens, as OpenRouter translates them. */
static int budget_of(enum effort effort, int max_tokens)
{
	static const int percent[] = {
		[EFFORT_MINIMAL] = 10, [EFFORT_LOW] = 20, [EFFORT_MEDIUM] = 50,
		[EFFORT_HIGH] = 80,    [EFFORT_MAX] = 95,
	};
	int budget = (int)((int64_t)max_tokens * percent[effort] / 100);

	return budget < ANTHROPIC_MIN_THINKING ? ANTHROPIC_MIN_THINKING : budget;
}

static int add_thinking(struct writer *w, struct err *e)
{
	const cJSON *own = NULL;
	enum effort effort;
	cJSON *thinking;
	int budget;

	if (json_object(w->extra, "thinking", &own, NULL) > 0) { /* already its dialect */
		cJSON_AddItemToObject(w->root, "thinking", cJSON_Duplicate(own, true));
		w->thinking = true;
		return 0;
	}
	if (parts_effort(w->extra, &effort, &budget, e) < 0)
		return -1;
	if (effort == EFFORT_UNSAID || effort == EFFORT_NONE ||
	    amid_tools(w->ask->request))
		return 0;
	if (!budget)
		budget = budget_of(effort, w->max_tokens);
	if (budget < ANTHROPIC_MIN_THINKING)
		budget = ANTHROPIC_MIN_THINKING;
	if (budget >= w->max_tokens)
		return err_set(e, ERR_UNSUPPORTED,
			       "to think, Anthropic needs max_tokens over %d", budget);
	thinking = cJSON_AddObjectToObject(w->root, "thinking");
	cJSON_AddStringToObject(thinking, "type", "enabled");
	cJSON_AddNumberToObject(thinking, "budget_tokens", budget);
	w->thinking = true;
	return 0;
}

static int add_format(struct writer *w, struct err *e)
{
	const cJSON *schema = NULL, *own = NULL;
	cJSON *config, *format;
	int kind = parts_format(w->extra, &schema, e);

	if (kind < 0)
		return -1;
	if (kind == 1)
		return err_set(e, ERR_UNSUPPORTED,
			       "Anthropic has no response_format json_object: use "
			       "json_schema");
	config = json_object(w->extra, "output_config", &own, NULL) > 0
			 ? cJSON_Duplicate(own, true)
			 : NULL;
	if (kind == 2) {
		if (!config)
			config = cJSON_CreateObject();
		cJSON_DeleteItemFromObjectCaseSensitive(config, "format");
		format = cJSON_AddObjectToObject(config, "format");
		cJSON_AddStringToObject(format, "type", "json_schema");
		cJSON_AddItemToObject(format, "schema", cJSON_Duplicate(schema, true));
	}
	if (config)
		cJSON_AddItemToObject(w->root, "output_config", config);
	return 0;
}

/* A thinking model takes neither temperature nor top_k. */
static void add_sampling(struct writer *w)
{
	const struct sampling *s = &w->ask->request->sampling;
	const char *user = NULL;
	cJSON *list;

	if (s->temperature >= 0 && !w->thinking)
		cJSON_AddNumberToObject(w->root, "temperature",
					s->temperature > 1 ? 1 : s->temperature);
	else if (s->top_p >= 0 && !w->thinking)
		cJSON_AddNumberToObject(w->root, "top_p", s->top_p);
	if (s->top_k > 0 && !w->thinking)
		cJSON_AddNumberToObject(w->root, "top_k", s->top_k);
	if (s->nstops > 0) {
		list = cJSON_AddArrayToObject(w->root, "stop_sequences");
		for (int i = 0; i < s->nstops; i++)
			cJSON_AddItemToArray(list, cJSON_CreateString(s->stops[i]));
	}
	if (json_string(w->extra, "user", &user, NULL) > 0)
		cJSON_AddStringToObject(cJSON_AddObjectToObject(w->root, "metadata"),
					"user_id", user);
}

static int refuse(const struct writer *w, struct err *e)
{
	static const char *const names[] = {"logprobs",          "top_logprobs",
					    "logit_bias",        "presence_penalty",
					    "frequency_penalty", "audio",
					    "functions",         "web_search_options",
					    "grammar",           NULL};

	if (w->ask->request->sampling.ignore_eos)
		return err_set(e, ERR_UNSUPPORTED, "Anthropic has no 'ignore_eos'");
	return parts_refuse(w->extra, names, "Anthropic", e);
}

/* ---- the whole ---- */

static int fill(struct writer *w, struct err *e)
{
	const struct sampling *s = &w->ask->request->sampling;

	w->max_tokens = s->max_tokens > 0        ? s->max_tokens
			: w->ask->max_output > 0 ? w->ask->max_output
						 : ANTHROPIC_MAX_TOKENS;
	cJSON_AddStringToObject(w->root, "model", w->ask->model);
	cJSON_AddNumberToObject(w->root, "max_tokens", w->max_tokens);
	cJSON_AddBoolToObject(w->root, "stream", true);
	w->system = cJSON_AddArrayToObject(w->root, "system");
	w->messages = cJSON_AddArrayToObject(w->root, "messages");
	if (refuse(w, e) < 0 || add_messages(w, e) < 0 || add_tools(w, e) < 0 ||
	    add_thinking(w, e) < 0 || add_format(w, e) < 0)
		return -1;
	if (!w->system->child)
		cJSON_DeleteItemFromObjectCaseSensitive(w->root, "system");
	add_sampling(w);
	return 0;
}

int anthropic_body(struct buf *out, const struct remote_ask *ask, struct err *e)
{
	struct writer w = {.ask = ask};
	int rc;

	if (parts_extra(ask->request, &w.extra, e) < 0)
		return -1;
	w.root = cJSON_CreateObject();
	rc = fill(&w, e);
	if (rc == 0)
		json_print(out, w.root);
	cJSON_Delete(w.root);
	cJSON_Delete(w.extra);
	return rc;
}
