/* What the commands that show and change things share: options, connection, tables.  Main thread.
 *
 * A command's status is set where something fails and returned at its end, so that each ends in one
 * place. */
#include "cli/listing.h"

#include <errno.h>

#include "cli/ask.h"
#include "cli/daemon_start.h"
#include "cli/interrupt.h"
#include "cli/models_list.h"

const struct args_option listing_options[LISTING_OPTIONS] = {
	[LISTING_JSON] = {"json", 0, NULL, "print the daemon's JSON"},
	[LISTING_NO_START] = {"no-start", 0, NULL,
			      "fail (status 4) when the daemon is not running"},
};

int listing_fail(struct listing *l, int status)
{
	char *text = render_text(l->e.text);

	fprintf(stderr, "hob %s: %s\n", l->spec->command, text);
	free(text);
	return l->status = status;
}

/* Options and operands: true when the command may go on; *operand may be NULL. */
bool listing_args(struct listing *l, int argc, char **argv, const char **operand)
{
	struct args a;
	int o, n;

	args_init(&a, l->spec, argc, argv);
	while ((o = args_next(&a, NULL)) >= 0) {
		l->json |= o == LISTING_JSON;
		l->no_start |= o == LISTING_NO_START;
	}
	n = argc - a.first;
	if (o == ARGS_STOP)
		l->status = a.status;
	else if (n > (operand ? 1 : 0))
		l->status = args_usage(l->spec, "'%s' is one argument too many",
				       argv[argc - 1]);
	else if (operand)
		*operand = n ? argv[a.first] : NULL;
	return o == ARGS_END && !l->status;
}

bool listing_connect(struct listing *l, bool may_start)
{
	interrupt_enable();
	l->client = daemon_connect(may_start && !l->no_start, &l->e);
	if (!l->client)
		listing_fail(l, l->e.code == ERR_CANCELLED ? CLI_INTERRUPTED
							   : CLI_NO_DAEMON);
	return l->client != NULL;
}

/* GET path as a tree, or NULL and the status set. */
cJSON *listing_get(struct listing *l, const char *path)
{
	cJSON *tree = models_list_get(l->client, path, &l->e);

	if (!tree)
		listing_fail(l, ask_exit_status(&l->e));
	return tree;
}

cJSON *listing_call(struct listing *l, const char *method, const char *path,
		    struct str body)
{
	struct client_request r = {.method = method, .path = path, .body = body};
	struct client_reply reply = {0};
	cJSON *tree = NULL;

	if (client_do(l->client, &r, &reply, &l->e) == 0) {
		if (reply.status != 200)
			client_error(&reply, &l->e);
		else if (!(tree = json_parse(buf_str(&reply.body), &l->e)))
			err_wrap(&l->e, "the daemon's answer to %s", path);
	}
	client_reply_fini(&reply);
	if (!tree)
		listing_fail(l, ask_exit_status(&l->e));
	return tree;
}

bool listing_is_id(const char *id)
{
	return *id && strlen(id) < 64 &&
	       !id[strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
			      "0123456789-_")];
}

void listing_print(const cJSON *tree)
{
	char *text = cJSON_Print(tree);

	render_json(stdout, str_of(text));
	putchar('\n');
	cJSON_free(text);
}

/* The array named key, or an empty one. */
const cJSON *listing_array(const cJSON *tree, const char *key)
{
	const cJSON *a = NULL;

	json_array(tree, key, &a, NULL);
	return a;
}

void table_add(struct table *t, char *cell)
{
	if (t->ncells == t->cap) {
		t->cap = t->cap ? t->cap * 2 : 64;
		t->cells = xrealloc(t->cells, (size_t)t->cap * sizeof *t->cells);
	}
	t->cells[t->ncells++] = cell;
}

void table_head(struct table *t, const char *const *names, int n)
{
	for (int i = 0; i < n; i++)
		table_add(t, xstrdup(names[i]));
}

void table_print(struct table *t, int ncols, const bool *right)
{
	render_table(stdout, (const char *const *)t->cells, t->ncells / ncols, ncols,
		     right);
	for (int i = 0; i < t->ncells; i++)
		free(t->cells[i]);
	free(t->cells);
	*t = (struct table){0};
}

char *cell_string(const cJSON *obj, const char *key)
{
	const char *s = "-";

	json_string(obj, key, &s, NULL);
	return render_line(*s ? s : "-");
}

char *cell_int(const cJSON *obj, const char *key)
{
	int64_t n;

	if (json_int(obj, key, INT64_MIN / 2048, INT64_MAX / 2048, &n, NULL) != 1)
		return xstrdup("-");
	return xasprintf("%lld", (long long)n);
}

char *cell_size(int64_t bytes)
{
	char size[RENDER_SIZE_BYTES];

	return xstrdup(bytes > 0 ? render_size((uint64_t)bytes, size) : "-");
}

char *cell_age(int64_t seconds)
{
	char age[RENDER_AGE_BYTES];

	return xstrdup(render_age(seconds, age));
}

int64_t listing_int(const cJSON *obj, const char *key, int64_t otherwise)
{
	int64_t n = otherwise;

	json_int(obj, key, -1, (int64_t)1 << 53, &n, NULL);
	return n;
}

int listing_end(struct listing *l)
{
	if (!l->status && (fflush(stdout) || ferror(stdout))) {
		err_sys(&l->e, errno, "write the list");
		listing_fail(l, CLI_FAIL);
	}
	client_free(l->client);
	return l->status;
}
