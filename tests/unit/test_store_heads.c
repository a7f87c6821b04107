/* Conversations as rows and heads: listed, made, changed, moved, forked; and turns as rows. */
#include "store_world.h"

/* Question and answer of a turn that follows `parent`; hashes stay in b. */
static void turn_at(struct box *b, const char *id, const char *parent,
		    const char *question, const char *reply)
{
	assert_int_equal(begin_at(b, id, parent, question), ERR_NONE);
	assert_int_equal(end(b, b->turn, "done", reply), ERR_NONE);
}

static void assert_path(struct box *b, const char *id, const char *expected)
{
	char text[4096] = "";
	size_t at = 0;

	assert_int_equal(path(b, id), ERR_NONE);
	for (int i = 0; i < b->n && at < sizeof(text); i++)
		at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%s", i ? " " : "",
				       b->texts[i]);
	assert_string_equal(text, expected);
}

/* ---- branches ---- */

static void regenerate_keeps_the_answer_that_it_replaces(void **state)
{
	struct box *b = *state;
	char id[64] = "new", old[64], prompt[64];

	turn(b, id, "q", "one");
	memcpy(prompt, b->prompt, sizeof(b->prompt));
	memcpy(old, b->reply, sizeof(b->reply));
	turn_at(b, id, prompt, NULL, "two");
	assert_string_equal(b->prompt, prompt);
	assert_string_not_equal(b->reply, old);
	assert_path(b, id, "q two");
	assert_int_equal(path_at(b, id, old), ERR_NONE);
	assert_int_equal(b->n, 2);
	assert_string_equal(b->texts[1], "one");
	assert_string_equal(b->hashes[1], old);
	assert_int_equal(move_head(b, id, old), ERR_NONE);
	assert_string_equal(b->rows[0].head, old);
	assert_path(b, id, "q one");
	assert_int_equal(peek(b, "SELECT count(*) FROM message"), 3);
}

static void an_edited_question_makes_a_branch(void **state)
{
	struct box *b = *state;
	char id[64] = "new", first[64];

	turn(b, id, "q1", "a1");
	memcpy(first, b->reply, sizeof(b->reply));
	turn(b, id, "q2", "a2");
	turn(b, id, "q3", "a3");
	turn_at(b, id, first, "q2 edited", "b2");
	assert_path(b, id, "q1 a1 q2 edited b2");
	turn_at(b, id, "root", "q1 edited", "c1");
	assert_path(b, id, "q1 edited c1");
	assert_int_equal(path_at(b, id, "root"), ERR_NONE);
	assert_int_equal(b->n, 0);
	assert_int_equal(peek(b, "SELECT count(*) FROM message"), 10);
}

static void a_regenerate_that_fails_leaves_the_head_where_it_stood(void **state)
{
	struct box *b = *state;
	char id[64] = "new", prompt[64];

	turn(b, id, "q1", "a1");
	memcpy(prompt, b->prompt, sizeof(b->prompt));
	turn(b, id, "q2", "a2");
	assert_int_equal(begin_at(b, id, prompt, NULL), ERR_NONE);
	assert_path(b, id, "q1");
	assert_int_equal(end(b, b->turn, "error", "half"), ERR_NONE);
	assert_string_equal(b->prompt, prompt);
	assert_string_equal(b->reply, "");
	assert_path(b, id, "q1 a1 q2 a2");
	assert_int_equal(begin_at(b, id, prompt, NULL), ERR_NONE);
	assert_int_equal(end(b, b->turn, "cancelled", ""), ERR_NONE);
	assert_path(b, id, "q1 a1 q2 a2");
	assert_int_equal(begin_at(b, id, prompt, NULL), ERR_NONE);
	assert_int_equal(end(b, b->turn, "cancelled", "as far as seen"), ERR_NONE);
	assert_path(b, id, "q1 as far as seen");
}

static void a_parent_of_another_conversation_is_not_found(void **state)
{
	struct box *b = *state;
	char one[64] = "new", two[64] = "new", there[64];

	turn(b, one, "q1", "a1");
	memcpy(there, b->reply, sizeof(b->reply));
	turn(b, two, "q2", "a2");
	assert_int_equal(begin_at(b, two, there, "x"), ERR_NOT_FOUND);
	assert_int_equal(path_at(b, two, there), ERR_NOT_FOUND);
	assert_int_equal(move_head(b, two, there), ERR_NOT_FOUND);
	assert_int_equal(fork_at(b, two, there), ERR_NOT_FOUND);
	assert_int_equal(begin_at(b, "new", there, "x"), ERR_NOT_FOUND);
	assert_int_equal(path_at(b, two, "no hash at all"), ERR_NOT_FOUND);
	assert_int_equal(path_at(b, two, "00112233445566778899aabbccddeeff"),
			 ERR_NOT_FOUND);
	assert_path(b, two, "q2 a2");
	assert_int_equal(peek(b, "SELECT count(*) FROM session"), 2);
}

