/* Joins it all: a request comes in, history is attached, a plan is made, its candidates are tried
 * in order, events go out, the finished turn is stored.
 *
 *   state     waits for                       whose answer it is        then
 *   START     dispatch_start() to return      the job's timer           HISTORY, PLAN
 *   HISTORY   the conversation's path         memory/store              PLAN
 *   PLAN      nothing: a candidate is chosen  (no wait)                 LEASE, MONEY, BEGIN, RUN; HISTORY; WAIT
 *   WAIT      a delay, or a turn of the loop  the job's timer           PLAN
 *   LEASE     a local model                   cache                     COUNT, BEGIN, RUN; WAIT
 *   MONEY     a reservation on disk           route/money               BEGIN, RUN; WAIT
 *   COUNT     tokens of the messages          providers/engine          BEGIN, RUN; WAIT
 *   BEGIN     the turn to be opened, once     memory/store              RUN; WAIT
 *   RUN       the answer                      the candidate's provider  END; WAIT
 *   END       the commit of the turn          memory/store              DONE
 *   DONE      told or cancelled: the memory goes with the last answer that somebody owes
 *
 * WAIT is where failures lead to that are not final.  Each state before END may also go to END or
 * DONE: failed, superseded or cancelled.  A plain name's plan (plan_is_plain()) does not depend on the
 * history and comes before it.
 *
 * Commit boundary: EVENT_STARTED goes out right before the first text, reasoning or tool call, or
 * before EVENT_FINISHED when there is none, so that it names what really answered.  Until then a
 * failure is free: retry.h says whether the same candidate is tried again (WAIT) or the next one.
 * After it a failure is final.  When nothing is left, the client gets the error of the first
 * candidate, with a text that names what else was tried.
 *
 * Loop thread only.  The call takes the request.  The sink is never called before
 * dispatch_start() returns; after a terminal event or dispatch_cancel() never again, and the
 * handle is invalid.  With a conversation the terminal event is delivered only after the turn was
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
