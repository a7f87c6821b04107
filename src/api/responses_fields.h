/* What the decoders of a Responses request share: members read, repeated, and written in the chat
 * dialect.  Pure; any thread.  Only responses_decode.c and responses_tools.c include it. */
#ifndef HOB_RESPONSES_FIELDS_H
#define HOB_RESPONSES_FIELDS_H

#include <cjson/cJSON.h>
#include "api/responses.h"

const cJSON *responses_member(const cJSON *o, const char *key);
/* Appends to what each response object repeats; v, text: NULL is null. */
void responses_echo(struct responses_params *p, const char *key, const cJSON *v);
void responses_echo_text(struct responses_params *p, const char *key, const char *text);
/* One of a few words: 1; absent or null: 0, *out untouched; else -1, and the error lists them. */
int responses_word(const cJSON *root, const char *key, const char *const *words, int n,
		   const char **out, struct err *e);
#define RESPONSES_WORD(root, key, out, e, ...)                            \
	responses_word((root), (key), (const char *const[]){__VA_ARGS__}, \
		       (int)ARRAY_LEN(((const char *const[]){__VA_ARGS__})), (out), (e))

/* Begins a member of the object that extra_json will be. */
void responses_extra_key(struct buf *extra, const char *key);

/* responses_tools.c: tools, tool_choice, parallel_tool_calls and max_tool_calls. */
int responses_decode_calls(const cJSON *root, struct buf *extra,
			   struct responses_params *p, struct err *e);

#endif
