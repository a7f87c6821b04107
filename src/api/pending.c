/* Replies that wait for the store: who is still there to get them.  Loop thread. */
#include "api/pending.h"

enum { ID_MAX_BYTES = 64 };

static void on_abort(struct exchange *x)
{
	CONTAINER_OF(x, struct pending, exchange)->conn = NULL;
}

void pending_begin(struct pending *p, struct conn *c)
{
	p->exchange = (struct exchange){.abort = on_abort};
	p->conn = c;
	exchange_begin(c, &p->exchange);
}

struct conn *pending_release(struct pending *p)
{
	struct conn *c = p->conn;

	if (c)
		exchange_end(c);
	p->conn = NULL;
	return c;
}

char *pending_id(struct str param)
{
	struct buf id = {0};

	if (http_unescape(param, &id) && id.len && id.len <= ID_MAX_BYTES)
		return buf_take(&id, NULL);
	buf_free(&id);
	return NULL;
}
