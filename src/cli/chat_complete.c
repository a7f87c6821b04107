/* What Tab offers: commands, and after some of them models, conversations, personas or files.  Main
 * thread.
 *
 * Lists come from a running daemon only, and once: a Tab must neither start one nor wait for it again. */
#include "cli/chat.h"

#include <dirent.h>
#include <sys/stat.h>

#include "cli/models_list.h"

static bool goes_on(const char *candidate, const char *word)
{
	return !strncmp(candidate, word, strlen(word));
}

static void offer(struct lines_words *w, const char *candidate, const char *word)
{
	if (goes_on(candidate, word))
		lines_words_add(w, candidate, NULL);
}

static void commands(struct chat *ch, const char *word, struct lines_words *w)
{
	const char *name;

	UNUSED(ch);
	for (int i = 0; (name = chat_command_name(i)); i++)
		offer(w, name, word);
}

static void models(struct chat *ch, const char *word, struct lines_words *w)
{
	struct err e;

	if (!ch->models && ch->client)
		ch->models = models_list(ch->client, &e);
	for (int i = 0; ch->models && i < models_list_count(ch->models); i++)
		offer(w, models_list_name(ch->models, i), word);
}

static void personas(struct chat *ch, const char *word, struct lines_words *w)
{
	const cJSON *p;

	if (!ch->personas)
		ch->personas = chat_peek(ch, "/v1/hob/personas");
	cJSON_ArrayForEach(p, chat_array(ch->personas, "personas"))
		offer(w, chat_string(p, "name", ""), word);
}

static void conversations(struct chat *ch, const char *word, struct lines_words *w)
{
	cJSON *tree = chat_peek(ch, "/v1/hob/conversations?limit=50");
	const cJSON *row;

	cJSON_ArrayForEach(row, chat_array(tree, "conversations"))
	{
		const char *id = chat_string(row, "id", "");
		char *shown = xasprintf("%s  %s", id, chat_string(row, "title", ""));

		if (*id && goes_on(id, word))
			lines_words_add(w, id, shown);
		free(shown);
	}
	cJSON_Delete(tree);
}

static void switches(struct chat *ch, const char *word, struct lines_words *w)
{
	UNUSED(ch);
	offer(w, "on", word);
	offer(w, "off", word);
}

static void unescape(struct buf *out, const char *s)
{
	for (; *s; s++) {
		if (*s == '\\' && s[1])
			s++;
		buf_addc(out, *s);
	}
	buf_adds(out, "");
}

static void escape(struct buf *out, const char *s)
{
	for (; *s; s++) {
		if (strchr(" \t\\\"'*?[", *s))
			buf_addc(out, '\\');
		buf_addc(out, *s);
	}
}

static bool is_folder(const char *folder, const char *name)
{
	char *path = xasprintf("%s/%s", folder, name);
	struct stat st;
	bool yes = !stat(path, &st) && S_ISDIR(st.st_mode);

	free(path);
	return yes;
}

static void offer_file(struct lines_words *w, const char *folder,
		       const char *typed_folder, const char *name)
{
	bool is_dir = is_folder(folder, name);
	char *shown = xasprintf("%s%s", name, is_dir ? "/" : "");
	struct buf text = {0};

	buf_adds(&text, typed_folder);
	escape(&text, shown);
	lines_words_add(w, text.data, shown);
	buf_free(&text);
	free(shown);
}

/* The folder as typed stays as it is, "~" included. */
static void files(struct chat *ch, const char *word, struct lines_words *w)
{
	const char *slash = strrchr(word, '/'), *home = getenv("HOME");
	char *typed = xstrndup(word, slash ? (size_t)(slash + 1 - word) : 0), *folder;
	struct buf plain = {0}, begin = {0};
	struct dirent *entry;
	DIR *dir;

	UNUSED(ch);
	unescape(&plain, typed);
	unescape(&begin, slash ? slash + 1 : word);
	folder = !plain.len ? xstrdup(".")
		 : !strncmp(plain.data, "~/", 2) && home
			 ? xasprintf("%s%s", home, plain.data + 1)
			 : xstrdup(plain.data);
	dir = opendir(folder);
	while (dir && w->n < LINES_WORDS_MAX && (entry = readdir(dir))) {
		const char *name = entry->d_name;

		if (!goes_on(name, begin.data) || !strcmp(name, ".") ||
		    !strcmp(name, "..") || (*name == '.' && *begin.data != '.') ||
		    strpbrk(name, "\n\r\033"))
			continue;
		offer_file(w, folder, typed, name);
	}
	if (dir)
		closedir(dir);
	buf_free(&plain);
	buf_free(&begin);
	free(folder);
	free(typed);
}

/* Where the last word begins: behind a space that no backslash holds. */
static size_t last_word(const char *text)
{
	size_t at = 0;

	for (size_t i = 0; text[i]; i++) {
		if (text[i] == '\\' && text[i + 1])
			i++;
		else if (text[i] == ' ' || text[i] == '\t')
			at = i + 1;
	}
	return at;
}

void chat_complete(void *chat, const char *before, struct lines_words *w)
{
	static const struct {
		const char *command;
		void (*offer)(struct chat *ch, const char *word, struct lines_words *w);
	} table[] = {
		{"/model", models},       {"/regenerate", models}, {"/persona", personas},
		{"/open", conversations}, {"/file", files},        {"/save", files},
		{"/private", switches},
	};
	size_t n = strcspn(before, " \t");

	if (*before != '/')
		return;
	if (!before[n]) {
		commands(chat, before, w);
		return;
	}
	w->start = last_word(before);
	for (size_t i = 0; i < ARRAY_LEN(table); i++)
		if (strlen(table[i].command) == n &&
		    !strncmp(before, table[i].command, n))
			table[i].offer(chat, before + w->start, w);
}
