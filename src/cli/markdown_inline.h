/* The inside of a paragraph, heading or table cell: emphasis, code, links and the like, as text
 * streams in; text with styles goes out.
 *
 * The rule of what is held back: an opening marker and the text behind it, until its closing one
 * comes, until the block ends, or until MARKDOWN_HOLD characters followed it.  Only then is certain
 * what it means; and a star that was dropped cannot be brought back: "rm *.o" must not lose it.
 * A marker that found no partner in time is shown as it is.  A strong or code span that is longer
 * takes effect all the same, with both of its markers in sight.  The destination of a link may take
 * MARKDOWN_URL_BYTES, an HTML tag MARKDOWN_TAG_BYTES.
 *
 * Differs from CommonMark on purpose: \( \) \[ \] and $ keep TeX as it is; flanking treats wide
 * characters like spaces (else "**中文。**" before a letter stays open); references, footnotes and
 * HTML are shown as they are; __name__ is a name, not strong; link titles are dropped; a line break stays one, since models
 * do not wrap their lines.  Character references for control characters are shown as
 * written. */
#ifndef HOB_MARKDOWN_INLINE_H
#define HOB_MARKDOWN_INLINE_H

#include "cli/markdown_wrap.h"

enum {
	MARKDOWN_HOLD = 80, /* characters: about one line */
	MARKDOWN_URL_BYTES = 1024,
	MARKDOWN_TAG_BYTES = 128,
	MARKDOWN_RUN = 32, /* markers in a row; more are text */
	MARKDOWN_ENTITY_BYTES = 32
};

/* Text in one style; newlines in it are line breaks. */
typedef void markdown_sink(void *arg, const char *p, size_t n, unsigned style);

struct markdown_node;
struct markdown_inline {
	markdown_sink *sink;
	void *arg;     /* borrowed */
	unsigned base; /* style of all text */

	struct buf in;  /* owned: text not understood yet */
	size_t at;      /* how much of it is done */
	size_t scanned; /* how far a link's end was looked for in vain */
	int32_t last;   /* character before it */
	uint64_t chars; /* done since the start */

	struct markdown_node *nodes; /* owned: a queue, [head, nnodes) not written yet */
	size_t head, nnodes, cap;
	struct buf text; /* owned: of the nodes */
	size_t text_at;
	int brackets; /* '[' among the nodes that wait for their ']' */

	/* a long span: its end, 0: none */
	char strong;         /* the marker's character */
	char verbatim;       /* '`', '$' or the ')' or ']' of \) and \] */
	size_t verbatim_run; /* markers that end it */
};

void markdown_inline_init(struct markdown_inline *in, markdown_sink *sink, void *arg);
void markdown_inline_fini(struct markdown_inline *in);
/* A block begins; style is under all of its text. */
void markdown_inline_start(struct markdown_inline *in, unsigned style);
/* Whole characters. */
void markdown_inline_text(struct markdown_inline *in, const char *p, size_t n);
/* The block ends: what was held comes out. */
void markdown_inline_end(struct markdown_inline *in);

/* The character that &name; or &#digits; (without & and ;) stands for, as UTF-8 in out: its bytes, or
 * 0 when it is none or may not be shown. */
size_t markdown_entity(struct str name, char out[8]);

#endif
