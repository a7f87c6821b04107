/* The table of pre-tokenisers and the splitter.  Any thread; each call has its own match
 * data.
 *
 * The expressions are facts of the models' tokenizer.json files ("pre_tokenizer"), in
 * PCRE2's dialect.  A later list sees each piece of an earlier one as a text of its own,
 * so that a look-ahead ends at the piece: that is what the models were trained with.
 * Where a match fails for want of memory the rest becomes one piece: a worse cut, never a
 * lost byte. */
#include "engine/pretok.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "engine/utf8.h"

enum { MAX_STAGES = 6 };
enum { JIT_STACK_START = 32 << 10, JIT_STACK_MAX = 1 << 20 };

#define GPT2                                            \
	"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| " \
	"?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
/* The two differ in how many digits go together. */
#define CL100K(digits)                                                       \
	"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits \
	"| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
/* deepseek-llm lists by range the letters with case that Unicode had when it was made;
 * the look-ahead takes out the blocks that are not among them. */
#define CASED                                                             \
	"(?:(?![\\x{560}-\\x{588}\\x{10c7}-\\x{10ff}\\x{1c80}-\\x{1c8f}"  \
	"\\x{2d00}-\\x{2d2f}\\x{a790}-\\x{a7ff}\\x{ab30}-\\x{ab6f}"       \
	"\\x{10570}-\\x{105bc}\\x{10d50}-\\x{10d85}\\x{16e40}-\\x{16ed3}" \
	"\\x{1d400}-\\x{1df96}])[\\p{Lu}\\p{Ll}\\p{Lt}\\x{295}])+"

struct preset {
	const char *name;
	const char *stages[MAX_STAGES];
	bool ignores_merges, adds_bos;
};

static const struct preset presets[] = {
	{.name = "smollm", .stages = {"\\p{N}", GPT2}},
	{.name = "starcoder", .stages = {"\\p{N}", GPT2}},
	{.name = "refact", .stages = {"\\p{N}", GPT2}},
	{.name = "command-r", .stages = {"\\p{N}", GPT2}},
	{.name = "codeshell", .stages = {"\\p{N}", GPT2}},
	{.name = "gpt-2", .stages = {GPT2}},
	{.name = "phi-2", .stages = {GPT2}},
	{.name = "llama-bpe",
	 .stages = {CL100K("\\p{N}{1,3}")},
	 .ignores_merges = true,
	 .adds_bos = true},
	{.name = "llama3",
	 .stages = {CL100K("\\p{N}{1,3}")},
	 .ignores_merges = true,
	 .adds_bos = true},
	{.name = "llama-v3",
	 .stages = {CL100K("\\p{N}{1,3}")},
	 .ignores_merges = true,
	 .adds_bos = true},
	{.name = "qwen2", .stages = {CL100K("\\p{N}")}},
	{.name = "deepseek-r1-qwen", .stages = {CL100K("\\p{N}")}},
	/* (?<!\s) and ++: the same matches as \s+$, without trying again at each space of
	   a run. */
	{.name = "deepseek-llm",
	 .stages = {"[\\r\\n]", "\\s?" CASED,
		    "\\s?[!-/:-~\\x{ff01}-\\x{ff0f}\\x{ff1a}-\\x{ff5e}\\x{2018}-\\x{201f}"
		    "\\x{3000}-\\x{3002}]+",
		    "(?<!\\s)\\s++$",
		    "[\\x{4e00}-\\x{9fa5}\\x{800}-\\x{4e00}\\x{ac00}-\\x{d7ff}]+",
		    "\\p{N}+"}},
	{.name = "default",
	 .stages = {"[\\p{P}$+<=>^~|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]"}},
};

struct pretok {
	const struct preset *preset;
	pcre2_code *codes[MAX_STAGES]; /* owned */
	int nstages;
};

/* One run over a text. */
struct split {
	const struct pretok *p;
	pcre2_match_data *data[MAX_STAGES]; /* owned */
	pcre2_match_context *context;       /* owned */
	pcre2_jit_stack *stack;             /* owned; NULL is fine */
	void (*piece)(void *arg, struct str s);
	void *arg;
};

static pcre2_code *compile(const char *expression)
{
	int errnum;
	PCRE2_SIZE at;
	pcre2_code *code;

	/* DOLLAR_ENDONLY: $ is the end of the piece, not a newline before it. */
	code = pcre2_compile((PCRE2_SPTR)expression, PCRE2_ZERO_TERMINATED,
			     PCRE2_UTF | PCRE2_UCP | PCRE2_DOLLAR_ENDONLY, &errnum, &at,
			     NULL);
	ASSERT(code); /* our own table */
	pcre2_jit_compile(
		code, PCRE2_JIT_COMPLETE); /* where it fails, pcre2_match interprets */
	return code;
}

