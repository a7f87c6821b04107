/* Half and bfloat16 to float and back, for code that may not assume F16C.
 *
 * Rounds to nearest even; keeps subnormals, infinities and NaN. */
#ifndef HOB_KERNELS_HALF_H
#define HOB_KERNELS_HALF_H

#include <stdint.h>
#include <string.h>

static inline float bits_to_f32(uint32_t bits)
{
	float f;

	memcpy(&f, &bits, 4);
	return f;
}

static inline uint32_t f32_to_bits(float f)
{
	uint32_t bits;

	memcpy(&bits, &f, 4);
	return bits;
}

static inline float bf16_to_f32(uint16_t h)
{
	return bits_to_f32((uint32_t)h << 16);
}

static inline float f16_to_f32(uint16_t h)
{
	uint32_t sign = (uint32_t)(h & 0x8000) << 16, rest = h & 0x7fff;

	if (rest >= 0x7c00) /* infinity or NaN */
		return bits_to_f32(sign | 0x7f800000 | (rest & 0x3ff) << 13);
	if (rest >= 0x400) /* rebias the exponent from 15 to 127 */
		return bits_to_f32(sign | ((rest << 13) + (112u << 23)));
	return bits_to_f32(sign | f32_to_bits((float)rest * 0x1p-24f));
}

static inline uint16_t f32_to_f16(float f)
{
	uint32_t bits = f32_to_bits(f), sign = bits >> 16 & 0x8000,
		 rest = bits & 0x7fffffff;

	if (rest > 0x7f800000)
		return (uint16_t)(sign | 0x7e00);
	if (rest >= 0x47800000) /* 65536 and up */
		return (uint16_t)(sign | 0x7c00);
	if (rest <
	    0x38800000) { /* below 2^-14: the FPU rounds at 2^-24 when 0.5 is added */
		float sum = bits_to_f32(rest) + 0.5f;

		return (uint16_t)(sign | (f32_to_bits(sum) - 0x3f000000));
	}
	rest += 0xfff + (rest >> 13 &
			 1); /* a carry into the exponent is right, also to infinity */
	return (uint16_t)(sign | (rest - (112u << 23)) >> 13);
}

#endif
