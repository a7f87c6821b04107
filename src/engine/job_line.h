/* Commands about jobs: from a line of wire.h to a job of the batch.  Main thread. */
#ifndef HOB_JOB_LINE_H
#define HOB_JOB_LINE_H

#include "base/json.h"
#include "engine/shelf.h"

/* The instance is LOADED.  -1: the job fails with e; its id was not used. */
int job_line_start(struct instance *it, const cJSON *line, int64_t id, struct err *e);
/* Appends the `count` line to out; -1 and nothing appended: e says why. */
int job_line_count(const struct instance *it, const cJSON *line, int64_t job,
		   struct buf *out, struct err *e);

#endif
