/* hob's JSON lines, as store_move.h describes them: pure functions from lines to values and back.
 *
 * Any thread, no database.  What is read comes from strangers: lengths and depths are capped, each
 * member has its type checked, and a message must be written exactly as hob writes it, since its
 * hash is over those bytes. */
#ifndef HOB_MOVE_JSON_H
#define HOB_MOVE_JSON_H

#include "base/json.h"
#include "memory/store_heads.h"
#include "memory/store_move.h"

enum {
	MOVE_MAX_LINE_BYTES = 80 << 20, /* a message of 32 MiB, its own JSON, escapes */
	MOVE_MAX_NAME_BYTES = 400,      /* of a model, a provider, a request's id */
	MOVE_MAX_ERROR_BYTES = 4096,
	MOVE_HASH_BYTES = 16,
};

enum move_kind { MOVE_CONVERSATION, MOVE_MESSAGE, MOVE_TURN };

struct move_conversation {
	const char *id, *title, *model;
	const char *head;        /* hash, or "" */
	const char *forked_from; /* id, or NULL */
	const char *metadata;    /* an object */
	int64_t created_ms, updated_ms;
	const char
		*title_by; /* "user", "model", or "": the first line of what was asked */
	bool pinned, is_private;
};

struct move_message {
	uint8_t hash[MOVE_HASH_BYTES], parent[MOVE_HASH_BYTES];
	bool is_root; /* no parent */
	enum role role;
	struct str parts; /* the bytes that the hash is over */
	int64_t created_ms;
	/* What parts holds. */
	const char *text, *raw_json; /* the second may be NULL */
	const char *reasoning;       /* or NULL; the hash is not over it */
};

struct move_turn {
	struct store_turn row; /* without id and conversation */
	const char *partial;   /* or NULL: the text of a turn that did not end well */
};

struct move_line {
	enum move_kind kind;
	union {
		struct move_conversation conversation;
		struct move_message message;
		struct move_turn turn;
	};
	/* owned: what the strings above point into */
	cJSON *tree;
	struct buf texts[3];
};

/* The next line of `rest`, without its end; false when there is none.  Empty lines are lines. */
bool move_next(struct str *rest, struct str *line);
/* Reads a line that is not empty.  The strings in it live until move_line_free, and no longer than `line`. */
int move_read(struct str line, struct move_line *out, struct err *e);
void move_line_free(struct move_line *l);

/* [{"type":"text",…}] and, for what is more than text, {"type":"openai","message":…}: as tree.c
 * writes it.  raw_json: an object, or NULL. */
void move_write_parts(struct buf *out, const char *text, const char *raw_json);
/* Each adds a line with its end. */
void move_write_conversation(struct buf *out, const struct move_conversation *c);
/* Of parts, not of what they hold. */
void move_write_message(struct buf *out, const struct move_message *m);
void move_write_turn(struct buf *out, const struct move_turn *t);
/* The members of a turn without the braces around them. */
void move_write_row(struct buf *out, const struct store_turn *r);

void move_hash_text(const uint8_t hash[MOVE_HASH_BYTES], char out[STORE_HASH_TEXT_BYTES]);
/* False when it is not 32 lower-case hex digits. */
bool move_hash_parse(const char *text, uint8_t out[MOVE_HASH_BYTES]);

#endif
