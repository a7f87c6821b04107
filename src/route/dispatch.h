/* Joins it all: a request comes in, history is attached, the model is found, leased and run,
 * events go out, the finished turn is stored.
 *
 *      submit ─▶ HISTORY ─▶ LEASE ─▶ RUN ─▶ STORE ─▶ end
 *                   │         │       │
 *                   └─────────┴───────┴──▶ failed | cancelled
 *
 * Loop thread only.  The call takes the request.  The sink is never called before
 * dispatch_start() returns; after a terminal event or dispatch_cancel() never again, and the
 * handle is invalid.  A remote or engine failure before the first text may be retried inside;
 * after it never. With a conversation the terminal event is delivered only after the turn was
 * committed (or the store said that it cannot). */
#ifndef HOB_DISPATCH_H
#define HOB_DISPATCH_H

#include "providers/provider.h"
#include "route/event.h"
#include "route/request.h"

struct dispatch;
struct dispatch_job;

struct dispatch_job *dispatch_start(struct dispatch *d, struct request *r,
				    struct event_sink *sink);
void dispatch_cancel(struct dispatch_job *j);
void dispatch_pause(struct dispatch_job *j, bool paused);

#endif
