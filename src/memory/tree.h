/* The tree of messages and the heads that move over it: what a job of the store does.
 *
 * Store thread.  Each call is one or more statements inside the caller's transaction; after a
 * failure the caller rolls back to where the call began.  `now_ms` is unix time. */
#ifndef HOB_MEMORY_TREE_H
#define HOB_MEMORY_TREE_H

#include "base/buf.h"
#include "memory/sql.h"
#include "memory/store_heads.h"

enum {
	TREE_HASH_BYTES = 16,
	TREE_TITLE_CHARS = 60,
	TREE_MAX_MESSAGE_BYTES =
		32 << 20, /* text + raw_json: what a request body may hold */
	TREE_MAX_PATH_BYTES = 256 << 20,
	TREE_MAX_LIST = 1000,
};

struct tree_path {
	struct store_message *messages; /* owned, with their strings */
	int n;
};

struct tree_list {
	struct store_conversation *items; /* owned, with their strings */
	int n;
};

void tree_path_free(struct tree_path *p);
void tree_list_free(struct tree_list *l);

/* Turns an id, "last" or "new" (which needs model, and writes) into an id. */
int tree_resolve(struct sql *q, const char *name, const char *model, int64_t now_ms,
		 char id[CONVERSATION_ID_BYTES], struct err *e);
int tree_path(struct sql *q, const char *id, struct tree_path *out, struct err *e);
int tree_turn_begin(struct sql *q, const char *id, const char *model,
		    const char *provider, const struct message *messages, int n,
		    int64_t now_ms, int64_t *turn, struct err *e);
int tree_turn_partial(struct sql *q, int64_t turn, const char *text, size_t len,
		      struct err *e);
int tree_turn_end(struct sql *q, int64_t turn, const struct store_turn_end *end,
		  int64_t now_ms, struct err *e);
/* id NULL lists, else only that one (ERR_NOT_FOUND when there is none). */
int tree_list(struct sql *q, const char *id, int limit, struct tree_list *out,
	      struct err *e);
/* The conversation, its turns, and each message that nothing else reaches. */
int tree_delete(struct sql *q, const char *id, struct err *e);
/* At start: turns left running become interrupted, conversations without any turn go. */
int tree_settle(struct sql *q, int64_t now_ms, struct err *e);

/* SHA-256/128 over tag, parent's hash (NULL at a root), role and parts. */
void tree_hash(const uint8_t *parent, const char *role, struct str parts,
	       uint8_t out[TREE_HASH_BYTES]);

#endif
