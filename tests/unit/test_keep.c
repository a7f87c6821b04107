/* Limits and figures on a real store: what goes, in which order, what stays, and what is left. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clock.h"
#include "keep_world.h"

enum { MANY = 12 };

/* Runs until nothing is on its way: each step that is due has been taken then. */
static void settle(struct world *w)
{
	uv_run(&w->loop, UV_RUN_DEFAULT);
}

static void limit(struct world *w, const struct store_limits *l)
{
	store_set_limits(w->store, l);
	settle(w);
}

static struct store_figures figures(struct world *w)
{
	struct store_figures f;

	store_figures(w->store, &f);
	return f;
}

static void make_many(struct world *w, char ids[MANY][64])
{
	for (int i = 0; i < MANY; i++) {
		char question[64], reply[64];

		snprintf(question, sizeof(question), "question number %d", i);
		snprintf(reply, sizeof(reply), "reply number %d", i);
		snprintf(ids[i], 64, "new");
		world_turn(w, ids[i], question, reply);
	}
}

static bool is_there(struct world *w, const char *id)
{
	char *sql = xasprintf("SELECT count(*) FROM session WHERE id = '%s'", id);
	int64_t n = world_peek(w, sql);

	free(sql);
	return n == 1;
}

static void assert_sound(struct world *w)
{
	assert_int_equal(world_peek(w, "SELECT count(*) FROM pragma_integrity_check "
				       "WHERE integrity_check <> 'ok'"),
			 0);
	assert_int_equal(world_peek(w, "SELECT count(*) FROM pragma_foreign_key_check"),
			 0);
	world_poke(w, "INSERT INTO message_fts (message_fts, rank) "
		      "VALUES ('integrity-check', 1)");
}

/* ---- figures ---- */

static void figures_follow_every_job(void **state)
{
	struct world *w = *state;
	char id[64] = "new";
	struct store_figures f = figures(w);

	assert_int_equal(f.messages, 0);
	assert_int_equal(f.conversations, 0);
	assert_int_equal(f.oldest_ms, 0);
	assert_true(f.bytes > 0);
	world_turn(w, id, "one", "two");
	f = figures(w);
	assert_int_equal(f.messages, 2);
	assert_int_equal(f.conversations, 1);
	assert_true(f.oldest_ms > 0);
	/* what is undone does not count */
	assert_int_equal(world_begin(w, "NOSUCH", NULL, 0), ERR_NOT_FOUND);
	assert_int_equal(world_begin(w, "new", NULL, 0), ERR_INVALID);
	world_turn(w, id, "three", "four");
	f = figures(w);
	assert_int_equal(f.messages, 4);
	assert_int_equal(f.conversations, 1);
	world_close(w);
	world_open(w);
	f = figures(w);
	assert_int_equal(f.messages, 4);
	assert_int_equal(f.conversations, 1);
}

/* ---- what goes ---- */

static void the_least_recently_used_conversations_go_first(void **state)
{
	struct world *w = *state;
	char ids[MANY][64];

	make_many(w, ids);
	world_turn(w, ids[0], "used again", "so it stays");
	limit(w, &(struct store_limits){.max_conversations = 4});
	assert_int_equal(figures(w).conversations, 4);
	assert_int_equal(figures(w).evicted, MANY - 4);
	assert_true(is_there(w, ids[0]));
	for (int i = 1; i < MANY; i++)
		assert_int_equal(is_there(w, ids[i]), i >= MANY - 3);
	/* with all that only they reached */
	assert_int_equal(world_peek(w, "SELECT count(*) FROM message"), 2 * 4 + 2);
	assert_int_equal(figures(w).messages, 2 * 4 + 2);
	assert_int_equal(world_search(w, "number", NULL), 8);
	assert_sound(w);
}

static void pinned_conversations_never_go(void **state)
{
	struct world *w = *state;
	char ids[MANY][64];

	make_many(w, ids);
	world_poke(w, "UPDATE session SET pinned = 1");
	limit(w, &(struct store_limits){.max_conversations = 1,
					.max_messages = 1,
					.max_age_ms = 1,
					.max_bytes = 4096});
	assert_int_equal(figures(w).evicted, 0);
	assert_int_equal(world_peek(w, "SELECT count(*) FROM session"), MANY);
}

