/* libedit and what it lacks: several lines, pastes, a history that is not rewritten.  Main thread.
 *
 * A reader may ask about the keys ESC[9901~ and ESC[9902~: no terminal sends them.  A function that
 * libedit calls for a key cannot call another of libedit's own functions; it can put a key that is bound
 * to that function in front of the input. */
#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <unistd.h>
#include <utf8proc.h>
#include <wchar.h>

#include "cli/interrupt.h"
#include "cli/lines_state.h"
#include "cli/render.h"
#include "cli/terminal.h"

enum {
	CTRL_D = 4,
	PASTE_SILENCE_MS =
		2000, /* then the end marker was lost: what came is the paste */
	TAB_COLUMNS = 8,
};

#define KEY_SUBMIT  "\033[9901~"
#define KEY_PREFILL "\033[9902~"

static struct lines *lines_of(EditLine *edit)
{
	struct lines *l = NULL;

	el_get(edit, EL_CLIENTDATA, &l);
	return l;
}

static void push(struct lines *l, const char *keys)
{
	struct buf b = {0};

	buf_adds(&b, keys);
	buf_add(&b, l->input.data, l->input.len);
	buf_free(&l->input);
	l->input = b;
}

/* More bytes into input: false at the end, at Ctrl-C and at the time-out. */
static bool fill(struct lines *l, int timeout_ms)
{
	char bytes[4096];
	ssize_t n;

	do {
		if (lines_wait(l, timeout_ms) != WAIT_BYTE)
			return false;
		n = read(STDIN_FILENO, bytes, sizeof bytes);
	} while (n < 0 && (errno == EINTR || errno == EAGAIN));
	if (n <= 0)
		l->ended = true;
	else
		buf_add(&l->input, bytes, (size_t)n);
	return n > 0;
}

/* libedit's getc: one character; 0 at the end; -1 for Ctrl-C.  Broken UTF-8 is skipped. */
static int read_key(EditLine *edit, wchar_t *out)
{
	struct lines *l = lines_of(edit);

	for (;;) {
		struct str s = buf_str(&l->input);
		size_t n = s.len ? str_utf8_len(s) : 0;
		utf8proc_int32_t c;

		if (interrupt_pending())
			return -1;
		if (n) {
			utf8proc_iterate((const utf8proc_uint8_t *)s.ptr,
					 (utf8proc_ssize_t)n, &c);
			buf_drop(&l->input, n);
			/* Linux keeps a Ctrl-D typed while the terminal was in line mode as a
			 * NUL. */
			*out = !c && l->at_start ? CTRL_D : (wchar_t)c;
			l->at_start = false;
			return 1;
		}
		if (s.len >= 4 || (s.len && (unsigned char)*s.ptr < 0xC2))
			buf_drop(&l->input, 1);
		else if (!fill(l, -1))
			return l->ended ? 0 : -1;
	}
}

static char *show_prompt(EditLine *edit)
{
	return (char *)lines_of(edit)->prompt;
}

static void set_line(EditLine *edit, const char *text)
{
	const LineInfoW *line = el_wline(edit);

	el_cursor(edit, (int)(line->lastchar - line->cursor));
	line = el_wline(edit);
	el_deletestr(edit, (int)(line->cursor - line->buffer));
	if (*text)
		el_insertstr(edit, text);
}

/* -- rows -- */

struct place {
	int row, col;
};

static void advance(struct place *p, int width, int columns)
{
	if (p->col + width > columns)
		*p = (struct place){p->row + 1, 0};
	p->col += width;
	if (p->col >= columns)
		*p = (struct place){p->row + 1, 0};
}

/* Where `end` stands, as libedit draws, counted from the prompt's first cell. */
static struct place place_of(const struct lines *l, const wchar_t *end, int columns)
{
	struct place at = {0};

