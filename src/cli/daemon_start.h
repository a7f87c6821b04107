/* A daemon to talk to: the one that runs, or one started now.
 *
 * Blocking, main thread.  When several commands start one at once, each of their daemons
 * tries the lock file and one wins; the others end, and every command talks to the
 * winner. */
#ifndef HOB_DAEMON_START_H
#define HOB_DAEMON_START_H

#include "base/err.h"
#include "cli/client.h"

enum { DAEMON_START_TIMEOUT_MS = 10000 };

/* Where the daemon listens, found the way the daemon finds it: server.socket of the
 * configuration, else paths_socket(); owned by the caller.  A configuration that cannot
 * be read is the daemon's to complain about, not ours. */
char *daemon_socket(void);

/* A client whose daemon answered a moment ago, or NULL: ERR_UNAVAILABLE when none runs
 * and may_start is false, else what went wrong, with the last lines of the daemon's log.
 */
struct client *daemon_connect(bool may_start, struct err *e);

/* Where a daemon that we start writes its log; owned by the caller. */
char *daemon_log_path(void);

#endif
