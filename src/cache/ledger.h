/* What models really cost: bytes and times, measured, kept across restarts.
 *
 * One row for each (file identity, context, KV type, slots, backend); at most
 * LEDGER_MAX_ROWS, the one used longest ago goes.  Held in memory, read from an SQLite
 * file of its own at the start and written behind the loop's back (uv_queue_work), one
 * write at a time, rows that changed meanwhile together.
 *
 * The ledger never fails anybody's request: a corrupt file is renamed to
 * `<path>.corrupt-<UTC time>` and begun anew, a full disk or an unwritable folder is one
 * line in the log and the rows stay in memory.  Loop thread only. */
#ifndef HOB_LEDGER_H
#define HOB_LEDGER_H

#include <uv.h>
#include "base/base.h"

enum { LEDGER_MAX_ROWS = 4096, LEDGER_KV_TYPE_BYTES = 16 };

struct ledger_key {
	uint64_t dev, ino, bytes;
	int64_t mtime_ms;
	int ctx, slots, backend;
	char kv_type[LEDGER_KV_TYPE_BYTES]; /* "bf16"; "": the backend's default */
};

struct ledger_row {
	struct ledger_key key;
	uint64_t weights_bytes, kv_bytes, parked_bytes;
	double load_ms, promote_ms, lease_ms; /* 0: not known */
	uint64_t loads;
	int64_t used_unix_ms;
};

struct ledger; /* opaque */

/* loop NULL: writes happen at once, in ledger_put() (tests).  path NULL: memory only. */
struct ledger *ledger_new(uv_loop_t *loop, const char *path);
/* What was put is on disk when done(arg) is called, in a later turn when there is a
 * loop.  done may be NULL; l may be NULL (then done is called at once). */
void ledger_close(struct ledger *l, void (*done)(void *arg), void *arg);

/* Borrowed until the next put; NULL: not known. */
const struct ledger_row *ledger_find(const struct ledger *l,
				     const struct ledger_key *key);
/* The latest row of the same file on the same backend, whatever its context; or NULL. */
const struct ledger_row *ledger_near(const struct ledger *l,
				     const struct ledger_key *key);
void ledger_put(struct ledger *l, const struct ledger_row *row);
int ledger_count(const struct ledger *l);
const struct ledger_row *ledger_at(const struct ledger *l, int i);

#endif
