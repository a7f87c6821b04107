/* OpenAI's Conversations API.
 *
 * Loop thread.  Each call is a `struct work` that waits for the store.  A message in the store is never
 * changed nor taken out of the middle, since what follows is named by what is before: deleting an item is
 * refused, with what to do instead. */
#include "api/conversations_api.h"

#include "api/pending.h"
#include "api/responses.h"
#include "base/json.h"
#include "memory/store_heads.h"
#include "route/dispatch_open.h"

struct work {
	struct pending pending;
	struct store *store; /* borrowed */
	char *id;       /* owned: the store's; "" when the conversation is not made yet */
	char *metadata; /* owned or NULL */
	struct request *r; /* owned or NULL: holds new messages */
	struct items_ask page;
	char *item;           /* owned or NULL: its id as asked */
	struct item_id found; /* which of a response's; then by its hash */
	int before;           /* messages that were there */
};

static void work_free(struct work *w)
{
	free(w->id);
	free(w->metadata);
	free(w->item);
	request_free(w->r);
	free(w);
}

static void fail(struct work *w, const struct err *e, const char *param)
{
	if (w->pending.conn)
		api_reply_error_about(w->pending.conn, e, param, NULL);
	work_free(w);
}

/* True when there was an error, or nobody to tell: w is gone. */
static bool over(struct work *w, const struct err *e)
{
	struct err none;

	if (w->pending.conn && e->code == ERR_NONE)
		return false;
	if (e->code == ERR_NOT_FOUND) {
		err_set(&none, ERR_NOT_FOUND,
			"Conversation with id 'conv_%.60s' not found.", w->id);
		e = &none;
	}
	fail(w, e, e->code == ERR_NOT_FOUND ? "conversation_id" : NULL);
	return true;
}

static void reply(struct work *w, struct buf *out)
{
	api_reply_json(w->pending.conn, out);
	buf_free(out);
	work_free(w);
}

/* With a conversation in the path: its id.  NULL: an error was answered. */
static struct work *work_new(const struct call *call, bool has_id)
{
	char *param = has_id ? pending_id(call->param) : NULL;
	const char *id = param ? param : "";
	struct store *store = call->api->store;
	struct work *w;
	struct err e = {0};

	if (!strncmp(id, "conv_", 5))
		id += 5;

	if (has_id && (!*id || !strcmp(id, "new") || !strcmp(id, "last")))
		err_set(&e, ERR_INVALID, "that is no conversation's id");
	else if (store_is_incognito(id))
		store = dispatch_incognito(call->api->dispatch, &e);
	else if (!store)
		err_set(&e, ERR_UNSUPPORTED,
			"memory is off (memory.enabled in the configuration)");
	if (e.code != ERR_NONE) {
		api_reply_error(call->conn, &e);
		free(param);
		return NULL;
	}
	w = xcalloc(1, sizeof(*w));
	w->store = store;
	w->id = xstrdup(id);
	free(param);
	w->pending.conn = call->conn;
	return w;
}

static void wait_for_store(struct work *w)
{
	pending_begin(&w->pending, w->pending.conn);
}

static void reply_row(struct work *w, const struct store_conversation *c)
{
	struct buf out = {0};

	buf_addf(&out,
		 "{\"id\":\"conv_%s\",\"object\":\"conversation\",\"created_at\":%lld,"
		 "\"metadata\":%s}",
		 c->id, (long long)(c->created_ms / 1000),
		 c->metadata && *c->metadata ? c->metadata : "{}");
	reply(w, &out);
}

static void on_row(void *arg, const struct err *e, const struct store_conversation *list,
		   int n)
{
	struct work *w = arg;

	if (over(w, e))
		return;
	ASSERT(n == 1);
	reply_row(w, &list[0]);
}

/* -- bodies -- */

/* Items into w->r; need: there must be some. */
static int read_items(struct work *w, const cJSON *root, bool need, const char **param,
		      struct err *e)
{
	struct responses_params p = {0};
	const cJSON *items = NULL;
	int rc = json_array(root, "items", &items, e);

