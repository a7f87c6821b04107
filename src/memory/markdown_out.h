/* A conversation as Markdown, for people: title, model, date, and the messages on the path to the
 * head, each under a heading.  Pure.
 *
 * Text of a message stands as it is, since it mostly is Markdown; its headings and open fences
 * cannot swallow what follows (markdown_inset.h).  Tool calls and tool results stand in fences longer
 * than any within, reasoning in a quotation; attachments are named with type and size, not included. */
#ifndef HOB_MARKDOWN_OUT_H
#define HOB_MARKDOWN_OUT_H

#include "base/buf.h"
#include "base/err.h"

/* jsonl: as store_export gives it.  Appends to out; on -1 out is as it was. */
int markdown_out(struct str jsonl, struct buf *out, struct err *e);

#endif
