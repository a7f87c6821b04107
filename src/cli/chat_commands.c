/* The table of commands, and those too small for a file of their own.  Main thread.
 *
 * A reader may ask why an unknown command is not sent as a prompt: "/regnerate" would cost an answer that
 * nobody wanted; a space before the slash sends it. */
#include "base/nearest.h"
#include "cli/chat.h"

#include <unistd.h>

#include "cli/render.h"

static void do_new(struct chat *ch, const char *arg)
{
	UNUSED(arg);
	chat_new(ch);
	chat_say(ch, "(a new conversation)");
}

static void do_quit(struct chat *ch, const char *arg)
{
	UNUSED(arg);
	ch->quit = true;
}

/* What a line of /help takes; where there are fewer columns it becomes two. */
enum { HELP_COLUMNS = 70 };

static void do_help(struct chat *ch, const char *arg);

static const struct {
	const char *name, *arg, *help;
	void (*run)(struct chat *ch, const char *arg);
} commands[] = {
	{"/model", "[NAME]", "switch to another model; list them", chat_do_model},
	{"/persona", "[NAME]", "take on a persona; list them", chat_do_persona},
	{"/system", "[TEXT]", "instructions from here on; show them", chat_do_system},
	{"/file", "PATH...", "texts and images for the next prompt", chat_do_file},
	{"/regenerate", "[MODEL]", "another answer to the last prompt",
	 chat_do_regenerate},
	{"/edit", "[-e] [N]", "change the last prompt (or the N-th last)", chat_do_edit},
	{"/undo", "[N]", "take back the last exchange (or N)", chat_do_undo},
	{"/fork", "[TITLE]", "go on in a copy", chat_do_fork},
	{"/new", "", "begin a new conversation", do_new},
	{"/list", "", "conversations", chat_do_list},
	{"/search", "WORDS", "find in all conversations", chat_do_search},
	{"/open", "N|ID", "go on with a conversation", chat_do_open},
	{"/history", "", "show this conversation", chat_do_history},
	{"/title", "TEXT", "name this conversation", chat_do_title},
	{"/pin", "[off]", "keep it whatever the limits", chat_do_pin},
	{"/private", "[on|off]", "only models on this machine", chat_do_private},
	{"/note", "TEXT", "remember for this conversation", chat_do_note},
	{"/save", "FILE", "write it as Markdown", chat_do_save},
	{"/forget", "", "delete it for good", chat_do_forget},
	{"/cost", "", "what it cost, by model", chat_do_cost},
	{"/why", "", "why that model answered", chat_do_why},
	{"/stats", "", "figures of the last answer", chat_do_stats},
	{"/help", "", "show this", do_help},
	{"/quit", "", "leave (or Ctrl-D)", do_quit},
};

static void do_help(struct chat *ch, const char *arg)
{
	bool narrow = render_columns(STDOUT_FILENO, HELP_COLUMNS) < HELP_COLUMNS;

	UNUSED(ch);
	UNUSED(arg);
	for (size_t i = 0; i < ARRAY_LEN(commands); i++)
		if (narrow)
			printf("%s%s%s\n  %s\n", commands[i].name,
			       *commands[i].arg ? " " : "", commands[i].arg,
			       commands[i].help);
		else
			printf("%-11s %-8s %s\n", commands[i].name, commands[i].arg,
			       commands[i].help);
	printf("Alt-Enter, Ctrl-J or%sa backslash before Enter:%sanother line.\n"
	       "Ctrl-C stops the answer.%sA space before the slash%ssends it as text.\n",
	       narrow ? "\n" : " ", narrow ? "\n" : " ", narrow ? "\n" : "  ",
	       narrow ? "\n" : " ");
}

const char *chat_command_name(int i)
{
	return i >= 0 && (size_t)i < ARRAY_LEN(commands) ? commands[i].name : NULL;
}

bool chat_is_command(const char *text)
{
	size_t n = *text == '/' ? strspn(text + 1, "abcdefghijklmnopqrstuvwxyz") : 0;

	return n && strchr(" \t", text[n + 1]);
}

void chat_command(struct chat *ch, const char *text)
{
	char *word = xstrndup(text, strcspn(text, " \t"));
	char *arg = str_dup(str_trim(str_of(text + strlen(word))));
	struct nearest near = {.word = word};
	bool known = false;

	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		nearest_offer(&near, commands[i].name);
		if (!known && !strcmp(word, commands[i].name)) {
			known = true;
			commands[i].run(ch, arg);
		}
	}
	if (!known) {
		chat_complain(ch, "no command %s%s%s; /help lists them", word,
			      near.best ? "; did you mean " : "",
			      near.best ? near.best : "");
		chat_fail(ch, CLI_USAGE);
	}
	fflush(stdout);
	free(word);
	free(arg);
}
