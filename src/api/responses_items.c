/* Names of items, and messages as items.  Pure; any thread.
 *
 * A message of the assistant may stand for several items: what it thought, what it said, what it called.  Their
 * ids are made of the message's name and a number, so that nothing has to be kept about them. */
#include "api/responses.h"

#include "base/json.h"

/* -- ids -- */

static const char *const prefixes[] = {
	[ITEM_MESSAGE] = "msg_",
	[ITEM_REASONING] = "rs_",
	[ITEM_CALL] = "fc_",
	[ITEM_CALL_OUTPUT] = "fco_",
};

static size_t hex_len(struct str s)
{
	size_t n = 0;

	while (n < s.len && ((s.ptr[n] >= '0' && s.ptr[n] <= '9') ||
			     (s.ptr[n] >= 'a' && s.ptr[n] <= 'f')))
		n++;
	return n;
}

bool responses_request_of(struct str id, char request[REQUEST_ID_BYTES])
{
	if (id.len != 5 + RESPONSES_DIGITS || !str_starts(id, "resp_") ||
	    hex_len((struct str){id.ptr + 5, RESPONSES_DIGITS}) != RESPONSES_DIGITS)
		return false;
	snprintf(request, REQUEST_ID_BYTES, "hob-%.*s", RESPONSES_DIGITS, id.ptr + 5);
	return true;
}

bool responses_read_item_id(struct str id, struct item_id *out)
{
	int64_t index = 0;
	size_t n;

	*out = (struct item_id){.kind = ITEM_MESSAGE};
	while (!str_starts(id, prefixes[out->kind]))
		if (++out->kind > ITEM_CALL_OUTPUT)
			return false;
	n = strlen(prefixes[out->kind]);
	id = (struct str){id.ptr + n, id.len - n};
	n = hex_len(id);
	if (n == RESPONSES_DIGITS)
		snprintf(out->request, sizeof out->request, "hob-%.*s", (int)n, id.ptr);
	else if (n == STORE_HASH_TEXT_BYTES - 1)
		snprintf(out->hash, sizeof out->hash, "%.*s", (int)n, id.ptr);
	else
		return false;
	id = (struct str){id.ptr + n, id.len - n};
	if (id.len &&
	    (id.ptr[0] != '_' || !str_to_i64((struct str){id.ptr + 1, id.len - 1}, 0,
					     RESPONSES_MAX_ITEMS, &index)))
		return false;
	out->index = (int)index;
	return true;
}

void responses_item_id(enum item_kind kind, const char *name, int index,
		       char out[RESPONSES_ID_BYTES])
{
	if (kind == ITEM_CALL || index > 0)
		snprintf(out, RESPONSES_ID_BYTES, "%s%.40s_%d", prefixes[kind], name,
			 index);
	else
		snprintf(out, RESPONSES_ID_BYTES, "%s%.40s", prefixes[kind], name);
}

/* -- items -- */

/* Opens the object with its id; false: not wanted. */
static bool begin(struct item_sink *sink, enum item_kind kind, const char *name,
		  int index)
{
	char id[RESPONSES_ID_BYTES];

	responses_item_id(kind, name, index, id);
	if (!sink->wants(sink->arg, id))
		return false;
	buf_addf(&sink->out, "%s{\"id\":\"%s\",\"status\":\"%s\"", sink->n++ ? "," : "",
		 id, sink->status ? sink->status : "completed");
	return true;
}

static void add_text(struct buf *out, const char *text)
{
	buf_add_json(out, text, strlen(text));
}

static const char *string_of(const cJSON *o, const char *key)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);

	return cJSON_IsString(v) ? v->valuestring : NULL;
}

static void add_call(struct item_sink *sink, const cJSON *call, const char *name, int i)
{
	const cJSON *function = cJSON_GetObjectItemCaseSensitive(call, "function");
	const char *id = string_of(call, "id");
	const char *function_name = string_of(function, "name");
	const char *arguments = string_of(function, "arguments");

	if (!begin(sink, ITEM_CALL, name, i))
		return;
	buf_adds(&sink->out, ",\"type\":\"function_call\",\"call_id\":");
	add_text(&sink->out, id ? id : "");
	buf_adds(&sink->out, ",\"name\":");
	add_text(&sink->out, function_name ? function_name : "");
	buf_adds(&sink->out, ",\"arguments\":");
	add_text(&sink->out, arguments ? arguments : "");
	buf_addc(&sink->out, '}');
}

