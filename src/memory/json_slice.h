/* Pieces of JSON text as they are written, without a tree: for what is hashed, and for files too large
 * to be one.  Pure.
 *
 * Brackets are counted and strings jumped over, no more: a piece may be anything until json_read has
 * read it.  Linear in the text, whatever it holds. */
#ifndef HOB_JSON_SLICE_H
#define HOB_JSON_SLICE_H

#include "base/buf.h"

/* The value of the first member `key` (which needs no escape) of an object, and in *rest, appended, the
 * object with null in its place.  False when it has none; rest is untouched then. */
bool json_slice_cut(struct str object, const char *key, struct str *value,
		    struct buf *rest);
/* Elements of an array: *at is the array's text at first, then what is left of it.  False at its end,
 * or where it is none. */
bool json_slice_next(struct str *at, struct str *element);

#endif
