/* Handlers for OpenAI's paths: bytes and x-hob-* fields to a request, an encoder for its answer.
 *
 * Loop thread, no state: reply.c has the life of an answer. */
#include "api/openai.h"

#include "api/persona.h"
#include "api/reply.h"

enum { CLIENT_NAME_BYTES = 64 };

/* -- requests -- */

/* Who asks, for rules: what it says, else the product of its User-Agent ("zed/0.1 (…)" is zed). */
static int read_client(const struct http_request *h, struct request *r, struct err *e)
{
	struct str name = http_header(h, "x-hob-client");
	struct str agent = http_header(h, "user-agent");
	size_t n = 0;

	if (name.len > CLIENT_NAME_BYTES)
		return err_set(e, ERR_INVALID, "x-hob-client has at most %d bytes",
			       CLIENT_NAME_BYTES);
	if (name.len) {
		r->client_name = str_dup(name);
		return 0;
	}
	while (n < agent.len && n < CLIENT_NAME_BYTES && agent.ptr[n] > ' ' &&
	       agent.ptr[n] != '/' && agent.ptr[n] != 0x7F)
		n++;
	if (n)
		r->client_name = xstrndup(agent.ptr, n);
	return 0;
}

static int read_budget(const struct http_request *h, struct request *r, struct err *e)
{
	struct str budget = http_header(h, "x-hob-budget");
	char text[32], *end;
	double usd;

	if (!budget.ptr)
		return 0;
	snprintf(text, sizeof text, "%.*s", budget.len < 32 ? (int)budget.len : 31,
		 budget.ptr);
	usd = strtod(text, &end);
	if (!budget.len || budget.len >= sizeof text || *end || end == text ||
	    !(usd >= 0 && usd <= 1e6))
		return err_set(e, ERR_INVALID,
			       "x-hob-budget must be an amount in USD, such as 0.05");
	r->budget_usd = usd;
	return 0;
}

int openai_read_fields(const struct http_request *h, struct request *r, struct err *e)
{
	static const struct {
		const char *name;
		enum request_class class;
	} classes[] = {
		{"interactive", CLASS_INTERACTIVE},
		{"completion", CLASS_COMPLETION},
		{"batch", CLASS_BATCH},
	};
	struct str conversation = http_header(h, "x-hob-conversation");
	struct str parent = http_header(h, "x-hob-parent");
	struct str is_private = http_header(h, "x-hob-private");
	struct str class = http_header(h, "x-hob-class");
	struct str supersede = http_header(h, "x-hob-supersede");
	struct str persona = http_header(h, "x-hob-persona");
	size_t i = 0;

	if (conversation.ptr && openai_set_conversation(r, conversation, e) != 0)
		return -1;
	if (parent.ptr && openai_set_parent(r, parent, e) != 0)
		return -1;
	if (r->parent && !r->conversation)
		return err_set(e, ERR_INVALID,
			       "a parent is one of a conversation: name it in "
			       "x-hob-conversation");
	if (persona.ptr && persona_set(r, persona, e) != 0)
		return -1;
	if (read_client(h, r, e) < 0 || read_budget(h, r, e) < 0)
		return -1;
	if (is_private.ptr && !str_eq(is_private, "0") && !str_eq(is_private, "1"))
		return err_set(e, ERR_INVALID, "x-hob-private must be 0 or 1");
	r->is_private = is_private.ptr && str_eq(is_private, "1");
	if (supersede.len > REQUEST_MAX_SUPERSEDE_BYTES)
		return err_set(e, ERR_INVALID, "x-hob-supersede has at most %d bytes",
			       REQUEST_MAX_SUPERSEDE_BYTES);
	if (supersede.len)
		r->supersede = str_dup(supersede);
	if (!class.ptr)
		return 0;
	while (i < ARRAY_LEN(classes) && !str_eq_nocase(class, classes[i].name))
		i++;
	if (i == ARRAY_LEN(classes))
		return err_set(e, ERR_INVALID,
			       "x-hob-class must be interactive, completion or batch");
	r->class = classes[i].class;
	return 0;
}

struct request *openai_read(const struct call *call, bool is_chat,
			    struct openai_params *p, struct err *e)
{
	struct str conversation = http_header(call->http, "x-hob-conversation");
	struct request *r =
		openai_decode_for(call->http->body, is_chat, conversation, p, e);

	if (r && openai_read_fields(call->http, r, e) == 0 &&
	    persona_apply(call->api->personas, call->api->config, r, e) == 0)
		return r;
	request_free(r);
	return NULL;
}

/* -- the dialect -- */

static void on_started(void *enc, const struct event *ev)
{
	openai_started(enc, ev);
}

static void add_fields(const void *enc, struct buf *head)
{
	openai_add_fields(enc, head);
}

static int on_delta(void *enc, const struct event *ev, struct buf *out, struct err *e)
{
	UNUSED(e);
	openai_add_delta(enc, ev, out);
	return 0;
}

static void on_finish(void *enc, const struct event *ev, struct buf *out)
{
	openai_finished(enc, ev);
	openai_add_finish(enc, ev, out);
}

static void on_fail(void *enc, const struct err *why, struct buf *out)
{
	UNUSED(enc);
	openai_add_stream_error(why, out);
}

static int on_gather(void *enc, const struct event *ev, struct err *e)
{
	return openai_gather(enc, ev, e);
}

static void on_finished(void *enc, const struct event *ev)
{
	openai_finished(enc, ev);
}

static void add_whole(void *enc, const struct event *ev, struct buf *out)
{
	openai_add_whole(enc, ev, out);
}

static void free_encoder(void *enc)
{
	openai_encoder_fini(enc);
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

static void complete(const struct call *call, bool is_chat)
{
	struct openai_params p;
	struct err e = {0};
	struct request *r = openai_read(call, is_chat, &p, &e);

	struct openai_encoder *enc;

	if (!r) {
		api_reply_error(call->conn, &e);
		return;
	}
	reply_identify(call->conn, r);
	enc = xmalloc(sizeof(*enc));
	openai_encoder_init(enc, r, &p);
	reply_start(call->conn, call->api->dispatch, r, p.stream, &dialect, enc);
}

void openai_chat(const struct call *call)
{
	complete(call, true);
}

void openai_completion(const struct call *call)
{
	complete(call, false);
}
