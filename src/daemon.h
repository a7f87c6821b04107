/* The daemon: owns every subsystem, starts and stops them in one order.
 *
 *	STARTING ─▶ SERVING ─▶ DRAINING ─▶ CLOSING ─▶ (the loop runs out)
 *	    └──────────┴──────────────────────┘
 *
 * Loop thread only.  One struct, no globals: two daemons can live in one process. */
#ifndef HOB_DAEMON_H
#define HOB_DAEMON_H

#include "base/err.h"
#include "config.h"

enum {
	DAEMON_DRAIN_MS = 30000, /* after SIGTERM, for replies under way */
};

/* Runs until SIGTERM or SIGINT; takes the configuration, which came from `source` (borrowed) and is
 * read from there again on SIGHUP.  0, or -1 when it could not start. */
int daemon_run(struct config *c, const struct config_source *source, struct err *e);

#endif
