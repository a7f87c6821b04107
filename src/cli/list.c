/* The commands that show what the daemon has: ls, ps, history; and stop, which ends it.
 *
 * Main thread.  ls starts a daemon, for a list of models is what a newcomer asks first;
 * ps, history and stop do not: without a daemon nothing is resident and there is nothing
 * to stop. */
#include "cli/commands.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/args.h"
#include "cli/ask.h"
#include "cli/daemon_start.h"
#include "cli/interrupt.h"
#include "cli/models_list.h"
#include "cli/render.h"

enum { STOP_TIMEOUT_MS = 30000, MAX_CELLS = 1 << 16 };

/* What the four commands share: options, a connection, an error. */
struct list {
	const struct args_spec *spec;
	bool json, no_start;
	struct client *client;
	struct err e;
	int status; /* CLI_OK while all is well */
};

enum { OPT_JSON, OPT_NO_START };

static const struct args_option options[] = {
	[OPT_JSON] = {"json", 0, NULL, "print the daemon's JSON"},
	[OPT_NO_START] = {"no-start", 0, NULL,
			  "fail (status 4) when the daemon is not running"},
};

static const struct args_spec ls_spec = {
	.command = "ls",
	.usage = "[--json]",
	.summary = "Lists the models that can be asked.",
	.options = options,
	.noptions = 2,
};

static const struct args_spec ps_spec = {
	.command = "ps",
	.usage = "[--json]",
	.summary = "Shows which models are in memory.  Does not start the daemon.",
	.options = options,
	.noptions = 1,
};

static const struct args_spec history_spec = {
	.command = "history",
	.usage = "[--json] [ID]",
	.summary = "Lists the conversations, or prints one.",
	.options = options,
	.noptions = 2,
	.notes = "Go on with one by: hob chat --conversation ID",
};

static const struct args_spec stop_spec = {
	.command = "stop",
	.usage = "",
	.summary = "Ends the daemon; answers under way are finished first.",
};

static int list_fail(struct list *l, int status)
{
	char *text = render_text(l->e.text);

	fprintf(stderr, "hob %s: %s\n", l->spec->command, text);
	free(text);
	return l->status = status;
}

