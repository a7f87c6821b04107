/* What was typed before, newest first, and the file that keeps it between sessions.
 *
 * Main thread.  Entries may have several lines.  Two programs may use one file at once: each adds its
 * own entries to the end under a lock, so that none is lost. */
#ifndef HOB_LINES_HISTORY_H
#define HOB_LINES_HISTORY_H

#include <histedit.h>
#include "base/base.h"

enum {
	LINES_HISTORY_MAX = 1000, /* entries */
	LINES_HISTORY_ENTRY_MAX_BYTES =
		65536, /* longer ones live as long as the program */
	LINES_HISTORY_FILE_MAX_BYTES = 4
				       << 20, /* then the oldest go, at the next start */
};

struct lines_history;

/* The file is made with mode 0600; when it cannot be read or written there is none, silently: a prompt
 * must not fail for its history.  path NULL: none. */
struct lines_history *lines_history_open(const char *path);
void lines_history_close(struct lines_history *h); /* NULL is fine */
/* keep: in the file as well.  Empty ones and repetitions of the newest are not added. */
void lines_history_add(struct lines_history *h, const char *text, bool keep);
/* The i-th newest, from 0; borrowed until the next call; NULL: there are not so many. */
const char *lines_history_at(struct lines_history *h, int i);
History *lines_history_list(struct lines_history *h); /* for libedit's own search */

#endif
