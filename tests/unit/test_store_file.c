/* The store as a file: modes, locks, damage, versions, a full disk. */
#include "store_world.h"

#include "memory/store_impl.h"
#include "memory/store_keep.h"

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

/* Else it would hold its conversation until hob is started again. */
static void a_turn_whose_end_found_no_room_ends_once_there_is_some(void **state)
{
	struct box *b = *state;
	struct rlimit old, small;
	static char big[300001];
	char id[64] = "new", other[64] = "new";

	memset(big, 'x', sizeof(big) - 1);
	turn(b, id, "before", "yes");
	assert_int_equal(say(b, id, "question"), ERR_NONE);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	small = (struct rlimit){.rlim_cur = 200000, .rlim_max = old.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	end(b, b->turn, "done", big);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	if (b->err.code != ERR_DISK_FULL)
		fail_msg("%s", b->err.text);
	assert_int_equal(move_head(b, id, "undo"), ERR_CONFLICT);
	turn(b, other, "after", "yes");
	/* asked behind what that success has led to */
	assert_int_equal(path(b, id), ERR_NONE);
	assert_int_equal(b->n, 2);
	assert_int_equal(move_head(b, id, "undo"), ERR_NONE);
	assert_int_equal(turns(b, id, 10), ERR_NONE);
	assert_string_equal(b->asked[1].status, "error");
}

/* ---- the log ---- */

static long size_of(const char *name)
{
	struct stat sb;

	return stat(name, &sb) == 0 ? (long)sb.st_size : 0;
}

static void a_long_log_is_written_into_the_file(void **state)
{
	struct box *b = *state;
	char *big = xmalloc(1 << 20), wal[800], id[64] = "new";
	long longest = 0;

	snprintf(wal, sizeof(wal), "%s-wal", b->path);
	memset(big, 'x', (1 << 20) - 1);
	big[(1 << 20) - 1] = 0;
	for (int i = 0; i < 60; i++) { /* each commit leaves more than a MiB in the log */
		big[0] = (char)('A' + i);
		turn(b, id, big, "reply");
		longest = size_of(wal) > longest ? size_of(wal) : longest;
	}
	assert_true(size_of(b->path) > 16 << 20);
	assert_true(longest < 40 << 20);
	free(big);
}

/* ---- durability ---- */

/* PRAGMA synchronous of the writer's connection: 2 = FULL, 1 = NORMAL. */
struct look {
	struct store_job job;
	int *synchronous;
};

static int run_look(struct sql *q, struct store_job *job)
{
	sqlite3_stmt *st = NULL;

	if (sqlite3_prepare_v2(q->db, "PRAGMA synchronous", -1, &st, NULL) == SQLITE_OK &&
	    sqlite3_step(st) == SQLITE_ROW)
		*((struct look *)job)->synchronous = sqlite3_column_int(st, 0);
	sqlite3_finalize(st);
	return 0;
}

static const struct store_op look_op = {"look", 0, run_look, NULL, NULL};

static int synchronous(struct box *b)
{
	struct look *l = store_job_new(sizeof(*l), &look_op, NULL);
	int v = -1;

	l->synchronous = &v;
	store_submit(b->store, &l->job);
	uv_run(&b->loop, UV_RUN_DEFAULT); /* ends when nothing is pending */
	return v;
}

static void durability_is_full_until_somebody_asks_for_less(void **state)
{
	struct box *b = *state;
	struct message m = {ROLE_USER, (char *)"x", NULL};

	assert_int_equal(synchronous(b), 2);
	store_turn_begin(b->store,
			 &(struct store_turn_begin){.conversation = "new",
						    .model = "m",
						    .provider = "p",
						    .messages = &m,
						    .n = 1},
			 on_turn, b);
	store_set_durable(b->store, false); /* in the middle of a group */
	assert_int_equal(synchronous(b), 1);
	assert_int_equal(b->err.code, ERR_NONE);
	b->answered = false;
	store_set_durable(b->store, true);
	assert_int_equal(synchronous(b), 2);
	assert_int_equal(peek(b, "SELECT count(*) FROM turn"), 1);
}

/* ---- without a file ---- */

/* Open descriptors that are files somewhere: /dev, sockets and the like are none. */
static int open_files(void)
{
	DIR *d = opendir("/proc/self/fd");
	struct dirent *ent;
	char name[300], to[300];
	int n = 0;

	assert_non_null(d);
	while ((ent = readdir(d)) != NULL) {
		ssize_t len;

		snprintf(name, sizeof(name), "/proc/self/fd/%s", ent->d_name);
		len = readlink(name, to, sizeof(to) - 1);
		if (len <= 0)
			continue;
		to[len] = 0;
		n += to[0] == '/' && strncmp(to, "/dev/", 5) != 0 &&
		     strncmp(to, "/proc/", 6) != 0;
	}
	closedir(d);
	return n;
}

static int entries(const char *dir)
{
	DIR *d = opendir(dir);
	int n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void an_incognito_store_leaves_nothing_on_disk(void **state)
{
	struct box *b = *state;
	char *big = xmalloc(1 << 20), old[512], id[64] = "new";
	int files, names;

	memset(big, 'x', (1 << 20) - 1);
	big[(1 << 20) - 1] = 0;
	box_close(b);
	assert_non_null(getcwd(old, sizeof(old)));
	assert_int_equal(chdir(b->dir), 0);
	files = open_files();
	names = entries(b->dir);
	snprintf(b->path, sizeof(b->path), ":memory:");
	box_open(b);
	assert_null(store_notice(b->store));
	for (int i = 0; i < 40; i++) { /* more than the cache holds */
		big[0] = (char)('a' + i);
		turn(b, id, big, "reply");
	}
	assert_true(store_is_incognito(id));
	assert_int_equal(strlen(id), CONVERSATION_ID_BYTES - 1);
	assert_int_equal(path(b, id), ERR_NONE);
	assert_int_equal(b->n, 80);
	assert_int_equal(fork_at(b, id, NULL), ERR_NONE);
	assert_true(store_is_incognito(b->rows[0].id));
	assert_int_equal(open_files(), files);
	assert_int_equal(entries(b->dir), names);
	assert_int_equal(forget(b, id), ERR_NONE);
	box_close(b);
	assert_int_equal(entries(b->dir), names);
	box_open(b);
	assert_int_equal(path(b, "last"), ERR_NOT_FOUND);
	box_close(b);
	assert_int_equal(chdir(old), 0);
	free(big);
}

static void a_conversation_on_disk_is_not_incognito(void **state)
{
	struct box *b = *state;

	assert_int_equal(say(b, "new", "x"), ERR_NONE);
	assert_false(store_is_incognito(b->id));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_BOX(files_are_private_whatever_the_umask),
		WITH_BOX(a_second_store_on_the_same_file_is_refused),
		WITH_BOX(a_corrupt_file_is_set_aside_and_said_so),
		WITH_BOX(damage_found_while_running_is_checked_at_the_next_start),
		WITH_BOX(damage_met_while_opening_sets_the_file_aside_at_once),
		WITH_BOX(the_file_of_another_program_is_left_alone),
		WITH_BOX(a_newer_file_is_read_and_never_written),
		WITH_BOX(a_migration_backs_up_first_and_is_all_or_nothing),
		WITH_BOX(a_path_that_cannot_be_made_is_an_error),
		WITH_BOX(a_full_disk_is_an_error_with_the_path_and_passes),
		WITH_BOX(a_turn_whose_end_found_no_room_ends_once_there_is_some),
		WITH_BOX(a_long_log_is_written_into_the_file),
		WITH_BOX(durability_is_full_until_somebody_asks_for_less),
		WITH_BOX(an_incognito_store_leaves_nothing_on_disk),
		WITH_BOX(a_conversation_on_disk_is_not_incognito),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