/* Options and operands: true when the command may go on; *operand may be NULL. */
static bool list_args(struct list *l, int argc, char **argv, const char **operand)
{
	struct args a;
	int o, n;

	args_init(&a, l->spec, argc, argv);
	while ((o = args_next(&a, NULL)) >= 0) {
		l->json |= o == OPT_JSON;
		l->no_start |= o == OPT_NO_START;
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

static bool list_connect(struct list *l, bool may_start)
{
	interrupt_enable();
	l->client = daemon_connect(may_start && !l->no_start, &l->e);
	if (!l->client)
		list_fail(l,
			  l->e.code == ERR_CANCELLED ? CLI_INTERRUPTED : CLI_NO_DAEMON);
	return l->client != NULL;
}

/* GET path as a tree, or NULL and the status set. */
static cJSON *list_get(struct list *l, const char *path)
{
	cJSON *tree = models_list_get(l->client, path, &l->e);

	if (!tree)
		list_fail(l, ask_exit_status(&l->e));
	return tree;
}

static void print_tree(const cJSON *tree)
{
	char *text = cJSON_Print(tree);

	render_json(stdout, str_of(text));
	putchar('\n');
	cJSON_free(text);
}

/* The array named key, or an empty one. */
static const cJSON *array_of(const cJSON *tree, const char *key)
{
	const cJSON *a = NULL;

	json_array(tree, key, &a, NULL);
	return a;
}

/* A table that grows cell by cell; cells are owned. */
struct table {
	char **cells;
	int ncells, cap;
};

static void table_add(struct table *t, char *cell)
{
	if (t->ncells == t->cap) {
		t->cap = t->cap ? t->cap * 2 : 64;
		t->cells = xrealloc(t->cells, (size_t)t->cap * sizeof *t->cells);
	}
	t->cells[t->ncells++] = cell;
}

static void table_head(struct table *t, const char *const *names, int n)
{
	for (int i = 0; i < n; i++)
		table_add(t, xstrdup(names[i]));
}

static void table_print(struct table *t, int ncols, const bool *right)
{
	render_table(stdout, (const char *const *)t->cells, t->ncells / ncols, ncols,
		     right);
	for (int i = 0; i < t->ncells; i++)
		free(t->cells[i]);
	free(t->cells);
	*t = (struct table){0};
}

static char *cell_string(const cJSON *obj, const char *key)
{
	const char *s = "-";

	json_string(obj, key, &s, NULL);
	return render_line(*s ? s : "-");
}

static char *cell_int(const cJSON *obj, const char *key)
{
	int64_t n;

	if (json_int(obj, key, INT64_MIN / 2048, INT64_MAX / 2048, &n, NULL) != 1)
		return xstrdup("-");
	return xasprintf("%lld", (long long)n);
}

static char *cell_size(int64_t bytes)
{
	char size[RENDER_SIZE_BYTES];

	return xstrdup(bytes > 0 ? render_size((uint64_t)bytes, size) : "-");
}

static char *cell_age(int64_t seconds)
{
	char age[RENDER_AGE_BYTES];

	return xstrdup(render_age(seconds, age));
}

static int64_t get_int(const cJSON *obj, const char *key, int64_t otherwise)
{
	int64_t n = otherwise;

	json_int(obj, key, -1, (int64_t)1 << 53, &n, NULL);
	return n;
}

/* Where a model is now: as ps says, else on disk or remote. */
static char *model_state(const cJSON *list, int i, const cJSON *ps)
{
	const cJSON *m;

	cJSON_ArrayForEach(m, array_of(ps, "models"))
	{
		const char *name = "";

		json_string(m, "name", &name, NULL);
		if (!strcmp(name, models_list_name(list, i)))
			return cell_string(m, "state");
	}
	return xstrdup(models_list_is_remote(list, i) ? "remote" : "disk");
}

static void print_models(const cJSON *list, const cJSON *ps)
{
	static const char *const head[] = {"NAME", "SIZE", "STATE"};
	static const bool right[] = {false, true, false};
	int n = models_list_count(list);
	struct table t = {0};

	if (!n) {
		printf("No models yet.  Fetch the default one: hob pull smollm2:135m\n");
		return;
	}
	table_head(&t, head, 3);
	for (int i = 0; i < n && t.ncells < MAX_CELLS; i++) {
		table_add(&t, render_line(models_list_name(list, i)));
		table_add(&t, cell_size(models_list_bytes(list, i)));
		table_add(&t, model_state(list, i, ps));
	}
	table_print(&t, 3, right);
}

static int list_end(struct list *l)
{
	if (!l->status && (fflush(stdout) || ferror(stdout))) {
		err_sys(&l->e, errno, "write the list");
		list_fail(l, CLI_FAIL);
	}
	client_free(l->client);
	return l->status;
}

int cmd_ls(int argc, char **argv)
{
	struct list l = {.spec = &ls_spec};
	cJSON *list, *ps = NULL;
	struct err none;

	if (!list_args(&l, argc, argv, NULL) || !list_connect(&l, true))
		return l.status;
	list = models_list(l.client, &l.e);
	if (!list)
		list_fail(&l, ask_exit_status(&l.e));
	else if (l.json)
		print_tree(list);
	else /* states are a nicety: no list fails for them */
		print_models(list, ps = models_list_get(l.client, "/v1/hob/ps", &none));
	cJSON_Delete(ps);
	cJSON_Delete(list);
	return list_end(&l);
}

static void print_ps(const cJSON *ps)
{
	static const char *const head[] = {"NAME", "STATE", "MEMORY",   "IN USE",
					   "CTX",  "SLOTS", "LAST USED"};
	static const bool right[] = {false, false, true, true, true, true, false};
	char used[RENDER_SIZE_BYTES], budget[RENDER_SIZE_BYTES];
	const cJSON *m, *models = array_of(ps, "models");
	const cJSON *worker = cJSON_GetObjectItemCaseSensitive(ps, "engine");
	char *state = cell_string(worker, "state"),
	     *kernels = cell_string(worker, "kernels");
	int64_t u = get_int(ps, "used_bytes", 0), b = get_int(ps, "budget_bytes", 0);
	struct table t = {0};

	printf("engine %s, kernels %s, %s of %s used\n", state, kernels,
	       render_size(u > 0 ? (uint64_t)u : 0, used),
	       render_size(b > 0 ? (uint64_t)b : 0, budget));
	free(state);
	free(kernels);
	if (!cJSON_GetArraySize(models)) {
		printf("no model is in memory\n");
		return;
	}
	table_head(&t, head, 7);
	cJSON_ArrayForEach(m, models)
	{
		int64_t idle_ms = get_int(m, "idle_ms", -1);

		if (t.ncells >= MAX_CELLS)
			break;
		table_add(&t, cell_string(m, "name"));
		table_add(&t, cell_string(m, "state"));
		table_add(&t, cell_size(get_int(m, "bytes", -1)));
		table_add(&t, cell_int(m, "leases"));
		table_add(&t, cell_int(m, "ctx"));
		table_add(&t, cell_int(m, "slots"));
		table_add(&t, cell_age(idle_ms < 0 ? -1 : idle_ms / 1000));
	}
	table_print(&t, 7, right);
}

int cmd_ps(int argc, char **argv)
{
	struct list l = {.spec = &ps_spec};
	cJSON *ps;

	if (!list_args(&l, argc, argv, NULL) || !list_connect(&l, false))
		return l.status;
	ps = list_get(&l, "/v1/hob/ps");
	if (ps && l.json)
		print_tree(ps);
	else if (ps)
		print_ps(ps);
	cJSON_Delete(ps);
	return list_end(&l);
}

static void print_conversations(const cJSON *tree)
{
	static const char *const head[] = {"ID", "MESSAGES", "MODEL", "UPDATED", "TITLE"};
	static const bool right[] = {false, true, false, false, false};
	const cJSON *c, *list = array_of(tree, "conversations");
	struct table t = {0};

	if (!cJSON_GetArraySize(list)) {
		printf("No conversations yet.  Start one: hob chat\n");
		return;
	}
	table_head(&t, head, 5);
	cJSON_ArrayForEach(c, list)
	{
		int64_t updated_ms = get_int(c, "updated_ms", -1);

		if (t.ncells >= MAX_CELLS)
			break;
		table_add(&t, cell_string(c, "id"));
		table_add(&t, cell_int(c, "message_count"));
		table_add(&t, cell_string(c, "model"));
		table_add(&t, cell_age(updated_ms < 0
					       ? -1
					       : (clock_unix_ms() - updated_ms) / 1000));
		table_add(&t, cell_string(c, "title"));
	}
	table_print(&t, 5, right);
}

static void print_messages(const cJSON *tree)
{
	bool colour = render_colour(STDOUT_FILENO);
	const cJSON *m;

	cJSON_ArrayForEach(m, array_of(tree, "messages"))
	{
		const char *content = "";
		char *role = cell_string(m, "role"), *text;

		json_string(m, "content", &content, NULL);
		text = render_text(content);
		printf("%s%s:%s\n%s\n\n", colour ? "\033[1m" : "", role,
		       colour ? "\033[0m" : "", text);
		free(role);
		free(text);
	}
}

/* An id goes into a path: only letters and digits and the like, so that none escapes it.
 */
static bool is_id(const char *id)
{
	for (const char *p = id; *p; p++)
		if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ01234567"
			    "89-_",
			    *p))
			return false;
	return *id && strlen(id) < 64;
}

