/* The configuration: one file, read with libConfuse; all of it has defaults.
 *
 * Found at --config, $HOB_CONFIG, $XDG_CONFIG_HOME/hob/hob.conf; no file is fine.  A wrong key
 * or value is an error with file, line and the nearest right name.  Immutable once read;
 * SIGHUP reads a new one and the daemon applies the difference. */
#ifndef HOB_CONFIG_H
#define HOB_CONFIG_H

#include "base/err.h"
#include "cache/policy.h"

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

struct config_model {
	char *name, *path; /* owned */
	struct model_settings settings;
};

struct config_provider {
	char *name;     /* title: the prefix of its models */
	char *kind;     /* "openai" */
	char *url;      /* base, e.g. "https://openrouter.ai/api/v1" */
	char *key_env;  /* name of an environment variable, or NULL */
	char *key_file; /* a file of mode 0600, or NULL */
	char *ca_file;  /* PEM: authorities trusted beside the system's, or NULL */
	int connect_timeout_ms, first_byte_timeout_ms, idle_timeout_ms;
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
	char *trace;        /* owned: file that requests are recorded in, or NULL */
	char *llama_server; /* owned: the program for models the engine does not speak */
	int load_timeout_ms; /* of such a program until it is ready; 600000 */

	/* memory {} */
	bool memory_enabled;
	char *memory_path; /* $XDG_DATA_HOME/hob/memory.db */

	char *models_dir; /* $XDG_DATA_HOME/hob/models */
	char *default_model;
	struct config_model *models;
	int nmodels;
	struct config_provider *providers; /* "openrouter" is there by default */
	int nproviders;
};

/* What the command line says; it wins over the file, also when that is read again. */
struct config_source {
	const char *path;        /* borrowed; NULL: search.  A named one must exist. */
	const char *socket_path; /* borrowed; NULL: as in the file */
	bool has_port;
	int port;
};

struct config *config_load(const struct config_source *s, struct err *e);
void config_free(struct config *c);

/* A size as in the file: "8GiB", "500 MB", "1073741824".  False: it is none. */
bool config_bytes(const char *s, uint64_t *out);

#endif
