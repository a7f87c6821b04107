/* Lists of items in pages, as OpenAI's list endpoints have them.  Pure; loop thread.
 *
 * Messages are walked twice: once for the ids, which are cheap, to find where the page lies, and once to write
 * what is on it.  Nothing of what is not on the page is written. */
#include "api/responses.h"

enum { PAGE_DEFAULT = 20 };

int responses_read_page(const struct http_request *h, struct items_ask *out,
			struct err *e)
{
	struct str limit = http_query(h, "limit"), order = http_query(h, "order");
	struct str after = http_query(h, "after");
	struct buf id = {0};
	int64_t n = PAGE_DEFAULT;

	*out = (struct items_ask){.is_desc = true};
	if (limit.ptr && !str_to_i64(limit, 1, RESPONSES_MAX_PAGE, &n))
		return err_set(e, ERR_INVALID, "'limit' must be a number from 1 to %d",
			       RESPONSES_MAX_PAGE);
	if (order.ptr && !str_eq(order, "asc") && !str_eq(order, "desc"))
		return err_set(e, ERR_INVALID, "'order' must be asc or desc");
	out->limit = (int)n;
	out->is_desc = !str_eq(order, "asc");
	if (!after.len)
		return 0;
	if (!http_unescape(after, &id) || id.len >= RESPONSES_ID_BYTES) {
		buf_free(&id);
		return err_set(e, ERR_INVALID, "'after' is no item's id");
	}
	snprintf(out->after, sizeof out->after, "%s", id.data);
	buf_free(&id);
	return 0;
}

struct walk {
	const char *after;
	int n, after_at; /* items; the one that the page comes after, -1 = not met */
	int from, to;    /* of the page; to 0: the first walk */
	/* What is on the page */
	struct buf *out;
	size_t at[RESPONSES_MAX_PAGE + 1];
	char ids[RESPONSES_MAX_PAGE][RESPONSES_ID_BYTES];
	int on;
};

static bool walk_over(void *arg, const char *id)
{
	struct walk *w = arg;
	int i = w->n++;

	if (!w->to) {
		if (!strcmp(id, w->after))
			w->after_at = i;
		return false;
	}
	if (i < w->from || i >= w->to)
		return false;
	w->at[w->on] = w->out->len;
	snprintf(w->ids[w->on++], RESPONSES_ID_BYTES, "%s", id);
	return true;
}

static void walk(struct walk *w, struct item_sink *sink, const struct store_message *m,
		 int n, enum items_style style)
{
	w->n = 0;
	for (int i = 0; i < n; i++)
		responses_add_items(sink, &m[i], m[i].hash, style);
}

/* Items were written with commas in front of all but the first. */
static void add_item(struct buf *out, const struct walk *w, int i)
{
	size_t from = w->at[i] + (i > 0);
	size_t to = i + 1 < w->on ? w->at[i + 1] : w->out->len;

	buf_add(out, w->out->data + from, to - from);
}

int responses_add_page(const struct store_message *m, int n, enum items_style style,
		       const struct items_ask *ask, struct buf *out, struct err *e)
{
	struct walk *w = xcalloc(1, sizeof(*w));
	struct item_sink sink = {.wants = walk_over, .arg = w};
	bool more;

	*w = (struct walk){.after = ask->after, .after_at = -1, .out = &sink.out};
	walk(w, &sink, m, n, style);
	if (ask->after[0] && w->after_at < 0) {
		free(w);
		return err_set(e, ERR_NOT_FOUND, "Item with id '%s' not found.",
			       ask->after);
	}
	if (ask->is_desc) {
		w->to = ask->after[0] ? w->after_at : w->n;
		w->from = w->to > ask->limit ? w->to - ask->limit : 0;
		more = w->from > 0;
	} else {
		w->from = w->after_at + 1;
		w->to = w->from + ask->limit < w->n ? w->from + ask->limit : w->n;
		more = w->to < w->n;
	}
	if (w->to > w->from)
		walk(w, &sink, m, n, style);
	buf_adds(out, "{\"object\":\"list\",\"data\":[");
	for (int i = 0; i < w->on; i++) {
		buf_adds(out, i ? "," : "");
		add_item(out, w, ask->is_desc ? w->on - 1 - i : i);
	}
	buf_addf(out, "],\"first_id\":\"%s\",\"last_id\":\"%s\",\"has_more\":%s}",
		 w->on ? w->ids[ask->is_desc ? w->on - 1 : 0] : "",
		 w->on ? w->ids[ask->is_desc ? 0 : w->on - 1] : "",
		 more ? "true" : "false");
	buf_free(&sink.out);
	free(w);
	return 0;
}
