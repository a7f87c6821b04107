/* Conversations as files over HTTP: export and import. */
#ifndef HOB_MOVE_API_H
#define HOB_MOVE_API_H

#include "api/routes.h"

route_handler move_api_export; /* ?format=jsonl|markdown|openai */
route_handler
	move_api_import; /* hob's JSON lines: {"conversations","messages","known","last"} */

#endif
