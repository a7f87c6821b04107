/* The registry: which names there are and where each leads.
 *
 * Local models are GGUF files: those in the models folder (name = file name without .gguf, and
 * for pulled ones the catalogue name such as "smollm2:135m"), and those that the configuration
 * names by path.  Files are not opened here: the router never parses a model file.
 * Remote models have a provider's name as prefix: "openrouter/vendor/model".
 * Loop thread only. */
#ifndef HOB_MODELS_H
#define HOB_MODELS_H

#include "base/err.h"
#include "config.h"

struct provider;

struct model {
	char *name;     /* owned */
	char *path;     /* owned; local file, or NULL when remote */
	uint64_t bytes; /* size of the file; 0 when remote */
	uint64_t dev, ino;
	int64_t mtime_ms; /* of the file: with dev, ino and bytes, its identity */
	struct model_settings settings; /* its args are the configuration's */
};

struct models; /* opaque */

struct models *models_new(const struct config *c);
void models_free(struct models *m);
void models_rescan(struct models *m,
		   const struct config *c); /* pointers to struct model of files
								* that are still there stay valid */

/* A local model by name, or NULL.  Rescans the folder once when the name is unknown. */
const struct model *models_find(struct models *m, const char *name);
/* The model used when a client names none or "default"; NULL when there is none. */
const struct model *models_default(struct models *m);
int models_count(const struct models *m);
const struct model *models_at(const struct models *m, int i);
/* The nearest known name for an error text, or NULL. */
const char *models_nearest(const struct models *m, const char *name);

#endif
