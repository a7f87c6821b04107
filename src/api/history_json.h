/* Conversations as our API writes them: rows, messages, turns.  Pure. */
#ifndef HOB_HISTORY_JSON_H
#define HOB_HISTORY_JSON_H

#include "base/buf.h"
#include "memory/store_heads.h"

/* Without the closing brace. */
void history_json_row(struct buf *out, const struct store_conversation *c);
void history_json_message(struct buf *out, const struct store_message *m);
void history_json_turn(struct buf *out, const struct store_turn *t);
/* A member `"key":true` with a comma before it unless it is the first. */
void history_json_bool(struct buf *out, const char *key, bool value);

#endif
