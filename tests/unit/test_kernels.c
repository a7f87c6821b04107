/* All backends this CPU supports against definitions in double, and against themselves: a
 * column's or a query's result must not depend on its company, to the bit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/half.h"
#include "kernels/kernels.h"

enum { MAX_N = 60, POISON = 0x7fc0dead };

static const enum quant_type types[] = {QT_F32,  QT_F16,  QT_BF16, QT_Q4_0, QT_Q4_1,
					QT_Q5_0, QT_Q8_0, QT_Q4_K, QT_Q5_K, QT_Q6_K};
enum { TYPES = sizeof(types) / sizeof(types[0]) };

static uint32_t random_u32(uint64_t *s)
{
	*s ^= *s << 13, *s ^= *s >> 7, *s ^= *s << 17;
	return (uint32_t)(*s >> 24);
}

static float random_f32(uint64_t *s) /* -1..1 */
{
	return (float)(random_u32(s) % 20001) / 10000 - 1;
}

static void *aligned(size_t bytes)
{
	void *p = aligned_alloc(64, (bytes + 127) / 64 * 64);

	assert_non_null(p);
	return p;
}

static float *random_floats(size_t n, uint64_t *s)
{
	float *x = aligned(n * 4);

	for (size_t i = 0; i < n; i++)
		x[i] = random_f32(s);
	return x;
}

static void put_f16(uint8_t *at, float f)
{
	uint16_t h = f32_to_f16(f);

	memcpy(at, &h, 2);
}

/* Where the f16 scales of a block lie; everything else may be any byte. */
static const struct {
	enum quant_type type;
	int cols, bytes, scale[2];
} blocks[] = {
	{QT_Q4_0, 32, 18, {0, -1}},     {QT_Q4_1, 32, 20, {0, 2}},
	{QT_Q5_0, 32, 22, {0, -1}},     {QT_Q8_0, 32, 34, {0, -1}},
	{QT_Q4_K, 256, 144, {0, 2}},    {QT_Q5_K, 256, 176, {0, 2}},
	{QT_Q6_K, 256, 210, {208, -1}},
};

static uint8_t *random_file(enum quant_type type, int rows, int cols, uint64_t *s)
{
	size_t bytes = quant_row_bytes(type, cols) * (size_t)rows;
	uint8_t *file = aligned(bytes);

	assert_true(bytes > 0);
	for (size_t i = 0; i < bytes; i++)
		file[i] = (uint8_t)random_u32(s);
	if (type == QT_F32)
		for (size_t i = 0; i < bytes; i += 4) {
			float f = random_f32(s);

			memcpy(file + i, &f, 4);
		}
	if (type == QT_F16 || type == QT_BF16)
		for (size_t i = 0; i < bytes; i += 2) {
			uint32_t top = f32_to_bits(random_f32(s)) >> 16;
			uint16_t h = type == QT_F16 ? f32_to_f16(random_f32(s))
						    : (uint16_t)top;

			memcpy(file + i, &h, 2);
		}
	for (size_t t = 0; t < sizeof(blocks) / sizeof(blocks[0]); t++)
		if (blocks[t].type == type)
			for (size_t i = 0; i < bytes; i += (size_t)blocks[t].bytes)
				for (int j = 0; j < 2; j++)
					if (blocks[t].scale[j] >= 0)
						put_f16(file + i + blocks[t].scale[j],
							random_f32(s) / 50);
	return file;
}

static struct kmat packed(enum quant_type type, const uint8_t *file, int rows, int cols)
{
	size_t bytes, row = quant_row_bytes(type, cols);
	struct kmat m;
	int half = rows / 2 / PANEL_ROWS * PANEL_ROWS;

	assert_true(kmat_plan(&m, type, rows, cols, &bytes));
	assert_int_equal(m.panels % 2, 0);
	assert_null(m.data);
	m.data = aligned(bytes);
	memset(m.data, 0xff, bytes); /* NaN wherever packing forgets something */
	kmat_pack_tail(&m);
	kmat_pack(&m, type, file + (size_t)half * row, half, rows - half);
	kmat_pack(&m, type, file, 0, half);
	return m;
}

