/* A request in OpenAI's dialect, taken apart for protocols that say the same otherwise.
 *
 * Pure.  Trees and texts handed to callbacks are borrowed until they return. */
#ifndef HOB_OPENAI_PARTS_H
#define HOB_OPENAI_PARTS_H

#include "base/json.h"
#include "route/request.h"

enum part_type { PART_TEXT, PART_IMAGE, PART_FILE };

struct part {
	enum part_type type;
	const char *text; /* PART_TEXT, not empty */
	/* of the others: a data: URL's media type and base64, or an address */
	struct str media_type, data;
	const char *url;      /* NULL: it is data */
	const cJSON *element; /* the whole part; NULL: the content was one text */
};

typedef int part_fn(void *arg, const struct part *p, struct err *e);
/* Of a message without raw_json tree is NULL.  Empty texts are left out.  -1: what fn said, or
 * ERR_UNSUPPORTED for a part that is neither text, image nor file (its type is named). */
int parts_each(const struct message *m, const cJSON *tree, part_fn *fn, void *arg,
	       struct err *e);

/* The message's raw_json as a tree; *tree NULL when it has none.  The caller deletes it. */
int parts_tree(const struct message *m, cJSON **tree, struct err *e);
/* The fields that the core does not read; an empty object when there are none. */
int parts_extra(const struct request *r, cJSON **tree, struct err *e);

struct tool_call {
	const char *id, *name; /* never NULL; the id may be "" */
	cJSON *arguments;      /* an object; the receiver takes it */
};
typedef void tool_call_fn(void *arg, const struct tool_call *c);
int parts_tool_calls(const cJSON *message, tool_call_fn *fn, void *arg, struct err *e);

/* What the request wants of the model's thinking: reasoning_effort, or OpenRouter's `reasoning`. */
enum effort {
	EFFORT_UNSAID,
	EFFORT_NONE,
	EFFORT_MINIMAL,
	EFFORT_LOW,
	EFFORT_MEDIUM,
	EFFORT_HIGH,
	EFFORT_MAX
};
int parts_effort(const cJSON *extra, enum effort *out, int *max_tokens, struct err *e);

/* response_format: 0 text, 1 any JSON, 2 a schema (*schema borrowed). */
int parts_format(const cJSON *extra, const cJSON **schema, struct err *e);

/* Members that would change what the answer is made of, and that a protocol cannot say: the first of
 * names (ending with NULL) that is there with a value that asks for something is ERR_UNSUPPORTED. */
int parts_refuse(const cJSON *extra, const char *const *names, const char *protocol,
		 struct err *e);

#endif
