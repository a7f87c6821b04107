/* State machines as data: a table names the states and their allowed moves.
 * An unknown move is an assertion, in release too. */
#ifndef HOB_SM_H
#define HOB_SM_H

#include "base/base.h"

struct sm_state {
	const char *name;
	unsigned to; /* bit per allowed next state */
};

#define SM_TO(s) (1u << (s))

/* Moves *state to next or aborts with both names.  `what` names the machine in the log. */
void sm_move(const struct sm_state *table, const char *what, unsigned *state,
	     unsigned next);
static inline bool sm_may(const struct sm_state *table, unsigned state, unsigned next)
{
	return (table[state].to & SM_TO(next)) != 0;
}

#endif
