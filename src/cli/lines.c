/* The prompt: libedit at a terminal, plain reading for pipes and dumb terminals.  Main
 * thread.
 *
 * A reader may ask why libedit's own signal handling is off: it passes Ctrl-C on to the
 * whole process group, which would hit the script that called us.  Instead libedit reads
 * through read_key(), which waits for the terminal and for Ctrl-C together, and the few
 * handlers below only put the terminal back and note what happened. */
#include "cli/lines.h"

#include <errno.h>
#include <fcntl.h>
#include <histedit.h>
#include <langinfo.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <termios.h>
#include <unistd.h>
#include <utf8proc.h>

#include "cli/interrupt.h"

enum { CTRL_D = 4 };

struct lines {
	EditLine *edit;     /* owned; NULL: plain reading */
	History *history;   /* owned, with edit */
	char *history_path; /* owned, or NULL */
	const char *prompt; /* borrowed, while reading */
	struct buf pending; /* read but not delivered yet (plain) */
	bool is_tty, ended;
	bool at_start;       /* no key of this line has been read */
	lines_word_fn *word; /* for Tab, or NULL */
	void *word_arg;
};

/* What signal handlers need; set before they are installed, restored by them. */
static struct termios found; /* the terminal as we found it */
static volatile sig_atomic_t resumed, resized;

static void on_deadly(int signo)
{
	tcsetattr(STDIN_FILENO, TCSANOW, &found);
	raise(signo); /* SA_RESETHAND: the default action, when we return */
}

static void on_stop(int signo)
{
	struct sigaction sa = {.sa_handler = SIG_DFL}, old;
	int saved = errno;
	sigset_t set;

	tcsetattr(STDIN_FILENO, TCSANOW, &found);
	sigaction(signo, &sa, &old);
	sigemptyset(&set);
	sigaddset(&set, signo);
	raise(signo);
	sigprocmask(SIG_UNBLOCK, &set, NULL); /* stops here */
	sigaction(signo, &old, NULL);
	resumed = 1;
	errno = saved;
}

static void on_resize(int signo)
{
	UNUSED(signo);
	resized = 1;
}

static void take_signals(void)
{
	static const struct {
		int signo, flags;
		void (*handler)(int);
	} table[] = {
		{SIGTERM, SA_RESETHAND, on_deadly}, {SIGHUP, SA_RESETHAND, on_deadly},
		{SIGQUIT, SA_RESETHAND, on_deadly}, {SIGTSTP, 0, on_stop},
		{SIGWINCH, 0, on_resize},
	};

	if (tcgetattr(STDIN_FILENO, &found))
		return;
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		struct sigaction sa = {.sa_handler = table[i].handler,
				       .sa_flags = table[i].flags};

		sigemptyset(&sa.sa_mask);
		sigaction(table[i].signo, &sa, NULL);
	}
}

/* 1: a byte can be read (or the end), 0: Ctrl-C. */
static int wait_byte(struct lines *l)
{
	struct pollfd p[2] = {{.fd = STDIN_FILENO, .events = POLLIN},
			      {.fd = interrupt_fd(), .events = POLLIN}};

	for (;;) {
		if (interrupt_pending())
			return 0;
		if (poll(p, 2, -1) > 0 && p[0].revents && !interrupt_pending())
			return 1; /* a person may think as long as they like: no deadline
				     here */
		if (l->edit && resumed)
			el_set(l->edit, EL_PREP_TERM, 1);
		if (l->edit && resized)
			el_resize(l->edit);
		if (l->edit && (resumed || resized))
			el_set(l->edit, EL_REFRESH);
		resumed = resized = 0;
	}
}

/* libedit's getc: one character; 0 at the end; -1 for Ctrl-C.  Broken UTF-8 is skipped.
 */
