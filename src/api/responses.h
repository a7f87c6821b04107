/* OpenAI's Responses API: /v1/responses.  doc/responses.md says what is supported.
 *
 * responses.c         creating one: what it refers to is looked up, then an answer is begun
 * responses_get.c     one that the store has: read, its input, deleted
 * responses_decode.c  bytes to struct request; pure
 * responses_tools.c   its tools; responses_fields.h is what both share
 * responses_input.c   input items to messages; pure
 * responses_encode.c  events to the client's events or one object; pure
 * responses_items.c   ids of items; messages to items; pure
 * responses_page.c    pages of items; pure
 *
 * A response is a turn: its id is "resp_" and the digits of the request's id.  What it put out has ids
 * made of the same digits, since they are told before the text is known; messages of a
 * conversation are named by their hashes.  Both are understood wherever an item's id is.
 *
 * Shapes as the official client reads them (PyPI openai 2.8.1: types/responses, lib/streaming). */
#ifndef HOB_RESPONSES_H
#define HOB_RESPONSES_H

#include "api/openai.h"
#include "memory/store.h"

route_handler responses_create;
route_handler responses_get;
route_handler responses_delete;
route_handler responses_input_items;
route_handler responses_cancel;

enum {
	RESPONSES_DIGITS = 16,   /* of a request's id */
	RESPONSES_ID_BYTES = 64, /* of any id that is ours, with NUL */
	RESPONSES_MAX_REFERENCES = 4096,
	RESPONSES_MAX_ITEMS = 1024, /* of one answer */
	RESPONSES_MAX_TOOLS = 1024,
	RESPONSES_MAX_PAGE = 100,
	RESPONSES_MAX_STREAM_BYTES =
		2
		<< 20, /* its end repeats the text, and must fit a connection's backlog */
	RESPONSES_MAX_ECHO_BYTES =
		256 << 10, /* instructions and tools beyond are not echoed */
};

/* -- ids: responses_items.c -- */

/* "resp_<digits>" to the request's "hob-<digits>"; false: no such id can be. */
bool responses_request_of(struct str id, char request[REQUEST_ID_BYTES]);

enum item_kind { ITEM_MESSAGE, ITEM_REASONING, ITEM_CALL, ITEM_CALL_OUTPUT };
struct item_id {
	enum item_kind kind;
	/* One of them is not "": a response's item, a message of a conversation. */
	char request[REQUEST_ID_BYTES], hash[STORE_HASH_TEXT_BYTES];
	int index; /* which of a message's calls, or of an answer's messages */
};
bool responses_read_item_id(struct str id, struct item_id *out);
/* name: the digits of a response or the hash of a message. */
void responses_item_id(enum item_kind kind, const char *name, int index,
		       char out[RESPONSES_ID_BYTES]);

/* A message as the items that it stands for, each a JSON object, with commas between. */
enum items_style {
	ITEMS_INPUT,  /* as GET .../input_items has them */
	ITEMS_OUTPUT, /* as the answer that it was */
	ITEMS_CONVERSATION
};
struct item_sink {
	/* An item begins: its id; false: it is not wanted. */
	bool (*wants)(void *arg, const char *id);
	void *arg;
	struct buf out;     /* owned by the caller */
	int n;              /* that were written */
	const char *status; /* of all; NULL: "completed" */
};
void responses_add_items(struct item_sink *sink, const struct store_message *m,
			 const char *name, enum items_style style);

/* -- pages: responses_page.c -- */

struct items_ask {
	int limit;
	bool is_desc;
	char after[RESPONSES_ID_BYTES]; /* "": from the beginning */
};
/* ?limit=&order=&after= */
int responses_read_page(const struct http_request *h, struct items_ask *out,
			struct err *e);
/* Appends a list object; ERR_NOT_FOUND when there is no item `after`. */
int responses_add_page(const struct store_message *m, int n, enum items_style style,
		       const struct items_ask *ask, struct buf *out, struct err *e);

/* -- input: responses_decode.c, responses_input.c -- */

/* What an item_reference stands for. */
struct responses_known {
	char *id;              /* owned: as the client wrote it */
	char *text, *raw_json; /* owned: of the message; raw_json may be NULL */
	enum role role;
	struct item_id item;
};
struct responses_references {
	struct responses_known *list; /* owned */
	int n;
};
void responses_references_free(struct responses_references *r);

struct responses_params {
	bool stream, store; /* store: the client did not say no */
	char *previous;     /* owned or NULL: "resp_..." as the client wrote it */
	struct buf
		echo; /* members that each response object repeats, each with a comma before it */
	/* References that were not known; owned.  The request is of no use while there are any. */
	char **missing;
	int nmissing;
	const char *param, *code; /* of an error, or NULL */
};
void responses_params_free(struct responses_params *p);

/* NULL and an error, with p->param and p->code. */
struct request *responses_decode(struct str body,
				 const struct responses_references *known,
				 struct responses_params *p, struct err *e);
/* Appends to r; `where` names the array in errors. */
int responses_decode_items(struct request *r, const cJSON *items, const char *where,
			   const struct responses_references *known,
			   struct responses_params *p, struct err *e);
/* An object of at most 16 short texts, as OpenAI has it, as JSON; NULL and an error. */
char *responses_read_metadata(const cJSON *root, struct err *e);

/* -- encode: responses_encode.c -- */

struct responses_item {
	enum item_kind kind; /* no ITEM_CALL_OUTPUT */
	bool announced, done;
	int tool; /* index among the model's calls */
	char id[RESPONSES_ID_BYTES];
	char *call_id, *name; /* owned, of calls */
	struct buf text;      /* or arguments */
};

struct responses_encoder {
	struct openai_encoder
		base; /* where it runs: fields of the head, the member "hob" */
	char id[RESPONSES_ID_BYTES], digits[RESPONSES_DIGITS + 1];
	char *echo;  /* owned */
	bool stores; /* the client and the configuration want it kept */
	bool created;
	int64_t sequence;
	struct responses_item *items; /* owned */
	int nitems, nmessages, nreasonings;
	size_t bytes; /* of texts and arguments */
};

/* Takes p->echo. */
void responses_encoder_init(struct responses_encoder *enc, const struct request *r,
			    struct responses_params *p, bool stores);
void responses_encoder_fini(struct responses_encoder *enc);
void responses_started(struct responses_encoder *enc, const struct event *ev);
int responses_add_delta(struct responses_encoder *enc, const struct event *ev,
			struct buf *out, struct err *e);
void responses_add_finish(struct responses_encoder *enc, const struct event *ev,
			  struct buf *out);
void responses_add_failure(struct responses_encoder *enc, const struct err *why,
			   struct buf *out);
int responses_gather(struct responses_encoder *enc, const struct event *ev,
		     struct err *e);
void responses_add_whole(struct responses_encoder *enc, const struct event *ev,
			 struct buf *out);

/* Of OpenAI's short list, for the member "error" of a response. */
const char *responses_error_code(enum err_code code);
void responses_add_usage(struct buf *out, const struct usage *u);

#endif
