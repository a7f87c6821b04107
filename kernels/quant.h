/* Blocks of GGUF's quantised types as they lie in the file (little-endian), and their
 * values.
 *
 * For quant.c, pack.c and tests only; everybody else uses kernels.h. */
#ifndef HOB_KERNELS_QUANT_H
#define HOB_KERNELS_QUANT_H

#include "kernels/kernels.h"

/* Packed and so of alignment 1: a file promises 32 bytes for a tensor, not for a row. */
#define FILE_BLOCK __attribute__((packed))

struct FILE_BLOCK q4_0 { /* w = d * (q - 8); low nibbles k = 0..15, high 16..31 */
	uint16_t d;
	uint8_t q[16];
};

struct FILE_BLOCK q4_1 { /* w = d * q + m */
	uint16_t d, m;
	uint8_t q[16];
};

struct FILE_BLOCK
	q5_0 { /* w = d * (q - 16); bit k of high is the fifth bit of weight k */
	uint16_t d;
	uint8_t high[4], q[16];
};

struct FILE_BLOCK q8_0 { /* w = d * q */
	uint16_t d;
	int8_t q[32];
};

struct FILE_BLOCK q4_k { /* w = d * scale * q - dmin * min, eight runs of 32 */
	uint16_t d, dmin;
	uint8_t scales[12], q[128];
};

struct FILE_BLOCK q5_k {
	uint16_t d, dmin;
	uint8_t scales[12], high[32], q[128];
};

struct FILE_BLOCK q6_k { /* w = d * scale * (q - 32), sixteen runs of 16 */
	uint8_t low[128], high[64];
	int8_t scale[16];
	uint16_t d;
};

void quant_k_scales(const uint8_t packed[12], uint8_t scale[8], uint8_t min[8]);
void quant_q4_k_values(const struct q4_k *b, uint8_t q[256]); /* 0..15 */
void quant_q5_k_values(const struct q5_k *b, uint8_t q[256]); /* 0..31 */
void quant_q6_k_values(const struct q6_k *b, uint8_t q[256]); /* 0..63 */
int quant_q5_0_value(const struct q5_0 *b, int k);            /* -16..15 */

#endif
