/* What the files of the batch share: batch.c (jobs, steps) and batch_slots.c (who holds a slot). */
#ifndef HOB_BATCH_IMPL_H
#define HOB_BATCH_IMPL_H

#include "engine/batch.h"
#include "engine/detok.h"
#include "engine/stops.h"

/* SEQ_RESTORING: has a slot, and waits for its KV from disk.  A preempted one is WAITING again. */
enum seq_state { SEQ_WAITING, SEQ_RESTORING, SEQ_PREFILL, SEQ_DECODE, SEQ_GONE, SEQ_NR };

/* struct seq's row when it has no logits in this step; NOT_YET: a prompt without a chunk so far. */
enum { ROW_NONE = -1, ROW_NOT_YET = -2 };

struct seq {
	struct seq *next;
	unsigned state; /* enum seq_state */
	int64_t job;
	enum batch_class class;
	struct tokens all; /* owned; the prompt, then the answer so far */
	int prompt_n;
	int max_tokens;
	bool ignore_eos, is_volatile;
	struct sampler *sampler; /* owned */
	struct detok detok;
	struct stops stops;
	struct kv_slot *slot;   /* from RESTORING to DECODE */
	struct kv_entry *entry; /* pinned while RESTORING */
	int restore;            /* tokens that entry will bring */

	bool started; /* BATCH_STARTED is out: the figures below stay, whatever preemption does */
	int cached;    /* tokens of the prompt that were not computed */
	int announced; /* done of the last BATCH_PROGRESS */
	int done;      /* tokens of all that the slot holds, while PREFILL */
	int completion;
	uint64_t slot_us, first_us;

	int row; /* in this step: its row with logits, among those with logits; or ROW_* */
};

struct batch {
	const struct model *m; /* borrowed, as are k and pool */
	const struct kernels *k;
	struct graph *graph;        /* owned */
	struct kv_cache *kv;        /* owned */
	struct kv_store *store;     /* borrowed; NULL: nothing is saved */
	const struct kv_form *form; /* the store's */
	batch_event_fn *fn;
	void *arg;
	struct seq *seqs;     /* owned; by class, then in order of arrival */
	int64_t turn;         /* the job whose prompt got the last chunk */
	int held;             /* steps in a row in which a lower class got no row */
	struct buf text, out; /* scratch of one token */
};

void batch_emit(struct batch *b, const struct seq *s, struct batch_event ev);

/* batch_slots.c */
void seq_move(struct seq *s, enum seq_state next);
void seq_leave_slot(struct batch *b, struct seq *s); /* the slot keeps its tokens */
void batch_admit(struct batch *b);
/* Could batch_admit() do something now? */
bool batch_may_admit(const struct batch *b);

#endif
