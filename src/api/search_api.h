/* Full-text search over HTTP. */
#ifndef HOB_SEARCH_API_H
#define HOB_SEARCH_API_H

#include "api/routes.h"

route_handler search_api_get; /* ?q=WORDS&limit=&conversation=ID: {"hits":[…]} */

#endif
