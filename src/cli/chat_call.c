/* The daemon's API as the chat's commands use it.  Main thread.
 *
 * A reader may ask why each call may start the daemon: it may have been stopped while somebody thought,
 * and a command is no worse a reason to start it than a prompt. */
#include "cli/chat.h"

#include "cli/models_list.h"

static int call(struct chat *ch, const char *method, const char *path, const char *body,
		struct client_reply *reply, struct err *e)
{
	struct client_request r = {.method = method,
				   .path = path,
				   .body = str_of(body),
				   .client = "hob chat",
				   .total_timeout_ms = CLIENT_CALL_TIMEOUT_MS};

	*reply = (struct client_reply){0};
	if (chat_connect(ch, e) || client_do(ch->client, &r, reply, e))
		return -1;
	return reply->status == 200 || reply->status == 201 ? 0 : client_error(reply, e);
}

cJSON *chat_call(struct chat *ch, const char *method, const char *body,
		 const char *path_fmt, ...)
{
	struct client_reply reply;
	struct buf path = {0};
	struct err e;
	cJSON *tree = NULL;
	va_list ap;

	va_start(ap, path_fmt);
	buf_vaddf(&path, path_fmt, ap);
	va_end(ap);
	if (!call(ch, method, path.data, body, &reply, &e))
		tree = json_parse(buf_str(&reply.body), &e);
	if (!tree) {
		chat_complain(ch, "%s", e.text);
		chat_fail(ch, ask_exit_status(&e));
	}
	client_reply_fini(&reply);
	buf_free(&path);
	return tree;
}

cJSON *chat_peek(struct chat *ch, const char *path)
{
	struct err e;

	return ch->client ? models_list_get(ch->client, path, &e) : NULL;
}

char *chat_download(struct chat *ch, const char *path)
{
	struct client_reply reply;
	struct err e;
	char *text = NULL;

	if (call(ch, "GET", path, NULL, &reply, &e)) {
		chat_complain(ch, "%s", e.text);
		chat_fail(ch, ask_exit_status(&e));
	} else {
		buf_adds(&reply.body, "");
		text = buf_take(&reply.body, NULL);
	}
	client_reply_fini(&reply);
	return text;
}

bool chat_sync(struct chat *ch)
{
	cJSON *tree;

	if (!ch->conversation || !ch->stale)
		return true;
	tree = chat_call(ch, "GET", NULL, "/v1/hob/conversations/%s", ch->conversation);
	if (!tree)
		return false;
	chat_path_read(&ch->path, chat_array(tree, "messages"));
	ch->stale = false;
	cJSON_Delete(tree);
	return true;
}

const cJSON *chat_array(const cJSON *tree, const char *key)
{
	const cJSON *a = NULL;

	json_array(tree, key, &a, NULL);
	return a;
}

const char *chat_string(const cJSON *obj, const char *key, const char *otherwise)
{
	const char *s = otherwise;

	json_string(obj, key, &s, NULL);
	return s;
}
