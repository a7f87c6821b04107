/* One child process on a socketpair: bytes out, bytes in, log lines, and one exit.
 *
 * Loop thread.  The libuv handles are embedded (process, socket, log pipe, timer); the exit
 * callback comes from the last of their close callbacks, so the owner never sees data
 * after it.  The question a reader will ask: why wait for both the exit and the end of
 * file.  The last lines of a dying process are still in the socket when SIGCHLD arrives,
 * and a process that closed its output but lives on is of no use: it gets killed.  A
 * process that it left behind and that holds the pipes is not waited for longer than
 * AFTER_EXIT_MS. */
#include "net/child.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>
#include "base/sm.h"
#include "net/lines.h"

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
	uv_pipe_t err; /* its standard error, when there is a log callback */
	uv_timer_t timer;
	unsigned state;
	int open_handles;
	bool spawned, exited, eof, err_eof, group;
	int64_t status;
	int signal;
	struct child_events ev;
	void *arg; /* of the owner */
	struct lines lines;
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
	if (c->spawned && c->ev.log)
		lines_finish(&c->lines, c->ev.log, c->arg);
	if (c->spawned)
		c->ev.exit(c->arg, c->status, c->signal);
	lines_fini(&c->lines);
	free(c);
}

/* To the process, or to its whole group.  Only while the leader was not reaped: its
 * number could be another's afterwards. */
static void send_signal(struct child *c, int number)
{
	if (c->group)
		kill(-c->process.pid, number);
	else
		uv_process_kill(&c->process, number);
}

static void close_all(struct child *c)
{
	sm_move(child_states, "child", &c->state, CHILD_CLOSING);
	uv_close((uv_handle_t *)&c->process, on_closed);
	uv_close((uv_handle_t *)&c->pipe, on_closed);
	uv_close((uv_handle_t *)&c->timer, on_closed);
	if (c->ev.log)
		uv_close((uv_handle_t *)&c->err, on_closed);
}

static void on_timer(uv_timer_t *t)
{
	struct child *c = t->data;

	if (c->state == CHILD_CLOSING)
		return;
	if (c->exited)
		close_all(c);
	else
		send_signal(c, SIGKILL);
}

/* Exit or end of file: the second of them closes, the first sets a limit for the second.
 * A process that closed its log alone goes on. */
static void half_done(struct child *c)
{
	if (c->state == CHILD_CLOSING || (!c->exited && !c->eof))
		return;
	if (c->exited && c->eof && c->err_eof) {
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

	/* What is left of its group.  libuv has reaped the leader a moment ago: nobody can have
	 * got its number as a group since, numbers go round first. */
	if (c->group)
		kill(-p->pid, SIGKILL);
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

static void on_log(uv_stream_t *s, ssize_t n, const uv_buf_t *b)
{
	struct child *c = s->data;

	if (c->state == CHILD_CLOSING || n == 0)
		return;
	if (n > 0) {
		lines_feed(&c->lines, b->base, (size_t)n, CHILD_MAX_LINE_BYTES, c->ev.log,
			   c->arg);
		return;
	}
	uv_read_stop(s);
	c->err_eof = true;
	half_done(c);
}

/* argv behind `hob --child PID --`.  Owned by the caller: the array and its element 2. */
static char **managed_argv(const struct child_options *o)
{
	size_t n = 0;
	char **out;

	while (o->argv[n])
		n++;
	out = xcalloc(n + 5, sizeof *out);
	out[0] = (char *)(uintptr_t)(o->hob ? o->hob : "/proc/self/exe");
	out[1] = (char *)(uintptr_t) "--child";
	out[2] = xasprintf("%d", (int)getpid());
	out[3] = (char *)(uintptr_t) "--";
	memcpy(out + 4, o->argv, n * sizeof *out);
	return out;
}

static int start(struct child *c, uv_loop_t *loop, const struct child_options *o,
		 int theirs, int their_err, struct err *e)
{
	uv_stdio_container_t stdio[3] = {
		{.flags = UV_INHERIT_FD, .data.fd = theirs},
		{.flags = UV_INHERIT_FD, .data.fd = theirs},
		{.flags = UV_INHERIT_FD, .data.fd = their_err},
	};
	char **managed = o->managed ? managed_argv(o) : NULL;
	uv_process_options_t options = {
		.exit_cb = on_exit_status,
		.file = managed ? managed[0] : o->argv[0],
		.args = managed ? managed : (char **)(uintptr_t)o->argv,
		.env = (char **)(uintptr_t)o->env,
		.flags = managed ? UV_PROCESS_DETACHED : 0, /* setsid, before it execs */
		.stdio_count = 3,
		.stdio = stdio,
	};
	int rc = uv_spawn(loop, &c->process, &options);

	if (managed)
		free(managed[2]);
	free(managed);
	if (rc < 0)
		return err_set(e, ERR_UNAVAILABLE, "start '%s': %s", o->argv[0],
			       uv_strerror(rc));
	c->spawned = true;
	c->group = o->managed;
	uv_read_start((uv_stream_t *)&c->pipe, on_alloc, on_read);
	if (c->ev.log)
		uv_read_start((uv_stream_t *)&c->err, on_alloc, on_log);
	return 0;
}

/* fds: ours and the child's of both channels; -1 in the second pair without a log. */
static int make_channels(bool log, int fds[2], int err_fds[2], struct err *e)
{
	int rc = uv_socketpair(SOCK_STREAM, 0, fds, 0, 0);

	err_fds[0] = err_fds[1] = -1;
	if (rc < 0)
		return err_set(e, ERR_IO, "socketpair for a child: %s", uv_strerror(rc));
	if (!log || pipe2(err_fds, O_CLOEXEC) == 0)
		return 0;
	close(fds[0]);
	close(fds[1]);
	return err_set(e, ERR_IO, "pipe for a child: %m");
}

struct child *child_spawn(uv_loop_t *loop, const struct child_options *o,
			       const struct child_events *ev, void *arg, struct err *e)
{
	int fds[2], err_fds[2], rc;
	struct child *c;

	if (make_channels(ev->log != NULL, fds, err_fds, e) < 0)
		return NULL;
	c = xcalloc(1, sizeof *c);
	c->ev = *ev;
	c->arg = arg;
	c->err_eof = !ev->log;
	uv_pipe_init(loop, &c->pipe, 0);
	uv_timer_init(loop, &c->timer);
	c->process.data = c->pipe.data = c->timer.data = c->err.data = c;
	c->open_handles = 3;
	rc = uv_pipe_open(&c->pipe, fds[0]);
	ASSERT(rc == 0);
	if (ev->log) {
		uv_pipe_init(loop, &c->err, 0);
		rc = uv_pipe_open(&c->err, err_fds[0]);
		ASSERT(rc == 0);
		c->open_handles++;
	}
	rc = start(c, loop, o, fds[1], ev->log ? err_fds[1] : STDERR_FILENO, e);
	close(fds[1]);
	if (ev->log)
		close(err_fds[1]);
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
		send_signal(c, SIGTERM);
	uv_timer_start(&c->timer, on_timer, grace_ms, 0);
}

void child_kill(struct child *c)
{
	if (c->state != CHILD_CLOSING && !c->exited)
		send_signal(c, SIGKILL);
}

int child_pid(const struct child *c)
{
	return uv_process_get_pid(&c->process);
}
