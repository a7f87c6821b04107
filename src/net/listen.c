/* Opening, inheriting and closing the listening sockets.
 *
 * Loop thread.  The unix socket is bound by hand and given to libuv, because only then can its
 * mode be right from the first moment (umask), not a moment later (chmod).  The lock file is never
 * removed: removing it races with the next start, which may lock a file without a name. */
#include "net/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "base/log.h"
#include "net/guard.h"
#include "net/sd.h"

enum { BACKLOG = 512, MAX_LISTENERS = SD_MAX_FDS + 2 };

struct listener {
	union {
		uv_handle_t handle;
		uv_stream_t stream;
		uv_tcp_t tcp;
		uv_pipe_t pipe;
	} sock;
};

struct listen {
	uv_loop_t *loop; /* borrowed */
	void (*ready)(void *arg, uv_stream_t *listener);
	void *arg;
	struct listener at[MAX_LISTENERS];
	int n;
	unsigned open_handles;
	uv_timer_t turn; /* so that close has a later turn even with no socket */
	int port, lock_fd;
	char *made_path; /* owned; the socket file that we made, or NULL */
	bool closing;
	void (*done)(void *arg);
	void *done_arg;
};

static void on_connection(uv_stream_t *stream, int status)
{
	struct listen *l = stream->data;

	if (l->closing)
		return;
	if (status < 0) {
		log_warn("accept: %s", uv_strerror(status));
		return;
	}
	l->ready(l->arg, stream);
}

/* -- lock and socket file -- */

static int make_folder(const char *path, struct err *e)
{
	char *folder = xstrdup(path), *slash;
	int rc = 0;

	slash = strrchr(folder, '/');
	if (!slash || slash == folder)
		goto out;
	*slash = '\0';
	/* Parents first; all that we make is for us alone. */
	for (char *p = folder + 1;; p++) {
		char c = *p;

		if (c != '/' && c != '\0')
			continue;
		*p = '\0';
		if (mkdir(folder, 0700) != 0 && errno != EEXIST) {
			rc = err_sys(e, errno, "make the folder %s for the socket",
				     folder);
			goto out;
		}
		*p = c;
		if (!c)
			break;
	}
out:
	free(folder);
	return rc;
}

static int take_lock(const char *socket_path, struct err *e)
{
	char *path = xasprintf("%s.lock", socket_path);
	char pid[32] = "";
	int fd, n;

	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0) {
		err_sys(e, errno, "open the lock file %s", path);
		goto out;
	}
	if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
		if (errno == EWOULDBLOCK) {
			n = (int)read(fd, pid, sizeof(pid) - 1);
			if (n > 0 && pid[n - 1] == '\n')
				pid[n - 1] = '\0';
			err_set(e, ERR_CONFLICT,
				"another hob serves %s (process %s): use it, or stop it first",
				socket_path, pid[0] ? pid : "unknown");
		} else {
			err_sys(e, errno, "lock %s", path);
		}
		close(fd);
		fd = -1;
		goto out;
	}
	n = snprintf(pid, sizeof(pid), "%ld\n", (long)getpid());
	if (ftruncate(fd, 0) != 0 || pwrite(fd, pid, (size_t)n, 0) != n)
		log_warn("cannot write the process id into %s: %s", path,
			 strerror(errno));
out:
	free(path);
	return fd;
}

/* The path is free, or was a dead socket of ours that is removed now. */
static int clear_stale(const char *path, const struct sockaddr_un *addr, struct err *e)
{
	struct stat st;
	int fd, rc;

	if (lstat(path, &st) != 0)
		return errno == ENOENT ? 0 : err_sys(e, errno, "look at %s", path);
	if (!S_ISSOCK(st.st_mode))
		return err_set(
			e, ERR_INVALID,
			"%s exists and is no socket: move it away, or set server.socket",
			path);
	if (st.st_uid != getuid())
		return err_set(
			e, ERR_FORBIDDEN,
			"%s belongs to user %u: set server.socket to a path of your own",
			path, (unsigned)st.st_uid);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_sys(e, errno, "make a socket");
	rc = connect(fd, (const struct sockaddr *)addr, sizeof(*addr));
	if (rc == 0 || errno == EAGAIN) {
		close(fd);
		return err_set(e, ERR_CONFLICT,
			       "another program serves %s: stop it first", path);
	}
	close(fd);
	if (unlink(path) != 0 && errno != ENOENT)
		return err_sys(e, errno, "remove the stale socket %s", path);
	log_info("replaced a stale socket at %s", path);
	return 0;
}

