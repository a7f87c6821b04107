/* Responses that the store has: GET and DELETE /v1/responses/{id}, its input, cancel.
 *
 * Loop thread.  Nothing is kept of a response but the turn and its messages: the object is put together
 * from them.  Instructions are not stored, as OpenAI has it, and tools are not either. */
#include "api/responses.h"

#include "api/pending.h"
#include "base/json.h"
#include "memory/store_heads.h"

enum asked { ASKED_RESPONSE, ASKED_INPUT, ASKED_DELETE };

struct reading {
	struct pending pending;
	struct store *store; /* borrowed */
	enum asked asked;
	char *id; /* owned: "resp_..." */
	char request[REQUEST_ID_BYTES];
	struct items_ask page;

	/* of the turn; owned */
	char *conversation, *status, *model, *error, *params;
	char base[STORE_HASH_TEXT_BYTES], prompt[STORE_HASH_TEXT_BYTES],
		reply[STORE_HASH_TEXT_BYTES];
	struct usage usage;
	int64_t created_ms;
};

static void reading_free(struct reading *g)
{
	free(g->id);
	free(g->conversation);
	free(g->status);
	free(g->model);
	free(g->error);
	free(g->params);
	free(g);
}

static void no_response(struct conn *c, const char *id)
{
	struct err e;

	err_set(&e, ERR_NOT_FOUND, "Response with id '%.80s' not found.", id);
	api_reply_error_about(c, &e, "response_id", NULL);
}

/* True when there was an error, or nobody to tell: g is gone. */
static bool reading_over(struct reading *g, const struct err *e)
{
	if (g->pending.conn && e->code == ERR_NONE)
		return false;
	if (g->pending.conn && e->code == ERR_NOT_FOUND)
		no_response(g->pending.conn, g->id);
	else if (g->pending.conn)
		api_reply_error(g->pending.conn, e);
	reading_free(g);
	return true;
}

static void reply(struct reading *g, struct buf *out)
{
	api_reply_json(g->pending.conn, out);
	buf_free(out);
	reading_free(g);
}

/* -- the object -- */

/* Why it is not complete, or NULL. */
static const char *incomplete(const cJSON *params)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(params, "finish_reason");

	if (!cJSON_IsString(v))
		return NULL;
	if (!strcmp(v->valuestring, finish_reason_name(FINISH_LENGTH)))
		return "max_output_tokens";
	return strcmp(v->valuestring, finish_reason_name(FINISH_FILTER))
		       ? NULL
		       : "content_filter";
}

static const char *status_of(const struct reading *g, const char *why)
{
	static const struct {
		const char *turn, *response;
	} names[] = {{"running", "in_progress"},
		     {"done", "completed"},
		     {"cancelled", "cancelled"}};

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (!strcmp(g->status, names[i].turn))
			return i == 1 && why ? "incomplete" : names[i].response;
	return "failed";
}

static bool wants_all(void *arg, const char *id)
{
	UNUSED(arg);
	UNUSED(id);
	return true;
}

static void add_error(struct buf *out, const struct reading *g, bool failed)
{
	const char *text = g->error ? g->error : g->status;

	if (!failed) {
		buf_adds(out, "null");
		return;
	}
	buf_adds(out, "{\"code\":\"server_error\",\"message\":");
	buf_add_json(out, text, strlen(text));
	buf_addc(out, '}');
}

/* What the turn kept of its request; else what requests have by default.  A turn of another of hob's
 * paths kept nothing. */
static void add_echo(struct buf *out, const cJSON *params)
{
	static const struct {
		const char *key, *value;
	} members[] = {{"metadata", "{}"},
		       {"parallel_tool_calls", "true"},
		       {"temperature", "null"},
		       {"tool_choice", "\"auto\""},
		       {"top_p", "null"},
		       {"background", "false"},
		       {"previous_response_id", "null"},
		       {"max_output_tokens", "null"},
		       {"max_tool_calls", "null"},
		       {"text", "{\"format\":{\"type\":\"text\"}}"},
		       {"reasoning", "null"},
		       {"truncation", "\"disabled\""},
		       {"service_tier", "\"default\""},
		       {"user", "null"},
		       {"safety_identifier", "null"},
		       {"prompt_cache_key", "null"}};

	for (size_t i = 0; i < ARRAY_LEN(members); i++) {
		const cJSON *v = cJSON_GetObjectItemCaseSensitive(params, members[i].key);

		buf_addf(out, ",\"%s\":", members[i].key);
		if (v)
			json_print(out, v);
		else
			buf_adds(out, members[i].value);
	}
	buf_adds(out, ",\"instructions\":null,\"tools\":[]");
}

