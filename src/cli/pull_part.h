/* The file that a download grows in: DIR/NAME.part, locked, with its sum kept up to date. */
#ifndef HOB_PULL_PART_H
#define HOB_PULL_PART_H

#include <sha2.h>
#include "cli/pull.h"

struct part {
	char *path, *part, *meta; /* owned: DIR/NAME, .part and .part.meta */
	const char *dir;          /* borrowed */
	int fd;                   /* locked */
	uint64_t bytes;           /* in the file, all of them in the sum */
	uint64_t expect;          /* of the whole file; 0 = unknown */
	SHA2_CTX sum;
	struct pull_progress *progress; /* borrowed */
};

/* Opens and locks; what an earlier pull left is counted but not yet in the sum. */
int part_open(struct part *t, const struct pull *p, const char *filename, struct err *e);
/* Keeps what was left when its meta says that it is of `source` and, where known, of `sha256`;
 * reads it into the sum. etag: 256 bytes, "" = none was remembered.  Else starts anew. */
int part_resume(struct part *t, const char *source, const char *sha256, char *etag,
		struct err *e);
int part_restart(struct part *t, struct err *e);
void part_remember(struct part *t, const char *source, const char *sha256,
		   const char *etag);
int part_write(struct part *t, const void *bytes, size_t n, struct err *e);
/* ERR_DISK_FULL unless what is missing of `expect` fits. */
int part_room(const struct part *t, struct err *e);
/* Verifies (want "" = nothing known), syncs, renames; sha256 gets the sum.  A part with a wrong
 * sum is removed: nothing of it can be trusted. */
int part_finish(struct part *t, const char *want, char *sha256, struct err *e);
void part_close(struct part *t);

/* The sum of a whole file. */
int part_sum(const char *path, struct pull_progress *progress, char *sha256,
	     uint64_t *bytes, struct err *e);

#endif
