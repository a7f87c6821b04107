/* Reads one answer.  Any thread, one owner.
 *
 * A reader may question how the body's kind is found: by the content type where that is one of the
 * known ones, else by the first byte.  Servers answer application/json to a request for a stream when
 * they fail, proxies send web pages with status 200, and some stream without any type at all. */
#include "providers/answer.h"

#include <limits.h>

void answer_init(struct answer *a, const struct answer_of *of)
{
	*a = (struct answer){.of = *of, .usage = USAGE_UNKNOWN, .fresh_tokens = -1};
	sse_init(&a->sse);
}

void answer_fini(struct answer *a)
{
	sse_fini(&a->sse);
	buf_free(&a->line);
	buf_free(&a->plain);
	buf_free(&a->half[0]);
	buf_free(&a->half[1]);
	buf_free(&a->tool_input);
}

/* ---- to events ---- */

static void emit(struct answer *a, const struct event *ev)
{
	if (a->of.out)
		a->of.out->event(a->of.out, ev);
}

void answer_started(struct answer *a, const char *model)
{
	struct event ev = {.type = EVENT_STARTED};

	if (a->started)
		return;
	a->started = true;
	ev.started.model = model;
	ev.started.provider = a->of.provider;
	ev.started.kept_messages = ev.started.dropped_messages = -1;
	emit(a, &ev);
}

/* Emits text but for an unfinished character at its end, which waits for the next piece; with
 * text NULL what waits goes as it is. */
static void add_half(struct answer *a, enum event_type type, const char *text, size_t n)
{
	struct buf *half = &a->half[type == EVENT_REASONING];
	struct event ev = {.type = type};
	struct buf whole = {0};

	if (!half->len && text && answer_whole_utf8(text, n) == n) {
		ev.text.ptr = text;
		ev.text.len = n;
		if (n)
			emit(a, &ev);
		return;
	}
	if (!text && !half->len)
		return;
	buf_add(&whole, half->data, half->len);
	buf_clear(half);
	if (text) {
		buf_add(&whole, text, n);
		ev.text.len = answer_whole_utf8(whole.data, whole.len);
		buf_add(half, whole.data + ev.text.len, whole.len - ev.text.len);
		ev.text.ptr = whole.data;
	} else { /* half a character is none */
		ev.text.ptr = "\xef\xbf\xbd";
		ev.text.len = 3;
	}
	if (ev.text.len)
		emit(a, &ev);
	buf_free(&whole);
}

void answer_text(struct answer *a, enum event_type type, const char *text)
{
	if (!text[0])
		return;
	if (type == EVENT_TEXT)
		a->has_text = true;
	add_half(a, type, text, strlen(text));
}

bool answer_member(struct answer *a, const cJSON *obj, const char *key,
		   enum event_type type)
{
	const char *text = NULL;

	if (json_string(obj, key, &text, NULL) <= 0 || !text[0])
		return false;
	answer_text(a, type, text);
	return true;
}

void answer_tool(struct answer *a, const cJSON *call)
{
	struct event ev = {.type = EVENT_TOOL_CALL};
	char *text = cJSON_PrintUnformatted(call);

	if (!text)
		return;
	ev.text.ptr = text;
	ev.text.len = strlen(text);
	a->has_tools = true;
	emit(a, &ev);
	cJSON_free(text);
}

void answer_tool_part(struct answer *a, int index, const char *id, const char *name,
		      const char *arguments)
{
	cJSON *call = cJSON_CreateObject();
	cJSON *function = cJSON_CreateObject();

	cJSON_AddNumberToObject(call, "index", index);
	if (id) {
		cJSON_AddStringToObject(call, "id", id);
		cJSON_AddStringToObject(call, "type", "function");
	}
	if (name)
		cJSON_AddStringToObject(function, "name", name);
	if (arguments)
		cJSON_AddStringToObject(function, "arguments", arguments);
	cJSON_AddItemToObject(call, "function", function);
	answer_tool(a, call);
	cJSON_Delete(call);
}

void answer_reason(struct answer *a, enum finish_reason r)
{
	a->has_reason = true;
	a->reason = r;
}

