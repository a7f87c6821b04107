/* From the body of POST /v1/responses to a struct request.  Pure; any thread.
 *
 * The core speaks OpenAI's chat dialect: what the Responses API calls otherwise is renamed here, once,
 * so that providers and the engine know one set of names.  A field of the wrong type is an error that names
 * it; unknown fields are left alone.  What a response object repeats of its request is written here too,
 * while the tree is at hand. */
#include "api/responses_fields.h"

#include "base/json.h"

enum {
	METADATA_PAIRS = 16,
	METADATA_KEY_BYTES = 4 * 64, /* OpenAI counts characters */
	METADATA_VALUE_BYTES = 4 * 512,
	LABEL_BYTES = 512, /* user, safety_identifier, prompt_cache_key */
};

void responses_params_free(struct responses_params *p)
{
	free(p->previous);
	buf_free(&p->echo);
	for (int i = 0; i < p->nmissing; i++)
		free(p->missing[i]);
	free(p->missing);
	*p = (struct responses_params){0};
}

/* -- labels -- */

static int label(struct responses_params *p, const cJSON *root, const char *key,
		 struct err *e)
{
	const char *text = NULL;

	if (json_string(root, key, &text, e) < 0)
		return -1;
	if (text && strlen(text) > LABEL_BYTES)
		return err_set(e, ERR_INVALID, "'%s' has at most %d bytes", key,
			       LABEL_BYTES);
	responses_echo_text(p, key, text);
	return 0;
}

char *responses_read_metadata(const cJSON *root, struct err *e)
{
	const cJSON *o = NULL, *m;
	struct buf out = {0};
	int n = 0;

	if (json_object(root, "metadata", &o, e) < 0)
		return NULL;
	buf_addc(&out, '{');
	cJSON_ArrayForEach(m, o)
	{
		if (!cJSON_IsString(m) || ++n > METADATA_PAIRS ||
		    strlen(m->string) > METADATA_KEY_BYTES ||
		    strlen(m->valuestring) > METADATA_VALUE_BYTES) {
			err_set(e, ERR_INVALID,
				"'metadata' must be an object of at most %d texts, names up to 64 "
				"and texts up to 512 characters",
				METADATA_PAIRS);
			buf_free(&out);
			return NULL;
		}
		buf_adds(&out, n > 1 ? "," : "");
		buf_add_json(&out, m->string, strlen(m->string));
		buf_addc(&out, ':');
		buf_add_json(&out, m->valuestring, strlen(m->valuestring));
	}
	buf_addc(&out, '}');
	return buf_take(&out, NULL);
}

/* -- text and reasoning -- */

static int decode_schema(const cJSON *format, struct buf *extra, struct err *e)
{
	static const char *const members[] = {"name", "description", "schema", "strict"};
	const char *name = NULL;
	const cJSON *schema = NULL;
	bool any = false;

	if (json_string(format, "name", &name, e) < 0 ||
	    json_object(format, "schema", &schema, e) < 0)
		return err_wrap(e, "text.format");
	if (!name || !*name || !schema)
		return err_set(
			e, ERR_INVALID,
			"text.format of type json_schema needs 'name' and 'schema'");
	responses_extra_key(extra, "response_format");
	buf_adds(extra, "{\"type\":\"json_schema\",\"json_schema\":{");
	for (size_t i = 0; i < ARRAY_LEN(members); i++) {
		const cJSON *v = responses_member(format, members[i]);

		if (!v || cJSON_IsNull(v))
			continue;
		buf_addf(extra, "%s\"%s\":", any ? "," : "", members[i]);
		json_print(extra, v);
		any = true;
	}
	buf_adds(extra, "}}");
	return 0;
}

static int decode_text(const cJSON *root, struct buf *extra, struct responses_params *p,
		       struct err *e)
{
	const cJSON *text = NULL, *format = NULL;
	const char *type = "text", *verbosity = NULL;

	p->param = "text";
	if (json_object(root, "text", &text, e) < 0)
		return -1;
	if (text && (json_object(text, "format", &format, e) < 0 ||
		     RESPONSES_WORD(text, "verbosity", &verbosity, e, "low", "medium",
				    "high") < 0))
		return err_wrap(e, "text");
	if (format && RESPONSES_WORD(format, "type", &type, e, "text", "json_object",
				     "json_schema") <= 0)
		return e->code ? err_wrap(e, "text.format")
			       : err_set(e, ERR_INVALID, "text.format lacks a 'type'");
	if (!strcmp(type, "json_schema") && decode_schema(format, extra, e) < 0)
		return -1;
	if (!strcmp(type, "json_object")) {
		responses_extra_key(extra, "response_format");
		buf_adds(extra, "{\"type\":\"json_object\"}");
	}
	if (verbosity) {
		responses_extra_key(extra, "verbosity");
		buf_add_json(extra, verbosity, strlen(verbosity));
	}
	buf_adds(&p->echo, ",\"text\":{\"format\":");
	if (format)
		json_print(&p->echo, format);
	else
		buf_adds(&p->echo, "{\"type\":\"text\"}");
	if (verbosity)
		buf_addf(&p->echo, ",\"verbosity\":\"%s\"", verbosity);
	buf_addc(&p->echo, '}');
	p->param = NULL;
	return 0;
}

