/* `hob import`: what other programs, and hob itself, kept of conversations.
 *
 * Main thread.  Foreign files are read and turned into hob's JSON lines in this process, never in the
 * daemon, which checks each line once more.  Lines go there in batches of whole conversations; a batch
 * is kept whole or not at all, and one that was sent before stays. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/clock.h"
#include "cli/ask.h"
#include "cli/interrupt.h"
#include "cli/listing.h"
#include "memory/import.h"

enum {
	OPT_FORMAT,
	OPT_JSON,
	OPT_NO_START,
	BATCH_BYTES =
		4 << 20, /* the store works on one at a time: others wait behind it */
	MAX_POST_BYTES = 32 << 20, /* net/http.h: what the daemon takes */
};
#define MAX_FILE_BYTES (INT64_C(2) << 30)

static const struct args_option options[] = {
	[OPT_FORMAT] = {"format", 'f', "NAME",
			"auto (default: by content), jsonl, openai, chatgpt or llm"},
	[OPT_JSON] = {"json", 0, NULL, "print what was done as JSON"},
	[OPT_NO_START] = {"no-start", 0, NULL,
			  "fail (status 4) when the daemon is not running"},
};

static const struct args_spec spec = {
	.command = "import",
	.usage = "[OPTION]... FILE...",
	.summary =
		"Reads conversations from files: hob's, ChatGPT's, llm's, OpenAI's messages.",
	.options = options,
	.noptions = (int)ARRAY_LEN(options),
	.notes =
		"FILE may be - for standard input.  The same file may be read any number of times.\n"
		"ChatGPT: conversations.json of the export.  llm: logs.db (`llm logs path`).\n"
		"The status is 1 when something could not be read.",
};

struct import {
	struct listing l;
	const struct import_format *format; /* NULL: by content */
	struct buf batch;
	struct import_counts counts;            /* of reading */
	int64_t conversations, messages, known; /* as the daemon says */
	char last[64];
	int64_t file_bytes, sent_bytes;
	const char *file;
	bool shown;
};

/* ---- to the daemon ---- */

static int take_answer(struct import *x, const struct client_reply *reply, struct err *e)
{
	cJSON *tree = json_parse(buf_str(&reply->body), e);
	const char *last = "";

	if (!tree)
		return err_wrap(e, "the daemon's answer");
	x->conversations += listing_int(tree, "conversations", 0);
	x->messages += listing_int(tree, "messages", 0);
	x->known += listing_int(tree, "known", 0);
	json_string(tree, "last", &last, NULL);
	snprintf(x->last, sizeof(x->last), "%s", last);
	cJSON_Delete(tree);
	return 0;
}

static int flush(struct import *x, struct err *e)
{
	struct client_request r = {.method = "POST",
				   .path = "/v1/hob/conversations/import",
				   .body = buf_str(&x->batch)};
	struct client_reply reply;
	int rc;

	if (!x->batch.len)
		return 0;
	render_progress(&x->shown, "importing", x->sent_bytes, x->file_bytes);
	rc = client_do(x->l.client, &r, &reply, e);
	if (rc == 0)
		rc = reply.status == 200 ? take_answer(x, &reply, e)
					 : client_error(&reply, e);
	client_reply_fini(&reply);
	x->sent_bytes += (int64_t)x->batch.len;
	buf_clear(&x->batch);
	return rc;
}

static int on_conversation(void *arg, struct str jsonl, struct err *e)
{
	struct import *x = arg;

	if (interrupt_pending())
		return err_set(e, ERR_CANCELLED, "interrupted");
	if (jsonl.len > MAX_POST_BYTES)
		return err_set(e, ERR_TOO_LARGE,
			       "a conversation of %zu MiB: the daemon takes at most %d",
			       jsonl.len >> 20, MAX_POST_BYTES >> 20);
	if (x->batch.len + jsonl.len > BATCH_BYTES && flush(x, e) < 0)
		return -1;
	buf_add(&x->batch, jsonl.ptr, jsonl.len);
	if (x->batch.data[x->batch.len - 1] != '\n')
		buf_addc(&x->batch, '\n');
	return 0;
}

/* ---- files ---- */

static int read_all(int fd, const char *path, struct buf *out, struct err *e)
{
	ssize_t n;

	do {
		buf_reserve(out, 1 << 20);
		n = read(fd, out->data + out->len, 1 << 20);
		if (n < 0 && errno == EINTR && !interrupt_pending())
			continue;
		if (n < 0)
			return err_sys(e, errno, "read '%s'", path);
		out->len += (size_t)n;
		if ((int64_t)out->len > MAX_FILE_BYTES)
			return err_set(e, ERR_TOO_LARGE, "'%s' is over 2 GiB", path);
	} while (n);
	out->data[out->len] = 0;
	return 0;
}

/* Its beginning, for a look: a database is not read whole. */
static int read_head(int fd, const char *path, struct buf *out, struct err *e)
{
	ssize_t n;

	buf_reserve(out, IMPORT_SNIFF_BYTES);
	n = pread(fd, out->data, IMPORT_SNIFF_BYTES, 0);
	if (n < 0 && errno != ESPIPE)
		return err_sys(e, errno, "read '%s'", path);
	out->len = n > 0 ? (size_t)n : 0;
	out->data[out->len] = 0;
	return 0;
}

static const struct import_format *sniff(const struct import *x, const char *path,
					 struct str text, struct err *e)
{
	const struct import_format *f;

