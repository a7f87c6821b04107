/* The AVX-512 backend's second half: rotation, key/value cache, attention.  Included by
 * avx512.c only, inside its target pragma, so that always_inline works across the two.
 *
 * Rows of attention are (token, head) pairs that share a key/value head; six are worked
 * on together so that each converted vector of keys or values is used six times.  Two
 * passes: scores of all keys go to scratch, then softmax, then the weighted sum of values
 * in key order.  All sums of a row run in an order that depends on its own position
 * alone. */

/* Pairs (2i, 2i + 1): eight in a vector. */
INLINE int rope_interleaved(float *x, int pairs, const float *cs)
{
	int i = 0;

	for (; i + 8 <= pairs; i += 8) {
		__m512 c = _mm512_loadu_ps(cs + 2 * i), v = _mm512_loadu_ps(x + 2 * i);
		__m512 swapped = _mm512_permute_ps(v, 0xb1);

		swapped = _mm512_mul_ps(swapped, _mm512_movehdup_ps(c));
		_mm512_storeu_ps(x + 2 * i,
				 _mm512_fmaddsub_ps(v, _mm512_moveldup_ps(c), swapped));
	}
	return i;
}

/* Pairs (i, i + pairs): sixteen in two vectors. */
INLINE int rope_halves(float *x, int pairs, const float *cs)
{
	const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22,
					       24, 26, 28, 30);
	const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
	int i = 0;

	for (; i + 16 <= pairs; i += 16) {
		__m512 c0 = _mm512_loadu_ps(cs + 2 * i),
		       c1 = _mm512_loadu_ps(cs + 2 * i + 16);
		__m512 cos = _mm512_permutex2var_ps(c0, even, c1);
		__m512 sin = _mm512_permutex2var_ps(c0, odd, c1);
		__m512 a = _mm512_loadu_ps(x + i), b = _mm512_loadu_ps(x + pairs + i);

		_mm512_storeu_ps(x + i, _mm512_fmsub_ps(a, cos, _mm512_mul_ps(b, sin)));
		_mm512_storeu_ps(x + pairs + i,
				 _mm512_fmadd_ps(a, sin, _mm512_mul_ps(b, cos)));
	}
	return i;
}

static void avx512_rope(float *x, int head_dim, int rot, const float *cs,
			bool interleaved, int h0, int h1)
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

static void avx512_kv_store(const struct kkv *kv, int pos, const float *k, const float *v,
			    int kvh0, int kvh1)
{
	for (int h = kvh0; h < kvh1; h++) {
		uint16_t *keys = kkv_keys(kv, h, pos) + pos % KV_KEYS;
		uint16_t *values = kkv_values(kv, h, pos);
		size_t row = (size_t)h * (size_t)kv->head_dim;

		for (int i = 0; i < kv->head_dim; i += 16) {
			__mmask16 m = tail_mask(kv->head_dim - i);
			__m512 kf = _mm512_maskz_loadu_ps(m, k + row + i);
			__m512 vf = _mm512_maskz_loadu_ps(m, v + row + i);
			uint16_t lane[16];

			_mm256_storeu_si256(
				(void *)lane,
				_mm512_cvtps_ph(kf, _MM_FROUND_TO_NEAREST_INT));
			_mm256_storeu_si256(
				(void *)(values + i),
				_mm512_cvtps_ph(vf, _MM_FROUND_TO_NEAREST_INT));
			for (int j = 0; j < 16 && i + j < kv->head_dim; j++)
				keys[(i + j) * KV_KEYS] = lane[j];
		}
	}
}

struct attn { /* up to ATTN_ROWS rows of one key/value head */
	const struct kkv *kv;
	int kvh, least, most; /* all rows see keys in [least, most) */
	int first[ATTN_ROWS]; /* each row sees [first, keys) */
	int keys[ATTN_ROWS];
	float *out[ATTN_ROWS];
	float *q;     /* [row][q_step], scaled */
	float *score; /* [row][score_step] */
	size_t q_step, score_step;
	float inverse[ATTN_ROWS]; /* 1 / sum of exp */
};

/* Scores of rows x 64 keys at a time.  The last group may hold keys never stored: their
 * lanes are masked in the softmax. */
