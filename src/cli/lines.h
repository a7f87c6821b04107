/* Lines that a person types, with editing and history; or lines from a pipe.
 *
 * Blocking, main thread, one in a process: it takes the terminal and its signals.
 * Whatever ends the process in an orderly way (SIGTERM, SIGHUP, SIGQUIT) or stops it
 * (Ctrl-Z) gives the terminal back in the state in which it was found. */
#ifndef HOB_LINES_H
#define HOB_LINES_H

#include "base/buf.h"
#include "base/err.h"

enum { LINES_MAX_BYTES = 4 << 20, LINES_HISTORY_MAX = 1000 };

enum lines_result {
	LINES_LINE,
	LINES_END,         /* Ctrl-D, or the pipe ended */
	LINES_INTERRUPTED, /* Ctrl-C: what was typed is gone; the flag has been cleared */
	LINES_ERROR        /* *e is set */
};

struct lines;

/* Needs interrupt_enable() before.  The history file is made with mode 0600; when it
 * cannot be read or written there is none, silently: a prompt must not fail for its
 * history. */
struct lines *lines_new(const char *history_path);
void lines_free(struct lines *l);
bool lines_interactive(const struct lines *l); /* a person types at a terminal */
/* One line without its newline into out (cleared first).  The prompt shows only at a
 * terminal. */
enum lines_result lines_read(struct lines *l, const char *prompt, struct buf *out,
			     struct err *e);
/* Adds a line to the history and its file. */
void lines_remember(struct lines *l, const char *line);

/* For the Tab key: the i-th word that the line may go on as, NULL after the last.
 * Borrowed until the next call. */
typedef const char *lines_word_fn(void *arg, int i);
void lines_complete(struct lines *l, lines_word_fn *fn, void *arg);

#endif
