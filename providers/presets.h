/* Servers whose address and habits are known: what a provider's section need not say.  Pure. */
#ifndef HOB_PRESETS_H
#define HOB_PRESETS_H

#include <stdbool.h>
#include "config.h"

struct provider_preset {
	const char *
		name; /* "openrouter", "openai", "anthropic", "ollama", "vllm", "lmstudio",
			   * "llama-server", "groq", "together", "deepseek", "mistral", ... */
	enum provider_kind kind;
	const char *url;     /* base, with /v1 where the protocol has it */
	const char *key_env; /* NULL: none is needed */
	/* Habits of servers that all call themselves compatible with OpenAI */
	const char *max_tokens_key; /* "max_tokens" or "max_completion_tokens" */
	bool sends_session_id; /* takes our conversation's id: its cache follows it */
	bool stream_options;   /* understands stream_options.include_usage */
	bool obfuscates;       /* pads its chunks unless it is told not to */
	bool progress;         /* can tell how far it is with the prompt: asked to */
};

const struct provider_preset *
provider_preset(const char *name); /* NULL: none of that name */
/* Of a host in a URL ("api.openai.com"), for sections that name no preset; NULL: unknown. */
const struct provider_preset *provider_preset_of_host(const char *host);
const char *provider_preset_names(void); /* for messages: "openrouter, openai, ..." */

#endif
