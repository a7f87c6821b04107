/* The self-pipe behind Ctrl-C.  Main thread; the handler only writes one byte.
 *
 * Installed without SA_RESTART, so that a blocking read of the terminal or of standard
 * input comes back with EINTR and its caller can look at the flag. */
#include "cli/interrupt.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include "base/base.h"

static volatile sig_atomic_t pending;
static int wake[2] = {-1, -1}; /* written once, before the handler is installed */

static void on_sigint(int signo)
{
	int saved = errno;
	ssize_t n;

	UNUSED(signo);
	pending = 1;
	n = write(wake[1], "", 1); /* full: somebody is woken already */
	UNUSED(n);
	errno = saved;
}

void interrupt_enable(void)
{
	struct sigaction sa = {.sa_handler = on_sigint};

	if (wake[0] < 0)
		ASSERT(!pipe2(wake, O_CLOEXEC | O_NONBLOCK));
	sigemptyset(&sa.sa_mask);
	sigaction(SIGINT, &sa, NULL);
	signal(SIGPIPE, SIG_DFL); /* libcurl writes to sockets with MSG_NOSIGNAL */
}

bool interrupt_pending(void)
{
	return pending != 0;
}

void interrupt_clear(void)
{
	char sink[64];

	pending = 0;
	while (wake[0] >= 0 && read(wake[0], sink, sizeof sink) > 0)
		;
}

int interrupt_fd(void)
{
	return wake[0];
}

bool interrupt_sleep(int ms)
{
	struct pollfd p = {.fd = wake[0], .events = POLLIN};

	if (!pending)
		poll(&p, wake[0] >= 0, ms);
	return pending != 0;
}
