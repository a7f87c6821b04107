/* A provider's models in memory, sorted by id, and their copy on disk.
 *
 * Loop thread; a file is written by one piece of work in the pool at a time, which owns all that it
 * needs, so that remote_models_free() never waits.  A reader may question the missing fsync: the
 * file can be had again, and one that a power cut left half written is no JSON and is ignored. */
#include "providers/remote_models.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/log.h"
#include "base/paths.h"

enum {
	FILE_VERSION = 1,
	MAX_FILE_BYTES = 8 << 20, /* REMOTE_MODELS_MAX rows of some 500 bytes */
	MAX_ID_BYTES = 256,
	MAX_NAME_BYTES = 100,
	MAX_TOKENS = 1 << 30,
};

/* A file on its way to the disk; owns its texts and outlives the table. */
struct writing {
	uv_work_t work;
	struct table *table; /* the loop's; NULL: nobody is interested any more */
	char *dir, *path;
	struct buf text, next; /* next: the loop's, to be written after this one */
	struct err failed;
};

struct table {
	uv_loop_t *loop;
	char *dir, *path; /* owned; NULL: nothing is kept */
	char *origin;     /* owned; NULL: any */
	struct remote_model *list;
	int n;
	int64_t got_unix_s; /* < 0: never */
	bool asked;         /* the file was read, or need not be any more */
	bool told;          /* that it cannot be written */
	struct writing *writing;
};

/* Apart, so that reading the file at the first question is no lie about `const`. */
struct remote_models {
	struct table *t;
};

void remote_models_list_free(struct remote_model *list, int n)
{
	for (int i = 0; i < n; i++)
		free(list[i].id);
	free(list);
}

/* ---- the list */

static int by_id(const void *a, const void *b)
{
	const struct remote_model *x = a, *y = b;

	return strcmp(x->id, y->id);
}

/* Takes the list. */
static void adopt(struct table *t, struct remote_model *list, int n)
{
	int kept = 0;

	while (n > REMOTE_MODELS_MAX)
		free(list[--n].id);
	remote_models_list_free(t->list, t->n);
	if (n > 1)
		qsort(list, (size_t)n, sizeof *list, by_id);
	for (int i = 0; i < n; i++) {
		if (kept && !strcmp(list[kept - 1].id, list[i].id))
			free(list[i].id);
		else
			list[kept++] = list[i];
	}
	t->list = list;
	t->n = kept;
}

/* ---- the file, reading */

static const struct {
	const char *key;
	size_t at;
} price_keys[] = {
	{"input", offsetof(struct prices, input)},
	{"output", offsetof(struct prices, output)},
	{"cached", offsetof(struct prices, cached)},
	{"cache_write", offsetof(struct prices, cache_write)},
	{"request", offsetof(struct prices, request)},
	{"image", offsetof(struct prices, image)},
};

static const struct {
	const char *key;
	size_t at;
} ability_keys[] = {
	{"images", offsetof(struct remote_model, images)},
	{"tools", offsetof(struct remote_model, tools)},
	{"structured", offsetof(struct remote_model, structured)},
	{"reasoning", offsetof(struct remote_model, reasoning)},
};

static double *price(struct prices *p, int i)
{
	return (double *)((char *)p + price_keys[i].at);
}

static enum tristate *ability(struct remote_model *m, int i)
{
	return (enum tristate *)((char *)m + ability_keys[i].at);
}

static bool read_row(const cJSON *row, struct remote_model *out)
{
	const char *id = NULL;
	int64_t v;
	bool yes;

	if (json_string(row, "id", &id, NULL) <= 0 || !id[0] || strlen(id) > MAX_ID_BYTES)
		return false;
	*out = REMOTE_MODEL_UNKNOWN;
	out->id = xstrdup(id);
	if (json_int(row, "ctx", 0, MAX_TOKENS, &v, NULL) > 0)
		out->ctx = (int)v;
	if (json_int(row, "max_output", 0, MAX_TOKENS, &v, NULL) > 0)
		out->max_output = (int)v;
	if (json_int(row, "expires_unix_s", 0, INT64_C(1) << 40, &v, NULL) > 0)
		out->expires_unix_s = v;
	for (int i = 0; i < (int)ARRAY_LEN(price_keys); i++)
		json_double(row, price_keys[i].key, 0, 1e6, price(&out->prices, i), NULL);
	for (int i = 0; i < (int)ARRAY_LEN(ability_keys); i++)
		if (json_bool(row, ability_keys[i].key, &yes, NULL) > 0)
			*ability(out, i) = yes ? YES : NO;
	return true;
}

