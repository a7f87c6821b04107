/* What released versions left on people's disks opens, and no statement walks a whole table. */
#include "store_world.h"

#include "schema_v1.h"

static void make_v1(struct box *b)
{
	box_close(b);
	assert_int_equal(unlink(b->path), 0);
	assert_int_equal(v1_make(b->path), SQLITE_OK);
}

static void a_file_of_version_1_opens_with_everything_in_it(void **state)
{
	struct box *b = *state;

	make_v1(b);
	box_open(b);
	assert_null(store_notice(b->store));
	assert_int_equal(peek(b, "PRAGMA user_version"), SCHEMA_VERSION);
	store_path(b->store,
		   &(struct store_path_ask){.conversation = V1_ONE, .tokenizer = "bpe-1"},
		   on_path, b);
	wait_for(b);
	assert_int_equal(b->err.code, ERR_NONE);
	assert_int_equal(b->n, 5);
	for (int i = 0; i < 5; i++)
		assert_string_equal(b->texts[i], v1_texts[i]);
	assert_int_equal(b->tokens[2], 9);
	assert_int_equal(b->nsummaries, 1);
	assert_int_equal(b->summaries[0].upto, 2);
	assert_int_equal(b->nnotes, 1);
	assert_int_equal(list(b, 10, NULL, false), ERR_NONE);
	assert_int_equal(b->n, 2); /* by turns, not by clocks */
	assert_string_equal(b->rows[0].id, V1_TWO);
	assert_string_equal(b->rows[0].status, "interrupted");
	assert_int_equal(b->rows[0].messages, 5);
	assert_string_equal(b->rows[1].id, V1_ONE);
	assert_true(b->rows[1].pinned);
	assert_false(b->rows[1].is_private);
	assert_string_equal(b->rows[1].metadata, "{}");
	assert_int_equal(b->rows[1].messages, 5);
	assert_int_equal(turns(b, V1_ONE, 10), ERR_NONE);
	assert_int_equal(b->n, 2);
	assert_true(b->asked[0].cost_usd == 0.25);
	assert_int_equal(peek(b, "SELECT count(*) FROM message_fts('hello')"), 1);
	assert_int_equal(poke(b, "UPDATE message SET text = 'forged'"),
			 SQLITE_CONSTRAINT);
	assert_int_equal(
		peek(b,
		     "SELECT (SELECT integrity_check = 'ok' FROM pragma_integrity_check) "
		     "AND NOT EXISTS (SELECT 1 FROM pragma_foreign_key_check)"),
		1);
}

static void what_version_1_kept_is_found_and_not_kept_again(void **state)
{
	struct box *b = *state;
	struct message m[] = {{ROLE_SYSTEM, (char *)"be brief", NULL},
			      {ROLE_USER, (char *)"hello", NULL}};

	make_v1(b);
	box_open(b);
	assert_int_equal(peek(b, "SELECT count(*) FROM message"), 7);
	assert_int_equal(begin(b, "new", m, 2), ERR_NONE);
	assert_int_equal(end(b, b->turn, "done", "hi"), ERR_NONE);
	assert_int_equal(peek(b, "SELECT count(*) FROM message"), 7);
	assert_int_equal(forget(b, V1_ONE), ERR_NONE);
	assert_int_equal(forget(b, V1_TWO), ERR_NONE);
	assert_int_equal(peek(b, "SELECT count(*) FROM message"), 3);
}

static void a_copy_is_kept_as_it_was(void **state)
{
	struct box *b = *state;
	char bak[800], path[640];

	make_v1(b);
	box_open(b);
	snprintf(bak, sizeof(bak), "%s.v1.bak", b->path);
	assert_int_equal(mode_of(bak), 0600);
	memcpy(path, b->path, sizeof(path));
	memcpy(b->path, bak, sizeof(b->path));
	assert_int_equal(peek(b, "PRAGMA user_version"), 1);
	assert_int_equal(peek(b, "SELECT count(*) FROM message"), 6);
	assert_int_equal(peek(b, "SELECT count(*) FROM turn WHERE status = 'running'"),
			 1);
	memcpy(b->path, path, sizeof(b->path));
	assert_int_equal(count_files(b, ".bak"), 1);
	box_close(b);
	box_open(b); /* and only once */
	assert_int_equal(count_files(b, ".bak"), 1);
}

