/* The listening side as a whole: sockets, connections, guard and routes.
 *
 * Loop thread only.  Life: server_start → (server_drain) → server_close. */
#ifndef HOB_SERVER_H
#define HOB_SERVER_H

#include <uv.h>
#include "api/api.h"
#include "base/err.h"

struct server;

/* Takes the lock file, binds and listens on what api->config says, or on the sockets that
 * systemd passed (LISTEN_FDS).  Ignores SIGPIPE for the process.  NULL and an error that says
 * what to do: ERR_CONFLICT when another hob serves there or the port is taken, ERR_INVALID for
 * a bind beyond loopback without a token.  api is borrowed until server_close() is done. */
struct server *server_start(uv_loop_t *loop, const struct api *api, struct err *e);

int server_port(const struct server *s); /* TCP; 0 = none */
int server_connections(const struct server *s);
uint64_t server_requests(const struct server *s); /* answered, since start */
uint64_t
server_refused(const struct server *s); /* connections: too many, or a foreign uid */

/* Stops listening, closes idle connections, lets running replies finish; done(arg) once, in a
 * later turn of the loop, when no connection is left.  The caller has the deadline:
 * server_close() may follow at any time, and a drain that was cut short never calls done. */
void server_drain(struct server *s, void (*done)(void *arg), void *arg);

/* Closes everything at once, running requests are cancelled; done(arg) once, in a later turn,
 * s is gone then.  The socket file is removed (not one from systemd); the lock file stays, since
 * removing it would race with the next start. */
void server_close(struct server *s, void (*done)(void *arg), void *arg);

#endif
