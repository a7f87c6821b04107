/* Everything that can answer a prompt, the local engine included, is one of these.
 *
 * All calls on the loop thread.  start() never calls the sink before it returns; a request
 * that cannot even start fails by an EVENT_FAILED in a later turn of the loop.  The provider
 * borrows the request until its terminal event or cancel().  After the terminal event has
 * been delivered, the job is gone: the provider frees it when the sink returns.
 * cancel() is legal everywhere, also inside the sink: no event follows, the job is gone.
 * A pointer to a job must not be used after either. */
#ifndef HOB_PROVIDER_H
#define HOB_PROVIDER_H

#include "route/event.h"
#include "route/request.h"

struct job; /* opaque; each provider has its own */
struct provider;

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
};

/* First member of each provider's own struct. */
struct provider {
	const struct provider_ops *ops;
	char *name; /* owned: "local", "openrouter"; the prefix of its models */
};

#endif
