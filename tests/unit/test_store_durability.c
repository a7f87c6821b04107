/* How long a commit waits, changed while the store runs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "memory/store_keep.h"
#include "memory/store_impl.h"
#include "tests/unit/keep_world.h"

struct look {
	struct store_job job;
	struct world *w;
	int synchronous;
};

static int run_look(struct sql *q, struct store_job *job)
{
	struct look *l = (struct look *)job;
	sqlite3_stmt *st = NULL;

	if (sqlite3_prepare_v2(q->db, "PRAGMA synchronous", -1, &st, NULL) == SQLITE_OK &&
	    sqlite3_step(st) == SQLITE_ROW)
		l->synchronous = sqlite3_column_int(st, 0);
	sqlite3_finalize(st);
	return 0;
}

static void tell_look(struct store_job *job)
{
	struct look *l = (struct look *)job;

	l->w->n = l->synchronous;
	l->w->answered = true;
}

/* 1 = NORMAL, 2 = FULL */
static int synchronous(struct world *w)
{
	static const struct store_op op = {.what = "look",
					   .flags = STORE_NO_UNDO,
					   .run = run_look,
					   .tell = tell_look};
	struct look *l = store_job_new(sizeof *l, &op, NULL);

	l->w = w;
	l->synchronous = -1;
	w->answered = false;
	store_submit(w->store, &l->job);
	while (!w->answered)
		uv_run(&w->loop, UV_RUN_ONCE);
	return w->n;
}

static void durability_is_full_until_it_is_said_otherwise(void **state)
{
	struct world *w = *state;

	assert_int_equal(synchronous(w), 2);
	store_set_durable(w->store, false);
	assert_int_equal(synchronous(w), 1);
	store_set_durable(w->store, true);
	assert_int_equal(synchronous(w), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			durability_is_full_until_it_is_said_otherwise, world_setup,
			world_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
