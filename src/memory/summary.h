/* Texts that hob writes itself: the question for a summary or a title, what is read from the answer,
 * and what stands in a prompt for messages that do not.  Pure. */
#ifndef HOB_SUMMARY_H
#define HOB_SUMMARY_H

#include "base/buf.h"
#include "memory/store.h"

enum {
	SUMMARY_MAX_BYTES = 64 << 10,
	TITLE_MAX_CHARS = 60,
	TITLE_MAX_TOKENS = 32,
	TITLE_QUOTE_BYTES = 1500, /* of question and answer, each */
};

/* The last user message of the request; the messages in front of it are the conversation's own, unchanged. */
void summary_ask(int max_tokens, struct buf *out);
/* The summary in an answer: without what a model thinks aloud at its beginning, cut at the first sign of
 * a tool call or a turn, trimmed.  False: nothing is left, or it is longer than the `stands_for` bytes
 * that it would replace. */
bool summary_read(struct str answer, size_t stands_for, struct buf *out);
/* What the model sees of it.  messages: that it stands for. */
void summary_add_block(struct buf *out, const char *text, int messages,
		       const char *model);
void summary_add_notes(struct buf *out, char *const *notes, int n);
/* "[result elided, 8 KB, message HASH]" */
void summary_add_elided(struct buf *out, size_t bytes, const char *hash);

void title_ask(const char *question, struct str answer, struct buf *out);
/* One line without quotes and control characters. asked: what title_ask() wrote. False: what is left is no
 * title, so that the conversation keeps its first line: nothing, more than TITLE_MAX_CHARS, a word three
 * times, or no word (of four letters, by its beginning; ASCII only) of the conversation. */
bool title_read(struct str answer, struct str asked, struct buf *out);

#endif
