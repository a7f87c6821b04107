/* The quantised types of GGUF files: sizes, names, and one row to floats.  Pure, any
 * thread.
 *
 * Block layouts are those of ggml's quantised types (ggml-common.h and ggml-quants.c in
 * the ggml repository).  This is the definition that all packing and all kernels are
 * tested against, so it favours plainness over speed. */
#include "kernels/quant.h"

#include <assert.h>

#include "kernels/half.h"

static const struct {
	const char *name;
	int block, bytes; /* weights and bytes of a block */
} types[] = {
	[QT_F32] = {"F32", 1, 4},
	[QT_F16] = {"F16", 1, 2},
	[QT_Q4_0] = {"Q4_0", 32, sizeof(struct q4_0)},
	[QT_Q4_1] = {"Q4_1", 32, sizeof(struct q4_1)},
	[QT_Q5_0] = {"Q5_0", 32, sizeof(struct q5_0)},
	[QT_Q8_0] = {"Q8_0", 32, sizeof(struct q8_0)},
	[QT_Q4_K] = {"Q4_K", 256, sizeof(struct q4_k)},
	[QT_Q5_K] = {"Q5_K", 256, sizeof(struct q5_k)},
	[QT_Q6_K] = {"Q6_K", 256, sizeof(struct q6_k)},
	[QT_BF16] = {"BF16", 1, 2},
};

static bool known(enum quant_type type)
{
	return (unsigned)type < sizeof(types) / sizeof(types[0]) && types[type].name;
}

const char *quant_name(enum quant_type type)
{
	return known(type) ? types[type].name : NULL;
}

size_t quant_row_bytes(enum quant_type type, int cols)
{
	if (!known(type) || cols <= 0 || cols % types[type].block != 0)
		return 0;
	return (size_t)(cols / types[type].block) * (size_t)types[type].bytes;
}

/* Eight pairs of 6 bits in 12 bytes: the first four whole, the others as 4 bits and 2
 * bits, the latter in the unused tops of the former. */
void quant_k_scales(const uint8_t packed[12], uint8_t scale[8], uint8_t min[8])
{
	for (int j = 0; j < 4; j++) {
		scale[j] = packed[j] & 63;
		min[j] = packed[j + 4] & 63;
		scale[j + 4] = (uint8_t)((packed[j + 8] & 15) | packed[j] >> 6 << 4);
		min[j + 4] = (uint8_t)(packed[j + 8] >> 4 | packed[j + 4] >> 6 << 4);
	}
}

/* Pairs of runs share 32 bytes: the even one in the low nibbles, the odd one in the high.
 * These three loops decide how long loading a K-quant takes; their shape lets the
 * compiler vectorise. */
void quant_q4_k_values(const struct q4_k *b, uint8_t q[256])
{
	for (int pair = 0; pair < 4; pair++, q += 64)
		for (int k = 0; k < 32; k++) {
			q[k] = b->q[pair * 32 + k] & 15;
			q[32 + k] = b->q[pair * 32 + k] >> 4;
		}
}

void quant_q5_k_values(const struct q5_k *b, uint8_t q[256])
{
	for (int pair = 0; pair < 4; pair++, q += 64)
		for (int k = 0; k < 32; k++) {
			uint8_t low = b->q[pair * 32 + k],
				high = (uint8_t)(b->high[k] >> (2 * pair));

			q[k] = (uint8_t)((low & 15) | (high & 1) << 4);
			q[32 + k] = (uint8_t)(low >> 4 | (high & 2) << 3);
		}
}

/* Halves of 128: 64 bytes of nibbles and 32 bytes of two-bit tops for four runs of 32. */
void quant_q6_k_values(const struct q6_k *b, uint8_t q[256])
{
	for (int half = 0; half < 2; half++, q += 128)
		for (int k = 0; k < 32; k++) {
			uint8_t first = b->low[half * 64 + k],
				second = b->low[half * 64 + 32 + k];
			uint8_t high = b->high[half * 32 + k];

			q[k] = (uint8_t)((first & 15) | (high & 3) << 4);
			q[32 + k] = (uint8_t)((second & 15) | (high & 12) << 2);
			q[64 + k] = (uint8_t)(first >> 4 | (high & 48));
			q[96 + k] = (uint8_t)(second >> 4 | (high & 192) >> 2);
		}
}

