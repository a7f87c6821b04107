/* How many threads the engine takes unless it is told.  Any thread, no state. */
#include <sched.h>

#include "base/base.h"
#include "engine/engine.h"
#include "kernels/pool.h"

/* A core is counted by the first of its hyperthreads; one we may not use does not hide the core. */
static bool is_first_sibling(int cpu, const cpu_set_t *mask)
{
	char path[96];
	int first = cpu, a, b;
	FILE *f;

	snprintf(path, sizeof(path),
		 "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
	f = fopen(path, "re");
	if (!f)
		return true;
	while (fscanf(f, "%d", &a) == 1) {
		b = a;
		if (fscanf(f, "-%d", &b) == 1 && b > CPU_SETSIZE - 1)
			b = CPU_SETSIZE - 1;
		for (int i = a; i >= 0 && i <= b; i++)
			if (CPU_ISSET((size_t)i, mask) && i < first)
				first = i;
		if (fgetc(f) != ',')
			break;
	}
	fclose(f);
	return first == cpu;
}

int engine_default_threads(void)
{
	cpu_set_t mask;
	int n = 0;

	if (sched_getaffinity(0, sizeof(mask), &mask) < 0)
		return 1;
	for (int i = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET((size_t)i, &mask) && is_first_sibling(i, &mask))
			n++;
	return n < 1 ? 1 : n > POOL_MAX_THREADS ? POOL_MAX_THREADS : n;
}