	for (int left = render_width(l->prompt); left > 0; left--)
		advance(&at, 1, columns);
	for (const wchar_t *p = el_wline(l->edit)->buffer; p < end; p++) {
		if (*p == '\n')
			at = (struct place){at.row + 1, 0};
		else if (*p == '\t')
			advance(&at, TAB_COLUMNS - at.col % TAB_COLUMNS, columns);
		else if (*p < ' ' || *p == 0x7F)
			advance(&at, 2, columns); /* ^X */
		else
			advance(&at, utf8proc_charwidth(*p), columns);
	}
	return at;
}

int lines_edit_rows(const struct lines *l, int columns)
{
	return place_of(l, el_wline(l->edit)->cursor, columns).row;
}

/* Behind what was typed, so that nothing is written over its rows. */
static void go_to_end(const struct lines *l)
{
	const LineInfoW *line = el_wline(l->edit);
	struct place from = place_of(l, line->cursor, l->columns);
	struct place to = place_of(l, line->lastchar, l->columns);

	if (to.row > from.row)
		printf("\033[%dB", to.row - from.row);
	printf("\r");
	if (to.col)
		printf("\033[%dC", to.col);
}

/* The line stands on the screen as it was drawn for the old width, or wrapped anew by the terminal: we
 * go up by the smaller number of rows, so that nothing else is ever overwritten. */
void lines_edit_redraw(struct lines *l, bool resized)
{
	int columns = render_columns(STDOUT_FILENO, l->columns), up, other;

	if (resized) {
		up = lines_edit_rows(l, l->columns);
		other = lines_edit_rows(l, columns);
		up = other < up ? other : up;
		if (up)
			printf("\r\033[%dA\033[J", up);
		else
			printf("\r\033[J");
		fflush(stdout);
	}
	l->columns = columns;
	el_resize(l->edit);
	el_set(l->edit, EL_REFRESH);
}

/* -- keys -- */

static unsigned char on_newline(EditLine *edit, int key)
{
	UNUSED(key);
	return el_insertstr(edit, "\n") ? CC_ERROR : CC_REFRESH;
}

/* Behind a backslash Enter goes on in the next line. */
static unsigned char on_enter(EditLine *edit, int key)
{
	const LineInfoW *line = el_wline(edit);

	if (line->lastchar == line->buffer || line->lastchar[-1] != '\\') {
		push(lines_of(edit), KEY_SUBMIT);
		return CC_NORM;
	}
	el_cursor(edit, (int)(line->lastchar - line->cursor));
	el_deletestr(edit, 1);
	return on_newline(edit, key);
}

static unsigned char on_prefill(EditLine *edit, int key)
{
	struct lines *l = lines_of(edit);

	UNUSED(key);
	if (l->prefill)
		set_line(edit, l->prefill);
	free(l->prefill);
	l->prefill = NULL;
	return CC_REFRESH;
}

static void show_entry(EditLine *edit, const char *text)
{
	char *shown =
		pastes_take(&lines_of(edit)->pastes, str_of(text)); /* a long one folds */

	set_line(edit, shown);
	free(shown);
}

static unsigned char move_in_history(EditLine *edit, int step)
{
	struct lines *l = lines_of(edit);
	int at = l->history_at + step;
	const char *text = at > 0 ? lines_history_at(l->history, at - 1) : NULL;

	if (at < 0 || (at && !text))
		return CC_REFRESH_BEEP;
	if (!l->history_at) {
		const LineInfo *line = el_line(edit);

		free(l->stash);
		l->stash =
			xstrndup(line->buffer, (size_t)(line->lastchar - line->buffer));
	}
	l->history_at = at;
	if (text)
		show_entry(edit, text);
	else
		set_line(edit, l->stash);
	return CC_REFRESH;
}

static const wchar_t *row_start(const LineInfoW *line, const wchar_t *p)
{
	while (p > line->buffer && p[-1] != '\n')
		p--;
	return p;
}

