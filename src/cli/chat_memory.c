/* Commands about the conversation itself.  Main thread.
 *
 * Nothing here rewrites a message: an edit or another answer is a branch, undo moves the end.  Without
 * the daemon's memory the same commands work on the chat's own list, where they do replace. */
#include "cli/chat.h"

#include <errno.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/render.h"

enum { COUNT_MAX = 10000, EDITED_MAX_BYTES = 1 << 20 };

extern char **environ;

static void refuse(struct chat *ch, const char *why)
{
	chat_complain(ch, "%s", why);
	chat_fail(ch, CLI_FAIL);
}

/* "" is 1; 0: complained. */
static int count_of(struct chat *ch, const char *arg)
{
	int64_t n = 1;

	if (!*arg || str_to_i64(str_of(arg), 1, COUNT_MAX, &n))
		return (int)n;
	chat_complain(ch, "'%s' is no number from 1 on", arg);
	chat_fail(ch, CLI_USAGE);
	return 0;
}

static int user_message(struct chat *ch, int n)
{
	int at;

	if (!n || !chat_sync(ch))
		return -1;
	at = chat_path_user(&ch->path, n);
	if (at < 0)
		refuse(ch, "there are not so many prompts in this conversation");
	return at;
}

void chat_do_regenerate(struct chat *ch, const char *arg)
{
	int at = user_message(ch, 1);
	char *text;

	if (at < 0)
		return;
	text = xstrdup(ch->path.list[at].text);
	chat_ask_again(ch, at, text, *arg ? arg : NULL);
	free(text);
}

/* The line editor with the text in it: true when a new one was given. */
static bool edit_here(struct chat *ch, const char *text, struct buf *out)
{
	struct err e;

	lines_prefill(ch->lines, text);
	return lines_read(ch->lines, "edit> ", out, &e) == LINES_LINE;
}

static int run_editor(const char *path)
{
	char *argv[] = {"sh", "-c",         "exec ${VISUAL:-${EDITOR:-vi}} \"$1\"",
			"sh", (char *)path, NULL};
	int status = 0;
	pid_t pid;

	if (posix_spawnp(&pid, "sh", NULL, NULL, argv, environ))
		return -1;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	return WIFEXITED(status) && !WEXITSTATUS(status) ? 0 : -1;
}

static bool read_back(const char *path, struct buf *out)
{
	FILE *f = fopen(path, "re");
	char bytes[4096];
	size_t n;

	if (!f)
		return false;
	while (out->len < EDITED_MAX_BYTES && (n = fread(bytes, 1, sizeof bytes, f)))
		buf_add(out, bytes, n);
	fclose(f);
	while (out->len && out->data[out->len - 1] == '\n')
		out->data[--out->len] = '\0';
	return out->len && !memchr(out->data, 0, out->len);
}

/* $VISUAL or $EDITOR on a file that only we can read; many write a new file in its place, so it is read
 * by name. */
static bool edit_outside(struct chat *ch, const char *text, struct buf *out)
{
	const char *dir = getenv("XDG_RUNTIME_DIR"), *base = dir && *dir ? dir : "/tmp";
	char *folder = xasprintf("%s/hob-edit-XXXXXX", base), *path;
	size_t n = strlen(text);
	bool ok = false;
	FILE *f;

	if (!mkdtemp(folder)) {
		refuse(ch, "no place for the editor's file");
		free(folder);
		return false;
	}
	path = xasprintf("%s/prompt.md", folder);
	f = fopen(path, "wxe");
	if (f && fwrite(text, 1, n, f) == n && !fclose(f)) {
		lines_give_back(ch->lines);
		ok = !run_editor(path) && read_back(path, out);
	}
	unlink(path);
	rmdir(folder);
	free(path);
	free(folder);
	return ok;
}

void chat_do_edit(struct chat *ch, const char *arg)
{
	bool outside = !strncmp(arg, "-e", 2) && strchr(" \t", arg[2]);
	struct buf fresh = {0};
	int at;

	if (!outside && !lines_editing(ch->lines)) {
		refuse(ch,
		       "/edit needs a terminal with a line editor; /edit -e opens $EDITOR");
		return;
	}
	if (outside)
		arg = str_trim(str_of(arg + 2)).ptr;
	at = user_message(ch, count_of(ch, arg));
	if (at < 0)
		return;
	if ((outside ? edit_outside : edit_here)(ch, ch->path.list[at].text, &fresh) &&
	    fresh.data[strspn(fresh.data, " \t\n")]) {
		lines_remember(ch->lines, fresh.data, !ch->is_private && !ch->incognito);
		chat_ask_again(ch, at, fresh.data, NULL);
	} else {
		chat_say(ch, "(unchanged)");
	}
	buf_free(&fresh);
}

void chat_do_undo(struct chat *ch, const char *arg)
{
	int at = user_message(ch, count_of(ch, arg));
	struct chat_path gone = {0};
	const char *to;

	if (at < 0)
		return;
	to = chat_path_parent(&ch->path, at);
	if (ch->conversation) {
		char *body = xasprintf("{\"to\":\"%s\"}", to ? to : "undo");
		cJSON *row = chat_call(ch, "POST", body, "/v1/hob/conversations/%s/head",
				       ch->conversation);

		free(body);
		if (!row)
			return;
		cJSON_Delete(row);
		ch->stale = !to;
	}
	chat_path_cut(&ch->path, at, &gone);
	chat_say(ch, "(taken back: %d messages)", gone.n);
	chat_path_clear(&gone);
}

