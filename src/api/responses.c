/* POST /v1/responses: what the request refers to is looked up, then an answer is begun.
 *
 * Loop thread.  A `struct creation` lives while the store is asked; most requests need none.
 *
 *   references to items ─▶ decoded once more ─▶ previous response ─▶ its branch ─▶ answer
 *
 * A response that follows another is the next turn of its conversation when the head still stands there.
 * When the conversation went on meanwhile the head is left where it is and the answer goes to a fork:
 * people who follow the conversation elsewhere do not see it jump, and the chain of responses
 * is still what its client thinks it is. */
#include "api/responses.h"

#include "api/pending.h"
#include "api/persona.h"
#include "api/reply.h"
#include "memory/store_heads.h"

struct creation {
	struct pending pending;
	const struct api *api; /* borrowed */
	struct request *r;     /* owned until it is handed on */
	struct responses_params p;
	struct responses_references known;
	/* While references are looked up: of each, where it is. */
	struct place {
		char conversation[CONVERSATION_ID_BYTES], hash[STORE_HASH_TEXT_BYTES];
	} * places; /* owned, as many as known */
	int asked;  /* references whose place is known */
};

/* -- the dialect -- */

static void on_started(void *enc, const struct event *ev)
{
	responses_started(enc, ev);
}

static void add_fields(const void *enc, struct buf *head)
{
	openai_add_fields(&((const struct responses_encoder *)enc)->base, head);
}

static int on_delta(void *enc, const struct event *ev, struct buf *out, struct err *e)
{
	return responses_add_delta(enc, ev, out, e);
}

static void on_finish(void *enc, const struct event *ev, struct buf *out)
{
	responses_add_finish(enc, ev, out);
}

static void on_fail(void *enc, const struct err *why, struct buf *out)
{
	responses_add_failure(enc, why, out);
}

static int on_gather(void *enc, const struct event *ev, struct err *e)
{
	return responses_gather(enc, ev, e);
}

static void on_finished(void *enc, const struct event *ev)
{
	openai_finished(&((struct responses_encoder *)enc)->base, ev);
}

static void add_whole(void *enc, const struct event *ev, struct buf *out)
{
	responses_add_whole(enc, ev, out);
}

static void free_encoder(void *enc)
{
	responses_encoder_fini(enc);
	free(enc);
}

static const struct reply_dialect dialect = {
	.started = on_started,
	.add_fields = add_fields,
	.delta = on_delta,
	.finish = on_finish,
	.fail = on_fail,
	.gather = on_gather,
	.finished = on_finished,
	.whole = add_whole,
	.free = free_encoder,
};

/* -- the answer -- */

/* What the client and the configuration allow; whether it could be kept is another question. */
static bool may_store(const struct api *api, const struct request *r)
{
	enum memory_store policy = api->config->memory_store;
	bool is_ours = r->client_name && !strncmp(r->client_name, "hob ", 4);

	if (!api->store || r->keep == NO)
		return false;
	return policy == MEMORY_STORE_CLI ? is_ours : policy != MEMORY_STORE_OFF;
}

static void answer(struct conn *c, const struct api *api, struct request *r,
		   struct responses_params *p)
{
	struct responses_encoder *enc = xmalloc(sizeof(*enc));

	reply_identify(c, r);
	responses_encoder_init(enc, r, p, may_store(api, r));
	reply_start(c, api->dispatch, r, p->stream, &dialect, enc);
}

/* A persona comes once all is known: what is decoded before that only says what to look for. */
static struct request *read_request(const struct api *api, struct conn *c,
				    const struct responses_references *known,
				    struct responses_params *p, struct err *e)
{
	const struct http_request *h = conn_request(c);
	struct request *r = responses_decode(h->body, known, p, e);

	if (!r || openai_read_fields(h, r, e) < 0 ||
	    (!p->nmissing && persona_apply(api->personas, api->config, r, e) < 0)) {
		request_free(r);
		return NULL;
	}
	if (p->previous && r->conversation) { /* of the head: the body cannot have both */
		p->code = "mutually_exclusive_parameters";
		err_set(e, ERR_INVALID,
			"x-hob-conversation and 'previous_response_id' exclude each other");
		request_free(r);
		return NULL;
	}
	r->keep = p->store ? YES : NO;
	return r;
}