static void a_turn_on_a_failed_question_falls_back_behind_it(void **state)
{
	struct box *b = *state;
	char id[64] = "new";
	int64_t first, second;

	turn(b, id, "q1", "a1");
	assert_int_equal(say(b, id, "q2"), ERR_NONE);
	first = b->turn;
	assert_int_equal(say(b, id, "q3"), ERR_NONE);
	second = b->turn;
	assert_int_equal(end(b, first, "error", NULL), ERR_NONE);
	assert_int_equal(end(b, second, "error", NULL), ERR_NONE);
	assert_path(b, id, "q1 a1");
	assert_int_equal(say(b, id, "q2"), ERR_NONE);
	first = b->turn;
	assert_int_equal(say(b, id, "q3"), ERR_NONE);
	second = b->turn;
	assert_int_equal(end(b, first, "done", "a2"), ERR_NONE);
	assert_int_equal(end(b, second, "error", NULL), ERR_NONE);
	assert_path(b, id, "q1 a1 q2 a2");
}

/* ---- moving ---- */

static void undo_goes_in_front_of_the_last_question(void **state)
{
	struct box *b = *state;
	struct message m[] = {{ROLE_SYSTEM, (char *)"s", NULL},
			      {ROLE_USER, (char *)"q1", NULL}};
	struct message tools[] = {{ROLE_TOOL, (char *)"t", NULL},
				  {ROLE_ASSISTANT, (char *)"a2", NULL}};
	char id[64], last[64];

	assert_int_equal(begin(b, "new", m, 2), ERR_NONE);
	memcpy(id, b->id, sizeof(id));
	assert_int_equal(end(b, b->turn, "done", "a1"), ERR_NONE);
	turn(b, id, "q2", "call");
	assert_int_equal(add(b, id, tools, 2), ERR_NONE);
	memcpy(last, b->hashes[b->n - 1], sizeof(last));
	assert_int_equal(move_head(b, id, "undo"), ERR_NONE);
	assert_int_equal(b->rows[0].messages, 3);
	assert_path(b, id, "s q1 a1");
	assert_int_equal(move_head(b, id, "undo"), ERR_NONE);
	assert_path(b, id, "s");
	assert_int_equal(move_head(b, id, "undo"), ERR_INVALID);
	assert_path(b, id, "s");
	assert_int_equal(move_head(b, id, last), ERR_NONE); /* and everything is there */
	assert_path(b, id, "s q1 a1 q2 call t a2");
	assert_int_equal(move_head(b, id, "root"), ERR_NONE);
	assert_string_equal(b->rows[0].head, "");
	assert_path(b, id, "");
	assert_int_equal(move_head(b, id, "undo"), ERR_INVALID);
	turn(b, id, "anew", "ok");
	assert_path(b, id, "anew ok");
}

static void a_head_does_not_move_while_an_answer_is_written(void **state)
{
	struct box *b = *state;
	struct message m = {ROLE_USER, (char *)"x", NULL};
	char id[64] = "new", first[64];
	int64_t running;

	turn(b, id, "q1", "a1");
	memcpy(first, b->reply, sizeof(b->reply));
	assert_int_equal(say(b, id, "q2"), ERR_NONE);
	running = b->turn;
	assert_int_equal(move_head(b, id, "undo"), ERR_CONFLICT);
	assert_int_equal(move_head(b, id, first), ERR_CONFLICT);
	assert_int_equal(add(b, id, &m, 1), ERR_CONFLICT);
	assert_int_equal(end(b, running, "done", "a2"), ERR_NONE);
	assert_int_equal(move_head(b, id, first), ERR_NONE);
	assert_path(b, id, "q1 a1");
}

static void what_only_an_undo_left_behind_goes_with_its_conversation(void **state)
{
	struct box *b = *state;
	struct message m = {ROLE_USER, (char *)"added without a turn", NULL};
	char id[64];

	assert_int_equal(create(b, &(struct store_change){NO_CHANGE}), ERR_NONE);
	memcpy(id, b->id, sizeof(id));
	assert_int_equal(add(b, id, &m, 1), ERR_NONE);
	assert_int_equal(move_head(b, id, "undo"), ERR_NONE);
	assert_int_equal(b->rows[0].messages, 0);
	assert_int_equal(peek(b, "SELECT count(*) FROM message"), 1);
	assert_int_equal(forget(b, id), ERR_NONE);
	assert_int_equal(peek(b, "SELECT count(*) FROM message"), 0);
}

/* ---- forks ---- */

