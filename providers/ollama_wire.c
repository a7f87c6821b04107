/* Requests for Ollama.  Pure functions, any thread.
 *
 * A reader may question that the results of tools are named and not numbered: Ollama knows no ids of
 * calls, so the name is looked up in the call that the result answers. */
#include "providers/ollama.h"

#include "base/duration.h"
#include "providers/openai_parts.h"

struct writer {
	const struct remote_ask *ask;
	cJSON *root, *messages, *extra;
	cJSON *message; /* the open one */
	cJSON *images;  /* of it, or NULL */
	struct buf text;
	cJSON *names; /* of tools, by the id of their call */
};

/* ---- messages ---- */

static int add_part(void *arg, const struct part *p, struct err *e)
{
	struct writer *w = arg;
	char *data;

	if (p->type == PART_TEXT) {
		buf_adds(&w->text, p->text);
		return 0;
	}
	if (p->type == PART_FILE)
		return err_set(e, ERR_UNSUPPORTED, "Ollama takes no files");
	if (p->url)
		return err_set(e, ERR_UNSUPPORTED,
			       "Ollama takes images as data: URLs only");
	if (!w->images)
		w->images = cJSON_AddArrayToObject(w->message, "images");
	data = str_dup(p->data);
	cJSON_AddItemToArray(w->images, cJSON_CreateString(data));
	free(data);
	return 0;
}

static void add_call(void *arg, const struct tool_call *c)
{
	struct writer *w = arg;
	cJSON *calls = cJSON_GetObjectItemCaseSensitive(w->message, "tool_calls");
	cJSON *call = cJSON_CreateObject(), *function;

	if (!calls)
		calls = cJSON_AddArrayToObject(w->message, "tool_calls");
	cJSON_AddItemToArray(calls, call);
	function = cJSON_AddObjectToObject(call, "function");
	cJSON_AddStringToObject(function, "name", c->name);
	cJSON_AddItemToObject(function, "arguments", c->arguments);
	if (c->id[0]) {
		cJSON_DeleteItemFromObjectCaseSensitive(w->names, c->id);
		cJSON_AddStringToObject(w->names, c->id, c->name);
	}
}

static void name_result(struct writer *w, const cJSON *tree)
{
	const char *id = NULL, *name = NULL;

	json_string(tree, "name", &name, NULL);
	if (json_string(tree, "tool_call_id", &id, NULL) > 0)
		json_string(w->names, id, &name, NULL);
	if (name)
		cJSON_AddStringToObject(w->message, "tool_name", name);
}

static int add_message(struct writer *w, const struct message *m, const cJSON *tree,
		       struct err *e)
{
	const char *thought = NULL;

	w->message = cJSON_CreateObject();
	w->images = NULL;
	buf_clear(&w->text);
	cJSON_AddItemToArray(w->messages, w->message);
	cJSON_AddStringToObject(w->message, "role", role_name(m->role));
	if (parts_each(m, tree, add_part, w, e) < 0)
		return -1;
	cJSON_AddStringToObject(w->message, "content", w->text.len ? w->text.data : "");
	if (json_string(tree, "reasoning_content", &thought, NULL) > 0 ||
	    json_string(tree, "reasoning", &thought, NULL) > 0)
		cJSON_AddStringToObject(w->message, "thinking", thought);
	if (m->role == ROLE_TOOL)
		name_result(w, tree);
	return parts_tool_calls(tree, add_call, w, e);
}

static int add_messages(struct writer *w, struct err *e)
{
	const struct request *r = w->ask->request;

	w->messages = cJSON_AddArrayToObject(w->root, "messages");
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
	return 0;
}

/* ---- settings ---- */

static void add_options(struct writer *w)
{
	static const char *const same[] = {"presence_penalty", "frequency_penalty",
					   "repeat_penalty"};
	const struct sampling *s = &w->ask->request->sampling;
	cJSON *o = cJSON_CreateObject(), *list;
	double v;

	if (s->max_tokens > 0)
		cJSON_AddNumberToObject(o, "num_predict", s->max_tokens);
	if (s->temperature >= 0)
		cJSON_AddNumberToObject(o, "temperature", s->temperature);
	if (s->top_p >= 0)
		cJSON_AddNumberToObject(o, "top_p", s->top_p);
	if (s->min_p >= 0)
		cJSON_AddNumberToObject(o, "min_p", s->min_p);
	if (s->top_k >= 0)
		cJSON_AddNumberToObject(o, "top_k", s->top_k);
	if (s->seed >= 0)
		cJSON_AddNumberToObject(o, "seed", (double)s->seed);
	for (size_t i = 0; i < ARRAY_LEN(same); i++)
		if (json_double(w->extra, same[i], -10, 10, &v, NULL) > 0)
			cJSON_AddNumberToObject(o, same[i], v);
	if (s->nstops > 0) {
		list = cJSON_AddArrayToObject(o, "stop");
		for (int i = 0; i < s->nstops; i++)
			cJSON_AddItemToArray(list, cJSON_CreateString(s->stops[i]));
	}
	if (o->child)
		cJSON_AddItemToObject(w->root, "options", o);
	else
		cJSON_Delete(o);
}

