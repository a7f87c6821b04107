/* The AVX2 backend's second half: rotation, key/value cache, attention.  Included by
 * avx2.c only, inside its target pragma.  avx512_attn.h explains the scheme; here three
 * rows and 32 keys fit. */

/* Pairs (2i, 2i + 1): four in a vector. */
INLINE int rope_interleaved(float *x, int pairs, const float *cs)
{
	int i = 0;

	for (; i + 4 <= pairs; i += 4) {
		__m256 c = _mm256_loadu_ps(cs + 2 * i), v = _mm256_loadu_ps(x + 2 * i);
		__m256 swapped = _mm256_permute_ps(v, 0xb1);

		swapped = _mm256_mul_ps(swapped, _mm256_movehdup_ps(c));
		_mm256_storeu_ps(x + 2 * i,
				 _mm256_fmaddsub_ps(v, _mm256_moveldup_ps(c), swapped));
	}
	return i;
}

/* Pairs (i, i + pairs): eight in two vectors. */
INLINE int rope_halves(float *x, int pairs, const float *cs)
{
	const __m256i split = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);
	int i = 0;

	for (; i + 8 <= pairs; i += 8) {
		__m256 c0 = _mm256_permutevar8x32_ps(_mm256_loadu_ps(cs + 2 * i), split);
		__m256 c1 =
			_mm256_permutevar8x32_ps(_mm256_loadu_ps(cs + 2 * i + 8), split);
		__m256 cos = _mm256_permute2f128_ps(c0, c1, 0x20);
		__m256 sin = _mm256_permute2f128_ps(c0, c1, 0x31);
		__m256 a = _mm256_loadu_ps(x + i), b = _mm256_loadu_ps(x + pairs + i);

		_mm256_storeu_ps(x + i, _mm256_fmsub_ps(a, cos, _mm256_mul_ps(b, sin)));
		_mm256_storeu_ps(x + pairs + i,
				 _mm256_fmadd_ps(a, sin, _mm256_mul_ps(b, cos)));
	}
	return i;
}

static void avx2_rope(float *x, int head_dim, int rot, const float *cs, bool interleaved,
		      int h0, int h1)
{
	int pairs = rot / 2, step = interleaved ? 1 : pairs;

	for (int h = h0; h < h1; h++) {
		float *head = x + (size_t)h * (size_t)head_dim;
		int i = interleaved ? rope_interleaved(head, pairs, cs)
				    : rope_halves(head, pairs, cs);

		for (; i < pairs; i++) {
			float *a = head + (interleaved ? 2 * i : i), left = a[0],
			      right = a[step];

			a[0] = left * cs[2 * i] - right * cs[2 * i + 1];
			a[step] = left * cs[2 * i + 1] + right * cs[2 * i];
		}
	}
}

static void avx2_kv_store(const struct kkv *kv, int pos, const float *k, const float *v,
			  int kvh0, int kvh1)
{
	for (int h = kvh0; h < kvh1; h++) {
		uint16_t *keys = kkv_keys(kv, h, pos) + pos % KV_KEYS;
		uint16_t *values = kkv_values(kv, h, pos);
		size_t row = (size_t)h * (size_t)kv->head_dim;

		for (int i = 0; i < kv->head_dim; i += 8) {
			__m256i m = tail_mask(kv->head_dim - i);
			__m256 kf = _mm256_maskload_ps(k + row + i, m);
			__m256 vf = _mm256_maskload_ps(v + row + i, m);
			uint16_t lane[8];

			_mm_storeu_si128((void *)lane,
					 _mm256_cvtps_ph(kf, _MM_FROUND_TO_NEAREST_INT));
			_mm_storeu_si128((void *)(values + i),
					 _mm256_cvtps_ph(vf, _MM_FROUND_TO_NEAREST_INT));
			for (int j = 0; j < 8 && i + j < kv->head_dim; j++)
				keys[(i + j) * KV_KEYS] = lane[j];
		}
	}
}

enum { ROWS_2 = 3 }; /* of attention at a time; scratch has room for ATTN_ROWS */

struct attn { /* rows of one key/value head */
	const struct kkv *kv;
	int kvh, least, most; /* all rows see keys in [least, most) */
	int first[ROWS_2];    /* each row sees [first, keys) */
	int keys[ROWS_2];
	float *out[ROWS_2];
	float *q;     /* [row][q_step], scaled */
	float *score; /* [row][score_step] */
	size_t q_step, score_step;
	float inverse[ROWS_2]; /* 1 / sum of exp */
};

/* Scores of rows x 32 keys at a time. */
INLINE void scores(const struct attn *s, const int rows)
{
	int dim = s->kv->head_dim;
	size_t group = (size_t)dim * KV_KEYS;

	for (int t = s->least / KV_GROUP * KV_GROUP; t < s->most; t += 2 * KV_KEYS) {
		const uint16_t *k = kkv_keys(s->kv, s->kvh, t);
		__m256 acc[ROWS_2][4];

		UNROLL
		for (int r = 0; r < rows; r++)
			UNROLL
		for (int g = 0; g < 4; g++)
			acc[r][g] = _mm256_setzero_ps();
		for (int i = 0; i < dim; i++, k += KV_KEYS)
			UNROLL
		for (int g = 0; g < 4; g++) {
			const uint16_t *at = k + (size_t)(g / 2) * group + 8 * (g % 2);
			__m256 key = load_f16(at);

			UNROLL
			for (int r = 0; r < rows; r++) {
				const float *q = s->q + (size_t)r * s->q_step + (size_t)i;

				acc[r][g] = _mm256_fmadd_ps(key, _mm256_set1_ps(*q),
							    acc[r][g]);
			}
		}
		UNROLL
		for (int r = 0; r < rows; r++)
			UNROLL
		for (int g = 0; g < 4; g++)
			_mm256_storeu_ps(s->score + (size_t)r * s->score_step + t + 8 * g,
					 acc[r][g]);
	}
}