static void a_fork_goes_its_own_way_and_outlives_what_it_came_from(void **state)
{
	struct box *b = *state;
	char one[64] = "new", two[64], three[64], first[64], second[64];

	turn(b, one, "q1", "a1");
	memcpy(first, b->reply, sizeof(b->reply));
	turn(b, one, "q2", "a2");
	memcpy(second, b->reply, sizeof(b->reply));
	assert_int_equal(fork_at(b, one, first), ERR_NONE);
	memcpy(two, b->id, sizeof(two));
	assert_string_equal(b->rows[0].forked_from, one);
	assert_string_equal(b->rows[0].head, first);
	assert_string_equal(b->rows[0].title, "q1");
	assert_int_equal(b->rows[0].messages, 2);
	turn(b, two, "other", "o2");
	assert_path(b, one, "q1 a1 q2 a2");
	assert_path(b, two, "q1 a1 other o2");
	assert_int_equal(fork_at(b, two, NULL), ERR_NONE); /* of a fork */
	memcpy(three, b->id, sizeof(three));
	assert_string_equal(b->rows[0].forked_from, two);
	assert_int_equal(path_at(b, three, second), ERR_NONE); /* over two steps */
	assert_int_equal(b->n, 4);
	assert_int_equal(forget(b, one), ERR_NONE);
	assert_path(b, two, "q1 a1 other o2");
	assert_int_equal(path_at(b, three, second), ERR_NOT_FOUND);
	assert_int_equal(get(b, two), ERR_NONE);
	assert_string_equal(b->rows[0].forked_from, "(none)");
	assert_int_equal(forget(b, two), ERR_NONE);
	assert_path(b, three, "q1 a1 other o2");
	assert_int_equal(forget(b, three), ERR_NONE);
	assert_int_equal(peek(b, "SELECT count(*) FROM message"), 0);
}

static void a_fork_reaches_nothing_that_became_private(void **state)
{
	struct box *b = *state;
	char one[64] = "new", two[64], first[64], second[64];

	turn(b, one, "q1", "a1");
	memcpy(first, b->reply, sizeof(b->reply));
	turn(b, one, "q2", "a2");
	memcpy(second, b->reply, sizeof(b->reply));
	assert_int_equal(fork_at(b, one, first), ERR_NONE);
	memcpy(two, b->id, sizeof(two));
	assert_int_equal(path_at(b, two, second), ERR_NONE);
	assert_int_equal(
		change(b, one,
		       &(struct store_change){.pinned = UNSAID, .is_private = YES}),
		ERR_NONE);
	assert_true(b->rows[0].is_private);
	assert_int_equal(path_at(b, two, second), ERR_NOT_FOUND);
	assert_int_equal(path_at(b, one, second), ERR_NONE);
	assert_true(b->is_private);
	assert_int_equal(fork_at(b, one, NULL), ERR_NONE);
	assert_true(b->rows[0].is_private);
}

/* ---- a client that keeps its own history ---- */

static enum err_code whole(struct box *b, const struct message *m, int n)
{
	store_turn_begin(
		b->store,
		&(struct store_turn_begin){
			.model = "m", .provider = "engine", .messages = m, .n = n},
		on_turn, b);
	wait_for(b);
	return b->err.code;
}

static void a_history_sent_whole_each_time_is_one_conversation(void **state)
{
	struct box *b = *state;
	struct message m[] = {
		{ROLE_SYSTEM, (char *)"s", NULL},     {ROLE_USER, (char *)"q1", NULL},
		{ROLE_ASSISTANT, (char *)"a1", NULL}, {ROLE_USER, (char *)"q2", NULL},
		{ROLE_ASSISTANT, (char *)"a2", NULL}, {ROLE_USER, (char *)"q3", NULL}};
	char id[64];

	assert_int_equal(whole(b, m, 2), ERR_NONE);
	memcpy(id, b->id, sizeof(id));
	assert_int_equal(end(b, b->turn, "done", "a1"), ERR_NONE);
	for (int n = 4; n <= 6; n += 2) {
		assert_int_equal(whole(b, m, n), ERR_NONE);
		assert_string_equal(b->id, id);
		assert_int_equal(end(b, b->turn, "done", n == 4 ? "a2" : "a3"), ERR_NONE);
	}
	assert_path(b, id, "s q1 a1 q2 a2 q3 a3");
	assert_int_equal(peek(b, "SELECT count(*) FROM message"), 7);
	assert_int_equal(peek(b, "SELECT count(*) FROM session"), 1);
}

static void a_history_sent_again_after_a_failure_goes_on_there(void **state)
{
	struct box *b = *state;
	struct message m[] = {{ROLE_USER, (char *)"q1", NULL},
			      {ROLE_ASSISTANT, (char *)"a1", NULL},
			      {ROLE_USER, (char *)"q2", NULL}};
	char id[64];

	assert_int_equal(whole(b, m, 1), ERR_NONE);
	memcpy(id, b->id, sizeof(id));
	assert_int_equal(end(b, b->turn, "error", NULL), ERR_NONE);
	assert_int_equal(whole(b, m, 1), ERR_NONE); /* the very first question */
	assert_string_equal(b->id, id);
	assert_int_equal(end(b, b->turn, "done", "a1"), ERR_NONE);
	assert_int_equal(whole(b, m, 3), ERR_NONE);
	assert_int_equal(end(b, b->turn, "error", NULL), ERR_NONE);
	assert_int_equal(whole(b, m, 3), ERR_NONE);
	assert_string_equal(b->id, id);
	assert_int_equal(end(b, b->turn, "done", "a2"), ERR_NONE);
	assert_path(b, id, "q1 a1 q2 a2");
}

