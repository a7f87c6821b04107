/* Which block a line begins or goes on with, once its containers are known.  Main thread.
 *
 * Each function looks at what is there of the line and says one of four things (enum step): more is needed,
 * it took something off the front, the rest is known, or it is none of mine.
 *
 * A reader may ask why rules and rows hold the whole line: only its end tells, and what was shown as text
 * cannot become a line or a table any more. */
#include "cli/markdown_impl.h"

enum { RULE_COLUMNS = 40 };

static size_t run(const char *p, size_t n, char c)
{
	size_t i = 0;

	while (i < n && p[i] == c)
		i++;
	return i;
}

static bool only(const char *p, size_t n, char c)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] != c && !is_blank(p[i]))
			return false;
	return true;
}

static enum step wait_for(struct markdown *m, char c)
{
	m->wait = c;
	return STEP_MORE;
}

size_t markdown_indentation(const struct markdown *m, int columns)
{
	size_t i = 0;
	int width = 0;

	while (i < m->start.len && is_blank(m->start.data[i]) && width < columns) {
		width += m->start.data[i] == '\t' ? CODE_INDENT - width % CODE_INDENT : 1;
		i++;
	}
	return i;
}

/* The line is known: its rest from `at` on is the leaf's. */
static enum step go_on(struct markdown *m, size_t at)
{
	m->starting = false;
	markdown_content(m, m->start.data + at, m->start.len - at);
	buf_clear(&m->start);
	return STEP_DONE;
}

static enum step paragraph(struct markdown *m, size_t at)
{
	if (m->leaf != LEAF_PARAGRAPH) {
		markdown_new_block(m);
		markdown_begin_block(m);
		m->leaf = LEAF_PARAGRAPH;
		markdown_inline_start(&m->inl, 0);
	}
	return go_on(m, at);
}

/* Behind a '>' one space belongs to it. */
enum step markdown_take_quote_mark(struct markdown *m, const struct look *l)
{
	if (l->n < 2 && !l->eol)
		return STEP_MORE;
	buf_drop(&m->start, l->at + 1 + (l->n >= 2 && l->p[1] == ' '));
	return STEP_AGAIN;
}

bool markdown_lost_a_quote(const struct markdown *m)
{
	for (int i = m->matched; i < m->depth; i++)
		if (m->in[i].quote)
			return true;
	return false;
}

static bool closes_fence(const struct markdown *m, const struct look *l)
{
	size_t n = run(l->p, l->n, m->fence);

	return l->width < CODE_INDENT && l->c == m->fence &&
	       only(l->p + n, l->n - n, ' ') && (!l->eol || n >= m->fence_length);
}

static enum step fence_line(struct markdown *m, const struct look *l)
{
	if (closes_fence(m, l) && m->start.len < MARKDOWN_LINE_START) {
		if (!l->eol)
			return wait_for(m, m->fence);
		markdown_close_leaf(m);
		m->starting = false;
		return STEP_DONE;
	}
	return go_on(m, markdown_indentation(m, m->fence_indent));
}

static enum step begin_fence(struct markdown *m, const struct look *l)
{
	size_t n = run(l->p, l->n, l->c);
	struct str info;

	if (n < 3)
		return n == l->n && !l->eol ? STEP_MORE : STEP_NO;
	info = str_trim((struct str){l->p + n, l->n - n});
	if (l->n >= MARKDOWN_LINE_START ||
	    (l->c == '`' && memchr(info.ptr, '`', info.len)))
		return STEP_NO;
	if (!l->eol)
		return wait_for(m, WAIT_LINE);
	markdown_new_block(m);
	m->leaf = LEAF_FENCE;
	m->fence = l->c;
	m->fence_length = n;
	m->fence_indent = l->width;
	m->code_shown = false;
	if (!m->blanks)
		m->blank_keep = m->depth;
	m->blanks = 1;
	highlight_start(&m->code, info);
	m->no_code = true;
	m->starting = false;
	return STEP_DONE;
}

static enum step indented_line(struct markdown *m)
{
	if (m->leaf != LEAF_INDENTED) {
		markdown_new_block(m);
		m->leaf = LEAF_INDENTED;
		m->code_shown = false;
		highlight_start(&m->code, (struct str){"", 0});
	}
	for (; m->code_shown && m->blanks; m->blanks--)
		highlight_text(&m->code, "\n", 1);
	return go_on(m, markdown_indentation(m, CODE_INDENT));
}

static enum step begin_heading(struct markdown *m, const struct look *l)
{
	static const unsigned styles[] = {MD_STRONG | MD_UNDERLINE, MD_STRONG,
					  MD_STRONG | MD_EM};
	size_t n = run(l->p, l->n, '#');

