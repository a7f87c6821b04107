/* From events to OpenAI's JSON.  Pure; any thread.
 *
 * Text is put together by hand, not through a tree: one chunk per token is the hottest encoding
 * there is.  Clients want numbers in `usage`, so an unknown count is 0 there and null in `hob`. */
#include "api/openai.h"

#include "base/clock.h"
#include "base/json.h"
#include "route/route_log.h"

enum {
	REASON_FIELD_BYTES = 400,
	WHOLE_BYTES = 1000, /* of a whole reply without its text: mostly one allocation */
};

void openai_encoder_init(struct openai_encoder *enc, const struct request *r,
			 const struct openai_params *p)
{
	memset(enc, 0, sizeof(*enc));
	enc->is_chat = r->is_chat;
	enc->include_usage = p->include_usage;
	snprintf(enc->id, sizeof(enc->id), "%s-%s", r->is_chat ? "chatcmpl" : "cmpl",
		 r->id);
	enc->created_s = clock_unix_ms() / 1000;
	enc->model = xstrdup(r->model);
	enc->kept = enc->dropped = enc->summarised = enc->elided = -1;
	enc->most_usd = enc->cost_usd = -1;
}

void openai_encoder_fini(struct openai_encoder *enc)
{
	free(enc->model);
	free(enc->provider);
	free(enc->reason);
	free(enc->conversation);
	free(enc->route);
	free(enc->upstream_model);
	free(enc->prompt);
	free(enc->message);
	buf_free(&enc->attempts);
	buf_free(&enc->prefix);
	buf_free(&enc->text);
	buf_free(&enc->reasoning);
	for (int i = 0; i < enc->ntools; i++) {
		free(enc->tools[i].id);
		free(enc->tools[i].name);
		buf_free(&enc->tools[i].arguments);
	}
	free(enc->tools);
}

static void replace(char **to, const char *s)
{
	char *copy = s ? xstrdup(s) : NULL;

	free(*to);
	*to = copy;
}

static void keep_attempts(struct openai_encoder *enc, const struct event *ev)
{
	enc->nattempts = ev->started.nattempts;
	for (int i = 0; i < enc->nattempts; i++) {
		const struct route_attempt *a = &ev->started.attempts[i];

		buf_adds(&enc->attempts, i ? ",{\"model\":" : "{\"model\":");
		buf_add_json_or_null(&enc->attempts, a->model);
		buf_adds(&enc->attempts, ",\"error\":");
		buf_add_json_or_null(&enc->attempts, a->error.text);
		buf_addf(&enc->attempts, ",\"code\":\"%s\"}",
			 err_info(a->error.code)->name);
	}
}

void openai_started(struct openai_encoder *enc, const struct event *ev)
{
	if (ev->started.model)
		replace(&enc->model, ev->started.model);
	replace(&enc->provider, ev->started.provider);
	replace(&enc->reason, ev->started.reason);
	replace(&enc->conversation, ev->started.conversation);
	replace(&enc->route, ev->started.route);
	replace(&enc->upstream_model, ev->started.upstream_model);
	enc->most_usd = ev->started.most_usd;
	enc->kept = ev->started.kept_messages;
	enc->dropped = ev->started.dropped_messages;
	enc->summarised = ev->started.summarised_messages;
	enc->elided = ev->started.elided_messages;
	enc->ctx = ev->started.ctx;
	enc->tier = ev->started.tier;
	if (ev->started.nattempts)
		keep_attempts(enc, ev);
}

void openai_finished(struct openai_encoder *enc, const struct event *ev)
{
	enc->cost_usd = ev->finished.usage.cost_usd;
	replace(&enc->prompt, ev->finished.prompt);
	replace(&enc->message, ev->finished.message);
}

/* Decimal and without an exponent: "0.000125", "0".  Down to what a token of the cheapest costs. */
static void write_usd(double usd, char *out, size_t bytes)
{
	size_t n;

	snprintf(out, bytes, "%.10f", usd);
	n = strlen(out);
	while (n > 1 && out[n - 1] == '0')
		n--;
	out[out[n - 1] == '.' ? n - 1 : n] = '\0';
}

static void add_cost(const struct openai_encoder *enc, struct buf *head)
{
	double usd = enc->cost_usd >= 0 ? enc->cost_usd : enc->most_usd;
	char text[48];

	if (usd < 0 || usd > 1e9) {
		buf_adds(head, "x-hob-cost: unknown\r\n");
		return;
	}
	write_usd(usd, text, sizeof text);
	buf_addf(head, "x-hob-cost: %s%s\r\n", enc->cost_usd < 0 && usd > 0 ? "<=" : "",
		 text);
}

