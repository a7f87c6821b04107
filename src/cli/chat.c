/* hob chat: a conversation on the terminal.  Main thread.
 *
 * The daemon keeps the conversation; each prompt sends only what is new and the
 * conversation's id.  A reader may ask why the messages are kept here as well: a daemon
 * whose memory is off or broken names no conversation, and then the chat goes on with
 * what this program remembers. */
#include "cli/chat.h"

#include <errno.h>
#include <unistd.h>

#include "base/paths.h"
#include "cli/args.h"
#include "cli/daemon_start.h"
#include "cli/interrupt.h"
#include "cli/render.h"

enum { MAX_TOKENS_LIMIT = 1 << 24 };

enum {
	OPT_CONTINUE,
	OPT_CONVERSATION,
	OPT_MODEL,
	OPT_PERSONA,
	OPT_SYSTEM,
	OPT_TEMPERATURE,
	OPT_MAX_TOKENS,
	OPT_PRIVATE,
	OPT_INCOGNITO,
	OPT_NO_START,
	OPT_NR
};

static const struct args_option options[OPT_NR] = {
	[OPT_CONTINUE] = {"continue", 'c', NULL, "go on with the last conversation"},
	[OPT_CONVERSATION] = {"conversation", 0, "ID",
			      "go on with this one (see: hob history)"},
	[OPT_MODEL] = {"model", 'm', "MODEL", "the same as the argument MODEL"},
	[OPT_PERSONA] = {"persona", 'P', "NAME",
			 "system prompt, model and settings of hob.conf"},
	[OPT_SYSTEM] = {"system", 's', "TEXT", "instructions for a new conversation"},
	[OPT_TEMPERATURE] = {"temperature", 't', "T", "0 (always the same) to 2"},
	[OPT_MAX_TOKENS] = {"max-tokens", 'n', "N", "stop each answer after N tokens"},
	[OPT_PRIVATE] = {"private", 0, NULL, "only models on this machine answer"},
	[OPT_INCOGNITO] = {"incognito", 0, NULL, "nothing of it is written to a disk"},
	[OPT_NO_START] = {"no-start", 0, NULL,
			  "fail (status 4) when the daemon is not running"},
};

static const struct args_spec spec = {
	.command = "chat",
	.usage = "[OPTIONS] [MODEL]",
	.summary = "Talks with a model.",
	.options = options,
	.noptions = OPT_NR,
	.notes =
		"At the prompt: /help lists the commands, Tab completes them; Alt-Enter, "
		"Ctrl-J or a\n"
		"backslash before Enter begins another line; Ctrl-C stops the answer, Ctrl-D "
		"leaves.\n"
		"Without a terminal each line of standard input is one prompt, and answers go "
		"to\n"
		"standard output.",
};

void chat_say(const struct chat *ch, const char *fmt, ...)
{
	struct buf b = {0};
	va_list ap;

	if (!lines_interactive(ch->lines))
		return;
	va_start(ap, fmt);
	buf_vaddf(&b, fmt, ap);
	va_end(ap);
	render_dim(isatty(STDOUT_FILENO) ? stdout : stderr, b.data);
	buf_free(&b);
}

void chat_complain(const struct chat *ch, const char *fmt, ...)
{
	struct buf b = {0};
	char *text;
	va_list ap;

	va_start(ap, fmt);
	buf_vaddf(&b, fmt, ap);
	va_end(ap);
	text = render_text(b.data);
	fprintf(stderr, "%s%s\n", lines_interactive(ch->lines) ? "" : "hob chat: ", text);
	free(text);
	buf_free(&b);
}

void chat_fail(struct chat *ch, int status)
{
	if (!lines_interactive(ch->lines) && !ch->status)
		ch->status = status;
}

void chat_new(struct chat *ch)
{
	chat_path_clear(&ch->path);
	free(ch->conversation);
	ch->conversation = NULL;
	ch->stale = false;
	if (ch->first_system)
		chat_path_add(&ch->path, "system", str_of(ch->first_system), NULL, NULL);
}

int chat_connect(struct chat *ch, struct err *e)
{
	struct client *fresh;

	if (ch->client && !client_probe(client_socket(ch->client), NULL, e))
		return 0;
	fresh = daemon_connect(!ch->no_start, e);
	if (!fresh)
		return -1;
	client_free(ch->client);
	ch->client = fresh;
	return 0;
}