/* -- looked up -- */

static void creation_free(struct creation *x)
{
	request_free(x->r);
	responses_params_free(&x->p);
	responses_references_free(&x->known);
	free(x->places);
	free(x);
}

static void creation_fail(struct creation *x, const struct err *e, const char *param,
			  const char *code)
{
	if (x->pending.conn)
		api_reply_error_about(x->pending.conn, e, param, code);
	creation_free(x);
}

/* True when the client has left, or e says that the store failed: x is gone. */
static bool creation_over(struct creation *x, const struct err *e)
{
	if (x->pending.conn && e->code == ERR_NONE)
		return false;
	creation_fail(x, e, NULL, NULL);
	return true;
}

static void creation_go(struct creation *x)
{
	struct conn *c = pending_release(&x->pending);

	answer(c, x->api, x->r, &x->p);
	x->r = NULL;
	creation_free(x);
}

/* -- the response before -- */

static void on_fork(void *arg, const struct err *e, const struct store_conversation *list,
		    int n)
{
	struct creation *x = arg;

	if (creation_over(x, e))
		return;
	ASSERT(n == 1);
	free(x->r->conversation);
	free(x->r->parent);
	x->r->conversation = xstrdup(list[0].id);
	x->r->parent = NULL;
	creation_go(x);
}

static void on_head(void *arg, const struct err *e, const struct store_conversation *list,
		    int n)
{
	struct creation *x = arg;

	if (creation_over(x, e))
		return;
	ASSERT(n == 1);
	if (!strcmp(list[0].head, x->r->parent))
		creation_go(x);
	else
		store_fork(x->api->store, x->r->conversation, x->r->parent, on_fork, x);
}

static void no_previous(struct creation *x, const char *why)
{
	struct err e;

	err_set(&e, ERR_INVALID, "Previous response with id '%.80s' not found%s.",
		x->p.previous, why);
	creation_fail(x, &e, "previous_response_id", "previous_response_not_found");
}

static void on_previous(void *arg, const struct err *e, const struct store_turn *list,
			int n)
{
	struct creation *x = arg;
	struct err none;

	if (x->pending.conn && e->code == ERR_NOT_FOUND) {
		no_previous(x, "");
		return;
	}
	if (creation_over(x, e))
		return;
	ASSERT(n == 1);
	if (!list[0].reply[0]) {
		err_set(&none, ERR_INVALID,
			"Response '%.80s' has no answer that could be followed; its "
			"status is '%.40s'.",
			x->p.previous, list[0].status);
		creation_fail(x, &none, "previous_response_id", NULL);
		return;
	}
	free(x->r->conversation);
	free(x->r->parent);
	x->r->conversation = xstrdup(list[0].conversation);
	x->r->parent = xstrdup(list[0].reply);
	if (x->r->keep == NO) /* nothing will move */
		creation_go(x);
	else
		store_get(x->api->store, x->r->conversation, on_head, x);
}

static void find_previous(struct creation *x)
{
	char request[REQUEST_ID_BYTES];

	if (!x->p.previous)
		creation_go(x);
	else if (!x->api->store)
		no_previous(x, ": memory is off, nothing is stored");
	else if (!responses_request_of(str_of(x->p.previous), request))
		no_previous(x, "");
	else
		store_turn_of(x->api->store, request, on_previous, x);
}

/* -- references -- */

static void no_item(struct creation *x, const char *id, const char *why)
{
	struct err e;

	err_set(&e, ERR_NOT_FOUND, "Item with id '%.80s' not found%s.", id, why);
	creation_fail(x, &e, "input", NULL);
}

/* All are known: the same body, once more. */
static void decode_again(struct creation *x)
{
	struct err e = {0};

	request_free(x->r);
	responses_params_free(&x->p);
	x->r = read_request(x->api, x->pending.conn, &x->known, &x->p, &e);
	if (!x->r)
		creation_fail(x, &e, x->p.param, x->p.code);
	else
		find_previous(x);
}

static void keep_known(struct responses_known *k, const struct store_message *m)
{
	k->role = m->role;
	k->text = xstrdup(m->text);
	k->raw_json = m->raw_json ? xstrdup(m->raw_json) : NULL;
}