static void a_history_that_branches_off_is_a_fork(void **state)
{
	struct box *b = *state;
	struct message m[] = {{ROLE_SYSTEM, (char *)"s", NULL},
			      {ROLE_USER, (char *)"q1", NULL},
			      {ROLE_ASSISTANT, (char *)"a1", NULL},
			      {ROLE_USER, (char *)"q2", NULL}};
	char id[64], fork[64];

	assert_int_equal(whole(b, m, 2), ERR_NONE);
	memcpy(id, b->id, sizeof(id));
	assert_int_equal(end(b, b->turn, "done", "a1"), ERR_NONE);
	assert_int_equal(whole(b, m, 4), ERR_NONE);
	assert_int_equal(end(b, b->turn, "done", "a2"), ERR_NONE);
	m[3].text = (char *)"q2 edited";
	assert_int_equal(whole(b, m, 4), ERR_NONE);
	assert_string_not_equal(b->id, id);
	memcpy(fork, b->id, sizeof(fork));
	assert_int_equal(end(b, b->turn, "done", "b2"), ERR_NONE);
	assert_int_equal(get(b, fork), ERR_NONE);
	assert_string_equal(b->rows[0].forked_from, id);
	assert_path(b, fork, "s q1 a1 q2 edited b2");
	assert_path(b, id, "s q1 a1 q2 a2");
	/* the same system message alone makes no kin */
	m[1].text = (char *)"another talk";
	assert_int_equal(whole(b, m, 2), ERR_NONE);
	assert_int_equal(get(b, b->id), ERR_NONE);
	assert_string_equal(b->rows[0].forked_from, "(none)");
	assert_int_equal(peek(b, "SELECT count(*) FROM session"), 3);
}

static void a_running_or_private_conversation_is_not_gone_on_with_by_chance(void **state)
{
	struct box *b = *state;
	struct message m[] = {{ROLE_USER, (char *)"q1", NULL},
			      {ROLE_ASSISTANT, (char *)"a1", NULL},
			      {ROLE_USER, (char *)"q2", NULL}};
	char id[64];
	int64_t running;

	assert_int_equal(whole(b, m, 1), ERR_NONE);
	memcpy(id, b->id, sizeof(id));
	assert_int_equal(end(b, b->turn, "done", "a1"), ERR_NONE);
	assert_int_equal(whole(b, m, 3), ERR_NONE);
	assert_string_equal(b->id, id);
	running = b->turn;
	assert_int_equal(whole(b, m, 3), ERR_NONE);
	assert_string_not_equal(b->id, id);
	assert_int_equal(end(b, running, "done", "a2"), ERR_NONE);
	assert_int_equal(move_head(b, id, "undo"), ERR_NONE);
	assert_int_equal(
		change(b, id,
		       &(struct store_change){.pinned = UNSAID, .is_private = YES}),
		ERR_NONE);
	assert_int_equal(whole(b, m, 3), ERR_NONE);
	assert_string_not_equal(b->id, id);
}

static void tool_calls_are_known_however_the_client_prints_them(void **state)
{
	static const char call[] =
		"{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"c1\","
		"\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]}";
	static const char *const printed[] = {
		"{\"content\":null,\"refusal\":null,\"role\":\"assistant\",\"annotations\":[],"
		"\"tool_calls\":[{\"index\":0,\"id\":\"c1\",\"function\":{\"arguments\":\"{}\","
		"\"name\":\"f\"},\"type\":\"function\"}],\"function_call\":null}",
		"{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"c1\",\"function\":"
		"{\"name\":\"f\",\"arguments\":\"{\\\"other\\\":1}\"}}]}"};
	struct box *b = *state;
	struct message m[] = {{ROLE_USER, (char *)"q1", NULL},
			      {ROLE_ASSISTANT, (char *)"", (char *)printed[0]},
			      {ROLE_TOOL, (char *)"42",
			       (char *)"{\"role\":\"tool\",\"tool_call_id\":\"c1\"}"}};
	struct store_turn_end t = {
		.status = "done", .text = "", .raw_json = call, .cost_usd = -1};
	char id[64];

	assert_int_equal(whole(b, m, 1), ERR_NONE);
	memcpy(id, b->id, sizeof(id));
	store_turn_end(b->store, b->turn, &t, on_ended, b);
	wait_for(b);
	assert_int_equal(whole(b, m, 3), ERR_NONE);
	assert_string_equal(b->id, id);
	assert_int_equal(end(b, b->turn, "done", "it is 42"), ERR_NONE);
	assert_int_equal(path(b, id), ERR_NONE);
	assert_int_equal(b->n, 4);
	assert_string_equal(b->raw[1], call); /* as it was kept */
	assert_int_equal(peek(b, "SELECT count(*) FROM message"), 4);
	m[1].raw_json = (char *)printed[1]; /* other arguments: another call */
	assert_int_equal(whole(b, m, 3), ERR_NONE);
	assert_string_not_equal(b->id, id);
	assert_int_equal(peek(b, "SELECT count(*) FROM message"), 6);
}

