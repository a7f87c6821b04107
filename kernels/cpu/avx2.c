/* The AVX2 backend: matrices, activations.  Attention is in avx2_attn.h.  Any thread.
 *
 * The same panels as AVX-512, a line of 16 rows being two ymm; 16 rows x 3 columns fit 16
 * registers. vpmaddubsw saturates at 16 bits, which decides how many products may be
 * added before widening: eight lines of nibbles (2 * 15 * 127 each), four of 5 bits, two
 * of 6 bits.  Full bytes are taken as |w| times sign(x, w), which stays below 2 * 128 *
 * 127 because x is never -128; every line is widened.  As in avx512.c all column counts
 * are instances of one tile, so a column does not depend on its company. */
#include "kernels/kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include "kernels/half.h"
#include "kernels/layout.h"

static bool avx2_supported(void)
{
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
	       __builtin_cpu_supports("f16c");
}

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")

#define INLINE static inline __attribute__((always_inline))
/* On every loop over accumulators: one loop left rolled sends the array to the stack. */
#define UNROLL _Pragma("GCC unroll 16")

enum { TILE_COLS = 3, HALVES = 2 };

INLINE __m256 load_f16(const void *p)
{
	return _mm256_cvtph_ps(_mm_load_si128(p));
}

INLINE __m256i broadcast4(const int8_t *p)
{
	int32_t four;

	memcpy(&four, p, 4);
	return _mm256_set1_epi32(four);
}

/* The first `left` lanes; any number. */
INLINE __m256i tail_mask(int left)
{
	return _mm256_cmpgt_epi32(_mm256_set1_epi32(left),
				  _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

INLINE float sum_ps(__m256 v)
{
	__m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));

	s = _mm_add_ps(s, _mm_movehl_ps(s, s));
	return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

INLINE float max_ps(__m256 v)
{
	__m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));

	s = _mm_max_ps(s, _mm_movehl_ps(s, s));
	return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

INLINE int sum_epi32(__m256i v)
{
	__m128i s =
		_mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));

	s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
	return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}

/* exp by 2^n * p(r), |r| <= ln 2 / 2; relative error about 2e-7, clamped to normal
 * results. */
INLINE __m256 exp_ps(__m256 x)
{
	__m256 n, r, p;

	x = _mm256_min_ps(_mm256_max_ps(x, _mm256_set1_ps(-87.3f)),
			  _mm256_set1_ps(88.3f));
	n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(0x1.715476p0f)),
			    _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
	r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.62ep-1f), x); /* ln 2 in two parts */
	r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.0bfbe8p-15f), r);
	p = _mm256_set1_ps(1 / 720.f);
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1 / 120.f));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1 / 24.f));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1 / 6.f));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(.5f));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1));
	return _mm256_mul_ps(p, _mm256_castsi256_ps(_mm256_slli_epi32(
					_mm256_add_epi32(_mm256_cvtps_epi32(n),
							 _mm256_set1_epi32(127)),
					23)));
}

/* ---- matrices ---- */

struct panel { /* 16 rows */
	const uint8_t *first;
	size_t step; /* bytes from tile to tile */
};

struct out { /* where 16 rows of the first column go */
	float *y;
	size_t ld;
	__m256i keep[HALVES]; /* padding rows are not written */
	bool add;
};

