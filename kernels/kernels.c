/* Which backend computes.  Asked once at start; pure, any thread.
 *
 * The CPU is asked through __builtin_cpu_supports, which also checks that the operating
 * system saves the registers.  Tests run every table of kernels_all() against the first.
 */
#include "kernels/kernels.h"

#include <string.h>

/* Every set of supported tables is a run of one of these, worst first.  A CPU with
 * AVX-512 has AVX2, so the supported ones are always a prefix. */
static const struct kernels *const tables[] = {
	&kernels_scalar,
#if defined(__x86_64__)
	&kernels_avx2,
	&kernels_avx512,
#endif
};

enum { TABLES = sizeof(tables) / sizeof(tables[0]) };

const struct kernels *const *kernels_all(int *n)
{
	*n = 0;
	while (*n < TABLES && tables[*n]->supported())
		++*n;
	return tables;
}

const struct kernels *kernels_by_name(const char *name)
{
	int n;
	const struct kernels *const *all = kernels_all(&n);

	if (strcmp(name, "auto") == 0)
		return all[n - 1];
	for (int i = 0; i < n; i++)
		if (strcmp(name, all[i]->name) == 0)
			return all[i];
	return NULL;
}
