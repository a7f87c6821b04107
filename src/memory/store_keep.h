/* What is kept and for how long, forgetting, figures, backup.  Rules, codes and threads as in store.h. */
#ifndef HOB_STORE_KEEP_H
#define HOB_STORE_KEEP_H

#include "memory/store.h"
#include "memory/store_limits.h"

/* Whole conversations go, the least recently used first, pinned ones never; when the store has nothing else to do. */
void store_set_limits(struct store *s, const struct store_limits *limits);

/* true: an answer waits until its commit is on the disk, and survives a power cut.  false (durability = "normal"): it
 * survives the end of the process; a power cut takes the last moments and leaves the rest whole. */
void store_set_durable(struct store *s, bool durable);

struct store_forget_ask { /* exactly one of the first three */
	const char *conversation;
	int64_t before_ms; /* last used before; 0 = not asked */
	bool all;
	bool pinned_too;
};
struct store_forgotten {
	int64_t conversations, messages, bytes; /* bytes: that the file became smaller */
};
typedef void store_forget_cb(void *arg, const struct err *e,
			     const struct store_forgotten *f);
/* When it answers no byte of the text is left in the database, its log or its search index. */
void store_forget(struct store *s, const struct store_forget_ask *ask,
		  store_forget_cb *cb, void *arg);

/* As of the last job that changed them. */
struct store_figures {
	uint64_t bytes; /* of database and log */
	int64_t conversations, messages;
	uint64_t evicted;  /* conversations, by limits, since the start */
	int64_t oldest_ms; /* last use of the oldest conversation; 0 = none */
};
void store_figures(const struct store *s, struct store_figures *out);

/* A compact copy (VACUUM INTO) at `path`, mode 0600; ERR_CONFLICT when something is there. */
void store_backup(struct store *s, const char *path, store_done_cb *cb, void *arg);

#endif
