/* The one place where a state changes. */
#include "base/sm.h"

#include "base/log.h"

void sm_move(const struct sm_state *table, const char *what, unsigned *state,
	     unsigned next)
{
	log_debug("%s: %s -> %s", what, table[*state].name, table[next].name);
	if (!sm_may(table, *state, next)) {
		log_error("%s: move %s -> %s is not in the table", what,
			  table[*state].name, table[next].name);
		ASSERT(!"state machine");
	}
	*state = next;
}
