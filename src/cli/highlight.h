/* Colours of source code, as it streams in: one small lexer driven by a table of languages.
 *
 * It tells keywords, types, strings, numbers, comments and the like apart, token by token, as soon as a
 * token is certain: a name when it has ended (it is held), a string or comment from its first
 * character on.  What goes over lines (block comments, triple-quoted strings) is carried along.  A guess at
 * colours, not a parser: whatever it makes of the code, every byte comes out once and in order.  An unknown
 * language has no colours. */
#ifndef HOB_HIGHLIGHT_H
#define HOB_HIGHLIGHT_H

#include "base/buf.h"

enum highlight_kind {
	HIGHLIGHT_PLAIN,
	HIGHLIGHT_KEYWORD,
	HIGHLIGHT_TYPE, /* and builtins, keys, variables of a shell */
	HIGHLIGHT_STRING,
	HIGHLIGHT_NUMBER,
	HIGHLIGHT_COMMENT,
	HIGHLIGHT_DIRECTIVE, /* preprocessor, decorator, section */
	HIGHLIGHT_ADDED,
	HIGHLIGHT_REMOVED,
	HIGHLIGHT_HUNK,
	HIGHLIGHT_NR
};

/* A newline comes alone: p is "\n", n is 1. */
typedef void highlight_sink(void *arg, const char *p, size_t n, enum highlight_kind kind);

enum { HIGHLIGHT_NAME_BYTES = 64 }; /* longer names are plain and not held */

/* Something from `open` to `close`; close NULL: the end of the line. */
struct highlight_span {
	const char *open, *close;
	enum highlight_kind kind;
	unsigned flags;
};

enum {                   /* of a span */
       SPAN_LINES = 1,   /* goes over lines */
       SPAN_ESCAPE = 2,  /* a backslash takes the next character along */
       SPAN_FIRST = 4,   /* only as the first thing on a line */
       SPAN_WORD = 8,    /* only at a line's start or behind a space */
       SPAN_CHAR = 16,   /* only if it is one character long: 'x', not a lifetime */
       SPAN_LETTER = 32, /* only before a letter; it ends with the name */
};

enum { /* of a language */
       LANG_NOCASE = 1,
       LANG_KEYS = 2,           /* name: */
       LANG_DOLLAR = 4,         /* $name */
       LANG_MARKUP = 8,         /* <name attribute="..."> */
       LANG_LINES = 16,         /* diff: a line's first character says it */
       LANG_QUOTED_DIGITS = 32, /* 1'000 */
};

struct highlight_lang {
	const char *names;    /* " c h cpp ": with spaces around each */
	const char *keywords; /* the same */
	const char *types;
	const char *more; /* characters of names beside letters, digits and _ */
	unsigned flags;
	const struct highlight_span
		*spans; /* ends with an open of NULL; borrowed, static */
};
/* NULL: none such.  In any case. */
const struct highlight_lang *highlight_lang(struct str name);

struct highlight {
	highlight_sink *sink;
	void *arg;                         /* borrowed */
	const struct highlight_lang *lang; /* NULL: plain */
	struct buf in;                     /* owned: not certain yet */
	const struct highlight_span *span; /* inside of it, or NULL */
	enum highlight_kind line;          /* of the rest of the line */
	bool first, after_space; /* nothing but blanks on this line; behind one */
	bool after_name;         /* the last byte belonged to a name or number */
	bool in_tag, tag_name;
};

void highlight_init(struct highlight *h, highlight_sink *sink, void *arg);
void highlight_fini(struct highlight *h);
/* New code; info is a fence's info string: its first word names the language. */
void highlight_start(struct highlight *h, struct str info);
void highlight_text(struct highlight *h, const char *p, size_t n);
void highlight_end(struct highlight *h); /* what was held comes out */

#endif
