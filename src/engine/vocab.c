/* The vocabulary: its tokens, its special ones, and text to ids.  Any thread, once built.
 *
 * GGUF spells the bytes of a normal token so that they can be printed: in GPT-2's byte alphabet
 * ("gpt2"), or with U+2581 for a space and <0x0A> for a byte ("llama", SentencePiece).  Here they
 * are turned back once.  Byte-pair merging then works on bytes and ids; SentencePiece looks texts
 * up as they are spelled, so for it the spellings are kept too. */
#include "engine/vocab.h"

#include <math.h>

#include "engine/bpe.h"
#include "engine/pretok.h"
#include "engine/spm.h"
#include "engine/strmap.h"

/* Kinds of tokens in tokenizer.ggml.token_type (GGUF specification). */
enum {
	TYPE_NORMAL = 1,
	TYPE_UNKNOWN = 2,
	TYPE_CONTROL = 3,
	TYPE_USER = 4,
	TYPE_UNUSED = 5,
	TYPE_BYTE = 6
};

enum token_kind {
	KIND_NORMAL,
	KIND_BYTE, /* of SentencePiece: stands for what has no token; never looked for in a text */
	KIND_USER,
	KIND_CONTROL
};

struct vocab {
	bool is_spm;           /* SentencePiece: spm and spelled, not bpe and pretok */
	struct pretok *pretok; /* owned */
	struct str *texts;     /* owned; the bytes of each token, in `bytes` */
	uint8_t *kinds;        /* owned; enum token_kind */
	bool *eog;             /* owned */
	int n;
	struct buf bytes, spelled;
	struct strmap by_text; /* for SentencePiece, of spelled; else of bytes */
	struct bpe bpe;
	struct spm spm;
	/* How long the user-defined and control tokens with a first byte are: each length once,
	   the longest first. */
	int *special_lengths; /* owned */
	int special_start[257];
	int32_t bos, eos;
	bool add_bos;
};

void tokens_add(struct tokens *t, int32_t id)
{
	if (t->n == t->cap) {
		size_t bytes;

		t->cap = t->cap ? 2 * t->cap : 64;
		ASSERT(size_mul(t->cap, sizeof(*t->ids), &bytes));
		t->ids = xrealloc(t->ids, bytes);
	}
	t->ids[t->n++] = id;
}

void tokens_free(struct tokens *t)
{
	free(t->ids);
	*t = (struct tokens){0};
}

/* GPT-2's alphabet: printable bytes stand for themselves, the others, in order, for
 * U+0100 on. */