/* ---- rows ---- */

static void a_made_conversation_is_listed_and_outlives_a_restart(void **state)
{
	struct box *b = *state;
	char id[64];

	assert_int_equal(create(b, &(struct store_change){.title = "plans",
							  .model = "m",
							  .metadata = "{\"a\":\"b\"}",
							  .pinned = YES,
							  .is_private = YES}),
			 ERR_NONE);
	memcpy(id, b->id, sizeof(id));
	assert_int_equal(path(b, "new"), ERR_NONE); /* never used */
	box_close(b);
	box_open(b);
	assert_int_equal(list(b, 10, NULL, false), ERR_NONE);
	assert_int_equal(b->n, 1);
	assert_string_equal(b->rows[0].id, id);
	assert_string_equal(b->rows[0].title, "plans");
	assert_string_equal(b->rows[0].model, "m");
	assert_string_equal(b->rows[0].metadata, "{\"a\":\"b\"}");
	assert_string_equal(b->rows[0].head, "");
	assert_string_equal(b->rows[0].status, "");
	assert_int_equal(b->rows[0].messages, 0);
	assert_true(b->rows[0].pinned);
	assert_true(b->rows[0].is_private);
	assert_int_equal(path(b, "last"), ERR_NOT_FOUND); /* nothing was said in it */
	turn(b, id, "q", "a");
	assert_int_equal(get(b, "last"), ERR_NONE);
	assert_string_equal(b->rows[0].title, "plans");
	assert_string_equal(b->rows[0].status, "done");
}

static void a_change_leaves_what_it_does_not_name(void **state)
{
	struct box *b = *state;
	char id[64] = "new";

	turn(b, id, "q", "a");
	assert_int_equal(
		change(b, id,
		       &(struct store_change){.pinned = YES, .is_private = UNSAID}),
		ERR_NONE);
	assert_int_equal(
		change(b, id, &(struct store_change){.metadata = "{\"x\":1}", NO_CHANGE}),
		ERR_NONE);
	assert_true(b->rows[0].pinned);
	assert_false(b->rows[0].is_private);
	assert_string_equal(b->rows[0].title, "q");
	assert_string_equal(b->rows[0].model, "m");
	assert_string_equal(b->rows[0].metadata, "{\"x\":1}");
	assert_int_equal(change(b, id,
				&(struct store_change){.model = "n",
						       .pinned = NO,
						       .is_private = UNSAID}),
			 ERR_NONE);
	assert_false(b->rows[0].pinned);
	assert_string_equal(b->rows[0].model, "n");
	assert_int_equal(change(b, "01ARZ3NDEKTSV4RRFFQ69G5FAV",
				&(struct store_change){.title = "x", NO_CHANGE}),
			 ERR_NOT_FOUND);
}

static void a_models_title_does_not_replace_the_users(void **state)
{
	struct box *b = *state;
	char id[64] = "new";
	struct store_change by_model = {
		.title = "Made up", .title_by_model = true, NO_CHANGE};

	turn(b, id, "q", "a");
	assert_int_equal(change(b, id, &by_model), ERR_NONE);
	assert_string_equal(b->rows[0].title, "Made up");
	assert_int_equal(
		change(b, id, &(struct store_change){.title = "Mine", NO_CHANGE}),
		ERR_NONE);
	assert_string_equal(b->rows[0].title, "Mine");
	assert_int_equal(change(b, id, &by_model), ERR_NONE);
	assert_string_equal(b->rows[0].title, "Mine");
	assert_int_equal(change(b, id, &(struct store_change){.title = " \n", NO_CHANGE}),
			 ERR_NONE);
	assert_string_equal(b->rows[0].title, "");
	turn(b, id, "the next question gives one", "a");
	assert_int_equal(get(b, id), ERR_NONE);
	assert_string_equal(b->rows[0].title, "the next question gives one");
}

static void a_title_holds_nothing_that_a_terminal_would_obey(void **state)
{
	struct box *b = *state;
	char id[64] = "new", big[1000];

	turn(b, id,
	     "\x1b]0;owned\x07 red\x1b[31m \xc2\x9b"
	     "2J\x7f tab\there",
	     "a");
	assert_int_equal(get(b, id), ERR_NONE);
	assert_string_equal(b->rows[0].title, "]0;owned red [31m 2J tab here");
	assert_int_equal(change(b, id,
				&(struct store_change){.title = "a\r\nb\x01\xff"
								"c",
						       NO_CHANGE}),
			 ERR_NONE);
	assert_string_equal(b->rows[0].title, "a b c");
	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = "\xc3\xa4"[i % 2];
	big[sizeof(big) - 1] = 0;
	assert_int_equal(change(b, id, &(struct store_change){.title = big, NO_CHANGE}),
			 ERR_NONE);
	assert_int_equal(strlen(b->rows[0].title), STORE_MAX_TITLE_BYTES);
}