/* sum += pairs of 16 bits widened */
INLINE __m256i widen(__m256i sum, __m256i pairs)
{
	return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

INLINE void dots_nibbles(__m256i a[][HALVES], const uint8_t *q, const int8_t *x, size_t k,
			 const int nc)
{
	const __m256i low = _mm256_set1_epi8(15);
	__m256i s[TILE_COLS][HALVES];

	UNROLL
	for (int c = 0; c < nc; c++)
		UNROLL
	for (int h = 0; h < HALVES; h++)
		s[c][h] = _mm256_setzero_si256();
	UNROLL
	for (int j = 0; j < 4; j++)
		UNROLL
	for (int h = 0; h < HALVES; h++) {
		__m256i w =
			_mm256_load_si256((const void *)(q + j * LINE_BYTES + 32 * h));
		__m256i w_high = _mm256_and_si256(_mm256_srli_epi16(w, 4), low);
		__m256i w_low = _mm256_and_si256(w, low);

		UNROLL
		for (int c = 0; c < nc; c++) {
			__m256i xl = broadcast4(x + (size_t)c * k + 4 * j);
			__m256i xh = broadcast4(x + (size_t)c * k + 16 + 4 * j);

			s[c][h] = _mm256_add_epi16(s[c][h],
						   _mm256_maddubs_epi16(w_low, xl));
			s[c][h] = _mm256_add_epi16(s[c][h],
						   _mm256_maddubs_epi16(w_high, xh));
		}
	}
	UNROLL
	for (int c = 0; c < nc; c++)
		UNROLL
	for (int h = 0; h < HALVES; h++)
		a[c][h] = widen(_mm256_setzero_si256(), s[c][h]);
}

/* `every` lines of small unsigned bytes may be added in 16 bits. */
INLINE void dots_small(__m256i a[][HALVES], const uint8_t *q, const int8_t *x, size_t k,
		       const int nc, const int line, const int lines, const int every)
{
	UNROLL
	for (int h = 0; h < HALVES; h++)
		UNROLL
	for (int c = 0; c < nc; c++)
		UNROLL
	for (int j = line; j < line + lines; j += every) {
		__m256i s = _mm256_setzero_si256();

		UNROLL
		for (int i = j; i < j + every; i++) {
			__m256i w = _mm256_load_si256(
				(const void *)(q + i * LINE_BYTES + 32 * h));
			__m256i four = broadcast4(x + (size_t)c * k + 4 * i);

			s = _mm256_add_epi16(s, _mm256_maddubs_epi16(w, four));
		}
		a[c][h] = widen(a[c][h], s);
	}
}

/* Bytes stored + 128. */
INLINE void dots_full(__m256i a[][HALVES], const uint8_t *q, const int8_t *x, size_t k,
		      const int nc)
{
	const __m256i bias = _mm256_set1_epi8(-128);

	UNROLL
	for (int j = 0; j < QUADS; j++)
		UNROLL
	for (int h = 0; h < HALVES; h++) {
		const void *line = q + j * LINE_BYTES + 32 * h;
		__m256i w = _mm256_xor_si256(_mm256_load_si256(line), bias);
		__m256i size = _mm256_abs_epi8(w);

		UNROLL
		for (int c = 0; c < nc; c++) {
			__m256i four = broadcast4(x + (size_t)c * k + 4 * j);

			a[c][h] = widen(
				a[c][h],
				_mm256_maddubs_epi16(size, _mm256_sign_epi8(four, w)));
		}
	}
}

INLINE void start(__m256i a[][HALVES], const int32_t *off, size_t step, const int nc)
{
	UNROLL
	for (int c = 0; c < nc; c++)
		UNROLL
	for (int h = 0; h < HALVES; h++)
		a[c][h] = off ? _mm256_set1_epi32(off[(size_t)c * step])
			      : _mm256_setzero_si256();
}

INLINE void scale(__m256 f[][HALVES], __m256i a[][HALVES], const uint8_t *d,
		  const float *dx, size_t step, const int nc)
{
	UNROLL
	for (int h = 0; h < HALVES; h++) {
		__m256 dw = load_f16(d + 16 * h);

		UNROLL
		for (int c = 0; c < nc; c++)
			f[c][h] = _mm256_fmadd_ps(
				_mm256_cvtepi32_ps(a[c][h]),
				_mm256_mul_ps(dw, _mm256_set1_ps(dx[(size_t)c * step])),
				f[c][h]);
	}
}

INLINE void offset(__m256 f[][HALVES], const uint8_t *m, const float *sum, size_t step,
		   const int nc)
{
	UNROLL
	for (int h = 0; h < HALVES; h++) {
		__m256 mw = load_f16(m + 16 * h);

		UNROLL
		for (int c = 0; c < nc; c++)
			f[c][h] = _mm256_fmadd_ps(
				mw, _mm256_set1_ps(sum[(size_t)c * step]), f[c][h]);
	}
}

INLINE void store(const struct out *o, __m256 f[][HALVES], const int nc)
{
	UNROLL
	for (int c = 0; c < nc; c++)
		UNROLL
	for (int h = 0; h < HALVES; h++) {
		float *y = o->y + (size_t)c * o->ld + 8 * h;
		__m256 v = f[c][h];

		if (o->add)
			v = _mm256_add_ps(_mm256_maskload_ps(y, o->keep[h]), v);
		_mm256_maskstore_ps(y, o->keep[h], v);
	}
}

/* 16 rows x nc columns from column c0 on, all of K. */
INLINE void tile(const struct panel *w, const struct kacts *acts, int c0,
		 const struct out *o, const enum kmat_form form, const int nc)
{
	size_t k = (size_t)acts->cols, blocks = k / BLOCK_COLS, at = (size_t)c0 * blocks;
	const int8_t *x = acts->q + (size_t)c0 * k;
	const float *dx = acts->d + at, *sum = acts->sum + at;
	const int32_t *off16 = acts->off16 + 2 * at;
	__m256 f[TILE_COLS][HALVES];
	__m256i a[TILE_COLS][HALVES];

	UNROLL
	for (int c = 0; c < nc; c++)
		f[c][0] = f[c][1] = _mm256_setzero_ps();
	for (size_t b = 0; b < blocks; b++, x += BLOCK_COLS) {
		bool two = form == FORM_U8; /* blocks in a tile */
		const uint8_t *s =
			w->first + (two ? b / 2 : b) * w->step + (two ? b % 2 * 32 : 0);
		const uint8_t *q =
			s + LINE_BYTES + (two ? b % 2 * (BLOCK_BYTES - 32) : 0);

		if (form == FORM_U8S16) {
			start(a, off16 + 2 * b, 2 * blocks, nc);
			dots_small(a, q, x, k, nc, 0, 4, 2);
			scale(f, a, s, dx + b, blocks, nc);
			start(a, off16 + 2 * b + 1, 2 * blocks, nc);
			dots_small(a, q, x, k, nc, 4, 4, 2);
			scale(f, a, s + 32, dx + b, blocks, nc);
		} else {
			start(a, NULL, 0, nc);
			if (form == FORM_U4)
				dots_nibbles(a, q, x, k, nc);
			else if (form == FORM_U8M)
				dots_small(a, q, x, k, nc, 0, QUADS, 4);
			else
				dots_full(a, q, x, k, nc);
			scale(f, a, s, dx + b, blocks, nc);
			if (form != FORM_U8)
				offset(f, s + 32, sum + b, blocks, nc);
		}
	}
	store(o, f, nc);
}

INLINE __m256 load_weights(const uint8_t *p, const enum kmat_form form)
{
	if (form == FORM_F32)
		return _mm256_load_ps((const float *)p);
	if (form == FORM_F16)
		return load_f16(p);
	return _mm256_castsi256_ps(_mm256_slli_epi32(
		_mm256_cvtepu16_epi32(_mm_load_si128((const void *)p)), 16));
}

/* f[odd] += one line of K for all columns. */
INLINE void line_float(__m256 f[][HALVES], const uint8_t *line, const float *x, size_t k,
		       const enum kmat_form form, const int nc)
{
	UNROLL
	for (int h = 0; h < HALVES; h++) {
		__m256 w = load_weights(line + (form == FORM_F32 ? 32 : 16) * h, form);

		UNROLL
		for (int c = 0; c < nc; c++)
			f[c][h] = _mm256_fmadd_ps(w, _mm256_set1_ps(x[(size_t)c * k]),
						  f[c][h]);
	}
}

/* The same for float weights.  Even and odd K have their own sums, because one chain of
 * FMAs in a gemv would wait for itself. */
INLINE void tile_float(const struct panel *w, const struct kacts *acts, int c0,
		       const struct out *o, const enum kmat_form form, const int nc)
{
	const size_t k = (size_t)acts->cols, step = form == FORM_F32 ? 64 : 32;
	const float *x = acts->x + (size_t)c0 * k;
	__m256 f[2][TILE_COLS][HALVES];
	size_t i = 0;

	UNROLL
	for (int c = 0; c < nc; c++)
		UNROLL
	for (int h = 0; h < HALVES; h++)
		f[0][c][h] = f[1][c][h] = _mm256_setzero_ps();
	for (; i + 2 <= k; i += 2) {
		line_float(f[0], w->first + i * step, x + i, k, form, nc);
		line_float(f[1], w->first + (i + 1) * step, x + i + 1, k, form, nc);
	}
	if (i < k)
		line_float(f[0], w->first + i * step, x + i, k, form, nc);
	UNROLL
	for (int c = 0; c < nc; c++)
		UNROLL
	for (int h = 0; h < HALVES; h++)
		f[0][c][h] = _mm256_add_ps(f[0][c][h], f[1][c][h]);
	store(o, f[0], nc);
}

/* All columns of 16 rows, three at a time; the rest by the instance of its size. */
#define COLUMNS(name, tile_of, form)                                                \
	static void name(const struct panel *w, const struct kacts *a, int n,       \
			 struct out o)                                              \
	{                                                                           \
		int c = 0;                                                          \
                                                                                    \
		for (; c + TILE_COLS <= n; c += TILE_COLS, o.y += TILE_COLS * o.ld) \
			tile_of(w, a, c, &o, form, TILE_COLS);                      \
		if (n - c == 1)                                                     \
			tile_of(w, a, c, &o, form, 1);                              \
		else if (n - c == 2)                                                \
			tile_of(w, a, c, &o, form, 2);                              \
	}

COLUMNS(columns_u4, tile, FORM_U4)
COLUMNS(columns_u8, tile, FORM_U8)
COLUMNS(columns_u8m, tile, FORM_U8M)
COLUMNS(columns_u8s16, tile, FORM_U8S16)
COLUMNS(columns_f16, tile_float, FORM_F16)
COLUMNS(columns_bf16, tile_float, FORM_BF16)
COLUMNS(columns_f32, tile_float, FORM_F32)

static struct panel panel_at(const struct kmat *w, int p)
{
	size_t step = w->form == FORM_U4   ? sizeof(struct tile_u4)
		      : w->form == FORM_U8 ? sizeof(struct tile_u8)
					   : sizeof(struct tile_u8m);

	return (struct panel){kmat_panel(w, p), step};
}

static void avx2_matmul(const struct kmat *w, const struct kacts *a, int n, float *y,
			int ldy, enum kmm_mode mode, int p0, int p1, void *scratch)
{
	static void (*const columns[])(const struct panel *, const struct kacts *, int,
				       struct out) = {
		[FORM_U4] = columns_u4,   [FORM_U8] = columns_u8,
		[FORM_U8M] = columns_u8m, [FORM_U8S16] = columns_u8s16,
		[FORM_F16] = columns_f16, [FORM_BF16] = columns_bf16,
		[FORM_F32] = columns_f32,
	};

	(void)scratch; /* nibbles are opened in registers here */
	for (int p = p0; p < p1; p++) {
		struct panel panel = panel_at(w, p);
		int row = p * PANEL_ROWS;
		struct out o = {y + row,
				(size_t)ldy,
				{tail_mask(w->rows - row), tail_mask(w->rows - row - 8)},
				mode == KMM_ADD};

		columns[w->form](&panel, a, n, o);
	}
}

/* ---- activations ---- */

/* 32 bytes from four vectors of 8; the packs work within 128 bits, hence the permutation.
 */
INLINE __m256i narrow(const __m256i q[4])
{
	const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
	__m256i low = _mm256_packs_epi32(q[0], q[1]),
		high = _mm256_packs_epi32(q[2], q[3]);

	return _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), order);
}