bool chat_is_id(const char *id)
{
	return *id && strlen(id) <= CHAT_ID_MAX_BYTES &&
	       !id[strspn(
		       id,
		       "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")];
}

/* What a row of the daemon says about the conversation we are in. */
static void take_row(struct chat *ch, const cJSON *row)
{
	const char *model = chat_string(row, "model", "");
	bool flag = false;

	if (!ch->model && !ch->persona && *model)
		ch->model = xstrdup(model);
	if (json_bool(row, "private", &flag, NULL) == 1 && flag)
		ch->is_private = true;
	flag = false;
	if (json_bool(row, "incognito", &flag, NULL) == 1)
		ch->incognito = flag;
}

int chat_open(struct chat *ch, const char *id)
{
	cJSON *tree = chat_call(ch, "GET", NULL, "/v1/hob/conversations/%s", id);
	const char *title;

	if (!tree)
		return -1;
	chat_new(ch);
	ch->conversation = xstrdup(id);
	chat_path_read(&ch->path, chat_array(tree, "messages"));
	take_row(ch, tree);
	title = chat_string(tree, "title", "");
	chat_say(ch, "(going on with: %s, %d messages)", *title ? title : id, ch->path.n);
	cJSON_Delete(tree);
	return 0;
}

/* The tail of a forgotten or secret talk does not come back with Up in another one. */
static bool keeps_history(const struct chat *ch)
{
	return !ch->is_private && !ch->incognito;
}

static const char *prompt_of(const struct chat *ch)
{
	return ch->incognito ? "incognito> " : ch->is_private ? "private> " : "> ";
}

static void take_prompt(struct chat *ch, const struct buf *prompt)
{
	if (memchr(prompt->data, 0, prompt->len)) {
		chat_complain(ch, "this is not text: it holds a NUL byte");
		chat_fail(ch, CLI_FAIL);
		return;
	}
	lines_remember(ch->lines, prompt->data, keeps_history(ch));
	if (chat_is_command(lines_typed(ch->lines)))
		chat_command(ch, prompt->data);
	else if (prompt->data[strspn(prompt->data, " \t\n")])
		chat_ask(ch, buf_str(prompt));
}

static void chat_loop(struct chat *ch)
{
	struct buf prompt = {0};
	struct err e;

	while (!ch->quit) {
		enum lines_result rc = lines_read(ch->lines, prompt_of(ch), &prompt, &e);

		if (rc == LINES_LINE && prompt.len) {
			take_prompt(ch, &prompt);
		} else if (rc == LINES_INTERRUPTED) {
			chat_say(ch, "(Ctrl-D or /quit leaves)");
			chat_fail(ch, CLI_INTERRUPTED);
			ch->quit = !lines_interactive(ch->lines);
		} else if (rc == LINES_END || rc == LINES_ERROR) {
			if (rc == LINES_ERROR) {
				chat_complain(ch, "%s", e.text);
				ch->status = CLI_FAIL;
			} else if (lines_interactive(ch->lines)) {
				putchar('\n');
			}
			break;
		}
	}
	buf_free(&prompt);
	if ((fflush(stdout) || ferror(stdout)) && !ch->status) {
		chat_complain(ch, "write the answer: %s", strerror(errno));
		ch->status = CLI_FAIL;
	}
}

/* The conversation that -c goes on with. */
static int find_last(struct chat *ch)
{
	cJSON *tree = chat_call(ch, "GET", NULL, "/v1/hob/conversations?limit=1");
	const cJSON *first = cJSON_GetArrayItem(chat_array(tree, "conversations"), 0);
	const char *id = chat_string(first, "id", "");
	int status = CLI_OK;

	if (!tree)
		status = CLI_FAIL;
	else if (!chat_is_id(id))
		chat_say(ch, "(no conversation yet: this is the first)");
	else if (chat_open(ch, id))
		status = CLI_FAIL;
	cJSON_Delete(tree);
	return status;
}