int quant_q5_0_value(const struct q5_0 *b, int k)
{
	uint32_t high;

	memcpy(&high, b->high, 4);
	return (int)((b->q[k % 16] >> (k / 16 * 4) & 15) | (high >> k & 1) << 4) - 16;
}

static void block_q4_0(const struct q4_0 *b, float *dst)
{
	for (int k = 0; k < 32; k++)
		dst[k] = f16_to_f32(b->d) *
			 (float)((b->q[k % 16] >> (k / 16 * 4) & 15) - 8);
}

static void block_q4_1(const struct q4_1 *b, float *dst)
{
	for (int k = 0; k < 32; k++)
		dst[k] = f16_to_f32(b->d) * (float)(b->q[k % 16] >> (k / 16 * 4) & 15) +
			 f16_to_f32(b->m);
}

static void block_q5_0(const struct q5_0 *b, float *dst)
{
	for (int k = 0; k < 32; k++)
		dst[k] = f16_to_f32(b->d) * (float)quant_q5_0_value(b, k);
}

static void block_q8_0(const struct q8_0 *b, float *dst)
{
	for (int k = 0; k < 32; k++)
		dst[k] = f16_to_f32(b->d) * (float)b->q[k];
}

static void k_floats(float *dst, const uint8_t q[256], const uint8_t scales[12],
		     uint16_t d, uint16_t dmin)
{
	uint8_t scale[8], min[8];

	quant_k_scales(scales, scale, min);
	for (int k = 0; k < 256; k++)
		dst[k] = f16_to_f32(d) * (float)scale[k / 32] * (float)q[k] -
			 f16_to_f32(dmin) * (float)min[k / 32];
}

static void block_q4_k(const struct q4_k *b, float *dst)
{
	uint8_t q[256];

	quant_q4_k_values(b, q);
	k_floats(dst, q, b->scales, b->d, b->dmin);
}

static void block_q5_k(const struct q5_k *b, float *dst)
{
	uint8_t q[256];

	quant_q5_k_values(b, q);
	k_floats(dst, q, b->scales, b->d, b->dmin);
}

static void block_q6_k(const struct q6_k *b, float *dst)
{
	uint8_t q[256];

	quant_q6_k_values(b, q);
	for (int k = 0; k < 256; k++)
		dst[k] = f16_to_f32(b->d) * (float)b->scale[k / 16] * (float)(q[k] - 32);
}

static void row_f16(const uint8_t *src, float *dst, int cols, float (*convert)(uint16_t))
{
	for (int i = 0; i < cols; i++) {
		uint16_t h;

		memcpy(&h, src + (size_t)i * 2, 2);
		dst[i] = convert(h);
	}
}

void dequantise_row(enum quant_type type, const void *src, float *dst, int cols)
{
	const uint8_t *p = src;

	assert(quant_row_bytes(type, cols) != 0);
	if (type == QT_F32) {
		memcpy(dst, src, (size_t)cols * 4);
		return;
	}
	if (type == QT_F16 || type == QT_BF16) {
		row_f16(p, dst, cols, type == QT_F16 ? f16_to_f32 : bf16_to_f32);
		return;
	}
	for (int k = 0; k < cols; k += types[type].block, p += types[type].bytes)
		switch (type) {
		case QT_Q4_0:
			block_q4_0((const void *)p, dst + k);
			break;
		case QT_Q4_1:
			block_q4_1((const void *)p, dst + k);
			break;
		case QT_Q5_0:
			block_q5_0((const void *)p, dst + k);
			break;
		case QT_Q8_0:
			block_q8_0((const void *)p, dst + k);
			break;
		case QT_Q4_K:
			block_q4_k((const void *)p, dst + k);
			break;
		case QT_Q5_K:
			block_q5_k((const void *)p, dst + k);
			break;
		default:
			block_q6_k((const void *)p, dst + k);
			break;
		}
}
