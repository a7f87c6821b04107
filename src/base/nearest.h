/* "Did you mean": the candidate nearest to a misspelt word. */
#ifndef HOB_NEAREST_H
#define HOB_NEAREST_H

#include <stddef.h>

/* Levenshtein distance, case-sensitive; words longer than 64 bytes count as far apart. */
int edit_distance(const char *a, const char *b);

struct nearest {
	const char *word; /* what was written */
	const char *
		best; /* NULL until something is near enough: within a third of the length, at least 2 */
	int distance;
};

/* Offers one candidate; best is borrowed from the caller. */
void nearest_offer(struct nearest *n, const char *candidate);

#endif
