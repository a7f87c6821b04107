/* What a request is: sizes, needs, kind of text.  Pure; loop thread.
 *
 * The question a reader will ask: why raw JSON is searched and not parsed.  A message with images holds
 * megabytes of base64; it was printed by ourselves without spaces, and a quote inside a string is
 * escaped, so that the bytes "type":"image_url" mean what they say. */
#include "route/features.h"

#include "base/json.h"

static int tokens_of_bytes(size_t bytes)
{
	size_t tokens = bytes * 2 / 7; /* bytes / 3.5 */

	return tokens < INT32_MAX / 4 ? (int)tokens : INT32_MAX / 4;
}

static int count_word(const char *json, const char *word)
{
	int n = 0;

	for (const char *p = json; (p = strstr(p, word)); p += strlen(word))
		n++;
	return n;
}

/* As OpenAI's chat completions, its responses API and Anthropic's messages write it. */
static int images_of(const struct message *m)
{
	if (!m->raw_json)
		return 0;
	return count_word(m->raw_json, "\"type\":\"image_url\"") +
	       count_word(m->raw_json, "\"type\":\"input_image\"") +
	       count_word(m->raw_json, "\"type\":\"image\"");
}

static bool has_tool_parts(const struct message *m)
{
	return m->role == ROLE_TOOL ||
	       (m->raw_json && strstr(m->raw_json, "\"tool_calls\":[{"));
}

/* Raw JSON with images is mostly base64: their number counts.  Without, it is tool calls. */
static int message_tokens(const struct message *m, int nimages)
{
	size_t bytes = strlen(m->text);

	if (m->raw_json && !nimages)
		bytes = strlen(m->raw_json);
	return tokens_of_bytes(bytes) + FEATURES_MESSAGE_TOKENS +
	       nimages * FEATURES_IMAGE_TOKENS;
}

int features_message_tokens(const struct message *m)
{
	return message_tokens(m, images_of(m));
}

static void add_tokens(struct features *f, int n)
{
	if (n > INT32_MAX - f->prompt_tokens)
		n = INT32_MAX - f->prompt_tokens;
	f->prompt_tokens += n;
}

/* The start of a text, cut between characters. */
static struct str scanned(const char *text)
{
	size_t n = strnlen(text, FEATURES_SCAN_BYTES);

	if (n == FEATURES_SCAN_BYTES)
		while (n > 0 && ((unsigned char)text[n] & 0xC0) == 0x80)
			n--;
	return (struct str){text, n};
}

void features_sizes(const struct request *r, const struct message *messages, int n,
		    struct features *out)
{
	const char *last = r->prompt ? r->prompt : "";

	*out = (struct features){.is_private = r->is_private,
				 .class = r->class,
				 .client = r->client_name,
				 .output_tokens = r->sampling.max_tokens > 0
							  ? r->sampling.max_tokens
							  : FEATURES_OUTPUT_TOKENS};
	for (int i = 0; i < n; i++) {
		int images = images_of(&messages[i]);

		out->nimages += images;
		out->tools |= has_tool_parts(&messages[i]);
		add_tokens(out, message_tokens(&messages[i], images));
		if (messages[i].role == ROLE_USER)
			last = messages[i].text;
	}
	if (r->prompt)
		add_tokens(out, tokens_of_bytes(strlen(r->prompt)));
	if (r->extra_json) /* tools and schemas are part of the prompt */
		add_tokens(out, tokens_of_bytes(strlen(r->extra_json)));
	out->last_user = scanned(last);
}

static bool has_elements(const cJSON *root, const char *key)
{
	const cJSON *list = cJSON_GetObjectItemCaseSensitive(root, key);

	return cJSON_IsArray(list) && list->child;
}

/* Tools that may not be called (tool_choice none) are none. */
static bool wants_tools(const cJSON *root)
{
	const cJSON *choice = cJSON_GetObjectItemCaseSensitive(root, "tool_choice");

	if (cJSON_IsString(choice) && !strcmp(choice->valuestring, "none"))
		return false;
	return has_elements(root, "tools") || has_elements(root, "functions");
}

static bool wants_structure(const cJSON *root)
{
	const cJSON *format = cJSON_GetObjectItemCaseSensitive(root, "response_format");
	const cJSON *type = cJSON_GetObjectItemCaseSensitive(format, "type");

	if (cJSON_IsString(type) && strcmp(type->valuestring, "text"))
		return true;
	return cJSON_HasObjectItem(root, "json_schema") ||
	       cJSON_HasObjectItem(root, "guided_json") ||
	       cJSON_HasObjectItem(root, "grammar");
}

static void read_extra(const char *json, struct features *out)
{
	cJSON *root = json ? json_parse(str_of(json), NULL) : NULL;

	if (!root)
		return;
	out->tools |= wants_tools(root);
	out->structured = wants_structure(root);
	cJSON_Delete(root);
}

void features_of(const struct request *r, const struct message *messages, int n,
		 struct features *out)
{
	features_sizes(r, messages, n, out);
	read_extra(r->extra_json, out);
	out->ncodes = features_codes(out->last_user, out->codes);
}
