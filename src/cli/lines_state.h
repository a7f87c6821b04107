/* A prompt's state, for the files of cli/lines.h only. */
#ifndef HOB_LINES_STATE_H
#define HOB_LINES_STATE_H

#include <histedit.h>
#include "cli/lines.h"
#include "cli/lines_history.h"
#include "cli/lines_paste.h"

struct lines {
	EditLine *edit;                /* owned; NULL: plain reading */
	struct lines_history *history; /* owned, with edit */
	int history_at;                /* shown entry + 1; 0: what is being typed */
	char *stash;                   /* owned: that, while an entry is shown; or NULL */
	const char *prompt;            /* borrowed, while reading */
	struct buf input;              /* read but not used yet */
	struct buf typed;              /* the last result with placeholders */
	char *prefill;                 /* owned, or NULL */
	struct pastes pastes;
	bool is_tty, ended;
	bool at_start;               /* no key of this prompt has been read */
	int columns;                 /* of the terminal, as last drawn */
	lines_complete_fn *complete; /* for Tab, or NULL */
	void *complete_arg;
};

enum lines_wait { WAIT_BYTE, WAIT_INTERRUPT, WAIT_TIMEOUT };
/* Until a byte can be read (or the end, or an error); timeout_ms < 0: for ever, because a person may
 * think as long as they like.  Redraws after Ctrl-Z and a change of size meanwhile. */
enum lines_wait lines_wait(struct lines *l, int timeout_ms);

/* lines_edit.c */
bool lines_edit_open(struct lines *l, const char *history_path);
void lines_edit_close(struct lines *l);
enum lines_result lines_edit_read(struct lines *l, struct buf *out);
void lines_edit_redraw(struct lines *l, bool resized);
/* Rows above the cursor of what stands on the screen, were it this wide. */
int lines_edit_rows(const struct lines *l, int columns);

/* lines_words.c: the Tab key */
unsigned char lines_words_tab(EditLine *edit, int key);

#endif
