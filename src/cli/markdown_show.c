/* What a Markdown text puts on the screen: prefixes, the beginning and the end of blocks, their content.  Main
 * thread.
 *
 * A reader may ask why blank lines and markers are kept until something follows them: whether there is an
 * empty line between two blocks, and how far the bars of quotes reach on it, is the later block's say. */
#include "cli/markdown_impl.h"

void markdown_show_inline(void *arg, const char *p, size_t n, unsigned style)
{
	struct markdown *m = arg;

	markdown_wrap_text(&m->wrap, p, n, style);
}

static void add_bar(struct buf *b)
{
	markdown_sgr(b, MD_FAINT);
	buf_adds(b, "│ ");
	markdown_sgr(b, 0);
}

static void add_spaces(struct buf *b, int n)
{
	while (n-- > 0)
		buf_addc(b, ' ');
}

static void set_prefix(struct markdown *m)
{
	struct markdown_wrap *w = &m->wrap;
	bool marker = false;

	buf_clear(&w->lead);
	buf_clear(&w->hang);
	w->hang_width = 0;
	for (int i = 0; i < m->depth; i++) {
		struct container *c = &m->in[i];

		w->hang_width += c->width;
		if (c->quote) {
			add_bar(&w->lead);
			add_bar(&w->hang);
			continue;
		}
		add_spaces(&w->hang, c->width);
		if (c->shown)
			add_spaces(&w->lead, c->width);
		else
			buf_adds(&w->lead, c->marker);
		marker |= !c->shown;
		c->shown = true;
	}
	w->lead_width = w->hang_width;
	if (!marker)
		buf_clear(&w->lead);
}

/* Bars of the quotes among the first `containers` go on over it. */
static void show_blank(struct markdown *m, int containers)
{
	for (int i = 0; i < containers && i < m->depth; i++)
		if (m->in[i].quote)
			add_bar(m->wrap.out);
	markdown_wrap_blank(&m->wrap);
}

void markdown_show_lone_marker(struct markdown *m)
{
	markdown_wrap_end_line(&m->wrap);
	if (!m->wrap.lead.len)
		return;
	markdown_wrap_open_line(&m->wrap);
	markdown_wrap_end_line(&m->wrap);
}

void markdown_begin_block(struct markdown *m)
{
	markdown_show_lone_marker(m);
	if (m->blanks && m->any)
		show_blank(m, m->blank_keep);
	m->blanks = 0;
	m->any = true;
	set_prefix(m);
}

static void release_tail(struct markdown *m)
{
	markdown_inline_text(&m->inl, m->tail.data, m->tail.len);
	buf_clear(&m->tail);
}

/* Closing #s stand behind a space; they are markers. */
static void end_heading(struct markdown *m)
{
	buf_clear(&m->tail);
	markdown_inline_end(&m->inl);
}

void markdown_release_head(struct markdown *m)
{
	m->leaf = LEAF_PARAGRAPH;
	markdown_begin_block(m);
	markdown_inline_start(&m->inl, 0);
	markdown_inline_text(&m->inl, m->head.data, m->head.len);
	markdown_inline_text(&m->inl, "\n", 1);
	buf_clear(&m->head);
}

void markdown_close_leaf(struct markdown *m)
{
	if (m->leaf == LEAF_TABLE_HEAD)
		markdown_release_head(m);
	switch (m->leaf) {
	case LEAF_PARAGRAPH:
		markdown_inline_end(&m->inl);
		break;
	case LEAF_HEADING:
		end_heading(m);
		break;
	case LEAF_FENCE:
	case LEAF_INDENTED:
		highlight_end(&m->code);
		break;
	case LEAF_TABLE:
		markdown_table_end(&m->table);
		break;
	default:
		break;
	}
	markdown_wrap_end_line(&m->wrap);
	if (m->leaf == LEAF_FENCE) {
		m->blanks = 1;
		m->blank_keep = m->depth;
	}
	m->leaf = LEAF_NONE;
}

/* Items that never had text show their marker alone. */
void markdown_close_containers(struct markdown *m, int depth)
{
	while (m->depth > depth) {
		if (!m->in[m->depth - 1].quote && !m->in[m->depth - 1].shown) {
			markdown_begin_block(m);
			markdown_show_lone_marker(m);
		}
		m->depth--;
	}
	if (m->blank_keep > m->depth)
		m->blank_keep = m->depth;
}

void markdown_new_block(struct markdown *m)
{
	if (m->leaf != LEAF_NONE)
		markdown_close_leaf(m);
	markdown_close_containers(m, m->matched);
}

void markdown_push(struct markdown *m, struct container c)
{
	markdown_new_block(m);
	m->in[m->depth++] = c;
	m->matched = m->depth;
	m->matching = false;
}

void markdown_show_code(void *arg, const char *p, size_t n, enum highlight_kind kind)
{
	static const unsigned styles[HIGHLIGHT_NR] = {
		[HIGHLIGHT_KEYWORD] = MD_MAGENTA, [HIGHLIGHT_TYPE] = MD_CYAN,
		[HIGHLIGHT_STRING] = MD_GREEN,    [HIGHLIGHT_NUMBER] = MD_RED,
		[HIGHLIGHT_COMMENT] = MD_FAINT,   [HIGHLIGHT_DIRECTIVE] = MD_STRONG,
		[HIGHLIGHT_ADDED] = MD_GREEN,     [HIGHLIGHT_REMOVED] = MD_RED,
		[HIGHLIGHT_HUNK] = MD_CYAN,
	};
	struct markdown *m = arg;

	if (!m->code_shown)
		markdown_begin_block(m);
	m->code_shown = true;
	if (*p != '\n') {
		markdown_wrap_open_line(&m->wrap);
		markdown_wrap_raw(&m->wrap, p, n, styles[kind]);
	} else if (m->wrap.line_open) {
		markdown_wrap_end_line(&m->wrap);
	} else {
		show_blank(m, m->depth);
	}
}

static void heading_text(struct markdown *m, const char *p, size_t n)
{
	size_t len;

	for (size_t i = 0; i < n; i += len) {
		struct buf *t = &m->tail;
		bool blank = p[i] == ' ' || p[i] == '\t', hash = p[i] == '#';
		char last = t->len ? t->data[t->len - 1] : 0;

		markdown_char(p + i, n - i, &len);
		if (t->len >= MARKDOWN_LINE_START ||
		    (hash && last != '#' && memchr(t->data, '#', t->len)))
			release_tail(m);
		else if (!blank && !(hash && t->len))
			release_tail(m);
		if (blank || (hash && last))
			buf_addc(t, p[i]);
		else
			markdown_inline_text(&m->inl, p + i, len);
	}
}

void markdown_content(struct markdown *m, const char *p, size_t n)
{
	if (!n)
		return;
	switch (m->leaf) {
	case LEAF_HEADING:
		heading_text(m, p, n);
		break;
	case LEAF_FENCE:
	case LEAF_INDENTED:
		highlight_text(&m->code, p, n);
		break;
	default:
		markdown_inline_text(&m->inl, p, n);
		break;
	}
}

void markdown_end_line(struct markdown *m)
{
	switch (m->leaf) {
	case LEAF_PARAGRAPH:
		markdown_inline_text(&m->inl, "\n", 1);
		break;
	case LEAF_HEADING:
		markdown_close_leaf(m);
		break;
	case LEAF_FENCE:
	case LEAF_INDENTED:
		if (!m->no_code)
			highlight_text(&m->code, "\n", 1);
		break;
	default:
		break;
	}
}