static void the_conversation_in_use_and_one_that_is_answered_stay(void **state)
{
	struct world *w = *state;
	char ids[MANY][64];
	int64_t turn;

	make_many(w, ids);
	assert_int_equal(world_say(w, ids[2], "still being answered"), ERR_NONE);
	turn = w->turn;
	world_turn(w, ids[5], "the last", "one");
	limit(w, &(struct store_limits){.max_messages = 1});
	assert_int_equal(world_peek(w, "SELECT count(*) FROM session"), 2);
	assert_true(is_there(w, ids[2]) && is_there(w, ids[5]));
	/* once it is answered it may go like any other */
	w->turn = turn;
	assert_int_equal(world_end(w, "done", "answered", NULL), ERR_NONE);
	settle(w);
	assert_int_equal(world_peek(w, "SELECT count(*) FROM session"), 1);
	assert_true(is_there(w, ids[5]));
}

static void a_message_that_another_conversation_reaches_stays(void **state)
{
	struct world *w = *state;
	char a[64] = "new", b[64] = "new";

	world_turn(w, a, "shared", "by both");
	world_turn(w, a, "only of the first", "gone");
	world_turn(w, b, "shared", "by both");
	world_turn(w, b, "only of the second", "kept");
	limit(w, &(struct store_limits){.max_conversations = 1});
	assert_false(is_there(w, a));
	assert_int_equal(world_peek(w, "SELECT count(*) FROM message"), 4);
	assert_int_equal(world_search(w, "shared", NULL), 1);
	assert_string_equal(w->hits[0].conversation, b);
	assert_sound(w);
}

static void a_store_over_its_bytes_goes_on_without_its_oldest(void **state)
{
	struct world *w = *state;
	char id[64] = "new", first[64], *long_text = xmalloc(100001);
	enum { LIMIT = 4 << 20 };

	memset(long_text, 'x', 100000);
	for (int i = 0; i < 100000; i += 7)
		long_text[i] = ' ';
	long_text[100000] = 0;
	limit(w, &(struct store_limits){.max_bytes = LIMIT});
	for (int i = 0; i < 40; i++) {
		char name[32];

		snprintf(name, sizeof(name), "conversation %d", i);
		snprintf(id, sizeof(id), "new");
		long_text[1] = (char)('a' + i % 26);
		world_turn(w, id, name, long_text);
		if (i == 0)
			memcpy(first, id, sizeof(first));
		settle(w);
	}
	free(long_text);
	assert_true(figures(w).evicted > 0);
	assert_true(figures(w).conversations > 3); /* and not everything */
	assert_false(is_there(w, first));
	assert_true(is_there(w, id));
	assert_true(world_peek(w, "SELECT page_count * 4096 FROM pragma_page_count") <=
		    LIMIT);
	assert_sound(w);
}

/* Nothing may go, so nothing more is written; deleting has a reserve. */
static void a_full_store_refuses_and_can_still_forget(void **state)
{
	struct world *w = *state;
	char id[64] = "new", *text = xmalloc(100001);
	enum err_code code = ERR_NONE;

	for (int i = 0; i < 100000; i++)
		text[i] = (char)(i % 6 ? 'a' + i * i % 25 : ' ');
	text[100000] = 0;
	world_turn(w, id, "begin", "with this");
	limit(w, &(struct store_limits){.max_bytes = 2 << 20});
	for (int i = 0; i < 100 && code == ERR_NONE; i++) {
		text[0] = (char)('a' + i % 26);
		text[1] = (char)('a' + i / 26);
		code = world_say(w, id, text);
	}
	free(text);
	assert_int_equal(code, ERR_DISK_FULL);
	assert_true(world_peek(w, "SELECT page_count * 4096 FROM pragma_page_count") <=
		    2 << 20);
	store_delete(w->store, id, world_on_done, w);
	assert_int_equal(world_wait(w), ERR_NONE);
	snprintf(id, sizeof(id), "new");
	world_turn(w, id, "there is room", "again");
	assert_sound(w);
}

/* ---- age ---- */

/* As if `ids` had last been used these days ago. */
static void date_back(struct world *w, const char *id, int days)
{
	char *sql =
		xasprintf("UPDATE session SET updated_at = %lld WHERE id = '%s'",
			  (long long)(clock_unix_ms() - days * (int64_t)86400000), id);

	world_poke(w, sql);
	free(sql);
}

static void conversations_that_were_not_used_for_too_long_go(void **state)
{
	struct world *w = *state;
	char ids[MANY][64];

	make_many(w, ids);
	for (int i = 0; i < MANY; i++)
		date_back(w, ids[i], MANY - i);
	limit(w, &(struct store_limits){.max_age_ms = 17 * (int64_t)86400000 / 2});
	/* counted from the third newest use, which was three days ago */
	for (int i = 0; i < MANY; i++)
		assert_int_equal(is_there(w, ids[i]), i != 0);
	assert_int_equal(figures(w).evicted, 1);
}

