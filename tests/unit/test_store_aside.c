/* What is read beside the writer: it delays nobody, sees what was committed, and can be given up. */
#include "store_world.h"

#include <semaphore.h>
#include "memory/store_impl.h"

/* An operation of the test's own, that says when it runs and waits for leave to go on. */
struct probe {
	struct store_job job;
	struct watch *watch;
};

struct watch {
	struct box *box;
	sem_t runs, go;
	int before, after; /* turns that it counted */
	bool is_read_only, wrote;
	int told;
	enum err_code code;
};

static void watch_init(struct watch *w, struct box *b)
{
	*w = (struct watch){.box = b};
	sem_init(&w->runs, 0, 0);
	sem_init(&w->go, 0, 0);
}

static void watch_fini(struct watch *w)
{
	sem_destroy(&w->runs);
	sem_destroy(&w->go);
}

static int count(sqlite3 *db, const char *sql)
{
	sqlite3_stmt *st = NULL;
	int n = -1;

	if (sqlite3_prepare_v2(db, sql, -1, &st, NULL) == SQLITE_OK &&
	    sqlite3_step(st) == SQLITE_ROW)
		n = sqlite3_column_int(st, 0);
	sqlite3_finalize(st);
	return n;
}

static int run_probe(struct sql *q, struct store_job *job)
{
	struct watch *w = ((struct probe *)job)->watch;

	w->before = count(q->db, "SELECT count(*) FROM turn");
	sem_post(&w->runs);
	sem_wait(&w->go);
	w->after = count(q->db, "SELECT count(*) FROM turn");
	w->is_read_only = sqlite3_db_readonly(q->db, "main") == 1;
	w->wrote = sqlite3_exec(q->db, "DELETE FROM turn", NULL, NULL, NULL) == SQLITE_OK;
	return 0;
}

/* Never ends by itself. */
static int run_endless(struct sql *q, struct store_job *job)
{
	struct watch *w = ((struct probe *)job)->watch;
	sqlite3_stmt *st = NULL;

	/* a table is read, so that a view of the file is kept */
	if (sqlite3_prepare_v2(q->db,
			       "WITH RECURSIVE c(x) AS (SELECT count(*) FROM turn "
			       "UNION ALL SELECT x + 1 FROM c) SELECT max(x) FROM c",
			       -1, &st, NULL) != SQLITE_OK)
		return err_set(&job->err, ERR_INTERNAL, "the test's own query");
	sem_post(&w->runs);
	sql_step(q, st, &job->err);
	sqlite3_finalize(st);
	return job->err.code == ERR_NONE ? 0 : -1;
}

static void tell_probe(struct store_job *job)
{
	struct watch *w = ((struct probe *)job)->watch;

	w->told++;
	w->code = job->err.code;
}

static const struct store_op probe_op = {"probe", STORE_ASIDE, run_probe, tell_probe,
					 NULL};
static const struct store_op endless_op = {"probe without end", STORE_ASIDE, run_endless,
					   tell_probe, NULL};

static void ask(struct watch *w, const struct store_op *op)
{
	struct probe *p = store_job_new(sizeof(*p), op, NULL);

	p->watch = w;
	store_submit(w->box->store, &p->job);
}

static void until_told(struct watch *w, int n)
{
	while (w->told < n)
		uv_run(&w->box->loop, UV_RUN_ONCE);
}

/* ---- */

static void writers_go_on_while_something_is_read(void **state)
{
	struct box *b = *state;
	char id[64] = "new";
	struct watch w;

	watch_init(&w, b);
	turn(b, id, "q", "a");
	ask(&w, &probe_op);
	sem_wait(&w.runs);
	for (int i = 0; i < 5; i++)
		turn(b, id, "more", "a"); /* answered, so committed */
	assert_int_equal(w.told, 0);
	sem_post(&w.go);
	until_told(&w, 1);
	assert_int_equal(w.code, ERR_NONE);
	assert_int_equal(w.before, 1);
	assert_int_equal(w.after, 1); /* one view from beginning to end */
	assert_true(w.is_read_only);
	assert_false(w.wrote);
	sem_post(&w.go);
	ask(&w, &probe_op); /* after callbacks that said so */
	until_told(&w, 2);
	assert_int_equal(w.before, 6);
	watch_fini(&w);
}

