/* What to do about a failure: one row of a table for each error code.
 *
 * Pure.  The rule behind the table: when another candidate follows, going there costs nothing and helps
 * at once; the same candidate is asked again only when it is the last one, or when a lost connection is
 * all that happened (research: gateways.md 1.10, "1x at once").  The question a reader will ask: why a
 * 404 moves on although the table of the research says it is the caller's fault.  Callers name an alias
 * here; the candidate that does not exist was named by the configuration. */
#include "route/retry.h"

#define BUDGET_SHARE 0.2 /* of the requests may be retries */
#define BUDGET_MAX   10.0

void retry_budget_init(struct retry_budget *b)
{
	b->tokens = BUDGET_MAX;
}

void retry_budget_request(struct retry_budget *b)
{
	b->tokens += BUDGET_SHARE;
	if (b->tokens > BUDGET_MAX)
		b->tokens = BUDGET_MAX;
}

bool retry_budget_take(struct retry_budget *b)
{
	if (b->tokens < 1)
		return false;
	b->tokens -= 1;
	return true;
}

enum again {
	NEVER,
	AT_ONCE,     /* no delay */
	WITH_JITTER, /* a random delay, or what the server asks for */
	WHEN_TOLD    /* only after what the server asks for */
};

struct row {
	enum again remote, local; /* the same candidate */
	int tries;                /* of it in all, the first included */
	bool first;               /* the same one before others */
	bool other;
};

static const struct row rows[ERR_NR] = {
	[ERR_TRANSPORT] = {AT_ONCE, AT_ONCE, 2, true, true},
	[ERR_TIMEOUT] = {NEVER, NEVER, 1, false, true},
	[ERR_BUSY] = {WITH_JITTER, NEVER, 1 + RETRY_MAX_SAME, false, true},
	[ERR_UNAVAILABLE] = {WITH_JITTER, AT_ONCE, 1 + RETRY_MAX_SAME, false, true},
	[ERR_UPSTREAM] = {WITH_JITTER, NEVER, 2, false, true},
	[ERR_PAYMENT] = {WHEN_TOLD, NEVER, 2, false, true},
	[ERR_KEY] = {NEVER, NEVER, 1, false, true},
	[ERR_UNAUTHORIZED] = {NEVER, NEVER, 1, false, true}, /* our key is missing */
	[ERR_CONTEXT] = {NEVER, NEVER, 1, false, true},
	[ERR_UNSUPPORTED] = {NEVER, NEVER, 1, false, true},
	[ERR_MODEL] = {NEVER, NEVER, 1, false, true},
	[ERR_MEMORY] = {NEVER, NEVER, 1, false, true},
	[ERR_CORRUPT] = {NEVER, NEVER, 1, false, true},
	[ERR_IO] = {NEVER, NEVER, 1, false, true},
	[ERR_DISK_FULL] = {NEVER, NEVER, 1, false, true},
	[ERR_INTERNAL] = {NEVER, NEVER, 1, false, true},
	/* the request, or who sent it: not listed, no */
};

/* A crashed engine is started again once: twice the same prompt is enough evidence. */
static int max_tries(const struct row *row, const struct retry_ask *a)
{
	return a->is_local && row->tries > 2 ? 2 : row->tries;
}

static uint64_t jitter(int tries, double random)
{
	uint64_t top = RETRY_BASE_MS;

	for (int i = 1; i < tries && top < RETRY_CAP_MS; i++)
		top *= 2;
	if (top > RETRY_CAP_MS)
		top = RETRY_CAP_MS;
	return (uint64_t)((double)top * random);
}

/* False: not the same again. */
static bool same_again(const struct row *row, const struct retry_ask *a, uint64_t *delay)
{
	enum again how = a->is_local ? row->local : row->remote;

	if (how == NEVER || a->sent_twice || a->tries >= max_tries(row, a))
		return false;
	*delay = how == WITH_JITTER ? jitter(a->tries, a->random) : 0;
	if (how != AT_ONCE && a->e->retry_after_ms)
		*delay = a->e->retry_after_ms;
	if (how == WHEN_TOLD && !a->e->retry_after_ms)
		return false;
	if (how != AT_ONCE && a->e->retry_after_ms > RETRY_AFTER_MAX_MS)
		return false;
	return *delay < a->left_ms;
}

enum retry_step retry_decide(const struct retry_ask *a, struct retry_budget *budget,
			     uint64_t *delay_ms)
{
	const struct row *row =
		&rows[(unsigned)a->e->code < ERR_NR ? a->e->code : ERR_INTERNAL];
	bool other =
		a->more && (row->other || (a->e->code == ERR_POLICY && a->after_refusal));

	*delay_ms = 0;
	if (other && !row->first)
		return RETRY_OTHER;
	if (same_again(row, a, delay_ms) && (!budget || retry_budget_take(budget)))
		return RETRY_SAME;
	*delay_ms = 0;
	return other ? RETRY_OTHER : RETRY_NO;
}
