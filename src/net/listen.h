/* The listening sockets: unix and TCP, ours or systemd's.  Loop thread. */
#ifndef HOB_LISTEN_H
#define HOB_LISTEN_H

#include <uv.h>
#include "base/err.h"
#include "config.h"

struct listen;

/* `ready` is called when a connection waits; it must take it with uv_accept().
 *
 * Unix: the folder is made (0700), the socket is 0600; a dead socket of ours is replaced.  One
 * instance per socket path is kept by an flock on "<path>.lock", which lives as long as we do.
 * ERR_CONFLICT: another hob serves there, or the port is taken.  ERR_INVALID: a path that is no
 * socket or too long, an address that is none, a bind beyond loopback without a token. */
struct listen *listen_open(uv_loop_t *loop, const struct config *c,
			   void (*ready)(void *arg, uv_stream_t *listener), void *arg,
			   struct err *e);
int listen_port(const struct listen *l); /* TCP; 0 = none */
/* No new connections; the lock is kept until listen_close(). */
void listen_stop(struct listen *l);
/* Stops and lets the lock go; done(arg) once, in a later turn of the loop, l is gone then. */
void listen_close(struct listen *l, void (*done)(void *arg), void *arg);

#endif
