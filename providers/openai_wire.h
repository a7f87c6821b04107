/* OpenAI's chat completions as bytes: requests to JSON, statuses and error objects to errors.
 *
 * Pure: no I/O, no state. */
#ifndef HOB_OPENAI_WIRE_H
#define HOB_OPENAI_WIRE_H

#include "base/buf.h"
#include "base/json.h"
#include "route/event.h"
#include "route/request.h"

/* What differs between servers that all call themselves compatible. */
struct openai_dialect {
	const char *host; /* NULL: any other */
	const char *max_tokens_key;
	bool session_id; /* takes our conversation id: its prompt cache follows it */
	const char *const
		*headers; /* constant request headers, NULL-terminated; or NULL */
	bool progress;    /* can tell how far it is with the prompt: asked to */
};

const struct openai_dialect *openai_dialect_of(const char *host);
const struct openai_dialect *openai_dialect_llama(void); /* llama-server's */

/* The body of /chat/completions, or of /completions when r is a raw prompt.  Sampling fields
 * only when given; extra_json's members are added, but not those that are ours. -1 ERR_INVALID
 * when a JSON text in r does not parse. */
int openai_body(struct buf *out, const struct openai_dialect *d, const char *model,
		const struct request *r, struct err *e);

/* What an answer with a status that is not 200, or an error object in a stream, means.
 * `who`: "provider 'x'".  `key_source`: for 401 and 403, "$OPENROUTER_API_KEY".  body may be
 * JSON, HTML or anything. */
struct openai_failure {
	const char *who, *key_source;
	int status;
	struct str content_type, body, retry_after; /* empty when there is none */
};
int openai_failure(struct err *e, const struct openai_failure *f);
/* The error member of a chunk: an object or a string. */
int openai_chunk_error(struct err *e, const struct openai_failure *f, const cJSON *error);

/* "stop", "tool_calls", ... false: none of the known ones ("error" included). */
bool openai_finish(const char *name, enum finish_reason *out);
/* Fills what the object says and leaves the rest. */
void openai_usage(const cJSON *usage, struct usage *u);
/* llama-server's "timings" and "prompt_progress". */
void openai_timings(const cJSON *timings, struct usage *u);
void openai_progress(const cJSON *progress, int64_t *done, int64_t *total);

/* Bytes of s before an unfinished last UTF-8 character; n when it is whole (or not UTF-8). */
size_t openai_whole_utf8(const char *s, size_t n);

#endif
