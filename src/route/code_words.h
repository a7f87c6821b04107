/* Words that are typical of a language of programming: the table behind features_codes(). */
#ifndef HOB_CODE_WORDS_H
#define HOB_CODE_WORDS_H

enum language {
	C,
	CPP,
	PYTHON,
	JAVASCRIPT,
	TYPESCRIPT,
	RUST,
	GO,
	JAVA,
	SHELL,
	SQL,
	HTML,
	CSS,
	CSHARP,
	RUBY,
	PHP,
	KOTLIN,
	SWIFT,
	LUA,
	PERL,
	HASKELL,
	JSON,
	YAML,
	TOML,
	XML,
	MAKE,
	DOCKER,
	SCALA,
	ZIG,
	R,
	LANGUAGES
};

/* Where it must stand. */
enum {
	A = 1,     /* anchor */
	START = 2, /* of a line, after its indentation */
	END = 4,   /* of a line */
	COLON = 8, /* the line ends with ':' */
	BARE = 16, /* the line does not end with ';' */
	LINE = START | END,
};

struct code_word {
	enum language language;
	int weight, flags;
	const char *text;
	const char *also; /* stands behind it in the same line; or NULL */
};

enum { CODE_WORDS_MAX = 512 };
extern const struct code_word code_words[];
extern const int code_words_count;

#endif
