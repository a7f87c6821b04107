/* hob note: what every model shall know, or those of one conversation.
 *
 * Main thread.  Without a text it lists, as git does with branches and tags. */
#include "base/clock.h"
#include "cli/listing.h"

enum { OPT_JSON, OPT_NO_START, OPT_LIST, OPT_DELETE, OPT_CONVERSATION };

static const struct args_option options[] = {
	[OPT_JSON] = {"json", 0, NULL, "print the daemon's JSON"},
	[OPT_NO_START] = {"no-start", 0, NULL,
			  "fail (status 4) when the daemon is not running"},
	[OPT_LIST] = {"list", 'l', NULL, "list the notes; as without a TEXT"},
	[OPT_DELETE] = {"delete", 'd', "N", "delete the note of this number"},
	[OPT_CONVERSATION] = {"conversation", 'c', "ID",
			      "of this conversation; else of all"},
};

static const struct args_spec spec = {
	.command = "note",
	.usage = "[--conversation ID] [TEXT | --list | --delete N]",
	.summary =
		"Notes something that goes with every conversation, or with one; lists "
		"notes.",
	.options = options,
	.noptions = (int)ARRAY_LEN(options),
	.notes = "Example:  hob note My cat is called Mio.",
};

struct note {
	struct listing l;
	const char *conversation; /* NULL: all */
	int64_t number;           /* to delete; 0: none */
	bool list;
	struct buf text;
};

static int check(struct note *n)
{
	if ((n->text.len > 0) + n->list + (n->number > 0) > 1)
		return args_usage(&spec, "TEXT, --list, --delete N: one of them");
	if (n->conversation && !listing_is_id(n->conversation))
		return args_usage(&spec, "'%s' is no conversation's ID; see: hob history",
				  n->conversation);
	return 0;
}

/* True when the command may go on. */
static bool take_args(struct note *n, int argc, char **argv)
{
	struct args a;
	const char *value;
	int option;
	bool ok = true;

	args_init(&a, &spec, argc, argv);
	while (ok && (option = args_next(&a, &value)) >= 0) {
		n->l.json |= option == OPT_JSON;
		n->l.no_start |= option == OPT_NO_START;
		n->list |= option == OPT_LIST;
		if (option == OPT_DELETE)
			ok = args_int(&a, OPT_DELETE, value, 1, INT64_C(1) << 53,
				      &n->number);
		if (option == OPT_CONVERSATION)
			n->conversation = value;
	}
	for (int i = a.first; ok && i < argc; i++)
		buf_addf(&n->text, "%s%s", i > a.first ? " " : "", argv[i]);
	n->l.status = !ok || option == ARGS_STOP ? a.status : check(n);
	return ok && option == ARGS_END && !n->l.status;
}

static void print_list(const cJSON *tree)
{
	static const char *const head[] = {"N", "CONVERSATION", "NOTED", "TEXT"};
	static const bool right[] = {true, false, false, false};
	const cJSON *note, *notes = listing_array(tree, "notes");
	struct table t = {0};

	if (!cJSON_GetArraySize(notes)) {
		printf("No notes.  Make one: hob note TEXT\n");
		return;
	}
	table_head(&t, head, (int)ARRAY_LEN(head));
	cJSON_ArrayForEach(note, notes)
	{
		int64_t made_ms = listing_int(note, "created_ms", -1);
		char *scope = cell_string(note, "scope");

		if (!strcmp(scope, "-")) {
			free(scope);
			scope = xstrdup("all");
		}
		table_add(&t, cell_int(note, "id"));
		table_add(&t, scope);
		table_add(&t, cell_age(made_ms < 0 ? -1
						   : (clock_unix_ms() - made_ms) / 1000));
		table_add(&t, cell_string(note, "text"));
	}
	table_print(&t, (int)ARRAY_LEN(head), right);
}

static cJSON *add(struct note *n)
{
	struct buf body = {0};
	cJSON *tree;

	buf_addc(&body, '{');
	buf_add_json_text(&body, "text", n->text.data);
	if (n->conversation)
		buf_add_json_text(&body, "conversation", n->conversation);
	buf_addc(&body, '}');
	tree = listing_call(&n->l, "POST", "/v1/hob/notes", buf_str(&body));
	buf_free(&body);
	return tree;
}

static cJSON *fetch(struct note *n)
{
	struct buf path = {0};
	cJSON *tree;

	if (n->text.len)
		return add(n);
	buf_adds(&path, "/v1/hob/notes");
	if (n->number)
		buf_addf(&path, "/%lld", (long long)n->number);
	if (n->conversation)
		buf_addf(&path, "?conversation=%s", n->conversation);
	tree = n->number ? listing_call(&n->l, "DELETE", path.data, STR(""))
			 : listing_get(&n->l, path.data);
	buf_free(&path);
	return tree;
}

int cmd_note(int argc, char **argv)
{
	struct note n = {.l.spec = &spec};
	cJSON *tree = NULL;

	if (take_args(&n, argc, argv) && listing_connect(&n.l, true))
		tree = fetch(&n);
	if (tree && n.l.json)
		listing_print(tree);
	else if (tree && n.number)
		printf("Note %lld is deleted.\n", (long long)n.number);
	else if (tree && n.text.len)
		printf("Note %lld\n", (long long)listing_int(tree, "id", 0));
	else if (tree)
		print_list(tree);
	cJSON_Delete(tree);
	buf_free(&n.text);
	return listing_end(&n.l);
}
