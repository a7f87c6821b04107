/* Bounded history: which messages of a path still go to the model.
 *
 * Runs anywhere, touches nothing.  The question a reader will ask is why the path is replayed
 * from its first message instead of being cut once from the end: a cut computed from the end
 * moves with every turn, and each move costs the whole KV cache.  Replaying what an incremental
 * trimmer would have done makes the state after i messages a function of those i messages only,
 * so a longer path has the same cut until the budget is reached again.  It is linear and needs
 * no memory of earlier calls. */
#include "memory/window.h"

static int64_t cost(const struct window_item *it)
{
	return it->tokens > 0 ? it->tokens : 0;
}

/* Index of the next user message after i, or `end` when i lies in the last turn. */
static int next_turn(const struct window_item *items, int i, int end)
{
	for (i++; i < end; i++)
		if (items[i].role == ROLE_USER)
			return i;
	return end;
}

/* Drops whole turns of [first, end) until system + rest fit `target`; the last turn stays. */
static int trim(const struct window_item *items, int first, int end, int64_t *sum,
		int64_t target)
{
	while (*sum > target) {
		int next = next_turn(items, first, end);

		if (next == end)
			break;
		for (; first < next; first++)
			*sum -= cost(&items[first]);
	}
	return first;
}

struct window window_fit(const struct window_item *items, int n, int budget_tokens)
{
	struct window w = {0};
	int64_t low = (int64_t)budget_tokens * WINDOW_LOW_PERCENT / 100, sum = 0;

	while (w.nsystem < n && items[w.nsystem].role == ROLE_SYSTEM)
		sum += cost(&items[w.nsystem++]);
	w.first = w.nsystem;
	for (int i = w.nsystem; i < n; i++) {
		sum += cost(&items[i]);
		if (sum > budget_tokens)
			w.first = trim(items, w.first, i + 1, &sum, low);
	}
	w.kept = w.nsystem + n - w.first;
	w.dropped = w.first - w.nsystem;
	w.tokens = sum < INT32_MAX ? (int)sum : INT32_MAX;
	w.fits = sum <= budget_tokens;
	return w;
}