	if (n > 6)
		return STEP_NO;
	if (n == l->n && !l->eol)
		return STEP_MORE;
	if (n < l->n && !is_blank(l->p[n]))
		return STEP_NO;
	markdown_new_block(m);
	markdown_begin_block(m);
	m->leaf = LEAF_HEADING;
	markdown_inline_start(&m->inl, styles[n < 3 ? n - 1 : 2]);
	return go_on(m, l->at + n);
}

static enum step show_rule(struct markdown *m)
{
	int room;

	markdown_new_block(m);
	markdown_begin_block(m);
	room = markdown_wrap_open_line(&m->wrap);
	for (int i = 0; i < room && i < RULE_COLUMNS; i++)
		markdown_wrap_raw(&m->wrap, "─", strlen("─"), MD_FAINT);
	markdown_wrap_end_line(&m->wrap);
	m->starting = false;
	return STEP_DONE;
}

static enum step begin_rule(struct markdown *m, const struct look *l)
{
	size_t count = 0;

	if (!only(l->p, l->n, l->c) || l->n >= MARKDOWN_LINE_START)
		return STEP_NO;
	if (!l->eol)
		return wait_for(m, l->c);
	for (size_t i = 0; i < l->n; i++)
		count += l->p[i] == l->c;
	return count >= 3 ? show_rule(m) : STEP_NO;
}

static void set_marker(const struct markdown *m, struct container *c, const char *p,
		       size_t n)
{
	static const char *const bullets[] = {"• ", "◦ "};
	int lists = 0;

	if (n == 1) {
		for (int i = 0; i < m->matched; i++)
			lists += !m->in[i].quote;
		snprintf(c->marker, sizeof c->marker, "%s", bullets[lists % 2]);
		c->width = 2;
		return;
	}
	snprintf(c->marker, sizeof c->marker, "%.*s ", (int)n, p);
	c->width = (int)n + 1;
}

/* An item's marker of n bytes. */
static enum step begin_item(struct markdown *m, const struct look *l, size_t n)
{
	struct container c = {0};
	size_t blanks = 0;

	while (n + blanks < l->n && blanks <= CODE_INDENT && is_blank(l->p[n + blanks]))
		blanks++;
	if (n + blanks == l->n && blanks <= CODE_INDENT && !l->eol)
		return STEP_MORE;
	if (m->matched >= MARKDOWN_DEPTH)
		return STEP_NO;
	if (n + blanks == l->n || blanks > CODE_INDENT)
		blanks = n + blanks == l->n ? blanks : 1;
	c.indent = l->width + (int)n + (n + blanks == l->n ? 1 : (int)blanks);
	set_marker(m, &c, l->p, n);
	n += l->at + blanks;
	markdown_push(m, c);
	buf_drop(&m->start, n);
	m->fresh_item = true;
	return STEP_AGAIN;
}

static bool may_interrupt(const struct markdown *m)
{
	return m->leaf != LEAF_PARAGRAPH || m->matched < m->depth;
}

static enum step begin_bullet(struct markdown *m, const struct look *l)
{
	if (l->n < 2 && !l->eol)
		return STEP_MORE;
	if (l->n < 2 && !may_interrupt(m))
		return STEP_NO;
	if (l->n >= 2 && !is_blank(l->p[1]))
		return STEP_NO;
	return begin_item(m, l, 1);
}

static enum step begin_number(struct markdown *m, const struct look *l)
{
	size_t n = 0;

	while (n < l->n && n < 10 && l->p[n] >= '0' && l->p[n] <= '9')
		n++;
	if (n > 9)
		return STEP_NO;
	if (n == l->n)
		return l->eol ? STEP_NO : STEP_MORE;
	if (l->p[n] != '.' && l->p[n] != ')')
		return STEP_NO;
	if (!may_interrupt(m) && (n != 1 || l->c != '1'))
		return STEP_NO;
	n++;
	if (n == l->n)
		return !l->eol            ? STEP_MORE
		       : may_interrupt(m) ? begin_item(m, l, n)
					  : STEP_NO;
	return is_blank(l->p[n]) ? begin_item(m, l, n) : STEP_NO;
}

/* "[ ] " or "[x] " first in a bullet's item takes the bullet's place. */
static enum step begin_task(struct markdown *m, const struct look *l)
{
	struct container *c = &m->in[m->depth - 1];
	static const char form[] = "[ ] ";
	bool done = l->n > 1 && (l->p[1] == 'x' || l->p[1] == 'X');

	if (!m->fresh_item || c->quote || c->shown || c->width != 2)
		return STEP_NO;
	for (size_t i = 0; i < 4; i++) {
		if (i == l->n)
			return l->eol ? STEP_NO : STEP_MORE;
		if (l->p[i] != form[i] && !(i == 1 && done))
			return STEP_NO;
	}
	snprintf(c->marker, sizeof c->marker, "%s ", done ? "☑" : "☐");
	m->fresh_item = false;
	buf_drop(&m->start, l->at + 4);
	return STEP_AGAIN;
}