	if (x->format)
		return x->format;
	if (text.len > IMPORT_SNIFF_BYTES)
		text.len = IMPORT_SNIFF_BYTES;
	f = import_format_sniff(text);
	if (!f && str_starts(text, "PK\x03\x04"))
		err_set(e, ERR_INVALID,
			"'%s' is a zip archive: unpack it and import its conversations.json",
			path);
	else if (!f)
		err_set(e, ERR_INVALID,
			"'%s' is none of hob's, ChatGPT's, llm's files nor OpenAI's "
			"messages; if it is, name it with --format",
			path);
	return f;
}

/* -1: x->l.e says why. */
static int import_file(struct import *x, const char *path)
{
	bool is_stdin = !strcmp(path, "-");
	int fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC), rc = -1;
	struct import_in in = {.path = is_stdin ? NULL : path, .now_ms = clock_unix_ms()};
	const struct import_format *f = NULL;
	struct buf text = {0};
	struct stat st = {0};

	if (fd < 0)
		return err_sys(&x->l.e, errno, "open '%s'", path);
	x->file = path;
	if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) {
		err_set(&x->l.e, ERR_INVALID, "'%s' is a folder", path);
		goto out;
	}
	if (!S_ISREG(st.st_mode) ? read_all(fd, path, &text, &x->l.e)
				 : read_head(fd, path, &text, &x->l.e))
		goto out;
	f = sniff(x, path, buf_str(&text), &x->l.e);
	if (!f)
		goto out;
	if (S_ISREG(st.st_mode) && !f->is_database) {
		buf_clear(&text);
		if (read_all(fd, path, &text, &x->l.e) < 0)
			goto out;
	}
	in.text = f->is_database ? (struct str){"", 0} : buf_str(&text);
	x->file_bytes = st.st_size > (off_t)text.len ? st.st_size : (int64_t)text.len;
	x->sent_bytes = 0;
	rc = f->convert(&in, on_conversation, x, &x->counts, &x->l.e);
	if (rc == 0)
		rc = flush(x, &x->l.e);
	if (rc < 0)
		err_wrap(&x->l.e, "'%s'", path);
out:
	buf_clear(&x->batch); /* what did not go is not sent with the next file */
	buf_free(&text);
	if (!is_stdin)
		close(fd);
	return rc;
}

/* ---- what was done ---- */

static void print_json(const struct import *x)
{
	struct buf out = {0};

	buf_addf(&out,
		 "{\"conversations\":%lld,\"messages\":%lld,\"known\":%lld,"
		 "\"branches\":%d,\"notes\":%d,\"hidden\":%d,\"empty\":%d,\"skipped\":%d",
		 (long long)x->conversations, (long long)x->messages, (long long)x->known,
		 x->counts.branches, x->counts.notes, x->counts.hidden, x->counts.empty,
		 x->counts.skipped);
	buf_add_json_text(&out, "last", *x->last ? x->last : NULL);
	buf_adds(&out, "}\n");
	fputs(out.data, stdout);
	buf_free(&out);
}

static void print_count(int n, const char *what)
{
	if (n > 0)
		printf("  %d %s\n", n, what);
}

static void print_text(const struct import *x)
{
	printf("%lld conversation%s imported, %lld message%s; %lld were here already\n",
	       (long long)x->conversations, x->conversations == 1 ? "" : "s",
	       (long long)x->messages, x->messages == 1 ? "" : "s", (long long)x->known);
	print_count(x->counts.branches, "more branches beside the ones shown last");
	print_count(x->counts.notes,
		    "parts that hob cannot hold: a note in [brackets] stands for each");
	print_count(x->counts.hidden,
		    "messages left out that were never shown, or empty");
	print_count(x->counts.empty, "conversations left out that hold no message");
}

static void print_skipped(const struct import *x)
{
	char *why = render_line(x->counts.why);

	if (x->counts.skipped)
		fprintf(stderr, "hob import: %d could not be read; the first: %s\n",
			x->counts.skipped, why);
	free(why);
}

/* True when the command may go on; the first file's place in argv. */
static bool take_args(struct import *x, int argc, char **argv, int *first)
{
	struct args a;
	const char *value;
	int o;

	args_init(&a, &spec, argc, argv);
	while ((o = args_next(&a, &value)) >= 0) {
		x->l.json |= o == OPT_JSON;
		x->l.no_start |= o == OPT_NO_START;
		if (o == OPT_FORMAT && strcmp(value, "auto") != 0 &&
		    !(x->format = import_format_by_name(value))) {
			x->l.status = args_usage(
				&spec,
				"--format %s: not auto, jsonl, openai, chatgpt or llm",
				value);
			return false;
		}
	}
	*first = a.first;
	if (o == ARGS_STOP)
		x->l.status = a.status;
	else if (a.first == argc)
		x->l.status = args_usage(&spec, "a FILE is needed");
	return o == ARGS_END && !x->l.status;
}

int cmd_import(int argc, char **argv)
{
	struct import x = {.l = {.spec = &spec}};
	int first, rc = 0;

	if (!take_args(&x, argc, argv, &first) || !listing_connect(&x.l, true))
		return x.l.status;
	for (int i = first; rc == 0 && i < argc; i++)
		rc = import_file(&x, argv[i]);
	render_progress_end(&x.shown);
	if (rc < 0)
		listing_fail(&x.l, ask_exit_status(&x.l.e));
	if (x.l.json)
		print_json(&x);
	else if (rc == 0 || x.conversations + x.known > 0)
		print_text(&x);
	print_skipped(&x);
	if (x.counts.skipped && x.l.status == CLI_OK)
		x.l.status = CLI_FAIL;
	buf_free(&x.batch);
	return listing_end(&x.l);
}
