/* The plain C backend: the reference that tests hold the others to, and the fallback on
 * CPUs without AVX2.  Any thread, no state.
 *
 * It reads the same packed panels as the fast backends, so that a model is packed once
 * whatever computes on it; that costs a lookup per weight here and nobody minds. */
#include <math.h>

#include "kernels/half.h"
#include "kernels/kernels.h"
#include "kernels/layout.h"

static bool scalar_supported(void)
{
	return true;
}

/* q = round(v * 127 / max): never -128, which AVX2's sign trick relies on. */
static void quantise_block(struct kacts *a, int c, int block, const float *v)
{
	size_t b = (size_t)c * (size_t)(a->cols / BLOCK_COLS) + (size_t)block;
	int8_t *q = a->q + (size_t)c * (size_t)a->cols + (size_t)block * BLOCK_COLS;
	float max = 0, inverse;
	int sum[2] = {0, 0};

	for (int i = 0; i < BLOCK_COLS; i++)
		max = fabsf(v[i]) > max ? fabsf(v[i]) : max;
	inverse = max > 0 ? 127 / max : 0;
	for (int i = 0; i < BLOCK_COLS; i++) {
		q[i] = (int8_t)lrintf(v[i] * inverse);
		sum[i / 16] += q[i];
	}
	a->d[b] = max / 127;
	a->sum[b] = max / 127 * (float)(sum[0] + sum[1]);
	a->off32[b] = -128 * (sum[0] + sum[1]);
	a->off16[2 * b] = -32 * sum[0];
	a->off16[2 * b + 1] = -32 * sum[1];
}

static void quantise_column(struct kacts *a, int c)
{
	const float *x = a->x + (size_t)c * (size_t)a->cols;

	for (int b = 0; b < a->cols / BLOCK_COLS; b++)
		quantise_block(a, c, b, x + b * BLOCK_COLS);
}

static void scalar_quantise(struct kacts *a, const float *x, int ld, int c0, int c1)
{
	for (int c = c0; c < c1; c++) {
		memcpy(a->x + (size_t)c * (size_t)a->cols, x + (size_t)c * (size_t)ld,
		       (size_t)a->cols * 4);
		quantise_column(a, c);
	}
}

static float inverse_rms(const float *x, int n, float eps)
{
	double squares = 0;

	for (int k = 0; k < n; k++)
		squares += (double)x[k] * (double)x[k];
	return 1 / sqrtf((float)(squares / n) + eps);
}

static void scalar_norm_quantise(struct kacts *a, const float *x, int ld,
				 const float *weight, float eps, int c0, int c1)
{
	for (int c = c0; c < c1; c++) {
		const float *src = x + (size_t)c * (size_t)ld;
		float *dst = a->x + (size_t)c * (size_t)a->cols;
		float inverse = inverse_rms(src, a->cols, eps);

		for (int k = 0; k < a->cols; k++)
			dst[k] = src[k] * inverse * weight[k];
		quantise_column(a, c);
	}
}

static float silu(float x)
{
	return x / (1 + expf(-x));
}

static float gelu(float x)
{
	/* sqrt(2 / pi) */
	return .5f * x * (1 + tanhf(0x1.988454p-1f * (x + .044715f * x * x * x)));
}

static void gate_mul_quantise(struct kacts *a, const float *x, int ld, int c0, int c1,
			      float (*act)(float))
{
	for (int c = c0; c < c1; c++) {
		const float *gate = x + (size_t)c * (size_t)ld, *up = gate + a->cols;
		float *dst = a->x + (size_t)c * (size_t)a->cols;

		for (int k = 0; k < a->cols; k++)
			dst[k] = act(gate[k]) * up[k];
		quantise_column(a, c);
	}
}

static void scalar_silu_mul_quantise(struct kacts *a, const float *x, int ld, int c0,
				     int c1)
{
	gate_mul_quantise(a, x, ld, c0, c1, silu);
}

static void scalar_gelu_mul_quantise(struct kacts *a, const float *x, int ld, int c0,
				     int c1)
{
	gate_mul_quantise(a, x, ld, c0, c1, gelu);
}

