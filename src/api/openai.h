/* OpenAI's dialect: /v1/models, /v1/chat/completions, /v1/completions.
 *
 * openai.c        handlers
 * openai_decode.c bytes to struct request; pure
 * openai_encode.c events to chunks or one object; pure
 * Shapes as the official client's types (npm openai 6.49.0, PyPI openai 1.x and 2.x) read them. */
#ifndef HOB_OPENAI_H
#define HOB_OPENAI_H

#include <cjson/cJSON.h>
#include "api/routes.h"
#include "base/json.h"
#include "route/event.h"
#include "route/request.h"

route_handler openai_chat;
route_handler openai_completion;

/* -- decode -- */

enum {
	OPENAI_MAX_MESSAGES = 100000,
	OPENAI_MAX_STOP_BYTES = 1024,
	OPENAI_MAX_MODEL_BYTES = 256,
	OPENAI_MAX_CONVERSATION_BYTES = 64,
};

struct openai_params {
	bool stream, include_usage;
};

/* A request's body; the caller owns the tree.  NULL with the error set. */
cJSON *openai_read_body(struct str body, struct err *e);
/* NULL and an error that names the field.  Fields that we do not read go to extra_json. */
struct request *openai_decode(struct str body, bool is_chat, struct openai_params *p,
			      struct err *e);
/* The same for a conversation that the call's head names (ptr NULL: none), which wins over the body's.  With
 * one, from here or there, `messages` may be empty: it is answered where it stands. */
struct request *openai_decode_for(struct str body, bool is_chat, struct str conversation,
				  struct openai_params *p, struct err *e);
/* The same of a whole call: body and x-hob-* fields. */
struct request *openai_read(const struct call *call, bool is_chat,
			    struct openai_params *p, struct err *e);
/* The member "messages" of an object, behind what r has. */
int openai_decode_messages(struct request *r, const cJSON *root, struct err *e);
/* What x-hob-* fields say, into r. */
int openai_read_fields(const struct http_request *h, struct request *r, struct err *e);
/* temperature, top_p, top_k, min_p, seed, stop, max_tokens: the members that are there. */
int openai_decode_sampling(struct request *r, const cJSON *root, struct err *e);
/* An id, "new", "last" or "incognito", in place of what the request had. */
int openai_set_conversation(struct request *r, struct str id, struct err *e);
/* The hash of a message, or "root". */
int openai_set_parent(struct request *r, struct str hash, struct err *e);

/* -- encode -- */

enum { OPENAI_MAX_TOOL_CALLS = 128, OPENAI_MAX_WHOLE_BYTES = 32 << 20 };

struct openai_tool_call {
	char *id, *name; /* owned */
	struct buf arguments;
};

struct openai_encoder {
	bool is_chat, include_usage;
	char id[REQUEST_ID_BYTES + 16];
	int64_t created_s;
	/* From EVENT_STARTED; owned.  model is what the client asked for until then. */
	char *model, *provider, *reason, *conversation, *route, *upstream_model;
	struct buf attempts; /* that failed before, as JSON objects with commas */
	int nattempts;
	double most_usd, cost_usd;             /* 0 = local, < 0 = unknown */
	int kept, dropped, summarised, elided; /* -1 = no memory used */
	int ctx;                               /* tokens; 0 = unknown */
	const char *tier;       /* a literal of the dispatcher's, or NULL */
	char *prompt, *message; /* owned: hashes, once it is finished; or NULL */

	bool role_sent;
	struct buf prefix; /* what all chunks begin with */
	/* Whole replies only */
	struct buf text, reasoning;
	struct openai_tool_call *tools; /* OPENAI_MAX_TOOL_CALLS, from the first on */
	int ntools;
};

void openai_encoder_init(struct openai_encoder *enc, const struct request *r,
			 const struct openai_params *p);
void openai_encoder_fini(struct openai_encoder *enc);
void openai_started(struct openai_encoder *enc, const struct event *ev);
/* Whole lines for the reply's head: x-hob-model, … as far as they are known.  x-hob-cost: what it
 * cost once that is known (openai_finished()), else the upper bound, "<=0.0042". */
void openai_add_fields(const struct openai_encoder *enc, struct buf *head);
void openai_finished(struct openai_encoder *enc, const struct event *ev);
/* The member "hob": where it runs and why, with what it took once that is known (u not NULL). */
void openai_add_hob(const struct openai_encoder *enc, struct buf *out,
		    const struct usage *u);
/* One of OpenAI's delta.tool_calls; strings live as long as *tree, which the caller deletes. */
struct openai_tool_delta {
	int index;
	const char *id, *name, *arguments; /* or NULL */
};
int openai_read_tool_delta(const struct event *ev, cJSON **tree,
			   struct openai_tool_delta *out, struct err *e);

/* Streams: each appends whole SSE events. */
void openai_add_delta(struct openai_encoder *enc, const struct event *ev,
		      struct buf *out);
void openai_add_finish(struct openai_encoder *enc, const struct event *ev,
		       struct buf *out);
void openai_add_stream_error(const struct err *why, struct buf *out);

/* Whole replies: gather, then one object.  -1: over OPENAI_MAX_WHOLE_BYTES or 128 tool calls. */
int openai_gather(struct openai_encoder *enc, const struct event *ev, struct err *e);
void openai_add_whole(struct openai_encoder *enc, const struct event *ev,
		      struct buf *out);

#endif
