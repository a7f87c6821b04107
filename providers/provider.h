/* Everything that can answer a prompt, the local engine included, is one of these.
 *
 * All calls on the loop thread.  start() never calls the sink before it returns; a request
 * that cannot even start fails by an EVENT_FAILED in a later turn of the loop.  The provider
 * borrows the request until its terminal event or cancel().  After the terminal event has
 * been delivered, the job is gone: the provider frees it when the sink returns.
 * cancel() is legal everywhere, also inside the sink: no event follows, the job is gone.
 * A pointer to a job must not be used after either.
 *
 * Providers never retry and never choose another model: the dispatcher does, by the error's
 * code.  EVENT_FAILED codes of remote providers (research: gateways.md 1.10):
 *   ERR_TRANSPORT   no connection, or lost before or within the answer
 *   ERR_TIMEOUT     no first byte, silence, or not done in time; 408, 504, 524
 *   ERR_BUSY        429, with retry_after_ms when the server said when
 *   ERR_PAYMENT     402, quota used up; retry_after_ms > 0: only in-flight money is short
 *   ERR_KEY         401, 403 of the key; also a key that is missing here: ERR_UNAUTHORIZED
 *   ERR_POLICY      moderation, content filter before any text
 *   ERR_CONTEXT     prompt longer than the model's context
 *   ERR_MODEL       404, no such model there
 *   ERR_INVALID, ERR_TOO_LARGE, ERR_UNSUPPORTED   other 4xx: the request is at fault
 *   ERR_UNAVAILABLE 500, 502, 503, 529: it is ill or overloaded
 *   ERR_UPSTREAM    what came back means nothing, or the stream was truncated */
#ifndef HOB_PROVIDER_H
#define HOB_PROVIDER_H

#include "base/buf.h"
#include "providers/remote_models.h"
#include "route/event.h"
#include "route/request.h"

struct job; /* opaque; each provider has its own */
struct provider;

/* How a provider does, for people (GET /v1/hob/providers). */
struct provider_status {
	const char *url,
		*key_source; /* borrowed; key_source: "$OPENROUTER_API_KEY", or NULL */
	bool has_key;        /* or needs none */
	uint64_t calls, new_connections, reused;
	int http_version; /* 11, 20; 0: no call yet */
	int in_flight;
	int replicas, replicas_up; /* servers of a cluster; 0: it is one server */
};

struct provider_ops {
	const char *kind; /* "engine", "openai", ... */
	/* model: the provider's own name of it (prefix such as "openrouter/" removed). */
	struct job *(*start)(struct provider *p, const char *model,
			     const struct request *r, struct event_sink *sink);
	void (*cancel)(struct job *j);
	void (*pause)(struct job *j,
		      bool paused); /* backpressure; a hint, may be ignored */
	/* Ends all jobs with EVENT_FAILED(ERR_UNAVAILABLE), closes handles, then calls done(arg)
	 * once, in a later turn of the loop; the provider's memory is gone by then. */
	void (*close)(struct provider *p, void (*done)(void *arg), void *arg);

	/* The rest is for remote ones; NULL: has none. */
	/* A prompt is likely soon: makes a connection ready, refreshes what is old. Cheap to repeat. */
	void (*warm)(struct provider *p);
	/* What is known of its models; borrowed, never NULL where the op is there. */
	const struct remote_models *(*models)(struct provider *p);
	void (*status)(struct provider *p, struct provider_status *out);
	/* Appends "\"quota\":{…},\"replicas\":[…]", each an object, an array or null. */
	void (*details_json)(struct provider *p, struct buf *out);
};

/* What an answer really cost, learnt after its job had ended: a cancelled stream's bill. */
struct late_cost {
	const char *request_id;               /* of struct request */
	int prompt_tokens, completion_tokens; /* -1 = unknown */
	double cost_usd;
};
struct provider_listener {
	void (*late_cost)(struct provider_listener *l, struct provider *p,
			  const struct late_cost *c);
};

/* First member of each provider's own struct. */
struct provider {
	const struct provider_ops *ops;
	char *name;    /* owned: "local", "openrouter"; the prefix of its models */
	bool is_local; /* nothing that it is given leaves this machine */
	struct provider_listener *listener; /* borrowed, or NULL */
};

#endif
