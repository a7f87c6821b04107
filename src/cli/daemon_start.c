/* Starts `hob serve` on demand.  Main thread.
 *
 * A reader may ask why readiness is found out by asking again and again and not by a pipe
 * to the child: the daemon that ends up serving may be another command's child, or
 * systemd's. */
#include "cli/daemon_start.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/paths.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "config.h"

enum {
	LOG_MAX_BYTES =
		1 << 20,      /* a log longer than this is set aside at the next start */
	LOG_TAIL_BYTES = 300, /* of the log in an error: struct err holds 512 */
	POLL_FIRST_MS = 5,
	POLL_MAX_MS = 100,
	OTHER_TIMEOUT_MS = 3000, /* for the daemon that ours said was there before it */
};

/* The child and its log, while it starts. */
struct starting {
	pid_t pid;
	char *log;      /* owned */
	off_t log_from; /* where this start's lines begin */
	uint64_t deadline_ms;
	bool left; /* to another daemon, or because its TCP port was taken: the log knows
		    */
};

char *daemon_socket(void)
{
	struct err e;
	struct config *c = config_load(&(struct config_source){0}, &e);
	char *path = c && c->socket_path ? xstrdup(c->socket_path) : paths_socket();

	if (c)
		config_free(c);
	return path;
}

char *daemon_log_path(void)
{
	char *dir = paths_state_dir(), *path = xasprintf("%s/serve.log", dir);

	free(dir);
	return path;
}

/* Opens the log for appending and notes where it ends; an overlong one becomes
 * serve.log.1. */