static struct kacts new_acts(int cols, int n)
{
	struct kacts a;

	kacts_init(&a, aligned(kacts_bytes(cols, n)), cols, n);
	return a;
}

/* What the activations stand for: the floats, or for quantised weights d * q. */
static double activation(const struct kacts *a, bool floats, int c, int k)
{
	size_t i = (size_t)c * (size_t)a->cols + (size_t)k;

	return floats ? (double)a->x[i] : (double)a->d[i / 32] * a->q[i];
}

static void check_matmul(const struct kernels *be, enum quant_type type, int rows,
			 int cols, int n)
{
	uint64_t seed = 88172645463325252u + (uint64_t)(rows * 31 + cols);
	bool floats = type == QT_F32 || type == QT_F16 || type == QT_BF16;
	uint8_t *file = random_file(type, rows, cols, &seed);
	struct kmat w = packed(type, file, rows, cols);
	struct kacts a = new_acts(cols, n);
	float *x = random_floats((size_t)n * (size_t)cols, &seed),
	      *row = aligned((size_t)cols * 4);
	int ldy = rows + 3;
	size_t count = (size_t)n * (size_t)ldy;
	float *y = aligned(count * 4);
	void *scratch = aligned(kernels_scratch_bytes(cols));

	for (size_t i = 0; i < count; i++)
		y[i] = bits_to_f32(POISON);
	be->quantise(&a, x, cols, 0, n);
	be->matmul(&w, &a, n, y, ldy, KMM_STORE, 0, w.panels, scratch);
	for (int r = 0; r < rows; r++) {
		dequantise_row(type, file + quant_row_bytes(type, cols) * (size_t)r, row,
			       cols);
		for (int c = 0; c<n; c += n> 13 ? 7 : 1) {
			double sum = 0, size = 0, got = (double)y[c * ldy + r];

			for (int k = 0; k < cols; k++) {
				double term =
					(double)row[k] * activation(&a, floats, c, k);

				sum += term;
				size += fabs(term);
			}
			/* K-quants round a scale to f16 when packed: 2^-11 of a term */
			if (!(fabs(got - sum) <
			      size * (type >= QT_Q4_K && !floats ? 5e-4 : 3e-6)))
				fail_msg("%s %s %dx%d n=%d: y[%d][%d] = %g, want %g",
					 be->name, quant_name(type), rows, cols, n, c, r,
					 got, sum);
		}
	}
	for (int c = 0; c < n; c++) /* padding rows are nobody's */
		for (int r = rows; r < ldy; r++)
			assert_int_equal(f32_to_bits(y[c * ldy + r]), POISON);
	free(file), free(w.data), free(a.x), free(x), free(row), free(y), free(scratch);
}

static const struct kernels *const *backends(int *n)
{
	const struct kernels *const *all = kernels_all(n);

	assert_in_range(*n, 1, 3);
	assert_string_equal(all[0]->name, "scalar");
	return all;
}

static void matmul_agrees_with_the_dequantised_rows(void **state)
{
	static const int ns[] = {1, 2, 3, 5, 6, 7, 13, 60};
	static const struct {
		int rows, cols;
	} shapes[] = {{32, 256},  {37, 512}, {48, 2048}, {1, 256},
		      {96, 1536}, {33, 576}, {70, 96}};
	int nb;
	const struct kernels *const *all = backends(&nb);

	(void)state;
	for (int b = 0; b < nb; b++)
		for (int t = 0; t < TYPES; t++)
			for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++) {
				int n = ns[(s + (size_t)t) % 8];

				if (quant_row_bytes(types[t], shapes[s].cols) == 0)
					continue;
				check_matmul(all[b], types[t], shapes[s].rows,
					     shapes[s].cols, n);
			}
	for (int b = 0; b < nb; b++)
		for (int t = 0; t < TYPES; t++)
			for (int i = 0; i < 8; i++)
				check_matmul(all[b], types[t], 37, 256, ns[i]);
	for (int b = 0; b < nb; b++) /* float weights take any length */
		for (int t = 0; t < 3; t++)
			check_matmul(all[b], types[t], 35, 77, 7);
}

