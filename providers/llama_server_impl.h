/* What the files of the managed llama-servers share; nobody else includes it. */
#ifndef HOB_LLAMA_SERVER_IMPL_H
#define HOB_LLAMA_SERVER_IMPL_H

#include <sys/queue.h>
#include "base/json.h"
#include "base/sm.h"
#include "net/child.h"
#include "net/lines.h"
#include "providers/llama_server.h"

enum llama_state {
	LLAMA_WAITING,   /* for its turn, the back-off, or to be told that it cannot be */
	LLAMA_STARTING,  /* spawned, not ready yet */
	LLAMA_ASKING,    /* ready; its own account of the model is awaited */
	LLAMA_MEASURING, /* a thread counts its pages */
	LLAMA_READY,
	LLAMA_STOPPING, /* signalled; its exit is awaited */
	LLAMA_GONE,     /* the last references are */
	LLAMA_STATES
};

enum {
	LLAMA_KEY_BYTES = 32,
	LLAMA_MAX_SOCKET_BYTES = 107, /* sun_path less its NUL */
	LLAMA_MAX_ANSWER_BYTES = 256 << 10,
	LLAMA_ASK_MS = 5000,
	LLAMA_CONNECT_MS = 5000,
	LLAMA_IDLE_MS = 600000, /* silence in an answer; pings come every 30 s */
	LLAMA_VERDICT_MS =
		1000, /* after a lost connection, for the exit that explains it */
	LLAMA_LOG_BURST = 200, /* lines; then LLAMA_LOG_PER_S */
	LLAMA_LOG_PER_S = 50,
	LLAMA_MAX_CRASH_ROWS = 64,
	LLAMA_SAID_BYTES = 200,
};

struct llama_server;
struct job;
TAILQ_HEAD(llama_jobs, job);
TAILQ_HEAD(llama_server_list, llama_server);
TAILQ_HEAD(crash_list, crash_row);

struct argv_list {
	char **v; /* owned; ends with NULL */
	size_t n;
};

/* What a line on standard output means. */
enum child_word { CHILD_WORD_NONE, CHILD_WORD_LOADING, CHILD_WORD_READY };

/* A program that serves one model over HTTP in OpenAI's dialect. */
struct child_kind {
	const char *name;
	void (*argv)(struct argv_list *out, const struct llama_server *s);
	void (*env)(struct argv_list *out);
	/* part: of the load, 0 to 1; < 0: not said. */
	enum child_word (*word)(struct str line, double *part);
	const char *health_path, *models_path;
	/* Gives its memory back but keeps the process, and the reverse.  NULL: it cannot, and
	 * its models are unloaded instead. */
	void (*park)(struct llama_server *s);
	void (*unpark)(struct llama_server *s);
};
extern const struct child_kind llama_server_kind;

/* Lines of a process in our log, so many a second. */
struct log_gate {
	uint64_t since_ms;
	unsigned left, dropped;
};

/* A GET that is under way, or not. */
struct ask {
	struct fetch_sink sink;
	struct upstream *up; /* owned; NULL: not made yet */
	struct fetch_call *call;
	struct buf body;
};

struct llama_server {
	TAILQ_ENTRY(llama_server) link; /* in list, until GONE */
	struct llama_servers *all;
	const struct child_kind *kind;
	uint64_t id;
	unsigned state;
	int refs; /* two timers, the process, the measuring, the provider */

	/* what was asked for; owned */
	char *name, *path, **args;
	int nargs, ctx, slots;
	uint64_t file_bytes;
	int64_t mtime_ns;
	struct llama_load_events ev;
	llama_unload_cb *unloaded; /* or NULL */
	void *unloaded_arg;

	/* the process */
	struct child *child; /* or NULL */
	char *socket_path, *key_path;
	char key[2 * LLAMA_KEY_BYTES + 1];
	struct lines out;
	struct log_gate gate;
	char said[LLAMA_SAID_BYTES]; /* its last line that sounded like a reason */
	bool said_error, pushes;
	uint64_t spawn_ms, ready_ms;
	struct err failed; /* why the load fails, when it is known before the exit */

	/* readiness */
	uv_timer_t timer;    /* by state: spawn, next look, verdict */
	uv_timer_t deadline; /* of the load */
	uint64_t poll_ms;
	struct ask health, models;
	struct llama_loaded info;
	uv_work_t work;
	uint64_t measured_bytes;

	/* answers */
	struct provider *inner; /* OpenAI's dialect on the socket; NULL until ready */
	struct llama_jobs jobs;
};

struct crash_row {
	TAILQ_ENTRY(crash_row) link; /* the latest first */
	char *path;
	uint64_t file_bytes;
	int64_t mtime_ns; /* another file under the path begins anew */
	unsigned in_a_row;
	uint64_t retry_ms;
	char why[LLAMA_SAID_BYTES + 64];
};

struct llama_servers {
	struct provider provider; /* first: the provider is the whole */
	uv_loop_t *loop;
	struct fetch *fetch; /* borrowed */
	char *program, *dir, *hob;
	int threads;
	uint64_t load_ms;
	bool dir_ready;
	struct llama_server_list list;
	int alive; /* servers whose memory is not free yet, and our timer */
	struct crash_list crashes;
	int ncrash_rows;
	unsigned ncrashes;

	struct llama_jobs failing; /* to be told in a later turn */
	uv_timer_t soon;

	void (*gone)(void *arg, uint64_t id, const char *why);
	void *gone_arg;
	bool closing;
	void (*done)(void *arg);
	void *done_arg;
};

/* llama_server.c */
struct llama_server *llama_find(const struct llama_servers *l, uint64_t id);
void llama_move(struct llama_server *s, enum llama_state next);
void llama_unref(struct llama_server *s);
void llama_is_ready(struct llama_server *s);  /* STARTING: it answers */
void llama_was_asked(struct llama_server *s); /* ASKING: info is filled */
void llama_close(struct provider *p, void (*done)(void *arg), void *arg);

/* llama_server_kind.c */
void argv_add(struct argv_list *a, const char *word);
void argv_free(struct argv_list *a);
char *llama_program(const struct llama_servers *l, struct err *e); /* its path; owned */

/* llama_server_dir.c */
int llama_dir_make(struct llama_servers *l, struct err *e);
int llama_files_make(struct llama_server *s, struct err *e); /* key, paths */
void llama_key_forget(struct llama_server *s); /* once the process has read it */
void llama_files_remove(struct llama_server *s);

/* llama_server_ready.c */
void llama_poll(struct llama_server *s);
void llama_ask(struct llama_server *s);
void llama_asks_end(struct llama_server *s);

/* llama_server_crash.c */
void crash_note(struct llama_server *s, const char *why);
void crash_forget(struct llama_server *s);
/* ms until it may be started; -1: the breaker is open, e says until when. */
int64_t crash_wait(struct llama_server *s, struct err *e);
void crash_free(struct llama_servers *l);

/* llama_server_log.c */
void llama_log(struct llama_server *s, struct str line);

/* llama_server_size.c */
uint64_t llama_group_bytes(int pgid); /* any thread; reads /proc */

/* llama_server_jobs.c */
extern const struct provider_ops llama_provider_ops;
void llama_jobs_fail(struct llama_server *s, const struct err *e);
void llama_jobs_verdict(
	struct llama_server *s); /* nothing explained the lost connections */
void llama_jobs_soon(uv_timer_t *t);

#endif
