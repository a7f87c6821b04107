/* Writes a model small enough for tests to compute by definition, of llama's or Gemma 3's shape:
 * random F32 weights, the test vocabulary of gguf_build.h. */
#ifndef HOB_TESTS_TINY_MODEL_H
#define HOB_TESTS_TINY_MODEL_H

#include <unistd.h>

#include "tests/unit/gguf_build.h"

enum {
	TINY_LAYERS = 2,
	TINY_GEMMA_LAYERS = 6, /* five with a window, one without */
	TINY_WINDOW = 16,
	TINY_ROPE_BASE = 50000, /* Gemma's, of the layer without a window */
	TINY_EMBD = 64,
	TINY_HEADS = 4,
	TINY_KV_HEADS = 2,
	TINY_HEAD_DIM = 16,
	TINY_FFN = 96,
	TINY_CTX = 1024,
	TINY_PER_LAYER = 9,
	TINY_GEMMA_PER_LAYER = 13,
	TINY_TENSORS = TINY_GEMMA_LAYERS * TINY_GEMMA_PER_LAYER + 4
};

struct tiny_tensor {
	char name[64];
	int cols, rows;
	float *data; /* owned */
};

struct tiny {
	struct tiny_tensor t[TINY_TENSORS];
	int n, layers;
	char path[32]; /* of the file; removed by tiny_free */
};

/* What a test may spoil. */
struct tiny_faults {
	bool gemma;            /* of Gemma 3's shape */
	const char *arch;      /* instead of "llama" */
	const char *without;   /* this tensor is left out */
	const char *misshaped; /* this one gets a row less */
	const char *extra;     /* one more F32 tensor [32], e.g. a bias */
	size_t cut;            /* bytes missing at the end */
	bool tied;             /* no output.weight */
	int context;           /* instead of TINY_CTX */
};

static inline uint32_t tiny_random(uint32_t *s)
{
	*s = *s * 1664525u + 1013904223u;
	return *s >> 8;
}

static inline void tiny_add(struct tiny *m, const char *name, int cols, int rows,
			    uint32_t *seed)
{
	struct tiny_tensor *t = &m->t[m->n++];
	size_t n = (size_t)cols * (size_t)rows;

	snprintf(t->name, sizeof(t->name), "%s", name);
	t->cols = cols;
	t->rows = rows;
	t->data = xcalloc(n, sizeof(float));
	for (size_t i = 0; i < n; i++) {
		float r = (float)tiny_random(seed) / (1 << 23) - 1;

		/* norms around 1, matrices so that nothing grows from layer to layer */
		t->data[i] = rows == 1 ? 1 + r / 4 : r * 0.25f;
	}
}

static inline const float *tiny_get(const struct tiny *m, const char *name)
{
	for (int i = 0; i < m->n; i++)
		if (strcmp(m->t[i].name, name) == 0)
			return m->t[i].data;
	return NULL;
}

static inline void tiny_make_tensors(struct tiny *m, bool gemma, bool tied)
{
	static const struct {
		const char *name;
		int cols, rows;
	} table[TINY_GEMMA_PER_LAYER] = {
		{"attn_norm", TINY_EMBD, 1},
		{"attn_q", TINY_EMBD, TINY_HEADS * TINY_HEAD_DIM},
		{"attn_k", TINY_EMBD, TINY_KV_HEADS * TINY_HEAD_DIM},
		{"attn_v", TINY_EMBD, TINY_KV_HEADS * TINY_HEAD_DIM},
		{"attn_output", TINY_HEADS * TINY_HEAD_DIM, TINY_EMBD},
		{"ffn_norm", TINY_EMBD, 1},
		{"ffn_gate", TINY_EMBD, TINY_FFN},
		{"ffn_up", TINY_EMBD, TINY_FFN},
		{"ffn_down", TINY_FFN, TINY_EMBD},
		{"attn_q_norm", TINY_HEAD_DIM, 1}, /* from here on Gemma's */
		{"attn_k_norm", TINY_HEAD_DIM, 1},
		{"post_attention_norm", TINY_EMBD, 1},
		{"post_ffw_norm", TINY_EMBD, 1},
	};
	int per_layer = gemma ? TINY_GEMMA_PER_LAYER : TINY_PER_LAYER;
	uint32_t seed = 7;
	char name[64];

	tiny_add(m, "token_embd.weight", TINY_EMBD, TV_SIZE, &seed);
	m->layers = gemma ? TINY_GEMMA_LAYERS : TINY_LAYERS;
	for (int l = 0; l < m->layers; l++)
		for (int i = 0; i < per_layer; i++) {
			snprintf(name, sizeof(name), "blk.%d.%s.weight", l,
				 table[i].name);
			tiny_add(m, name, table[i].cols, table[i].rows, &seed);
		}
	tiny_add(m, "output_norm.weight", TINY_EMBD, 1, &seed);
	if (!gemma)
		tiny_add(m, "rope_freqs.weight", TINY_HEAD_DIM / 2, 1, &seed);
	if (!tied)
		tiny_add(m, "output.weight", TINY_EMBD, TV_SIZE, &seed);
}