static int open_log(struct starting *s, struct err *e)
{
	char *dir = paths_state_dir(), *old;
	struct stat st;
	int fd = -1;

	if (paths_make_private(dir, e) < 0)
		goto out;
	if (!stat(s->log, &st) && st.st_size > LOG_MAX_BYTES) {
		old = xasprintf("%s.1", s->log);
		rename(s->log, old); /* failing only means a longer log */
		free(old);
	}
	fd = open(s->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		err_sys(e, errno, "open the daemon's log '%s'", s->log);
	else
		s->log_from = fstat(fd, &st) ? 0 : st.st_size;
out:
	free(dir);
	return fd;
}

static bool is_relative(const char *variable)
{
	const char *v = getenv(variable);

	return v && *v && *v != '/';
}

/* In the child: a session of its own, so that no Ctrl-C and no hangup of our terminal
 * reach it. */
static _Noreturn void become_daemon(const char *exe, int log_fd)
{
	char *argv[] = {(char *)"hob", (char *)"serve", NULL};
	sigset_t none;
	int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	setsid();
	signal(SIGINT, SIG_DFL);
	signal(SIGPIPE, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	dup2(null_fd, STDIN_FILENO);
	dup2(log_fd, STDOUT_FILENO);
	dup2(log_fd, STDERR_FILENO);
	close_range(3, ~0u, 0); /* what we inherited is not the daemon's business */
	if (!is_relative("HOB_SOCKET") && !is_relative("HOB_CONFIG") && chdir("/"))
		_exit(CLI_FAIL); /* else it would keep the folder we stand in busy */
	execv(exe, argv);
	dprintf(STDERR_FILENO, "run '%s': %s\n", exe, strerror(errno));
	_exit(CLI_FAIL);
}

static int spawn(struct starting *s, struct err *e)
{
	char exe[4096];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
	int log_fd, rc = -1;

	if (n < 0)
		return err_sys(e, errno, "find our own program in /proc/self/exe");
	exe[n] = '\0';
	log_fd = open_log(s, e);
	if (log_fd < 0)
		return -1;
	s->pid = fork();
	if (!s->pid)
		become_daemon(exe, log_fd);
	if (s->pid > 0)
		rc = 0;
	else
		err_sys(e, errno, "start the daemon: fork");
	close(log_fd);
	return rc;
}

/* The last lines of this start's log, at most LOG_TAIL_BYTES; owned. */
static char *log_tail(const struct starting *s)
{
	char bytes[LOG_TAIL_BYTES + 1];
	struct str tail = {bytes, 0};
	int fd = open(s->log, O_RDONLY | O_CLOEXEC);
	struct stat st;
	off_t from = s->log_from;
	ssize_t n;

	if (fd < 0)
		return xstrdup("");
	if (!fstat(fd, &st) && st.st_size - from > LOG_TAIL_BYTES)
		from = st.st_size - LOG_TAIL_BYTES;
	n = pread(fd, bytes, LOG_TAIL_BYTES, from);
	close(fd);
	tail.len = n > 0 ? (size_t)n : 0;
	if (from > s->log_from) { /* begins in the middle of a line */
		const char *nl = memchr(tail.ptr, '\n', tail.len);

		if (nl && nl + 1 < tail.ptr + tail.len) {
			tail.len -= (size_t)(nl + 1 - tail.ptr);
			tail.ptr = nl + 1;
		}
	}
	while (tail.len && tail.ptr[tail.len - 1] == '\n')
		tail.len--;
	return str_dup(tail);
}

static int start_failed(const struct starting *s, const char *what, struct err *e)
{
	char *tail = log_tail(s);

	if (*tail)
		err_set(e, ERR_UNAVAILABLE, "the daemon %s; it said:\n%s", what, tail);
	else
		err_set(e, ERR_UNAVAILABLE, "the daemon %s and said nothing in '%.200s'",
			what, s->log);
	free(tail);
	return -1;
}

/* 0 while the child lives or left the field to another daemon, -1 when it failed.  The
 * status for "another one is here" also means a port that some other program has; which
 * one it was is seen by whether our socket answers soon. */
static int check_child(struct starting *s, struct err *e)
{
	char what[64];
	int status;

	if (s->pid <= 0 || waitpid(s->pid, &status, WNOHANG) != s->pid)
		return 0;
	s->pid = 0;
	s->left = WIFEXITED(status) && (WEXITSTATUS(status) == CLI_OK ||
					WEXITSTATUS(status) == CLI_OTHER_RUNS);
	if (s->left) {
		uint64_t soon = clock_mono_ms() + OTHER_TIMEOUT_MS;

		s->deadline_ms = soon < s->deadline_ms ? soon : s->deadline_ms;
		return 0;
	}
	if (WIFSIGNALED(status))
		snprintf(what, sizeof what, "was killed by signal %d at start",
			 WTERMSIG(status));
	else
		snprintf(what, sizeof what, "ended at start with status %d",
			 WEXITSTATUS(status));
	return start_failed(s, what, e);
}

static bool healthy(struct client *c)
{
	struct client_request r = {
		.method = "GET", .path = "/healthz", .total_timeout_ms = 2000};
	struct client_reply reply;
	struct err e;
	bool ok = !client_do(c, &r, &reply, &e) && reply.status == 200;

	client_reply_fini(&reply);
	return ok;
}

static int wait_healthy(struct starting *s, struct client *c, struct err *e)
{
	int pause_ms = POLL_FIRST_MS;

	s->deadline_ms = clock_mono_ms() + DAEMON_START_TIMEOUT_MS;

	for (;;) {
		struct err probe;

		if (!client_probe(client_socket(c), NULL, &probe) && healthy(c))
			return 0;
		if (interrupt_pending())
			return err_set(e, ERR_CANCELLED, "interrupted");
		if (check_child(s, e))
			return -1;
		if (clock_mono_ms() >= s->deadline_ms)
			return start_failed(s,
					    s->left ? "did not start"
						    : "did not get ready in time",
					    e);
		interrupt_sleep(pause_ms);
		pause_ms = pause_ms * 2 < POLL_MAX_MS ? pause_ms * 2 : POLL_MAX_MS;
	}
}

struct client *daemon_connect(bool may_start, struct err *e)
{
	struct starting s = {0};
	char *socket_path = daemon_socket();
	struct client *c = client_new(socket_path);
	int rc;

	rc = client_probe(socket_path, NULL, e);
	if (rc && e->code == ERR_UNAVAILABLE && may_start) {
		s.log = daemon_log_path();
		rc = spawn(&s, e);
		if (!rc)
			rc = wait_healthy(&s, c, e);
	}
	free(s.log);
	free(socket_path);
	if (!rc)
		return c;
	client_free(c);
	return NULL;
}
