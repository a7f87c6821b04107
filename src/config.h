/* The configuration: one file, read with libConfuse; all of it has defaults.
 *
 * Found at --config, $HOB_CONFIG, $XDG_CONFIG_HOME/hob/hob.conf; no file is fine.  A wrong key
 * or value is an error with file, line and the nearest right name.  Immutable once read;
 * SIGHUP reads a new one and the daemon applies the difference. */
#ifndef HOB_CONFIG_H
#define HOB_CONFIG_H

#include "base/err.h"
#include "cache/policy.h"
#include "memory/store_limits.h"

enum model_role {
	MODEL_ANY,
	MODEL_COMPLETION
}; /* completion: may use cache.reserve_completion */
enum model_backend { BACKEND_AUTO, BACKEND_ENGINE, BACKEND_LLAMA_SERVER };

#define KEEP_ALIVE_DEFAULT INT64_MIN /* nobody said; else ms, or DURATION_FOREVER */

/* How a model is to be held. */
struct model_settings {
	int ctx; /* 0 = cache.ctx */
	bool pinned, preload;
	int64_t keep_alive_ms;
	enum model_role role;
	enum model_backend backend;
	char **args; /* more arguments of llama-server; owned by the configuration */
	int nargs;
};

/* A list of words; owned by the configuration. */
struct names {
	char **list;
	int n;
};

enum tristate { UNSAID = -1, NO, YES };

/* What a model is good for, as the user declares it; for remote models it wins over what the
 * provider says.  Prices in USD per million tokens; < 0 = not given. */
struct model_facts {
	int strength; /* 1 to 10; 0 = not declared */
	double price_input, price_output, price_cached;
	enum tristate images, tools, structured;
	struct names fallback; /* what takes over when it cannot answer */
};

/* With a provider's name and '/' in front it describes a remote model, and has no path. */
struct config_model {
	char *name, *path; /* owned */
	struct model_settings settings;
	struct model_facts facts;
};

enum provider_kind {
	PROVIDER_OPENAI,
	PROVIDER_OPENROUTER,
	PROVIDER_ANTHROPIC,
	PROVIDER_OLLAMA,
	PROVIDER_KINDS
};

struct config_provider {
	char *name;      /* title: the prefix of its models */
	char *preset;    /* a row of providers/presets.h; NULL: none */
	char *kind_name; /* as written, or NULL: the preset's, else openai */
	struct names
		urls;   /* bases, e.g. "https://openrouter.ai/api/v1"; none: the preset's.
			    * Several: replicas of one cluster */
	char *key_env;  /* name of an environment variable, or NULL */
	char *key_file; /* a file of mode 0600, or NULL */
	char *key_command; /* prints the key, run by /bin/sh; or NULL */
	char *ca_file; /* PEM: more trusted authorities beside the system's, or NULL */
	bool local;    /* never leaves this machine: private prompts may use it */
	bool warm;     /* connections are made before they are needed */
	int connect_timeout_ms, first_byte_timeout_ms, idle_timeout_ms, total_timeout_ms,
		queue_timeout_ms;
	int max_connections; /* -1 = not given: 8, none on loopback; 0 = no limit */
	double daily_cap_usd, monthly_cap_usd; /* 0 = none */
	/* OpenRouter's routing object and attribution; NULL, UNSAID and empty: not sent */
	char *data_collection, *sort, *app_url, *app_title;
	enum tristate zdr;
	struct names order, only, ignore;
};

struct config_rule_compiled; /* route/rules.c's */

/* A rule of a route: when all conditions that are given hold. */
struct config_rule {
	char *name;
	int min_tokens, max_tokens; /* of the prompt; 0 = no bound */
	enum tristate images, tools, structured, is_private;
	char *class, *client; /* or NULL */
	struct names code;    /* languages of code in the prompt: any of them */
	struct names words;   /* in the last user message, any case: any of them */
	char *regex;          /* PCRE2, of the last user message; or NULL */
	struct config_rule_compiled *compiled; /* of the regex; owned, by rules_check() */
	char *hours;                           /* "22:00-07:00", local time; or NULL */
	struct names days;                     /* "mon" ... "sun": any of them */
	double budget_below_usd; /* of today's budget is left; < 0 = not asked */
	struct names use;        /* candidates; empty: refuse */
	char *refuse;            /* text of the refusal, or NULL */
};

enum route_pick { PICK_ORDER, PICK_AUTO };
enum route_prefer { PREFER_BALANCED, PREFER_FAST, PREFER_CHEAP, PREFER_STRONG };

struct config_route {
	char *name; /* what clients write as the model */
	struct names candidates;
	enum route_pick pick;
	enum route_prefer prefer;
	int patience_ms;
	char *bridge; /* answers while a cold local model loads, or NULL */
	bool after_refusal;
	struct config_rule *rules;
	int nrules;
};

/* USD; 0 = none. */
struct config_budget {
	double daily, monthly, conversation;
	double soft; /* share of a cap from which local models are preferred */
};

