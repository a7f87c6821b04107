/* Which models leave so that another fits: a pure function of sizes, uses and settings.
 *
 * Two orders.  LRU: who was used least recently goes first.  GDSF (GreedyDual-Size with
 * Frequency, L. Cherkasova, "Improving WWW Proxies Performance with
 * Greedy-Dual-Size-Frequency Caching Policy", HP Labs HPL-98-69R1, 1998): each has a
 * score, set when it is used, and the lowest goes first:
 *
 *     score = L + uses * reload_ms / bytes
 *
 * where L, the inflation, is the highest score that was evicted so far: what was not used
 * since falls behind whatever its size and cost.
 *
 * The set of victims is found in that order until it is enough; then, beginning with the
 * one that is worth most, whoever is not needed stays.  So no member could be left out,
 * and a large model alone is preferred to it and a small one.  On equal worth the larger
 * goes first (fewer victims), then the lower index: the same table gives the same plan.
 *
 * Leased, pinned and fresh models never go.  Weights of a group count once and are gained
 * only when the last of the group goes.  `reserve_bytes` of the budget are for models
 * with role completion: the others together stay below the rest, and as long as
 * completion models are within the reserve no other makes them go.
 * Nothing here allocates, waits or looks at a clock. */
#ifndef HOB_POLICY_H
#define HOB_POLICY_H

#include "base/base.h"

enum { POLICY_MAX_ENTRIES = 256 };
enum policy_kind { POLICY_LRU, POLICY_GDSF, POLICY_KINDS };
const char *policy_name(enum policy_kind k); /* "lru", "gdsf" */

struct policy_entry {
	uint64_t own_bytes; /* resident now, or promised to a load under way */
	uint64_t
		shared_bytes; /* of its group, counted once: the largest that one claims */
	int group;            /* >= 0: those with the same number share; -1: alone */
	int leases;
	bool pinned;
	bool movable; /* its state lets it go: ready, not loading and not on its way out */
	bool fresh;   /* within its minimum stay */
	bool completion;
	uint64_t last_used_ms;
	double score; /* GDSF */
};

/* Who needs room. */
struct policy_ask {
	enum policy_kind kind;
	uint64_t budget_bytes;
	uint64_t free_bytes;    /* that the system could give now; UINT64_MAX: unknown */
	uint64_t reserve_bytes; /* of the budget, for completion */
	uint64_t own_bytes, shared_bytes;
	int group; /* as above; members that are there pay for the weights */
	bool completion;
	uint64_t reserved_bytes; /* already promised to others that wait for room */
	bool best_effort;        /* name victims also when all of them are not enough */
};

enum policy_limit { LIMIT_NONE, LIMIT_BUDGET, LIMIT_SYSTEM, LIMIT_PINS, LIMIT_RESERVE };

struct policy_plan {
	bool fits;                /* room enough once the victims are gone */
	bool fits_when_idle;      /* would fit if every unpinned lease and stay ended, and
				nothing were promised to others: waiting makes sense */
	uint64_t needs_bytes;     /* beyond what its group has there already */
	uint64_t free_bytes;      /* for it, before anybody leaves */
	uint64_t evictable_bytes; /* of all that may be evicted now */
	enum policy_limit limit; /* what stands in the way when it does not fit at once */
	uint64_t limit_bytes;    /* and how large that is */
	int nvictims;            /* 0 when it does not fit, unless best_effort */
	int victims[POLICY_MAX_ENTRIES]; /* indices into entries, in the order to evict */
};

/* n <= POLICY_MAX_ENTRIES; groups < POLICY_MAX_ENTRIES. */
void policy_plan(const struct policy_entry *entries, int n, const struct policy_ask *ask,
		 struct policy_plan *out);
/* Bytes of all together, shared ones once. */
uint64_t policy_used(const struct policy_entry *entries, int n);
/* "needs 3.20 GiB, free 1.00 GiB, would evict 512.0 MiB (limit: cache.budget)" */
void policy_text(const struct policy_plan *p, char *out, size_t cap);
/* "3.20 GiB", below 1 GiB "512.0 MiB" */
void policy_bytes(uint64_t bytes, char *out, size_t cap);
double policy_score(double inflation, double uses, double reload_ms, uint64_t bytes);

#endif
