/* The store as a whole over HTTP: how full it is, forgetting, backup, export and import. */
#ifndef HOB_MEMORY_API_H
#define HOB_MEMORY_API_H

#include "api/routes.h"

route_handler memory_api_get;    /* path, status, policy, figures */
route_handler memory_api_forget; /* {"conversation"|"before_ms"|"all", "pinned"?} */
route_handler memory_api_backup; /* {"path"}: over the Unix socket only */

#endif
