/* How much a commit waits for.
 *
 * The writer's thread.  SQLite takes the pragma only outside a transaction, hence alone in its group. */
#include "memory/schema.h"
#include "memory/store_impl.h"

struct durability_job {
	struct store_job job;
	bool full;
};

static int run_durability(struct sql *q, struct store_job *job)
{
	bool full = ((struct durability_job *)job)->full;

	return schema_exec(
		q->db, full ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL",
		"set its durability", &job->err);
}

static const struct store_op durability_op = {"change the store's durability",
					      STORE_NO_UNDO, run_durability, NULL, NULL};

void store_set_durability(struct store *s, bool full)
{
	struct durability_job *j = store_job_new(sizeof(*j), &durability_op, NULL);

	j->full = full;
	store_submit(s, &j->job);
}
