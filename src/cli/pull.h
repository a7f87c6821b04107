/* Fetching a model file: list, download, resume, verify, put in place.
 *
 * Blocking; for the client, not the daemon.  DIR/NAME.part grows until it is complete, verified
 * and on the disk; only then it becomes DIR/NAME by rename(2).  Its lock keeps a second pull of
 * the same file away; NAME.part.meta remembers what it is a part of.  An interrupted or failed
 * download leaves the part, and the next one goes on where it ended. */
#ifndef HOB_PULL_H
#define HOB_PULL_H

#include "base/buf.h"
#include "cli/pull_ref.h"

enum {
	PULL_MAX_REDIRECTS = 5,
	PULL_MAX_LIST_BYTES = 16 << 20,
	PULL_CONNECT_TIMEOUT_S = 15,
	PULL_STALL_S = 60, /* no byte for so long: given up, to be resumed */
};
#define PULL_MAX_FILE_BYTES (UINT64_C(1) << 43) /* 8 TiB */

struct pull_progress {
	/* Now and then, at least once a second.  total 0 = unknown; resumed: bytes that were there
	 * at the start.  False stops with ERR_CANCELLED. */
	bool (*step)(struct pull_progress *p, uint64_t done, uint64_t total,
		     uint64_t resumed);
};

struct pull {
	const char *endpoint; /* "https://huggingface.co" */
	const char *token;    /* or NULL; sent to the endpoint's host only */
	const char *dir;      /* exists */
	bool force;           /* replace a file that is something else */
	struct pull_progress *progress;
};

struct pull_result {
	char *path; /* owned */
	uint64_t bytes;
	char sha256[PULL_SHA256_HEX + 1];
	bool verified;  /* against a sum known beforehand */
	bool was_there; /* nothing to do */
};

/* Also ERR_CONFLICT: another pull of it is running, or another file has its name. */
int pull_fetch(const struct pull *p, const struct pull_ref *ref, struct pull_result *r,
	       struct err *e);
/* Installs a copy of a local file as the catalogue's entry, if it is that. */
int pull_install(const struct pull *p, const struct catalogue_entry *entry,
		 const char *from, struct pull_result *r, struct err *e);
void pull_result_free(struct pull_result *r);

/* Redirects may lead to https anywhere, to http only on this machine. */
bool pull_url_ok(const char *url);

#endif
