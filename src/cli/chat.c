/* hob chat: a conversation on the terminal.  Main thread.
 *
 * The daemon keeps the conversation; each prompt sends only what is new and the
 * conversation's id.  A reader may ask why the messages are kept here as well: a daemon
 * whose memory is off or broken names no conversation, and then the chat goes on with
 * what this program remembers. */
#include "cli/commands.h"

#include <errno.h>
#include <unistd.h>

#include "base/nearest.h"
#include "base/paths.h"
#include "cli/args.h"
#include "cli/ask.h"
#include "cli/daemon_start.h"
#include "cli/interrupt.h"
#include "cli/lines.h"
#include "cli/models_list.h"
#include "cli/render.h"

enum { MAX_TOKENS_LIMIT = 1 << 24, ID_MAX_BYTES = 63 };

struct chat {
	struct lines *lines;          /* owned */
	struct client *client;        /* owned */
	char *model;                  /* owned; NULL: the default one */
	char *conversation;           /* owned; NULL: a new one */
	struct ask_message *messages; /* owned, with their texts */
	int nmessages, cap;
	const char *system; /* borrowed, or NULL */
	double temperature; /* < 0: not given */
	int64_t max_tokens; /* 0: not given */
	bool no_start, quit;
	int status; /* the exit status: of the first failure, when lines come from a pipe
		     */
	cJSON *models; /* owned: for Tab; NULL until asked for */
};

enum {
	OPT_CONTINUE,
	OPT_CONVERSATION,
	OPT_MODEL,
	OPT_SYSTEM,
	OPT_TEMPERATURE,
	OPT_MAX_TOKENS,
	OPT_NO_START,
	OPT_NR
};

static const struct args_option options[OPT_NR] = {
	[OPT_CONTINUE] = {"continue", 'c', NULL, "go on with the last conversation"},
	[OPT_CONVERSATION] = {"conversation", 0, "ID",
			      "go on with this one (see: hob history)"},
	[OPT_MODEL] = {"model", 'm', "MODEL", "the same as the argument MODEL"},
	[OPT_SYSTEM] = {"system", 's', "TEXT", "instructions for a new conversation"},
	[OPT_TEMPERATURE] = {"temperature", 't', "T", "0 (always the same) to 2"},
	[OPT_MAX_TOKENS] = {"max-tokens", 'n', "N", "stop each answer after N tokens"},
	[OPT_NO_START] = {"no-start", 0, NULL,
			  "fail (status 4) when the daemon is not running"},
};

static const struct args_spec spec = {
	.command = "chat",
	.usage = "[OPTIONS] [MODEL]",
	.summary = "Talks with a model.",
	.options = options,
	.noptions = OPT_NR,
	.notes = "At the prompt: /help lists the commands; a line that ends in a "
		 "backslash goes on;\n"
		 "Ctrl-C stops the answer, Ctrl-D leaves. Without a terminal each line "
		 "of standard\n"
		 "input is one prompt, and answers go to standard output.",
};

static void say(const struct chat *ch, const char *fmt, ...) PRINTF(2, 3);
static void complain(const struct chat *ch, const char *fmt, ...) PRINTF(2, 3);

/* Notes for a person; a pipe gets answers only. */
static void say(const struct chat *ch, const char *fmt, ...)
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

static void complain(const struct chat *ch, const char *fmt, ...)
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

/* In a pipe the first failure is the program's; a person saw it and goes on. */
static void note_failure(struct chat *ch, int status)
{
	if (!lines_interactive(ch->lines) && !ch->status)
		ch->status = status;
}

static void add_message(struct chat *ch, const char *role, struct str text)
{
	if (ch->nmessages == ch->cap) {
		ch->cap = ch->cap ? ch->cap * 2 : 16;
		ch->messages =
			xrealloc(ch->messages, (size_t)ch->cap * sizeof *ch->messages);
	}
	ch->messages[ch->nmessages++] = (struct ask_message){role, str_dup(text)};
}

static void drop_message(struct chat *ch)
{
	free(ch->messages[--ch->nmessages].text);
}

