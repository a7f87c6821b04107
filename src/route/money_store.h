/* The accounts' SQLite file: changes go in, and all of it comes out once, in the same shape.
 *
 * Any thread, one at a time: the loop's at the start, later one piece of work in the pool. */
#ifndef HOB_MONEY_STORE_H
#define HOB_MONEY_STORE_H

#include <sqlite3.h>
#include "base/err.h"

/* What can be said to the file.  PUT replaces what has the same key. */
enum money_verb {
	/* texts: provider, model, conversation; numbers: day, requests, tokens in, cached, out, cost,
	 * estimated, unpriced */
	MONEY_PUT_ROW,
	/* conversation; last day, spent */
	MONEY_PUT_CONVERSATION,
	/* provider, model, conversation, request; id, day, unix ms, most */
	MONEY_PUT_HOLD,
	/* provider, model, conversation, request; day, unix ms, cost, tokens in, out, unpriced */
	MONEY_PUT_ESTIMATE,
	MONEY_PUTS,
	MONEY_DROP_ROW = MONEY_PUTS, /* provider, model, conversation; day */
	MONEY_DROP_CONVERSATION,     /* conversation */
	MONEY_DROP_HOLD,             /* -; id */
	MONEY_DROP_ESTIMATE,         /* request */
	MONEY_DROP_ALL,              /* everything, before it is put again */
	MONEY_VERBS
};

enum { MONEY_TEXTS = 4, MONEY_NUMBERS = 8 };

struct money_op {
	enum money_verb verb;
	char *text[MONEY_TEXTS]; /* owned */
	int64_t n[MONEY_NUMBERS];
};

struct money_ops {
	struct money_op *list; /* owned */
	int n, cap;
};

/* The texts of `op` are copied. */
void money_ops_add(struct money_ops *o, const struct money_op *op);
void money_ops_free(struct money_ops *o); /* leaves none */

struct money_store {
	const char *path; /* borrowed */
	sqlite3 *db;      /* owned; NULL: not open */
	sqlite3_stmt *st[MONEY_VERBS];
};

enum money_opened {
	MONEY_OPENED,
	MONEY_NEWER,   /* a newer hob's: it is not touched */
	MONEY_NOT_OPEN /* e says why; another try may help */
};

/* Makes or opens the file and reads all of it into `all` (PUT_* only).  What is damaged is set aside
 * as PATH.corrupt-TIME, a log line says so, and an empty one is opened. */
enum money_opened money_store_open(struct money_store *s, struct money_ops *all,
				   struct err *e);
/* In one transaction, on disk when it returns 0.  -1 and ERR_CORRUPT: the file was damaged while
 * we ran; it was set aside as PATH.damaged-TIME (what we hold in memory is whole) and closed. */
int money_store_write(struct money_store *s, const struct money_ops *ops, struct err *e);
void money_store_close(struct money_store *s);
/* Is there a PATH.corrupt-* whose amounts nobody knows? */
bool money_store_was_corrupt(const char *path, char *name, size_t bytes);

#endif
