/* The fast reader of JSON: text to a cJSON tree in one block of memory.
 *
 * Any thread.  A gateway reads JSON for each request and each event, and most of what cJSON costs
 * there is a malloc and a free for each node and string.  Here one scan counts the nodes, one malloc
 * takes nodes and strings together, and the root lies first in it.  The decision a reader would
 * question: the root is marked cJSON_IsReference, so that cJSON_Delete(root) frees the root's own
 * memory, which is the block, and looks no further. */
#include "base/json.h"

#include <limits.h>

struct reader {
	const char *start, *at, *end;
	cJSON *node;    /* the next free one */
	cJSON *limit;   /* behind the last: brackets that do not match are miscounted */
	char *out;      /* free memory for strings */
	unsigned flags; /* enum json_flags */
	struct err *e;
};

#define ONES  UINT64_C(0x0101010101010101)
#define HIGHS UINT64_C(0x8080808080808080)

/* The high bits of the bytes of x that are 0: the lowest is right, those above it may not be. */
static uint64_t zero_bytes(uint64_t x)
{
	return (x - ONES) & ~x & HIGHS;
}

/* The first byte from p on that is no plain part of a string: quote, backslash, NUL, with `ascii`
 * also any above 0x7f. */
static const char *skip_plain(const char *p, const char *end, bool ascii)
{
	typedef signed char bytes __attribute__((vector_size(16)));
	uint64_t x, found, halves[2];
	bytes v, w;

	for (; end - p >= 16; p += 16) { /* the compiler's vectors, whatever the CPU */
		memcpy(&v, p, 16);
		w = (v == '"') | (v == '\\') | (ascii ? v <= 0 : v == 0);
		memcpy(halves, &w, 16);
		if (halves[0] | halves[1])
			break;
	}
	for (; end - p >= 8; p += 8) {
		memcpy(&x, p, 8);
		found = zero_bytes(x ^ ONES * '"') | zero_bytes(x ^ ONES * '\\') |
			zero_bytes(x) | (ascii ? x & HIGHS : 0);
		if (found && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__)
			return p + (__builtin_ctzll(found) >> 3);
		if (found)
			break;
	}
	while (p < end && *p != '"' && *p != '\\' && *p && !(ascii && (*p & 0x80)))
		p++;
	return p;
}

static bool fail(struct reader *r, const char *what)
{
	err_set(r->e, ERR_INVALID, "JSON: %s near offset %zu", what,
		(size_t)(r->at - r->start));
	return false;
}

static char peek(struct reader *r)
{
	while (r->at < r->end &&
	       (*r->at == ' ' || *r->at == '\n' || *r->at == '\r' || *r->at == '\t'))
		r->at++;
	return r->at < r->end ? *r->at : 0;
}

/* The nodes that the text makes: one, and one for each comma and each bracket that is not closed at
 * once.  Of a text that is no JSON it is some number. */
static size_t count_nodes(struct str text)
{
	const char *p = text.ptr, *end = p + text.len;
	char last = 0; /* before this one, spaces apart */
	size_t n = 1;

	for (; p < end; p++) {
		char c = *p;

		switch (c) {
		case ' ':
		case '\t':
		case '\n':
		case '\r':
			continue;
		case ',':
		case '[':
		case '{':
			n++;
			break;
		case ']':
			n -= last == '[';
			break;
		case '}':
			n -= last == '{';
			break;
		case '"':
			for (p++; (p = skip_plain(p, end, false)) < end && *p != '"'; p++)
				p += *p == '\\' && end - p > 1;
		}
		last = c;
	}
	return n;
}

/* -- strings -- */

static int hex4(const char *p)
{
	int v = 0;

	for (int i = 0; i < 4; i++) {
		char c = p[i], lower = (char)(c | 0x20);

		if (c >= '0' && c <= '9')
			v = v << 4 | (c - '0');
		else if (lower >= 'a' && lower <= 'f')
			v = v << 4 | (lower - 'a' + 10);
		else
			return -1;
	}
	return v;
}

static void put_utf8(struct reader *r, unsigned c)
{
	if (c < 0x80) {
		*r->out++ = (char)c;
	} else if (c < 0x800) {
		*r->out++ = (char)(0xc0 | c >> 6);
		*r->out++ = (char)(0x80 | (c & 0x3f));
	} else if (c < 0x10000) {
		*r->out++ = (char)(0xe0 | c >> 12);
		*r->out++ = (char)(0x80 | (c >> 6 & 0x3f));
		*r->out++ = (char)(0x80 | (c & 0x3f));
	} else {
		*r->out++ = (char)(0xf0 | c >> 18);
		*r->out++ = (char)(0x80 | (c >> 12 & 0x3f));
		*r->out++ = (char)(0x80 | (c >> 6 & 0x3f));
		*r->out++ = (char)(0x80 | (c & 0x3f));
	}
}