static void read_tree(struct table *t, const cJSON *tree)
{
	const cJSON *rows = NULL, *row;
	const char *origin = NULL;
	struct remote_model *list;
	int64_t version = 0, got = -1;
	int n = 0;

	if (json_int(tree, "version", FILE_VERSION, FILE_VERSION, &version, NULL) <= 0 ||
	    json_int(tree, "got_unix_s", 0, INT64_C(1) << 40, &got, NULL) <= 0 ||
	    json_array(tree, "models", &rows, NULL) <= 0)
		return;
	json_string(tree, "origin", &origin, NULL);
	if (t->origin && (!origin || strcmp(origin, t->origin)))
		return;
	list = xcalloc(REMOTE_MODELS_MAX, sizeof *list);
	for (row = rows->child; row && n < REMOTE_MODELS_MAX; row = row->next)
		n += read_row(row, &list[n]);
	list = xrealloc(list, (size_t)(n ? n : 1) * sizeof *list);
	adopt(t, list, n);
	t->got_unix_s = got;
}

/* The whole of a regular file of ours; empty when it is anything else. */
static void read_file(const char *path, struct buf *out)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;
	ssize_t n = 0;

	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
	    st.st_uid == geteuid() && st.st_size > 0 && st.st_size <= MAX_FILE_BYTES) {
		buf_reserve(out, (size_t)st.st_size + 1);
		while (out->len < (size_t)st.st_size &&
		       (n = read(fd, out->data + out->len,
				 (size_t)st.st_size - out->len)) > 0)
			out->len += (size_t)n;
	}
	if (fd >= 0)
		close(fd);
}

static void read_once(struct table *t)
{
	struct buf text = {0};
	cJSON *tree;

	if (t->asked)
		return;
	t->asked = true;
	if (!t->path)
		return;
	read_file(t->path, &text);
	tree = json_parse(buf_str(&text), NULL);
	if (cJSON_IsObject(tree))
		read_tree(t, tree);
	cJSON_Delete(tree);
	buf_free(&text);
}

/* ---- the file, writing */

static void add_row(struct buf *out, struct remote_model *m)
{
	buf_adds(out, "{\"id\":");
	buf_add_json(out, m->id, strlen(m->id));
	if (m->ctx)
		buf_addf(out, ",\"ctx\":%d", m->ctx);
	if (m->max_output)
		buf_addf(out, ",\"max_output\":%d", m->max_output);
	if (m->expires_unix_s)
		buf_addf(out, ",\"expires_unix_s\":%lld", (long long)m->expires_unix_s);
	for (int i = 0; i < (int)ARRAY_LEN(price_keys); i++)
		if (*price(&m->prices, i) >= 0)
			buf_addf(out, ",\"%s\":%.12g", price_keys[i].key,
				 *price(&m->prices, i));
	for (int i = 0; i < (int)ARRAY_LEN(ability_keys); i++)
		if (*ability(m, i) != UNSAID)
			buf_addf(out, ",\"%s\":%s", ability_keys[i].key,
				 *ability(m, i) == YES ? "true" : "false");
	buf_addc(out, '}');
}

static void table_text(const struct table *t, struct buf *out)
{
	buf_addf(out, "{\"version\":%d,\"got_unix_s\":%lld", FILE_VERSION,
		 (long long)t->got_unix_s);
	if (t->origin) {
		buf_adds(out, ",\"origin\":");
		buf_add_json(out, t->origin, strlen(t->origin));
	}
	buf_adds(out, ",\"models\":[");
	for (int i = 0; i < t->n; i++) {
		if (i)
			buf_addc(out, ',');
		buf_adds(out, "\n");
		add_row(out, &t->list[i]);
	}
	buf_adds(out, "\n]}\n");
}

