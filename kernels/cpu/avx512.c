/* The AVX-512 VNNI backend: matrices, activations.  Attention is in avx512_attn.h.  Any
 * thread.
 *
 * One zmm lane is one row: vpdpbusd with four broadcast activations advances sixteen dot
 * products and no horizontal sum is ever needed.  32 rows x 6 columns are 12 integer and
 * 12 float accumulators, which with weights and temporaries fill the 32 registers.  Every
 * column count from 1 to 6 is an instance of the same inlined tile, so each column sees
 * the same float operations in the same order whatever its company: integer sums are
 * exact, and per block comes one FMA for the scale and one for the offset.  Whoever
 * changes the order in one place changes it in all. */
#include "kernels/kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include "kernels/half.h"
#include "kernels/layout.h"

static bool avx512_supported(void)
{
	return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
	       __builtin_cpu_supports("avx512vl") &&
	       __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("f16c") &&
	       __builtin_cpu_supports("fma");
}

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512vnni,f16c,fma,avx2")

#define INLINE static inline __attribute__((always_inline))
/* On every loop over accumulators: one loop left rolled sends the array to the stack. */
#define UNROLL _Pragma("GCC unroll 16")

enum { TILE_COLS = 6, PAIR = 2 };

INLINE __m512 load_f16(const void *p)
{
	return _mm512_cvtph_ps(_mm256_load_si256(p));
}

INLINE __m512i broadcast4(const int8_t *p)
{
	int32_t four;

	memcpy(&four, p, 4);
	return _mm512_set1_epi32(four);
}

INLINE __mmask16 tail_mask(int left)
{
	return left >= 16 ? 0xffff : left <= 0 ? 0 : (__mmask16)((1u << left) - 1);
}

/* exp by 2^n * p(r), |r| <= ln 2 / 2; relative error about 2e-7, clamped to normal
 * results. */
INLINE __m512 exp_ps(__m512 x)
{
	__m512 n, r, p;

	x = _mm512_min_ps(_mm512_max_ps(x, _mm512_set1_ps(-87.3f)),
			  _mm512_set1_ps(88.3f));
	n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(0x1.715476p0f)),
				 _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
	r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.62ep-1f), x); /* ln 2 in two parts */
	r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.0bfbe8p-15f), r);
	p = _mm512_set1_ps(1 / 720.f);
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1 / 120.f));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1 / 24.f));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1 / 6.f));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(.5f));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1));
	return _mm512_scalef_ps(p, n);
}

/* 1 / x to within a rounding or two, at a third of a division's cost. */
INLINE __m512 reciprocal(__m512 x)
{
	__m512 r = _mm512_rcp14_ps(x);

	return _mm512_mul_ps(r, _mm512_fnmadd_ps(x, r, _mm512_set1_ps(2)));
}

/* ---- matrices ---- */

enum kind {
	NIBBLES, /* FORM_U4 as packed */
	BYTES_M, /* FORM_U8M, and FORM_U4 opened to bytes */
	BYTES,   /* FORM_U8 */
	BYTES_16 /* FORM_U8S16 */
};

struct pair { /* two panels, 32 rows */
	const uint8_t *q[PAIR], *d[PAIR];
	size_t q_step, d_step; /* bytes from tile to tile */
};

struct out { /* where 32 rows of the first column go */
	float *y;
	size_t ld;
	__mmask16 keep[PAIR]; /* padding rows are not written */
	bool add;
};

/* Lines [line, line + lines) of bytes of np panels into the integer accumulators
 * a[column][panel]. */
INLINE void dots(__m512i a[][PAIR], const uint8_t *const q[PAIR], size_t at,
		 const int8_t *x, size_t k, const int np, const int nc, const int line,
		 const int lines)
{
	UNROLL
	for (int j = line; j < line + lines; j++) {
		__m512i w[PAIR];

		UNROLL
		for (int h = 0; h < np; h++)
			w[h] = _mm512_load_si512(q[h] + at + j * LINE_BYTES);
		UNROLL
		for (int c = 0; c < nc; c++) {
			__m512i four = broadcast4(x + (size_t)c * k + 4 * j);

			UNROLL
			for (int h = 0; h < np; h++)
				a[c][h] = _mm512_dpbusd_epi32(a[c][h], w[h], four);
		}
	}
}

