/* Models behind somebody else's HTTP API: the life of a job, whatever protocol it speaks.
 *
 *      start ─▶ key ─▶ call ─▶ answer.h reads ─▶ terminal event, once ─▶ drain ─▶ gone
 *
 * Loop thread.  A protocol is a table of functions; what a provider has beyond its protocol
 * (a catalogue, a quota, attribution) is a second table, struct remote_extras.  STARTED comes with
 * the first event, with the model that upstream names (reason and conversation NULL, history counts
 * -1: the dispatcher knows those).  A key is looked up when it is needed, sent to nobody but the
 * configured scheme, host and port, and taken out of every error. */
#ifndef HOB_REMOTE_H
#define HOB_REMOTE_H

#include <uv.h>
#include "config.h"
#include "net/fetch.h"
#include "providers/answer.h"
#include "providers/presets.h"
#include "providers/provider.h"

struct remote;

/* What a body is made of; all borrowed. */
struct remote_ask {
	const struct provider_preset *preset; /* habits of the server; never NULL */
	const char *model;
	const struct request *request;
	int max_output; /* tokens, of the model; 0: unknown */
	struct str
		more; /* members of the provider's own, ",\"provider\":{…}"; may be empty */
	bool (*takes)(
		const char *key); /* members of extra_json that are in `more`; or NULL */
};

struct remote_protocol {
	const char *name; /* also ops->kind */
	struct answer_reader reader;
	/* Under the base URL; raw_path NULL: prompts without a chat are ERR_UNSUPPORTED. */
	const char *chat_path, *raw_path, *models_path;
	const char
		*base_without;  /* an end that people write into the base URL, or NULL */
	const char *key_header; /* "Authorization: Bearer " */
	const char *const
		*headers; /* constant request headers, NULL-terminated; or NULL */
	/* -1: what cannot be said in this protocol, named; nothing was sent. */
	int (*body)(struct buf *out, const struct remote_ask *ask, struct err *e);
	/* The answer to models_path; *list is the caller's (remote_models.h).  -1: it is none. */
	int (*models)(const cJSON *tree, struct remote_model **list, int *n);
	/* What the listing leaves out, by a POST of {"model":…} for each; or NULL. */
	const char *show_path;
	int (*show)(const cJSON *tree, struct remote_model *m); /* fills m */
};

/* A job that is over, however it ended.  Borrowed for the call. */
struct remote_ended {
	const char *request_id, *model;
	const char *
		generation_id; /* X-Generation-Id of the response, "" when there was none */
	bool got_answer;       /* a response with status 200 had begun */
	bool finished;         /* by EVENT_FINISHED; else failed or cancelled */
	enum err_code failed;      /* of its EVENT_FAILED; ERR_NONE: it did not fail */
	const struct usage *usage; /* what is known of it */
};

/* What a provider has beyond its protocol; x is what open() made.  Each but open and close may be
 * NULL, and the provider then lacks it. */
struct remote_extras {
	void *(*open)(struct remote *r, const struct config_provider *c);
	/* Cancels its gets.  No call comes afterwards. */
	void (*close)(void *x);
	/* Request headers: lines "Name: value" with a newline behind each. */
	void (*headers)(void *x, struct buf *lines);
	void (*members)(void *x, const struct request *r,
			struct buf *out); /* of the body */
	bool (*takes)(
		const char *key); /* members of a client that members() has cared for */
	int (*max_output)(void *x, const char *model);
	void (*ended)(void *x, const struct remote_ended *e);
	/* As in struct provider_ops. */
	void (*warm)(void *x);
	const struct remote_models *(*models)(void *x);
	void (*details_json)(void *x, struct buf *out);
};

/* Of any kind; c is copied where it is needed; loop and f must outlive the provider, which ends by
 * its ops->close (there is no free function).  NULL: its URL is none.  A missing key is no error
 * here: each job then fails with ERR_UNAUTHORIZED, saying what to set. */
struct provider *provider_remote_new(uv_loop_t *loop, struct fetch *f,
				     const struct config_provider *c, struct err *e);

/* ---- for extras ---- */

struct provider *remote_provider(struct remote *r);
uv_loop_t *remote_loop(struct remote *r);
const char *remote_who(const struct remote *r); /* "provider 'x'" */
const struct remote_protocol *remote_protocol(const struct remote *r);
/* local_only leaves those out that are not local, one on a loopback address too: it may be a gateway. */
bool remote_is_allowed(const struct remote *r);
struct replicas;
const struct replicas *remote_replicas(const struct remote *r); /* NULL: one server */

/* A small question to the provider: GET of a path under the base URL, with its key.  cb comes once,
 * in a later turn, unless it is cancelled: tree is the answer and borrowed, or NULL and e says why.
 * Deadlines of its own; answers over max_bytes are refused. */
struct remote_get;
typedef void remote_get_cb(void *arg, const cJSON *tree, const struct err *e);
struct remote_get *remote_get(struct remote *r, const char *path, size_t max_bytes,
			      remote_get_cb *cb, void *arg);
/* The same as a POST of the body, whose memory is taken. */
struct remote_get *remote_post(struct remote *r, const char *path, struct buf *body,
			       size_t max_bytes, remote_get_cb *cb, void *arg);
void remote_get_cancel(struct remote_get *g); /* not after cb */

#endif