int cmd_history(int argc, char **argv)
{
	struct list l = {.spec = &history_spec};
	const char *id = NULL;
	cJSON *tree = NULL;
	char *path;

	if (!list_args(&l, argc, argv, &id))
		return l.status;
	if (id && !is_id(id))
		return args_usage(&history_spec,
				  "'%s' is no conversation's ID; see: hob history", id);
	if (!list_connect(&l, true))
		return l.status;
	path = id ? xasprintf("/v1/hob/conversations/%s", id)
		  : xstrdup("/v1/hob/conversations");
	tree = list_get(&l, path);
	free(path);
	if (tree && l.json)
		print_tree(tree);
	else if (tree && id)
		print_messages(tree);
	else if (tree)
		print_conversations(tree);
	cJSON_Delete(tree);
	return list_end(&l);
}

/* The peer of a socket that systemd listens on is systemd, and /healthz says what it
 * likes: whatever is to get a signal must be ours and a hob. */
static bool is_our_hob(pid_t pid)
{
	char path[64], name[32] = "";
	struct stat st;
	bool ours = false;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
	f = fopen(path, "re");
	if (!f)
		return false;
	if (!fstat(fileno(f), &st) && st.st_uid == geteuid() &&
	    fgets(name, sizeof name, f))
		ours = !strncmp(name, "hob", 3);
	fclose(f);
	return ours;
}