static int bind_unix(const char *path, struct err *e)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	size_t n = strlen(path);
	mode_t old;
	int fd, rc;

	if (n == 0 || n >= sizeof(addr.sun_path))
		return err_set(e, ERR_INVALID,
			       "server.socket \"%s\" must have 1 to %zu characters", path,
			       sizeof(addr.sun_path) - 1);
	memcpy(addr.sun_path, path, n);
	if (clear_stale(path, &addr, e) != 0)
		return -1;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_sys(e, errno, "make a socket");
	old = umask(0177);
	rc = bind(fd, (struct sockaddr *)&addr, sizeof(addr));
	umask(old);
	if (rc != 0) {
		err_sys(e, errno, "bind %s", path);
		close(fd);
		return -1;
	}
	return fd;
}

/* -- listeners -- */

static struct listener *add(struct listen *l, bool is_tcp)
{
	struct listener *s = &l->at[l->n++];

	ASSERT(l->n <= MAX_LISTENERS);
	if (is_tcp)
		uv_tcp_init(l->loop, &s->sock.tcp);
	else
		uv_pipe_init(l->loop, &s->sock.pipe, 0);
	s->sock.handle.data = l;
	l->open_handles++;
	return s;
}

static int open_unix(struct listen *l, const char *path, struct err *e)
{
	struct listener *s;
	int fd, rc;

	fd = bind_unix(path, e);
	if (fd < 0)
		return -1;
	l->made_path = xstrdup(path);
	s = add(l, false);
	rc = uv_pipe_open(&s->sock.pipe, fd);
	if (rc < 0)
		close(fd);
	else
		rc = uv_listen(&s->sock.stream, BACKLOG, on_connection);
	return rc < 0 ? err_set(e, ERR_IO, "listen on %s: %s", path, uv_strerror(rc)) : 0;
}

static int parse_address(const char *text, int port, struct sockaddr_storage *out)
{
	if (!strcmp(text, "localhost"))
		text = "127.0.0.1";
	if (uv_ip4_addr(text, port, (struct sockaddr_in *)out) == 0)
		return 0;
	return uv_ip6_addr(text, port, (struct sockaddr_in6 *)out);
}

static int need_token(const struct config *c, const char *address, struct err *e)
{
	if (guard_is_loopback(address) || (c->token && c->token[0]))
		return 0;
	return err_set(e, ERR_INVALID,
		       "listening on %s opens hob to the network and needs a token: set "
		       "server.token_file, or bind to 127.0.0.1",
		       address);
}

static int port_of(const uv_tcp_t *tcp)
{
	struct sockaddr_storage name;
	int len = sizeof(name);

	if (uv_tcp_getsockname(tcp, (struct sockaddr *)&name, &len) != 0)
		return 0;
	return ntohs(name.ss_family == AF_INET6
			     ? ((struct sockaddr_in6 *)&name)->sin6_port
			     : ((struct sockaddr_in *)&name)->sin_port);
}

static int open_tcp(struct listen *l, const struct config *c, struct err *e)
{
	struct sockaddr_storage addr;
	const char *bind_to = c->bind ? c->bind : "127.0.0.1";
	int rc, port = c->port < 0 ? 0 : c->port;
	struct listener *s;

	if (parse_address(bind_to, port, &addr) != 0)
		return err_set(e, ERR_INVALID, "server.bind \"%s\" is no IP address",
			       bind_to);
	if (need_token(c, bind_to, e) != 0)
		return -1;
	s = add(l, true);
	rc = uv_tcp_bind(&s->sock.tcp, (struct sockaddr *)&addr, 0);
	if (rc == 0)
		rc = uv_listen(&s->sock.stream, BACKLOG, on_connection);
	if (rc == UV_EADDRINUSE)
		return err_set(
			e, ERR_CONFLICT,
			"port %d on %s is in use: stop the program that has it, or set "
			"server.port (0 = unix socket only)",
			port, bind_to);
	if (rc < 0)
		return err_set(e, ERR_IO, "listen on %s port %d: %s", bind_to, port,
			       uv_strerror(rc));
	l->port = port_of(&s->sock.tcp);
	return 0;
}