static int read_key(EditLine *edit, wchar_t *out)
{
	utf8proc_uint8_t bytes[4];
	struct lines *l = NULL;
	int have = 0;

	el_get(edit, EL_CLIENTDATA, &l);
	for (;;) {
		utf8proc_int32_t c;
		ssize_t n;

		if (!wait_byte(l))
			return -1;
		n = read(STDIN_FILENO, bytes + have, 1);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n <= 0) {
			l->ended = true;
			return 0;
		}
		have++;
		if (utf8proc_iterate(bytes, have, &c) > 0) {
			/* Linux keeps a Ctrl-D typed while an answer came (the terminal
			 * was in line mode) as a NUL. */
			*out = !c && l->at_start ? CTRL_D : (wchar_t)c;
			l->at_start = false;
			return 1;
		}
		if (have == 4 || bytes[0] < 0xC2)
			have = 0;
	}
}

static char *show_prompt(EditLine *edit)
{
	struct lines *l = NULL;

	el_get(edit, EL_CLIENTDATA, &l);
	return (char *)l->prompt;
}

/* Tab: adds what all words have in common that go on as the line does. */
static unsigned char on_tab(EditLine *edit, int key)
{
	struct lines *l = NULL;
	const LineInfo *line = el_line(edit);
	size_t have = (size_t)(line->cursor - line->buffer), common = 0;
	char best[256] = "";
	const char *w;

	UNUSED(key);
	el_get(edit, EL_CLIENTDATA, &l);
	for (int i = 0; l->word && (w = l->word(l->word_arg, i)); i++) {
		size_t n = 0;

		if (strncmp(w, line->buffer, have))
			continue;
		if (!*best) {
			snprintf(best, sizeof best, "%s", w);
			common = strlen(best);
			continue;
		}
		while (n < common && w[n] == best[n])
			n++;
		common = n;
	}
	best[common] = '\0';
	if (common <= have || !have || el_insertstr(edit, best + have))
		return CC_REFRESH_BEEP;
	return CC_REFRESH;
}

static void open_history(struct lines *l)
{
	HistEvent ev;
	int fd = -1;

	l->history = history_init();
	ASSERT(l->history);
	history(l->history, &ev, H_SETSIZE, LINES_HISTORY_MAX);
	history(l->history, &ev, H_SETUNIQUE, 1);
	el_set(l->edit, EL_HIST, history, l->history);
	if (l->history_path)
		fd = open(l->history_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW,
			  0600);
	if (fd < 0) {
		free(l->history_path);
		l->history_path = NULL;
		return;
	}
	close(fd);
	history(l->history, &ev, H_LOAD, l->history_path);
}

/* libedit turns what was typed into bytes of the locale; those must be UTF-8. */
static void use_utf8(void)
{
	setlocale(LC_CTYPE, "");
	if (strcmp(nl_langinfo(CODESET), "UTF-8"))
		setlocale(LC_CTYPE, "C.UTF-8");
}

static void open_edit(struct lines *l)
{
	use_utf8();
	l->edit = el_init("hob", stdin, stdout, stderr);
	if (!l->edit)
		return; /* plain reading then */
	el_set(l->edit, EL_CLIENTDATA, l);
	el_set(l->edit, EL_PROMPT, show_prompt);
	el_set(l->edit, EL_EDITOR, "emacs");
	el_set(l->edit, EL_SIGNAL, 0);
	el_set(l->edit, EL_GETCFN, read_key);
	/* The wide form, because the other one copies the names and never frees them. */
	el_wset(l->edit, EL_ADDFN, L"hob-complete", L"complete a command or model",
		on_tab);
	el_set(l->edit, EL_BIND, "^I", "hob-complete", NULL);
	el_set(l->edit, EL_BIND, "^R", "em-inc-search-prev", NULL);
	open_history(l);
	el_source(l->edit, NULL); /* ~/.editrc: the user's keys win */
}

struct lines *lines_new(const char *history_path)
{
	struct lines *l = xcalloc(1, sizeof *l);
	const char *term = getenv("TERM");