/* Asks the process behind pidfd to end and waits until it has. */
static int end_process(struct list *l, pid_t pid, int pidfd)
{
	struct pollfd p[2] = {{.fd = pidfd, .events = POLLIN},
			      {.fd = interrupt_fd(), .events = POLLIN}};
	int n;

	if (pidfd_send_signal(pidfd, SIGTERM, NULL, 0) && errno != ESRCH) {
		err_sys(&l->e, errno, "stop process %d", (int)pid);
		return list_fail(l, CLI_FAIL);
	}
	do {
		n = poll(p, 2, STOP_TIMEOUT_MS);
	} while (n < 0 && errno == EINTR && !interrupt_pending());
	if (interrupt_pending())
		return l->status = CLI_INTERRUPTED;
	if (p[0].revents)
		return CLI_OK;
	err_set(&l->e, ERR_TIMEOUT,
		"process %d still finishes answers after %d s; wait or kill it", (int)pid,
		STOP_TIMEOUT_MS / 1000);
	return list_fail(l, CLI_FAIL);
}

/* A pidfd is taken before the checks: were the number given to another process in
 * between, the signal would not reach that one. */
static int stop_daemon(struct list *l, pid_t peer)
{
	cJSON *health = list_get(l, "/healthz");
	pid_t pid = health ? (pid_t)get_int(health, "pid", peer) : -1;
	int pidfd, status;

	cJSON_Delete(health);
	if (l->status)
		return l->status;
	pidfd = pid > 1 ? pidfd_open(pid, 0) : -1;
	if (pidfd < 0 || !is_our_hob(pid)) {
		err_set(&l->e, ERR_FORBIDDEN,
			"process %d, which serves '%s', is no hob of ours: not "
			"stopped (one that systemd started: systemctl --user stop hob)",
			(int)pid, client_socket(l->client));
		status = list_fail(l, CLI_FAIL);
	} else {
		status = end_process(l, pid, pidfd);
	}
	if (pidfd >= 0)
		close(pidfd);
	return status;
}

int cmd_stop(int argc, char **argv)
{
	struct list l = {.spec = &stop_spec};
	char *path;
	pid_t peer = 0;

	if (!list_args(&l, argc, argv, NULL))
		return l.status;
	path = daemon_socket();
	interrupt_enable();
	l.client = client_new(path);
	if (client_probe(path, &peer, &l.e))
		list_fail(&l, l.e.code == ERR_UNAVAILABLE ? CLI_NO_DAEMON : CLI_FAIL);
	else
		stop_daemon(&l, peer);
	free(path);
	return list_end(&l);
}
