/* The set of remote providers: made from the configuration, changed by a reload, closed at the end.
 *
 * Loop thread.  A reload keeps a provider whose section is unchanged, with its connections and what it
 * has learnt.  One that has changed or gone is *retired*: out of the list at once, so that no new
 * prompt finds it, but alive until the last prompt that may hold it has ended.
 *
 *   listed ──section changed or gone──▶ retired ──no job is older than that──▶ closing ──▶ gone */
#ifndef HOB_REMOTES_H
#define HOB_REMOTES_H

#include <uv.h>
#include "config.h"
#include "net/fetch.h"
#include "providers/provider.h"

struct remotes;

/* When the oldest job that runs was started (clock_mono_ms()); UINT64_MAX: none runs. */
typedef uint64_t remotes_oldest_fn(void *arg);

/* fetch is borrowed and outlives it. */
struct remotes *remotes_new(uv_loop_t *loop, struct fetch *f, remotes_oldest_fn *oldest,
			    void *arg);
/* old: the configuration of the last call, still valid; NULL at the first.  A provider that cannot be
 * made is left out, with a line in the log. */
void remotes_set(struct remotes *r, const struct config *old, const struct config *next);
/* Borrowed until the next remotes_set(); in the order of the configuration. */
struct provider **remotes_list(const struct remotes *r, int *n);
/* All jobs must have ended.  done(arg) comes once, in a later turn; r is gone by then. */
void remotes_close(struct remotes *r, void (*done)(void *arg), void *arg);

#endif
