/* Makes GGUF files in memory for tests: right ones, and, by the raw writers, wrong ones.
 */
#ifndef HOB_TESTS_GGUF_BUILD_H
#define HOB_TESTS_GGUF_BUILD_H

#include "base/buf.h"
#include "engine/gguf.h"

static inline void put_u32(struct buf *b, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		buf_addc(b, (char)(v >> 8 * i));
}

static inline void put_u64(struct buf *b, uint64_t v)
{
	put_u32(b, (uint32_t)v);
	put_u32(b, (uint32_t)(v >> 32));
}

static inline void put_str(struct buf *b, const char *s, size_t n)
{
	put_u64(b, n);
	buf_add(b, s, n);
}

static inline void put_head(struct buf *b, uint64_t ntensors, uint64_t npairs)
{
	buf_adds(b, "GGUF");
	put_u32(b, 3);
	put_u64(b, ntensors);
	put_u64(b, npairs);
}

static inline void put_key(struct buf *b, const char *key, enum gguf_type type)
{
	put_str(b, key, strlen(key));
	put_u32(b, type);
}

static inline void put_pair_u32(struct buf *b, const char *key, uint32_t v)
{
	put_key(b, key, GGUF_U32);
	put_u32(b, v);
}

static inline void put_pair_str(struct buf *b, const char *key, const char *s)
{
	put_key(b, key, GGUF_STRING);
	put_str(b, s, strlen(s));
}

static inline void put_pair_bool(struct buf *b, const char *key, bool v)
{
	put_key(b, key, GGUF_BOOL);
	buf_addc(b, v);
}

static inline void put_array(struct buf *b, const char *key, enum gguf_type type,
			     uint64_t n)
{
	put_key(b, key, GGUF_ARRAY);
	put_u32(b, type);
	put_u64(b, n);
}

/* dims: n of them. */
static inline void put_tensor(struct buf *b, const char *name, const uint64_t *dims,
			      int n, uint32_t type, uint64_t offset)
{
	put_str(b, name, strlen(name));
	put_u32(b, (uint32_t)n);
	for (int i = 0; i < n; i++)
		put_u64(b, dims[i]);
	put_u32(b, type);
	put_u64(b, offset);
}

static inline void put_padding(struct buf *b, size_t alignment)
{
	while (b->len % alignment)
		buf_addc(b, 0);
}

/* The GPT-2 spelling of a byte. */
static inline void put_spelled(struct buf *b, int byte)
{
	int c = 0x100;

	for (int i = 0; i < 256; i++) {
		bool plain =
			(i >= 0x21 && i <= 0x7e) || (i >= 0xa1 && i <= 0xac) || i >= 0xae;

		if (i == byte) {
			c = plain ? i : c;
			break;
		}
		c += !plain;
	}
	if (c < 0x80) {
		buf_addc(b, (char)c);
	} else {
		buf_addc(b, (char)(0xc0 | c >> 6));
		buf_addc(b, (char)(0x80 | (c & 0x3f)));
	}
}

/* A small vocabulary: ids 0..255 the bytes, then the merges "h e", "l l", "he ll", "hell
 * o" (256..259: "he", "ll", "hell", "hello"), then the specials. */
enum {
	TV_HE = 256,
	TV_LL,
	TV_HELL,
	TV_HELLO,
	TV_IM_START, /* control */
	TV_IM_END,   /* control */
	TV_BOS,      /* control, "<s>" */
	TV_TOOL,     /* user-defined, "<tool>" */
	TV_SNEAKY,   /* user-defined in the file, "<|sneaky|>" */
	TV_SIZE
};

