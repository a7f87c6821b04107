/* hob history: conversations as a list or one as text; pins and titles.
 *
 * Main thread.  Changing comes as options of the same command, since who looks at the list is who sees that a
 * title is wrong. */
#include <unistd.h>

#include "base/clock.h"
#include "cli/listing.h"

enum { OPT_JSON, OPT_NO_START, OPT_LIMIT, OPT_PIN, OPT_UNPIN, OPT_TITLE };

static const struct args_option options[] = {
	[OPT_JSON] = {"json", 0, NULL, "print the daemon's JSON"},
	[OPT_NO_START] = {"no-start", 0, NULL,
			  "fail (status 4) when the daemon is not running"},
	[OPT_LIMIT] = {"limit", 'n', "N", "list at most so many; 50"},
	[OPT_PIN] = {"pin", 0, "ID", "keep this one whatever the limits say"},
	[OPT_UNPIN] = {"unpin", 0, "ID", "let it be forgotten by the limits again"},
	[OPT_TITLE] = {"title", 0, "ID", "give this one the title TEXT"},
};

static const struct args_spec spec = {
	.command = "history",
	.usage = "[-n N] [--json] [ID] | --pin ID | --unpin ID | --title ID TEXT",
	.summary = "Lists the conversations, or prints one; ID may be last.",
	.options = options,
	.noptions = (int)ARRAY_LEN(options),
	.notes = "Go on with one by: hob chat --conversation ID\n"
		 "Incognito conversations are in no list.",
};

struct history {
	struct listing l;
	int64_t limit;
	const char *id; /* NULL: all of them */
	int change;     /* OPT_PIN, OPT_UNPIN, OPT_TITLE; -1: none */
	struct buf title;
};

/* ---- arguments ---- */

static int take_operands(struct history *h, int argc, char **argv)
{
	if (h->change == OPT_TITLE) {
		for (int i = 0; i < argc; i++)
			buf_addf(&h->title, "%s%s", i ? " " : "", argv[i]);
		if (!h->title.len)
			return args_usage(&spec, "--title needs a TEXT behind the ID");
		return 0;
	}
	if (argc > (h->change < 0 ? 1 : 0))
		return args_usage(&spec, "'%s' is one argument too many", argv[argc - 1]);
	if (argc)
		h->id = argv[0];
	return 0;
}

/* True when the command may go on. */
static bool take_args(struct history *h, int argc, char **argv)
{
	struct args a;
	const char *value;
	int option;
	bool ok = true;

	args_init(&a, &spec, argc, argv);
	while (ok && (option = args_next(&a, &value)) >= 0) {
		h->l.json |= option == OPT_JSON;
		h->l.no_start |= option == OPT_NO_START;
		if (option == OPT_LIMIT)
			ok = args_int(&a, OPT_LIMIT, value, 1, 1000, &h->limit);
		if (option < OPT_PIN)
			continue;
		if (h->change >= 0)
			a.status = args_usage(
				&spec, "--pin, --unpin, --title: one of them, once");
		ok = h->change < 0;
		h->change = option;
		h->id = value;
	}
	if (!ok || option == ARGS_STOP)
		h->l.status = a.status;
	else
		h->l.status = take_operands(h, argc - a.first, argv + a.first);
	if (ok && option == ARGS_END && !h->l.status && h->id && !listing_is_id(h->id))
		h->l.status = args_usage(
			&spec, "'%s' is no conversation's ID; see: hob history", h->id);
	return ok && option == ARGS_END && !h->l.status;
}

/* ---- the list ---- */

static bool flag(const cJSON *row, const char *key)
{
	bool value = false;

	json_bool(row, key, &value, NULL);
	return value;
}

static char *cell_marks(const cJSON *row)
{
	static const char *const keys[] = {"pinned", "private"};
	struct buf marks = {0};

	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		if (flag(row, keys[i]))
			buf_addf(&marks, "%s%s", marks.len ? ", " : "", keys[i]);
	return marks.len ? buf_take(&marks, NULL) : xstrdup("-");
}

