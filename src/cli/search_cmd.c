/* hob search: where in all conversations something was said.
 *
 * Main thread.  The daemon marks what matched with two control characters; they become bold type on a
 * terminal and stars elsewhere, and everything between them goes through the filter as always. */
#include <unistd.h>

#include "base/clock.h"
#include "cli/listing.h"

enum { OPT_JSON, OPT_NO_START, OPT_LIMIT, OPT_IN, MATCH_BEGINS = 2, MATCH_ENDS = 3 };

static const struct args_option options[] = {
	[OPT_JSON] = {"json", 0, NULL, "print the daemon's JSON"},
	[OPT_NO_START] = {"no-start", 0, NULL,
			  "fail (status 4) when the daemon is not running"},
	[OPT_LIMIT] = {"limit", 'n', "N", "print at most so many; 20"},
	[OPT_IN] = {"in", 'i', "ID", "look in this conversation only"},
};

static const struct args_spec spec = {
	.command = "search",
	.usage = "[OPTION]... WORDS...",
	.summary = "Looks for words in all conversations, best match first.",
	.options = options,
	.noptions = (int)ARRAY_LEN(options),
	.notes =
		"All words must be in a message.  '\"two words\"' in quotes of its own stand together,\n"
		"word* begins a word, and behind -- a -word must not be there:  hob search -- hob -cat",
};

struct query {
	struct listing l;
	int64_t limit;
	const char *in; /* NULL: everywhere */
	struct buf words;
};

/* True when the command may go on. */
static bool take_args(struct query *q, int argc, char **argv)
{
	struct args a;
	const char *value;
	int option;
	bool ok = true;

	args_init(&a, &spec, argc, argv);
	while (ok && (option = args_next(&a, &value)) >= 0) {
		q->l.json |= option == OPT_JSON;
		q->l.no_start |= option == OPT_NO_START;
		if (option == OPT_LIMIT)
			ok = args_int(&a, OPT_LIMIT, value, 1, 200, &q->limit);
		if (option == OPT_IN)
			q->in = value;
	}
	for (int i = a.first; ok && i < argc; i++)
		buf_addf(&q->words, "%s%s", i > a.first ? " " : "", argv[i]);
	if (!ok || option == ARGS_STOP)
		q->l.status = a.status;
	else if (!q->words.len || !q->words.data[strspn(q->words.data, " ")])
		q->l.status = args_usage(&spec, "what shall be looked for?");
	else if (q->in && !listing_is_id(q->in))
		q->l.status = args_usage(
			&spec, "'%s' is no conversation's ID; see: hob history", q->in);
	else
		return true;
	return false;
}

/* Piece by piece, so that the filter never sees a mark. */
static char *snippet(const char *text, bool colour)
{
	static const char marks[] = {MATCH_BEGINS, MATCH_ENDS, 0};
	struct buf out = {0};

	while (*text) {
		size_t n = strcspn(text, marks);
		char *piece = xstrndup(text, n), *line = render_line(piece);

		buf_adds(&out, line);
		free(piece);
		free(line);
		text += n;
		if (!*text)
			break;
		buf_adds(&out, !colour                 ? "*"
			       : *text == MATCH_BEGINS ? "\033[1m"
						       : "\033[0m");
		text++;
	}
	if (colour)
		buf_adds(&out, "\033[0m");
	return out.data ? buf_take(&out, NULL) : xstrdup("");
}

static void print_hit(const cJSON *hit, bool colour)
{
	int64_t created_ms = listing_int(hit, "created_ms", -1);
	char *id = cell_string(hit, "conversation"), *title = cell_string(hit, "title"),
	     *role = cell_string(hit, "role"), *text,
	     *age = cell_age(created_ms < 0 ? -1 : (clock_unix_ms() - created_ms) / 1000);
	const char *found = "";

	json_string(hit, "snippet", &found, NULL);
	text = snippet(found, colour);
	printf("%s  %s, %s: %s\n  %s\n\n", id, role, age, title, text);
	free(id);
	free(title);
	free(role);
	free(age);
	free(text);
}

static void print_hits(const cJSON *tree)
{
	const cJSON *hit, *hits = listing_array(tree, "hits");
	bool colour = render_colour(STDOUT_FILENO);

	if (!cJSON_GetArraySize(hits))
		printf("Nothing found.\n");
	cJSON_ArrayForEach(hit, hits)
	{
		print_hit(hit, colour);
	}
}

static cJSON *fetch(struct query *q)
{
	struct buf path = {0};
	cJSON *tree;

	buf_addf(&path, "/v1/hob/search?limit=%lld&q=", (long long)q->limit);
	buf_add_escaped(&path, q->words.data);
	if (q->in)
		buf_addf(&path, "&conversation=%s", q->in);
	tree = listing_get(&q->l, path.data);
	buf_free(&path);
	return tree;
}

int cmd_search(int argc, char **argv)
{
	struct query q = {.l.spec = &spec, .limit = 20};
	cJSON *tree;

	if (!take_args(&q, argc, argv) || !listing_connect(&q.l, true)) {
		buf_free(&q.words);
		return q.l.status;
	}
	tree = fetch(&q);
	if (tree && q.l.json)
		listing_print(tree);
	else if (tree)
		print_hits(tree);
	cJSON_Delete(tree);
	buf_free(&q.words);
	return listing_end(&q.l);
}
