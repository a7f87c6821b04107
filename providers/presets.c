/* The table of presets.  Pure. */
#include "providers/presets.h"

static const struct provider_preset presets[] = {
	/* name, kind, url, key, its name of max_tokens, session, options, pads, progress */
	{"openrouter", PROVIDER_OPENROUTER, "https://openrouter.ai/api/v1",
	 "OPENROUTER_API_KEY", "max_tokens", true, false, false, false},
	{"openai", PROVIDER_OPENAI, "https://api.openai.com/v1", "OPENAI_API_KEY",
	 "max_completion_tokens", false, true, true, false},
	{"anthropic", PROVIDER_ANTHROPIC, "https://api.anthropic.com",
	 "ANTHROPIC_API_KEY", "max_tokens", false, false, false, false},
	{"ollama", PROVIDER_OLLAMA, "http://127.0.0.1:11434", NULL, "max_tokens", false,
	 false, false, false},
	{"vllm", PROVIDER_OPENAI, "http://127.0.0.1:8000/v1", NULL, "max_tokens", false,
	 true, false, false},
	{"lmstudio", PROVIDER_OPENAI, "http://127.0.0.1:1234/v1", NULL, "max_tokens",
	 false, true, false, false},
	{"llama-server", PROVIDER_OPENAI, "http://127.0.0.1:8080/v1", NULL, "max_tokens",
	 false, true, false, false},
	{"groq", PROVIDER_OPENAI, "https://api.groq.com/openai/v1", "GROQ_API_KEY",
	 "max_completion_tokens", false, true, false, false},
	{"together", PROVIDER_OPENAI, "https://api.together.xyz/v1", "TOGETHER_API_KEY",
	 "max_tokens", false, true, false, false},
	{"deepseek", PROVIDER_OPENAI, "https://api.deepseek.com/v1", "DEEPSEEK_API_KEY",
	 "max_tokens", false, true, false, false},
	{"mistral", PROVIDER_OPENAI, "https://api.mistral.ai/v1", "MISTRAL_API_KEY",
	 "max_tokens", false, false, false, false},
	{"fireworks", PROVIDER_OPENAI, "https://api.fireworks.ai/inference/v1",
	 "FIREWORKS_API_KEY", "max_tokens", false, true, false, false},
	{"xai", PROVIDER_OPENAI, "https://api.x.ai/v1", "XAI_API_KEY",
	 "max_completion_tokens", false, true, false, false},
	{"cerebras", PROVIDER_OPENAI, "https://api.cerebras.ai/v1", "CEREBRAS_API_KEY",
	 "max_completion_tokens", false, true, false, false},
};

const struct provider_preset *provider_preset(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(presets); i++)
		if (!strcmp(presets[i].name, name))
			return &presets[i];
	return NULL;
}

const struct provider_preset *provider_preset_of_host(const char *host)
{
	size_t n = strlen(host);

	for (size_t i = 0; i < ARRAY_LEN(presets); i++) {
		const char *at = strstr(presets[i].url, "://") + 3;

		if (presets[i].key_env && !strncmp(at, host, n) && strchr("/:", at[n]))
			return &presets[i];
	}
	return NULL;
}

const char *provider_preset_names(void)
{
	return "openrouter, openai, anthropic, ollama, vllm, lmstudio, llama-server, groq, "
	       "together, deepseek, mistral, fireworks, xai, cerebras";
}
