/* How many rows there are, without counting them again. */
#include "memory/tally.h"

#include <string.h>

static void on_row(void *arg, int what, const char *db, const char *table,
		   sqlite3_int64 row)
{
	struct tally *t = arg;
	int n = what == SQLITE_INSERT ? 1 : what == SQLITE_DELETE ? -1 : 0;

	UNUSED(db);
	UNUSED(row);
	if (!strcmp(table, "message"))
		t->messages += n;
	else if (!strcmp(table, "session"))
		t->conversations += n;
}

static void on_rollback(void *arg)
{
	tally_undone(arg);
}

void tally_watch(struct tally *t, sqlite3 *db)
{
	*t = (struct tally){0};
	sqlite3_update_hook(db, on_row, t);
	sqlite3_rollback_hook(db, on_rollback, t);
}

void tally_undone(struct tally *t)
{
	t->known = false;
}
