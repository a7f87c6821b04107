/* A reply that waits for the store.
 *
 * A store call cannot be cancelled and its callback comes later, so what waits is a struct of its own,
 * with this as a member, that outlives a client who left: conn is NULL then.  Loop thread. */
#ifndef HOB_PENDING_H
#define HOB_PENDING_H

#include "api/routes.h"

struct pending {
	struct exchange exchange;
	struct conn *conn; /* NULL: the client has left, nobody is to be answered */
};

void pending_begin(struct pending *p, struct conn *c);
/* The connection is the caller's again, for an exchange of another kind. */
struct conn *pending_release(struct pending *p);
/* The parameter of a path, decoded: ids only.  NULL: it is none, and that was not answered yet. */
char *pending_id(struct str param);

#endif
