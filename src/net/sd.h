/* systemd's two small protocols, by hand: sockets passed in, and readiness told.
 * sd_listen_fds(3), sd_notify(3); no libsystemd, whose dependencies outweigh forty lines. */
#ifndef HOB_SD_H
#define HOB_SD_H

#include "base/base.h"

enum { SD_FIRST_FD = 3, SD_MAX_FDS = 16 };

/* How many sockets systemd passed to this very process (LISTEN_PID), from SD_FIRST_FD on; made
 * close-on-exec, and the variables are removed so that no child takes them for its own. */
int sd_take_listen_fds(void);

/* E.g. "READY=1", "STOPPING=1".  True when told, false without systemd or on failure. */
bool sd_tell(const char *state);

#endif
