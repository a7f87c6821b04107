/* The eviction policy: least recently used first, as few victims as will do.
 *
 * Pure: the loop thread calls it, tests call it without any model.  The question a reader
 * will ask: why a second pass.  Going by age alone may take a small old model and then a
 * large one that alone would have been enough; the second pass gives back whoever was not
 * needed, the most recently used first. */
#include "cache/policy.h"

static bool may_go(const struct policy_entry *e)
{
	return e->movable && e->leases == 0 && !e->pinned && e->bytes > 0;
}

/* Sizes of files that somebody else wrote: sums of 256 of them do not wrap in 128 bits.
 */
typedef unsigned __int128 wide;

static uint64_t narrow(wide v)
{
	return v > UINT64_MAX ? UINT64_MAX : (uint64_t)v;
}

static int oldest(const struct policy_entry *entries, int n, const bool *taken)
{
	int best = -1;

	for (int i = 0; i < n; i++) {
		if (taken[i] || !may_go(&entries[i]))
			continue;
		if (best < 0 || entries[i].last_used_ms < entries[best].last_used_ms)
			best = i;
	}
	return best;
}

static void give_back(struct policy_plan *p, const struct policy_entry *entries,
		      wide surplus)
{
	for (int i = p->nvictims - 1; i >= 0; i--) {
		uint64_t bytes = entries[p->victims[i]].bytes;

		if (bytes > surplus)
			continue;
		surplus -= bytes;
		p->nvictims--;
		memmove(&p->victims[i], &p->victims[i + 1],
			(size_t)(p->nvictims - i) * sizeof(p->victims[0]));
	}
}

void policy_plan(const struct policy_entry *entries, int n, uint64_t budget_bytes,
		 uint64_t needs_bytes, struct policy_plan *p)
{
	bool taken[POLICY_MAX_ENTRIES] = {false};
	wide used = 0, stuck = 0, idle = 0, room = budget_bytes;

	ASSERT(n >= 0 && n <= POLICY_MAX_ENTRIES);
	memset(p, 0, sizeof(*p));
	for (int i = 0; i < n; i++) {
		used += entries[i].bytes;
		stuck += entries[i].pinned ? entries[i].bytes : 0;
		idle += may_go(&entries[i]) ? entries[i].bytes : 0;
	}
	p->needs_bytes = needs_bytes;
	p->idle_bytes = narrow(idle);
	p->free_bytes = used < budget_bytes ? narrow(budget_bytes - used) : 0;
	p->fits_when_idle = stuck + needs_bytes <= budget_bytes;
	/* What is over the budget already has to go as well, before anything is gained.
	 */
	while (used + needs_bytes > room) {
		int i = oldest(entries, n, taken);

		if (i < 0) {
			p->nvictims = 0;
			return;
		}
		taken[i] = true;
		room += entries[i].bytes;
		p->victims[p->nvictims++] = i;
	}
	p->fits = true;
	give_back(p, entries, room - used - needs_bytes);
}

static double gib(uint64_t bytes)
{
	return (double)bytes / (double)(1 << 30);
}

void policy_text(const struct policy_plan *p, char *out, size_t cap)
{
	snprintf(out, cap, "needs %.2f GiB, free %.2f GiB, would evict %.2f GiB",
		 gib(p->needs_bytes), gib(p->free_bytes), gib(p->idle_bytes));
}
