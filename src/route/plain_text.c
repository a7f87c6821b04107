/* Messages that hold more than text, as text.
 *
 * Pure.  The question a reader will ask is why a result becomes a user's message: templates of models without
 * tools know no other role that could say it, and some refuse what they do not know.  A message whose raw
 * form cannot be read still says that there was something. */
#include "route/plain_text.h"

#include "base/json.h"

struct plain_text {
	cJSON *answer; /* owned: the last assistant message with calls; NULL: a user spoke since */
};

struct plain_text *plain_text_new(void)
{
	return xcalloc(1, sizeof(struct plain_text));
}

void plain_text_free(struct plain_text *p)
{
	if (p)
		cJSON_Delete(p->answer);
	free(p);
}

/* ---- pieces */

static void new_line(struct buf *out)
{
	if (out->len && out->data[out->len - 1] != '\n')
		buf_addc(out, '\n');
}

static const char *member(const cJSON *o, const char *key)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);

	return cJSON_IsString(v) ? v->valuestring : "";
}

/* Not in the middle of a character. */
static void add_cut(struct buf *out, const char *text, size_t most)
{
	size_t bytes = strlen(text), n = bytes < most ? bytes : most;

	while (n < bytes && n > 0 && ((unsigned char)text[n] & 0xC0) == 0x80)
		n--;
	buf_add(out, text, n);
	if (n < bytes)
		buf_addf(out, "... (cut, %zu KB in all)", (bytes + 1023) / 1024);
}

static const char *part_name(const char *type)
{
	static const char *const names[][2] = {
		{"image_url", "image"}, {"input_image", "image"},
		{"image", "image"},     {"input_audio", "audio"},
		{"audio", "audio"},     {"input_file", "file"},
		{"file", "file"}};

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (!strcmp(type, names[i][0]))
			return names[i][1];
	return "attachment";
}

/* Texts follow each other as they are: so they do in the message's text. */
static void add_parts(struct buf *out, const cJSON *parts)
{
	const cJSON *part;
	bool inset = false;

	cJSON_ArrayForEach(part, parts)
	{
		const char *type = member(part, "type");
		bool words = !strcmp(type, "text") || !strcmp(type, "refusal");

		if (words && !*member(part, type))
			continue;
		if (inset || !words)
			new_line(out);
		if (words)
			buf_adds(out, member(part, type));
		else
			buf_addf(out, "[%s]", part_name(type));
		inset = !words;
	}
}

static void add_content(struct buf *out, const struct message *m, const cJSON *raw)
{
	const cJSON *content = cJSON_GetObjectItemCaseSensitive(raw, "content");

	if (cJSON_IsArray(content))
		add_parts(out, content);
	else if (*m->text)
		buf_adds(out, m->text);
	else
		buf_adds(out, member(raw, "refusal"));
}

/* ---- calls and results */

static const char *name_or(const char *name)
{
	return *name ? name : "a tool";
}

static void add_call(struct buf *out, const cJSON *function)
{
	new_line(out);
	buf_addf(out, "[called %.200s(", name_or(member(function, "name")));
	add_cut(out, member(function, "arguments"), PLAIN_ARGUMENTS_BYTES);
	buf_adds(out, ")]");
}

static const cJSON *calls_of(const cJSON *raw)
{
	const cJSON *calls = cJSON_GetObjectItemCaseSensitive(raw, "tool_calls");

	return cJSON_IsArray(calls) && calls->child ? calls : NULL;
}

static const cJSON *function_of(const cJSON *call)
{
	return cJSON_GetObjectItemCaseSensitive(call, "function");
}

static void add_calls(struct buf *out, const cJSON *raw)
{
	/* as it was said before there were several at once */
	const cJSON *call, *old = cJSON_GetObjectItemCaseSensitive(raw, "function_call");

	cJSON_ArrayForEach(call, calls_of(raw)) add_call(out, function_of(call));
	if (cJSON_IsObject(old))
		add_call(out, old);
}

static const char *caller(const struct plain_text *p, const cJSON *result)
{
	const char *id = member(result, "tool_call_id");
	const cJSON *call;

	cJSON_ArrayForEach(call, calls_of(p->answer)) if (
		*id &&
		!strcmp(id, member(call, "id"))) return name_or(member(function_of(call),
								       "name"));
	return name_or(member(result, "name"));
}

static void add_result(struct buf *out, const struct plain_text *p,
		       const struct message *m, const cJSON *raw)
{
	struct buf text = {0};

	add_content(&text, m, raw);
	buf_addf(out, "[result of %.200s: ", caller(p, raw));
	add_cut(out, text.data ? text.data : "", PLAIN_RESULT_BYTES);
	buf_addc(out, ']');
	buf_free(&text);
}

/* ---- a message */

static void remember(struct plain_text *p, const struct message *m, cJSON *raw)
{
	if (m->role == ROLE_TOOL) {
		cJSON_Delete(raw);
		return;
	}
	cJSON_Delete(p->answer);
	p->answer = raw;
}

bool plain_text_next(struct plain_text *p, const struct message *m, struct message *out)
{
	struct buf text = {0};
	cJSON *raw = m->raw_json ? json_parse(str_of(m->raw_json), NULL) : NULL;
	bool is_plain = !m->raw_json && m->role != ROLE_TOOL;

	if (!is_plain && m->role == ROLE_TOOL)
		add_result(&text, p, m, raw);
	else if (!is_plain)
		add_content(&text, m, raw);
	if (m->role == ROLE_ASSISTANT)
		add_calls(&text, raw);
	if (!is_plain && !text.len)
		buf_adds(&text, "[attachment]");
	remember(p, m, raw);
	if (is_plain)
		return false;
	*out = (struct message){.role = m->role == ROLE_TOOL ? ROLE_USER : m->role,
				.text = buf_take(&text, NULL)};
	return true;
}