static void new_conversation(struct chat *ch)
{
	while (ch->nmessages)
		drop_message(ch);
	free(ch->conversation);
	ch->conversation = NULL;
	if (ch->system)
		add_message(ch, "system", str_of(ch->system));
}

/* The daemon may have been stopped since the last prompt: then start it again. */
static int chat_connect(struct chat *ch, struct err *e)
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

static void show_status(const struct chat *ch, const struct ask_answer *a)
{
	char *speed = ask_answer_speed(a);
	struct buf b = {0};

	buf_addf(&b, "[%s, %s", a->model ? a->model : "?", speed);
	if (a->finish && !strcmp(a->finish, "length"))
		buf_adds(&b, "; cut off at its limit of tokens");
	if (a->dropped > 0)
		buf_addf(&b, "; the oldest %lld messages were left out",
			 (long long)a->dropped);
	buf_addc(&b, ']');
	say(ch, "%s", b.data);
	if (a->dropped > 0 && !lines_interactive(ch->lines))
		complain(ch, "the oldest %lld messages were left out",
			 (long long)a->dropped);
	buf_free(&b);
	free(speed);
}

static void take_conversation(struct chat *ch, const struct ask_answer *a)
{
	if (!a->conversation || !*a->conversation || !strcmp(a->conversation, "new"))
		return;
	free(ch->conversation);
	ch->conversation = xstrdup(a->conversation);
}

static void answer_failed(struct chat *ch, const struct err *e)
{
	if (e->code == ERR_CANCELLED && interrupt_pending()) {
		say(ch, "(stopped)");
		if (lines_interactive(ch->lines))
			interrupt_clear();
		else
			ch->quit = true;
	} else {
		complain(ch, "%s", e->text);
	}
	note_failure(ch, ask_exit_status(e));
}

/* One prompt, one answer on the screen. */
static void chat_ask(struct chat *ch, struct str prompt)
{
	struct ask a = {.model = ch->model,
			.temperature = ch->temperature,
			.max_tokens = ch->max_tokens,
			.seed = -1};
	struct render_answer view;
	struct ask_answer answer = {0};
	struct err e;
	int rc;

	if (chat_connect(ch, &e)) {
		complain(ch, "%s", e.text);
		interrupt_clear();
		note_failure(ch, CLI_NO_DAEMON);
		return;
	}
	add_message(ch, "user", prompt);
	a.conversation = ch->conversation ? ch->conversation : "new";
	a.nmessages = ch->conversation ? 1 : ch->nmessages;
	a.messages = ch->messages + ch->nmessages - a.nmessages;
	render_answer_init(&view, stdout, isatty(STDOUT_FILENO));
	rc = ask(ch->client, &a, render_answer_text, &view, &answer, &e);
	render_answer_end(&view);
	take_conversation(ch, &answer);
	if (rc) {
		drop_message(ch); /* what was not answered is not asked again */
		answer_failed(ch, &e);
	} else {
		add_message(ch, "assistant", buf_str(&answer.text));
		show_status(ch, &answer);
	}
	ask_answer_fini(&answer);
}

static cJSON *fetch_models(struct chat *ch)
{
	struct err e;
	cJSON *list = NULL;

	if (!chat_connect(ch, &e))
		list = models_list(ch->client, &e);
	if (!list)
		complain(ch, "%s", e.text);
	return list;
}

static void show_models(const struct chat *ch, const cJSON *list)
{
	int remote = 0;

	for (int i = 0; i < models_list_count(list); i++) {
		char *name = render_line(models_list_name(list, i));
		bool current = ch->model && !strcmp(ch->model, models_list_name(list, i));
		bool is_remote = !strcmp(models_list_owner(list, i), "remote");

		if (current || !is_remote)
			printf("%c %s\n", current ? '*' : ' ', name);
		remote += is_remote;
		free(name);
	}
	if (remote)
		printf("and %d remote ones: /model PROVIDER/...; in a shell: hob ls PART-OF-A-NAME\n",
		       remote);
	if (!models_list_count(list))
		printf("No models yet.  In a shell: hob pull smollm2:135m\n");
}

static const char *nearest_model(const cJSON *list, const char *name)
{
	struct nearest near = {.word = name};

	for (int i = 0; i < models_list_count(list); i++)
		nearest_offer(&near, models_list_name(list, i));
	return near.best;
}

