/* hob run: one prompt, one answer.  Main thread.
 *
 * Is the first word a model?  With two or more words it is, as in `hob run MODEL PROMPT`, unless a
 * persona is named, which has a model of its own: then all words are the prompt.
 * A single word is the prompt for the default model, unless text comes on standard input
 * and the word names a model: then standard input is the prompt.  -m settles it for
 * scripts. */
#include "cli/commands.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/args.h"
#include "cli/ask.h"
#include "cli/attach.h"
#include "cli/daemon_start.h"
#include "cli/interrupt.h"
#include "cli/models_list.h"
#include "cli/render.h"
#include "cli/terminal.h"

enum {
	STDIN_MAX_BYTES =
		8 << 20, /* more than any context; the daemon's body limit is 32 MiB */
	SCHEMA_MAX_BYTES = 1 << 20,
	STDIN_NOTICE_MS = 3000,        /* then say what we wait for */
	STDIN_SILENCE_MS = 300 * 1000, /* then give up */
	MAX_TOKENS_LIMIT = 1 << 24,
};

enum {
	OPT_MODEL,
	OPT_PERSONA,
	OPT_SYSTEM,
	OPT_FILE,
	OPT_IMAGE,
	OPT_SCHEMA,
	OPT_PRIVATE,
	OPT_INCOGNITO,
	OPT_CONVERSATION,
	OPT_TEMPERATURE,
	OPT_MAX_TOKENS,
	OPT_SEED,
	OPT_RAW,
	OPT_JSON,
	OPT_STATS,
	OPT_NO_START,
	OPT_NR
};

static const struct args_option options[OPT_NR] = {
	[OPT_MODEL] = {"model", 'm', "MODEL", "the model; all words are the prompt then"},
	[OPT_PERSONA] =
		{"persona", 'P', "NAME",
		 "system prompt, model and settings of hob.conf; all words are the prompt"},
	[OPT_FILE] = {"file", 'f', "FILE",
		      "a text or an image that goes before the prompt; may be repeated"},
	[OPT_IMAGE] = {"image", 0, "FILE",
		       "an image (PNG, JPEG, WebP, GIF); may be repeated"},
	[OPT_SCHEMA] = {"schema", 0, "FILE|JSON",
			"the answer is JSON of this schema, or the status is 1"},
	[OPT_PRIVATE] = {"private", 0, NULL, "only a model on this machine may answer"},
	[OPT_INCOGNITO] = {"incognito", 0, NULL, "nothing of it is written to a disk"},
	[OPT_SYSTEM] = {"system", 's', "TEXT",
			"instructions that come before the prompt"},
	[OPT_CONVERSATION] = {"conversation", 'c', "ID",
			      "go on with this conversation (or: last, new)"},
	[OPT_TEMPERATURE] = {"temperature", 't', "T", "0 (always the same) to 2"},
	[OPT_MAX_TOKENS] = {"max-tokens", 'n', "N", "stop after N tokens"},
	[OPT_SEED] = {"seed", 0, "N", "make a random answer repeatable"},
	[OPT_RAW] = {"raw", 0, NULL,
		     "no chat: the model goes on from the prompt as it is"},
	[OPT_JSON] = {"json", 0, NULL, "print one JSON object when the answer is whole"},
	[OPT_STATS] = {"stats", 0, NULL, "print tokens and tokens/s on standard error"},
	[OPT_NO_START] = {"no-start", 0, NULL,
			  "fail (status 4) when the daemon is not running"},
};

static const struct args_spec spec = {
	.command = "run",
	.usage = "[OPTIONS] [MODEL] PROMPT...",
	.summary = "Prints a model's answer to one prompt.",
	.options = options,
	.noptions = OPT_NR,
	.notes =
		"With two or more words the first one is the model. A single word (or "
		"quoted text)\n"
		"is the prompt for the default model. Text on standard input goes after "
		"the prompt:\n"
		"  git diff | hob run smollm2:135m \"Review this change.\"\n"
		"  hob run smollm2:135m < question.txt\n"
		"  hob run --schema '{\"type\":\"object\"}' smollm2:135m \"A colour, as JSON.\"\n"
		"Text that begins with a dash goes after --.\n"
		"A base model, which was never taught to chat, wants --raw:\n"
		"  hob run --raw gemma-3-270m \"The capital of France is\"\n"
		"\n"
		"Exit status: 0 ok, 1 failed, 2 wrong usage, 3 no such model, 4 no "
		"daemon,\n"
		"130 interrupted.",
};

