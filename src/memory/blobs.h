/* Attachments beside the messages that carry them: each content is kept once.
 *
 * Store thread.  A data: URL of BLOBS_MIN_BYTES and more in a message's own JSON stays there as its
 * beginning and a reference, "data:image/png;base64,hob-blob:<64 hex digits>"; its bytes go to a table.
 * Whatever reads a message's parts puts them back first, so hashes and answers are of the whole.
 * Only what comes back byte for byte is taken out; a message that speaks of "hob-blob:" itself keeps
 * everything inside. */
#ifndef HOB_MEMORY_BLOBS_H
#define HOB_MEMORY_BLOBS_H

#include "base/buf.h"
#include "memory/sql.h"

enum {
	BLOBS_MIN_BYTES = 1024,
	BLOBS_HASH_BYTES = 32,
	BLOBS_MAX = 256 /* of a message */
};

struct blob {
	uint8_t hash[BLOBS_HASH_BYTES]; /* SHA-256 of the bytes */
	struct str mime;                /* borrowed from the parts */
	char *data;                     /* owned */
	size_t len;
};

struct blobs {
	struct blob *list; /* owned */
	int n;
	struct buf parts; /* without them; empty when there are none */
};

/* Takes them out of `parts`, which is borrowed until blobs_free. */
void blobs_cut(struct str parts, struct blobs *out);
void blobs_free(struct blobs *b);
/* Keeps them for a message that has been inserted. */
int blobs_put(struct sql *q, int64_t message, const struct blobs *b, struct err *e);
/* A message's parts, or its own JSON alone, as the table has them: whole again. */
int blobs_join(struct sql *q, int64_t message, struct str text, struct buf *out,
	       struct err *e);

#endif