/* All ways to compute each column: alone, in any batch; in two shares of panels; added to
 * zero. */
static void check_company(const struct kernels *be, enum quant_type type, int rows,
			  int cols)
{
	uint64_t seed = 1234567 + (uint64_t)type;
	uint8_t *file = random_file(type, rows, cols, &seed);
	struct kmat w = packed(type, file, rows, cols);
	struct kacts all = new_acts(cols, MAX_N), one = new_acts(cols, 1);
	float *x = random_floats((size_t)MAX_N * (size_t)cols, &seed);
	float *alone = aligned((size_t)MAX_N * (size_t)rows * 4);
	float *y = aligned((size_t)MAX_N * (size_t)rows * 4);
	void *scratch = aligned(kernels_scratch_bytes(cols));

	for (int c = 0; c < MAX_N; c++) {
		be->quantise(&one, x + c * cols, cols, 0, 1);
		be->matmul(&w, &one, 1, alone + c * rows, rows, KMM_STORE, 0, w.panels,
			   scratch);
	}
	be->quantise(&all, x, cols, 0, 17);
	be->quantise(&all, x, cols, 17, MAX_N);
	for (int n = 1; n <= MAX_N; n += n < 14 ? 1 : 23) {
		size_t bytes = (size_t)n * (size_t)rows * 4;

		be->matmul(&w, &all, n, y, rows, KMM_STORE, 0, 2, scratch);
		be->matmul(&w, &all, n, y, rows, KMM_STORE, 2, w.panels, scratch);
		assert_memory_equal(y, alone, bytes);
		for (size_t i = 0; i < bytes / 4; i++)
			y[i] = 3;
		be->matmul(&w, &all, n, y, rows, KMM_ADD, 0, w.panels, scratch);
		for (size_t i = 0; i < bytes / 4; i++)
			assert_true(f32_to_bits(y[i]) == f32_to_bits(3 + alone[i]));
	}
	free(file), free(w.data), free(all.x), free(one.x);
	free(x), free(alone), free(y), free(scratch);
}

static void a_column_is_the_same_to_the_bit_in_any_company(void **state)
{
	int nb;
	const struct kernels *const *all = backends(&nb);

	(void)state;
	for (int b = 0; b < nb; b++)
		for (int t = 0; t < TYPES; t++)
			check_company(all[b], types[t], 77, 512);
}

/* The file's largest weights against the largest activations: 16-bit sums must not
 * saturate. */
static void extreme_weights_do_not_saturate(void **state)
{
	static const uint8_t fill[] = {0xff, 0x80, 0x7f, 0x00};
	int nb;
	const struct kernels *const *all = backends(&nb);

	(void)state;
	for (int i = 0; i < TYPES * 4; i++) {
		enum quant_type type = types[i / 4];
		size_t bytes = quant_row_bytes(type, 256) * 32;
		uint8_t *file = aligned(bytes);
		float x[256], row[256], y[32];
		void *scratch = aligned(kernels_scratch_bytes(256));
		struct kacts a = new_acts(256, 1);
		struct kmat w;
		double want = 0;

		if (type == QT_F32 || type == QT_F16 || type == QT_BF16)
			memset(file, 0, bytes);
		else
			memset(file, fill[i % 4], bytes);
		for (size_t t = 0; t < sizeof(blocks) / sizeof(blocks[0]); t++)
			for (size_t at = 0; at < bytes && blocks[t].type == type;
			     at += (size_t)blocks[t].bytes)
				for (int j = 0; j < 2; j++)
					if (blocks[t].scale[j] >= 0)
						put_f16(file + at + blocks[t].scale[j],
							1);
		w = packed(type, file, 32, 256);
		dequantise_row(type, file, row, 256);
		for (int k = 0; k < 256; k++) {
			x[k] = row[k] < 0 ? -1 : 1;
			want += (double)fabsf(row[k]);
		}
		for (int b = 0; b < nb; b++) {
			all[b]->quantise(&a, x, 256, 0, 1);
			all[b]->matmul(&w, &a, 1, y, 32, KMM_STORE, 0, 2, scratch);
			assert_true(fabs((double)y[31] - want) <= want * 1e-3);
		}
		free(file), free(w.data), free(a.x), free(scratch);
	}
}

