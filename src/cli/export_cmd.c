/* `hob export`: conversations to files or to standard output.
 *
 * Main thread.  The daemon gives its own JSON lines; Markdown and OpenAI's messages are made from them
 * here, so that a large conversation costs the daemon no more than its copy.  A file gets its name when
 * it is whole: what stood there before is not lost to a half export. */
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cli/ask.h"
#include "cli/interrupt.h"
#include "cli/listing.h"
#include "memory/markdown_out.h"
#include "memory/openai_out.h"
#include "memory/store_move.h"

enum { OPT_ALL, OPT_OUTPUT, OPT_FORMAT, OPT_NO_START, PAGE = 500 };

static const struct args_option options[] = {
	[OPT_ALL] = {"all", 'a', NULL,
		     "every conversation that is kept, the oldest first"},
	[OPT_OUTPUT] = {"output", 'o', "FILE",
			"write there; a folder gets a file for each conversation"},
	[OPT_FORMAT] = {"format", 'f', "NAME", "jsonl (default), markdown or openai"},
	[OPT_NO_START] = {"no-start", 0, NULL,
			  "fail (status 4) when the daemon is not running"},
};

static const struct args_spec spec = {
	.command = "export",
	.usage = "[OPTION]... ID... | --all",
	.summary =
		"Writes conversations as text that other programs, and hob import, read.",
	.options = options,
	.noptions = (int)ARRAY_LEN(options),
	.notes =
		"ID may be \"last\".  jsonl holds all branches and turns; hob import reads it back.\n"
		"markdown and openai hold what led to the last message; openai is one array a line.",
};

static int as_it_is(struct str jsonl, struct buf *out, struct err *e)
{
	UNUSED(e);
	buf_add(out, jsonl.ptr, jsonl.len);
	return 0;
}

static const struct format {
	const char *name, *ending, *between;
	int (*write)(struct str jsonl, struct buf *out, struct err *e);
} formats[] = {
	{"jsonl", "jsonl", "", as_it_is},
	{"markdown", "md", "\n", markdown_out},
	{"openai", "json", "", openai_out},
};

struct export
{
	struct listing l;
	const struct format *format;
	const char *output; /* or NULL: standard output */
	bool all, in_folder;
	char **ids; /* owned */
	int nids, cap;
	FILE *out;  /* of all conversations, unless in_folder */
	char *tmp;  /* owned: its name until it is whole */
	bool shown; /* of render_progress */
	int written;
};

/* ---- which conversations ---- */

static void add_id(struct export *x, const char *id)
{
	if (x->nids == x->cap) {
		x->cap = x->cap ? x->cap * 2 : 64;
		x->ids = xrealloc(x->ids, (size_t)x->cap * sizeof(char *));
	}
	x->ids[x->nids++] = xstrdup(id);
}

/* Also what stands between it and the rest of a path. */
static bool is_id(const char *id)
{
	size_t n = strspn(id, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
			      "abcdefghijklmnopqrstuvwxyz");

	return n && n < 64 && !id[n];
}

/* A page of the list; the number of rows, -1 on error. */
static int add_page(struct export *x, const char *before)
{
	char *path = xasprintf("/v1/hob/conversations?limit=%d%s%s", PAGE,
			       before ? "&before=" : "", before ? before : "");
	cJSON *page = listing_get(&x->l, path);
	const cJSON *row;
	int n = 0;

	free(path);
	if (!page)
		return -1;
	cJSON_ArrayForEach(row, listing_array(page, "conversations"))
	{
		const char *id = "";

		json_string(row, "id", &id, NULL);
		if (is_id(id))
			add_id(x, id);
		n++;
	}
	cJSON_Delete(page);
	return n;
}

/* Oldest first, so that reading them back keeps their order.  What is kept in memory only is left out:
 * it was to leave no trace. */
static int add_all(struct export *x)
{
	int n, kept = 0, before;

	do {
		before = x->nids;
		n = add_page(x, before ? x->ids[before - 1] : NULL);
	} while (n == PAGE && x->nids > before);
	for (int i = 0, k = x->nids - 1; i < k; i++, k--) {
		char *id = x->ids[i];

		x->ids[i] = x->ids[k];
		x->ids[k] = id;
	}
	for (int i = 0; i < x->nids; i++) {
		if (store_is_incognito(x->ids[i]))
			free(x->ids[i]);
		else
			x->ids[kept++] = x->ids[i];
	}
	x->nids = kept;
	return n < 0 ? -1 : 0;
}

/* ---- files ---- */

static int fail_file(struct export *x, const char *path)
{
	err_sys(&x->l.e, errno, "write '%s'", path);
	listing_fail(&x->l, CLI_FAIL);
	return -1;
}

/* A name beside `path` for what is not whole yet; conversations are for their owner's eyes. */
static int open_tmp(struct export *x, const char *path)
{
	mode_t old = umask(077);
	int fd;

	x->tmp = xasprintf("%s.XXXXXX", path);
	fd = mkstemp(x->tmp);
	umask(old);
	if (fd < 0 || !(x->out = fdopen(fd, "w"))) {
		if (fd >= 0)
			close(fd);
		free(x->tmp);
		x->tmp = NULL;
		return fail_file(x, path);
	}
	return 0;
}

static int close_tmp(struct export *x, const char *path, bool whole)
{
	int rc = 0;

	if (!x->tmp)
		return 0;
	if (whole && (fflush(x->out) || fsync(fileno(x->out))))
		rc = fail_file(x, path);
	if (fclose(x->out) && !rc && whole)
		rc = fail_file(x, path);
	x->out = NULL;
	if (whole && !rc && rename(x->tmp, path))
		rc = fail_file(x, path);
	if (!whole || rc)
		unlink(x->tmp);
	free(x->tmp);
	x->tmp = NULL;
	return rc;
}