static bool printable_byte(int b)
{
	return (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
}

struct alphabet {
	int16_t byte_of[0x144]; /* by code point; -1: not in the alphabet */
};

static void alphabet_init(struct alphabet *a)
{
	int next = 0x100;

	memset(a->byte_of, 0xff, sizeof(a->byte_of));
	for (int b = 0; b < 256; b++)
		a->byte_of[printable_byte(b) ? b : next++] = (int16_t)b;
}

/* Appends the bytes that s stands for; false when s is not in the alphabet. */
static bool alphabet_decode(const struct alphabet *a, struct str s, struct buf *out)
{
	for (size_t i = 0; i < s.len; i++) {
		unsigned c = (uint8_t)s.ptr[i];

		if (c >= 0xc2 && c <= 0xc5 && i + 1 < s.len &&
		    ((uint8_t)s.ptr[i + 1] & 0xc0) == 0x80) {
			c = (c & 0x1f) << 6 | ((uint8_t)s.ptr[i + 1] & 0x3f);
			i++;
		} else if (c >= 0x80) {
			return false;
		}
		if (c >= ARRAY_LEN(a->byte_of) || a->byte_of[c] < 0)
			return false;
		buf_addc(out, (char)a->byte_of[c]);
	}
	return true;
}

static enum token_kind kind_of_type(const struct vocab *v, int64_t type)
{
	switch (type) {
	case TYPE_BYTE:
		return v->is_spm ? KIND_BYTE : KIND_NORMAL;
	case TYPE_USER:
		return KIND_USER;
	case TYPE_UNKNOWN:
	case TYPE_CONTROL:
	case TYPE_UNUSED:
		return KIND_CONTROL;
	default: /* TYPE_NORMAL */
		return KIND_NORMAL;
	}
}

/* <|name|>: the shape of markers, which some converters file as user-defined, or without
 * types. */
static bool looks_like_marker(struct str s)
{
	return s.len > 4 && str_starts(s, "<|") && !memcmp(s.ptr + s.len - 2, "|>", 2) &&
	       !memchr(s.ptr, ' ', s.len);
}

/* The lists of the file; those that it lacks are empty. */
struct lists {
	struct gguf_array tokens, types, merges, scores;
};

/* One of the tokenizer's lists: of strings or of numbers, of n members unless n is 0. */
static int read_list(const struct gguf *g, const char *name, bool strings, size_t n,
		     bool needed, struct gguf_array *out, struct err *e)
{
	char key[64];

	snprintf(key, sizeof(key), "tokenizer.ggml.%s", name);
	switch (gguf_array(g, key, out)) {
	case GGUF_ABSENT:
		*out = (struct gguf_array){.type = GGUF_I32};
		if (!needed)
			return 0;
		break;
	case GGUF_FOUND:
		if ((out->strings != NULL) == strings && (!n || out->n == n))
			return 0;
		break;
	case GGUF_WRONG_TYPE:
		break;
	}
	return err_set(e, ERR_CORRUPT,
		       "%s: %s is missing, no list of %s, or not as long as the tokens",
		       gguf_path(g), key, strings ? "strings" : "numbers");
}

static int read_lists(struct vocab *v, const struct gguf *g, struct lists *l,
		      struct err *e)
{
	struct str model;
	size_t n;

	if (gguf_need_str(g, "tokenizer.ggml.model", &model, e))
		return -1;
	v->is_spm = str_eq(model, "llama");
	if (!v->is_spm && !str_eq(model, "gpt2"))
		return err_set(e, ERR_UNSUPPORTED,
			       "%s: its tokenizer is of kind '%.*s'; this build knows "
			       "'gpt2' (byte-pair encoding) and 'llama' (SentencePiece)",
			       gguf_path(g), (int)(model.len < 64 ? model.len : 64),
			       model.ptr);
	if (read_list(g, "tokens", true, 0, true, &l->tokens, e))
		return -1;
	n = l->tokens.n;
	if (n == 0 || n > VOCAB_MAX_TOKENS)
		return err_set(e, ERR_CORRUPT,
			       "%s: tokenizer.ggml.tokens is empty or longer than %d",
			       gguf_path(g), VOCAB_MAX_TOKENS);
	if (read_list(g, "token_type", false, n, false, &l->types, e))
		return -1;
	if (v->is_spm)
		return read_list(g, "scores", false, n, true, &l->scores, e);
	return read_list(g, "merges", true, 0, true, &l->merges, e);
}

/* <0x0A>: -1 for what is not spelled so. */
static int byte_spelled(struct str s)
{
	static const char digits[] = "0123456789ABCDEF";
	const char *high, *low;

	if (s.len != 6 || !str_starts(s, "<0x") || s.ptr[5] != '>' || !s.ptr[3] ||
	    !s.ptr[4])
		return -1;
	high = strchr(digits, s.ptr[3]);
	low = strchr(digits, s.ptr[4]);
	return high && low ? (int)(high - digits) << 4 | (int)(low - digits) : -1;
}

static void unspell_spaces(struct str s, struct buf *out)
{
	size_t n = strlen(SPM_SPACE);

	while (s.len) {
		const char *at = memmem(s.ptr, s.len, SPM_SPACE, n);
		size_t before = at ? (size_t)(at - s.ptr) : s.len;

		buf_add(out, s.ptr, before);
		if (!at)
			return;
		buf_addc(out, ' ');
		s.ptr += before + n;
		s.len -= before + n;
	}
}

/* Appends what token i stands for; may find that it is of another kind than the file says. */
static void unspell(struct vocab *v, int i, struct str s, const struct alphabet *alphabet)
{
	size_t start = v->bytes.len;
	int byte = byte_spelled(s);

	if (v->kinds[i] == KIND_BYTE && byte < 0)
		v->kinds[i] = KIND_CONTROL; /* stands for nothing */
	if (v->kinds[i] == KIND_BYTE) {
		buf_addc(&v->bytes, (char)byte);
		return;
	}
	if (v->kinds[i] == KIND_NORMAL && v->is_spm) {
		unspell_spaces(s, &v->bytes);
		return;
	}
	if (v->kinds[i] == KIND_NORMAL && alphabet_decode(alphabet, s, &v->bytes))
		return;
	v->bytes.len = start;
	buf_add(&v->bytes, s.ptr, s.len);
}

/* Copies the texts, decoded; the slices are made once the buffer no longer moves. */
static int read_tokens(struct vocab *v, const struct gguf *g, const struct lists *l,
		       struct err *e)
{
	struct alphabet alphabet;
	size_t at = 0;

	alphabet_init(&alphabet);
	v->n = (int)l->tokens.n;
	v->texts = xcalloc(l->tokens.n, sizeof(*v->texts));
	v->kinds = xcalloc(l->tokens.n, sizeof(*v->kinds));
	v->eog = xcalloc(l->tokens.n, sizeof(*v->eog));
	for (int i = 0; i < v->n; i++) {
		struct str s = l->tokens.strings[i];
		size_t start = v->bytes.len;

		if (s.len > VOCAB_MAX_TOKEN_BYTES)
			return err_set(e, ERR_CORRUPT,
				       "%s: token %d has %zu bytes, the limit is %d",
				       gguf_path(g), i, s.len, VOCAB_MAX_TOKEN_BYTES);
		v->kinds[i] = KIND_NORMAL;
		if (l->types.n)
			v->kinds[i] =
				kind_of_type(v, gguf_array_int(&l->types, (size_t)i));
		if ((v->kinds[i] == KIND_USER || !l->types.n) && looks_like_marker(s))
			v->kinds[i] = KIND_CONTROL;
		unspell(v, i, s, &alphabet);
		v->texts[i].len = v->bytes.len - start;
	}
	for (int i = 0; i < v->n; at += v->texts[i++].len)
		v->texts[i].ptr = v->bytes.data + at;
	return 0;
}

static bool is_special(const struct vocab *v, int32_t id)
{
	return v->kinds[id] == KIND_USER || v->kinds[id] == KIND_CONTROL;
}

/* Markers win over normal tokens of the same text: the list that vocab_find() answers from.
 * texts: v->texts or the file's spellings, copied. */
static void index_texts(struct vocab *v, const struct str *texts)
{
	strmap_init(&v->by_text, (size_t)v->n);
	for (int pass = 0; pass < 2; pass++)
		for (int i = 0; i < v->n; i++)
			if (texts[i].len && is_special(v, i) == (pass == 1))
				strmap_set(&v->by_text, texts[i], i);
}

/* --- byte-pair encoding ------------------------------------------------------------------- */

static int add_merge(struct vocab *v, const struct strmap *spelled, struct str text,
		     int rank)
{
	char joined[2 * VOCAB_MAX_TOKEN_BYTES];
	/* From the second byte: a token is never empty. */
	const char *space = text.len > 2 ? memchr(text.ptr + 1, ' ', text.len - 1) : NULL;
	struct str left, right;
	int32_t l, r, result;

	if (!space || text.len > sizeof(joined))
		return -1;
	left = (struct str){text.ptr, (size_t)(space - text.ptr)};
	right = (struct str){space + 1, text.len - left.len - 1};
	memcpy(joined, left.ptr, left.len);
	memcpy(joined + left.len, right.ptr, right.len);
	l = strmap_get(spelled, left);
	r = strmap_get(spelled, right);
	result = strmap_get(spelled, (struct str){joined, left.len + right.len});
	if (l < 0 || r < 0 || result < 0)
		return -1;
	bpe_add(&v->bpe, l, r, rank, result);
	return 0;
}

static int read_merges(struct vocab *v, const struct gguf *g, const struct lists *l,
		       struct err *e)
{
	struct strmap spelled; /* normal tokens as the file spells them */
	int rc = 0;

	index_texts(v, v->texts);
	bpe_init(&v->bpe, l->merges.n);
	strmap_init(&spelled, l->tokens.n);
	for (int i = 0; i < v->n; i++) {
		if (v->kinds[i] != KIND_NORMAL)
			continue;
		strmap_set(&spelled, l->tokens.strings[i], i);
		if (v->texts[i].len == 1)
			v->bpe.byte_ids[(uint8_t)v->texts[i].ptr[0]] = i;
	}
	for (size_t i = 0; i < l->merges.n && !rc; i++)
		if (add_merge(v, &spelled, l->merges.strings[i], (int)i))
			rc = err_set(
				e, ERR_CORRUPT,
				"%s: merge %zu is malformed or names tokens that are not "
				"in the vocabulary",
				gguf_path(g), i);
	strmap_fini(&spelled);
	return rc;
}

/* --- SentencePiece ------------------------------------------------------------------------ */

static void copy_spellings(struct vocab *v, const struct lists *l)
{
	struct str *texts = xcalloc((size_t)v->n, sizeof(*texts));
	size_t at = 0;

	for (int i = 0; i < v->n; i++)
		buf_add(&v->spelled, l->tokens.strings[i].ptr, l->tokens.strings[i].len);
	for (int i = 0; i < v->n; at += texts[i++].len)
		texts[i] = (struct str){v->spelled.data + at, l->tokens.strings[i].len};
	index_texts(v, texts);
	free(texts);
}

static int read_scores(struct vocab *v, const struct gguf *g, const struct lists *l,
		       struct err *e)
{
	copy_spellings(v, l);
	spm_init(&v->spm, &v->by_text, v->n);
	for (int i = 0; i < v->n; i++) {
		float score = gguf_array_f32(&l->scores, (size_t)i);

		if (!isfinite(score))
			return err_set(e, ERR_CORRUPT,
				       "%s: the score of token %d is no number",
				       gguf_path(g), i);
		if (v->kinds[i] == KIND_BYTE)
			v->spm.byte_ids[(uint8_t)v->texts[i].ptr[0]] = i;
		else if (v->kinds[i] != KIND_CONTROL)
			spm_allow(&v->spm, i, l->tokens.strings[i].len, score);
	}
	return 0;
}

/* --- special tokens and settings ---------------------------------------------------------- */

/* By first byte, then the longest first. */
static int compare_specials(const void *a, const void *b, void *arg)
{
	const struct vocab *v = arg;
	struct str x = v->texts[*(const int *)a], y = v->texts[*(const int *)b];

	if (x.ptr[0] != y.ptr[0])
		return (uint8_t)x.ptr[0] < (uint8_t)y.ptr[0] ? -1 : 1;
	return x.len > y.len ? -1 : x.len < y.len;
}

/* Thousands may begin with the same byte (Gemma has 6242 <unused..>), but not of as many lengths. */
static void index_specials(struct vocab *v)
{
	int *ids = xcalloc((size_t)v->n, sizeof(*ids)), n = 0, kept = 0, i = 0;

	for (int id = 0; id < v->n; id++)
		if (is_special(v, id) && v->texts[id].len)
			ids[n++] = id;
	qsort_r(ids, (size_t)n, sizeof(*ids), compare_specials, v);
	for (int b = 0; b < 256; b++) {
		v->special_start[b] = kept;
		for (; i < n && (uint8_t)v->texts[ids[i]].ptr[0] == b; i++) {
			int len = (int)v->texts[ids[i]].len;

			if (kept == v->special_start[b] || ids[kept - 1] != len)
				ids[kept++] = len; /* kept <= i: over what was read */
		}
	}
	v->special_start[256] = kept;
	v->special_lengths = ids;
}

static int read_id(const struct vocab *v, const struct gguf *g, const char *key,
		   int32_t *out, struct err *e)
{
	uint32_t id;

	*out = VOCAB_NO_TOKEN;
	switch (gguf_u32(g, key, &id)) {
	case GGUF_ABSENT:
		return 0;
	case GGUF_FOUND:
		if (id == UINT32_MAX) /* some converters write -1 for none */
			return 0;
		if (id < (uint32_t)v->n) {
			*out = (int32_t)id;
			return 0;
		}
		break;
	case GGUF_WRONG_TYPE:
		break;
	}
	return err_set(e, ERR_CORRUPT, "%s: %s is no id of the vocabulary", gguf_path(g),
		       key);
}

/* What ends a generation: by id, and by the spellings that models are known to use (the
 * list of llama.cpp, as files often name only one). */
static int read_ends(struct vocab *v, const struct gguf *g, struct err *e)
{
	static const char *const keys[] = {"tokenizer.ggml.eos_token_id",
					   "tokenizer.ggml.eot_token_id",
					   "tokenizer.ggml.eom_token_id"};
	static const char *const names[] = {
		"<|eot_id|>",      "<|im_end|>",  "<|end|>",  "<end_of_turn>",
		"<|endoftext|>",   "<|eom_id|>",  "<EOT>",    "_<EOT>",
		"<|end_of_text|>", "<|return|>",  "<|call|>", "<|calls|>",
		"<|endofturn|>",   "<|fim_pad|>",
	};
	int32_t id;

	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		if (read_id(v, g, keys[i], &id, e))
			return -1;
		if (id >= 0)
			v->eog[id] = true;
	}
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		id = strmap_get(&v->by_text, str_of(names[i]));
		if (id >= 0 && is_special(v, id))
			v->eog[id] = true;
	}
	for (int i = 0; i < v->n; i++)
		if (v->eog[i])
			v->kinds[i] = KIND_CONTROL;
	return read_id(v, g, keys[0], &v->eos, e);
}