/* Whose turns are written to disk; incognito conversations never are. */
enum memory_store {
	MEMORY_STORE_OFF, /* nobody's */
	MEMORY_STORE_CLI, /* those of hob's own commands */
	MEMORY_STORE_OPT_IN, /* of whoever asks: a conversation, store: true, the Responses API */
	MEMORY_STORE_ALL /* chat requests without a conversation too */
};

enum { PERSONA_MAX_SYSTEM_BYTES = 64 << 10, PERSONA_MAX_NAME_BYTES = 64 };

/* A system prompt, a model and settings under one name.  Everything in it yields to what a
 * request says itself. */
struct config_persona {
	char *name;
	char *system, *system_file; /* one of them, or neither; NULL: not given */
	char *model, *description;  /* or NULL */
	double temperature, top_p;  /* < 0 = not given */
	int max_tokens;             /* 0 = not given */
	bool is_private;            /* true: nothing of it leaves this machine */
};

struct config {
	char *file; /* owned; NULL: none was found */

	/* server {} */
	char *socket_path; /* owned; unix socket */
	char *bind;        /* "127.0.0.1" */
	int port;          /* 4620; 0 = no TCP; -1 = any free port (tests) */
	char *token_file;  /* NULL = no token; needed for a non-loopback bind */
	char *token;       /* read from token_file */
	char **hosts;      /* additional allowed Host names */
	int nhosts;
	int header_timeout_ms; /* 10000 */
	int queue_timeout_ms;  /* 120000: load + wait before the first token */
	bool local_only;       /* nothing leaves this machine */

	/* cache {} */
	uint64_t
		budget_bytes; /* resident local models; 0 = half of MemAvailable at start */
	int ctx;              /* tokens per sequence; 4096 */
	int slots;            /* sequences per model; 4 */
	int threads;          /* 0 = physical cores allowed to us */
	char *kernels;        /* "auto", "scalar", "avx2", "avx512" */
	uint64_t
		parked_bytes; /* host copies of parked models; 0 = half of MemAvailable at start */
	uint64_t reserve_completion_bytes; /* of the budget, for models of that role */
	uint64_t reserve_free_bytes;       /* of the system's memory, left to others */
	enum policy_kind policy;
	int64_t keep_alive_ms; /* of an idle model; DURATION_FOREVER */
	int min_stay_ms;       /* the most that a fresh model is protected; 5000 */
	int queue;             /* requests that may wait for one model; 64 */
	uint64_t packed_bytes; /* of files with weights in the kernels' order; 0 = none */
	uint64_t kv_ram_bytes, kv_disk_bytes; /* saved KV state; 0 = none */
	char *trace;         /* owned: file that requests are recorded in, or NULL */
	char *llama_server;  /* owned: the program for models the engine does not speak */
	int load_timeout_ms; /* of such a program until it is ready; 600000 */

	/* memory {} */
	bool memory_enabled;
	char *memory_path; /* $XDG_DATA_HOME/hob/memory.db */
	enum memory_store memory_store;
	bool memory_durable; /* every turn is synced to disk before it counts as kept */
	bool memory_summary; /* false: whole turns are dropped instead */
	char *memory_summary_model; /* owned; NULL: the one that is warm, else the turn's */
	bool memory_titles;         /* a model makes titles, in the background */
	struct store_limits memory_limits;

	char *models_dir; /* $XDG_DATA_HOME/hob/models */
	char *default_model;
	struct config_model *models;
	int nmodels;
	struct config_provider *providers; /* "openrouter" is there by default */
	int nproviders;
	struct config_route *routes; /* "auto" is not among them unless it was written */
	int nroutes;
	struct config_budget budget;
	struct config_persona *personas;
	int npersonas;
};

/* What the command line says; it wins over the file, also when that is read again. */
struct config_source {
	const char *path;        /* borrowed; NULL: search.  A named one must exist. */
	const char *socket_path; /* borrowed; NULL: as in the file */
	bool has_port, local_only;
	int port;
};

struct config *config_load(const struct config_source *s, struct err *e);
void config_free(struct config *c);

/* The same in every setting but the caps, which the accounts read. */
bool config_provider_equal(const struct config_provider *a,
			   const struct config_provider *b);
/* The provider whose name stands before the first '/' of the model's name, or NULL. */
const struct config_provider *config_provider_of(const struct config *c,
						 const char *model);
const struct config_model *config_model(const struct config *c,
					const char *name); /* or NULL */
const struct config_route *config_route(const struct config *c,
					const char *name); /* or NULL */

const struct config_persona *config_persona(const struct config *c,
					    const char *name); /* or NULL */

/* "opt-in", as in the file */
const char *config_memory_store_name(enum memory_store store);

/* A size as in the file: "8GiB", "500 MB", "1073741824".  False: it is none. */
bool config_bytes(const char *s, uint64_t *out);

#endif
