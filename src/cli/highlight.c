/* The lexer behind highlight.h.  Main thread; owns the few bytes that are not certain yet.
 *
 * A reader may ask why names are looked up in strings and not in a hash: a language has some fifty words,
 * a name is looked up once, and a string is the table that a person can read. */
#include "cli/highlight.h"

enum { NEED_MORE = 0 };

void highlight_init(struct highlight *h, highlight_sink *sink, void *arg)
{
	*h = (struct highlight){.sink = sink, .arg = arg};
}

void highlight_fini(struct highlight *h)
{
	buf_free(&h->in);
}

static void start_line(struct highlight *h)
{
	h->first = h->after_space = true;
	h->after_name = false;
	h->line = HIGHLIGHT_PLAIN;
}

void highlight_start(struct highlight *h, struct str info)
{
	size_t n = 0;

	while (n < info.len && !strchr(" \t,{:", info.ptr[n]))
		n++;
	h->lang = highlight_lang((struct str){info.ptr, n});
	h->span = NULL;
	h->in_tag = h->tag_name = false;
	buf_clear(&h->in);
	start_line(h);
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
	return ((c | 32) >= 'a' && (c | 32) <= 'z') || c == '_' || (c & 0x80);
}

static bool is_name(const struct highlight *h, char c)
{
	return is_letter(c) || is_digit(c) || (c && strchr(h->lang->more, c));
}

/* Is the word in the list, which has a space around each? */
static bool is_in(const char *list, const char *word, size_t n, bool nocase)
{
	char key[HIGHLIGHT_NAME_BYTES + 2];

	if (!list || n >= HIGHLIGHT_NAME_BYTES)
		return false;
	key[0] = ' ';
	memcpy(key + 1, word, n);
	key[n + 1] = ' ';
	if (nocase)
		for (size_t i = 1; i <= n; i++)
			if (key[i] >= 'A' && key[i] <= 'Z')
				key[i] |= 32;
	return memmem(list, strlen(list), key, n + 2) != NULL;
}

static size_t emit(struct highlight *h, const char *p, size_t n, enum highlight_kind kind)
{
	if (n)
		h->sink(h->arg, p, n, kind);
	return n;
}

/* -- spans */

/* Does p[0..n) begin with s?  1 yes, 0 no, -1: it may, once there is more. */
static int begins(const char *p, size_t n, const char *s, bool end)
{
	size_t len = strlen(s), m = n < len ? n : len;

	if (memcmp(p, s, m))
		return 0;
	if (n >= len)
		return 1;
	return end ? 0 : -1;
}

static size_t char_bytes(unsigned char c)
{
	return c < 0xC0 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
}

/* Behind a quote at p: is it one character and another quote?  As begins(). */
static int is_char(const char *p, size_t n, bool end)
{
	size_t len;

	if (n < 2)
		return end ? 0 : -1;
	if (p[1] == '\\')
		return 1;
	if (p[1] == '\n')
		return 0;
	len = 1 + char_bytes((unsigned char)p[1]);
	if (n <= len)
		return end ? 0 : -1;
	return p[len] == '\'';
}

static int opens(const struct highlight *h, const struct highlight_span *s, const char *p,
		 size_t n, bool end)
{
	int found;

	if (((s->flags & SPAN_FIRST) && !h->first) ||
	    ((s->flags & SPAN_WORD) && !h->after_space))
		return 0;
	found = begins(p, n, s->open, end);
	if (found == 1 && (s->flags & SPAN_CHAR))
		return is_char(p, n, end);
	if (found == 1 && (s->flags & SPAN_LETTER)) {
		size_t len = strlen(s->open);

		if (n <= len)
			return end ? 0 : -1;
		return is_letter(p[len]);
	}
	return found;
}

/* The span that begins at p, the first in the table's order; *more: that is not certain. */
static const struct highlight_span *find_span(const struct highlight *h, const char *p,
					      size_t n, bool end, bool *more)
{
	*more = false;
	for (const struct highlight_span *s = h->lang->spans; s->open; s++) {
		int found = opens(h, s, p, n, end);

		*more = found < 0;
		if (found)
			return found > 0 ? s : NULL;
	}
	return NULL;
}

/* A backslash and the character behind it. */
static size_t escape_bytes(const char *p, size_t n)
{
	size_t want = n < 2 ? 1 : 1 + char_bytes((unsigned char)p[1]);

	return want < n ? want : n;
}

