/* Conversation ids: 26 characters that sort by the time they were made. */
#ifndef HOB_MEMORY_ULID_H
#define HOB_MEMORY_ULID_H

#include <stdbool.h>
#include <stdint.h>

enum { ULID_BYTES = 27 }; /* with the NUL */

/* 48 bits of unix milliseconds and 80 random ones, in Crockford's base 32 (github.com/ulid/spec). */
void ulid_make(int64_t unix_ms, char out[ULID_BYTES]);
/* The milliseconds in front; 0 when it is no ULID, or one from behind the year 2100. */
int64_t ulid_ms(const char *id);

#endif
