/* The tool calls of one answer, put together from the pieces that come as EVENT_TOOL_CALL.  Pure. */
#ifndef HOB_TOOL_CALLS_H
#define HOB_TOOL_CALLS_H

#include "base/buf.h"
#include "base/err.h"

enum { TOOL_CALLS_MAX = 128, TOOL_CALLS_MAX_BYTES = 8 << 20 };

struct tool_calls;
struct tool_calls *tool_calls_new(void);
void tool_calls_free(struct tool_calls *t); /* NULL is fine */
/* One element of OpenAI's delta.tool_calls.  -1: it is none, or there is too much; what came before
 * stays. */
int tool_calls_add(struct tool_calls *t, struct str delta, struct err *e);
/* The whole assistant message, as it goes back to a provider. */
void tool_calls_message(const struct tool_calls *t, struct str text, struct buf *out);

#endif
