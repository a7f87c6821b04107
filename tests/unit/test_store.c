/* Paths and turns, forgetting, and many jobs at once. */
#include "store_world.h"

#include "memory/store_keep.h"

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

static void an_answer_too_large_to_keep_ends_its_turn_all_the_same(void **state)
{
	struct box *b = *state;
	char id[64] = "new", big[2001];

	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = 0;
	turn(b, id, "before", "yes");
	store_set_limits(b->store, &(struct store_limits){.max_message_bytes = 1000});
	assert_int_equal(say(b, id, "q"), ERR_NONE);
	assert_int_equal(end(b, b->turn, "done", big), ERR_TOO_LARGE);
	assert_int_equal(peek(b, "SELECT count(*) FROM turn WHERE status = 'running'"),
			 0);
	assert_int_equal(peek(b, "SELECT count(*) FROM turn WHERE status = 'error' AND "
				 "error LIKE '%is not kept%'"),
			 1);
	/* the head is where a failed turn leaves it, and may be moved */
	assert_int_equal(path(b, id), ERR_NONE);
	assert_int_equal(b->n, 2);
	assert_int_equal(move_head(b, id, "undo"), ERR_NONE);
}

/* So often that the last of them come when the thread has ended. */
enum { ASKS = 100000 };

static void asks_again(void *arg, const struct err *e, const struct store_path *p)
{
	struct box *b = arg;

	(void)p;
	assert_int_equal(e->code, ERR_CANCELLED);
	if (++b->failures < ASKS)
		store_path(b->store, &(struct store_path_ask){.conversation = "last"},
			   asks_again, b);
}

static void who_asks_again_while_it_closes_is_refused_each_time(void **state)
{
	struct box *b = *state;

	b->failures = 0;
	b->closed = false;
	store_close(b->store, on_closed, b);
	store_path(b->store, &(struct store_path_ask){.conversation = "last"}, asks_again,
		   b);
	while (!b->closed)
		uv_run(&b->loop, UV_RUN_ONCE);
	b->store = NULL;
	assert_int_equal(b->failures, ASKS);
}

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
		WITH_BOX(a_thousand_turns_at_once_commit_in_groups),
		WITH_BOX(one_bad_job_does_not_spoil_its_group),
		WITH_BOX(a_full_queue_refuses_and_loses_nothing_it_took),
		WITH_BOX(closing_answers_what_was_asked_and_refuses_the_rest),
		cmocka_unit_test(ulids_sort_by_time_and_spell_it_in_base_32),
		WITH_BOX(an_answer_too_large_to_keep_ends_its_turn_all_the_same),
		WITH_BOX(who_asks_again_while_it_closes_is_refused_each_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
