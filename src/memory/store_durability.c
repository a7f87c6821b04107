/* SQLite's `synchronous`, changed while the store runs.  Store thread, outside of any transaction, since
 * SQLite changes it nowhere else. */
#include "memory/store_durability.h"

#include "memory/schema.h"
#include "memory/store_impl.h"

struct durability_job {
	struct store_job job;
	bool durable;
};

static int run_durability(struct sql *q, struct store_job *job)
{
	const struct durability_job *j = (const struct durability_job *)job;

	return schema_exec(q->db,
			   j->durable ? "PRAGMA synchronous = FULL"
				      : "PRAGMA synchronous = NORMAL",
			   "set the durability", &job->err);
}

static const struct store_op durability_op = {.what = "set the durability",
					      .flags = STORE_NO_UNDO | STORE_OWN,
					      .run = run_durability};

void store_set_durable(struct store *s, bool durable)
{
	struct durability_job *j = store_job_new(sizeof *j, &durability_op, NULL);

	j->durable = durable;
	store_submit(s, &j->job);
}
