/* A child for one line of output.  Loop thread.
 *
 * A reader may question why its complaints are thrown away: a password manager or `sh -x` may well
 * print the secret there, and the daemon's log keeps it.  The error says how to see them. */
#include "providers/key_command.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "net/environment.h"
#include "providers/key.h"

struct key_command {
	uv_process_t process;
	uv_pipe_t out;
	uv_timer_t deadline;
	int handles;
	int left;           /* of: its exit, the end of its output */
	key_command_cb *cb; /* NULL: cancelled or told */
	void *arg;
	size_t len;
	char output[KEY_MAX_BYTES];
	int64_t status;
	int signal;
	bool too_slow, too_long, reading;
};

/* Names or, with '*' at the end, beginnings of names. */
static const char *const passed[] = {
	"HOME",
	"PATH",
	"USER",
	"LOGNAME",
	"SHELL",
	"LANG",
	"LC_*",
	"TMPDIR",
	"XDG_*",
	"GNUPGHOME",
	"GPG_TTY",
	"GPG_AGENT_INFO",
	"DISPLAY",
	"XAUTHORITY",
	"WAYLAND_DISPLAY",
	"TERM",
	"SSH_AUTH_SOCK",
	"DBUS_SESSION_BUS_ADDRESS",
	"PASSWORD_STORE_*",
};

static void on_handle_closed(uv_handle_t *h)
{
	struct key_command *c = h->data;

	if (--c->handles > 0)
		return;
	explicit_bzero(c->output, sizeof c->output);
	free(c);
}

static void close_all(struct key_command *c)
{
	uv_close((uv_handle_t *)&c->process, on_handle_closed);
	uv_close((uv_handle_t *)&c->out, on_handle_closed);
	uv_close((uv_handle_t *)&c->deadline, on_handle_closed);
}

static int judge(const struct key_command *c, struct err *e)
{
	if (c->too_slow)
		return err_set(e, ERR_UNAUTHORIZED,
			       "its key_command did not end within %d s",
			       KEY_COMMAND_MS / 1000);
	if (c->too_long)
		return err_set(e, ERR_UNAUTHORIZED,
			       "its key_command printed over %d bytes", KEY_MAX_BYTES);
	if (c->signal)
		return err_set(e, ERR_UNAUTHORIZED,
			       "its key_command was killed (signal %d)", c->signal);
	if (c->status)
		return err_set(e, ERR_UNAUTHORIZED,
			       "its key_command failed (exit status %lld): run it by "
			       "hand to see why",
			       (long long)c->status);
	return 0;
}

static void finish_one(struct key_command *c)
{
	key_command_cb *cb = c->cb;
	struct err e = {0};

	if (--c->left > 0)
		return;
	c->cb = NULL;
	if (cb && judge(c, &e) < 0)
		cb(c->arg, NULL, &e);
	else if (cb)
		cb(c->arg, c->output, NULL);
	close_all(c);
}

static void on_exit_cb(uv_process_t *p, int64_t status, int number)
{
	struct key_command *c = p->data;

	c->status = status;
	c->signal = number;
	finish_one(c);
}

/* Its whole session: what it started may hold our pipe open. */
static void kill_all(struct key_command *c)
{
	kill(-c->process.pid, SIGKILL);
}

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *b)
{
	struct key_command *c = h->data;

	UNUSED(suggested);
	*b = uv_buf_init(c->output + c->len, (unsigned)(sizeof c->output - 1 - c->len));
}

static void stop_reading(struct key_command *c)
{
	if (!c->reading)
		return;
	c->reading = false;
	uv_read_stop((uv_stream_t *)&c->out);
	finish_one(c);
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *b)
{
	struct key_command *c = s->data;

	UNUSED(b);
	if (n == 0)
		return;
	if (n > 0) {
		c->len += (size_t)n;
		c->output[c->len] = 0;
		return;
	}
	if (n == UV_ENOBUFS) { /* full */
		c->too_long = true;
		kill_all(c);
	}
	stop_reading(c);
}

static void on_deadline(uv_timer_t *t)
{
	struct key_command *c = t->data;

	c->too_slow = true;
	kill_all(c);
	stop_reading(c); /* somebody who left the session may hold the pipe */
}

static int spawn(struct key_command *c, uv_loop_t *loop, const char *command)
{
	char *argv[] = {"/bin/sh", "-c", (char *)command, NULL};
	uv_stdio_container_t io[3] = {{.flags = UV_IGNORE},
				      {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE,
				       .data.stream = (uv_stream_t *)&c->out},
				      {.flags = UV_IGNORE}};
	uv_process_options_t o = {.file = argv[0],
				  .args = argv,
				  .env = environment_pick(passed, ARRAY_LEN(passed)),
				  .exit_cb = on_exit_cb,
				  .stdio = io,
				  .stdio_count = 3,
				  .flags = UV_PROCESS_DETACHED};
	int rc = uv_spawn(loop, &c->process, &o);

	free(o.env);
	return rc;
}

struct key_command *key_command_start(uv_loop_t *loop, const char *command,
				      key_command_cb *cb, void *arg, struct err *e)
{
	struct key_command *c = xcalloc(1, sizeof *c);
	int rc;

	c->handles = 3;
	c->left = 2;
	c->cb = cb;
	c->arg = arg;
	uv_pipe_init(loop, &c->out, 0);
	uv_timer_init(loop, &c->deadline);
	c->process.data = c->out.data = c->deadline.data = c;
	rc = spawn(c, loop, command);
	if (rc < 0) {
		err_set(e, ERR_UNAUTHORIZED, "its key_command cannot start: %s",
			uv_strerror(rc));
		close_all(c);
		return NULL;
	}
	uv_timer_start(&c->deadline, on_deadline, KEY_COMMAND_MS, 0);
	c->reading = true;
	uv_read_start((uv_stream_t *)&c->out, on_alloc, on_read);
	return c;
}

void key_command_cancel(struct key_command *c)
{
	c->cb = NULL;
	kill_all(c);
	stop_reading(c);
}
