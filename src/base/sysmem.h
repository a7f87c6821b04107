/* How much memory the system could give to us right now, without swapping.  Any thread; reads small files
 * of /proc and /sys, which never block. */
#ifndef HOB_SYSMEM_H
#define HOB_SYSMEM_H

#include "base/base.h"

/* MemAvailable of /proc/meminfo, and no more than what the limits of our control groups (version 2) leave,
 * their reclaimable page cache counted as free.  UINT64_MAX when nothing can be read. */
uint64_t sysmem_available(void);

/* The same over other files, for tests: proc holds meminfo, cgroup our group's folder and its parents'
 * up to root (both without a slash at the end; cgroup may be NULL). */
uint64_t sysmem_available_in(const char *proc, const char *root, const char *cgroup);

#endif
