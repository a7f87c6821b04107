/* Growing bytes and borrowed slices.  No thread of its own; one owner a buf. */
#include "base/buf.h"

#include <ctype.h>
#include <math.h>
#include <strings.h>

struct str str_of(const char *s)
{
	return (struct str){s, s ? strlen(s) : 0};
}

bool str_eq(struct str a, const char *b)
{
	return a.len == strlen(b) && (a.len == 0 || !memcmp(a.ptr, b, a.len));
}

bool str_eq_nocase(struct str a, const char *b)
{
	return a.len == strlen(b) && (a.len == 0 || !strncasecmp(a.ptr, b, a.len));
}

bool str_starts(struct str a, const char *prefix)
{
	size_t n = strlen(prefix);

	return a.len >= n && (n == 0 || !memcmp(a.ptr, prefix, n));
}

struct str str_trim(struct str s)
{
	while (s.len && (s.ptr[0] == ' ' || s.ptr[0] == '\t'))
		s.ptr++, s.len--;
	while (s.len && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t'))
		s.len--;
	return s;
}

char *str_dup(struct str s)
{
	char *copy = xmalloc(s.len + 1);

	if (s.len)
		memcpy(copy, s.ptr, s.len);
	copy[s.len] = 0;
	return copy;
}

bool str_to_i64(struct str s, int64_t min, int64_t max, int64_t *out)
{
	bool negative = min < 0 && s.len && s.ptr[0] == '-';
	int64_t v = 0;

	if (negative)
		s.ptr++, s.len--;
	if (s.len == 0)
		return false;
	for (size_t i = 0; i < s.len; i++) {
		if (!isdigit((unsigned char)s.ptr[i]))
			return false;
		if (__builtin_mul_overflow(v, 10, &v) ||
		    __builtin_sub_overflow(v, s.ptr[i] - '0',
					   &v)) /* negative holds one more */
			return false;
	}
	if (!negative && __builtin_sub_overflow(0, v, &v))
		return false;
	if (v < min || v > max)
		return false;
	*out = v;
	return true;
}

void buf_free(struct buf *b)
{
	free(b->data);
	*b = (struct buf){0};
}

void buf_clear(struct buf *b)
{
	b->len = 0;
	if (b->data)
		b->data[0] = 0;
}

void buf_grow(struct buf *b, size_t more)
{
	size_t need, cap = b->cap ? b->cap : 64;

	ASSERT(size_add(b->len, more, &need) && size_add(need, 1, &need));
	if (need <= b->cap)
		return;
	while (cap < need)
		ASSERT(size_mul(cap, 2, &cap));
	b->data = xrealloc(b->data, cap);
	b->cap = cap;
}

void buf_addi(struct buf *b, int64_t v)
{
	char digits[20];
	size_t n = sizeof(digits);
	uint64_t left = v < 0 ? -(uint64_t)v : (uint64_t)v;

	do
		digits[--n] = (char)('0' + left % 10);
	while (left /= 10);
	if (v < 0)
		buf_addc(b, '-');
	buf_add(b, digits + n, sizeof(digits) - n);
}

void buf_vaddf(struct buf *b, const char *fmt, va_list ap)
{
	va_list again;
	int n;

	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, again);
	va_end(again);
	ASSERT(n >= 0);
	buf_reserve(b, (size_t)n);
	vsnprintf(b->data + b->len, (size_t)n + 1, fmt, ap);
	b->len += (size_t)n;
}

void buf_addf(struct buf *b, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	buf_vaddf(b, fmt, ap);
	va_end(ap);
}

void buf_add_escaped(struct buf *b, const char *s)
{
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
		    (c >= 'A' && c <= 'Z') || strchr("-_.~", c))
			buf_addc(b, (char)c);
		else
			buf_addf(b, "%%%02X", c);
	}
}

void buf_drop(struct buf *b, size_t n)
{
	ASSERT(n <= b->len);
	if (n == 0)
		return;
	memmove(b->data, b->data + n, b->len - n);
	b->len -= n;
	b->data[b->len] = 0;
}

