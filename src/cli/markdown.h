/* A model's Markdown on a terminal, as it streams in.
 *
 * Input: whole UTF-8 characters that went through render_filter() (cli/render.h), cut anywhere.  No byte of
 * it becomes part of an escape sequence.  Output: text with SGR sequences, newlines and nothing else; it is
 * append-only (the cursor never moves up or back, nothing is erased), so it cannot flicker and a
 * scrollback or a slow line shows the same.  The same text in any pieces gives the same bytes.
 *
 * Text appears as soon as its meaning is certain.  Held back are: the current word, until its place is known
 * (markdown_wrap.h); an opening marker and what follows it, at most about a line (markdown_inline.h); the start of
 * a line, until it is known which block it belongs to: a few characters, but the whole line where only its end
 * tells (fences, thematic breaks, rows of tables); a table's first rows (markdown_table.h); names in code
 * until they end (highlight.h).
 *
 * Blocks are CommonMark's with GFM's tables and task items, and these differences on purpose:
 * - a heading underlined with === or --- is a paragraph and a line, since its text is already there;
 * - a fence in a list item ends by its fence, even if the code is indented less than the item;
 * - a row of a table begins with '|';
 * - a list keeps the numbers that were written; blank lines stay as written, but several are one, and there is
 *   one around code. */
#ifndef HOB_MARKDOWN_H
#define HOB_MARKDOWN_H

#include "base/buf.h"

enum {
	MARKDOWN_DEPTH = 16, /* quotes and items in one another; deeper ones are text */
	MARKDOWN_LINE_START =
		1024 /* bytes of a line that is not known yet: then it is a paragraph */
};

struct markdown;
/* columns: the terminal's width, asked at each line. */
struct markdown *markdown_new(int (*columns)(void *arg), void *arg);
void markdown_free(struct markdown *m);
/* Appends what is certain now to out. */
void markdown_text(struct markdown *m, struct buf *out, const char *p, size_t n);
/* Appends all that was held, ends the line and the colours.  A new text may begin then. */
void markdown_end(struct markdown *m, struct buf *out);

#endif