/* Which of 8 keys from t on lie in [first, keys). */
INLINE __m256 seen(int t, int first, int keys)
{
	return _mm256_castsi256_ps(
		_mm256_andnot_si256(tail_mask(first - t), tail_mask(keys - t)));
}

/* Scores to exp(score - max), zeros where only other rows see keys. */
static void softmax(struct attn *s, int r)
{
	float *p = s->score + (size_t)r * s->score_step;
	const __m256 lowest = _mm256_set1_ps(-__builtin_inff());
	int keys = s->keys[r], first = s->first[r], start = first / 8 * 8, t;
	__m256 max = lowest, sum = _mm256_setzero_ps();

	for (t = start; t < keys; t += 8)
		max = _mm256_max_ps(max, _mm256_blendv_ps(lowest, _mm256_loadu_ps(p + t),
							  seen(t, first, keys)));
	max = _mm256_set1_ps(max_ps(max));
	for (t = s->least / 8 * 8; t < start; t += 8)
		_mm256_storeu_ps(p + t, _mm256_setzero_ps());
	for (; t < keys; t += 8) {
		__m256 e = exp_ps(_mm256_sub_ps(_mm256_loadu_ps(p + t), max));

		e = _mm256_and_ps(e, seen(t, first, keys));
		sum = _mm256_add_ps(sum, e);
		_mm256_storeu_ps(p + t, e);
	}
	for (; t < s->most; t += 8)
		_mm256_storeu_ps(p + t, _mm256_setzero_ps());
	s->inverse[r] = 1 / sum_ps(sum);
}

/* nv vectors of 8 dimensions from `dim` on. */
INLINE void weigh(const struct attn *s, int dim, const int rows, const int nv)
{
	const uint16_t *v = kkv_values(s->kv, s->kvh, s->least) + dim;
	size_t step = kkv_dims(s->kv->head_dim);
	__m256 acc[ROWS_2][4];

	UNROLL
	for (int r = 0; r < rows; r++)
		UNROLL
	for (int i = 0; i < nv; i++)
		acc[r][i] = _mm256_setzero_ps();
	for (int t = s->least; t < s->most; t++, v += step)
		UNROLL
	for (int i = 0; i < nv; i++) {
		__m256 value = load_f16(v + 8 * i);

		UNROLL
		for (int r = 0; r < rows; r++) {
			const float *p = s->score + (size_t)r * s->score_step + (size_t)t;

			acc[r][i] = _mm256_fmadd_ps(value, _mm256_set1_ps(*p), acc[r][i]);
		}
	}
	UNROLL
	for (int r = 0; r < rows; r++)
		UNROLL
	for (int i = 0; i < nv; i++)
		_mm256_maskstore_ps(
			s->out[r] + dim + 8 * i, tail_mask(s->kv->head_dim - dim - 8 * i),
			_mm256_mul_ps(acc[r][i], _mm256_set1_ps(s->inverse[r])));
}

INLINE void attend(struct attn *s, const int rows)
{
	int dim = 0;

	scores(s, rows);
	for (int r = 0; r < rows; r++)
		softmax(s, r);
	for (; dim + 32 <= s->kv->head_dim; dim += 32)
		weigh(s, dim, rows, 4);
	for (; dim < s->kv->head_dim; dim += 8)
		weigh(s, dim, rows, 1);
}

static void attend_1(struct attn *s)
{
	attend(s, 1);
}

static void attend_2(struct attn *s)
{
	attend(s, 2);
}

static void attend_3(struct attn *s)
{
	attend(s, 3);
}

static void (*const attend_rows[ROWS_2])(struct attn *) = {attend_1, attend_2, attend_3};

static void set_row(struct attn *s, int r, const float *q, float *out, int first,
		    int keys, float scale_by)
{
	int dim = s->kv->head_dim;

	for (int i = 0; i < dim; i++)
		s->q[(size_t)r * s->q_step + (size_t)i] = q[i] * scale_by;
	s->out[r] = out;
	s->first[r] = first;
	s->keys[r] = keys;
	s->least = r == 0 || first < s->least ? first : s->least;
	s->most = r == 0 || keys > s->most ? keys : s->most;
}

static void avx2_attention(const struct kkv *kv, const float *q, float *out, int ld,
			   int nq, int pos0, int heads, int h0, int h1, float scale_by,
			   int window, void *scratch)
{
	int group = heads / kv->kv_heads;
	struct attn s = {.kv = kv, .q = scratch};

	s.q_step = kkv_dims(kv->head_dim);
	s.score = s.q + ATTN_ROWS * s.q_step;
	s.score_step = attn_score_step(kv->capacity);
	for (int h = h0, end; h < h1; h = end) {
		int rows = 0;

		s.kvh = h / group;
		end = (s.kvh + 1) * group < h1 ? (s.kvh + 1) * group : h1;
		for (int i = 0; i < nq * (end - h); i++) {
			int token = i / (end - h), head = h + i % (end - h);
			size_t at = (size_t)token * (size_t)ld +
				    (size_t)head * (size_t)kv->head_dim;

			set_row(&s, rows++, q + at, out + at,
				attn_first_key(pos0 + token + 1, window),
				pos0 + token + 1, scale_by);
			if (rows == ROWS_2 || i + 1 == nq * (end - h)) {
				attend_rows[rows - 1](&s);
				rows = 0;
			}
		}
	}
}