static enum step begin_row(struct markdown *m, const struct look *l)
{
	if (l->n >= MARKDOWN_ROW_BYTES || m->leaf == LEAF_FENCE)
		return STEP_NO;
	if (!l->eol)
		return wait_for(m, WAIT_LINE);
	markdown_new_block(m);
	m->leaf = LEAF_TABLE_HEAD;
	buf_clear(&m->head);
	buf_add(&m->head, l->p, l->n);
	m->starting = false;
	return STEP_DONE;
}

/* The line behind a row that may be a heading. */
static enum step behind_head(struct markdown *m, const struct look *l)
{
	struct str row = buf_str(&m->head);

	if (m->matched == m->depth && l->c && strchr("|:-", l->c) &&
	    l->n < MARKDOWN_ROW_BYTES) {
		if (!l->eol)
			return wait_for(m, WAIT_LINE);
		if (markdown_table_delimits((struct str){l->p, l->n},
					    markdown_table_cells(row))) {
			markdown_begin_block(m);
			m->leaf = LEAF_TABLE;
			markdown_table_begin(&m->table, row, (struct str){l->p, l->n});
			m->starting = false;
			return STEP_DONE;
		}
	}
	markdown_release_head(m);
	return STEP_AGAIN;
}

static enum step table_line(struct markdown *m, const struct look *l)
{
	if (m->matched < m->depth || l->c != '|' || l->n >= MARKDOWN_ROW_BYTES) {
		markdown_close_leaf(m);
		return STEP_AGAIN;
	}
	if (!l->eol)
		return wait_for(m, WAIT_LINE);
	markdown_table_row(&m->table, (struct str){l->p, l->n});
	m->starting = false;
	return STEP_DONE;
}

static enum step begin_quote(struct markdown *m, const struct look *l)
{
	if (m->matched >= MARKDOWN_DEPTH)
		return STEP_NO;
	if (l->n < 2 && !l->eol)
		return STEP_MORE;
	markdown_push(m, (struct container){.quote = true, .width = 2});
	return markdown_take_quote_mark(m, l);
}

/* A tag at the start of a line does not go on with an item's or quote's paragraph. */
static enum step begin_html(struct markdown *m, const struct look *l)
{
	if (m->leaf != LEAF_PARAGRAPH || m->matched == m->depth)
		return STEP_NO;
	if (l->n < 2)
		return l->eol ? STEP_NO : STEP_MORE;
	if (l->p[1] == '/' || l->p[1] == '!' ||
	    ((l->p[1] | 32) >= 'a' && (l->p[1] | 32) <= 'z'))
		markdown_new_block(m);
	return STEP_NO;
}

static enum step begin_any(struct markdown *m, const struct look *l)
{
	enum step step = STEP_NO;

	switch (l->c) {
	case '>':
		return begin_quote(m, l);
	case '#':
		return begin_heading(m, l);
	case '`':
	case '~':
		return begin_fence(m, l);
	case '|':
		return begin_row(m, l);
	case '<':
		return begin_html(m, l);
	case '[':
		return m->depth ? begin_task(m, l) : STEP_NO;
	case '-':
	case '*':
	case '_':
	case '+':
		if (l->c != '+')
			step = begin_rule(m, l);
		return step == STEP_NO && l->c != '_' ? begin_bullet(m, l) : step;
	default:
		return l->c >= '0' && l->c <= '9' ? begin_number(m, l) : STEP_NO;
	}
}

/* CommonMark takes a marker that is four columns too far in for text; models mean an item. */
static enum step begin_deep_item(struct markdown *m, const struct look *l)
{
	if (!m->depth || m->matched < m->depth || m->in[m->depth - 1].quote)
		return STEP_NO;
	if (l->c == '-' || l->c == '*' || l->c == '+')
		return begin_bullet(m, l);
	return l->c >= '0' && l->c <= '9' ? begin_number(m, l) : STEP_NO;
}

enum step markdown_begin_leaf(struct markdown *m, const struct look *l)
{
	enum step step;

	if (m->leaf == LEAF_FENCE && !markdown_lost_a_quote(m))
		return fence_line(m, l);
	if (m->leaf == LEAF_FENCE)
		markdown_close_leaf(m);
	if (m->leaf == LEAF_TABLE_HEAD)
		return behind_head(m, l);
	if (m->leaf == LEAF_TABLE)
		return table_line(m, l);
	if (l->width >= CODE_INDENT && m->leaf != LEAF_PARAGRAPH)
		return indented_line(m);
	step = l->width < CODE_INDENT ? begin_any(m, l) : begin_deep_item(m, l);
	return step == STEP_NO ? paragraph(m, l->at) : step;
}