static inline void put_vocab_pairs(struct buf *b, const char *model, const char *pre)
{
	static const char *const names[] = {"he",    "ll",           "hell",
					    "hello", "<|im_start|>", "<|im_end|>",
					    "<s>",   "<tool>",       "<|sneaky|>"};
	static const char *const merges[] = {"h e", "l l", "he ll", "hell o"};
	static const uint32_t kinds[] = {1, 1, 1, 1, 3, 3, 3, 4, 4};

	put_pair_str(b, "tokenizer.ggml.model", model);
	put_pair_str(b, "tokenizer.ggml.pre", pre);
	put_array(b, "tokenizer.ggml.tokens", GGUF_STRING, TV_SIZE);
	for (int i = 0; i < 256; i++) {
		struct buf s = {0};

		put_spelled(&s, i);
		put_str(b, s.data, s.len);
		buf_free(&s);
	}
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		put_str(b, names[i], strlen(names[i]));
	put_array(b, "tokenizer.ggml.token_type", GGUF_I32, TV_SIZE);
	for (size_t i = 0; i < TV_SIZE; i++)
		put_u32(b, i < 256 ? 1 : kinds[i - 256]);
	put_array(b, "tokenizer.ggml.merges", GGUF_STRING, ARRAY_LEN(merges));
	for (size_t i = 0; i < ARRAY_LEN(merges); i++)
		put_str(b, merges[i], strlen(merges[i]));
}

enum { VOCAB_PAIRS = 5 };

/* A small SentencePiece vocabulary: "<unk>", "<s>", "</s>", the bytes 0..255 as <0x00>.., then
 * what follows; a score is minus the id's distance from SV_A but where said.  There is no token for
 * 'z' alone, nor for any character that is not listed. */
enum {
	SV_UNK,
	SV_BOS,
	SV_EOS,
	SV_BYTE0,
	SV_A = SV_BYTE0 + 256, /* "a" */
	SV_B,
	SV_C,
	SV_SPACE, /* U+2581 */
	SV_AB,    /* better than "bc" */
	SV_BC,
	SV_ABC,
	SV_SPACE_A,
	SV_AA, /* these two have the same score */
	SV_AAA,
	SV_AZ,
	SV_E_ACUTE,
	SV_TWO_SPACES, /* user-defined, of real spaces */
	SV_TAG,        /* user-defined, "<b>" */
	SV_MARK,       /* control, "ac": merging must not make it */
	SV_SIZE
};

static inline float sv_score(int id)
{
	return id < SV_A ? 0 : id == SV_AAA ? (float)(SV_A - SV_AA) : (float)(SV_A - id);
}

static inline void put_f32(struct buf *b, float f)
{
	uint32_t bits;

	memcpy(&bits, &f, sizeof(bits));
	put_u32(b, bits);
}

static inline void put_spm_pairs(struct buf *b, bool space_prefix)
{
	static const char *const names[] = {
		"a",  "b",   "c",  "\u2581", "ab", "bc",  "abc", "\u2581a",
		"aa", "aaa", "az", "\u00e9", "  ", "<b>", "ac",
	};
	static const uint32_t kinds[] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 4, 4, 3};

	put_pair_str(b, "tokenizer.ggml.model", "llama");
	put_array(b, "tokenizer.ggml.tokens", GGUF_STRING, SV_SIZE);
	put_str(b, "<unk>", 5);
	put_str(b, "<s>", 3);
	put_str(b, "</s>", 4);
	for (int i = 0; i < 256; i++) {
		char byte[8];

		snprintf(byte, sizeof(byte), "<0x%02X>", i);
		put_str(b, byte, 6);
	}
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		put_str(b, names[i], strlen(names[i]));
	put_array(b, "tokenizer.ggml.token_type", GGUF_I32, SV_SIZE);
	for (size_t i = 0; i < SV_SIZE; i++)
		put_u32(b, i == SV_UNK    ? 2
			   : i < SV_BYTE0 ? 3
			   : i < SV_A     ? 6
					  : kinds[i - SV_A]);
	put_array(b, "tokenizer.ggml.scores", GGUF_F32, SV_SIZE);
	for (int i = 0; i < SV_SIZE; i++)
		put_f32(b, sv_score(i));
	put_pair_u32(b, "tokenizer.ggml.bos_token_id", SV_BOS);
	put_pair_u32(b, "tokenizer.ggml.eos_token_id", SV_EOS);
	put_pair_u32(b, "tokenizer.ggml.unknown_token_id", SV_UNK);
	put_pair_bool(b, "tokenizer.ggml.add_space_prefix", space_prefix);
}

enum { SPM_PAIRS = 8 };

#endif