static void metadata_is_an_object_of_a_bounded_size(void **state)
{
	struct box *b = *state;
	char id[64] = "new", big[STORE_MAX_METADATA_BYTES + 100];
	static const char *const bad[] = {"[]", "1", "\"x\"", "null", "{", "{} x", ""};

	turn(b, id, "q", "a");
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(
			change(b, id,
			       &(struct store_change){.metadata = bad[i], NO_CHANGE}),
			ERR_INVALID);
	memset(big, ' ', sizeof(big));
	big[0] = '{';
	big[sizeof(big) - 2] = '}';
	big[sizeof(big) - 1] = 0;
	assert_int_equal(
		change(b, id, &(struct store_change){.metadata = big, NO_CHANGE}),
		ERR_TOO_LARGE);
	assert_int_equal(create(b, &(struct store_change){.metadata = "[]", NO_CHANGE}),
			 ERR_INVALID);
	assert_int_equal(peek(b, "SELECT count(*) FROM session WHERE metadata = '{}'"),
			 1);
}

static void pages_of_a_list_follow_each_other(void **state)
{
	struct box *b = *state;
	char ids[7][64], question[32], before[64];

	for (int i = 0; i < 7; i++) {
		memcpy(ids[i], "new", 4);
		snprintf(question, sizeof(question), "q%d", i);
		turn(b, ids[i], question, "a");
		if (i % 3 == 0)
			assert_int_equal(
				change(b, ids[i],
				       &(struct store_change){.pinned = YES,
							      .is_private = UNSAID}),
				ERR_NONE);
	}
	assert_int_equal(list(b, 3, NULL, false), ERR_NONE);
	assert_int_equal(b->n, 3);
	assert_string_equal(b->rows[2].id, ids[4]);
	memcpy(before, b->rows[2].id, sizeof(before));
	assert_int_equal(list(b, 3, before, false), ERR_NONE);
	assert_int_equal(b->n, 3);
	assert_string_equal(b->rows[0].id, ids[3]);
	assert_int_equal(list(b, 3, ids[1], false), ERR_NONE);
	assert_int_equal(b->n, 1);
	assert_int_equal(list(b, 3, ids[0], false), ERR_NONE);
	assert_int_equal(b->n, 0);
	assert_int_equal(list(b, 10, NULL, true), ERR_NONE);
	assert_int_equal(b->n, 3);
	assert_string_equal(b->rows[0].id, ids[6]);
	assert_int_equal(list(b, 1, ids[6], true), ERR_NONE);
	assert_string_equal(b->rows[0].id, ids[3]);
	assert_int_equal(list(b, 3, "01ARZ3NDEKTSV4RRFFQ69G5FAV", false), ERR_NOT_FOUND);
}

/* ---- messages without a model call ---- */

static void added_messages_are_a_path_without_turns(void **state)
{
	struct box *b = *state;
	struct message m[] = {{ROLE_SYSTEM, (char *)"s", NULL},
			      {ROLE_USER, (char *)"what was said elsewhere", NULL},
			      {ROLE_ASSISTANT, (char *)"yes", NULL}};
	char id[64];

	assert_int_equal(create(b, &(struct store_change){NO_CHANGE}), ERR_NONE);
	memcpy(id, b->id, sizeof(id));
	assert_int_equal(add(b, id, m, 3), ERR_NONE);
	assert_string_equal(b->id, id);
	assert_int_equal(b->n, 3);
	assert_int_equal(get(b, "last"), ERR_NONE);
	assert_string_equal(b->rows[0].id, id);
	assert_string_equal(b->rows[0].title, "what was said elsewhere");
	assert_int_equal(b->rows[0].messages, 3);
	turn(b, id, "more", "ok");
	assert_path(b, id, "s what was said elsewhere yes more ok");
	assert_int_equal(add(b, id, m, 0), ERR_INVALID);
	assert_int_equal(add(b, "new", m, 1), ERR_INVALID);
	assert_int_equal(turns(b, id, 10), ERR_NONE);
	assert_int_equal(b->n, 1);
}

/* ---- turns as rows ---- */

