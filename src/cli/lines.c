/* The prompt: libedit at a terminal (lines_edit.c), plain reading for pipes and dumb terminals.  Main
 * thread.
 *
 * A reader may ask why libedit's own signal handling is off: it passes Ctrl-C on to the
 * whole process group, which would hit the script that called us.  Instead libedit reads
 * through a function of ours, which waits for the terminal and for Ctrl-C together, and the handlers of
 * cli/terminal.c only put the terminal back and note what happened. */
#include "cli/lines.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "cli/interrupt.h"
#include "cli/lines_state.h"
#include "cli/terminal.h"

enum lines_wait lines_wait(struct lines *l, int timeout_ms)
{
	struct pollfd p[2] = {{.fd = STDIN_FILENO, .events = POLLIN},
			      {.fd = interrupt_fd(), .events = POLLIN}};

	for (;;) {
		bool was_resumed, was_resized;
		int n;

		if (interrupt_pending())
			return WAIT_INTERRUPT;
		n = poll(p, 2, timeout_ms);
		if (n > 0 && p[0].revents && !interrupt_pending())
			return WAIT_BYTE;
		was_resumed = terminal_resumed();
		was_resized = terminal_resized();
		if (l->edit && (was_resumed || was_resized))
			lines_edit_redraw(l, was_resized && !was_resumed);
		if (!n)
			return WAIT_TIMEOUT;
	}
}

struct lines *lines_new(const char *history_path)
{
	struct lines *l = xcalloc(1, sizeof *l);
	const char *term = getenv("TERM");

	l->is_tty = isatty(STDIN_FILENO);
	buf_adds(&l->typed, "");
	if (!l->is_tty)
		return l;
	terminal_take();
	if (isatty(STDOUT_FILENO) && term && *term && strcmp(term, "dumb") &&
	    lines_edit_open(l, history_path))
		terminal_quiet();
	return l;
}

void lines_free(struct lines *l)
{
	if (!l)
		return;
	lines_edit_close(l);
	if (l->is_tty)
		terminal_give_back();
	pastes_clear(&l->pastes);
	buf_free(&l->input);
	buf_free(&l->typed);
	free(l->prefill);
	free(l->stash);
	free(l);
}

bool lines_interactive(const struct lines *l)
{
	return l->is_tty;
}

bool lines_editing(const struct lines *l)
{
	return l->edit != NULL;
}

/* Takes one line out of input, all of it at the end; false when there is none yet. */
static bool take_line(struct lines *l, struct buf *out)
{
	char *nl = l->input.len ? memchr(l->input.data, '\n', l->input.len) : NULL;
	size_t n = nl ? (size_t)(nl - l->input.data) : l->input.len;

	if (!nl && !(l->ended && n))
		return false;
	buf_add(out, l->input.data, n && l->input.data[n - 1] == '\r' ? n - 1 : n);
	buf_drop(&l->input, nl ? n + 1 : n);
	return true;
}

static enum lines_result interrupted(struct lines *l)
{
	interrupt_clear();
	buf_clear(&l->input);
	if (l->is_tty)
		fputc('\n', stderr); /* the terminal showed ^C */
	return LINES_INTERRUPTED;
}

static enum lines_result read_line(struct lines *l, struct buf *out, struct err *e)
{
	while (!take_line(l, out)) {
		char bytes[16384];
		ssize_t n;

		if (l->ended)
			return LINES_END;
		if (lines_wait(l, -1) != WAIT_BYTE)
			return interrupted(l);
		n = read(STDIN_FILENO, bytes, sizeof bytes);
		if (n < 0 && errno != EINTR && errno != EAGAIN && errno != EIO) {
			err_sys(e, errno, "read standard input");
			return LINES_ERROR;
		}
		l->ended =
			n == 0 || (n < 0 && errno == EIO); /* EIO: the terminal is gone */
		if (n > 0 && l->input.len + (size_t)n > LINES_MAX_BYTES) {
			err_set(e, ERR_TOO_LARGE,
				"a line on standard input is longer than %d MiB",
				LINES_MAX_BYTES >> 20);
			return LINES_ERROR;
		}
		if (n > 0)
			buf_add(&l->input, bytes, (size_t)n);
	}
	return LINES_LINE;
}

/* As many lines as end in a backslash. */
static enum lines_result read_plain(struct lines *l, struct buf *out, struct err *e)
{
	FILE *tty = isatty(STDOUT_FILENO) ? stdout : stderr;
	bool more = false;

	for (;;) {
		enum lines_result rc;
		size_t before = out->len;

		if (l->is_tty) {
			fputs(more ? ". " : l->prompt, tty);
			fflush(tty);
		}
		rc = read_line(l, out, e);
		if (rc == LINES_END && more)
			return LINES_LINE; /* ended in the middle: what there is counts */
		if (rc != LINES_LINE)
			return rc;
		more = out->len > before && out->data[out->len - 1] == '\\';
		if (!more)
			return LINES_LINE;
		out->data[out->len - 1] = '\n';
		if (out->len > LINES_MAX_BYTES) {
			err_set(e, ERR_TOO_LARGE, "a prompt is longer than %d MiB",
				LINES_MAX_BYTES >> 20);
			return LINES_ERROR;
		}
	}
}

enum lines_result lines_read(struct lines *l, const char *prompt, struct buf *out,
			     struct err *e)
{
	enum lines_result rc;

	buf_clear(out);
	buf_adds(out, ""); /* an empty line is an empty string */
	l->prompt = prompt;
	if (l->edit)
		return lines_edit_read(l, out);
	rc = read_plain(l, out, e);
	buf_clear(&l->typed);
	buf_add(&l->typed, out->data, out->len);
	return rc;
}

const char *lines_typed(const struct lines *l)
{
	return l->typed.data;
}

void lines_prefill(struct lines *l, const char *text)
{
	free(l->prefill);
	l->prefill = xstrdup(text);
}

void lines_remember(struct lines *l, const char *text, bool keep)
{
	if (l->history)
		lines_history_add(l->history, text, keep);
}

void lines_give_back(struct lines *l)
{
	if (l->is_tty)
		terminal_give_back();
}

void lines_complete(struct lines *l, lines_complete_fn *fn, void *arg)
{
	l->complete = fn;
	l->complete_arg = arg;
}
