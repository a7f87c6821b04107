/* Log lines on standard error, one write(2) each.  The level and the name are the only mutable
 * globals of the program besides main.c's: every thread logs, and passing a logger through every
 * call would buy nothing. */
#include "base/log.h"

#include <stdarg.h>
#include <time.h>
#include <unistd.h>

enum { LINE_BYTES = 1024 };

static enum log_level max_level = LOG_LV_INFO;
static const char *log_name = "hob";

void log_set_level(enum log_level level)
{
	max_level = level;
}

void log_set_name(const char *name)
{
	log_name = name;
}

static int line_prefix(char *line, size_t size, enum log_level level)
{
	static const char *const names[] = {"error", "warn", "info", "debug"};
	static const int syslog_levels[] = {3, 4, 6, 7};
	struct timespec t;
	struct tm tm;

	if (getenv("JOURNAL_STREAM"))
		return snprintf(line, size, "<%d>%s: ", syslog_levels[level], log_name);
	clock_gettime(CLOCK_REALTIME, &t);
	localtime_r(&t.tv_sec, &tm);
	return snprintf(line, size, "%02d:%02d:%02d.%03ld %s %s: ", tm.tm_hour, tm.tm_min,
			tm.tm_sec, t.tv_nsec / 1000000, log_name, names[level]);
}

static void log_line(enum log_level level, const char *fmt, va_list ap)
{
	char line[LINE_BYTES];
	int n, m;

	if (level > max_level)
		return;
	n = line_prefix(line, sizeof line, level);
	m = vsnprintf(line + n, sizeof line - (size_t)n - 1, fmt, ap);
	n += m < (int)sizeof line - n - 1 ? m : (int)sizeof line - n - 2;
	for (int i = 0; i < n;
	     i++) /* one event, one line: no forged lines, no terminal escapes */
		if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
			line[i] = ' ';
	line[n] = '\n';
	if (write(STDERR_FILENO, line, (size_t)n + 1) < 0)
		return; /* nowhere left to say so */
}

#define LOG_FUNCTION(name, level)         \
	void name(const char *fmt, ...)   \
	{                                 \
		va_list ap;               \
                                          \
		va_start(ap, fmt);        \
		log_line(level, fmt, ap); \
		va_end(ap);               \
	}

LOG_FUNCTION(log_error, LOG_LV_ERROR)
LOG_FUNCTION(log_warn, LOG_LV_WARN)
LOG_FUNCTION(log_info, LOG_LV_INFO)
LOG_FUNCTION(log_debug, LOG_LV_DEBUG)
