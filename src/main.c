/* hob: one binary, many commands.  This file finds the command; each lives in src/cli. */
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "base/base.h"
#include "base/nearest.h"
#include "cli/commands.h"

static const struct {
	const char *name;
	int (*main)(int argc, char **argv);
	const char *summary;
} commands[] = {
	{"chat", cmd_chat, "talk with a model on this terminal"},
	{"run", cmd_run, "one prompt, one answer; reads standard input too"},
	{"ls", cmd_ls, "models there are"},
	{"ps", cmd_ps, "models that are warm"},
	{"load", cmd_load, "bring a model into memory"},
	{"unload", cmd_unload, "free a model's memory"},
	{"pin", cmd_pin, "keep a model from being evicted"},
	{"unpin", cmd_unpin, "let it be evicted again"},
	{"why", cmd_why, "explain answers, loads, evictions and refusals"},
	{"route", cmd_route, "where a prompt would go, without sending it"},
	{"providers", cmd_providers, "remote providers and how they do"},
	{"usage", cmd_usage, "what remote models cost, and the caps"},
	{"cache", cmd_cache, "replay recorded requests under other settings"},
	{"pull", cmd_pull, "download a model"},
	{"history", cmd_history, "conversations there were"},
	{"search", cmd_search, "look for words in conversations"},
	{"note", cmd_note, "what every model shall know"},
	{"forget", cmd_forget, "delete conversations for good"},
	{"backup", cmd_backup, "copy the conversations to a file"},
	{"export", cmd_export, "conversations to files"},
	{"import", cmd_import,
	 "conversations from files: hob's, ChatGPT's, llm's, OpenAI's"},
	{"serve", cmd_serve, "the daemon; other commands start it when needed"},
	{"stop", cmd_stop, "end the daemon"},
	{"engine", cmd_engine, "the worker that computes; started by the daemon"},
};

static int help(FILE *out, int status)
{
	fputs("Usage: hob COMMAND [OPTION]...\n\nCommands:\n", out);
	for (size_t i = 0; i < ARRAY_LEN(commands); i++)
		fprintf(out, "  %-9s %s\n", commands[i].name, commands[i].summary);
	fputs("\n'hob COMMAND --help' says more.  Manual: hob(1), hob.conf(5).\n", out);
	return status;
}

/* Started without one of the three streams (`<&-`), the first socket would take its number: commands would
 * read their prompt from it, or write messages into a database. What stands there instead reads as empty
 * and refuses to be written. */
static void hold_standard_streams(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDONLY) < 0)
			return;
}

int main(int argc, char **argv)
{
	struct nearest near = {0};

	hold_standard_streams();
	signal(SIGPIPE,
	       SIG_IGN); /* a peer that went away is an error of that write, no more */
	signal(SIGXFSZ, SIG_IGN); /* so is a file at its size limit */
	if (argc < 2)
		return help(stderr, CLI_USAGE);
	if (!strcmp(argv[1], "--version")) {
		puts("hob " PACKAGE_VERSION);
		return CLI_OK;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "help"))
		return help(stdout, CLI_OK);
	if (!strcmp(argv[1], "--child"))
		return cmd_child(argc - 1, argv + 1);
	near.word = argv[1];
	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		if (!strcmp(argv[1], commands[i].name))
			return commands[i].main(argc - 1, argv + 1);
		nearest_offer(&near, commands[i].name);
	}
	fprintf(stderr, "hob: no command '%s'%s%s%s; see 'hob --help'\n", argv[1],
		near.best ? "; did you mean '" : "", near.best ? near.best : "",
		near.best ? "'?" : "");
	return CLI_USAGE;
}
