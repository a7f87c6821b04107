/* Input items to messages in the chat dialect.  Pure; any thread.
 *
 * A chat message of the assistant holds its text and all its calls; items are one each.  So calls are
 * gathered until an item comes that is none, and join the assistant's text right before them.
 * Reasoning items are read and left out: no model here takes another one's thoughts back.  References are
 * what clients send in place of what they got from us; those that are not known yet are noted, and
 * the caller decodes once more when it has looked them up. */
#include "api/responses.h"

#include "base/json.h"

enum { CALL_ID_BYTES = 256, CALL_NAME_BYTES = 256 };

struct reader {
	struct request *r;
	const struct responses_references *known;
	struct responses_params *p;
	const char *where;
	int at; /* the item */
	/* The assistant's message that calls join, or -1 */
	int assistant;
	struct buf calls; /* JSON, with commas */
};

static void set_raw(struct request *r, struct buf *raw)
{
	struct message *m = &r->messages[r->nmessages - 1];

	free(m->raw_json);
	m->raw_json = buf_take(raw, NULL);
}

/* The assistant's message gets its calls. */
static void end_calls(struct reader *in)
{
	struct message *m;
	struct buf raw = {0};

	if (in->assistant >= 0 && in->calls.len) {
		m = &in->r->messages[in->assistant];
		buf_adds(&raw, "{\"role\":\"assistant\",\"content\":");
		buf_add_json_or_null(&raw, *m->text ? m->text : NULL);
		buf_adds(&raw, ",\"tool_calls\":[");
		buf_add(&raw, in->calls.data, in->calls.len);
		buf_adds(&raw, "]}");
		free(m->raw_json);
		m->raw_json = buf_take(&raw, NULL);
	}
	in->assistant = -1;
	buf_clear(&in->calls);
}

static int add(struct reader *in, enum role role, const char *text, size_t n,
	       struct err *e)
{
	if (in->r->nmessages == OPENAI_MAX_MESSAGES)
		return err_set(e, ERR_INVALID, "more than %d messages",
			       OPENAI_MAX_MESSAGES);
	request_add_message(in->r, role, text, n);
	return 0;
}

/* -- messages -- */

static const char *string_of(const cJSON *o, const char *key)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);

	return cJSON_IsString(v) ? v->valuestring : NULL;
}

/* Parts of a message: their text, and the same as the chat dialect's parts. */
struct parts {
	struct buf text, chat;
	int n;
	bool has_images;
};

static void add_text_part(struct parts *out, const char *text)
{
	buf_adds(&out->text, text);
	buf_adds(&out->chat, out->n++ ? ",{\"type\":\"text\",\"text\":"
				      : "{\"type\":\"text\",\"text\":");
	buf_add_json(&out->chat, text, strlen(text));
	buf_addc(&out->chat, '}');
}

static int add_image_part(const struct reader *in, const cJSON *part, int i,
			  struct parts *out, struct err *e)
{
	const char *url = string_of(part, "image_url");
	const char *detail = string_of(part, "detail");

	if (!url)
		return err_set(e,
			       string_of(part, "file_id") ? ERR_UNSUPPORTED : ERR_INVALID,
			       "%s[%d].content[%d]: an image must come as 'image_url', a "
			       "URL or data:...; files are not kept here",
			       in->where, in->at, i);
	if (detail && strcmp(detail, "low") && strcmp(detail, "high") &&
	    strcmp(detail, "auto"))
		return err_set(e, ERR_INVALID,
			       "%s[%d].content[%d].detail must be low, high or auto",
			       in->where, in->at, i);
	out->has_images = true;
	buf_adds(&out->chat, out->n++
				     ? ",{\"type\":\"image_url\",\"image_url\":{\"url\":"
				     : "{\"type\":\"image_url\",\"image_url\":{\"url\":");
	buf_add_json(&out->chat, url, strlen(url));
	if (detail)
		buf_addf(&out->chat, ",\"detail\":\"%s\"", detail);
	buf_adds(&out->chat, "}}");
	return 0;
}

