/* Conversations in SQLite: messages are immutable nodes, a conversation is a movable head.
 *
 * The store thread owns the only connection; the loop thread sends it jobs and gets each answer
 * by callback on the loop thread, in a later turn of the loop, exactly once.  Writes that wait
 * together commit together.  A callback after which nothing was lost comes only after COMMIT.
 * All calls here are for the loop thread.  Strings passed in are copied; strings in results are
 * borrowed until the callback returns.
 * When the queue is full or the database is unusable the callback gets an error; the caller goes
 * on without memory.
 *
 * Where the head stands:
 *   turn begun            on its last new message, the prompt
 *   done, any text        on the reply
 *   cancelled with text   on the reply: people expect to see what they saw
 *   cancelled without     where it stood before the turn, so that a retry repeats nothing
 *   error, any text       the same; the text stays in the turn's row
 *   found running at open status becomes "interrupted"; as cancelled, with the last partial text
 * A head that another turn has moved on meanwhile stays: the reply is then a branch.
 *
 * System messages: one equal to a system message that the path already has is not appended
 * again, since clients send theirs with every request; store_repeats_system() is the same rule
 * for the caller who joins path and new messages for the model.  A different one is appended.
 *
 * A title is the first line of the first user message, cut to 60 characters.
 *
 * Codes: ERR_BUSY the queue is full (or a foreign shell holds the lock) · ERR_CANCELLED asked
 * after store_close · ERR_NOT_FOUND · ERR_INVALID · ERR_CONFLICT the turn has ended before ·
 * ERR_TOO_LARGE · ERR_UNSUPPORTED read-only, by a newer hob · ERR_DISK_FULL · ERR_CORRUPT ·
 * ERR_IO. */
#ifndef HOB_STORE_H
#define HOB_STORE_H

#include <uv.h>
#include "base/err.h"
#include "route/request.h"

struct store;

/* Opens (or makes) the file: new folders 0700, file 0600.  ERR_CONFLICT: another process has it
 * open; ERR_UNSUPPORTED: it is another program's database.  A newer version opens read-only, a corrupt
 * file is set aside by renaming: `notice` (borrowed, lives as long as the store) then says so,
 * else it is NULL. */
struct store *store_open(uv_loop_t *loop, const char *path, struct err *e);
const char *store_notice(const struct store *s);
/* Answers what is queued, checkpoints, calls done once from the loop; s is gone then. */
void store_close(struct store *s, void (*done)(void *arg), void *arg);

struct store_message {
	int64_t id;
	enum role role;
	const char *text;
	const char *raw_json; /* or NULL */
	int64_t created_ms;
};

struct store_conversation {
	const char *id, *title, *model;
	int64_t created_ms, updated_ms;
	int messages;
	const char *status;  /* of the last turn: "done", "interrupted", ... or "" */
	const char *partial; /* text of an interrupted or cancelled last turn, or NULL */
};

/* e->code is ERR_NONE on success. */
typedef void store_path_cb(void *arg, const struct err *e, const char *conversation,
			   const struct store_message *path, int n);
typedef void store_list_cb(void *arg, const struct err *e,
			   const struct store_conversation *list, int n);
typedef void store_turn_cb(void *arg, const struct err *e, const char *conversation,
			   int64_t turn);
typedef void store_done_cb(void *arg, const struct err *e);

/* The messages from the root to the head.  id "new" makes a conversation (and an empty path); "last"
 * is the most recently updated one, ERR_NOT_FOUND when there is none. */
void store_path(struct store *s, const char *conversation, const char *model,
		store_path_cb *cb, void *arg);
/* Before the model call: appends the new messages to the head and opens a turn as `running`.  n may
 * be 0 when the path is not empty. */
void store_turn_begin(struct store *s, const char *conversation, const char *model,
		      const char *provider, const struct message *messages, int n,
		      store_turn_cb *cb, void *arg);
/* While it runs, now and then: the text so far.  No callback. */
void store_turn_partial(struct store *s, int64_t turn, const char *text, size_t len);

struct store_turn_end {
	const char *status; /* "done", "cancelled", "error" */
	const char *
		text; /* the answer, borrowed for the call; see above for when it is appended */
	size_t len;
	const char *error;                        /* or NULL */
	int tokens_in, tokens_cached, tokens_out; /* -1 = unknown */
	int ttft_ms, total_ms;
	double cost_usd; /* < 0 = unknown */
	/* What really answered, where that is not what the turn was begun with; NULL: it is. */
	const char *model, *provider;
};
void store_turn_end(struct store *s, int64_t turn, const struct store_turn_end *end,
		    store_done_cb *cb, void *arg);

/* True when m is a system message whose text is in the path already. */
bool store_repeats_system(const struct store_message *path, int n,
			  const struct message *m);

/* Newest turn first (by order of turns, since clocks jump); at most 1000. */
void store_list(struct store *s, int limit, store_list_cb *cb, void *arg);
/* One conversation's row (n = 1); id may be "last". */
void store_get(struct store *s, const char *conversation, store_list_cb *cb, void *arg);
/* The conversation, its turns and each message no other conversation reaches; when it succeeds the
 * text is gone from the search index and the log too. */
void store_delete(struct store *s, const char *conversation, store_done_cb *cb,
		  void *arg);

#endif