char *buf_take(struct buf *b, size_t *len)
{
	char *data;

	buf_reserve(b, 0);
	b->data[b->len] = 0;
	data = b->data;
	if (len)
		*len = b->len;
	*b = (struct buf){0};
	return data;
}

struct str buf_str(const struct buf *b)
{
	return (struct str){b->data, b->len};
}

size_t str_utf8_len(struct str text)
{
	const unsigned char *s = (const unsigned char *)text.ptr;
	size_t n = text.len;
	size_t len = s[0] < 0x80                   ? 1
		     : s[0] >= 0xc2 && s[0] < 0xe0 ? 2
		     : (s[0] & 0xf0) == 0xe0       ? 3
		     : s[0] >= 0xf0 && s[0] < 0xf5 ? 4
						   : 0;

	if (len == 0 || len > n)
		return 0;
	for (size_t i = 1; i < len; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] >= 0xa0) ||
	    (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] >= 0x90))
		return 0;
	return len;
}

static bool json_plain(unsigned char c)
{
	return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

/* Sixteen bytes at once, by the compiler's vectors. */
static bool json_all_plain(const unsigned char *p)
{
	typedef signed char bytes __attribute__((vector_size(16)));
	uint64_t halves[2];
	bytes v, odd;

	memcpy(&v, p, 16);
	odd = (v < 0x20) | (v == 0x7f) | (v == '"') | (v == '\\');
	memcpy(halves, &odd, 16);
	return !(halves[0] | halves[1]);
}

static void add_json_escape(struct buf *b, unsigned char c)
{
	static const char shorts[][2] = {{'"', '"'},  {'\\', '\\'}, {'\n', 'n'},
					 {'\r', 'r'}, {'\t', 't'},  {'\b', 'b'},
					 {'\f', 'f'}};

	for (size_t i = 0; i < ARRAY_LEN(shorts); i++)
		if (c == (unsigned char)shorts[i][0]) {
			buf_add(b, (char[]){'\\', shorts[i][1]}, 2);
			return;
		}
	buf_addf(b, "\\u%04x", c);
}

void buf_add_json(struct buf *b, const char *s, size_t n)
{
	const unsigned char *p = (const unsigned char *)s;
	size_t i = 0, run, len;

	buf_reserve(b, n + 2);
	buf_addc(b, '"');
	while (i < n) {
		run = i;
		while (n - run >= 16 && json_all_plain(p + run))
			run += 16;
		while (run < n && json_plain(p[run]))
			run++;
		buf_add(b, s + i, run - i);
		if ((i = run) >= n)
			break;
		len = str_utf8_len((struct str){s + i, n - i});
		if (len > 1)
			buf_add(b, s + i, len);
		else if (len == 1)
			add_json_escape(b, p[i]);
		else
			buf_adds(b, "\\ufffd");
		i += len ? len : 1;
	}
	buf_addc(b, '"');
}

void buf_add_json_or_null(struct buf *b, const char *s)
{
	if (s)
		buf_add_json(b, s, strlen(s));
	else
		buf_adds(b, "null");
}

/* A text ends in a quote, so that a brace at the end is one that opens the object. */
static void add_json_key(struct buf *b, const char *key)
{
	char last = b->len ? b->data[b->len - 1] : '{';

	buf_adds(b, last == '{' || last == ',' ? "\"" : ",\"");
	buf_adds(b, key);
	buf_adds(b, "\":");
}

void buf_add_json_text(struct buf *b, const char *key, const char *s)
{
	add_json_key(b, key);
	buf_add_json_or_null(b, s);
}

void buf_add_json_number(struct buf *b, const char *key, bool known, double x, int digits)
{
	add_json_key(b, key);
	if (known && isfinite(x))
		buf_addf(b, "%.*f", digits, x);
	else
		buf_adds(b, "null");
}
