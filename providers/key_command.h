/* Runs a command that prints a key: `pass show openrouter`.
 *
 * Loop thread.  /bin/sh -c, in a session of its own, with /dev/null as its input and its standard
 * error, and with an environment that holds what such programs need and nothing that could be another
 * secret.  At most KEY_MAX_BYTES of its first output are taken; over KEY_COMMAND_MS it is killed with
 * all that it started. */
#ifndef HOB_KEY_COMMAND_H
#define HOB_KEY_COMMAND_H

#include <uv.h>
#include "base/err.h"

struct key_command;

/* output: KEY_MAX_BYTES long, NUL-terminated, to be wiped by the receiver; or NULL and e says why
 * (never what it printed).  Once, in a later turn. */
typedef void key_command_cb(void *arg, char *output, const struct err *e);
struct key_command *key_command_start(uv_loop_t *loop, const char *command,
				      key_command_cb *cb, void *arg, struct err *e);
/* Kills it; no callback.  Its memory goes by itself. */
void key_command_cancel(struct key_command *c);

#endif