struct run {
	struct ask ask;
	const char *system;
	bool raw, json, stats, no_start;
	struct attach files;
	char *schema;      /* owned, or NULL */
	struct buf input;  /* standard input */
	struct buf prompt; /* words and input */
	struct err e;
};

/* Waits for standard input: 1 readable, 0 nothing is going to come, -1 with *e set. */
static int wait_input(bool *noticed, struct err *e)
{
	struct pollfd p[2] = {{.fd = STDIN_FILENO, .events = POLLIN},
			      {.fd = interrupt_fd(), .events = POLLIN}};
	uint64_t start = clock_mono_ms();

	for (;;) {
		uint64_t waited = clock_mono_ms() - start;
		int left = (*noticed || waited > STDIN_NOTICE_MS ? STDIN_SILENCE_MS
								 : STDIN_NOTICE_MS) -
			   (int)waited;

		if (interrupt_pending())
			return err_set(e, ERR_CANCELLED, "interrupted");
		if (waited >= STDIN_SILENCE_MS)
			return err_set(e, ERR_TIMEOUT,
				       "nothing came on standard input for %d s; "
				       "use </dev/null when nothing is to come",
				       STDIN_SILENCE_MS / 1000);
		if (waited >= STDIN_NOTICE_MS && !*noticed) {
			fprintf(stderr,
				"hob run: reading standard input (</dev/null: none)\n");
			*noticed = true;
		}
		if (poll(p, 2, left > 0 ? left : 0) > 0 && p[0].revents)
			return p[0].revents & POLLNVAL ? 0 : 1;
	}
}

static int read_input(struct buf *b, struct err *e)
{
	bool noticed = false;

	if (isatty(STDIN_FILENO))
		return 0;
	for (;;) {
		char bytes[16384];
		ssize_t n;
		int rc = wait_input(&noticed, e);

		if (rc <= 0)
			return rc;
		n = read(STDIN_FILENO, bytes, sizeof bytes);
		if (n == 0 || (n < 0 && errno == EBADF))
			break;
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return err_sys(e, errno, "read standard input");
		if (n > 0 && b->len + (size_t)n > STDIN_MAX_BYTES)
			return err_set(e, ERR_TOO_LARGE,
				       "standard input is larger than %d MiB",
				       STDIN_MAX_BYTES >> 20);
		if (n > 0)
			buf_add(b, bytes, (size_t)n);
	}
	if (b->len && memchr(b->data, 0, b->len))
		return err_set(e, ERR_INVALID,
			       "standard input is not text (it holds NUL bytes)");
	return 0;
}

static int read_schema_file(const char *path, struct buf *b, struct err *e)
{
	FILE *f = fopen(path, "re");
	char bytes[4096];
	size_t n;
	int rc = 0;

	if (!f)
		return err_sys(e, errno, "open the schema '%s'", path);
	while (b->len <= SCHEMA_MAX_BYTES && (n = fread(bytes, 1, sizeof bytes, f)))
		buf_add(b, bytes, n);
	if (ferror(f))
		rc = err_sys(e, errno, "read the schema '%s'", path);
	else if (b->len > SCHEMA_MAX_BYTES)
		rc = err_set(e, ERR_TOO_LARGE, "the schema '%s' is larger than %d MiB",
			     path, SCHEMA_MAX_BYTES >> 20);
	fclose(f);
	return rc;
}

/* JSON begins with a brace; anything else names a file. */
static int take_schema(struct run *r, const char *arg, struct err *e)
{
	struct buf b = {0};
	cJSON *tree = NULL;
	int rc = 0;

	if (arg[strspn(arg, " \t\n")] == '{')
		buf_adds(&b, arg);
	else
		rc = read_schema_file(arg, &b, e);
	if (!rc && !(tree = json_parse(buf_str(&b), e)))
		rc = err_wrap(e, "the schema");
	if (!rc && !cJSON_IsObject(tree))
		rc = err_set(e, ERR_INVALID, "the schema must be a JSON object");
	if (!rc) {
		free(r->schema);
		r->schema = buf_take(&b, NULL);
	}
	cJSON_Delete(tree);
	buf_free(&b);
	return rc;
}

/* An option whose file cannot be read is wrong usage, said before anybody is asked. */
static bool bad_file(struct args *a, const struct err *e)
{
	a->status = args_usage(&spec, "%s", e->text);
	return false;
}

