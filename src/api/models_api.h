/* GET /v1/models and /v1/models/NAME: local models, routes, and what providers say they have.
 *
 * Who asks is about to choose: providers are warmed, so that the choice finds a connection, and
 * catalogues that are old are asked for again behind the answer's back. */
#ifndef HOB_MODELS_API_H
#define HOB_MODELS_API_H

#include "api/routes.h"

route_handler models_api_list;
route_handler models_api_get;

#endif