static void scalar_norm(float *y, const float *x, int ld, int cols, const float *weight,
			float eps, enum kmm_mode mode, int r0, int r1)
{
	for (int r = r0; r < r1; r++) {
		const float *src = x + (size_t)r * (size_t)ld;
		float *dst = y + (size_t)r * (size_t)ld;
		float inverse = inverse_rms(src, cols, eps);

		for (int k = 0; k < cols; k++) {
			float v = src[k] * inverse * weight[k];

			dst[k] = mode == KMM_ADD ? dst[k] + v : v;
		}
	}
}

static const uint8_t *tile_at(const struct kmat *w, const uint8_t *panel, int block)
{
	size_t size =
		w->form == FORM_U4 ? sizeof(struct tile_u4) : sizeof(struct tile_u8m);

	if (w->form == FORM_U8)
		return panel + (size_t)(block / 2) * sizeof(struct tile_u8);
	return panel + (size_t)block * size;
}

/* One block of one row times one column. */
static float dot_u4(const struct tile_u4 *t, int r, const int8_t *q, float d, float sum)
{
	int dot = 0;

	for (int k = 0; k < 16; k++) {
		dot += (t->q[k / 4][r][k % 4] & 15) * q[k];
		dot += (t->q[k / 4][r][k % 4] >> 4) * q[16 + k];
	}
	return f16_to_f32(t->d[r]) * d * (float)dot + f16_to_f32(t->m[r]) * sum;
}

static float dot_u8m(const struct tile_u8m *t, int r, const int8_t *q, float d, float sum)
{
	int dot = 0;

	for (int k = 0; k < BLOCK_COLS; k++)
		dot += t->q[k / 4][r][k % 4] * q[k];
	return f16_to_f32(t->d[r]) * d * (float)dot + f16_to_f32(t->m[r]) * sum;
}

static float dot_u8s16(const struct tile_u8m *t, int r, const int8_t *q, float d,
		       const int *off)
{
	int dot[2] = {off[0], off[1]};

	for (int k = 0; k < BLOCK_COLS; k++)
		dot[k / 16] += t->q[k / 4][r][k % 4] * q[k];
	return f16_to_f32(t->d[r]) * d * (float)dot[0] +
	       f16_to_f32(t->m[r]) * d * (float)dot[1];
}

static float dot_u8(const struct tile_u8 *t, int half, int r, const int8_t *q, float d,
		    int off)
{
	int dot = off;

	for (int k = 0; k < BLOCK_COLS; k++)
		dot += t->q[half][k / 4][r][k % 4] * q[k];
	return f16_to_f32(t->d[half][r]) * d * (float)dot;
}

static float row_quantised(const struct kmat *w, const uint8_t *panel, int r,
			   const struct kacts *a, int c)
{
	int blocks = w->cols / BLOCK_COLS;
	float y = 0;

	for (int b = 0; b < blocks; b++) {
		size_t i = (size_t)c * (size_t)blocks + (size_t)b;
		const int8_t *q = a->q + i * BLOCK_COLS;
		const void *t = tile_at(w, panel, b);

		if (w->form == FORM_U4)
			y += dot_u4(t, r, q, a->d[i], a->sum[i]);
		else if (w->form == FORM_U8M)
			y += dot_u8m(t, r, q, a->d[i], a->sum[i]);
		else if (w->form == FORM_U8S16)
			y += dot_u8s16(t, r, q, a->d[i], a->off16 + 2 * i);
		else
			y += dot_u8(t, b % 2, r, q, a->d[i], a->off32[i]);
	}
	return y;
}

static float row_float(const struct kmat *w, const uint8_t *panel, int r,
		       const struct kacts *a, int c)
{
	const float *x = a->x + (size_t)c * (size_t)w->cols, *f = (const void *)panel;
	const uint16_t *h = (const void *)panel;
	float y = 0;

	for (int k = 0; k < w->cols; k++) {
		size_t i = (size_t)k * PANEL_ROWS + (size_t)r;

		if (w->form == FORM_F32)
			y += f[i] * x[k];
		else
			y += (w->form == FORM_F16 ? f16_to_f32(h[i])
						  : bf16_to_f32(h[i])) *
			     x[k];
	}
	return y;
}