/* At the backslash of \uXXXX. */
static bool read_code(struct reader *r)
{
	int c = r->end - r->at >= 6 ? hex4(r->at + 2) : -1, low;

	if (c < 0)
		return fail(r, "a bad \\u escape");
	if (c == 0 && (r->flags & JSON_NO_NUL))
		return fail(r, "a NUL character (\\u0000) in a string");
	r->at += 6;
	if (c >= 0xd800 && c < 0xdc00) {
		low = r->end - r->at >= 6 && r->at[0] == '\\' && r->at[1] == 'u'
			      ? hex4(r->at + 2)
			      : -1;
		if (low < 0xdc00 || low > 0xdfff)
			return fail(r, "half a surrogate pair");
		r->at += 6;
		c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
	} else if (c >= 0xdc00 && c < 0xe000) {
		return fail(r, "half a surrogate pair");
	}
	put_utf8(r, c ? (unsigned)c : 0xfffd); /* C strings cannot hold a NUL */
	return true;
}

static bool read_escape(struct reader *r)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	const char *at;

	if (r->end - r->at < 2)
		return fail(r, "an unfinished string");
	if (r->at[1] == 'u')
		return read_code(r);
	at = r->at[1] ? strchr(from, r->at[1]) : NULL;
	if (!at)
		return fail(r, "an unknown escape");
	*r->out++ = to[at - from];
	r->at += 2;
	return true;
}

/* At the opening quote; NULL and the error set. */
static char *read_string(struct reader *r)
{
	bool check = (r->flags & JSON_UTF8) != 0;
	char *s = r->out;
	const char *p;
	size_t n;

	r->at++;
	for (;;) {
		p = skip_plain(r->at, r->end, check);
		n = (size_t)(p - r->at);
		memcpy(r->out, r->at, n);
		r->out += n;
		r->at = p;
		if (p == r->end)
			return fail(r, "an unfinished string"), NULL;
		if (*p == '"')
			break;
		if (!*p)
			return fail(r, "a NUL byte"), NULL;
		if (*p == '\\') {
			if (!read_escape(r))
				return NULL;
			continue;
		}
		n = str_utf8_len((struct str){p, (size_t)(r->end - p)});
		if (!n)
			return fail(r, "invalid UTF-8"), NULL;
		memcpy(r->out, p, n);
		r->out += n;
		r->at += n;
	}
	r->at++;
	*r->out++ = 0; /* in place of a quote: the strings never outgrow the text */
	return s;
}

/* -- numbers -- */

static const char *skip_digits(const char *p, const char *end)
{
	while (p < end && *p >= '0' && *p <= '9')
		p++;
	return p;
}

/* The end of a number at r->at (RFC 8259), or NULL.  *plain: digits and a point, no more. */
static const char *number_end(const struct reader *r, bool *plain)
{
	const char *p = r->at + (*r->at == '-'), *q = skip_digits(p, r->end);

	*plain = true;
	if (q == p || (*p == '0' && q - p > 1))
		return NULL;
	p = q;
	if (p < r->end && *p == '.') {
		q = skip_digits(p + 1, r->end);
		if (q == p + 1)
			return NULL;
		p = q;
	}
	if (p < r->end && (*p == 'e' || *p == 'E')) {
		*plain = false;
		p++;
		p += p < r->end && (*p == '+' || *p == '-');
		q = skip_digits(p, r->end);
		if (q == p)
			return NULL;
		p = q;
	}
	return p;
}

/* Exact when the digits fit 2^53 and the power of ten is a double: both hold up to 15 digits. */
static double plain_number(const char *p, const char *end)
{
	static const double tens[] = {1,   1e1, 1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
				      1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15};
	bool negative = *p == '-';
	const char *point = NULL;
	int64_t v = 0;
	double d;

	for (p += negative; p < end; p++) {
		if (*p == '.')
			point = p;
		else
			v = v * 10 + (*p - '0');
	}
	d = (double)v;
	if (point)
		d /= tens[end - point - 1];
	return negative ? -d : d;
}

static bool read_number(struct reader *r, cJSON *n)
{
	enum { PLAIN_MAX = 15, LONGEST = 63 };
	bool plain;
	const char *end = number_end(r, &plain);
	cJSON *slow;

	if (!end || end - r->at > LONGEST)
		return fail(r, "a malformed number");
	if (plain && end - r->at <= PLAIN_MAX) {
		n->valuedouble = plain_number(r->at, end);
	} else { /* knows the locale's decimal point, and how to round */
		slow = cJSON_ParseWithLength(r->at, (size_t)(end - r->at));
		if (!slow)
			return fail(r, "a malformed number");
		n->valuedouble = slow->valuedouble;
		cJSON_Delete(slow);
	}
	r->at = end;
	n->type = cJSON_Number;
	n->valueint = n->valuedouble >= INT_MAX   ? INT_MAX
		      : n->valuedouble <= INT_MIN ? INT_MIN
						  : (int)n->valuedouble;
	return true;
}

/* -- values -- */

