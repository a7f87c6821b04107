/* The commands ls, which lists what there is, and stop, which ends the daemon.
 *
 * Main thread.  ls starts a daemon, for a list of models is what a newcomer asks first; stop does not:
 * without a daemon there is nothing to stop. */
#include "cli/commands.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/ask.h"
#include "cli/daemon_start.h"
#include "cli/interrupt.h"
#include "cli/listing.h"
#include "cli/models_list.h"
#include "cli/render.h"

enum { STOP_TIMEOUT_MS = 30000 };

static const struct args_spec ls_spec = {
	.command = "ls",
	.usage = "[--json] [PART-OF-A-NAME]",
	.summary =
		"Lists the models that can be asked: local ones and routes, or all by a part of the name.",
	.options = listing_options,
	.noptions = LISTING_OPTIONS,
	.notes =
		"hob ls openrouter lists what that provider has; prices are USD per million tokens.",
};

static const struct args_spec stop_spec = {
	.command = "stop",
	.usage = "",
	.summary = "Ends the daemon; answers under way are finished first.",
};

/* Where a model is now: as ps says, else on disk, remote, or a route. */
static char *model_state(const cJSON *list, int i, const cJSON *ps)
{
	const char *owner = models_list_owner(list, i);
	const cJSON *m;

	cJSON_ArrayForEach(m, listing_array(ps, "models"))
	{
		const char *name = "";

		json_string(m, "name", &name, NULL);
		if (!strcmp(name, models_list_name(list, i)))
			return cell_string(m, "state");
	}
	return xstrdup(strcmp(owner, "local") ? owner : "disk");
}

/* "2.5 in, 10 out" in USD per million tokens. */
static char *model_price(const cJSON *list, int i)
{
	double input, output;

	if (!models_list_prices(list, i, &input, &output))
		return xstrdup("-");
	return xasprintf("%.4g in, %.4g out", input, output);
}

static bool is_shown(const cJSON *list, int i, const char *part)
{
	return part ? strcasestr(models_list_name(list, i), part) != NULL
		    : strcmp(models_list_owner(list, i), "remote") != 0;
}

static void add_row(struct table *t, const cJSON *list, int i, const cJSON *ps,
		    bool prices)
{
	table_add(t, render_line(models_list_name(list, i)));
	table_add(t, cell_size(models_list_bytes(list, i)));
	table_add(t, model_state(list, i, ps));
	if (prices)
		table_add(t, model_price(list, i));
}

/* part NULL: what is here, and how much else there is. */
static void print_models(const cJSON *list, const cJSON *ps, const char *part)
{
	static const char *const head[] = {"NAME", "SIZE", "STATE", "PRICE"};
	static const bool right[] = {false, true, false, false};
	int n = models_list_count(list), columns = part ? 4 : 3, hidden = 0;
	struct table t = {0};

	for (int i = 0; i < n && t.ncells < TABLE_MAX_CELLS; i++) {
		if (!is_shown(list, i, part)) {
			hidden++;
			continue;
		}
		if (!t.ncells)
			table_head(&t, head, columns);
		add_row(&t, list, i, ps, part != NULL);
	}
	if (t.ncells)
		table_print(&t, columns, right);
	else if (part)
		printf("No model has '%s' in its name.\n", part);
	else
		printf("No models yet.  Fetch the default one: hob pull smollm2:135m\n");
	if (hidden && !part)
		printf("and %d remote ones: hob ls PART-OF-A-NAME\n", hidden);
}

int cmd_ls(int argc, char **argv)
{
	struct listing l = {.spec = &ls_spec};
	const char *part = NULL;
	cJSON *list, *ps = NULL;
	struct err none;

	if (!listing_args(&l, argc, argv, &part) || !listing_connect(&l, true))
		return l.status;
	list = models_list(l.client, &l.e);
	if (!list)
		listing_fail(&l, ask_exit_status(&l.e));
	else if (l.json)
		listing_print(list);
	else /* states are a nicety: no list fails for them */
		print_models(list, ps = models_list_get(l.client, "/v1/hob/cache", &none),
			     part);
	cJSON_Delete(ps);
	cJSON_Delete(list);
	return listing_end(&l);
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
static int end_process(struct listing *l, pid_t pid, int pidfd)
{
	struct pollfd p[2] = {{.fd = pidfd, .events = POLLIN},
			      {.fd = interrupt_fd(), .events = POLLIN}};
	int n;

	if (pidfd_send_signal(pidfd, SIGTERM, NULL, 0) && errno != ESRCH) {
		err_sys(&l->e, errno, "stop process %d", (int)pid);
		return listing_fail(l, CLI_FAIL);
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
	return listing_fail(l, CLI_FAIL);
}

/* A pidfd is taken before the checks: were the number given to another process in
 * between, the signal would not reach that one. */
static int stop_daemon(struct listing *l, pid_t peer)
{
	cJSON *health = listing_get(l, "/healthz");
	pid_t pid = health ? (pid_t)listing_int(health, "pid", peer) : -1;
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
		status = listing_fail(l, CLI_FAIL);
	} else {
		status = end_process(l, pid, pidfd);
	}
	if (pidfd >= 0)
		close(pidfd);
	return status;
}

int cmd_stop(int argc, char **argv)
{
	struct listing l = {.spec = &stop_spec};
	char *path;
	pid_t peer = 0;

	if (!listing_args(&l, argc, argv, NULL))
		return l.status;
	path = daemon_socket();
	interrupt_enable();
	l.client = client_new(path);
	if (client_probe(path, &peer, &l.e))
		listing_fail(&l, l.e.code == ERR_UNAVAILABLE ? CLI_NO_DAEMON : CLI_FAIL);
	else
		stop_daemon(&l, peer);
	free(path);
	return listing_end(&l);
}
