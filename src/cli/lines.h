/* Prompts that a person types, with editing, history and completion; or lines from a pipe.
 *
 * Blocking, main thread, one in a process: it takes the terminal and its signals
 * (cli/terminal.h).  At a terminal that understands escape sequences a prompt may have several lines
 * (Alt-Enter, Ctrl-J, or Enter behind a backslash) and a paste neither submits nor completes; a large
 * one is shown as "[pasted 200 lines]".  Elsewhere a prompt goes on in the next line when one ends in a
 * backslash. */
#ifndef HOB_LINES_H
#define HOB_LINES_H

#include "base/buf.h"
#include "base/err.h"

enum { LINES_MAX_BYTES = 4 << 20 };

enum lines_result {
	LINES_LINE,
	LINES_END,         /* Ctrl-D, or the pipe ended */
	LINES_INTERRUPTED, /* Ctrl-C: what was typed is gone (Up brings it back); the flag has
			      been cleared */
	LINES_ERROR        /* *e is set */
};

struct lines;

/* Needs interrupt_enable() before.  The history is as in cli/lines_history.h. */
struct lines *lines_new(const char *history_path);
void lines_free(struct lines *l);
bool lines_interactive(const struct lines *l); /* a person types at a terminal */
bool lines_editing(const struct lines *l);     /* ... with a line editor */
/* One prompt without its last newline into out (cleared first).  `prompt` shows only at a terminal. */
enum lines_result lines_read(struct lines *l, const char *prompt, struct buf *out,
			     struct err *e);
/* The same text with placeholders for large pastes: for telling a command from text.  Borrowed until the
 * next lines_read(). */
const char *lines_typed(const struct lines *l);
/* The next lines_read() begins with this text; only where lines_editing(). */
void lines_prefill(struct lines *l, const char *text);
/* Adds to the history; keep: to its file as well. */
void lines_remember(struct lines *l, const char *text, bool keep);
/* The terminal for another program, an editor for example, until the next lines_read(). */
void lines_give_back(struct lines *l);

/* What Tab may put in place of the word behind `start`. */
struct lines_words {
	size_t start; /* in bytes: where the word begins */
	struct lines_word {
		char *text, *shown; /* owned: as inserted, as listed */
	} * words;
	int n, cap;
	bool more; /* there are more than LINES_WORDS_MAX */
};
enum { LINES_WORDS_MAX = 2000 };
/* Adds one if it goes on as the line does; text and shown are copied, shown NULL: the text. */
void lines_words_add(struct lines_words *w, const char *text, const char *shown);

/* Fills w for the text before the cursor. */
typedef void lines_complete_fn(void *arg, const char *before, struct lines_words *w);
void lines_complete(struct lines *l, lines_complete_fn *fn, void *arg);

#endif
