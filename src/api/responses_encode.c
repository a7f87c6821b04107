/* From events to the Responses API's events and objects.  Pure; any thread.
 *
 * What the model puts out becomes items: a message or a reasoning item ends when another kind of output
 * begins, calls stay open to the end, since some upstreams send pieces of several in turn.  All is
 * gathered, also for a stream: its last events repeat it.  response.created waits for
 * EVENT_STARTED, so that model and conversation in it are true; until then there are only comments. */
#include "api/responses.h"

#include "base/clock.h"
#include "base/json.h"

void responses_encoder_init(struct responses_encoder *enc, const struct request *r,
			    struct responses_params *p, bool stores)
{
	const struct openai_params none = {0};

	memset(enc, 0, sizeof(*enc));
	openai_encoder_init(&enc->base, r, &none);
	snprintf(enc->digits, sizeof enc->digits, "%.*s", RESPONSES_DIGITS,
		 strncmp(r->id, "hob-", 4) ? r->id : r->id + 4);
	snprintf(enc->id, sizeof enc->id, "resp_%s", enc->digits);
	snprintf(enc->base.id, sizeof enc->base.id, "resp_%s", enc->digits);
	enc->echo = buf_take(&p->echo, NULL);
	enc->stores = stores;
}

void responses_encoder_fini(struct responses_encoder *enc)
{
	for (int i = 0; i < enc->nitems; i++) {
		free(enc->items[i].call_id);
		free(enc->items[i].name);
		buf_free(&enc->items[i].text);
	}
	free(enc->items);
	free(enc->echo);
	openai_encoder_fini(&enc->base);
}

void responses_started(struct responses_encoder *enc, const struct event *ev)
{
	openai_started(&enc->base, ev);
}

/* -- objects -- */

static void add_string(struct buf *out, const struct buf *text)
{
	buf_add_json(out, text->data ? text->data : "", text->len);
}

static void add_part(struct buf *out, const struct responses_item *it, bool whole)
{
	static const struct buf none;

	buf_adds(out, it->kind == ITEM_REASONING
			      ? "{\"type\":\"reasoning_text\",\"text\":"
			      : "{\"type\":\"output_text\",\"text\":");
	add_string(out, whole ? &it->text : &none);
	buf_adds(out, it->kind == ITEM_REASONING
			      ? "}"
			      : ",\"annotations\":[],\"logprobs\":[]}");
}

/* whole: with its text; else as it begins. */
static void add_item(struct buf *out, const struct responses_item *it, const char *status,
		     bool whole)
{
	static const struct buf none;

	buf_addf(out, "{\"id\":\"%s\",\"status\":\"%s\"", it->id, status);
	if (it->kind == ITEM_CALL) {
		buf_adds(out, ",\"type\":\"function_call\",\"call_id\":");
		buf_add_json(out, it->call_id, strlen(it->call_id));
		buf_adds(out, ",\"name\":");
		buf_add_json_or_null(out, it->name ? it->name : "");
		buf_adds(out, ",\"arguments\":");
		add_string(out, whole ? &it->text : &none);
	} else {
		buf_adds(out,
			 it->kind == ITEM_REASONING
				 ? ",\"type\":\"reasoning\",\"summary\":[],\"content\":["
				 : ",\"type\":\"message\",\"role\":\"assistant\","
				   "\"content\":[");
		if (whole)
			add_part(out, it, true);
		buf_addc(out, ']');
	}
	buf_addc(out, '}');
}

static int known(int n)
{
	return n < 0 ? 0 : n;
}

void responses_add_usage(struct buf *out, const struct usage *u)
{
	buf_addf(
		out,
		"{\"input_tokens\":%d,\"input_tokens_details\":{\"cached_tokens\":%d,"
		"\"cache_write_tokens\":%d},"
		"\"output_tokens\":%d,\"output_tokens_details\":{\"reasoning_tokens\":%d},"
		"\"total_tokens\":%lld}",
		known(u->prompt_tokens), known(u->cached_tokens),
		known(u->cache_write_tokens), known(u->completion_tokens),
		known(u->reasoning_tokens),
		(long long)known(u->prompt_tokens) + known(u->completion_tokens));
}

const char *responses_error_code(enum err_code code)
{
	switch (code) {
	case ERR_BUSY:
	case ERR_PAYMENT:
		return "rate_limit_exceeded";
	case ERR_INVALID:
	case ERR_CONTEXT:
	case ERR_POLICY:
	case ERR_UNSUPPORTED:
		return "invalid_prompt";
	default:
		return "server_error";
	}
}

struct state {
	bool stored;
	const char *status, *item_status; /* item_status: of items that are not done */
	const struct usage *usage;        /* or NULL */
	const struct err *error;          /* or NULL */
	const char *incomplete;           /* why, or NULL */
};