static void check_acts(const struct kernels *be, const struct kacts *a,
		       const double *want, int c)
{
	for (int b = 0; b < a->cols / 32; b++) {
		size_t i = (size_t)c * (size_t)(a->cols / 32) + (size_t)b;
		double max = 0;
		int sum[2] = {0, 0};

		for (int k = 0; k < 32; k++) {
			max = fmax(max, fabs(want[b * 32 + k]));
			sum[k / 16] += a->q[i * 32 + (size_t)k];
		}
		for (int k = 0; k < 32; k++) {
			double v = want[b * 32 + k];
			double x = (double)a->x[(size_t)c * (size_t)a->cols +
						(size_t)(b * 32 + k)];

			assert_true(fabs(x - v) <= 2e-6 * fmax(fabs(v), 1e-30));
			if (!(fabs(activation(a, false, c, b * 32 + k) - v) <=
			      max / 127 * 0.501))
				fail_msg("%s: %g became %g (max %g)", be->name, v,
					 activation(a, false, c, b * 32 + k), max);
			assert_in_range(a->q[i * 32 + (size_t)k] + 127, 0, 254);
		}
		assert_true(fabs((double)a->sum[i] -
				 (double)a->d[i] * (sum[0] + sum[1])) <= 1e-5 * max);
		assert_int_equal(a->off32[i], -128 * (sum[0] + sum[1]));
		assert_int_equal(a->off16[2 * i], -32 * sum[0]);
		assert_int_equal(a->off16[2 * i + 1], -32 * sum[1]);
	}
}

static void activations_are_normed_gated_and_quantised(void **state)
{
	enum { COLS = 576, N = 3, LD = 2 * COLS + 5 };
	uint64_t seed = 99;
	float *x = random_floats(N * LD, &seed), *weight = random_floats(COLS, &seed);
	struct kacts a = new_acts(COLS, N);
	double want[COLS], squares;
	int nb;
	const struct kernels *const *all = backends(&nb);

	(void)state;
	memset(x + LD, 0, 32 * 4); /* a block of zeros */
	x[2 * LD + 7] = -200;
	x[2 * LD + 8] = 200;
	for (int b = 0; b < nb; b++)
		for (int c = 0; c < N; c++) {
			const float *v = x + c * LD;

			all[b]->quantise(&a, x, LD, c, N);
			for (int k = 0; k < COLS; k++)
				want[k] = (double)v[k];
			check_acts(all[b], &a, want, c);

			all[b]->norm_quantise(&a, x, LD, weight, 1e-5f, c, c + 1);
			squares = 0;
			for (int k = 0; k < COLS; k++)
				squares += (double)v[k] * (double)v[k];
			for (int k = 0; k < COLS; k++)
				want[k] = (double)v[k] /
					  sqrt(squares / COLS + (double)1e-5f) *
					  (double)weight[k];
			check_acts(all[b], &a, want, c);

			all[b]->silu_mul_quantise(&a, x, LD, 0, c + 1);
			for (int k = 0; k < COLS; k++) {
				double g = fmax((double)v[k],
						-87); /* fast exp stops there */

				want[k] = (double)v[k] / (1 + exp(-g)) *
					  (double)v[COLS + k];
			}
			check_acts(all[b], &a, want, c);

			all[b]->gelu_mul_quantise(&a, x, LD, 0, c + 1);
			for (int k = 0; k < COLS; k++) {
				double g = (double)v[k];
				double z = 0.7978845608 * (g + 0.044715 * g * g * g);

				want[k] = 0.5 * g * (1 + tanh(z)) * (double)v[COLS + k];
			}
			check_acts(all[b], &a, want, c);
		}
	free(x), free(weight), free(a.x);
}

