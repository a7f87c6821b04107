/* What must be undone on a terminal, and the signals that undo it.  Main thread; the handlers use only
 * what signal-safety(7) allows: write, tcgetattr, tcsetattr, sigaction, raise.
 *
 * A reader may ask why a crash is caught at all: a shell whose terminal neither echoes nor breaks lines
 * looks dead, and whoever sits there loses more than our crash.  The handler repairs that and lets the
 * signal go where it would have gone, a sanitizer's handler or a core file included. */
#include "cli/terminal.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

#include "base/base.h"

#define PASTE_ON  "\033[?2004h"
#define PASTE_OFF "\033[?2004l"
#define CALM      "\033[0m\033[?25h" /* no colour, a cursor */

static const int deadly[] = {SIGTERM, SIGHUP, SIGQUIT, SIGSEGV,
			     SIGBUS,  SIGILL, SIGFPE,  SIGABRT};

/* Signals belong to the process, and so does this: set before the handlers are installed. */
static struct termios found;
static struct sigaction before[ARRAY_LEN(deadly)];
static bool taken, has_modes, has_screen;
static volatile sig_atomic_t pasting, resumed, resized;

static void put(const char *text, size_t n)
{
	ssize_t done = write(STDOUT_FILENO, text, n);

	UNUSED(done); /* nothing can be done about it here */
}

/* In the background a change of the terminal would stop us (SIGTTOU), and it is not ours to change. */
static bool is_foreground(void)
{
	pid_t front = tcgetpgrp(STDIN_FILENO);

	return front < 0 || front == getpgrp();
}

static void restore(void)
{
	if (!is_foreground())
		return;
	if (has_screen && pasting)
		put(PASTE_OFF, sizeof PASTE_OFF - 1);
	if (has_screen)
		put(CALM, sizeof CALM - 1);
	if (has_modes)
		tcsetattr(STDIN_FILENO, TCSANOW, &found);
}

static void on_deadly(int signo)
{
	size_t i = 0;

	restore();
	while (deadly[i] != signo)
		i++;
	sigaction(signo, &before[i], NULL);
	raise(signo); /* blocked until we return */
}

static void on_stop(int signo)
{
	struct sigaction sa = {.sa_handler = SIG_DFL}, old;
	struct termios now;
	bool known = has_modes && !tcgetattr(STDIN_FILENO, &now);
	int saved = errno;
	sigset_t set;

	restore();
	sigaction(signo, &sa, &old);
	sigemptyset(&set);
	sigaddset(&set, signo);
	raise(signo);
	sigprocmask(SIG_UNBLOCK, &set, NULL); /* stops here */
	sigaction(signo, &old, NULL);
	if (known)
		tcsetattr(STDIN_FILENO, TCSANOW, &now);
	if (has_screen && pasting)
		put(PASTE_ON, sizeof PASTE_ON - 1);
	resumed = 1;
	errno = saved;
}

static void on_resize(int signo)
{
	UNUSED(signo);
	resized = 1;
}

/* A stack of its own: the usual reason for SIGSEGV may be that the other one is full. */
static void take_crashes(void)
{
	static char stack[16384];
	stack_t ss = {.ss_sp = stack, .ss_size = sizeof stack};

	sigaltstack(&ss, NULL);
}

/* What the caller ignores (nohup, a shell's background job) stays ignored. */
static void handle(int signo, const struct sigaction *sa, struct sigaction *old)
{
	struct sigaction now = {0};

	if (!sigaction(signo, NULL, &now) && now.sa_handler != SIG_IGN)
		sigaction(signo, sa, NULL);
	if (old)
		*old = now;
}

void terminal_take(void)
{
	struct sigaction sa = {.sa_handler = on_deadly, .sa_flags = SA_ONSTACK};
	const char *term = getenv("TERM");

	if (taken)
		return;
	has_modes = !tcgetattr(STDIN_FILENO, &found);
	has_screen = isatty(STDOUT_FILENO) && term && *term && strcmp(term, "dumb");
	if (!has_modes && !has_screen)
		return;
	taken = true;
	take_crashes();
	sigemptyset(&sa.sa_mask);
	for (size_t i = 0; i < ARRAY_LEN(deadly); i++)
		handle(deadly[i], &sa, &before[i]);
	sa.sa_flags = 0;
	sa.sa_handler = on_stop;
	handle(SIGTSTP, &sa, NULL);
	sa.sa_handler = on_resize;
	sigaction(SIGWINCH, &sa, NULL);
}

void terminal_paste_mode(bool on)
{
	if (!taken || !has_screen || pasting == on)
		return;
	pasting =
		on; /* before the bytes when on: a signal in between may switch off what is off */
	if (on)
		put(PASTE_ON, sizeof PASTE_ON - 1);
	else
		put(PASTE_OFF, sizeof PASTE_OFF - 1);
}

void terminal_quiet(void)
{
	struct termios quiet = found;

	if (!taken || !has_modes)
		return;
	quiet.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	quiet.c_iflag &= ~(tcflag_t)(ICRNL | INLCR);
	quiet.c_cc[VMIN] = 1;
	quiet.c_cc[VTIME] = 0;
	tcsetattr(STDIN_FILENO, TCSADRAIN, &quiet);
}

void terminal_give_back(void)
{
	terminal_paste_mode(false);
	if (taken && has_modes)
		tcsetattr(STDIN_FILENO, TCSADRAIN, &found);
}

bool terminal_resumed(void)
{
	bool yes = resumed;

	resumed = 0;
	return yes;
}

bool terminal_resized(void)
{
	bool yes = resized;

	resized = 0;
	return yes;
}