	*param = "items";
	if (rc < 0)
		return -1;
	if (need && (!items || !items->child))
		return err_set(e, ERR_INVALID,
			       "'items' must be a non-empty array of items");
	if (cJSON_GetArraySize(items) > CONVERSATIONS_MAX_NEW_ITEMS)
		return err_set(e, ERR_INVALID, "'items' may have at most %d at once",
			       CONVERSATIONS_MAX_NEW_ITEMS);
	w->r = request_new();
	rc = responses_decode_items(w->r, items, "items", NULL, &p, e);
	if (rc == 0 && p.nmissing)
		rc = err_set(e, ERR_UNSUPPORTED,
			     "'items': an item_reference has no place in a conversation; "
			     "send the item itself");
	if (rc == 0 && need && !w->r->nmessages)
		rc = err_set(e, ERR_INVALID, "'items' holds no message");
	responses_params_free(&p);
	return rc;
}

/* An object, also when there is no body.  NULL and an error. */
static cJSON *read_body(const struct call *call, struct err *e)
{
	struct str body = call->http->body;
	cJSON *root = json_read(body.len ? body : STR("{}"), JSON_UTF8 | JSON_NO_NUL, e);

	if (!root) {
		err_wrap(e, "request body");
	} else if (!cJSON_IsObject(root)) {
		cJSON_Delete(root);
		root = NULL;
		err_set(e, ERR_INVALID, "the body must be a JSON object");
	}
	return root;
}

enum { READ_METADATA = 1, READ_ITEMS = 2, NEED_ITEMS = 4 };

/* False: an error was answered, and w is gone. */
static bool read_work(struct work *w, const struct call *call, unsigned what)
{
	struct err e = {0};
	const char *param = NULL;
	cJSON *root = read_body(call, &e);
	int rc = root ? 0 : -1;

	if (rc == 0 && what & READ_METADATA &&
	    cJSON_GetObjectItemCaseSensitive(root, "metadata")) {
		param = "metadata";
		w->metadata = responses_read_metadata(root, &e);
		rc = w->metadata ? 0 : -1;
	}
	if (rc == 0 && what & READ_ITEMS)
		rc = read_items(w, root, what & NEED_ITEMS, &param, &e);
	cJSON_Delete(root);
	if (rc < 0)
		fail(w, &e, param);
	return rc == 0;
}

/* -- conversations -- */

static void on_removed(void *arg, const struct err *e)
{
	UNUSED(e);
	work_free(arg);
}

static void on_first_items(void *arg, const struct err *e, const struct store_path *p)
{
	struct work *w = arg;

	UNUSED(p);
	if (e->code == ERR_NONE && w->pending.conn) {
		store_get(w->store, w->id, on_row, w);
	} else { /* a conversation that nobody has heard of is nobody's */
		if (w->pending.conn)
			api_reply_error_about(w->pending.conn, e, "items", NULL);
		w->pending.conn = NULL;
		store_delete(w->store, w->id, on_removed, w);
	}
}

static void on_created(void *arg, const struct err *e,
		       const struct store_conversation *list, int n)
{
	struct work *w = arg;

	if (over(w, e))
		return;
	ASSERT(n == 1);
	if (!w->r->nmessages) {
		reply_row(w, &list[0]);
		return;
	}
	free(w->id);
	w->id = xstrdup(list[0].id);
	store_append(w->store, w->id, w->r->messages, w->r->nmessages, on_first_items, w);
}

void conversations_create(const struct call *call)
{
	struct work *w = work_new(call, false);

	if (!w || !read_work(w, call, READ_METADATA | READ_ITEMS))
		return;
	wait_for_store(w);
	store_create(w->store,
		     &(struct store_change){.metadata = w->metadata,
					    .pinned = UNSAID,
					    .is_private = UNSAID},
		     on_created, w);
}

void conversations_get(const struct call *call)
{
	struct work *w = work_new(call, true);

	if (!w)
		return;
	wait_for_store(w);
	store_get(w->store, w->id, on_row, w);
}

void conversations_update(const struct call *call)
{
	struct work *w = work_new(call, true);

	if (!w || !read_work(w, call, READ_METADATA))
		return;
	wait_for_store(w);
	store_change(w->store, w->id,
		     &(struct store_change){.metadata = w->metadata,
					    .pinned = UNSAID,
					    .is_private = UNSAID},
		     on_row, w);
}

static void on_deleted(void *arg, const struct err *e)
{
	struct work *w = arg;
	struct buf out = {0};

	if (over(w, e))
		return;
	buf_addf(&out,
		 "{\"id\":\"conv_%s\",\"object\":\"conversation.deleted\","
		 "\"deleted\":true}",
		 w->id);
	reply(w, &out);
}

void conversations_delete(const struct call *call)
{
	struct work *w = work_new(call, true);

	if (!w)
		return;
	wait_for_store(w);
	store_delete(w->store, w->id, on_deleted, w);
}

