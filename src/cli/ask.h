/* One prompt to the daemon and its streamed answer: what `hob run` and `hob chat` share.
 *
 * Blocking, main thread; Ctrl-C and deadlines as in cli/client.h. */
#ifndef HOB_ASK_H
#define HOB_ASK_H

#include "base/buf.h"
#include "cli/client.h"

struct ask_message {
	const char *role; /* "system", "user", "assistant" */
	char *text;       /* owned by whoever owns the array */
	char *content; /* as text; JSON that is sent instead (parts with images), or NULL */
};

struct ask {
	const char *model; /* NULL: the default one */
	const char *
		conversation; /* an id, "new", "last" or "incognito"; NULL: without memory */
	const char *
		parent; /* the messages go behind this one: a hash or "root"; NULL: the newest */
	const char *persona; /* of the configuration, or NULL */
	const char *client;  /* who asks: "hob run" */
	bool is_private;     /* only to models on this machine */
	const char *schema;  /* JSON schema of the answer, as text, or NULL */
	const char *prompt;  /* text to go on from, without a template; NULL: messages */
	const struct ask_message *messages;
	int nmessages;
	double temperature; /* < 0: not given */
	int64_t max_tokens; /* 0: not given */
	int64_t seed;       /* < 0: not given */
};

/* Zero it to start; ask_answer_fini() in any case.  Filled as far as the answer got. */
struct ask_answer {
	struct buf text; /* as the model wrote it */
	char *model, *provider, *reason, *conversation, *finish; /* owned, or NULL */
	char *id; /* as the reply named it: "chatcmpl-" and the request's; owned, or NULL */
	char *tier; /* "vram", "ram", "remote", ...; owned, or NULL */
	char *prompt,
		*message; /* hashes of the last message asked and of the reply; owned, or NULL */
	int64_t prompt_tokens, completion_tokens, cached_tokens; /* -1: unknown */
	double prefill_ms, decode_ms;                            /* < 0: unknown */
	double cost_usd;                                         /* < 0: unknown */
	int64_t ctx;                /* tokens of context in all; -1: unknown */
	int64_t kept, dropped;      /* messages of the history; -1: no memory was used */
	int64_t summarised, elided; /* behind a summary; tool results shortened */
	int attempts;               /* that failed before this one */
};

/* Bytes of the answer as they come, not filtered.  is_reasoning: the model thinks aloud.
 * False: nobody reads any more (writing failed); the answer is stopped, ERR_IO. */
typedef bool ask_text_cb(void *arg, const char *p, size_t n, bool is_reasoning);

/* 0 when the answer is whole; -1 with the daemon's error or ours (ERR_CANCELLED: Ctrl-C).
 */
int ask(struct client *c, const struct ask *a, ask_text_cb *on_text, void *arg,
	struct ask_answer *out, struct err *e);
void ask_answer_fini(struct ask_answer *a);

/* "12 tokens, 345.6 tokens/s", without the rate when it is not known; owned. */
char *ask_answer_speed(const struct ask_answer *a);

/* The exit status (cli/commands.h) that an error of ask() means. */
int ask_exit_status(const struct err *e);

#endif
