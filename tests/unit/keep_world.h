/* A store on a real loop and real files in a folder that goes away, for the tests of what is kept:
 * questions that wait for their answer, and the last answer. */
#ifndef HOB_TEST_KEEP_WORLD_H
#define HOB_TEST_KEEP_WORLD_H

#include <dirent.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/base.h"
#include "base/buf.h"
#include "memory/store_heads.h"
#include "memory/store_keep.h"
#include "memory/store_search.h"

enum { MAX_HITS = 32 };

struct hit {
	char conversation[40], title[80], hash[40], snippet[1024];
	enum role role;
	double rank;
};

struct world {
	uv_loop_t loop;
	char dir[512], path[640];
	struct store *store;

	/* the latest answer */
	bool answered, closed;
	struct err err;
	char id[64];
	int64_t turn;
	int n;
	struct hit hits[MAX_HITS];
	struct store_forgotten forgotten;
};

static inline void world_open(struct world *w)
{
	struct err e = {0};

	w->store = store_open(&w->loop, w->path, &e);
	if (!w->store)
		fail_msg("store_open: %s", e.text);
}

static inline void world_on_closed(void *arg)
{
	((struct world *)arg)->closed = true;
}

static inline void world_close(struct world *w)
{
	w->closed = false;
	store_close(w->store, world_on_closed, w);
	while (!w->closed)
		uv_run(&w->loop, UV_RUN_ONCE);
	w->store = NULL;
}