/* Leaves *out as it is when the file does not say. */
static int read_flag(const struct gguf *g, const char *key, bool *out, struct err *e)
{
	if (gguf_bool(g, key, out) == GGUF_WRONG_TYPE)
		return err_set(e, ERR_CORRUPT, "%s: %s is no bool", gguf_path(g), key);
	return 0;
}

static int read_settings(struct vocab *v, const struct gguf *g, struct err *e)
{
	struct str pre = STR("default");

	if (gguf_str(g, "tokenizer.ggml.pre", &pre) == GGUF_WRONG_TYPE)
		return err_set(e, ERR_CORRUPT, "%s: tokenizer.ggml.pre is no string",
			       gguf_path(g));
	v->pretok = v->is_spm ? NULL : pretok_new(pre, e);
	if (!v->is_spm && !v->pretok)
		return err_wrap(e, "%s", gguf_path(g));
	v->spm.space_prefix = v->is_spm;
	if (v->is_spm &&
	    (read_flag(g, "tokenizer.ggml.add_space_prefix", &v->spm.space_prefix, e) ||
	     read_id(v, g, "tokenizer.ggml.unknown_token_id", &v->spm.unknown, e)))
		return -1;
	if (read_id(v, g, "tokenizer.ggml.bos_token_id", &v->bos, e) ||
	    read_ends(v, g, e))
		return -1;
	if (v->bos >= 0)
		v->kinds[v->bos] = KIND_CONTROL;
	v->add_bos = v->is_spm || pretok_adds_bos(v->pretok);
	if (read_flag(g, "tokenizer.ggml.add_bos_token", &v->add_bos, e))
		return -1;
	v->add_bos = v->add_bos && v->bos >= 0;
	return 0;
}

