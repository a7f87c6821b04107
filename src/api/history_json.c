/* Rows, messages and turns as JSON.  Pure; a message's raw_json and a row's metadata are JSON already,
 * checked when they were kept. */
#include "api/history_json.h"
#include "memory/move_json.h"

static const char *or_null(const char *text)
{
	return text && *text ? text : NULL;
}

static void add_time(struct buf *out, const char *key, int64_t ms)
{
	buf_addf(out, ",\"%s\":%lld", key, (long long)ms);
}

void history_json_bool(struct buf *out, const char *key, bool value)
{
	bool first = out->len && out->data[out->len - 1] == '{';

	buf_addf(out, "%s\"%s\":%s", first ? "" : ",", key, value ? "true" : "false");
}

void history_json_row(struct buf *out, const struct store_conversation *c)
{
	buf_addc(out, '{');
	buf_add_json_text(out, "id", c->id);
	buf_add_json_text(out, "title", c->title);
	buf_add_json_text(out, "model", c->model);
	add_time(out, "created_ms", c->created_ms);
	add_time(out, "updated_ms", c->updated_ms);
	buf_addf(out, ",\"message_count\":%d", c->messages);
	buf_add_json_text(out, "status", c->status);
	buf_add_json_text(out, "partial", c->partial);
	buf_add_json_text(out, "head", or_null(c->head));
	buf_add_json_text(out, "forked_from", or_null(c->forked_from));
	history_json_bool(out, "pinned", c->pinned);
	history_json_bool(out, "private", c->is_private);
	history_json_bool(out, "incognito", store_is_incognito(c->id));
	buf_addf(out, ",\"metadata\":%s", or_null(c->metadata) ? c->metadata : "{}");
}

void history_json_message(struct buf *out, const struct store_message *m)
{
	buf_addc(out, '{');
	buf_add_json_text(out, "hash", m->hash);
	buf_add_json_text(out, "role", role_name(m->role));
	buf_add_json_text(out, "content", m->text);
	if (m->reasoning)
		buf_add_json_text(out, "reasoning", m->reasoning);
	if (m->raw_json)
		buf_addf(out, ",\"message\":%s", m->raw_json);
	add_time(out, "created_ms", m->created_ms);
	buf_addc(out, '}');
}

void history_json_turn(struct buf *out, const struct store_turn *t)
{
	buf_addc(out, '{');
	move_write_row(out, t);
	buf_addc(out, '}');
}