static bool inherited_is_loopback(int fd)
{
	struct sockaddr_storage name = {0};
	socklen_t len = sizeof(name);
	char text[64] = "";

	if (getsockname(fd, (struct sockaddr *)&name, &len) != 0)
		return false;
	uv_ip_name((struct sockaddr *)&name, text, sizeof(text));
	return guard_is_loopback(text);
}

/* *is_tcp says which kind it was. */
static int inherit(struct listen *l, int fd, const struct config *c, bool *is_tcp,
		   struct err *e)
{
	struct sockaddr_storage name = {0};
	socklen_t len = sizeof(name);
	struct listener *s;
	int rc;

	if (getsockname(fd, (struct sockaddr *)&name, &len) != 0)
		return err_sys(e, errno, "socket %d from systemd", fd);
	*is_tcp = name.ss_family == AF_INET || name.ss_family == AF_INET6;
	if (!*is_tcp && name.ss_family != AF_UNIX)
		return err_set(e, ERR_INVALID,
			       "socket %d from systemd is neither unix nor TCP", fd);
	if (*is_tcp && !inherited_is_loopback(fd) &&
	    need_token(c, "an address beyond loopback (from systemd)", e) != 0)
		return -1;
	s = add(l, *is_tcp);
	rc = *is_tcp ? uv_tcp_open(&s->sock.tcp, fd) : uv_pipe_open(&s->sock.pipe, fd);
	if (rc == 0)
		rc = uv_listen(&s->sock.stream, BACKLOG, on_connection);
	if (rc < 0)
		return err_set(e, ERR_IO, "socket %d from systemd: %s", fd,
			       uv_strerror(rc));
	if (*is_tcp)
		l->port = port_of(&s->sock.tcp);
	return 0;
}

static int open_all(struct listen *l, const struct config *c, struct err *e)
{
	bool have_unix = false, have_tcp = false, is_tcp;
	int n;

	if (c->socket_path && c->socket_path[0]) {
		if (make_folder(c->socket_path, e) != 0)
			return -1;
		l->lock_fd = take_lock(c->socket_path, e);
		if (l->lock_fd < 0)
			return -1;
	}
	n = sd_take_listen_fds();
	for (int i = 0; i < n; i++) {
		if (inherit(l, SD_FIRST_FD + i, c, &is_tcp, e) != 0)
			return -1;
		*(is_tcp ? &have_tcp : &have_unix) = true;
	}
	/* What systemd passed replaces what the configuration says of the same kind. */
	if (!have_unix && c->socket_path && c->socket_path[0] &&
	    open_unix(l, c->socket_path, e) != 0)
		return -1;
	if (!have_tcp && c->port != 0)
		return open_tcp(l, c, e);
	return 0;
}

/* -- life -- */

struct listen *listen_open(uv_loop_t *loop, const struct config *c,
			   void (*ready)(void *arg, uv_stream_t *listener), void *arg,
			   struct err *e)
{
	struct listen *l = xcalloc(1, sizeof(*l));

	l->loop = loop;
	l->ready = ready;
	l->arg = arg;
	l->lock_fd = -1;
	uv_timer_init(loop, &l->turn);
	l->turn.data = l;
	l->open_handles = 1;
	if (open_all(l, c, e) == 0)
		return l;
	listen_close(l, NULL, NULL); /* frees itself in the loop's next turns */
	return NULL;
}

int listen_port(const struct listen *l)
{
	return l->port;
}

static void on_closed(uv_handle_t *h)
{
	struct listen *l = h->data;
	void (*done)(void *) = l->done;
	void *arg = l->done_arg;

	if (--l->open_handles)
		return;
	free(l->made_path);
	free(l);
	if (done)
		done(arg);
}

void listen_stop(struct listen *l)
{
	if (l->closing)
		return;
	l->closing = true;
	/* Before the lock goes: afterwards the path may be another instance's. */
	if (l->made_path)
		unlink(l->made_path);
	for (int i = 0; i < l->n; i++)
		uv_close(&l->at[i].sock.handle, on_closed);
}

void listen_close(struct listen *l, void (*done)(void *arg), void *arg)
{
	listen_stop(l);
	l->done = done;
	l->done_arg = arg;
	if (l->lock_fd >= 0)
		close(l->lock_fd);
	uv_close((uv_handle_t *)&l->turn, on_closed);
}