/* A column of a->x into its other members. */
static void quantise_column(struct kacts *a, int c)
{
	const __m256 absolute = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
	size_t blocks = (size_t)a->cols / BLOCK_COLS, at = (size_t)c * blocks;
	const float *x = a->x + (size_t)c * (size_t)a->cols;

	for (size_t b = 0; b < blocks; b++, x += BLOCK_COLS) {
		__m256 most = _mm256_setzero_ps();
		__m256i q[4];
		float max;
		int sum0, sum1;

		UNROLL
		for (int i = 0; i < 4; i++)
			most = _mm256_max_ps(
				most,
				_mm256_and_ps(_mm256_loadu_ps(x + 8 * i), absolute));
		max = max_ps(most);
		most = _mm256_set1_ps(max > 0 ? 127 / max : 0);
		UNROLL
		for (int i = 0; i < 4; i++)
			q[i] = _mm256_cvtps_epi32(
				_mm256_mul_ps(_mm256_loadu_ps(x + 8 * i), most));
		_mm256_storeu_si256((void *)(a->q + (at + b) * BLOCK_COLS), narrow(q));
		sum0 = sum_epi32(_mm256_add_epi32(q[0], q[1]));
		sum1 = sum_epi32(_mm256_add_epi32(q[2], q[3]));
		a->d[at + b] = max / 127;
		a->sum[at + b] = max / 127 * (float)(sum0 + sum1);
		a->off32[at + b] = -128 * (sum0 + sum1);
		a->off16[2 * (at + b)] = -32 * sum0;
		a->off16[2 * (at + b) + 1] = -32 * sum1;
	}
}

