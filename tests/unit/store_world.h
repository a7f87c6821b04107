/* A store on a real loop, with real threads, on real files in a folder of its own; and questions that
 * wait for their answer. */
#ifndef HOB_TEST_STORE_WORLD_H
#define HOB_TEST_STORE_WORLD_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/base.h"
#include "memory/dbfile.h"
#include "memory/schema.h"
#include "memory/store_heads.h"
#include "memory/store_notes.h"
#include "memory/tree.h"
#include "memory/ulid.h"

enum { MAX_PATH = 64, MAX_TEXT = 512, MAX_ROWS = 32 };

/* Copies of what a callback shows. */
struct row {
	char id[64], title[MAX_TEXT], model[64], status[32], head[STORE_HASH_TEXT_BYTES],
		forked_from[64], metadata[MAX_TEXT];
	int64_t created_ms;
	int messages;
	bool pinned, is_private;
};
struct asked {
	int64_t id;
	char conversation[64], request[64], status[32], model[64], provider[64],
		error[64], base[STORE_HASH_TEXT_BYTES], prompt[STORE_HASH_TEXT_BYTES],
		reply[STORE_HASH_TEXT_BYTES];
	int tokens_in, tokens_out;
	double cost_usd;
	char params[200];
};

struct box {
	uv_loop_t loop;
	char dir[512], path[640];
	struct store *store;

	/* the latest answer */
	bool answered, closed;
	struct err err;
	char id[64], title[MAX_TEXT], status[32], partial[MAX_TEXT];
	int64_t turn;
	int n;
	enum role roles[MAX_PATH];
	char texts[MAX_PATH][MAX_TEXT], raw[MAX_PATH][MAX_TEXT];
	char hashes[MAX_PATH][STORE_HASH_TEXT_BYTES], reasoning[MAX_TEXT];
	int64_t ids[MAX_PATH];
	int tokens[MAX_PATH];
	bool is_private;
	struct store_summary summaries[8]; /* texts: not these, they are gone */
	char summary[8][MAX_TEXT], notes[8][MAX_TEXT];
	int nsummaries, nnotes;
	struct row rows[MAX_ROWS];
	struct asked asked[MAX_ROWS];
	char prompt[STORE_HASH_TEXT_BYTES], reply[STORE_HASH_TEXT_BYTES];
	int answers, failures; /* over many jobs */
};

/* ---- a store in a folder that goes away ---- */

static inline void box_open(struct box *b)
{
	struct err e = {0};

	b->store = store_open(&b->loop, b->path, &e);
	if (!b->store)
		fail_msg("store_open: %s", e.text);
}

static inline void on_closed(void *arg)
{
	((struct box *)arg)->closed = true;
}

static inline void box_close(struct box *b)
{
	b->closed = false;
	store_close(b->store, on_closed, b);
	while (!b->closed)
		uv_run(&b->loop, UV_RUN_ONCE);
	b->store = NULL;
}

