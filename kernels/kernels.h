/* What a backend computes, and the packed forms it computes on.
 *
 * A backend is one const table of functions in one file (cpu/scalar.c, cpu/avx2.c,
 * cpu/avx512.c), picked once by cpuid.  No function allocates, blocks or starts threads: the
 * caller runs them from all threads of a pool (pool.h), gives each its share (column, panel or
 * head ranges) and puts the barriers.  All buffers are 64-byte aligned.
 *
 * Names of dimensions: n = columns (tokens in the batch), cols = K (length of a dot product),
 * rows = outputs.  float x[n][cols] is row-major per token with leading dimension ld (floats). */
#ifndef HOB_KERNELS_H
#define HOB_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Types in a GGUF file, numbered as there (ggml_type in gguf specification). */
enum quant_type {
	QT_F32 = 0,
	QT_F16 = 1,
	QT_Q4_0 = 2,
	QT_Q4_1 = 3,
	QT_Q5_0 = 6,
	QT_Q8_0 = 8,
	QT_Q4_K = 12,
	QT_Q5_K = 13,
	QT_Q6_K = 14,
	QT_BF16 = 30
};

/* Packed forms.  PANEL_ROWS rows are interleaved, one vector lane a row (research/cpu.md). */
enum kmat_form {
	FORM_U4,    /* nibbles, d and m (f16) per 32 of K: Q4_0 (m = -8d), Q4_1, Q4_K */
	FORM_U8,    /* bytes, d per 32: Q8_0, Q5_0 (value + 128) */
	FORM_U8M,   /* bytes, d and m per 32: Q5_K */
	FORM_U8S16, /* bytes, d per 16: Q6_K */
	FORM_F16,   /* F16 */
	FORM_BF16,  /* BF16 */
	FORM_F32    /* F32 */
};

enum { PANEL_ROWS = 16, BLOCK_COLS = 32 };

struct kmat {
	enum kmat_form form;
	int rows,
		cols; /* logical; rows are padded with zero weights to a multiple of 2 * PANEL_ROWS */
	int panels;    /* padded rows / PANEL_ROWS, always even */
	uint8_t *data; /* borrowed: kmat_bytes() bytes, 64-byte aligned */
};

/* False when the type is unknown or cols is no multiple of its block.  Fills form, panels and *bytes;
 * data stays NULL. */
bool kmat_plan(struct kmat *m, enum quant_type type, int rows, int cols, size_t *bytes);
/* Packs rows [row0, row0 + nrows) from their file form (src_rows is row0's first byte); row0 and nrows multiples of PANEL_ROWS but for the
 * end.  Callable from several threads on disjoint rows.  Padding must be zeroed by kmat_pack_tail(). */
void kmat_pack(struct kmat *m, enum quant_type type, const void *src_rows, int row0,
	       int nrows);
void kmat_pack_tail(
	struct kmat *m); /* zeroes the padding rows; once, after or before packing */
size_t quant_row_bytes(enum quant_type type,
		       int cols);             /* 0: unknown type or a bad length */
const char *quant_name(enum quant_type type); /* "Q4_1"; NULL when unknown */
/* One row of any file type to floats: embeddings, norms, tests.  Exact by definition of the type. */
void dequantise_row(enum quant_type type, const void *src, float *dst, int cols);

/* A batch of activations as the matrix kernels want them. */
struct kacts {
	int cols, max_n;
	int8_t *q;      /* [max_n][cols] */
	float *d;       /* [max_n][cols/32] scale, per 32 */
	float *sum;     /* [max_n][cols/32] d * sum of q, for the m term */
	int32_t *off32; /* [max_n][cols/32] -128 * sum of q: weights stored + 128 */
	int32_t *off16; /* [max_n][cols/16] -32 * sum of q: weights stored + 32 */
	float *x;       /* [max_n][cols] the floats themselves, for FORM_F* */
};
size_t kacts_bytes(int cols, int max_n);
void kacts_init(struct kacts *a, void *memory, int cols,
		int max_n); /* memory borrowed, 64-byte aligned */

