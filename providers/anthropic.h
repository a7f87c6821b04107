/* Anthropic's Messages.
 *
 * What OpenAI's dialect says and this one cannot is ERR_UNSUPPORTED by name (logprobs, logit_bias,
 * penalties, audio, ignore_eos, response_format json_object, prompts without a chat); seed and min_p
 * are hints and left out, a temperature over 1 is 1, and of temperature and top_p only the first goes.
 * max_tokens is required there: the request's, else the model's own limit where it is known, else
 * ANTHROPIC_MAX_TOKENS. */
#ifndef HOB_PROVIDER_ANTHROPIC_H
#define HOB_PROVIDER_ANTHROPIC_H

#include "providers/remote.h"

enum {
	ANTHROPIC_MAX_TOKENS = 4096,
	ANTHROPIC_MIN_THINKING = 1024, /* tokens; its own lower limit */
};

extern const struct remote_protocol anthropic_protocol;
int anthropic_body(struct buf *out, const struct remote_ask *ask, struct err *e);

#endif