INLINE void dots_nibbles(__m512i a[][PAIR], const uint8_t *const q[PAIR], size_t at,
			 const int8_t *x, size_t k, const int np, const int nc)
{
	const __m512i low = _mm512_set1_epi8(15);

	UNROLL
	for (int j = 0; j < 4; j++) {
		__m512i w[PAIR], v[PAIR];

		UNROLL
		for (int h = 0; h < np; h++) {
			w[h] = _mm512_load_si512(q[h] + at + j * LINE_BYTES);
			v[h] = _mm512_and_si512(_mm512_srli_epi16(w[h], 4), low);
			w[h] = _mm512_and_si512(w[h], low);
		}
		UNROLL
		for (int c = 0; c < nc; c++) {
			__m512i four = broadcast4(x + (size_t)c * k + 4 * j);
			__m512i high = broadcast4(x + (size_t)c * k + 16 + 4 * j);

			UNROLL
			for (int h = 0; h < np; h++) {
				a[c][h] = _mm512_dpbusd_epi32(a[c][h], w[h], four);
				a[c][h] = _mm512_dpbusd_epi32(a[c][h], v[h], high);
			}
		}
	}
}

INLINE void start(__m512i a[][PAIR], const int32_t *off, size_t step, const int nc)
{
	UNROLL
	for (int c = 0; c < nc; c++)
		a[c][0] = a[c][1] = off ? _mm512_set1_epi32(off[(size_t)c * step])
					: _mm512_setzero_si512();
}

/* f += d * dx * dot; d is loaded after the dots, registers are scarce before. */
INLINE void scale(__m512 f[][PAIR], __m512i a[][PAIR], const uint8_t *const d[PAIR],
		  size_t at, const float *dx, size_t step, const int np, const int nc)
{
	__m512 dw[PAIR];

	UNROLL
	for (int h = 0; h < np; h++)
		dw[h] = load_f16(d[h] + at);
	UNROLL
	for (int c = 0; c < nc; c++) {
		__m512 s = _mm512_set1_ps(dx[(size_t)c * step]);

		UNROLL
		for (int h = 0; h < np; h++)
			f[c][h] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(a[c][h]),
						  _mm512_mul_ps(dw[h], s), f[c][h]);
	}
}

INLINE void offset(__m512 f[][PAIR], const uint8_t *const m[PAIR], size_t at,
		   const float *sum, size_t step, const int np, const int nc)
{
	__m512 mw[PAIR];

	UNROLL
	for (int h = 0; h < np; h++)
		mw[h] = load_f16(m[h] + at);
	UNROLL
	for (int c = 0; c < nc; c++) {
		__m512 s = _mm512_set1_ps(sum[(size_t)c * step]);

		UNROLL
		for (int h = 0; h < np; h++)
			f[c][h] = _mm512_fmadd_ps(mw[h], s, f[c][h]);
	}
}

INLINE void store(const struct out *o, __m512 f[][PAIR], const int np, const int nc)
{
	UNROLL
	for (int c = 0; c < nc; c++)
		UNROLL
	for (int h = 0; h < np; h++) {
		float *y = o->y + (size_t)c * o->ld + h * PANEL_ROWS;
		__m512 v = f[c][h];

		if (o->add)
			v = _mm512_add_ps(_mm512_maskz_loadu_ps(o->keep[h], y), v);
		_mm512_mask_storeu_ps(y, o->keep[h], v);
	}
}

/* np panels x nc columns from column c0 on, all of K. */
INLINE void tile(const struct pair *w, const struct kacts *acts, int c0,
		 const struct out *o, const enum kind kind, const int np, const int nc)
{
	size_t k = (size_t)acts->cols, blocks = k / BLOCK_COLS, at = (size_t)c0 * blocks;
	const uint8_t *const q[PAIR] = {w->q[0], w->q[1]}, *const d[PAIR] = {w->d[0],
									     w->d[1]};
	const uint8_t *const m[PAIR] = {w->d[0] + 32, w->d[1] + 32};
	size_t q_step = w->q_step, d_step = w->d_step;
	const int8_t *x = acts->q + (size_t)c0 * k;
	const float *dx = acts->d + at, *sum = acts->sum + at;
	const int32_t *off32 = acts->off32 + at, *off16 = acts->off16 + 2 * at;
	__m512 f[TILE_COLS][PAIR];
	__m512i a[TILE_COLS][PAIR];

	UNROLL
	for (int c = 0; c < nc; c++)
		f[c][0] = f[c][1] = _mm512_setzero_ps();
	for (size_t b = 0; b < blocks; b++, x += BLOCK_COLS) {
		bool two = kind == BYTES; /* blocks in a tile */
		size_t iq = two ? b / 2 * q_step + b % 2 * BLOCK_BYTES : b * q_step;
		size_t id = two ? b / 2 * d_step + b % 2 * PANEL_ROWS * 2 : b * d_step;

		if (kind == BYTES_16) {
			start(a, off16 + 2 * b, 2 * blocks, nc);
			dots(a, q, iq, x, k, np, nc, 0, 4);
			scale(f, a, d, id, dx + b, blocks, np, nc);
			start(a, off16 + 2 * b + 1, 2 * blocks, nc);
			dots(a, q, iq, x, k, np, nc, 4, 4);
			scale(f, a, m, id, dx + b, blocks, np, nc);
			continue;
		}
		start(a, kind == BYTES ? off32 + b : NULL, blocks, nc);
		if (kind == NIBBLES)
			dots_nibbles(a, q, iq, x, k, np, nc);
		else
			dots(a, q, iq, x, k, np, nc, 0, QUADS);
		scale(f, a, d, id, dx + b, blocks, np, nc);
		if (kind != BYTES)
			offset(f, m, id, sum + b, blocks, np, nc);
	}
	store(o, f, np, nc);
}

