/* Which models leave so that another fits: a pure function of the ledger.
 *
 * Least recently used goes first; a leased or pinned model never goes.  The set is
 * minimal: no member could be left out.  On equal ages the lower index goes first, so the
 * same ledger gives the same plan.  Nothing here allocates for the caller, waits or looks
 * at a clock. */
#ifndef HOB_POLICY_H
#define HOB_POLICY_H

#include "base/base.h"

enum { POLICY_MAX_ENTRIES = 256 };

struct policy_entry {
	uint64_t bytes; /* resident now, or promised to a load under way */
	int leases;
	bool pinned;
	bool movable; /* its state lets it go: ready, not loading and not on its way out
		       */
	uint64_t last_used_ms;
};

struct policy_plan {
	bool fits;           /* room enough once the victims are gone */
	bool fits_when_idle; /* would fit if every unpinned lease ended: waiting makes
				sense */
	uint64_t needs_bytes;
	uint64_t free_bytes;             /* of the budget, before anybody leaves */
	uint64_t idle_bytes;             /* of all that may be evicted now */
	int nvictims;                    /* 0 when it does not fit */
	int victims[POLICY_MAX_ENTRIES]; /* indices into entries, in the order to evict */
};

/* n <= POLICY_MAX_ENTRIES. */
void policy_plan(const struct policy_entry *entries, int n, uint64_t budget_bytes,
		 uint64_t needs_bytes, struct policy_plan *out);
/* "needs 3.2 GiB, free 1.0 GiB, would evict 0.5 GiB" */
void policy_text(const struct policy_plan *p, char *out, size_t cap);

#endif
