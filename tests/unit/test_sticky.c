/* Conversations keep what they were given: for a time, and as many as there is room for. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "route/sticky.h"

static void a_choice_is_kept_for_its_route_and_replaced(void **state)
{
	struct sticky *s = sticky_new();

	(void)state;
	assert_null(sticky_get(s, "smart", 7, 0));
	sticky_put(s, "smart", 7, "qwen3:8b", 0);
	assert_string_equal(sticky_get(s, "smart", 7, 1), "qwen3:8b");
	assert_null(sticky_get(s, "fast", 7, 1));
	assert_null(sticky_get(s, "smart", 8, 1));
	sticky_put(s, "smart", 7, "openrouter/x/y", 2);
	assert_string_equal(sticky_get(s, "smart", 7, 3), "openrouter/x/y");
	sticky_free(s);
}

static void it_is_forgotten_a_day_after_its_last_use(void **state)
{
	struct sticky *s = sticky_new();

	(void)state;
	sticky_put(s, "r", 1, "a", 0);
	assert_non_null(sticky_get(s, "r", 1, STICKY_MS - 1)); /* which is a use */
	assert_non_null(sticky_get(s, "r", 1, 2 * (uint64_t)STICKY_MS - 2));
	assert_null(sticky_get(s, "r", 1, 3 * (uint64_t)STICKY_MS));
	sticky_put(s, "r", 1, "b", 3 * (uint64_t)STICKY_MS);
	assert_string_equal(sticky_get(s, "r", 1, 3 * (uint64_t)STICKY_MS), "b");
	sticky_free(s);
}

static void the_one_used_longest_ago_goes(void **state)
{
	struct sticky *s = sticky_new();

	(void)state;
	for (uint64_t i = 1; i <= STICKY_MAX; i++)
		sticky_put(s, "r", i, "a", i);
	assert_non_null(sticky_get(s, "r", 1, 5000)); /* the first is used again */
	sticky_put(s, "r", STICKY_MAX + 1, "b", 5001);
	assert_non_null(sticky_get(s, "r", 1, 5002));
	assert_null(sticky_get(s, "r", 2, 5002));
	for (uint64_t i = 0; i < 3 * STICKY_MAX; i++)
		sticky_put(s, "r", 10000 + i, "c", 6000 + i);
	assert_null(sticky_get(s, "r", 1, 20000));
	for (uint64_t i = 2 * STICKY_MAX; i < 3 * STICKY_MAX; i++)
		assert_string_equal(sticky_get(s, "r", 10000 + i, 20000), "c");
	sticky_free(s);
}

static void a_conversation_without_an_id_is_known_by_how_it_began(void **state)
{
	struct message first[] = {{.role = ROLE_SYSTEM, .text = "Be brief."},
				  {.role = ROLE_USER, .text = "Hello"},
				  {.role = ROLE_ASSISTANT, .text = "Hi"},
				  {.role = ROLE_USER, .text = "And now?"}};
	struct message other[] = {{.role = ROLE_SYSTEM, .text = "Be brief."},
				  {.role = ROLE_USER, .text = "Good morning"}};
	/* the same bytes, cut elsewhere */
	struct message cut[] = {{.role = ROLE_SYSTEM, .text = "Be brief.H"},
				{.role = ROLE_USER, .text = "ello"}};
	struct request r = {0};
	uint64_t key = sticky_key(&r, NULL, first, 2);

	(void)state;
	assert_true(key != 0);
	assert_true(key == sticky_key(&r, NULL, first, 4));
	assert_true(key != sticky_key(&r, NULL, other, 2));
	assert_true(key != sticky_key(&r, NULL, cut, 2));
	assert_true(key != sticky_key(&r, "01J", first, 4));
	assert_true(sticky_key(&r, "01J", first, 4) == sticky_key(&r, "01J", other, 2));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_choice_is_kept_for_its_route_and_replaced),
		cmocka_unit_test(it_is_forgotten_a_day_after_its_last_use),
		cmocka_unit_test(the_one_used_longest_ago_goes),
		cmocka_unit_test(a_conversation_without_an_id_is_known_by_how_it_began),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