/* Names and errors may hold anything; a field's value is ASCII and short. */
static void add_reason(const struct openai_encoder *enc, struct buf *head)
{
	char ascii[REASON_FIELD_BYTES + 1];
	size_t n = strnlen(enc->reason, REASON_FIELD_BYTES);

	for (size_t i = 0; i < n; i++)
		ascii[i] = enc->reason[i] & 0x80 ? '?' : enc->reason[i];
	ascii[n] = '\0';
	http_add_field(head, "x-hob-reason", ascii);
}

static void add_context(const struct openai_encoder *enc, struct buf *head)
{
	buf_addf(head, "x-hob-context: kept=%d, summarised=%d, dropped=%d", enc->kept,
		 enc->summarised > 0 ? enc->summarised : 0, enc->dropped);
	if (enc->elided > 0)
		buf_addf(head, ", elided=%d", enc->elided);
	buf_adds(head, "\r\n");
}

void openai_add_fields(const struct openai_encoder *enc, struct buf *head)
{
	http_add_field(head, "x-request-id", enc->id);
	if (!enc->provider) /* not started */
		return;
	http_add_field(head, "x-hob-model", enc->model);
	http_add_field(head, "x-hob-provider", enc->provider);
	if (enc->route)
		http_add_field(head, "x-hob-route", enc->route);
	if (enc->reason)
		add_reason(enc, head);
	add_cost(enc, head);
	if (enc->nattempts)
		buf_addf(head, "x-hob-attempts: %d\r\n", enc->nattempts + 1);
	if (enc->conversation)
		http_add_field(head, "x-hob-conversation", enc->conversation);
	if (enc->kept >= 0)
		add_context(enc, head);
}

/* -- parts; without printf, which costs more than all the rest of an event -- */

static int known(int n)
{
	return n < 0 ? 0 : n;
}

static void add_usage(struct buf *out, const struct usage *u)
{
	buf_adds(out, "\"usage\":{\"prompt_tokens\":");
	buf_addi(out, known(u->prompt_tokens));
	buf_adds(out, ",\"completion_tokens\":");
	buf_addi(out, known(u->completion_tokens));
	buf_adds(out, ",\"total_tokens\":");
	buf_addi(out, (int64_t)known(u->prompt_tokens) + known(u->completion_tokens));
	if (u->cached_tokens >= 0) {
		buf_adds(out, ",\"prompt_tokens_details\":{\"cached_tokens\":");
		buf_addi(out, u->cached_tokens);
		buf_addc(out, '}');
	}
	if (u->cost_usd >= 0)
		buf_addf(out, ",\"cost\":%.9g", u->cost_usd);
	buf_addc(out, '}');
}

/* name: with its comma, quotes and colon. */
static void add_number(struct buf *out, const char *name, double v)
{
	const double exact = 1e15;

	buf_adds(out, name);
	if (v < 0)
		buf_adds(out, "null");
	else if (v < exact && v == (double)(int64_t)v)
		buf_addi(out, (int64_t)v);
	else
		buf_addf(out, "%.10g", v);
}

void openai_add_hob(const struct openai_encoder *enc, struct buf *out,
		    const struct usage *u)
{
	buf_adds(out, "\"hob\":{\"provider\":");
	buf_add_json_or_null(out, enc->provider);
	buf_adds(out, ",\"model\":");
	buf_add_json_or_null(out, enc->model);
	buf_adds(out, ",\"reason\":");
	buf_add_json_or_null(out, enc->reason);
	if (u) {
		add_number(out, ",\"prefill_ms\":", u->prefill_ms);
		add_number(out, ",\"decode_ms\":", u->decode_ms);
		add_number(out, ",\"prompt_tokens\":", u->prompt_tokens);
		add_number(out, ",\"cached_tokens\":", u->cached_tokens);
		add_number(out, ",\"completion_tokens\":", u->completion_tokens);
		add_number(out, ",\"cost_usd\":", u->cost_usd);
	}
	buf_adds(out, ",\"route\":");
	buf_add_json_or_null(out, enc->route);
	buf_adds(out, ",\"upstream_model\":");
	buf_add_json_or_null(out, enc->upstream_model);
	buf_adds(out, ",\"attempts\":[");
	buf_add(out, enc->attempts.data, enc->attempts.len);
	buf_adds(out, "],\"conversation\":");
	buf_add_json_or_null(out, enc->conversation);
	add_number(out, ",\"kept\":", enc->kept);
	add_number(out, ",\"dropped\":", enc->dropped);
	add_number(out, ",\"summarised\":", enc->summarised);
	add_number(out, ",\"elided\":", enc->elided);
	add_number(out, ",\"ctx\":", enc->ctx > 0 ? enc->ctx : -1);
	buf_adds(out, ",\"tier\":");
	buf_add_json_or_null(out, enc->tier);
	if (u) {
		buf_adds(out, ",\"prompt\":");
		buf_add_json_or_null(out, enc->prompt);
		buf_adds(out, ",\"message\":");
		buf_add_json_or_null(out, enc->message);
	}
	buf_addc(out, '}');
}