static int find_named(struct chat *ch, const char *id)
{
	if (!chat_is_id(id))
		return args_usage(&spec, "'%s' is no conversation's ID; see: hob history",
				  id);
	return chat_open(ch, id) ? CLI_FAIL : CLI_OK;
}

static int chat_start(struct chat *ch, bool last, const char *id)
{
	struct err e;
	int status = CLI_OK;

	if (chat_connect(ch, &e)) {
		chat_complain(ch, "%s", e.text);
		return e.code == ERR_CANCELLED ? CLI_INTERRUPTED : CLI_NO_DAEMON;
	}
	if (id && strcmp(id, "last"))
		status = find_named(ch, id);
	else if (last || id)
		status = find_last(ch);
	if (!ch->conversation)
		chat_new(ch);
	if (!status)
		chat_warm(ch);
	if (!status)
		chat_say(ch, "%s; /help for commands, Ctrl-D to leave",
			 ch->model     ? ch->model
			 : ch->persona ? ch->persona
				       : "the default model");
	return status;
}

static struct lines *open_lines(void)
{
	char *dir = paths_state_dir(), *path = xasprintf("%s/chat_history", dir);
	struct lines *l;
	struct err e;

	l = lines_new(paths_make_private(dir, &e) ? NULL : path);
	free(dir);
	free(path);
	return l;
}

struct chat_args {
	bool last;
	const char *id, *model;
};

static int read_options(struct chat *ch, struct args *a, struct chat_args *want)
{
	const char *v = NULL;
	bool ok = true;
	int o;

	while (ok && (o = args_next(a, &v)) >= 0) {
		switch (o) {
		case OPT_CONTINUE:
			want->last = true;
			break;
		case OPT_CONVERSATION:
			want->id = v;
			break;
		case OPT_MODEL:
			want->model = v;
			break;
		case OPT_SYSTEM:
			ch->first_system = v;
			break;
		case OPT_TEMPERATURE:
			ok = args_double(a, o, v, 0, 2, &ch->temperature);
			break;
		case OPT_MAX_TOKENS:
			ok = args_int(a, o, v, 1, MAX_TOKENS_LIMIT, &ch->max_tokens);
			break;
		case OPT_PERSONA:
			free(ch->persona);
			ch->persona = xstrdup(v);
			break;
		case OPT_PRIVATE:
			ch->is_private = true;
			break;
		case OPT_INCOGNITO:
			ch->incognito = true;
			break;
		case OPT_NO_START:
			ch->no_start = true;
			break;
		}
	}
	return ok ? o : ARGS_STOP;
}

static void chat_end(struct chat *ch)
{
	ch->first_system = NULL;
	chat_new(ch); /* releases the messages */
	chat_status_clear(ch);
	chat_found_clear(ch);
	attach_clear(&ch->attached);
	free(ch->system);
	free(ch->model);
	free(ch->persona);
	cJSON_Delete(ch->models);
	cJSON_Delete(ch->personas);
	lines_free(ch->lines);
	client_free(ch->client);
}

/* The model of the arguments; false: status is set. */
static bool check_args(struct chat *ch, const struct chat_args *want,
		       const struct args *a)
{
	const char *model = want->model;

	if (a->argc - a->first > (model ? 0 : 1))
		ch->status = args_usage(&spec, "'%s' is one argument too many",
					a->argv[a->argc - 1]);
	else if (ch->incognito && (want->last || want->id))
		ch->status = args_usage(&spec,
					"--incognito begins a conversation; it cannot go "
					"on with one");
	else if (!model && a->first < a->argc)
		model = a->argv[a->first];
	ch->model = model ? xstrdup(model) : NULL;
	return !ch->status;
}

int cmd_chat(int argc, char **argv)
{
	struct chat ch = {.temperature = -1};
	struct chat_args want = {0};
	struct args a;

	args_init(&a, &spec, argc, argv);
	if (read_options(&ch, &a, &want) == ARGS_STOP) {
		ch.status = a.status;
	} else if (check_args(&ch, &want, &a)) {
		interrupt_enable();
		ch.lines = open_lines();
		lines_complete(ch.lines, chat_complete, &ch);
		ch.status = chat_start(&ch, want.last, want.id);
		if (!ch.status)
			chat_loop(&ch);
	}
	chat_end(&ch);
	return ch.status;
}