static void avx2_quantise(struct kacts *a, const float *x, int ld, int c0, int c1)
{
	for (int c = c0; c < c1; c++) {
		memcpy(a->x + (size_t)c * (size_t)a->cols, x + (size_t)c * (size_t)ld,
		       (size_t)a->cols * 4);
		quantise_column(a, c);
	}
}

static float sum_of_squares(const float *x, int n)
{
	__m256 sum[4];

	UNROLL
	for (int i = 0; i < 4; i++)
		sum[i] = _mm256_setzero_ps();
	for (int k = 0; k < n; k += 32)
		UNROLL
	for (int i = 0; i < 4; i++) {
		__m256 v = _mm256_maskload_ps(x + k + 8 * i, tail_mask(n - k - 8 * i));

		sum[i] = _mm256_fmadd_ps(v, v, sum[i]);
	}
	return sum_ps(_mm256_add_ps(_mm256_add_ps(sum[0], sum[1]),
				    _mm256_add_ps(sum[2], sum[3])));
}

static void avx2_norm_quantise(struct kacts *a, const float *x, int ld,
			       const float *weight, float eps, int c0, int c1)
{
	for (int c = c0; c < c1; c++) {
		const float *src = x + (size_t)c * (size_t)ld;
		float *dst = a->x + (size_t)c * (size_t)a->cols;
		float mean = sum_of_squares(src, a->cols) / (float)a->cols;
		__m256 inverse = _mm256_set1_ps(1 / __builtin_sqrtf(mean + eps));

		for (int k = 0; k < a->cols; k += 8) {
			__m256i m = tail_mask(a->cols - k);
			__m256 v = _mm256_mul_ps(_mm256_maskload_ps(src + k, m), inverse);

			v = _mm256_mul_ps(v, _mm256_maskload_ps(weight + k, m));
			_mm256_maskstore_ps(dst + k, m, v);
		}
		quantise_column(a, c);
	}
}

