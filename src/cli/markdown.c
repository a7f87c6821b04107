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

#include "cli/highlight.h"
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

enum { BLANKS_MAX = 256, CODE_INDENT = 4, RULE_COLUMNS = 40, WAIT_LINE = 'L' };

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

static void show_inline(void *arg, const char *p, size_t n, unsigned style)
{
	struct markdown *m = arg;

	markdown_wrap_text(&m->wrap, p, n, style);
}

static void show_code(void *arg, const char *p, size_t n, enum highlight_kind kind);

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
	markdown_inline_init(&m->inl, show_inline, m);
	markdown_table_init(&m->table, &m->wrap);
	highlight_init(&m->code, show_code, m);
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

/* -- what stands before a line */

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

static void show_blank(struct markdown *m)
{
	int quotes = 0;

	for (int i = 0; i < m->blank_keep && i < m->depth; i++)
		quotes += m->in[i].quote;
	if (quotes) {
		for (int i = 0; i < quotes; i++)
			add_bar(m->wrap.out);
	}
	markdown_wrap_blank(&m->wrap);
}

/* A marker whose text turned out to be nothing. */
static void show_lone_marker(struct markdown *m)
{
	markdown_wrap_end_line(&m->wrap);
	if (!m->wrap.lead.len)
		return;
	markdown_wrap_open_line(&m->wrap);
	markdown_wrap_end_line(&m->wrap);
}

static void begin_block(struct markdown *m)
{
	show_lone_marker(m);
	if (m->blanks && m->any)
		show_blank(m);
	m->blanks = 0;
	m->any = true;
	set_prefix(m);
}

/* -- ends */

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

static void release_head(struct markdown *m)
{
	m->leaf = LEAF_PARAGRAPH;
	begin_block(m);
	markdown_inline_start(&m->inl, 0);
	markdown_inline_text(&m->inl, m->head.data, m->head.len);
	markdown_inline_text(&m->inl, "\n", 1);
	buf_clear(&m->head);
}

static void close_leaf(struct markdown *m)
{
	if (m->leaf == LEAF_TABLE_HEAD)
		release_head(m);
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
static void close_containers(struct markdown *m, int depth)
{
	while (m->depth > depth) {
		if (!m->in[m->depth - 1].quote && !m->in[m->depth - 1].shown) {
			begin_block(m);
			show_lone_marker(m);
		}
		m->depth--;
	}
	if (m->blank_keep > m->depth)
		m->blank_keep = m->depth;
}

/* A new block begins on this line: what it does not go on with ends. */
static void new_block(struct markdown *m)
{
	if (m->leaf != LEAF_NONE)
		close_leaf(m);
	close_containers(m, m->matched);
}

static void push(struct markdown *m, struct container c)
{
	new_block(m);
	m->in[m->depth++] = c;
	m->matched = m->depth;
	m->matching = false;
}

/* -- content */

static void show_code(void *arg, const char *p, size_t n, enum highlight_kind kind)
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
		begin_block(m);
	m->code_shown = true;
	if (*p != '\n') {
		markdown_wrap_open_line(&m->wrap);
		markdown_wrap_raw(&m->wrap, p, n, styles[kind]);
	} else if (m->wrap.line_open) {
		markdown_wrap_end_line(&m->wrap);
	} else {
		markdown_wrap_blank(&m->wrap);
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

static void content(struct markdown *m, const char *p, size_t n)
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

static void end_line(struct markdown *m)
{
	switch (m->leaf) {
	case LEAF_PARAGRAPH:
		markdown_inline_text(&m->inl, "\n", 1);
		break;
	case LEAF_HEADING:
		close_leaf(m);
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

/* The line is known: its rest from `at` on is the leaf's. */
static enum step go_on(struct markdown *m, size_t at)
{
	m->starting = false;
	content(m, m->start.data + at, m->start.len - at);
	buf_clear(&m->start);
	return STEP_DONE;
}

static enum step paragraph(struct markdown *m, size_t at)
{
	if (m->leaf != LEAF_PARAGRAPH) {
		new_block(m);
		begin_block(m);
		m->leaf = LEAF_PARAGRAPH;
		markdown_inline_start(&m->inl, 0);
	}
	return go_on(m, at);
}

/* -- the start of a line */

struct look {
	size_t at; /* first byte that is no blank */
	int width; /* columns before it */
	char c;    /* it, 0: none (yet) */
	size_t n;  /* bytes from it on */
	const char *p;
	bool eol; /* the line ends behind them */
};

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
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

/* Bytes of the blanks at the front that make up at most `columns`. */
static size_t indentation(const struct markdown *m, int columns)
{
	size_t i = 0;
	int width = 0;

	while (i < m->start.len && is_blank(m->start.data[i]) && width < columns) {
		width += m->start.data[i] == '\t' ? CODE_INDENT - width % CODE_INDENT : 1;
		i++;
	}
	return i;
}

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

/* Behind a '>' one space belongs to it. */
static enum step take_quote_mark(struct markdown *m, const struct look *l)
{
	if (l->n < 2 && !l->eol)
		return STEP_MORE;
	buf_drop(&m->start, l->at + 1 + (l->n >= 2 && l->p[1] == ' '));
	return STEP_AGAIN;
}

static enum step match_container(struct markdown *m, const struct look *l)
{
	const struct container *c = &m->in[m->matched];
	enum step step = STEP_AGAIN;

	if (c->quote) {
		if (l->c != '>' || l->width >= CODE_INDENT)
			m->matching = false;
		else
			step = take_quote_mark(m, l);
	} else if (l->width >= c->indent) {
		buf_drop(&m->start, indentation(m, c->indent));
	} else {
		m->matching = false;
	}
	if (m->matching && step == STEP_AGAIN)
		m->matched++;
	return step;
}

static bool lost_a_quote(const struct markdown *m)
{
	for (int i = m->matched; i < m->depth; i++)
		if (m->in[i].quote)
			return true;
	return false;
}

static enum step blank_line(struct markdown *m)
{
	int quote = m->matched;

	m->starting = false;
	if (m->leaf == LEAF_FENCE && !lost_a_quote(m))
		return STEP_DONE; /* end_line() makes an empty line of code */
	m->no_code = true;
	if (m->fresh_item)
		return STEP_DONE;
	if (m->leaf != LEAF_INDENTED)
		close_leaf(m);
	while (quote < m->depth && !m->in[quote].quote)
		quote++;
	if (quote < m->depth) {
		close_leaf(m);
		close_containers(m, quote);
	}
	if (!m->blanks)
		m->blank_keep = m->depth;
	m->blanks++;
	return STEP_DONE;
}

/* -- code */

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
		close_leaf(m);
		m->starting = false;
		return STEP_DONE;
	}
	return go_on(m, indentation(m, m->fence_indent));
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
	new_block(m);
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
		new_block(m);
		m->leaf = LEAF_INDENTED;
		m->code_shown = false;
		highlight_start(&m->code, (struct str){"", 0});
	}
	for (; m->code_shown && m->blanks; m->blanks--)
		highlight_text(&m->code, "\n", 1);
	return go_on(m, indentation(m, CODE_INDENT));
}

/* -- headings, rules, items */

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
	new_block(m);
	begin_block(m);
	m->leaf = LEAF_HEADING;
	markdown_inline_start(&m->inl, styles[n < 3 ? n - 1 : 2]);
	return go_on(m, l->at + n);
}