static size_t leave_span(struct highlight *h, const char *p, size_t n)
{
	enum highlight_kind kind = h->span->kind;

	h->span = NULL;
	h->after_name = h->after_space = false;
	return emit(h, p, n, kind);
}

/* Inside of a span: up to its end, or all but what may be the beginning of it. */
static size_t in_span(struct highlight *h, const char *p, size_t n, bool end)
{
	const struct highlight_span *s = h->span;

	for (size_t i = 0; i < n; i++) {
		int found = s->close ? begins(p + i, n - i, s->close, end) : 0;

		if (found > 0 && i)
			return emit(h, p, i, s->kind);
		if (found > 0)
			return leave_span(h, p, strlen(s->close));
		if (found < 0 || ((s->flags & SPAN_ESCAPE) && p[i] == '\\')) {
			if (i)
				return emit(h, p, i, s->kind);
			if (found < 0 || (n < 2 && !end))
				return NEED_MORE;
			return emit(h, p, escape_bytes(p, n), s->kind);
		}
		if ((s->flags & SPAN_LETTER) && !is_name(h, p[i]))
			return i ? emit(h, p, i, s->kind) : leave_span(h, p, 0);
	}
	return emit(h, p, n, s->kind);
}

/* -- names and numbers */

static enum highlight_kind name_kind(const struct highlight *h, const char *p, size_t n,
				     char next, bool blank_behind)
{
	bool nocase = h->lang->flags & LANG_NOCASE;

	if ((h->lang->flags & LANG_MARKUP) && h->in_tag)
		return h->tag_name ? HIGHLIGHT_KEYWORD : HIGHLIGHT_TYPE;
	if (h->lang->flags & LANG_MARKUP)
		return HIGHLIGHT_PLAIN;
	if ((h->lang->flags & LANG_KEYS) && next == ':' && blank_behind)
		return HIGHLIGHT_TYPE;
	if (is_in(h->lang->keywords, p, n, nocase))
		return HIGHLIGHT_KEYWORD;
	return is_in(h->lang->types, p, n, nocase) ? HIGHLIGHT_TYPE : HIGHLIGHT_PLAIN;
}

static size_t take_name(struct highlight *h, const char *p, size_t n, bool end)
{
	bool keys = h->lang->flags & LANG_KEYS, behind;
	size_t i = 0;

	while (i < n && i < HIGHLIGHT_NAME_BYTES && is_name(h, p[i]))
		i++;
	if (i == HIGHLIGHT_NAME_BYTES)
		return emit(h, p, i, HIGHLIGHT_PLAIN);
	if (!end && (i == n || (keys && p[i] == ':' && i + 1 == n)))
		return NEED_MORE;
	behind = i + 1 >= n || is_blank(p[i + 1]) || p[i + 1] == '\n';
	emit(h, p, i, name_kind(h, p, i, i < n ? p[i] : 0, behind));
	h->tag_name = false;
	return i;
}

/* Digits, letters (0x1f, 10u32) and points; 1'000 where the language knows it; 1e-5. */
static size_t take_number(struct highlight *h, const char *p, size_t n, bool end)
{
	size_t i = 0;

	while (i < n && i < HIGHLIGHT_NAME_BYTES &&
	       (is_digit(p[i]) || is_letter(p[i]) || p[i] == '.' ||
		(p[i] == '\'' && (h->lang->flags & LANG_QUOTED_DIGITS))))
		i++;
	if (i == n && i < HIGHLIGHT_NAME_BYTES && !end)
		return NEED_MORE;
	return emit(h, p, i, HIGHLIGHT_NUMBER);
}

static size_t take_dollar(struct highlight *h, const char *p, size_t n, bool end)
{
	size_t i = 1;

	if (n < 2 && !end)
		return NEED_MORE;
	if (n >= 2 && p[1] == '{') {
		while (i < n && p[i] != '}' && p[i] != '\n' && i < HIGHLIGHT_NAME_BYTES)
			i++;
		if (i == n && !end)
			return NEED_MORE;
		i += i < n && p[i] == '}';
	} else {
		while (i < n && i < HIGHLIGHT_NAME_BYTES &&
		       (is_letter(p[i]) || is_digit(p[i])))
			i++;
		if (i == n && i < HIGHLIGHT_NAME_BYTES && !end)
			return NEED_MORE;
	}
	return emit(h, p, i, i > 1 ? HIGHLIGHT_TYPE : HIGHLIGHT_PLAIN);
}

