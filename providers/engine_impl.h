/* What engine.c (the process and its lines) and engine_jobs.c (the prompts in it) share;
 * nobody else includes it. */
#ifndef HOB_ENGINE_IMPL_H
#define HOB_ENGINE_IMPL_H

#include <sys/queue.h>
#include <uthash.h>
#include "base/json.h"
#include "net/child.h"
#include "providers/engine.h"

enum engine_op_kind { OP_PROBE, OP_LOAD, OP_PARK, OP_UNLOAD };

/* A command about a model, on its way or waiting for the process. */
struct engine_op {
	TAILQ_ENTRY(engine_op) link;
	enum engine_op_kind kind;
	bool sent;
	uint64_t id;
	char *path; /* owned; probes and loads only */
	int ctx, slots;
	engine_load_cb *loaded; /* probes, too */
	engine_progress_cb *progress;
	engine_park_cb *parked;
	engine_unload_cb *unloaded;
	void *arg;
};

enum job_kind { JOB_PROMPT, JOB_COUNT };

/* A prompt or a count; both answer by the same ids. */
struct job {
	UT_hash_handle hh;     /* in engine.jobs, while the process knows of it */
	TAILQ_ENTRY(job) all;  /* in engine.all, always */
	TAILQ_ENTRY(job) soon; /* in engine.soon when is_soon */
	struct engine *engine;
	enum job_kind kind;
	uint64_t id;
	bool known, is_soon, telling; /* telling: its end, now */

	/* JOB_PROMPT */
	struct event_sink *sink;
	bool paused;
	struct buf held; /* text that came while it was paused */

	/* JOB_COUNT */
	engine_count_cb *counted;
	void *arg;
	int nmessages;

	/* the end, kept until it may be told: paused, or not even sent */
	bool ended;
	struct event end;
};

TAILQ_HEAD(engine_op_list, engine_op);
TAILQ_HEAD(job_list, job);

struct engine {
	struct provider provider; /* first: the provider is the engine */
	uv_loop_t *loop;
	struct engine_config config; /* strings are ours */
	char *exe, *kernels_wanted, *pack_dir, *kv_dir;
	uv_timer_t timer;      /* what for depends on the state */
	uv_timer_t soon_timer; /* jobs whose events may be told in a later turn */
	int open_handles;

	unsigned state;
	struct child *child;                  /* or NULL */
	struct buf in;                        /* bytes of a line that is not complete */
	size_t scanned;                       /* of `in`, known to hold no newline */
	uint64_t ready_ms, heard_ms, ping_ms; /* ping_ms: 0 = none on its way */
	uint64_t backoff_ms;
	unsigned restarts;
	int64_t kv_ram_bytes, kv_disk_bytes; /* from the latest pong */
	char kernels[32];
	char why[160]; /* of the end to come, "" = not known */

	struct engine_op_list ops;
	struct job *jobs; /* hash by id */
	struct job_list all, soon;
	uint64_t next_job;

	void (*died)(void *arg, const char *why);
	void *died_arg;
	bool closing;
	void (*done)(void *arg);
	void *done_arg;
};

/* engine.c: sends one line (taken from b); false when there is no process to send it to.
 */
bool engine_send(struct engine *e, struct buf *b);

/* engine_jobs.c */
extern const struct provider_ops engine_provider_ops;
/* One of the lines that name a job; -1 when it breaks the protocol. */
int engine_job_line(struct engine *e, const char *ev, const cJSON *line, struct err *err);
void engine_jobs_fail(struct engine *e, enum err_code code, const char *why);
void engine_jobs_soon(uv_timer_t *t);
void engine_close(struct provider *p, void (*done)(void *arg), void *arg); /* engine.c */

#endif
