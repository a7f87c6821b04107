/* Conversation memory on a real loop, a real thread and real files in a folder of their own. */
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
#include "memory/tree.h"
#include "memory/ulid.h"

enum { MAX_PATH = 64, MAX_TEXT = 256 };

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
	int answers, failures; /* over many jobs */
};

/* ---- a store in a folder that goes away ---- */

static void box_open(struct box *b)
{
	struct err e = {0};

	b->store = store_open(&b->loop, b->path, &e);
	if (!b->store)
		fail_msg("store_open: %s", e.text);
}

static void on_closed(void *arg)
{
	((struct box *)arg)->closed = true;
}

static void box_close(struct box *b)
{
	b->closed = false;
	store_close(b->store, on_closed, b);
	while (!b->closed)
		uv_run(&b->loop, UV_RUN_ONCE);
	b->store = NULL;
}

static int setup(void **state)
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

static void remove_all(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *ent;
	char name[1024];

	while (d && (ent = readdir(d)) != NULL) {
		if (!strcmp(ent->d_name, ".") || !strcmp(ent->d_name, ".."))
			continue;
		snprintf(name, sizeof(name), "%s/%s", dir, ent->d_name);
		if (unlink(name) < 0)
			remove_all(name);
	}
	if (d)
		closedir(d);
	rmdir(dir);
}

static int teardown(void **state)
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

static void wait_for(struct box *b)
{
	assert_false(b->answered); /* never inside the call */
	while (!b->answered)
		uv_run(&b->loop, UV_RUN_ONCE);
	b->answered = false;
}

static void answered(struct box *b, const struct err *e, const char *id)
{
	b->err = *e;
	snprintf(b->id, sizeof(b->id), "%s", id ? id : "");
	b->answered = true;
}

static void on_path(void *arg, const struct err *e, const struct store_path *p)
{
	struct box *b = arg;

	b->n = p ? p->n : 0;
	for (int i = 0; i < b->n && i < MAX_PATH; i++) {
		const struct store_message *m = &p->messages[i];

		b->roles[i] = m->role;
		snprintf(b->texts[i], MAX_TEXT, "%s", m->text);
		snprintf(b->raw[i], MAX_TEXT, "%s", m->raw_json ? m->raw_json : "");
	}
	answered(b, e, p ? p->conversation : NULL);
}

static void on_turn(void *arg, const struct err *e, const char *id, int64_t turn)
{
	((struct box *)arg)->turn = turn;
	answered(arg, e, id);
}

static void on_done(void *arg, const struct err *e)
{
	answered(arg, e, NULL);
}

static void on_ended(void *arg, const struct err *e, const char *prompt,
		     const char *reply)
{
	UNUSED(prompt);
	UNUSED(reply);
	answered(arg, e, NULL);
}

static void on_list(void *arg, const struct err *e, const struct store_conversation *list,
		    int n)
{
	struct box *b = arg;

	b->n = n;
	answered(b, e, n ? list[0].id : NULL);
	if (n == 0)
		return;
	snprintf(b->title, sizeof(b->title), "%s", list[0].title);
	snprintf(b->status, sizeof(b->status), "%s", list[0].status);
	snprintf(b->partial, sizeof(b->partial), "%s",
		 list[0].partial ? list[0].partial : "(none)");
}

static enum err_code path(struct box *b, const char *id)
{
	store_path(b->store, &(struct store_path_ask){.conversation = id, .model = "m"},
		   on_path, b);
	wait_for(b);
	return b->err.code;
}

static enum err_code begin(struct box *b, const char *id, const struct message *m, int n)
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

static enum err_code say(struct box *b, const char *id, const char *text)
{
	struct message m = {ROLE_USER, (char *)text, NULL};

	return begin(b, id, &m, 1);
}

