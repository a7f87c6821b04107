/* The models that `hob pull NAME` knows by a short name.  A constant table, no I/O. */
#ifndef HOB_CATALOGUE_H
#define HOB_CATALOGUE_H

#include "base/base.h"

/* What `default` means while the configuration names nothing else. */
#define CATALOGUE_DEFAULT "smollm2:135m"

struct catalogue_entry {
	const char *name; /* "smollm2:135m" */
	const char *
		filename; /* in the models folder: the name with '-' for ':', and ".gguf" */
	const char *repo; /* "owner/repo" on Hugging Face */
	const char *revision;
	const char *file; /* path in the repository */
	uint64_t bytes;
	const char *sha256; /* 64 lower-case hex digits */
	const char *about;  /* one line for people */
};

size_t catalogue_count(void);
const struct catalogue_entry *catalogue_at(size_t i);
const struct catalogue_entry *catalogue_by_name(const char *name); /* or NULL */
const struct catalogue_entry *
catalogue_by_file(const char *filename); /* "x.gguf"; or NULL */

#endif
