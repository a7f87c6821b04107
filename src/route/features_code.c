/* Which languages of programming a text holds.  Pure; any thread.
 *
 * First the labels of fenced blocks: who writes ```python means it.  Without a label, a score: words that
 * are typical of a language, each with a weight and where it must stand, counted twice at most.  A
 * language needs MIN_SCORE from two words at least, one of them an anchor (a word that other languages
 * and prose have no use for), or one word that proves it.  The score decides for precision: a rule that
 * sends code to a code model should not fire on a letter, and a missed snippet costs little.
 *
 * The weights are set by hand against the snippets and the prose of tests/unit/test_features.c. */
#include "route/code_words.h"
#include "route/features.h"

#include "base/nearest.h"

enum {
	MIN_SCORE = 7,
	PROOF = 8,
	MAX_COUNT = 2,
	ALSO_BYTES = 256 /* so far behind a word its second part is looked for */
};

static const char *const names[LANGUAGES] = {
	[C] = "c",
	[CPP] = "cpp",
	[PYTHON] = "python",
	[JAVASCRIPT] = "javascript",
	[TYPESCRIPT] = "typescript",
	[RUST] = "rust",
	[GO] = "go",
	[JAVA] = "java",
	[SHELL] = "shell",
	[SQL] = "sql",
	[HTML] = "html",
	[CSS] = "css",
	[CSHARP] = "csharp",
	[RUBY] = "ruby",
	[PHP] = "php",
	[KOTLIN] = "kotlin",
	[SWIFT] = "swift",
	[LUA] = "lua",
	[PERL] = "perl",
	[HASKELL] = "haskell",
	[JSON] = "json",
	[YAML] = "yaml",
	[TOML] = "toml",
	[XML] = "xml",
	[MAKE] = "make",
	[DOCKER] = "docker",
	[SCALA] = "scala",
	[ZIG] = "zig",
	[R] = "r",
};

/* What people write behind three backticks, beside the name itself. */
static const struct {
	const char *word;
	enum language language;
} aliases[] = {
	{"h", C},
	{"c++", CPP},
	{"cc", CPP},
	{"cxx", CPP},
	{"hpp", CPP},
	{"py", PYTHON},
	{"python3", PYTHON},
	{"pycon", PYTHON},
	{"js", JAVASCRIPT},
	{"jsx", JAVASCRIPT},
	{"mjs", JAVASCRIPT},
	{"node", JAVASCRIPT},
	{"ts", TYPESCRIPT},
	{"tsx", TYPESCRIPT},
	{"rs", RUST},
	{"golang", GO},
	{"sh", SHELL},
	{"bash", SHELL},
	{"zsh", SHELL},
	{"fish", SHELL},
	{"console", SHELL},
	{"shell-session", SHELL},
	{"shellsession", SHELL},
	{"sqlite", SQL},
	{"postgresql", SQL},
	{"mysql", SQL},
	{"htm", HTML},
	{"xhtml", HTML},
	{"scss", CSS},
	{"c#", CSHARP},
	{"cs", CSHARP},
	{"rb", RUBY},
	{"kt", KOTLIN},
	{"pl", PERL},
	{"hs", HASKELL},
	{"jsonc", JSON},
	{"json5", JSON},
	{"yml", YAML},
	{"svg", XML},
	{"makefile", MAKE},
	{"dockerfile", DOCKER},
};

static int language_of(struct str word)
{
	for (int i = 0; i < LANGUAGES; i++)
		if (str_eq_nocase(word, names[i]))
			return i;
	for (size_t i = 0; i < ARRAY_LEN(aliases); i++)
		if (str_eq_nocase(word, aliases[i].word))
			return (int)aliases[i].language;
	return -1;
}

const char *features_code_name(struct str word)
{
	int l = language_of(word);

	return l < 0 ? NULL : names[l];
}

const char *features_code_nearest(const char *word)
{
	struct nearest n = {.word = word};

	for (int i = 0; i < LANGUAGES; i++)
		nearest_offer(&n, names[i]);
	for (size_t i = 0; i < ARRAY_LEN(aliases); i++)
		nearest_offer(&n, aliases[i].word);
	return n.best;
}

/* ---- typical words */

struct scores {
	int points[LANGUAGES], kinds[LANGUAGES];
	bool anchored[LANGUAGES], proven[LANGUAGES];
	unsigned char counts[CODE_WORDS_MAX];
	/* words by their first byte: those that begin a line, and the others */
	short starts[256], others[256], next[CODE_WORDS_MAX];
};

static bool is_word_byte(unsigned char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       (c >= '0' && c <= '9') || c == '_' || c >= 0x80;
}

static void index_words(struct scores *s)
{
	memset(s, 0, sizeof *s);
	memset(s->starts, -1, sizeof s->starts);
	memset(s->others, -1, sizeof s->others);
	ASSERT(code_words_count <= CODE_WORDS_MAX);
	for (int i = code_words_count - 1; i >= 0; i--) {
		const struct code_word *w = &code_words[i];
		short *first = w->flags & START ? s->starts : s->others;
		unsigned char c = (unsigned char)w->text[0];

		s->next[i] = first[c];
		first[c] = (short)i;
	}
}

