/* The tree of messages and the heads that move over it: what a job of the store does.
 *
 *   tree_nodes.c   messages: hashes, parts, finding and making them
 *   tree_known.c   how much of a client's own history is there
 *   tree_path.c    reading the way from the root to a message
 *   tree_turns.c   turns: begin, partial, end, what a crash left
 *   tree_heads.c   conversations: ids, heads, forks, changes, deletion
 *   tree_lists.c   rows of conversations and of turns
 *   blobs.c        attachments
 *   tree_notes.c   notes, summaries, token counts
 *
 * Store thread.  Each call is one or more statements inside the caller's transaction; after a
 * failure the caller rolls back to where the call began.  `now_ms` is unix time.  A message is
 * named by its row's id here, 0 = none (in front of the root). */
#ifndef HOB_MEMORY_TREE_H
#define HOB_MEMORY_TREE_H

#include "base/buf.h"
#include "memory/sql.h"
#include "memory/store_heads.h"
#include "memory/store_notes.h"

enum {
	TREE_HASH_BYTES = 16,
	TREE_TITLE_CHARS = 60,
	TREE_MAX_MESSAGE_BYTES =
		32 << 20, /* text + raw_json: what a request body may hold */
	TREE_MAX_PATH_BYTES = 256 << 20,
	TREE_MAX_LIST = 1000,
};

/* ---- nodes ---- */

/* SHA-256/128 over tag, parent's hash (NULL at a root), role and parts. */
void tree_hash(const uint8_t *parent, const char *role, struct str parts,
	       uint8_t out[TREE_HASH_BYTES]);
/* A blob column as hex digits; "" when it is no hash. */
void tree_hex(sqlite3_stmt *st, int col, char out[STORE_HASH_TEXT_BYTES]);
int tree_hash_of(struct sql *q, int64_t id, char out[STORE_HASH_TEXT_BYTES],
		 struct err *e);
struct tree_node {
	const char *role;
	struct str parts;      /* whole, as hashed; borrowed */
	const char *reasoning; /* or NULL */
};
/* Makes a node that is known not to be there, its attachments beside it. */
int tree_insert(struct sql *q, const uint8_t *hash, int64_t parent,
		const struct tree_node *n, int64_t created_ms, int64_t *id,
		struct err *e);
/* A message behind *head, which becomes it: found, or made.  `whole`: of a client that sends its
 * history each time, so that a system message is not looked for on the path. */
int tree_append(struct sql *q, int64_t *head, const struct message *m, bool whole,
		int64_t now_ms, struct err *e);
int tree_append_reply(struct sql *q, int64_t *head, const struct store_turn_end *end,
		      int64_t now_ms, struct err *e);

struct tree_known {
	int n;                           /* messages that are known, from the first */
	int64_t at;                      /* the last of them */
	int64_t first_reply, last_reply; /* assistant's among them, or 0 */
};
/* 1 when exactly this one is known under `above` (NULL: as a root); `hash` is its own then. */
int tree_lookup(struct sql *q, const uint8_t *above, const struct message *m,
		uint8_t hash[TREE_HASH_BYTES], int64_t *id, struct err *e);
/* How much of a history is known, by the chain of hashes; of an answer with tool calls, by what it
 * says. */
int tree_known(struct sql *q, const struct message *messages, int n,
	       struct tree_known *out, struct err *e);

/* ---- paths ---- */

struct tree_path {
	struct store_message *messages; /* owned, with their strings, as all here */
	struct store_summary *summaries;
	struct store_note *notes;
	int n, nsummaries, nnotes;
	bool is_private;
};

void tree_path_free(struct tree_path *p);
/* parent and tokenizer as in struct store_path_ask. */
int tree_path(struct sql *q, const char *id, const char *parent, const char *tokenizer,
	      struct tree_path *out, struct err *e);

/* ---- conversations ---- */

struct tree_head {
	int64_t id; /* of the message */
	bool is_private;
};

char *tree_dup(sqlite3_stmt *st, int col); /* NULL for NULL */
int tree_no_conversation(struct err *e, const char *id);
/* Turns an id, "last" or "new" (which needs model, and writes) into an id. */
int tree_resolve(struct sql *q, const char *name, const char *model, int64_t now_ms,
		 char id[CONVERSATION_ID_BYTES], struct err *e);
