/* Bytes: `struct buf` owns and grows, `struct str` borrows.
 *
 * A buf keeps a NUL behind its last byte once it holds anything, so that data can be
 * printed; length is in len and embedded NULs are fine. */
#ifndef HOB_BUF_H
#define HOB_BUF_H

#include <stdarg.h>
#include "base/base.h"

struct str {
	const char *ptr; /* borrowed, not NUL-terminated */
	size_t len;
};

#define STR(literal) ((struct str){(literal), sizeof(literal) - 1})
struct str str_of(const char *s); /* NULL gives the empty slice */
bool str_eq(struct str a, const char *b);
bool str_eq_nocase(struct str a, const char *b); /* ASCII */
bool str_starts(struct str a, const char *prefix);
struct str str_trim(struct str s); /* spaces and tabs at both ends */
char *str_dup(struct str s);       /* owned by the caller, NUL-terminated */
/* Whole slice must be a decimal number within [min, max]; no sign unless min < 0. */
bool str_to_i64(struct str s, int64_t min, int64_t max, int64_t *out);
/* Bytes of the well-formed UTF-8 character at the front of s (RFC 3629: no surrogates, no overlong
 * forms), or 0.  s is not empty. */
size_t str_utf8_len(struct str s);

struct buf {
	char *data; /* owned */
	size_t len, cap;
};

void buf_free(struct buf *b);  /* leaves an empty, usable buf */
void buf_clear(struct buf *b); /* keeps the memory */
void buf_grow(struct buf *b, size_t more);
/* Room for `more` bytes and a NUL. */
static inline void buf_reserve(struct buf *b, size_t more)
{
	if (b->cap <= b->len || more >= b->cap - b->len)
		buf_grow(b, more);
}
static inline void buf_add(struct buf *b, const void *p, size_t n)
{
	buf_reserve(b, n);
	if (n)
		memcpy(b->data + b->len, p, n);
	b->len += n;
	b->data[b->len] = 0;
}
static inline void buf_adds(struct buf *b, const char *s)
{
	buf_add(b, s, strlen(s));
}
static inline void buf_addc(struct buf *b, char c)
{
	buf_reserve(b, 1);
	b->data[b->len++] = c;
	b->data[b->len] = 0;
}
void buf_addi(struct buf *b, int64_t v); /* decimal */
void buf_addf(struct buf *b, const char *fmt, ...) PRINTF(2, 3);
void buf_vaddf(struct buf *b, const char *fmt, va_list ap);
void buf_drop(struct buf *b, size_t n); /* removes n bytes from the front */
char *buf_take(struct buf *b,
	       size_t *len); /* the caller owns the bytes; len may be NULL */
struct str buf_str(const struct buf *b);

/* For a part of a URL's path or query: all but letters, digits and -_.~ becomes %XX. */
void buf_add_escaped(struct buf *b, const char *s);

/* JSON text into a buf: a quoted and escaped string (invalid UTF-8 becomes U+FFFD). */
void buf_add_json(struct buf *b, const char *s, size_t n);
/* The same; s NULL: null. */
void buf_add_json_or_null(struct buf *b, const char *s);
/* A member `"key":...` of the object that is being written, with a comma before it unless it is the
 * first; key needs no escape.  s NULL, x not known or not finite: null. */
void buf_add_json_text(struct buf *b, const char *key, const char *s);
void buf_add_json_number(struct buf *b, const char *key, bool known, double x,
			 int digits); /* behind the point */

#endif
