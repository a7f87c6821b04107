/* A chat on the terminal: what the files of `hob chat` share.  Main thread.
 *
 * chat.c reads prompts, chat_turn.c asks, chat_commands.c holds the table of commands; chat_memory.c,
 * chat_find.c, chat_models.c, chat_files.c and chat_status.c carry them out, chat_complete.c answers Tab. */
#ifndef HOB_CHAT_H
#define HOB_CHAT_H

#include "cli/attach.h"
#include "cli/chat_path.h"
#include "cli/commands.h"
#include "cli/lines.h"

enum { CHAT_ID_MAX_BYTES = 63 };

/* What is known of the last answer; all owned, or NULL. */
struct chat_last {
	char *id, *model, *provider, *reason, *finish, *tier;
	int64_t prompt_tokens, completion_tokens, cached_tokens, ctx; /* -1: unknown */
	double prefill_ms, decode_ms, cost_usd;                       /* < 0: unknown */
	bool any;
};

struct chat {
	struct lines *lines;   /* owned */
	struct client *client; /* owned */
	char *model;           /* owned; NULL: the persona's, or the default one */
	char *persona;         /* owned; NULL: none */
	char *conversation;    /* owned; NULL: a new one, or the daemon keeps none */
	struct chat_path path;
	bool stale; /* the daemon may know more messages, or hashes, than path does */
	bool is_private, incognito;
	char *system;           /* owned: goes with the next prompt; or NULL */
	struct attach attached; /* goes with the next prompt */
	struct chat_last last;
	double spent_usd; /* since the program began */
	int answers;
	char *found[64]; /* owned: ids that /open N means */
	int nfound;
	const char *first_system; /* borrowed: of each new conversation, or NULL */
	double temperature;       /* < 0: not given */
	int64_t max_tokens;       /* 0: not given */
	bool no_start, quit;
	int status; /* the exit status: of the first failure, when lines come from a pipe */
	cJSON *models, *personas; /* owned: for Tab; NULL until asked for */
};

/* -- chat.c -- */

/* Notes for a person; a pipe gets answers only. */
void chat_say(const struct chat *ch, const char *fmt, ...) PRINTF(2, 3);
void chat_complain(const struct chat *ch, const char *fmt, ...) PRINTF(2, 3);
/* In a pipe the first failure is the program's; a person saw it and goes on. */
void chat_fail(struct chat *ch, int status);
/* The daemon may have been stopped since the last prompt: then start it again. */
int chat_connect(struct chat *ch, struct err *e);
void chat_new(struct chat *ch); /* the next prompt begins a conversation */
/* Goes on with this one: 0, or -1 and complained. */
int chat_open(struct chat *ch, const char *id);
/* Could this be the id of a conversation? */
bool chat_is_id(const char *id);

/* -- chat_call.c -- */

/* One call of the daemon's API: the parsed reply (cJSON_Delete), or NULL and complained.
 * body: JSON, or NULL. */
cJSON *chat_call(struct chat *ch, const char *method, const char *body,
		 const char *path_fmt, ...) PRINTF(4, 5);
/* The same without words: for Tab. */
cJSON *chat_peek(struct chat *ch, const char *path);
/* The reply's text as it is; owned, or NULL and complained. */
char *chat_download(struct chat *ch, const char *path);
/* True when path holds what the daemon has; false and complained. */
bool chat_sync(struct chat *ch);
const cJSON *chat_array(const cJSON *tree, const char *key); /* or NULL */
const char *chat_string(const cJSON *obj, const char *key, const char *otherwise);

/* -- chat_turn.c -- */

/* One prompt (with what is attached) and its answer on the screen. */
void chat_ask(struct chat *ch, struct str prompt);
/* Message `at` of the path again, with this text, in place of itself and all that follows; model: for
 * this answer, NULL: as ever. */
void chat_ask_again(struct chat *ch, int at, const char *text, const char *model);

/* -- chat_status.c -- */
void chat_status_take(struct chat *ch, struct ask_answer *a);
void chat_status_clear(struct chat *ch);
void chat_do_stats(struct chat *ch, const char *arg);
void chat_do_why(struct chat *ch, const char *arg);
void chat_do_cost(struct chat *ch, const char *arg);

/* -- chat_commands.c -- */

/* "/etc/passwd holds what?" is no command: a command is a slash and letters only. */
bool chat_is_command(const char *typed);
void chat_command(struct chat *ch, const char *text);
const char *chat_command_name(int i); /* NULL after the last */

/* -- chat_models.c -- */
void chat_warm(struct chat *ch);
void chat_do_model(struct chat *ch, const char *arg);
void chat_do_persona(struct chat *ch, const char *arg);

/* -- chat_memory.c -- */
void chat_do_regenerate(struct chat *ch, const char *arg);
void chat_do_edit(struct chat *ch, const char *arg);
void chat_do_undo(struct chat *ch, const char *arg);
void chat_do_fork(struct chat *ch, const char *arg);
void chat_do_title(struct chat *ch, const char *arg);
void chat_do_pin(struct chat *ch, const char *arg);
void chat_do_private(struct chat *ch, const char *arg);
void chat_do_system(struct chat *ch, const char *arg);
void chat_do_note(struct chat *ch, const char *arg);
void chat_do_forget(struct chat *ch, const char *arg);
void chat_do_history(struct chat *ch, const char *arg);

/* -- chat_find.c -- */
void chat_do_search(struct chat *ch, const char *arg);
void chat_do_list(struct chat *ch, const char *arg);
void chat_do_open(struct chat *ch, const char *arg);
void chat_found_clear(struct chat *ch);

/* -- chat_files.c -- */
void chat_do_file(struct chat *ch, const char *arg);
void chat_do_save(struct chat *ch, const char *arg);

/* -- chat_complete.c: a lines_complete_fn -- */
void chat_complete(void *chat, const char *before, struct lines_words *w);

#endif
