/* One child process on a socketpair: bytes out, bytes in, and one exit.
 *
 * Loop thread.  Three libuv handles are embedded (process, pipe, timer); the exit
 * callback comes from the last of their close callbacks, so the owner never sees data
 * after it.  The question a reader will ask: why wait for both the exit and the end of
 * file.  The last lines of a dying process are still in the socket when SIGCHLD arrives,
 * and a process that closed its output but lives on is of no use: it gets killed. */
#include "net/child.h"

#include <signal.h>
#include <unistd.h>
#include "base/sm.h"

enum {
	READ_BYTES = 64 << 10,
	AFTER_EXIT_MS = 500, /* for the end of file; a grandchild may hold the socket */
	AFTER_EOF_MS = 1000, /* for the exit */
};

enum { CHILD_RUNNING, CHILD_HALF, CHILD_CLOSING };

static const struct sm_state child_states[] = {
	[CHILD_RUNNING] = {"running", SM_TO(CHILD_HALF) | SM_TO(CHILD_CLOSING)},
	[CHILD_HALF] = {"half", SM_TO(CHILD_CLOSING)}, /* exit or end of file, not both */
	[CHILD_CLOSING] = {"closing", 0},
};

struct child {
	uv_process_t process;
	uv_pipe_t pipe;
	uv_timer_t timer;
	unsigned state;
	int open_handles;
	bool spawned, exited, eof;
	int64_t status;
	int signal;
	struct child_events ev;
	void *arg; /* of the owner */
	char inbuf[READ_BYTES];
};

struct write {
	uv_write_t req;
	char *data; /* owned */
};

static void on_closed(uv_handle_t *h)
{
	struct child *c = h->data;

	if (--c->open_handles > 0)
		return;
	if (c->spawned)
		c->ev.exit(c->arg, c->status, c->signal);
	free(c);
}

static void close_all(struct child *c)
{
	sm_move(child_states, "child", &c->state, CHILD_CLOSING);
	uv_close((uv_handle_t *)&c->process, on_closed);
	uv_close((uv_handle_t *)&c->pipe, on_closed);
	uv_close((uv_handle_t *)&c->timer, on_closed);
}

static void on_timer(uv_timer_t *t)
{
	struct child *c = t->data;

	if (c->state == CHILD_CLOSING)
		return;
	if (c->exited)
		close_all(c);
	else
		uv_process_kill(&c->process, SIGKILL);
}

/* Exit or end of file: the second of them closes, the first sets a limit for the second.
 */
static void half_done(struct child *c)
{
	if (c->state == CHILD_CLOSING)
		return;
	if (c->exited && c->eof) {
		close_all(c);
		return;
	}
	if (c->state == CHILD_RUNNING)
		sm_move(child_states, "child", &c->state, CHILD_HALF);
	uv_timer_start(&c->timer, on_timer, c->exited ? AFTER_EXIT_MS : AFTER_EOF_MS, 0);
}

static void on_exit_status(uv_process_t *p, int64_t status, int signal)
{
	struct child *c = p->data;

	c->exited = true;
	c->status = status;
	c->signal = signal;
	half_done(c);
}

static void on_alloc(uv_handle_t *h, size_t hint, uv_buf_t *out)
{
	struct child *c = h->data;

	UNUSED(hint);
	*out = uv_buf_init(c->inbuf, sizeof c->inbuf);
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *b)
{
	struct child *c = s->data;

	if (c->state == CHILD_CLOSING || n == 0)
		return;
	if (n > 0) {
		c->ev.data(c->arg, b->base, (size_t)n);
		return;
	}
	uv_read_stop(s);
	c->eof = true;
	half_done(c);
}

static int start(struct child *c, uv_loop_t *loop, char *const *argv, int theirs,
		 struct err *e)
{
	uv_stdio_container_t stdio[3] = {
		{.flags = UV_INHERIT_FD, .data.fd = theirs},
		{.flags = UV_INHERIT_FD, .data.fd = theirs},
		{.flags = UV_INHERIT_FD, .data.fd = STDERR_FILENO},
	};
	uv_process_options_t options = {
		.exit_cb = on_exit_status,
		.file = argv[0],
		.args = (char **)argv,
		.stdio_count = 3,
		.stdio = stdio,
	};
	int rc = uv_spawn(loop, &c->process, &options);

	if (rc < 0)
		return err_set(e, ERR_UNAVAILABLE, "start '%s': %s", argv[0],
			       uv_strerror(rc));
	c->spawned = true;
	uv_read_start((uv_stream_t *)&c->pipe, on_alloc, on_read);
	return 0;
}

struct child *child_spawn(uv_loop_t *loop, char *const *argv,
			  const struct child_events *ev, void *arg, struct err *e)
{
	struct child *c;
	uv_os_sock_t fds[2];
	int rc = uv_socketpair(SOCK_STREAM, 0, fds, 0, 0);

	if (rc < 0) {
		err_set(e, ERR_IO, "socketpair for '%s': %s", argv[0], uv_strerror(rc));
		return NULL;
	}
	c = xcalloc(1, sizeof *c);
	c->ev = *ev;
	c->arg = arg;
	uv_pipe_init(loop, &c->pipe, 0);
	uv_timer_init(loop, &c->timer);
	c->process.data = c->pipe.data = c->timer.data = c;
	c->open_handles = 3;
	rc = uv_pipe_open(&c->pipe, fds[0]);
	ASSERT(rc == 0);
	rc = start(c, loop, argv, fds[1], e);
	close(fds[1]);
	if (rc < 0) {
		c->process.data = c;
		close_all(c);
		return NULL;
	}
	return c;
}

static void on_written(uv_write_t *req, int status)
{
	struct write *w = CONTAINER_OF(req, struct write, req);

	UNUSED(status); /* a broken pipe is reported by the exit */
	free(w->data);
	free(w);
}

int child_write(struct child *c, struct buf *b)
{
	struct write *w;
	uv_buf_t out;
	size_t n;

	if (c->state != CHILD_RUNNING ||
	    uv_stream_get_write_queue_size((uv_stream_t *)&c->pipe) + b->len >
		    CHILD_MAX_QUEUED_BYTES) {
		buf_clear(b);
		return -1;
	}
	w = xmalloc(sizeof *w);
	w->data = buf_take(b, &n);
	out = uv_buf_init(w->data, (unsigned)n);
	if (uv_write(&w->req, (uv_stream_t *)&c->pipe, &out, 1, on_written) < 0) {
		on_written(&w->req, 0);
		return -1;
	}
	return 0;
}

void child_stop(struct child *c, bool gently, unsigned grace_ms)
{
	if (c->state == CHILD_CLOSING || c->exited)
		return;
	if (!gently)
		uv_process_kill(&c->process, SIGTERM);
	uv_timer_start(&c->timer, on_timer, grace_ms, 0);
}

void child_kill(struct child *c)
{
	if (c->state != CHILD_CLOSING && !c->exited)
		uv_process_kill(&c->process, SIGKILL);
}

int child_pid(const struct child *c)
{
	return uv_process_get_pid(&c->process);
}
