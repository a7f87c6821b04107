/* Typed access to JSON from outside, with limits and errors that name the field.
 *
 * cJSON parses; we cap the depth before it recurses and read members through getters that
 * tell "absent" from "wrong type".  Numbers are doubles: ids travel as strings. */
#ifndef HOB_JSON_H
#define HOB_JSON_H

#include <cjson/cJSON.h>
#include "base/buf.h"
#include "base/err.h"

enum { JSON_MAX_DEPTH = 64 };

/* The caller owns the tree (cJSON_Delete).  Rejects trailing garbage, NUL bytes, depth over
 * JSON_MAX_DEPTH; the error names the byte offset.  An escaped NUL is read as U+FFFD: C strings cannot
 * hold it. */
cJSON *json_parse(struct str text, struct err *e);

enum json_flags {
	JSON_UTF8 = 1,   /* invalid UTF-8 in a string is an error */
	JSON_NO_NUL = 2, /* so is an escaped NUL */
};
/* The same at a fifth of the cost, for requests and events: a tree that may be read, searched,
 * duplicated and printed, but to which nothing is added and from which nothing is detached.
 * cJSON_Delete(root) frees all of it.  Stricter than cJSON on numbers (RFC 8259). */
cJSON *json_read(struct str text, unsigned flags, struct err *e);

/* The tree as text, without spaces.  It is one that was parsed or that we made. */
void json_print(struct buf *out, const cJSON *tree);

/* Each returns 1 when present and right, 0 when absent or null (out untouched), -1 and an
 * error naming the field when of the wrong type or out of range. */
int json_string(const cJSON *obj, const char *key, const char **out, struct err *e);
int json_double(const cJSON *obj, const char *key, double min, double max, double *out,
		struct err *e);
int json_int(const cJSON *obj, const char *key, int64_t min, int64_t max, int64_t *out,
	     struct err *e);
int json_bool(const cJSON *obj, const char *key, bool *out, struct err *e);
/* A number of seconds or a text as in base/duration.h; *ms as there. */
int json_duration(const cJSON *obj, const char *key, int64_t *ms, struct err *e);
int json_array(const cJSON *obj, const char *key, const cJSON **out, struct err *e);
int json_object(const cJSON *obj, const char *key, const cJSON **out, struct err *e);

#endif
