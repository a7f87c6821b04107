/* Routing over HTTP: the dry run, the last decisions, and how providers do. */
#ifndef HOB_ROUTE_API_H
#define HOB_ROUTE_API_H

#include "api/routes.h"

route_handler route_api_explain;   /* POST /v1/hob/route/explain: runs nothing */
route_handler route_api_decisions; /* GET /v1/hob/routes/decisions?limit=&model= */
route_handler route_api_providers; /* GET /v1/hob/providers */

#endif
