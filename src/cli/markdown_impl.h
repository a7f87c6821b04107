/* The parts of the Markdown reader, for its own files: markdown.c takes lines apart, markdown_begin.c knows the
 * blocks, markdown_show.c shows them. */
#ifndef HOB_MARKDOWN_IMPL_H
#define HOB_MARKDOWN_IMPL_H

#include "cli/highlight.h"
#include "cli/markdown.h"
#include "cli/markdown_table.h"

enum leaf {
	LEAF_NONE,
	LEAF_PARAGRAPH,
	LEAF_HEADING,
	LEAF_FENCE,
	LEAF_INDENTED,
	LEAF_TABLE_HEAD, /* a row that may be a heading waits in `head` */
	LEAF_TABLE
};

/* What the start of a line turned out to be. */
enum step { STEP_MORE, STEP_AGAIN, STEP_DONE, STEP_NO };

enum { BLANKS_MAX = 256, CODE_INDENT = 4, WAIT_LINE = 'L' };

struct container {
	bool quote;
	bool shown;      /* an item's marker is */
	int indent;      /* columns its content is indented by */
	int width;       /* columns of the marker that is shown */
	char marker[16]; /* with the space behind it */
};

struct markdown {
	struct markdown_wrap wrap;
	struct markdown_inline inl;
	struct markdown_table table;
	struct highlight code;

	struct container in[MARKDOWN_DEPTH];
	int depth;
	enum leaf leaf;
	bool any;       /* something was shown */
	int blanks;     /* empty lines before the next block */
	int blank_keep; /* containers that were open ever since */

	bool starting;   /* the line's kind is open: its bytes are in start */
	bool matching;   /* its containers are still being compared */
	bool fresh_item; /* an item began on this line */
	bool no_code;    /* it is none of the lines of a block of code */
	int matched;     /* containers that go on */
	char wait; /* only this character or blanks, or WAIT_LINE: no need to look yet */
	struct buf start; /* owned */

	char fence; /* its character */
	size_t fence_length;
	int fence_indent;
	bool code_shown; /* its first line is */
	struct buf tail; /* owned: of a heading, what may be closing #s */
	struct buf head; /* owned: see LEAF_TABLE_HEAD */
};
/* The start of a line, blanks aside. */
struct look {
	size_t at; /* first byte that is no blank */
	int width; /* columns before it */
	char c;    /* it, 0: none (yet) */
	size_t n;  /* bytes from it on */
	const char *p;
	bool eol; /* the line ends behind them */
};

static inline bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* -- markdown_show.c */

/* Sinks of the readers of text and code; arg is the struct markdown. */
void markdown_show_inline(void *arg, const char *p, size_t n, unsigned style);
void markdown_show_code(void *arg, const char *p, size_t n, enum highlight_kind kind);
/* A new line with the prefix of the open containers, behind an empty one if that is due. */
void markdown_begin_block(struct markdown *m);
/* An item's marker whose text turned out to be nothing. */
void markdown_show_lone_marker(struct markdown *m);
/* The row that waits is a paragraph. */
void markdown_release_head(struct markdown *m);
void markdown_close_leaf(struct markdown *m);
/* Down to `depth` of them. */
void markdown_close_containers(struct markdown *m, int depth);
/* A new block begins on this line: what it does not go on with ends. */
void markdown_new_block(struct markdown *m);
void markdown_push(struct markdown *m, struct container c);
/* Text of the open leaf; the end of its line. */
void markdown_content(struct markdown *m, const char *p, size_t n);
void markdown_end_line(struct markdown *m);

/* -- markdown_begin.c */

/* The containers are compared: what is the rest of the line? */
enum step markdown_begin_leaf(struct markdown *m, const struct look *l);
/* Takes a '>' and one space behind it off the line. */
enum step markdown_take_quote_mark(struct markdown *m, const struct look *l);
/* Bytes of the blanks at the front that make up at most `columns`. */
size_t markdown_indentation(const struct markdown *m, int columns);
/* Does this line end a quote that is open? */
bool markdown_lost_a_quote(const struct markdown *m);

#endif
