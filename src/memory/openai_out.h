/* A conversation as OpenAI's `messages` array: the messages on the path to the head.  Pure.
 *
 * One line: [{"role":"user","content":"…"},…] and its end, so that several make JSON lines.  A
 * message that is more than text stands as the client or the model wrote it. */
#ifndef HOB_OPENAI_OUT_H
#define HOB_OPENAI_OUT_H

#include "base/buf.h"
#include "base/err.h"

/* jsonl: as store_export gives it.  Appends to out; on -1 out is as it was. */
int openai_out(struct str jsonl, struct buf *out, struct err *e);

#endif