static void a_turn_says_what_was_asked_and_what_came_of_it(void **state)
{
	struct box *b = *state;
	char id[64] = "new", prompt[64], reply[64];
	struct message m = {ROLE_USER, (char *)"q2", NULL};

	turn(b, id, "q1", "a1");
	memcpy(reply, b->reply, sizeof(b->reply));
	store_turn_begin(b->store,
			 &(struct store_turn_begin){.conversation = id,
						    .model = "m",
						    .provider = "engine",
						    .request = "hob-0123",
						    .messages = &m,
						    .n = 1},
			 on_turn, b);
	wait_for(b);
	assert_int_equal(end(b, b->turn, "error", "half"), ERR_NONE);
	memcpy(prompt, b->prompt, sizeof(b->prompt));
	store_turn_of(b->store, "hob-0123", on_turns, b);
	wait_for(b);
	assert_int_equal(b->n, 1);
	assert_string_equal(b->asked[0].conversation, id);
	assert_string_equal(b->asked[0].status, "error");
	assert_string_equal(b->asked[0].base, reply);
	assert_string_equal(b->asked[0].prompt, prompt);
	assert_string_equal(b->asked[0].reply, "");
	assert_string_equal(b->asked[0].provider, "engine");
	assert_int_equal(b->asked[0].tokens_in, 5);
	assert_int_equal(b->asked[0].tokens_out, -1);
	assert_true(b->asked[0].cost_usd == 0.25);
	turn(b, id, "q3", "a3");
	assert_int_equal(turns(b, id, 10), ERR_NONE);
	assert_int_equal(b->n, 3);
	assert_string_equal(b->asked[0].base, "");
	assert_string_equal(b->asked[0].request, "");
	assert_string_equal(b->asked[1].request, "hob-0123");
	assert_string_equal(b->asked[2].status, "done");
	assert_int_equal(turns(b, id, 2), ERR_NONE); /* of the newest */
	assert_int_equal(b->n, 2);
	assert_string_equal(b->asked[0].request, "hob-0123");
	assert_int_equal(turns(b, "last", 2), ERR_NONE);
	assert_int_equal(turns(b, "x", 2), ERR_NOT_FOUND);
	store_turn_of(b->store, "hob-none", on_turns, b);
	wait_for(b);
	assert_int_equal(b->err.code, ERR_NOT_FOUND);
}

static void a_request_names_only_its_first_turn(void **state)
{
	struct box *b = *state;
	struct message m = {ROLE_USER, (char *)"q", NULL};
	struct store_turn_begin ask = {.conversation = "new",
				       .model = "m",
				       .provider = "p",
				       .request = "hob-1",
				       .messages = &m,
				       .n = 1};
	int64_t first;

	store_turn_begin(b->store, &ask, on_turn, b);
	wait_for(b);
	first = b->turn;
	store_turn_begin(b->store, &ask, on_turn, b);
	wait_for(b);
	assert_int_equal(b->err.code, ERR_NONE);
	store_turn_of(b->store, "hob-1", on_turns, b);
	wait_for(b);
	assert_int_equal(b->asked[0].id, first);
}

static void a_turn_keeps_what_its_client_wants_back_and_how_it_ended(void **state)
{
	struct box *b = *state;
	struct message m = {ROLE_USER, (char *)"q", NULL};
	static char large[STORE_MAX_PARAMS_BYTES + 2];
	struct store_turn_begin ask = {.conversation = "new",
				       .model = "m",
				       .provider = "p",
				       .request = "hob-1",
				       .params = "{\"metadata\":{\"a\":\"b\"}}",
				       .messages = &m,
				       .n = 1};
	struct store_turn_end t = {.status = "done",
				   .text = "a",
				   .len = 1,
				   .finish = "length",
				   .cost_usd = -1};

	store_turn_begin(b->store, &ask, on_turn, b);
	wait_for(b);
	store_turn_of(b->store, "hob-1", on_turns, b);
	wait_for(b);
	assert_string_equal(b->asked[0].params, ask.params);
	store_turn_end(b->store, b->turn, &t, on_ended, b);
	wait_for(b);
	store_turn_of(b->store, "hob-1", on_turns, b);
	wait_for(b);
	assert_string_equal(b->asked[0].params,
			    "{\"metadata\":{\"a\":\"b\"},\"finish_reason\":\"length\"}");
	memset(large, ' ', sizeof(large) - 1);
	ask.params = large;
	ask.request = "hob-2";
	store_turn_begin(b->store, &ask, on_turn, b);
	wait_for(b);
	assert_int_equal(b->err.code, ERR_NONE);
	store_turn_of(b->store, "hob-2", on_turns, b);
	wait_for(b);
	assert_string_equal(b->asked[0].params, "{}");
}

static void a_turn_without_its_name_is_still_there(void **state)
{
	struct box *b = *state;
	struct message m = {ROLE_USER, (char *)"q", NULL};
	char id[64];

	store_turn_begin(b->store,
			 &(struct store_turn_begin){.conversation = "new",
						    .model = "m",
						    .provider = "p",
						    .request = "hob-1",
						    .messages = &m,
						    .n = 1},
			 on_turn, b);
	wait_for(b);
	memcpy(id, b->id, sizeof(id));
	assert_int_equal(end(b, b->turn, "done", "a"), ERR_NONE);
	store_turn_unname(b->store, "hob-1", on_done, b);
	wait_for(b);
	assert_int_equal(b->err.code, ERR_NONE);
	store_turn_of(b->store, "hob-1", on_turns, b);
	wait_for(b);
	assert_int_equal(b->err.code, ERR_NOT_FOUND);
	store_turn_unname(b->store, "hob-1", on_done, b);
	wait_for(b);
	assert_int_equal(b->err.code, ERR_NOT_FOUND);
	assert_int_equal(turns(b, id, 10), ERR_NONE);
	assert_int_equal(b->n, 1);
	assert_path(b, id, "q a");
}

