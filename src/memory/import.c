/* The table of foreign formats, and hob's own.
 *
 * A command's thread.  A file is known by what it holds: names and endings lie. */
#include "memory/import_formats.h"

#include "memory/move_json.h"

/* ---- hob's own lines: cut into conversations, not read ---- */

static bool begins(struct str line)
{
	return str_starts(line, "{\"hob\"");
}

static bool sniff_hob(struct str text)
{
	while (text.len && strchr(" \t\r\n", text.ptr[0])) {
		text.ptr++;
		text.len--;
	}
	return begins(text);
}

static int convert_hob(const struct import_in *in, import_sink *sink, void *arg,
		       struct import_counts *counts, struct err *e)
{
	struct str rest = in->text, line;
	const char *from = NULL;

	while (move_next(&rest, &line)) {
		if (!begins(line)) {
			counts->messages += str_starts(line, "{\"hash\"");
			continue;
		}
		if (from &&
		    sink(arg, (struct str){from, (size_t)(line.ptr - from)}, e) < 0)
			return -1;
		from = line.ptr;
		counts->conversations++;
	}
	if (!from)
		return err_set(e, ERR_INVALID, "no line of a conversation in it");
	return sink(arg, (struct str){from, (size_t)(rest.ptr - from)}, e);
}

const struct import_format import_formats[] = {
	{"jsonl", "hob's own lines", sniff_hob, convert_hob, false},
	{"llm", "logs.db of the program llm", import_llm_sniff, import_llm, true},
	{"chatgpt", "conversations.json of ChatGPT's export", import_chatgpt_sniff,
	 import_chatgpt, false},
	{"openai", "OpenAI's messages", import_openai_sniff, import_openai, false},
	{0},
};

const struct import_format *import_format_by_name(const char *name)
{
	for (const struct import_format *f = import_formats; f->name; f++)
		if (!strcmp(f->name, name))
			return f;
	return NULL;
}

const struct import_format *import_format_sniff(struct str text)
{
	for (const struct import_format *f = import_formats; f->name; f++)
		if (f->sniff(text))
			return f;
	return NULL;
}
