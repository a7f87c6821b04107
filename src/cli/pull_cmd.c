/* `hob pull`: options, the progress line, exit statuses.  Main thread, blocking.
 *
 * Progress goes to standard error, results to standard output.  On a terminal one line is drawn
 * again ten times a second; elsewhere a line is printed every tenth of the file, so that a log
 * stays short. */
#include <errno.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/paths.h"
#include "cli/args.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/pull.h"

enum { REDRAW_MS = 100, BAR_CELLS = 24 };

static const char default_endpoint[] = "https://huggingface.co";

enum pull_option { OPT_LIST, OPT_FROM, OPT_DIR, OPT_FORCE, OPT_JSON, OPT_QUIET };

static const struct args_option options[] = {
	[OPT_LIST] = {"list", 'l', NULL, "print the catalogue"},
	[OPT_FROM] = {"from", 0, "FILE",
		      "install this local file, if it is the model named"},
	[OPT_DIR] = {"dir", 0, "DIR",
		     "folder of models (default: $XDG_DATA_HOME/hob/models)"},
	[OPT_FORCE] = {"force", 'f', NULL, "replace another file of the same name"},
	[OPT_JSON] = {"json", 0, NULL, "print the result or the catalogue as JSON"},
	[OPT_QUIET] = {"quiet", 'q', NULL, "no progress"},
};

static const struct args_spec spec = {
	.command = "pull",
	.usage = "[OPTIONS] NAME | hf.co/OWNER/REPO[:FILE or :QUANT]",
	.summary =
		"Downloads a model file, resumes one that was interrupted, verifies its SHA-256.",
	.options = options,
	.noptions = (int)ARRAY_LEN(options),
	.notes =
		"Without FILE or QUANT the repository's " PULL_DEFAULT_QUANT
		" is taken.\n"
		"HF_TOKEN is sent to the hub for repositories that need it. HOB_HF_ENDPOINT names\n"
		"another hub.",
};

struct pull_args {
	const char *what, *from, *dir;
	bool list, force, json, quiet;
};

/* ---- progress ---- */

struct meter {
	struct pull_progress progress;
	const char *name; /* borrowed */
	bool tty, quiet, drawn;
	uint64_t start_ms, last_ms, last_done;
	int last_tenth;
};

static void human_time(char *out, size_t size, double s)
{
	if (s < 0 || s > 99 * 3600.0)
		snprintf(out, size, "--:--");
	else if (s >= 3600)
		snprintf(out, size, "%d:%02d:%02d", (int)s / 3600, (int)s / 60 % 60,
			 (int)s % 60);
	else
		snprintf(out, size, "%02d:%02d", (int)s / 60, (int)s % 60);
}

static void draw_bar(char *out, double part)
{
	int full = (int)(part * BAR_CELLS);

	for (int i = 0; i < BAR_CELLS; i++)
		out[i] = i < full ? '#' : '.';
	out[BAR_CELLS] = 0;
}

static void meter_draw(struct meter *m, uint64_t done, uint64_t total, uint64_t resumed)
{
	double elapsed_s = (double)(m->last_ms - m->start_ms) / 1000;
	double rate = elapsed_s > 0.2 && done > resumed
			      ? (double)(done - resumed) / elapsed_s
			      : 0;
	double part = total ? (double)done / (double)total : 0;
	char bar[BAR_CELLS + 1], eta[16];

	draw_bar(bar, part > 1 ? 1 : part);
	human_time(eta, sizeof eta,
		   rate > 0 && total ? (double)(total - done) / rate : -1);
	fprintf(stderr, "%s%.40s  %s %3.0f %%  %.1f of %.1f MiB  %.1f MiB/s  %s left%s",
		m->tty ? "\r" : "", m->name, bar, part * 100, (double)done / (1 << 20),
		(double)total / (1 << 20), rate / (1 << 20), eta,
		m->tty ? "\033[K" : "\n");
	fflush(stderr);
	m->drawn = true;
}

static bool meter_step(struct pull_progress *p, uint64_t done, uint64_t total,
		       uint64_t resumed)
{
	struct meter *m = CONTAINER_OF(p, struct meter, progress);
	uint64_t now = clock_mono_ms();
	int tenth = total ? (int)(done * 10 / total) : 0;

	if (interrupt_pending())
		return false;
	if (!m->start_ms ||
	    done < m->last_done) { /* another phase: reading, then fetching */
		m->start_ms = now;
		m->last_tenth = total ? (int)(done * 10 / total) : 0;
	}
	m->last_done = done;
	if (m->quiet || !total || done > total)
		return true;
	if (m->tty ? now - m->last_ms < REDRAW_MS && done < total
		   : tenth <= m->last_tenth)
		return true;
	m->last_ms = now;
	m->last_tenth = tenth;
	meter_draw(m, done, total, resumed);
	return true;
}

static void meter_end(struct meter *m)
{
	if (m->tty && m->drawn)
		fputs("\r\033[K", stderr);
}

/* ---- output ---- */

static void print_json_pair(struct buf *out, const char *key, const char *value)
{
	buf_addf(out, "%c\"%s\":", out->len && out->data[out->len - 1] != '[' ? ',' : '{',
		 key);
	buf_add_json(out, value, strlen(value));
}