static int write_all(int fd, struct str s, struct err *e)
{
	while (s.len) {
		ssize_t n = write(fd, s.ptr, s.len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(e, errno, "write");
		s.ptr += n;
		s.len -= (size_t)n;
	}
	return 0;
}

/* Pool thread.  A name of its own each time: two daemons may keep the same file. */
static void write_work(uv_work_t *req)
{
	struct writing *w = CONTAINER_OF(req, struct writing, work);
	char *tmp = xasprintf("%s.XXXXXX", w->path);
	int fd = -1, rc = paths_make_private(w->dir, &w->failed);

	if (rc == 0 && (fd = mkostemp(tmp, O_CLOEXEC)) < 0) /* mode 0600 */
		rc = err_sys(&w->failed, errno, "make '%s'", tmp);
	if (rc == 0)
		rc = write_all(fd, buf_str(&w->text), &w->failed);
	if (fd >= 0 && close(fd) < 0 && rc == 0)
		rc = err_sys(&w->failed, errno, "close '%s'", tmp);
	if (rc == 0 && rename(tmp, w->path) < 0)
		rc = err_sys(&w->failed, errno, "rename '%s'", tmp);
	if (rc < 0 && fd >= 0)
		unlink(tmp);
	free(tmp);
}

static void writing_free(struct writing *w)
{
	free(w->dir);
	free(w->path);
	buf_free(&w->text);
	buf_free(&w->next);
	free(w);
}

static void on_written(uv_work_t *req, int status)
{
	struct writing *w = CONTAINER_OF(req, struct writing, work);
	struct table *t = w->table;

	if (t && w->failed.code && !t->told) {
		t->told = true;
		log_warn("the catalogue of models is not kept: %s", w->failed.text);
	}
	if (t && !w->failed.code && status == 0)
		t->told = false;
	if (w->next.len) {
		buf_free(&w->text);
		w->text = w->next;
		w->next = (struct buf){0};
		w->failed = (struct err){0};
		if (uv_queue_work(req->loop, req, write_work, on_written) == 0)
			return;
	}
	if (t)
		t->writing = NULL;
	writing_free(w);
}

static void save(struct table *t)
{
	struct buf text = {0};

	if (!t->path)
		return;
	table_text(t, &text);
	if (t->writing) { /* only the newest text counts */
		buf_free(&t->writing->next);
		t->writing->next = text;
		return;
	}
	t->writing = xcalloc(1, sizeof *t->writing);
	t->writing->table = t;
	t->writing->dir = xstrdup(t->dir);
	t->writing->path = xstrdup(t->path);
	t->writing->text = text;
	if (uv_queue_work(t->loop, &t->writing->work, write_work, on_written) != 0) {
		writing_free(t->writing);
		t->writing = NULL;
	}
}

/* ---- outside */

/* A name that is no plain file name keeps nothing. */
static bool is_file_name(const char *s)
{
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
			     "0123456789._-");

	return n > 0 && n <= MAX_NAME_BYTES && !s[n] && s[0] != '.';
}

struct remote_models *remote_models_new(uv_loop_t *loop, const char *dir,
					const char *provider)
{
	struct remote_models *m = xcalloc(1, sizeof *m);
	struct table *t = m->t = xcalloc(1, sizeof *t);

	t->loop = loop;
	t->got_unix_s = -1;
	if (dir && is_file_name(provider)) {
		t->dir = xstrdup(dir);
		t->path = xasprintf("%s/%s.json", dir, provider);
	}
	return m;
}

void remote_models_set_origin(struct remote_models *m, const char *url)
{
	free(m->t->origin);
	m->t->origin = url ? xstrdup(url) : NULL;
}

void remote_models_free(struct remote_models *m)
{
	struct table *t;

	if (!m)
		return;
	t = m->t;
	if (t->writing)
		t->writing->table = NULL;
	remote_models_list_free(t->list, t->n);
	free(t->dir);
	free(t->path);
	free(t->origin);
	free(t);
	free(m);
}

void remote_models_set(struct remote_models *m, struct remote_model *list, int n)
{
	m->t->asked = true;
	adopt(m->t, list, n);
	m->t->got_unix_s = time(NULL);
	save(m->t);
}

const struct remote_model *remote_models_find(const struct remote_models *m,
					      const char *id)
{
	int low = 0, high;

	read_once(m->t);
	high = m->t->n;
	while (low < high) {
		int mid = low + (high - low) / 2, cmp = strcmp(m->t->list[mid].id, id);

		if (cmp == 0)
			return &m->t->list[mid];
		if (cmp < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

int remote_models_count(const struct remote_models *m)
{
	read_once(m->t);
	return m->t->n;
}

const struct remote_model *remote_models_at(const struct remote_models *m, int i)
{
	read_once(m->t);
	ASSERT(i >= 0 && i < m->t->n);
	return &m->t->list[i];
}

int64_t remote_models_age_s(const struct remote_models *m)
{
	int64_t age;

	read_once(m->t);
	if (m->t->got_unix_s < 0)
		return -1;
	age = time(NULL) - m->t->got_unix_s;
	return age < 0 ? REMOTE_MODELS_FRESH_S + 1 : age;
}
