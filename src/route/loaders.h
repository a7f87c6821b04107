/* Joins the cache to those who hold models: the engine, and llama-server children for what it does not
 * speak.  Loop thread.  The cache is borrowed and outlives the loaders, as do the other two. */
#ifndef HOB_LOADERS_H
#define HOB_LOADERS_H

#include "cache/cache.h"
#include "providers/engine.h"
#include "providers/llama_server.h"

struct loaders;

/* llama NULL: what the engine refuses is refused. */
struct loaders *loaders_new(struct cache *c, struct engine *e,
			    struct llama_servers *llama);
/* The cache has no loader afterwards.  NULL is fine. */
void loaders_free(struct loaders *l);

#endif