/* line: without its newline and the spaces at its end; at: of the word in it. */
static bool stands(const struct code_word *w, struct str line, size_t at, size_t indent)
{
	size_t n = strlen(w->text), behind = at + n;
	char last = line.ptr[line.len - 1];

	if (n > line.len - at || memcmp(line.ptr + at, w->text, n) != 0)
		return false;
	if ((w->flags & START && at != indent) || (w->flags & END && behind != line.len))
		return false;
	if ((w->flags & COLON && last != ':') || (w->flags & BARE && last == ';'))
		return false;
	if (at > 0 && is_word_byte((unsigned char)w->text[0]) &&
	    is_word_byte((unsigned char)line.ptr[at - 1]))
		return false;
	if (behind < line.len && is_word_byte((unsigned char)w->text[n - 1]) &&
	    is_word_byte((unsigned char)line.ptr[behind]))
		return false;
	n = line.len - behind < ALSO_BYTES ? line.len - behind : ALSO_BYTES;
	return !w->also || memmem(line.ptr + behind, n, w->also, strlen(w->also));
}

static void score(struct scores *s, int i)
{
	const struct code_word *w = &code_words[i];

	if (s->counts[i] >= MAX_COUNT)
		return;
	s->kinds[w->language] += s->counts[i] == 0;
	s->counts[i]++;
	s->points[w->language] += w->weight;
	s->anchored[w->language] |= (w->flags & A) != 0;
	s->proven[w->language] |= w->weight >= PROOF;
}

/* All words have two bytes at least: the second one sorts most of them out. */
static void score_at(struct scores *s, int first, struct str line, size_t at,
		     size_t indent)
{
	for (int i = first; i >= 0; i = s->next[i])
		if (at + 1 < line.len && code_words[i].text[1] == line.ptr[at + 1] &&
		    s->counts[i] < MAX_COUNT && stands(&code_words[i], line, at, indent))
			score(s, i);
}

static void score_line(struct scores *s, struct str line)
{
	size_t indent = 0;

	while (line.len && strchr(" \t\r", line.ptr[line.len - 1]))
		line.len--;
	while (indent < line.len && (line.ptr[indent] == ' ' || line.ptr[indent] == '\t'))
		indent++;
	if (indent == line.len)
		return;
	score_at(s, s->starts[(unsigned char)line.ptr[indent]], line, indent, indent);
	for (size_t at = indent; at + 1 < line.len; at++)
		score_at(s, s->others[(unsigned char)line.ptr[at]], line, at, indent);
}

/* A language that grew out of another has the other's words as well. */
static void inherit(struct scores *s, enum language child, enum language parent)
{
	if (!s->anchored[child] &&
	    !(child == TYPESCRIPT && s->anchored[parent] && s->points[child] >= 6))
		return;
	s->anchored[child] = true;
	s->points[child] += s->points[parent];
	s->kinds[child] += s->kinds[parent];
}

static int best_of(const struct scores *s)
{
	int best = -1;

	for (int i = 0; i < LANGUAGES; i++) {
		bool enough =
			s->points[i] >= MIN_SCORE && s->kinds[i] >= 2 && s->anchored[i];

		if ((enough || s->proven[i]) &&
		    (best < 0 || s->points[i] >= s->points[best]))
			best = i; /* of equals the later one: children follow parents */
	}
	return best;
}

/* ---- lines and fences */

static bool next_line(struct str *rest, struct str *line)
{
	const char *end;

	if (!rest->len)
		return false;
	end = memchr(rest->ptr, '\n', rest->len);
	*line = (struct str){rest->ptr, end ? (size_t)(end - rest->ptr) : rest->len};
	rest->ptr += line->len;
	rest->len -= line->len;
	if (end) {
		rest->ptr++;
		rest->len--;
	}
	return true;
}

/* CommonMark: up to three spaces, then three or more of ` or ~; info: the first word behind. */
static bool is_fence(struct str line, struct str *info)
{
	size_t i = 0, n = 0;
	char c;

	while (i < line.len && i < 3 && line.ptr[i] == ' ')
		i++;
	c = i < line.len ? line.ptr[i] : 0;
	if (c != '`' && c != '~')
		return false;
	while (i < line.len && line.ptr[i] == c) {
		i++;
		n++;
	}
	while (i < line.len && (line.ptr[i] == ' ' || line.ptr[i] == '{'))
		i++;
	info->ptr = line.ptr + i;
	info->len = 0;
	while (i + info->len < line.len && !strchr(" \t\r{},:", info->ptr[info->len]))
		info->len++;
	return n >= 3;
}

static int add_code(const char *name, const char *out[FEATURES_MAX_CODES], int n)
{
	for (int i = 0; i < n; i++)
		if (out[i] == name)
			return n;
	if (n < FEATURES_MAX_CODES)
		out[n++] = name;
	return n;
}

static int labels(struct str text, const char *out[FEATURES_MAX_CODES])
{
	bool inside = false;
	struct str line, info;
	int n = 0;

	while (next_line(&text, &line)) {
		if (!is_fence(line, &info))
			continue;
		inside = !inside;
		if (inside && info.len && features_code_name(info))
			n = add_code(features_code_name(info), out, n);
	}
	return n;
}

int features_codes(struct str text, const char *out[FEATURES_MAX_CODES])
{
	int n = labels(text, out), best;
	struct scores s;
	struct str line;

	if (n || !text.len)
		return n;
	index_words(&s);
	while (next_line(&text, &line))
		score_line(&s, line);
	inherit(&s, CPP, C);
	inherit(&s, TYPESCRIPT, JAVASCRIPT);
	best = best_of(&s);
	if (best >= 0)
		out[n++] = names[best];
	return n;
}