static void rows_are_normed_in_place_and_onto_others(void **state)
{
	enum { COLS = 84, N = 3, LD = COLS + 4 };
	uint64_t seed = 17;
	float *x = random_floats(N * LD, &seed), *weight = random_floats(COLS, &seed);
	float *y = random_floats(N * LD, &seed), stored[N * LD], added[N * LD];
	int nb;
	const struct kernels *const *all = backends(&nb);

	(void)state;
	for (int b = 0; b < nb; b++) {
		memcpy(stored, x, sizeof(stored));
		memcpy(added, y, sizeof(added));
		all[b]->norm(stored, stored, LD, COLS, weight, 1e-6f, KMM_STORE, 1, N);
		all[b]->norm(added, x, LD, COLS, weight, 1e-6f, KMM_ADD, 1, N);
		for (int i = 0; i < N * LD; i++) {
			int row = i / LD, k = i % LD;
			double squares = 0, want = 0;

			for (int j = 0; j < COLS; j++)
				squares += pow((double)x[row * LD + j], 2);
			if (row && k < COLS)
				want = (double)x[i] / sqrt(squares / COLS + 1e-6) *
				       (double)weight[k];
			else /* the first row and what lies between rows are not ours */
				assert_true(stored[i] == x[i] && added[i] == y[i]);
			if (row && k < COLS)
				assert_true(fabs((double)stored[i] - want) < 1e-5);
			assert_true(fabs((double)added[i] - (double)y[i] - want) < 1e-5);
		}
	}
	free(x), free(weight), free(y);
}

static void rope_turns_pairs_and_leaves_the_rest(void **state)
{
	enum { DIM = 128, HEADS = 3 };
	static const int rots[] = {128, 64, 80, 24, 6};
	int nb;
	const struct kernels *const *all = backends(&nb);

	(void)state;
	for (int i = 0; i < nb * 10; i++) {
		uint64_t seed = 5;
		int rot = rots[i / 2 % 5], inter = i % 2;
		float *x = random_floats(DIM * HEADS, &seed), cs[DIM];
		float *y = random_floats(DIM * HEADS, &seed);

		for (int j = 0; j < rot / 2; j++) {
			cs[2 * j] = cosf((float)j * .37f);
			cs[2 * j + 1] = sinf((float)j * .37f);
		}
		memcpy(y, x, DIM * HEADS * 4);
		all[i / 10]->rope(y, DIM, rot, cs, inter, 1, 2);
		for (int k = 0; k < DIM * HEADS; k++) {
			int d = k - DIM, pair = inter ? d / 2 : d % (rot / 2);
			bool second = inter ? d % 2 : d >= rot / 2;
			int mate = inter ? k ^ 1 : second ? k - rot / 2 : k + rot / 2;
			double c, s, want;

			if (d < 0 || d >= rot) {
				assert_true(x[k] == y[k]);
				continue;
			}
			c = (double)cs[2 * pair], s = (double)cs[2 * pair + 1];
			want = (double)x[k] * c + (double)x[mate] * (second ? s : -s);
			assert_true(fabs(want - (double)y[k]) < 1e-6);
		}
		free(x), free(y);
	}
}

struct cache {
	struct kkv kv;
	float *k, *v; /* [pos][kv_heads][head_dim], what was stored */
};

static struct cache filled(const struct kernels *be, int capacity, int used, int heads,
			   int dim)
{
	struct cache c = {.kv = {capacity, heads, dim, NULL, NULL}};
	size_t bytes = kkv_bytes(capacity, heads, dim), row = (size_t)heads * (size_t)dim;
	uint64_t seed = 77;

	c.kv.k = aligned(bytes);
	c.kv.v = aligned(bytes);
	memset(c.kv.k, 0xff, bytes); /* NaN: keys never stored must not count */
	memset(c.kv.v, 0xff, bytes);
	c.k = random_floats((size_t)used * row, &seed);
	c.v = random_floats((size_t)used * row, &seed);
	for (int p = used - 1; p >= 0; p--) {
		size_t at = (size_t)p * row;

		be->kv_store(&c.kv, p, c.k + at, c.v + at, 0, 1);
		be->kv_store(&c.kv, p, c.k + at, c.v + at, 1, heads);
	}
	return c;
}

