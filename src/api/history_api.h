/* Conversations under /v1/hob/conversations: rows, paths, heads, turns.  JSON; errors as everywhere. */
#ifndef HOB_HISTORY_API_H
#define HOB_HISTORY_API_H

#include "api/routes.h"

route_handler history_api_list; /* ?limit=&before=&pinned=1 */
route_handler
	history_api_create; /* {title?,model?,private?,metadata?,incognito?,messages?} */
route_handler history_api_get;    /* ?at=HASH: the row and "messages" */
route_handler history_api_change; /* {title?,pinned?,private?,model?,metadata?} */
route_handler history_api_delete;
route_handler history_api_head;  /* {"to":HASH|"root"|"undo"} */
route_handler history_api_fork;  /* {"at"?:HASH} */
route_handler history_api_turns; /* ?limit= */

#endif
