/* The ledger of measured sizes: what is put is found, also after a restart, and nothing
 * that happens to its file hurts anybody. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/log.h"
#include "cache/ledger.h"

struct folder {
	char dir[64], path[96];
};

static void folder_init(struct folder *f)
{
	log_set_level(LOG_LV_ERROR);
	snprintf(f->dir, sizeof f->dir, "/tmp/hob-ledger-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->path, sizeof f->path, "%s/ledger.db", f->dir);
}

/* Returns how many files were set aside. */
static int folder_fini(struct folder *f)
{
	DIR *d = opendir(f->dir);
	struct dirent *e;
	int aside = 0;

	while ((e = readdir(d))) {
		char path[400];

		if (e->d_name[0] == '.')
			continue;
		aside += strstr(e->d_name, ".corrupt-") != NULL;
		snprintf(path, sizeof path, "%s/%s", f->dir, e->d_name);
		unlink(path);
	}
	closedir(d);
	assert_int_equal(rmdir(f->dir), 0);
	return aside;
}

static struct ledger_row row(uint64_t ino, int ctx, uint64_t kv)
{
	return (struct ledger_row){.key = {.dev = UINT64_MAX,
					   .ino = ino,
					   .bytes = 5,
					   .mtime_ms = -7,
					   .ctx = ctx,
					   .slots = 4,
					   .kv_type = "bf16"},
				   .weights_bytes = 100,
				   .kv_bytes = kv,
				   .parked_bytes = 90,
				   .load_ms = 12.5,
				   .promote_ms = 2.25,
				   .lease_ms = 800,
				   .loads = 3,
				   .used_unix_ms = 1000 + (int64_t)ino};
}

static void assert_known(const struct ledger *l, const struct ledger_row *r)
{
	const struct ledger_row *got = ledger_find(l, &r->key);

	assert_non_null(got);
	assert_int_equal(got->weights_bytes, r->weights_bytes);
	assert_int_equal(got->kv_bytes, r->kv_bytes);
	assert_int_equal(got->parked_bytes, r->parked_bytes);
	assert_true(got->load_ms == r->load_ms && got->promote_ms == r->promote_ms &&
		    got->lease_ms == r->lease_ms);
	assert_int_equal(got->loads, r->loads);
	assert_int_equal(got->used_unix_ms, r->used_unix_ms);
}

static void what_was_put_is_there_after_a_restart(void **state)
{
	struct ledger_row a = row(1, 16, 10), b = row(1, 32, 20), other;
	struct folder f;
	struct ledger *l;

	(void)state;
	folder_init(&f);
	l = ledger_new(NULL, f.path);
	ledger_put(l, &a);
	ledger_put(l, &b);
	b.kv_bytes = 25; /* the latest counts */
	ledger_put(l, &b);
	ledger_close(l, NULL, NULL);
	l = ledger_new(NULL, f.path);
	assert_int_equal(ledger_count(l), 2);
	assert_known(l, &a);
	assert_known(l, &b);
	other = a;
	other.key.slots = 1;
	assert_null(ledger_find(l, &other.key));
	other = a;
	other.key.kv_type[0] = '\0';
	assert_null(ledger_find(l, &other.key));
	other.key.ctx = 64;
	assert_non_null(ledger_near(l, &other.key)); /* the same file */
	other.key.mtime_ms++;
	assert_null(ledger_near(l, &other.key));
	ledger_close(l, NULL, NULL);
	assert_int_equal(folder_fini(&f), 0);
}

static void the_file_is_for_its_owner_only(void **state)
{
	struct ledger_row a = row(1, 16, 10);
	struct folder f;
	struct stat sb;
	struct ledger *l;

	(void)state;
	folder_init(&f);
	l = ledger_new(NULL, f.path);
	ledger_put(l, &a);
	assert_int_equal(stat(f.path, &sb), 0);
	assert_int_equal(sb.st_mode & 0777, 0600);
	ledger_close(l, NULL, NULL);
	folder_fini(&f);
}