static int decode_reasoning(const cJSON *root, struct buf *extra,
			    struct responses_params *p, struct err *e)
{
	const cJSON *reasoning = NULL;
	const char *effort = NULL, *summary = NULL;

	p->param = "reasoning";
	if (json_object(root, "reasoning", &reasoning, e) < 0)
		return -1;
	if (reasoning &&
	    (RESPONSES_WORD(reasoning, "effort", &effort, e, "none", "minimal", "low",
			    "medium", "high", "xhigh") < 0 ||
	     RESPONSES_WORD(reasoning, "summary", &summary, e, "auto", "concise",
			    "detailed") < 0))
		return err_wrap(e, "reasoning");
	if (effort) {
		responses_extra_key(extra, "reasoning_effort");
		buf_add_json(extra, effort, strlen(effort));
	}
	buf_adds(&p->echo, ",\"reasoning\":{\"effort\":");
	buf_add_json_or_null(&p->echo, effort);
	buf_adds(&p->echo, ",\"summary\":");
	buf_add_json_or_null(&p->echo, summary);
	buf_addc(&p->echo, '}');
	p->param = NULL;
	return 0;
}

/* -- where it belongs -- */

static int decode_conversation(struct request *r, const cJSON *root,
			       struct responses_params *p, struct err *e)
{
	const cJSON *c = responses_member(root, "conversation");
	const char *id = NULL, *previous = NULL;
	struct str s;

	p->param = "conversation";
	if (cJSON_IsObject(c)) {
		if (json_string(c, "id", &id, e) <= 0)
			return err_set(e, ERR_INVALID, "conversation.id must be a text");
	} else if (json_string(root, "conversation", &id, e) < 0) {
		return err_set(e, ERR_INVALID,
			       "'conversation' must be an id or an object with one");
	}
	if (json_string(root, "previous_response_id", &previous, e) < 0) {
		p->param = "previous_response_id";
		return -1;
	}
	if (id && previous) {
		p->code = "mutually_exclusive_parameters";
		return err_set(e, ERR_INVALID,
			       "'conversation' and 'previous_response_id' exclude each "
			       "other: give one of them");
	}
	p->param = NULL;
	s = str_of(id);
	if (str_starts(s, "conv_"))
		s = (struct str){s.ptr + 5, s.len - 5};
	if (id && openai_set_conversation(r, s, e) < 0) {
		p->param = "conversation";
		return -1;
	}
	p->previous = previous ? xstrdup(previous) : NULL;
	responses_echo_text(p, "previous_response_id", previous);
	return 0;
}

/* -- the rest -- */

static int refuse(const cJSON *root, struct responses_params *p, struct err *e)
{
	bool background = false;
	const cJSON *prompt = responses_member(root, "prompt");

	if (json_bool(root, "background", &background, e) < 0)
		return -1;
	if (background) {
		p->param = "background";
		return err_set(
			e, ERR_UNSUPPORTED,
			"'background' is not supported: stream the answer, or wait "
			"for it");
	}
	if (prompt && !cJSON_IsNull(prompt)) {
		p->param = "prompt";
		return err_set(
			e, ERR_UNSUPPORTED,
			"'prompt' names a template that OpenAI keeps: send its text "
			"as 'instructions'");
	}
	buf_adds(&p->echo, ",\"background\":false");
	return 0;
}

static int decode_sampling(struct request *r, const cJSON *root,
			   struct responses_params *p, struct err *e)
{
	int64_t most = 0, logprobs = 0;
	const char *truncation = "disabled";

	if (openai_decode_sampling(r, root, e) < 0 ||
	    json_int(root, "max_output_tokens", 1, INT32_MAX, &most, e) < 0 ||
	    json_int(root, "top_logprobs", 0, 20, &logprobs, e) < 0 ||
	    RESPONSES_WORD(root, "truncation", &truncation, e, "auto", "disabled") < 0)
		return -1;
	if (most)
		r->sampling.max_tokens = (int)most;
	responses_echo(p, "temperature", responses_member(root, "temperature"));
	responses_echo(p, "top_p", responses_member(root, "top_p"));
	responses_echo(p, "max_output_tokens",
		       responses_member(root, "max_output_tokens"));
	responses_echo_text(p, "truncation", truncation);
	return 0;
}

