/* Real work on a store, line by line acknowledged, and what must be true of the file afterwards.
 *
 * The child's side says a line in each callback that tells of success, and one before it asks for something
 * to go; the parent's side opens the file as the next hob would and looks for every line. */
#ifndef HOB_TEST_STORE_WORK_H
#define HOB_TEST_STORE_WORK_H

#include <signal.h>
#include <sqlite3.h>
#include <sys/wait.h>
#include <time.h>
#include "base/base.h"
#include "base/buf.h"
#include "base/log.h"
#include "fault_vfs.h"
#include "memory/store_heads.h"
#include "memory/store_keep.h"
#include "memory/store_move.h"
#include "memory/store_search.h"

enum { WRITERS = 4, REPLY_BYTES = 700, WORK_UNSTRUCK = 7 };

/* ---- the child ---- */

/* Each writer has a conversation of its own and goes through this again and again. */
enum stage {
	STAGE_BEGIN,
	STAGE_PIN, /* so that limits do not take what is looked for */
	STAGE_END,
	STAGE_AGAIN,     /* the same question once more: regenerate */
	STAGE_AGAIN_END, /* the head goes to the second answer */
	STAGE_SEARCH,
	STAGE_FORK, /* forks are not pinned: limits take them */
	STAGE_HEAD, /* back to the first answer */
	STAGE_NR
};

struct writer {
	struct work *work;
	int number, turns_left;
	enum stage stage;
	char id[64], prompt[64], reply[64], first[64];
	int64_t turn;
	char text[REPLY_BYTES + 1];
	struct buf export;
};

struct work {
	uv_loop_t loop;
	struct store *store;
	int fd;       /* the pipe */
	int failures; /* answers with an error */
	bool whole;   /* everything, not only turns */
	struct writer writers[WRITERS];
};

static void say(struct writer *w, const char *kind, int64_t turn)
{
	char line[160];
	int n = snprintf(line, sizeof(line), "%s %s %lld\n", kind, w->id,
			 (long long)turn);

	ASSERT(write(w->work->fd, line, (size_t)n) == n);
}

static void go_on(struct writer *w, const struct err *e);

static void work_on_turn(void *arg, const struct err *e, const char *id, int64_t turn)
{
	struct writer *w = arg;

	if (e->code == ERR_NONE) {
		snprintf(w->id, sizeof(w->id), "%s", id);
		w->turn = turn;
		say(w, "begun", turn);
	}
	go_on(w, e);
}

static void work_on_end(void *arg, const struct err *e, const char *prompt,
			const char *reply)
{
	struct writer *w = arg;

	if (e->code == ERR_NONE) {
		snprintf(w->prompt, sizeof(w->prompt), "%s", prompt);
		snprintf(w->first, sizeof(w->first), "%s", w->reply);
		snprintf(w->reply, sizeof(w->reply), "%s", reply);
		say(w, "ended", w->turn);
	}
	go_on(w, e);
}

static void work_on_row(void *arg, const struct err *e,
			const struct store_conversation *list, int n)
{
	struct writer *w = arg;

	UNUSED(list);
	UNUSED(n);
	if (e->code == ERR_NONE && w->stage == STAGE_PIN)
		say(w, "pinned", w->turn);
	go_on(w, e);
}

static void work_on_hits(void *arg, const struct err *e, const struct store_hit *list,
			 int n)
{
	UNUSED(list);
	UNUSED(n);
	go_on(arg, e);
}

static void work_begin(struct writer *w, const char *parent)
{
	char text[64];
	struct message m = {ROLE_USER, text, NULL};

	snprintf(text, sizeof(text), "writer %d, %d to go", w->number, w->turns_left);
	store_turn_begin(
		w->work->store,
		&(struct store_turn_begin){.conversation = w->id[0] ? w->id : "new",
					   .parent = parent,
					   .model = "m",
					   .provider = "p",
					   .messages = &m,
					   .n = parent ? 0 : 1},
		work_on_turn, w);
}

