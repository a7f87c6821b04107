/* OpenAI's Conversations API over the store: /v1/conversations.  hob's own paths for the same
 * conversations are /v1/hob/conversations (hob.h).  doc/responses.md says what is supported.
 *
 * Ids are "conv_" and the store's id; the store's alone is understood too.  Items are named as in
 * responses.h. */
#ifndef HOB_CONVERSATIONS_API_H
#define HOB_CONVERSATIONS_API_H

#include "api/routes.h"

route_handler conversations_create;
route_handler conversations_get;
route_handler conversations_update;
route_handler conversations_delete;
route_handler conversations_items;
route_handler conversations_add_items;
route_handler conversations_item;
route_handler conversations_delete_item;

enum { CONVERSATIONS_MAX_NEW_ITEMS = 20 }; /* at once, as OpenAI has it */

#endif