static int write_text(struct export *x, struct str text, bool first)
{
	if (!first)
		fputs(x->format->between, x->out);
	if (fwrite(text.ptr, 1, text.len, x->out) != text.len)
		return fail_file(x, x->output ? x->output : "standard output");
	return 0;
}

/* ---- one conversation ---- */

struct body {
	struct buf text;
};

static int on_data(void *arg, const char *p, size_t n, struct err *e)
{
	struct body *b = arg;

	if (b->text.len + n > STORE_MAX_EXPORT_BYTES + (size_t)(1 << 20))
		return err_set(e, ERR_TOO_LARGE, "the conversation is too large");
	buf_add(&b->text, p, n);
	return 0;
}

static int get(struct export *x, const char *id, struct body *b)
{
	char *path = xasprintf("/v1/hob/conversations/%s/export?format=jsonl", id);
	struct client_request r = {
		.method = "GET", .path = path, .data = on_data, .arg = b};
	struct client_reply reply;
	int rc = client_do(x->l.client, &r, &reply, &x->l.e);

	if (rc == 0 && reply.status != 200)
		rc = client_error(&reply, &x->l.e);
	client_reply_fini(&reply);
	free(path);
	return rc;
}

static int export_one(struct export *x, const char *id)
{
	struct body b = {0};
	struct buf text = {0};
	char *path = NULL;
	int rc = get(x, id, &b);

	if (rc == 0)
		rc = x->format->write(buf_str(&b.text), &text, &x->l.e);
	if (rc < 0) {
		err_wrap(&x->l.e, "conversation '%s'", id);
		listing_fail(&x->l, ask_exit_status(&x->l.e));
		goto out;
	}
	if (x->in_folder) {
		path = xasprintf("%s/%s.%s", x->output, id, x->format->ending);
		rc = open_tmp(x, path);
	}
	if (rc == 0)
		rc = write_text(x, buf_str(&text), x->in_folder || !x->written);
	if (x->in_folder)
		rc = close_tmp(x, path, rc == 0) < 0 ? -1 : rc;
	x->written += rc == 0;
out:
	free(path);
	buf_free(&text);
	buf_free(&b.text);
	return rc;
}

static void export_all(struct export *x)
{
	int rc = 0;

	if (!x->in_folder && x->output && open_tmp(x, x->output) < 0)
		return;
	if (!x->output)
		x->out = stdout;
	for (int i = 0; rc == 0 && i < x->nids; i++) {
		if (x->output)
			render_progress(&x->shown, "exporting", i, x->nids);
		rc = export_one(x, x->ids[i]);
	}
	render_progress_end(&x->shown);
	if (!x->output && fflush(stdout) && rc == 0)
		fail_file(x, "standard output");
	if (!x->in_folder && x->output && close_tmp(x, x->output, rc == 0) < 0)
		rc = -1;
	if (x->output && x->written && (rc == 0 || x->in_folder))
		fprintf(stderr, "%d conversation%s written to %s\n", x->written,
			x->written == 1 ? "" : "s", x->output);
}

/* ---- the command ---- */

static const struct format *format_of(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(formats); i++)
		if (!strcmp(formats[i].name, name))
			return &formats[i];
	return NULL;
}

/* A folder is one that is there, or is named with a slash at its end: then it is made. */
static bool take_output(struct export *x)
{
	size_t n = x->output ? strlen(x->output) : 0;
	struct stat st;

	if (!n || !strcmp(x->output, "-")) {
		x->output = NULL;
		return true;
	}
	if (x->output[n - 1] == '/' && mkdir(x->output, 0700) < 0 && errno != EEXIST)
		return fail_file(x, x->output) == 0;
	x->in_folder = stat(x->output, &st) == 0 && S_ISDIR(st.st_mode);
	return true;
}

/* True when the command may go on. */
static bool take_args(struct export *x, int argc, char **argv)
{
	struct args a;
	const char *value;
	int o;

	args_init(&a, &spec, argc, argv);
	x->format = &formats[0];
	while ((o = args_next(&a, &value)) >= 0) {
		x->all |= o == OPT_ALL;
		x->l.no_start |= o == OPT_NO_START;
		if (o == OPT_OUTPUT)
			x->output = value;
		else if (o == OPT_FORMAT && !(x->format = format_of(value))) {
			x->l.status = args_usage(&spec,
						 "--format %s: not jsonl, markdown or "
						 "openai",
						 value);
			return false;
		}
	}
	if (o == ARGS_STOP)
		x->l.status = a.status;
	else if (x->all == (a.first < argc))
		x->l.status = args_usage(&spec, "name conversations, or say --all");
	for (int i = a.first; o == ARGS_END && !x->l.status && i < argc; i++) {
		if (is_id(argv[i]))
			add_id(x, argv[i]);
		else
			x->l.status = args_usage(&spec, "'%s' is no conversation's id",
						 argv[i]);
	}
	return o == ARGS_END && !x->l.status && take_output(x);
}

int cmd_export(int argc, char **argv)
{
	struct export x = {.l = {.spec = &spec}};

	if (take_args(&x, argc, argv) && listing_connect(&x.l, true) &&
	    (!x.all || add_all(&x) == 0))
		export_all(&x);
	for (int i = 0; i < x.nids; i++)
		free(x.ids[i]);
	free(x.ids);
	return listing_end(&x.l);
}
