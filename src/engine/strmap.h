/* Borrowed strings to small numbers: keys and tensors of a file, tokens of a vocabulary.
 *
 * Filled once, then read by any thread.  Keys are borrowed and must outlive the map. */
#ifndef HOB_STRMAP_H
#define HOB_STRMAP_H

#include "base/buf.h"

struct strmap_slot {
	struct str key; /* ptr NULL: free */
	int32_t value;
};

struct strmap {
	struct strmap_slot *slots; /* owned; NULL: empty map, fine to read */
	size_t mask;
};

void strmap_init(struct strmap *m, size_t n); /* room for n keys, never more */
void strmap_fini(struct strmap *m);
/* The value the key had before (-1: none); the new one replaces it.  value >= 0. */
int32_t strmap_set(struct strmap *m, struct str key, int32_t value);
int32_t strmap_get(const struct strmap *m, struct str key); /* -1: none */

#endif
