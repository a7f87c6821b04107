/* The readers behind the table of import.h; nobody else includes it. */
#ifndef HOB_IMPORT_FORMATS_H
#define HOB_IMPORT_FORMATS_H

#include "memory/import_draft.h"

/* import_openai.c: an array of messages, an object with one in "messages", an array of such objects,
 * or any of them on a line each. */
bool import_openai_sniff(struct str text);
int import_openai(const struct import_in *in, import_sink *sink, void *arg,
		  struct import_counts *counts, struct err *e);

/* import_chatgpt.c: an array of conversations with "mapping" and "current_node". */
bool import_chatgpt_sniff(struct str text);
int import_chatgpt(const struct import_in *in, import_sink *sink, void *arg,
		   struct import_counts *counts, struct err *e);

/* import_llm.c: the database of Simon Willison's llm, both of its schemas. */
bool import_llm_sniff(struct str text);
int import_llm(const struct import_in *in, import_sink *sink, void *arg,
	       struct import_counts *counts, struct err *e);

#endif