static int read_part(const struct reader *in, const cJSON *part, int i, struct parts *out,
		     struct err *e)
{
	static const struct {
		const char *type, *member;
	} texts[] = {{"input_text", "text"},
		     {"output_text", "text"},
		     {"text", "text"},
		     {"refusal", "refusal"}};
	const char *type = string_of(part, "type"), *text;

	if (!cJSON_IsObject(part) || !type)
		return err_set(e, ERR_INVALID,
			       "%s[%d].content[%d] must be an object with a 'type'",
			       in->where, in->at, i);
	for (size_t k = 0; k < ARRAY_LEN(texts); k++) {
		if (strcmp(type, texts[k].type))
			continue;
		text = string_of(part, texts[k].member);
		if (!text)
			return err_set(e, ERR_INVALID,
				       "%s[%d].content[%d].%s must be a text", in->where,
				       in->at, i, texts[k].member);
		add_text_part(out, text);
		return 0;
	}
	if (!strcmp(type, "input_image"))
		return add_image_part(in, part, i, out, e);
	return err_set(e, ERR_UNSUPPORTED,
		       "%s[%d].content[%d]: '%.60s' is not supported; input_text, "
		       "input_image, output_text and refusal are",
		       in->where, in->at, i, type);
}

/* A text or an array of parts, of which `member` is called in the item. */
static int read_parts(const struct reader *in, const cJSON *content, const char *member,
		      struct parts *out, struct err *e)
{
	const cJSON *part;
	int i = 0;

	if (cJSON_IsString(content)) {
		buf_adds(&out->text, content->valuestring);
		return 0;
	}
	if (!cJSON_IsArray(content))
		return err_set(e, ERR_INVALID,
			       "%s[%d].%s must be a text or an array of parts", in->where,
			       in->at, member);
	cJSON_ArrayForEach(part, content)
	{
		if (read_part(in, part, i++, out, e) < 0)
			return -1;
	}
	return 0;
}

static void free_parts(struct parts *p)
{
	buf_free(&p->text);
	buf_free(&p->chat);
}

static int read_message(struct reader *in, const cJSON *item, struct err *e)
{
	const char *name = string_of(item, "role");
	struct parts parts = {0};
	struct buf raw = {0};
	enum role role;
	int rc = -1;

	end_calls(in);
	if (!name || !role_by_name(name, &role) || role == ROLE_TOOL)
		return err_set(e, ERR_INVALID,
			       "%s[%d].role must be user, assistant, system or developer",
			       in->where, in->at);
	if (read_parts(in, cJSON_GetObjectItemCaseSensitive(item, "content"), "content",
		       &parts, e) < 0)
		goto out;
	if (add(in, role, parts.text.data ? parts.text.data : "", parts.text.len, e) < 0)
		goto out;
	if (role == ROLE_ASSISTANT)
		in->assistant = in->r->nmessages - 1;
	if (parts.has_images) {
		buf_addf(&raw, "{\"role\":\"%s\",\"content\":[", role_name(role));
		buf_add(&raw, parts.chat.data, parts.chat.len);
		buf_adds(&raw, "]}");
		set_raw(in->r, &raw);
	}
	rc = 0;
out:
	free_parts(&parts);
	return rc;
}

/* -- calls and what they gave -- */

static int read_label(const struct reader *in, const cJSON *item, const char *key,
		      size_t most, const char **out, struct err *e)
{
	*out = string_of(item, key);
	if (*out && **out && strlen(*out) <= most)
		return 0;
	return err_set(e, ERR_INVALID, "%s[%d].%s must be a text of 1 to %zu bytes",
		       in->where, in->at, key, most);
}

