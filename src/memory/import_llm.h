/* What the readers of llm's two schemas share; nobody else includes it. */
#ifndef HOB_IMPORT_LLM_H
#define HOB_IMPORT_LLM_H

#include <sqlite3.h>
#include "memory/import_draft.h"

enum {
	LLM_MAX_VALUE_BYTES = 64 << 20,
	LLM_MAX_ATTACHMENT_BYTES = 16 << 20, /* as memory.max_attachment's default */
};

struct llm {
	sqlite3 *db; /* owned */
	const struct import_in *in;
	import_sink *sink;
	void *arg;
	struct import_counts *counts;
	struct draft *draft; /* of the conversation at hand */
};

struct llm_message {
	enum role role;
	const char *text, *reasoning, *call_id; /* or NULL; call_id: of a tool's result */
	cJSON *images, *calls;                  /* or NULL; llm_add takes them */
	int64_t created_ms;
};

/* import_llm.c.  A statement (NULL and the error set when the file does not fit it); bind: parameter 1, or
 * NULL. */
sqlite3_stmt *llm_query(struct llm *x, const char *sql, const char *bind, struct err *e);
bool llm_step(struct llm *x, sqlite3_stmt *st, struct err *e); /* st may be NULL */
char *llm_text(sqlite3_stmt *st, int col); /* UTF-8, "" for NULL; owned by the caller */
int llm_number(sqlite3_stmt *st, int col); /* -1: none */
int64_t llm_time(sqlite3_stmt *st, int col);
bool llm_has_column(struct llm *x, const char *table, const char *column);
void llm_attachment(struct llm *x, sqlite3_stmt *st, int col, struct buf *text,
		    cJSON **images);
void llm_add_call(cJSON **calls, const char *id, const char *name, const char *arguments);
int llm_add(struct llm *x, int parent, const struct llm_message *m);

/* import_llm_responses.c, import_llm_threads.c: all conversations of the older and the newer schema;
 * threads: the file has the newer one too. */
int llm_responses(struct llm *x, bool threads, struct err *e);
int llm_threads(struct llm *x, struct err *e);

#endif