static void a_broken_file_of_version_1_is_set_aside(void **state)
{
	struct box *b = *state;
	int fd;

	make_v1(b);
	fd = open(b->path, O_WRONLY);
	assert_int_equal(pwrite(fd, "not SQLite", 10, 0), 10);
	close(fd);
	box_open(b);
	assert_non_null(store_notice(b->store));
	assert_int_equal(count_files(b, ".corrupt-"), 1);
	assert_int_equal(path(b, "last"), ERR_NOT_FOUND);
}

/* ---- plans ---- */

/* Statements that look at all there is, and may: once at open, in the background, or at the file's
 * own request. */
static bool may_scan(enum sql_id id)
{
	return id == SQL_SESSION_SWEEP;
}

/* "SCAN x" of a table walks it; of a recursion's own queue, of a constant row or of an index that
 * gives the order until the limit it does not. */
static bool walks(const char *detail)
{
	static const char *const harmless[] = {"SCAN path", "SCAN seen", "SCAN kin",
					       "SCAN CONSTANT ROW", "SCAN d"};

	if (!strncmp(detail, "BLOOM ", 6) || strstr(detail, "AUTOMATIC"))
		return true; /* made by a walk */
	if (strncmp(detail, "SCAN ", 5) != 0)
		return false;
	for (size_t i = 0; i < ARRAY_LEN(harmless); i++)
		if (!strcmp(detail, harmless[i]))
			return false;
	return true;
}

static int walk_steps(sqlite3 *db, const char *text)
{
	char *explain = xasprintf("EXPLAIN QUERY PLAN %s", text);
	sqlite3_stmt *st = NULL;
	int n = 0;

	assert_int_equal(sqlite3_prepare_v2(db, explain, -1, &st, NULL), SQLITE_OK);
	while (sqlite3_step(st) == SQLITE_ROW)
		if (walks((const char *)sqlite3_column_text(st, 3))) {
			print_message("%s\n  %s\n", sqlite3_column_text(st, 3), text);
			n++;
		}
	sqlite3_finalize(st);
	free(explain);
	return n;
}

static void no_statement_of_a_path_a_turn_or_a_list_walks_a_table(void **state)
{
	struct box *b = *state;
	struct dbfile file;
	struct sql q;
	struct err e = {0};
	char talk[64] = "new";
	int n = 0;

	for (int i = 0; i < 20; i++)
		turn(b, talk, "q", "a");
	box_close(b);
	assert_int_equal(poke(b, "ANALYZE"), SQLITE_OK); /* as a shell might */
	assert_int_equal(dbfile_open(&file, b->path, &e), 0);
	assert_int_equal(sql_open(&q, file.db, false, &e), 0);
	file.db = NULL;
	for (int id = 0; id < SQL_NR; id++)
		assert_non_null(
			sql_statement(&q, (enum sql_id)id)); /* each fits the schema */
	for (int id = 0; id <= SQL_COUNT_PUT; id++)
		if (!may_scan((enum sql_id)id))
			n += walk_steps(q.db, sqlite3_sql(q.st[id]));
	assert_int_equal(n, 0);
	n = walk_steps(q.db, "SELECT id FROM message WHERE text = 'x'");
	assert_int_equal(n, 1); /* such a one would have been seen */
	sql_close(&q);
	dbfile_close(&file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_BOX(a_file_of_version_1_opens_with_everything_in_it),
		WITH_BOX(what_version_1_kept_is_found_and_not_kept_again),
		WITH_BOX(a_copy_is_kept_as_it_was),
		WITH_BOX(a_broken_file_of_version_1_is_set_aside),
		WITH_BOX(no_statement_of_a_path_a_turn_or_a_list_walks_a_table),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