static void naive_attention(const struct cache *c, const float *q, int kvh, int first,
			    int keys, double scale, double *out)
{
	int dim = c->kv.head_dim;
	double sum = 0;

	memset(out, 0, (size_t)dim * sizeof(*out));
	for (int t = first; t < keys; t++) {
		size_t at =
			((size_t)t * (size_t)c->kv.kv_heads + (size_t)kvh) * (size_t)dim;
		double score = 0;

		for (int i = 0; i < dim; i++)
			score += (double)q[i] * (double)c->k[at + (size_t)i];
		sum += exp(score * scale);
		for (int i = 0; i < dim; i++)
			out[i] += exp(score * scale) * (double)c->v[at + (size_t)i];
	}
	for (int i = 0; i < dim; i++)
		out[i] /= sum;
}

static void check_attention(const struct kernels *be, int heads, int kv_heads, int dim,
			    int pos0, int nq, int window)
{
	int used = pos0 + nq, ld = heads * dim + 7;
	struct cache c = filled(be, (used + 31) / 32 * 32, used, kv_heads, dim);
	uint64_t seed = 3;
	float *q = random_floats((size_t)nq * (size_t)ld, &seed),
	      scale = 3 / sqrtf((float)dim);
	float *out = aligned((size_t)nq * (size_t)ld * 4),
	      *alone = aligned((size_t)ld * 4);
	void *scratch = aligned(kernels_attn_scratch_bytes(c.kv.capacity, dim));
	double want[256];

	be->attention(&c.kv, q, out, ld, nq, pos0, heads, 0, heads / 2, scale, window,
		      scratch);
	be->attention(&c.kv, q, out, ld, nq, pos0, heads, heads / 2, heads, scale, window,
		      scratch);
	for (int i = 0; i < nq; i++) {
		be->attention(&c.kv, q + i * ld, alone, ld, 1, pos0 + i, heads, 0, heads,
			      scale, window, scratch);
		assert_memory_equal(alone, out + i * ld, (size_t)heads * (size_t)dim * 4);
		for (int h = 0; h < heads; h++) {
			const float *got = out + i * ld + h * dim;

			naive_attention(&c, q + i * ld + h * dim, h / (heads / kv_heads),
					window && pos0 + i + 1 > window
						? pos0 + i + 1 - window
						: 0,
					pos0 + i + 1, (double)scale, want);
			for (int k = 0; k < dim; k++) /* f16 keys and values: 2^-11 */
				if (!(fabs((double)got[k] - want[k]) < 3e-3))
					fail_msg("%s %d/%d x %d, query %d of %d at %d: "
						 "%g, want %g",
						 be->name, heads, kv_heads, dim, i, nq,
						 pos0, (double)got[k], want[k]);
		}
	}
	free(c.kv.k), free(c.kv.v), free(c.k), free(c.v);
	free(q), free(out), free(alone), free(scratch);
}

static void attention_agrees_with_the_definition_and_ignores_company(void **state)
{
	int nb;
	const struct kernels *const *all = backends(&nb);

	(void)state;
	for (int b = 0; b < nb; b++) {
		check_attention(all[b], 9, 3, 64, 0, 1, 0);
		check_attention(all[b], 9, 3, 64, 0, 40, 0);
		check_attention(all[b], 9, 3, 64, 95, 3, 0);
		check_attention(all[b], 9, 3, 64, 255, 1, 0);
		check_attention(all[b], 8, 2, 128, 61, 9, 0);
		check_attention(all[b], 4, 4, 80, 30, 70, 0);
		check_attention(all[b], 4, 2, 256, 5, 6, 0);
		check_attention(all[b], 14, 2, 24, 15, 5, 0);
	}
}