/* From the opening brace to that of the choices. */
static void add_object(const struct openai_encoder *enc, const char *object,
		       struct buf *out)
{
	buf_adds(out, "{\"id\":\"");
	buf_adds(out, enc->id);
	buf_adds(out, "\",\"object\":\"");
	buf_adds(out, object);
	buf_adds(out, "\",\"created\":");
	buf_addi(out, enc->created_s);
	buf_adds(out, ",\"model\":");
	buf_add_json_or_null(out, enc->model);
	buf_adds(out, ",\"choices\":[");
}

static void add_finish_reason(struct buf *out, enum finish_reason reason)
{
	buf_adds(out, ",\"logprobs\":null,\"finish_reason\":\"");
	buf_adds(out, finish_reason_name(reason));
	buf_adds(out, "\"}]");
}

/* -- streams -- */

static void begin_chunk(struct openai_encoder *enc, struct buf *out)
{
	struct buf *p = &enc->prefix;

	if (!p->len) {
		buf_adds(p, "data: ");
		add_object(enc,
			   enc->is_chat ? "chat.completion.chunk" : "text_completion", p);
	}
	buf_add(out, p->data, p->len);
}

static void end_chunk(const struct openai_encoder *enc, struct buf *out)
{
	buf_adds(out, enc->include_usage ? ",\"usage\":null}\n\n" : "}\n\n");
}

/* The first chunk tells where it runs: the head may have left before that was known, and a client
 * that is cut off needs the conversation's id. */
static void add_role(struct openai_encoder *enc, struct buf *out)
{
	if (enc->role_sent || !enc->is_chat)
		return;
	enc->role_sent = true;
	begin_chunk(enc, out);
	buf_adds(out, "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},"
		      "\"logprobs\":null,\"finish_reason\":null}],");
	openai_add_hob(enc, out, NULL);
	end_chunk(enc, out);
}

static void add_chat_delta(const struct event *ev, struct buf *out)
{
	const char *s = ev->text.ptr;
	size_t n = ev->text.len;

	switch (ev->type) {
	case EVENT_REASONING: /* both names are in use; see research on the field split */
		buf_adds(out, "\"reasoning_content\":");
		buf_add_json(out, s, n);
		buf_adds(out, ",\"reasoning\":");
		buf_add_json(out, s, n);
		break;
	case EVENT_TOOL_CALL:
		buf_adds(out, "\"tool_calls\":[");
		buf_add(out, s, n); /* JSON already */
		buf_adds(out, "]");
		break;
	default:
		buf_adds(out, "\"content\":");
		buf_add_json(out, s, n);
	}
}

void openai_add_delta(struct openai_encoder *enc, const struct event *ev, struct buf *out)
{
	if (!enc->is_chat && ev->type != EVENT_TEXT)
		return; /* raw completions have no place for it */
	add_role(enc, out);
	begin_chunk(enc, out);
	buf_adds(out,
		 enc->is_chat ? "{\"index\":0,\"delta\":{" : "{\"index\":0,\"text\":");
	if (enc->is_chat)
		add_chat_delta(ev, out);
	else
		buf_add_json(out, ev->text.ptr, ev->text.len);
	buf_adds(out, enc->is_chat ? "},\"logprobs\":null,\"finish_reason\":null}]"
				   : ",\"logprobs\":null,\"finish_reason\":null}]");
	end_chunk(enc, out);
}

void openai_add_finish(struct openai_encoder *enc, const struct event *ev,
		       struct buf *out)
{
	add_role(enc, out);
	begin_chunk(enc, out);
	buf_adds(out, enc->is_chat ? "{\"index\":0,\"delta\":{}"
				   : "{\"index\":0,\"text\":\"\"");
	add_finish_reason(out, ev->finished.reason);
	if (enc->include_usage) {
		end_chunk(enc, out);
		begin_chunk(enc, out);
		buf_adds(out, "],");
		add_usage(out, &ev->finished.usage);
	}
	buf_addc(out, ',');
	openai_add_hob(enc, out, &ev->finished.usage);
	buf_adds(out, "}\n\ndata: [DONE]\n\n");
}

void openai_add_stream_error(const struct err *why, struct buf *out)
{
	/* No [DONE]: a reader that misses the error still sees that the end is missing. */
	buf_adds(out, "data: ");
	api_add_error(out, why);
	buf_adds(out, "\n\n");
}

/* -- whole replies -- */

static struct openai_tool_call *tool_call(struct openai_encoder *enc, int index)
{
	if (!enc->tools)
		enc->tools = xcalloc(OPENAI_MAX_TOOL_CALLS, sizeof(*enc->tools));
	if (index >= enc->ntools)
		enc->ntools = index + 1;
	return &enc->tools[index];
}

