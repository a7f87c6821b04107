/* Bounded history, a pure function: what of a conversation's path goes to the model.
 *
 *   [system][notes][summary][tail][new turn]
 *
 * Leading system messages always go.  Of the rest the plan keeps a tail that begins at a user
 * message, so that a tool call and its result never part and the last turn is whole; in front of it
 * stands a summary, where there is one.  A turn is a user message and all that follows up to the next.
 *
 * budget = ctx - output - max(256, ctx / 20) - extra, where output is the conversation's own
 * max_tokens, at most ctx / 2; without one min(1024, ctx / 4); extra: what the template adds around
 * them all.  (research on memory, section 4; ctx / 20 and 256 cover what counting cannot see: images,
 * tools, a tokenizer that is not the model's.)
 *
 * The path is replayed as an incremental trimmer would have met it, message by message; the sum of
 * what would be sent leads to
 *   over the soft limit (80 %)   tool results of all but the last two turns are elided, oldest first,
 *                                when that alone leads down to 50 %; else the newest summary that
 *                                reaches further than what is cut already takes the place of what it
 *                                stands for
 *   over the budget              tool results are elided; when that does not lead below the soft
 *                                limit whole turns are dropped, oldest first, down to 50 %
 * What was done stays done.  So a path that grows has the same prefix, byte for byte, until the soft
 * limit is reached again, and the KV cache of that prefix holds.  A summary that is nobody's need yet
 * is not used: what fits is sent as it is.
 *
 * A new summary is asked for over the soft limit.  It is to stand for half of the history, widened by
 * 10 % steps until what is left, with a summary of full length, takes at most 50 % of the budget and
 * 25 % of ctx; the last two turns stay in any case (before a call that does not fit: the last one). */
#ifndef HOB_CONTEXT_H
#define HOB_CONTEXT_H

#include "route/request.h"

enum {
	CONTEXT_SOFT_PERCENT = 80,
	CONTEXT_LOW_PERCENT = 50,
	CONTEXT_TAIL_PERCENT = 25,  /* of ctx: verbatim behind a new summary */
	CONTEXT_WIDEN_PERCENT = 10, /* of the history's tokens */
	CONTEXT_NOTES_PERCENT = 10, /* of the budget: newer notes win */
	CONTEXT_MARGIN_TOKENS = 256,
	CONTEXT_ELIDED_TOKENS =
		72, /* at most, of "[result elided, 8 KB, message HASH]" */
	CONTEXT_ELIDE_MIN_BYTES = 512, /* shorter results are not worth it */
	CONTEXT_SUMMARY_TOKENS = 2048, /* at most, and ctx / 8 */
	CONTEXT_BLOCK_TOKENS = 60,     /* what is written around a summary or the notes */
};

struct context_item {
	enum role role;
	int tokens;     /* of this message with its template around it */
	size_t bytes;   /* of its text */
	bool is_result; /* of a tool */
};

/* Stands for items [0, upto] without the leading system messages.  Usable when a user message follows. */
struct context_summary {
	int upto;
	int tokens; /* of its block in the prompt */
};

struct context_ask {
	const struct context_item *items; /* history, then the new messages */
	int n, nhistory;
	const struct context_summary *summaries; /* by upto */
	int nsummaries;
	int notes_tokens;
	int ctx, budget;
};

struct context_plan {
	int nsystem;   /* items [0, nsystem) go */
	int summary;   /* behind them: number of the one that goes, or -1 */
	int first;     /* items [first, n) go */
	int elided_to; /* tool results before it are shortened: context_elides() */
	/* Of the history: kept + summarised + dropped = nhistory.  elided: of the kept ones. */
	int kept, summarised, dropped, elided;
	int tokens; /* of what goes, notes included */
	bool fits;  /* false: even the last turn is too long */
	/* A summary of items [0, upto] is worth having, which would follow the one in use; -1: no.
	 * soft: some time after this call; hard: before it, or turns are dropped. */
	int soft_upto, hard_upto;
};

void context_fit(const struct context_ask *a, struct context_plan *out);
/* Is this item, which goes, shortened? */
bool context_elides(const struct context_ask *a, const struct context_plan *p, int i);
/* The same of an item alone, wherever it stands: is it a result worth shortening? */
bool context_is_long(const struct context_item *it);
int context_budget(int ctx, int max_tokens, int extra);
int context_summary_tokens(int ctx);

/* Bytes / 3.5 and 10 %, for want of a tokenizer: English in common ones lies at 4 to 4.5 bytes a token,
 * source code at 3 to 3.5.  8 for the template around a message. */
int context_guess(size_t bytes);

#endif