static void a_clock_gone_mad_deletes_nothing(void **state)
{
	struct world *w = *state;
	char ids[MANY][64];

	make_many(w, ids);
	/* two were used under a clock that was centuries ahead */
	date_back(w, ids[3], -100000);
	date_back(w, ids[4], -100000);
	limit(w, &(struct store_limits){.max_age_ms = 86400000});
	assert_int_equal(figures(w).evicted, 0);
	/* all others look as if they came from the future: the clock went back */
	for (int i = 0; i < MANY; i++)
		date_back(w, ids[i], -1000 - i);
	limit(w, &(struct store_limits){.max_age_ms = 86400000});
	assert_int_equal(figures(w).evicted, 0);
	assert_int_equal(world_peek(w, "SELECT count(*) FROM session"), MANY);
}

static void failed_turns_expire_with_their_texts(void **state)
{
	struct world *w = *state;
	char ids[MANY][64], id[64] = "new";

	make_many(w, ids);
	world_turn(w, id, "fine", "this stays");
	assert_int_equal(world_say(w, id, "the question that failed"), ERR_NONE);
	assert_int_equal(world_end(w, "error", "half an answer", "the disaster"),
			 ERR_NONE);
	assert_int_equal(world_say(w, id, "the question that was stopped"), ERR_NONE);
	assert_int_equal(world_end(w, "cancelled", "what was seen", "stopped"), ERR_NONE);
	limit(w, &(struct store_limits){.failed_age_ms = 86400000});
	assert_int_equal(world_search(w, "question failed", NULL), 1); /* young */
	world_poke(w, "UPDATE turn SET created_at = created_at - 3 * 86400000");
	limit(w, &(struct store_limits){.failed_age_ms = 86400000});
	assert_int_equal(world_search(w, "question failed", NULL), 0);
	assert_int_equal(world_peek(w,
				    "SELECT count(*) FROM turn WHERE error IS NOT NULL "
				    "OR partial IS NOT NULL"),
			 0);
	/* what people saw of the stopped one is part of the conversation */
	assert_int_equal(world_search(w, "stopped", NULL), 1);
	assert_int_equal(world_search(w, "seen", NULL), 1);
	assert_sound(w);
}

static void a_conversation_of_which_all_failed_expires_with_its_title(void **state)
{
	struct world *w = *state;
	char ids[MANY][64];

	make_many(w, ids);
	assert_int_equal(world_say(w, "new", "a telling title"), ERR_NONE);
	assert_int_equal(world_end(w, "error", "", "no"), ERR_NONE);
	world_poke(w, "UPDATE turn SET created_at = created_at - 3 * 86400000");
	limit(w, &(struct store_limits){.failed_age_ms = 86400000});
	assert_int_equal(world_peek(w, "SELECT count(*) FROM session WHERE title LIKE "
				       "'%telling%'"),
			 0);
	assert_int_equal(world_peek(w, "SELECT count(*) FROM session"), MANY);
}

/* ---- what was left behind ---- */

static void messages_that_nothing_reaches_are_found_after_a_start(void **state)
{
	struct world *w = *state;
	char id[64] = "new";

	world_turn(w, id, "first", "one");
	world_poke(w,
		   "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
		   "LIMIT 5000) INSERT INTO message (id, hash, parent_id, role, parts, "
		   "text, bytes, created_at) SELECT 100 + i, randomblob(16), "
		   "CASE WHEN i % 50 = 1 THEN 2 ELSE 99 + i END, 'user', '[]', "
		   "'orphan', 1, 1 FROM n");
	world_poke(w, "INSERT INTO note (text, source_id, created_at) "
		      "VALUES ('from a message', 110, 1)");
	world_close(w);
	world_open(w);
	assert_int_equal(figures(w).messages, 5002);
	limit(w, &(struct store_limits){.max_conversations = 100});
	/* a note keeps what it was taken from, and what leads there */
	assert_int_equal(world_peek(w, "SELECT count(*) FROM message"), 2 + 10);
	assert_int_equal(figures(w).messages, 12);
	assert_int_equal(figures(w).evicted, 0);
	assert_sound(w);
}

