/* OpenAI's chat completions, and what calls itself compatible: OpenRouter, vLLM, llama-server, ...
 *
 * Asks upstream for a stream always.  A stream that ends without a finish reason or [DONE] is
 * ERR_UPSTREAM, never success. */
#ifndef HOB_PROVIDER_OPENAI_H
#define HOB_PROVIDER_OPENAI_H

#include <uv.h>
#include "net/fetch.h"
#include "providers/remote.h"

extern const struct remote_protocol openai_protocol;
extern const struct provider_preset openai_llama_server; /* of ours */

/* For protocols that are OpenAI's with more to it. */
int openai_event(struct answer *a, struct str type, const cJSON *tree, struct err *e);
int openai_whole(struct answer *a, const cJSON *tree, struct err *e);
int openai_read_models(const cJSON *tree, struct remote_model **list, int *n);
/* The body of /chat/completions, or of /completions when the request is a raw prompt.  Sampling
 * fields only when given; extra_json's members are added, but not those that are ours. -1 ERR_INVALID
 * when a JSON text in the request does not parse. */
int openai_body(struct buf *out, const struct remote_ask *ask, struct err *e);
/* What such a protocol has in common with OpenAI's: all but its name and how it lists models. */
#define OPENAI_DIALECT                                                    \
	.reader = {FRAMING_EVENTS, openai_event, openai_whole},           \
	.chat_path = "/chat/completions", .raw_path = "/completions",     \
	.models_path = "/models", .key_header = "Authorization: Bearer ", \
	.body = openai_body
/* "stop", "tool_calls", ... false: none of the known ones ("error" included). */
bool openai_finish(const char *name, enum finish_reason *out);
/* Fills what the object says and leaves the rest. */
void openai_usage(const cJSON *usage, struct usage *u);

/* A llama-server of ours behind a Unix socket; all copied.  The model's name in start() is
 * passed on as it is.  Its prefill is told as EVENT_PROGRESS. */
struct openai_local {
	const char *name;        /* of the provider */
	const char *who;         /* for messages: "llama-server of 'x'" */
	const char *socket_path; /* at most 107 bytes */
	const char *key;
	int connect_ms, idle_ms;
};
struct provider *provider_openai_local(uv_loop_t *loop, struct fetch *f,
				       const struct openai_local *l);

#endif
