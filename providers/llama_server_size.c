/* How many bytes a child holds, measured and guessed.
 *
 * llama_group_bytes() reads /proc and may take long for a large process (the kernel walks its
 * page tables), hence it is made for a thread of libuv's pool; it touches nothing of ours.
 * PSS counts a page that n processes map as 1/n in each, so that a file that the engine maps
 * as well is not charged twice. */
#include "providers/llama_server_impl.h"

#include <dirent.h>
#include <math.h>

/* Sums the kB of lines that begin with one of two names; false: not readable. */
static bool sum_lines(int pid, const char *file, const char *a, const char *b,
		      uint64_t *bytes)
{
	unsigned long long kib;
	uint64_t sum = 0;
	char path[64], line[256];
	bool found = false;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/%s", pid, file);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof line, f)) {
		const char *name = !strncmp(line, a, strlen(a))   ? a
				   : !strncmp(line, b, strlen(b)) ? b
								  : NULL;

		if (name && sscanf(line + strlen(name), " %llu kB", &kib) == 1) {
			sum += kib * 1024;
			found = true;
		}
	}
	if (f)
		fclose(f);
	*bytes += sum;
	return found;
}

static uint64_t process_bytes(int pid)
{
	uint64_t bytes = 0;

	if (!sum_lines(pid, "smaps_rollup", "Pss:", "SwapPss:", &bytes))
		sum_lines(pid, "status", "VmRSS:", "VmSwap:", &bytes);
	return bytes;
}

/* -1: it is gone. The name may hold spaces and parentheses: what counts is behind the last. */
static int group_of(int pid)
{
	char path[64], line[512], *end;
	int group = -1;
	size_t n = 0;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	f = fopen(path, "re");
	if (f) {
		n = fread(line, 1, sizeof line - 1, f);
		fclose(f);
	}
	line[n] = 0;
	end = strrchr(line, ')');
	if (!end || sscanf(end + 1, " %*c %*d %d", &group) != 1)
		return -1;
	return group;
}

uint64_t llama_group_bytes(int pgid)
{
	DIR *d = opendir("/proc");
	uint64_t bytes = 0;
	struct dirent *f;
	int64_t pid;

	while (d && (f = readdir(d)))
		if (str_to_i64(str_of(f->d_name), 1, INT32_MAX, &pid) &&
		    group_of((int)pid) == pgid)
			bytes += process_bytes((int)pid);
	if (d)
		closedir(d);
	return bytes;
}

/* Nobody has read the header, so the KV bytes of a token are taken from the file's size:
 * 2 sqrt(bytes), which in f16 is right within a factor of 2 for 135M (98 MB: 22.5 KiB a token)
 * up to 70B at four bits (40 GB: 320 KiB), and on the safe side for most.  The ledger knows
 * better after the first load. */
void llama_server_guess(uint64_t file_bytes, int ctx, int slots, uint64_t *weights_bytes,
			uint64_t *kv_bytes)
{
	enum { BUFFER_BYTES = 64 << 20 }; /* compute buffers, code, HTTP */

	*weights_bytes = file_bytes;
	*kv_bytes = (uint64_t)(2 * sqrt((double)file_bytes)) * (uint64_t)ctx *
			    (uint64_t)slots +
		    BUFFER_BYTES;
}
