/* What `hob pull` may be asked for, as a pure function of its text.
 *
 *   smollm2:135m                 a name of the catalogue
 *   hf.co/OWNER/REPO             a repository's Q4_K_M, or its only GGUF file
 *   hf.co/OWNER/REPO:Q8_0        a repository's file of that quantisation
 *   hf.co/OWNER/REPO:some.gguf   one file by name
 *
 * The name of the file on our disk always follows from this text, never from a server. */
#ifndef HOB_PULL_REF_H
#define HOB_PULL_REF_H

#include "base/err.h"
#include "cli/catalogue.h"

#define PULL_DEFAULT_QUANT "Q4_K_M"
enum { PULL_NAME_MAX = 200, PULL_SHA256_HEX = 64, PULL_MAX_FILES = 10000 };

struct pull_ref {
	const struct catalogue_entry *entry; /* or NULL */
	char *repo;                          /* owned: "OWNER/REPO" */
	char *revision;                      /* owned */
	char *file;     /* owned: path in the repository, or NULL: to be chosen */
	char *quant;    /* owned: upper case, or NULL: not said */
	char *filename; /* owned: on our disk */
};

/* Also takes "huggingface.co/..." and either with "https://" in front. */
int pull_ref_parse(struct pull_ref *ref, const char *text, struct err *e);
void pull_ref_free(struct pull_ref *ref);

/* One component: [A-Za-z0-9._-], no leading dot, at most PULL_NAME_MAX bytes. */
bool pull_name_ok(const char *name, size_t n);

/* A GGUF file of a repository's listing. */
struct pull_file {
	char *path;                       /* owned */
	uint64_t bytes;                   /* 0 = unknown */
	char sha256[PULL_SHA256_HEX + 1]; /* "" = unknown */
};

/* The one that ref means, or NULL and an error that lists what there is.  Split files
 * (-00001-of-00003) are refused. */
const struct pull_file *pull_choose(const struct pull_ref *ref,
				    const struct pull_file *files, size_t n,
				    struct err *e);

#endif
