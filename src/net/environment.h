/* What of our environment a child may see: named variables and no others, since provider's keys live
 * there too. */
#ifndef HOB_ENVIRONMENT_H
#define HOB_ENVIRONMENT_H

#include <stddef.h>

/* Our lines "NAME=value" whose names are among n allowed ones, a '*' at an end standing for any rest.
 * The array, which ends with NULL, is the caller's to free; its lines are ours, until setenv(). */
char **environment_pick(const char *const *allowed, size_t n);

#endif
