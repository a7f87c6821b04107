/* The thread that reads beside the writer: search, lists, export, backup.
 *
 * aside_start, _submit, _stop and _fini are the loop thread's; _hold, _release and _join the writer's
 * (store_impl.h has the table). */
#ifndef HOB_STORE_ASIDE_H
#define HOB_STORE_ASIDE_H

#include <stdatomic.h>
#include <uv.h>
#include "memory/store_impl.h"

enum {
	ASIDE_HOLD_MS =
		2000, /* that the writer waits before it has an operation given up */
	ASIDE_LOOK_OPS = 2000, /* of SQLite's machine, between two looks at `given_up` */
};

enum aside_given_up { ASIDE_GOES_ON, ASIDE_HELD, ASIDE_STOPPED };

struct aside {
	/* constant while it runs */
	const char *path; /* borrowed */
	struct queue *results;
	uv_async_t *wake;
	uv_thread_t thread;

	/* between the threads */
	struct queue jobs;
	atomic_int given_up; /* enum aside_given_up */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool busy, held; /* under lock */

	/* the reader's thread */
	struct sql sql; /* opened for the first operation */
	bool suspected;
};

void aside_start(struct aside *a, const char *path, struct queue *results,
		 uv_async_t *wake);
/* False after aside_stop: the caller keeps it. */
bool aside_submit(struct aside *a, struct store_job *j);
/* No operation runs, and none begins, until aside_release. */
void aside_hold(struct aside *a);
void aside_release(struct aside *a);
/* What runs is given up, what waits is answered ERR_CANCELLED. */
void aside_stop(struct aside *a);
/* Returns when the thread has ended and its connection is closed. */
void aside_join(struct aside *a);
void aside_fini(struct aside *a);

#endif
