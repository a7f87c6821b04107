/* How many rows there are, without counting them again: SQLite says what comes and goes.
 *
 * Store thread.  After something was undone the tables are counted anew, once. */
#ifndef HOB_MEMORY_TALLY_H
#define HOB_MEMORY_TALLY_H

#include <sqlite3.h>
#include "base/err.h"

struct tally {
	int64_t messages, conversations;
	bool known;
};

/* t must stay where it is as long as db is open. */
void tally_watch(struct tally *t, sqlite3 *db);
/* A savepoint was rolled back; SQLite says nothing about those. */
void tally_undone(struct tally *t);

#endif
