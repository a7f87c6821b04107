/* Our own paths: health, conversations.  JSON; errors as everywhere. */
#ifndef HOB_HOB_H
#define HOB_HOB_H

#include "api/routes.h"

route_handler hob_health;        /* {"status","version","uptime_s","engine","memory"} */
route_handler hob_conversations; /* ?limit=N, newest first: {"conversations":[…]} */
route_handler hob_conversation;  /* id or "last": the row and "messages" */
route_handler hob_conversation_delete; /* {"id","deleted":true} */

#endif
