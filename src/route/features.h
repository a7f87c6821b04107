/* What a request is, as far as rules and plans ask: size, needs, kind of text.
 *
 * Pure.  Computed once a request and only when a route has rules or several candidates: a linear scan
 * of the prompt, no model.  Tokens are estimated (bytes / 3.5, images 1,000 each): exact counts
 * need a tokenizer of a model that is not chosen yet. */
#ifndef HOB_FEATURES_H
#define HOB_FEATURES_H

#include "base/buf.h"
#include "route/request.h"

enum {
	FEATURES_MAX_CODES = 4,
	FEATURES_SCAN_BYTES = 64 << 10, /* of the last user message */
	FEATURES_OUTPUT_TOKENS = 512,   /* of an answer without max_tokens: a guess */
	FEATURES_IMAGE_TOKENS = 1000,
	FEATURES_MESSAGE_TOKENS = 4, /* of a template, for each message */
};

struct features {
	int prompt_tokens; /* estimate of all messages, and of the tools' descriptions */
	int output_tokens; /* max_tokens when given, else a guess */
	int nimages;
	bool tools, structured; /* response_format or a schema */
	bool is_private;
	enum request_class class;
	const char *client; /* borrowed or NULL */
	const char *codes
		[FEATURES_MAX_CODES]; /* literals: "c", "python", ...; surest first */
	int ncodes;
	struct str
		last_user; /* borrowed; at most FEATURES_SCAN_BYTES, whole characters */
};

/* messages: history and new ones together, or r's own. */
void features_of(const struct request *r, const struct message *messages, int n,
		 struct features *out);
/* The same without tools, structured and codes, which cost more than a look at lengths. */
void features_sizes(const struct request *r, const struct message *messages, int n,
		    struct features *out);
int features_message_tokens(
	const struct message *m); /* estimate, with the template's share */

/* features_code.c: languages of code in a text, surest first; the number of them.  Labels of fenced
 * blocks count; without any, one language whose typical words are there in number. */
int features_codes(struct str text, const char *out[FEATURES_MAX_CODES]);
/* "C++", "py", "golang": the name used here, a literal; NULL: unknown. */
const char *features_code_name(struct str word);
const char *features_code_nearest(const char *word); /* for messages; or NULL */

#endif
