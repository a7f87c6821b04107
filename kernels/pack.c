/* From a file's rows to the interleaved panels that the kernels stream.  Pure, any
 * thread.
 *
 * Done once when a model is loaded, by all threads on disjoint panels.  The types that
 * matter for load time (Q4_0, Q4_1, Q8_0) move four bytes at a time, all rows of a tile
 * together so that each line of the copy is written once.  K-quants get f16 scales per
 * run of 32 or 16 in place of 6-bit ones: 2^-11 relative error of a scale, a simpler
 * kernel. */
#include <assert.h>
#include <string.h>

#include "kernels/half.h"
#include "kernels/kernels.h"
#include "kernels/layout.h"
#include "kernels/quant.h"

struct rows { /* up to 16 rows of a file */
	const uint8_t *first;
	size_t stride;
	int n;
};

static const void *row_at(const struct rows *s, int r, size_t offset)
{
	return s->first + (size_t)r * s->stride + offset;
}

static bool form_of(enum quant_type type, enum kmat_form *form)
{
	switch (type) {
	case QT_Q4_0:
	case QT_Q4_1:
	case QT_Q4_K:
		*form = FORM_U4;
		return true;
	case QT_Q5_0:
	case QT_Q8_0:
		*form = FORM_U8;
		return true;
	case QT_Q5_K:
		*form = FORM_U8M;
		return true;
	case QT_Q6_K:
		*form = FORM_U8S16;
		return true;
	case QT_F16:
		*form = FORM_F16;
		return true;
	case QT_BF16:
		*form = FORM_BF16;
		return true;
	case QT_F32:
		*form = FORM_F32;
		return true;
	}
	return false;
}

bool kmat_plan(struct kmat *m, enum quant_type type, int rows, int cols, size_t *bytes)
{
	enum kmat_form form;

	if (!form_of(type, &form) || rows <= 0 || rows > 1 << 28 ||
	    quant_row_bytes(type, cols) == 0)
		return false;
	*m = (struct kmat){.form = form, .rows = rows, .cols = cols};
	m->panels = (rows + 2 * PANEL_ROWS - 1) / (2 * PANEL_ROWS) * 2;
	*bytes = (size_t)m->panels * kmat_panel_bytes(form, cols);
	return true;
}

static void panel_q4_0(struct tile_u4 *t, const struct rows *s, int blocks)
{
	for (int b = 0; b < blocks; b++, t++)
		for (int r = 0; r < s->n; r++) {
			const struct q4_0 *q = row_at(s, r, (size_t)b * sizeof(*q));

			t->d[r] = q->d;
			t->m[r] = f32_to_f16(-8 * f16_to_f32(q->d));
			for (int j = 0; j < 4; j++)
				memcpy(t->q[j][r], q->q + 4 * j, 4);
		}
}

static void panel_q4_1(struct tile_u4 *t, const struct rows *s, int blocks)
{
	for (int b = 0; b < blocks; b++, t++)
		for (int r = 0; r < s->n; r++) {
			const struct q4_1 *q = row_at(s, r, (size_t)b * sizeof(*q));

			t->d[r] = q->d;
			t->m[r] = q->m;
			for (int j = 0; j < 4; j++)
				memcpy(t->q[j][r], q->q + 4 * j, 4);
		}
}

static void panel_q8_0(struct tile_u8 *t, const struct rows *s, int blocks)
{
	for (int b = 0; b < blocks; t += b % 2, b++)
		for (int r = 0; r < s->n; r++) {
			const struct q8_0 *q = row_at(s, r, (size_t)b * sizeof(*q));

			t->d[b % 2][r] = q->d;
			for (int j = 0; j < QUADS; j++) {
				uint32_t four;

				memcpy(&four, q->q + 4 * j, 4);
				four ^= 0x80808080; /* + 128 in each byte */
				memcpy(t->q[b % 2][j][r], &four, 4);
			}
		}
}

static void panel_q5_0(struct tile_u8 *t, const struct rows *s, int blocks)
{
	for (int b = 0; b < blocks; t += b % 2, b++)
		for (int r = 0; r < s->n; r++) {
			const struct q5_0 *q = row_at(s, r, (size_t)b * sizeof(*q));

			t->d[b % 2][r] = q->d;
			for (int k = 0; k < BLOCK_COLS; k++)
				t->q[b % 2][k / 4][r][k % 4] =
					(uint8_t)(quant_q5_0_value(q, k) + 128);
		}
}

