/* Ollama's own protocol: /api/chat, and /api/generate for raw prompts; lines of JSON.
 *
 * What OpenAI's dialect says and this one cannot is ERR_UNSUPPORTED by name (images by address, files,
 * logit_bias, audio, ignore_eos, a tool_choice that demands a call).  num_ctx is never sent: another one
 * makes the server load the model anew. */
#ifndef HOB_PROVIDER_OLLAMA_H
#define HOB_PROVIDER_OLLAMA_H

#include "providers/remote.h"

extern const struct remote_protocol ollama_protocol;
int ollama_body(struct buf *out, const struct remote_ask *ask, struct err *e);
/* The answer to POST /api/show {"model":…}: fills what it says of m. */
int ollama_read_show(const cJSON *tree, struct remote_model *m);

#endif