/* Windows that begin inside a vector, at its edge, in another group of keys than the next query's. */
static void a_window_hides_what_lies_before_it(void **state)
{
	int nb;
	const struct kernels *const *all = backends(&nb);

	(void)state;
	for (int b = 0; b < nb; b++) {
		check_attention(all[b], 4, 1, 256, 0, 30, 16);
		check_attention(all[b], 4, 1, 256, 120, 20, 64);
		check_attention(all[b], 9, 3, 64, 300, 2, 1);
		check_attention(all[b], 4, 2, 80, 50, 40, 33);
		check_attention(all[b], 4, 1, 256, 600, 9, 512);
		check_attention(all[b], 2, 2, 16, 20, 30, 1000);
	}
}

static void argmax_takes_the_lowest_of_equals(void **state)
{
	int nb;
	const struct kernels *const *all = backends(&nb);
	float x[1000];

	(void)state;
	for (int b = 0; b < nb; b++)
		for (int n = 1; n <= 1000; n += n < 70 ? 1 : 93)
			for (int first = 0; first < n; first += n < 70 ? 1 : 31) {
				for (int i = 0; i < 1000; i++)
					x[i] = i < n ? -5 - (float)(i % 7) : 100;
				x[first] = -1;
				x[n - 1] = -1;
				x[first + (n - first) / 2] = -1;
				assert_int_equal(all[b]->argmax(x, n), first);
			}
}

/* Values worked out by hand from the formats' definitions. */
static void k_quant_scales_and_values_follow_the_format(void **state)
{
	uint8_t b[144] = {0}, six[210] = {0}, five[176] = {0};
	float row[256];

	(void)state;
	put_f16(b, 2);       /* d */
	put_f16(b + 2, .5f); /* dmin */
	b[4] = 0xc0 | 3;     /* scale[0] = 3, top of scale[4] */
	b[8] = 0x40 | 5;     /* min[0] = 5, top of min[4] */
	b[12] = 0x21;        /* low bits: scale[4] = 1, min[4] = 2 */
	b[16] = 0xa7;        /* run 0: 7, run 1: 10 */
	b[16 + 64] = 0x09;   /* run 4: 9 */
	dequantise_row(QT_Q4_K, b, row, 256);
	assert_true(row[0] == 2 * 3 * 7 - .5f * 5);
	assert_true(row[32] == 0); /* scale[1] and min[1] are 0 */
	assert_true(row[128] == 2 * (1 + 48) * 9 - .5f * (2 + 16));

	memcpy(five, b, 16);
	five[16] = 0x11;      /* fifth bit of weight 0 of runs 0 and 4 */
	five[48] = 0x07;      /* run 0: 7 + 16 */
	five[48 + 64] = 0x09; /* run 4: 9 + 16 */
	dequantise_row(QT_Q5_K, five, row, 256);
	assert_true(row[0] == 2 * 3 * 23 - .5f * 5);
	assert_true(row[128] == 2 * 49 * 25 - .5f * 18);

	put_f16(six + 208, .25f);
	six[192 + 0] = 7;            /* weights 0..15 */
	six[192 + 15] = (uint8_t)-3; /* weights 240..255 */
	six[0] = 0x05;
	six[128] = 0x02; /* weight 0: 5 + 32 */
	six[64 + 63] = 0xb0;
	six[128 + 63] = 0x40; /* weight 255: 11 + 16 */
	dequantise_row(QT_Q6_K, six, row, 256);
	assert_true(row[0] == .25f * 7 * (37 - 32));
	assert_true(row[255] == .25f * -3 * (27 - 32));
}