static inline int world_setup(void **state)
{
	struct world *w = xcalloc(1, sizeof(*w));
	const char *tmp = getenv("TMPDIR");

	snprintf(w->dir, sizeof(w->dir), "%s/hob-keep-XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(w->dir))
		return -1;
	snprintf(w->path, sizeof(w->path), "%s/memory.db", w->dir);
	uv_loop_init(&w->loop);
	world_open(w);
	*state = w;
	return 0;
}

static inline void world_remove(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *ent;
	char *name;

	while (d && (ent = readdir(d)) != NULL) {
		if (!strcmp(ent->d_name, ".") || !strcmp(ent->d_name, ".."))
			continue;
		name = xasprintf("%s/%s", dir, ent->d_name);
		if (unlink(name) < 0)
			world_remove(name);
		free(name);
	}
	if (d)
		closedir(d);
	rmdir(dir);
}

static inline int world_teardown(void **state)
{
	struct world *w = *state;
	int rc;

	if (w->store)
		world_close(w);
	rc = uv_loop_close(&w->loop);
	world_remove(w->dir);
	free(w);
	return rc;
}

#define WITH_WORLD(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)

static inline enum err_code world_wait(struct world *w)
{
	assert_false(w->answered); /* never inside the call */
	while (!w->answered)
		uv_run(&w->loop, UV_RUN_ONCE);
	w->answered = false;
	return w->err.code;
}

static inline void world_answered(struct world *w, const struct err *e, const char *id)
{
	w->err = *e;
	snprintf(w->id, sizeof(w->id), "%s", id ? id : "");
	w->answered = true;
}

static inline void world_on_turn(void *arg, const struct err *e, const char *id,
				 int64_t turn)
{
	((struct world *)arg)->turn = turn;
	world_answered(arg, e, id);
}

static inline void world_on_ended(void *arg, const struct err *e, const char *prompt,
				  const char *reply)
{
	UNUSED(prompt);
	UNUSED(reply);
	world_answered(arg, e, NULL);
}

static inline void world_on_done(void *arg, const struct err *e)
{
	world_answered(arg, e, NULL);
}

static inline void world_on_forgotten(void *arg, const struct err *e,
				      const struct store_forgotten *f)
{
	struct world *w = arg;

	w->forgotten = f ? *f : (struct store_forgotten){0};
	world_answered(w, e, NULL);
}

static inline enum err_code world_forget(struct world *w,
					 const struct store_forget_ask *ask)
{
	store_forget(w->store, ask, world_on_forgotten, w);
	return world_wait(w);
}

static inline enum err_code world_backup(struct world *w, const char *path)
{
	store_backup(w->store, path, world_on_done, w);
	return world_wait(w);
}

/* Opens a turn; the conversation's id is in w->id then. */
static inline enum err_code world_begin(struct world *w, const char *id,
					const struct message *m, int n)
{
	store_turn_begin(w->store,
			 &(struct store_turn_begin){.conversation = id,
						    .model = "m",
						    .provider = "engine",
						    .messages = m,
						    .n = n},
			 world_on_turn, w);
	return world_wait(w);
}

static inline enum err_code world_say(struct world *w, const char *id, const char *text)
{
	struct message m = {ROLE_USER, (char *)text, NULL};

	return world_begin(w, id, &m, 1);
}

static inline enum err_code world_end(struct world *w, const char *status,
				      const char *text, const char *error)
{
	struct store_turn_end t = {.status = status,
				   .text = text,
				   .len = text ? strlen(text) : 0,
				   .error = error,
				   .tokens_in = -1,
				   .tokens_cached = -1,
				   .tokens_out = -1,
				   .ttft_ms = -1,
				   .total_ms = -1,
				   .cost_usd = -1};

	store_turn_end(w->store, w->turn, &t, world_on_ended, w);
	return world_wait(w);
}

/* One whole turn; the id goes to `id`, which may be "new" before. */
static inline void world_turn(struct world *w, char id[64], const char *question,
			      const char *reply)
{
	assert_int_equal(world_say(w, id, question), ERR_NONE);
	memcpy(id, w->id, 64);
	assert_int_equal(world_end(w, "done", reply, NULL), ERR_NONE);
}

static inline void world_on_hits(void *arg, const struct err *e,
				 const struct store_hit *list, int n)
{
	struct world *w = arg;

	w->n = n;
	for (int i = 0; i < n && i < MAX_HITS; i++) {
		struct hit *h = &w->hits[i];

		snprintf(h->conversation, sizeof(h->conversation), "%s",
			 list[i].conversation);
		snprintf(h->title, sizeof(h->title), "%s", list[i].title);
		snprintf(h->hash, sizeof(h->hash), "%s", list[i].hash);
		snprintf(h->snippet, sizeof(h->snippet), "%s", list[i].snippet);
		h->role = list[i].role;
		h->rank = list[i].rank;
	}
	world_answered(w, e, NULL);
}

/* The number of hits, or minus the code of the error. */
static inline int world_search(struct world *w, const char *words,
			       const char *conversation)
{
	store_search(w->store,
		     &(struct store_search_ask){.query = words,
						.conversation = conversation,
						.limit = MAX_HITS},
		     world_on_hits, w);
	return world_wait(w) == ERR_NONE ? w->n : -(int)w->err.code;
}

/* A connection of our own; the caller closes it. */
static inline sqlite3 *world_db(struct world *w)
{
	sqlite3 *db = NULL;

	assert_int_equal(sqlite3_open_v2(w->path, &db, SQLITE_OPEN_READWRITE, NULL),
			 SQLITE_OK);
	sqlite3_busy_timeout(db, 5000);
	sqlite3_exec(db, "PRAGMA foreign_keys = ON; PRAGMA secure_delete = ON", NULL,
		     NULL, NULL);
	return db;
}

static inline int64_t world_peek(struct world *w, const char *sql)
{
	sqlite3 *db = world_db(w);
	sqlite3_stmt *st = NULL;
	int64_t v;

	if (sqlite3_prepare_v2(db, sql, -1, &st, NULL) != SQLITE_OK)
		fail_msg("%s: %s", sql, sqlite3_errmsg(db));
	v = sqlite3_step(st) == SQLITE_ROW ? sqlite3_column_int64(st, 0) : -1;
	sqlite3_finalize(st);
	sqlite3_close(db);
	return v;
}

static inline void world_poke(struct world *w, const char *sql)
{
	sqlite3 *db = world_db(w);

	if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
		fail_msg("%s: %s", sql, sqlite3_errmsg(db));
	sqlite3_close(db);
}

#endif