struct pretok *pretok_new(struct str name, struct err *e)
{
	for (size_t i = 0; i < ARRAY_LEN(presets); i++) {
		struct pretok *p;

		if (!str_eq(name, presets[i].name))
			continue;
		p = xcalloc(1, sizeof(*p));
		p->preset = &presets[i];
		while (p->nstages < MAX_STAGES && presets[i].stages[p->nstages]) {
			p->codes[p->nstages] = compile(presets[i].stages[p->nstages]);
			p->nstages++;
		}
		return p;
	}
	err_set(e, ERR_UNSUPPORTED, "the pre-tokenizer '%.*s' is not known to this build",
		(int)(name.len < 64 ? name.len : 64), name.ptr);
	return NULL;
}

void pretok_free(struct pretok *p)
{
	if (!p)
		return;
	for (int i = 0; i < p->nstages; i++)
		pcre2_code_free(p->codes[i]);
	free(p);
}

bool pretok_ignores_merges(const struct pretok *p)
{
	return p->preset->ignores_merges;
}

bool pretok_adds_bos(const struct pretok *p)
{
	return p->preset->adds_bos;
}

/* The next match of a stage from `at` on; false when there is none or it cannot be found.
 */
static bool match(struct split *s, int stage, struct str text, size_t at,
		  PCRE2_SIZE range[2])
{
	const pcre2_code *code = s->p->codes[stage];
	const PCRE2_SPTR subject = (PCRE2_SPTR)text.ptr;
	int rc;

	rc = pcre2_match(code, subject, text.len, at, PCRE2_NO_UTF_CHECK, s->data[stage],
			 s->context);
	if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
		rc = pcre2_match(code, subject, text.len, at,
				 PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, s->data[stage],
				 s->context);
	if (rc < 0)
		return false;
	memcpy(range, pcre2_get_ovector_pointer(s->data[stage]), 2 * sizeof(*range));
	return range[1] > range[0]; /* no expression of the table matches nothing */
}

/* Recursion is as deep as the table's list of stages, at most MAX_STAGES. */
static void split_stage(struct split *s, int stage, struct str text)
{
	PCRE2_SIZE range[2];
	size_t at = 0;

	if (text.len == 0)
		return;
	if (stage == s->p->nstages) {
		s->piece(s->arg, text);
		return;
	}
	while (at < text.len && match(s, stage, text, at, range)) {
		split_stage(s, stage + 1, (struct str){text.ptr + at, range[0] - at});
		split_stage(s, stage + 1,
			    (struct str){text.ptr + range[0], range[1] - range[0]});
		at = range[1];
	}
	split_stage(s, stage + 1, (struct str){text.ptr + at, text.len - at});
}

/* Length of the front of text that is valid UTF-8, or that is not. */
static size_t run_length(struct str text, bool *valid)
{
	size_t at = 0, len;

	*valid = utf8_next(text.ptr, text.len, &len) == UTF8_WHOLE;
	do
		at += len;
	while (at < text.len &&
	       (utf8_next(text.ptr + at, text.len - at, &len) == UTF8_WHOLE) == *valid);
	return at;
}

void pretok_split(const struct pretok *p, struct str text,
		  void (*piece)(void *arg, struct str s), void *arg)
{
	struct split s = {.p = p, .piece = piece, .arg = arg};

	s.context = pcre2_match_context_create(NULL);
	s.stack = pcre2_jit_stack_create(JIT_STACK_START, JIT_STACK_MAX, NULL);
	ASSERT(s.context);
	if (s.stack)
		pcre2_jit_stack_assign(s.context, NULL, s.stack);
	for (int i = 0; i < p->nstages; i++) {
		s.data[i] = pcre2_match_data_create(1, NULL);
		ASSERT(s.data[i]);
	}
	while (text.len) {
		bool valid;
		size_t n = run_length(text, &valid);

		if (valid)
			split_stage(&s, 0, (struct str){text.ptr, n});
		else
			piece(arg, (struct str){text.ptr, n});
		text.ptr += n;
		text.len -= n;
	}
	for (int i = 0; i < p->nstages; i++)
		pcre2_match_data_free(s.data[i]);
	pcre2_match_context_free(s.context);
	pcre2_jit_stack_free(s.stack);
}
