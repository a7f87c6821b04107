/* Names of what events carry; OpenAI's words where it has them. */
#include "route/event.h"

const char *finish_reason_name(enum finish_reason r)
{
	static const char *const names[] = {
		[FINISH_STOP] = "stop",
		[FINISH_LENGTH] = "length",
		[FINISH_TOOLS] = "tool_calls",
		[FINISH_FILTER] = "content_filter",
	};

	return (unsigned)r < ARRAY_LEN(names) ? names[r] : "stop";
}

const char *progress_stage_name(enum progress_stage s)
{
	static const char *const names[] = {
		[PROGRESS_QUEUED] = "queued",
		[PROGRESS_LOADING] = "loading",
		[PROGRESS_PREFILL] = "prefill",
		[PROGRESS_SUMMARISING] = "summarising",
	};

	return (unsigned)s < ARRAY_LEN(names) ? names[s] : "queued";
}
