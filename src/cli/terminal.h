/* The terminal that a command borrows: given back whatever ends the command.
 *
 * Main thread and its signal handlers.  After terminal_take() an end by SIGTERM, SIGHUP, SIGQUIT,
 * SIGSEGV, SIGBUS, SIGILL, SIGFPE or SIGABRT (a failed ASSERT) first puts the modes of standard input
 * back as they were found, switches bracketed paste off, shows the cursor and ends any colour; then the
 * signal takes its usual way.  Ctrl-Z does the same and takes the terminal again afterwards.  Nothing
 * helps against SIGKILL: `reset` or `stty sane` in the shell does. */
#ifndef HOB_TERMINAL_H
#define HOB_TERMINAL_H

#include <stdbool.h>

/* From now on; more than once is fine.  Without a terminal it does nothing. */
void terminal_take(void);
/* Bracketed paste (DEC private mode 2004): a paste comes between ESC[200~ and ESC[201~. */
void terminal_paste_mode(bool on);
/* While an answer comes: what is typed neither shows nor is it cut into lines; Ctrl-C still signals. */
void terminal_quiet(void);
/* As it was found; terminal_take() need not be called again. */
void terminal_give_back(void);

/* Whether it happened since the last call. */
bool terminal_resumed(void); /* from Ctrl-Z */
bool terminal_resized(void);

#endif
