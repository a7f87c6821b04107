/* A conversation as Markdown.
 *
 * Any thread; pure.  Headings of the first two levels are ours alone (markdown_inset.c sees to it),
 * so that a message that contains "## Assistant" cannot pass for an answer. */
#include "memory/markdown_out.h"

#include <time.h>
#include "memory/markdown_inset.h"
#include "memory/move_tree.h"

static void add_date(struct buf *out, int64_t ms)
{
	time_t t = (time_t)(ms / 1000);
	struct tm tm;
	char text[64] = "?";

	if (gmtime_r(&t, &tm))
		strftime(text, sizeof(text), "%Y-%m-%d %H:%M UTC", &tm);
	buf_adds(out, text);
}

static void add_name(struct buf *out, const char *before, const char *name,
		     const char *after)
{
	if (!name || !*name)
		return;
	buf_adds(out, before);
	inset_plain(out, str_of(name));
	buf_adds(out, after);
}

static void add_head(struct buf *out, const struct move_conversation *c)
{
	buf_adds(out, "# ");
	inset_plain(out, str_of(*c->title ? c->title : "Conversation"));
	buf_adds(out, "\n\n");
	add_name(out, "- Model: ", c->model, "\n");
	buf_adds(out, "- Date: ");
	add_date(out, c->created_ms);
	buf_adds(out, "\n");
	add_name(out, "- Conversation: ", c->id, "\n");
}

static const char *text_at(const cJSON *obj, const char *key)
{
	const char *text = "";

	json_string(obj, key, &text, NULL);
	return text;
}

/* "image/png, 12 KiB" of a data: URL, the URL itself of others. */
static void describe_url(struct buf *out, const char *url)
{
	const char *comma = strchr(url, ',');
	enum { SHOWN = 200 };

	if (!strncmp(url, "data:", 5) && comma) {
		size_t bytes = strlen(comma + 1);

		inset_plain(out, (struct str){url + 5, strcspn(url + 5, ";,")});
		if (comma - url >= 7 && !memcmp(comma - 7, ";base64", 7))
			bytes = bytes / 4 * 3;
		buf_addf(out, ", about %zu KiB", (bytes + 1023) / 1024);
		return;
	}
	inset_plain(out, (struct str){url, strnlen(url, SHOWN)});
}

/* A part of a message's content that is not text. */
static void add_attachment(struct buf *out, const cJSON *part)
{
	const char *type = text_at(part, "type");
	const cJSON *image = cJSON_GetObjectItemCaseSensitive(part, "image_url"),
		    *file = cJSON_GetObjectItemCaseSensitive(part, "file"),
		    *audio = cJSON_GetObjectItemCaseSensitive(part, "input_audio");

	buf_adds(out, "\n*Attachment: ");
	inset_plain(out, str_of(*type ? type : "?"));
	if (image) {
		buf_adds(out, ", ");
		describe_url(out, cJSON_IsString(image) ? image->valuestring
							: text_at(image, "url"));
	}
	add_name(out, ", ", text_at(file, "filename"), "");
	if (*text_at(file, "file_data")) {
		buf_adds(out, ", ");
		describe_url(out, text_at(file, "file_data"));
	}
	add_name(out, ", ", text_at(audio, "format"), "");
	buf_adds(out, "*\n");
}

static void add_tool_call(struct buf *out, const cJSON *call)
{
	const cJSON *function = cJSON_GetObjectItemCaseSensitive(call, "function");

	buf_adds(out, "\nTool call: ");
	inset_plain(out, str_of(text_at(function, "name")));
	add_name(out, " (", text_at(call, "id"), ")");
	buf_adds(out, "\n\n");
	inset_fence(out, "json", str_of(text_at(function, "arguments")));
}

/* What a message holds besides its text. */
static void add_more(struct buf *out, const cJSON *raw)
{
	const cJSON *content = cJSON_GetObjectItemCaseSensitive(raw, "content"),
		    *calls = cJSON_GetObjectItemCaseSensitive(raw, "tool_calls"), *item;

	if (cJSON_IsArray(content))
		cJSON_ArrayForEach(item, content)
		{
			if (strcmp(text_at(item, "type"), "text"))
				add_attachment(out, item);
		}
	if (cJSON_IsArray(calls))
		cJSON_ArrayForEach(item, calls) add_tool_call(out, item);
}

static void add_heading(struct buf *out, const struct move_tree *t, int at,
			const cJSON *raw)
{
	static const char *const names[] = {[ROLE_SYSTEM] = "System",
					    [ROLE_USER] = "User",
					    [ROLE_ASSISTANT] = "Assistant",
					    [ROLE_TOOL] = "Tool"};
	const struct move_node *node = &t->nodes[at];

	buf_addf(out, "\n## %s", names[node->line.message.role]);
	if (node->turn >= 0)
		add_name(out, " (", t->turns[node->turn].turn.row.model, ")");
	add_name(out, " (", text_at(raw, "tool_call_id"), ")");
	buf_adds(out, "\n");
}

static void add_message(struct buf *out, const struct move_tree *t, int at)
{
	const struct move_message *m = &t->nodes[at].line.message;
	cJSON *raw = m->raw_json ? json_parse(str_of(m->raw_json), NULL) : NULL;

	add_heading(out, t, at, raw);
	if (m->reasoning && *m->reasoning) {
		buf_adds(out, "\n> Reasoning:\n>\n");
		inset_quote(out, str_of(m->reasoning));
	}
	if (*m->text) {
		buf_addc(out, '\n');
		if (m->role == ROLE_TOOL)
			inset_fence(out, "", str_of(m->text));
		else
			inset_text(out, str_of(m->text));
	}
	add_more(out, raw);
	cJSON_Delete(raw);
}

int markdown_out(struct str jsonl, struct buf *out, struct err *e)
{
	struct move_tree t;
	int line_no = 0, n, rc = move_tree_read(&jsonl, &line_no, &t, e), *path;

	if (rc <= 0)
		return rc < 0 ? -1 : err_set(e, ERR_INVALID, "no conversation");
	add_head(out, &t.header.conversation);
	path = move_tree_path(&t, t.head, &n);
	for (int i = 0; i < n; i++)
		add_message(out, &t, path[i]);
	free(path);
	move_tree_free(&t);
	return 0;
}
