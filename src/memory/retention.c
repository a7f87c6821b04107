/* What goes first when there is too much, or when it is too old. */
#include "memory/retention.h"

int64_t retention_now(const struct retention_state *s)
{
	if (s->witness_ms <= 0)
		return 0;
	return s->now_ms < s->witness_ms ? s->now_ms : s->witness_ms;
}

static int64_t before(int64_t age_ms, const struct retention_state *s)
{
	int64_t now = retention_now(s);

	return age_ms > 0 && now > age_ms ? now - age_ms : 0;
}

int64_t retention_too_old(const struct store_limits *l, const struct retention_state *s)
{
	return before(l->max_age_ms, s);
}

int64_t retention_failed_before(const struct store_limits *l,
				const struct retention_state *s)
{
	return before(l->failed_age_ms, s);
}

static bool over(int64_t n, int64_t max)
{
	return max > 0 && n > max;
}

bool retention_too_much(const struct store_limits *l, const struct retention_state *s)
{
	if (l->max_bytes && s->live_bytes > l->max_bytes / 100 * RETENTION_SOFT_PERCENT)
		return true;
	return over(s->messages, l->max_messages) ||
	       over(s->conversations, l->max_conversations);
}