static void avx2_norm(float *y, const float *x, int ld, int cols, const float *weight,
		      float eps, enum kmm_mode mode, int r0, int r1)
{
	for (int r = r0; r < r1; r++) {
		const float *src = x + (size_t)r * (size_t)ld;
		float *dst = y + (size_t)r * (size_t)ld;
		float mean = sum_of_squares(src, cols) / (float)cols;
		__m256 inverse = _mm256_set1_ps(1 / __builtin_sqrtf(mean + eps));

		for (int k = 0; k < cols; k += 8) {
			__m256i m = tail_mask(cols - k);
			__m256 v = _mm256_mul_ps(_mm256_maskload_ps(src + k, m), inverse);

			v = _mm256_mul_ps(v, _mm256_maskload_ps(weight + k, m));
			if (mode == KMM_ADD)
				v = _mm256_add_ps(v, _mm256_maskload_ps(dst + k, m));
			_mm256_maskstore_ps(dst + k, m, v);
		}
	}
}

/* Half of 1 + tanh(z) is 1 / (1 + exp(-2z)): this is -2z of GELU, as -x is SiLU's. */
INLINE __m256 gelu_exponent(__m256 x)
{
	__m256 square = _mm256_mul_ps(x, x); /* -2 sqrt(2 / pi) x (1 + 0.044715 x^2) */
	__m256 p = _mm256_fmadd_ps(square, _mm256_set1_ps(.044715f), _mm256_set1_ps(1));

	return _mm256_mul_ps(_mm256_mul_ps(x, p), _mm256_set1_ps(-0x1.988454p0f));
}

