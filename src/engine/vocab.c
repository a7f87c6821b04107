/* The vocabulary: its tokens, its special ones, and text to ids.  Any thread, once built.
 *
 * GGUF stores the bytes of a normal token as printable characters (GPT-2's byte
 * alphabet); here they are turned back once, so that everything works on bytes and ids.
 */
#include "engine/vocab.h"

#include "engine/bpe.h"
#include "engine/pretok.h"
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

enum token_kind { KIND_NORMAL, KIND_USER, KIND_CONTROL };

struct vocab {
	struct pretok *pretok; /* owned */
	struct str *texts;     /* owned; the bytes of each token, in `bytes` */
	uint8_t *kinds;        /* owned; enum token_kind */
	bool *eog;             /* owned */
	int n;
	struct buf bytes;
	struct strmap by_text;
	struct bpe bpe;
	/* Ids of user-defined and control tokens by first byte, longest text first. */
	int32_t *specials; /* owned */
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

static enum token_kind kind_of_type(int64_t type)
{
	switch (type) {
	case TYPE_USER:
		return KIND_USER;
	case TYPE_UNKNOWN:
	case TYPE_CONTROL:
	case TYPE_UNUSED:
		return KIND_CONTROL;
	default: /* TYPE_NORMAL, TYPE_BYTE */
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

static int check_keys(const struct gguf *g, struct gguf_array *tokens,
		      struct gguf_array *types, struct gguf_array *merges, struct err *e)
{
	struct str model;

	if (gguf_need_str(g, "tokenizer.ggml.model", &model, e))
		return -1;
	if (!str_eq(model, "gpt2"))
		return err_set(e, ERR_UNSUPPORTED,
			       "%s: its tokenizer is of kind '%.*s'; this build knows "
			       "only 'gpt2' "
			       "(byte-pair encoding)",
			       gguf_path(g), (int)(model.len < 64 ? model.len : 64),
			       model.ptr);
	if (gguf_array(g, "tokenizer.ggml.tokens", tokens) != GGUF_FOUND ||
	    !tokens->strings || tokens->n == 0 || tokens->n > VOCAB_MAX_TOKENS)
		return err_set(e, ERR_CORRUPT,
			       "%s: tokenizer.ggml.tokens is missing, empty, no list of "
			       "strings or "
			       "longer than %d",
			       gguf_path(g), VOCAB_MAX_TOKENS);
	if (gguf_array(g, "tokenizer.ggml.merges", merges) != GGUF_FOUND ||
	    !merges->strings)
		return err_set(
			e, ERR_CORRUPT,
			"%s: tokenizer.ggml.merges is missing or no list of strings",
			gguf_path(g));
	switch (gguf_array(g, "tokenizer.ggml.token_type", types)) {
	case GGUF_ABSENT: /* all normal */
		*types = (struct gguf_array){.type = GGUF_I32};
		return 0;
	case GGUF_FOUND:
		if (!types->strings && types->n == tokens->n)
			return 0;
		break;
	default:
		break;
	}
	return err_set(e, ERR_CORRUPT,
		       "%s: tokenizer.ggml.token_type does not match the tokens",
		       gguf_path(g));
}

/* Copies the texts, decoded; the slices are made once the buffer no longer moves. */
static int read_tokens(struct vocab *v, const struct gguf *g,
		       const struct gguf_array *tokens, const struct gguf_array *types,
		       struct strmap *spelled, struct err *e)
{
	struct alphabet alphabet;
	size_t at = 0;

	alphabet_init(&alphabet);
	v->n = (int)tokens->n;
	v->texts = xcalloc(tokens->n, sizeof(*v->texts));
	v->kinds = xcalloc(tokens->n, sizeof(*v->kinds));
	v->eog = xcalloc(tokens->n, sizeof(*v->eog));
	for (int i = 0; i < v->n; i++) {
		struct str s = tokens->strings[i];
		size_t start = v->bytes.len;

		if (s.len > VOCAB_MAX_TOKEN_BYTES)
			return err_set(e, ERR_CORRUPT,
				       "%s: token %d has %zu bytes, the limit is %d",
				       gguf_path(g), i, s.len, VOCAB_MAX_TOKEN_BYTES);
		v->kinds[i] = KIND_NORMAL;
		if (types->n)
			v->kinds[i] = kind_of_type(gguf_array_int(types, (size_t)i));
		if ((v->kinds[i] == KIND_USER || !types->n) && looks_like_marker(s))
			v->kinds[i] = KIND_CONTROL;
		if (v->kinds[i] != KIND_NORMAL ||
		    !alphabet_decode(&alphabet, s, &v->bytes)) {
			v->bytes.len = start;
			buf_add(&v->bytes, s.ptr, s.len);
		}
		v->texts[i].len = v->bytes.len - start;
		if (v->kinds[i] == KIND_NORMAL)
			strmap_set(spelled, s, i);
	}
	for (int i = 0; i < v->n; at += v->texts[i++].len)
		v->texts[i].ptr = v->bytes.data + at;
	return 0;
}

/* Markers win over normal tokens of the same bytes: the list that vocab_find() answers
 * from. */
static void index_texts(struct vocab *v)
{
	strmap_init(&v->by_text, (size_t)v->n);
	for (int pass = 0; pass < 2; pass++)
		for (int i = 0; i < v->n; i++)
			if (v->texts[i].len &&
			    (v->kinds[i] != KIND_NORMAL) == (pass == 1))
				strmap_set(&v->by_text, v->texts[i], i);
	for (int i = 0; i < v->n; i++)
		if (v->kinds[i] == KIND_NORMAL && v->texts[i].len == 1)
			v->bpe.byte_ids[(uint8_t)v->texts[i].ptr[0]] = i;
}

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

static int read_merges(struct vocab *v, const struct gguf *g,
		       const struct gguf_array *merges, const struct strmap *spelled,
		       struct err *e)
{
	for (size_t i = 0; i < merges->n; i++)
		if (add_merge(v, spelled, merges->strings[i], (int)i))
			return err_set(e, ERR_CORRUPT,
				       "%s: merge %zu is malformed or names tokens that "
				       "are not in "
				       "the vocabulary",
				       gguf_path(g), i);
	return 0;
}

static int compare_specials(const void *a, const void *b, void *arg)
{
	const struct vocab *v = arg;
	struct str x = v->texts[*(const int32_t *)a], y = v->texts[*(const int32_t *)b];

	if (x.ptr[0] != y.ptr[0])
		return (uint8_t)x.ptr[0] < (uint8_t)y.ptr[0] ? -1 : 1;
	if (x.len != y.len)
		return x.len > y.len ? -1 : 1;
	return memcmp(x.ptr, y.ptr, x.len);
}

static void index_specials(struct vocab *v)
{
	int n = 0, at = 0;

	v->specials = xcalloc((size_t)v->n, sizeof(*v->specials));
	for (int i = 0; i < v->n; i++)
		if (v->kinds[i] != KIND_NORMAL && v->texts[i].len)
			v->specials[n++] = i;
	qsort_r(v->specials, (size_t)n, sizeof(*v->specials), compare_specials, v);
	for (int b = 0; b < 256; b++) {
		v->special_start[b] = at;
		while (at < n && (uint8_t)v->texts[v->specials[at]].ptr[0] == b)
			at++;
	}
	v->special_start[256] = at;
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
		if (id >= 0 && v->kinds[id] != KIND_NORMAL)
			v->eog[id] = true;
	}
	for (int i = 0; i < v->n; i++)
		if (v->eog[i])
			v->kinds[i] = KIND_CONTROL;
	return read_id(v, g, keys[0], &v->eos, e);
}

static int read_settings(struct vocab *v, const struct gguf *g, struct err *e)
{
	struct str pre = STR("default");

	if (gguf_str(g, "tokenizer.ggml.pre", &pre) == GGUF_WRONG_TYPE)
		return err_set(e, ERR_CORRUPT, "%s: tokenizer.ggml.pre is no string",
			       gguf_path(g));
	v->pretok = pretok_new(pre, e);
	if (!v->pretok)
		return err_wrap(e, "%s", gguf_path(g));
	if (read_id(v, g, "tokenizer.ggml.bos_token_id", &v->bos, e) ||
	    read_ends(v, g, e))
		return -1;
	if (v->bos >= 0)
		v->kinds[v->bos] = KIND_CONTROL;
	v->add_bos = pretok_adds_bos(v->pretok);
	if (gguf_bool(g, "tokenizer.ggml.add_bos_token", &v->add_bos) == GGUF_WRONG_TYPE)
		return err_set(e, ERR_CORRUPT,
			       "%s: tokenizer.ggml.add_bos_token is no bool",
			       gguf_path(g));
	v->add_bos = v->add_bos && v->bos >= 0;
	return 0;
}

struct vocab *vocab_new(const struct gguf *g, struct err *e)
{
	struct vocab *v = xcalloc(1, sizeof(*v));
	struct gguf_array tokens, types, merges;
	struct strmap spelled = {0}; /* normal tokens as the file spells them */
	int rc = -1;

