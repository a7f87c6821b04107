/* The configuration: one file, read with libConfuse; all of it has defaults.
 *
 * Found at --config, $HOB_CONFIG, $XDG_CONFIG_HOME/hob/hob.conf; no file is fine.  A wrong key
 * or value is an error with file, line and the nearest right name.  Immutable once read;
 * SIGHUP reads a new one and the daemon applies the difference. */
#ifndef HOB_CONFIG_H
#define HOB_CONFIG_H

#include "base/err.h"

struct config_model {
	char *name, *path; /* owned */
	int ctx;           /* 0 = cache.ctx */
	bool pinned;
};

struct config_provider {
	char *name;     /* title: the prefix of its models */
	char *kind;     /* "openai" */
	char *url;      /* base, e.g. "https://openrouter.ai/api/v1" */
	char *key_env;  /* name of an environment variable, or NULL */
	char *key_file; /* a file of mode 0600, or NULL */
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

#endif
