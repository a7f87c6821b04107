/* The parts of the inline reader, for its own files: markdown_inline.c has the queue, emphasis and the loop,
 * markdown_spans.c what is enclosed by more than a run of markers. */
#ifndef HOB_MARKDOWN_INLINE_IMPL_H
#define HOB_MARKDOWN_INLINE_IMPL_H

#include "cli/markdown_inline.h"

enum node_kind { NODE_TEXT, NODE_RUN, NODE_BRACKET };

struct markdown_node {
	enum node_kind kind;
	char ch;                  /* of a run */
	bool can_open, can_close; /* an open bracket: can_open */
	bool image;
	unsigned style;
	size_t count, whole; /* markers left, and at first */
	size_t len;          /* text: bytes in `text` */
	uint64_t born;       /* characters before it */
};

/* Each take_ function understands what is at in->at: its bytes, or NEED_MORE.  end: no more will come. */
enum { NEED_MORE = 0 };

/* -- markdown_inline.c */

struct markdown_node *markdown_add_node(struct markdown_inline *in, enum node_kind kind);
void markdown_add_text(struct markdown_inline *in, const char *p, size_t len,
		       unsigned style);
/* The next len bytes as they are. */
size_t markdown_take_text(struct markdown_inline *in, size_t len, unsigned style);
/* Length of the run of equal characters at `at`, up to MARKDOWN_RUN; false when it may go on. */
bool markdown_run_length(const struct markdown_inline *in, size_t at, bool end,
			 size_t *len);
bool markdown_is_space(int32_t c);
bool markdown_is_punct(int32_t c);

/* -- markdown_spans.c */

size_t markdown_take_code(struct markdown_inline *in, bool end);
size_t markdown_take_tex(struct markdown_inline *in, bool end);
size_t markdown_take_verbatim(struct markdown_inline *in, bool end);
size_t markdown_take_escape(struct markdown_inline *in, bool end);
size_t markdown_take_tag(struct markdown_inline *in, bool end);
size_t markdown_take_entity(struct markdown_inline *in, bool end);
size_t markdown_take_bracket(struct markdown_inline *in, bool image);
size_t markdown_take_link(struct markdown_inline *in, bool end);

#endif