static inline int setup(void **state)
{
	struct box *b = xcalloc(1, sizeof(*b));
	const char *tmp = getenv("TMPDIR");

	snprintf(b->dir, sizeof(b->dir), "%s/hob-store-XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(b->dir))
		return -1;
	snprintf(b->path, sizeof(b->path), "%s/new/memory.db", b->dir);
	uv_loop_init(&b->loop);
	box_open(b);
	*state = b;
	return 0;
}

static inline void remove_all(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *ent;
	char *name;

	while (d && (ent = readdir(d)) != NULL) {
		if (!strcmp(ent->d_name, ".") || !strcmp(ent->d_name, ".."))
			continue;
		name = xasprintf("%s/%s", dir, ent->d_name);
		if (unlink(name) < 0)
			remove_all(name);
		free(name);
	}
	if (d)
		closedir(d);
	rmdir(dir);
}

static inline int teardown(void **state)
{
	struct box *b = *state;
	int rc;

	if (b->store)
		box_close(b);
	rc = uv_loop_close(&b->loop);
	remove_all(b->dir);
	free(b);
	return rc;
}

/* ---- questions that wait for their answer ---- */

static inline void wait_for(struct box *b)
{
	assert_false(b->answered); /* never inside the call */
	while (!b->answered)
		uv_run(&b->loop, UV_RUN_ONCE);
	b->answered = false;
}

static inline void answered(struct box *b, const struct err *e, const char *id)
{
	b->err = *e;
	snprintf(b->id, sizeof(b->id), "%s", id ? id : "");
	b->answered = true;
}

static inline void copy(char *to, size_t size, const char *from)
{
	snprintf(to, size, "%s", from ? from : "(none)");
}

static inline void copy_besides(struct box *b, const struct store_path *p)
{
	b->is_private = p->is_private;
	b->nsummaries = p->nsummaries;
	b->nnotes = p->nnotes;
	for (int i = 0; i < p->nsummaries && i < 8; i++) {
		b->summaries[i] = p->summaries[i];
		b->summaries[i].text = b->summaries[i].model = NULL;
		snprintf(b->summary[i], MAX_TEXT, "%s: %s", p->summaries[i].model,
			 p->summaries[i].text);
	}
	for (int i = 0; i < p->nnotes && i < 8; i++)
		copy(b->notes[i], MAX_TEXT, p->notes[i].text);
}

static inline void on_path(void *arg, const struct err *e, const struct store_path *p)
{
	struct box *b = arg;

	b->n = p ? p->n : 0;
	for (int i = 0; i < b->n && i < MAX_PATH; i++) {
		const struct store_message *m = &p->messages[i];

		b->roles[i] = m->role;
		b->ids[i] = m->id;
		b->tokens[i] = m->tokens;
		copy(b->texts[i], MAX_TEXT, m->text);
		snprintf(b->raw[i], MAX_TEXT, "%s", m->raw_json ? m->raw_json : "");
		copy(b->hashes[i], STORE_HASH_TEXT_BYTES, m->hash);
		copy(b->reasoning, MAX_TEXT, m->reasoning); /* of the last */
	}
	if (p)
		copy_besides(b, p);
	answered(b, e, p ? p->conversation : NULL);
}

static inline void on_turn(void *arg, const struct err *e, const char *id, int64_t turn)
{
	((struct box *)arg)->turn = turn;
	answered(arg, e, id);
}

static inline void on_done(void *arg, const struct err *e)
{
	answered(arg, e, NULL);
}

static inline void on_ended(void *arg, const struct err *e, const char *prompt,
			    const char *reply)
{
	struct box *b = arg;

	copy(b->prompt, sizeof(b->prompt), prompt);
	copy(b->reply, sizeof(b->reply), reply);
	answered(arg, e, NULL);
}

static inline void copy_row(struct row *r, const struct store_conversation *c)
{
	copy(r->id, sizeof(r->id), c->id);
	copy(r->title, sizeof(r->title), c->title);
	copy(r->model, sizeof(r->model), c->model);
	copy(r->status, sizeof(r->status), c->status);
	copy(r->head, sizeof(r->head), c->head);
	copy(r->forked_from, sizeof(r->forked_from), c->forked_from);
	copy(r->metadata, sizeof(r->metadata), c->metadata);
	r->created_ms = c->created_ms;
	r->messages = c->messages;
	r->pinned = c->pinned;
	r->is_private = c->is_private;
}

static inline void on_list(void *arg, const struct err *e,
			   const struct store_conversation *list, int n)
{
	struct box *b = arg;

	b->n = n;
	for (int i = 0; i < n && i < MAX_ROWS; i++)
		copy_row(&b->rows[i], &list[i]);
	if (n > 0) {
		copy(b->title, sizeof(b->title), list[0].title);
		copy(b->status, sizeof(b->status), list[0].status);
		copy(b->partial, sizeof(b->partial), list[0].partial);
	}
	answered(b, e, n ? list[0].id : NULL);
}

static inline void on_turns(void *arg, const struct err *e, const struct store_turn *list,
			    int n)
{
	struct box *b = arg;

	b->n = n;
	for (int i = 0; i < n && i < MAX_ROWS; i++) {
		struct asked *a = &b->asked[i];

		a->id = list[i].id;
		copy(a->conversation, sizeof(a->conversation), list[i].conversation);
		copy(a->request, sizeof(a->request), list[i].request);
		copy(a->status, sizeof(a->status), list[i].status);
		copy(a->model, sizeof(a->model), list[i].model);
		copy(a->provider, sizeof(a->provider), list[i].provider);
		copy(a->error, sizeof(a->error), list[i].error);
		copy(a->base, sizeof(a->base), list[i].base);
		copy(a->prompt, sizeof(a->prompt), list[i].prompt);
		copy(a->reply, sizeof(a->reply), list[i].reply);
		copy(a->params, sizeof(a->params), list[i].params);
		a->tokens_in = list[i].tokens_in;
		a->tokens_out = list[i].tokens_out;
		a->cost_usd = list[i].cost_usd;
	}
	answered(b, e, NULL);
}

static inline enum err_code path(struct box *b, const char *id)
{
	store_path(b->store, &(struct store_path_ask){.conversation = id, .model = "m"},
		   on_path, b);
	wait_for(b);
	return b->err.code;
}

static inline enum err_code begin(struct box *b, const char *id, const struct message *m,
				  int n)
{
	store_turn_begin(b->store,
			 &(struct store_turn_begin){.conversation = id,
						    .model = "m",
						    .provider = "engine",
						    .messages = m,
						    .n = n},
			 on_turn, b);
	wait_for(b);
	return b->err.code;
}

static inline enum err_code say(struct box *b, const char *id, const char *text)
{
	struct message m = {ROLE_USER, (char *)text, NULL};

	return begin(b, id, &m, 1);
}

static inline enum err_code end(struct box *b, int64_t turn, const char *status,
				const char *text)
{
	struct store_turn_end t = {.status = status,
				   .text = text,
				   .len = text ? strlen(text) : 0,
				   .tokens_in = 5,
				   .tokens_cached = 0,
				   .tokens_out = -1,
				   .ttft_ms = 3,
				   .total_ms = 9,
				   .cost_usd = 0.25};

	store_turn_end(b->store, turn, &t, on_ended, b);
	wait_for(b);
	return b->err.code;
}

static inline enum err_code get(struct box *b, const char *id)
{
	store_get(b->store, id, on_list, b);
	wait_for(b);
	return b->err.code;
}

static inline enum err_code forget(struct box *b, const char *id)
{
	store_delete(b->store, id, on_done, b);
	wait_for(b);
	return b->err.code;
}

/* One whole turn in a conversation; its id goes to `id`. */
static inline void turn(struct box *b, char id[64], const char *question,
			const char *reply)
{
	assert_int_equal(say(b, id, question), ERR_NONE);
	memcpy(id, b->id, 64);
	assert_int_equal(end(b, b->turn, "done", reply), ERR_NONE);
}

/* ---- heads ---- */

/* A turn whose question follows `parent` (NULL: no question, the parent is asked again). */
static inline enum err_code begin_at(struct box *b, const char *id, const char *parent,
				     const char *question)
{
	struct message m = {ROLE_USER, (char *)question, NULL};

	store_turn_begin(b->store,
			 &(struct store_turn_begin){.conversation = id,
						    .parent = parent,
						    .model = "m",
						    .provider = "engine",
						    .messages = &m,
						    .n = question ? 1 : 0},
			 on_turn, b);
	wait_for(b);
	return b->err.code;
}

static inline enum err_code path_at(struct box *b, const char *id, const char *parent)
{
	store_path(b->store,
		   &(struct store_path_ask){.conversation = id, .parent = parent},
		   on_path, b);
	wait_for(b);
	return b->err.code;
}

static inline enum err_code list(struct box *b, int limit, const char *before,
				 bool pinned_only)
{
	store_list(b->store,
		   &(struct store_list_ask){
			   .limit = limit, .before = before, .pinned_only = pinned_only},
		   on_list, b);
	wait_for(b);
	return b->err.code;
}

static inline enum err_code change(struct box *b, const char *id,
				   const struct store_change *c)
{
	store_change(b->store, id, c, on_list, b);
	wait_for(b);
	return b->err.code;
}

static inline enum err_code create(struct box *b, const struct store_change *c)
{
	store_create(b->store, c, on_list, b);
	wait_for(b);
	return b->err.code;
}

static inline enum err_code move_head(struct box *b, const char *id, const char *to)
{
	store_move_head(b->store, id, to, on_list, b);
	wait_for(b);
	return b->err.code;
}

static inline enum err_code fork_at(struct box *b, const char *id, const char *at)
{
	store_fork(b->store, id, at, on_list, b);
	wait_for(b);
	return b->err.code;
}

static inline enum err_code add(struct box *b, const char *id, const struct message *m,
				int n)
{
	store_append(b->store, id, m, n, on_path, b);
	wait_for(b);
	return b->err.code;
}

static inline enum err_code turns(struct box *b, const char *id, int limit)
{
	store_turns(b->store, id, limit, on_turns, b);
	wait_for(b);
	return b->err.code;
}

#define NO_CHANGE .pinned = UNSAID, .is_private = UNSAID

/* ---- the file, behind the store's back ---- */

/* An int from the file, read by a connection of our own. */
static inline int peek(struct box *b, const char *sql)
{
	sqlite3_stmt *st = NULL;
	sqlite3 *db = NULL;
	int v;

	assert_int_equal(sqlite3_open_v2(b->path, &db, SQLITE_OPEN_READWRITE, NULL),
			 SQLITE_OK);
	sqlite3_busy_timeout(db, 5000);
	if (sqlite3_prepare_v2(db, sql, -1, &st, NULL) != SQLITE_OK)
		fail_msg("%s: %s", sql, sqlite3_errmsg(db));
	v = sqlite3_step(st) == SQLITE_ROW ? sqlite3_column_int(st, 0) : -1;
	sqlite3_finalize(st);
	sqlite3_close(db);
	return v;
}

static inline int poke(struct box *b, const char *sql)
{
	sqlite3 *db = NULL;
	int rc;

	assert_int_equal(sqlite3_open_v2(b->path, &db, SQLITE_OPEN_READWRITE, NULL),
			 SQLITE_OK);
	rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
	sqlite3_close(db);
	return rc;
}

static inline int mode_of(const char *name)
{
	struct stat sb;

	assert_int_equal(stat(name, &sb), 0);
	return sb.st_mode & 0777;
}

static inline bool file_has(const char *name, const char *word)
{
	FILE *f = fopen(name, "rb");
	char *data;
	size_t n;
	bool found;

	if (!f)
		return false;
	data = xmalloc(16 << 20);
	n = fread(data, 1, 16 << 20, f);
	fclose(f);
	found = memmem(data, n, word, strlen(word)) != NULL;
	free(data);
	return found;
}

static inline int count_files(struct box *b, const char *part)
{
	char dir[600];
	struct dirent *ent;
	DIR *d;
	int n = 0;

	snprintf(dir, sizeof(dir), "%s/new", b->dir);
	d = opendir(dir);
	assert_non_null(d);
	while ((ent = readdir(d)) != NULL)
		n += strstr(ent->d_name, part) != NULL;
	closedir(d);
	return n;
}

#define WITH_BOX(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

#endif
