/* Socket activation and notification, as systemd documents them.  Called from the main thread
 * before others exist (setenv and getenv are not safe beside them), sd_tell() from the loop. */
#include "net/sd.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "base/buf.h"

int sd_take_listen_fds(void)
{
	const char *pid_text = getenv("LISTEN_PID"), *n_text = getenv("LISTEN_FDS");
	int64_t pid = 0, n = 0;
	bool ours;

	ours = pid_text && n_text && str_to_i64(str_of(pid_text), 1, INT32_MAX, &pid) &&
	       pid == getpid() && str_to_i64(str_of(n_text), 0, SD_MAX_FDS, &n);
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
	if (!ours)
		return 0;
	for (int i = 0; i < (int)n; i++) {
		int flags = fcntl(SD_FIRST_FD + i, F_GETFD);

		if (flags < 0)
			return i;
		fcntl(SD_FIRST_FD + i, F_SETFD, flags | FD_CLOEXEC);
	}
	return (int)n;
}

bool sd_tell(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	size_t n = path ? strlen(path) : 0;
	bool sent;
	int fd;

	if (n < 2 || n >= sizeof(to.sun_path) || (path[0] != '/' && path[0] != '@'))
		return false;
	memcpy(to.sun_path, path, n);
	if (path[0] == '@') /* abstract */
		to.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	sent = sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&to,
		      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)) >= 0;
	close(fd);
	return sent;
}
