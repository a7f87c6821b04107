/* When a provider is asked for its models: the catalogue of any remote kind.
 *
 * Loop thread.  Asked in the background soon after the start, at warm() and after calls, each time
 * only when what is known is older than REMOTE_MODELS_FRESH_S; and when the provider says that it
 * does not have a model, because then what is known is wrong.  Never by itself while nobody uses
 * hob, and never before a key is there that can be had without asking anybody.  After a failure it
 * rests for CATALOGUE_REST_MS, doubling.  One question at a time. */
#ifndef HOB_CATALOGUE_H
#define HOB_CATALOGUE_H

#include "providers/remote.h"

enum {
	CATALOGUE_START_MS = 200, /* after the start, which must not wait for a file */
	CATALOGUE_REST_MS = 5000,
	CATALOGUE_REST_MAX_MS = 600000,
	CATALOGUE_MIN_MS = 60000, /* between two questions after a wrong model */
	CATALOGUE_MAX_BYTES = 16 << 20,
};

struct catalogue;
struct catalogue *catalogue_new(struct remote *r, const struct config_provider *c);
void catalogue_free(
	struct catalogue *c); /* no more calls; its memory goes a turn later */

void catalogue_warm(struct catalogue *c);
void catalogue_ended(struct catalogue *c, const struct remote_ended *e);
const struct remote_models *catalogue_models(const struct catalogue *c);
int catalogue_max_output(const struct catalogue *c, const char *model); /* 0: unknown */

/* What kinds have that have nothing else of their own. */
extern const struct remote_extras catalogue_extras;

#endif
