/* Who answers: /model and /persona.  Main thread. */
#include "base/nearest.h"
#include "cli/chat.h"
#include "cli/models_list.h"
#include "cli/render.h"

enum { REMOTE_SHOWN = 20 };

/* The model loads while the question is still being typed.  A nicety: what goes wrong is said when it is
 * asked. */
void chat_warm(struct chat *ch)
{
	struct client_request r = {.method = "POST",
				   .path = "/v1/hob/cache/load",
				   .client = "hob chat",
				   .total_timeout_ms = CLIENT_CALL_TIMEOUT_MS};
	const char *name = ch->model ? ch->model : "default";
	struct client_reply reply = {0};
	struct buf body = {0};
	struct err e;

	if (ch->persona && !ch->model)
		return; /* the daemon knows its model, we do not */
	buf_adds(&body, "{\"wait\":false,\"model\":");
	buf_add_json(&body, name, strlen(name));
	buf_addc(&body, '}');
	r.body = buf_str(&body);
	client_do(ch->client, &r, &reply, &e);
	client_reply_fini(&reply);
	buf_free(&body);
}

static cJSON *fetch_models(struct chat *ch)
{
	struct err e;
	cJSON *list = NULL;

	if (!chat_connect(ch, &e))
		list = models_list(ch->client, &e);
	if (!list)
		chat_complain(ch, "%s", e.text);
	return list;
}

static bool has_name(const cJSON *row, const char *name)
{
	const cJSON *n;

	if (!strcmp(chat_string(row, "name", ""), name))
		return true;
	cJSON_ArrayForEach(n, chat_array(row, "names"))
	{
		if (cJSON_IsString(n) && !strcmp(n->valuestring, name))
			return true;
	}
	return false;
}

/* Where a local model is now, by the cache's rows. */
static const char *tier_of(const cJSON *cache, const char *name)
{
	const cJSON *row;

	cJSON_ArrayForEach(row, chat_array(cache, "models"))
	{
		if (has_name(row, name))
			return chat_string(row, "tier", "disk");
	}
	return "disk";
}

static void show_model(const struct chat *ch, const cJSON *list, int i, const char *where)
{
	bool current = ch->model && !strcmp(ch->model, models_list_name(list, i));
	char *name = render_line(models_list_name(list, i));

	printf("%c %s  (%s)\n", current ? '*' : ' ', name, where);
	free(name);
}

static void show_models(struct chat *ch, const cJSON *list, const char *part)
{
	cJSON *cache = chat_peek(ch, "/v1/hob/cache");
	int remote = 0, shown = 0;

	for (int i = 0; i < models_list_count(list); i++) {
		const char *name = models_list_name(list, i),
			   *owner = models_list_owner(list, i);
		bool is_remote = !strcmp(owner, "remote");

		if (part && !strstr(name, part))
			continue;
		remote += is_remote;
		if (is_remote && remote > REMOTE_SHOWN)
			continue;
		shown++;
		show_model(ch, list, i,
			   strcmp(owner, "local") ? owner : tier_of(cache, name));
	}
	if (remote > REMOTE_SHOWN)
		printf("and %d more remote ones: /model PART-OF-A-NAME\n",
		       remote - REMOTE_SHOWN);
	if (!models_list_count(list))
		printf("No models yet.  In a shell: hob pull smollm2:135m\n");
	else if (!shown)
		printf("(none)\n");
	cJSON_Delete(cache);
}

static const char *nearest_model(const cJSON *list, const char *name)
{
	struct nearest near = {.word = name};

	for (int i = 0; i < models_list_count(list); i++)
		nearest_offer(&near, models_list_name(list, i));
	return near.best;
}

static bool any_with(const cJSON *list, const char *part)
{
	for (int i = 0; i < models_list_count(list); i++)
		if (strstr(models_list_name(list, i), part))
			return true;
	return false;
}

static void no_such_model(struct chat *ch, const cJSON *list, const char *name)
{
	const char *near = nearest_model(list, name);

	chat_complain(ch, "no model '%s'%s%s%s; /model lists them", name,
		      near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
	if (!near && any_with(list, name))
		show_models(ch, list, name);
	chat_fail(ch, CLI_NO_MODEL);
}

void chat_do_model(struct chat *ch, const char *name)
{
	cJSON *list = fetch_models(ch);

	if (!list)
		return;
	if (!*name) {
		show_models(ch, list, NULL);
	} else if (models_list_has(list, name) || strchr(name, '/')) {
		free(ch->model); /* with a slash: a remote one, which need not be in the list */
		ch->model = xstrdup(name);
		chat_warm(ch);
		chat_say(ch, "(now: %s)", name);
	} else {
		no_such_model(ch, list, name);
	}
	cJSON_Delete(list);
}

static void show_personas(const struct chat *ch, const cJSON *tree)
{
	const cJSON *p;

	cJSON_ArrayForEach(p, chat_array(tree, "personas"))
	{
		char *name = render_line(chat_string(p, "name", "?"));
		char *about = render_line(chat_string(p, "description", ""));
		char *model = render_line(chat_string(p, "model", ""));

		printf("%c %s%s%s%s%s%s\n",
		       ch->persona && !strcmp(ch->persona, name) ? '*' : ' ', name,
		       *model ? "  (" : "", model, *model ? ")" : "", *about ? "  " : "",
		       about);
		free(name);
		free(about);
		free(model);
	}
	if (!cJSON_GetArraySize(chat_array(tree, "personas")))
		printf("No personas: hob.conf(5) says how to make one.\n");
}

static bool knows_persona(struct chat *ch, const cJSON *tree, const char *name)
{
	struct nearest near = {.word = name};
	const cJSON *p;

	cJSON_ArrayForEach(p, chat_array(tree, "personas"))
	{
		nearest_offer(&near, chat_string(p, "name", ""));
		if (!strcmp(chat_string(p, "name", ""), name))
			return true;
	}
	chat_complain(ch, "no persona '%s'%s%s%s; /persona lists them", name,
		      near.best ? "; did you mean '" : "", near.best ? near.best : "",
		      near.best ? "'?" : "");
	chat_fail(ch, CLI_FAIL);
	return false;
}

void chat_do_persona(struct chat *ch, const char *name)
{
	cJSON *tree;

	if (!strcmp(name, "none")) {
		free(ch->persona);
		ch->persona = NULL;
		chat_say(ch, "(no persona)");
		return;
	}
	tree = chat_call(ch, "GET", NULL, "/v1/hob/personas");
	if (!tree)
		return;
	if (!*name) {
		show_personas(ch, tree);
	} else if (knows_persona(ch, tree, name)) {
		free(ch->persona);
		ch->persona = xstrdup(name);
		chat_say(ch, "(now: %s)", name);
	}
	cJSON_Delete(tree);
}
