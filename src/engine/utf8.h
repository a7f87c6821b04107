/* UTF-8, one character at a time, as Unicode 15 table 3-7 defines it (no surrogates,
 * nothing overlong, nothing above U+10FFFF). */
#ifndef HOB_UTF8_H
#define HOB_UTF8_H

#include "base/base.h"

enum utf8_kind {
	UTF8_WHOLE,   /* *len bytes are one character */
	UTF8_PARTIAL, /* all n bytes begin one; more may complete it */
	UTF8_BAD      /* *len bytes can be part of no character */
};

enum utf8_kind utf8_next(const void *p, size_t n, size_t *len); /* n >= 1 */

#endif