static void add_output(const struct responses_encoder *enc, const struct state *s,
		       struct buf *out)
{
	bool any = false;

	buf_adds(out, ",\"output\":[");
	for (int i = 0; i < enc->nitems; i++) {
		const struct responses_item *it = &enc->items[i];

		if (!it->announced)
			continue;
		buf_adds(out, any ? "," : "");
		add_item(out, it, it->done ? "completed" : s->item_status, true);
		any = true;
	}
	buf_addc(out, ']');
}

static void add_response(const struct responses_encoder *enc, const struct state *s,
			 struct buf *out)
{
	const char *conversation = enc->base.conversation;

	buf_addf(out,
		 "{\"id\":\"%s\",\"object\":\"response\",\"created_at\":%lld,"
		 "\"status\":\"%s\",\"error\":",
		 enc->id, (long long)enc->base.created_s, s->status);
	if (s->error) {
		buf_addf(out, "{\"code\":\"%s\",\"message\":",
			 responses_error_code(s->error->code));
		buf_add_json(out, s->error->text, strlen(s->error->text));
		buf_addc(out, '}');
	} else {
		buf_adds(out, "null");
	}
	buf_adds(out, ",\"incomplete_details\":");
	if (s->incomplete)
		buf_addf(out, "{\"reason\":\"%s\"}", s->incomplete);
	else
		buf_adds(out, "null");
	buf_adds(out, ",\"model\":");
	buf_add_json_or_null(out, enc->base.model);
	add_output(enc, s, out);
	buf_adds(out, ",\"usage\":");
	if (s->usage)
		responses_add_usage(out, s->usage);
	else
		buf_adds(out, "null");
	buf_addf(out, ",\"store\":%s", s->stored ? "true" : "false");
	if (conversation)
		buf_addf(out, ",\"conversation\":{\"id\":\"conv_%s\"}", conversation);
	else
		buf_adds(out, ",\"conversation\":null");
	buf_adds(out, enc->echo);
	buf_addc(out, ',');
	openai_add_hob(&enc->base, out, s->usage);
	buf_addc(out, '}');
}

/* -- events -- */

static void begin(struct responses_encoder *enc, struct buf *out, const char *type)
{
	buf_adds(out, "event: ");
	buf_adds(out, type);
	buf_adds(out, "\ndata: {\"type\":\"");
	buf_adds(out, type);
	buf_adds(out, "\",\"sequence_number\":");
	buf_addi(out, enc->sequence++);
}

static void end(struct buf *out)
{
	buf_adds(out, "}\n\n");
}

static void add_index(const struct responses_encoder *enc,
		      const struct responses_item *it, struct buf *out)
{
	buf_adds(out, ",\"output_index\":");
	buf_addi(out, it - enc->items);
}

/* Of an event about an item's text. */
static void begin_part(struct responses_encoder *enc, const struct responses_item *it,
		       struct buf *out, const char *type)
{
	begin(enc, out, type);
	buf_adds(out, ",\"item_id\":\"");
	buf_adds(out, it->id);
	buf_addc(out, '"');
	add_index(enc, it, out);
	if (it->kind != ITEM_CALL)
		buf_adds(out, ",\"content_index\":0");
}

static void add_response_event(struct responses_encoder *enc, const char *type,
			       const struct state *s, struct buf *out)
{
	begin(enc, out, type);
	buf_adds(out, ",\"response\":");
	add_response(enc, s, out);
	end(out);
}

static void add_created(struct responses_encoder *enc, struct buf *out)
{
	struct state s = {enc->stores && enc->base.conversation,
			  "in_progress",
			  "in_progress",
			  NULL,
			  NULL,
			  NULL};

	if (enc->created)
		return;
	enc->created = true;
	add_response_event(enc, "response.created", &s, out);
	add_response_event(enc, "response.in_progress", &s, out);
}

static void announce(struct responses_encoder *enc, struct responses_item *it,
		     struct buf *out)
{
	it->announced = true;
	if (!out)
		return;
	begin(enc, out, "response.output_item.added");
	add_index(enc, it, out);
	buf_adds(out, ",\"item\":");
	add_item(out, it, "in_progress", false);
	end(out);
	if (it->kind == ITEM_CALL)
		return;
	begin_part(enc, it, out, "response.content_part.added");
	buf_adds(out, ",\"part\":");
	add_part(out, it, false);
	end(out);
}

static void add_text_delta(struct responses_encoder *enc, const struct responses_item *it,
			   const char *s, size_t n, struct buf *out)
{
	static const char *const types[] = {
		[ITEM_MESSAGE] = "response.output_text.delta",
		[ITEM_REASONING] = "response.reasoning_text.delta",
		[ITEM_CALL] = "response.function_call_arguments.delta",
	};

	begin_part(enc, it, out, types[it->kind]);
	buf_adds(out, ",\"delta\":");
	buf_add_json(out, s, n);
	if (it->kind == ITEM_MESSAGE)
		buf_adds(out, ",\"logprobs\":[]");
	end(out);
}

