/* Full-text search.  Rules, codes and threads as in store.h. */
#ifndef HOB_STORE_SEARCH_H
#define HOB_STORE_SEARCH_H

#include "memory/store.h"

struct store_hit {
	const char *conversation,
		*title; /* the newest conversation that reaches the message */
	const char *hash;
	enum role role;
	const char *snippet; /* the text around; matches between U+0002 and U+0003 */
	int64_t created_ms;
	double rank; /* bm25: smaller is better; 0: not ranked, the newest first */
};
typedef void store_hits_cb(void *arg, const struct err *e, const struct store_hit *list,
			   int n);

struct store_search_ask {
	const char *
		query; /* words; "two words" in quotes; word*; -word; nothing else is syntax */
	const char *conversation; /* only there; or NULL */
	int limit;                /* 1 to 200 */
};
enum { STORE_MAX_QUERY_BYTES = 1024, STORE_MAX_RANKED = 1000 };
/* Best first; the newest first when more than STORE_MAX_RANKED messages match.  ERR_INVALID: nothing to
 * look for; ERR_TOO_LARGE: over STORE_MAX_QUERY_BYTES; ERR_NOT_FOUND: no such conversation.  Which
 * conversation is the newest is judged by the newest turns among the next messages behind a hit. */
void store_search(struct store *s, const struct store_search_ask *ask, store_hits_cb *cb,
		  void *arg);

#endif