static int need_assistant(struct reader *in, struct err *e)
{
	if (in->assistant >= 0)
		return 0;
	if (add(in, ROLE_ASSISTANT, "", 0, e) < 0)
		return -1;
	in->assistant = in->r->nmessages - 1;
	return 0;
}

static int read_call(struct reader *in, const cJSON *item, struct err *e)
{
	const char *id, *name, *arguments = string_of(item, "arguments");

	if (read_label(in, item, "call_id", CALL_ID_BYTES, &id, e) < 0 ||
	    read_label(in, item, "name", CALL_NAME_BYTES, &name, e) < 0)
		return -1;
	if (!arguments)
		return err_set(e, ERR_INVALID, "%s[%d].arguments must be a text",
			       in->where, in->at);
	if (need_assistant(in, e) < 0)
		return -1;
	buf_adds(&in->calls, in->calls.len ? ",{\"id\":" : "{\"id\":");
	buf_add_json(&in->calls, id, strlen(id));
	buf_adds(&in->calls, ",\"type\":\"function\",\"function\":{\"name\":");
	buf_add_json(&in->calls, name, strlen(name));
	buf_adds(&in->calls, ",\"arguments\":");
	buf_add_json(&in->calls, arguments, strlen(arguments));
	buf_adds(&in->calls, "}}");
	return 0;
}

static int read_call_output(struct reader *in, const cJSON *item, struct err *e)
{
	struct parts parts = {0};
	struct buf raw = {0};
	const char *id;
	int rc = -1;

	end_calls(in);
	if (read_label(in, item, "call_id", CALL_ID_BYTES, &id, e) < 0 ||
	    read_parts(in, cJSON_GetObjectItemCaseSensitive(item, "output"), "output",
		       &parts, e) < 0)
		goto out;
	if (parts.has_images) {
		err_set(e, ERR_UNSUPPORTED,
			"%s[%d].output: images in what a function gave are not supported",
			in->where, in->at);
		goto out;
	}
	if (add(in, ROLE_TOOL, parts.text.data ? parts.text.data : "", parts.text.len,
		e) < 0)
		goto out;
	buf_adds(&raw, "{\"role\":\"tool\",\"tool_call_id\":");
	buf_add_json(&raw, id, strlen(id));
	buf_adds(&raw, ",\"content\":");
	buf_add_json(&raw, parts.text.data ? parts.text.data : "", parts.text.len);
	buf_addc(&raw, '}');
	set_raw(in->r, &raw);
	rc = 0;
out:
	free_parts(&parts);
	return rc;
}

static int read_reasoning(struct reader *in, const cJSON *item, struct err *e)
{
	const cJSON *list = NULL;

	if (json_array(item, "summary", &list, e) < 0 ||
	    json_array(item, "content", &list, e) < 0)
		return err_wrap(e, "%s[%d]", in->where, in->at);
	return 0;
}

/* -- references -- */

static int note_missing(struct reader *in, const char *id, struct err *e)
{
	struct responses_params *p = in->p;

	if (p->nmissing == RESPONSES_MAX_REFERENCES)
		return err_set(e, ERR_INVALID, "more than %d item references",
			       RESPONSES_MAX_REFERENCES);
	p->missing = xrealloc(p->missing, (size_t)(p->nmissing + 1) * sizeof *p->missing);
	p->missing[p->nmissing++] = xstrdup(id);
	return 0;
}

/* The index-th call of a message that is kept, as JSON in the chat dialect. */
static int add_known_call(struct reader *in, const struct responses_known *k,
			  struct err *e)
{
	cJSON *raw = k->raw_json ? json_parse(str_of(k->raw_json), NULL) : NULL;
	const cJSON *calls = cJSON_GetObjectItemCaseSensitive(raw, "tool_calls");
	const cJSON *call = NULL;
	int rc = -1;