INLINE __m512 load_weights(const uint8_t *p, const enum kmat_form form)
{
	if (form == FORM_F32)
		return _mm512_load_ps(p);
	if (form == FORM_F16)
		return load_f16(p);
	return _mm512_castsi512_ps(_mm512_slli_epi32(
		_mm512_cvtepu16_epi32(_mm256_load_si256((const void *)p)), 16));
}

/* f += one of K for all panels and columns. */
INLINE void line_float(__m512 f[][PAIR], const struct pair *w, size_t at, const float *x,
		       size_t k, const enum kmat_form form, const int np, const int nc)
{
	__m512 v[PAIR];

	UNROLL
	for (int h = 0; h < np; h++)
		v[h] = load_weights(w->q[h] + at, form);
	UNROLL
	for (int c = 0; c < nc; c++) {
		__m512 s = _mm512_set1_ps(x[(size_t)c * k]);

		UNROLL
		for (int h = 0; h < np; h++)
			f[c][h] = _mm512_fmadd_ps(v[h], s, f[c][h]);
	}
}

/* The same for float weights.  Even and odd K have their own sums, because one chain of
 * FMAs in a gemv would wait for itself. */
INLINE void tile_float(const struct pair *w, const struct kacts *acts, int c0,
		       const struct out *o, const enum kmat_form form, const int np,
		       const int nc)
{
	const size_t k = (size_t)acts->cols, step = form == FORM_F32 ? 64 : 32;
	const float *x = acts->x + (size_t)c0 * k;
	__m512 even[TILE_COLS][PAIR], odd[TILE_COLS][PAIR];
	size_t i = 0;

	UNROLL
	for (int c = 0; c < nc; c++)
		even[c][0] = even[c][1] = odd[c][0] = odd[c][1] = _mm512_setzero_ps();
	for (; i + 2 <= k; i += 2) {
		line_float(even, w, i * step, x + i, k, form, np, nc);
		line_float(odd, w, (i + 1) * step, x + i + 1, k, form, np, nc);
	}
	if (i < k)
		line_float(even, w, i * step, x + i, k, form, np, nc);
	UNROLL
	for (int c = 0; c < nc; c++)
		UNROLL
	for (int h = 0; h < np; h++)
		even[c][h] = _mm512_add_ps(even[c][h], odd[c][h]);
	store(o, even, np, nc);
}

#define CASE(nc, tile_of, which, np, c, o)          \
	case nc:                                    \
		tile_of(w, a, c, o, which, np, nc); \
		break;
#define CASES_1_TO_5(...)    \
	CASE(1, __VA_ARGS__) \
	CASE(2, __VA_ARGS__) \
	CASE(3, __VA_ARGS__) \
	CASE(4, __VA_ARGS__) \
	CASE(5, __VA_ARGS__)

/* One panel, up to six columns: weights are read in the order in which they lie.  Two
 * panels at a time would be two streams, which costs the prefetcher 40 % of the memory's
 * speed. */
#define FEW(name, tile_of, which)                                            \
	static void name(const struct pair *w, const struct kacts *a, int n, \
			 const struct out *o)                                \
	{                                                                    \
		switch (n) {                                                 \
			CASES_1_TO_5(tile_of, which, 1, 0, o)                \
			CASE(6, tile_of, which, 1, 0, o)                     \
		}                                                            \
	}

