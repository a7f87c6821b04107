/* Every command of hob, one function each; main.c holds the table of names.
 *
 * argv[0] is the command's own name ("run"), argv[argc] is NULL.  The value is the exit status
 * of the process, one of enum cli_exit.  Each answers --help itself and prints its own errors
 * ("hob run: ...") on standard error. */
#ifndef HOB_COMMANDS_H
#define HOB_COMMANDS_H

/* Exit statuses scripts may rely on; hob(1) lists them. */
enum cli_exit {
	CLI_OK = 0,
	CLI_FAIL = 1,
	CLI_USAGE = 2,      /* wrong options or arguments */
	CLI_NO_MODEL = 3,   /* no such model */
	CLI_OTHER_RUNS = 3, /* hob serve: another instance has the socket or the port */
	CLI_NO_DAEMON = 4,  /* not running, and not to be started or not able to start */
	CLI_INTERRUPTED = 130, /* Ctrl-C stopped the answer: 128 + SIGINT */
};

int cmd_run(int argc, char **argv);       /* run.c: one prompt, one answer */
int cmd_chat(int argc, char **argv);      /* chat.c: a conversation on the terminal */
int cmd_ls(int argc, char **argv);        /* list.c: models */
int cmd_ps(int argc, char **argv);        /* cache_cmd.c: what is resident */
int cmd_why(int argc, char **argv);       /* why_cmd.c: what was decided */
int cmd_route(int argc, char **argv);     /* route_cmd.c: where a prompt would go */
int cmd_providers(int argc, char **argv); /* route_cmd.c: remote ones */
int cmd_load(int argc, char **argv);      /* cache_cmd.c: orders to the cache */
int cmd_unload(int argc, char **argv);
int cmd_pin(int argc, char **argv);
int cmd_unpin(int argc, char **argv);
int cmd_usage(int argc, char **argv);   /* usage_cmd.c: what was spent */
int cmd_cache(int argc, char **argv);   /* simulate_cmd.c: replays a trace */
int cmd_stop(int argc, char **argv);    /* list.c: ends the daemon */
int cmd_history(int argc, char **argv); /* history_cmd.c: conversations */
int cmd_search(int argc, char **argv);  /* search_cmd.c: what was said */
int cmd_forget(int argc, char **argv);  /* forget_cmd.c: deletes conversations */
int cmd_backup(int argc, char **argv);  /* backup_cmd.c: a copy of the database */
int cmd_note(int argc, char **argv);    /* note_cmd.c: what every model shall know */
int cmd_export(int argc, char **argv);  /* export_cmd.c: conversations to files */
int cmd_import(int argc, char **argv);  /* import_cmd.c: and back, from others too */

/* Not part of the client side; written elsewhere. */
int cmd_serve(int argc, char **argv);
int cmd_engine(int argc, char **argv);
int cmd_child(int argc, char **argv); /* hidden: `hob --child`, see net/child.h */
int cmd_pull(int argc, char **argv);

#endif
