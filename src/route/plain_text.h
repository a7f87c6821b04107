/* What a model that reads only text is given for messages that hold more: tool calls, results, images.
 *
 * Pure; any thread.  The form of a message depends on itself and on those before it alone, so that a
 * prompt that grows keeps its beginning byte for byte.
 *
 *   assistant's calls   its text, then one line each: [called NAME(ARGUMENTS)]
 *   a tool's result     a user's message: [result of NAME: TEXT]; a call that is not there is "a tool"
 *   other parts         a line of their own, where they stood: [image], [audio], [file], [attachment]
 *
 * ARGUMENTS and TEXT over their limits end with "... (cut, 20 KB in all)". */
#ifndef HOB_PLAIN_TEXT_H
#define HOB_PLAIN_TEXT_H

#include "route/request.h"

enum {
	PLAIN_ARGUMENTS_BYTES = 2000, /* of a call; what is cut seldom matters later */
	PLAIN_RESULT_BYTES = 8192,    /* some 2300 tokens */
};

/* Goes through messages in their order: a result is named by the call that came before it. */
struct plain_text;
struct plain_text *plain_text_new(void);
void plain_text_free(struct plain_text *p); /* NULL is fine */
/* False: m is plain already, out is untouched.  Else out has no raw_json, and its text is owned by the
 * caller. */
bool plain_text_next(struct plain_text *p, const struct message *m, struct message *out);

#endif
