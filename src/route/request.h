/* The narrow waist: one prompt on its way from any client to any model.
 *
 * Wire formats (src/api) decode into this, providers take it; nothing between them knows
 * HTTP.  Everything in a request is owned by it; request_free() releases all. */
#ifndef HOB_REQUEST_H
#define HOB_REQUEST_H

#include "config.h"

enum request_class { CLASS_INTERACTIVE, CLASS_COMPLETION, CLASS_BATCH };
const char *request_class_name(enum request_class c); /* "interactive", ... */

enum role { ROLE_SYSTEM, ROLE_USER, ROLE_ASSISTANT, ROLE_TOOL };

const char *role_name(enum role r);                  /* "system", ... */
bool role_by_name(const char *name, enum role *out); /* "developer" is ROLE_SYSTEM */

struct message {
	enum role role;
	char *text; /* owned, UTF-8, never NULL */
	char *raw_json; /* owned or NULL: the whole message object in OpenAI's dialect, when it
			 * holds more than role and text (images, tool calls); for providers
			 * that speak it.  The engine refuses what it cannot read. */
};

struct sampling {
	double temperature; /* 0 = greedy; < 0 = not given */
	double top_p;       /* 0..1; < 0 = not given */
	double min_p;       /* 0..1; < 0 = not given */
	int top_k;          /* 0 = off; < 0 = not given */
	int64_t seed;       /* < 0 = not given: random */
	int max_tokens;     /* 0 = not given: until the context is full */
	bool ignore_eos;    /* goes on past the end of the answer, up to max_tokens */
	char **stops;       /* owned */
	int nstops;
};

enum {
	REQUEST_MAX_STOPS = 16,
	REQUEST_ID_BYTES = 40,
	CONVERSATION_ID_BYTES = 27,
	REQUEST_MAX_SUPERSEDE_BYTES = 128
};

struct request {
	char id[REQUEST_ID_BYTES]; /* "hob-<hex>", unique */
	enum request_class class;
	char *model; /* as the client wrote it; owned, never NULL */
	bool is_chat;
	struct message *messages; /* chat: owned array, of request_add_message() */
	int nmessages;
	int nunkept; /* of them, at the front: for this turn only.  They stand before any history and are
		      * not stored (the Responses API's instructions) */
	char *prompt; /* raw completion: owned, else NULL */
	struct sampling sampling;
	char *extra_json; /* owned or NULL: an object with the fields the core does not read
			   * (tools, response_format, ...), in OpenAI's dialect */

	char *turn_json; /* owned or NULL: an object that is stored with the turn, for the dialect */

	/* memory: messages holds only what is new when conversation is set */
	char *conversation; /* owned or NULL; an id, "new", "last", "incognito" (a new one in memory only) */
	char *parent; /* owned or NULL: the hash of the message that the new ones follow, or "root"; NULL: the head */
	enum tristate
		keep; /* YES without a conversation: recorded, and sent as it is; NO: never
			     * stored; UNSAID: as memory.store says */
	bool is_private;  /* must not leave this machine */
	bool is_volatile; /* nothing of it is written to disk: no saved KV state */
	char *persona; /* owned or NULL: of the configuration; applied by api/persona.h */
	bool system_is_default; /* messages[0] is a persona's system prompt: it is left out where
				 * the conversation's path has a system message */
	char *client_name; /* owned or NULL: what asks, "zed", "hob chat": rules may ask for it */
	double budget_usd; /* the most that this answer may cost; < 0 = not given */
	uint64_t
		deadline_ms; /* clock_mono_ms() by which the first token is due; 0 = default */
	uint64_t
		client; /* who asks, for fairness: a process of this machine; 0 = unknown */
	int64_t keep_alive_ms; /* of its model once idle; KEEP_ALIVE_DEFAULT, DURATION_FOREVER */
	char *supersede; /* owned or NULL: an older request with this key is cancelled */
};

struct request *request_new(void);
void request_free(struct request *r); /* NULL is fine */
void request_add_message(struct request *r, enum role role, const char *text, size_t n);

#endif
