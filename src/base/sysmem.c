/* Memory that is to be had.  Any thread, no state.
 *
 * A daemon in a container or a systemd slice sees the whole machine's MemAvailable and is killed at its
 * group's limit: so the limits of all groups above us count as well. */
#include "base/sysmem.h"

#include <inttypes.h>

enum { PATH_BYTES = 4096 };

/* The number behind a key at the beginning of a line, or the first line when key is "". */
static bool read_number(const char *path, const char *key, uint64_t *out)
{
	char line[256];
	bool found = false;
	FILE *f = fopen(path, "re");

	while (f && !found && fgets(line, sizeof line, f))
		found = !strncmp(line, key, strlen(key)) &&
			sscanf(line + strlen(key), "%" SCNu64, out) == 1;
	if (f)
		fclose(f);
	return found;
}

/* What one group leaves; UINT64_MAX without a limit ("max" is no number). */
static uint64_t group_leaves(const char *dir)
{
	char path[PATH_BYTES + 32];
	uint64_t max, used = 0, cache = 0;

	snprintf(path, sizeof path, "%s/memory.max", dir);
	if (!read_number(path, "", &max))
		return UINT64_MAX;
	snprintf(path, sizeof path, "%s/memory.current", dir);
	read_number(path, "", &used);
	snprintf(path, sizeof path, "%s/memory.stat", dir);
	if (read_number(path, "inactive_file ", &cache))
		used -= cache < used ? cache : used;
	return used < max ? max - used : 0;
}

uint64_t sysmem_available_in(const char *proc, const char *root, const char *cgroup)
{
	char path[PATH_BYTES];
	uint64_t least = UINT64_MAX, kib, leaves;
	char *slash;

	snprintf(path, sizeof path, "%s/meminfo", proc);
	if (read_number(path, "MemAvailable:", &kib) && kib < UINT64_MAX / 1024)
		least = kib * 1024;
	if (!cgroup)
		return least;
	for (snprintf(path, sizeof path, "%s%s", root, cgroup);
	     strlen(path) > strlen(root); *slash = 0) {
		leaves = group_leaves(path);
		if (leaves < least)
			least = leaves;
		slash = strrchr(path, '/');
	}
	return least;
}

uint64_t sysmem_available(void)
{
	char line[PATH_BYTES] = "";
	FILE *f = fopen("/proc/self/cgroup", "re");
	bool v2 = f && fgets(line, sizeof line, f) && !strncmp(line, "0::/", 4);

	if (f)
		fclose(f);
	line[strcspn(line, "\n")] = 0;
	return sysmem_available_in("/proc", "/sys/fs/cgroup",
				   v2 && line[4] ? line + 3 : NULL);
}
