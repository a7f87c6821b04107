/* From a body to a struct request.  Pure; any thread.
 *
 * Strict on types, lenient on more: a field of the wrong type is an error that names it, a field
 * that we do not know goes on as extra_json to providers that may.  What clients echo back from
 * our own replies (reasoning_content, empty tool_calls, nulls) must not make a message "special",
 * or the second turn of a chat would be refused by the engine. */
#include "api/openai.h"

#include "api/persona.h"

#include "base/json.h"

/* -- messages -- */

static bool is_empty(const cJSON *v)
{
	return !v || cJSON_IsNull(v) ||
	       ((cJSON_IsArray(v) || cJSON_IsObject(v)) && !v->child);
}

/* Members that carry more than role and text.  `name` and the reasoning that clients echo are
 * left behind: no local template reads them. */
static bool is_special(const cJSON *m)
{
	static const char *const members[] = {"tool_calls", "tool_call_id",
					      "function_call", "audio",
					      "reasoning_details"};

	for (size_t i = 0; i < ARRAY_LEN(members); i++)
		if (!is_empty(cJSON_GetObjectItemCaseSensitive(m, members[i])))
			return true;
	return false;
}

static int add_parts(const cJSON *parts, int at, struct buf *text, bool *special,
		     struct err *e)
{
	const cJSON *part, *type, *s;
	int i = 0;

	cJSON_ArrayForEach(part, parts)
	{
		type = cJSON_GetObjectItemCaseSensitive(part, "type");
		if (!cJSON_IsObject(part) || !cJSON_IsString(type))
			return err_set(
				e, ERR_INVALID,
				"messages[%d].content[%d] must be an object with a 'type'",
				at, i);
		i++;
		if (strcmp(type->valuestring, "text") != 0) {
			*special = true;
			continue;
		}
		s = cJSON_GetObjectItemCaseSensitive(part, "text");
		if (!cJSON_IsString(s))
			return err_set(e, ERR_INVALID,
				       "messages[%d].content[%d].text must be a string",
				       at, i - 1);
		buf_adds(text, s->valuestring);
	}
	return 0;
}

static int add_message(struct request *r, const cJSON *m, int at, struct err *e)
{
	const cJSON *role_json = cJSON_GetObjectItemCaseSensitive(m, "role");
	const cJSON *content = cJSON_GetObjectItemCaseSensitive(m, "content");
	bool special = is_special(m);
	struct str words = STR("");
	struct buf text = {0};
	enum role role;
	char *raw;
	int rc = -1;

	if (!cJSON_IsObject(m))
		return err_set(e, ERR_INVALID, "messages[%d] must be an object", at);
	if (!cJSON_IsString(role_json) || !role_by_name(role_json->valuestring, &role))
		return err_set(
			e, ERR_INVALID,
			"messages[%d].role must be system, user, assistant or tool", at);
	if (cJSON_IsString(content)) {
		words = str_of(content->valuestring);
	} else if (cJSON_IsArray(content)) {
		if (add_parts(content, at, &text, &special, e) != 0)
			goto out;
	} else if (!is_empty(content) || (role != ROLE_ASSISTANT && !special)) {
		err_set(e, ERR_INVALID,
			"messages[%d].content must be a string or an array of parts", at);
		goto out;
	}
	if (text.len)
		words = buf_str(&text);
	request_add_message(r, role, words.ptr, words.len);
	if (special || role == ROLE_TOOL) {
		raw = cJSON_PrintUnformatted(m);
		ASSERT(raw != NULL);
		r->messages[r->nmessages - 1].raw_json = raw;
	}
	rc = 0;
out:
	buf_free(&text);
	return rc;
}

int openai_decode_messages(struct request *r, const cJSON *root, struct err *e)
{
	const cJSON *list = NULL, *m;
	int rc = json_array(root, "messages", &list, e);

	if (rc < 0)
		return -1;
	if (rc == 0 || (!list->child && !r->conversation))
		return err_set(e, ERR_INVALID, "'messages' must be a non-empty array");
	cJSON_ArrayForEach(m, list)
	{
		if (r->nmessages == OPENAI_MAX_MESSAGES)
			return err_set(e, ERR_INVALID, "more than %d messages",
				       OPENAI_MAX_MESSAGES);
		if (add_message(r, m, r->nmessages, e) != 0)
			return -1;
	}
	return 0;
}

static int decode_prompt(struct request *r, const cJSON *root, struct err *e)
{
	const cJSON *p = cJSON_GetObjectItemCaseSensitive(root, "prompt");

	if (cJSON_IsArray(p) && p->child && !p->child->next && cJSON_IsString(p->child))
		p = p->child;
	if (!cJSON_IsString(p))
		return err_set(
			e, ERR_INVALID,
			"'prompt' must be a string (lists and token ids are not supported)");
	r->prompt = xstrdup(p->valuestring);
	return 0;
}

