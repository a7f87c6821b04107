/* What the files money*.c share; nobody else includes it.
 *
 * money.c: reservations and how they end.  money_caps.c: what the caps say.  money_books.c: the sums.
 * money_write.c: what goes to the file, and when.  money_store.c: the file.  money_json.c: the view. */
#ifndef HOB_MONEY_IMPL_H
#define HOB_MONEY_IMPL_H

#include <sys/queue.h>
#include <uthash.h>
#include "route/money.h"
#include "route/money_books.h"
#include "route/money_store.h"

struct money_hold {
	TAILQ_ENTRY(money_hold) link, wait_link;
	struct money *money;
	char *provider, *model, *conversation, *request; /* owned; "" = none */
	int64_t id, at_ms, most; /* most: 0 when the price is unknown */
	int day;                 /* of the reservation: it counts there */
	bool unpriced, capped;   /* capped: a cap applies to it */
	bool given;              /* to the writer: it is in the file, or will be */
	uint64_t batch;          /* safe when that one is written; 0: not given yet */
	void (*safe)(void *arg, const struct err *e);
	void *safe_arg;
};
TAILQ_HEAD(money_holds, money_hold);

/* What was counted without being known, until money_late(). */
struct estimate {
	TAILQ_ENTRY(estimate) link;
	UT_hash_handle hh;    /* by request */
	struct entry_key key; /* strings owned */
	char *request;        /* owned */
	int64_t at_ms, cost, tokens_in, tokens_out, unpriced;
	bool on_disk; /* false: it counts nothing, and is not worth a row */
};
TAILQ_HEAD(estimates, estimate);

enum file_state {
	FILE_NONE,    /* memory only */
	FILE_UNREAD,  /* never opened yet */
	FILE_GOOD,    /* the last write worked */
	FILE_FAILING, /* the last one, or opening it, did not */
	FILE_NEWER,   /* not ours to write */
	FILE_STATES
};

struct money {
	/* loop thread */
	uv_loop_t *loop;
	int64_t (*now_unix_ms)(void *arg);
	void *now_arg;
	char *path;                  /* owned; NULL: memory only */
	const struct config *config; /* borrowed; NULL: no caps */
	struct books books;
	struct money_holds holds;
	struct money_holds waiting; /* in the order of their batches */
	struct estimates estimates;
	struct estimate *by_request; /* the same ones, as a hash */
	int64_t zone_ms;             /* when the time zone was looked at last */
	int nestimates;
	int64_t next_id;
	int tidied_day; /* folding was last done on that day */
	unsigned file;  /* enum file_state */
	bool corrupt; /* a damaged file lay beside ours: amounts are missing until it is gone */
	struct err file_error;    /* of FILE_FAILING and FILE_NEWER */
	struct money_ops pending; /* for the next batch, before what the books say */
	uint64_t batches;         /* number of the last one begun; from 1 */
	uint64_t written;         /* of the last one that is on disk */
	uint64_t tried_ms;        /* uv_now() of the last attempt */
	bool writing, urgent;     /* urgent: somebody waits for the next batch */
	bool anew;                /* all is to be written again */
	bool read;                /* what was in the file is in the books */
	bool told, closing;       /* told: of a failure, until a write succeeds */
	int open_handles;
	uv_timer_t timer;
	uv_idle_t soon; /* calls those back who need not wait */
	void (*done)(void *arg);
	void *done_arg;

	/* the work's while `writing`, else the loop's */
	struct money_store store;
	struct money_ops ops; /* being written */
	struct money_ops all; /* read, where it had to be opened first */
	enum money_opened opened;
	bool fresh; /* it was opened and read, and nothing written yet */
	int rc;
	struct err error;
	uv_work_t work;
};

/* ---- money_caps.c */

enum { MONEY_CAPS = 5, MONEY_WHY_BYTES = 400 };

/* One cap that applies to somebody. */
struct cap {
	enum cap_kind {
		CAP_DAY,
		CAP_MONTH,
		CAP_PROVIDER_DAY,
		CAP_PROVIDER_MONTH,
		CAP_CONVERSATION
	} kind;
	int period;       /* of the tally */
	const char *name; /* of the tally; borrowed */
	int64_t limit, spent, reserved;
};

struct decided {
	enum money_verdict verdict;
	uint32_t retry_after_ms;
	char why[MONEY_WHY_BYTES];
};

int64_t money_now(const struct money *m);
int money_day(int64_t unix_ms);               /* 20261121, local */
int money_day_before(int64_t unix_ms, int n); /* so many days earlier */
bool money_any_cap(const struct money *m);
/* The caps that apply; conversation may be NULL.  At most MONEY_CAPS. */
int money_caps(const struct money *m, int day, const char *provider,
	       const char *conversation, struct cap out[MONEY_CAPS]);
enum money_verdict money_cap_state(const struct money *m, const struct cap *c);
void money_decide(const struct money *m, const struct money_ask *a, struct decided *d);
/* Why nothing can be kept: true and a text where caps would not survive. */
bool money_file_broken(const struct money *m, char *why, size_t bytes);

/* ---- money_write.c */

void money_open(struct money *m);      /* at the start; waits for the disk */
void money_changed(struct money *m);   /* to be written within MONEY_FLUSH_MS */
void money_write_now(struct money *m); /* somebody waits */
void money_tell_safe(struct money *m); /* calls those back who need not wait any more */
void money_end(struct money *m);       /* writes what is left, and ends */
void money_put_estimate(struct money *m, const struct estimate *e);

/* ---- money.c, for money_write.c */

/* What another run left reserved becomes an estimate; all others are added as they are. */
void money_take(struct money *m, const struct money_ops *all);
void money_tidy(struct money *m);
void money_forget_estimates(struct money *m); /* in memory */

#endif
