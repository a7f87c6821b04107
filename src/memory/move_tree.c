/* JSON lines of a conversation as a tree.
 *
 * Any thread; no state.  The decision to question: a parent must stand in the same conversation of
 * the same text, even where the store has it already: a file says all that it means, and reading it
 * does not depend on where it is read. */
#include "memory/move_tree.h"

#include <uthash.h>

struct move_index {
	uint8_t hash[MOVE_HASH_BYTES];
	int node;
	UT_hash_handle hh;
};

static int find(const struct move_tree *t, const uint8_t hash[MOVE_HASH_BYTES])
{
	struct move_index *found;

	HASH_FIND(hh, t->index, hash, MOVE_HASH_BYTES, found);
	return found ? found->node : -1;
}

int move_tree_find(const struct move_tree *t, const char *hash)
{
	uint8_t bytes[MOVE_HASH_BYTES];

	return hash && move_hash_parse(hash, bytes) ? find(t, bytes) : -1;
}

static int add_node(struct move_tree *t, int *cap, struct move_line *l, struct err *e)
{
	struct move_index *entry;
	int parent = -1;

	if (find(t, l->message.hash) >= 0)
		return err_set(e, ERR_INVALID, "this message stands there twice");
	if (!l->message.is_root) {
		parent = find(t, l->message.parent);
		if (parent < 0)
			return err_set(e, ERR_INVALID,
				       "its parent stands in no earlier line of the "
				       "conversation");
		t->nodes[parent].is_leaf = false;
	}
	if (t->n == *cap) {
		*cap = *cap ? *cap * 2 : 64;
		t->nodes = xrealloc(t->nodes, (size_t)*cap * sizeof(*t->nodes));
	}
	entry = xcalloc(1, sizeof(*entry));
	memcpy(entry->hash, l->message.hash, sizeof(entry->hash));
	entry->node = t->n;
	HASH_ADD(hh, t->index, hash, sizeof(entry->hash), entry);
	t->nodes[t->n++] = (struct move_node){
		.line = *l, .parent = parent, .turn = -1, .is_leaf = true};
	*l = (struct move_line){0};
	return 0;
}

static int add_turn(struct move_tree *t, int *cap, struct move_line *l, struct err *e)
{
	const struct store_turn *r = &l->turn.row;
	const char *const names[] = {r->base, r->prompt, r->reply};

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (*names[i] && move_tree_find(t, names[i]) < 0)
			return err_set(e, ERR_INVALID,
				       "the turn names %s, which stands in no earlier "
				       "line of the conversation",
				       names[i]);
	if (t->nturns == *cap) {
		*cap = *cap ? *cap * 2 : 64;
		t->turns = xrealloc(t->turns, (size_t)*cap * sizeof(*t->turns));
	}
	if (*r->reply)
		t->nodes[move_tree_find(t, r->reply)].turn = t->nturns;
	t->turns[t->nturns++] = *l;
	*l = (struct move_line){0};
	return 0;
}

/* Takes the line when it belongs to t. */
static int add_line(struct move_tree *t, int cap[2], struct move_line *l, struct err *e)
{
	if (l->kind == MOVE_MESSAGE && t->nturns)
		return err_set(e, ERR_INVALID, "a message behind the first turn");
	return l->kind == MOVE_MESSAGE ? add_node(t, &cap[0], l, e)
				       : add_turn(t, &cap[1], l, e);
}

/* The next line that is not empty; 0 at the end. */
static int next_line(struct str *rest, int *line_no, struct move_line *l, struct err *e)
{
	struct str line;

	while (move_next(rest, &line)) {
		++*line_no;
		if (str_trim(line).len == 0)
			continue;
		return move_read(line, l, e) < 0 ? err_wrap(e, "line %d", *line_no) : 1;
	}
	return 0;
}

int move_tree_read(struct str *rest, int *line_no, struct move_tree *out, struct err *e)
{
	struct move_line l;
	int rc, cap[2] = {0}, first, before;

	*out = (struct move_tree){.head = -1};
	rc = next_line(rest, line_no, &l, e);
	if (rc <= 0)
		return rc;
	first = *line_no;
	if (l.kind != MOVE_CONVERSATION) {
		move_line_free(&l);
		return err_set(e, ERR_INVALID, "line %d: no conversation before it",
			       first);
	}
	out->header = l;
	for (;;) {
		struct str at = *rest;

		before = *line_no;
		rc = next_line(rest, line_no, &l, e);
		if (rc <= 0)
			break;
		if (l.kind == MOVE_CONVERSATION) { /* the next one's: put back */
			move_line_free(&l);
			*rest = at;
			*line_no = before;
			break;
		}
		rc = add_line(out, cap, &l, e);
		move_line_free(&l);
		if (rc < 0) {
			err_wrap(e, "line %d", *line_no);
			break;
		}
	}
	if (rc >= 0) {
		out->head = move_tree_find(out, out->header.conversation.head);
		rc = out->head < 0 && *out->header.conversation.head
			     ? err_set(e, ERR_INVALID,
				       "line %d: the head is no message of the "
				       "conversation",
				       first)
			     : 1;
	}
	if (rc < 0)
		move_tree_free(out);
	return rc;
}

void move_tree_free(struct move_tree *t)
{
	struct move_index *entry, *next;

	HASH_ITER(hh, t->index, entry, next)
	{
		HASH_DEL(t->index, entry);
		free(entry);
	}
	for (int i = 0; i < t->n; i++)
		move_line_free(&t->nodes[i].line);
	for (int i = 0; i < t->nturns; i++)
		move_line_free(&t->turns[i]);
	free(t->nodes);
	free(t->turns);
	move_line_free(&t->header);
	*t = (struct move_tree){.head = -1};
}

int *move_tree_path(const struct move_tree *t, int at, int *n)
{
	int *path, depth = 0;

	for (int i = at; i >= 0; i = t->nodes[i].parent)
		depth++;
	path = xcalloc((size_t)depth + 1, sizeof(*path));
	*n = depth;
	for (int i = at; i >= 0; i = t->nodes[i].parent)
		path[--depth] = i;
	return path;
}
