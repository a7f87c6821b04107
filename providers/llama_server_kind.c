/* The table of programs that serve one model each: how they are started and what they say.
 *
 * Loop thread.  llama-server pushes its state on standard output when it believes that a
 * router started it (LLAMA_SERVER_ROUTER_PORT); then it also ends at the end of its input.
 * Hardening that old versions have no flag for goes by LLAMA_ARG_* variables, which those
 * versions ignore.  What a reader may question: the allow-list.  Whatever is not named here
 * stays out, so that a key that somebody adds to our environment tomorrow stays out too. */
#include "providers/llama_server_impl.h"

#include "net/environment.h"

void argv_add(struct argv_list *a, const char *word)
{
	a->v = xrealloc(a->v, (a->n + 2) * sizeof *a->v);
	a->v[a->n++] = xstrdup(word);
	a->v[a->n] = NULL;
}

static void argv_add_int(struct argv_list *a, const char *flag, int value)
{
	char text[16];

	snprintf(text, sizeof text, "%d", value);
	argv_add(a, flag);
	argv_add(a, text);
}

void argv_free(struct argv_list *a)
{
	for (size_t i = 0; i < a->n; i++)
		free(a->v[i]);
	free(a->v);
	*a = (struct argv_list){0};
}

/* ---- llama-server */

static void llama_argv(struct argv_list *out, const struct llama_server *s)
{
	argv_add(out, "-m");
	argv_add(out, s->path);
	argv_add(out, "--host");
	argv_add(out, s->socket_path);
	argv_add_int(out, "-c", s->ctx * s->slots); /* it divides this by the slots */
	argv_add_int(out, "-np", s->slots);
	if (s->all->threads > 0)
		argv_add_int(out, "-t", s->all->threads);
	argv_add(out, "--api-key-file");
	argv_add(out, s->key_path);
	argv_add(out, "--no-webui");
	argv_add(out, "--no-slots");
	for (int i = 0; i < s->nargs; i++) /* the last word counts */
		argv_add(out, s->args[i]);
}

/* Names, or heads of names when they end with '*'. */
static const char *const allowed[] = {
	"PATH",   "HOME",  "LANG",   "LC_*",   "TMPDIR", "XDG_*",
	"CUDA_*", "HIP_*", "ROCR_*", "GGML_*", "OMP_*",  "LD_LIBRARY_PATH",
};

static void llama_env(struct argv_list *out)
{
	char **ours = environment_pick(allowed, ARRAY_LEN(allowed));

	for (char **v = ours; *v; v++)
		argv_add(out, *v);
	free(ours);
	argv_add(out, "LLAMA_SERVER_ROUTER_PORT=1"); /* no port of ours: it is not used */
	argv_add(out, "LLAMA_ARG_OFFLINE=1");
}

#define PUSH "cmd_child_to_router:"

static enum child_word llama_word(struct str line, double *part)
{
	enum child_word word = CHILD_WORD_NONE;
	const char *state = NULL;
	const cJSON *payload = NULL;
	cJSON *tree;

	*part = -1;
	if (!str_starts(line, PUSH))
		return word;
	if (str_starts(line, PUSH "ready")) /* versions before the states */
		return CHILD_WORD_READY;
	if (!str_starts(line, PUSH "state:"))
		return CHILD_WORD_LOADING;
	line.ptr += sizeof(PUSH "state:") - 1;
	line.len -= sizeof(PUSH "state:") - 1;
	tree = json_parse(line, NULL);
	json_string(tree, "state", &state, NULL);
	if (state && !strcmp(state, "ready"))
		word = CHILD_WORD_READY;
	else if (state)
		word = CHILD_WORD_LOADING;
	if (json_object(tree, "payload", &payload, NULL) > 0)
		json_double(payload, "value", 0, 1, part, NULL);
	cJSON_Delete(tree);
	return word;
}

/* The table of kinds; it has one row because one is real.  A vLLM endpoint would be the
 * next (park: POST /sleep, unpark: POST /wake_up); on a CPU llama-server has nothing that
 * could be parked: its weights are the mapped file, which the page cache keeps anyway. */
const struct child_kind llama_server_kind = {
	.name = "llama-server",
	.argv = llama_argv,
	.env = llama_env,
	.word = llama_word,
	.health_path = "/health",
	.models_path = "/v1/models",
	.park = NULL,
	.unpark = NULL,
};

/* ---- where it is */

static char *on_path(const char *name)
{
	const char *path = getenv("PATH");
	char *found = NULL;

	while (path && *path && !found) {
		size_t n = strcspn(path, ":");
		char *file = xasprintf("%.*s/%s", (int)n, path, name);

		if (n && access(file, X_OK) == 0)
			found = file;
		else
			free(file);
		path += n + (path[n] == ':');
	}
	return found;
}

char *llama_program(const struct llama_servers *l, struct err *e)
{
	char *found =
		strchr(l->program, '/')
			? (access(l->program, X_OK) == 0 ? xstrdup(l->program) : NULL)
			: on_path(l->program);

	if (!found)
		err_set(e, ERR_UNSUPPORTED,
			"'%.200s' is not %s: install llama.cpp, or name its server as "
			"llama_server in the section cache of hob.conf",
			l->program,
			strchr(l->program, '/') ? "there or not executable" : "on PATH");
	return found;
}
