/* hob backup: a compact copy of the conversations' database, made by the daemon.
 *
 * Main thread.  The daemon writes the file, so a relative name is made absolute here, where the folder
 * is that it is relative to. */
#include <errno.h>
#include <limits.h>
#include <unistd.h>

#include "cli/listing.h"

static const struct args_spec spec = {
	.command = "backup",
	.usage = "[--json] FILE",
	.summary =
		"Writes a copy of all conversations to a new file, for this user only.",
	.options = listing_options,
	.noptions = LISTING_OPTIONS,
	.notes =
		"The copy is a database like the original: with the daemon stopped, put it in its\n"
		"place.  Conversations as text: hob export.",
};

/* Owned, or NULL and the status set. */
static char *absolute(struct listing *l, const char *file)
{
	char here[PATH_MAX];

	if (file[0] == '/')
		return xstrdup(file);
	if (getcwd(here, sizeof here))
		return xasprintf("%s/%s", here, file);
	err_sys(&l->e, errno, "find this folder's name");
	listing_fail(l, CLI_FAIL);
	return NULL;
}

static void print_backup(const cJSON *tree)
{
	char *path = cell_string(tree, "path"),
	     *size = cell_size(listing_int(tree, "bytes", 0));

	printf("%s: %s\n", path, size);
	free(path);
	free(size);
}

static void backup(struct listing *l, const char *path)
{
	struct buf body = {0};
	cJSON *tree;

	buf_addc(&body, '{');
	buf_add_json_text(&body, "path", path);
	buf_addc(&body, '}');
	tree = listing_call(l, "POST", "/v1/hob/backup", buf_str(&body));
	buf_free(&body);
	if (tree && l->json)
		listing_print(tree);
	else if (tree)
		print_backup(tree);
	cJSON_Delete(tree);
}

int cmd_backup(int argc, char **argv)
{
	struct listing l = {.spec = &spec};
	const char *file = NULL;
	char *path;

	if (!listing_args(&l, argc, argv, &file))
		return l.status;
	if (!file || !*file)
		return args_usage(&spec, "a FILE is needed");
	path = absolute(&l, file);
	if (path && listing_connect(&l, true))
		backup(&l, path);
	free(path);
	return listing_end(&l);
}
