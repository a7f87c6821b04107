/* What the files of remote providers share; nobody else includes it. */
#ifndef HOB_REMOTE_IMPL_H
#define HOB_REMOTE_IMPL_H

#include <sys/queue.h>
#include "providers/key.h"
#include "providers/remote.h"
#include "providers/replicas.h"

enum {
	REMOTE_DRAIN_MS = 1000,
	REMOTE_GET_CONNECT_MS = 4000,
	REMOTE_GET_TOTAL_MS = 15000,
	REMOTE_WARM_MS = 20000, /* a connection used since is taken to be still open */
};

TAILQ_HEAD(job_list, job);
TAILQ_HEAD(get_list, remote_get);

/* The paths of one base URL that were asked for, with one generation of the key in their headers.
 * An older generation lives until its last call has ended. */
struct link {
	TAILQ_ENTRY(link) link;
	struct remote *remote;
	int at;              /* of which replica; 0 */
	char *base;          /* owned */
	unsigned generation; /* of the key */
	int calls;
	bool retired;
	int npaths;
	struct {
		char *path; /* owned */
		struct upstream *up;
	} paths[8];
};
TAILQ_HEAD(link_list, link);

struct remote {
	struct provider base;
	struct provider_ops ops;
	uv_loop_t *loop;
	struct fetch *fetch; /* borrowed */
	const struct remote_protocol *protocol;
	const struct provider_preset *preset;
	const struct remote_extras *extras; /* or NULL */
	void *extras_arg;
	char *url, *socket_path,
		*who; /* owned; socket_path of a server of ours, else NULL */
	struct fetch_deadlines deadlines;
	struct key *key;
	struct replicas *replicas; /* owned; NULL: one server */
	struct link_list links;    /* one that is not retired for each server in use */
	struct job_list running, failing; /* failing: wait for `later` */
	struct get_list asked;
	uv_timer_t later;
	uint64_t calls, used_ms;
	int in_flight;
	bool warned, closing;
	void (*done)(void *arg);
	void *done_arg;
};

/* remote_link.c: the only place where upstreams are made. */
/* An upstream for the path with the key as it is now; *out counts the call until link_done().  NULL:
 * e. */
struct upstream *link_open(struct remote *r, int at, const char *path, struct link **out,
			   struct err *e);
/* One of the caller's own for a URL of the provider's origins. */
struct upstream *link_upstream(struct remote *r, const char *url, struct err *e);
const char *link_base(const struct remote *r, int at);
void link_done(struct link *l);
void links_free(struct remote *r);

/* remote_job.c */
struct job *remote_start(struct provider *p, const char *model, const struct request *r,
			 struct event_sink *sink);
void remote_cancel(struct job *j);
void remote_pause(struct job *j, bool paused);
void remote_jobs_later(uv_timer_t *t);
void remote_jobs_close(struct remote *r);

/* remote_get.c */
void remote_asked_close(struct remote *r);

/* remote.c */
struct remote *remote_make(uv_loop_t *loop, struct fetch *f, const char *name,
			   const struct remote_protocol *protocol);

#endif