/* Up and Down move inside a prompt of several lines, and behind its ends in the history. */
static unsigned char on_up(EditLine *edit, int key)
{
	const LineInfoW *line = el_wline(edit);
	const wchar_t *start = row_start(line, line->cursor), *above;
	long col = line->cursor - start;

	UNUSED(key);
	if (start == line->buffer)
		return move_in_history(edit, 1);
	above = row_start(line, start - 1);
	if (col > start - 1 - above)
		col = start - 1 - above;
	el_cursor(edit, (int)(above + col - line->cursor));
	return CC_CURSOR;
}

static unsigned char on_down(EditLine *edit, int key)
{
	const LineInfoW *line = el_wline(edit);
	const wchar_t *below = line->cursor, *end;
	long col = line->cursor - row_start(line, line->cursor);

	UNUSED(key);
	while (below < line->lastchar && *below != '\n')
		below++;
	if (below == line->lastchar)
		return move_in_history(edit, -1);
	end = ++below;
	while (end < line->lastchar && *end != '\n')
		end++;
	if (col > end - below)
		col = end - below;
	el_cursor(edit, (int)(below + col - line->cursor));
	return CC_CURSOR;
}

/* A placeholder goes as one. */
static unsigned char on_backspace(EditLine *edit, int key)
{
	const LineInfo *line = el_line(edit);
	struct str before = {line->buffer, (size_t)(line->cursor - line->buffer)};
	size_t n = pastes_ending(&lines_of(edit)->pastes, before);

	UNUSED(key);
	if (!before.len)
		return CC_ERROR;
	el_deletestr(edit, n ? (int)n : 1); /* a placeholder is ASCII */
	return CC_REFRESH;
}

static unsigned char on_paste(EditLine *edit, int key)
{
	struct lines *l = lines_of(edit);
	bool too_large = false;
	size_t seen = 0, used;
	char *shown;
	long end;

	UNUSED(key);
	while ((end = paste_end(&l->input, seen)) < 0) {
		seen = l->input.len > 5 ? l->input.len - 5
					: 0; /* the marker may be cut in two */
		if (l->input.len > PASTE_MAX_BYTES) {
			too_large = true;
			buf_drop(&l->input, seen);
			seen = 0;
		}
		if (!fill(l, PASTE_SILENCE_MS))
			break;
	}
	used = end < 0 ? l->input.len : (size_t)end;
	shown = too_large ? xasprintf("[a paste over %d MiB was left out]",
				      PASTE_MAX_BYTES >> 20)
			  : pastes_take(&l->pastes, (struct str){l->input.data, used});
	buf_drop(&l->input, end < 0 ? used : used + 6);
	if (*shown)
		el_insertstr(edit, shown);
	free(shown);
	return CC_REFRESH;
}

/* -- opening and closing -- */

/* libedit turns what was typed into bytes of the locale; those must be UTF-8. */
static void use_utf8(void)
{
	setlocale(LC_CTYPE, "");
	if (strcmp(nl_langinfo(CODESET), "UTF-8"))
		setlocale(LC_CTYPE, "C.UTF-8");
}