	if (cJSON_IsArray(calls))
		call = cJSON_GetArrayItem(calls, k->item.index);
	if (!call)
		err_set(e, ERR_NOT_FOUND, "Item with id '%.80s' not found.", k->id);
	else if (need_assistant(in, e) == 0) {
		if (in->calls.len)
			buf_addc(&in->calls, ',');
		json_print(&in->calls, call);
		rc = 0;
	}
	cJSON_Delete(raw);
	return rc;
}

static int read_reference(struct reader *in, const cJSON *item, struct err *e)
{
	const struct responses_known *k = NULL;
	const char *id = string_of(item, "id");
	struct item_id parsed;

	if (!id || !responses_read_item_id(str_of(id), &parsed))
		return err_set(e, ERR_NOT_FOUND, "Item with id '%.80s' not found.",
			       id ? id : "");
	if (parsed.kind == ITEM_REASONING)
		return 0;
	for (int i = 0; in->known && i < in->known->n && !k; i++)
		if (!strcmp(in->known->list[i].id, id))
			k = &in->known->list[i];
	if (!k)
		return note_missing(in, id, e);
	if (k->item.kind == ITEM_CALL)
		return add_known_call(in, k, e);
	end_calls(in);
	if (k->item.kind == ITEM_CALL_OUTPUT) {
		if (add(in, ROLE_TOOL, k->text, strlen(k->text), e) < 0)
			return -1;
		in->r->messages[in->r->nmessages - 1].raw_json =
			k->raw_json ? xstrdup(k->raw_json) : NULL;
		return 0;
	}
	if (add(in, k->role, k->text, strlen(k->text), e) < 0)
		return -1;
	if (k->role == ROLE_ASSISTANT)
		in->assistant = in->r->nmessages - 1;
	else if (k->raw_json)
		in->r->messages[in->r->nmessages - 1].raw_json = xstrdup(k->raw_json);
	return 0;
}

/* -- items -- */

static int read_item(struct reader *in, const cJSON *item, struct err *e)
{
	static const struct {
		const char *type;
		int (*read)(struct reader *in, const cJSON *item, struct err *e);
	} types[] = {
		{"message", read_message},
		{"function_call", read_call},
		{"function_call_output", read_call_output},
		{"reasoning", read_reasoning},
		{"item_reference", read_reference},
	};
	const char *type = NULL;

	if (!cJSON_IsObject(item))
		return err_set(e, ERR_INVALID, "%s[%d] must be an object", in->where,
			       in->at);
	if (json_string(item, "type", &type, e) < 0)
		return err_wrap(e, "%s[%d]", in->where, in->at);
	if (!type) /* both may leave it out */
		type = cJSON_HasObjectItem(item, "role") ||
				       !cJSON_HasObjectItem(item, "id")
			       ? "message"
			       : "item_reference";
	for (size_t i = 0; i < ARRAY_LEN(types); i++)
		if (!strcmp(type, types[i].type))
			return types[i].read(in, item, e);
	return err_set(
		e, ERR_UNSUPPORTED,
		"%s[%d]: items of type '%.60s' are not supported; message, "
		"function_call, function_call_output, reasoning and item_reference "
		"are",
		in->where, in->at, type);
}

int responses_decode_items(struct request *r, const cJSON *items, const char *where,
			   const struct responses_references *known,
			   struct responses_params *p, struct err *e)
{
	struct reader in = {
		.r = r, .known = known, .p = p, .where = where, .assistant = -1};
	const cJSON *item;
	int rc = 0;

	cJSON_ArrayForEach(item, items)
	{
		rc = read_item(&in, item, e);
		if (rc < 0)
			break;
		in.at++;
	}
	end_calls(&in);
	buf_free(&in.calls);
	return rc;
}

void responses_references_free(struct responses_references *refs)
{
	for (int i = 0; i < refs->n; i++) {
		free(refs->list[i].id);
		free(refs->list[i].text);
		free(refs->list[i].raw_json);
	}
	free(refs->list);
	*refs = (struct responses_references){0};
}