/* The model loads while the question is still being typed.  A nicety: what goes wrong is said when it is
 * asked. */
static void warm(const struct chat *ch)
{
	struct client_request r = {.method = "POST",
				   .path = "/v1/hob/cache/load",
				   .total_timeout_ms = CLIENT_CALL_TIMEOUT_MS};
	struct client_reply reply = {0};
	struct buf body = {0};
	struct err e;

	buf_adds(&body, "{\"wait\":false,\"model\":");
	buf_add_json(&body, ch->model ? ch->model : "default",
		     strlen(ch->model ? ch->model : "default"));
	buf_addc(&body, '}');
	r.body = buf_str(&body);
	client_do(ch->client, &r, &reply, &e);
	client_reply_fini(&reply);
	buf_free(&body);
}

static void do_model(struct chat *ch, const char *name)
{
	cJSON *list = fetch_models(ch);
	const char *near;

	if (!list)
		return;
	if (!*name) {
		show_models(ch, list);
	} else if (models_list_has(list, name) || strchr(name, '/')) {
		free(ch->model); /* with a slash: a remote one, which need not be in the
				    list */
		ch->model = xstrdup(name);
		warm(ch);
		say(ch, "(now: %s)", name);
	} else {
		near = nearest_model(list, name);
		complain(ch, "no model '%s'%s%s%s; /model lists them", name,
			 near ? "; did you mean '" : "", near ? near : "",
			 near ? "'?" : "");
	}
	cJSON_Delete(list);
}

static void do_new(struct chat *ch, const char *arg)
{
	UNUSED(arg);
	new_conversation(ch);
	say(ch, "(a new conversation)");
}

static void print_message(const char *role, const char *text)
{
	bool colour = render_colour(STDOUT_FILENO);
	char *who = render_line(role), *what = render_text(text);

	printf("%s%s:%s %s\n", colour ? "\033[1m" : "", who, colour ? "\033[0m" : "",
	       what);
	free(who);
	free(what);
}

/* The conversation as the daemon keeps it, or NULL and complained. */
static cJSON *fetch_conversation(struct chat *ch, const char *id)
{
	char *path = xasprintf("/v1/hob/conversations/%s", id);
	struct err e;
	cJSON *tree = NULL;

	if (!chat_connect(ch, &e))
		tree = models_list_get(ch->client, path, &e);
	if (!tree)
		complain(ch, "%s", e.text);
	free(path);
	return tree;
}

static const cJSON *array_of(const cJSON *tree, const char *key)
{
	const cJSON *a = NULL;

	json_array(tree, key, &a, NULL);
	return a;
}

static void do_history(struct chat *ch, const char *arg)
{
	cJSON *tree = NULL;
	const cJSON *m;

	UNUSED(arg);
	if (!ch->conversation) {
		for (int i = 0; i < ch->nmessages; i++)
			print_message(ch->messages[i].role, ch->messages[i].text);
		if (!ch->nmessages)
			say(ch, "(nothing yet)");
		return;
	}
	tree = fetch_conversation(ch, ch->conversation);
	cJSON_ArrayForEach(m, array_of(tree, "messages"))
	{
		const char *role = "?", *text = "";

		json_string(m, "role", &role, NULL);
		json_string(m, "content", &text, NULL);
		print_message(role, text);
	}
	cJSON_Delete(tree);
}

static void do_quit(struct chat *ch, const char *arg)
{
	UNUSED(arg);
	ch->quit = true;
}

static void do_help(struct chat *ch, const char *arg);

static const struct {
	const char *name, *arg, *help;
	void (*run)(struct chat *ch, const char *arg);
} commands[] = {
	{"/model", "[NAME]", "switch to another model; list them", do_model},
	{"/new", "", "begin a new conversation", do_new},
	{"/history", "", "show this conversation", do_history},
	{"/help", "", "show this", do_help},
	{"/quit", "", "leave (or Ctrl-D)", do_quit},
};

