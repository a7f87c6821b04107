/* A conversation as JSON lines hold it: its messages as a tree, checked as a whole.
 *
 * Any thread, no database.  What move_json checks of a line by itself is here checked between
 * lines: a conversation comes first, parents before children, turns and the head name messages of
 * the same conversation.  A cycle cannot be written down: a message's hash is over its parent's,
 * and a parent must stand in an earlier line besides. */
#ifndef HOB_MOVE_TREE_H
#define HOB_MOVE_TREE_H

#include "memory/move_json.h"

struct move_node {
	struct move_line line; /* owned; a message */
	int parent;            /* index, or -1 */
	int turn;              /* index of the last turn whose reply it is, or -1 */
	bool is_leaf;
};

struct move_tree {
	struct move_line header;  /* owned; a conversation */
	struct move_node *nodes;  /* owned, parents first */
	struct move_line *turns;  /* owned */
	int n, nturns, head;      /* head: index, or -1 */
	struct move_index *index; /* owned: hash to node */
};

/* Takes the next conversation off `rest`; *line_no is the number of the last line read (0 before the
 * first).  1 = read; 0 = no more; -1: the error begins with the line's number. */
int move_tree_read(struct str *rest, int *line_no, struct move_tree *out, struct err *e);
void move_tree_free(struct move_tree *t);

/* A message's index, or -1; text "" or NULL: -1. */
int move_tree_find(const struct move_tree *t, const char *hash);
/* Indices from the root to `at` (owned by the caller), *n of them. */
int *move_tree_path(const struct move_tree *t, int at, int *n);

#endif
