/* A user's words as an expression of FTS5.
 *
 * Any thread; a pure function.  Syntax: words, all of which must be there; "two words" in quotes, in
 * this order; word*, a beginning; -word, must not be there.  Everything else, also what FTS5 would
 * take for an operator, is text to look for: no input gives an expression that FTS5 refuses. */
#ifndef HOB_MEMORY_SEARCH_QUERY_H
#define HOB_MEMORY_SEARCH_QUERY_H

#include "base/buf.h"
#include "base/err.h"

enum { SEARCH_QUERY_MAX_TERMS = 64 }; /* what is over is left out: FTS5 nests them */

/* The expression goes to the end of `out`.  ERR_INVALID: there is no word to look for, or they are all
 * excluded; ERR_TOO_LARGE: over STORE_MAX_QUERY_BYTES. */
int search_query(struct str words, struct buf *out, struct err *e);

#endif