static int print_catalogue(bool json)
{
	struct buf out = {0};

	for (size_t i = 0; i < catalogue_count(); i++) {
		const struct catalogue_entry *c = catalogue_at(i);
		struct buf one = {0};

		if (!json) {
			buf_addf(&out, "%-20s %7.1f MiB  %s\n", c->name,
				 (double)c->bytes / (1 << 20), c->about);
			continue;
		}
		print_json_pair(&one, "name", c->name);
		print_json_pair(&one, "file", c->filename);
		print_json_pair(&one, "source", c->repo);
		print_json_pair(&one, "sha256", c->sha256);
		print_json_pair(&one, "about", c->about);
		buf_addf(&out, "%s%s,\"bytes\":%llu}", i ? "," : "[", one.data,
			 (unsigned long long)c->bytes);
		buf_free(&one);
	}
	if (json)
		buf_adds(&out, "]\n");
	fputs(out.data, stdout);
	buf_free(&out);
	return CLI_OK;
}

static void print_result(const struct pull_args *a, const struct pull_result *r)
{
	struct buf out = {0};

	if (!a->json) {
		printf("%s: %s %s (%.1f MiB, %s)\n", a->what,
		       r->was_there ? "is already" : "saved as", r->path,
		       (double)r->bytes / (1 << 20),
		       r->verified ? "SHA-256 verified"
				   : "its SHA-256 was not known beforehand");
		return;
	}
	print_json_pair(&out, "name", a->what);
	print_json_pair(&out, "path", r->path);
	print_json_pair(&out, "sha256", r->sha256);
	printf("%s,\"bytes\":%llu,\"verified\":%s,\"was_there\":%s}\n", out.data,
	       (unsigned long long)r->bytes, r->verified ? "true" : "false",
	       r->was_there ? "true" : "false");
	buf_free(&out);
}

static int print_error(const struct err *e)
{
	fprintf(stderr, "hob pull: %s\n", e->text);
	switch (e->code) {
	case ERR_CANCELLED:
		return CLI_INTERRUPTED;
	case ERR_MODEL:
	case ERR_NOT_FOUND:
		return CLI_NO_MODEL;
	case ERR_INVALID:
		return CLI_USAGE;
	default:
		return CLI_FAIL;
	}
}

/* ---- the command ---- */

/* False: *status is what to return. */
static bool parse(struct pull_args *pa, int argc, char **argv, int *status)
{
	const char *value = NULL;
	struct args a;
	int option;

	args_init(&a, &spec, argc, argv);
	while ((option = args_next(&a, &value)) >= 0)
		switch ((enum pull_option)option) {
		case OPT_LIST:
			pa->list = true;
			break;
		case OPT_FROM:
			pa->from = value;
			break;
		case OPT_DIR:
			pa->dir = value;
			break;
		case OPT_FORCE:
			pa->force = true;
			break;
		case OPT_JSON:
			pa->json = true;
			break;
		case OPT_QUIET:
			pa->quiet = true;
			break;
		}
	*status = a.status;
	if (option == ARGS_STOP)
		return false;
	if (argc - a.first != (pa->list ? 0 : 1)) {
		*status = args_usage(&spec, pa->list ? "--list takes no name"
						     : "name one model");
		return false;
	}
	pa->what = pa->list ? NULL : argv[a.first];
	return true;
}

static int run(const struct pull_args *a, const struct pull_ref *ref, const char *dir,
	       struct pull_result *r, struct err *e)
{
	struct meter meter = {.progress = {meter_step},
			      .name = a->what,
			      .quiet = a->quiet,
			      .tty = isatty(STDERR_FILENO)};
	const char *endpoint = getenv("HOB_HF_ENDPOINT");
	struct pull p = {.endpoint =
				 endpoint && endpoint[0] ? endpoint : default_endpoint,
			 .token = getenv("HF_TOKEN"),
			 .dir = dir,
			 .force = a->force,
			 .progress = &meter.progress};
	int rc;

	interrupt_enable();
	if (a->from)
		rc = pull_install(&p, ref->entry, a->from, r, e);
	else
		rc = pull_fetch(&p, ref, r, e);
	meter_end(&meter);
	return rc;
}

int cmd_pull(int argc, char **argv)
{
	struct pull_result r = {0};
	struct pull_args a = {0};
	struct pull_ref ref = {0};
	struct err e = {0};
	int status, rc;
	char *dir;

	if (!parse(&a, argc, argv, &status))
		return status;
	if (a.list)
		return print_catalogue(a.json);
	dir = a.dir ? xstrdup(a.dir) : paths_models_dir();
	rc = pull_ref_parse(&ref, a.what, &e);
	if (rc == 0 && a.from && !ref.entry)
		rc = err_set(&e, ERR_INVALID,
			     "--from wants a name of the catalogue: the sum of '%s' "
			     "is not known",
			     a.what);
	if (rc == 0)
		rc = paths_make_private(dir, &e);
	if (rc == 0)
		rc = run(&a, &ref, dir, &r, &e);
	if (rc == 0)
		print_result(&a, &r);
	status = rc == 0 ? CLI_OK : print_error(&e);
	pull_result_free(&r);
	pull_ref_free(&ref);
	free(dir);
	return status;
}
