/* Remote models behind OpenAI's chat completions: OpenRouter, OpenAI, vLLM, llama-server.
 *
 * Asks upstream for a stream always.  Emits STARTED with the model that upstream names at its
 * first chunk (reason and conversation NULL, history counts -1: the dispatcher knows those), then
 * TEXT, REASONING and TOOL_CALL, then one terminal event.  A stream that ends without a finish
 * reason or [DONE] is ERR_UPSTREAM, never success.
 * The key comes from the environment or from a file that is ours and closed to others; it is
 * looked up again for each call until it is there, and never logged, nor part of an error. */
#ifndef HOB_PROVIDER_OPENAI_H
#define HOB_PROVIDER_OPENAI_H

#include <uv.h>
#include "config.h"
#include "net/fetch.h"
#include "providers/provider.h"

/* c is copied; loop and f must outlive the provider, which ends by its ops->close (there is no
 * free function).  NULL: the URL is no http or https URL.  A missing key is no error here: each
 * job then fails with ERR_UNAUTHORIZED, saying what to set. */
struct provider *provider_openai_new(uv_loop_t *loop, struct fetch *f,
				     const struct config_provider *c, struct err *e);

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
