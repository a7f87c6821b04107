/* What goes first when there is too much, or when it is too old.
 *
 * Any thread; pure functions over figures.  Whole conversations go, the least recently used first by
 * the store's own order of use, which no clock disturbs; pinned ones, those in which an answer is being
 * written, and the one that was used last never go.
 *
 * Age needs a clock, and clocks lie.  A conversation's age is therefore counted from the earlier of two:
 * the clock, and the third newest last use of all conversations.  A clock that is far ahead
 * makes nothing old, and neither do one or two conversations that were used under it; one that went back makes
 * everything young.  Who comes back after years loses nothing before the third conversation is used. */
#ifndef HOB_MEMORY_RETENTION_H
#define HOB_MEMORY_RETENTION_H

#include "memory/store_keep.h"

enum {
	RETENTION_SOFT_PERCENT = 90, /* of max_bytes: from here on conversations go */
	RETENTION_WITNESSES = 3,     /* last uses that say what time it is */
};

struct retention_state {
	uint64_t live_bytes; /* of pages in use: what free pages hold needs no eviction */
	int64_t messages, conversations;
	int64_t now_ms;     /* the clock */
	int64_t witness_ms; /* the third newest last use; 0 = there are no three */
};

/* The time that ages are counted from; 0 = nothing has an age. */
int64_t retention_now(const struct retention_state *s);
/* Conversations last used before this are too old; 0 = none is. */
int64_t retention_too_old(const struct store_limits *l, const struct retention_state *s);
/* Failed turns from before this have expired; 0 = none has. */
int64_t retention_failed_before(const struct store_limits *l,
				const struct retention_state *s);
/* Too much of something: the least recently used conversation goes. */
bool retention_too_much(const struct store_limits *l, const struct retention_state *s);

#endif