struct vocab *vocab_new(const struct gguf *g, struct err *e)
{
	struct vocab *v = xcalloc(1, sizeof(*v));
	struct lists l = {0};

	if (read_lists(v, g, &l, e) || read_tokens(v, g, &l, e) ||
	    (v->is_spm ? read_scores : read_merges)(v, g, &l, e) ||
	    read_settings(v, g, e)) {
		vocab_free(v);
		return NULL;
	}
	index_specials(v);
	return v;
}

void vocab_free(struct vocab *v)
{
	if (!v)
		return;
	pretok_free(v->pretok);
	free(v->texts);
	free(v->kinds);
	free(v->eog);
	buf_free(&v->bytes);
	buf_free(&v->spelled);
	strmap_fini(&v->by_text);
	bpe_fini(&v->bpe);
	spm_fini(&v->spm);
	free(v->special_lengths);
	free(v);
}

int vocab_size(const struct vocab *v)
{
	return v->n;
}

int32_t vocab_bos(const struct vocab *v)
{
	return v->bos;
}

int32_t vocab_eos(const struct vocab *v)
{
	return v->eos;
}

bool vocab_add_bos(const struct vocab *v)
{
	return v->add_bos;
}

bool vocab_is_eog(const struct vocab *v, int32_t id)
{
	return id >= 0 && id < v->n && v->eog[id];
}

