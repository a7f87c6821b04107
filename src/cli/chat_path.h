/* The messages from the beginning of a conversation to where it stands, as this program knows them. */
#ifndef HOB_CHAT_PATH_H
#define HOB_CHAT_PATH_H

#include "base/json.h"
#include "cli/ask.h"

enum { CHAT_HASH_BYTES = 64 };

struct chat_message {
	const char *role; /* "system", "user", "assistant", "tool" */
	char *text;       /* owned */
	char *content;    /* owned: JSON parts, or NULL */
	char *hash;       /* owned; NULL: not known */
};

struct chat_path {
	struct chat_message *list; /* owned */
	int n, cap;
};

/* content (JSON) and hash may be NULL; all are copied. */
void chat_path_add(struct chat_path *p, const char *role, struct str text,
		   const char *content, const char *hash);
/* Messages from index `from` on go to `tail`, which is empty before. */
void chat_path_cut(struct chat_path *p, int from, struct chat_path *tail);
/* All of tail goes to the end of p. */
void chat_path_join(struct chat_path *p, struct chat_path *tail);
void chat_path_clear(struct chat_path *p);
/* The n-th user message from the end (1: the last); -1: there are not so many. */
int chat_path_user(const struct chat_path *p, int n);
/* What stands before message i: its hash, "root", or NULL when that is not known. */
const char *chat_path_parent(const struct chat_path *p, int i);
/* Of the daemon's "messages"; text parts of a content joined. */
void chat_path_read(struct chat_path *p, const cJSON *messages);

#endif