/* The cache of one layer of one sequence: keys and values of `capacity` positions, f16.  The inner
 * layout belongs to the backend; positions are stored in any order, one at a time. */
struct kkv {
	int capacity, kv_heads, head_dim; /* capacity a multiple of 32 */
	uint16_t *k, *v;
};
size_t kkv_bytes(int capacity, int kv_heads, int head_dim); /* of k and v each */

enum kmm_mode { KMM_STORE, KMM_ADD }; /* y = w x, or y += w x (residual) */

struct kernels {
	const char *name; /* "scalar", "avx2", "avx512" */
	bool (*supported)(void);

	/* Activations for columns [c0, c1): plain; RMS norm times weight[cols]; silu(gate) * up or
	 * gelu(gate) * up (its tanh form) where x[n] = [gate(cols)][up(cols)].  Fill every member of a
	 * that the forms may need. */
	void (*quantise)(struct kacts *a, const float *x, int ld, int c0, int c1);
	void (*norm_quantise)(struct kacts *a, const float *x, int ld,
			      const float *weight, float eps, int c0, int c1);
	void (*silu_mul_quantise)(struct kacts *a, const float *x, int ld, int c0,
				  int c1);
	void (*gelu_mul_quantise)(struct kacts *a, const float *x, int ld, int c0,
				  int c1);
	/* RMS norm of rows [r0, r1) of x[][cols] times weight, stored in y or added to it; both have
	 * leading dimension ld.  y may be x. */
	void (*norm)(float *y, const float *x, int ld, int cols, const float *weight,
		     float eps, enum kmm_mode mode, int r0, int r1);

	/* y[n][rows] (leading dimension ldy >= padded rows is NOT needed: padding rows are not written) for
	 * panels [p0, p1), both even.  n == 1 streams the packed weights; larger n opens 32 rows to bytes in
	 * scratch (kernels_scratch_bytes(cols), one per thread) and tiles 32 x 6. The result of a column does
	 * not depend on n nor on the other columns, to the bit: greedy text is the same alone and in company. */
	void (*matmul)(const struct kmat *w, const struct kacts *a, int n, float *y,
		       int ldy, enum kmm_mode mode, int p0, int p1, void *scratch);

	/* Rotates heads [h0, h1) of x[heads][head_dim] in place; the pairs are (2i, 2i+1) when interleaved
	 * (llama), (i, i + rot/2) when not (neox).  cs[rot/2][2] holds cos, sin of this position. */
	void (*rope)(float *x, int head_dim, int rot, const float *cs, bool interleaved,
		     int h0, int h1);
	void (*kv_store)(const struct kkv *kv, int pos, const float *k, const float *v,
			 int kvh0, int kvh1);
	/* Causal attention: queries q[nq][heads][head_dim] (ld floats apart) at positions pos0..pos0+nq-1 of
	 * one sequence, heads [h0, h1), over keys 0..own position, or the last `window` of these when it
	 * is not 0.  out has q's shape.  A query's result does not depend on nq.
	 * scratch: kernels_attn_scratch_bytes(capacity). */
	void (*attention)(const struct kkv *kv, const float *q, float *out, int ld,
			  int nq, int pos0, int heads, int h0, int h1, float scale,
			  int window, void *scratch);

	int (*argmax)(const float *x, int n); /* lowest index wins a tie */
};

size_t kernels_scratch_bytes(int cols);
size_t kernels_attn_scratch_bytes(int capacity, int head_dim);

/* "auto" or a table's name; NULL when unknown or not supported by this CPU. */
const struct kernels *kernels_by_name(const char *name);
const struct kernels *const *
kernels_all(int *n); /* supported ones, scalar first, best last */

extern const struct kernels kernels_scalar, kernels_avx2, kernels_avx512;

#endif