	if (check_keys(g, &tokens, &types, &merges, e))
		goto out;
	strmap_init(&spelled, tokens.n);
	if (read_tokens(v, g, &tokens, &types, &spelled, e))
		goto out;
	bpe_init(&v->bpe, merges.n);
	index_texts(v);
	if (read_merges(v, g, &merges, &spelled, e) || read_settings(v, g, e))
		goto out;
	index_specials(v);
	rc = 0;
out:
	strmap_fini(&spelled);
	if (rc) {
		vocab_free(v);
		v = NULL;
	}
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
	strmap_fini(&v->by_text);
	bpe_fini(&v->bpe);
	free(v->specials);
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

/* The longest special token that text begins with. */
static int32_t special_at(const struct vocab *v, struct str text, bool control)
{
	uint8_t b = (uint8_t)text.ptr[0];

	for (int i = v->special_start[b]; i < v->special_start[b + 1]; i++) {
		int32_t id = v->specials[i];
		struct str s = v->texts[id];

		if (v->kinds[id] == KIND_CONTROL && !control)
			continue;
		if (s.len <= text.len && !memcmp(s.ptr, text.ptr, s.len))
			return id;
	}
	return VOCAB_NO_TOKEN;
}

void vocab_encode(const struct vocab *v, struct str text, bool parse_special,
		  bool add_bos, struct tokens *out)
{
	struct encoder e = {v, {.bpe = &v->bpe, .out = out}};
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
		pretok_split(v->pretok, (struct str){text.ptr + start, at - start},
			     encode_word, &e);
		tokens_add(out, id);
		at += v->texts[id].len;
		start = at;
	}
	pretok_split(v->pretok, (struct str){text.ptr + start, at - start}, encode_word,
		     &e);
	bpe_merger_fini(&e.merger);
}