static void the_id_of_a_deleted_turn_is_not_given_again(void **state)
{
	struct box *b = *state;
	char other[64] = "new";
	int64_t t;

	assert_int_equal(say(b, "new", "x"), ERR_NONE);
	t = b->turn;
	assert_int_equal(forget(b, b->id), ERR_NONE);
	assert_int_equal(say(b, "new", "of somebody else"), ERR_NONE);
	assert_int_not_equal(b->turn, t);
	memcpy(other, b->id, sizeof(other));
	assert_int_equal(end(b, t, "done", "an answer that comes late"), ERR_NOT_FOUND);
	assert_path(b, other, "of somebody else");
}

static void reasoning_is_kept_beside_the_answer_and_names_nothing(void **state)
{
	struct box *b = *state;
	struct store_turn_end t = {.status = "done",
				   .text = "a",
				   .len = 1,
				   .raw_json =
					   "{\"role\":\"assistant\",\"content\":\"a\","
					   "\"tool_calls\":[]}",
				   .reasoning = "let me think",
				   .cost_usd = -1};
	char first[64];

	assert_int_equal(say(b, "new", "q"), ERR_NONE);
	store_turn_end(b->store, b->turn, &t, on_ended, b);
	wait_for(b);
	memcpy(first, b->reply, sizeof(b->reply));
	assert_int_equal(path(b, "last"), ERR_NONE);
	assert_string_equal(b->reasoning, "let me think");
	assert_string_equal(b->raw[1], t.raw_json);
	assert_string_equal(b->hashes[1], first);
	t.reasoning = NULL;
	assert_int_equal(say(b, "new", "q"), ERR_NONE);
	store_turn_end(b->store, b->turn, &t, on_ended, b);
	wait_for(b);
	assert_string_equal(b->reply, first);
}

/* ---- clocks ---- */

static void ids_sort_by_making_when_the_clock_steps_back(void **state)
{
	struct box *b = *state;
	char first[64], second[64];

	assert_int_equal(create(b, &(struct store_change){NO_CHANGE}), ERR_NONE);
	box_close(b);
	/* as if made tomorrow, by the clock of then */
	ulid_make((int64_t)time(NULL) * 1000 + 86400000, first);
	snprintf(second, sizeof(second), "%s", first);
	{
		char sql[200];

		snprintf(sql, sizeof(sql), "UPDATE session SET id = '%s'", first);
		assert_int_equal(poke(b, sql), SQLITE_OK);
	}
	box_open(b);
	assert_int_equal(create(b, &(struct store_change){NO_CHANGE}), ERR_NONE);
	assert_true(strcmp(b->id, first) > 0);
	memcpy(second, b->id, sizeof(second));
	assert_int_equal(list(b, 10, NULL, false), ERR_NONE);
	assert_int_equal(b->n, 2);
	assert_string_equal(b->rows[0].id, second);
	assert_string_equal(b->rows[1].id, first);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_BOX(regenerate_keeps_the_answer_that_it_replaces),
		WITH_BOX(an_edited_question_makes_a_branch),
		WITH_BOX(a_regenerate_that_fails_leaves_the_head_where_it_stood),
		WITH_BOX(a_parent_of_another_conversation_is_not_found),
		WITH_BOX(a_turn_on_a_failed_question_falls_back_behind_it),
		WITH_BOX(undo_goes_in_front_of_the_last_question),
		WITH_BOX(a_head_does_not_move_while_an_answer_is_written),
		WITH_BOX(what_only_an_undo_left_behind_goes_with_its_conversation),
		WITH_BOX(a_fork_goes_its_own_way_and_outlives_what_it_came_from),
		WITH_BOX(a_fork_reaches_nothing_that_became_private),
		WITH_BOX(a_history_sent_whole_each_time_is_one_conversation),
		WITH_BOX(a_history_sent_again_after_a_failure_goes_on_there),
		WITH_BOX(a_history_that_branches_off_is_a_fork),
		WITH_BOX(a_running_or_private_conversation_is_not_gone_on_with_by_chance),
		WITH_BOX(tool_calls_are_known_however_the_client_prints_them),
		WITH_BOX(a_made_conversation_is_listed_and_outlives_a_restart),
		WITH_BOX(a_change_leaves_what_it_does_not_name),
		WITH_BOX(a_models_title_does_not_replace_the_users),
		WITH_BOX(a_title_holds_nothing_that_a_terminal_would_obey),
		WITH_BOX(metadata_is_an_object_of_a_bounded_size),
		WITH_BOX(pages_of_a_list_follow_each_other),
		WITH_BOX(added_messages_are_a_path_without_turns),
		WITH_BOX(a_turn_says_what_was_asked_and_what_came_of_it),
		WITH_BOX(a_request_names_only_its_first_turn),
		WITH_BOX(a_turn_keeps_what_its_client_wants_back_and_how_it_ended),
		WITH_BOX(a_turn_without_its_name_is_still_there),
		WITH_BOX(the_id_of_a_deleted_turn_is_not_given_again),
		WITH_BOX(reasoning_is_kept_beside_the_answer_and_names_nothing),
		WITH_BOX(ids_sort_by_making_when_the_clock_steps_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
