/* Conversations as rows and movable heads.  Rules, codes and threads as in store.h. */
#ifndef HOB_STORE_HEADS_H
#define HOB_STORE_HEADS_H

#include "memory/store.h"

struct store_conversation {
	const char *id, *title, *model;
	int64_t created_ms, updated_ms;
	int messages;        /* on the path to the head */
	const char *status;  /* of the last turn: "done", "interrupted", ... or "" */
	const char *partial; /* text of an interrupted or cancelled last turn, or NULL */
	const char *head;    /* hash, or "" */
	const char *forked_from; /* id, or NULL */
	const char *
		metadata; /* a JSON object: what clients of the Conversations API keep here */
	bool pinned, is_private;
};

typedef void store_list_cb(void *arg, const struct err *e,
			   const struct store_conversation *list, int n);

struct store_list_ask {
	int limit;          /* 1 to 1000 */
	const char *before; /* id of the last one of the page before, or NULL */
	bool pinned_only;
};
/* Last used first: by turns begun and messages added, since clocks jump; one that was only made (by
 * store_create) counts as used then, one that store_path made for "new" not before its first turn. */
void store_list(struct store *s, const struct store_list_ask *ask, store_list_cb *cb,
		void *arg);
/* One conversation's row (n = 1); id may be "last". */
void store_get(struct store *s, const char *conversation, store_list_cb *cb, void *arg);

/* What may be changed of a row; NULL and UNSAID leave it. */
struct store_change {
	/* One line: control characters and what is no UTF-8 become spaces, and it is cut to
	 * STORE_MAX_TITLE_BYTES between characters.  "" takes it away: the next question gives one. */
	const char *title;
	bool title_by_model; /* then it does not replace one that the user gave */
	const char *model;
	/* A JSON object (else ERR_INVALID) of at most STORE_MAX_METADATA_BYTES (ERR_TOO_LARGE);
	 * replaces what was there. */
	const char *metadata;
	enum tristate pinned, is_private;
};
enum { STORE_MAX_METADATA_BYTES = 16 << 10, STORE_MAX_TITLE_BYTES = 400 };
/* Each of these answers with the row as it is then. */
void store_create(struct store *s, const struct store_change *c, store_list_cb *cb,
		  void *arg);
void store_change(struct store *s, const char *conversation, const struct store_change *c,
		  store_list_cb *cb, void *arg);
/* The head goes to a message that the conversation reaches (store.h): by hash, "root", or "undo": in
 * front of the last user message on the path (ERR_INVALID when there is none).  ERR_CONFLICT while a
 * turn runs.  It is not a use: the list's order stays. */
void store_move_head(struct store *s, const char *conversation, const char *to,
		     store_list_cb *cb, void *arg);
/* A new conversation whose head stands on `at` (NULL: where the old one's stands), with the title,
 * model, metadata and privacy of the old one; not pinned. */
void store_fork(struct store *s, const char *conversation, const char *at,
		store_list_cb *cb, void *arg);
/* Messages without a model call, behind the head; answers with the path (all of it).  ERR_CONFLICT
 * while a turn runs. */
void store_append(struct store *s, const char *conversation, const struct message *m,
		  int n, store_path_cb *cb, void *arg);
/* The conversation, its turns, notes, and each message that no other conversation has reached (a fork
 * keeps what it shares); when it succeeds the
 * text is gone from the search index and the log too. */
void store_delete(struct store *s, const char *conversation, store_done_cb *cb,
		  void *arg);

struct store_turn {
	int64_t id;
	const char *conversation, *request; /* request: "" of turns before version 2 */
	const char *status, *model, *provider, *error; /* error: or NULL */
	const char *base, *prompt,
		*reply; /* hashes or "": the head before, last message asked, answer */
	int tokens_in, tokens_cached, tokens_out, ttft_ms, total_ms; /* -1 = unknown */
	double cost_usd;                                             /* < 0 = unknown */
	int64_t created_ms;
	const char
		*params; /* a JSON object: struct store_turn_begin's, and finish_reason */
};
typedef void store_turns_cb(void *arg, const struct err *e, const struct store_turn *list,
			    int n);
/* Of one conversation, oldest first, at most `limit` (1 to 1000) of the newest. */
void store_turns(struct store *s, const char *conversation, int limit, store_turns_cb *cb,
		 void *arg);
/* The turn that a request id names (n = 1), or ERR_NOT_FOUND. */
void store_turn_of(struct store *s, const char *request, store_turns_cb *cb, void *arg);
/* Takes its name away: store_turn_of() does not find it any more.  Turn and messages stay. */
void store_turn_unname(struct store *s, const char *request, store_done_cb *cb,
		       void *arg);

#endif
