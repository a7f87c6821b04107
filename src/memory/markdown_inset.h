/* A message's own Markdown inside a larger document: nothing in it reaches beyond its end.  Pure.
 *
 * By CommonMark 0.31: a fence that is left open is closed; headings outside of fences go two levels
 * down, since the two highest are the document's; what opens a block of HTML, or underlines a line
 * into a heading, is escaped.  All else stands as it is. */
#ifndef HOB_MARKDOWN_INSET_H
#define HOB_MARKDOWN_INSET_H

#include "base/buf.h"

void inset_text(struct buf *out, struct str text);
/* The same text as a quotation. */
void inset_quote(struct buf *out, struct str text);
/* In a fence longer than any run of backticks within. */
void inset_fence(struct buf *out, const char *language, struct str text);
/* One line of plain text: what has a meaning is escaped, line breaks become spaces. */
void inset_plain(struct buf *out, struct str text);

#endif
