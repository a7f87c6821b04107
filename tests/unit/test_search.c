/* Full-text search on a real store: what is found, whose it is, and what stands around it. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "keep_world.h"

static void a_message_is_found_with_its_conversation_and_the_words_marked(void **state)
{
	struct world *w = *state;
	char id[64] = "new";

	world_turn(w, id, "where do penguins live?", "Mostly in the south.");
	assert_int_equal(world_search(w, "PENGUINS", NULL), 1);
	assert_string_equal(w->hits[0].conversation, id);
	assert_string_equal(w->hits[0].title, "where do penguins live?");
	assert_string_equal(w->hits[0].snippet, "where do \002penguins\003 live?");
	assert_int_equal(w->hits[0].role, ROLE_USER);
	assert_int_equal(strlen(w->hits[0].hash), 32);
	assert_true(w->hits[0].rank < 0);
	assert_int_equal(world_search(w, "south", NULL), 1);
	assert_int_equal(w->hits[0].role, ROLE_ASSISTANT);
	assert_int_equal(world_search(w, "nowhere", NULL), 0);
	assert_int_equal(world_search(w, "penguins south", NULL), 0);
}

static void the_better_match_comes_first(void **state)
{
	struct world *w = *state;
	char a[64] = "new", b[64] = "new";

	world_turn(w, a, "kiwi kiwi kiwi", "yes");
	world_turn(
		w, b,
		"a kiwi among a great many other words that are not about it at all, as "
		"one sees",
		"yes");
	assert_int_equal(world_search(w, "kiwi", NULL), 2);
	assert_string_equal(w->hits[0].conversation, a);
	assert_true(w->hits[0].rank < w->hits[1].rank);
}

static void control_characters_of_the_text_forge_no_mark(void **state)
{
	struct world *w = *state;
	char id[64] = "new";

	world_turn(w, id, "a \002forged\003 mark and a real one \033[31m", "\002\003");
	assert_int_equal(world_search(w, "real", NULL), 1);
	assert_string_equal(w->hits[0].snippet,
			    "a  forged  mark and a \002real\003 one  [31m");
	assert_int_equal(world_search(w, "forged", NULL), 1);
	assert_string_equal(w->hits[0].snippet,
			    "a  \002forged\003  mark and a real one  [31m");
}

static void a_word_of_a_megabyte_makes_no_snippet_of_one(void **state)
{
	struct world *w = *state;
	char id[64] = "new", *text = xmalloc(1 << 20);

	memset(text, 'x', 1 << 20);
	memcpy(text, "begin ", 6);
	text[(1 << 20) - 1] = 0;
	world_turn(w, id, text, "ok");
	free(text);
	assert_int_equal(world_search(w, "begin", NULL), 1);
	assert_true(strlen(w->hits[0].snippet) < 1000);
	assert_int_equal(world_search(w, "xxx*", NULL), 1);
	/* a mark that was opened is closed */
	assert_non_null(strchr(w->hits[0].snippet, '\002'));
	assert_non_null(strchr(w->hits[0].snippet, '\003'));
}

static void what_no_conversation_reaches_is_not_found(void **state)
{
	struct world *w = *state;
	char id[64] = "new";

	world_turn(w, id, "first", "one");
	world_poke(w, "INSERT INTO message (hash, parent_id, role, parts, text, bytes, "
		      "created_at) SELECT zeroblob(16), max(id), 'user', '[]', "
		      "'an orphan of first', 1, 1 FROM message");
	assert_int_equal(world_search(w, "orphan", NULL), 0);
	assert_int_equal(world_search(w, "first", NULL), 1);
}

static void of_two_conversations_the_one_with_the_newest_turn_is_named(void **state)
{
	struct world *w = *state;
	char a[64] = "new", b[64] = "new";

	world_turn(w, a, "shared opening", "shared answer");
	world_turn(w, b, "shared opening", "shared answer"); /* the same two messages */
	assert_int_equal(world_search(w, "answer", NULL), 1);
	assert_string_equal(w->hits[0].conversation, b);
	world_turn(w, a, "more", "in the first");
	assert_int_equal(world_search(w, "answer", NULL), 1);
	assert_string_equal(w->hits[0].conversation, a);
}