static size_t take_markup(struct highlight *h, const char *p)
{
	h->in_tag = *p == '<' || (h->in_tag && *p != '>');
	h->tag_name = *p == '<' || (h->tag_name && *p == '/');
	return emit(h, p, 1,
		    h->in_tag || *p == '>' ? HIGHLIGHT_KEYWORD : HIGHLIGHT_PLAIN);
}

/* -- the loop */

static void after(struct highlight *h, const char *p, size_t n, bool name)
{
	char last = p[n - 1];

	h->after_space = is_blank(last);
	h->first = h->first && h->after_space;
	h->after_name = name;
}

static size_t take_newline(struct highlight *h, const char *p)
{
	if (h->span && !(h->span->flags & SPAN_LINES))
		h->span = NULL;
	start_line(h);
	return emit(h, p, 1, HIGHLIGHT_PLAIN);
}

/* Diff: the first character decides the line; "+++ " and "--- " are names of files. */
static size_t take_line(struct highlight *h, const char *p, size_t n, bool end)
{
	const char *stop = memchr(p, '\n', n);
	size_t len = stop ? (size_t)(stop - p) : n;

	if (h->first && n < 4 && !stop && !end && strchr("+-", *p))
		return NEED_MORE;
	if (h->first) {
		bool file = len >= 4 && (!memcmp(p, "+++ ", 4) || !memcmp(p, "--- ", 4));

		h->line = file || *p == 'd' || *p == 'i' ? HIGHLIGHT_DIRECTIVE
			  : *p == '+'                    ? HIGHLIGHT_ADDED
			  : *p == '-'                    ? HIGHLIGHT_REMOVED
			  : *p == '@'                    ? HIGHLIGHT_HUNK
							 : HIGHLIGHT_PLAIN;
	}
	h->first = false;
	return emit(h, p, len, h->line);
}

static size_t take_other(struct highlight *h, const char *p, size_t n, bool end)
{
	unsigned flags = h->lang->flags;

	if ((flags & LANG_DOLLAR) && *p == '$')
		return take_dollar(h, p, n, end);
	if ((flags & LANG_MARKUP) && (*p == '<' || *p == '>' || (*p == '/' && h->in_tag)))
		return take_markup(h, p);
	return emit(h, p, 1, HIGHLIGHT_PLAIN);
}

static size_t take_token(struct highlight *h, const char *p, size_t n, bool end)
{
	const struct highlight_span *s = NULL;
	bool more = false, name;
	size_t took;

	if (!(h->lang->flags & LANG_MARKUP) || h->in_tag || *p == '<')
		s = h->after_name && is_letter(*p) ? NULL
						   : find_span(h, p, n, end, &more);
	if (more)
		return NEED_MORE;
	if (s) {
		h->span = s;
		after(h, p, 1, false);
		return emit(h, p, strlen(s->open), s->kind);
	}
	name = is_letter(*p) || is_digit(*p) || (h->after_name && is_name(h, *p));
	if (is_digit(*p) && !h->after_name)
		took = take_number(h, p, n, end);
	else if (h->after_name && name)
		took = emit(h, p, 1, HIGHLIGHT_PLAIN); /* what goes on is no word */
	else if (is_letter(*p))
		took = take_name(h, p, n, end);
	else
		took = take_other(h, p, n, end);
	if (took)
		after(h, p, took, name);
	return took;
}

static size_t take(struct highlight *h, const char *p, size_t n, bool end)
{
	const char *line = memchr(p, '\n', n);

	if (*p == '\n')
		return take_newline(h, p);
	if (!h->lang)
		return emit(h, p, line ? (size_t)(line - p) : n, HIGHLIGHT_PLAIN);
	if (h->lang->flags & LANG_LINES)
		return take_line(h, p, n, end);
	if (h->span) /* up to the line's end: the sink gets newlines alone */
		return in_span(h, p, line ? (size_t)(line - p) : n, end || line);
	return take_token(h, p, n, end);
}

static void work(struct highlight *h, bool end)
{
	size_t at = 0;

	while (at < h->in.len) {
		bool had = h->span;
		size_t n = take(h, h->in.data + at, h->in.len - at, end);

		if (n == NEED_MORE && had && !h->span)
			continue; /* a span that ended before this byte */
		if (n == NEED_MORE)
			break;
		at += n;
	}
	buf_drop(&h->in, at);
}

void highlight_text(struct highlight *h, const char *p, size_t n)
{
	buf_add(&h->in, p, n);
	work(h, false);
}

void highlight_end(struct highlight *h)
{
	work(h, true);
	h->span = NULL;
}