static bool has_memory(struct chat *ch)
{
	if (ch->conversation)
		return true;
	refuse(ch, ch->path.n ? "the daemon keeps no conversation (memory is off)"
			      : "there is no conversation yet");
	return false;
}

/* PATCH with one member; value is JSON. */
static bool set_member(struct chat *ch, const char *key, const char *value)
{
	char *body = xasprintf("{\"%s\":%s}", key, value);
	cJSON *row = chat_call(ch, "PATCH", body, "/v1/hob/conversations/%s",
			       ch->conversation);

	free(body);
	cJSON_Delete(row);
	return row != NULL;
}

static bool set_title(struct chat *ch, const char *title)
{
	struct buf b = {0};
	bool ok;

	buf_add_json(&b, title, strlen(title));
	ok = set_member(ch, "title", b.data);
	buf_free(&b);
	return ok;
}

void chat_do_fork(struct chat *ch, const char *arg)
{
	const char *id = NULL;
	cJSON *row;

	if (!has_memory(ch))
		return;
	row = chat_call(ch, "POST", "{}", "/v1/hob/conversations/%s/fork",
			ch->conversation);
	if (!row)
		return;
	if (json_string(row, "id", &id, NULL) == 1 && chat_is_id(id)) {
		free(ch->conversation);
		ch->conversation = xstrdup(id);
		ch->stale = true;
		if (!*arg || set_title(ch, arg))
			chat_say(ch, "(in a copy now: %s)", *arg ? arg : id);
	}
	cJSON_Delete(row);
}

void chat_do_title(struct chat *ch, const char *arg)
{
	if (!*arg)
		refuse(ch, "/title TEXT");
	else if (has_memory(ch) && set_title(ch, arg))
		chat_say(ch, "(titled: %s)", arg);
}

void chat_do_pin(struct chat *ch, const char *arg)
{
	bool off = !strcmp(arg, "off");

	if (has_memory(ch) && set_member(ch, "pinned", off ? "false" : "true"))
		chat_say(ch, off ? "(may be forgotten by the limits)"
				 : "(kept whatever the limits)");
}

void chat_do_private(struct chat *ch, const char *arg)
{
	bool on = *arg ? !strcmp(arg, "on") : !ch->is_private;

	if (*arg && strcmp(arg, "on") && strcmp(arg, "off")) {
		refuse(ch, "/private on, or /private off");
		return;
	}
	if (ch->conversation && !set_member(ch, "private", on ? "true" : "false"))
		return;
	ch->is_private = on;
	chat_say(ch,
		 on ? "(private: only models on this machine)" : "(no longer private)");
}

void chat_do_system(struct chat *ch, const char *arg)
{
	const char *now = ch->system;

	if (*arg) {
		free(ch->system);
		ch->system = xstrdup(arg);
		chat_say(ch, "(from the next prompt on)");
		return;
	}
	if (!now && !chat_sync(ch))
		return;
	for (int i = ch->path.n - 1; i >= 0 && !now; i--)
		if (!strcmp(ch->path.list[i].role, "system"))
			now = ch->path.list[i].text;
	if (now) {
		char *text = render_text(now);

		printf("%s\n", text);
		free(text);
	} else {
		chat_say(ch, "(none%s%s)", ch->persona ? " but those of persona " : "",
			 ch->persona ? ch->persona : "");
	}
}

void chat_do_note(struct chat *ch, const char *arg)
{
	struct buf b = {0};
	cJSON *note;

	if (!*arg) {
		refuse(ch, "/note TEXT");
		return;
	}
	if (!has_memory(ch))
		return;
	buf_adds(&b, "{\"text\":");
	buf_add_json(&b, arg, strlen(arg));
	buf_addf(&b, ",\"conversation\":\"%s\"}", ch->conversation);
	note = chat_call(ch, "POST", b.data, "/v1/hob/notes");
	if (note)
		chat_say(ch, "(noted)");
	cJSON_Delete(note);
	buf_free(&b);
}

static bool is_sure(struct chat *ch)
{
	struct buf answer = {0};
	struct err e;
	bool yes;

	if (!lines_interactive(ch->lines))
		return true; /* a script says what it means */
	yes = lines_read(ch->lines, "Forget it for good? [y/N] ", &answer, &e) ==
		      LINES_LINE &&
	      (!strcmp(answer.data, "y") || !strcmp(answer.data, "yes"));
	buf_free(&answer);
	return yes;
}

void chat_do_forget(struct chat *ch, const char *arg)
{
	cJSON *gone;

	UNUSED(arg);
	if (!has_memory(ch))
		return;
	if (!is_sure(ch)) {
		chat_say(ch, "(kept)");
		return;
	}
	gone = chat_call(ch, "DELETE", NULL, "/v1/hob/conversations/%s",
			 ch->conversation);
	if (!gone)
		return;
	cJSON_Delete(gone);
	chat_new(ch);
	chat_say(ch, "(forgotten; a new conversation)");
}

static void print_message(const struct chat_message *m)
{
	bool colour = render_colour(STDOUT_FILENO);
	char *what = render_text(m->text);

	printf("%s%s:%s %s\n", colour ? "\033[1m" : "", m->role, colour ? "\033[0m" : "",
	       what);
	free(what);
}

void chat_do_history(struct chat *ch, const char *arg)
{
	UNUSED(arg);
	if (ch->conversation)
		ch->stale = true; /* somebody else may have gone on */
	if (!chat_sync(ch))
		return;
	for (int i = 0; i < ch->path.n; i++)
		print_message(&ch->path.list[i]);
	if (!ch->path.n)
		chat_say(ch, "(nothing yet)");
}
