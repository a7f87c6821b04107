/* Markdown from elsewhere, made safe to stand in a document of ours.
 *
 * Any thread; no state beyond one call.  A line at a time, with as much of CommonMark's containers as
 * it takes to know whether a fence is open: items of lists, by their indentation.  A fence within an
 * item ends with the item, so only one outside of all lists has to be closed. */
#include "memory/markdown_inset.h"

enum { MAX_ITEMS = 16, HEADING_DOWN = 2, HEADING_MAX = 6, TAB = 4 };

struct scan {
	struct buf *out;
	int items[MAX_ITEMS]; /* columns where the content of open list items begins */
	int nitems;
	char fence; /* '`' or '~' while a fence is open, else 0 */
	size_t fence_len;
	int fence_column; /* of the item that holds it; 0 = none */
	bool after_text;  /* the line before is one of a paragraph */
};

/* Spaces at the front, tabs to the next fourth column; *n bytes of them. */
static int indent_of(struct str s, size_t *n)
{
	int column = 0;

	for (*n = 0; *n < s.len && (s.ptr[*n] == ' ' || s.ptr[*n] == '\t'); ++*n)
		column = s.ptr[*n] == ' ' ? column + 1 : (column / TAB + 1) * TAB;
	return column;
}

static size_t run_of(struct str s, char c)
{
	size_t n = 0;

	while (n < s.len && s.ptr[n] == c)
		n++;
	return n;
}

static struct str behind(struct str s, size_t n)
{
	return (struct str){s.ptr + n, s.len - n};
}

/* Length of a list marker at the front of s ("- ", "12. ") without its spaces, or 0. */
static size_t marker_of(struct str s)
{
	size_t n = 0;

	if (s.len && strchr("-+*", s.ptr[0]))
		n = 1;
	else {
		while (n < s.len && n < 9 && s.ptr[n] >= '0' && s.ptr[n] <= '9')
			n++;
		n = n && n < s.len && (s.ptr[n] == '.' || s.ptr[n] == ')') ? n + 1 : 0;
	}
	return n && (n == s.len || s.ptr[n] == ' ' || s.ptr[n] == '\t') ? n : 0;
}

/* A fence opens with this line (its indentation taken off)? */
static bool opens_fence(struct str s, char *c, size_t *len)
{
	if (!s.len || (s.ptr[0] != '`' && s.ptr[0] != '~'))
		return false;
	*c = s.ptr[0];
	*len = run_of(s, *c);
	return *len >= 3 && (*c == '~' || !memchr(s.ptr + *len, '`', s.len - *len));
}

static void add_line(struct scan *s, struct str line)
{
	buf_add(s->out, line.ptr, line.len);
	buf_addc(s->out, '\n');
}

/* True while the line belongs to the open fence. */
static bool in_fence(struct scan *s, struct str line)
{
	size_t n, run;
	int column = indent_of(line, &n);
	struct str bare = behind(line, n);

	if (!s->fence)
		return false;
	if (bare.len && column < s->fence_column) { /* the item ends, and it with it */
		s->fence = 0;
		return false;
	}
	run = run_of(bare, s->fence);
	if (column < s->fence_column + TAB && run >= s->fence_len &&
	    str_trim(behind(bare, run)).len == 0)
		s->fence = 0;
	add_line(s, line);
	s->after_text = false;
	return true;
}

/* Enters the list items that the line opens, leaves those that it is not indented for; the rest of
 * the line and the column of its first character. */
static struct str enter_items(struct scan *s, struct str line, int *column)
{
	size_t n, marker;
	struct str rest;

	*column = indent_of(line, &n);
	rest = behind(line, n);
	if (!rest.len)
		return rest;
	while (s->nitems && *column < s->items[s->nitems - 1])
		s->nitems--;
	while (s->nitems < MAX_ITEMS) {
		int base = s->nitems ? s->items[s->nitems - 1] : 0, spaces;

		marker = *column < base + TAB ? marker_of(rest) : 0;
		if (!marker)
			break;
		rest = behind(rest, marker);
		spaces = indent_of(rest, &n);
		if (n == rest.len || spaces > TAB) /* empty, or code within the item */
			n = rest.len ? 1 : 0, spaces = 1;
		*column += (int)marker + spaces;
		s->items[s->nitems++] = *column;
		rest = behind(rest, n);
	}
	return rest;
}

/* CommonMark's HTML blocks 1 to 5 run to an end of their own, over empty lines. */
static bool opens_html(struct str s)
{
	static const char *const names[] = {"script", "pre", "style", "textarea"};

	if (s.len < 2 || s.ptr[0] != '<')
		return false;
	if (s.ptr[1] == '!' || s.ptr[1] == '?')
		return true;
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		size_t n = strlen(names[i]);

		if (s.len > n && str_eq_nocase((struct str){s.ptr + 1, n}, names[i]))
			return true;
	}
	return false;
}