static void begins_anew(struct folder *f)
{
	struct ledger_row a = row(1, 16, 10);
	struct ledger *l = ledger_new(NULL, f->path);

	assert_int_equal(ledger_count(l), 0);
	ledger_put(l, &a);
	ledger_close(l, NULL, NULL);
	l = ledger_new(NULL, f->path);
	assert_known(l, &a);
	ledger_close(l, NULL, NULL);
}

static void a_file_that_is_no_database_is_set_aside(void **state)
{
	struct folder f;
	FILE *out;

	(void)state;
	folder_init(&f);
	out = fopen(f.path, "w");
	for (int i = 0; i < 1000; i++)
		fputs("this is not a database\n", out);
	fclose(out);
	begins_anew(&f);
	assert_int_equal(folder_fini(&f), 1);
}

static void a_damaged_database_is_set_aside(void **state)
{
	struct folder f;
	struct ledger *l;
	int fd;

	(void)state;
	folder_init(&f);
	l = ledger_new(NULL, f.path);
	for (uint64_t i = 1; i < 300; i++) {
		struct ledger_row r = row(i, 16, 10);

		ledger_put(l, &r);
	}
	ledger_close(l, NULL, NULL);
	fd = open(f.path, O_RDWR);
	for (off_t at = 4096; at < 12288; at += 8)
		assert_int_equal(pwrite(fd, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, at),
				 8);
	close(fd);
	begins_anew(&f);
	assert_int_equal(folder_fini(&f), 1);
}

static void another_programs_database_is_not_written_to(void **state)
{
	struct folder f;
	sqlite3 *db;

	(void)state;
	folder_init(&f);
	assert_int_equal(sqlite3_open(f.path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "CREATE TABLE t (x)", NULL, NULL, NULL),
			 SQLITE_OK);
	sqlite3_close(db);
	begins_anew(&f);
	assert_int_equal(folder_fini(&f), 1);
}

static void damage_while_running_loses_no_row(void **state)
{
	struct folder f;
	struct ledger *l;
	int fd;

	(void)state;
	folder_init(&f);
	l = ledger_new(NULL, f.path);
	for (uint64_t i = 1; i < 300; i++) {
		struct ledger_row r = row(i, 16, 10);

		ledger_put(l, &r);
	}
	fd = open(f.path, O_RDWR); /* behind its back, the header too */
	for (off_t at = 0; at < 12288; at += 8)
		assert_int_equal(pwrite(fd, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, at),
				 8);
	close(fd);
	for (uint64_t i = 300; i < 303; i++) {
		struct ledger_row r = row(i, 16, 10);

		ledger_put(l, &r);
	}
	ledger_close(l, NULL, NULL);
	l = ledger_new(NULL, f.path);
	assert_int_equal(ledger_count(l), 302);
	ledger_close(l, NULL, NULL);
	assert_int_equal(folder_fini(&f), 1);
}

static void without_a_folder_the_rows_stay_in_memory(void **state)
{
	struct ledger_row a = row(1, 16, 10);
	struct ledger *l = ledger_new(NULL, "/nonexistent/folder/ledger.db");

	(void)state;
	ledger_put(l, &a);
	assert_known(l, &a);
	ledger_close(l, NULL, NULL);
}

static void a_full_disk_is_outlived(void **state)
{
	struct ledger_row a = row(1, 16, 10);
	struct rlimit old, none;
	struct folder f;
	struct ledger *l;

	(void)state;
	folder_init(&f);
	l = ledger_new(NULL, f.path);
	ledger_put(l, &a);
	getrlimit(RLIMIT_FSIZE, &old);
	none = old;
	none.rlim_cur = 0; /* every write fails now */
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
	for (uint64_t i = 2; i < 50; i++) {
		struct ledger_row r = row(i, 16, 10);

		ledger_put(l, &r);
		assert_known(l, &r);
	}
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	a.kv_bytes = 11;
	ledger_put(l, &a); /* and what could not be written comes along */
	ledger_close(l, NULL, NULL);
	l = ledger_new(NULL, f.path);
	assert_int_equal(ledger_count(l), 49);
	assert_known(l, &a);
	ledger_close(l, NULL, NULL);
	assert_int_equal(folder_fini(&f), 0);
}

