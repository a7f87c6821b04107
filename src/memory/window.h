/* Bounded history, a pure function: which messages of a path fit a budget of tokens.
 *
 * Leading system messages are always kept.  From the rest whole turns (a user message and all
 * that follows up to the next user message) go from the front until it fits; trimming goes
 * further than needed, down to `low_percent` of the budget, so that the prompt's prefix, and with
 * it the KV cache, stays the same for many turns.  The choice depends only on the path, the
 * counts and the budget: the same path gives the same window. */
#ifndef HOB_WINDOW_H
#define HOB_WINDOW_H

#include "route/request.h"

struct window_item {
	enum role role;
	int tokens; /* of this message with its template overhead */
};

struct window {
	int nsystem;       /* items [0, nsystem) are kept */
	int first;         /* items [first, n) are kept */
	int kept, dropped; /* messages */
	int tokens;        /* of what is kept */
	bool fits;         /* false: even the last turn alone is over the budget */
};

enum { WINDOW_LOW_PERCENT = 50 };

struct window window_fit(const struct window_item *items, int n, int budget_tokens);

#endif
