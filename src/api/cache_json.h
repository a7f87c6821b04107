/* The cache's views as JSON objects, for every reply and event that holds them.  Pure; loop thread. */
#ifndef HOB_CACHE_JSON_H
#define HOB_CACHE_JSON_H

#include "base/buf.h"
#include "cache/cache.h"

void cache_json_row(struct buf *out, const struct cache_row *r);
void cache_json_decision(struct buf *out, const struct decision *d);
/* "budget_bytes":…, …,"models":[…]: members without the braces around them.  Models that are on disk
 * and that nobody waits for are left out. */
void cache_json_members(struct buf *out, const struct cache *c);

#endif