static inline void tiny_put_f32(struct buf *b, const char *key, float f)
{
	uint32_t v;

	memcpy(&v, &f, sizeof(v));
	put_key(b, key, GGUF_F32);
	put_u32(b, v);
}

static inline void tiny_put_pairs(struct buf *b, const char *arch, int layers,
				  int context)
{
	const struct {
		const char *name;
		uint32_t v;
	} table[] = {
		{"block_count", (uint32_t)layers},
		{"embedding_length", TINY_EMBD},
		{"feed_forward_length", TINY_FFN},
		{"attention.head_count", TINY_HEADS},
		{"attention.head_count_kv", TINY_KV_HEADS},
		/* A window of 0 is none. */
		{"attention.sliding_window",
		 layers == TINY_GEMMA_LAYERS ? TINY_WINDOW : 0},
	};
	char key[96];

	put_pair_str(b, "general.architecture", arch);
	put_pair_str(b, "general.name", "Tiny");
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		snprintf(key, sizeof(key), "%s.%s", arch, table[i].name);
		put_pair_u32(b, key, table[i].v);
	}
	snprintf(key, sizeof(key), "%s.context_length", arch);
	put_pair_u32(b, key, (uint32_t)context);
	snprintf(key, sizeof(key), "%s.attention.layer_norm_rms_epsilon", arch);
	tiny_put_f32(b, key, 1e-5f);
	snprintf(key, sizeof(key), "%s.rope.freq_base", arch);
	tiny_put_f32(b, key, layers == TINY_GEMMA_LAYERS ? TINY_ROPE_BASE : 10000);
	put_pair_u32(b, "tokenizer.ggml.bos_token_id", TV_BOS);
	put_pair_u32(b, "tokenizer.ggml.eos_token_id", TV_IM_END);
	put_vocab_pairs(b, "gpt2", "gpt-2");
}

enum { TINY_PAIRS = 2 + 6 + 3 + 2 + VOCAB_PAIRS };

static inline bool tiny_skipped(const struct tiny_tensor *t, const struct tiny_faults *f)
{
	return f->without && strcmp(t->name, f->without) == 0;
}

static inline void tiny_put_file(const struct tiny *m, const struct tiny_faults *f,
				 struct buf *b)
{
	uint64_t at = 0, n = f->extra ? 1 : 0;
	const char *arch = f->gemma ? "gemma3" : "llama";

	for (int i = 0; i < m->n; i++)
		n += !tiny_skipped(&m->t[i], f);
	put_head(b, n, TINY_PAIRS);
	tiny_put_pairs(b, f->arch ? f->arch : arch, m->layers,
		       f->context ? f->context : TINY_CTX);
	for (int i = 0; i < m->n; i++) {
		const struct tiny_tensor *t = &m->t[i];
		bool less = f->misshaped && strcmp(t->name, f->misshaped) == 0;
		uint64_t dims[2] = {(uint64_t)t->cols, (uint64_t)(t->rows - less)};

		if (tiny_skipped(t, f))
			continue;
		put_tensor(b, t->name, dims, t->rows == 1 ? 1 : 2, QT_F32, at);
		at += (uint64_t)t->cols * (uint64_t)t->rows * 4;
	}
	if (f->extra)
		put_tensor(b, f->extra, (const uint64_t[]){32}, 1, QT_F32, 0);
	put_padding(b, 32);
	for (int i = 0; i < m->n; i++)
		if (!tiny_skipped(&m->t[i], f))
			buf_add(b, m->t[i].data,
				(size_t)m->t[i].cols * (size_t)m->t[i].rows * 4);
	b->len -= f->cut;
}

static inline struct tiny *tiny_new(const struct tiny_faults *f)
{
	static const struct tiny_faults none;
	struct tiny *m = xcalloc(1, sizeof(*m));
	struct buf b = {0};
	int fd;

	f = f ? f : &none;
	tiny_make_tensors(m, f->gemma, f->tied);
	tiny_put_file(m, f, &b);
	snprintf(m->path, sizeof(m->path), "/tmp/hob-tiny-XXXXXX");
	fd = mkstemp(m->path);
	ASSERT(fd >= 0 && write(fd, b.data, b.len) == (ssize_t)b.len);
	close(fd);
	buf_free(&b);
	return m;
}

static inline void tiny_free(struct tiny *m)
{
	unlink(m->path);
	for (int i = 0; i < m->n; i++)
		free(m->t[i].data);
	free(m);
}

#endif
