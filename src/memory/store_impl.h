/* What the files of the store share; nobody else includes it.
 *
 *   store.c        the writer's thread, groups of jobs in one transaction, the way answers come back
 *   store_aside.c  the reader's thread
 *   store_turns.c  paths and turns
 *   store_heads.c  conversations as rows and heads
 *   store_search.c full-text search
 *   store_keep.c   limits and figures; store_forget.c, store_backup.c
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
#include "memory/garbage.h"
#include "memory/sql.h"
#include "memory/store.h"
#include "memory/store_keep.h"

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
	STORE_OWN = 64,     /* nobody asked for it: the store is idle all the same */
};

struct store_op {
	const char *what; /* "read a conversation": begins the text of its errors */
	unsigned flags;
	int (*run)(struct sql *q, struct store_job *j); /* a store thread; sets j->err */
	void (*tell)(struct store_job *j);              /* loop thread, once */
	void (*free)(struct store_job *j); /* loop thread: what it owns, not j itself */
};

/* What a group of jobs left behind. */
struct store_measure {
	struct store_figures figures; /* evicted is not known here */
	uint64_t live_bytes;          /* of pages in use */
	bool taken;
};

struct store_job {
	struct queue_item item;
	const struct store_op *op;
	unsigned flags; /* op's; an instance may change them before it is submitted */
	void *arg;
	size_t bytes;                 /* what it counts for in the queue */
	struct store_measure measure; /* of the group that it ran in, when that wrote */
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
/* Nothing is on its way, and it is not closing. */
bool store_is_idle(const struct store *s);
/* Hands it over; the answer comes in a later turn of the loop, also when it is refused. */
void store_submit(struct store *s, struct store_job *j);

/* ---- store_turns.c ---- */

/* Turns whose end could not be written, for want of room or because the queue was full: they end as an
 * error as soon as something else could be.  Loop thread; a part of struct store. */
struct unended {
	int64_t *turns; /* owned */
	int n;
};
struct unended *store_unended_of(struct store *s);
void unended_retry(struct store *s);

/* Writes stay possible up to this, so that deleting can: DELETE needs pages too. */
enum { STORE_FORGET_BYTES = 4 << 20 };

/* ---- store_keep.c ---- */

/* What the next step of retention begins with. */
struct keep_progress {
	struct garbage garbage;
	int64_t sweep_below; /* messages below this id are still to be looked at; 0 = none */
	bool shrink;         /* pages became free */
};

/* Loop thread; a part of struct store. */
struct keep {
	struct store_limits limits;
	struct store_figures figures;
	uint64_t live_bytes;
	struct keep_progress progress;
	bool read_only;
	bool limited,     /* store_set_limits was called */
		stepping, /* a step is on its way */
		due,      /* ages were not looked at since the last tick */
		stuck,    /* too much, and nothing that may go: until something changes */
		failed;   /* the last step did: until something changes */
};
struct keep *store_keep_of(struct store *s);
/* Before the store thread exists. */
void keep_open(struct store *s, struct sql *q);
/* Store thread, outside of a transaction. */
void keep_measure(struct sql *q, struct store_measure *m);
/* Deleted text lives on in the search index until that is merged, in the log until that is emptied, and in
 * the copies that migrations made: a deletion counts only after all of it. */
int keep_scrub(struct sql *q, struct err *e);
/* Loop thread: what a job left behind; nothing waits any more; time has passed. */
void keep_measured(struct store *s, const struct store_job *j);
void keep_work(struct store *s);
void keep_tick(struct store *s);
void keep_free(struct keep *k);

#endif