static enum err_code end(struct box *b, int64_t turn, const char *status,
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

static enum err_code get(struct box *b, const char *id)
{
	store_get(b->store, id, on_list, b);
	wait_for(b);
	return b->err.code;
}

static enum err_code forget(struct box *b, const char *id)
{
	store_delete(b->store, id, on_done, b);
	wait_for(b);
	return b->err.code;
}

/* One whole turn in a conversation; its id goes to `id`. */
static void turn(struct box *b, char id[64], const char *question, const char *reply)
{
	assert_int_equal(say(b, id, question), ERR_NONE);
	memcpy(id, b->id, 64);
	assert_int_equal(end(b, b->turn, "done", reply), ERR_NONE);
}

/* An int from the file, read by a connection of our own. */
static int peek(struct box *b, const char *sql)
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

static int poke(struct box *b, const char *sql)
{
	sqlite3 *db = NULL;
	int rc;

	assert_int_equal(sqlite3_open_v2(b->path, &db, SQLITE_OPEN_READWRITE, NULL),
			 SQLITE_OK);
	rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
	sqlite3_close(db);
	return rc;
}

static int mode_of(const char *name)
{
	struct stat sb;

	assert_int_equal(stat(name, &sb), 0);
	return sb.st_mode & 0777;
}

/* ---- conversations ---- */

static void a_turn_comes_back_as_it_went_in(void **state)
{
	static const char odd[] =
		"zwei\n\"Zeilen\" \\ \t\x01 \xc3\xa9 \xf0\x9f\x94\xa5 </s>";
	struct box *b = *state;
	struct message m[] = {{ROLE_SYSTEM, (char *)"be brief", NULL},
			      {ROLE_USER, (char *)odd, NULL}};
	char id[64];

	assert_int_equal(path(b, "new"), ERR_NONE);
	assert_int_equal(strlen(b->id), CONVERSATION_ID_BYTES - 1);
	assert_int_equal(b->n, 0);
	memcpy(id, b->id, sizeof(id));
	assert_int_equal(begin(b, id, m, 2), ERR_NONE);
	assert_string_equal(b->id, id);
	assert_int_equal(end(b, b->turn, "done", "Yes."), ERR_NONE);
	box_close(b);
	box_open(b);
	assert_null(store_notice(b->store));
	assert_int_equal(path(b, "last"), ERR_NONE);
	assert_string_equal(b->id, id);
	assert_int_equal(b->n, 3);
	assert_int_equal(b->roles[0], ROLE_SYSTEM);
	assert_int_equal(b->roles[1], ROLE_USER);
	assert_int_equal(b->roles[2], ROLE_ASSISTANT);
	assert_string_equal(b->texts[0], "be brief");
	assert_string_equal(b->texts[1], odd);
	assert_string_equal(b->texts[2], "Yes.");
	assert_int_equal(
		peek(b,
		     "SELECT cost_nanousd = 250000000 AND tokens_in = 5 AND tokens_cached = 0 "
		     "AND tokens_out IS NULL AND backend = 'engine' FROM turn"),
		1);
}

static void a_message_with_more_than_text_keeps_its_own_json(void **state)
{
	struct box *b = *state;
	struct message m[] = {{ROLE_USER, (char *)"look",
			       (char *)"{\"role\":\"user\",\"content\":[{\"n\":1.50}]}"},
			      {ROLE_TOOL, (char *)"noise", NULL}};
	struct message bad = {ROLE_USER, (char *)"x", (char *)"{}},{\"type\":\"text\""};

	assert_int_equal(begin(b, "new", m, 2), ERR_NONE);
	assert_int_equal(path(b, "last"), ERR_NONE);
	assert_string_equal(b->raw[0], m[0].raw_json);
	assert_string_equal(b->texts[1], "noise");
	assert_string_equal(b->raw[1], "");
	assert_int_equal(peek(b, "SELECT count(*) FROM message_fts('noise')"), 0);
	assert_int_equal(peek(b, "SELECT count(*) FROM message_fts('look')"), 1);
	assert_int_equal(begin(b, "last", &bad, 1), ERR_INVALID);
	assert_int_equal(path(b, "last"), ERR_NONE);
	assert_int_equal(b->n, 2);
}

static void turns_follow_each_other_without_a_fork(void **state)
{
	struct box *b = *state;
	char id[64] = "new";

	for (int i = 0; i < 20; i++)
		turn(b, id, i % 2 ? "odd" : "even", "ok");
	assert_int_equal(path(b, id), ERR_NONE);
	assert_int_equal(b->n, 40);
	for (int i = 0; i < 40; i++)
		assert_int_equal(b->roles[i], i % 2 ? ROLE_ASSISTANT : ROLE_USER);
	assert_int_equal(peek(b, "SELECT count(*) FROM message"), 40);
	assert_int_equal(peek(b, "SELECT max(c) FROM (SELECT count(*) AS c FROM message "
				 "GROUP BY parent_id)"),
			 1);
	assert_int_equal(get(b, id), ERR_NONE);
	assert_string_equal(b->status, "done");
	assert_string_equal(b->title, "even");
}

static void the_same_beginning_is_stored_once(void **state)
{
	struct box *b = *state;
	char one[64] = "new", two[64] = "new";

	turn(b, one, "hello", "hi");
	turn(b, one, "how are you", "warm");
	turn(b, two, "hello", "hi");
	turn(b, two, "who are you", "hob");
	assert_string_not_equal(one, two);
	assert_int_equal(peek(b, "SELECT count(*) FROM message"), 6);
	assert_int_equal(path(b, two), ERR_NONE);
	assert_int_equal(b->n, 4);
	assert_string_equal(b->texts[3], "hob");
}

static void a_repeated_system_message_is_not_appended_again(void **state)
{
	struct box *b = *state;
	struct message m[] = {{ROLE_SYSTEM, (char *)"be brief", NULL},
			      {ROLE_USER, (char *)"a", NULL}};
	struct store_message p = {.role = ROLE_SYSTEM, .text = "be brief"};
	struct store_message other = {.role = ROLE_SYSTEM, .text = "be long"};

	assert_int_equal(begin(b, "new", m, 2), ERR_NONE);
	assert_int_equal(end(b, b->turn, "done", "b"), ERR_NONE);
	assert_int_equal(begin(b, "last", m, 2), ERR_NONE);
	assert_int_equal(path(b, "last"), ERR_NONE);
	assert_int_equal(b->n, 4);
	assert_int_equal(b->roles[3], ROLE_USER);
	assert_true(store_repeats_system(&p, 1, &m[0]));
	assert_false(store_repeats_system(&p, 1, &m[1]));
	assert_false(store_repeats_system(&other, 1, &m[0]));
}

static void a_title_is_the_first_line_cut_between_characters(void **state)
{
	struct box *b = *state;
	char text[400] = "\n  ";

	for (int i = 0; i < 70; i++)
		memcpy(text + 3 + 2 * i, "\xc3\xa4", 2);
	assert_int_equal(say(b, "new", text), ERR_NONE);
	assert_int_equal(get(b, "last"), ERR_NONE);
	assert_int_equal(strlen(b->title), 2 * TREE_TITLE_CHARS);
	assert_memory_equal(b->title, text + 3, 2 * TREE_TITLE_CHARS);
	assert_int_equal(say(b, "new", "short \r\nsecond line"), ERR_NONE);
	assert_int_equal(get(b, "last"), ERR_NONE);
	assert_string_equal(b->title, "short");
}

static void a_cancelled_answer_stays_as_far_as_it_was_seen(void **state)
{
	struct box *b = *state;
	char id[64] = "new";

	turn(b, id, "one", "1");
	assert_int_equal(say(b, id, "two"), ERR_NONE);
	assert_int_equal(end(b, b->turn, "cancelled", "2, an"), ERR_NONE);
	assert_int_equal(get(b, id), ERR_NONE);
	assert_string_equal(b->status, "cancelled");
	assert_string_equal(b->partial, "2, an");
	assert_int_equal(say(b, id, "three"), ERR_NONE);
	assert_int_equal(end(b, b->turn, "cancelled", ""), ERR_NONE);
	assert_int_equal(path(b, id), ERR_NONE);
	assert_int_equal(b->n, 4);
	assert_int_equal(b->roles[3], ROLE_ASSISTANT);
	assert_string_equal(b->texts[3], "2, an");
}

static void a_failed_turn_steps_back_so_that_a_retry_repeats_nothing(void **state)
{
	struct box *b = *state;
	struct message m[] = {{ROLE_SYSTEM, (char *)"s", NULL},
			      {ROLE_USER, (char *)"u", NULL}};

	for (int i = 0; i < 3; i++) {
		assert_int_equal(begin(b, i ? "last" : "new", m, 2), ERR_NONE);
		assert_int_equal(end(b, b->turn, "error", "half"), ERR_NONE);
		assert_int_equal(path(b, "last"), ERR_NONE);
		assert_int_equal(b->n, 0);
	}
	assert_int_equal(peek(b, "SELECT count(*) FROM message"), 2);
	assert_int_equal(peek(b, "SELECT count(*) FROM turn WHERE partial = 'half'"), 3);
	assert_int_equal(begin(b, "last", m, 2), ERR_NONE);
	assert_int_equal(end(b, b->turn, "done", "a"), ERR_NONE);
	assert_int_equal(path(b, "last"), ERR_NONE);
	assert_int_equal(b->n, 3);
}

static void two_turns_at_once_do_not_pull_the_head_from_each_other(void **state)
{
	struct box *b = *state;
	int64_t first, second;

	assert_int_equal(say(b, "new", "one"), ERR_NONE);
	first = b->turn;
	assert_int_equal(say(b, "last", "two"), ERR_NONE);
	second = b->turn;
	assert_int_equal(end(b, first, "error", NULL), ERR_NONE);
	assert_int_equal(end(b, second, "done", "x"), ERR_NONE);
	assert_int_equal(path(b, "last"), ERR_NONE);
	assert_int_equal(b->n, 3);
	assert_string_equal(b->texts[1], "two");
	assert_string_equal(b->texts[2], "x");
}

static void a_turn_names_what_answered_and_the_conversation_what_was_asked(void **state)
{
	struct box *b = *state;
	struct store_turn_end t = {.status = "done",
				   .text = "hi",
				   .len = 2,
				   .model = "far/x",
				   .provider = "far",
				   .cost_usd = -1};

	assert_int_equal(say(b, "new", "hello"), ERR_NONE);
	store_turn_end(b->store, b->turn, &t, on_ended, b);
	wait_for(b);
	assert_int_equal(b->err.code, ERR_NONE);
	assert_int_equal(peek(b, "SELECT count(*) FROM turn WHERE model = 'far/x' "
				 "AND backend = 'far'"),
			 1);
	assert_int_equal(peek(b, "SELECT count(*) FROM session WHERE model = 'far/x'"),
			 0);
	assert_int_equal(say(b, "last", "again"), ERR_NONE); /* as begun without it */
	assert_int_equal(end(b, b->turn, "done", "yes"), ERR_NONE);
	assert_int_equal(peek(b, "SELECT count(*) FROM turn WHERE model = 'far/x'"), 1);
}

static void a_turn_ends_once_and_only_in_a_known_way(void **state)
{
	struct box *b = *state;
	int64_t t;

	assert_int_equal(say(b, "new", "x"), ERR_NONE);
	t = b->turn;
	assert_int_equal(end(b, t, "exploded", "y"), ERR_INVALID);
	assert_int_equal(end(b, t, "done", "y"), ERR_NONE);
	assert_int_equal(end(b, t, "done", "y"), ERR_CONFLICT);
	assert_int_equal(end(b, 4711, "done", "y"), ERR_NOT_FOUND);
}

static void what_does_not_exist_is_not_found(void **state)
{
	struct box *b = *state;

	assert_int_equal(path(b, "last"), ERR_NOT_FOUND);
	assert_int_equal(path(b, "01ARZ3NDEKTSV4RRFFQ69G5FAV"), ERR_NOT_FOUND);
	assert_int_equal(path(b, "an id far longer than any that was ever made by hob"),
			 ERR_NOT_FOUND);
	assert_int_equal(get(b, "new"), ERR_INVALID);
	assert_int_equal(forget(b, "x"), ERR_NOT_FOUND);
	assert_int_equal(begin(b, "new", NULL, 0), ERR_INVALID);
	assert_int_equal(peek(b, "SELECT count(*) FROM session"),
			 0); /* rolled back with its turn */
}

static void lists_come_newest_first_and_leave_out_the_unused(void **state)
{
	struct box *b = *state;
	char one[64] = "new", two[64] = "new";

	turn(b, one, "one", "1");
	turn(b, two, "two", "2");
	assert_int_equal(path(b, "new"), ERR_NONE);
	store_list(b->store, &(struct store_list_ask){.limit = 10}, on_list, b);
	wait_for(b);
	assert_int_equal(b->n, 2);
	assert_string_equal(b->id, two);
	turn(b, one, "one again", "1");
	store_list(b->store, &(struct store_list_ask){.limit = 1}, on_list, b);
	wait_for(b);
	assert_int_equal(b->n, 1);
	assert_string_equal(b->id, one);
	box_close(b);
	box_open(b);
	assert_int_equal(peek(b, "SELECT count(*) FROM session"), 2);
}

/* ---- forgetting ---- */

static void deleting_takes_only_what_nothing_else_reaches(void **state)
{
	struct box *b = *state;
	char one[64] = "new", two[64] = "new";

	turn(b, one, "hello", "hi");
	turn(b, one, "only in one", "yes");
	turn(b, two, "hello", "hi");
	turn(b, two, "only in two", "yes");
	assert_int_equal(forget(b, one), ERR_NONE);
	assert_int_equal(peek(b, "SELECT count(*) FROM message"), 4);
	assert_int_equal(path(b, two), ERR_NONE);
	assert_int_equal(b->n, 4);
	assert_int_equal(path(b, one), ERR_NOT_FOUND);
	assert_int_equal(forget(b, "last"), ERR_NONE);
	assert_int_equal(
		peek(b,
		     "SELECT (SELECT count(*) FROM message) + (SELECT count(*) FROM turn)"),
		0);
}

static void a_turn_whose_conversation_went_cannot_end(void **state)
{
	struct box *b = *state;
	int64_t t;

	assert_int_equal(say(b, "new", "x"), ERR_NONE);
	t = b->turn;
	assert_int_equal(forget(b, "last"), ERR_NONE);
	store_turn_partial(b->store, t, "late", 4);
	assert_int_equal(end(b, t, "done", "y"), ERR_NOT_FOUND);
}

static bool file_has(const char *name, const char *word)
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

static void a_deleted_word_is_nowhere_in_the_files(void **state)
{
	struct box *b = *state;
	char other[64] = "new", id[64] = "new", wal[800];

	snprintf(wal, sizeof(wal), "%s-wal", b->path);
	turn(b, other, "something else", "stays");
	turn(b, id, "my secret is xylocanary7", "xylocanary7 it is");
	assert_int_equal(say(b, id, "and then"), ERR_NONE);
	store_turn_partial(b->store, b->turn, "xylocanary7 partly", 18);
	assert_int_equal(end(b, b->turn, "error", NULL), ERR_NONE);
	assert_true(file_has(b->path, "xylocanary7") || file_has(wal, "xylocanary7"));
	assert_int_equal(forget(b, id), ERR_NONE);
	assert_false(file_has(b->path, "xylocanary7"));
	assert_false(file_has(wal, "xylocanary7"));
	box_close(b);
	assert_false(file_has(b->path, "xylocanary7"));
	assert_true(file_has(b->path, "something else"));
	box_open(b);
}

/* ---- what a crash leaves ---- */

static void turns_found_running_become_interrupted(void **state)
{
	struct box *b = *state;
	char id[64] = "new";

	turn(b, id, "one", "1");
	assert_int_equal(say(b, id, "two"), ERR_NONE);
	store_turn_partial(b->store, b->turn, "2 beca", 6);
	box_close(b);
	box_open(b);
	assert_int_equal(get(b, id), ERR_NONE);
	assert_string_equal(b->status, "interrupted");
	assert_string_equal(b->partial, "2 beca");
	assert_int_equal(path(b, id), ERR_NONE);
	assert_int_equal(b->n, 4);
	assert_string_equal(b->texts[3], "2 beca");
	assert_int_equal(say(b, id, "three"), ERR_NONE);
	assert_int_equal(say(b, id, "four"), ERR_NONE);
	box_close(b);
	box_open(b);
	assert_int_equal(path(b, id), ERR_NONE);
	assert_int_equal(b->n,
			 4); /* both prompts without an answer are stepped back over */
	assert_int_equal(peek(b, "SELECT count(*) FROM turn WHERE status = 'running'"),
			 0);
}

static void messages_cannot_be_changed(void **state)
{
	struct box *b = *state;
	char id[64] = "new";

	turn(b, id, "one", "1");
	assert_int_equal(poke(b, "UPDATE message SET text = 'forged'"),
			 SQLITE_CONSTRAINT);
}

/* ---- the file ---- */

static void files_are_private_whatever_the_umask(void **state)
{
	struct box *b = *state;
	char name[800], id[64] = "new";
	mode_t old = umask(0);

	box_close(b);
	snprintf(b->path, sizeof(b->path), "%s/open/memory.db", b->dir);
	box_open(b);
	umask(old);
	turn(b, id, "x", "y");
	snprintf(name, sizeof(name), "%s/open", b->dir);
	assert_int_equal(mode_of(name), 0700);
	assert_int_equal(mode_of(b->path), 0600);
	snprintf(name, sizeof(name), "%s-wal", b->path);
	assert_int_equal(mode_of(name), 0600);
	snprintf(name, sizeof(name), "%s.lock", b->path);
	assert_int_equal(mode_of(name), 0600);
	assert_int_equal(peek(b, "PRAGMA auto_vacuum"), 2);
	assert_int_equal(peek(b, "PRAGMA application_id"), SCHEMA_APPLICATION_ID);
	assert_int_equal(peek(b, "SELECT journal_mode = 'wal' FROM pragma_journal_mode"),
			 1);
}

static void a_second_store_on_the_same_file_is_refused(void **state)
{
	struct box *b = *state;
	struct err e = {0};

	assert_null(store_open(&b->loop, b->path, &e));
	assert_int_equal(e.code, ERR_CONFLICT);
	assert_non_null(strstr(e.text, b->path));
	box_close(b);
	box_open(b); /* and may have it once the first is gone */
}

static int count_files(struct box *b, const char *part)
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

static void overwrite(const char *name, long at, size_t n)
{
	int fd = open(name, O_WRONLY);
	char junk[4096];

	memset(junk, 0x5a, sizeof(junk));
	assert_true(fd >= 0);
	for (; n > 0; n -= n < sizeof(junk) ? n : sizeof(junk), at += (long)sizeof(junk))
		assert_true(pwrite(fd, junk, n < sizeof(junk) ? n : sizeof(junk), at) >
			    0);
	close(fd);
}

static void a_corrupt_file_is_set_aside_and_said_so(void **state)
{
	struct box *b = *state;
	char id[64] = "new";

	turn(b, id, "x", "y");
	for (int i = 1; i <= 2; i++) { /* two in the same second get two names */
		box_close(b);
		overwrite(b->path, 0, 4096);
		box_open(b);
		assert_non_null(store_notice(b->store));
		assert_non_null(strstr(store_notice(b->store), ".corrupt-"));
		assert_int_equal(count_files(b, ".corrupt-"), i);
		assert_int_equal(path(b, "last"), ERR_NOT_FOUND);
		memcpy(id, "new", 4);
		turn(b, id, "again", "fine");
	}
	box_close(b);
	box_open(b);
	assert_null(store_notice(b->store));
}

static void damage_found_while_running_is_checked_at_the_next_start(void **state)
{
	struct box *b = *state;
	char id[64] = "new";
	long page;

	for (int i = 0; i < 50; i++)
		turn(b, id, "question", "reply");
	box_close(b); /* a clean stop: nothing asks for a check */
	/* a table that opening does not look into */
	page = peek(b, "SELECT rootpage FROM sqlite_schema WHERE name = 'summary'");
	overwrite(b->path, (page - 1) * 4096, 4096);
	box_open(b);
	assert_null(store_notice(b->store));
	assert_int_equal(path(b, id), ERR_CORRUPT);
	assert_int_equal(count_files(b, ".suspect"), 1);
	box_close(b);
	box_open(b);
	assert_non_null(store_notice(b->store));
	assert_int_equal(count_files(b, ".suspect"), 0);
	assert_int_equal(count_files(b, ".corrupt-"), 1);
	assert_int_equal(path(b, "last"), ERR_NOT_FOUND);
}

static void damage_met_while_opening_sets_the_file_aside_at_once(void **state)
{
	struct box *b = *state;
	char id[64] = "new";

	turn(b, id, "question", "reply");
	box_close(b);
	overwrite(b->path, 4096L * 2, 4096 * 6);
	box_open(b);
	assert_non_null(store_notice(b->store));
	assert_int_equal(count_files(b, ".corrupt-"), 1);
	memcpy(id, "new", 4);
	turn(b, id, "question", "reply");
}

static void the_file_of_another_program_is_left_alone(void **state)
{
	struct box *b = *state;
	struct err e = {0};

	box_close(b);
	assert_int_equal(poke(b, "PRAGMA application_id = 42"), SQLITE_OK);
	assert_null(store_open(&b->loop, b->path, &e));
	assert_int_equal(e.code, ERR_UNSUPPORTED);
	assert_int_equal(count_files(b, ".corrupt-"), 0);
	assert_int_equal(peek(b, "PRAGMA application_id"), 42);
}

static void a_newer_file_is_read_and_never_written(void **state)
{
	struct box *b = *state;
	char id[64] = "new";

	turn(b, id, "x", "y");
	box_close(b);
	assert_int_equal(poke(b, "PRAGMA user_version = 99"), SQLITE_OK);
	box_open(b);
	assert_non_null(strstr(store_notice(b->store), "newer"));
	assert_int_equal(path(b, id), ERR_NONE);
	assert_int_equal(b->n, 2);
	assert_int_equal(say(b, id, "more"), ERR_UNSUPPORTED);
	assert_int_equal(path(b, "new"), ERR_UNSUPPORTED);
	assert_int_equal(forget(b, id), ERR_UNSUPPORTED);
	box_close(b);
	assert_int_equal(peek(b, "PRAGMA user_version"), 99);
	assert_int_equal(peek(b, "SELECT count(*) FROM message"), 2);
	box_open(b);
}

static void a_migration_backs_up_first_and_is_all_or_nothing(void **state)
{
	static const char *const steps[SCHEMA_VERSION + 2] = {
		[SCHEMA_VERSION] = "CREATE TABLE extra (x)",
		[SCHEMA_VERSION + 1] = "CREATE TABLE more (x); CREATE TABLE extra (x)"};
	struct box *b = *state;
	char id[64] = "new", bak[800];
	struct err e = {0};
	sqlite3 *db;

	turn(b, id, "x", "y");
	box_close(b);
	assert_int_equal(sqlite3_open_v2(b->path, &db, SQLITE_OPEN_READWRITE, NULL),
			 SQLITE_OK);
	assert_int_equal(schema_migrate(db, b->path, steps, SCHEMA_VERSION,
					SCHEMA_VERSION + 1, &e),
			 0);
	assert_int_equal(schema_migrate(db, b->path, steps, SCHEMA_VERSION + 1,
					SCHEMA_VERSION + 2, &e),
			 -1);
	sqlite3_close(db);
	assert_int_equal(peek(b, "PRAGMA user_version"), SCHEMA_VERSION + 1);
	assert_int_equal(
		peek(b,
		     "SELECT count(*) FROM sqlite_schema WHERE name IN ('extra', 'more')"),
		1);
	snprintf(bak, sizeof(bak), "%s.v%d.bak", b->path, SCHEMA_VERSION);
	assert_int_equal(mode_of(bak), 0600);
	memcpy(b->path, bak, sizeof(b->path));
	assert_int_equal(peek(b, "PRAGMA user_version"), SCHEMA_VERSION);
	assert_int_equal(peek(b, "SELECT count(*) FROM message"), 2);
	box_open(b); /* the copy is a whole database */
}

static void a_path_that_cannot_be_made_is_an_error(void **state)
{
	struct box *b = *state;
	struct err e = {0};
	char name[800];

	snprintf(name, sizeof(name), "%s/below/memory.db",
		 b->path); /* under a plain file */
	assert_null(store_open(&b->loop, name, &e));
	assert_true(e.code == ERR_IO);
	snprintf(name, sizeof(name), "%s/new", b->dir); /* a folder */
	assert_null(store_open(&b->loop, name, &e));
	assert_true(e.code == ERR_IO);
}

/* ---- many at once ---- */

static void on_many(void *arg, const struct err *e, const char *id, int64_t t)
{
	struct box *b = arg;

	UNUSED(id);
	b->turn = t;
	b->answers++;
	b->failures += e->code != ERR_NONE;
	if (e->code != ERR_NONE)
		b->err = *e;
}

static void a_thousand_turns_at_once_commit_in_groups(void **state)
{
	struct box *b = *state;
	char text[64];
	struct message m = {ROLE_USER, text, NULL};

	for (int i = 0; i < 1000; i++) {
		snprintf(text, sizeof(text), "message %d", i);
		store_turn_begin(b->store,
				 &(struct store_turn_begin){.conversation = "new",
							    .model = "m",
							    .provider = "p",
							    .messages = &m,
							    .n = 1},
				 on_many, b);
	}
	assert_int_equal(b->answers, 0);
	uv_run(&b->loop, UV_RUN_DEFAULT); /* ends when nothing is pending */
	assert_int_equal(b->answers, 1000);
	assert_int_equal(b->failures, 0);
	assert_int_equal(peek(b, "SELECT count(*) FROM turn"), 1000);
	assert_int_equal(peek(b, "SELECT count(*) FROM message"), 1000);
}

static void one_bad_job_does_not_spoil_its_group(void **state)
{
	struct box *b = *state;
	char text[64];
	struct message m = {ROLE_USER, text, NULL};

	for (int i = 0; i < 30; i++) {
		snprintf(text, sizeof(text), "message %d", i);
		m.raw_json = (char *)(i % 3 == 0 ? "not json" : NULL);
		store_turn_begin(b->store,
				 &(struct store_turn_begin){.conversation = "new",
							    .model = "m",
							    .provider = "p",
							    .messages = &m,
							    .n = 1},
				 on_many, b);
	}
	uv_run(&b->loop, UV_RUN_DEFAULT);
	assert_int_equal(b->answers, 30);
	assert_int_equal(b->failures, 10);
	assert_int_equal(peek(b, "SELECT count(*) FROM turn"), 20);
	assert_int_equal(peek(b, "SELECT count(*) FROM session"), 20);
}

static void a_full_queue_refuses_and_loses_nothing_it_took(void **state)
{
	struct box *b = *state;
	struct message m = {ROLE_USER, (char *)"x", NULL};

	for (int i = 0; i < 1500; i++)
		store_turn_begin(b->store,
				 &(struct store_turn_begin){.conversation = "new",
							    .model = "m",
							    .provider = "p",
							    .messages = &m,
							    .n = 1},
				 on_many, b);
	assert_int_equal(b->answers,
			 0); /* refusals come in a later turn of the loop too */
	uv_run(&b->loop, UV_RUN_DEFAULT);
	assert_int_equal(b->answers, 1500);
	assert_int_equal(b->failures, 1500 - 1024);
	assert_int_equal(b->err.code, ERR_BUSY);
	assert_int_equal(peek(b, "SELECT count(*) FROM turn"), 1024);
	assert_int_equal(say(b, "new", "room again"), ERR_NONE);
}

static void closing_answers_what_was_asked_and_refuses_the_rest(void **state)
{
	struct box *b = *state;
	struct message m = {ROLE_USER, (char *)"x", NULL};

	for (int i = 0; i < 100; i++)
		store_turn_begin(b->store,
				 &(struct store_turn_begin){.conversation = "new",
							    .model = "m",
							    .provider = "p",
							    .messages = &m,
							    .n = 1},
				 on_many, b);
	b->closed = false;
	store_close(b->store, on_closed, b);
	store_turn_begin(b->store,
			 &(struct store_turn_begin){.conversation = "new",
						    .model = "m",
						    .provider = "p",
						    .messages = &m,
						    .n = 1},
			 on_many, b);
	uv_run(&b->loop, UV_RUN_DEFAULT);
	assert_true(b->closed);
	assert_int_equal(b->answers, 101);
	assert_int_equal(b->failures, 1);
	assert_int_equal(b->err.code, ERR_CANCELLED);
	b->store = NULL;
	assert_int_equal(peek(b, "SELECT count(*) FROM turn"), 100);
}

/* ---- a full disk ---- */

static void a_full_disk_is_an_error_with_the_path_and_passes(void **state)
{
	struct box *b = *state;
	struct rlimit old, small;
	static char big[300001];
	char id[64] = "new";

	memset(big, 'x', sizeof(big) - 1);
	turn(b, id, "before", "yes");
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	small = (struct rlimit){.rlim_cur = 200000, .rlim_max = old.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	say(b, id, big);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	if (b->err.code != ERR_DISK_FULL)
		fail_msg("%s", b->err.text);
	assert_non_null(strstr(b->err.text, b->path));
	assert_int_equal(path(b, id), ERR_NONE);
	assert_int_equal(b->n, 2);
	turn(b, id, "after", "yes");
	assert_int_equal(path(b, id), ERR_NONE);
	assert_int_equal(b->n, 4);
	assert_int_equal(
		peek(b, "SELECT integrity_check = 'ok' FROM pragma_integrity_check"), 1);
}

/* ---- ids ---- */

static void ulids_sort_by_time_and_spell_it_in_base_32(void **state)
{
	char a[ULID_BYTES], c[ULID_BYTES];

	UNUSED(state);
	ulid_make(1469918176385, a); /* the example of the ULID specification */
	ulid_make(1469918176386, c);
	assert_int_equal(strlen(a), 26);
	assert_memory_equal(a, "01ARYZ6S41", 10);
	assert_true(strcmp(a, c) < 0);
	ulid_make(1469918176385, c);
	assert_string_not_equal(a, c);
}

#define WITH_BOX(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_BOX(a_turn_comes_back_as_it_went_in),
		WITH_BOX(a_message_with_more_than_text_keeps_its_own_json),
		WITH_BOX(turns_follow_each_other_without_a_fork),
		WITH_BOX(the_same_beginning_is_stored_once),
		WITH_BOX(a_repeated_system_message_is_not_appended_again),
		WITH_BOX(a_title_is_the_first_line_cut_between_characters),
		WITH_BOX(a_cancelled_answer_stays_as_far_as_it_was_seen),
		WITH_BOX(a_failed_turn_steps_back_so_that_a_retry_repeats_nothing),
		WITH_BOX(two_turns_at_once_do_not_pull_the_head_from_each_other),
		WITH_BOX(a_turn_names_what_answered_and_the_conversation_what_was_asked),
		WITH_BOX(a_turn_ends_once_and_only_in_a_known_way),
		WITH_BOX(what_does_not_exist_is_not_found),
		WITH_BOX(lists_come_newest_first_and_leave_out_the_unused),
		WITH_BOX(deleting_takes_only_what_nothing_else_reaches),
		WITH_BOX(a_turn_whose_conversation_went_cannot_end),
		WITH_BOX(a_deleted_word_is_nowhere_in_the_files),
		WITH_BOX(turns_found_running_become_interrupted),
		WITH_BOX(messages_cannot_be_changed),
		WITH_BOX(files_are_private_whatever_the_umask),
		WITH_BOX(a_second_store_on_the_same_file_is_refused),
		WITH_BOX(a_corrupt_file_is_set_aside_and_said_so),
		WITH_BOX(damage_found_while_running_is_checked_at_the_next_start),
		WITH_BOX(damage_met_while_opening_sets_the_file_aside_at_once),
		WITH_BOX(the_file_of_another_program_is_left_alone),
		WITH_BOX(a_newer_file_is_read_and_never_written),
		WITH_BOX(a_migration_backs_up_first_and_is_all_or_nothing),
		WITH_BOX(a_path_that_cannot_be_made_is_an_error),
		WITH_BOX(a_thousand_turns_at_once_commit_in_groups),
		WITH_BOX(one_bad_job_does_not_spoil_its_group),
		WITH_BOX(a_full_queue_refuses_and_loses_nothing_it_took),
		WITH_BOX(closing_answers_what_was_asked_and_refuses_the_rest),
		WITH_BOX(a_full_disk_is_an_error_with_the_path_and_passes),
		cmocka_unit_test(ulids_sort_by_time_and_spell_it_in_base_32),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
