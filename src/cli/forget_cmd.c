/* hob forget: deletes conversations so that no byte of them is left in the database.
 *
 * Main thread.  There is no way back, so it asks on a terminal, and where nobody can be asked it wants
 * --yes.  Pinned conversations stay unless they are named, one by one or by --pinned. */
#include <errno.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/duration.h"
#include "cli/interrupt.h"
#include "cli/listing.h"

enum { OPT_JSON, OPT_NO_START, OPT_BEFORE, OPT_ALL, OPT_PINNED, OPT_YES };

static const struct args_option options[] = {
	[OPT_JSON] = {"json", 0, NULL, "print the daemon's JSON"},
	[OPT_NO_START] = {"no-start", 0, NULL,
			  "fail (status 4) when the daemon is not running"},
	[OPT_BEFORE] = {"before", 'b', "DATE",
			"those last used before: 2026-01-31, or 30d ago and earlier"},
	[OPT_ALL] = {"all", 'a', NULL, "all conversations"},
	[OPT_PINNED] = {"pinned", 'p', NULL, "pinned ones too"},
	[OPT_YES] = {"yes", 'y', NULL, "do not ask"},
};

static const struct args_spec spec = {
	.command = "forget",
	.usage = "[OPTION]... ID | --before DATE | --all",
	.summary = "Deletes conversations for good: no byte of their text stays in the "
		   "database.",
	.options = options,
	.noptions = (int)ARRAY_LEN(options),
	.notes = "Copies that `hob backup` or `hob export` made are yours to delete.",
};

struct order {
	struct listing l;
	const char *id;    /* or NULL */
	const char *date;  /* as written, or NULL */
	int64_t before_ms; /* 0: not asked */
	bool all, pinned, yes;
};

/* ---- arguments ---- */

