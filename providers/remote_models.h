/* What is known of a provider's models: contexts, abilities, prices.  Kept on disk, so that a fresh
 * daemon knows them before it has asked.
 *
 * Loop thread.  The file ($XDG_CACHE_HOME/hob/catalogue/PROVIDER.json, 0600) is read at the first
 * question and written behind the loop's back; a broken one is ignored and written anew.  Its shape
 * is ours, not the provider's. */
#ifndef HOB_REMOTE_MODELS_H
#define HOB_REMOTE_MODELS_H

#include <uv.h>
#include "base/err.h"
#include "config.h"

enum { REMOTE_MODELS_MAX = 10000, REMOTE_MODELS_FRESH_S = 3600 };

/* USD per token, as OpenRouter gives them; < 0 = unknown. */
struct prices {
	double input, output, cached /* cache read */, cache_write, request, image;
};

struct remote_model {
	char *id;            /* owned: the provider's own name of it */
	int ctx, max_output; /* tokens; 0 = unknown */
	enum tristate images, tools, structured, reasoning;
	struct prices prices;
	int64_t expires_unix_s; /* the provider ends it then; 0 = does not */
};

#define REMOTE_MODEL_UNKNOWN                         \
	((struct remote_model){.images = UNSAID,     \
			       .tools = UNSAID,      \
			       .structured = UNSAID, \
			       .reasoning = UNSAID,  \
			       .prices = {-1, -1, -1, -1, -1, -1}})

struct remote_models;

/* provider: its name, also the file's; dir NULL: nothing is kept on disk (tests). */
struct remote_models *remote_models_new(uv_loop_t *loop, const char *dir,
					const char *provider);
/* Before the first question: where the list comes from.  A file from elsewhere (the provider's url
 * was changed) is ignored then. */
void remote_models_set_origin(struct remote_models *m, const char *url);
/* NULL is fine.  A file that is being written is finished all the same: the loop must turn on. */
void remote_models_free(struct remote_models *m);
void remote_models_list_free(struct remote_model *list, int n);
/* Takes the array and what its elements own, and remembers when.  Of several with one id one counts;
 * what is beyond REMOTE_MODELS_MAX is dropped. */
void remote_models_set(struct remote_models *m, struct remote_model *list, int n);
const struct remote_model *remote_models_find(const struct remote_models *m,
					      const char *id);
int remote_models_count(const struct remote_models *m);
const struct remote_model *remote_models_at(const struct remote_models *m,
					    int i); /* by id */
/* < 0: never got any.  A clock that was set back makes a list old, not young. */
int64_t remote_models_age_s(const struct remote_models *m);

#endif