static bool read_word(struct reader *r, cJSON *n)
{
	static const struct {
		struct str word;
		int type;
	} words[] = {{{"true", 4}, cJSON_True},
		     {{"false", 5}, cJSON_False},
		     {{"null", 4}, cJSON_NULL}};

	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		if ((size_t)(r->end - r->at) >= words[i].word.len &&
		    !memcmp(r->at, words[i].word.ptr, words[i].word.len)) {
			n->type = words[i].type;
			n->valueint = n->type == cJSON_True;
			r->at += words[i].word.len;
			return true;
		}
	return fail(r, r->at < r->end && !*r->at ? "a NUL byte" : "syntax error");
}

/* A whole value, or the opening bracket of one. */
static bool read_value(struct reader *r, cJSON *n)
{
	char c = peek(r);

	switch (c) {
	case '{':
	case '[':
		n->type = c == '{' ? cJSON_Object : cJSON_Array;
		r->at++;
		return true;
	case '"':
		n->type = cJSON_String;
		n->valuestring = read_string(r);
		return n->valuestring != NULL;
	default:
		if (c == '-' || (c >= '0' && c <= '9'))
			return read_number(r, n);
		return read_word(r, n);
	}
}

/* The next element of `parent`, behind `before` (NULL: the first), with its key if it has one. */
static cJSON *add_child(struct reader *r, cJSON *parent, cJSON *before)
{
	cJSON *n = r->node;

	if (n == r->limit)
		return fail(r, "syntax error"), NULL;
	r->node++;
	memset(n, 0, sizeof(*n));
	n->prev = before;
	*(before ? &before->next : &parent->child) = n;
	if (parent->type != cJSON_Object)
		return n;
	if (peek(r) != '"')
		return fail(r, "syntax error"), NULL;
	n->string = read_string(r);
	if (!n->string)
		return NULL;
	if (peek(r) != ':')
		return fail(r, "syntax error"), NULL;
	r->at++;
	return n;
}

static char closing(const cJSON *n)
{
	return n->type == cJSON_Object ? '}' : ']';
}

static bool read_tree(struct reader *r, cJSON *n)
{
	cJSON *open[JSON_MAX_DEPTH];
	int depth = 0;
	char c;

	for (;;) {
		if (!read_value(r, n))
			return false;
		if ((n->type == cJSON_Object || n->type == cJSON_Array)) {
			if (depth == JSON_MAX_DEPTH) {
				err_set(r->e, ERR_INVALID,
					"JSON: nested deeper than %d at offset %zu",
					JSON_MAX_DEPTH, (size_t)(r->at - 1 - r->start));
				return false;
			}
			if (peek(r) == closing(n)) {
				r->at++;
			} else {
				open[depth++] = n;
				if (!(n = add_child(r, n, NULL)))
					return false;
				continue;
			}
		}
		for (;; n = open[depth]) { /* n is complete */
			if (!depth)
				return true;
			c = peek(r);
			if (c == ',' || c != closing(open[depth - 1]))
				break;
			r->at++;
			depth--;
			open[depth]->child->prev = n; /* as cJSON has it */
		}
		if (c != ',')
			return fail(r, "syntax error");
		r->at++;
		if (!(n = add_child(r, open[depth - 1], n)))
			return false;
	}
}

/* Each node takes two bytes but the first, and brackets that are never closed: a text that makes more
 * is no JSON, and the reader will say why.  For a short one that is known well enough. */
static size_t most_nodes(struct str text)
{
	enum { SHORT = 1024 };
	size_t most = text.len / 2 + 1 + JSON_MAX_DEPTH, n;

	if (text.len <= SHORT)
		return most;
	n = count_nodes(text);
	return n < most ? n : most;
}

cJSON *json_read(struct str text, unsigned flags, struct err *e)
{
	struct reader r = {.flags = flags, .e = e};
	size_t nodes, bytes, strings = (text.len | 15) + 1; /* keeps nodes aligned */
	cJSON *root;

	if (text.len == 0) {
		err_set(e, ERR_INVALID, "JSON: empty");
		return NULL;
	}
	nodes = most_nodes(text);
	ASSERT(size_mul(nodes, sizeof(cJSON), &bytes) &&
	       size_add(bytes, strings, &bytes));
	/* The root, the strings, the other nodes: what is used lies together. */
	root = xmalloc(bytes);
	memset(root, 0, sizeof(*root));
	r.start = r.at = text.ptr;
	r.end = text.ptr + text.len;
	r.out = (char *)(root + 1);
	r.node = (cJSON *)(r.out + strings);
	r.limit = r.node + nodes - 1;
	if (text.len >= 3 && !memcmp(text.ptr, "\xef\xbb\xbf", 3))
		r.at += 3;
	if (!read_tree(&r, root) ||
	    (peek(&r), r.at < r.end && !fail(&r, "text after the value"))) {
		free(root);
		return NULL;
	}
	root->type |= cJSON_IsReference;
	return root;
}
