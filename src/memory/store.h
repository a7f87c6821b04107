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
 *   too large to keep     the same, as an error without text; the callback gets ERR_TOO_LARGE
 *   found running at open status becomes "interrupted"; as cancelled, with the last partial text
 * A head that another turn has moved on meanwhile stays: the reply is then a branch.
 *
 * System messages: one equal to a system message that the path already has is not appended
 * again, since clients send theirs with every request; store_repeats_system() is the same rule
 * for the caller who joins path and new messages for the model.  A different one is appended.
 *
 * A title is the first line of the first user message, cut to 60 characters, until a model or the
 * user gave another one.
 *
 * Regenerate, edit and undo are turns whose new messages follow another message than the head
 * (`parent`): nodes are added, the head moves, nothing is rewritten, and what the head left stays
 * reachable by its hash.  When such a turn fails the head goes back to where it stood; cancelled with
 * text it stays on that text, as any other.
 *
 * A message belongs to a conversation that has reached it: by its head, its turns, messages added to
 * it, a fork that began there, or what undo left.  It also reaches what the conversation that it was
 * forked from has reached, and so on upwards, as long as that one is not private (or both are).  A
 * `parent` of any other message is ERR_NOT_FOUND.  A message goes with the last conversation that has
 * reached it, so a fork keeps what it shares.
 *
 * Two turns at once in one conversation are allowed: the second one follows the first one's prompt.
 * When it fails, the head goes to what became of that prompt (its reply, or in front of it).  Moving
 * the head or adding messages while a turn runs is ERR_CONFLICT; deleting the conversation is not, and
 * the turn's end is ERR_NOT_FOUND then.
 *
 * A client that keeps its own history and names no conversation (struct store_turn_begin) goes on with
 * the one whose head lies deepest on what is known of it, at or behind the first answer; after a failed
 * turn, with the one that failed.  Neither a private conversation nor one that is being answered is
 * gone on with by chance.
 *
 * Ids of conversations sort by making, lists by use, also when the clock steps back; created_ms and
 * updated_ms are what the clock said.  Row ids of messages and turns are not given twice while a store
 * is open, so a late answer about a deleted one finds nothing.
 *
 * An incognito store is the same code on a file that exists in memory only (path ":memory:"); its
 * conversations have ids that begin with 'Z', which no ULID of this millennium does.
 *
 * Lists, search, exports and backups are read beside the writer: they delay no turn, and they see what
 * a callback has reported before they were asked, not more.
 *
 * Attachments (data: URLs of 1 KiB and more) are kept once each, beside the messages.
 *
 *   store.h         opening, paths, turns
 *   store_heads.h   conversations as rows and heads: list, create, move, fork, change, delete; turns
 *   store_search.h  full-text search
 *   store_keep.h    limits, forgetting, figures, backup
 *   store_move.h    export and import
 *   store_notes.h   notes, summaries, token counts: what the context is put together from
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

enum {
	STORE_HASH_TEXT_BYTES = 33, /* a message's public name: 32 hex digits, and NUL */
	STORE_MAX_PARAMS_BYTES = 64 << 10 /* larger ones are left out */
};

struct store;

/* Opens (or makes) the file: new folders 0700, file 0600.  ERR_CONFLICT: another process has it
 * open; ERR_UNSUPPORTED: it is another program's database.  A newer version opens read-only, a corrupt
 * file is set aside by renaming: `notice` (borrowed, lives as long as the store) then says so,
 * else it is NULL. */
struct store *store_open(uv_loop_t *loop, const char *path, struct err *e);
const char *store_notice(const struct store *s);
/* Answers what is queued (what reads beside the writer is given up: ERR_CANCELLED), checkpoints, calls done once from the loop; s is gone then. */
void store_close(struct store *s, void (*done)(void *arg), void *arg);

struct store_message {
	int64_t id;
	char hash[STORE_HASH_TEXT_BYTES];
	enum role role;
	const char *text;
	const char *raw_json; /* or NULL: in OpenAI's dialect, what is more than text */
	const char
		*reasoning; /* or NULL: what the model thought aloud; never sent again */
	int64_t created_ms;
	int tokens; /* by the tokenizer that was asked for; -1 = not counted yet */
};