int answer_error(struct answer *a, const cJSON *error, struct err *e)
{
	struct failure f = {.who = a->of.who, .key_source = a->key_source, .status = 200};

	return failure_of_error(e, &f, error);
}

void answer_count(const cJSON *obj, const char *key, int *out)
{
	int64_t v;

	if (json_int(obj, key, 0, INT_MAX, &v, NULL) > 0)
		*out = (int)v;
}

void answer_finished(struct answer *a, struct event *ev)
{
	add_half(a, EVENT_REASONING, NULL, 0);
	add_half(a, EVENT_TEXT, NULL, 0);
	*ev = (struct event){.type = EVENT_FINISHED};
	ev->finished.reason = a->has_reason  ? a->reason
			      : a->has_tools ? FINISH_TOOLS
					     : FINISH_STOP;
	ev->finished.usage = a->usage;
}

/* ---- from bytes ---- */

/* What the readers of framing need to know of each other: one per call of answer_feed(). */
struct reading {
	struct answer *a;
	struct err *e;
	int rc;
};

static bool take_event(struct reading *r, struct str type, struct str data)
{
	struct answer *a = r->a;
	cJSON *tree = json_read(data, 0, NULL);

	if (!str_eq(type, "ping")) /* Anthropic's: no more than a comment */
		a->alive = true;
	if (!tree)
		r->rc = err_set(r->e, ERR_UPSTREAM, "%s sent an event that is no JSON",
				a->of.who);
	else if (!cJSON_IsObject(tree))
		r->rc = err_set(r->e, ERR_UPSTREAM, "%s sent an event that is no object",
				a->of.who);
	else
		r->rc = a->of.reader->event(a, type, tree, r->e);
	cJSON_Delete(tree);
	if (!a->of.out)
		r->rc = 0;
	return r->rc == 0 && a->of.out;
}

static bool on_event(void *arg, struct str type, struct str data)
{
	struct reading *r = arg;

	if (str_starts(data, "[DONE]")) {
		r->a->alive = true;
		r->rc = 1;
		return false;
	}
	return take_event(r, type, data);
}

static void feed_events(struct reading *r, const char *bytes, size_t n)
{
	if (sse_feed(&r->a->sse, bytes, n, on_event, r, r->e) < 0)
		r->rc = err_wrap(r->e, "%s", r->a->of.who);
}

/* An empty line is none. */
static bool take_line(struct reading *r, const char *line, size_t n)
{
	while (n && strchr(" \t\r", line[n - 1]))
		n--;
	return n == 0 || take_event(r, (struct str){0}, (struct str){line, n});
}

static void feed_lines(struct reading *r, const char *bytes, size_t n)
{
	struct answer *a = r->a;
	const char *end;

	while ((end = memchr(bytes, '\n', n))) {
		size_t len = (size_t)(end - bytes);
		bool more;

		if (a->line.len) {
			buf_add(&a->line, bytes, len);
			more = take_line(r, a->line.data, a->line.len);
			buf_clear(&a->line);
		} else {
			more = take_line(r, bytes, len);
		}
		if (!more)
			return;
		bytes = end + 1;
		n -= len + 1;
	}
	if (a->line.len + n > ANSWER_MAX_LINE_BYTES)
		r->rc = err_set(r->e, ERR_UPSTREAM, "%s: a line over %d bytes", a->of.who,
				ANSWER_MAX_LINE_BYTES);
	else
		buf_add(&a->line, bytes, n);
}

static enum answer_body body_of(const struct answer *a, const struct response_head *h,
				const char *bytes, size_t n)
{
	struct str type = h->header(h->arg, "content-type");
	bool lines = a->of.reader->framing == FRAMING_LINES;

	if (h->status != 200)
		return ANSWER_PLAIN;
	if (str_starts(type, "text/html"))
		return ANSWER_PLAIN;
	if (lines) /* a single JSON text is a line, too */
		return n && *bytes == '<' ? ANSWER_PLAIN : ANSWER_STREAM;
	if (str_starts(type, "text/event-stream"))
		return ANSWER_STREAM;
	if (str_starts(type, "application/json"))
		return ANSWER_PLAIN;
	while (n && strchr(" \t\r\n", *bytes))
		bytes++, n--;
	return n && (*bytes == '{' || *bytes == '<') ? ANSWER_PLAIN : ANSWER_STREAM;
}

