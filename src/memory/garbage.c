/* Messages that may have become unreachable, and how they go.
 *
 * A heap by id, because a child's id is greater than its parent's: whatever hangs on a message and may go
 * has been looked at before it, and a message that two paths lead to is asked about after both. */
#include "memory/garbage.h"

static void swap(int64_t *a, int64_t *b)
{
	int64_t t = *a;

	*a = *b;
	*b = t;
}

void garbage_add(struct garbage *g, int64_t message)
{
	size_t i = g->n;

	if (message <= 0)
		return;
	if (g->n == g->cap) {
		g->cap = g->cap ? g->cap * 2 : 64;
		g->ids = xrealloc(g->ids, g->cap * sizeof(*g->ids));
	}
	g->ids[g->n++] = message;
	for (; i > 0 && g->ids[(i - 1) / 2] < g->ids[i]; i = (i - 1) / 2)
		swap(&g->ids[(i - 1) / 2], &g->ids[i]);
}

static void sink(struct garbage *g)
{
	for (size_t i = 0;;) {
		size_t child = 2 * i + 1;

		if (child + 1 < g->n && g->ids[child + 1] > g->ids[child])
			child++;
		if (child >= g->n || g->ids[child] <= g->ids[i])
			return;
		swap(&g->ids[i], &g->ids[child]);
		i = child;
	}
}

/* The greatest, as often as it is there. */
static int64_t take(struct garbage *g)
{
	int64_t id = g->ids[0];

	while (g->n > 0 && g->ids[0] == id) {
		g->ids[0] = g->ids[--g->n];
		sink(g);
	}
	return id;
}

int garbage_add_session(struct sql *q, const char *conversation, struct garbage *g,
			struct err *e)
{
	sqlite3_stmt *st = sql_bind(q, SQL_KEEP_ENDS, "s", conversation);
	int rc;

	while ((rc = sql_step(q, st, e)) == 1)
		garbage_add(g, sqlite3_column_int64(st, 0));
	return rc;
}

int garbage_collect(struct sql *q, struct garbage *g, size_t max, bool notes_too,
		    int64_t *deleted, struct err *e)
{
	for (size_t i = 0; i < max && g->n > 0; i++) {
		int64_t parent = 0;
		int rc = sql_run_int(
			q, sql_bind(q, SQL_KEEP_NODE, "ii", take(g), (int64_t)notes_too),
			&parent, e);

		if (rc < 0)
			return -1;
		*deleted += rc;
		garbage_add(g, parent);
	}
	return 0;
}

void garbage_free(struct garbage *g)
{
	free(g->ids);
	*g = (struct garbage){0};
}
