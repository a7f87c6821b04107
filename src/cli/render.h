/* What reaches the terminal: text made harmless, colours only where they are wanted,
 * tables.
 *
 * Models and servers write what they like; a terminal obeys escape sequences.  Everything
 * that hob did not write itself goes through a filter: control characters other than
 * newline and tab (C0, DEL, C1, and with them every escape sequence) and those that reorder
 * text (U+202A to U+202E, U+2066 to U+2069) are dropped, broken UTF-8 becomes U+FFFD. */
#ifndef HOB_RENDER_H
#define HOB_RENDER_H

#include "base/buf.h"

/* Keeps the beginning of a character that a chunk cut in two.  Zero it to start. */
struct render_filter {
	unsigned char part[4];
	int have, need; /* bytes in part, bytes of the whole character */
};

/* May this code point reach a terminal? */
bool render_harmless(int32_t c);
/* Appends the harmless form of p[0..n) to out. */
void render_filter(struct render_filter *f, struct buf *out, const char *p, size_t n);
void render_filter_end(struct render_filter *f,
		       struct buf *out); /* a cut character: U+FFFD */
/* All of a text at once; owned.  render_line: newlines and tabs become spaces. */
char *render_text(const char *text);
char *render_line(const char *text);
/* JSON escapes C0 but not DEL and C1: filtered on a terminal, untouched elsewhere. */
void render_json(FILE *out, struct str json);

/* An answer as it streams in: filtered, thoughts dim and apart from the text.  Where escape sequences
 * are understood the text is shown as Markdown (cli/markdown.h), thoughts are not interpreted; elsewhere (a
 * pipe, a file, a dumb terminal, NO_COLOR) the text is as the model wrote it. */
struct render_answer {
	struct render_filter filter;
	struct markdown *markdown; /* owned; NULL until there is text to show so */
	FILE *out;                 /* borrowed; flushed at each piece */
	bool colour;               /* may use escape sequences */
	bool thoughts;             /* show reasoning too */
	bool in_thought, at_line_start, any;
};
void render_answer_init(struct render_answer *a, FILE *out, bool thoughts);
/* An ask_text_cb (cli/ask.h): false and errno when writing failed. */
bool render_answer_text(void *answer, const char *p, size_t n, bool is_reasoning);
/* Shows what was held, ends the line and the colour, releases the renderer: owed after each init, also when
 * the answer failed or was stopped; -1 and errno when writing failed at any time. */
int render_answer_end(struct render_answer *a);

/* True when fd is a terminal that may show colour: not dumb, NO_COLOR not set. */
bool render_colour(int fd);
/* Columns of the terminal at fd; `otherwise` when it is none. */
int render_columns(int fd, int otherwise);
/* Columns that a line of text takes: wide characters two, combining ones none. */
int render_width(const char *text);

/* "98.4 MB" into a caller's buffer. */
enum { RENDER_SIZE_BYTES = 16, RENDER_AGE_BYTES = 40 };
const char *render_size(uint64_t bytes, char out[RENDER_SIZE_BYTES]);
/* "12 s ago", "3 h ago"; negative seconds: "-". */
const char *render_age(int64_t seconds, char out[RENDER_AGE_BYTES]);

/* What is being waited for, on one line of standard error that the next call overwrites: "loading 45 %".
 * Only where escape sequences are understood.  *shown: such a line stands there; false to start.
 * total 0: not known. */
void render_progress(bool *shown, const char *stage, int64_t done, int64_t total);
void render_progress_end(bool *shown); /* takes it away */

/* One line in faint type where colour is allowed, plain elsewhere; text is filtered. */
void render_dim(FILE *out, const char *text);

/* Rows of ncols cells each, cells[row * ncols + col]; row 0 is the heading.  Columns are
 * as wide as their widest cell, two spaces apart; cells are filtered by the caller. */
void render_table(FILE *out, const char *const *cells, int nrows, int ncols,
		  const bool *right);

#endif
