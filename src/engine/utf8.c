/* One UTF-8 character off the front of bytes.  Any thread. */
#include "engine/utf8.h"

enum utf8_kind utf8_next(const void *p, size_t n, size_t *len)
{
	const uint8_t *s = p;
	uint8_t lo = 0x80,
		hi = 0xbf; /* of the second byte: excludes overlong, surrogates */
	size_t need;

	*len = 1;
	if (s[0] < 0x80)
		return UTF8_WHOLE;
	if (s[0] < 0xc2 || s[0] > 0xf4)
		return UTF8_BAD;
	need = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
	if (s[0] == 0xe0)
		lo = 0xa0;
	else if (s[0] == 0xed)
		hi = 0x9f;
	else if (s[0] == 0xf0)
		lo = 0x90;
	else if (s[0] == 0xf4)
		hi = 0x8f;
	for (size_t i = 1; i < need; i++, lo = 0x80, hi = 0xbf) {
		if (i == n) {
			*len = n;
			return UTF8_PARTIAL;
		}
		if (s[i] < lo || s[i] > hi) {
			*len = i; /* the maximal subpart: one U+FFFD for it */
			return UTF8_BAD;
		}
	}
	*len = need;
	return UTF8_WHOLE;
}