bool vocab_is_control(const struct vocab *v, int32_t id)
{
	return id >= 0 && id < v->n && v->kinds[id] == KIND_CONTROL;
}

struct str vocab_piece(const struct vocab *v, int32_t id, bool with_control)
{
	if (id < 0 || id >= v->n || (v->kinds[id] == KIND_CONTROL && !with_control))
		return (struct str){"", 0};
	return v->texts[id];
}

int32_t vocab_find(const struct vocab *v, struct str text)
{
	return strmap_get(&v->by_text, text);
}

/* One call of vocab_encode(). */
struct encoder {
	const struct vocab *v;
	struct bpe_merger merger;
	struct spm_merger spm;
	struct buf text; /* of SentencePiece: the stretch at hand, spelled */
	bool after_text; /* no special token has come since the last stretch */
};

static void encode_word(void *arg, struct str word)
{
	struct encoder *e = arg;
	const struct vocab *v = e->v;

	if (pretok_ignores_merges(v->pretok)) {
		int32_t id = strmap_get(&v->by_text, word);

		if (id >= 0 && v->kinds[id] == KIND_NORMAL) {
			tokens_add(e->merger.out, id);
			return;
		}
	}
	while (word.len) {
		size_t n =
			word.len < VOCAB_MAX_WORD_BYTES ? word.len : VOCAB_MAX_WORD_BYTES;

		bpe_merge_word(&e->merger, (struct str){word.ptr, n});
		word.ptr += n;
		word.len -= n;
	}
}

