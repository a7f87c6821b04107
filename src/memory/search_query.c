/* A user's words as an expression of FTS5.
 *
 * Every term becomes a string in double quotes, in which FTS5 knows one special character, the quote
 * itself; so nothing has to be escaped but that, and nothing can be forgotten.  Terms stand side by
 * side instead of between ANDs: a term without a token (a lone dash) then counts for nothing, while
 * `"a" AND "-"` matches nothing at all. */
#include "memory/search_query.h"

#include "memory/store_search.h"

struct term {
	struct str text;
	bool excluded, prefix;
};

/* Bytes of the separator in front of s, 0 when a word begins there.  Broken UTF-8 and control
 * characters separate. */
static size_t gap(struct str s)
{
	unsigned char c = (unsigned char)s.ptr[0];
	size_t n;

	if (c <= ' ' || c == 0x7f)
		return 1;
	n = str_utf8_len(s);
	return n ? 0 : 1;
}

static void skip(struct str *s, size_t n)
{
	s->ptr += n;
	s->len -= n;
}

/* Up to the closing quote, or to the end when there is none; inside a phrase only that matters. */
static struct str take_phrase(struct str *s)
{
	const char *close = memchr(s->ptr, '"', s->len);
	struct str t = {s->ptr, close ? (size_t)(close - s->ptr) : s->len};

	skip(s, t.len + (close ? 1 : 0));
	return t;
}

static struct str take_word(struct str *s)
{
	struct str t = {s->ptr, 0};

	while (s->len > 0 && s->ptr[0] != '"' && gap(*s) == 0)
		skip(s, str_utf8_len(*s));
	t.len = (size_t)(s->ptr - t.ptr);
	return t;
}

/* False when no more follows. */
static bool take_term(struct str *s, struct term *t)
{
	size_t n;

	while (s->len > 0 && (n = gap(*s)) > 0)
		skip(s, n);
	if (s->len == 0)
		return false;
	*t = (struct term){0};
	if (s->ptr[0] == '-') {
		t->excluded = true;
		skip(s, 1);
	}
	if (s->len > 0 && s->ptr[0] == '"') {
		skip(s, 1);
		t->text = take_phrase(s);
		if (s->len > 0 && s->ptr[0] == '*') {
			t->prefix = true;
			skip(s, 1);
		}
		return true;
	}
	t->text = take_word(s);
	while (t->text.len > 0 && t->text.ptr[t->text.len - 1] == '*') {
		t->prefix = true;
		t->text.len--;
	}
	return true;
}

/* Letters and digits of ASCII, and all beyond: what of that is punctuation FTS5 will know. */
static bool has_token(struct str s)
{
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.ptr[i];

		if (c >= 0x80 || (c >= '0' && c <= '9') ||
		    ((c | 0x20) >= 'a' && (c | 0x20) <= 'z'))
			return true;
	}
	return false;
}

static void add_term(struct buf *out, const struct term *t)
{
	struct str s = t->text;

	buf_addc(out, '"');
	while (s.len > 0) {
		size_t n = gap(s) ? 0 : str_utf8_len(s);

		buf_add(out, n ? s.ptr : " ", n ? n : 1);
		skip(&s, n ? n : 1);
	}
	buf_adds(out, t->prefix ? "\" *" : "\"");
}

/* Those of one kind, with `between` between them; returns how many. */
static int add_terms(struct str words, bool excluded, const char *between,
		     struct buf *out)
{
	struct term t;
	int n = 0;

	for (int i = 0; i < SEARCH_QUERY_MAX_TERMS && take_term(&words, &t);) {
		if (!has_token(t.text))
			continue;
		i++;
		if (t.excluded != excluded)
			continue;
		if (n++)
			buf_adds(out, between);
		add_term(out, &t);
	}
	return n;
}

int search_query(struct str words, struct buf *out, struct err *e)
{
	struct buf without = {0};

	if (words.len > STORE_MAX_QUERY_BYTES)
		return err_set(e, ERR_TOO_LARGE,
			       "a search of %zu bytes: at most %d are looked for",
			       words.len, STORE_MAX_QUERY_BYTES);
	buf_addc(out, '(');
	if (add_terms(words, false, " ", out) == 0)
		return err_set(e, ERR_INVALID,
			       "nothing to look for: name at least one word that "
			       "should be there");
	buf_addc(out, ')');
	if (add_terms(words, true, " OR ", &without) > 0)
		buf_addf(out, " NOT (%s)", without.data);
	buf_free(&without);
	return 0;
}