static int last_unknown(const struct creation *x)
{
	int i = x->known.n - 1;

	while (i >= 0 && x->known.list[i].text)
		i--;
	return i;
}

static void read_paths(struct creation *x);

static void on_items(void *arg, const struct err *e, const struct store_path *p)
{
	struct creation *x = arg;
	int last = last_unknown(x);

	if (x->pending.conn && e->code == ERR_NOT_FOUND) {
		no_item(x, x->known.list[last].id, "");
		return;
	}
	if (creation_over(x, e))
		return;
	for (int i = 0; i <= last; i++)
		for (int k = p->n - 1; k >= 0 && !x->known.list[i].text; k--)
			if (!strcmp(x->places[i].hash, p->messages[k].hash))
				keep_known(&x->known.list[i], &p->messages[k]);
	if (!x->known.list[last].text)
		no_item(x, x->known.list[last].id, "");
	else
		read_paths(x);
}

/* The path to the last one holds the others, most often. */
static void read_paths(struct creation *x)
{
	int i = last_unknown(x);

	if (i < 0) {
		decode_again(x);
		return;
	}
	store_path(x->api->store,
		   &(struct store_path_ask){.conversation = x->places[i].conversation,
					    .parent = x->places[i].hash},
		   on_items, x);
}

static void find_places(struct creation *x);

static void on_place(void *arg, const struct err *e, const struct store_turn *list, int n)
{
	struct creation *x = arg;
	struct place *at = &x->places[x->asked];

	if (x->pending.conn &&
	    (e->code == ERR_NOT_FOUND || (n == 1 && !list[0].reply[0]))) {
		no_item(x, x->known.list[x->asked].id, "");
		return;
	}
	if (creation_over(x, e))
		return;
	snprintf(at->conversation, sizeof at->conversation, "%s", list[0].conversation);
	snprintf(at->hash, sizeof at->hash, "%s", list[0].reply);
	x->asked++;
	find_places(x);
}

static void find_places(struct creation *x)
{
	for (; x->asked < x->known.n; x->asked++) {
		struct responses_known *k = &x->known.list[x->asked];
		struct place *at = &x->places[x->asked];

		if (!k->item.hash[0]) {
			store_turn_of(x->api->store, k->item.request, on_place, x);
			return;
		}
		if (!x->r->conversation) {
			no_item(x, k->id, ": it needs 'conversation' to be found in");
			return;
		}
		snprintf(at->conversation, sizeof at->conversation, "%s",
			 x->r->conversation);
		snprintf(at->hash, sizeof at->hash, "%s", k->item.hash);
	}
	read_paths(x);
}

static void find_references(struct creation *x)
{
	x->known.list = xcalloc((size_t)x->p.nmissing, sizeof *x->known.list);
	x->places = xcalloc((size_t)x->p.nmissing, sizeof *x->places);
	for (int i = 0; i < x->p.nmissing; i++) {
		struct responses_known *k = &x->known.list[x->known.n];
		bool again = false;

		for (int j = 0; j < x->known.n && !again; j++)
			again = !strcmp(x->known.list[j].id, x->p.missing[i]);
		if (again)
			continue;
		k->id = xstrdup(x->p.missing[i]);
		ASSERT(responses_read_item_id(str_of(k->id), &k->item));
		x->known.n++;
	}
	if (x->api->store)
		find_places(x);
	else
		no_item(x, x->known.list[0].id, ": memory is off, nothing is stored");
}

/* -- the request -- */

void responses_create(const struct call *call)
{
	struct responses_params p;
	struct err e = {0};
	struct request *r = read_request(call->api, call->conn, NULL, &p, &e);
	struct creation *x;

	if (!r) {
		api_reply_error_about(call->conn, &e, p.param, p.code);
		responses_params_free(&p);
		return;
	}
	if (!p.nmissing && !p.previous) {
		answer(call->conn, call->api, r, &p);
		responses_params_free(&p);
		return;
	}
	x = xcalloc(1, sizeof(*x));
	x->api = call->api;
	x->r = r;
	x->p = p;
	pending_begin(&x->pending, call->conn);
	if (p.nmissing)
		find_references(x);
	else
		find_previous(x);
}
