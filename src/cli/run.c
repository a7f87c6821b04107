/* hob run: one prompt, one answer.  Main thread.
 *
 * Is the first word a model?  With two or more words it is, as in `hob run MODEL PROMPT`.
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
#include "cli/daemon_start.h"
#include "cli/interrupt.h"
#include "cli/models_list.h"
#include "cli/render.h"

enum {
	STDIN_MAX_BYTES =
		8 << 20, /* more than any context; the daemon's body limit is 32 MiB */
	STDIN_NOTICE_MS = 3000,        /* then say what we wait for */
	STDIN_SILENCE_MS = 300 * 1000, /* then give up */
	MAX_TOKENS_LIMIT = 1 << 24,
};

enum {
	OPT_MODEL,
	OPT_SYSTEM,
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
	.notes = "With two or more words the first one is the model. A single word (or "
		 "quoted text)\n"
		 "is the prompt for the default model. Text on standard input goes after "
		 "the prompt:\n"
		 "  git diff | hob run smollm2:135m \"Review this change.\"\n"
		 "  hob run smollm2:135m < question.txt\n"
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

	if (!r->ask.model &&
	    (n >= 2 || (n == 1 && r->input.len && is_model(c, words[0]))))
		r->ask.model = words[first++];
	for (int i = first; i < n; i++)
		buf_addf(&r->prompt, "%s%s", i > first ? " " : "", words[i]);
	if (r->input.len && r->prompt.len)
		buf_adds(&r->prompt, "\n\n");
	buf_add(&r->prompt, r->input.data, r->input.len);
}

static void print_json(const struct ask_answer *a)
{
	cJSON *o = cJSON_CreateObject(), *usage = cJSON_CreateObject();
	struct buf b = {0};

	cJSON_AddStringToObject(o, "text", a->text.data ? a->text.data : "");
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

static int run_answer(struct run *r, struct client *c, bool guessed_model)
{
	struct render_answer view;
	struct ask_answer answer;
	int status = CLI_OK, rc;

	render_answer_init(&view, stdout, isatty(STDOUT_FILENO));
	rc = ask(c, &r->ask, r->json ? ignore_text : render_answer_text, &view, &answer,
		 &r->e);
	if (r->json && !rc)
		print_json(&answer);
	if (view.any || view.in_thought)
		render_answer_end(&view);
	if (rc)
		status = fail(&r->e, ask_exit_status(&r->e));
	if (status == CLI_NO_MODEL && guessed_model)
		fprintf(stderr,
			"The first of several words names the model; to ask the default "
			"one, put the prompt in quotes.\n");
	if (r->stats && !rc) {
		char *speed = ask_answer_speed(&answer);

		fprintf(stderr, "%s\n", speed);
		free(speed);
	}
	if (!status && (fflush(stdout) || ferror(stdout))) {
		err_sys(&r->e, errno, "write the answer");
		status = fail(&r->e, CLI_FAIL);
	}
	ask_answer_fini(&answer);
	return status;
}

static int run_all(struct run *r, char **words, int nwords)
{
	struct ask_message messages[2];
	bool guessed = !r->ask.model;
	struct client *c;
	int n = 0, status;

	if (r->raw && (r->system || r->ask.conversation))
		return args_usage(&spec, "--raw has no place for --system or "
					 "--conversation: those are parts of a chat");
	if (read_input(&r->input, &r->e))
		return fail(&r->e, ask_exit_status(&r->e));
	if (!nwords && !r->input.len)
		return args_usage(&spec, "no prompt");
	c = daemon_connect(!r->no_start, &r->e);
	if (!c)
		return fail(&r->e,
			    r->e.code == ERR_CANCELLED ? CLI_INTERRUPTED : CLI_NO_DAEMON);
	make_prompt(r, c, words, nwords);
	if (r->system)
		messages[n++] = (struct ask_message){"system", (char *)r->system};
	messages[n++] = (struct ask_message){"user", r->prompt.data ? r->prompt.data
								    : (char *)""};
	if (r->raw)
		r->ask.prompt = messages[n - 1].text;
	r->ask.messages = messages;
	r->ask.nmessages = n;
	status = run_answer(r, c, guessed && r->ask.model);
	client_free(c);
	return status;
}

int cmd_run(int argc, char **argv)
{
	struct run r = {.ask = {.temperature = -1, .seed = -1}};
	struct args a;
	int status;

	args_init(&a, &spec, argc, argv);
	if (read_options(&r, &a) == ARGS_STOP)
		return a.status;
	interrupt_enable();
	status = run_all(&r, argv + a.first, argc - a.first);
	buf_free(&r.input);
	buf_free(&r.prompt);
	return status;
}