static void the_row_used_longest_ago_makes_room(void **state)
{
	struct ledger_row first = row(1, 16, 10), last = row(LEDGER_MAX_ROWS + 1, 16, 10);
	struct ledger *l = ledger_new(NULL, NULL);

	(void)state;
	for (uint64_t i = 1; i <= LEDGER_MAX_ROWS + 1; i++) {
		struct ledger_row r = row(i, 16, 10);

		ledger_put(l, &r);
	}
	assert_int_equal(ledger_count(l), LEDGER_MAX_ROWS);
	assert_null(ledger_find(l, &first.key));
	assert_known(l, &last);
	ledger_close(l, NULL, NULL);
}

static void on_closed(void *arg)
{
	*(bool *)arg = true;
}

static void with_a_loop_all_is_written_before_the_close_ends(void **state)
{
	bool closed = false;
	struct folder f;
	struct ledger *l;
	uv_loop_t loop;

	(void)state;
	folder_init(&f);
	uv_loop_init(&loop);
	l = ledger_new(&loop, f.path);
	for (uint64_t i = 1; i <= LEDGER_MAX_ROWS + 100; i++) {
		struct ledger_row r = row(i, 16, 10);

		ledger_put(l, &r);
		if (i % 500 == 0)
			uv_run(&loop, UV_RUN_NOWAIT);
	}
	ledger_close(l, on_closed, &closed);
	assert_false(closed); /* in a later turn */
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_true(closed);
	assert_int_equal(uv_loop_close(&loop), 0);
	l = ledger_new(NULL, f.path);
	assert_int_equal(ledger_count(l), LEDGER_MAX_ROWS);
	for (uint64_t i = 101; i <= LEDGER_MAX_ROWS + 100; i += 97) {
		struct ledger_row r = row(i, 16, 10);

		assert_known(l, &r);
	}
	ledger_close(l, NULL, NULL);
	{ /* the file is bounded as well */
		sqlite3 *db;
		sqlite3_stmt *st;

		assert_int_equal(sqlite3_open(f.path, &db), SQLITE_OK);
		sqlite3_prepare_v2(db, "SELECT count(*) FROM measured", -1, &st, NULL);
		assert_int_equal(sqlite3_step(st), SQLITE_ROW);
		assert_int_equal(sqlite3_column_int(st, 0), LEDGER_MAX_ROWS);
		sqlite3_finalize(st);
		sqlite3_close(db);
	}
	assert_int_equal(folder_fini(&f), 0);
}

static void forged_values_are_read_as_unknown(void **state)
{
	struct ledger_row a = row(1, 16, 10);
	const struct ledger_row *got;
	struct folder f;
	struct ledger *l;
	sqlite3 *db;

	(void)state;
	folder_init(&f);
	l = ledger_new(NULL, f.path);
	ledger_put(l, &a);
	ledger_close(l, NULL, NULL);
	assert_int_equal(sqlite3_open(f.path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db,
				      "UPDATE measured SET kv_bytes=-5, load_ms=9e999, "
				      "promote_ms=-1",
				      NULL, NULL, NULL),
			 SQLITE_OK);
	sqlite3_close(db);
	l = ledger_new(NULL, f.path);
	got = ledger_find(l, &a.key);
	assert_non_null(got);
	assert_int_equal(got->kv_bytes, 0);
	assert_true(got->load_ms == 0 && got->promote_ms == 0);
	ledger_close(l, NULL, NULL);
	folder_fini(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_put_is_there_after_a_restart),
		cmocka_unit_test(the_file_is_for_its_owner_only),
		cmocka_unit_test(a_file_that_is_no_database_is_set_aside),
		cmocka_unit_test(a_damaged_database_is_set_aside),
		cmocka_unit_test(another_programs_database_is_not_written_to),
		cmocka_unit_test(damage_while_running_loses_no_row),
		cmocka_unit_test(without_a_folder_the_rows_stay_in_memory),
		cmocka_unit_test(a_full_disk_is_outlived),
		cmocka_unit_test(the_row_used_longest_ago_makes_room),
		cmocka_unit_test(with_a_loop_all_is_written_before_the_close_ends),
		cmocka_unit_test(forged_values_are_read_as_unknown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