static void print_list(const cJSON *tree)
{
	static const char *const head[] = {"ID",      "MESSAGES", "MODEL",
					   "UPDATED", "MARKS",    "TITLE"};
	static const bool right[] = {false, true, false, false, false, false};
	const cJSON *c, *list = listing_array(tree, "conversations");
	struct table t = {0};

	if (!cJSON_GetArraySize(list)) {
		printf("No conversations yet.  Start one: hob chat\n");
		return;
	}
	table_head(&t, head, (int)ARRAY_LEN(head));
	cJSON_ArrayForEach(c, list)
	{
		int64_t updated_ms = listing_int(c, "updated_ms", -1);

		if (t.ncells >= TABLE_MAX_CELLS)
			break;
		table_add(&t, cell_string(c, "id"));
		table_add(&t, cell_int(c, "message_count"));
		table_add(&t, cell_string(c, "model"));
		table_add(&t, cell_age(updated_ms < 0
					       ? -1
					       : (clock_unix_ms() - updated_ms) / 1000));
		table_add(&t, cell_marks(c));
		table_add(&t, cell_string(c, "title"));
	}
	table_print(&t, (int)ARRAY_LEN(head), right);
}

/* ---- one ---- */

static void print_message(const char *role, const char *note, const char *content)
{
	bool colour = render_colour(STDOUT_FILENO);
	char *text = render_text(content);

	printf("%s%s%s:%s\n%s\n\n", colour ? "\033[1m" : "", role, note,
	       colour ? "\033[0m" : "", text);
	free(text);
}

/* What an answer that did not end well came to is not among the messages. */
static void print_partial(const cJSON *tree)
{
	const char *partial = NULL;
	char *status, *note;

	if (json_string(tree, "partial", &partial, NULL) != 1 || !*partial)
		return;
	status = cell_string(tree, "status");
	note = xasprintf(" (%s)", status);
	print_message("assistant", note, partial);
	free(note);
	free(status);
}

static void print_one(const cJSON *tree)
{
	const cJSON *m, *messages = listing_array(tree, "messages");

	if (!cJSON_GetArraySize(messages))
		printf("No messages.\n");
	cJSON_ArrayForEach(m, messages)
	{
		const char *content = "";
		char *role = cell_string(m, "role");

		json_string(m, "content", &content, NULL);
		print_message(role, "", content);
		free(role);
	}
	print_partial(tree);
}

/* ---- changes ---- */

static cJSON *change(struct history *h, const char *path)
{
	struct buf body = {0};
	cJSON *row;

	buf_addc(&body, '{');
	if (h->change == OPT_TITLE)
		buf_add_json_text(&body, "title", h->title.data);
	else
		buf_addf(&body, "\"pinned\":%s", h->change == OPT_PIN ? "true" : "false");
	buf_addc(&body, '}');
	row = listing_call(&h->l, "PATCH", path, buf_str(&body));
	buf_free(&body);
	return row;
}

static void print_changed(const cJSON *row)
{
	char *id = cell_string(row, "id"), *title = cell_string(row, "title");

	printf("%s: %s%s\n", id, title, flag(row, "pinned") ? " (pinned)" : "");
	free(id);
	free(title);
}

static cJSON *fetch(struct history *h)
{
	char *path = h->id ? xasprintf("/v1/hob/conversations/%s", h->id)
			   : xasprintf("/v1/hob/conversations?limit=%lld",
				       (long long)h->limit);
	cJSON *tree = h->change >= 0 ? change(h, path) : listing_get(&h->l, path);

	free(path);
	return tree;
}

int cmd_history(int argc, char **argv)
{
	struct history h = {.l.spec = &spec, .limit = 50, .change = -1};
	cJSON *tree = NULL;

	if (!take_args(&h, argc, argv) || !listing_connect(&h.l, true)) {
		buf_free(&h.title);
		return h.l.status;
	}
	tree = fetch(&h);
	if (tree && h.l.json)
		listing_print(tree);
	else if (tree && h.change >= 0)
		print_changed(tree);
	else if (tree && h.id)
		print_one(tree);
	else if (tree)
		print_list(tree);
	cJSON_Delete(tree);
	buf_free(&h.title);
	return listing_end(&h.l);
}
