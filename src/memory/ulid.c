/* ULIDs.  Any thread.  Two in one millisecond do not sort by making: nothing here needs that. */
#include "memory/ulid.h"

#include <string.h>
#include <sys/random.h>
#include "base/base.h"

static const char digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

int64_t ulid_ms(const char *id)
{
	static const int64_t end = 4102444800000; /* 2100-01-01 */
	int64_t ms = 0;

	if (strlen(id) != ULID_BYTES - 1)
		return 0;
	for (int i = 0; i < 10; i++) {
		const char *at = strchr(digits, id[i]);

		if (!at)
			return 0;
		ms = ms << 5 | (at - digits);
	}
	return ms < end ? ms : 0;
}

void ulid_make(int64_t unix_ms, char out[ULID_BYTES])
{
	unsigned char raw[16];
	unsigned acc = 0;
	int bits = 2; /* 128 bits in 26 digits of 5: the first carries only 3 */

	for (int i = 0; i < 6; i++)
		raw[i] = (unsigned char)(unix_ms >> (40 - 8 * i));
	ASSERT(getrandom(raw + 6, 10, 0) == 10);
	for (int i = 0, at = 0; i < 16; i++) {
		acc = acc << 8 | raw[i];
		for (bits += 8; bits >= 5; bits -= 5)
			out[at++] = digits[acc >> (bits - 5) & 31];
		acc &= (1u << bits) - 1;
	}
	out[ULID_BYTES - 1] = 0;
}
