/* The registry of names.  Loop thread.
 *
 * A scan is a readdir and a stat a file, so it is done again whenever somebody asks for a name that
 * is not known: a file dropped into the folder is found without a restart.  Entries are heap objects
 * that a rescan updates in place, so pointers to files that are still there stay valid. */
#include "route/models.h"

#include <dirent.h>
#include <errno.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/nearest.h"
#include "cli/catalogue.h"

enum { MODELS_MAX = 4096 };

struct models {
	struct model **list; /* owned, sorted by name */
	int n;
	const struct config *config; /* borrowed: the one of the last scan */
};

static void model_free(struct model *m)
{
	free(m->name);
	free(m->path);
	free(m);
}

static int find_index(const struct models *m, const char *name)
{
	for (int i = 0; i < m->n; i++)
		if (!strcmp(m->list[i]->name, name))
			return i;
	return -1;
}

/* Adds or refreshes; a file that cannot be read is left out with a line in the log when the
 * configuration names it. */
static void offer(struct models *m, bool *seen, const char *name, const char *path,
		  const struct model_settings *settings, bool configured)
{
	struct model *x;
	struct stat st;
	int i = find_index(m, name);

	if (stat(path, &st) < 0) {
		if (configured)
			log_warn("model '%s': '%s': %s", name, path, strerror(errno));
		return;
	}
	if (!S_ISREG(st.st_mode)) {
		log_warn("model '%s': '%s' is not a file", name, path);
		return;
	}
	if (i >= 0 && seen[i])
		return; /* the configuration comes first and wins */
	if (i < 0) {
		if (m->n == MODELS_MAX)
			return;
		i = m->n++;
		m->list[i] = xcalloc(1, sizeof *x);
		m->list[i]->name = xstrdup(name);
	}
	seen[i] = true;
	x = m->list[i];
	if (!x->path || strcmp(x->path, path)) {
		free(x->path);
		x->path = xstrdup(path);
	}
	x->bytes = (uint64_t)st.st_size;
	x->mtime_ms = (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000;
	x->dev = st.st_dev;
	x->ino = st.st_ino;
	x->settings = *settings;
}

static void scan_folder(struct models *m, bool *seen, const char *dir)
{
	static const struct model_settings plain = {.keep_alive_ms = KEEP_ALIVE_DEFAULT};
	DIR *d = opendir(dir);
	struct dirent *entry;

	while (d && (entry = readdir(d))) {
		size_t len = strlen(entry->d_name);
		const struct catalogue_entry *known;
		char *path, *name;

		if (len <= 5 || strcmp(entry->d_name + len - 5, ".gguf") ||
		    entry->d_name[0] == '.')
			continue;
		known = catalogue_by_file(entry->d_name);
		path = xasprintf("%s/%s", dir, entry->d_name);
		name = known ? xstrdup(known->name) : xstrndup(entry->d_name, len - 5);
		offer(m, seen, name, path, &plain, false);
		free(path);
		free(name);
	}
	if (d)
		closedir(d);
}

/* A configured model without a path changes settings of one found in the folder. */
static void apply_settings(struct models *m, const struct config *c)
{
	for (int i = 0; i < c->nmodels; i++) {
		int at = c->models[i].path ? -1 : find_index(m, c->models[i].name);

		if (config_provider_of(c, c->models[i].name))
			continue; /* describes a remote one */

		if (at >= 0) {
			m->list[at]->settings = c->models[i].settings;
		} else if (!c->models[i].path) {
			log_warn("model '%s': no path, and no such file in '%s'",
				 c->models[i].name, c->models_dir);
		}
	}
}

static int by_name(const void *a, const void *b)
{
	return strcmp((*(struct model *const *)a)->name,
		      (*(struct model *const *)b)->name);
}

void models_rescan(struct models *m, const struct config *c)
{
	bool *seen = xcalloc(MODELS_MAX, sizeof *seen);
	int kept = 0;

	m->config = c;
	for (int i = 0; i < c->nmodels; i++)
		if (c->models[i].path)
			offer(m, seen, c->models[i].name, c->models[i].path,
			      &c->models[i].settings, true);
	scan_folder(m, seen, c->models_dir);
	for (int i = 0; i < m->n; i++) {
		if (seen[i])
			m->list[kept++] = m->list[i];
		else
			model_free(m->list[i]);
	}
	m->n = kept;
	free(seen);
	apply_settings(m, c);
	qsort(m->list, (size_t)m->n, sizeof *m->list, by_name);
}

struct models *models_new(const struct config *c)
{
	struct models *m = xcalloc(1, sizeof *m);

	m->list = xcalloc(MODELS_MAX, sizeof *m->list);
	models_rescan(m, c);
	return m;
}

void models_free(struct models *m)
{
	if (!m)
		return;
	for (int i = 0; i < m->n; i++)
		model_free(m->list[i]);
	free(m->list);
	free(m);
}

const struct model *models_find(struct models *m, const char *name)
{
	int i = find_index(m, name);
	struct stat st;

	/* A file that changed or went since the scan has another identity: look again. */
	if (i < 0 || stat(m->list[i]->path, &st) < 0 ||
	    (uint64_t)st.st_size != m->list[i]->bytes ||
	    (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000 !=
		    m->list[i]->mtime_ms) {
		models_rescan(m, m->config);
		i = find_index(m, name);
	}
	return i < 0 ? NULL : m->list[i];
}

const struct model *models_default(struct models *m)
{
	const struct model *x = NULL;

	if (m->config->default_model)
		return models_find(m, m->config->default_model);
	x = models_find(m, CATALOGUE_DEFAULT);
	return x ? x : m->n ? m->list[0] : NULL;
}

int models_count(const struct models *m)
{
	return m->n;
}

const struct model *models_at(const struct models *m, int i)
{
	ASSERT(i >= 0 && i < m->n);
	return m->list[i];
}

const char *models_nearest(const struct models *m, const char *name)
{
	struct nearest n = {.word = name};

	for (int i = 0; i < m->n; i++)
		nearest_offer(&n, m->list[i]->name);
	return n.best;
}
