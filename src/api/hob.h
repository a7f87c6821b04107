/* How the daemon does. */
#ifndef HOB_HOB_H
#define HOB_HOB_H

#include "api/routes.h"

route_handler hob_health; /* {"status","version","uptime_s","engine","memory"} */

#endif
