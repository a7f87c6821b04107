/* Messages to the tokens a chat model was trained on.
 *
 * The model's template (Jinja, in the file) is recognised, not run: a family is known by
 * facts of its text, and its rendering is written here in C and tested equal to the
 * template's own.  An unknown template means no chat with that model, said with the
 * model's name; raw completion still works. Only the formatter's own markers become
 * special tokens; what is in a message never does. Immutable once made, nothing to free;
 * borrows the vocabulary, which must outlive it. */
#ifndef HOB_CHAT_FORMAT_H
#define HOB_CHAT_FORMAT_H

#include "engine/vocab.h"

/* A template with a longer system prompt of its own is not recognised. */
enum { CHAT_MAX_SYSTEM_BYTES = 1024 };

enum chat_family {
	CHAT_NONE,    /* chat_render() and chat_count() refuse */
	CHAT_CHATML,  /* no system prompt of its own */
	CHAT_SMOLLM2, /* ChatML; adds its own when the first message is not a system
		       * message. Any text: fine-tunes and Qwen2 differ from SmolLM2 in
		       * nothing else */
	CHAT_QWEN25,  /* the same for messages without tools */
	CHAT_FAMILY_NR
};

enum chat_role { CHAT_SYSTEM, CHAT_USER, CHAT_ASSISTANT, CHAT_ROLE_NR };

struct chat_message {
	enum chat_role role;
	struct str text;
};

struct chat_format {
	enum chat_family family;
	const struct vocab *vocab;
	int32_t im_start, im_end;
	char default_system[CHAT_MAX_SYSTEM_BYTES]; /* "": the template adds none */
	char why_not[384]; /* CHAT_NONE: the message for people; names the model */
};

struct chat_count {
	int *tokens; /* the caller's, n of them: each message with its own markers */
	int extra;   /* default system prompt, BOS and the answer's opening */
};

/* Never fails: what is not recognised gives CHAT_NONE with why_not.  model is a name for
 * messages. */
void chat_format_init(struct chat_format *f, const struct gguf *g, const struct vocab *v,
		      const char *model);
/* The family of a template's text alone, and the system prompt it adds ("" for none). */
enum chat_family chat_family_of(struct str template_text,
				char default_system[CHAT_MAX_SYSTEM_BYTES]);
const char *chat_family_name(enum chat_family family); /* "chatml", ...; static */
bool chat_role_by_name(struct str name,
		       enum chat_role *out); /* "system", "user", "assistant" */

/* Appends the prompt, from BOS (if the vocabulary wants it) to the opening of the answer.
 * The number of tokens is exactly the sum of chat_count's.  -1: ERR_UNSUPPORTED for
 * CHAT_NONE, ERR_INVALID for n < 1; *out is untouched then. */
int chat_render(const struct chat_format *f, const struct chat_message *messages, int n,
		struct tokens *out, struct err *e);
int chat_count(const struct chat_format *f, const struct chat_message *messages, int n,
	       struct chat_count *out, struct err *e);

#endif
