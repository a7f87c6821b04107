/* What the commands that show and change things share: options, a connection, an error, tables. */
#ifndef HOB_LISTING_H
#define HOB_LISTING_H

#include "base/json.h"
#include "cli/args.h"
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/render.h"

enum { LISTING_JSON, LISTING_NO_START, LISTING_OPTIONS };
extern const struct args_option
	listing_options[LISTING_OPTIONS]; /* the last may be left out */

struct listing {
	const struct args_spec *spec; /* borrowed */
	bool json, no_start;
	struct client *client; /* owned; goes in listing_end() */
	struct err e;
	int status; /* CLI_OK while all is well */
};

/* Prints l->e and sets the status, which it returns. */
int listing_fail(struct listing *l, int status);
/* Options and at most one operand (none when operand is NULL): true when the command may go on. */
bool listing_args(struct listing *l, int argc, char **argv, const char **operand);
bool listing_connect(struct listing *l, bool may_start);
/* GET path as a tree (cJSON_Delete), or NULL and the status set. */
cJSON *listing_get(struct listing *l, const char *path);
/* The same with any method and a JSON body (empty: none); waits as long as the daemon works. */
cJSON *listing_call(struct listing *l, const char *method, const char *path,
		    struct str body);
void listing_print(const cJSON *tree);
/* The end of a command: the status to return. */
int listing_end(struct listing *l);

/* The array named key, or NULL when there is none. */
const cJSON *listing_array(const cJSON *tree, const char *key);
int64_t listing_int(const cJSON *obj, const char *key, int64_t otherwise);

/* True of what may be a conversation's id, or "last": it goes into a path. */
bool listing_is_id(const char *id);

/* A table that grows cell by cell; cells are owned.  Zero it to start. */
struct table {
	char **cells;
	int ncells, cap;
};
enum { TABLE_MAX_CELLS = 1 << 16 };

void table_head(struct table *t, const char *const *names, int n);
void table_add(struct table *t, char *cell);
void table_print(struct table *t, int ncols, const bool *right); /* and empties it */

char *cell_string(const cJSON *obj, const char *key); /* "-" when absent */
char *cell_int(const cJSON *obj, const char *key);
char *cell_size(int64_t bytes);  /* "-" for none */
char *cell_age(int64_t seconds); /* "-" for less than none */

#endif
