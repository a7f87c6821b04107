/* A call of our own API that the store answers.
 *
 * Loop thread.  Each such call is a struct of its own that outlives a client who left (pending.h).  It
 * ends in store_call_reply(), store_call_fail() or a store_call_failed() that is true. */
#ifndef HOB_STORE_CALL_H
#define HOB_STORE_CALL_H

#include "api/pending.h"
#include "base/json.h"

struct store;

enum { STORE_CALL_ID_BYTES = 64 };

struct store_call {
	struct pending pending;
	const struct api *api; /* borrowed */
	struct store *store;   /* borrowed: the one that keeps `id` */
	char *id;              /* owned: a conversation's, or NULL */
	char *at;              /* owned: a message's hash, or NULL */
	cJSON *body;           /* owned, or NULL */
	int step;              /* of those that ask more than once */
	struct buf out;
};

/* The store that keeps this conversation: incognito ones have their own.  NULL, "last" and the like: the
 * one on disk.  NULL: there is none. */
struct store *api_store_of(const struct api *a, const char *conversation);
/* The one in memory, made when it is first asked for; NULL: it cannot be made. */
struct store *api_incognito(const struct api *a);

/* For what is in call->param (store_call_of) or in `id` (NULL: no conversation).  NULL: an error was
 * answered. */
struct store_call *store_call_of(const struct call *call);
struct store_call *store_call_new(const struct call *call, const char *id);
/* For this store, NULL: NULL and nothing answered. */
struct store_call *store_call_in(const struct call *call, struct store *store);
/* The same with the JSON object of the body in sc->body; an empty body is {}. */
struct store_call *store_call_of_with_body(const struct call *call);

/* True of what may be an id: letters, digits, '-' and '_', fewer than STORE_CALL_ID_BYTES of them. */
bool store_call_is_id(const char *id);
/* True of the 32 hex digits that name a message. */
bool store_call_is_hash(const char *text);
/* The value of ?name=, owned, NULL when it is absent or empty; -1 and an error. */
int store_call_query(const struct http_request *http, const char *name,
		     bool plus_is_space, char **out, struct err *e);
/* The body as an object (cJSON_Delete), or NULL and an error. */
cJSON *store_call_body(const struct http_request *http, struct err *e);

/* True when there was an error, or nobody to tell: the call is gone. */
bool store_call_failed(struct store_call *sc, const struct err *e);
void store_call_fail(struct store_call *sc, const struct err *e);
/* sc->out as JSON, or as another type. */
void store_call_reply(struct store_call *sc);
void store_call_reply_as(struct store_call *sc, const char *content_type,
			 struct str body);

#endif