static void add_assistant(struct item_sink *sink, const struct store_message *m,
			  const char *name, enum items_style style)
{
	cJSON *raw = m->raw_json ? json_parse(str_of(m->raw_json), NULL) : NULL;
	const cJSON *calls = cJSON_GetObjectItemCaseSensitive(raw, "tool_calls"), *call;
	bool has_calls = cJSON_IsArray(calls) && calls->child;
	int i = 0;

	/* what a response was given holds no reasoning: ResponseItem has no place for it */
	if (m->reasoning && *m->reasoning && style != ITEMS_INPUT &&
	    begin(sink, ITEM_REASONING, name, 0)) {
		buf_adds(&sink->out, ",\"type\":\"reasoning\",\"summary\":[],\"content\":"
				     "[{\"type\":\"reasoning_text\",\"text\":");
		add_text(&sink->out, m->reasoning);
		buf_adds(&sink->out, "}]}");
	}
	if ((*m->text || !has_calls) && begin(sink, ITEM_MESSAGE, name, 0)) {
		buf_adds(&sink->out,
			 ",\"type\":\"message\",\"role\":\"assistant\",\"content\":"
			 "[{\"type\":\"output_text\",\"text\":");
		add_text(&sink->out, m->text);
		buf_adds(&sink->out, ",\"annotations\":[],\"logprobs\":[]}]}");
	}
	if (has_calls)
		cJSON_ArrayForEach(call, calls) add_call(sink, call, name, i++);
	cJSON_Delete(raw);
}

static void add_tool(struct item_sink *sink, const struct store_message *m,
		     const char *name)
{
	cJSON *raw;
	const char *id;

	if (!begin(sink, ITEM_CALL_OUTPUT, name, 0))
		return;
	raw = m->raw_json ? json_parse(str_of(m->raw_json), NULL) : NULL;
	id = string_of(raw, "tool_call_id");
	buf_adds(&sink->out, ",\"type\":\"function_call_output\",\"call_id\":");
	add_text(&sink->out, id ? id : "");
	buf_adds(&sink->out, ",\"output\":");
	add_text(&sink->out, m->text);
	buf_addc(&sink->out, '}');
	cJSON_Delete(raw);
}

static void add_input_text(struct buf *out, const char *text, bool *any)
{
	buf_adds(out, *any ? ",{\"type\":\"input_text\",\"text\":"
			   : "{\"type\":\"input_text\",\"text\":");
	add_text(out, text);
	buf_addc(out, '}');
	*any = true;
}

static void add_input_image(struct buf *out, const cJSON *image, bool *any)
{
	const char *url = string_of(image, "url"), *detail = string_of(image, "detail");

	if (!url)
		return;
	if (!detail || (strcmp(detail, "low") && strcmp(detail, "high")))
		detail = "auto";
	buf_addf(out, "%s{\"type\":\"input_image\",\"detail\":\"%s\",\"image_url\":",
		 *any ? "," : "", detail);
	add_text(out, url);
	buf_addc(out, '}');
	*any = true;
}

/* user and system: the parts of what was sent, where that was more than a text. */
static void add_message(struct item_sink *sink, const struct store_message *m,
			const char *name)
{
	cJSON *raw;
	const cJSON *parts, *part;
	const char *type;
	bool any = false;

	if (!begin(sink, ITEM_MESSAGE, name, 0))
		return;
	buf_addf(&sink->out, ",\"type\":\"message\",\"role\":\"%s\",\"content\":[",
		 role_name(m->role));
	raw = m->raw_json ? json_parse(str_of(m->raw_json), NULL) : NULL;
	parts = cJSON_GetObjectItemCaseSensitive(raw, "content");
	if (cJSON_IsArray(parts))
		cJSON_ArrayForEach(part, parts)
		{
			type = string_of(part, "type");
			if (type && !strcmp(type, "text") && string_of(part, "text"))
				add_input_text(&sink->out, string_of(part, "text"), &any);
			else if (type && !strcmp(type, "image_url"))
				add_input_image(&sink->out,
						cJSON_GetObjectItemCaseSensitive(
							part, "image_url"),
						&any);
		}
	if (!any)
		add_input_text(&sink->out, m->text, &any);
	buf_adds(&sink->out, "]}");
	cJSON_Delete(raw);
}

void responses_add_items(struct item_sink *sink, const struct store_message *m,
			 const char *name, enum items_style style)
{
	if (m->role == ROLE_ASSISTANT)
		add_assistant(sink, m, name, style);
	else if (m->role == ROLE_TOOL)
		add_tool(sink, m, name);
	else
		add_message(sink, m, name);
}
