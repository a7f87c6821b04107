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
	REMOTE_MAX_CONNECTIONS = 8, /* of servers beyond loopback, by default */
};

TAILQ_HEAD(job_list, job);
TAILQ_HEAD(get_list, remote_get);

/* Upstreams for prompts, with one generation of the key in their headers.  An older generation lives
 * until its last call has ended. */
struct link {
	TAILQ_ENTRY(link) link;
	struct remote *remote;
	int at;              /* of which replica; 0 */
	unsigned generation; /* of the key */
	int calls;
	bool retired;
	struct upstream *chat, *raw; /* owned; NULL until they are used */
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
	char *url, *who;             /* owned */
	char *socket_path, *ca_file; /* owned or NULL; socket_path of a server of ours */
	int max_connections;         /* 0 = no limit */
	bool warms;                  /* connections are made before they are needed */
	struct fetch_deadlines deadlines;
	struct key *key;
	struct replicas *replicas; /* owned; NULL: one server */
	struct upstream *warmer;   /* owned or NULL; its request makes a connection ready */
	unsigned warmer_generation; /* of the key */
	struct link_list links;    /* one that is not retired for each server in use */
	struct job_list running, failing; /* failing: wait for `later` */
	struct get_list asked;
	struct provider_status past; /* connections of what was asked and has its answer */
	uv_timer_t later;
	uint64_t calls;
	int in_flight;
	bool warned, closing;
	void (*done)(void *arg);
	void *done_arg;
};

/* remote_link.c: the only place where upstreams are made. */
/* The first URL and the authorities judged by the eyes of those who will use them; *host is the
 * caller's. */
int link_host(struct fetch *f, const struct config_provider *c, char **host, struct err *e);
/* A connection to the one server, unless there is one. */
void link_warm(struct remote *r);
/* The upstream for prompts with the key as it is now; *out counts the call until link_done().  NULL:
 * e. */
struct upstream *link_open(struct remote *r, int at, bool is_chat, struct link **out,
			   struct err *e);
/* One for a small question, to any replica; the caller's.  Connections are shared all the same. */
struct upstream *link_once(struct remote *r, const char *path, struct err *e);
/* One of the caller's own for a URL of the provider's origins. */
struct upstream *link_upstream(struct remote *r, const char *url, struct err *e);
void link_done(struct link *l);
void links_free(struct remote *r);
void links_stats(const struct remote *r, struct provider_status *out);
/* Adds the connections of one upstream; NULL: none. */
void link_stats(const struct upstream *u, struct provider_status *out);

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