/* ARGS_END, or ARGS_STOP with a->status. */
static int read_options(struct run *r, struct args *a)
{
	const char *v = NULL;
	bool ok = true;
	int o;

	while (ok && (o = args_next(a, &v)) >= 0) {
		switch (o) {
		case OPT_MODEL:
			r->ask.model = v;
			break;
		case OPT_PERSONA:
			r->ask.persona = v;
			break;
		case OPT_FILE:
		case OPT_IMAGE:
			ok = !attach_file(&r->files, v, o == OPT_IMAGE, &r->e) ||
			     bad_file(a, &r->e);
			break;
		case OPT_SCHEMA:
			ok = !take_schema(r, v, &r->e) || bad_file(a, &r->e);
			break;
		case OPT_PRIVATE:
			r->ask.is_private = true;
			break;
		case OPT_INCOGNITO:
			r->ask.conversation = "incognito";
			break;
		case OPT_SYSTEM:
			r->system = v;
			break;
		case OPT_CONVERSATION:
			r->ask.conversation = v;
			break;
		case OPT_TEMPERATURE:
			ok = args_double(a, o, v, 0, 2, &r->ask.temperature);
			break;
		case OPT_MAX_TOKENS:
			ok = args_int(a, o, v, 1, MAX_TOKENS_LIMIT, &r->ask.max_tokens);
			break;
		case OPT_SEED: /* 2^53: JSON numbers are doubles */
			ok = args_int(a, o, v, 0, (int64_t)1 << 53, &r->ask.seed);
			break;
		case OPT_RAW:
			r->raw = true;
			break;
		case OPT_JSON:
			r->json = true;
			break;
		case OPT_STATS:
			r->stats = true;
			break;
		case OPT_NO_START:
			r->no_start = true;
			break;
		}
	}
	return ok ? o : ARGS_STOP;
}

/* Does a single word name a model?  Only asked when standard input could be the prompt.
 */
static bool is_model(struct client *c, const char *word)
{
	struct err e;
	cJSON *list;
	bool yes;

	if (word[strcspn(word, " \t\n")])
		return false;
	list = models_list(c, &e);
	yes = list && models_list_has(list, word);
	cJSON_Delete(list);
	return yes;
}

static void make_prompt(struct run *r, struct client *c, char **words, int n)
{
	int first = 0;

	if (!r->ask.model && !r->ask.persona &&
	    (n >= 2 || (n == 1 && r->input.len && is_model(c, words[0]))))
		r->ask.model = words[first++];
	buf_add(&r->prompt, r->files.text.data, r->files.text.len);
	for (int i = first; i < n; i++)
		buf_addf(&r->prompt, "%s%s", i > first ? " " : "", words[i]);
	if (r->input.len && n > first)
		buf_adds(&r->prompt, "\n\n");
	buf_add(&r->prompt, r->input.data, r->input.len);
}

static void print_json(const struct ask_answer *a, cJSON *value)
{
	cJSON *o = cJSON_CreateObject(), *usage = cJSON_CreateObject();
	struct buf b = {0};

	cJSON_AddStringToObject(o, "text", a->text.data ? a->text.data : "");
	if (value)
		cJSON_AddItemToObject(o, "json", cJSON_Duplicate(value, true));
	cJSON_AddStringToObject(o, "model", a->model ? a->model : "");
	cJSON_AddStringToObject(o, "provider", a->provider ? a->provider : "");
	if (a->conversation)
		cJSON_AddStringToObject(o, "conversation", a->conversation);
	cJSON_AddStringToObject(o, "finish_reason", a->finish ? a->finish : "");
	cJSON_AddNumberToObject(usage, "prompt_tokens", (double)a->prompt_tokens);
	cJSON_AddNumberToObject(usage, "completion_tokens", (double)a->completion_tokens);
	cJSON_AddNumberToObject(usage, "cached_tokens", (double)a->cached_tokens);
	cJSON_AddNumberToObject(usage, "prefill_ms", a->prefill_ms);
	cJSON_AddNumberToObject(usage, "decode_ms", a->decode_ms);
	cJSON_AddItemToObject(o, "usage", usage);
	json_print(&b, o);
	buf_addc(&b, '\n');
	render_json(stdout, buf_str(&b));
	buf_free(&b);
	cJSON_Delete(o);
}

/* One object, with the answer inside; or with a schema just the answer. */
static int print_whole(struct run *r, const struct ask_answer *a)
{
	cJSON *value = r->schema ? json_parse(buf_str(&a->text), &r->e) : NULL;
	int rc = 0;

	if (r->schema && !value)
		rc = err_wrap(&r->e, "the answer is not JSON%s",
			      a->finish && !strcmp(a->finish, "length")
				      ? " (it was cut off at its limit of tokens)"
				      : "");
	if (r->json) {
		print_json(a, value);
	} else if (!rc) {
		render_json(stdout, buf_str(&a->text));
		putchar('\n');
	}
	cJSON_Delete(value);
	return rc;
}

