/* Other conversations: /list, /search and /open.  Main thread.
 *
 * What is listed is numbered, because nobody types an id of 26 characters. */
#include "cli/chat.h"

#include <unistd.h>

#include "base/clock.h"
#include "cli/render.h"

enum { LISTED = 20, MARK_BEGIN = 2, MARK_END = 3 };

void chat_found_clear(struct chat *ch)
{
	while (ch->nfound)
		free(ch->found[--ch->nfound]);
}

/* The number it gets, 0: there is no room. */
static int add_found(struct chat *ch, const char *id)
{
	if (!chat_is_id(id) || ch->nfound == (int)ARRAY_LEN(ch->found))
		return 0;
	ch->found[ch->nfound++] = xstrdup(id);
	return ch->nfound;
}

static void print_age(const cJSON *row, const char *key)
{
	char age[RENDER_AGE_BYTES];
	int64_t at = 0;

	if (json_int(row, key, 0, (int64_t)1 << 53, &at, NULL) == 1)
		printf(", %s", render_age((clock_unix_ms() - at) / 1000, age));
}

void chat_do_list(struct chat *ch, const char *arg)
{
	cJSON *tree =
		chat_call(ch, "GET", NULL, "/v1/hob/conversations?limit=%d", LISTED);
	const cJSON *row;

	UNUSED(arg);
	if (!tree)
		return;
	chat_found_clear(ch);
	cJSON_ArrayForEach(row, chat_array(tree, "conversations"))
	{
		const char *id = chat_string(row, "id", "");
		bool current = ch->conversation && !strcmp(ch->conversation, id);
		char *title = render_line(chat_string(row, "title", ""));
		int n = add_found(ch, id);

		if (n) {
			printf("%c%2d  %s", current ? '*' : ' ', n, *title ? title : id);
			print_age(row, "updated_ms");
			putchar('\n');
		}
		free(title);
	}
	if (!ch->nfound)
		chat_say(ch, "(no conversations yet)");
	cJSON_Delete(tree);
}

/* Matches in bold; the rest filtered. */
static void print_snippet(const char *snippet)
{
	bool colour = render_colour(STDOUT_FILENO);

	while (*snippet) {
		size_t n = strcspn(snippet, "\002\003");
		char *part = xstrndup(snippet, n), *line = render_line(part);

		fputs(line, stdout);
		free(line);
		free(part);
		snippet += n;
		if (*snippet && colour)
			fputs(*snippet == MARK_BEGIN ? "\033[1m" : "\033[0m", stdout);
		snippet += *snippet != '\0';
	}
	printf("%s\n", colour ? "\033[0m" : "");
}

void chat_do_search(struct chat *ch, const char *arg)
{
	struct buf query = {0};
	const cJSON *hit;
	cJSON *tree;

	if (!*arg) {
		chat_complain(ch, "/search WORDS");
		chat_fail(ch, CLI_USAGE);
		return;
	}
	buf_add_escaped(&query, arg);
	tree = chat_call(ch, "GET", NULL, "/v1/hob/search?limit=%d&q=%s", LISTED,
			 query.data);
	buf_free(&query);
	if (!tree)
		return;
	chat_found_clear(ch);
	cJSON_ArrayForEach(hit, chat_array(tree, "hits"))
	{
		char *title = render_line(chat_string(hit, "title", ""));
		const char *id = chat_string(hit, "conversation", "");
		int n = add_found(ch, id);

		if (n) {
			printf("%2d  %s", n, *title ? title : id);
			print_age(hit, "created_ms");
			printf("\n    ");
			print_snippet(chat_string(hit, "snippet", ""));
		}
		free(title);
	}
	if (ch->nfound)
		chat_say(ch, "(/open N goes on with one)");
	else
		chat_say(ch, "(nothing found)");
	cJSON_Delete(tree);
}

void chat_do_open(struct chat *ch, const char *arg)
{
	int64_t n = 0;
	char *id;

	if (str_to_i64(str_of(arg), 1, (int64_t)ARRAY_LEN(ch->found), &n)) {
		if (n > ch->nfound) {
			chat_complain(ch, "no number %lld: /list or /search first",
				      (long long)n);
			chat_fail(ch, CLI_USAGE);
			return;
		}
		arg = ch->found[n - 1];
	}
	if (!chat_is_id(arg)) {
		chat_complain(ch, "/open N or /open ID; /list shows them");
		chat_fail(ch, CLI_USAGE);
		return;
	}
	id = xstrdup(arg);
	chat_open(ch, id);
	free(id);
}
