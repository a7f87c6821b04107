/* Styled text put onto a terminal's lines: words are wrapped at its width, behind a prefix that hangs.
 *
 * Append-only: nothing that was written is touched again.  A word is held until it ends, until it
 * does not fit on the line, or not at all where it stands first on its line (no wrap can move it).
 * A word that is wider than a line is left to the terminal, so that an address can be copied whole.
 * Wide characters (Chinese, Japanese) may be parted anywhere but before closing and behind opening
 * punctuation.  A line never begins with spaces of the text.
 *
 * Styles are bits; what reaches the terminal is SGR with the sixteen old colours, always absolute
 * ("\033[0;1m"), and off at the end of each line. */
#ifndef HOB_MARKDOWN_WRAP_H
#define HOB_MARKDOWN_WRAP_H

#include "base/buf.h"

enum {
	MD_STRONG = 1,
	MD_EM = 2,
	MD_STRIKE = 4,
	MD_UNDERLINE = 8,
	MD_FAINT = 16,
	/* one colour, or none */
	MD_RED = 1 << 8,
	MD_GREEN = 2 << 8,
	MD_MAGENTA = 5 << 8,
	MD_CYAN = 6 << 8,
	MD_COLOURS = 7 << 8,
};

/* Columns of text, grapheme by grapheme: a ZWJ sequence of emoji, a flag and a character with
 * variation selector 16 take two.  Zero it to start. */
struct markdown_width {
	int32_t last, state; /* of utf8proc's grapheme_break_stateful */
	int cluster;         /* columns of the grapheme so far */
	bool any;
};
/* What c adds to the width of the text before it. */
int markdown_width_add(struct markdown_width *s, int32_t c);
/* True when c began a grapheme in the last call. */
static inline bool markdown_width_began(const struct markdown_width *s, int added)
{
	return added == s->cluster;
}
/* The character at p[0..n), n > 0, and its bytes in *len; a broken byte is U+FFFD. */
int32_t markdown_char(const char *p, size_t n, size_t *len);

struct markdown_wrap {
	struct buf *out; /* borrowed, of the call in progress: set before each */
	int (*columns)(void *arg); /* asked at each line */
	void *arg;

	struct buf lead,
		hang; /* owned: what stands before the next line, and before all behind it */
	int lead_width, hang_width;

	int width;      /* of this line */
	int col, start; /* columns written, and the prefix's share */
	bool line_open; /* the prefix is there */
	bool broken;    /* a line break waits for what it divides */
	unsigned shown; /* style the terminal is in */

	struct buf word; /* owned: held back, with the SGR between its styles */
	int word_width, spaces;
	unsigned word_first, word_last, space_style;
	bool placed;  /* the word began on this line: the rest of it follows at once */
	int32_t last; /* character, 0: none */
	struct markdown_width clusters;
};

void markdown_wrap_init(struct markdown_wrap *w, int (*columns)(void *arg), void *arg);
void markdown_wrap_fini(struct markdown_wrap *w);
/* Text to wrap; a newline in it is a line break, in effect once more text follows. */
void markdown_wrap_text(struct markdown_wrap *w, const char *p, size_t n, unsigned style);
/* Ends the line if one is open. */
void markdown_wrap_end_line(struct markdown_wrap *w);
/* An empty line; the line before has ended. */
void markdown_wrap_blank(struct markdown_wrap *w);
/* Opens a line: its prefix stands.  Returns the columns left on it, at least 1. */
int markdown_wrap_open_line(struct markdown_wrap *w);
/* Bytes onto the open line, neither wrapped nor measured. */
void markdown_wrap_raw(struct markdown_wrap *w, const char *p, size_t n, unsigned style);
/* Appends the SGR sequence of a style. */
void markdown_sgr(struct buf *out, unsigned style);

#endif