/* -- items -- */

static void on_items(void *arg, const struct err *e, const struct store_path *p)
{
	struct work *w = arg;
	struct buf out = {0};
	struct err none = {0};

	if (over(w, e))
		return;
	if (responses_add_page(p->messages, p->n, ITEMS_CONVERSATION, &w->page, &out,
			       &none) < 0)
		fail(w, &none, "after");
	else
		reply(w, &out);
}

void conversations_items(const struct call *call)
{
	struct work *w = work_new(call, true);
	struct err e = {0};

	if (!w)
		return;
	if (responses_read_page(call->http, &w->page, &e) < 0) {
		fail(w, &e, NULL);
		return;
	}
	wait_for_store(w);
	store_path(w->store, &(struct store_path_ask){.conversation = w->id}, on_items,
		   w);
}

/* The new ones, in their order. */
static void on_added(void *arg, const struct err *e, const struct store_path *p)
{
	struct work *w = arg;
	struct buf out = {0};
	struct err none = {0};
	const struct items_ask all = {.limit = RESPONSES_MAX_PAGE};

	if (over(w, e))
		return;
	if (w->before > p->n)
		w->before = p->n;
	if (responses_add_page(p->messages + w->before, p->n - w->before,
			       ITEMS_CONVERSATION, &all, &out, &none) < 0)
		fail(w, &none, NULL);
	else
		reply(w, &out);
}

static void on_before(void *arg, const struct err *e,
		      const struct store_conversation *list, int n)
{
	struct work *w = arg;

	if (over(w, e))
		return;
	ASSERT(n == 1);
	w->before = list[0].messages;
	store_append(w->store, w->id, w->r->messages, w->r->nmessages, on_added, w);
}

void conversations_add_items(const struct call *call)
{
	struct work *w = work_new(call, true);

	if (!w || !read_work(w, call, READ_ITEMS | NEED_ITEMS))
		return;
	wait_for_store(w);
	store_get(w->store, w->id, on_before, w);
}

/* -- one item -- */

static void no_item(struct work *w)
{
	struct err e;

	err_set(&e, ERR_NOT_FOUND, "Item with id '%.80s' not found.", w->item);
	fail(w, &e, "item_id");
}

static bool is_item(void *arg, const char *id)
{
	return !strcmp(id, arg);
}

static void on_path(void *arg, const struct err *e, const struct store_path *p)
{
	struct work *w = arg;
	char id[RESPONSES_ID_BYTES];
	struct item_sink sink = {.wants = is_item, .arg = id};

	if (over(w, e))
		return;
	responses_item_id(w->found.kind, w->found.hash, w->found.index, id);
	for (int i = 0; i < p->n; i++)
		if (!strcmp(p->messages[i].hash, w->found.hash))
			responses_add_items(&sink, &p->messages[i], w->found.hash,
					    ITEMS_CONVERSATION);
	if (sink.n == 1)
		reply(w, &sink.out);
	else
		no_item(w);
	buf_free(&sink.out);
}

static void find_item(struct work *w)
{
	store_path(w->store, &(struct store_path_ask){.conversation = w->id}, on_path, w);
}

/* An id that a response gave to what it put out. */
static void on_turn(void *arg, const struct err *e, const struct store_turn *list, int n)
{
	struct work *w = arg;

	if (w->pending.conn && (e->code == ERR_NOT_FOUND ||
				(n == 1 && strcmp(list[0].conversation, w->id)))) {
		no_item(w);
		return;
	}
	if (over(w, e))
		return;
	snprintf(w->found.hash, sizeof w->found.hash, "%s", list[0].reply);
	find_item(w);
}

void conversations_item(const struct call *call)
{
	struct work *w = work_new(call, true);

	if (!w)
		return;
	w->item = pending_id(call->param2);
	if (!w->item || !responses_read_item_id(str_of(w->item), &w->found)) {
		if (!w->item)
			w->item = xstrdup("");
		no_item(w);
		return;
	}
	wait_for_store(w);
	if (w->found.hash[0])
		find_item(w);
	else
		store_turn_of(w->store, w->found.request, on_turn, w);
}

void conversations_delete_item(const struct call *call)
{
	struct err e;

	err_set(&e, ERR_UNSUPPORTED,
		"items cannot be taken out of a conversation: move its head back "
		"(POST /v1/hob/conversations/ID/head), fork it before the item, or delete "
		"the conversation");
	api_reply_error_about(call->conn, &e, "item_id", NULL);
}