int openai_read_tool_delta(const struct event *ev, cJSON **tree,
			   struct openai_tool_delta *out, struct err *e)
{
	const cJSON *function = NULL, *d;
	int64_t index = 0;

	*out = (struct openai_tool_delta){0};
	*tree = json_read((struct str){ev->text.ptr, ev->text.len}, 0, e);
	d = *tree;
	if (!d)
		return err_wrap(e, "tool call from the model");
	if (json_int(d, "index", 0, OPENAI_MAX_TOOL_CALLS - 1, &index, e) < 0 ||
	    json_string(d, "id", &out->id, e) < 0 ||
	    json_object(d, "function", &function, e) < 0)
		return -1;
	if (function && (json_string(function, "name", &out->name, e) < 0 ||
			 json_string(function, "arguments", &out->arguments, e) < 0))
		return -1;
	out->index = (int)index;
	return 0;
}

/* Joins OpenAI's delta.tool_calls elements by their index. */
static int gather_tool_call(struct openai_encoder *enc, const struct event *ev,
			    struct err *e)
{
	struct openai_tool_delta d;
	struct openai_tool_call *t;
	cJSON *tree;
	int rc = openai_read_tool_delta(ev, &tree, &d, e);

	if (rc == 0) {
		t = tool_call(enc, d.index);
		if (d.id)
			replace(&t->id, d.id);
		if (d.name)
			replace(&t->name, d.name);
		if (d.arguments)
			buf_adds(&t->arguments, d.arguments);
		if (t->arguments.len > OPENAI_MAX_WHOLE_BYTES)
			rc = err_set(e, ERR_TOO_LARGE, "a tool call grew over 32 MiB");
	}
	cJSON_Delete(tree);
	return rc;
}

int openai_gather(struct openai_encoder *enc, const struct event *ev, struct err *e)
{
	struct buf *to = ev->type == EVENT_REASONING ? &enc->reasoning : &enc->text;

	if (ev->type == EVENT_TOOL_CALL)
		return gather_tool_call(enc, ev, e);
	if (ev->text.len > OPENAI_MAX_WHOLE_BYTES - to->len)
		return err_set(e, ERR_TOO_LARGE,
			       "the answer grew over 32 MiB: stream it");
	buf_add(to, ev->text.ptr, ev->text.len);
	return 0;
}

static void add_tools(const struct openai_encoder *enc, struct buf *out)
{
	buf_adds(out, ",\"tool_calls\":[");
	for (int i = 0; i < enc->ntools; i++) {
		const struct openai_tool_call *t = &enc->tools[i];

		buf_addf(out, "%s{\"id\":", i ? "," : "");
		buf_add_json_or_null(out, t->id ? t->id : "");
		buf_adds(out, ",\"type\":\"function\",\"function\":{\"name\":");
		buf_add_json_or_null(out, t->name ? t->name : "");
		buf_adds(out, ",\"arguments\":");
		buf_add_json(out, t->arguments.data ? t->arguments.data : "",
			     t->arguments.len);
		buf_adds(out, "}}");
	}
	buf_addc(out, ']');
}

static void add_text(struct buf *out, const struct buf *text)
{
	buf_add_json(out, text->data ? text->data : "", text->len);
}

static void add_whole_message(const struct openai_encoder *enc, struct buf *out)
{
	buf_adds(out, "\"message\":{\"role\":\"assistant\",\"content\":");
	if (!enc->text.len && enc->ntools)
		buf_adds(out, "null");
	else
		add_text(out, &enc->text);
	buf_adds(out, ",\"refusal\":null");
	if (enc->reasoning.len) {
		buf_adds(out, ",\"reasoning_content\":");
		add_text(out, &enc->reasoning);
		buf_adds(out, ",\"reasoning\":");
		add_text(out, &enc->reasoning);
	}
	if (enc->ntools)
		add_tools(enc, out);
	buf_addc(out, '}');
}

void openai_add_whole(struct openai_encoder *enc, const struct event *ev, struct buf *out)
{
	buf_reserve(out, WHOLE_BYTES + enc->text.len);
	add_object(enc, enc->is_chat ? "chat.completion" : "text_completion", out);
	buf_adds(out, "{\"index\":0,");
	if (enc->is_chat) {
		add_whole_message(enc, out);
	} else {
		buf_adds(out, "\"text\":");
		add_text(out, &enc->text);
	}
	add_finish_reason(out, ev->finished.reason);
	buf_addc(out, ',');
	add_usage(out, &ev->finished.usage);
	buf_addc(out, ',');
	openai_add_hob(enc, out, &ev->finished.usage);
	buf_addc(out, '}');
}