static void work_end(struct writer *w)
{
	struct store_turn_end end = {.status = "done",
				     .text = w->text,
				     .len = REPLY_BYTES,
				     .tokens_out = 3,
				     .cost_usd = -1};
	int n;

	memset(w->text, 'a' + w->number, REPLY_BYTES);
	n = snprintf(w->text, REPLY_BYTES, "reply to %lld", (long long)w->turn);
	w->text[n] = ' ';
	w->text[REPLY_BYTES] = 0;
	store_turn_partial(w->work->store, w->turn, w->text, REPLY_BYTES / 2);
	store_turn_end(w->work->store, w->turn, &end, work_on_end, w);
}

static void work_on_imported(void *arg, const struct err *e,
			     const struct store_imported *i)
{
	struct writer *w = arg;

	w->work->failures += e->code != ERR_NONE;
	if (i && i->conversations == 1) {
		snprintf(w->id, sizeof(w->id), "%s", i->last);
		say(w, "imported", 0);
	}
	buf_free(&w->export);
}

static void work_on_forgotten(void *arg, const struct err *e,
			      const struct store_forgotten *f)
{
	struct writer *w = arg;

	UNUSED(f);
	w->work->failures += e->code != ERR_NONE;
	if (e->code == ERR_NONE)
		say(w, "deleted", w->turn);
	if (e->code == ERR_NONE && w->export.len)
		store_import(w->work->store, buf_str(&w->export), work_on_imported, w);
}

static void work_forget(struct writer *w)
{
	say(w, "forgets", w->turn);
	store_forget(
		w->work->store,
		&(struct store_forget_ask){.conversation = w->id, .pinned_too = true},
		work_on_forgotten, w);
}

static void work_on_exported(void *arg, const struct err *e, struct str jsonl)
{
	struct writer *w = arg;

	w->work->failures += e->code != ERR_NONE;
	if (e->code != ERR_NONE)
		return;
	buf_add(&w->export, jsonl.ptr, jsonl.len);
	work_forget(w);
}

/* One writer forgets in the end, one exports, forgets and imports again. */
static void work_last(struct writer *w)
{
	if (!w->id[0] || w->number > 1)
		return;
	if (w->number == 0)
		work_forget(w);
	else if (w->work->whole)
		store_export(w->work->store, w->id, work_on_exported, w);
}

static void work_ask(struct writer *w)
{
	struct store *s = w->work->store;

	switch (w->stage) {
	case STAGE_BEGIN:
		if (w->turns_left-- == 0)
			work_last(w);
		else
			work_begin(w, NULL);
		return;
	case STAGE_PIN:
		store_change(s, w->id, &(struct store_change){.pinned = YES}, work_on_row,
			     w);
		return;
	case STAGE_END:
	case STAGE_AGAIN_END:
		work_end(w);
		return;
	case STAGE_AGAIN:
		work_begin(w, w->prompt);
		return;
	case STAGE_SEARCH:
		store_search(s, &(struct store_search_ask){.query = "writer", .limit = 5},
			     work_on_hits, w);
		return;
	case STAGE_FORK:
		store_fork(s, w->id, NULL, work_on_row, w);
		return;
	default:
		store_move_head(s, w->id, w->first, work_on_row, w);
	}
}

/* After an error the next round begins; one that does turns only leaves the rest out. */
static void go_on(struct writer *w, const struct err *e)
{
	w->work->failures += e->code != ERR_NONE;
	w->stage = e->code != ERR_NONE ? STAGE_BEGIN
				       : (enum stage)((w->stage + 1) % STAGE_NR);
	if (!w->work->whole && w->stage == STAGE_AGAIN)
		w->stage = STAGE_BEGIN;
	work_ask(w);
}

static const struct store_limits work_limits = {.max_conversations = WRITERS + 2,
						.failed_age_ms = 1000};

/* The exit status: 0 = all went well, 1 = something was refused. */
static int work_run(const char *path, int fd, int turns, bool whole, bool durable)
{
	struct work *w = xcalloc(1, sizeof(*w));
	struct err e = {0};

	uv_loop_init(&w->loop);
	w->fd = fd;
	w->whole = whole;
	w->store = store_open(&w->loop, path, &e);
	if (!w->store)
		return 1;
	store_set_durable(w->store, durable);
	if (whole)
		store_set_limits(w->store, &work_limits);
	for (int i = 0; i < WRITERS; i++) {
		w->writers[i] =
			(struct writer){.work = w, .number = i, .turns_left = turns};
		work_ask(&w->writers[i]);
	}
	uv_run(&w->loop, UV_RUN_DEFAULT);
	store_close(w->store, NULL, NULL);
	uv_run(&w->loop, UV_RUN_DEFAULT);
	return w->failures > 0;
}