/* -- sampling -- */

static int decode_stops(struct sampling *s, const cJSON *root, struct err *e)
{
	const cJSON *stop = cJSON_GetObjectItemCaseSensitive(root, "stop");
	const cJSON *one = cJSON_IsArray(stop) ? stop->child : stop;

	if (is_empty(stop))
		return 0;
	s->stops = xcalloc(REQUEST_MAX_STOPS, sizeof(*s->stops));
	for (; one; one = cJSON_IsArray(stop) ? one->next : NULL) {
		if (!cJSON_IsString(one))
			return err_set(e, ERR_INVALID,
				       "'stop' must be a string or an array of strings");
		if (s->nstops == REQUEST_MAX_STOPS)
			return err_set(e, ERR_INVALID,
				       "'stop' may have at most %d strings",
				       REQUEST_MAX_STOPS);
		if (!one->valuestring[0] ||
		    strlen(one->valuestring) > OPENAI_MAX_STOP_BYTES)
			return err_set(e, ERR_INVALID,
				       "each string of 'stop' must have 1 to %d bytes",
				       OPENAI_MAX_STOP_BYTES);
		s->stops[s->nstops++] = xstrdup(one->valuestring);
	}
	return 0;
}

static int decode_max_tokens(struct sampling *s, const cJSON *root, struct err *e)
{
	static const char *const names[] = {"max_tokens", "max_completion_tokens"};
	int64_t n = -1;

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		int rc = json_int(root, names[i], -1, INT32_MAX, &n, e);

		if (rc < 0)
			return -1;
		if (rc && n == 0)
			return err_set(e, ERR_INVALID, "'%s' must be at least 1",
				       names[i]);
	}
	s->max_tokens =
		n > 0 ? (int)n : 0; /* -1: no limit, as llama.cpp's clients say it */
	return 0;
}

int openai_decode_sampling(struct request *r, const cJSON *root, struct err *e)
{
	enum { TOP_K_MAX = 1000000 };
	const double max_seed =
		9007199254740991.0; /* 2^53 - 1: beyond, doubles lose digits */
	struct sampling *s = &r->sampling;
	int64_t top_k = -1;
	int rc;

	if (json_double(root, "temperature", 0, 2, &s->temperature, e) < 0 ||
	    json_double(root, "top_p", 0, 1, &s->top_p, e) < 0 ||
	    json_double(root, "min_p", 0, 1, &s->min_p, e) < 0 ||
	    json_int(root, "seed", -1, (int64_t)max_seed, &s->seed, e) < 0 ||
	    json_bool(root, "ignore_eos", &s->ignore_eos, e) < 0)
		return -1;
	rc = json_int(root, "top_k", -1, TOP_K_MAX, &top_k, e);
	if (rc < 0)
		return -1;
	if (rc)
		s->top_k = top_k < 0 ? 0 : (int)top_k; /* -1 is "off" elsewhere */
	if (decode_max_tokens(s, root, e) != 0)
		return -1;
	return decode_stops(s, root, e);
}

/* -- the rest -- */

static int decode_params(const cJSON *root, struct openai_params *p, struct err *e)
{
	const cJSON *options = NULL;
	int64_t n = 1;

	if (json_bool(root, "stream", &p->stream, e) < 0 ||
	    json_object(root, "stream_options", &options, e) < 0 ||
	    json_int(root, "n", 1, 128, &n, e) < 0)
		return -1;
	if (options && json_bool(options, "include_usage", &p->include_usage, e) < 0)
		return err_wrap(e, "stream_options");
	if (n != 1)
		return err_set(e, ERR_UNSUPPORTED, "'n' above 1 is not supported");
	return 0;
}

int openai_set_conversation(struct request *r, struct str id, struct err *e)
{
	if (!id.len || id.len > OPENAI_MAX_CONVERSATION_BYTES)
		return err_set(e, ERR_INVALID,
			       "'conversation' must be an id, new, last or incognito");
	for (size_t i = 0; i < id.len; i++) {
		char c = id.ptr[i];

		if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
		      (c >= 'A' && c <= 'Z') || c == '-' || c == '_'))
			return err_set(
				e, ERR_INVALID,
				"'conversation' must be an id, new, last or incognito");
	}
	free(r->conversation);
	r->conversation = str_dup(id);
	return 0;
}