/* The same of one that exists: "new" is ERR_INVALID. */
int tree_resolve_old(struct sql *q, const char *name, char id[CONVERSATION_ID_BYTES],
		     struct err *e);
int tree_head(struct sql *q, const char *id, struct tree_head *out, struct err *e);
/* The message that `name` (a hash or "root"; NULL: the head) means in this conversation, or
 * ERR_NOT_FOUND when it has not been reached there. */
int tree_find(struct sql *q, const char *id, const char *name, int64_t *message,
	      struct err *e);
/* One that never was: the empty row of a conversation in use, its title still unsaid. */
int tree_create(struct sql *q, int64_t now_ms, char id[CONVERSATION_ID_BYTES],
		struct err *e);
int tree_change(struct sql *q, const char *id, const struct store_change *c,
		struct err *e);
/* The first line of the first user message, when there is no title yet. */
int tree_entitle(struct sql *q, const char *id, const struct message *messages, int n,
		 struct err *e);
int tree_move_head(struct sql *q, const char *id, const char *to, int64_t now_ms,
		   struct err *e);
int tree_fork(struct sql *q, const char *id, const char *at, int64_t now_ms,
	      char made[CONVERSATION_ID_BYTES], struct err *e);
int tree_add(struct sql *q, const char *id, const struct message *messages, int n,
	     int64_t now_ms, struct err *e);
/* The conversation, its turns, and each message that nothing else reaches. */
int tree_delete(struct sql *q, const char *id, struct err *e);

/* ---- turns ---- */

/* The conversation for a history without one (store.h): a known one, or a new one. */
int tree_turn_where(struct sql *q, const struct store_turn_begin *ask, int64_t now_ms,
		    char id[CONVERSATION_ID_BYTES], struct tree_known *known,
		    struct err *e);
/* known: of a history; NULL: the messages follow ask->parent.  ask->conversation is not looked
 * at. */
int tree_turn_begin(struct sql *q, const char *id, const struct store_turn_begin *ask,
		    const struct tree_known *known, int64_t now_ms, int64_t *turn,
		    struct err *e);
int tree_turn_partial(struct sql *q, int64_t turn, const char *text, size_t len,
		      struct err *e);
struct tree_ended {
	char prompt[STORE_HASH_TEXT_BYTES], reply[STORE_HASH_TEXT_BYTES];
};
int tree_turn_end(struct sql *q, int64_t turn, const struct store_turn_end *end,
		  int64_t now_ms, struct tree_ended *out, struct err *e);
/* Nobody finds it by this name any more.  ERR_NOT_FOUND: there is none. */
int tree_turn_unname(struct sql *q, const char *request, struct err *e);
/* At start: turns left running become interrupted, conversations never used go. */
int tree_settle(struct sql *q, int64_t now_ms, struct err *e);

/* ---- lists ---- */

struct tree_list {
	struct store_conversation *items; /* owned, with their strings */
	int n;
};
void tree_list_free(struct tree_list *l);
int tree_list(struct sql *q, const struct store_list_ask *ask, struct tree_list *out,
	      struct err *e);
/* Only that one; ERR_NOT_FOUND when there is none. */
int tree_get(struct sql *q, const char *id, struct tree_list *out, struct err *e);

struct tree_turns {
	struct store_turn *items; /* owned, with their strings */
	int n;
};
void tree_turns_free(struct tree_turns *l);
/* id: all of a conversation, oldest first; else request: that one, or ERR_NOT_FOUND. */
int tree_turns(struct sql *q, const char *id, const char *request, int limit,
	       struct tree_turns *out, struct err *e);

/* ---- notes ---- */

struct tree_notes {
	struct store_note *items; /* owned, with their strings */
	int n;
};
void tree_notes_free(struct tree_notes *l);
/* Those of all conversations, and of this one unless it is NULL. */
int tree_notes(struct sql *q, const char *conversation, struct tree_notes *out,
	       struct err *e);
int tree_note_add(struct sql *q, const char *scope, const char *text, int64_t now_ms,
		  struct tree_notes *out, struct err *e);
int tree_note_delete(struct sql *q, int64_t id, struct err *e);
int tree_summary_put(struct sql *q, int64_t upto, const char *model, const char *text,
		     int tokens, int64_t now_ms, struct err *e);
int tree_count_put(struct sql *q, const char *tokenizer, int64_t message, int tokens,
		   struct err *e);

#endif