static enum step show_rule(struct markdown *m)
{
	int room;

	new_block(m);
	begin_block(m);
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
	push(m, c);
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

/* -- tables */

static enum step begin_row(struct markdown *m, const struct look *l)
{
	if (l->n >= MARKDOWN_ROW_BYTES || m->leaf == LEAF_FENCE)
		return STEP_NO;
	if (!l->eol)
		return wait_for(m, WAIT_LINE);
	new_block(m);
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
			begin_block(m);
			m->leaf = LEAF_TABLE;
			markdown_table_begin(&m->table, row, (struct str){l->p, l->n});
			m->starting = false;
			return STEP_DONE;
		}
	}
	release_head(m);
	return STEP_AGAIN;
}

static enum step table_line(struct markdown *m, const struct look *l)
{
	if (m->matched < m->depth || l->c != '|' || l->n >= MARKDOWN_ROW_BYTES) {
		close_leaf(m);
		return STEP_AGAIN;
	}
	if (!l->eol)
		return wait_for(m, WAIT_LINE);
	markdown_table_row(&m->table, (struct str){l->p, l->n});
	m->starting = false;
	return STEP_DONE;
}

/* -- the two steps */

static enum step begin_quote(struct markdown *m, const struct look *l)
{
	if (m->matched >= MARKDOWN_DEPTH)
		return STEP_NO;
	if (l->n < 2 && !l->eol)
		return STEP_MORE;
	push(m, (struct container){.quote = true, .width = 2});
	return take_quote_mark(m, l);
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

/* The containers are compared: what is the rest? */
static enum step begin_leaf(struct markdown *m, const struct look *l)
{
	enum step step;

	if (m->leaf == LEAF_FENCE && !lost_a_quote(m))
		return fence_line(m, l);
	if (m->leaf == LEAF_FENCE)
		close_leaf(m);
	if (m->leaf == LEAF_TABLE_HEAD)
		return behind_head(m, l);
	if (m->leaf == LEAF_TABLE)
		return table_line(m, l);
	if (l->width >= CODE_INDENT && m->leaf != LEAF_PARAGRAPH)
		return indented_line(m);
	step = l->width < CODE_INDENT ? begin_any(m, l) : begin_deep_item(m, l);
	return step == STEP_NO ? paragraph(m, l->at) : step;
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
			step = begin_leaf(m, &l);
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
	end_line(m);
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
			content(m, p, took);
		}
	}
}

void markdown_end(struct markdown *m, struct buf *out)
{
	m->wrap.out = out;
	if (m->starting && m->start.len)
		understand(m, true);
	if (m->leaf != LEAF_NONE)
		close_leaf(m);
	close_containers(m, 0);
	show_lone_marker(m);
	m->blanks = 0;
	m->any = false;
	start_line(m);
}
