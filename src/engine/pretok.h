/* Pre-tokenisers: the rules that cut text into words before byte-pair merging.
 *
 * One table of named lists of regular expressions.  Text is cut by the first, its pieces
 * by the second, and so on; what lies between matches is a piece too.  Compiled ones are
 * immutable; pretok_split() may run in several threads. */
#ifndef HOB_PRETOK_H
#define HOB_PRETOK_H

#include "base/buf.h"
#include "base/err.h"

struct pretok;

/* By the name in tokenizer.ggml.pre; NULL with ERR_UNSUPPORTED when unknown. */
struct pretok *pretok_new(struct str name, struct err *e);
void pretok_free(struct pretok *p); /* NULL is fine */
/* Hands each piece to `piece`, in order; together they are the text.  Invalid UTF-8 is a
 * piece of its own. */
void pretok_split(const struct pretok *p, struct str text,
		  void (*piece)(void *arg, struct str s), void *arg);
/* Does this family take a word that is a token as it stands, without merging it? */
bool pretok_ignores_merges(const struct pretok *p);
/* Does it put BOS first when the file does not say? */
bool pretok_adds_bos(const struct pretok *p);

#endif