static void scalar_matmul(const struct kmat *w, const struct kacts *a, int n, float *y,
			  int ldy, enum kmm_mode mode, int p0, int p1, void *scratch)
{
	bool floats = w->form >= FORM_F16;
	int end = p1 * PANEL_ROWS < w->rows ? p1 * PANEL_ROWS : w->rows;

	(void)scratch;
	for (int row = p0 * PANEL_ROWS; row < end; row++) {
		const uint8_t *panel = kmat_panel(w, row / PANEL_ROWS);
		int r = row % PANEL_ROWS;

		for (int c = 0; c < n; c++) {
			float v = floats ? row_float(w, panel, r, a, c)
					 : row_quantised(w, panel, r, a, c);
			float *out = y + (size_t)c * (size_t)ldy + row;

			*out = mode == KMM_ADD ? *out + v : v;
		}
	}
}

static void scalar_rope(float *x, int head_dim, int rot, const float *cs,
			bool interleaved, int h0, int h1)
{
	int step = interleaved ? 1 : rot / 2;

	for (int h = h0; h < h1; h++)
		for (int i = 0; i < rot / 2; i++) {
			float *a = x + (size_t)h * (size_t)head_dim +
				   (interleaved ? 2 * i : i);
			float cos = cs[2 * i], sin = cs[2 * i + 1], left = a[0],
			      right = a[step];

			a[0] = left * cos - right * sin;
			a[step] = left * sin + right * cos;
		}
}

static void scalar_kv_store(const struct kkv *kv, int pos, const float *k, const float *v,
			    int kvh0, int kvh1)
{
	for (int h = kvh0; h < kvh1; h++) {
		uint16_t *keys = kkv_keys(kv, h, pos) + pos % KV_KEYS;
		uint16_t *values = kkv_values(kv, h, pos);
		size_t row = (size_t)h * (size_t)kv->head_dim;

		for (int i = 0; i < kv->head_dim; i++) {
			keys[i * KV_KEYS] = f32_to_f16(k[row + (size_t)i]);
			values[i] = f32_to_f16(v[row + (size_t)i]);
		}
	}
}

static void attend(const struct kkv *kv, int kvh, const float *q, float *out, int keys,
		   float scale, int window, float *score)
{
	int dim = kv->head_dim, first = attn_first_key(keys, window);
	float max = -INFINITY, sum = 0;

	for (int t = first; t < keys; t++) {
		const uint16_t *k = kkv_keys(kv, kvh, t) + t % KV_KEYS;

		score[t] = 0;
		for (int i = 0; i < dim; i++)
			score[t] += q[i] * scale * f16_to_f32(k[i * KV_KEYS]);
		max = score[t] > max ? score[t] : max;
	}
	for (int i = 0; i < dim; i++)
		out[i] = 0;
	for (int t = first; t < keys; t++) {
		const uint16_t *v = kkv_values(kv, kvh, t);
		float p = expf(score[t] - max);

		sum += p;
		for (int i = 0; i < dim; i++)
			out[i] += p * f16_to_f32(v[i]);
	}
	for (int i = 0; i < dim; i++)
		out[i] /= sum;
}

static void scalar_attention(const struct kkv *kv, const float *q, float *out, int ld,
			     int nq, int pos0, int heads, int h0, int h1, float scale,
			     int window, void *scratch)
{
	int group = heads / kv->kv_heads;

	for (int i = 0; i < nq; i++)
		for (int h = h0; h < h1; h++) {
			size_t at =
				(size_t)i * (size_t)ld + (size_t)h * (size_t)kv->head_dim;

			attend(kv, h / group, q + at, out + at, pos0 + i + 1, scale,
			       window, scratch);
		}
}

static int scalar_argmax(const float *x, int n)
{
	int best = 0;

	for (int i = 1; i < n; i++)
		if (x[i] > x[best])
			best = i;
	return best;
}

const struct kernels kernels_scalar = {
	.name = "scalar",
	.supported = scalar_supported,
	.quantise = scalar_quantise,
	.norm_quantise = scalar_norm_quantise,
	.silu_mul_quantise = scalar_silu_mul_quantise,
	.gelu_mul_quantise = scalar_gelu_mul_quantise,
	.norm = scalar_norm,
	.matmul = scalar_matmul,
	.rope = scalar_rope,
	.kv_store = scalar_kv_store,
	.attention = scalar_attention,
	.argmax = scalar_argmax,
};