/* The scale and the offset of a run of 32 in a block of 256. */
static void k_run(uint16_t *d, uint16_t *m, uint16_t dd, uint16_t dmin, int scale,
		  int min)
{
	*d = f32_to_f16(f16_to_f32(dd) * (float)scale);
	*m = f32_to_f16(-f16_to_f32(dmin) * (float)min);
}

static void panel_q4_k(struct tile_u4 *t, const struct rows *s, int blocks)
{
	for (int b = 0; b < blocks; b += 8, t += 8)
		for (int r = 0; r < s->n; r++) {
			const struct q4_k *f = row_at(s, r, (size_t)b / 8 * sizeof(*f));
			uint8_t q[256], both[16], scale[8], min[8];

			quant_q4_k_values(f, q);
			quant_k_scales(f->scales, scale, min);
			for (int i = 0; i < 8; i++) {
				k_run(&t[i].d[r], &t[i].m[r], f->d, f->dmin, scale[i],
				      min[i]);
				for (int k = 0; k < 16; k++)
					both[k] = (uint8_t)(q[i * 32 + k] |
							    q[i * 32 + 16 + k] << 4);
				for (int j = 0; j < 4; j++)
					memcpy(t[i].q[j][r], both + 4 * j, 4);
			}
		}
}

static void panel_q5_k(struct tile_u8m *t, const struct rows *s, int blocks)
{
	for (int b = 0; b < blocks; b += 8, t += 8)
		for (int r = 0; r < s->n; r++) {
			const struct q5_k *f = row_at(s, r, (size_t)b / 8 * sizeof(*f));
			uint8_t q[256], scale[8], min[8];

			quant_q5_k_values(f, q);
			quant_k_scales(f->scales, scale, min);
			for (int i = 0; i < 8; i++) {
				k_run(&t[i].d[r], &t[i].m[r], f->d, f->dmin, scale[i],
				      min[i]);
				for (int j = 0; j < QUADS; j++)
					memcpy(t[i].q[j][r], q + i * 32 + 4 * j, 4);
			}
		}
}

static void panel_q6_k(struct tile_u8m *t, const struct rows *s, int blocks)
{
	for (int b = 0; b < blocks; b += 8, t += 8)
		for (int r = 0; r < s->n; r++) {
			const struct q6_k *f = row_at(s, r, (size_t)b / 8 * sizeof(*f));
			float d = f16_to_f32(f->d);
			uint8_t q[256];

			quant_q6_k_values(f, q);
			for (int i = 0; i < 8; i++) {
				t[i].d[r] = f32_to_f16(d * (float)f->scale[2 * i]);
				t[i].m[r] = f32_to_f16(d * (float)f->scale[2 * i + 1]);
				for (int j = 0; j < QUADS; j++)
					memcpy(t[i].q[j][r], q + i * 32 + 4 * j, 4);
			}
		}
}

static void panel_floats(uint8_t *panel, const struct rows *s, int cols, int size)
{
	for (int k = 0; k < cols; k++, panel += PANEL_ROWS * size)
		for (int r = 0; r < s->n; r++)
			memcpy(panel + r * size, row_at(s, r, (size_t)(k * size)),
			       (size_t)size);
}

static void pack_panel(const struct kmat *m, enum quant_type type, void *panel,
		       const struct rows *s)
{
	int blocks = m->cols / BLOCK_COLS;

	switch (type) {
	case QT_Q4_0:
		panel_q4_0(panel, s, blocks);
		break;
	case QT_Q4_1:
		panel_q4_1(panel, s, blocks);
		break;
	case QT_Q8_0:
		panel_q8_0(panel, s, blocks);
		break;
	case QT_Q5_0:
		panel_q5_0(panel, s, blocks);
		break;
	case QT_Q4_K:
		panel_q4_k(panel, s, blocks);
		break;
	case QT_Q5_K:
		panel_q5_k(panel, s, blocks);
		break;
	case QT_Q6_K:
		panel_q6_k(panel, s, blocks);
		break;
	case QT_F16:
	case QT_BF16:
		panel_floats(panel, s, m->cols, 2);
		break;
	case QT_F32:
		panel_floats(panel, s, m->cols, 4);
		break;
	}
}

