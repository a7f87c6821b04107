/* One foreign conversation on its way to hob's JSON lines.
 *
 * Messages are added parents first; the same content under the same parent is the same message.  For
 * the thread of a command. */
#ifndef HOB_IMPORT_DRAFT_H
#define HOB_IMPORT_DRAFT_H

#include <cjson/cJSON.h>
#include "memory/import.h"
#include "route/request.h"

struct draft;

/* The id follows from source and foreign_id; foreign_id NULL: from what the conversation says.
 * created_ms 0: unknown, now_ms is written down. */
struct draft *draft_new(const struct import_in *in, const char *source,
			const char *foreign_id, int64_t created_ms,
			struct import_counts *counts);
void draft_free(struct draft *d);

struct draft_message {
	enum role role;
	const char *text;      /* NULL: "" */
	const cJSON *own;      /* what is more than text, in OpenAI's dialect; or NULL */
	const char *reasoning; /* or NULL */
	int64_t created_ms;    /* 0 = unknown: the conversation's */
};
/* Its index; parent -1: a root. */
int draft_add(struct draft *d, int parent, const struct draft_message *m);

struct draft_turn {
	int base, prompt, reply; /* -1 = none; a turn without prompt is none */
	const char *model, *provider;
	int tokens_in, tokens_out, total_ms; /* -1 = unknown */
	int64_t created_ms;
};
void draft_turn(struct draft *d, const struct draft_turn *t);

/* Hands the conversation to the sink, unless it is empty.  title NULL or "": the first line that the
 * user wrote.  head -1: the last message. */
int draft_end(struct draft *d, int head, const char *title, const char *model,
	      int64_t updated_ms, import_sink *sink, void *arg, struct err *e);

/* Seconds since 1970 to milliseconds; 0 for what is no time. */
int64_t draft_ms(double seconds);
/* Counts something that could not be read, and keeps the first reason. */
void draft_skip(struct import_counts *counts, const char *what, const char *why);

#endif