static void do_help(struct chat *ch, const char *arg)
{
	UNUSED(ch);
	UNUSED(arg);
	for (size_t i = 0; i < ARRAY_LEN(commands); i++)
		printf("%-8s %-7s %s\n", commands[i].name, commands[i].arg,
		       commands[i].help);
	printf("A line that ends in a backslash goes on in the next one.\n"
	       "Ctrl-C stops the answer.  A space before the slash sends it as text.\n");
}

/* "/etc/passwd holds what?" is no command: a command is a slash and letters only. */
static bool is_command(const char *text)
{
	size_t n = *text == '/' ? strspn(text + 1, "abcdefghijklmnopqrstuvwxyz") : 0;

	return n && strchr(" \t", text[n + 1]);
}

static void run_command(struct chat *ch, const char *text)
{
	char *word = xstrndup(text, strcspn(text, " \t"));
	char *arg = str_dup(str_trim(str_of(text + strlen(word))));
	struct nearest near = {.word = word};
	bool known = false;

	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		nearest_offer(&near, commands[i].name);
		if (!known && !strcmp(word, commands[i].name)) {
			known = true;
			commands[i].run(ch, arg);
		}
	}
	if (!known) {
		complain(ch, "no command %s%s%s; /help lists them", word,
			 near.best ? "; did you mean " : "", near.best ? near.best : "");
		note_failure(ch, CLI_USAGE);
	}
	fflush(stdout);
	free(word);
	free(arg);
}

/* For Tab: the commands, then "/model NAME" for each model. */
static const char *completion(void *arg, int i)
{
	struct chat *ch = arg;
	static char word[256]; /* lives until the next call, as promised to lines.h */
	int ncommands = (int)ARRAY_LEN(commands);
	struct err e;

	if (i < ncommands)
		return commands[i].name;
	if (!ch->models && ch->client)
		ch->models = models_list(ch->client, &e);
	if (!ch->models || i - ncommands >= models_list_count(ch->models))
		return NULL;
	snprintf(word, sizeof word, "/model %s",
		 models_list_name(ch->models, i - ncommands));
	return word;
}

/* One prompt, of as many lines as end in a backslash. */
static enum lines_result read_prompt(struct chat *ch, struct buf *prompt, struct err *e)
{
	struct buf line = {0};
	enum lines_result rc;
	bool more = false;

	buf_clear(prompt);
	do {
		rc = lines_read(ch->lines, more ? ". " : "> ", &line, e);
		if (rc == LINES_END &&
		    more) { /* ended in the middle: what there is counts */
			rc = LINES_LINE;
			break;
		}
		if (rc != LINES_LINE)
			break;
		lines_remember(ch->lines, line.data);
		if (more)
			buf_addc(prompt, '\n');
		more = line.len && line.data[line.len - 1] == '\\';
		buf_add(prompt, line.data, line.len - more);
	} while (more);
	buf_free(&line);
	return rc;
}

static void take_prompt(struct chat *ch, const struct buf *prompt)
{
	if (memchr(prompt->data, 0, prompt->len)) {
		complain(ch, "this is not text: it holds a NUL byte");
		note_failure(ch, CLI_FAIL);
	} else if (is_command(prompt->data)) {
		run_command(ch, prompt->data);
	} else if (prompt->data[strspn(prompt->data, " \t\n")]) {
		chat_ask(ch, buf_str(prompt));
	}
}

static void chat_loop(struct chat *ch)
{
	struct buf prompt = {0};
	struct err e;

	while (!ch->quit) {
		enum lines_result rc = read_prompt(ch, &prompt, &e);

		if (rc == LINES_LINE && prompt.len) {
			take_prompt(ch, &prompt);
		} else if (rc == LINES_INTERRUPTED) {
			say(ch, "(Ctrl-D or /quit leaves)");
			note_failure(ch, CLI_INTERRUPTED);
			ch->quit = !lines_interactive(ch->lines);
		} else if (rc == LINES_END || rc == LINES_ERROR) {
			if (rc == LINES_ERROR) {
				complain(ch, "%s", e.text);
				ch->status = CLI_FAIL;
			} else if (lines_interactive(ch->lines)) {
				putchar('\n');
			}
			break;
		}
	}
	buf_free(&prompt);
	if ((fflush(stdout) || ferror(stdout)) && !ch->status) {
		complain(ch, "write the answer: %s", strerror(errno));
		ch->status = CLI_FAIL;
	}
}

