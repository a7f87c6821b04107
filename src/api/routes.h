/* Paths to handlers: one table.  Also the error objects that all handlers answer with. */
#ifndef HOB_ROUTES_H
#define HOB_ROUTES_H

#include "api/api.h"
#include "net/conn.h"

/* What a handler gets; lives until the handler returns.  The request is conn_request(conn). */
struct call {
	const struct api *api;
	const struct server *server;
	struct conn *conn;
	const struct http_request *http;
	struct str
		param; /* what the first star of the pattern stood for, still %-encoded */
};

typedef void route_handler(const struct call *call);

struct route {
	const char *method; /* GET answers HEAD too */
	const char *
		path; /* '*' stands for one segment, "**" at the end for one or more characters */
	route_handler *handler;
};

/* The row for method and path, or NULL: then *allow is the comma-separated methods of that path,
 * or "" when no row has it.  *param as in struct call. */
const struct route *routes_find(struct str method, struct str path, struct str *param,
				char *allow, size_t allow_bytes);

/* {"error":{"message":…,"type":…,"param":null,"code":…}} */
void api_add_error(struct buf *out, const struct err *e);
/* With the status of the error's code and the headers that tell clients whether to retry. */
void api_reply_error(struct conn *c, const struct err *e);
void api_reply_error_status(struct conn *c, int status, const struct err *e,
			    const char *extra);
void api_reply_json(struct conn *c, const struct buf *body);

/* What a listing is asked for.  ?limit=, 1 to most, into *limit, which holds what is usual; ?model=
 * into *model (may be NULL), the caller's, NULL when it was not given or is empty.  false: an error was answered. */
bool api_listing(const struct call *call, int most, int *limit, char **model);

#endif