INLINE void gate_mul_quantise(struct kacts *a, const float *x, int ld, int c0, int c1,
			      const bool is_gelu)
{
	for (int c = c0; c < c1; c++) {
		const float *gate = x + (size_t)c * (size_t)ld, *up = gate + a->cols;
		float *dst = a->x + (size_t)c * (size_t)a->cols;

		for (int k = 0; k < a->cols; k += 8) {
			__m256i m = tail_mask(a->cols - k);
			__m256 g = _mm256_maskload_ps(gate + k, m),
			       u = _mm256_maskload_ps(up + k, m);
			__m256 e =
				exp_ps(is_gelu ? gelu_exponent(g)
					       : _mm256_sub_ps(_mm256_setzero_ps(), g));
			__m256 s = _mm256_div_ps(g, _mm256_add_ps(_mm256_set1_ps(1), e));

			_mm256_maskstore_ps(dst + k, m, _mm256_mul_ps(s, u));
		}
		quantise_column(a, c);
	}
}

static void avx2_silu_mul_quantise(struct kacts *a, const float *x, int ld, int c0,
				   int c1)
{
	gate_mul_quantise(a, x, ld, c0, c1, false);
}

static void avx2_gelu_mul_quantise(struct kacts *a, const float *x, int ld, int c0,
				   int c1)
{
	gate_mul_quantise(a, x, ld, c0, c1, true);
}

/* Lowest index on a tie: the maximum first, then its first place. */
static int avx2_argmax(const float *x, int n)
{
	__m256 best = _mm256_set1_ps(-__builtin_inff());
	float most;
	int i = 0;

	for (; i + 8 <= n; i += 8)
		best = _mm256_max_ps(_mm256_loadu_ps(x + i),
				     best); /* best, should x be NaN */
	most = max_ps(best);
	for (; i < n; i++)
		most = x[i] > most ? x[i] : most;
	best = _mm256_set1_ps(most);
	for (i = 0; i + 8 <= n; i += 8) {
		__m256 equal = _mm256_cmp_ps(_mm256_loadu_ps(x + i), best, _CMP_EQ_OQ);
		unsigned bits = (unsigned)_mm256_movemask_ps(equal);

		if (bits)
			return i + __builtin_ctz(bits);
	}
	for (; i < n; i++)
		if (x[i] == most)
			return i;
	return 0; /* nothing but NaN */
}

#include "kernels/cpu/avx2_attn.h"

#pragma GCC pop_options

const struct kernels kernels_avx2 = {
	.name = "avx2",
	.supported = avx2_supported,
	.quantise = avx2_quantise,
	.norm_quantise = avx2_norm_quantise,
	.silu_mul_quantise = avx2_silu_mul_quantise,
	.gelu_mul_quantise = avx2_gelu_mul_quantise,
	.norm = avx2_norm,
	.matmul = avx2_matmul,
	.rope = avx2_rope,
	.kv_store = avx2_kv_store,
	.attention = avx2_attention,
	.argmax = avx2_argmax,
};

#endif
