/* What comes back for a request: a stream of events that ends with exactly one terminal
 * event, EVENT_FINISHED or EVENT_FAILED.  Strings in an event are borrowed: they live until
 * the sink returns.  All on the loop thread. */
#ifndef HOB_EVENT_H
#define HOB_EVENT_H

#include "base/err.h"

enum event_type {
	EVENT_STARTED, /* to a client at most once, before any text: where it runs.  From a provider:
			* it has answered, no text yet */
	EVENT_TEXT,
	EVENT_REASONING,
	EVENT_TOOL_CALL, /* one element of OpenAI's delta.tool_calls, as JSON */
	EVENT_PROGRESS,  /* nothing to show yet; keeps clients from giving up */
	EVENT_FINISHED,  /* terminal */
	EVENT_FAILED     /* terminal */
};

enum finish_reason { FINISH_STOP, FINISH_LENGTH, FINISH_TOOLS, FINISH_FILTER };
enum progress_stage {
	PROGRESS_QUEUED,
	PROGRESS_LOADING,
	PROGRESS_PREFILL,
	PROGRESS_SUMMARISING /* the history, so that it fits; ends with a deadline of its own */
};

const char *
finish_reason_name(enum finish_reason r); /* OpenAI's: "stop", "length", ... */
const char *progress_stage_name(enum progress_stage s);

struct route_attempt; /* route_log.h */

struct usage {
	int prompt_tokens, cached_tokens, completion_tokens; /* -1 = unknown */
	double prefill_ms, decode_ms;                        /* < 0 = unknown (remote) */
	double cost_usd; /* < 0 = unknown, 0 = local */
	int reasoning_tokens,
		cache_write_tokens; /* parts of completion and prompt; -1 = unknown */
};

#define USAGE_UNKNOWN                            \
	((struct usage){.prompt_tokens = -1,     \
			.cached_tokens = -1,     \
			.completion_tokens = -1, \
			.prefill_ms = -1,        \
			.decode_ms = -1,         \
			.cost_usd = -1,          \
			.reasoning_tokens = -1,  \
			.cache_write_tokens = -1})

struct event {
	enum event_type type;
	union {
		struct {
			const char *model, *provider,
				*reason;          /* reason: why it runs there */
			const char *conversation; /* or NULL */
			int kept_messages,
				dropped_messages; /* of the history; -1 = no memory used */
			int summarised_messages,
				elided_messages; /* behind a summary; shortened tool results */
			int ctx; /* tokens that fit, prompt and answer; 0 = unknown */
			const char *
				tier; /* where the model is: "ram", "remote", ...; or NULL */
			const char *route; /* alias or route that led here, or NULL */
			const char
				*upstream_model; /* as the provider calls it, or NULL */
			double most_usd; /* upper bound of its cost; 0 = local, < 0 = unknown */
			const struct route_attempt *attempts; /* that failed before */
			int nattempts;
		} started;
		struct {
			const char *ptr;
			size_t len;
		} text; /* TEXT, REASONING and TOOL_CALL; whole UTF-8 characters only */
		struct {
			enum progress_stage stage;
			int64_t done, total; /* tokens while PREFILL, bytes while LOADING,
					      * requests ahead while QUEUED (done); total 0:
					      * not known */
		} progress;
		struct {
			enum finish_reason reason;
			struct usage usage;
			/* Of a conversation: what was asked and the reply as they are kept, by hash; or NULL */
			const char *prompt, *message;
		} finished;
		struct err failed;
	};
};

/* Embedded by the receiver.  After a terminal event, or after cancel returned, never called again. */
struct event_sink {
	void (*event)(struct event_sink *sink, const struct event *ev);
};

#endif
