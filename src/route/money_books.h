/* The books in memory: sums of what was spent, and tallies of each period for the caps.
 *
 * Loop thread.  Amounts are integers of 1e-9 USD; sums saturate instead of wrapping.  What changed
 * is on lists until the writer takes it. */
#ifndef HOB_MONEY_BOOKS_H
#define HOB_MONEY_BOOKS_H

#include "base/base.h"
#include "providers/remote_models.h"
#include "route/event.h"

#define AMOUNT_MAX   ((int64_t)1000000000000000) /* of one call: a million USD */
#define MONEY_OTHER  "(other)" /* where names go when there are too many */
#define AMOUNT_BYTES 32

/* Nearest, and never below; out of range and NaN become 0 or AMOUNT_MAX. */
int64_t amount_of(double usd);
int64_t amount_above(double usd);
int64_t amount_add(int64_t a, int64_t b);
double amount_usd(int64_t nano);
const char *amount_exact(int64_t nano, char out[AMOUNT_BYTES]); /* "0.000125" */
const char *amount_short(int64_t nano, char out[AMOUNT_BYTES]); /* "4.98", for people */

struct sums {
	int64_t requests, tokens_in, tokens_cached, tokens_out;
	int64_t cost, estimated; /* the part of cost that was never confirmed */
	int64_t unpriced;        /* requests of which nobody knows the price */
};
void sums_add(struct sums *to, const struct sums *more); /* no sum falls below 0 */

/* What rows are summed by.  conversation "": none, or folded. */
struct entry_key {
	int day; /* 20261121, of local time */
	const char *provider, *model, *conversation;
};

struct entry {
	struct entry *next, *next_dirty;
	uint64_t hash;
	bool dirty, gone;
	struct entry_key key; /* strings owned */
	struct sums sums;
};

/* What caps look at.  period: a day (8 digits), a month (6 digits), or 0 for a conversation. */
struct tally {
	struct tally *next, *next_dirty;
	uint64_t hash;
	bool dirty, gone;
	int period, last_day; /* last_day: of a conversation's last use */
	char *name;           /* owned: provider, conversation, or "" for all */
	int64_t spent, reserved;
};

enum { BOOKS_BUCKETS = 4096 };

struct books {
	struct entry **entries;
	struct tally **tallies;
	int nentries, nconversations;
	struct entry *dirty, *gone; /* gone: to be deleted from the file, then freed */
	struct tally *dirty_tallies, *gone_tallies;
};

void books_init(struct books *b);
void books_fini(struct books *b);
/* The row of that key, made if there is none; where the books are full, a row that sums more. */
struct entry *books_entry(struct books *b, const struct entry_key *k);
/* Adds to a row and to the tallies that follow from it, but not to the conversation's. */
void books_post(struct books *b, struct entry *row, const struct sums *delta);
/* The name under which a conversation is counted: where there are too many, those that come last
 * share MONEY_OTHER, and so one cap. */
const char *books_conversation(struct books *b, const char *name, int day);
/* So much more (or less) is reserved. */
void books_reserve(struct books *b, const struct entry_key *k, int64_t delta);
/* So much more (or less) was spent in a conversation. */
void books_converse(struct books *b, const struct entry_key *k, int64_t delta);
/* NULL: nothing was ever there. */
const struct tally *books_tally(const struct books *b, int period, const char *name);
bool books_has(const struct books *b, const struct entry_key *k);
/* Conversations' detail of days before that one goes into rows without; conversations that were last
 * used before it are forgotten. */
void books_fold(struct books *b, int before_day);
void books_all_dirty(struct books *b);
/* The writer has taken all that changed. */
void books_clean(struct books *b);

#endif