/* Stands for messages [0, upto] of the path without its leading system messages. */
struct store_summary {
	int upto;
	const char *model, *text;
	int tokens; /* as the summariser counted; -1 = unknown */
};

struct store_note {
	int64_t id;
	const char *scope; /* "" = every conversation, else a conversation's id */
	const char *text;
	int64_t created_ms;
};

struct store_path {
	const char *conversation;
	const struct store_message *messages; /* from the root */
	int n;
	const struct store_summary *summaries; /* on this path, by `upto` */
	int nsummaries;
	const struct store_note
		*notes; /* of this conversation and of all, oldest first */
	int nnotes;
	bool is_private; /* the conversation was marked so: nothing of it leaves the machine */
};

/* Codes and rules as above; e->code is ERR_NONE on success, p NULL otherwise. */
typedef void store_path_cb(void *arg, const struct err *e, const struct store_path *p);
typedef void store_turn_cb(void *arg, const struct err *e, const char *conversation,
			   int64_t turn);
typedef void store_done_cb(void *arg, const struct err *e);
/* The hashes of what the turn asked and of what was kept as its reply; "" = none. */
typedef void store_end_cb(void *arg, const struct err *e, const char *prompt,
			  const char *reply);

struct store_path_ask {
	const char *
		conversation; /* an id; "new" makes one (and an empty path); "last" is the most
				   * recently used, ERR_NOT_FOUND when there is none */
	const char *
		parent; /* the path ends at this message, by hash; "root": it is empty; NULL: at the head.
				* ERR_NOT_FOUND when no turn of the conversation reaches it. */
	const char *model;     /* of a new conversation */
	const char *tokenizer; /* whose counts are wanted, or NULL */
};
void store_path(struct store *s, const struct store_path_ask *ask, store_path_cb *cb,
		void *arg);

/* Before the model call: appends the new messages to the parent and opens a turn as `running`. */
struct store_turn_begin {
	const char *
		conversation; /* as above; NULL: `messages` is the whole history of a client that keeps
				   * its own.  What is known of it is not written again, and the
				   * conversation is the one whose head it continues, else a new one. */
	const char *parent; /* as above */
	const char *model, *provider;
	const char *request; /* struct request's id; names the turn from outside; or NULL.
			      * One that is taken stays with its first turn. */
	const char *
		params; /* or NULL: a JSON object that is kept with the turn, STORE_MAX_PARAMS_BYTES */
	const struct message *messages;
	int n; /* may be 0 when the path is not empty */
};
void store_turn_begin(struct store *s, const struct store_turn_begin *ask,
		      store_turn_cb *cb, void *arg);
/* While it runs, now and then: the text so far.  No callback. */
void store_turn_partial(struct store *s, int64_t turn, const char *text, size_t len);

struct store_turn_end {
	const char *status; /* "done", "cancelled", "error" */
	const char *
		text; /* the answer, borrowed for the call; see above for when it is appended */
	size_t len;
	const char *
		raw_json; /* the whole assistant message, when it holds tool calls; or NULL */
	const char *reasoning;                    /* or NULL */
	const char *error;                        /* or NULL */
	int tokens_in, tokens_cached, tokens_out; /* -1 = unknown */
	int ttft_ms, total_ms;
	double cost_usd; /* < 0 = unknown */
	const char *
		finish; /* or NULL: "stop", "length", ...; kept as "finish_reason" in params */
	/* What really answered, where that is not what the turn was begun with; NULL: it is. */
	const char *model, *provider;
};
void store_turn_end(struct store *s, int64_t turn, const struct store_turn_end *end,
		    store_end_cb *cb, void *arg);

/* True when m is a system message whose text is in the path already. */
bool store_repeats_system(const struct store_message *path, int n,
			  const struct message *m);

/* True of the id of a conversation that is kept in memory only. */
bool store_is_incognito(const char *conversation);

#endif