/* ---- the parent ---- */

struct work_plan {
	enum fault fault;
	int at, turns;
	bool whole, lossy; /* lossy: durability = "normal" */
};

/* _exit, or the leak checker would look at what the child never meant to free. */
static pid_t work_start(const char *path, const struct work_plan *p, int *out)
{
	int fds[2], rc;
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		close(fds[0]);
		log_set_level(LOG_LV_ERROR);
		if (p->fault != FAULT_NONE)
			fault_install(p->fault, p->at);
		rc = work_run(path, fds[1], p->turns, p->whole, !p->lossy);
		_exit(p->fault != FAULT_NONE && !fault_has_struck() ? WORK_UNSTRUCK : rc);
	}
	close(fds[1]);
	*out = fds[0];
	return pid;
}

static void work_read(int fd, struct buf *b)
{
	char part[4096];
	ssize_t n;

	while ((n = read(fd, part, sizeof(part))) > 0)
		buf_add(b, part, (size_t)n);
	close(fd);
}

/* As the next hob does: unclean files are checked, running turns are settled, and then everything that limits and
 * left-behind messages ask for is done. */
static void work_recover(const char *path)
{
	struct store *s;
	struct err e = {0};
	uv_loop_t loop;

	uv_loop_init(&loop);
	s = store_open(&loop, path, &e);
	if (!s)
		fail_msg("open again: %s", e.text);
	if (store_notice(s))
		fail_msg("open again: %s", store_notice(s));
	store_set_limits(s, &work_limits);
	uv_run(&loop, UV_RUN_DEFAULT);
	store_close(s, NULL, NULL);
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&loop), 0);
}

static int64_t work_value(sqlite3 *db, const char *sql, int64_t turn, const char *id)
{
	sqlite3_stmt *st = NULL;
	int64_t v;

	if (sqlite3_prepare_v2(db, sql, -1, &st, NULL) != SQLITE_OK)
		fail_msg("%s: %s", sql, sqlite3_errmsg(db));
	sqlite3_bind_int64(st, 1, turn);
	if (id)
		sqlite3_bind_text(st, 2, id, -1, SQLITE_STATIC);
	v = sqlite3_step(st) == SQLITE_ROW ? sqlite3_column_int64(st, 0) : -1;
	sqlite3_finalize(st);
	return v;
}

/* Each of these counts what must not be. */
static const char *const work_violations[] = {
	"SELECT count(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'",
	"SELECT count(*) FROM pragma_foreign_key_check",
	"SELECT count(*) FROM turn WHERE status = 'running'",
	/* what is done has its reply, whole, under its prompt */
	"SELECT count(*) FROM turn t LEFT JOIN message m ON m.id = t.reply_id "
	"WHERE t.status = 'done' AND (m.id IS NULL OR length(m.text) <> 700 OR "
	"m.parent_id IS NOT t.prompt_id)",
	/* a reply stands under a question */
	"SELECT count(*) FROM message m LEFT JOIN message p ON p.id = m.parent_id "
	"WHERE m.role = 'assistant' AND p.role IS NOT 'user'",
	/* a head that points at nothing, in a conversation where something was said */
	"SELECT count(*) FROM session s WHERE head_id IS NULL AND EXISTS "
	"(SELECT 1 FROM turn WHERE session_id = s.id AND status = 'done')",
	/* children come after their parents, depth counts them */
	"SELECT count(*) FROM message m JOIN message p ON p.id = m.parent_id "
	"WHERE m.id <= p.id OR m.depth <> p.depth + 1",
	/* nothing is left that nobody reaches */
	"WITH RECURSIVE seen(id) AS (SELECT head_id FROM session WHERE head_id IS NOT NULL "
	"UNION SELECT prompt_id FROM turn UNION SELECT reply_id FROM turn "
	"WHERE reply_id IS NOT NULL UNION SELECT base_id FROM turn WHERE base_id IS NOT NULL "
	"UNION SELECT message_id FROM tip UNION SELECT m.parent_id FROM seen "
	"JOIN message m ON m.id = seen.id WHERE m.parent_id IS NOT NULL) "
	"SELECT count(*) FROM message WHERE id NOT IN (SELECT id FROM seen)",
};

