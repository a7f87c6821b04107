/* Answers in OpenAI's dialect.  Pure functions, any thread.
 *
 * A reader may question that an error is looked for before the choices of each chunk: OpenRouter
 * sends both in one, and the choice then only says that there is no more text. */
#include "providers/openai.h"

/* ---- words ---- */

static const struct {
	const char *name;
	enum finish_reason reason;
} finishes[] = {
	{"stop", FINISH_STOP},
	{"length", FINISH_LENGTH},
	{"tool_calls", FINISH_TOOLS},
	{"function_call", FINISH_TOOLS},
	{"tool_use", FINISH_TOOLS},
	{"content_filter", FINISH_FILTER},
	{"refusal", FINISH_FILTER},
	{"end_turn", FINISH_STOP},
	{"stop_sequence", FINISH_STOP},
	{"max_tokens", FINISH_LENGTH},
	{"model_context_window_exceeded", FINISH_LENGTH},
	{"limit", FINISH_LENGTH},
	{"eos", FINISH_STOP},
	{"word", FINISH_STOP},
};

bool openai_finish(const char *name, enum finish_reason *out)
{
	for (size_t i = 0; i < ARRAY_LEN(finishes); i++)
		if (!strcmp(finishes[i].name, name)) {
			*out = finishes[i].reason;
			return true;
		}
	return false;
}

void openai_usage(const cJSON *usage, struct usage *u)
{
	const cJSON *details = NULL;

	answer_count(usage, "prompt_tokens", &u->prompt_tokens);
	answer_count(usage, "completion_tokens", &u->completion_tokens);
	answer_count(usage, "prompt_cache_hit_tokens", &u->cached_tokens); /* DeepSeek */
	if (json_object(usage, "prompt_tokens_details", &details, NULL) > 0) {
		answer_count(details, "cached_tokens", &u->cached_tokens);
		answer_count(details, "cache_write_tokens", &u->cache_write_tokens);
	}
	if (json_object(usage, "completion_tokens_details", &details, NULL) > 0)
		answer_count(details, "reasoning_tokens", &u->reasoning_tokens);
	json_double(usage, "cost", 0, 1e9, &u->cost_usd, NULL);
}

/* llama-server's. */
static void read_timings(const cJSON *timings, struct usage *u)
{
	json_double(timings, "prompt_ms", 0, 1e12, &u->prefill_ms, NULL);
	json_double(timings, "predicted_ms", 0, 1e12, &u->decode_ms, NULL);
}

/* The prompt is being read: nothing to show, but it is alive. */
static void tell_progress(struct answer *a, const cJSON *progress)
{
	struct event ev = {.type = EVENT_PROGRESS};

	ev.progress.stage = PROGRESS_PREFILL;
	json_int(progress, "processed", 0, INT32_MAX, &ev.progress.done, NULL);
	json_int(progress, "total", 0, INT32_MAX, &ev.progress.total, NULL);
	if (a->of.out)
		a->of.out->event(a->of.out, &ev);
}

/* ---- chunks ---- */

/* Some servers send the same thought under several names: the first that is there is taken. */
static void read_reasoning(struct answer *a, const cJSON *delta)
{
	const cJSON *details = NULL, *d;

	if (answer_member(a, delta, "reasoning_content", EVENT_REASONING) ||
	    answer_member(a, delta, "reasoning", EVENT_REASONING))
		return;
	if (json_array(delta, "reasoning_details", &details, NULL) > 0) {
		bool any = false;

		cJSON_ArrayForEach(d, details)
		{
			any |= answer_member(a, d, "text", EVENT_REASONING) ||
			       answer_member(a, d, "summary", EVENT_REASONING);
		}
		if (any)
			return;
	}
	answer_member(a, delta, "thinking", EVENT_REASONING);
}

/* Content is a text; some servers send parts of it, thoughts among them (Mistral). */
static bool read_content(struct answer *a, const cJSON *delta)
{
	const cJSON *parts = NULL, *inner = NULL, *p, *q;
	bool any = answer_member(a, delta, "content", EVENT_TEXT);

	if (any || json_array(delta, "content", &parts, NULL) <= 0)
		return any;
	cJSON_ArrayForEach(p, parts)
	{
		any |= answer_member(a, p, "text", EVENT_TEXT);
		if (json_array(p, "thinking", &inner, NULL) <= 0)
			continue;
		cJSON_ArrayForEach(q, inner) answer_member(a, q, "text", EVENT_REASONING);
	}
	return any;
}

static void read_tools(struct answer *a, const cJSON *calls)
{
	int index = 0;

	for (const cJSON *c = calls->child; c && a->of.out; c = c->next, index++) {
		cJSON *copy = cJSON_Duplicate(c, true);

		if (cJSON_IsObject(copy)) {
			if (!cJSON_GetObjectItemCaseSensitive(copy, "index"))
				cJSON_AddNumberToObject(copy, "index", index);
			answer_tool(a, copy);
		}
		cJSON_Delete(copy);
	}
}

static int read_finish(struct answer *a, const cJSON *choice, bool refused, struct err *e)
{
	enum finish_reason reason = FINISH_STOP;
	const char *finish = NULL;

	if (json_string(choice, "finish_reason", &finish, NULL) <= 0 || !finish[0])
		return 0;
	if (!strcmp(finish, "error"))
		return err_set(e, ERR_UPSTREAM, "%s broke off with an error", a->of.who);
	openai_finish(finish, &reason);
	if (reason == FINISH_FILTER && !a->has_text && !a->has_tools && !refused)
		return err_set(e, ERR_POLICY,
			       "%s refused the prompt by its content policy", a->of.who);
	answer_reason(a, reason);
	return 0;
}

