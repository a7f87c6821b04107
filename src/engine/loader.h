/* Loads in the background: one thread for each load under way, helped by a crew.
 *
 * Who owns what of a model, by the phase of the job that works on it:
 *
 *   phase       parsed part            weights (what is mapped)      pack file
 *   (no job)    main; readers: all     main; readers: pool           main (part of the weights)
 *   RUNNING     the job makes it       the job                       the job
 *   READY       main; readers: all     main; readers: pool, job      the job (writes it from the weights)
 *   DONE        main takes all back; a pack file that was just written comes as a result
 *
 * PREFETCH is READY from its start.  Main must not drop weights while a job is on them.  A phase only grows;
 * each step is told by a write to the event descriptor.  Main asks by load_job_phase() and sets the cancel flag;
 * the job looks at it between two pieces of work (a megabyte to convert, a chunk to check). */
#ifndef HOB_LOADER_H
#define HOB_LOADER_H

#include "engine/model.h"

enum load_kind {
	LOAD_PARSE,   /* the head of the file */
	LOAD_FILL,    /* that, if there is no model yet, and the weights */
	LOAD_PREFETCH /* weights that went cold, in the order of the layers */
};

enum load_phase { LOAD_RUNNING, LOAD_READY, LOAD_DONE };

struct loader {
	struct pack_dir *packs; /* borrowed; NULL: weights stay in memory */
	int threads;            /* of a crew, the job's own included */
	int event_fd;           /* borrowed */
	bool gentle; /* answers are running: give way to them.  Else somebody waits */
};

struct load_result {
	bool ok;             /* false: err, unless it was cancelled */
	struct model *model; /* also when the weights failed; NULL: it cannot be parsed */
	const char *source;  /* "pack file", "converted"; literal */
	struct pack *pack;   /* DONE only: just written, worth mapping; the caller's */
	struct err err;
};

struct load_job;

/* model: NULL, or what an earlier job parsed.  expected: the file that path meant when the load was asked for;
 * another one by now is an error.  NULL: no thread could be started. */
struct load_job *load_job_start(const struct loader *l, enum load_kind kind,
				const char *path, const struct gguf_id *expected,
				struct model *model, struct err *e);
enum load_kind load_job_kind(const struct load_job *j);
enum load_phase load_job_phase(const struct load_job *j);
/* From READY on. */
const struct load_result *load_job_result(const struct load_job *j);
void load_job_cancel(struct load_job *j); /* returns at once */
bool load_job_cancelled(const struct load_job *j);
void load_job_progress(const struct load_job *j, uint64_t *done, uint64_t *total);
void load_job_wait(struct load_job *j); /* for its end; the result is final */
/* Waits, too (at once when DONE). */
void load_job_free(struct load_job *j);

#endif
