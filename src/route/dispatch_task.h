/* Requests of our own: what the background's queue, the tasks and those who want them share.  Loop thread;
 * nobody else includes it.
 *
 *   dispatch_background.c  the queue of those nobody waits for, and its giving way
 *   dispatch_task.c        a task: its request, its events, what becomes of the answer
 *   dispatch_summary.c     when one is wanted, of what, and who writes it */
#ifndef HOB_DISPATCH_TASK_H
#define HOB_DISPATCH_TASK_H

#include "route/dispatch_impl.h"

enum task_kind { TASK_SUMMARY, TASK_TITLE };

struct summary_task {
	TAILQ_ENTRY(summary_task) link; /* unless somebody waits for it */
	struct dispatch *d;
	enum task_kind kind;
	struct dispatch_job *waiter; /* or NULL: in the background */
	struct store *store;
	char id[REQUEST_ID_BYTES];
	char *conversation, *model; /* owned */
	bool is_private, is_volatile;
	struct message *messages; /* owned, with the question */
	int n, max_tokens;

	/* summaries: up to which message, and what of it they stand for */
	int upto;
	int64_t upto_id;
	size_t stands_for_bytes;

	/* while it runs */
	struct dispatch_job *job;
	struct event_sink sink;
	struct buf text;
	char *by; /* owned: what really answers */
	int yields;
};

/* dispatch_task.c */
struct summary_task *task_new(const struct dispatch_job *j, enum task_kind kind,
			      const char *model, const char *suffix);
void task_add_question(struct summary_task *t, struct buf *text); /* takes the text */
void task_start(struct summary_task *t);
void task_free(struct summary_task *t); /* one that does not run, and is in no list */

/* dispatch_background.c */
void background_add(struct summary_task *t);                       /* takes it */
void background_remove(struct summary_task *t);                    /* frees it */
struct summary_task *background_running(const struct dispatch *d); /* or NULL */
void background_adopted(struct summary_task *t); /* out of the queue: the caller's */
/* Is this better left alone for a while?  message: up to which it would reach. */
bool background_failed_lately(const struct dispatch *d, const char *conversation,
			      int64_t message);
void background_note_failure(const struct summary_task *t);

/* dispatch_summary.c: the call that waited for it goes on, with or without. */
void summary_go_on(struct dispatch_job *j);

#endif