/* "2026-01-31" at 0:00 here. */
static bool date_ms(const char *text, int64_t *ms)
{
	struct tm tm = {.tm_isdst = -1}, made;
	int end = 0;
	time_t t;

	if (strlen(text) != 10 ||
	    sscanf(text, "%4d-%2d-%2d%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &end) !=
		    3 ||
	    end != 10 || strspn(text, "0123456789-") != 10)
		return false;
	tm.tm_year -= 1900;
	tm.tm_mon--;
	made = tm;
	t = mktime(&made);
	if (t == (time_t)-1 || made.tm_mday != tm.tm_mday || made.tm_mon != tm.tm_mon ||
	    made.tm_year != tm.tm_year || t <= 0)
		return false;
	*ms = (int64_t)t * 1000;
	return true;
}

static int read_before(struct order *o)
{
	int64_t now = clock_unix_ms(), ago;
	bool is_number = !o->date[strspn(o->date, "0123456789.")];

	if (!date_ms(o->date, &o->before_ms)) {
		if (is_number || !duration_parse(o->date, &ago) ||
		    ago == DURATION_FOREVER || ago >= now)
			return args_usage(&spec,
					  "--before %s: not a date such as 2026-01-31, "
					  "nor a time such as 30d",
					  o->date);
		o->before_ms = now - ago;
	}
	if (o->before_ms > now)
		return args_usage(&spec,
				  "--before %s is in the future; to forget "
				  "everything use --all",
				  o->date);
	return 0;
}

static int check(struct order *o, int noperands)
{
	if (noperands > 1)
		return args_usage(&spec, "one ID at a time");
	if ((o->id != NULL) + (o->date != NULL) + o->all != 1)
		return args_usage(&spec, "one of ID, --before DATE and --all is needed");
	if (o->id && !listing_is_id(o->id))
		return args_usage(&spec, "'%s' is no conversation's ID; see: hob history",
				  o->id);
	if (o->date && read_before(o))
		return CLI_USAGE;
	if (!o->yes && !isatty(STDIN_FILENO))
		return args_usage(&spec, "nobody is there to be asked: say --yes");
	return 0;
}

/* True when the command may go on. */
static bool take_args(struct order *o, int argc, char **argv)
{
	struct args a;
	const char *value;
	int option;

	args_init(&a, &spec, argc, argv);
	while ((option = args_next(&a, &value)) >= 0) {
		o->l.json |= option == OPT_JSON;
		o->l.no_start |= option == OPT_NO_START;
		o->all |= option == OPT_ALL;
		o->pinned |= option == OPT_PINNED;
		o->yes |= option == OPT_YES;
		if (option == OPT_BEFORE)
			o->date = value;
	}
	if (option == ARGS_STOP) {
		o->l.status = a.status;
		return false;
	}
	o->id = a.first < argc ? argv[a.first] : NULL;
	o->l.status = check(o, argc - a.first);
	return !o->l.status;
}

/* ---- asking ---- */

static char *what_one(struct order *o)
{
	char *path = xasprintf("/v1/hob/conversations/%s", o->id), *title, *id, *text;
	cJSON *row = listing_get(&o->l, path);

	free(path);
	if (!row)
		return NULL;
	title = cell_string(row, "title");
	id = cell_string(row, "id");
	text = xasprintf("conversation %s, \"%s\", %lld messages", id, title,
			 (long long)listing_int(row, "message_count", 0));
	free(title);
	free(id);
	cJSON_Delete(row);
	return text;
}

/* What will be gone, in words; NULL and the status set when that cannot be said. */
static char *what(struct order *o)
{
	const char *but = o->pinned ? ", pinned ones too" : " but pinned ones";
	cJSON *figures;
	char *text;

	if (o->id)
		return what_one(o);
	if (o->date)
		return xasprintf("all conversations last used before %s%s", o->date, but);
	figures = listing_get(&o->l, "/v1/hob/memory");
	if (!figures)
		return NULL;
	text = xasprintf("all %lld conversations%s",
			 (long long)listing_int(figures, "conversations", 0), but);
	cJSON_Delete(figures);
	return text;
}

/* A line from the terminal; false when there is none, or Ctrl-C came. */
static bool read_answer(char *answer, int bytes)
{
	struct pollfd p[2] = {{.fd = STDIN_FILENO, .events = POLLIN},
			      {.fd = interrupt_fd(), .events = POLLIN}};

	while (poll(p, 2, -1) < 0 && errno == EINTR && !interrupt_pending())
		;
	return !interrupt_pending() && fgets(answer, bytes, stdin);
}

/* True: go on. */
static bool confirmed(struct order *o)
{
	char answer[16] = "", *text = o->yes ? NULL : what(o);

	if (o->yes)
		return true;
	if (!text)
		return false;
	fprintf(stderr, "Forget %s?  There is no way back. [y/N] ", text);
	fflush(stderr);
	free(text);
	if (read_answer(answer, sizeof answer) &&
	    (!strcasecmp(answer, "y\n") || !strcasecmp(answer, "yes\n")))
		return true;
	fprintf(stderr, "%sNothing was forgotten.\n", interrupt_pending() ? "\n" : "");
	o->l.status = interrupt_pending() ? CLI_INTERRUPTED : CLI_FAIL;
	return false;
}

/* ---- doing ---- */

static cJSON *forget(struct order *o)
{
	struct buf body = {0};
	cJSON *tree;

	buf_addc(&body, '{');
	if (o->id)
		buf_add_json_text(&body, "conversation", o->id);
	else if (o->all)
		buf_adds(&body, "\"all\":true");
	else
		buf_addf(&body, "\"before_ms\":%lld", (long long)o->before_ms);
	buf_addf(&body, ",\"pinned\":%s}", o->pinned ? "true" : "false");
	tree = listing_call(&o->l, "POST", "/v1/hob/forget", buf_str(&body));
	buf_free(&body);
	return tree;
}

static void print_forgotten(const cJSON *tree)
{
	int64_t bytes = listing_int(tree, "bytes", 0);
	int64_t n = listing_int(tree, "conversations", 0),
		messages = listing_int(tree, "messages", 0);
	char size[RENDER_SIZE_BYTES];

	printf("Forgotten: %lld conversation%s with %lld message%s", (long long)n,
	       n == 1 ? "" : "s", (long long)messages, messages == 1 ? "" : "s");
	if (bytes > 0)
		printf("; the file is %s smaller", render_size((uint64_t)bytes, size));
	printf(".\n");
}

int cmd_forget(int argc, char **argv)
{
	struct order o = {.l.spec = &spec};
	cJSON *tree = NULL;

	if (!take_args(&o, argc, argv))
		return o.l.status;
	if (!listing_connect(&o.l, true))
		return o.l.status;
	if (confirmed(&o))
		tree = forget(&o);
	if (tree && o.l.json)
		listing_print(tree);
	else if (tree)
		print_forgotten(tree);
	cJSON_Delete(tree);
	return listing_end(&o.l);
}