/* As an import leaves it: a path far longer than what is looked at first, known by its head alone. */
static void a_long_path_without_a_turn_is_found_by_its_head(void **state)
{
	struct world *w = *state;

	world_poke(w, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
		      "LIMIT 200) INSERT INTO message (id, hash, parent_id, role, parts, "
		      "text, bytes, created_at) SELECT 1000 + i, randomblob(16), "
		      "CASE i WHEN 1 THEN NULL ELSE 999 + i END, 'user', '[]', "
		      "CASE i WHEN 1 THEN 'the root' ELSE 'filler' END, 1, 1 FROM n");
	world_poke(w, "INSERT INTO session (id, title, head_id, model, created_at, "
		      "updated_at) VALUES ('IMPORTED', 'imported', 1200, 'm', 1, 1)");
	assert_int_equal(world_search(w, "root", NULL), 1);
	assert_string_equal(w->hits[0].conversation, "IMPORTED");
}

static void a_search_in_one_conversation_finds_nothing_of_others(void **state)
{
	struct world *w = *state;
	char a[64] = "new", b[64] = "new";

	world_turn(w, a, "apples in the first", "fine");
	world_turn(w, b, "apples in the second", "fine");
	assert_int_equal(world_search(w, "apples", NULL), 2);
	assert_int_equal(world_search(w, "apples", a), 1);
	assert_string_equal(w->hits[0].conversation, a);
	assert_int_equal(world_search(w, "second", a), 0);
	assert_int_equal(world_search(w, "apples", "NOSUCH"), -ERR_NOT_FOUND);
}

static void a_very_common_word_gives_the_newest(void **state)
{
	struct world *w = *state;
	char id[64] = "new";

	world_poke(w,
		   "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
		   "LIMIT 1500) INSERT INTO message (id, hash, parent_id, role, parts, "
		   "text, bytes, created_at) SELECT -i, randomblob(16), NULL, 'user', "
		   "'[]', 'common', 1, 1 FROM n");
	world_turn(w, id, "common as well", "ok");
	assert_int_equal(world_search(w, "common", NULL), 1); /* the others are orphans */
	assert_string_equal(w->hits[0].conversation, id);
	assert_true(w->hits[0].rank == 0);
}

static void what_cannot_be_looked_for_is_refused(void **state)
{
	struct world *w = *state;
	char *huge = xmalloc(1 << 20);

	assert_int_equal(world_search(w, "", NULL), -ERR_INVALID);
	assert_int_equal(world_search(w, "-only", NULL), -ERR_INVALID);
	assert_int_equal(world_search(w, "\"", NULL), -ERR_INVALID);
	memset(huge, 'a', 1 << 20);
	huge[(1 << 20) - 1] = 0;
	assert_int_equal(world_search(w, huge, NULL), -ERR_TOO_LARGE);
	free(huge);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_WORLD(a_message_is_found_with_its_conversation_and_the_words_marked),
		WITH_WORLD(the_better_match_comes_first),
		WITH_WORLD(control_characters_of_the_text_forge_no_mark),
		WITH_WORLD(a_word_of_a_megabyte_makes_no_snippet_of_one),
		WITH_WORLD(what_no_conversation_reaches_is_not_found),
		WITH_WORLD(of_two_conversations_the_one_with_the_newest_turn_is_named),
		WITH_WORLD(a_long_path_without_a_turn_is_found_by_its_head),
		WITH_WORLD(a_search_in_one_conversation_finds_nothing_of_others),
		WITH_WORLD(a_very_common_word_gives_the_newest),
		WITH_WORLD(what_cannot_be_looked_for_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
