/* Notes over HTTP: what the user wants every model to know, or those of one conversation. */
#ifndef HOB_NOTES_API_H
#define HOB_NOTES_API_H

#include "api/routes.h"

route_handler notes_api_list;   /* ?conversation=ID: {"notes":[…]} */
route_handler notes_api_add;    /* {"text","conversation"?}: the note */
route_handler notes_api_delete; /* by number: {"id","deleted":true} */

#endif
