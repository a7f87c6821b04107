/* Bounded history as a pure function; the property that matters is that the cut rarely moves. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/base.h"
#include "memory/window.h"

enum { MAX_ITEMS = 4000 };

static const struct window_item chat[] = {
	{ROLE_SYSTEM, 10}, {ROLE_USER, 20},      {ROLE_ASSISTANT, 30}, {ROLE_USER, 20},
	{ROLE_TOOL, 40},   {ROLE_ASSISTANT, 30}, {ROLE_USER, 20},
};

static void a_path_within_the_budget_is_kept_whole(void **state)
{
	struct window w = window_fit(chat, ARRAY_LEN(chat), 170);

	UNUSED(state);
	assert_int_equal(w.nsystem, 1);
	assert_int_equal(w.first, 1);
	assert_int_equal(w.kept, 7);
	assert_int_equal(w.dropped, 0);
	assert_int_equal(w.tokens, 170);
	assert_true(w.fits);
}

static void one_token_over_drops_whole_turns_down_to_the_low_mark(void **state)
{
	struct window w = window_fit(chat, ARRAY_LEN(chat), 169);

	UNUSED(state);
	assert_int_equal(w.first, 6); /* 10 + 90 + 20 would be over 84 */
	assert_int_equal(w.dropped, 5);
	assert_int_equal(w.kept, 2);
	assert_int_equal(w.tokens, 30);
	assert_true(w.fits);
}

static void the_last_turn_stays_even_if_it_does_not_fit(void **state)
{
	struct window w = window_fit(chat, ARRAY_LEN(chat), 5);

	UNUSED(state);
	assert_int_equal(w.nsystem, 1);
	assert_int_equal(w.first, 6);
	assert_false(w.fits);
}

static void an_empty_path_and_one_of_system_messages_only_fit(void **state)
{
	struct window w = window_fit(NULL, 0, 0);

	UNUSED(state);
	assert_true(w.fits);
	assert_int_equal(w.kept, 0);
	w = window_fit(chat, 1, 10);
	assert_true(w.fits);
	assert_int_equal(w.kept, 1);
	assert_int_equal(w.first, 1);
	assert_false(window_fit(chat, 1, 9).fits);
}

static void sums_beyond_an_int_do_not_wrap(void **state)
{
	static const struct window_item big[] = {
		{ROLE_SYSTEM, INT32_MAX}, {ROLE_USER, INT32_MAX}, {ROLE_ASSISTANT, -5}};
	struct window w = window_fit(big, 3, INT32_MAX);

	UNUSED(state);
	assert_false(w.fits);
	assert_int_equal(w.tokens, INT32_MAX);
}

/* A small generator: tests give the same paths on every machine. */
static uint32_t next_random(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 16;
}

/* System, then turns of a user message, now and then a tool's, and a reply. */
static int grow(struct window_item *items, int n, int turns, uint32_t *seed)
{
	if (n == 0)
		items[n++] = (struct window_item){ROLE_SYSTEM, 30};
	while (turns-- > 0) {
		items[n++] = (struct window_item){ROLE_USER,
						  10 + (int)(next_random(seed) % 50)};
		if (next_random(seed) % 4 == 0)
			items[n++] = (struct window_item){ROLE_TOOL, 40};
		items[n++] = (struct window_item){ROLE_ASSISTANT,
						  20 + (int)(next_random(seed) % 90)};
	}
	return n;
}

/* Turns cost some 110 tokens, half the budget is 37 of them. */
static void appending_turns_keeps_the_cut_for_many_turns(void **state)
{
	static struct window_item items[MAX_ITEMS];
	uint32_t seed = 7;
	int n = 0, last = 1, moves = 0, shortest = 1000, since = 0;

	UNUSED(state);
	for (int turn = 0; turn < 1000; turn++) {
		struct window w;

		n = grow(items, n, 1, &seed);
		w = window_fit(items, n, 8192);
		assert_true(w.fits);
		assert_true(w.first >= last); /* what was dropped never comes back */
		assert_int_equal(items[w.first].role, ROLE_USER);
		since++;
		if (w.first == last)
			continue;
		assert_true(w.tokens <=
			    8192 / 2 + 190); /* and the rest of the turn that cut */
		if (moves++ > 0 && since < shortest)
			shortest = since;
		since = 0;
		last = w.first;
	}
	assert_in_range(moves, 20, 40);
	assert_true(shortest >= 25);
}

/* What a caller sees: the prompt is asked for after each user message and after each reply. */
static void the_cut_depends_only_on_what_came_before_it(void **state)
{
	static struct window_item items[MAX_ITEMS];
	uint32_t seed = 11;
	int n = grow(items, 0, 300, &seed);

	UNUSED(state);
	for (int i = 1; i < n; i++) {
		struct window shorter = window_fit(items, i, 3000);
		struct window longer = window_fit(items, i + 1, 3000);

		if (shorter.tokens + items[i].tokens <= 3000)
			assert_int_equal(shorter.first, longer.first);
		else
			assert_true(longer.first > shorter.first);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_path_within_the_budget_is_kept_whole),
		cmocka_unit_test(one_token_over_drops_whole_turns_down_to_the_low_mark),
		cmocka_unit_test(the_last_turn_stays_even_if_it_does_not_fit),
		cmocka_unit_test(an_empty_path_and_one_of_system_messages_only_fit),
		cmocka_unit_test(sums_beyond_an_int_do_not_wrap),
		cmocka_unit_test(appending_turns_keeps_the_cut_for_many_turns),
		cmocka_unit_test(the_cut_depends_only_on_what_came_before_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