/* A choice of a chunk ("delta"), of a whole answer ("message") or of a raw completion. */
static int read_choice(struct answer *a, const cJSON *choice, struct err *e)
{
	const cJSON *delta = NULL, *tools = NULL;
	bool refused = false;

	if (json_object(choice, "delta", &delta, NULL) <= 0)
		json_object(choice, "message", &delta, NULL);
	read_reasoning(a, delta);
	if (!read_content(a, delta))
		refused = answer_member(a, delta, "refusal", EVENT_TEXT);
	if (!delta)
		answer_member(a, choice, "text", EVENT_TEXT);
	if (json_array(delta, "tool_calls", &tools, NULL) > 0)
		read_tools(a, tools);
	return read_finish(a, choice, refused, e);
}

static int read_choices(struct answer *a, const cJSON *choices, struct err *e)
{
	const cJSON *choice, *error;

	cJSON_ArrayForEach(choice, choices)
	{
		double index = 0;

		json_double(choice, "index", 0, 1e6, &index, NULL);
		if (index > 0) /* we never ask for more than one */
			continue;
		error = cJSON_GetObjectItemCaseSensitive(choice, "error");
		if (error && !cJSON_IsNull(error))
			return answer_error(a, error, e);
		if (read_choice(a, choice, e) < 0)
			return -1;
	}
	return 0;
}

int openai_event(struct answer *a, struct str type, const cJSON *tree, struct err *e)
{
	const cJSON *error = cJSON_GetObjectItemCaseSensitive(tree, "error");
	const cJSON *choices = NULL, *part = NULL;
	const char *model = NULL;

	if (error && !cJSON_IsNull(error))
		return answer_error(a, error, e);
	if (str_eq(type, "error")) /* its data is the error */
		return answer_error(a, tree, e);
	json_string(tree, "model", &model, NULL);
	answer_started(a, model);
	if (json_object(tree, "usage", &part, NULL) > 0)
		openai_usage(part, &a->usage);
	if (json_object(tree, "timings", &part, NULL) > 0)
		read_timings(part, &a->usage);
	if (a->of.progress && json_object(tree, "prompt_progress", &part, NULL) > 0)
		tell_progress(a, part);
	if (json_array(tree, "choices", &choices, NULL) <= 0)
		return 0;
	return read_choices(a, choices, e);
}

int openai_whole(struct answer *a, const cJSON *tree, struct err *e)
{
	const cJSON *choices = NULL;

	if (json_array(tree, "choices", &choices, NULL) <= 0 || !choices->child)
		return 0;
	return openai_event(a, (struct str){0}, tree, e) < 0 ? -1 : 1;
}

/* ---- the listing of models ---- */

static int context_of(const cJSON *m)
{
	static const char *const keys[] = {"max_model_len", "context_length",
					   "max_context_length", "context_window"};
	const cJSON *meta = NULL;
	int ctx = 0;

	for (size_t i = 0; i < ARRAY_LEN(keys) && ctx == 0; i++)
		answer_count(m, keys[i], &ctx);
	if (ctx == 0 && json_object(m, "meta", &meta, NULL) > 0) { /* llama-server's */
		answer_count(meta, "n_ctx", &ctx);
		if (ctx == 0)
			answer_count(meta, "n_ctx_train", &ctx);
	}
	return ctx;
}

/* What another hob says of its models; its prices are for a million tokens. */
static void read_hob(const cJSON *row, struct remote_model *m)
{
	const cJSON *hob = NULL;
	double usd;
	bool yes;

	if (json_object(row, "hob", &hob, NULL) <= 0)
		return;
	answer_count(hob, "ctx", &m->ctx);
	if (json_double(hob, "price_input", 0, 1e6, &usd, NULL) > 0)
		m->prices.input = usd / 1e6;
	if (json_double(hob, "price_output", 0, 1e6, &usd, NULL) > 0)
		m->prices.output = usd / 1e6;
	if (json_bool(hob, "images", &yes, NULL) > 0)
		m->images = yes ? YES : NO;
	if (json_bool(hob, "tools", &yes, NULL) > 0)
		m->tools = yes ? YES : NO;
}

int openai_read_models(const cJSON *tree, struct remote_model **list, int *n)
{
	const cJSON *data = NULL, *m;

	*n = 0;
	*list = NULL;
	if (cJSON_IsArray(tree)) /* Together's */
		data = tree;
	else if (json_array(tree, "data", &data, NULL) <= 0)
		return -1;
	*list = xcalloc((size_t)cJSON_GetArraySize(data) + 1, sizeof **list);
	cJSON_ArrayForEach(m, data)
	{
		const char *id = NULL;

		if (*n == REMOTE_MODELS_MAX)
			break;
		if (json_string(m, "id", &id, NULL) <= 0 || !id[0])
			continue;
		(*list)[*n] = REMOTE_MODEL_UNKNOWN;
		(*list)[*n].id = xstrdup(id);
		(*list)[*n].ctx = context_of(m);
		read_hob(m, &(*list)[(*n)++]);
	}
	return 0;
}

const struct remote_protocol openai_protocol = {
	.name = "openai",
	OPENAI_DIALECT,
	.models = openai_read_models,
};