void kmat_pack(struct kmat *m, enum quant_type type, const void *src_rows, int row0,
	       int nrows)
{
	size_t stride = quant_row_bytes(type, m->cols);
	enum kmat_form form;

	assert(form_of(type, &form) && form == m->form && stride != 0);
	assert(row0 % PANEL_ROWS == 0 && row0 >= 0 && nrows >= 0 &&
	       row0 + nrows <= m->rows);
	assert(nrows % PANEL_ROWS == 0 || row0 + nrows == m->rows);
	for (int r = 0; r < nrows; r += PANEL_ROWS) {
		int n = nrows - r < PANEL_ROWS ? nrows - r : PANEL_ROWS;
		struct rows s = {(const uint8_t *)src_rows + (size_t)r * stride, stride,
				 n};

		pack_panel(m, type, kmat_panel(m, (row0 + r) / PANEL_ROWS), &s);
	}
}

/* Padding rows only ever reach outputs that nobody stores; zeroed so that they are never
 * NaN traps or uninitialised reads. */
static void zero_rows(const struct kmat *m, uint8_t *panel, int from)
{
	size_t bytes = kmat_panel_bytes(m->form, m->cols), keep = (size_t)from * 4, tile;

	switch (m->form) {
	case FORM_U4:
		tile = sizeof(struct tile_u4);
		break;
	case FORM_U8:
		tile = sizeof(struct tile_u8);
		break;
	case FORM_U8M:
	case FORM_U8S16:
		tile = sizeof(struct tile_u8m);
		break;
	default: { /* floats: a line is one of K */
		size_t line = m->form == FORM_F32 ? LINE_BYTES : LINE_BYTES / 2;

		keep = line / PANEL_ROWS * (size_t)from;
		for (size_t i = 0; i < (size_t)m->cols * line; i += line)
			memset(panel + i + keep, 0, line - keep);
		return;
	}
	}
	for (size_t t = 0; t < bytes;
	     t += tile) { /* a line of two sets of scales, lines of bytes */
		memset(panel + t + keep / 2, 0, (LINE_BYTES - keep) / 2);
		memset(panel + t + (LINE_BYTES + keep) / 2, 0, (LINE_BYTES - keep) / 2);
		for (size_t i = LINE_BYTES; i < tile; i += LINE_BYTES)
			memset(panel + t + i + keep, 0, LINE_BYTES - keep);
	}
}

void kmat_pack_tail(struct kmat *m)
{
	size_t bytes = kmat_panel_bytes(m->form, m->cols);

	for (int p = m->rows / PANEL_ROWS; p < m->panels; p++) {
		int used = m->rows - p * PANEL_ROWS;

		if (used > 0)
			zero_rows(m, kmat_panel(m, p), used);
		else
			memset(kmat_panel(m, p), 0, bytes);
	}
}

/* Cuts the next piece, 64-byte aligned, from memory whose size the same calls have added
 * up. */
static void *take(uint8_t *memory, size_t *used, size_t bytes)
{
	void *p = memory ? memory + *used : NULL;

	*used += round_up(bytes, LINE_BYTES);
	return p;
}

static size_t lay_out_acts(struct kacts *a, uint8_t *memory, int cols, int max_n)
{
	size_t n = (size_t)max_n, k = (size_t)cols, used = 0;

	*a = (struct kacts){.cols = cols, .max_n = max_n};
	a->x = take(memory, &used, n * k * 4);
	a->q = take(memory, &used, n * k);
	a->d = take(memory, &used, n * (k / 32) * 4);
	a->sum = take(memory, &used, n * (k / 32) * 4);
	a->off32 = take(memory, &used, n * (k / 32) * 4);
	a->off16 = take(memory, &used, n * (k / 16) * 4);
	return used;
}

size_t kacts_bytes(int cols, int max_n)
{
	struct kacts a;

	return lay_out_acts(&a, NULL, cols, max_n);
}

void kacts_init(struct kacts *a, void *memory, int cols, int max_n)
{
	lay_out_acts(a, memory, cols, max_n);
}

size_t kkv_bytes(int capacity, int kv_heads, int head_dim)
{
	return kkv_positions(capacity) * (size_t)kv_heads * kkv_dims(head_dim) * 2;
}

size_t kernels_scratch_bytes(int cols)
{
	return round_up((size_t)2 * PANEL_ROWS * (size_t)cols, LINE_BYTES) + LINE_BYTES;
}

/* Scores of ATTN_ROWS queries over all positions, and their scaled copies. */
size_t kernels_attn_scratch_bytes(int capacity, int head_dim)
{
	return ATTN_ROWS * (attn_score_step(capacity) + kkv_dims(head_dim)) * 4 +
	       LINE_BYTES;
}