/* A line of only '=' or '-' behind a paragraph makes a heading of it. */
static bool underlines(const struct scan *s, struct str bare)
{
	return s->after_text && bare.len && (bare.ptr[0] == '=' || bare.ptr[0] == '-') &&
	       str_trim(behind(bare, run_of(bare, bare.ptr[0]))).len == 0;
}

/* 1 to 6, or 0 when it is no heading. */
static size_t heading_level(struct str bare)
{
	size_t level = run_of(bare, '#');

	return level <= HEADING_MAX && (level == bare.len || bare.ptr[level] == ' ' ||
					bare.ptr[level] == '\t')
		       ? level
		       : 0;
}

/* What goes in front of the line's own text. */
static const char *guard_of(struct str bare, bool is_code)
{
	static const char marks[] = "######";
	size_t level = is_code ? 0 : heading_level(bare), more = HEADING_DOWN;

	if (level + more > HEADING_MAX)
		more = HEADING_MAX - level;
	if (level)
		return marks + HEADING_MAX - more;
	return !is_code && opens_html(bare) ? "\\" : "";
}

/* An underline comes before a list's marker: both may be a single '-'. */
static bool escape_underline(struct scan *s, struct str line)
{
	size_t n;
	struct str bare;

	indent_of(line, &n);
	bare = behind(line, n);
	if (!underlines(s, bare))
		return false;
	buf_add(s->out, line.ptr, n);
	buf_addc(s->out, '\\');
	add_line(s, bare);
	return true;
}

static void plain_line(struct scan *s, struct str line)
{
	int column, base;
	bool was_text = s->after_text, is_code;
	struct str rest;

	if (escape_underline(s, line))
		return;
	rest = enter_items(s, line, &column);
	base = s->nitems ? s->items[s->nitems - 1] : 0;
	is_code = column >= base + TAB && !was_text;
	if (!is_code && opens_fence(rest, &s->fence, &s->fence_len)) {
		s->fence_column = base;
		s->after_text = false;
		add_line(s, line);
		return;
	}
	s->fence = 0;
	buf_add(s->out, line.ptr, line.len - rest.len);
	buf_adds(s->out, guard_of(rest, is_code));
	add_line(s, rest);
	s->after_text = rest.len > 0 && !is_code && !heading_level(rest);
}

static bool next_line(struct str *text, struct str *line)
{
	const char *end = text->len ? memchr(text->ptr, '\n', text->len) : NULL;

	if (!text->len)
		return false;
	line->ptr = text->ptr;
	line->len = end ? (size_t)(end - text->ptr) : text->len;
	*text = behind(*text, line->len + (end != NULL));
	if (line->len && line->ptr[line->len - 1] == '\r')
		line->len--;
	return true;
}

void inset_text(struct buf *out, struct str text)
{
	struct scan s = {.out = out};
	struct str line;

	while (next_line(&text, &line))
		if (!in_fence(&s, line))
			plain_line(&s, line);
	if (s.fence && !s.fence_column) {
		for (size_t i = 0; i < s.fence_len; i++)
			buf_addc(out, s.fence);
		buf_addc(out, '\n');
	}
}

void inset_quote(struct buf *out, struct str text)
{
	struct buf safe = {0};
	struct str rest, line;

	inset_text(&safe, text);
	rest = buf_str(&safe);
	while (next_line(&rest, &line)) {
		buf_adds(out, line.len ? "> " : ">");
		buf_add(out, line.ptr, line.len);
		buf_addc(out, '\n');
	}
	buf_free(&safe);
}

void inset_fence(struct buf *out, const char *language, struct str text)
{
	size_t longest = 2, run;

	for (size_t i = 0; i < text.len; i += run ? run : 1) {
		run = run_of(behind(text, i), '`');
		longest = run > longest ? run : longest;
	}
	for (size_t i = 0; i <= longest; i++)
		buf_addc(out, '`');
	buf_adds(out, language);
	buf_addc(out, '\n');
	buf_add(out, text.ptr, text.len);
	if (text.len && text.ptr[text.len - 1] != '\n')
		buf_addc(out, '\n');
	for (size_t i = 0; i <= longest; i++)
		buf_addc(out, '`');
	buf_addc(out, '\n');
}

void inset_plain(struct buf *out, struct str text)
{
	for (size_t i = 0; i < text.len; i++) {
		char c = text.ptr[i];

		if ((unsigned char)c < 0x20 || c == 0x7f)
			c = ' ';
		else if (strchr("\\`*_[]<>&#|~", c))
			buf_addc(out, '\\');
		buf_addc(out, c);
	}
}