static void feed_plain(struct reading *r, const struct response_head *h,
		       const char *bytes, size_t n)
{
	struct answer *a = r->a;
	bool ok = h->status == 200;
	size_t room =
		(ok ? ANSWER_MAX_WHOLE_BYTES : ANSWER_MAX_ERROR_BYTES) - a->plain.len;

	a->alive = true;
	buf_add(&a->plain, bytes, n < room ? n : room);
	if (n > room && ok)
		r->rc = err_set(r->e, ERR_UPSTREAM, "%s: an answer over %d bytes",
				a->of.who, ANSWER_MAX_WHOLE_BYTES);
}

int answer_feed(struct answer *a, const struct response_head *h, const char *bytes,
		size_t n, struct err *e)
{
	struct reading r = {.a = a, .e = e};

	if (n == 0)
		return 0;
	if (a->body == ANSWER_UNKNOWN)
		a->body = body_of(a, h, bytes, n);
	if (a->body == ANSWER_PLAIN)
		feed_plain(&r, h, bytes, n);
	else if (a->of.reader->framing == FRAMING_LINES)
		feed_lines(&r, bytes, n);
	else
		feed_events(&r, bytes, n);
	if (r.rc > 0)
		a->complete = true;
	return r.rc;
}

/* ---- its end ---- */

static int failed(struct answer *a, const struct response_head *h, struct err *e)
{
	struct failure f = {
		.who = a->of.who,
		.key_source = a->key_source,
		.status = h->status,
		.content_type = h->header(h->arg, "content-type"),
		.body = buf_str(&a->plain),
		.retry_after_ms = failure_retry_after(h),
	};

	return failure_of_response(e, &f);
}

/* The whole answer in one JSON text. */
static int whole(struct answer *a, const struct response_head *h, struct err *e)
{
	cJSON *tree = json_read(buf_str(&a->plain), 0, NULL);
	int rc = cJSON_IsObject(tree) ? a->of.reader->whole(a, tree, e) : 0;

	cJSON_Delete(tree);
	return rc ? rc : failed(a, h, e);
}

/* A last event without the line that ends it. */
static int last_event(struct answer *a, struct err *e)
{
	struct reading r = {.a = a, .e = e};

	if (a->of.reader->framing == FRAMING_LINES) {
		if (a->line.len)
			take_line(&r, a->line.data, a->line.len);
	} else if (sse_finish(&a->sse, on_event, &r, e) < 0) {
		return err_wrap(e, "%s", a->of.who);
	}
	return r.rc;
}

int answer_end(struct answer *a, const struct response_head *h, const struct err *why,
	       struct err *e)
{
	int rc;

	if (h->status && h->status != 200)
		return failed(a, h, e);
	if (a->body == ANSWER_STREAM && !why) {
		rc = last_event(a, e);
		if (rc)
			return rc;
	}
	if (a->has_reason && a->body == ANSWER_STREAM) /* only the end mark is missing */
		return 1;
	if (why) {
		*e = *why;
		return err_wrap(e, "%s", a->of.who);
	}
	if (a->body == ANSWER_PLAIN)
		return whole(a, h, e);
	if (a->body == ANSWER_UNKNOWN)
		return err_set(e, ERR_UPSTREAM, "%s: an empty answer", a->of.who);
	return err_set(e, ERR_UPSTREAM,
		       "%s: the answer was truncated: the stream ended without "
		       "a finish reason",
		       a->of.who);
}

size_t answer_whole_utf8(const char *s, size_t n)
{
	size_t back = 0, need;
	unsigned char c;

	while (back < n && back < 3 && ((unsigned char)s[n - 1 - back] & 0xc0) == 0x80)
		back++;
	if (back == n)
		return n;
	c = (unsigned char)s[n - 1 - back];
	need = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 1;
	return need > back + 1 ? n - 1 - back : n;
}