/* Two panels, all columns, six at a time; the rest by the instance of its size. */
#define MANY(name, tile_of, which)                                                  \
	static void name(const struct pair *w, const struct kacts *a, int n,        \
			 const struct out *to)                                      \
	{                                                                           \
		struct out o = *to;                                                 \
		int c = 0;                                                          \
                                                                                    \
		for (; c + TILE_COLS <= n; c += TILE_COLS, o.y += TILE_COLS * o.ld) \
			tile_of(w, a, c, &o, which, 2, TILE_COLS);                  \
		switch (n - c) {                                                    \
			CASES_1_TO_5(tile_of, which, 2, c, &o)                      \
		}                                                                   \
	}

FEW(few_nibbles, tile, NIBBLES)
FEW(few_bytes_m, tile, BYTES_M)
FEW(few_bytes, tile, BYTES)
FEW(few_bytes_16, tile, BYTES_16)
FEW(few_f16, tile_float, FORM_F16)
FEW(few_bf16, tile_float, FORM_BF16)
FEW(few_f32, tile_float, FORM_F32)
MANY(many_bytes_m, tile, BYTES_M)
MANY(many_bytes, tile, BYTES)
MANY(many_bytes_16, tile, BYTES_16)
MANY(many_f16, tile_float, FORM_F16)
MANY(many_bf16, tile_float, FORM_BF16)
MANY(many_f32, tile_float, FORM_F32)

typedef void columns(const struct pair *w, const struct kacts *a, int n,
		     const struct out *o);

static const struct {
	columns *few, *many;
} forms[] = {
	[FORM_U4] = {few_nibbles, many_bytes_m}, /* many: opened first */
	[FORM_U8] = {few_bytes, many_bytes},
	[FORM_U8M] = {few_bytes_m, many_bytes_m},
	[FORM_U8S16] = {few_bytes_16, many_bytes_16},
	[FORM_F16] = {few_f16, many_f16},
	[FORM_BF16] = {few_bf16, many_bf16},
	[FORM_F32] = {few_f32, many_f32},
};

/* A panel of nibbles -> bytes [blocks][8][64]. */
static void open_nibbles(uint8_t *dst, const uint8_t *panel, size_t blocks)
{
	const struct tile_u4 *t = (const void *)panel;
	const __m512i low = _mm512_set1_epi8(15);

	for (size_t b = 0; b < blocks; b++, dst += BLOCK_BYTES)
		UNROLL
	for (int j = 0; j < 4; j++) {
		__m512i q = _mm512_load_si512(t[b].q[j]);
		__m512i high = _mm512_and_si512(_mm512_srli_epi16(q, 4), low);

		_mm512_store_si512(dst + 64 * j, _mm512_and_si512(q, low));
		_mm512_store_si512(dst + 256 + 64 * j, high);
	}
}

/* The second panel may be missing, when only one is wanted. */
static struct pair pair_at(const struct kmat *w, int p, int panels)
{
	const uint8_t *first = kmat_panel(w, p), *second = kmat_panel(w, p + panels - 1);
	size_t step = w->form == FORM_U4   ? sizeof(struct tile_u4)
		      : w->form == FORM_U8 ? sizeof(struct tile_u8)
					   : sizeof(struct tile_u8m);

	if (w->form >= FORM_F16)
		return (struct pair){{first, second}, {first, second}, 0, 0};
	return (struct pair){
		{first + LINE_BYTES, second + LINE_BYTES}, {first, second}, step, step};
}

/* More than six columns share the opened nibbles of 32 rows, which stay in L2. */
static void open_pair(struct pair *w, size_t blocks, uint8_t *opened)
{
	for (int h = 0; h < PAIR; h++, opened += blocks * BLOCK_BYTES) {
		open_nibbles(opened, w->d[h], blocks);
		w->q[h] = opened;
	}
	w->q_step = BLOCK_BYTES;
}

static void avx512_matmul(const struct kmat *w, const struct kacts *a, int n, float *y,
			  int ldy, enum kmm_mode mode, int p0, int p1, void *scratch)
{
	int panels = n <= TILE_COLS ? 1 : PAIR;

	for (int p = p0; p < p1; p += panels) {
		struct pair pair = pair_at(w, p, panels);
		int row = p * PANEL_ROWS;
		struct out o = {
			y + row,
			(size_t)ldy,
			{tail_mask(w->rows - row), tail_mask(w->rows - row - PANEL_ROWS)},
			mode == KMM_ADD};

		if (panels == 1) {
			forms[w->form].few(&pair, a, n, &o);
			continue;
		}
		if (w->form == FORM_U4)
			open_pair(&pair, (size_t)w->cols / BLOCK_COLS, scratch);
		forms[w->form].many(&pair, a, n, &o);
	}
}