	l->is_tty = isatty(STDIN_FILENO);
	if (!l->is_tty)
		return l;
	take_signals();
	l->history_path = history_path ? xstrdup(history_path) : NULL;
	if (isatty(STDOUT_FILENO) && term && *term && strcmp(term, "dumb"))
		open_edit(l);
	return l;
}

void lines_free(struct lines *l)
{
	if (!l)
		return;
	if (l->edit) {
		el_end(l->edit); /* puts the terminal back */
		history_end(l->history);
	}
	buf_free(&l->pending);
	free(l->history_path);
	free(l);
}

bool lines_interactive(const struct lines *l)
{
	return l->is_tty;
}

static enum lines_result interrupted(void)
{
	interrupt_clear();
	return LINES_INTERRUPTED;
}

static enum lines_result read_edited(struct lines *l, struct buf *out)
{
	const char *line;
	int n = 0;

	resumed = resized = 0;
	l->at_start = true;
	el_resize(l->edit); /* it may have changed while an answer came */
	line = el_gets(l->edit, &n);
	if (interrupt_pending()) {
		fputs("^C\n", stdout);
		fflush(stdout);
		return interrupted();
	}
	if (!line || n <= 0)
		return LINES_END;
	while (n && (line[n - 1] == '\n' || line[n - 1] == '\r'))
		n--;
	buf_add(out, line, (size_t)n);
	return LINES_LINE;
}

/* Takes one line out of pending, all of it at the end; false when there is none yet. */
static bool take_line(struct lines *l, struct buf *out)
{
	char *nl = l->pending.len ? memchr(l->pending.data, '\n', l->pending.len) : NULL;
	size_t n = nl ? (size_t)(nl - l->pending.data) : l->pending.len;

	if (!nl && !(l->ended && n))
		return false;
	buf_add(out, l->pending.data, n && l->pending.data[n - 1] == '\r' ? n - 1 : n);
	buf_drop(&l->pending, nl ? n + 1 : n);
	return true;
}

static enum lines_result read_plain(struct lines *l, struct buf *out, struct err *e)
{
	while (!take_line(l, out)) {
		char bytes[16384];
		ssize_t n;

		if (l->ended)
			return LINES_END;
		if (!wait_byte(l)) {
			buf_clear(&l->pending);
			if (l->is_tty)
				fputc('\n', stderr); /* the terminal showed ^C */
			return interrupted();
		}
		n = read(STDIN_FILENO, bytes, sizeof bytes);
		if (n < 0 && errno != EINTR && errno != EAGAIN && errno != EIO) {
			err_sys(e, errno, "read standard input");
			return LINES_ERROR;
		}
		l->ended =
			n == 0 || (n < 0 && errno == EIO); /* EIO: the terminal is gone */
		if (n > 0 && l->pending.len + (size_t)n > LINES_MAX_BYTES) {
			err_set(e, ERR_TOO_LARGE,
				"a line on standard input is longer than %d MiB",
				LINES_MAX_BYTES >> 20);
			return LINES_ERROR;
		}
		if (n > 0)
			buf_add(&l->pending, bytes, (size_t)n);
	}
	return LINES_LINE;
}

enum lines_result lines_read(struct lines *l, const char *prompt, struct buf *out,
			     struct err *e)
{
	FILE *tty = isatty(STDOUT_FILENO) ? stdout : stderr;

	buf_clear(out);
	buf_reserve(out, 1); /* an empty line is an empty string */
	out->data[0] = '\0';
	l->prompt = prompt;
	if (l->edit)
		return read_edited(l, out);
	if (l->is_tty) {
		fputs(prompt, tty);
		fflush(tty);
	}
	return read_plain(l, out, e);
}

void lines_remember(struct lines *l, const char *line)
{
	HistEvent ev;

	if (!l->edit || !line[strspn(line, " \t")])
		return;
	history(l->history, &ev, H_ENTER, line);
	if (l->history_path)
		history(l->history, &ev, H_SAVE, l->history_path);
}

void lines_complete(struct lines *l, lines_word_fn *fn, void *arg)
{
	l->word = fn;
	l->word_arg = arg;
}
