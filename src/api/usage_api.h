/* What was spent, over HTTP.
 *
 *   GET /v1/hob/usage   ?days=30&by=model,day,provider,conversation: {"rows":[…],"caps":[…],
 *                       "warning":null|text}; the default is 30 days by model and day */
#ifndef HOB_USAGE_API_H
#define HOB_USAGE_API_H

#include "api/routes.h"

route_handler usage_api_get;

#endif