/* ---- activations ---- */

/* Of each half of 32 signed bytes, in all lanes of that half. */
INLINE __m256i sums_of_16(__m256i bytes)
{
	__m256i s =
		_mm256_dpbusd_epi32(_mm256_setzero_si256(), _mm256_set1_epi8(1), bytes);

	s = _mm256_add_epi32(s, _mm256_shuffle_epi32(s, 0x4e));
	return _mm256_add_epi32(s, _mm256_shuffle_epi32(s, 0xb1));
}

/* A column of a->x into its other members. */
static void quantise_column(struct kacts *a, int c)
{
	size_t blocks = (size_t)a->cols / BLOCK_COLS, at = (size_t)c * blocks;
	const float *x = a->x + (size_t)c * (size_t)a->cols;
	int8_t *q = a->q + (size_t)c * (size_t)a->cols;

	for (size_t b = 0; b < blocks; b++, x += BLOCK_COLS, q += BLOCK_COLS) {
		__m512 v0 = _mm512_loadu_ps(x), v1 = _mm512_loadu_ps(x + 16);
		float max = _mm512_reduce_max_ps(
			_mm512_max_ps(_mm512_abs_ps(v0), _mm512_abs_ps(v1)));
		__m512 inverse = _mm512_set1_ps(max > 0 ? 127 / max : 0);
		__m512i q0 = _mm512_cvtps_epi32(_mm512_mul_ps(v0, inverse));
		__m512i q1 = _mm512_cvtps_epi32(_mm512_mul_ps(v1, inverse));
		__m256i bytes = _mm256_set_m128i(_mm512_cvtsepi32_epi8(q1),
						 _mm512_cvtsepi32_epi8(q0));
		__m256i sums = sums_of_16(bytes);
		int sum0 = _mm256_cvtsi256_si32(sums);
		int sum1 = _mm256_extract_epi32(sums, 4);

		_mm256_storeu_si256((void *)q, bytes);
		a->d[at + b] = max / 127;
		a->sum[at + b] = max / 127 * (float)(sum0 + sum1);
		a->off32[at + b] = -128 * (sum0 + sum1);
		a->off16[2 * (at + b)] = -32 * sum0;
		a->off16[2 * (at + b) + 1] = -32 * sum1;
	}
}

static void avx512_quantise(struct kacts *a, const float *x, int ld, int c0, int c1)
{
	for (int c = c0; c < c1; c++) {
		memcpy(a->x + (size_t)c * (size_t)a->cols, x + (size_t)c * (size_t)ld,
		       (size_t)a->cols * 4);
		quantise_column(a, c);
	}
}

static float sum_of_squares(const float *x, int n)
{
	__m512 sum[4];

	UNROLL
	for (int i = 0; i < 4; i++)
		sum[i] = _mm512_setzero_ps();
	for (int k = 0; k < n; k += 64)
		UNROLL
	for (int i = 0; i < 4; i++) {
		int left = n - k - 16 * i;
		__m512 v = _mm512_maskz_loadu_ps(tail_mask(left), x + k + 16 * i);

		sum[i] = _mm512_fmadd_ps(v, v, sum[i]);
	}
	return _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(sum[0], sum[1]),
						  _mm512_add_ps(sum[2], sum[3])));
}

static void avx512_norm_quantise(struct kacts *a, const float *x, int ld,
				 const float *weight, float eps, int c0, int c1)
{
	for (int c = c0; c < c1; c++) {
		const float *src = x + (size_t)c * (size_t)ld;
		float *dst = a->x + (size_t)c * (size_t)a->cols;
		float mean = sum_of_squares(src, a->cols) / (float)a->cols;
		__m512 inverse = _mm512_set1_ps(1 / __builtin_sqrtf(mean + eps));

		for (int k = 0; k < a->cols; k += 16) {
			__mmask16 m = tail_mask(a->cols - k);
			__m512 v =
				_mm512_mul_ps(_mm512_maskz_loadu_ps(m, src + k), inverse);

			v = _mm512_mul_ps(v, _mm512_maskz_loadu_ps(m, weight + k));
			_mm512_mask_storeu_ps(dst + k, m, v);
		}
		quantise_column(a, c);
	}
}

