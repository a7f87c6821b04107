/* One answer on its way from a remote server: bytes in, events out.
 *
 * Pure but for the sink that it calls: no I/O, no clock, so every wire format is tested with bytes.
 * It finds out what kind of body came (server-sent events, lines of JSON, one JSON text, a web
 * page), cuts it into events, and lets the protocol read them.  Text goes on in whole characters.
 * It never emits a terminal event: its owner does, with answer_finished() or the error, exactly
 * once. */
#ifndef HOB_ANSWER_H
#define HOB_ANSWER_H

#include "base/json.h"
#include "net/lines.h"
#include "net/sse.h"
#include "providers/failure.h"
#include "route/event.h"

enum answer_framing {
	FRAMING_EVENTS,
	FRAMING_LINES
}; /* what a stream of it looks like */

enum {
	ANSWER_MAX_ERROR_BYTES = 64
				 << 10, /* of one that is not 200; the rest is not read */
	ANSWER_MAX_WHOLE_BYTES = 8 << 20, /* of a JSON answer to a request for a stream */
	ANSWER_MAX_LINE_BYTES = 4 << 20,  /* tool calls are whole in one line */
	ANSWER_MAX_TOOLS = 128,
};

struct answer;

/* How a protocol reads; part of struct remote_protocol. */
struct answer_reader {
	enum answer_framing framing;
	/* One event of a stream.  type is empty when it has none; tree is an object.
	 * 0: go on; 1: that was the last of the answer; -1: the answer failed, e says why.
	 * An "error" member is the reader's to see; answer_error() reads it. */
	int (*event)(struct answer *a, struct str type, const cJSON *tree, struct err *e);
	/* A whole answer in one JSON text: 1; 0: it is no such thing; -1: it failed. */
	int (*whole)(struct answer *a, const cJSON *tree, struct err *e);
};

enum answer_body { ANSWER_UNKNOWN, ANSWER_STREAM, ANSWER_PLAIN };

/* Where its parts come from; all borrowed. */
struct answer_of {
	const struct answer_reader *reader;
	const char *who, *provider; /* "provider 'x'"; its name */
	const char *request_id;     /* ids of tool calls are made of it; or NULL */
	struct event_sink *out;
	bool progress; /* prompt_progress is wanted as EVENT_PROGRESS */
};

struct answer {
	struct answer_of of; /* of.out NULL: nobody listens, and nothing more is read */
	const char *key_source; /* borrowed, for messages; or NULL */
	enum answer_body body;
	struct sse sse;
	struct buf line;    /* FRAMING_LINES: of one that has not ended */
	struct buf plain;   /* ANSWER_PLAIN */
	struct buf half[2]; /* an unfinished character of TEXT and of REASONING */
	bool alive;         /* something but comments came */
	bool started, complete;

	/* what the protocol found out */
	bool has_reason, has_tools, has_text;
	enum finish_reason reason;
	struct usage usage;
	/* Anthropic's and Ollama's, whose tool calls are not OpenAI's */
	int ntools;                         /* begun so far */
	bool tool_open, tool_has_arguments; /* of the latest */
	struct buf tool_input;              /* owned: what came with its beginning */
	int fresh_tokens; /* of the prompt, not from a cache; -1 = unknown */
};

void answer_init(struct answer *a, const struct answer_of *of);
void answer_fini(struct answer *a);

/* 0: more is to come; 1: complete; -1: failed.  When nobody listens any more (the sink cancelled on
 * the way) it returns 0 and the owner sees that of.out is NULL. */
int answer_feed(struct answer *a, const struct response_head *h, const char *bytes,
		size_t n, struct err *e);
/* The response is over; why: what broke it, or NULL.  1: it was a good answer; -1: e. */
int answer_end(struct answer *a, const struct response_head *h, const struct err *why,
	       struct err *e);
/* The last characters, then what EVENT_FINISHED says. */
void answer_finished(struct answer *a, struct event *ev);

/* ---- for readers ---- */

/* Before anything else of an answer; model: upstream's own name of it, or NULL. */
void answer_started(struct answer *a, const char *model);
void answer_text(struct answer *a, enum event_type type, const char *text);
/* A string member as text; false when it is absent, no string or empty. */
bool answer_member(struct answer *a, const cJSON *obj, const char *key,
		   enum event_type type);
/* One element of OpenAI's delta.tool_calls: as it is, or made of what is not NULL. */
void answer_tool(struct answer *a, const cJSON *call);
void answer_tool_part(struct answer *a, int index, const char *id, const char *name,
		      const char *arguments);
void answer_reason(struct answer *a, enum finish_reason r);
/* The server's own account of a failure inside a 200; -1. */
int answer_error(struct answer *a, const cJSON *error, struct err *e);
void answer_count(const cJSON *obj, const char *key, int *out); /* >= 0, else untouched */

/* Bytes of s before an unfinished last UTF-8 character; n when it is whole (or not UTF-8). */
size_t answer_whole_utf8(const char *s, size_t n);

#endif