static void add_output(struct buf *out, const struct reading *g,
		       const struct store_message *m, bool whole)
{
	struct item_sink sink = {.wants = wants_all,
				 .status = whole ? NULL : "incomplete"};

	if (m)
		responses_add_items(&sink, m, g->request + 4, ITEMS_OUTPUT);
	buf_adds(out, ",\"output\":[");
	buf_add(out, sink.out.data, sink.out.len);
	buf_adds(out, "],\"usage\":");
	buf_free(&sink.out);
	if (!strcmp(g->status, "done"))
		responses_add_usage(out, &g->usage);
	else
		buf_adds(out, "null");
}

/* m: the reply, or NULL. */
static void reply_object(struct reading *g, const struct store_message *m)
{
	cJSON *params = json_parse(str_of(g->params), NULL);
	const char *why = incomplete(params), *status = status_of(g, why);
	struct buf out = {0};

	buf_addf(&out,
		 "{\"id\":\"%s\",\"object\":\"response\",\"created_at\":%lld,"
		 "\"status\":\"%s\",\"error\":",
		 g->id, (long long)(g->created_ms / 1000), status);
	add_error(&out, g, !strcmp(status, "failed"));
	buf_adds(&out, ",\"incomplete_details\":");
	if (why)
		buf_addf(&out, "{\"reason\":\"%s\"}", why);
	else
		buf_adds(&out, "null");
	buf_adds(&out, ",\"model\":");
	buf_add_json(&out, g->model, strlen(g->model));
	add_output(&out, g, m, !strcmp(status, "completed"));
	buf_addf(&out, ",\"store\":true,\"conversation\":{\"id\":\"conv_%s\"}",
		 g->conversation);
	add_echo(&out, params);
	buf_addc(&out, '}');
	cJSON_Delete(params);
	reply(g, &out);
}

static void on_reply(void *arg, const struct err *e, const struct store_path *p)
{
	struct reading *g = arg;

	if (reading_over(g, e))
		return;
	reply_object(g, p->n ? &p->messages[p->n - 1] : NULL);
}

/* -- its input -- */

static void on_input(void *arg, const struct err *e, const struct store_path *p)
{
	struct reading *g = arg;
	struct buf out = {0};
	struct err none = {0};
	int from = 0;

	if (reading_over(g, e))
		return;
	for (int i = 0; i < p->n; i++)
		if (!strcmp(p->messages[i].hash, g->base))
			from = i + 1;
	if (responses_add_page(p->messages + from, p->n - from, ITEMS_INPUT, &g->page,
			       &out, &none) < 0) {
		api_reply_error_about(g->pending.conn, &none, "after", NULL);
		reading_free(g);
		return;
	}
	reply(g, &out);
}

/* -- deleted -- */

static void on_forgotten(void *arg, const struct err *e)
{
	struct reading *g = arg;
	struct buf out = {0};

	if (reading_over(g, e))
		return;
	buf_addf(&out, "{\"id\":\"%s\",\"object\":\"response\",\"deleted\":true}", g->id);
	reply(g, &out);
}

/* A conversation that this response began and that holds nothing else goes with it, text and all.  One
 * that was made for itself, that went on or that was pinned stays as it is, and the response only
 * loses its name: what others see of a conversation is not changed from here. */
