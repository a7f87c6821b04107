/* Messages that may have become unreachable, and how they go.
 *
 * Store thread, inside the caller's transaction.  A candidate that nothing reaches is deleted and
 * makes a candidate of its parent, so what goes is a path from its end towards the root, children before
 * parents, until something else is met that still needs the rest. */
#ifndef HOB_MEMORY_GARBAGE_H
#define HOB_MEMORY_GARBAGE_H

#include "memory/sql.h"

struct garbage {
	int64_t *ids; /* owned: a heap, the greatest first */
	size_t n, cap;
};

void garbage_add(struct garbage *g, int64_t message);
/* All that the conversation has reached last: its head, the ends of its turns, its tips. */
int garbage_add_session(struct sql *q, const char *conversation, struct garbage *g,
			struct err *e);
/* At most `max` candidates; adds to *deleted.  notes_too: a note that names its source keeps
 * no message. */
int garbage_collect(struct sql *q, struct garbage *g, size_t max, bool notes_too,
		    int64_t *deleted, struct err *e);
void garbage_free(struct garbage *g); /* leaves an empty one */

#endif
