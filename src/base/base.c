/* Allocation that aborts and the assertion that stays.  Any thread. */
#include "base/base.h"

#include <execinfo.h>
#include <stdarg.h>
#include <unistd.h>

enum { BACKTRACE_FRAMES = 32 };

_Noreturn void assert_failed(const char *expr, const char *file, int line)
{
	void *frames[BACKTRACE_FRAMES];

	fprintf(stderr, "hob: assertion failed: %s (%s:%d)\n", expr, file, line);
	backtrace_symbols_fd(frames, backtrace(frames, BACKTRACE_FRAMES), STDERR_FILENO);
	abort();
}

static void *checked(void *p)
{
	if (!p) {
		fputs("hob: out of memory\n", stderr);
		abort();
	}
	return p;
}

void *xmalloc(size_t bytes)
{
	return checked(malloc(bytes ? bytes : 1));
}

void *xcalloc(size_t n, size_t bytes)
{
	return checked(
		calloc(n ? n : 1, bytes ? bytes : 1)); /* calloc checks the product */
}

void *xrealloc(void *p, size_t bytes)
{
	return checked(realloc(p, bytes ? bytes : 1));
}

char *xstrdup(const char *s)
{
	return checked(strdup(s));
}

char *xstrndup(const char *s, size_t n)
{
	return checked(strndup(s, n));
}

char *xasprintf(const char *fmt, ...)
{
	va_list ap;
	char *s = NULL;

	va_start(ap, fmt);
	if (vasprintf(&s, fmt, ap) < 0)
		s = NULL;
	va_end(ap);
	return checked(s);
}