/* With the arguments that came before its name. */
static void announce_call(struct responses_encoder *enc, struct responses_item *it,
			  struct buf *out)
{
	announce(enc, it, out);
	if (out && it->text.len)
		add_text_delta(enc, it, it->text.data, it->text.len, out);
}

static void add_text_done(struct responses_encoder *enc, const struct responses_item *it,
			  struct buf *out)
{
	static const char *const types[] = {
		[ITEM_MESSAGE] = "response.output_text.done",
		[ITEM_REASONING] = "response.reasoning_text.done",
		[ITEM_CALL] = "response.function_call_arguments.done",
	};

	begin_part(enc, it, out, types[it->kind]);
	buf_adds(out, it->kind == ITEM_CALL ? ",\"arguments\":" : ",\"text\":");
	add_string(out, &it->text);
	if (it->kind == ITEM_MESSAGE)
		buf_adds(out, ",\"logprobs\":[]");
	if (it->kind == ITEM_CALL) {
		buf_adds(out, ",\"name\":");
		buf_add_json_or_null(out, it->name ? it->name : "");
	}
	end(out);
	if (it->kind == ITEM_CALL)
		return;
	begin_part(enc, it, out, "response.content_part.done");
	buf_adds(out, ",\"part\":");
	add_part(out, it, true);
	end(out);
}

/* status: "completed", or "incomplete" for what was cut off. */
static void finish_item(struct responses_encoder *enc, struct responses_item *it,
			const char *status, struct buf *out)
{
	if (!it->announced)
		announce_call(enc, it, out);
	it->done = !strcmp(status, "completed");
	if (!out)
		return;
	add_text_done(enc, it, out);
	begin(enc, out, "response.output_item.done");
	add_index(enc, it, out);
	buf_adds(out, ",\"item\":");
	add_item(out, it, status, true);
	end(out);
}

/* -- items -- */

/* Before another item begins: the message or reasoning ends, and a call that has no name yet is told
 * of without one, since clients count items as they are announced. */
static void before_next(struct responses_encoder *enc, struct buf *out)
{
	for (int i = 0; i < enc->nitems; i++) {
		struct responses_item *it = &enc->items[i];

		if (it->kind != ITEM_CALL && !it->done)
			finish_item(enc, it, "completed", out);
		else if (!it->announced)
			announce_call(enc, it, out);
	}
}

static struct responses_item *new_item(struct responses_encoder *enc, enum item_kind kind,
				       struct err *e)
{
	struct responses_item *it;

	if (enc->nitems == RESPONSES_MAX_ITEMS) {
		err_set(e, ERR_TOO_LARGE, "the answer has more than %d parts",
			RESPONSES_MAX_ITEMS);
		return NULL;
	}
	enc->items = xrealloc(enc->items, (size_t)(enc->nitems + 1) * sizeof(*it));
	it = &enc->items[enc->nitems++];
	*it = (struct responses_item){.kind = kind, .tool = -1};
	return it;
}

/* The item that text of this kind goes on in, or a new one. */
static struct responses_item *text_item(struct responses_encoder *enc,
					enum item_kind kind, struct buf *out,
					struct err *e)
{
	struct responses_item *it = enc->nitems ? &enc->items[enc->nitems - 1] : NULL;
	int *n = kind == ITEM_MESSAGE ? &enc->nmessages : &enc->nreasonings;

	if (it && it->kind == kind && !it->done)
		return it;
	before_next(enc, out);
	it = new_item(enc, kind, e);
	if (!it)
		return NULL;
	responses_item_id(kind, enc->digits, (*n)++, it->id);
	announce(enc, it, out);
	return it;
}

static struct responses_item *call_item(struct responses_encoder *enc, int tool,
					struct buf *out, struct err *e)
{
	struct responses_item *it;

	for (int i = 0; i < enc->nitems; i++)
		if (enc->items[i].kind == ITEM_CALL && enc->items[i].tool == tool)
			return &enc->items[i];
	before_next(enc, out);
	it = new_item(enc, ITEM_CALL, e);
	if (!it)
		return NULL;
	it->tool = tool;
	responses_item_id(ITEM_CALL, enc->digits, tool, it->id);
	it->call_id = xasprintf("call_%s_%d", enc->digits, tool);
	return it;
}

static int grow(struct responses_encoder *enc, struct responses_item *it, const char *s,
		size_t n, const struct buf *out, struct err *e)
{
	size_t most =
		out ? (size_t)RESPONSES_MAX_STREAM_BYTES : (size_t)OPENAI_MAX_WHOLE_BYTES;

	if (n > most - enc->bytes)
		return err_set(e, ERR_TOO_LARGE, "the answer grew over %zu MiB",
			       most >> 20);
	enc->bytes += n;
	buf_add(&it->text, s, n);
	return 0;
}

