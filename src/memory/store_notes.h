/* What a context is put together from besides messages.  Rules, codes and threads as in store.h. */
#ifndef HOB_STORE_NOTES_H
#define HOB_STORE_NOTES_H

#include "memory/store.h"

enum { STORE_MAX_NOTE_BYTES = 4096, STORE_MAX_NOTES = 100 }; /* of a scope */

typedef void store_notes_cb(void *arg, const struct err *e, const struct store_note *list,
			    int n);
/* Those of all conversations and of this one (NULL: only the former). */
void store_notes(struct store *s, const char *conversation, store_notes_cb *cb,
		 void *arg);
/* scope as in struct store_note; answers with the new one (n = 1). */
void store_note_add(struct store *s, const char *scope, const char *text,
		    store_notes_cb *cb, void *arg);
void store_note_delete(struct store *s, int64_t id, store_done_cb *cb, void *arg);

/* A summary of everything up to and including this message, system messages left out.  One for each
 * (message, model); the newest wins.  cb may be NULL. */
void store_summary_put(struct store *s, int64_t upto_message, const char *model,
		       const char *text, int tokens, store_done_cb *cb, void *arg);
/* Tokens of messages by a tokenizer, template around each included.  No callback. */
void store_counts_put(struct store *s, const char *tokenizer, const int64_t *messages,
		      const int *tokens, int n);

#endif
