/* Which candidate a conversation was given, so that it keeps it: moving costs the prefix cache.
 *
 * Pure; bounded: STICKY_MAX conversations, the one used longest ago goes; forgotten after
 * STICKY_MS without use.  A conversation without an id is known by its first system and first
 * user message (as OpenRouter does it). */
#ifndef HOB_STICKY_H
#define HOB_STICKY_H

#include "route/request.h"

enum { STICKY_MAX = 4096, STICKY_MS = 24 * 3600 * 1000 };

struct sticky;
struct sticky *sticky_new(void);
void sticky_free(struct sticky *s);
/* Never 0.  messages: all of it, the first ones count. */
uint64_t sticky_key(const struct request *r, const char *conversation,
		    const struct message *messages, int n);
/* NULL: none.  Borrowed until the next put. */
const char *sticky_get(struct sticky *s, const char *route, uint64_t key,
		       uint64_t now_ms);
void sticky_put(struct sticky *s, const char *route, uint64_t key, const char *model,
		uint64_t now_ms);

#endif
