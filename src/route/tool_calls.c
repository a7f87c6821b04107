/* The tool calls of one answer.
 *
 * Any thread, no state but its own.  A later turn must send them back as they were, or providers
 * refuse the tool's result: names and arguments are kept as text and never interpreted. */
#include "route/tool_calls.h"

#include "base/json.h"

struct tool_call {
	char *id, *name; /* owned, or NULL */
	struct buf arguments;
};

struct tool_calls {
	struct tool_call call[TOOL_CALLS_MAX];
	int n;
	size_t bytes;
};

struct tool_calls *tool_calls_new(void)
{
	return xcalloc(1, sizeof(struct tool_calls));
}

void tool_calls_free(struct tool_calls *t)
{
	for (int i = 0; t && i < t->n; i++) {
		free(t->call[i].id);
		free(t->call[i].name);
		buf_free(&t->call[i].arguments);
	}
	free(t);
}

static void replace(char **to, const char *s)
{
	if (!s)
		return;
	free(*to);
	*to = xstrdup(s);
}

static int add(struct tool_calls *t, const cJSON *d, struct err *e)
{
	const char *id = NULL, *name = NULL, *arguments = NULL;
	const cJSON *function = NULL;
	struct tool_call *c;
	int64_t index = 0;

	if (json_int(d, "index", 0, TOOL_CALLS_MAX - 1, &index, e) < 0 ||
	    json_string(d, "id", &id, e) < 0 ||
	    json_object(d, "function", &function, e) < 0)
		return -1;
	if (function && (json_string(function, "name", &name, e) < 0 ||
			 json_string(function, "arguments", &arguments, e) < 0))
		return -1;
	if (index >= t->n)
		t->n = (int)index + 1;
	c = &t->call[index];
	replace(&c->id, id);
	replace(&c->name, name);
	if (arguments)
		buf_adds(&c->arguments, arguments);
	return 0;
}

int tool_calls_add(struct tool_calls *t, struct str delta, struct err *e)
{
	cJSON *d;
	int rc;

	if (delta.len > TOOL_CALLS_MAX_BYTES - t->bytes)
		return err_set(e, ERR_TOO_LARGE, "tool calls grew over %d MiB",
			       TOOL_CALLS_MAX_BYTES >> 20);
	d = json_read(delta, 0, e);
	if (!d)
		return err_wrap(e, "tool call from the model");
	t->bytes += delta.len;
	rc = add(t, d, e);
	cJSON_Delete(d);
	return rc;
}

void tool_calls_message(const struct tool_calls *t, struct str text, struct buf *out)
{
	buf_adds(out, "{\"role\":\"assistant\",\"content\":");
	if (text.len)
		buf_add_json(out, text.ptr, text.len);
	else
		buf_adds(out, "null");
	buf_adds(out, ",\"tool_calls\":[");
	for (int i = 0; i < t->n; i++) {
		const struct tool_call *c = &t->call[i];

		buf_adds(out, i ? ",{\"id\":" : "{\"id\":");
		buf_add_json_or_null(out, c->id ? c->id : "");
		buf_adds(out, ",\"type\":\"function\",\"function\":{\"name\":");
		buf_add_json_or_null(out, c->name ? c->name : "");
		buf_adds(out, ",\"arguments\":");
		buf_add_json(out, c->arguments.data ? c->arguments.data : "",
			     c->arguments.len);
		buf_adds(out, "}}");
	}
	buf_adds(out, "]}");
}