static void avx512_norm(float *y, const float *x, int ld, int cols, const float *weight,
			float eps, enum kmm_mode mode, int r0, int r1)
{
	for (int r = r0; r < r1; r++) {
		const float *src = x + (size_t)r * (size_t)ld;
		float *dst = y + (size_t)r * (size_t)ld;
		float mean = sum_of_squares(src, cols) / (float)cols;
		__m512 inverse = _mm512_set1_ps(1 / __builtin_sqrtf(mean + eps));

		for (int k = 0; k < cols; k += 16) {
			__mmask16 m = tail_mask(cols - k);
			__m512 v =
				_mm512_mul_ps(_mm512_maskz_loadu_ps(m, src + k), inverse);

			v = _mm512_mul_ps(v, _mm512_maskz_loadu_ps(m, weight + k));
			if (mode == KMM_ADD)
				v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(m, dst + k));
			_mm512_mask_storeu_ps(dst + k, m, v);
		}
	}
}

/* Half of 1 + tanh(z) is 1 / (1 + exp(-2z)): this is -2z of GELU, as -x is SiLU's. */
INLINE __m512 gelu_exponent(__m512 x)
{
	__m512 square = _mm512_mul_ps(x, x); /* -2 sqrt(2 / pi) x (1 + 0.044715 x^2) */
	__m512 p = _mm512_fmadd_ps(square, _mm512_set1_ps(.044715f), _mm512_set1_ps(1));

	return _mm512_mul_ps(_mm512_mul_ps(x, p), _mm512_set1_ps(-0x1.988454p0f));
}

INLINE void gate_mul_quantise(struct kacts *a, const float *x, int ld, int c0, int c1,
			      const bool is_gelu)
{
	for (int c = c0; c < c1; c++) {
		const float *gate = x + (size_t)c * (size_t)ld, *up = gate + a->cols;
		float *dst = a->x + (size_t)c * (size_t)a->cols;

		for (int k = 0; k < a->cols; k += 16) {
			__mmask16 m = tail_mask(a->cols - k);
			__m512 g = _mm512_maskz_loadu_ps(m, gate + k);
			__m512 u = _mm512_maskz_loadu_ps(m, up + k);
			__m512 e =
				exp_ps(is_gelu ? gelu_exponent(g)
					       : _mm512_sub_ps(_mm512_setzero_ps(), g));
			__m512 r = reciprocal(_mm512_add_ps(_mm512_set1_ps(1), e));

			_mm512_mask_storeu_ps(dst + k, m,
					      _mm512_mul_ps(_mm512_mul_ps(g, r), u));
		}
		quantise_column(a, c);
	}
}

static void avx512_silu_mul_quantise(struct kacts *a, const float *x, int ld, int c0,
				     int c1)
{
	gate_mul_quantise(a, x, ld, c0, c1, false);
}

static void avx512_gelu_mul_quantise(struct kacts *a, const float *x, int ld, int c0,
				     int c1)
{
	gate_mul_quantise(a, x, ld, c0, c1, true);
}

/* Lowest index on a tie: the maximum first, then its first place. */
static int avx512_argmax(const float *x, int n)
{
	__m512 best = _mm512_set1_ps(-__builtin_inff());

	for (int i = 0; i < n; i += 16)
		best = _mm512_mask_max_ps(
			best, tail_mask(n - i), /* best, should x be NaN */
			_mm512_maskz_loadu_ps(tail_mask(n - i), x + i), best);
	best = _mm512_set1_ps(_mm512_reduce_max_ps(best));
	for (int i = 0; i < n; i += 16) {
		__mmask16 m = tail_mask(n - i);

		m = _mm512_mask_cmp_ps_mask(m, best, _mm512_maskz_loadu_ps(m, x + i),
					    _CMP_EQ_OQ);
		if (m)
			return i + __builtin_ctz(m);
	}
	return 0; /* nothing but NaN */
}

#include "kernels/cpu/avx512_attn.h"

#pragma GCC pop_options

const struct kernels kernels_avx512 = {
	.name = "avx512",
	.supported = avx512_supported,
	.quantise = avx512_quantise,
	.norm_quantise = avx512_norm_quantise,
	.silu_mul_quantise = avx512_silu_mul_quantise,
	.gelu_mul_quantise = avx512_gelu_mul_quantise,
	.norm = avx512_norm,
	.matmul = avx512_matmul,
	.rope = avx512_rope,
	.kv_store = avx512_kv_store,
	.attention = avx512_attention,
	.argmax = avx512_argmax,
};

#endif