static bool ignore_text(void *arg, const char *p, size_t n, bool is_reasoning)
{
	UNUSED(arg);
	UNUSED(p);
	UNUSED(n);
	UNUSED(is_reasoning);
	return true;
}

static int fail(const struct err *e, int status)
{
	char *text = render_text(e->text);

	fprintf(stderr, "hob run: %s\n", text);
	free(text);
	return status;
}

/* Who named a conversation believes that it goes on. */
static void print_not_remembered(const struct ask_answer *a)
{
	const char *note = ask_answer_not_remembered(a->reason);
	char *line = note ? render_line(note) : NULL;

	if (line)
		fprintf(stderr, "hob run: %s\n", line);
	free(line);
}

static void print_stats(const struct ask_answer *a)
{
	char *speed = ask_answer_speed(a);

	fprintf(stderr, "%s\n", speed);
	free(speed);
}

static int run_answer(struct run *r, struct client *c, bool guessed_model)
{
	struct render_answer view;
	struct ask_answer answer;
	bool whole = r->json || r->schema;
	int status = CLI_OK, rc;

	render_answer_init(&view, stdout, isatty(STDOUT_FILENO));
	rc = ask(c, &r->ask, whole ? ignore_text : render_answer_text, &view, &answer,
		 &r->e);
	if (!whole)
		render_answer_end(&view);
	if (rc)
		status = fail(&r->e, ask_exit_status(&r->e));
	else if (whole && print_whole(r, &answer))
		status = fail(&r->e, CLI_FAIL);
	if (status == CLI_NO_MODEL && guessed_model)
		fprintf(stderr,
			"The first of several words names the model; to ask the default "
			"one, put the prompt in quotes.\n");
	if (r->stats && !rc)
		print_stats(&answer);
	if (!rc && r->ask.conversation)
		print_not_remembered(&answer);
	if (!status && (fflush(stdout) || ferror(stdout))) {
		err_sys(&r->e, errno, "write the answer");
		status = fail(&r->e, CLI_FAIL);
	}
	ask_answer_fini(&answer);
	return status;
}

/* The words and what goes with them, asked: the status. */
static int run_prompt(struct run *r, struct client *c, char **words, int nwords)
{
	struct ask_message messages[2] = {0};
	bool guessed = !r->ask.model;
	int n = 0, status;
	char *content;

	make_prompt(r, c, words, nwords);
	buf_adds(&r->prompt, "");
	content = attach_content(&r->files, r->prompt.data);
	if (r->system)
		messages[n++] = (struct ask_message){"system", (char *)r->system, NULL};
	messages[n++] = (struct ask_message){"user", r->prompt.data, content};
	if (r->raw)
		r->ask.prompt = r->prompt.data;
	r->ask.messages = messages;
	r->ask.nmessages = n;
	r->ask.schema = r->schema;
	status = run_answer(r, c, guessed && r->ask.model);
	free(content);
	return status;
}

static int run_all(struct run *r, char **words, int nwords)
{
	struct client *c;
	int status;

	if (r->raw && (r->system || r->ask.conversation || r->ask.persona ||
		       r->files.nimages || r->schema))
		return args_usage(
			&spec,
			"--raw has no place for --system, --conversation, "
			"--persona, --image or --schema: those are parts of a chat");
	if (read_input(&r->input, &r->e))
		return fail(&r->e, ask_exit_status(&r->e));
	if (!nwords && !r->input.len && !r->files.nfiles)
		return args_usage(&spec, "no prompt");
	c = daemon_connect(!r->no_start, &r->e);
	if (!c)
		return fail(&r->e,
			    r->e.code == ERR_CANCELLED ? CLI_INTERRUPTED : CLI_NO_DAEMON);
	status = run_prompt(r, c, words, nwords);
	client_free(c);
	return status;
}

int cmd_run(int argc, char **argv)
{
	struct run r = {.ask = {.temperature = -1, .seed = -1, .client = "hob run"}};
	struct args a;
	int status;

	args_init(&a, &spec, argc, argv);
	if (read_options(&r, &a) == ARGS_STOP) {
		status = a.status;
	} else {
		interrupt_enable();
		if (isatty(STDOUT_FILENO))
			terminal_take();
		status = run_all(&r, argv + a.first, argc - a.first);
	}
	attach_clear(&r.files);
	free(r.schema);
	buf_free(&r.input);
	buf_free(&r.prompt);
	return status;
}