static void small_quants_follow_the_format(void **state)
{
	uint8_t four[20] = {0}, five[22] = {0}, eight[34] = {0};
	float row[32];

	(void)state;
	put_f16(four, .5f);
	four[2] = 0x3f;
	dequantise_row(QT_Q4_0, four, row, 32);
	assert_true(row[0] == 3.5f && row[16] == -2.5f && row[1] == -4);
	put_f16(four + 2, -1);
	four[4] = 0x3f;
	dequantise_row(QT_Q4_1, four, row, 32);
	assert_true(row[0] == 6.5f && row[16] == .5f && row[1] == -1);
	put_f16(five, 2);
	five[2] = 0x01;
	five[4] = 0x02; /* weight 17 */
	five[6] = 0x03;
	five[7] = 0x40;
	dequantise_row(QT_Q5_0, five, row, 32);
	assert_true(row[0] == 2 * 3 && row[17] == 2 * 4 && row[16] == -32 &&
		    row[2] == -32);
	put_f16(eight, -.5f);
	eight[2] = 0x80;
	eight[33] = 0x7f;
	dequantise_row(QT_Q8_0, eight, row, 32);
	assert_true(row[0] == 64 && row[31] == -63.5f && row[1] == 0);
}

static void halves_round_to_nearest_even_and_survive_the_round_trip(void **state)
{
	(void)state;
	for (uint32_t h = 0; h < 0x10000; h++)
		if ((h & 0x7fff) <= 0x7c00)
			assert_int_equal(f32_to_f16(f16_to_f32((uint16_t)h)), h);
		else
			assert_true(isnan(f16_to_f32((uint16_t)h)));
	assert_int_equal(f32_to_f16(1 + 0x1p-11f), 0x3c00);
	assert_int_equal(f32_to_f16(1 + 0x3p-11f), 0x3c02);
	assert_int_equal(f32_to_f16(65519), 0x7bff);
	assert_int_equal(f32_to_f16(65520), 0x7c00);
	assert_int_equal(f32_to_f16(0x1p-25f), 0);
	assert_int_equal(f32_to_f16(0x1.8p-25f), 1);
	assert_int_equal(f32_to_f16(-NAN) & 0x7e00, 0x7e00);
}

static void bad_plans_are_refused(void **state)
{
	struct kmat m;
	size_t bytes;

	(void)state;
	assert_false(kmat_plan(&m, (enum quant_type)7, 32, 256, &bytes));
	assert_false(kmat_plan(&m, QT_Q4_0, 32, 40, &bytes));
	assert_false(kmat_plan(&m, QT_Q4_K, 32, 576, &bytes));
	assert_false(kmat_plan(&m, QT_F32, 0, 32, &bytes));
	assert_false(kmat_plan(&m, QT_F32, 32, -32, &bytes));
	assert_int_equal(quant_row_bytes((enum quant_type)1000, 32), 0);
	assert_int_equal(quant_row_bytes(QT_Q4_1, 576), 360);
	assert_null(quant_name((enum quant_type)5));
	assert_string_equal(quant_name(QT_Q4_K), "Q4_K");
}

static void backends_are_found_by_name(void **state)
{
	int n;
	const struct kernels *const *all = backends(&n);

	(void)state;
	assert_ptr_equal(kernels_by_name("auto"), all[n - 1]);
	assert_ptr_equal(kernels_by_name("scalar"), &kernels_scalar);
	assert_null(kernels_by_name("abacus"));
	for (int i = 0; i < n; i++)
		printf("testing backend %s\n", all[i]->name);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(backends_are_found_by_name),
		cmocka_unit_test(halves_round_to_nearest_even_and_survive_the_round_trip),
		cmocka_unit_test(small_quants_follow_the_format),
		cmocka_unit_test(k_quant_scales_and_values_follow_the_format),
		cmocka_unit_test(bad_plans_are_refused),
		cmocka_unit_test(matmul_agrees_with_the_dequantised_rows),
		cmocka_unit_test(a_column_is_the_same_to_the_bit_in_any_company),
		cmocka_unit_test(extreme_weights_do_not_saturate),
		cmocka_unit_test(activations_are_normed_gated_and_quantised),
		cmocka_unit_test(rows_are_normed_in_place_and_onto_others),
		cmocka_unit_test(rope_turns_pairs_and_leaves_the_rest),
		cmocka_unit_test(
			attention_agrees_with_the_definition_and_ignores_company),
		cmocka_unit_test(a_window_hides_what_lies_before_it),
		cmocka_unit_test(argmax_takes_the_lowest_of_equals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