INLINE void scores(const struct attn *s, const int rows)
{
	int dim = s->kv->head_dim;
	size_t group = (size_t)dim * KV_KEYS;

	for (int t = s->least / KV_GROUP * KV_GROUP; t < s->most; t += KV_GROUP) {
		const uint16_t *k = kkv_keys(s->kv, s->kvh, t);
		__m512 acc[ATTN_ROWS][4];

		UNROLL
		for (int r = 0; r < rows; r++)
			UNROLL
		for (int g = 0; g < 4; g++)
			acc[r][g] = _mm512_setzero_ps();
		for (int i = 0; i < dim; i++, k += KV_KEYS) {
			__m512 key[4];

			UNROLL
			for (int g = 0; g < 4; g++)
				key[g] = load_f16(k + (size_t)g * group);
			UNROLL
			for (int r = 0; r < rows; r++) {
				__m512 q = _mm512_set1_ps(
					s->q[(size_t)r * s->q_step + (size_t)i]);

				UNROLL
				for (int g = 0; g < 4; g++)
					acc[r][g] = _mm512_fmadd_ps(key[g], q, acc[r][g]);
			}
		}
		UNROLL
		for (int r = 0; r < rows; r++)
			UNROLL
		for (int g = 0; g < 4; g++)
			_mm512_storeu_ps(s->score + (size_t)r * s->score_step + t +
						 16 * g,
					 acc[r][g]);
	}
}

/* Which of 16 keys from t on lie in [first, keys). */
INLINE __mmask16 seen(int t, int first, int keys)
{
	return tail_mask(keys - t) & (__mmask16)~tail_mask(first - t);
}

/* Scores to exp(score - max), zeros where only other rows see keys. */
static void softmax(struct attn *s, int r)
{
	float *p = s->score + (size_t)r * s->score_step;
	int keys = s->keys[r], first = s->first[r], start = first / 16 * 16, t;
	__m512 max = _mm512_set1_ps(-__builtin_inff()), sum = _mm512_setzero_ps();

	for (t = start; t < keys; t += 16)
		max = _mm512_mask_max_ps(max, seen(t, first, keys), max,
					 _mm512_loadu_ps(p + t));
	max = _mm512_set1_ps(_mm512_reduce_max_ps(max));
	for (t = s->least / 16 * 16; t < start; t += 16)
		_mm512_storeu_ps(p + t, _mm512_setzero_ps());
	for (; t < keys; t += 16) {
		__m512 e = exp_ps(_mm512_sub_ps(_mm512_loadu_ps(p + t), max));

		e = _mm512_maskz_mov_ps(seen(t, first, keys), e);
		sum = _mm512_add_ps(sum, e);
		_mm512_storeu_ps(p + t, e);
	}
	for (; t < s->most; t += 16)
		_mm512_storeu_ps(p + t, _mm512_setzero_ps());
	s->inverse[r] = 1 / _mm512_reduce_add_ps(sum);
}

/* nv vectors of 16 dimensions from `dim` on. */
INLINE void weigh(const struct attn *s, int dim, const int rows, const int nv)
{
	const uint16_t *v = kkv_values(s->kv, s->kvh, s->least) + dim;
	size_t step = kkv_dims(s->kv->head_dim);
	__m512 acc[ATTN_ROWS][4];

	UNROLL
	for (int r = 0; r < rows; r++)
		UNROLL
	for (int i = 0; i < nv; i++)
		acc[r][i] = _mm512_setzero_ps();
	for (int t = s->least; t < s->most; t++, v += step) {
		__m512 value[4];

		UNROLL
		for (int i = 0; i < nv; i++)
			value[i] = load_f16(v + 16 * i);
		UNROLL
		for (int r = 0; r < rows; r++) {
			__m512 p = _mm512_set1_ps(
				s->score[(size_t)r * s->score_step + (size_t)t]);

			UNROLL
			for (int i = 0; i < nv; i++)
				acc[r][i] = _mm512_fmadd_ps(value[i], p, acc[r][i]);
		}
	}
	UNROLL
	for (int r = 0; r < rows; r++)
		UNROLL
	for (int i = 0; i < nv; i++)
		_mm512_mask_storeu_ps(
			s->out[r] + dim + 16 * i,
			tail_mask(s->kv->head_dim - dim - 16 * i),
			_mm512_mul_ps(acc[r][i], _mm512_set1_ps(s->inverse[r])));
}

INLINE void attend(struct attn *s, const int rows)
{
	int dim = 0;

	scores(s, rows);
	for (int r = 0; r < rows; r++)
		softmax(s, r);
	for (; dim + 64 <= s->kv->head_dim; dim += 64)
		weigh(s, dim, rows, 4);
	for (; dim < s->kv->head_dim; dim += 16)
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

static void attend_4(struct attn *s)
{
	attend(s, 4);
}

static void attend_5(struct attn *s)
{
	attend(s, 5);
}

static void attend_6(struct attn *s)
{
	attend(s, 6);
}

static void (*const attend_rows[ATTN_ROWS])(struct attn *) = {
	attend_1, attend_2, attend_3, attend_4, attend_5, attend_6};

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

static void avx512_attention(const struct kkv *kv, const float *q, float *out, int ld,
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
			if (rows == ATTN_ROWS || i + 1 == nq * (end - h)) {
				attend_rows[rows - 1](&s);
				rows = 0;
			}
		}
	}
}