/* The id and model of the conversation that -c goes on with. */
static int find_last(struct chat *ch)
{
	struct err e;
	cJSON *tree = models_list_get(ch->client, "/v1/hob/conversations", &e);
	const cJSON *first =
		tree ? cJSON_GetArrayItem(array_of(tree, "conversations"), 0) : NULL;
	const char *id = NULL, *model = NULL, *title = "";
	int status = CLI_OK;

	if (!tree) {
		complain(ch, "%s", e.text);
		status = CLI_FAIL;
	} else if (!first || json_string(first, "id", &id, NULL) != 1) {
		say(ch, "(no conversation yet: this is the first)");
	} else {
		ch->conversation = xstrdup(id);
		json_string(first, "title", &title, NULL);
		if (!ch->model && json_string(first, "model", &model, NULL) == 1 &&
		    *model)
			ch->model = xstrdup(model);
		say(ch, "(going on with: %s)", *title ? title : id);
	}
	cJSON_Delete(tree);
	return status;
}

static int find_named(struct chat *ch, const char *id)
{
	const char *model = NULL;
	cJSON *tree;

	if (id[strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
			  "-_")] ||
	    !*id || strlen(id) > ID_MAX_BYTES)
		return args_usage(&spec, "'%s' is no conversation's ID; see: hob history",
				  id);
	tree = fetch_conversation(ch, id);
	if (!tree)
		return CLI_FAIL;
	ch->conversation = xstrdup(id);
	if (!ch->model && json_string(tree, "model", &model, NULL) == 1 && *model)
		ch->model = xstrdup(model);
	say(ch, "(going on after %d messages)",
	    cJSON_GetArraySize(array_of(tree, "messages")));
	cJSON_Delete(tree);
	return CLI_OK;
}

static int chat_start(struct chat *ch, bool last, const char *id)
{
	struct err e;
	int status = CLI_OK;

	if (chat_connect(ch, &e)) {
		complain(ch, "%s", e.text);
		return e.code == ERR_CANCELLED ? CLI_INTERRUPTED : CLI_NO_DAEMON;
	}
	if (id && strcmp(id, "last"))
		status = find_named(ch, id);
	else if (last || id)
		status = find_last(ch);
	if (!ch->conversation)
		new_conversation(ch);
	if (!status)
		warm(ch);
	if (!status && lines_interactive(ch->lines))
		say(ch, "%s; /help for commands, Ctrl-D to leave",
		    ch->model ? ch->model : "the default model");
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
			ch->system = v;
			break;
		case OPT_TEMPERATURE:
			ok = args_double(a, o, v, 0, 2, &ch->temperature);
			break;
		case OPT_MAX_TOKENS:
			ok = args_int(a, o, v, 1, MAX_TOKENS_LIMIT, &ch->max_tokens);
			break;
		case OPT_NO_START:
			ch->no_start = true;
			break;
		}
	}
	return ok ? o : ARGS_STOP;
}

int cmd_chat(int argc, char **argv)
{
	struct chat ch = {.temperature = -1};
	struct chat_args want = {0};
	struct args a;

	args_init(&a, &spec, argc, argv);
	if (read_options(&ch, &a, &want) == ARGS_STOP)
		return a.status;
	if (argc - a.first > (want.model ? 0 : 1))
		return args_usage(&spec, "'%s' is one argument too many", argv[argc - 1]);
	if (!want.model && a.first < argc)
		want.model = argv[a.first];
	ch.model = want.model ? xstrdup(want.model) : NULL;
	interrupt_enable();
	ch.lines = open_lines();
	lines_complete(ch.lines, completion, &ch);
	ch.status = chat_start(&ch, want.last, want.id);
	if (!ch.status)
		chat_loop(&ch);
	ch.system = NULL;
	new_conversation(&ch); /* releases the messages */
	free(ch.messages);
	free(ch.model);
	cJSON_Delete(ch.models);
	lines_free(ch.lines);
	client_free(ch.client);
	return ch.status;
}