static void add_keep_alive(struct writer *w)
{
	int64_t ms = w->ask->request->keep_alive_ms;
	char text[32];

	if (ms == KEEP_ALIVE_DEFAULT)
		return;
	if (ms == DURATION_FOREVER) {
		cJSON_AddNumberToObject(w->root, "keep_alive", -1);
		return;
	}
	snprintf(text, sizeof text, "%lldms", (long long)ms);
	cJSON_AddStringToObject(w->root, "keep_alive", text);
}

static int add_thinking(struct writer *w, struct err *e)
{
	static const char *const levels[] = {
		[EFFORT_MINIMAL] = "low",   [EFFORT_LOW] = "low",
		[EFFORT_MEDIUM] = "medium", [EFFORT_HIGH] = "high",
		[EFFORT_MAX] = "high",
	};
	enum effort effort;
	int tokens;

	if (parts_effort(w->extra, &effort, &tokens, e) < 0)
		return -1;
	if (effort == EFFORT_NONE)
		cJSON_AddBoolToObject(w->root, "think", false);
	else if (effort != EFFORT_UNSAID)
		cJSON_AddStringToObject(w->root, "think", levels[effort]);
	return 0;
}

static int add_format(struct writer *w, struct err *e)
{
	const cJSON *schema = NULL;
	int kind = parts_format(w->extra, &schema, e);

	if (kind == 1)
		cJSON_AddStringToObject(w->root, "format", "json");
	else if (kind == 2)
		cJSON_AddItemToObject(w->root, "format", cJSON_Duplicate(schema, true));
	return kind < 0 ? -1 : 0;
}

/* Their form is the same in both dialects. */
static int add_tools(struct writer *w, struct err *e)
{
	const cJSON *tools = NULL;
	const cJSON *choice = cJSON_GetObjectItemCaseSensitive(w->extra, "tool_choice");
	const char *word = cJSON_IsString(choice) ? choice->valuestring : "";

	if (json_array(w->extra, "tools", &tools, NULL) <= 0 || !tools->child ||
	    !strcmp(word, "none"))
		return 0;
	if (choice && !cJSON_IsNull(choice) && strcmp(word, "auto"))
		return err_set(e, ERR_UNSUPPORTED,
			       "Ollama has no tool_choice but auto and none");
	cJSON_AddItemToObject(w->root, "tools", cJSON_Duplicate(tools, true));
	return 0;
}

static int refuse(const struct writer *w, struct err *e)
{
	static const char *const names[] = {
		"logprobs",           "top_logprobs", "logit_bias", "audio",
		"web_search_options", "functions",    "grammar",    NULL};

	if (w->ask->request->sampling.ignore_eos)
		return err_set(e, ERR_UNSUPPORTED, "Ollama has no 'ignore_eos'");
	return parts_refuse(w->extra, names, "Ollama", e);
}

/* ---- the whole ---- */

static int add_prompt(struct writer *w)
{
	const struct request *r = w->ask->request;
	const char *suffix = NULL;

	cJSON_AddStringToObject(w->root, "prompt", r->prompt ? r->prompt : "");
	if (json_string(w->extra, "suffix", &suffix, NULL) > 0 && suffix[0])
		cJSON_AddStringToObject(w->root, "suffix", suffix); /* its template */
	else
		cJSON_AddBoolToObject(w->root, "raw", true);
	return 0;
}

static int fill(struct writer *w, struct err *e)
{
	cJSON_AddStringToObject(w->root, "model", w->ask->model);
	cJSON_AddBoolToObject(w->root, "stream", true);
	if (refuse(w, e) < 0 || add_thinking(w, e) < 0 || add_format(w, e) < 0)
		return -1;
	add_options(w);
	add_keep_alive(w);
	if (!w->ask->request->is_chat)
		return add_prompt(w);
	return add_tools(w, e) < 0 ? -1 : add_messages(w, e);
}

int ollama_body(struct buf *out, const struct remote_ask *ask, struct err *e)
{
	struct writer w = {.ask = ask};
	int rc;

	if (parts_extra(ask->request, &w.extra, e) < 0)
		return -1;
	w.root = cJSON_CreateObject();
	w.names = cJSON_CreateObject();
	rc = fill(&w, e);
	if (rc == 0)
		json_print(out, w.root);
	cJSON_Delete(w.root);
	cJSON_Delete(w.names);
	cJSON_Delete(w.extra);
	buf_free(&w.text);
	return rc;
}
