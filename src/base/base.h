/* What every file may use: sizes of arrays, the owner of an embedded member, allocation
 * that aborts, and the list of functions that nobody may call.
 *
 * Out of memory aborts: sizes that come from outside are capped before they get here. */
#ifndef HOB_BASE_H
#define HOB_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ARRAY_LEN(a)                    (sizeof(a) / sizeof((a)[0]))
#define CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define PRINTF(fmt, args)               __attribute__((format(printf, fmt, args)))
#define UNUSED(x)                       ((void)(x))

/* Never return NULL; xcalloc zeroes and checks the product for overflow. */
void *xmalloc(size_t bytes);
void *xcalloc(size_t n, size_t bytes);
void *xrealloc(void *p, size_t bytes);
char *xstrdup(const char *s);
char *xstrndup(const char *s, size_t n);
char *xasprintf(const char *fmt, ...) PRINTF(1, 2);

/* True and *out = a*b or a+b; false on overflow, *out untouched. */
static inline bool size_mul(size_t a, size_t b, size_t *out)
{
	size_t r;

	if (__builtin_mul_overflow(a, b, &r))
		return false;
	*out = r;
	return true;
}

static inline bool size_add(size_t a, size_t b, size_t *out)
{
	size_t r;

	if (__builtin_add_overflow(a, b, &r))
		return false;
	*out = r;
	return true;
}

/* An assertion that stays in release builds: for what cannot happen, never for input. */
#define ASSERT(x) ((x) ? (void)0 : assert_failed(#x, __FILE__, __LINE__))
_Noreturn void assert_failed(const char *expr, const char *file, int line);

#pragma GCC poison strcpy strcat sprintf vsprintf strtok atoi atol gets

#endif
