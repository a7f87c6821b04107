/* One prompt and its answer.  Main thread.
 *
 * With the daemon's memory only what is new is sent, behind the newest message or, for an answer that
 * takes the place of another, behind the message before it; without, all messages are.  A reader may ask
 * why the path is cut before the daemon agreed: what is asked must not contain what it replaces; when
 * the answer fails it is joined again. */
#include "cli/chat.h"

#include <unistd.h>

#include "cli/interrupt.h"
#include "cli/render.h"

struct turn {
	int first;          /* of the messages that are new, in the path */
	const char *parent; /* borrowed, or NULL: behind the newest */
	const char *model;  /* borrowed, or NULL */
};

static void take_conversation(struct chat *ch, const struct ask_answer *a)
{
	if (!a->conversation || !*a->conversation || !strcmp(a->conversation, "new") ||
	    !strcmp(a->conversation, "incognito"))
		return;
	free(ch->conversation);
	ch->conversation = xstrdup(a->conversation);
}

/* A talk that begins private stays so, whoever goes on with it. */
static void mark_private(struct chat *ch)
{
	cJSON_Delete(chat_call(ch, "PATCH", "{\"private\":true}",
			       "/v1/hob/conversations/%s", ch->conversation));
}

static void set_hash(struct chat_message *m, const char *hash)
{
	free(m->hash);
	m->hash = hash ? xstrdup(hash) : NULL;
}

static void answered(struct chat *ch, struct ask_answer *a)
{
	set_hash(&ch->path.list[ch->path.n - 1], a->prompt);
	chat_path_add(&ch->path, "assistant", buf_str(&a->text), NULL, a->message);
	for (int i = 0; ch->conversation && i < ch->path.n; i++)
		if (!ch->path.list[i].hash) /* the daemon names the last message only */
			ch->stale = true;
	chat_status_take(ch, a);
}

/* Stopped by Ctrl-C: what came is part of the conversation, as the daemon keeps it. */
static bool keep_partial(struct chat *ch, const struct ask_answer *a, const struct err *e)
{
	ch->stale = true;
	if (e->code != ERR_CANCELLED || !interrupt_pending() || !a->text.len)
		return false;
	chat_path_add(&ch->path, "assistant", buf_str(&a->text), NULL, NULL);
	return true;
}

static void say_why(struct chat *ch, const struct err *e)
{
	if (e->code == ERR_CANCELLED && interrupt_pending()) {
		chat_say(ch, "(stopped)");
		if (lines_interactive(ch->lines))
			interrupt_clear();
		else
			ch->quit = true;
	} else {
		chat_complain(ch, "%s", e->text);
	}
	chat_fail(ch, ask_exit_status(e));
}

static struct ask_message *messages_from(const struct chat_path *p, int first)
{
	struct ask_message *m = xcalloc((size_t)(p->n - first) + 1, sizeof *m);

	for (int i = first; i < p->n; i++)
		m[i - first] = (struct ask_message){p->list[i].role, p->list[i].text,
						    p->list[i].content};
	return m;
}

/* True when the new messages stay in the path. */
static bool run_turn(struct chat *ch, const struct turn *t)
{
	int first = ch->conversation ? t->first : 0;
	struct ask_message *messages = messages_from(&ch->path, first);
	struct ask a = {.model = t->model ? t->model : ch->model,
			.conversation = ch->conversation ? ch->conversation
					: ch->incognito  ? "incognito"
							 : "new",
			.parent = ch->conversation ? t->parent : NULL,
			.persona = ch->persona,
			.client = "hob chat",
			.is_private = ch->is_private,
			.messages = messages,
			.nmessages = ch->path.n - first,
			.temperature = ch->temperature,
			.max_tokens = ch->max_tokens,
			.seed = -1};
	struct render_answer view;
	struct ask_answer answer = {0};
	struct err e;
	bool kept = true, was_new = !ch->conversation;
	int rc;

	render_answer_init(&view, stdout, isatty(STDOUT_FILENO));
	rc = ask(ch->client, &a, render_answer_text, &view, &answer, &e);
	render_answer_end(&view);
	take_conversation(ch, &answer);
	if (!rc) {
		answered(ch, &answer);
	} else {
		kept = keep_partial(ch, &answer, &e);
		say_why(ch, &e);
	}
	if (was_new && ch->conversation && ch->is_private && !ch->incognito)
		mark_private(ch);
	ask_answer_fini(&answer);
	free(messages);
	return kept;
}

static bool can_ask(struct chat *ch)
{
	struct err e;

	if (!chat_connect(ch, &e))
		return true;
	chat_complain(ch, "%s", e.text);
	interrupt_clear();
	chat_fail(ch, CLI_NO_DAEMON);
	return false;
}

void chat_ask(struct chat *ch, struct str prompt)
{
	struct turn t = {.first = ch->path.n};
	struct chat_path dropped = {0};
	struct buf text = {0};
	char *content;

	if (!can_ask(ch))
		return;
	attach_text(&ch->attached, prompt, &text);
	content = attach_content(&ch->attached, text.data);
	if (ch->system)
		chat_path_add(&ch->path, "system", str_of(ch->system), NULL, NULL);
	chat_path_add(&ch->path, "user", buf_str(&text), content, NULL);
	if (run_turn(ch, &t)) {
		attach_clear(&ch->attached);
		free(ch->system);
		ch->system = NULL;
	} else { /* what was not answered is not asked again */
		chat_path_cut(&ch->path, t.first, &dropped);
		chat_path_clear(&dropped);
	}
	free(content);
	buf_free(&text);
}

/* The parts of a message with its text replaced: images stay. */
static char *content_with(const char *content, const char *text)
{
	cJSON *parts = content ? json_parse(str_of(content), NULL) : NULL, *fresh, *part;
	struct buf b = {0};

	if (!cJSON_IsArray(parts)) {
		cJSON_Delete(parts);
		return NULL;
	}
	fresh = cJSON_CreateObject();
	cJSON_AddStringToObject(fresh, "type", "text");
	cJSON_AddStringToObject(fresh, "text", text);
	for (part = parts->child; part;) {
		cJSON *next = part->next;

		if (!strcmp(chat_string(part, "type", ""), "text"))
			cJSON_Delete(cJSON_DetachItemViaPointer(parts, part));
		part = next;
	}
	cJSON_InsertItemInArray(parts, 0, fresh);
	json_print(&b, parts);
	cJSON_Delete(parts);
	return buf_take(&b, NULL);
}

void chat_ask_again(struct chat *ch, int at, const char *text, const char *model)
{
	struct turn t = {.first = at, .model = model};
	struct chat_path tail = {0}, failed = {0};
	char *parent = NULL, *content;

	if (!can_ask(ch))
		return;
	if (ch->conversation && !chat_path_parent(&ch->path, at)) {
		chat_complain(
			ch,
			"the daemon does not say which message comes before that one");
		chat_fail(ch, CLI_FAIL);
		return;
	}
	if (ch->conversation)
		t.parent = parent = xstrdup(chat_path_parent(&ch->path, at));
	chat_path_cut(&ch->path, at, &tail);
	content = strcmp(tail.list[0].text, text)
			  ? content_with(tail.list[0].content, text)
		  : tail.list[0].content ? xstrdup(tail.list[0].content)
					 : NULL;
	chat_path_add(&ch->path, "user", str_of(text), content, NULL);
	if (run_turn(ch, &t)) {
		chat_path_clear(&tail);
	} else {
		chat_path_cut(&ch->path, at, &failed);
		chat_path_clear(&failed);
		chat_path_join(&ch->path, &tail);
	}
	free(content);
	free(parent);
}