static int decode_labels(const cJSON *root, struct responses_params *p, struct err *e)
{
	const char *tier = NULL, *retention = NULL;
	char *metadata = responses_read_metadata(root, e);

	if (!metadata)
		return -1;
	buf_addf(&p->echo, ",\"metadata\":%s", metadata);
	free(metadata);
	if (RESPONSES_WORD(root, "service_tier", &tier, e, "auto", "default", "flex",
			   "scale", "priority") < 0 ||
	    RESPONSES_WORD(root, "prompt_cache_retention", &retention, e, "in-memory",
			   "24h") < 0)
		return -1;
	responses_echo_text(p, "service_tier", "default");
	if (retention)
		responses_echo_text(p, "prompt_cache_retention", retention);
	if (label(p, root, "user", e) < 0 || label(p, root, "safety_identifier", e) < 0 ||
	    label(p, root, "prompt_cache_key", e) < 0)
		return -1;
	return 0;
}

static int decode_input(struct request *r, const cJSON *root,
			const struct responses_references *known,
			struct responses_params *p, struct err *e)
{
	const cJSON *input = responses_member(root, "input");
	const char *instructions = NULL;

	if (json_string(root, "instructions", &instructions, e) < 0)
		return -1;
	if (instructions && *instructions) {
		request_add_message(r, ROLE_SYSTEM, instructions, strlen(instructions));
		r->nunkept = 1;
	}
	p->param = "input";
	if (cJSON_IsString(input))
		request_add_message(r, ROLE_USER, input->valuestring,
				    strlen(input->valuestring));
	else if (!cJSON_IsArray(input) || !input->child)
		return err_set(e, ERR_INVALID,
			       "'input' must be a text or a non-empty array of items");
	else if (responses_decode_items(r, input, "input", known, p, e) < 0)
		return -1;
	if (r->nmessages == r->nunkept && !p->nmissing)
		return err_set(e, ERR_INVALID, "'input' holds no message");
	p->param = NULL;
	return 0;
}

/* What is read again of a stored response; its instructions are not stored, its tools may be large. */
static void keep_echo(struct request *r, const struct responses_params *p)
{
	struct buf kept = {0};

	buf_addc(&kept, '{');
	buf_add(&kept, p->echo.data + 1, p->echo.len - 1); /* without its first comma */
	buf_addc(&kept, '}');
	r->turn_json = buf_take(&kept, NULL);
}

/* Each event that carries a response repeats them: not without end. */
static void echo_long(const cJSON *root, struct responses_params *p)
{
	const cJSON *tools = responses_member(root, "tools");
	struct buf text = {0};

	if (cJSON_IsArray(tools))
		json_print(&text, tools);
	buf_adds(&p->echo, ",\"tools\":");
	buf_adds(&p->echo,
		 text.len && text.len <= RESPONSES_MAX_ECHO_BYTES ? text.data : "[]");
	buf_clear(&text);
	if (responses_member(root, "instructions"))
		json_print(&text, responses_member(root, "instructions"));
	buf_adds(&p->echo, ",\"instructions\":");
	buf_adds(&p->echo,
		 text.len && text.len <= RESPONSES_MAX_ECHO_BYTES ? text.data : "null");
	buf_free(&text);
}

static int decode(struct request *r, const cJSON *root,
		  const struct responses_references *known, struct responses_params *p,
		  struct buf *extra, struct err *e)
{
	const char *model = "default";
	const cJSON *ignored = NULL;

	if (!cJSON_IsObject(root))
		return err_set(e, ERR_INVALID, "the body must be a JSON object");
	if (json_string(root, "model", &model, e) < 0 ||
	    json_bool(root, "stream", &p->stream, e) < 0 ||
	    json_bool(root, "store", &p->store, e) < 0 ||
	    json_object(root, "stream_options", &ignored, e) < 0 ||
	    json_array(root, "include", &ignored, e) < 0 ||
	    json_duration(root, "keep_alive", &r->keep_alive_ms, e) < 0)
		return -1;
	if (strlen(model) > OPENAI_MAX_MODEL_BYTES)
		return err_set(e, ERR_INVALID, "'model' is too long");
	free(r->model);
	r->model = xstrdup(*model ? model : "default");
	if (refuse(root, p, e) < 0 || decode_conversation(r, root, p, e) < 0 ||
	    decode_sampling(r, root, p, e) < 0 || decode_labels(root, p, e) < 0 ||
	    responses_decode_calls(root, extra, p, e) < 0 ||
	    decode_text(root, extra, p, e) < 0 ||
	    decode_reasoning(root, extra, p, e) < 0 ||
	    decode_input(r, root, known, p, e) < 0)
		return -1;
	keep_echo(r, p);
	echo_long(root, p);
	return 0;
}

struct request *responses_decode(struct str body,
				 const struct responses_references *known,
				 struct responses_params *p, struct err *e)
{
	struct request *r = NULL;
	struct buf extra = {0};
	cJSON *root;

	*p = (struct responses_params){.store = true};
	root = openai_read_body(body, e);
	if (!root)
		return NULL;
	r = request_new();
	r->is_chat = true;
	if (decode(r, root, known, p, &extra, e) == 0) {
		if (extra.len) {
			buf_addc(&extra, '}');
			r->extra_json = buf_take(&extra, NULL);
		}
	} else {
		request_free(r);
		r = NULL;
	}
	cJSON_Delete(root);
	buf_free(&extra);
	return r;
}
