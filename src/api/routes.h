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
		param; /* what the first '*' of the pattern stood for, still %-encoded */
	struct str param2; /* and the second */
};

typedef void route_handler(const struct call *call);

struct route {
	const char *method; /* GET answers HEAD too */
	/* '*' stands for one segment, one or more characters but no '/'; a "**" at the end for all the
	 * rest, one or more characters. */
	const char *path;
	route_handler *handler;
};

enum { ROUTE_PARAMS = 2 };

/* The row for method and path, or NULL: then *allow is the comma-separated methods of that path,
 * or "" when no row has it.  params: what each '*' stood for, still %-encoded; "" where there is none. */
const struct route *routes_find(struct str method, struct str path,
				struct str params[ROUTE_PARAMS], char *allow,
				size_t allow_bytes);

/* {"error":{"message":…,"type":…,"param":null,"code":…}} */
void api_add_error(struct buf *out, const struct err *e);
/* With the status of the error's code and the headers that tell clients whether to retry. */
void api_reply_error(struct conn *c, const struct err *e);
void api_reply_error_status(struct conn *c, int status, const struct err *e,
			    const char *extra);
/* The same, naming the parameter and with OpenAI's own code where it has one; NULL: as above. */
void api_reply_error_about(struct conn *c, const struct err *e, const char *param,
			   const char *code);
void api_reply_json(struct conn *c, const struct buf *body);

/* What a listing is asked for.  ?limit=, 1 to most, into *limit, which holds what is usual; ?model=
 * into *model (may be NULL), the caller's, NULL when it was not given or is empty.  false: an error was answered. */
bool api_listing(const struct call *call, int most, int *limit, char **model);

#endif