/* A stretch between special tokens: one text for SentencePiece, else cut into words. */
static void encode_stretch(struct encoder *e, struct str text)
{
	if (!text.len)
		return;
	if (!e->v->is_spm) {
		pretok_split(e->v->pretok, text, encode_word, e);
		return;
	}
	buf_clear(&e->text);
	if (e->v->spm.space_prefix && !e->after_text)
		buf_adds(&e->text, SPM_SPACE);
	for (size_t i = 0; i < text.len; i++) {
		if (text.ptr[i] == ' ')
			buf_adds(&e->text, SPM_SPACE);
		else
			buf_addc(&e->text, text.ptr[i]);
	}
	spm_merge_text(&e->spm, buf_str(&e->text));
	e->after_text = true;
}

/* The longest special token that text begins with. */
static int32_t special_at(const struct vocab *v, struct str text, bool control)
{
	uint8_t b = (uint8_t)text.ptr[0];

	for (int i = v->special_start[b]; i < v->special_start[b + 1]; i++) {
		size_t len = (size_t)v->special_lengths[i];
		int32_t id;

		if (len > text.len)
			continue;
		id = strmap_get(&v->by_text, (struct str){text.ptr, len});
		if (id >= 0 && is_special(v, id) &&
		    (control || v->kinds[id] != KIND_CONTROL))
			return id;
	}
	return VOCAB_NO_TOKEN;
}

void vocab_encode(const struct vocab *v, struct str text, bool parse_special,
		  bool add_bos, struct tokens *out)
{
	struct encoder e = {.v = v,
			    .merger = {.bpe = &v->bpe, .out = out},
			    .spm = {.spm = &v->spm, .out = out}};
	size_t start = 0, at = 0;

	if (add_bos && v->bos >= 0)
		tokens_add(out, v->bos);
	while (at < text.len) {
		struct str rest = {text.ptr + at, text.len - at};
		int32_t id = special_at(v, rest, parse_special);

		if (id < 0) {
			at++;
			continue;
		}
		encode_stretch(&e, (struct str){text.ptr + start, at - start});
		tokens_add(out, id);
		at += v->texts[id].len;
		start = at;
		e.after_text = false;
	}
	encode_stretch(&e, (struct str){text.ptr + start, at - start});
	bpe_merger_fini(&e.merger);
	spm_merger_fini(&e.spm);
	buf_free(&e.text);
}