static void on_row(void *arg, const struct err *e, const struct store_conversation *list,
		   int n)
{
	struct reading *g = arg;

	if (reading_over(g, e))
		return;
	ASSERT(n == 1);
	if (list[0].created_ms == g->created_ms && !g->base[0] && !list[0].pinned &&
	    !list[0].forked_from && (!list[0].head[0] || !strcmp(list[0].head, g->reply)))
		store_delete(g->store, g->conversation, on_forgotten, g);
	else
		store_turn_unname(g->store, g->request, on_forgotten, g);
}

static void on_turns(void *arg, const struct err *e, const struct store_turn *list, int n)
{
	struct reading *g = arg;

	UNUSED(list);
	if (reading_over(g, e))
		return;
	if (n == 1)
		store_get(g->store, g->conversation, on_row, g);
	else
		store_turn_unname(g->store, g->request, on_forgotten, g);
}

/* -- the turn -- */

static void keep_turn(struct reading *g, const struct store_turn *t)
{
	g->conversation = xstrdup(t->conversation);
	g->status = xstrdup(t->status);
	g->model = xstrdup(t->model);
	g->error = t->error ? xstrdup(t->error) : NULL;
	g->params = xstrdup(t->params ? t->params : "{}");
	snprintf(g->base, sizeof g->base, "%s", t->base);
	snprintf(g->prompt, sizeof g->prompt, "%s", t->prompt);
	snprintf(g->reply, sizeof g->reply, "%s", t->reply);
	g->usage = USAGE_UNKNOWN;
	g->usage.prompt_tokens = t->tokens_in;
	g->usage.cached_tokens = t->tokens_cached;
	g->usage.completion_tokens = t->tokens_out;
	g->created_ms = t->created_ms;
}

static void on_turn(void *arg, const struct err *e, const struct store_turn *list, int n)
{
	struct reading *g = arg;
	struct err busy;

	if (reading_over(g, e))
		return;
	ASSERT(n == 1);
	keep_turn(g, &list[0]);
	if (g->asked == ASKED_RESPONSE && !g->reply[0]) {
		reply_object(g, NULL);
	} else if (g->asked != ASKED_DELETE) {
		store_path(g->store,
			   &(struct store_path_ask){.conversation = g->conversation,
						    .parent = g->asked == ASKED_INPUT
								      ? g->prompt
								      : g->reply},
			   g->asked == ASKED_INPUT ? on_input : on_reply, g);
	} else if (!strcmp(g->status, "running")) {
		err_set(&busy, ERR_CONFLICT,
			"'%s' is being answered: delete it when it has ended", g->id);
		api_reply_error(g->pending.conn, &busy);
		reading_free(g);
	} else {
		store_turns(g->store, g->conversation, 2, on_turns, g);
	}
}

static void read_turn(const struct call *call, enum asked asked)
{
	struct reading *g = xcalloc(1, sizeof(*g));
	struct err e = {0};

	g->asked = asked;
	g->store = call->api->store;
	g->id = pending_id(call->param);
	if (asked == ASKED_INPUT && responses_read_page(call->http, &g->page, &e) < 0) {
		api_reply_error(call->conn, &e);
		reading_free(g);
	} else if (asked == ASKED_RESPONSE &&
		   str_eq(http_query(call->http, "stream"), "true")) {
		err_set(&e, ERR_UNSUPPORTED,
			"'stream' is not supported here: the answer is over");
		api_reply_error_about(call->conn, &e, "stream", NULL);
		reading_free(g);
	} else if (!g->store || !g->id ||
		   !responses_request_of(str_of(g->id), g->request)) {
		no_response(call->conn, g->id ? g->id : "");
		reading_free(g);
	} else {
		pending_begin(&g->pending, call->conn);
		store_turn_of(g->store, g->request, on_turn, g);
	}
}

void responses_get(const struct call *call)
{
	read_turn(call, ASKED_RESPONSE);
}

void responses_input_items(const struct call *call)
{
	read_turn(call, ASKED_INPUT);
}

void responses_delete(const struct call *call)
{
	read_turn(call, ASKED_DELETE);
}

void responses_cancel(const struct call *call)
{
	struct err e;

	err_set(&e, ERR_INVALID,
		"Cannot cancel a synchronous response: close its connection instead.");
	api_reply_error_about(call->conn, &e, "response_id", NULL);
}
