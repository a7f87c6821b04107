/* Conversations as text: JSON lines out and in.  Rules, codes and threads as in store.h.
 *
 * One conversation is a line {"hob":1,"conversation":{"id","title","model","head","pinned","created_ms","updated_ms",
 * "metadata"}} followed by one line for each message, parents first:
 * {"hash","parent":hash or null,"role","parts":[...],"created_ms"}, then one for each turn
 * {"turn":{...as struct store_turn without id...}}.  A hash is checked against what it names, so the same file may be
 * read any number of times, and two of them merged. */
#ifndef HOB_STORE_MOVE_H
#define HOB_STORE_MOVE_H

#include "base/buf.h"
#include "memory/store.h"

/* The text is borrowed.  ERR_TOO_LARGE: over STORE_MAX_EXPORT_BYTES. */
typedef void store_export_cb(void *arg, const struct err *e, struct str jsonl);
enum { STORE_MAX_EXPORT_BYTES = 256 << 20 };
void store_export(struct store *s, const char *conversation, store_export_cb *cb,
		  void *arg);

struct store_imported {
	int conversations, messages; /* new ones */
	int known;                   /* conversations that were here already */
	const char *last;            /* id of the last conversation of the text, or "" */
};
typedef void store_import_cb(void *arg, const struct err *e,
			     const struct store_imported *i);
/* All or nothing.  A conversation whose id is taken and whose head differs becomes a new one (forked_from the other). */
void store_import(struct store *s, struct str jsonl, store_import_cb *cb, void *arg);

#endif