/* Found by a kill: where nothing may go although there is too much, the rest was not done either. */
static void what_nothing_reaches_is_found_among_too_many_pinned_ones(void **state)
{
	struct world *w = *state;
	char ids[MANY][64];

	make_many(w, ids);
	world_poke(w, "UPDATE session SET pinned = 1");
	world_poke(w, "INSERT INTO message (hash, parent_id, role, parts, text, bytes, "
		      "created_at) SELECT randomblob(16), max(id), 'user', '[]', "
		      "'orphan', 1, 1 FROM message");
	world_close(w);
	world_open(w);
	limit(w, &(struct store_limits){.max_conversations = 1});
	assert_int_equal(world_peek(w, "SELECT count(*) FROM message"), 2 * MANY);
}

static void a_conversation_of_thousands_of_messages_goes_in_steps(void **state)
{
	struct world *w = *state;
	char id[64] = "new";

	world_poke(w,
		   "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
		   "LIMIT 3000) INSERT INTO message (id, hash, parent_id, role, parts, "
		   "text, bytes, created_at) SELECT i, randomblob(16), "
		   "CASE i WHEN 1 THEN NULL ELSE i - 1 END, 'user', '[]', 'long', 1, 1 "
		   "FROM n");
	world_poke(w, "INSERT INTO session (id, head_id, model, created_at, updated_at, "
		      "used_seq) VALUES ('LONG', 3000, 'm', 1, 1, 1)");
	world_close(w);
	world_open(w);
	world_turn(w, id, "short", "one");
	limit(w, &(struct store_limits){.max_conversations = 1});
	assert_int_equal(figures(w).messages, 2);
	assert_int_equal(world_peek(w, "SELECT count(*) FROM message"), 2);
	assert_int_equal(figures(w).evicted, 1);
}

static void jobs_that_come_between_steps_are_answered(void **state)
{
	struct world *w = *state;
	char ids[MANY][64], id[64] = "new";

	make_many(w, ids);
	store_set_limits(w->store, &(struct store_limits){.max_conversations = 2});
	world_turn(w, id, "in the middle", "of it");
	settle(w);
	assert_true(is_there(w, id));
	assert_int_equal(figures(w).conversations, 2);
}

static void closing_in_the_middle_of_it_loses_nothing(void **state)
{
	struct world *w = *state;
	char ids[MANY][64];

	make_many(w, ids);
	store_set_limits(w->store, &(struct store_limits){.max_conversations = 2});
	world_close(w);
	world_open(w);
	assert_sound(w);
	limit(w, &(struct store_limits){.max_conversations = 2});
	assert_int_equal(figures(w).conversations, 2);
	assert_int_equal(world_peek(w, "SELECT count(*) FROM message"), 4);
}

static void a_message_over_its_limit_is_not_kept(void **state)
{
	struct world *w = *state;
	char id[64] = "new";

	limit(w, &(struct store_limits){.max_message_bytes = 16});
	assert_int_equal(world_say(w, id, "sixteen letters!"), ERR_NONE);
	assert_int_equal(world_say(w, id, "seventeen letters"), ERR_TOO_LARGE);
	limit(w, &(struct store_limits){0});
	assert_int_equal(world_say(w, id, "seventeen letters"), ERR_NONE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_WORLD(figures_follow_every_job),
		WITH_WORLD(the_least_recently_used_conversations_go_first),
		WITH_WORLD(pinned_conversations_never_go),
		WITH_WORLD(the_conversation_in_use_and_one_that_is_answered_stay),
		WITH_WORLD(a_message_that_another_conversation_reaches_stays),
		WITH_WORLD(a_store_over_its_bytes_goes_on_without_its_oldest),
		WITH_WORLD(a_full_store_refuses_and_can_still_forget),
		WITH_WORLD(conversations_that_were_not_used_for_too_long_go),
		WITH_WORLD(a_clock_gone_mad_deletes_nothing),
		WITH_WORLD(failed_turns_expire_with_their_texts),
		WITH_WORLD(a_conversation_of_which_all_failed_expires_with_its_title),
		WITH_WORLD(messages_that_nothing_reaches_are_found_after_a_start),
		WITH_WORLD(what_nothing_reaches_is_found_among_too_many_pinned_ones),
		WITH_WORLD(a_conversation_of_thousands_of_messages_goes_in_steps),
		WITH_WORLD(jobs_that_come_between_steps_are_answered),
		WITH_WORLD(closing_in_the_middle_of_it_loses_nothing),
		WITH_WORLD(a_message_over_its_limit_is_not_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