static void bind_keys(EditLine *edit)
{
	static const struct {
		const wchar_t *name;
		unsigned char (*fn)(EditLine *, int);
		const char *keys[5];
	} table[] = {
		{L"hob-complete", lines_words_tab, {"^I"}},
		{L"hob-enter", on_enter, {"^M"}},
		{L"hob-newline", on_newline, {"^J", "\\e^M", "\\e^J"}},
		{L"hob-up", on_up, {"^P", "\\e[A", "\\eOA"}},
		{L"hob-down", on_down, {"^N", "\\e[B", "\\eOB"}},
		{L"hob-backspace", on_backspace, {"^?", "^H"}},
		{L"hob-paste", on_paste, {"\\e[200~"}},
		{L"hob-prefill", on_prefill, {KEY_PREFILL}},
	};

	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		char *name = xasprintf("%ls", table[i].name);

		/* The wide form, because the other one copies the names and never frees them. */
		el_wset(edit, EL_ADDFN, table[i].name, L"see hob(1)", table[i].fn);
		for (int k = 0; table[i].keys[k]; k++)
			el_set(edit, EL_BIND, table[i].keys[k], name, NULL);
		free(name);
	}
	el_set(edit, EL_BIND, KEY_SUBMIT, "ed-newline", NULL);
	el_set(edit, EL_BIND, "^R", "em-inc-search-prev", NULL);
	el_set(edit, EL_BIND, "\\e[3~", "ed-delete-next-char", NULL);
	el_set(edit, EL_BIND, "\\e[H", "ed-move-to-beg", NULL);
	el_set(edit, EL_BIND, "\\e[F", "ed-move-to-end", NULL);
	el_set(edit, EL_BIND, "\\e[1;5D", "ed-prev-word", NULL);
	el_set(edit, EL_BIND, "\\e[1;5C", "em-next-word", NULL);
}

bool lines_edit_open(struct lines *l, const char *history_path)
{
	use_utf8();
	l->edit = el_init("hob", stdin, stdout, stderr);
	if (!l->edit)
		return false; /* plain reading then */
	el_set(l->edit, EL_CLIENTDATA, l);
	el_set(l->edit, EL_PROMPT, show_prompt);
	el_set(l->edit, EL_EDITOR, "emacs");
	el_set(l->edit, EL_SIGNAL, 0);
	el_set(l->edit, EL_GETCFN, read_key);
	el_set(l->edit, EL_SETTY, "-d", "-icrnl", "-inlcr",
	       NULL); /* Enter is no Ctrl-J */
	bind_keys(l->edit);
	l->history = lines_history_open(history_path);
	el_set(l->edit, EL_HIST, history, lines_history_list(l->history));
	el_source(l->edit, NULL); /* ~/.editrc: the user's keys win */
	return true;
}

void lines_edit_close(struct lines *l)
{
	if (!l->edit)
		return;
	el_end(l->edit);
	lines_history_close(l->history);
}

static enum lines_result interrupted(struct lines *l)
{
	const LineInfo *line = el_line(l->edit);
	char *left = xstrndup(line->buffer, (size_t)(line->lastchar - line->buffer));
	struct buf text = {0};

	pastes_expand(&l->pastes, str_of(left), &text);
	if (text.len)
		lines_history_add(l->history, text.data, false);
	buf_free(&text);
	free(left);
	buf_clear(&l->input);
	interrupt_clear();
	go_to_end(l);
	fputs("^C\n", stdout);
	fflush(stdout);
	return LINES_INTERRUPTED;
}

static enum lines_result take_result(struct lines *l, const char *line, int n,
				     struct buf *out)
{
	if (interrupt_pending())
		return interrupted(l);
	if (!line || n <= 0)
		return LINES_END;
	if (line[n - 1] == '\n')
		n--;
	buf_add(&l->typed, line, (size_t)n);
	pastes_expand(&l->pastes, (struct str){line, (size_t)n}, out);
	return LINES_LINE;
}

enum lines_result lines_edit_read(struct lines *l, struct buf *out)
{
	enum lines_result rc;
	const char *line;
	int n = 0;

	terminal_resumed(); /* what came before is no news */
	terminal_resized();
	buf_clear(&l->typed);
	buf_adds(&l->typed, "");
	pastes_clear(&l->pastes);
	l->history_at = 0;
	l->at_start = true;
	l->columns = render_columns(STDOUT_FILENO, 80);
	if (l->prefill)
		push(l, KEY_PREFILL);
	el_resize(l->edit); /* it may have changed while an answer came */
	terminal_paste_mode(true);
	line = el_gets(l->edit, &n);
	terminal_paste_mode(false);
	rc = take_result(l, line, n, out);
	terminal_quiet();
	return rc;
}
