/* One line per event on standard error: level, text.  Prompts, answers and keys are never
 * logged.  Safe from any thread (one write(2) a line).  Under systemd (JOURNAL_STREAM set)
 * lines carry the <N> priority prefix instead of a time. */
#ifndef HOB_LOG_H
#define HOB_LOG_H

#include "base/base.h"

enum log_level { LOG_LV_ERROR, LOG_LV_WARN, LOG_LV_INFO, LOG_LV_DEBUG };

void log_set_level(enum log_level level);
void log_set_name(const char *name); /* "hob", "engine"; static storage */
void log_error(const char *fmt, ...) PRINTF(1, 2);
void log_warn(const char *fmt, ...) PRINTF(1, 2);
void log_info(const char *fmt, ...) PRINTF(1, 2);
void log_debug(const char *fmt, ...) PRINTF(1, 2);

#endif