static void a_list_sees_what_was_answered_before_it_was_asked(void **state)
{
	struct box *b = *state;

	for (int i = 0; i < 30; i++) {
		char id[64] = "new";

		turn(b, id, "q", "a");
		assert_int_equal(list(b, 1, NULL, false), ERR_NONE);
		assert_string_equal(b->rows[0].id, id);
		assert_string_equal(b->rows[0].status, "done");
	}
}

static void closing_gives_up_what_is_read(void **state)
{
	struct box *b = *state;
	char id[64] = "new";
	struct watch w;

	watch_init(&w, b);
	turn(b, id, "q", "a");
	ask(&w, &endless_op);
	ask(&w, &endless_op);
	sem_wait(&w.runs);
	box_close(b);
	assert_int_equal(w.told, 2);
	assert_int_equal(w.code, ERR_CANCELLED);
	assert_int_equal(peek(b, "SELECT count(*) FROM turn"), 1);
	box_open(b);
	assert_null(store_notice(b->store));
	watch_fini(&w);
}

static void a_deletion_has_a_long_read_given_up(void **state)
{
	struct box *b = *state;
	char id[64] = "new", wal[800];
	struct watch w;

	watch_init(&w, b);
	snprintf(wal, sizeof(wal), "%s-wal", b->path);
	turn(b, id, "xylocanary8", "a");
	ask(&w, &endless_op);
	sem_wait(&w.runs);
	assert_int_equal(forget(b, id), ERR_NONE);
	assert_false(file_has(b->path, "xylocanary8"));
	assert_false(file_has(wal, "xylocanary8"));
	until_told(&w, 1);
	assert_int_equal(w.code, ERR_BUSY);
	sem_post(&w.go);
	ask(&w, &probe_op); /* and the next one is served */
	until_told(&w, 2);
	assert_int_equal(w.code, ERR_NONE);
	assert_int_equal(w.before, 0);
	watch_fini(&w);
}

static void a_short_read_is_waited_for(void **state)
{
	struct box *b = *state;
	char id[64] = "new";
	struct watch w;

	watch_init(&w, b);
	turn(b, id, "q", "a");
	ask(&w, &probe_op);
	sem_wait(&w.runs);
	store_delete(b->store, id, on_done, b);
	sem_post(&w.go);
	wait_for(b);
	assert_int_equal(b->err.code, ERR_NONE);
	until_told(&w, 1);
	assert_int_equal(w.code, ERR_NONE);
	assert_int_equal(w.before, 1);
	watch_fini(&w);
}

static void a_store_in_memory_reads_on_its_writer(void **state)
{
	struct box *b = *state;
	char id[64] = "new";
	struct watch w;

	box_close(b);
	snprintf(b->path, sizeof(b->path), ":memory:");
	box_open(b);
	watch_init(&w, b);
	turn(b, id, "q", "a");
	sem_post(&w.go);
	ask(&w, &probe_op);
	until_told(&w, 1);
	assert_int_equal(w.code, ERR_NONE);
	assert_int_equal(w.before, 1);
	assert_false(w.is_read_only);
	watch_fini(&w);
}

static void a_newer_file_is_listed_too(void **state)
{
	struct box *b = *state;
	char id[64] = "new";

	turn(b, id, "q", "a");
	box_close(b);
	assert_int_equal(poke(b, "PRAGMA user_version = 99"), SQLITE_OK);
	box_open(b);
	assert_int_equal(list(b, 5, NULL, false), ERR_NONE);
	assert_int_equal(b->n, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_BOX(writers_go_on_while_something_is_read),
		WITH_BOX(a_list_sees_what_was_answered_before_it_was_asked),
		WITH_BOX(closing_gives_up_what_is_read),
		WITH_BOX(a_deletion_has_a_long_read_given_up),
		WITH_BOX(a_short_read_is_waited_for),
		WITH_BOX(a_store_in_memory_reads_on_its_writer),
		WITH_BOX(a_newer_file_is_listed_too),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