static void name_call(struct responses_item *it, const struct openai_tool_delta *d)
{
	if (d->id && *d->id && !it->announced) {
		free(it->call_id);
		it->call_id = xstrdup(d->id);
	}
	if (d->name && *d->name && !it->name)
		it->name = xstrdup(d->name);
}

/* Its name comes first; an upstream that sends it later gets its arguments told then. */
static int add_call(struct responses_encoder *enc, const struct event *ev,
		    struct buf *out, struct err *e)
{
	struct openai_tool_delta d;
	struct responses_item *it;
	cJSON *tree;
	size_t n;
	int rc = openai_read_tool_delta(ev, &tree, &d, e);

	it = rc == 0 ? call_item(enc, d.index, out, e) : NULL;
	rc = it ? 0 : -1;
	if (it) {
		name_call(it, &d);
		if (it->name && !it->announced)
			announce_call(enc, it, out);
		n = d.arguments ? strlen(d.arguments) : 0;
		rc = grow(enc, it, d.arguments, n, out, e);
		if (rc == 0 && out && n && it->announced)
			add_text_delta(enc, it, d.arguments, n, out);
	}
	cJSON_Delete(tree);
	return rc;
}

/* out NULL: whole replies. */
static int add_output_event(struct responses_encoder *enc, const struct event *ev,
			    struct buf *out, struct err *e)
{
	struct responses_item *it;

	if (ev->type == EVENT_TOOL_CALL)
		return add_call(enc, ev, out, e);
	it = text_item(enc, ev->type == EVENT_REASONING ? ITEM_REASONING : ITEM_MESSAGE,
		       out, e);
	if (!it || grow(enc, it, ev->text.ptr, ev->text.len, out, e) < 0)
		return -1;
	if (out)
		add_text_delta(enc, it, ev->text.ptr, ev->text.len, out);
	return 0;
}

/* -- the end -- */

static const char *end_items(struct responses_encoder *enc, enum finish_reason reason,
			     struct buf *out)
{
	const char *why = reason == FINISH_LENGTH   ? "max_output_tokens"
			  : reason == FINISH_FILTER ? "content_filter"
						    : NULL;

	if (!enc->nitems) /* an answer without a word is one */
		text_item(enc, ITEM_MESSAGE, out, NULL);
	for (int i = 0; i < enc->nitems; i++)
		if (!enc->items[i].done)
			finish_item(enc, &enc->items[i], why ? "incomplete" : "completed",
				    out);
	return why;
}

/* It was kept when what was asked has a name. */
static struct state finished(const struct responses_encoder *enc, const struct event *ev)
{
	return (struct state){enc->stores && ev->finished.prompt,
			      "completed",
			      "incomplete",
			      &ev->finished.usage,
			      NULL,
			      NULL};
}

int responses_add_delta(struct responses_encoder *enc, const struct event *ev,
			struct buf *out, struct err *e)
{
	add_created(enc, out);
	return add_output_event(enc, ev, out, e);
}

void responses_add_finish(struct responses_encoder *enc, const struct event *ev,
			  struct buf *out)
{
	struct state s = finished(enc, ev);

	add_created(enc, out);
	s.incomplete = end_items(enc, ev->finished.reason, out);
	if (s.incomplete)
		s.status = "incomplete";
	add_response_event(enc,
			   s.incomplete ? "response.incomplete" : "response.completed",
			   &s, out);
}

/* Both of OpenAI's ways: `error` has our code, response.failed what there is so far. */
void responses_add_failure(struct responses_encoder *enc, const struct err *why,
			   struct buf *out)
{
	struct state s = {enc->stores && enc->base.conversation,
			  "failed",
			  "incomplete",
			  NULL,
			  why,
			  NULL};

	add_created(enc, out);
	begin(enc, out, "error");
	buf_addf(out, ",\"code\":\"%s\",\"message\":", err_info(why->code)->name);
	buf_add_json(out, why->text, strlen(why->text));
	buf_adds(out, ",\"param\":null");
	end(out);
	add_response_event(enc, "response.failed", &s, out);
}

int responses_gather(struct responses_encoder *enc, const struct event *ev, struct err *e)
{
	return add_output_event(enc, ev, NULL, e);
}

void responses_add_whole(struct responses_encoder *enc, const struct event *ev,
			 struct buf *out)
{
	struct state s = finished(enc, ev);

	s.incomplete = end_items(enc, ev->finished.reason, NULL);
	if (s.incomplete)
		s.status = "incomplete";
	add_response(enc, &s, out);
}