static void work_check_sound(sqlite3 *db)
{
	for (size_t i = 0; i < ARRAY_LEN(work_violations); i++)
		if (work_value(db, work_violations[i], 0, NULL) != 0)
			fail_msg("violated: %s", work_violations[i]);
	assert_int_equal(sqlite3_exec(db,
				      "INSERT INTO message_fts (message_fts, rank) "
				      "VALUES ('integrity-check', 1)",
				      NULL, NULL, NULL),
			 SQLITE_OK);
}

/* What was said of one conversation, in the order in which it was said. */
static bool work_said(const char *said, const char *kind, const char *id)
{
	char *line = xasprintf("%s %s ", kind, id);
	bool is = strstr(said, line) != NULL;

	free(line);
	return is;
}

/* False: acknowledged, and not there (or deleted, and there). */
static bool work_line_holds(sqlite3 *db, const char *said, const char *kind,
			    const char *id, int64_t turn)
{
	bool back = work_said(said, "imported", id);
	int64_t there = work_value(
		db, "SELECT count(*) FROM session WHERE ?1 IS NOT NULL AND id = ?2", turn,
		id);

	if (!strcmp(kind, "imported"))
		return there == 1 &&
		       work_value(db,
				  "SELECT count(*) FROM session WHERE ?1 = 0 AND id = ?2 "
				  "AND head_id IS NOT NULL AND pinned = 1",
				  0, id) == 1;
	if (!strcmp(kind, "deleted"))
		return !there || back || work_said(said, "forgets", id);
	if (work_said(said, "forgets", id))
		return true; /* asked to go: there or not, and under new numbers */
	if (!strcmp(kind, "ended"))
		return work_value(
			       db,
			       "SELECT instr(m.text, 'reply to ' || ?1 || ' ') FROM turn "
			       "t JOIN message m ON m.id = t.reply_id WHERE t.id = ?1 AND "
			       "t.session_id = ?2 AND t.status = 'done'",
			       turn, id) == 1;
	if (!strcmp(kind, "pinned"))
		return work_value(db,
				  "SELECT count(*) FROM session WHERE ?1 AND id = ?2 "
				  "AND pinned = 1",
				  turn, id) == 1;
	/* begun: without its end it may expire, as one that failed, or go with its unpinned conversation */
	return there == 1 || !work_said(said, "pinned", id);
}

struct work_found {
	int lines, lost;
};

/* Looks for every line; sound it must be in any case. */
static struct work_found work_check(const char *path, const struct buf *said, bool quiet)
{
	struct work_found found = {0};
	char *text = xstrndup(said->data ? said->data : "", said->len), *rest = text,
	     *newline;
	sqlite3 *db = NULL;

	work_recover(path);
	assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL),
			 SQLITE_OK);
	work_check_sound(db);
	for (; (newline = strchr(rest, '\n')) != NULL; rest = newline + 1) {
		char kind[16], id[64];
		long long turn;

		if (sscanf(rest, "%15s %63s %lld", kind, id, &turn) != 3)
			fail_msg("what was said: %.80s", rest);
		found.lines++;
		if (!work_line_holds(db, said->data, kind, id, turn)) {
			if (!quiet)
				print_message("lost: %s %s %lld\n", kind, id, turn);
			found.lost++;
		}
	}
	sqlite3_close(db);
	free(text);
	return found;
}

/* ---- folders and effort ---- */

/* In memory where that can be had: the faults are the model's, and its syncs need no disk. */
static inline void work_make_dir(char dir[512])
{
	const char *tmp = getenv("TMPDIR");

	if (!tmp)
		tmp = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
	snprintf(dir, 512, "%s/hob-crash-XXXXXX", tmp);
	assert_non_null(mkdtemp(dir));
}

static inline void work_remove_dir(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *ent;

	while (d && (ent = readdir(d)) != NULL) {
		char *name = xasprintf("%s/%s", dir, ent->d_name);

		unlink(name);
		free(name);
	}
	if (d)
		closedir(d);
	rmdir(dir);
}

static inline int work_effort(const char *variable, int otherwise)
{
	const char *text = getenv(variable);
	int64_t n;

	return text && str_to_i64(str_of(text), 1, 100000, &n) ? (int)n : otherwise;
}

#endif
