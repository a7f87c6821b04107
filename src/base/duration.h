/* Durations as people and Ollama's clients write them: "90s", "5m", "1h30m", "500ms", a bare number of
 * seconds, "-1" or "forever" without an end.  Any thread. */
#ifndef HOB_DURATION_H
#define HOB_DURATION_H

#include "base/base.h"

enum { DURATION_MAX_DAYS = 3650 };
#define DURATION_FOREVER INT64_C(-1)

/* false: not a duration, or one beyond DURATION_MAX_DAYS. *ms >= 0, or DURATION_FOREVER. */
bool duration_parse(const char *text, int64_t *ms);
/* From a number of seconds, as JSON has it: negative is forever. */
bool duration_of_seconds(double seconds, int64_t *ms);

#endif
