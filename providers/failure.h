/* What an answer that is none means: statuses and error objects of all protocols to errors.
 *
 * One reader for all of them, because servers copy each other: OpenAI's and Anthropic's
 * {"error":{…}}, OpenRouter's metadata and availability, Ollama's {"error":"text"}, vLLM's
 * {"message":…,"code":…}, FastAPI's {"detail":…}, web pages and plain text.  The codes are those of
 * providers/provider.h.  Pure. */
#ifndef HOB_FAILURE_H
#define HOB_FAILURE_H

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"

enum { FAILURE_MAX_RETRY_AFTER_MS = 86400000 };

/* Status and headers of a response; header() gives the empty slice for one that is not there. */
struct response_head {
	int status;
	struct str (*header)(void *arg, const char *name);
	void *arg;
	int64_t now_unix_s; /* for dates */
};

struct failure {
	const char *who;        /* "provider 'x'" */
	const char *key_source; /* "$OPENROUTER_API_KEY"; NULL: none */
	int status;             /* 200: an error inside a stream */
	struct str content_type, body;
	uint32_t retry_after_ms; /* of the headers; 0: they do not say */
};

/* A whole response.  Always sets e; returns -1. */
int failure_of_response(struct err *e, const struct failure *f);
/* The error member of an event: an object or a string.  Always sets e; returns -1. */
int failure_of_error(struct err *e, const struct failure *f, const cJSON *error);

/* retry-after-ms, or Retry-After in seconds or as a date; 0: neither is there or makes sense. */
uint32_t failure_retry_after(const struct response_head *h);

#endif
