/* What the files of the store share; nobody else includes it.
 *
 *   store.c        the writer's thread, groups of jobs in one transaction, the way answers come back
 *   store_aside.c  the reader's thread
 *   store_turns.c  paths and turns
 *   store_heads.c  conversations as rows and heads
 *   store_notes.c  notes, summaries, token counts
 *
 * An operation is a `struct store_op` (a table of functions) and a struct of its own that begins
 * with a `struct store_job`: question and answer in one.  `run` works on the connection that it is
 * given and on nothing else; it is undone whole when it fails.
 *
 * Who owns a job, and what it may touch:
 *   made         loop thread     store_job_new() to store_submit()
 *   refused      loop thread     queue full, closing: told in a later turn of the loop
 *   waiting      queue           `jobs`, or `aside` for STORE_ASIDE on a file
 *   running      writer          the writing connection, in a transaction of its group
 *                or reader       the read-only one, in a read transaction of its own: what was committed
 *                                before it began.  An operation asked after a callback that reported a
 *                                commit sees that commit; one asked before may not.
 *   answered     queue           `results`, after COMMIT
 *   told, freed  loop thread
 *
 * Who may do what to the file:
 *   writer       all writes and checkpoints, at any time; the only connection that does.  To empty the log
 *                (what was deleted leaves no trace) it holds the reader: waits for the operation that runs
 *                there, a little, then has it given up as ERR_BUSY.
 *   reader       idle -> running -> idle, unless it is held or stopped.  Opens its connection for the
 *                first operation, never writes, never checkpoints, not at its close either.
 *   closing      loop thread stops the reader: what runs and waits there is ERR_CANCELLED.  The writer does
 *                what waits, waits for the reader's end, checkpoints, says its last word.
 * A store in memory has no reader: its writer does all.  */
#ifndef HOB_MEMORY_STORE_IMPL_H
#define HOB_MEMORY_STORE_IMPL_H

#include "base/queue.h"
#include "memory/sql.h"
#include "memory/store.h"

struct store_job;

enum store_op_flags {
	STORE_WRITES = 1,
	STORE_FORGETS =
		2, /* takes text away: more room while it runs, then traces are scrubbed */
	STORE_RESERVED = 4, /* ends what has begun: may use a reserve of the queue */
	STORE_OPTIONAL = 8, /* nobody waits for it: dropped when the queue is half full */
	STORE_ASIDE = 16,   /* reads, and may take long: runs beside the writer (with
			     * STORE_NO_UNDO outside a transaction) */
	STORE_NO_UNDO = 32, /* manages transactions itself; alone in its group */
};

struct store_op {
	const char *what; /* "read a conversation": begins the text of its errors */
	unsigned flags;
	int (*run)(struct sql *q, struct store_job *j); /* a store thread; sets j->err */
	void (*tell)(struct store_job *j);              /* loop thread, once */
	void (*free)(struct store_job *j); /* loop thread: what it owns, not j itself */
};

struct store_job {
	struct queue_item item;
	const struct store_op *op;
	unsigned flags; /* op's; an instance may change them before it is submitted */
	void *arg;
	size_t bytes; /* what it counts for in the queue */
	struct err
		err; /* when set, results may be of a transaction that was rolled back */
};

/* A zeroed job of `bytes`; `type` has `struct store_job job` as first member. */
void *store_job_new(size_t bytes, const struct store_op *op, void *arg);
/* Copies that the job owns and that count; NULL text gives "" and NULL. */
char *store_copy(struct store_job *j, const char *text, size_t len);
char *store_copy_str(struct store_job *j, const char *text);
char *store_copy_or_null(struct store_job *j, const char *text);
struct message *store_copy_messages(struct store_job *j, const struct message *m, int n);
void store_free_messages(struct message *m, int n);
/* Store threads: the error gets its beginning, and damage is marked on disk, once. */
void store_ran(struct store_job *j, const char *path, bool *suspected);

struct tree_path;
/* Borrows both. */
struct store_path store_path_of(const char *id, const struct tree_path *p);
/* Hands it over; the answer comes in a later turn of the loop, also when it is refused. */
void store_submit(struct store *s, struct store_job *j);

/* Writes stay possible up to this, so that deleting can: DELETE needs pages too. */
enum { STORE_FORGET_BYTES = 4 << 20 };

#endif
