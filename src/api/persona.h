/* Personas: a system prompt, a model and settings that a request names.
 *
 * What a request says itself wins.  The system prompt becomes the first message of a chat that has
 * no system message; where it joins a conversation whose path has one, it is left out again
 * (request.h: system_is_default).  Loop thread. */
#ifndef HOB_PERSONA_H
#define HOB_PERSONA_H

#include "api/routes.h"
#include "route/request.h"

/* Texts of system files that were read. */
struct personas;

struct personas *personas_new(void);
void personas_free(struct personas *p); /* NULL is fine */
/* The next use reads each file again; after a reload of the configuration. */
void personas_forget(struct personas *p);

/* Name as a client wrote it; empty: none. -1 and ERR_INVALID: it cannot be a name. */
int persona_set(struct request *r, struct str name, struct err *e);
/* Applies what r->persona names, NULL: nothing.  ERR_INVALID: there is none of that name; else its file cannot be
 * used.  p may be NULL. */
int persona_apply(struct personas *p, const struct config *c, struct request *r,
		  struct err *e);

route_handler
	persona_api_list; /* {"personas":[{"name","model","description","private"}]} */

#endif