int openai_set_parent(struct request *r, struct str hash, struct err *e)
{
	bool ok = hash.len == 32;

	for (size_t i = 0; i < hash.len && ok; i++)
		ok = (hash.ptr[i] >= '0' && hash.ptr[i] <= '9') ||
		     (hash.ptr[i] >= 'a' && hash.ptr[i] <= 'f');
	if (!ok && !str_eq(hash, "root"))
		return err_set(e, ERR_INVALID,
			       "'parent' must be the hash of a message (32 hex digits) "
			       "or root");
	free(r->parent);
	r->parent = str_dup(hash);
	return 0;
}

/* OpenAI's: true asks for it, false forbids it. */
static int decode_store(struct request *r, const cJSON *root, struct err *e)
{
	bool store = false;
	int rc = json_bool(root, "store", &store, e);

	if (rc > 0)
		r->keep = store ? YES : NO;
	return rc < 0 ? -1 : 0;
}

static bool is_known(const char *key)
{
	static const char *const known[] = {
		"model",
		"messages",
		"prompt",
		"stream",
		"temperature",
		"stream_options",
		"max_completion_tokens",
		"max_tokens",
		"top_p",
		"top_k",
		"min_p",
		"seed",
		"ignore_eos",
		"stop",
		"n",
		"conversation",
		"parent",
		"store",
		"keep_alive",
		"persona",
	};
	size_t i = 0;

	while (i < ARRAY_LEN(known) && strcmp(known[i], key) != 0)
		i++;
	return i < ARRAY_LEN(known);
}

/* An object of the fields that we do not read, or NULL without any.  The same name in other case is
 * another field. */
static char *take_extra(const cJSON *root)
{
	struct buf out = {0};
	const cJSON *m;

	cJSON_ArrayForEach(m, root)
	{
		if (is_known(m->string))
			continue;
		buf_addc(&out, out.len ? ',' : '{');
		buf_add_json(&out, m->string, strlen(m->string));
		buf_addc(&out, ':');
		json_print(&out, m);
	}
	if (!out.len)
		return NULL;
	buf_addc(&out, '}');
	return buf_take(&out, NULL);
}

static int decode(struct request *r, cJSON *root, bool named, struct openai_params *p,
		  struct err *e)
{
	const char *model = "default", *conversation = NULL, *parent = NULL,
		   *persona = NULL;

	if (!cJSON_IsObject(root))
		return err_set(e, ERR_INVALID, "the body must be a JSON object");
	if (json_string(root, "model", &model, e) < 0 ||
	    json_string(root, "conversation", &conversation, e) < 0 ||
	    json_string(root, "parent", &parent, e) < 0 ||
	    json_string(root, "persona", &persona, e) < 0 || decode_store(r, root, e) < 0)
		return -1;
	if (strlen(model) > OPENAI_MAX_MODEL_BYTES)
		return err_set(e, ERR_INVALID, "'model' is too long");
	free(r->model);
	r->model = xstrdup(*model ? model : "default");
	if (conversation && !named &&
	    openai_set_conversation(r, str_of(conversation), e) != 0)
		return -1;
	if (parent && openai_set_parent(r, str_of(parent), e) != 0)
		return -1;
	if (persona && persona_set(r, str_of(persona), e) != 0)
		return -1;
	if (decode_params(root, p, e) != 0 || openai_decode_sampling(r, root, e) != 0 ||
	    json_duration(root, "keep_alive", &r->keep_alive_ms, e) < 0)
		return -1;
	if ((r->is_chat ? openai_decode_messages : decode_prompt)(r, root, e) != 0)
		return -1;
	r->extra_json = take_extra(root);
	return 0;
}

struct request *openai_decode(struct str body, bool is_chat, struct openai_params *p,
			      struct err *e)
{
	return openai_decode_for(body, is_chat, (struct str){0}, p, e);
}

cJSON *openai_read_body(struct str body, struct err *e)
{
	cJSON *root;

	if (!body.len) {
		err_set(e, ERR_INVALID, "the body is empty: JSON is expected");
		return NULL;
	}
	root = json_read(body, JSON_UTF8 | JSON_NO_NUL, e);
	if (!root)
		err_wrap(e, "request body");
	return root;
}

struct request *openai_decode_for(struct str body, bool is_chat, struct str conversation,
				  struct openai_params *p, struct err *e)
{
	struct request *r = NULL;
	cJSON *root;

	*p = (struct openai_params){0};
	root = openai_read_body(body, e);
	if (!root)
		return NULL;
	r = request_new();
	r->is_chat = is_chat;
	r->class = is_chat ? CLASS_INTERACTIVE : CLASS_COMPLETION;
	if ((conversation.ptr && openai_set_conversation(r, conversation, e) != 0) ||
	    decode(r, root, conversation.ptr != NULL, p, e) != 0) {
		request_free(r);
		r = NULL;
	}
	cJSON_Delete(root);
	return r;
}
