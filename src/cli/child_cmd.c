/* `hob --child PID -- PROGRAM ARGUMENT...`: becomes a program that cannot outlive its parent.
 *
 * Started by child_spawn_with(), not by people: libuv has no hook between fork and exec, so
 * that what a managed process needs is set here, in its own process, and then it is executed
 * in our place.  What a reader may question: PID.  A parent that died before prctl() was
 * called would never be noticed; its number tells. */
#include <errno.h>
#include <limits.h>
#include <linux/close_range.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/buf.h"
#include "cli/commands.h"

enum { NOT_EXECUTABLE = 126, NOT_FOUND = 127 }; /* as a shell says it */

/* main() ignores some signals, and what is ignored stays so across exec. */
static void default_signals(void)
{
	sigset_t none;

	for (int i = 1; i < NSIG; i++)
		signal(i, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

int cmd_child(int argc, char **argv)
{
	int64_t parent;

	if (argc < 4 || strcmp(argv[2], "--") ||
	    !str_to_i64(str_of(argv[1]), 1, INT_MAX, &parent)) {
		fputs("hob --child: started by hob itself only\n", stderr);
		return CLI_USAGE;
	}
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 ||
	    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
		perror("hob --child: cannot tie itself to its parent");
		return CLI_FAIL;
	}
	if (getppid() != parent)
		return CLI_FAIL; /* it is gone already, and nobody reads what we say */
	close_range(STDERR_FILENO + 1, UINT_MAX, 0);
	default_signals();
	execvp(argv[3], argv + 3);
	fprintf(stderr, "E cannot execute '%s': %s\n", argv[3], strerror(errno));
	return errno == ENOENT ? NOT_FOUND : NOT_EXECUTABLE;
}
