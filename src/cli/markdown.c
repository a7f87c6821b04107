/* The blocks of a Markdown text.  Main thread; owns the stack of quotes and list items, and the start of the
 * line that is not understood yet.
 *
 * Each line goes through CommonMark's two steps: which open containers go on, then which new blocks begin.  Bytes
 * are taken off the front of the held start as soon as they are understood, so a line of a thousand markers is
 * read once.
 *
 * A reader may ask why a paragraph's text is written before the block is complete: that is the point, and
 * the reason for the differences that markdown.h lists. */
#include "cli/markdown.h"
#include "cli/markdown_impl.h"

static void start_line(struct markdown *m)
{
	m->starting = m->matching = true;
	m->fresh_item = m->no_code = false;
	m->matched = 0;
	m->wait = 0;
	buf_clear(&m->start);
}

struct markdown *markdown_new(int (*columns)(void *arg), void *arg)
{
	struct markdown *m = xcalloc(1, sizeof *m);

	markdown_wrap_init(&m->wrap, columns, arg);
	markdown_inline_init(&m->inl, markdown_show_inline, m);
	markdown_table_init(&m->table, &m->wrap);
	highlight_init(&m->code, markdown_show_code, m);
	start_line(m);
	return m;
}

void markdown_free(struct markdown *m)
{
	if (!m)
		return;
	markdown_wrap_fini(&m->wrap);
	markdown_inline_fini(&m->inl);
	markdown_table_fini(&m->table);
	highlight_fini(&m->code);
	buf_free(&m->start);
	buf_free(&m->tail);
	buf_free(&m->head);
	free(m);
}

static struct look look_at(const struct markdown *m, bool eol)
{
	struct look l = {.eol = eol};
	const struct buf *b = &m->start;

	while (l.at < b->len && is_blank(b->data[l.at]) && l.at < BLANKS_MAX) {
		l.width +=
			b->data[l.at] == '\t' ? CODE_INDENT - l.width % CODE_INDENT : 1;
		l.at++;
	}
	l.n = b->len - l.at;
	l.p = l.n ? b->data + l.at : "";
	l.c = *l.p;
	return l;
}

static enum step match_container(struct markdown *m, const struct look *l)
{
	const struct container *c = &m->in[m->matched];
	enum step step = STEP_AGAIN;

	if (c->quote) {
		if (l->c != '>' || l->width >= CODE_INDENT)
			m->matching = false;
		else
			step = markdown_take_quote_mark(m, l);
	} else if (l->width >= c->indent) {
		buf_drop(&m->start, markdown_indentation(m, c->indent));
	} else {
		m->matching = false;
	}
	if (m->matching && step == STEP_AGAIN)
		m->matched++;
	return step;
}

static enum step blank_line(struct markdown *m)
{
	int quote = m->matched;

	m->starting = false;
	if (m->leaf == LEAF_FENCE && !markdown_lost_a_quote(m))
		return STEP_DONE; /* markdown_end_line() makes an empty line of code */
	m->no_code = true;
	if (m->fresh_item)
		return STEP_DONE;
	if (m->leaf != LEAF_INDENTED)
		markdown_close_leaf(m);
	while (quote < m->depth && !m->in[quote].quote)
		quote++;
	if (quote < m->depth) {
		markdown_close_leaf(m);
		markdown_close_containers(m, quote);
	}
	if (!m->blanks)
		m->blank_keep = m->depth;
	m->blanks++;
	return STEP_DONE;
}

static void understand(struct markdown *m, bool eol)
{
	enum step step;

	do {
		struct look l = look_at(m, eol);

		if (!l.n && !eol)
			return;
		if (m->matching && m->matched == m->depth)
			m->matching = false;
		if (!l.n && !m->matching)
			step = blank_line(m);
		else if (m->matching && !l.n && !m->in[m->matched].quote)
			step = (m->matched++,
				STEP_AGAIN); /* a blank line goes on with items */
		else if (m->matching)
			step = match_container(m, &l);
		else
			step = markdown_begin_leaf(m, &l);
	} while (step == STEP_AGAIN);
}

static bool still_waits(const struct markdown *m, char c)
{
	if (m->wait == WAIT_LINE)
		return m->start.len < MARKDOWN_ROW_BYTES + BLANKS_MAX;
	return m->wait && (c == m->wait || is_blank(c)) &&
	       m->start.len < MARKDOWN_LINE_START;
}

static void take_newline(struct markdown *m)
{
	if (m->starting)
		understand(m, true);
	markdown_end_line(m);
	start_line(m);
}

/* A character of a line whose kind is not known. */
static size_t take_start(struct markdown *m, const char *p, size_t n)
{
	size_t len = str_utf8_len((struct str){p, n});

	len = len ? len : 1;
	buf_add(&m->start, p, len);
	if (!still_waits(m, *p)) {
		m->wait = 0;
		understand(m, false);
	}
	return len;
}

void markdown_text(struct markdown *m, struct buf *out, const char *p, size_t n)
{
	m->wrap.out = out;
	for (size_t took; n; p += took, n -= took) {
		const char *line;

		took = 1;
		if (*p == '\n') {
			take_newline(m);
		} else if (m->starting) {
			took = take_start(m, p, n);
		} else {
			line = memchr(p, '\n', n);
			took = line ? (size_t)(line - p) : n;
			markdown_content(m, p, took);
		}
	}
}

void markdown_end(struct markdown *m, struct buf *out)
{
	m->wrap.out = out;
	if (m->starting && m->start.len)
		understand(m, true);
	if (m->leaf != LEAF_NONE)
		markdown_close_leaf(m);
	markdown_close_containers(m, 0);
	markdown_show_lone_marker(m);
	m->blanks = 0;
	m->any = false;
	start_line(m);
}
