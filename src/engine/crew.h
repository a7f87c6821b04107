/* Plain threads for work that must not disturb the pool: fork, share numbered pieces, join.
 *
 * The pool spins and belongs to the answers; a crew lives for one call, takes pieces from a counter and has
 * the priority of the thread that called. */
#ifndef HOB_CREW_H
#define HOB_CREW_H

#include <stdatomic.h>
#include <stdbool.h>

/* False stops the whole. */
typedef bool crew_fn(void *arg, int piece);

/* Runs fn for pieces 0..pieces-1, in about that order, on the caller and up to threads - 1 others.  False: one
 * of them said so, or *cancel became true; the others have stopped then, too. */
bool crew_run(int threads, int pieces, crew_fn *fn, void *arg, const atomic_bool *cancel);
/* The calling thread, and those it starts, give way to answers from now on. */
void crew_lower_priority(void);

#endif
